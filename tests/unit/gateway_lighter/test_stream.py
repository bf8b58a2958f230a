"""The stream over a real loopback WebSocket: reconnects, gaps, transactions with lost, late and refused replies."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from gateway_lighter.codec_book import BookChanged, BookGap
from gateway_lighter.codec_verdicts import Queued
from gateway_lighter.limits import REST, WS_MESSAGES, TierLimits
from gateway_lighter.refusals import RefusalMeaning
from gateway_lighter.session import BookEvent, LighterSession, SubscriptionAcknowledged, TransactionAnswered
from gateway_lighter.signing import SignedTransaction
from gateway_lighter.stream import LighterStream, StreamConfig, limited_socket_config
from gateway_lighter.stream_events import LighterEvent
from gateway_lighter.transactions import CancelOrder
from tests.streams import Listener, link
from tests.unit.gateway_lighter.support import FIXTURES, ORDER, SIGNER, recording
from venuemesh.clock import SystemClock
from venuemesh.errors import OutcomeUnknown, RateLimited, Reason, Sent, VenueUnavailable
from venuemesh.transport.backoff import BackoffPolicy
from venuemesh.transport.gate import LimiterGate
from venuemesh.transport.limiter import Limiter, LimiterQueue
from venuemesh.transport.observer import RequestOutcome
from venuemesh.transport.session import DisconnectReason, SocketConfig, StreamConnected, StreamDisconnected, StreamEvent

SIGNED = SIGNER.sign(ORDER, nonce=1, expired_at_ms=1)
CANCEL = SIGNER.sign(CancelOrder(market_index=1, index=7), nonce=2, expired_at_ms=1)
BOOK_BODY: dict[str, Any] = {"asks": [], "bids": [{"price": "1.0", "size": "2"}], "begin_nonce": 0}


def queued(message: dict[str, Any], signed: SignedTransaction = SIGNED) -> dict[str, Any]:
    """The venue's acknowledgement of a message."""
    return {"type": "jsonapi/sendtx", "code": 200, "id": message["data"]["id"], "tx_hash": signed.tx_hash}


@dataclass
class Venue:
    """A WebSocket server that greets and serves subscriptions, and lets the test answer everything else."""

    url: str = ""
    connections: list[ServerConnection] = field(default_factory=list)
    messages: asyncio.Queue[dict[str, Any]] = field(default_factory=asyncio.Queue)
    serves: bool = True
    nonce: int = 10

    @property
    def live(self) -> ServerConnection:
        return self.connections[-1]

    async def say(self, message: dict[str, Any]) -> None:
        """A frame on the live connection."""
        await self.live.send(json.dumps(message))

    async def handle(self, connection: ServerConnection) -> None:
        self.connections.append(connection)
        await connection.send(json.dumps({"session_id": "x", "type": "connected"}))
        async for raw in connection:
            message = json.loads(raw)
            channel = message.get("channel", "").replace("/", ":")
            if message["type"] == "subscribe" and self.serves:
                kind = channel.split(":")[0]
                body = {"order_book": {**BOOK_BODY, "nonce": self.nonce}} if kind == "order_book" else {"orders": {}}
                await connection.send(json.dumps({"type": f"subscribed/{kind}", "channel": channel, **body}))
            if message["type"] == "unsubscribe":
                await connection.send(json.dumps({"type": "unsubscribed", "channel": channel}))
            await self.messages.put(message)

    async def next(self, kind: str) -> dict[str, Any]:
        """The next message of a type, over whatever connection."""
        while True:
            message = await self.messages.get()
            if message["type"] == kind:
                return message


def books(told: Listener, kind: type) -> list[BookEvent]:
    """Book events with this outcome."""
    return [event for event in told.of(BookEvent) if isinstance(event.outcome, kind)]


def gate_of(limits: TierLimits) -> LimiterGate:
    """A gate over a tier's budgets."""
    return LimiterGate(LimiterQueue(Limiter(limits.budget_specs())), SystemClock())


@asynccontextmanager
async def running(
    *, config: StreamConfig | None = None, gate: LimiterGate | None = None, private: bool = False
) -> AsyncIterator[tuple[Venue, LighterStream, Listener]]:
    """A venue and a connected stream."""
    venue, told = Venue(), Listener()
    async with asyncio.timeout(60), serve(venue.handle, "127.0.0.1", 0) as server:
        venue.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/stream"
        stream = LighterStream(
            link(url=venue.url, gate=gate, observer=told),
            on_event=told,
            session=LighterSession(token=(lambda: "tok") if private else None),
            config=config or fast_config(),
        )
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(stream.run(), name="stream")
            await stream.socket.wait_connected()
            try:
                yield venue, stream, told
            finally:
                task.cancel()


