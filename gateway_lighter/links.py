"""The gateway's connections to the venue: wiring, limits shared by all of them, and their health."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from gateway_lighter.codec_frames import Shutdown
from gateway_lighter.limits import MAX_IN_FLIGHT, TierLimits
from gateway_lighter.rest import LighterRest
from gateway_lighter.session import LighterSession
from gateway_lighter.settings import GatewaySettings
from gateway_lighter.signing import TokenSource
from gateway_lighter.stream import LighterStream, StreamConfig, limited_socket_config
from gateway_lighter.stream_events import LighterEvent
from venuemesh.clock import Clock
from venuemesh.gateway.link_board import REST_LINK, LinkBoard
from venuemesh.transport.gate import LimiterGate
from venuemesh.transport.limiter import Limiter, LimiterQueue
from venuemesh.transport.observer import NullObserver, Observer
from venuemesh.transport.rest import RestClient


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
        self.board = LinkBoard(clock, observer or NullObserver(), settings.links.policy)
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


def leaving(notice: Shutdown) -> str:
    """What people are told of the venue's announcement that a connection will end."""
    return f"the venue announces the end of this connection in {notice.close_in_ms} ms"


def in_flight_reserve(max_in_flight: int) -> int:
    """Of a socket's transactions in flight, how many only cancels may use."""
    return max(1, max_in_flight // 5)
