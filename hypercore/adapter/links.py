"""The gateway's connections to the venue, as it speaks over them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from hypercore.adapter.settings import HyperCoreSettings
from hypercore.limits import MAX_POSTS_IN_FLIGHT, budget_specs
from hypercore.rest import HyperCoreRest
from hypercore.session import HyperCoreSession
from hypercore.stream import HyperCoreStream, StreamConfig, limited_socket_config
from hypercore.stream_events import HyperCoreEvent
from venuemesh.clock import Clock
from venuemesh.gateway.venue_links import VenueLinks
from venuemesh.transport.observer import Observer


class Links:
    """Builds the REST interface and the streams.

    Args:
        streams: how many sockets there will be; they share the posts the venue takes in flight.
        stream_config: bounds of every stream, in tests.
    """

    def __init__(
        self,
        settings: HyperCoreSettings,
        *,
        clock: Clock,
        observer: Observer | None,
        streams: int,
        stream_config: StreamConfig | None = None,
    ) -> None:
        self.shared = VenueLinks(
            settings,
            ws_url=settings.ws_url,
            budgets=budget_specs(ip_weight=settings.ip_weight),
            clock=clock,
            observer=observer,
        )
        self.rest = HyperCoreRest(self.shared.client, gate=self.shared.gate)
        self._max_posts = MAX_POSTS_IN_FLIGHT // max(1, streams)
        self._stream_config = stream_config or StreamConfig(
            socket=limited_socket_config(), post_timeout_s=settings.action_timeout_s
        )

    def stream(self, link_id: str, on_event: Callable[[HyperCoreEvent], Awaitable[None]]) -> HyperCoreStream:
        """A socket of its own."""
        return HyperCoreStream(
            self.shared.wiring(link_id),
            on_event=on_event,
            config=self._stream_config,
            session=HyperCoreSession(max_posts=self._max_posts, cancel_reserve=max(1, self._max_posts // 10)),
        )