def fast_config(**changes: Any) -> StreamConfig:
    """Quick reconnects, with changes."""
    socket = SocketConfig(backoff=BackoffPolicy(initial_s=0.001, cap_s=0.002), close_timeout_s=0.5)
    return StreamConfig(socket=socket, **changes)


async def test_channels_are_served_again_after_the_connection_breaks() -> None:
    """Private first with its token, each with a new snapshot; the break is told in between."""
    async with running(private=True) as (venue, stream, told):
        stream.subscribe("order_book/1")
        stream.subscribe("account_all_orders/7", private=True)
        await stream.wait_subscribed()
        venue.live.transport.abort()
        await told.wait(SubscriptionAcknowledged, 4)
        await stream.wait_subscribed()
        order = [
            type(event.event if isinstance(event, StreamEvent) else event).__name__
            for event in told.events
            if not isinstance(event, StreamEvent) or isinstance(event.event, SubscriptionAcknowledged)
        ]
        acknowledged = "SubscriptionAcknowledged"
        assert (
            order
            == ["StreamConnected", acknowledged, acknowledged, "StreamDisconnected", "StreamConnected"]
            + [acknowledged] * 2
        )
        again = [await venue.next("subscribe") for _ in range(4)][2:]
        assert again == [
            {"type": "subscribe", "channel": "account_all_orders/7", "auth": "tok"},
            {"type": "subscribe", "channel": "order_book/1"},
        ]
        lost = told.of(StreamDisconnected)[0]
        assert lost.last_frame_ns is not None and lost.reason is DisconnectReason.PEER_CLOSED


async def test_book_gap_is_told_and_repaired_by_a_fresh_snapshot() -> None:
    """Unsubscribe, acknowledgement, subscribe, snapshot."""
    async with running() as (venue, stream, told):
        stream.subscribe("order_book/1")
        await stream.wait_subscribed()
        venue.nonce = 50
        broken = {**BOOK_BODY, "begin_nonce": 20, "nonce": 21}
        await venue.say({"type": "update/order_book", "channel": "order_book:1", "order_book": broken})
        await told.wait(SubscriptionAcknowledged, 2)
        await told.wait(BookEvent, 3)
        assert [type(event.outcome) for event in told.of(BookEvent)] == [BookChanged, BookGap, BookChanged]
        assert stream.session.book("order_book/1").nonce == 50  # type: ignore[union-attr]


@pytest.mark.skipif(not FIXTURES.is_dir(), reason="no recorded payloads: set VENUEMESH_FIXTURES to their folder")
async def test_recorded_book_is_followed_over_the_wire() -> None:
    """The venue's own frames, one snapshot and six updates."""
    frames = recording("ws_order_book.crv.json")
    async with running() as (venue, stream, told):
        venue.serves = False
        stream.subscribe("order_book/36")
        await venue.next("subscribe")
        for one in frames:
            await venue.say(one)
        last = await told.wait(BookEvent, len(frames))
        assert len(books(told, BookGap)) == 0
        assert last.outcome.nonce == frames[-1]["order_book"]["nonce"]
        assert last.bids[0].price < last.asks[0].price


async def test_server_ping_is_answered() -> None:
    """Or the server closes with 1008."""
    async with running() as (venue, _, _):
        await venue.say({"type": "ping"})
        assert await venue.next("pong") == {"type": "pong"}


async def test_subscription_that_is_never_answered_is_given_up_and_asked_again() -> None:
    """A new connection, not a wait for ever."""
    async with running(config=fast_config(subscribe_timeout_s=0.05)) as (venue, stream, told):
        venue.serves = False
        stream.subscribe("order_book/1")
        await venue.next("subscribe")
        lost = await told.wait(StreamDisconnected)
        assert "order_book:1" in lost.detail
        venue.serves = True
        await stream.wait_subscribed()


async def test_refusal_that_may_pass_is_tried_again_on_a_new_connection() -> None:
    """30012 failed to subscribe."""
    async with running() as (venue, stream, told):
        venue.serves = False
        stream.subscribe("order_book/1")
        await venue.next("subscribe")
        venue.serves = True
        await venue.say({"type": "error", "code": 30012, "channel": "order_book:1", "message": "failed to subscribe"})
        await told.wait(StreamConnected, 2)
        await stream.wait_subscribed()


