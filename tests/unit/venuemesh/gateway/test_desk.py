"""Submitting: journal before send, one order per key, and answers that are never a guess."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.fakes_venue import MAIN, FakeVenue, Held, Lost, levels
from tests.unit.venuemesh.gateway.gateway_world import MemoryBus, World, gateway, new_order, until
from venuemesh import deadlines
from venuemesh.errors import (
    ClientOrderIdReused,
    DeadlineTooShort,
    Draining,
    JournalUnavailable,
    ProtocolViolation,
    RateLimited,
    Reason,
    Reconciling,
    Sent,
    VenueUnavailable,
)
from venuemesh.gateway.venue import OrderTicket, Placed, Refused
from venuemesh.v1 import error_pb2, event_pb2
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as wire

MARKET = {"order_type": pb.ORDER_TYPE_MARKET, "price": None, "time_in_force": None}


def intents(bus: MemoryBus) -> list[str]:
    return [row.subject for row in bus._stored.get("VENUEMESH_JOURNAL", []) if ".intent." in row.subject]


# the order of steps


async def test_intent_is_in_the_journal_before_the_first_byte_leaves() -> None:
    """G1: looked at from inside the venue's call; and no event of the order was told before."""

    class Watching(FakeVenue):
        async def place_order(self, ticket: OrderTicket, sent: Callable[[], None]) -> Placed | Refused:
            assert len(intents(bus)) == 1
            return await super().place_order(ticket, sent)

    bus = MemoryBus()
    async with gateway(venue=Watching(), bus=bus) as world:
        assert (await world.submit("key-1")).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        assert len(world.venue.placed) == 1


async def test_nothing_is_told_before_the_intent_is_journalled() -> None:
    """While the journal thinks, no event, no order, nothing sent."""

    class Slow(MemoryBus):
        async def append_once(self, subject: str, payload: bytes) -> int:
            await release.wait()
            return await super().append_once(subject, payload)

    release = asyncio.Event()
    async with gateway(bus=Slow()) as world, asyncio.TaskGroup() as tasks:
        await world.durable()
        before = len(world.bus.events())
        call = tasks.create_task(world.submit("key-1"))
        await until(lambda: world.core.desk.in_flight)
        await world.durable()
        assert len(world.bus.events()) == before
        assert world.account.order_by_key("key-1") is None
        assert world.venue.placed == []
        release.set()
        assert (await call).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED


async def test_without_the_journal_nothing_is_sent_and_the_key_stays_free() -> None:
    """JOURNAL_UNAVAILABLE, sent=no; the same call succeeds once the journal is back."""
    async with gateway() as world:
        world.bus.connected = False
        with pytest.raises(JournalUnavailable) as caught:
            await world.submit("key-1")
        assert (caught.value.reason, caught.value.sent) == (Reason.JOURNAL_UNAVAILABLE, Sent.NO)
        assert world.venue.placed == []
        world.bus.connected = True
        assert (await world.submit("key-1")).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        assert world.core.desk._unsent == {}


class Forgetful(MemoryBus):
    """Stores the first intent and loses the confirmation."""

    lose = 1

    async def append_once(self, subject: str, payload: bytes) -> int:
        stored = await super().append_once(subject, payload)
        if self.lose:
            self.lose -= 1
            raise JournalUnavailable("JetStream did not confirm")
        return stored


async def test_intent_stored_without_confirmation_was_certainly_not_sent() -> None:
    """The caller was told that nothing was sent: the repeat is REJECTED as such, never placed, also for ever after."""
    async with gateway(bus=Forgetful()) as world:
        with pytest.raises(JournalUnavailable):
            await world.submit("key-1")
        for _ in range(2):
            again = await world.submit("key-1")
            assert (again.outcome, again.replayed) == (wire.SUBMIT_OUTCOME_REJECTED, True)
            assert again.reject.reason == error_pb2.REASON_NEVER_REACHED_VENUE
        assert world.venue.placed == []


# one order per key


@pytest.mark.parametrize("change", [{}, MARKET], ids=["limit", "market"])
async def test_one_key_from_many_callers_at_once_is_one_order(change: dict[str, Any]) -> None:
    """Property 36: all get the same order and answer; exactly one is not a replay."""
    async with gateway() as world:
        world.venue.set_book("BTC/USDC:USDC", levels(("99", "5")), levels(("101", "5")))
        release = asyncio.Event()
        world.venue.script("place_order", Held(release))
        async with asyncio.TaskGroup() as tasks:
            calls = [tasks.create_task(world.submit("key-1", **change)) for _ in range(20)]
            await until(lambda: world.venue.placed)
            release.set()
        answers = [call.result() for call in calls]
        assert len(world.venue.placed) == len(intents(world.bus)) == 1
        assert len({answer.order.order_id for answer in answers}) == 1
        assert {answer.outcome for answer in answers} == {wire.SUBMIT_OUTCOME_ACKNOWLEDGED}
        assert [answer.replayed for answer in answers].count(False) == 1


