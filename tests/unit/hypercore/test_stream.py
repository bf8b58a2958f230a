"""The stream over a real loopback WebSocket: reconnects, posts with lost, late and refused replies, slow callbacks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from hypercore import actions
from hypercore.exchange_codec import Accepted, Refused
from hypercore.frames import DataFrame, UnknownFrame
from hypercore.session import PostAnswered, SubscriptionAcknowledged, SubscriptionRefused, UnreadableFrame
from hypercore.signing import Network, SecretKey, SignedAction, Signer, encode_signed
from hypercore.stream import HyperCoreStream, StreamConfig
from hypercore.stream_events import HyperCoreEvent
from tests.streams import Listener, link
from tests.unit.hypercore import vectors
from venuemesh.errors import (
    InvalidRequest,
    MeshError,
    OutcomeUnknown,
    ProtocolViolation,
    RateLimited,
    Sent,
    VenueUnavailable,
)
from venuemesh.transport.backoff import BackoffPolicy
from venuemesh.transport.observer import RequestOutcome
from venuemesh.transport.session import DisconnectReason, SocketConfig, StreamConnected, StreamDisconnected, StreamEvent

SIGNER = Signer(SecretKey(vectors.K1), Network.TESTNET)
USER = "0x" + "ab" * 20
BBO = {"type": "bbo", "coin": "SOL"}
MIDS = {"type": "allMids"}
OK = {"status": "ok", "response": {"type": "default"}}


def an_action(nonce: int = 7) -> SignedAction:
    return SIGNER.sign(actions.build_noop(), nonce)


def frame(channel: str, data: Any) -> str:
    return json.dumps({"channel": channel, "data": data})


def post_reply(post_id: int, payload: Any = OK, kind: str = "action") -> str:
    return frame("post", {"id": post_id, "response": {"type": kind, "payload": payload}})


@dataclass
class Venue:
    """A WebSocket server that acknowledges, and lets the test answer everything else."""

    url: str = ""
    connections: list[ServerConnection] = field(default_factory=list)
    messages: asyncio.Queue[tuple[int, dict[str, Any]]] = field(default_factory=asyncio.Queue)
    acknowledge: bool = True

    @property
    def live(self) -> ServerConnection:
        return self.connections[-1]

    async def handle(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        number = len(self.connections)
        async for raw in connection:
            message = json.loads(raw)
            if message["method"] in ("subscribe", "unsubscribe") and self.acknowledge:
                await connection.send(frame("subscriptionResponse", message))
            await self.messages.put((number, message))

    async def next(self, method: str) -> dict[str, Any]:
        """The next message of a method, over whatever connection."""
        while True:
            _, message = await self.messages.get()
            if message["method"] == method:
                return message

    async def cut(self) -> None:
        """Break the live connection without a closing handshake."""
        self.live.transport.abort()


def bounds(**changes: Any) -> StreamConfig:
    socket = SocketConfig(
        backoff=BackoffPolicy(initial_s=0.001, cap_s=0.002), heartbeat_interval_s=changes.pop("heartbeat_s", 20.0)
    )
    return StreamConfig(socket=socket, **changes)


@asynccontextmanager
async def running(config: StreamConfig | None = None) -> AsyncIterator[tuple[Venue, HyperCoreStream, Listener]]:
    """A venue, a connected stream and what it told; everything stopped and checked at the end."""
    venue, told = Venue(), Listener()
    async with asyncio.timeout(60), serve(venue.handle, "127.0.0.1", 0) as server:
        host, port = next(iter(server.sockets)).getsockname()[:2]
        venue.url = f"ws://{host}:{port}/ws"
        stream = HyperCoreStream(link(url=venue.url, observer=told), on_event=told, config=config or bounds())
        running_task = asyncio.create_task(stream.run(), name="stream")
        try:
            await told.wait(StreamConnected)
            await stream.socket.wait_connected()
            yield venue, stream, told
        finally:
            running_task.cancel()
            (ended,) = await asyncio.gather(running_task, return_exceptions=True)
            assert isinstance(ended, asyncio.CancelledError), ended


async def test_subscribe_brings_acknowledgement_and_data_in_order() -> None:
    """The events of one subscription, with receive times and typed data."""
    async with running() as (venue, stream, told):
        await stream.subscribe(MIDS)
        await stream.wait_subscribed()
        assert (await venue.next("subscribe"))["subscription"] == MIDS
        for price in ("1.0", "2.0"):
            await venue.live.send(frame("allMids", {"mids": {"BTC": price}}))
        await told.wait(DataFrame, 2)
        assert [data.data.mids["BTC"] for data in told.of(DataFrame)] == [Decimal("1.0"), Decimal("2.0")]
        assert isinstance(told.events[0], StreamConnected)
        assert all(event.received_ns > 0 and event.epoch == 1 for event in told.events)


async def test_reconnect_asks_for_everything_again_and_tells_the_gap() -> None:
    """After a cut: Disconnected with the last frame's time, Connected with a new epoch, all subscriptions."""
    async with running() as (venue, stream, told):
        await stream.subscribe(BBO)
        await stream.subscribe(MIDS)
        await stream.wait_subscribed()
        await venue.live.send(frame("allMids", {"mids": {}}))
        await told.wait(DataFrame)
        await venue.cut()
        gap = await told.wait(StreamDisconnected)
        assert gap.epoch == 1
        assert gap.last_frame_ns is not None
        assert gap.last_frame_ns <= gap.received_ns
        again = await told.wait(StreamConnected, 2)
        assert again.epoch == 2
        await stream.wait_subscribed()
        sent = [await venue.next("subscribe") for _ in range(4)]
        assert [message["subscription"] for message in sent] == [BBO, MIDS, BBO, MIDS]
        assert len(venue.connections) == 2