async def test_unsubscribe_and_resubscribe_reach_the_venue() -> None:
    """A fresh snapshot on request, and silence afterwards."""
    async with running() as (venue, stream, told):
        stream.subscribe("order_book/1")
        await stream.wait_subscribed()
        stream.resubscribe("order_book/1")
        assert (await venue.next("unsubscribe"))["channel"] == "order_book/1"
        await told.wait(SubscriptionAcknowledged, 2)
        stream.unsubscribe("order_book/1")
        assert (await venue.next("unsubscribe"))["channel"] == "order_book/1"
        assert stream.session.channels == ()
        await stream.wait_subscribed()


async def test_nothing_wanted_is_everything_served() -> None:
    """Waiting for no channel ends."""
    async with running() as (_, stream, _):
        await stream.wait_subscribed()
        assert stream.connected


async def test_message_budget_that_is_spent_for_long_costs_the_connection_and_not_the_channel() -> None:
    """The venue closed the budget: what could not be said is said on the next connection."""
    limits = TierLimits()
    gate = gate_of(limits)
    gate.penalise([WS_MESSAGES], 600.0)
    async with running(gate=gate) as (venue, stream, told):
        stream.subscribe("order_book/1")
        assert "local limit" in (await told.wait(StreamDisconnected)).detail
        await stream.wait_subscribed()
        assert (await venue.next("subscribe"))["channel"] == "order_book/1"


# --- transactions ------------------------------------------------------------------------------------------


async def test_transaction_acknowledged_is_queued() -> None:
    """`on_written` comes before the answer; the record names the link."""
    async with running() as (venue, stream, told):
        written = asyncio.Event()
        sending = asyncio.create_task(stream.send_transactions([SIGNED], on_written=written.set), name="send")
        message = await venue.next("jsonapi/sendtx")
        await written.wait()
        assert not sending.done()
        await venue.say(queued(message))
        answer = await sending
        assert isinstance(answer, Queued) and answer.tx_hashes == (SIGNED.tx_hash,)
        (record,) = told.records
        assert (record.outcome, record.endpoint, record.write) == (RequestOutcome.OK, "sendtx", True)


async def test_transaction_refused_at_once_is_an_answer() -> None:
    """With its code and meaning."""
    async with running() as (venue, stream, _):
        sending = asyncio.create_task(stream.send_transactions([SIGNED]), name="send")
        message = await venue.next("jsonapi/sendtx")
        await venue.say({"error": {"code": 21104, "message": "invalid nonce"}, "id": message["data"]["id"]})
        answer = await sending
        assert isinstance(answer, RefusalMeaning) and answer.reason is Reason.NONCE_REJECTED


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        ({"error": {"code": 29500, "message": "internal server error"}}, OutcomeUnknown),
        ({"error": {"code": 77777, "message": "new"}}, OutcomeUnknown),
        ({"type": "jsonapi/sendtx", "code": 200, "tx_hash": "00"}, OutcomeUnknown),
        ({"type": "jsonapi/sendtx", "code": 200}, OutcomeUnknown),
        ({"error": {"code": 30010, "message": "Too Many Inflight Messages!"}}, RateLimited),
    ],
)
async def test_reply_that_proves_nothing_is_outcome_unknown_and_a_limit_is_not(
    reply: dict[str, Any], error: type[Exception]
) -> None:
    """Server fault, unknown code, another hash, no hash; and a limit, which the venue answers unread."""
    async with running() as (venue, stream, _):
        sending = asyncio.create_task(stream.send_transactions([SIGNED]), name="send")
        message = await venue.next("jsonapi/sendtx")
        await venue.say({**reply, "id": message["data"]["id"]})
        with pytest.raises(error):
            await sending


async def test_transaction_whose_connection_breaks_is_outcome_unknown_and_is_not_sent_again() -> None:
    """One message at the venue, ever."""
    async with running() as (venue, stream, told):
        sending = asyncio.create_task(stream.send_transactions([SIGNED]), name="send")
        await venue.next("jsonapi/sendtx")
        venue.live.transport.abort()
        with pytest.raises(OutcomeUnknown) as unknown:
            await sending
        assert unknown.value.sent is Sent.MAYBE
        await told.wait(StreamConnected, 2)
        second = asyncio.create_task(stream.send_transactions([CANCEL]), name="send")
        message = await venue.next("jsonapi/sendtx")
        assert message["data"]["tx_type"] == 15
        await venue.say(queued(message, CANCEL))
        await second


