"""Fakes shared by tests: only for the seams where time and chance enter."""

from __future__ import annotations


class ManualClock:
    """A clock that moves when told to; satisfies `venuemesh.clock.Clock`."""

    def __init__(self, now_ns: int = 1_790_000_000_000_000_000) -> None:
        self._now_ns = now_ns
        self._monotonic_ns = 0

    def now_ns(self) -> int:
        return self._now_ns

    def monotonic_s(self) -> float:
        return self._monotonic_ns / 1e9

    def advance(self, seconds: float) -> None:
        """Move both clocks forward by `seconds`."""
        step = round(seconds * 1e9)
        self._now_ns += step
        self._monotonic_ns += step

    def step_wall(self, seconds: float) -> None:
        """Step only the wall clock, as NTP does; may be negative."""
        self._now_ns += round(seconds * 1e9)
