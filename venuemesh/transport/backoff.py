"""Jittered exponential back-off: how long to wait before the next attempt. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class BackoffPolicy:
    """Shape of the waits.

    Args:
        initial_s: wait before the first repeat, before jitter; above zero.
        multiplier: growth per attempt; at least 1.
        cap_s: no wait is ever longer; at least `initial_s`.
        jitter: share of the wait that chance may take away, 0 (none) to 1 (full jitter). Jitter only
            shortens, so the cap holds after jitter too.
        healthy_s: a connection that lived this long starts the next series from `initial_s`.
    Raises:
        ValueError: an argument is out of its range.
    """

    initial_s: float = 0.25
    multiplier: float = 2.0
    cap_s: float = 30.0
    jitter: float = 0.5
    healthy_s: float = 30.0

    def __post_init__(self) -> None:
        if not self.initial_s > 0:
            raise ValueError(f"initial_s must be above zero, got {self.initial_s}")
        if not self.multiplier >= 1:
            raise ValueError(f"multiplier must be at least 1, got {self.multiplier}")
        if not self.cap_s >= self.initial_s:
            raise ValueError(f"cap_s {self.cap_s} is below initial_s {self.initial_s}")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"jitter must be within 0 and 1, got {self.jitter}")
        if not self.healthy_s >= 0:
            raise ValueError(f"healthy_s must not be negative, got {self.healthy_s}")

    def base_s(self, attempt: int) -> float:
        """`initial × multiplier^attempt`, capped; `attempt` counts from 0."""
        try:
            return min(self.cap_s, self.initial_s * self.multiplier**attempt)
        except OverflowError:
            return self.cap_s

    def delay_s(self, attempt: int, chance: float) -> float:
        """Wait before attempt number `attempt`, shortened by `chance` (0 <= chance < 1)."""
        return self.base_s(attempt) * (1 - self.jitter * chance)


class Backoff:
    """Counts the failures of one link and gives the next wait.

    Args:
        policy: the shape of the waits.
        random: source of chance in [0, 1), injected so that tests are exact.
    """

    def __init__(self, policy: BackoffPolicy, random: Callable[[], float]) -> None:
        self._policy = policy
        self._random = random
        self._attempt = 0

    @property
    def attempt(self) -> int:
        """Failures since the last reset."""
        return self._attempt

    def next_delay_s(self) -> float:
        """Seconds to wait now; counts one more failure."""
        delay = self._policy.delay_s(self._attempt, self._random())
        self._attempt += 1
        return delay

    def connection_ended(self, lived_s: float) -> None:
        """Tell how long the connection lived; only a healthy spell forgets earlier failures."""
        if lived_s >= self._policy.healthy_s:
            self.reset()

    def reset(self) -> None:
        """Forget the failures."""
        self._attempt = 0
