"""The gateway's connections to the venue: wiring, limits shared by all of them, and their health."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from hypercore.adapter.settings import HyperCoreSettings
from hypercore.limits import MAX_POSTS_IN_FLIGHT, budget_specs
from hypercore.rest import HyperCoreRest
from hypercore.session import HyperCoreSession
from hypercore.stream import HyperCoreStream, StreamConfig, limited_socket_config
from hypercore.stream_events import HyperCoreEvent
from venuemesh.clock import Clock
from venuemesh.gateway.link_board import REST_LINK, LinkBoard
from venuemesh.transport.gate import LimiterGate
from venuemesh.transport.limiter import Limiter, LimiterQueue
from venuemesh.transport.observer import NullObserver, Observer
from venuemesh.transport.rest import RestClient


class Links:
    """Builds connections that share one rate limiter and one board.

    Args:
        streams: how many sockets there will be; they share the posts the venue takes in flight.
        stream_options: passed to every `HyperCoreStream`, such as chance and waiting in tests.
    """

    def __init__(
        self,
        settings: HyperCoreSettings,
        *,
        clock: Clock,
        observer: Observer | None,
        streams: int,
        stream_options: dict[str, Any] | None = None,
    ) -> None:
        self.board = LinkBoard(clock, observer or NullObserver(), settings.links.policy)
        self._settings = settings
        self._clock = clock
        self.max_posts = MAX_POSTS_IN_FLIGHT // max(1, streams)
        self._stream_options = stream_options or {}
        limiter = Limiter(budget_specs(ip_weight=settings.ip_weight))
        self.gate = LimiterGate(LimiterQueue(limiter), clock)
        self.client = RestClient(
            settings.url,
            guard=settings.guard,
            clock=clock,
            name=REST_LINK,
            gate=self.gate,
            stats=self.board.add(REST_LINK),
            observer=self.board,
        )
        self.rest = HyperCoreRest(self.client, gate=self.gate)

    def stream(self, link_id: str, on_event: Callable[[HyperCoreEvent], Awaitable[None]]) -> HyperCoreStream:
        """A socket of its own."""
        options = {
            "config": StreamConfig(socket=limited_socket_config(), post_timeout_s=self._settings.action_timeout_s),
            **self._stream_options,
        }
        return HyperCoreStream(
            self._settings.ws_url,
            on_event=on_event,
            guard=self._settings.guard,
            clock=self._clock,
            name=link_id,
            gate=self.gate,
            stats=self.board.add(link_id),
            observer=self.board,
            session=HyperCoreSession(max_posts=self.max_posts, cancel_reserve=post_reserve(self.max_posts)),
            **options,
        )


def post_reserve(max_posts: int) -> int:
    """Of a socket's posts in flight, how many only cancels may use."""
    return max(1, max_posts // 10)