async def test_subscribe_while_disconnected_is_sent_with_the_next_connection() -> None:
    """Wanted is wanted, connected or not."""
    async with running() as (venue, stream, told):
        venue.acknowledge = False
        await venue.cut()
        await told.wait(StreamDisconnected)
        await stream.subscribe(BBO)
        assert (await venue.next("subscribe"))["subscription"] == BBO
        await told.wait(StreamConnected, 2)
        assert stream.session.unacknowledged() == (BBO,)


async def test_unsubscribe_is_sent_and_not_repeated_after_a_reconnect() -> None:
    """What is no longer wanted stays away."""
    async with running() as (venue, stream, told):
        await stream.subscribe(BBO)
        await stream.subscribe(MIDS)
        await stream.unsubscribe(BBO)
        assert (await venue.next("unsubscribe"))["subscription"] == BBO
        await venue.cut()
        await told.wait(StreamConnected, 2)
        await stream.wait_subscribed()
        assert (await venue.next("subscribe"))["subscription"] == MIDS


async def test_refused_subscription_is_told_and_unblocks_those_who_wait() -> None:
    """A bad subscription does not keep the others from being ready."""
    async with running() as (venue, stream, told):
        venue.acknowledge = False
        await stream.subscribe(BBO)
        await venue.next("subscribe")
        await venue.live.send(frame("error", f"Invalid subscription {json.dumps(BBO)}"))
        refused = await told.wait(SubscriptionRefused)
        assert refused.subscription == BBO
        await stream.wait_subscribed()


async def test_post_action_sends_what_was_signed_and_returns_its_own_reply() -> None:
    """Replies out of order, each to its caller."""
    async with running() as (venue, stream, told):
        first = asyncio.create_task(stream.post_action(an_action(1)), name="first")
        one = await venue.next("post")
        second = asyncio.create_task(stream.post_action(an_action(2)), name="second")
        two = await venue.next("post")
        assert one["request"] == {"type": "action", "payload": json.loads(encode_signed(an_action(1)))}
        await venue.live.send(post_reply(two["id"], {"status": "err", "response": "Nonce mismatch."}))
        assert isinstance(await second, Refused)
        await venue.live.send(post_reply(one["id"]))
        assert await first == Accepted(kind="default")
        assert told.of(PostAnswered) == []
        assert [(r.endpoint, r.outcome, r.write) for r in told.records] == [("post.noop", RequestOutcome.OK, True)] * 2


async def test_owner_of_a_post_is_told_once_it_is_written_and_before_its_answer() -> None:
    """The frame has left: whoever waits for no more than that goes on."""
    async with running() as (venue, stream, _):
        told: list[bool] = []
        written = asyncio.Event()

        def on_written() -> None:
            told.append(waiting.done())
            written.set()

        waiting = asyncio.create_task(stream.post_action(an_action(), on_written=on_written), name="post")
        message = await venue.next("post")
        await written.wait()
        await venue.live.send(post_reply(message["id"]))
        await waiting
        assert told == [False]


async def test_post_action_cut_off_before_its_reply_is_outcome_unknown() -> None:
    """Written and then the connection broke: in doubt, and the next connection does not resend it."""
    async with running() as (venue, stream, told):
        waiting = asyncio.create_task(stream.post_action(an_action()), name="post")
        await venue.next("post")
        await venue.cut()
        with pytest.raises(OutcomeUnknown) as caught:
            await waiting
        assert caught.value.sent is Sent.MAYBE
        await told.wait(StreamConnected, 2)
        await stream.socket.wait_connected()
        assert venue.messages.empty()
        assert len(stream.session.in_flight) == 0
        assert told.records[-1].outcome is RequestOutcome.LOST


