"""Venue simulator: one pure matching engine, one front per venue protocol, injectable faults."""
