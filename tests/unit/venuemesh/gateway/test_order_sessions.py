"""Order sessions of a gateway: logon, requests and answers, the lease, and what becomes of the orders at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from tests.fakes_venue import Down, FakeVenue, Held, Lost
from tests.unit.venuemesh.gateway.gateway_world import (
    MemoryBus,
    World,
    gateway,
    new_order,
    until,
)
from tests.unit.venuemesh.gateway.session_chat import Chat, TickingClock, chat
from venuemesh import session_stream
from venuemesh.errors import AccountNotFound, InvalidRequest, MeshError, PermissionDenied, Reason, SessionGone
from venuemesh.gateway.facts import ProvedAbsent
from venuemesh.gateway.orders import OrderState, reason_number
from venuemesh.gateway.session_book import OpenSession
from venuemesh.gateway.venue import Refused
from venuemesh.order_session import MAX_UNDER_WAY, Kind
from venuemesh.v1 import operations_pb2, order_pb2, stream_pb2
from venuemesh.v1 import order_service_pb2 as wire

NEW, CANCELED = order_pb2.ORDER_STATUS_NEW, order_pb2.ORDER_STATUS_CANCELED
ACKNOWLEDGED = wire.SUBMIT_OUTCOME_ACKNOWLEDGED


@asynccontextmanager
async def ticking(**options: Any) -> AsyncIterator[World]:
    """A gateway whose streams wait by the test's clock."""
    clock = TickingClock()
    async with gateway(clock=clock, pause=clock.pause, **options) as world:
        yield world


def order(world: World, key: str) -> OrderState:
    """An order that must be there."""
    found = world.account.order_by_key(key)
    assert found is not None
    return found


async def canceled(world: World, *keys: str) -> None:
    """Wait until these are cancelled."""
    for key in keys:
        state = order(world, key)
        assert await world.core.desk.waits.until(state, lambda now: now.status == CANCELED, 10.0), key
        assert order(world, key).status == CANCELED


def working(world: World) -> list[str]:
    """Keys of orders that have not ended."""
    return [one.terms.client_order_id for one in world.account.open_orders()]


# --- logon ---


async def test_logon_is_acknowledged_with_the_place_where_its_events_begin() -> None:
    """The header is the account's numbering, so a later stream can go on behind it."""
    async with gateway() as world:
        await world.submit("k0")
        await world.durable()
        one = Chat()
        one.call = asyncio.create_task(world.orders.OpenOrderSession(one.requests(), one))
        one.send(logon=wire.SessionLogon(account_id="main", lease=Duration(seconds=9)))
        message = await one.next("acknowledgement")
        assert message.header.sequence == world.core.log.sequence("main")
        assert message.header.epoch == world.core.log.epoch
        assert (message.request_number, message.acknowledgement.heartbeat_interval_ms) == (1, 3_000)
        assert message.acknowledgement.stream_id in world.core.desk.sessions
        one.hang_up()
        await one.ended()


@pytest.mark.parametrize(
    ("logon", "error", "field"),
    [
        ({"account_id": "nobody"}, AccountNotFound, "logon.account_id"),
        ({"account_id": ""}, InvalidRequest, "logon.account_id"),
        ({"account_id": "main", "venue": "elsewhere"}, InvalidRequest, "logon.venue"),
        ({"account_id": "main", "lease": Duration(nanos=1)}, InvalidRequest, "logon.lease"),
        ({"account_id": "main", "lease": Duration(seconds=61)}, InvalidRequest, "logon.lease"),
    ],
)
async def test_logon_that_breaks_a_rule_ends_the_call_by_name(
    logon: dict[str, Any], error: type[MeshError], field: str
) -> None:
    """Nothing was opened, and the error names the field."""
    async with gateway() as world, chat(world, log_on=False) as one:
        one.send(logon=wire.SessionLogon(**logon))
        with pytest.raises(error) as caught:
            await one.ended()
        assert caught.value.field == field
        assert len(world.core.desk.sessions) == 0 and one.heard == []