async def test_repeat_with_another_correlation_id_is_still_a_repeat() -> None:
    """The correlation id is not content."""
    async with gateway() as world:
        await world.submit("key-1", correlation_id="one")
        assert (await world.submit("key-1", correlation_id="two")).replayed


async def test_key_reused_with_other_content_is_refused_naming_the_order() -> None:
    """While the first is under way, afterwards, and after a restart."""
    async with gateway() as world:
        release = asyncio.Event()
        world.venue.script("place_order", Held(release))
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(world.submit("key-1"))
            await until(lambda: world.venue.placed)
            with pytest.raises(ClientOrderIdReused):
                await world.submit("key-1", quantity="2")
            release.set()
        order_id = first.result().order.order_id
        with pytest.raises(ClientOrderIdReused) as caught:
            await world.submit("key-1", quantity="2")
        assert caught.value.metadata == {"order_id": order_id, "client_order_id": "key-1"}
        await world.durable()
    async with gateway(venue=world.venue, bus=world.bus) as again:
        with pytest.raises(ClientOrderIdReused) as caught:
            await again.submit("key-1", quantity="2")
        assert caught.value.metadata["order_id"] == order_id
        assert len(world.venue.placed) == 1


async def test_key_of_an_order_long_forgotten_gives_its_result_from_the_journal() -> None:
    """At any age, also where a new order would be refused; with its average price."""
    async with gateway() as world:
        world.account._retained = 1
        first = await world.submit("key-1")
        world.venue.fill(world.venue.order_of(world.venue.placed[0]), "1", "99.5")
        for key in ("key-2", "key-3"):
            world.venue.script("place_order", Refused(reason=Reason.NO_LIQUIDITY, text="no"))
            await world.submit(key)
        await world.durable()
        assert world.account.order_by_key("key-1") is None
        world.core.drain()
        again = await world.submit("key-1")
        assert (again.replayed, again.outcome) == (True, wire.SUBMIT_OUTCOME_ACKNOWLEDGED)
        assert again.order.order_id == first.order.order_id
        assert (again.order.status, again.order.average_price) == (pb.ORDER_STATUS_FILLED, "99.5")
        with pytest.raises(ClientOrderIdReused):
            await world.submit("key-1", quantity="2")


async def test_intent_of_another_process_is_taken_over_once_by_many_repeats() -> None:
    """Only the intent is known: UNKNOWN until evidence; the repeats do not undo each other's work."""
    async with gateway() as world:
        foreign = await foreign_intent(world)
        await world.core.journal.write_intent(MAIN, "key-1", foreign)
        async with asyncio.TaskGroup() as tasks:
            calls = [tasks.create_task(world.submit("key-1")) for _ in range(5)]
        assert {call.result().outcome for call in calls} <= {wire.SUBMIT_OUTCOME_UNKNOWN}
        assert all(call.result().replayed for call in calls)
        await world.durable()
        reports = [event.execution_report for event in world.bus.events() if event.HasField("execution_report")]
        assert [one.order.order_version for one in reports] == [1, 2]
        assert world.venue.placed == []


async def foreign_intent(world: World) -> event_pb2.OrderIntent:
    """The intent that an order of ours under `key-1` would write, without writing it."""
    written: list[event_pb2.OrderIntent] = []
    real = world.core.journal.write_intent

    async def steal(account_id: str, key: str, intent: event_pb2.OrderIntent) -> None:
        written.append(intent)
        raise JournalUnavailable("stolen")

    world.core.journal.write_intent = steal  # type: ignore[method-assign,assignment]
    with pytest.raises(JournalUnavailable):
        await world.submit("key-1")
    world.core.journal.write_intent = real  # type: ignore[method-assign]
    world.core.desk._unsent.clear()
    return written[0]


# callers that go away


async def test_caller_that_hangs_up_does_not_stop_the_attempt() -> None:
    """Once begun it runs to its end; the repeat gets the truth."""
    async with gateway() as world:
        release = asyncio.Event()
        world.venue.script("place_order", Held(release))
        call = asyncio.create_task(world.submit("key-1"))
        await until(lambda: world.venue.placed)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        release.set()
        await until(lambda: not world.core.desk.in_flight)
        again = await world.submit("key-1")
        assert (again.outcome, again.replayed) == (wire.SUBMIT_OUTCOME_ACKNOWLEDGED, True)
        assert len(world.venue.placed) == 1


