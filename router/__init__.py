"""Chooses the venue of an order and serves every venue's gateway behind one address."""
