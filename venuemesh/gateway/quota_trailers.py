"""What is left of the venue's limits, as trailing metadata of every answer: a caller need not ask to know.

x-venuemesh-quota-ip_weight: limit=1200,remaining=1100,reserved_for_cancels=120,reset_ms=2500
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from venuemesh.clock import Clock
from venuemesh.v1 import operations_pb2

PREFIX = "x-venuemesh-quota-"
MAX_AGE_S = 0.1
"""Rows are made at most this often; between, every answer carries the same text."""
MAX_ROWS = 32
"""Metadata has a bound of some KiB; a gateway with more limiters tells the rest through GetQuota."""

_UNFIT = re.compile(r"[^a-z0-9_.-]")

Trailer = tuple[str, str]


class QuotaTrailers:
    """Made when asked for; costs a comparison while the last ones are fresh."""

    def __init__(self, quotas: Callable[[], Sequence[operations_pb2.Quota]], clock: Clock) -> None:
        self._quotas = quotas
        self._clock = clock
        self._made: tuple[Trailer, ...] = ()
        self._made_s = float("-inf")

    def __call__(self) -> tuple[Trailer, ...]:
        """The trailing metadata now."""
        now_s = self._clock.monotonic_s()
        if now_s - self._made_s >= MAX_AGE_S:
            self._made = tuple(trailer_of(row) for row in self._quotas()[:MAX_ROWS])
            self._made_s = now_s
        return self._made


def trailer_of(row: operations_pb2.Quota) -> Trailer:
    """One limiter; `reset_ms` is 0 while the window is whole."""
    reset_ms = row.reset_after.ToMilliseconds() if row.HasField("reset_after") else 0
    text = (
        f"limit={row.limit},remaining={row.remaining},reserved_for_cancels={row.reserved_for_cancels},"
        f"reset_ms={reset_ms}"
    )
    return PREFIX + _UNFIT.sub("_", row.limiter.lower()), text
