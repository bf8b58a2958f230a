"""What is measured of one venue link: state, latency, errors, age. Pure; `quality` judges it.

All memory is bounded: the latest `max_samples` requests, of which those younger than `window_s` count.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from venuemesh.clock import Clock

MAX_RECONNECTIONS = 128
"""Reconnections remembered: more within a window than any limit would allow."""


class LinkState(StrEnum):
    """Whether a link can be used; DEGRADED still works, with doubts."""

    CONNECTING = "connecting"
    LIVE = "live"
    DEGRADED = "degraded"
    DOWN = "down"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkWindow:
    """How much of the past counts.

    Args:
        window_s: only requests and reconnections younger than this count.
        max_samples: at most this many latest requests count: the bound on memory.
        ewma_weight: share of a new latency in the moving average, above 0 up to 1.
    """

    window_s: float = 60.0
    max_samples: int = 1024
    ewma_weight: float = 0.1

    def __post_init__(self) -> None:
        if self.window_s <= 0 or self.max_samples < 1 or not 0 < self.ewma_weight <= 1:
            raise ValueError("window_s and max_samples must be positive, ewma_weight within (0, 1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSnapshot:
    """A link at one instant; seconds throughout. None means nothing was measured yet."""

    state: LinkState
    detail: str
    connected: bool
    uptime_s: float  # of the present connection, 0 when there is none
    total_uptime_s: float  # since the link was made
    availability: float | None  # total uptime over the link's age, 0 to 1
    connections: int
    reconnections: int
    recent_reconnections: int  # in the window
    disconnections: int
    failed_attempts: int  # attempts to connect that failed
    requests: int  # in the window
    error_rate: float | None  # in the window, 0 to 1
    latency_ewma_s: float | None
    latency_p50_s: float | None  # in the window, nearest rank
    latency_p90_s: float | None
    latency_p99_s: float | None
    messages: int  # since the link was made
    last_message_age_s: float | None
    heard_age_s: float  # since the last message of this connection, or since the connect; 0 without one


class LinkStats:
    """Counts what happens on one link. Every method is O(1) except `snapshot`."""

    def __init__(self, clock: Clock, window: LinkWindow | None = None) -> None:
        self._clock = clock
        self._window = window or LinkWindow()
        self._born_s = clock.monotonic_s()
        self._base = LinkState.CONNECTING
        self._detail = ""
        self._connected_at_s: float | None = None
        self._past_uptime_s = 0.0
        self._connections = 0
        self._reconnected_s: deque[float] = deque(maxlen=MAX_RECONNECTIONS)
        self._disconnections = 0
        self._failed_attempts = 0
        # (when, latency or None, failed)
        self._samples: deque[tuple[float, float | None, bool]] = deque(maxlen=self._window.max_samples)
        self._ewma_s: float | None = None
        self._messages = 0
        self._last_message_s: float | None = None

    @property
    def connected(self) -> bool:
        """Whether the link has a connection now, in whatever quality."""
        return self._connected_at_s is not None

    def connecting(self) -> None:
        """An attempt to connect begins."""
        if self._connected_at_s is None:
            self._base = LinkState.CONNECTING

    def connect_succeeded(self) -> None:
        """The connection stands. A repeat while connected changes nothing."""
        if self._connected_at_s is not None:
            return
        self._connected_at_s = self._clock.monotonic_s()
        if self._connections:
            self._reconnected_s.append(self._connected_at_s)
        self._connections += 1
        self._base, self._detail = LinkState.LIVE, ""

    def leaving(self, detail: str) -> None:
        """The other side has announced the end of this connection: degraded until there is a new one."""
        if self._connected_at_s is not None:
            self._base, self._detail = LinkState.DEGRADED, detail

    def connect_failed(self, detail: str) -> None:
        """An attempt to connect failed."""
        self._failed_attempts += 1
        if self._connected_at_s is None:
            self._base, self._detail = LinkState.DOWN, detail

    def disconnected(self, detail: str) -> None:
        """The connection ended. Without a connection it changes nothing."""
        if self._connected_at_s is None:
            return
        self._past_uptime_s += self._clock.monotonic_s() - self._connected_at_s
        self._connected_at_s = None
        self._disconnections += 1
        self._base, self._detail = LinkState.DOWN, detail

    def request_done(self, *, failed: bool, latency_s: float | None = None) -> None:
        """A request ended; `latency_s` only when an answer came."""
        self._samples.append((self._clock.monotonic_s(), latency_s, failed))
        if latency_s is not None:
            self._note_latency(latency_s)

    def latency_measured(self, latency_s: float) -> None:
        """A round trip outside a request, such as a ping."""
        self.request_done(failed=False, latency_s=latency_s)

    def message_received(self, at_s: float | None = None) -> None:
        """A message came in; `at_s` is the monotonic instant when the caller has read it already."""
        self._messages += 1
        self._last_message_s = self._clock.monotonic_s() if at_s is None else at_s

    def _note_latency(self, latency_s: float) -> None:
        if self._ewma_s is None:
            self._ewma_s = latency_s
        else:
            self._ewma_s += self._window.ewma_weight * (latency_s - self._ewma_s)

    def state(self) -> LinkState:
        """The state of the connection now."""
        return self._base

    def snapshot(self) -> LinkSnapshot:
        """Everything known, at this instant."""
        now = self._clock.monotonic_s()
        span_s = self._window.window_s
        window = [s for s in self._samples if now - s[0] < span_s]
        latencies = sorted(s[1] for s in window if s[1] is not None)
        uptime = 0.0 if self._connected_at_s is None else now - self._connected_at_s
        total_uptime, age = self._past_uptime_s + uptime, now - self._born_s
        heard_s = max(self._connected_at_s or 0.0, self._last_message_s or 0.0)
        return LinkSnapshot(
            state=self._base,
            detail=self._detail,
            connected=self.connected,
            uptime_s=uptime,
            total_uptime_s=total_uptime,
            availability=total_uptime / age if age > 0 else None,
            connections=self._connections,
            reconnections=max(0, self._connections - 1),
            recent_reconnections=sum(now - at_s < span_s for at_s in self._reconnected_s),
            disconnections=self._disconnections,
            failed_attempts=self._failed_attempts,
            requests=len(window),
            error_rate=sum(s[2] for s in window) / len(window) if window else None,
            latency_ewma_s=self._ewma_s,
            latency_p50_s=percentile(latencies, 50),
            latency_p90_s=percentile(latencies, 90),
            latency_p99_s=percentile(latencies, 99),
            messages=self._messages,
            last_message_age_s=None if self._last_message_s is None else max(0.0, now - self._last_message_s),
            heard_age_s=now - heard_s if self.connected else 0.0,
        )


def percentile(ordered: Sequence[float], percent: float) -> float | None:
    """Nearest-rank percentile of values already in ascending order; None when there are none."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
