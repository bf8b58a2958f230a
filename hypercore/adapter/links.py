"""The gateway's connections to the venue: wiring, limits shared by all of them, and their health."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from hypercore.adapter.settings import HyperCoreSettings
from hypercore.limits import MAX_POSTS_IN_FLIGHT, budget_specs
from hypercore.rest import HyperCoreRest
from hypercore.session import HyperCoreSession, PostKind
from hypercore.stream import HyperCoreStream, StreamConfig, limited_socket_config
from hypercore.stream_events import HyperCoreEvent
from venuemesh.clock import Clock
from venuemesh.gateway.link_board import REST_LINK, LinkBoard
from venuemesh.transport.gate import LimiterGate
from venuemesh.transport.limiter import Limiter, LimiterQueue
from venuemesh.transport.observer import NullObserver, Observer
from venuemesh.transport.rest import RestClient


@dataclass(frozen=True, slots=True)
class OnWritten:
    """Tag of a post that wants to know when its frame was written."""

    call: Callable[[], None]


class TellingSession(HyperCoreSession):
    """A session that tells the owner of a post when it was written, before any answer."""

    def __init__(self, *, max_posts: int) -> None:
        super().__init__(max_posts=max_posts, cancel_reserve=max(1, max_posts // 10))
        self._on_written: dict[int, Callable[[], None]] = {}

    def open_post(
        self, kind: PostKind, payload: bytes, *, now_s: float, is_cancel: bool = False, tag: object = None
    ) -> tuple[int, bytes]:
        """As the base; an `OnWritten` tag is remembered until the post is written or given up."""
        post_id, frame = super().open_post(kind, payload, now_s=now_s, is_cancel=is_cancel, tag=tag)
        if isinstance(tag, OnWritten):
            self._on_written[post_id] = tag.call
        return post_id, frame

    def post_written(self, post_id: int, epoch: int) -> bool:
        """As the base, and the owner is told."""
        if call := self._on_written.pop(post_id, None):
            call()
        return super().post_written(post_id, epoch)

    def abandon_post(self, post_id: int, now_s: float) -> None:
        """As the base; nobody is told any more."""
        self._on_written.pop(post_id, None)
        super().abandon_post(post_id, now_s)


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
            session=TellingSession(max_posts=self.max_posts),
            **options,
        )
