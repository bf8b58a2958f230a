"""The gateway's connections to the venue: wiring, limits shared by all of them, and their health."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.duration_pb2 import Duration

from gateway_lighter.limits import MAX_IN_FLIGHT, TierLimits
from gateway_lighter.normalizer import timestamp_of_ns
from gateway_lighter.rest import LighterRest
from gateway_lighter.session import LighterSession
from gateway_lighter.settings import GatewaySettings
from gateway_lighter.signing import TokenSource
from gateway_lighter.stream import LighterStream, StreamConfig, limited_socket_config
from gateway_lighter.stream_events import LighterEvent
from venuemesh.clock import Clock
from venuemesh.gateway.venue import VenueSink
from venuemesh.transport.gate import LimiterGate
from venuemesh.transport.limiter import Limiter, LimiterQueue
from venuemesh.transport.link import LinkSnapshot, LinkState, LinkStats
from venuemesh.transport.observer import NullObserver, Observer, RequestRecord, SafeObserver, StateRecord
from venuemesh.transport.rest import RestClient
from venuemesh.v1 import stream_pb2, venue_pb2

REST_LINK = "rest"
MARKET_LINK = "market"

_PPM = 1_000_000
_NS_PER_S = 1_000_000_000
_STATES = {
    LinkState.CONNECTING: stream_pb2.LINK_STATE_CONNECTING,
    LinkState.LIVE: stream_pb2.LINK_STATE_LIVE,
    LinkState.DEGRADED: stream_pb2.LINK_STATE_DEGRADED,
    LinkState.DOWN: stream_pb2.LINK_STATE_DOWN,
}


def user_link(account_id: str) -> str:
    """Link id of an account's private connection."""
    return f"user/{account_id}"


@dataclass(slots=True)
class _Link:
    stats: LinkStats
    since_ns: int
    state: LinkState = LinkState.CONNECTING


@dataclass(slots=True)
class LinkBoard:
    """Health of every connection. It is the transport's observer and passes everything on to `observer`."""

    clock: Clock
    observer: Observer = field(default_factory=NullObserver)
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

    def on_unknown_words(self, account_id: str, text: str) -> None:
        """Words of the venue that no table has, told to the sink."""
        if self.sink is not None:
            self.sink.on_unknown_words(account_id, text)

    def statuses(self) -> list[venue_pb2.LinkStatus]:
        """Every connection as it is now."""
        return [self._status(link_id, link) for link_id, link in self.links.items()]

    def _status(self, link_id: str, link: _Link) -> venue_pb2.LinkStatus:
        seen = link.stats.snapshot()
        status = venue_pb2.LinkStatus(
            link_id=link_id,
            state=_STATES[seen.state],
            since=timestamp_of_ns(link.since_ns),
            reconnections=seen.reconnections,
            error_rate_ppm=round((seen.error_rate or 0.0) * _PPM),
            uptime_ppm=round((seen.availability or 0.0) * _PPM),
        )
        self._add_measurements(status, seen)
        return status

    def _add_measurements(self, status: venue_pb2.LinkStatus, seen: LinkSnapshot) -> None:
        if seen.latency_ewma_s is not None:
            whole, nanos = divmod(round(seen.latency_ewma_s * _NS_PER_S), _NS_PER_S)
            status.round_trip.CopyFrom(Duration(seconds=whole, nanos=nanos))
        if seen.last_message_age_s is not None:
            at_ns = self.clock.now_ns() - round(seen.last_message_age_s * _NS_PER_S)
            status.last_message_time.CopyFrom(timestamp_of_ns(at_ns))


class Links:
    """Builds connections that share one rate limiter and one board.

    Args:
        accounts: how many private sockets there will be; they share the transactions the venue takes in flight.
        stream_options: passed to every `LighterStream`, such as chance and waiting in tests.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        *,
        clock: Clock,
        observer: Observer | None,
        accounts: int,
        stream_options: dict[str, Any] | None = None,
    ) -> None:
        self.board = LinkBoard(clock, observer or NullObserver())
        self._settings = settings
        self._clock = clock
        self.max_in_flight = max(2, MAX_IN_FLIGHT // max(1, accounts))
        self._stream_options = stream_options or {}
        self.limits = TierLimits(tier=settings.tier)
        self.gate = LimiterGate(LimiterQueue(Limiter(self.limits.budget_specs())), clock)
        self.client = RestClient(
            settings.url,
            guard=settings.guard,
            clock=clock,
            name=REST_LINK,
            gate=self.gate,
            stats=self.board.add(REST_LINK),
            observer=self.board,
        )

    def rest(self, tokens: TokenSource | None = None) -> LighterRest:
        """Requests over the one HTTP client; with `tokens` also private reads of their account."""
        return LighterRest(self.client, tokens=tokens, limits=self.limits, gate=self.gate)

    def stream(
        self, link_id: str, on_event: Callable[[LighterEvent], Awaitable[None]], tokens: TokenSource | None = None
    ) -> LighterStream:
        """A socket of its own; with `tokens` for the private channels of their account."""
        options = {
            "config": StreamConfig(socket=limited_socket_config(), send_timeout_s=self._settings.action_timeout_s),
            **self._stream_options,
        }
        session = LighterSession(
            token=None if tokens is None else lambda: tokens.token().reveal(),
            max_in_flight=self.max_in_flight,
            cancel_reserve=in_flight_reserve(self.max_in_flight),
        )
        return LighterStream(
            self._settings.ws_url,
            on_event=on_event,
            guard=self._settings.guard,
            clock=self._clock,
            name=link_id,
            gate=self.gate,
            stats=self.board.add(link_id),
            observer=self.board,
            session=session,
            limits=self.limits,
            **options,
        )


def in_flight_reserve(max_in_flight: int) -> int:
    """Of a socket's transactions in flight, how many only cancels may use."""
    return max(1, max_in_flight // 5)
