"""How much more than what callers ask for may be sent to a gateway: repeats and hedges as a share of calls. Pure.

Without it, an outage multiplies the load on what is already failing.
"""

from __future__ import annotations


class ExtraBudget:
    """Extra calls allowed: at most `burst` at once, and beyond that `percent` of the calls made.

    Args:
        percent: extra calls per hundred calls.
        burst: extra calls that may have been saved up; what it starts with unless `saved` is given.
    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(self, *, percent: int, burst: int, saved: int | None = None) -> None:
        if percent < 0 or burst < 0 or (saved is not None and not 0 <= saved <= burst):
            raise ValueError(f"budget of {percent} % with a burst of {burst}: out of range")
        self._percent = percent
        self._most = burst * 100
        self._saved = self._most if saved is None else saved * 100

    def call(self) -> None:
        """A call was made that a caller asked for."""
        self._saved = min(self._saved + self._percent, self._most)

    def take(self) -> bool:
        """Whether an extra call may be made; it is counted then."""
        if self._saved < 100:
            return False
        self._saved -= 100
        return True
