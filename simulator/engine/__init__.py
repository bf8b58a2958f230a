"""Venue-neutral matching engine: pure, deterministic, all money `Decimal`, all time passed in."""