async def test_caller_that_hangs_up_before_the_journal_answers_does_not_stop_the_attempt() -> None:
    """The future it shared with others is not cancelled with it."""
    async with gateway() as world:
        calls = [asyncio.create_task(world.submit("key-1")) for _ in range(2)]
        await until(lambda: world.core.desk.in_flight)
        calls[0].cancel()
        answer = await calls[1]
        assert answer.outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        with pytest.raises(asyncio.CancelledError):
            await calls[0]


async def with_deadline(world: World, left_s: float, key: str) -> wire.SubmitOrderResponse:
    deadlines.set_deadline(deadlines.Deadline(world.clock, world.clock.monotonic_s() + left_s))
    return await world.submit(key)


async def test_short_deadline_answers_pending_and_a_repeat_the_truth() -> None:
    """Journalled and sent, no answer yet: that is what PENDING claims."""
    async with gateway() as world:
        release = asyncio.Event()
        world.venue.script("place_order", Held(release))
        answer = await asyncio.create_task(with_deadline(world, 0.12, "key-1"))
        assert answer.outcome == wire.SUBMIT_OUTCOME_PENDING
        assert len(intents(world.bus)) == len(world.venue.placed) == 1
        repeat = await asyncio.create_task(with_deadline(world, 0.12, "key-1"))
        assert (repeat.outcome, repeat.replayed) == (wire.SUBMIT_OUTCOME_PENDING, True)
        release.set()
        await until(lambda: not world.core.desk.in_flight)
        assert (await world.submit("key-1")).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED


async def test_deadline_under_the_reserve_is_refused_before_the_journal() -> None:
    """Nothing is sent and the key is free."""
    async with gateway() as world:
        with pytest.raises(DeadlineTooShort) as caught:
            await asyncio.create_task(with_deadline(world, 0.05, "key-1"))
        assert caught.value.sent is Sent.NO
        assert intents(world.bus) == []


async def test_gateway_that_stops_while_the_journal_thinks_lets_nobody_wait() -> None:
    """Every caller of the key is told that nothing was sent."""

    class Never(MemoryBus):
        async def append_once(self, subject: str, payload: bytes) -> int:
            await asyncio.Event().wait()
            raise AssertionError

    async with gateway(bus=Never()) as world:
        calls = [asyncio.create_task(world.submit("key-1")) for _ in range(2)]
        await until(lambda: world.core.desk.in_flight)
        await asyncio.sleep(0)
    for call in calls:
        with pytest.raises(Draining) as caught:
            await call
        assert caught.value.sent is Sent.NO
    assert world.venue.placed == []


# what failed sends prove


@pytest.mark.parametrize(
    ("failure", "outcome"),
    [
        (Lost(), wire.SUBMIT_OUTCOME_UNKNOWN),
        (Lost(arrived=False), wire.SUBMIT_OUTCOME_UNKNOWN),
        (VenueUnavailable("reset", sent=Sent.MAYBE), wire.SUBMIT_OUTCOME_UNKNOWN),
        (VenueUnavailable("502", sent=Sent.YES), wire.SUBMIT_OUTCOME_UNKNOWN),
        (ProtocolViolation("unreadable", sent=Sent.YES), wire.SUBMIT_OUTCOME_UNKNOWN),
        (ProtocolViolation("unreadable, and nobody said that it was sent"), wire.SUBMIT_OUTCOME_UNKNOWN),
        (ZeroDivisionError("a fault of the adapter"), wire.SUBMIT_OUTCOME_UNKNOWN),
        (RateLimited("429", sent=Sent.YES), wire.SUBMIT_OUTCOME_REJECTED),
        (Refused(reason=Reason.INSUFFICIENT_MARGIN, text="no margin"), wire.SUBMIT_OUTCOME_REJECTED),
    ],
    ids=str,
)
async def test_outcome_of_a_send_that_failed(failure: Any, outcome: wire.SubmitOutcome.ValueType) -> None:
    """REJECTED only where it is proved; an order that may be live is UNKNOWN, now and on repeat."""
    async with gateway() as world:
        world.venue.pushing = False
        world.venue.script("fetch_order", Held(asyncio.Event()))
        world.venue.script("place_order", failure)
        assert (await world.submit("key-1")).outcome == outcome
        assert (await world.submit("key-1")).outcome == outcome
        assert len(world.venue.placed) == 1


