"""HyperCore over one WebSocket: subscriptions that survive reconnects, and posts that are never guessed about.

Thin: `session` decides, `venuemesh.transport.websocket` moves bytes. Replies to posts are handed to their
waiters at once; everything else waits for one callback, in order, in a bounded queue. When that queue is full
the connection is cut, so that what was missed is a visible gap. orderUpdates and userEvents name no user: use
one stream per account.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

from hypercore.codec import parse_info
from hypercore.exchange_codec import ExchangeAnswer
from hypercore.frames import ActionReply, InfoReply, PostErrorReply
from hypercore.limits import WS_CONNECTS, WS_MESSAGES, action_priority
from hypercore.refusals import classify_error
from hypercore.session import (
    HyperCoreSession,
    PostAnswered,
    PostKind,
    PostReply,
    SessionEvent,
    Subscription,
    SubscriptionAcknowledged,
    SubscriptionRefused,
)
from hypercore.signing import SignedAction, encode_signed
from hypercore.stream_events import HyperCoreEvent
from venuemesh.errors import (
    InvalidRequest,
    MeshError,
    OutcomeUnknown,
    ProtocolViolation,
    RateLimited,
    Reason,
    Sent,
    VenueUnavailable,
)
from venuemesh.transport.exchanges import Exchanges, SocketRequest
from venuemesh.transport.limiter import Priority
from venuemesh.transport.narrator import Narrator
from venuemesh.transport.session import Connected, Disconnected, Frame, SocketConfig, SocketEvent
from venuemesh.transport.subscription_watch import SubscriptionWatch
from venuemesh.transport.websocket import ReconnectingSocket
from venuemesh.transport.wiring import LinkWiring

HEARTBEAT_S: Final = 20.0
SILENCE_S: Final = 50.0
"""The venue pongs every ping and closes what it has nothing to say to after 60 s."""

POST_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamConfig:
    """Bounds of one stream.

    Args:
        socket: bounds and heartbeat of the connection.
        queue_events, queue_bytes: most that waits for the callback, counted in frames and frame bytes.
        post_timeout_s: most time to wait for the reply to a post unless the caller says otherwise.
    """

    socket: SocketConfig = field(
        default_factory=lambda: SocketConfig(heartbeat_interval_s=HEARTBEAT_S, silence_timeout_s=SILENCE_S)
    )
    queue_events: int = 10_000
    queue_bytes: int = 32 * 1024 * 1024
    post_timeout_s: float = POST_TIMEOUT_S


def limited_socket_config() -> SocketConfig:
    """The default socket bounds, charged to the budgets of `limits.budget_specs`."""
    return SocketConfig(
        heartbeat_interval_s=HEARTBEAT_S,
        silence_timeout_s=SILENCE_S,
        message_budget=WS_MESSAGES,
        connect_budget=WS_CONNECTS,
    )


class HyperCoreStream:
    """One socket to HyperCore.

    Args:
        wiring: where it goes.
        on_event: gets every event in order, one at a time; an error it raises ends `run`. It may post and
            subscribe: replies do not pass through it.
        config: bounds.
        session: state to use, when its bounds differ from the default's.
    """

    def __init__(
        self,
        wiring: LinkWiring,
        *,
        on_event: Callable[[HyperCoreEvent], Awaitable[None]],
        config: StreamConfig | None = None,
        session: HyperCoreSession | None = None,
    ) -> None:
        self._config = config or StreamConfig()
        self._clock = wiring.clock
        self._name = wiring.name
        self.session = session or HyperCoreSession()
        self.socket = ReconnectingSocket(
            wiring, session=self.session, on_event=self._on_socket_event, config=self._config.socket
        )
        self._exchanges: Exchanges[int, PostAnswered] = Exchanges(
            self.socket, self.session.in_flight, wiring, late_endpoint="post.late", on_late=self._tell_late
        )
        self._narrator: Narrator[SessionEvent] = Narrator(
            self.socket, on_event, max_events=self._config.queue_events, max_bytes=self._config.queue_bytes
        )
        self._subscriptions = SubscriptionWatch(self.socket, self.session.unacknowledged, wiring)

    @property
    def connected(self) -> bool:
        """Whether posts can be sent now."""
        return self.socket.connected

    async def run(self) -> None:
        """Stay connected until cancelled; then the last StreamDisconnected is delivered."""
        await self._narrator.run_during(
            self.socket.run, name=f"{self._name}-events", drain_timeout_s=self._config.socket.close_timeout_s
        )

    # --- subscriptions -------------------------------------------------------------------------------------

    async def subscribe(self, subscription: Subscription) -> None:
        """Want a subscription from now on, over every reconnect. A repeat changes nothing.

        Raises:
            InvalidRequest, RateLimited: see `HyperCoreSession.subscribe`; or the message budget is spent.
        """
        frame = self.session.subscribe(subscription)
        if frame is None:
            return
        self._subscriptions.review()
        try:
            if self.socket.connected:
                self._note_asked(subscription)
            await self._send_if_connected(frame)
        except RateLimited:
            self.session.unsubscribe(subscription)
            self._subscriptions.review()
            raise

    async def unsubscribe(self, subscription: Subscription) -> None:
        """No longer want a subscription. Raises RateLimited when the message budget is spent."""
        frame = self.session.unsubscribe(subscription)
        self._subscriptions.review()
        if frame is not None:
            await self._send_if_connected(frame)

    async def wait_subscribed(self) -> None:
        """Wait until the venue has confirmed every wanted subscription on the present connection."""
        await self._subscriptions.wait_served()

    async def _send_if_connected(self, frame: bytes) -> None:
        # Not connected, or the connection broke: the next one begins with all wanted subscriptions.
        with suppress(VenueUnavailable, OutcomeUnknown):
            await self.socket.send(frame, priority=Priority.QUERY)

    # --- posts ---------------------------------------------------------------------------------------------

    async def post_action(
        self,
        signed: SignedAction,
        *,
        timeout_s: float | None = None,
        on_written: Callable[[], None] | None = None,
        tag: object = None,
        correlation_id: str = "",
    ) -> ExchangeAnswer:
        """Send one signed action and wait for its reply; a refusal by the venue is an answer.

        Args:
            timeout_s: most time for sending and for the reply.
            on_written: called once the frame has left, or may have; never for one that certainly has not.
            tag: comes back in the PostAnswered event should the reply come after the time-out.
        Raises:
            VenueUnavailable, RateLimited: nothing was sent (`sent=no`), or the venue refused it unread
                (`sent=yes`, a limit).
            InvalidRequest: the venue could not read the request.
            OutcomeUnknown: sent, and the reply did not come, was cut off or cannot be read. Should it come
                later, the callback gets it as a late PostAnswered.
        """
        priority = action_priority(signed.action)
        post_id, request = self._open(
            PostKind.ACTION,
            f"post.{signed.kind()}",
            encode_signed(signed),
            priority,
            tag=tag,
            correlation_id=correlation_id,
            expires_ms=None if priority is Priority.CANCEL else signed.expires_after,
        )
        reply = (await self._exchanges.ask(post_id, request, self._wait_s(timeout_s), on_written)).reply
        if isinstance(reply, ActionReply):
            return reply.answer
        if isinstance(reply, PostErrorReply):
            raise _post_refused(reply.text, write=True)
        raise OutcomeUnknown(f"{self._name}: the reply cannot be read", metadata=_payload_of(reply))

    async def post_info(self, request: Subscription, *, timeout_s: float | None = None) -> Any:
        """An /info request over the socket; answers as `HyperCoreRest.fetch_info` does.

        Raises:
            VenueUnavailable, RateLimited, InvalidRequest, ProtocolViolation: as the REST reads.
        """
        endpoint, payload = f"post.info.{request['type']}", msgspec.json.encode(request)
        post_id, asked = self._open(PostKind.INFO, endpoint, payload, Priority.QUERY)
        reply = (await self._exchanges.ask(post_id, asked, self._wait_s(timeout_s))).reply
        if isinstance(reply, InfoReply):
            return parse_info(str(request["type"]), reply.data)
        if isinstance(reply, PostErrorReply):
            raise _post_refused(reply.text, write=False)
        raise ProtocolViolation(f"{self._name}: the reply cannot be read", sent=Sent.YES, metadata=_payload_of(reply))

    def _open(
        self,
        kind: PostKind,
        endpoint: str,
        payload: bytes,
        priority: Priority,
        *,
        tag: object = None,
        correlation_id: str = "",
        expires_ms: int | None = None,
    ) -> tuple[int, SocketRequest]:
        started_s, started_ns = self._clock.monotonic_s(), self._clock.now_ns()
        post_id, frame = self.session.open_post(
            kind, payload, now_s=started_s, is_cancel=priority is Priority.CANCEL, tag=tag
        )
        request = SocketRequest(
            endpoint=endpoint,
            write=kind is PostKind.ACTION,
            frame=frame,
            body=payload,
            priority=priority,
            started_s=started_s,
            started_ns=started_ns,
            correlation_id=correlation_id,
            expires_ms=expires_ms,
        )
        return post_id, request

    def _wait_s(self, timeout_s: float | None) -> float:
        return self._config.post_timeout_s if timeout_s is None else timeout_s

    def _tell_late(self, answered: PostAnswered, frame: Frame) -> None:
        self._narrator.tell_late(replace(answered, late=True), frame)

    def _note_asked(self, subscription: Subscription) -> None:
        self._subscriptions.asked(_name_of(subscription), str(subscription["type"]))

    # --- what comes ----------------------------------------------------------------------------------------

    async def _on_socket_event(self, event: SocketEvent) -> None:
        """Called by the transport in order; never waits, so that replies are never held up."""
        if isinstance(event, Frame):
            self._narrator.heard(event)
            for found in self.session.receive(event.data):
                self._take(found, event)
        elif isinstance(event, Connected):
            for subscription in self.session.unacknowledged():
                self._note_asked(subscription)
            self._narrator.connected(event)
            self._subscriptions.review()
        else:
            self._end(event)

    def _take(self, found: SessionEvent, frame: Frame) -> None:
        if isinstance(found, PostAnswered) and self._exchanges.answered(found.post_id, found, frame):
            return
        if isinstance(found, SubscriptionAcknowledged | SubscriptionRefused):
            refusal = found.meaning.text if isinstance(found, SubscriptionRefused) else ""
            self._subscriptions.answered(_name_of(found.subscription), refusal)
        self._narrator.tell(found, frame)

    def _end(self, event: Disconnected) -> None:
        self._exchanges.lost(self.session.disconnected(event.epoch), event.reason)
        self._subscriptions.disconnected(event)
        self._narrator.disconnected(event)


def _name_of(subscription: Subscription) -> str:
    """A subscription as JSON, the same however it is written."""
    kept = {name: value.lower() if name == "user" else value for name, value in sorted(subscription.items())}
    return msgspec.json.encode(kept).decode()


def _payload_of(reply: PostReply) -> dict[str, str]:
    violation = getattr(reply, "violation", None)
    return dict(violation.metadata) if isinstance(violation, ProtocolViolation) else {"payload": repr(reply)[:2_000]}


def _post_refused(text: str, *, write: bool) -> MeshError:
    """A post the venue would not take, as the error the same refusal over HTTP would be."""
    meaning = classify_error(text)
    metadata = {"payload": text[:2_000]}
    if meaning.reason is Reason.RATE_LIMIT_VENUE:
        return RateLimited(
            text, reason=meaning.reason, sent=Sent.YES, retry_after_s=meaning.retry_after_s, metadata=metadata
        )
    if meaning.definitive:
        return InvalidRequest(text, sent=Sent.YES, metadata=metadata)
    if write:
        return OutcomeUnknown(text, metadata=metadata)
    return VenueUnavailable(text, reason=Reason.VENUE_UNAVAILABLE, sent=Sent.YES, metadata=metadata)
