"""Time as a dependency: wall clock for stamps, monotonic clock for durations.

Everything that needs the time takes a `Clock`; only `SystemClock` reads the machine's. Tests pass
`tests.fakes.ManualClock`, so no test depends on how fast the machine is.
"""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two clocks that must never be mixed: subtracting wall times is not a duration."""

    def now_ns(self) -> int:
        """Wall clock, nanoseconds since the Unix epoch (UTC)."""

    def monotonic_s(self) -> float:
        """Seconds on a clock that never goes back; only differences mean something."""


def left_s(clock: Clock, until_ms: int | None) -> float:
    """Seconds until a wall-clock time in Unix milliseconds, at least 0; infinite without one."""
    return max(0.0, until_ms / 1e3 - clock.now_ns() / 1e9) if until_ms else float("inf")


class SystemClock:
    """The machine's own clocks."""

    def now_ns(self) -> int:
        return time.time_ns()

    def monotonic_s(self) -> float:
        return time.monotonic()