async def test_link_that_is_down_refuses_before_the_key_is_used() -> None:
    """The venue's reservation fails: nothing is journalled."""
    async with gateway() as world:
        world.venue.up = False
        with pytest.raises(VenueUnavailable):
            await world.submit("key-1")
        assert intents(world.bus) == []


async def test_link_that_breaks_after_the_journal_rejects_what_never_left() -> None:
    """sent=no with nothing written is proof; the key is used up, and the answer says why."""

    class Breaking(FakeVenue):
        async def place_order(self, ticket: OrderTicket, sent: Callable[[], None]) -> Placed | Refused:
            self.placed.append(ticket)
            raise VenueUnavailable("the link broke just before")

    async with gateway(venue=Breaking()) as world:
        answer = await world.submit("key-1")
        assert answer.outcome == wire.SUBMIT_OUTCOME_REJECTED
        assert answer.reject.reason == error_pb2.REASON_VENUE_DISCONNECTED


async def test_answer_overtaken_by_the_stream_is_the_streams() -> None:
    """The stream saw the order live and filled; the lost reply makes nothing uncertain."""
    async with gateway() as world:
        release = asyncio.Event()
        real = world.venue._rest

        def rest_and_fill(ticket: OrderTicket) -> Placed:
            placed = real(ticket)
            world.venue.fill(world.venue.order_of(ticket), "1", "100")
            return placed

        world.venue._rest = rest_and_fill  # type: ignore[method-assign]
        world.venue.script("place_order", Lost())
        release.set()
        answer = await world.submit("key-1")
        assert answer.outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        assert answer.order.status == pb.ORDER_STATUS_FILLED


# acknowledgement levels


async def level(world: World, key: str, ack_level: wire.AckLevel.ValueType) -> wire.SubmitOrderResponse:
    return await world.core.desk.submit(new_order(key), ack_level)


async def test_ack_level_gateway_answers_when_the_request_is_written() -> None:
    """The venue has not answered: PENDING."""
    async with gateway() as world:
        release = asyncio.Event()
        world.venue.script("place_order", Held(release))
        answer = await level(world, "key-1", wire.ACK_LEVEL_GATEWAY)
        assert answer.outcome == wire.SUBMIT_OUTCOME_PENDING
        assert answer.timings.HasField("journal")
        release.set()


async def test_ack_level_terminal_waits_for_the_end() -> None:
    """Bounded by the deadline; the answer shows the whole fill."""
    async with gateway() as world, asyncio.TaskGroup() as tasks:
        call = tasks.create_task(level(world, "key-1", wire.ACK_LEVEL_TERMINAL))
        await until(lambda: world.venue.orders)
        world.venue.fill(world.venue.order_of(world.venue.placed[0]), "1", "100")
        assert (await call).order.status == pb.ORDER_STATUS_FILLED


# gates


async def test_new_orders_are_refused_while_reconciling_or_draining_but_known_keys_answer() -> None:
    """A repeat is a read."""
    async with gateway() as world:
        await world.submit("key-1")
        world.venue.go_down()
        world.venue.up = True
        with pytest.raises(Reconciling) as caught:
            await world.submit("key-2")
        assert caught.value.sent is Sent.NO
        assert (await world.submit("key-1")).replayed
        world.core.drain()
        with pytest.raises(Draining):
            await world.submit("key-2")
        assert (await world.submit("key-1")).replayed
        assert len(world.venue.placed) == 1


# bounds


async def test_nothing_is_kept_of_attempts_and_reservations_that_ended() -> None:
    """Thousands of orders a day leave no trace in the desk."""
    async with gateway() as world:
        world.venue.pushing = False
        world.venue.script("place_order", *[Refused(reason=Reason.NO_LIQUIDITY, text="no")] * 10)
        for number in range(10):
            await world.submit(f"key-{number}")
        assert (world.core.desk._attempts, world.core.desk.reservations) == ({}, {})
        await world.submit("resting")
        assert len(world.core.desk.reservations) == 1


async def test_spawn_that_fails_leaves_the_key_free() -> None:
    """A gateway that is not running yet has no attempts that never end."""
    async with gateway() as world:
        real = world.core.desk._spawn

        def broken(work: Any, name: str) -> object:
            work.close()
            raise RuntimeError("not running")

        world.core.desk._spawn = broken
        with pytest.raises(RuntimeError):
            await world.submit("key-1")
        assert world.core.desk._attempts == {}
        world.core.desk._spawn = real
        assert (await world.submit("key-1")).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