@pytest.mark.parametrize("first", ["submit", "beat", "hang_up", "empty"])
async def test_call_that_does_not_begin_with_a_logon_is_refused(first: str) -> None:
    """Whatever comes instead, and when nothing comes."""
    async with gateway() as world, chat(world, log_on=False) as one:
        begin: dict[str, Callable[[], None]] = {
            "submit": lambda: one.submit("k1"),
            "beat": one.beat,
            "hang_up": one.hang_up,
            "empty": lambda: one.send(),
        }
        begin[first]()
        with pytest.raises(InvalidRequest, match="logon: is required as the first message") as caught:
            await one.ended()
        assert caught.value.reason is Reason.REQUIRED_FIELD_MISSING
        assert world.venue.placed == []


# --- requests ---


async def test_session_submits_amends_and_cancels_as_the_methods_do() -> None:
    """Each answer says which message it answers; events of its own orders come along, others do not."""
    async with gateway() as world, chat(world) as one:
        one.submit("k1")
        submitted = await one.next("submitted", number=2)
        assert submitted.submitted.outcome == ACKNOWLEDGED
        assert submitted.submitted.order.cancel_on_disconnect and submitted.submitted.order.session_id
        await one.event_of("k1", NEW)
        await world.submit("other")
        reference = wire.OrderReference(client_order_id="k1")
        one.send(replace=wire.ReplaceOrderRequest(reference=reference, request_id="r1", price="101"))
        assert (await one.next("replaced", number=3)).replaced.outcome == ACKNOWLEDGED
        one.cancel("k1")
        assert (await one.next("canceled", number=4)).canceled.outcome == wire.CANCEL_OUTCOME_CANCELED
        await one.event_of("k1", CANCELED)
        events = [message for message in one.heard if message.HasField("event")]
        assert all(message.event.execution_report.order.terms.client_order_id == "k1" for message in events)
        assert working(world) == ["other"]


async def test_cancel_sent_right_behind_its_submit_finds_the_order() -> None:
    """The caller need not wait for the first answer: the cancel does."""
    async with gateway() as world, chat(world) as one:
        one.submit("k1")
        one.cancel("k1")
        assert (await one.next("canceled", number=3)).canceled.outcome == wire.CANCEL_OUTCOME_CANCELED
        assert (await one.next("submitted", number=2)).submitted.order.terms.client_order_id == "k1"
        assert working(world) == []


async def test_key_is_idempotent_across_session_and_method() -> None:
    """A repeat gives the first result and the order stays where it was first submitted."""
    async with gateway() as world, chat(world) as one:
        first = await world.submit("k1")
        one.submit("k1")
        replay = (await one.next("submitted", number=2)).submitted
        assert replay.replayed and replay.order.order_id == first.order.order_id
        assert replay.order.session_id == "" and not replay.order.cancel_on_disconnect
        one.submit("k2")
        await one.next("submitted", number=3)
        assert (await world.submit("k2")).replayed
        one.hang_up()
        await one.ended()
        await canceled(world, "k2")
        assert working(world) == ["k1"] and len(world.venue.placed) == 2


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"submit": wire.SubmitOrderRequest(order=new_order("k", account_id="other"))}, Reason.CONTRADICTORY_FIELDS),
        ({"submit": wire.SubmitOrderRequest(order=new_order("k"), session_id="x")}, Reason.CONTRADICTORY_FIELDS),
        ({"submit": wire.SubmitOrderRequest(order=new_order("k", price="1.3"))}, Reason.PRICE_OFF_TICK),
        ({"submit": wire.SubmitOrderRequest(order=new_order("k", venue="elsewhere"))}, Reason.VENUE_NOT_FOUND),
        ({"submit": wire.SubmitOrderRequest(order=new_order("bad key"))}, Reason.INVALID_CLIENT_ORDER_ID),
        ({"submit": wire.SubmitOrderRequest(order=new_order("k"), ack_level=99)}, Reason.INVALID_ARGUMENT),  # type: ignore[arg-type]
        ({"submit": wire.SubmitOrderRequest()}, Reason.REQUIRED_FIELD_MISSING),
        ({"cancel": wire.CancelOrderRequest()}, Reason.REQUIRED_FIELD_MISSING),
        (
            {"cancel": wire.CancelOrderRequest(reference=wire.OrderReference(client_order_id="never"))},
            Reason.ORDER_NOT_FOUND,
        ),
        ({"replace": wire.ReplaceOrderRequest()}, Reason.REQUIRED_FIELD_MISSING),
        ({"logon": wire.SessionLogon(account_id="main")}, Reason.CONTRADICTORY_FIELDS),
        ({}, Reason.REQUIRED_FIELD_MISSING),
    ],
)
async def test_request_that_cannot_be_attempted_is_answered_and_the_session_goes_on(
    body: dict[str, Any], reason: Reason
) -> None:
    """The error says which message it is about and why."""
    async with gateway() as world, chat(world) as one:
        one.send(**body)
        error = (await one.next("error", number=2)).error
        assert error.error.reason == reason_number(reason) and error.code and error.error.message
        one.submit("k1")
        assert (await one.next("submitted", number=3)).submitted.outcome == ACKNOWLEDGED
        assert len(world.venue.placed) == 1