@pytest.mark.parametrize("replies", [True, False])
async def test_post_action_whose_write_broke_waits_for_a_reply_that_may_be_on_its_way(
    replies: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The frame may have left: a reply among the frames not yet read still counts, else the outcome is unknown."""
    async with running() as (venue, stream, _):
        really_send = stream.socket.send

        async def send_and_break(data: str | bytes, **options: Any) -> int:
            await really_send(data, **options)
            raise OutcomeUnknown("the connection broke during a write")

        monkeypatch.setattr(stream.socket, "send", send_and_break)
        waiting = asyncio.create_task(stream.post_action(an_action()), name="post")
        message = await venue.next("post")
        if replies:
            await venue.live.send(post_reply(message["id"]))
            assert await waiting == Accepted(kind="default")
        else:
            await venue.cut()
            with pytest.raises(OutcomeUnknown):
                await waiting
        assert len(stream.session.in_flight) == 0


async def test_post_action_while_disconnected_is_unavailable_and_not_sent() -> None:
    """Nothing left the process, so another way may be tried at once."""
    async with running() as (venue, stream, told):
        disconnected = asyncio.Event()
        written: list[bool] = []

        async def on_event(event: HyperCoreEvent) -> None:
            if isinstance(event, StreamDisconnected) and not disconnected.is_set():
                with pytest.raises(VenueUnavailable) as caught:
                    await stream.post_action(an_action(), on_written=lambda: written.append(True))
                assert caught.value.sent is Sent.NO
                disconnected.set()

        told.react = on_event
        await stream.socket.wait_connected()
        stream.socket.reconnect("test")
        await disconnected.wait()
        assert venue.messages.empty() and written == []
        assert told.records[-1].outcome is RequestOutcome.NOT_CONNECTED


async def test_post_action_without_a_reply_in_time_is_outcome_unknown_and_its_late_reply_is_told() -> None:
    """The caller is told the truth at its deadline; the callback gets the reply with the caller's tag."""
    async with running() as (venue, stream, told):
        with pytest.raises(OutcomeUnknown):
            await stream.post_action(an_action(), timeout_s=0.05, tag="order-7")
        message = await venue.next("post")
        await venue.live.send(post_reply(message["id"]))
        late = await told.wait(PostAnswered)
        assert (late.late, late.tag) == (True, "order-7")
        assert late.reply.answer == Accepted(kind="default")


async def test_post_action_cancelled_while_waiting_leaves_its_reply_to_the_callback() -> None:
    """A caller that goes away does not take the answer with it."""
    async with running() as (venue, stream, told):
        waiting = asyncio.create_task(stream.post_action(an_action(), tag="order-8"), name="post")
        message = await venue.next("post")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await venue.live.send(post_reply(message["id"]))
        late = await told.wait(PostAnswered)
        assert (late.late, late.tag) == (True, "order-8")
        lost, answer = told.records[-2:]
        assert lost.outcome is RequestOutcome.CANCELED
        assert (answer.outcome, answer.endpoint) == (RequestOutcome.LATE, "post.late")
        assert b"default" in answer.response_body


@pytest.mark.parametrize(
    ("kind", "payload", "error"),
    [
        ("error", "422: Failed to deserialize", InvalidRequest),
        ("error", "429: Too many requests", RateLimited),
        ("error", "502: Bad gateway", OutcomeUnknown),
        ("error", "a sentence nobody has seen", OutcomeUnknown),
        ("action", {"status": "perhaps"}, OutcomeUnknown),
        ("info", {"type": "meta", "data": {}}, OutcomeUnknown),
        ("comet", {}, OutcomeUnknown),
    ],
)
async def test_post_action_with_another_reply_than_an_answer_is_a_typed_error(
    kind: str, payload: Any, error: type[MeshError]
) -> None:
    """Refused unread is said so; everything unreadable leaves the outcome unknown."""
    async with running() as (venue, stream, _):
        waiting = asyncio.create_task(stream.post_action(an_action()), name="post")
        message = await venue.next("post")
        await venue.live.send(post_reply(message["id"], payload, kind))
        with pytest.raises(error):
            await waiting


async def test_post_info_answers_as_rest_does() -> None:
    """Typed by the request's type; a lost reply of a read is unavailability, an ill-typed one a violation."""
    async with running() as (venue, stream, _):
        request = {"type": "allMids", "dex": ""}
        waiting = asyncio.create_task(stream.post_info(request), name="info")
        message = await venue.next("post")
        assert message["request"] == {"type": "info", "payload": request}
        data = {"type": "allMids", "data": {"BTC": "1.5"}}
        await venue.live.send(post_reply(message["id"], data, "info"))
        assert await waiting == {"BTC": Decimal("1.5")}

        waiting = asyncio.create_task(stream.post_info(request), name="info")
        message = await venue.next("post")
        await venue.live.send(post_reply(message["id"], {"type": "allMids", "data": 5}, "info"))
        with pytest.raises(ProtocolViolation):
            await waiting

        with pytest.raises(VenueUnavailable):
            await stream.post_info(request, timeout_s=0.02)


async def test_replies_reach_their_callers_while_the_callback_is_stuck() -> None:
    """A slow consumer of market data does not hold up an order's answer."""
    async with running() as (venue, stream, told):
        release = asyncio.Event()

        async def on_event(event: HyperCoreEvent) -> None:
            if isinstance(event, StreamEvent) and isinstance(event.event, DataFrame):
                await release.wait()

        told.react = on_event
        await venue.live.send(frame("allMids", {"mids": {}}))
        await told.wait(DataFrame)
        waiting = asyncio.create_task(stream.post_action(an_action()), name="post")
        message = await venue.next("post")
        await venue.live.send(post_reply(message["id"]))
        assert await waiting == Accepted(kind="default")
        release.set()


async def test_callback_may_post_itself() -> None:
    """Replies do not pass through the callback, so waiting in it is no deadlock."""
    async with running() as (venue, stream, told):
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def on_event(event: HyperCoreEvent) -> None:
            if isinstance(event, StreamEvent) and isinstance(event.event, DataFrame):
                answered.set_result(await stream.post_action(an_action()))

        told.react = on_event
        await venue.live.send(frame("allMids", {"mids": {}}))
        message = await venue.next("post")
        await venue.live.send(post_reply(message["id"]))
        assert await answered == Accepted(kind="default")


async def test_callback_too_slow_for_the_stream_cuts_the_connection_and_tells_the_gap() -> None:
    """The queue is bounded: what no longer fits is a visible gap, never silently missing in the middle."""
    async with running(bounds(queue_events=5)) as (venue, _, told):
        release = asyncio.Event()

        async def on_event(event: HyperCoreEvent) -> None:
            if isinstance(event, StreamEvent):
                await release.wait()

        told.react = on_event
        first = venue.live
        for n in range(50):
            await first.send(frame("allMids", {"mids": {"N": str(n)}}))
        await first.wait_closed()
        release.set()
        gap = await told.wait(StreamDisconnected)
        assert gap.reason is DisconnectReason.REQUESTED
        seen = [int(data.data.mids["N"]) for data in told.of(DataFrame)]
        assert seen == list(range(len(seen)))
        assert 5 <= len(seen) < 50
        await told.wait(StreamConnected, 2)


async def test_unreadable_and_unknown_frames_are_told_and_do_not_end_the_stream() -> None:
    """What cannot be read is an event; what follows it still arrives."""
    async with running() as (venue, _, told):
        for sent in ("rubbish", frame("comets", {}), frame("trades", 5), frame("allMids", {"mids": {}})):
            await venue.live.send(sent)
        await told.wait(DataFrame)
        assert len(told.of(UnreadableFrame)) == 2
        assert len(told.of(UnknownFrame)) == 1


async def test_heartbeat_is_the_venues_own_ping() -> None:
    """Quiet subscribers must ping, or the venue closes after 60 s."""
    async with running(bounds(heartbeat_s=0.02)) as (venue, _, _):
        assert await venue.next("ping") == {"method": "ping"}


async def test_stopping_delivers_a_last_disconnect_and_fails_those_who_wait() -> None:
    """A drain leaves nobody waiting: the post is in doubt, the consumer knows that the stream ended."""
    async with running() as (venue, stream, told):
        waiting = asyncio.create_task(stream.post_action(an_action()), name="post")
        await venue.next("post")
    with pytest.raises(OutcomeUnknown):
        await waiting
    (end,) = told.of(StreamDisconnected)
    assert end.reason is DisconnectReason.STOPPED


async def test_acknowledgements_are_events_too() -> None:
    """A gateway can show each subscription's state."""
    async with running() as (_, stream, told):
        await stream.subscribe({"type": "userFills", "user": USER})
        acknowledged = await told.wait(SubscriptionAcknowledged)
        assert acknowledged.matched
        assert acknowledged.subscription == {"type": "userFills", "user": USER}
