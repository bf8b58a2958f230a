"""Chance as a dependency: the engine's synthetic traders draw integers from an injected source. Pure."""

from __future__ import annotations

from typing import Protocol

_MASK = (1 << 64) - 1


class Chance(Protocol):
    """A source of integers; equal seeds must give equal draws on every machine."""

    def integer(self, low: int, high: int) -> int:
        """A whole number in [low, high]."""


class SplitMix:
    """SplitMix64: small, fast, the same everywhere; enough for traders, never for keys.

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014.
    """

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def integer(self, low: int, high: int) -> int:
        """A whole number in [low, high]; the modulo bias is below 2**-40 for spans used here."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return low + (z ^ (z >> 31)) % (high - low + 1)