async def test_message_that_is_not_admitted_is_answered_and_the_session_goes_on() -> None:
    """What the interceptor refuses of one message, for lack of permission or rate, concerns that one."""
    async with gateway() as world:

        class Picky(Chat):
            def requests(self) -> Any:
                source = super().requests()

                class Requests:
                    def __aiter__(self) -> Requests:
                        return self

                    async def __anext__(self) -> Any:
                        message = await anext(source)
                        if message.submit.order.client_order_id == "k1":
                            raise PermissionDenied("not this one")
                        return message

                return Requests()

        one = Picky()
        one.call = asyncio.create_task(world.orders.OpenOrderSession(one.requests(), one))
        one.send(logon=wire.SessionLogon(account_id="main"))
        one.submit("k1")
        one.submit("k2")
        error = (await one.next("error", number=2)).error
        assert error.error.reason == reason_number(Reason.PERMISSION_SCOPE_MISSING)
        assert (await one.next("submitted", number=3)).submitted.outcome == ACKNOWLEDGED
        one.hang_up()
        await one.ended()


async def test_requests_beyond_the_bound_are_not_read_and_cancels_have_room_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Back-pressure: what is not read waits at the caller, and nothing is refused."""
    # However slow the machine is, no submit may be answered for lack of time.
    monkeypatch.setitem(session_stream._LIMIT_S, Kind.SUBMIT, 1_000.0)
    async with gateway() as world:
        go_on = asyncio.Event()
        world.venue.script("place_order", *[Held(go_on) for _ in range(MAX_UNDER_WAY + 2)])
        await world.submit("rests")
        go_on.set()
        await until(lambda: order(world, "rests").status == NEW)
        go_on.clear()
        async with chat(world, cancel_on_disconnect=False) as one:
            for number in range(MAX_UNDER_WAY):
                one.submit(f"k{number}")
            one.cancel("rests")
            assert (await one.next("canceled")).canceled.outcome == wire.CANCEL_OUTCOME_CANCELED
            one.submit("waits")
            one.beat()
            await until(lambda: one._sent.qsize() == 1)
            assert world.account.order_by_key("waits") is None
            go_on.set()
            assert (await one.next("submitted", number=MAX_UNDER_WAY + 3)).submitted.outcome == ACKNOWLEDGED
            await until(lambda: one._sent.qsize() == 0)


async def test_submit_by_itself_can_join_an_open_session_and_no_other() -> None:
    """A router sends the children of its orders so; the answer to one that comes too late is certain."""
    async with gateway() as world, chat(world) as one:
        one.submit("k1")
        session_id = (await one.next("submitted")).submitted.order.session_id
        joined = wire.SubmitOrderRequest(order=new_order("k2"), session_id=session_id)
        assert (await world.orders.SubmitOrder(joined, one)).order.cancel_on_disconnect
        await one.event_of("k2", NEW)
        with pytest.raises(SessionGone) as caught:
            await world.orders.SubmitOrder(wire.SubmitOrderRequest(order=new_order("k3"), session_id="never"), one)
        assert (caught.value.reason, caught.value.field) == (Reason.SESSION_GONE, "session_id")
        one.hang_up()
        await one.ended()
        await canceled(world, "k1", "k2")
        with pytest.raises(SessionGone):
            await world.orders.SubmitOrder(wire.SubmitOrderRequest(order=new_order("k3"), session_id=session_id), one)
        # The key is free, and a repeat of one that was used still gives its first result.
        assert (await world.submit("k3")).outcome == ACKNOWLEDGED
        assert (await world.orders.SubmitOrder(joined, one)).replayed


async def test_session_of_one_account_takes_no_order_of_another() -> None:
    """Also not by a submit that names the session."""
    async with gateway(venue=FakeVenue(accounts=("main", "second"))) as world:
        world.core.sessions.open("s1", OpenSession("second", cancel_on_disconnect=True))
        with pytest.raises(SessionGone, match="of account 'main'"):
            await world.orders.SubmitOrder(wire.SubmitOrderRequest(order=new_order("k1"), session_id="s1"), Chat())


# --- the lease ---


async def test_silent_caller_loses_its_session_and_its_orders() -> None:
    """The closing notice says why, with a place to go on; answers and ends come before it."""
    async with ticking() as world, chat(world, lease_s=5.0) as one:
        one.submit("k1")
        await one.next("submitted")
        world.clock.advance(4.9)
        one.beat()
        await until(lambda: one._sent.qsize() == 0)
        world.clock.advance(4.9)
        assert working(world) == ["k1"]
        world.clock.advance(0.2)
        await canceled(world, "k1")
        end = await one.event_of("k1", CANCELED)
        closing = await one.next("closing")
        assert closing.closing.reason == stream_pb2.CLOSING_REASON_LEASE_EXPIRED
        assert closing.closing.resume_after.sequence >= end.header.sequence
        assert closing.closing.resume_after.epoch == world.core.log.epoch
        await one.ended()


async def test_idle_session_is_told_that_the_gateway_lives() -> None:
    """Heartbeats, three in a lease."""
    async with ticking() as world, chat(world, lease_s=6.0) as one:
        world.clock.advance(2.0)
        beat = await one.next("heartbeat")
        assert beat.heartbeat.link_state == stream_pb2.LINK_STATE_LIVE and beat.header.sequence
        assert world.core.desk.sessions


# --- gone ---


async def test_caller_that_stops_writing_is_gone_at_once_and_hears_the_end() -> None:
    """Cancels are on their way when the half-close is read; their result is told before the stream ends."""
    async with gateway() as world, chat(world) as one:
        for key in ("k1", "k2"):
            one.submit(key)
            await one.event_of(key, NEW)
        one.hang_up()
        await one.event_of("k1", CANCELED)
        await one.event_of("k2", CANCELED)
        assert (await one.next("closing")).closing.reason == stream_pb2.CLOSING_REASON_LOGGED_OUT
        await one.ended()
        assert working(world) == [] and world.core.sessions.left == 0


async def test_broken_call_is_gone_at_once() -> None:
    """Nobody is there to be told; the orders are cancelled all the same."""
    async with gateway() as world:
        async with chat(world) as one:
            one.submit("k1")
            await one.next("submitted")
        await canceled(world, "k1")
        assert len(world.core.desk.sessions) == 0


async def test_session_without_cancel_on_disconnect_leaves_its_orders() -> None:
    """It is a faster way to trade and nothing else."""
    async with gateway() as world:
        async with chat(world, cancel_on_disconnect=False) as one:
            one.submit("k1")
            answer = (await one.next("submitted")).submitted
            assert answer.order.session_id and not answer.order.cancel_on_disconnect
            await one.event_of("k1", NEW)
            one.hang_up()
            await one.ended()
        assert working(world) == ["k1"] and order(world, "k1").status == NEW


async def test_submit_whose_answer_is_on_its_way_when_the_call_breaks_is_cancelled() -> None:
    """It is journalled and sent; the cancel follows whatever the answer is."""
    async with gateway() as world:
        answered = asyncio.Event()
        world.venue.script("place_order", Held(answered))
        async with chat(world) as one:
            one.submit("k1")
            await until(lambda: world.account.order_by_key("k1") is not None)
        answered.set()
        await canceled(world, "k1")


async def test_submit_that_is_being_journalled_when_the_call_breaks_is_cancelled() -> None:
    """The order joins the account only after its session is gone."""
    async with gateway() as world:
        journal, write = world.core.journal, world.core.journal.write_intent
        written = asyncio.Event()

        async def slowly(*arguments: Any) -> None:
            await written.wait()
            await write(*arguments)

        journal.write_intent = slowly  # type: ignore[method-assign]
        async with chat(world) as one:
            one.submit("k1")
            await until(lambda: world.core.desk.in_flight)
        assert world.account.order_by_key("k1") is None
        written.set()
        await until(lambda: world.account.order_by_key("k1") is not None)
        await canceled(world, "k1")


async def test_order_in_doubt_when_the_session_ends_is_settled_and_cancelled() -> None:
    """Its submit took effect and the answer was lost."""
    async with gateway() as world:
        world.venue.pushing = False
        world.venue.script("place_order", Lost())
        world.venue.script("fetch_order", Down())
        async with chat(world) as one:
            one.submit("k1")
            assert (await one.next("submitted")).submitted.outcome == wire.SUBMIT_OUTCOME_UNKNOWN
        await canceled(world, "k1")


async def test_cancel_that_the_venue_refuses_is_tried_again() -> None:
    """An alert lasts until the order has ended."""
    async with gateway() as world:
        told = list[operations_pb2.Alert]()
        world.core.alerts.listeners.append(told.append)
        no = Refused(reason=Reason.RATE_LIMIT_VENUE, text="too many requests")
        world.venue.script("cancel_order", no, no)
        async with chat(world) as one:
            one.submit("k1")
            await one.next("submitted")
        await until(lambda: world.core.sessions.left == 1)
        for _ in range(2):
            await until(lambda: any(not row.busy for row in world.core.sessions._left.values()))
            world.clock.advance(1.0)
            world.core.sessions._wake.set()
            await asyncio.sleep(0)
        await until(lambda: world.core.alerts.lasting())
        world.clock.advance(5.0)
        world.core.sessions._wake.set()
        await canceled(world, "k1")
        assert [(alert.kind, alert.HasField("end_time")) for alert in told] == [
            ("order_session_left_orders", False),
            ("order_session_left_orders", True),
        ]
        assert "k1" not in told[0].message and order(world, "k1").order_id in told[0].message


async def test_order_that_comes_back_to_life_after_its_session_is_cancelled() -> None:
    """It was held never to have reached the venue, and the venue shows it all the same."""
    async with gateway() as world:
        world.venue.pushing = False
        world.venue.script("place_order", Lost())
        world.venue.script("fetch_order", *[Down() for _ in range(50)])
        async with chat(world) as one:
            one.submit("k1")
            await one.next("submitted")
            world.account.apply(order(world, "k1").order_id, ProvedAbsent(evidence="wrongly concluded"))
            assert order(world, "k1").terminal
        await until(lambda: len(world.core.desk.sessions) == 0)
        world.venue.pushing = True
        world.core.intake.on_order("main", world.venue.order_of(world.venue.placed[-1]))
        assert order(world, "k1").status == NEW
        await canceled(world, "k1")


async def test_drain_cancels_the_orders_before_the_gateway_leaves() -> None:
    """Nobody would watch the lease any more; the notice carries the place to go on elsewhere."""
    async with gateway() as world, chat(world) as one:
        one.submit("k1")
        await one.next("submitted")
        world.core.drain()
        one.submit("k2")
        refused = (await one.next("error", number=3)).error
        assert refused.error.reason == reason_number(Reason.GATEWAY_DRAINING)
        world.drain.begin()
        closing = (await one.next("closing")).closing
        assert closing.reason == stream_pb2.CLOSING_REASON_DRAINING and closing.resume_after.sequence
        await one.ended()
        assert working(world) == []


async def test_caller_that_does_not_read_loses_its_session() -> None:
    """Its orders do not wait until the transport takes the notice."""
    async with ticking(capacity=4) as world, chat(world, lease_s=60.0) as one:
        one.submit("k1")
        await one.event_of("k1", NEW)
        one.reading.clear()
        for number in range(8):
            one.cancel(f"never{number}")
        await canceled(world, "k1")
        one.reading.set()
        closing = (await one.next("closing")).closing
        assert closing.reason == stream_pb2.CLOSING_REASON_SLOW_CONSUMER
        await one.ended()


async def test_gate_that_refuses_submits_of_a_session_passes_its_cancels() -> None:
    """The gates of the desk are those of the methods."""
    async with gateway() as world, chat(world) as one:
        one.submit("k1")
        await one.next("submitted")
        world.core.desk.gates["main"].ready = False
        one.submit("k2")
        error = (await one.next("error", number=3)).error
        assert error.error.reason == reason_number(Reason.STREAM_RECONCILING)
        one.cancel("k1")
        assert (await one.next("canceled", number=4)).canceled.outcome == wire.CANCEL_OUTCOME_CANCELED


async def test_sessions_leave_nothing_behind() -> None:
    """However many there were."""
    async with gateway() as world:
        for number in range(30):
            async with chat(world) as one:
                one.submit(f"k{number}")
                await one.next("submitted")
        await canceled(world, *(f"k{number}" for number in range(30)))
        sessions = world.core.sessions
        await until(lambda: not world.core._under_way)
        kept = (sessions._left, sessions._of_session, sessions._cleared, sessions._to_settle, world.core.desk.sessions)
        assert not any(len(one) for one in kept) and len(world.hub) == 0


# --- after a crash ---


async def test_gateway_that_was_killed_cancels_what_the_session_left() -> None:
    """Its caller's connection is gone by definition; orders of no session stay."""
    venue, bus, clock = FakeVenue(), MemoryBus(), TickingClock()
    left = Chat()
    async with gateway(venue=venue, bus=bus, clock=clock) as world:
        await world.submit("stays")
        call = asyncio.create_task(world.orders.OpenOrderSession(left.requests(), left))
        left.send(logon=wire.SessionLogon(account_id="main", cancel_on_disconnect=True))
        left.submit("k1")
        await left.next("submitted")
        await world.durable()
    async with gateway(venue=venue, bus=bus, clock=clock) as world:
        await canceled(world, "k1")
        assert working(world) == ["stays"]
    call.cancel()
    await asyncio.wait([call])


