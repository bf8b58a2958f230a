"""Hashes, curve and signatures of the Lighter protocol, an implementation of its own. Pure."""
