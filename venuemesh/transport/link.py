"""What is known about the quality of one venue link: state, latency, errors, age. Pure.

All memory is bounded: the latest `max_samples` requests, of which those younger than `window_s` count.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from venuemesh.clock import Clock


class LinkState(StrEnum):
    """Whether a link can be used; DEGRADED still works, with doubts."""

    CONNECTING = "connecting"
    LIVE = "live"
    DEGRADED = "degraded"
    DOWN = "down"


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkThresholds:
    """When a connected link counts as DEGRADED; None switches a rule off.

    Args:
        window_s: only requests younger than this count.
        max_samples: at most this many latest requests count: the bound on memory.
        ewma_weight: share of a new latency in the moving average, above 0 up to 1.
        max_error_rate: degraded when the share of failed requests is above it ...
        min_requests: ... and at least this many requests count.
        max_latency_s: degraded when the median latency is above it.
        max_silence_s: degraded when the last message (or the connect, if none came) is older.
    """

    window_s: float = 60.0
    max_samples: int = 1024
    ewma_weight: float = 0.1
    max_error_rate: float | None = 0.2
    min_requests: int = 10
    max_latency_s: float | None = None
    max_silence_s: float | None = None

    def __post_init__(self) -> None:
        if self.window_s <= 0 or self.max_samples < 1 or not 0 < self.ewma_weight <= 1:
            raise ValueError("window_s and max_samples must be positive, ewma_weight within (0, 1]")


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSnapshot:
    """A link at one instant; seconds throughout. None means nothing was measured yet."""

    state: LinkState
    detail: str
    uptime_s: float  # of the present connection, 0 when there is none
    total_uptime_s: float  # since the link was made
    availability: float | None  # total uptime over the link's age, 0 to 1
    connections: int
    reconnections: int
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


class LinkStats:
    """Counts what happens on one link. Every method is O(1) except `snapshot` and `state`."""

    def __init__(self, clock: Clock, thresholds: LinkThresholds | None = None) -> None:
        self._clock = clock
        self._thresholds = thresholds or LinkThresholds()
        self._born_s = clock.monotonic_s()
        self._base = LinkState.CONNECTING
        self._detail = ""
        self._connected_at_s: float | None = None
        self._past_uptime_s = 0.0
        self._connections = 0
        self._disconnections = 0
        self._failed_attempts = 0
        # (when, latency or None, failed)
        self._samples: deque[tuple[float, float | None, bool]] = deque(maxlen=self._thresholds.max_samples)
        self._ewma_s: float | None = None
        self._messages = 0
        self._last_message_s: float | None = None
        self._leaving = ""

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
        self._connections += 1
        self._base, self._detail, self._leaving = LinkState.LIVE, "", ""

    def leaving(self, detail: str) -> None:
        """The other side has announced the end of this connection: degraded until there is a new one."""
        self._leaving = detail

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
            self._ewma_s += self._thresholds.ewma_weight * (latency_s - self._ewma_s)

    def state(self) -> LinkState:
        """The state now, with quality taken into account."""
        return self.snapshot().state

    def snapshot(self) -> LinkSnapshot:
        """Everything known, at this instant."""
        now = self._clock.monotonic_s()
        window = [s for s in self._samples if now - s[0] < self._thresholds.window_s]
        latencies = sorted(s[1] for s in window if s[1] is not None)
        error_rate = sum(s[2] for s in window) / len(window) if window else None
        median = percentile(latencies, 50)
        uptime = now - self._connected_at_s if self._connected_at_s is not None else 0.0
        age = now - self._born_s
        last_message_age = now - self._last_message_s if self._last_message_s is not None else None
        fault = self._fault(now, error_rate, len(window), median)
        return LinkSnapshot(
            state=LinkState.DEGRADED if fault else self._base,
            detail=fault or self._detail,
            uptime_s=uptime,
            total_uptime_s=self._past_uptime_s + uptime,
            availability=(self._past_uptime_s + uptime) / age if age > 0 else None,
            connections=self._connections,
            reconnections=max(0, self._connections - 1),
            disconnections=self._disconnections,
            failed_attempts=self._failed_attempts,
            requests=len(window),
            error_rate=error_rate,
            latency_ewma_s=self._ewma_s,
            latency_p50_s=median,
            latency_p90_s=percentile(latencies, 90),
            latency_p99_s=percentile(latencies, 99),
            messages=self._messages,
            last_message_age_s=last_message_age,
        )

    def _fault(self, now: float, error_rate: float | None, requests: int, median: float | None) -> str:
        """Why a connected link is degraded; empty when it is not."""
        limits = self._thresholds
        if self._connected_at_s is None:
            return ""
        if self._leaving:
            return self._leaving
        if (
            limits.max_error_rate is not None
            and error_rate is not None
            and requests >= limits.min_requests
            and error_rate > limits.max_error_rate
        ):
            return f"error rate {error_rate:.2f} over {requests} requests"
        if limits.max_latency_s is not None and median is not None and median > limits.max_latency_s:
            return f"median latency {median:.3f} s"
        heard_s = max(self._connected_at_s, self._last_message_s or self._connected_at_s)
        if limits.max_silence_s is not None and now - heard_s > limits.max_silence_s:
            return f"silent for {now - heard_s:.1f} s"
        return ""


def percentile(ordered: Sequence[float], percent: float) -> float | None:
    """Nearest-rank percentile of values already in ascending order; None when there are none."""
    if not ordered:
        return None
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
