"""A clock that moves only when told, for runs whose time is stepped."""

from __future__ import annotations


class SteppedClock:
    """Satisfies `venuemesh.clock.Clock`; both clocks move together."""

    def __init__(self, now_ns: int) -> None:
        self._now_ns = now_ns
        self._start_ns = now_ns

    def now_ns(self) -> int:
        """Wall clock, nanoseconds since the epoch."""
        return self._now_ns

    def monotonic_s(self) -> float:
        """Seconds since the start."""
        return (self._now_ns - self._start_ns) / 1e9

    def advance_ms(self, milliseconds: int) -> None:
        """Move forward.

        Raises:
            ValueError: it would move back.
        """
        if milliseconds < 0:
            raise ValueError("time cannot go back")
        self._now_ns += milliseconds * 1_000_000
