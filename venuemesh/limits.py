"""How much one caller may ask: call rate and open streams, per peer and in total. Pure.

Time is passed in, in monotonic seconds. Every table is bounded: beyond `max_peers` the peer seen least
recently, with no open stream, is forgotten; a forgotten peer starts again with a full bucket.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from venuemesh.errors import RateLimited, Reason


class TokenBucket:
    """`rate` tokens per second up to `burst`; a call takes one."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens")

    def __init__(self, *, rate: float, burst: float, now_s: float) -> None:
        if rate <= 0 or burst < 1:
            raise ValueError(f"rate must be above 0 and burst at least 1, got {rate} and {burst}")
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now_s

    def left(self, now_s: float) -> float:
        """Tokens there now; below 1 a `take` would fail."""
        return min(self._burst, self._tokens + (now_s - self._at) * self._rate)

    def change(self, *, rate: float, burst: float, now_s: float) -> None:
        """Go on with other bounds and what is there now; a bucket that was full is full again."""
        left = self.left(now_s)
        self._tokens = burst if left >= self._burst else min(left, burst)
        self._rate, self._burst, self._at = rate, burst, now_s

    def take(self, now_s: float) -> float:
        """Take a token; 0.0 when there was one, else the seconds until there is, and none is taken."""
        tokens = min(self._burst, self._tokens + (now_s - self._at) * self._rate)
        self._at = now_s
        if tokens >= 1.0:
            self._tokens = tokens - 1.0
            return 0.0
        self._tokens = tokens
        return (1.0 - tokens) / self._rate


@dataclass(frozen=True, slots=True, kw_only=True)
class CallLimits:
    """The bounds a server holds its callers to.

    Args:
        calls_per_second: sustained calls of one peer, unary and stream starts together.
        call_burst: calls of one peer at once after a quiet spell.
        streams_per_peer: streams one peer may hold open.
        streams_total: streams all peers together may hold open.
        max_peers: peers remembered at once.
        failed_identifications: wrong tokens of one peer at once; one more is allowed each second.
    """

    calls_per_second: float = 2_000.0
    call_burst: int = 4_000
    streams_per_peer: int = 1_500
    streams_total: int = 2_000
    max_peers: int = 10_000
    failed_identifications: int = 20


class _Peer:
    __slots__ = ("bucket", "failures", "notice", "safety", "streams")

    def __init__(self, limits: CallLimits, now_s: float) -> None:
        self.bucket = TokenBucket(rate=limits.calls_per_second, burst=limits.call_burst, now_s=now_s)
        self.safety = TokenBucket(rate=limits.calls_per_second, burst=limits.call_burst, now_s=now_s)
        self.notice = TokenBucket(rate=1.0, burst=1.0, now_s=now_s)
        self.failures = TokenBucket(rate=1.0, burst=limits.failed_identifications, now_s=now_s)
        self.streams = 0

    def change(self, limits: CallLimits, now_s: float) -> None:
        for bucket in (self.bucket, self.safety):
            bucket.change(rate=limits.calls_per_second, burst=limits.call_burst, now_s=now_s)
        self.failures.change(rate=1.0, burst=limits.failed_identifications, now_s=now_s)


class CallerLimits:
    """Admits or refuses the calls of every peer."""

    def __init__(self, limits: CallLimits) -> None:
        self._limits = limits
        self._peers: OrderedDict[str, _Peer] = OrderedDict()
        self._streams = 0

    def change(self, limits: CallLimits, now_s: float) -> None:
        """Hold every peer to other bounds from now on. Streams that are open stay, also those beyond the new bound."""
        self._limits = limits
        for entry in self._peers.values():
            entry.change(limits, now_s)

    @property
    def open_streams(self) -> int:
        """Streams open now, of all peers."""
        return self._streams

    @property
    def peers(self) -> int:
        """Peers remembered now."""
        return len(self._peers)

    def admit_call(self, peer: str, now_s: float, *, safety: bool = False) -> None:
        """Count one call of `peer`.

        Args:
            safety: a cancel or the like; these have the same rate once more for themselves, so that a caller who
                has spent everything on orders can still cancel.
        Raises:
            RateLimited: RATE_LIMIT_LOCAL with the time to wait.
        """
        entry = self._peer(peer, now_s)
        wait_s = (entry.safety if safety else entry.bucket).take(now_s)
        if wait_s > 0:
            rate, burst = self._limits.calls_per_second, self._limits.call_burst
            raise RateLimited(
                f"one caller may make {rate:g} calls per second, {burst} at once",
                retry_after_s=wait_s,
                metadata={"limit": "calls_per_second", "value": f"{rate:g}"},
            )

    def admit_identification(self, peer: str, now_s: float) -> None:
        """Refuse to look at what a peer shows while it has shown too much that was wrong.

        Raises:
            RateLimited: RATE_LIMIT_LOCAL with the time to wait.
        """
        left = self._peer(peer, now_s).failures.left(now_s)
        if left < 1.0:
            most = self._limits.failed_identifications
            raise RateLimited(
                f"more than {most} failed authentications: wait",
                retry_after_s=1.0 - left,
                metadata={"limit": "failed_identifications", "value": str(most)},
            )

    def identification_failed(self, peer: str, now_s: float) -> None:
        """Count one against `admit_identification`."""
        self._peer(peer, now_s).failures.take(now_s)

    def open_stream(self, peer: str, now_s: float) -> None:
        """Take a stream slot of `peer`; give it back with `close_stream`.

        Raises:
            RateLimited: TOO_MANY_STREAMS; there is no time to wait for, a stream must end first.
        """
        entry = self._peer(peer, now_s)
        if entry.streams >= self._limits.streams_per_peer:
            raise _too_many_streams("streams_per_peer", self._limits.streams_per_peer)
        if self._streams >= self._limits.streams_total:
            raise _too_many_streams("streams_total", self._limits.streams_total)
        entry.streams += 1
        self._streams += 1

    def close_stream(self, peer: str) -> None:
        """Give back a slot that `open_stream` took."""
        self._peers[peer].streams -= 1
        self._streams -= 1

    def may_report(self, peer: str, now_s: float) -> bool:
        """Whether a refusal of `peer` should be logged: once a second, so that a flood floods no log."""
        return self._peer(peer, now_s).notice.take(now_s) == 0.0

    def _peer(self, peer: str, now_s: float) -> _Peer:
        entry = self._peers.get(peer)
        if entry is not None:
            self._peers.move_to_end(peer)
            return entry
        if len(self._peers) >= self._limits.max_peers:
            self._forget_one()
        entry = self._peers[peer] = _Peer(self._limits, now_s)
        return entry

    def _forget_one(self) -> None:
        # Peers with open streams are at most `streams_total`, so the search is short and the table bounded.
        idle = next((peer for peer, entry in self._peers.items() if not entry.streams), None)
        if idle is not None:
            del self._peers[idle]


def _too_many_streams(limit: str, value: int) -> RateLimited:
    return RateLimited(
        f"{limit} is {value}: close a stream before opening another",
        reason=Reason.TOO_MANY_STREAMS,
        metadata={"limit": limit, "value": str(value)},
    )