async def test_gateway_killed_between_the_intent_and_its_event_cancels_the_order() -> None:
    """The intent alone says that the order ends with its session."""
    venue, bus, clock = FakeVenue(), MemoryBus(), TickingClock()
    left = Chat()
    async with gateway(venue=venue, bus=bus, clock=clock) as world:
        await world.durable()
        bus.holding = True
        call = asyncio.create_task(world.orders.OpenOrderSession(left.requests(), left))
        left.send(logon=wire.SessionLogon(account_id="main", cancel_on_disconnect=True))
        left.submit("k1")
        await left.next("submitted")
        # What was not stored when the process died never will be.
        bus._held.clear()
    bus.holding = False
    async with gateway(venue=venue, bus=bus, clock=clock) as world:
        await canceled(world, "k1")
        assert order(world, "k1").cancel_on_disconnect
    call.cancel()
    await asyncio.wait([call])


async def test_gateway_killed_between_the_end_of_the_session_and_its_cancels_cancels_them() -> None:
    """That a session has ended is not written anywhere, and need not be."""
    venue, bus, clock = FakeVenue(), MemoryBus(), TickingClock()
    async with gateway(venue=venue, bus=bus, clock=clock) as world:
        venue.script("cancel_order", *[Down("the link is gone") for _ in range(20)])
        async with chat(world) as one:
            one.submit("k1")
            await one.next("submitted")
        await until(lambda: world.core.sessions.left == 1)
        await world.durable()
    venue._scripts.clear()
    async with gateway(venue=venue, bus=bus, clock=clock) as world:
        await canceled(world, "k1")


async def test_order_that_fills_while_its_session_ends_is_not_pursued() -> None:
    """An end is an end, whichever it is."""
    async with gateway() as world:
        async with chat(world) as one:
            one.submit("k1")
            await one.next("submitted")
            world.venue.fill(world.venue.order_of(world.venue.placed[-1]), "1", "100")
            await one.event_of("k1", order_pb2.ORDER_STATUS_FILLED)
        await until(lambda: len(world.core.desk.sessions) == 0)
        assert world.core.sessions.left == 0 and world.venue.cancels == []
