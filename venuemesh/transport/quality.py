"""Whether a connected link is good enough to trade over: a fold of measurements, with hysteresis. Pure.

A link is degraded at the first measurement beyond a limit. It is good again only after every measurement has stayed
below `recover_ratio` of its limit for `recover_after_s`, so that a link at its limit does not flap.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from venuemesh.transport.link import LinkSnapshot


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityPolicy:
    """When a connected link counts as degraded; None switches a rule off.

    Args:
        max_error_rate: the share of failed requests in the window is above it ...
        min_requests: ... and at least this many requests are in the window.
        max_latency_s: the median latency in the window is above it.
        max_reconnections: there were more reconnections in the window.
        max_silence_s: the last message, or the connect if none came, is older.
        recover_ratio: share of each limit that a link must stay below to be good again, above 0 up to 1.
        recover_after_s: how long it must do so without a break.
    """

    max_error_rate: float | None = 0.2
    min_requests: int = 10
    max_latency_s: float | None = 2.0
    max_reconnections: int | None = 3
    max_silence_s: float | None = None
    recover_ratio: float = 0.5
    recover_after_s: float = 30.0

    def __post_init__(self) -> None:
        if not 0 < self.recover_ratio <= 1:
            raise ValueError(f"recover_ratio: must be within (0, 1], got {self.recover_ratio}")
        if self.min_requests < 1 or self.recover_after_s < 0:
            raise ValueError("min_requests must be 1 or more, recover_after_s 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """What is held of a link. `better_since_s` is when a degraded link began to be calm, None while it is not."""

    degraded: bool = False
    cause: str = ""
    better_since_s: float | None = None


GOOD = Quality()


def judge(before: Quality, seen: LinkSnapshot, now_s: float, policy: QualityPolicy) -> Quality:
    """The quality of a link after one more look at it, at monotonic `now_s`.

    Without a connection nothing is judged: what was held stays, and the time of calm begins anew.
    """
    if not seen.connected:
        return replace(before, better_since_s=None)
    if fault := fault_of(seen, policy):
        return Quality(degraded=True, cause=fault)
    if not before.degraded:
        return GOOD
    if fault_of(seen, policy, policy.recover_ratio):
        return replace(before, better_since_s=None)
    since_s = now_s if before.better_since_s is None else before.better_since_s
    if now_s - since_s >= policy.recover_after_s:
        return GOOD
    return replace(before, better_since_s=since_s)


def fault_of(seen: LinkSnapshot, policy: QualityPolicy, ratio: float = 1.0) -> str:
    """The first limit, times `ratio`, that a connected link is beyond, in words; empty when there is none."""
    rate, limit = seen.error_rate, policy.max_error_rate
    if limit is not None and rate is not None and seen.requests >= policy.min_requests and rate > limit * ratio:
        return f"error rate {rate:.2f} over {seen.requests} requests, limit {limit:g}"
    latency_s, limit = seen.latency_p50_s, policy.max_latency_s
    if limit is not None and latency_s is not None and latency_s > limit * ratio:
        return f"median latency {latency_s:.3f} s, limit {limit:g} s"
    most = policy.max_reconnections
    if most is not None and seen.recent_reconnections > most * ratio:
        return f"{seen.recent_reconnections} reconnections lately, limit {most}"
    limit = policy.max_silence_s
    if limit is not None and seen.heard_age_s > limit * ratio:
        return f"silent for {seen.heard_age_s:.1f} s, limit {limit:g} s"
    return ""