async def test_transaction_without_a_reply_in_time_is_unknown_and_its_late_reply_is_told() -> None:
    """The late reply settles what the caller gave up on."""
    async with running() as (venue, stream, told):
        with pytest.raises(OutcomeUnknown, match="no reply"):
            await stream.send_transactions([SIGNED], timeout_s=0.02, tag="order-1")
        await venue.say(queued(await venue.next("jsonapi/sendtx")))
        late = await told.wait(TransactionAnswered)
        assert late.late and late.tag == "order-1"


async def test_transaction_when_not_connected_is_certainly_not_sent() -> None:
    """The caller may try HTTP."""
    stream = LighterStream(link(), on_event=Listener())
    with pytest.raises(VenueUnavailable) as refused:
        await stream.send_transactions([SIGNED])
    assert refused.value.sent is Sent.NO
    assert len(stream.session.in_flight) == 0


async def test_order_beyond_the_budget_is_refused_here_and_a_cancel_still_passes() -> None:
    """Standard tier: the last ten of sixty belong to cancels; nothing refused here was sent."""
    limits = TierLimits()
    gate = gate_of(limits)
    gate.charge(REST, 50)
    async with running(gate=gate) as (venue, stream, told):
        with pytest.raises(RateLimited) as limited:
            await stream.send_transactions([SIGNED], timeout_s=0.01)
        assert limited.value.sent is Sent.NO and limited.value.reason is Reason.RATE_LIMIT_LOCAL
        assert told.records == [] and len(stream.session.in_flight) == 0
        cancelling = asyncio.create_task(stream.send_transactions([CANCEL]), name="cancel")
        await venue.say(queued(await venue.next("jsonapi/sendtx"), CANCEL))
        await cancelling


async def test_order_that_would_expire_before_there_is_room_is_refused_at_once() -> None:
    """It is not held back to be refused by the venue; a cancel waits for as long as its caller does."""
    gate = gate_of(TierLimits())
    gate.charge(REST, 60)
    soon = SIGNER.sign(ORDER, nonce=9, expired_at_ms=time.time_ns() // 1_000_000 + 1_000)
    async with running(gate=gate) as (_, stream, told):
        with pytest.raises(RateLimited) as limited:
            await stream.send_transactions([soon], timeout_s=3_600.0)
        assert limited.value.sent is Sent.NO
        assert told.records == [] and len(stream.session.in_flight) == 0
        cancelling = asyncio.create_task(stream.send_transactions([CANCEL], timeout_s=3_600.0), name="cancel")
        while gate.waiting == 0:
            await asyncio.sleep(0)
        cancelling.cancel()


async def test_cancelled_send_frees_its_waiter_and_tells_the_reply_as_late() -> None:
    """The transaction may well be at the venue."""
    async with running() as (venue, stream, told):
        sending = asyncio.create_task(stream.send_transactions([SIGNED], tag="x"), name="send")
        message = await venue.next("jsonapi/sendtx")
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        await venue.say(queued(message))
        assert (await told.wait(TransactionAnswered)).tag == "x"
        assert told.records[0].outcome is RequestOutcome.CANCELED


async def test_callback_too_slow_for_the_stream_cuts_the_connection() -> None:
    """The gap is visible: a disconnect, then fresh snapshots; replies are not held up meanwhile."""
    release = asyncio.Event()

    async def slow(event: LighterEvent) -> None:
        if isinstance(event, StreamEvent):
            await release.wait()

    async with running(config=fast_config(queue_events=3)) as (venue, stream, told):
        told.react = slow
        stream.subscribe("ticker/1")
        await venue.next("subscribe")
        side = {"price": "1", "size": "1"}
        for _ in range(10):
            await venue.say(
                {"type": "update/ticker", "channel": "ticker:1", "ticker": {"s": "A", "a": side, "b": side}}
            )
        first = venue.live
        await first.wait_closed()
        release.set()
        lost = await told.wait(StreamDisconnected)
        assert "too slow" in lost.detail


def test_default_bounds_keep_the_link_alive() -> None:
    """A heartbeat well within the venue's two minutes, and connects charged."""
    config = limited_socket_config()
    assert config.heartbeat_interval_s < config.silence_timeout_s < 120
    assert config.connect_budget is not None and config.message_budget is None
