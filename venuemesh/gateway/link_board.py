"""Health of every connection of an adapter to its venue, as the contract shows it."""

from __future__ import annotations

from dataclasses import dataclass, field

from venuemesh.clock import Clock
from venuemesh.gateway.order_wire import NS_PER_S, duration, timestamp
from venuemesh.gateway.venue import VenueSink
from venuemesh.transport.link import LinkSnapshot, LinkState, LinkStats
from venuemesh.transport.observer import NullObserver, Observer, RequestRecord, SafeObserver, StateRecord
from venuemesh.transport.quality import GOOD, Quality, QualityPolicy, judge
from venuemesh.v1 import stream_pb2, venue_pb2

REST_LINK = "rest"
MARKET_LINK = "market"

_USER = "user/"
_PPM = 1_000_000
_STATES = {
    LinkState.CONNECTING: stream_pb2.LINK_STATE_CONNECTING,
    LinkState.LIVE: stream_pb2.LINK_STATE_LIVE,
    LinkState.DEGRADED: stream_pb2.LINK_STATE_DEGRADED,
    LinkState.DOWN: stream_pb2.LINK_STATE_DOWN,
}


def user_link(account_id: str) -> str:
    """Link id of an account's private connection."""
    return f"{_USER}{account_id}"


def account_of_link(link_id: str) -> str:
    """The account a private connection belongs to; empty for one that all accounts share."""
    return link_id.removeprefix(_USER) if link_id.startswith(_USER) else ""


@dataclass(slots=True)
class _Link:
    stats: LinkStats
    since_ns: int
    state: LinkState = LinkState.CONNECTING
    quality: Quality = GOOD


@dataclass(slots=True)
class LinkBoard:
    """Health of every connection. It is the transport's observer and passes everything on to `observer`.

    A connection is judged by `policy` whenever `statuses` is asked, which the gateway does every second.
    """

    clock: Clock
    observer: Observer = field(default_factory=NullObserver)
    policy: QualityPolicy = field(default_factory=QualityPolicy)
    sink: VenueSink | None = None
    links: dict[str, _Link] = field(default_factory=dict)

    def add(self, link_id: str) -> LinkStats:
        """A new connection; the statistics it feeds."""
        stats = LinkStats(self.clock)
        self.links[link_id] = _Link(stats, self.clock.now_ns())
        return stats

    def on_request(self, record: RequestRecord) -> None:
        """Passed on."""
        SafeObserver(self.observer).on_request(record)

    def on_state(self, record: StateRecord) -> None:
        """Noted, passed on and told to the sink."""
        link = self.links[record.link]
        if link.state is not record.state:
            link.state, link.since_ns = record.state, record.at_ns
        SafeObserver(self.observer).on_state(record)
        if self.sink is not None:
            self.sink.on_link(record.link, _STATES[record.state], record.detail)

    def on_leaving(self, link_id: str, detail: str) -> None:
        """The venue has announced that it will end a connection."""
        self.links[link_id].stats.leaving(detail)
        at_ns = self.clock.now_ns()
        self.on_state(StateRecord(link=link_id, state=LinkState.DEGRADED, detail=detail, at_ns=at_ns))

    def on_unknown_words(self, account_id: str, text: str) -> None:
        """Words of the venue that no table has, told to the sink."""
        if self.sink is not None:
            self.sink.on_unknown_words(account_id, text)

    def statuses(self) -> list[venue_pb2.LinkStatus]:
        """Every connection as it is now."""
        return [self._status(link_id, link) for link_id, link in self.links.items()]

    def _status(self, link_id: str, link: _Link) -> venue_pb2.LinkStatus:
        seen = link.stats.snapshot()
        was = link.quality
        link.quality = judge(was, seen, self.clock.monotonic_s(), self.policy)
        if link.quality.degraded is not was.degraded and seen.connected:
            link.since_ns = self.clock.now_ns()
        degraded = seen.connected and link.quality.degraded
        status = venue_pb2.LinkStatus(
            link_id=link_id,
            state=stream_pb2.LINK_STATE_DEGRADED if degraded else _STATES[seen.state],
            since=timestamp(link.since_ns),
            reconnections=seen.reconnections,
            recent_reconnections=seen.recent_reconnections,
            requests=seen.requests,
            error_rate_ppm=round((seen.error_rate or 0.0) * _PPM),
            uptime_ppm=round((seen.availability or 0.0) * _PPM),
            cause=link.quality.cause if degraded else seen.detail,
        )
        self._add_measurements(status, seen)
        return status

    def _add_measurements(self, status: venue_pb2.LinkStatus, seen: LinkSnapshot) -> None:
        for field_name, seconds in (
            ("round_trip", seen.latency_ewma_s),
            ("latency_p50", seen.latency_p50_s),
            ("latency_p99", seen.latency_p99_s),
        ):
            if seconds is not None:
                getattr(status, field_name).CopyFrom(duration(seconds))
        if seen.last_message_age_s is not None:
            at_ns = self.clock.now_ns() - round(seen.last_message_age_s * NS_PER_S)
            status.last_message_time.CopyFrom(timestamp(at_ns))
