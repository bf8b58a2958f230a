"""The gateway's connections to the venue, as it speaks over them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from gateway_lighter.codec_frames import Shutdown
from gateway_lighter.limits import MAX_IN_FLIGHT, TierLimits
from gateway_lighter.rest import LighterRest
from gateway_lighter.session import LighterSession
from gateway_lighter.settings import GatewaySettings
from gateway_lighter.signing import TokenSource
from gateway_lighter.stream import LighterStream, StreamConfig, limited_socket_config
from gateway_lighter.stream_events import LighterEvent
from venuemesh.clock import Clock
from venuemesh.gateway.venue_links import VenueLinks
from venuemesh.transport.observer import Observer


class Links:
    """Builds REST interfaces and streams.

    Args:
        accounts: how many private sockets there will be; they share the transactions the venue takes in flight.
        stream_config: bounds of every stream, in tests.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        *,
        clock: Clock,
        observer: Observer | None,
        accounts: int,
        stream_config: StreamConfig | None = None,
    ) -> None:
        self.limits = TierLimits(tier=settings.tier)
        self.shared = VenueLinks(
            settings, ws_url=settings.ws_url, budgets=self.limits.budget_specs(), clock=clock, observer=observer
        )
        self._max_in_flight = max(2, MAX_IN_FLIGHT // max(1, accounts))
        self._stream_config = stream_config or StreamConfig(
            socket=limited_socket_config(), send_timeout_s=settings.action_timeout_s
        )

    def rest(self, tokens: TokenSource | None = None) -> LighterRest:
        """Requests over the one HTTP client; with `tokens` also private reads of their account."""
        return LighterRest(self.shared.client, tokens=tokens, limits=self.limits, gate=self.shared.gate)

    def stream(
        self, link_id: str, on_event: Callable[[LighterEvent], Awaitable[None]], tokens: TokenSource | None = None
    ) -> LighterStream:
        """A socket of its own; with `tokens` for the private channels of their account."""
        session = LighterSession(
            token=None if tokens is None else lambda: tokens.token().reveal(),
            max_in_flight=self._max_in_flight,
            cancel_reserve=max(1, self._max_in_flight // 5),
        )
        return LighterStream(
            self.shared.wiring(link_id),
            on_event=on_event,
            config=self._stream_config,
            session=session,
            limits=self.limits,
        )


def leaving(notice: Shutdown) -> str:
    """What people are told of the venue's announcement that a connection will end."""
    return f"the venue announces the end of this connection in {notice.close_in_ms} ms"
