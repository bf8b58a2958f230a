"""What operators do about orders that machines cannot settle; property 39."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes_venue import MAIN, Down, FakeVenue, Held, Lost
from tests.unit.venuemesh.gateway.gateway_world import Caller, MemoryBus, World, gateway, new_order, until
from venuemesh.errors import (
    ClientOrderIdReused,
    InvalidRequest,
    JournalUnavailable,
    OrderNotFound,
    OutcomeUnknown,
    PreconditionFailed,
    Reason,
)
from venuemesh.gateway.alerts import ORDER_REVIVED, ORDER_STUCK
from venuemesh.gateway.operator_actions import KEY_PREFIX
from venuemesh.gateway.orders import OrderState
from venuemesh.gateway.venue import VenueOrderState
from venuemesh.v1 import error_pb2, event_pb2
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as orders
from venuemesh.v1 import reconciliation_service_pb2 as wire

QUERY = wire.RESOLUTION_QUERY
CANCEL = wire.RESOLUTION_FORCE_CANCEL
RECONCILE = wire.RESOLUTION_FORCE_RECONCILE
DECLARE = wire.RESOLUTION_DECLARE_REJECTED
CALLER = Caller()


def request(resolution: wire.Resolution.ValueType, key: str = "key-1", **changes: Any) -> Any:
    fields: dict[str, Any] = {
        "reference": orders.OrderReference(account_id=MAIN, client_order_id=key),
        "resolution": resolution,
        "operator": "ops-1",
        "reason": "asked the venue by phone",
        "request_id": "fix-1",
        **changes,
    }
    return wire.ResolveUncertainOrderRequest(**fields)


async def act(world: World, resolution: wire.Resolution.ValueType, **changes: Any) -> Any:
    return await world.reconciliation.ResolveUncertainOrder(request(resolution, **changes), CALLER)


def order(world: World, key: str = "key-1") -> OrderState:
    found = world.account.order_by_key(key)
    assert found is not None
    return found


async def lose(world: World, key: str = "key-1", *, arrived: bool) -> None:
    """A submit whose reply is lost; nobody but the test asks about it from then on."""
    world.venue.pushing = False
    world.venue.script("place_order", Lost(arrived=arrived))
    world.core.resolver.doubt = lambda *_: None  # type: ignore[method-assign]
    world.core.desk.on_doubt = lambda *_: None
    await world.core.desk.submit(new_order(key))
    assert order(world, key).uncertain
    world.core.resolver._doubts.clear()  # type: ignore[attr-defined]


@asynccontextmanager
async def stuck(*, arrived: bool, **options: Any) -> AsyncIterator[World]:
    """A gateway with one uncertain order that only an operator asks about."""
    async with gateway(**options) as world:
        await lose(world, arrived=arrived)
        yield world


async def reports(world: World) -> list[pb.ExecutionReport]:
    await world.durable()
    return [event.execution_report for event in world.bus.events() if event.HasField("execution_report")]


async def journalled(world: World) -> event_pb2.OrderIntent:
    intent = await world.core.journal.read_intent(MAIN, KEY_PREFIX + "fix-1")
    assert intent is not None
    return intent


# each action


async def test_declared_rejection_is_journalled_told_with_who_and_why_and_answers_the_key() -> None:
    """G6: the operator's word is evidence; it is in the journal, in the order's events, and in every repeat."""
    async with stuck(arrived=False) as world:
        answer = await act(world, DECLARE)
        assert (answer.order.status, answer.replayed) == (pb.ORDER_STATUS_REJECTED, False)
        assert answer.order.reject.reason == error_pb2.REASON_NEVER_REACHED_VENUE
        stored = wire.ResolveUncertainOrderRequest.FromString((await journalled(world)).account_operation.request)
        assert (stored.operator, stored.reason) == ("ops-1", "asked the venue by phone")
        by_operator = [report for report in await reports(world) if report.origin == pb.ORIGIN_OPERATOR]
        assert [report.execution_type for report in by_operator] == [
            pb.EXECUTION_TYPE_ORDER_STATUS,
            pb.EXECUTION_TYPE_REJECTED,
        ]
        assert all("ops-1: asked the venue by phone" in report.text for report in by_operator)
        again = await world.submit("key-1")
        assert (again.outcome, again.replayed) == (orders.SUBMIT_OUTCOME_REJECTED, True)
        assert len(world.venue.placed) == 1


async def test_venue_that_shows_an_order_declared_rejected_is_believed_and_a_person_is_told() -> None:
    """An operator can be wrong: the order comes back as RESTATED, with an alert, and can be cancelled."""
    async with stuck(arrived=True) as world:
        told: list[Any] = []
        world.core.alerts.listeners.append(told.append)
        await act(world, DECLARE)
        world.core.intake.on_order(MAIN, world.venue.order_of(world.venue.placed[0]))
        assert order(world).working
        assert order(world).reject is None
        assert [alert.kind for alert in told] == [ORDER_REVIVED]
        assert (await reports(world))[-1].execution_type == pb.EXECUTION_TYPE_RESTATED
        canceled = await world.core.working.cancel(request(CANCEL).reference)
        assert canceled.outcome == orders.CANCEL_OUTCOME_CANCELED


async def test_query_asks_the_venue_at_once() -> None:
    """What it says is taken as always."""
    async with stuck(arrived=True) as world:
        answer = await act(world, QUERY)
        assert answer.order.status == pb.ORDER_STATUS_NEW
        assert (await reports(world))[-1].execution_type == pb.EXECUTION_TYPE_RESOLVED


@pytest.mark.parametrize(("arrived", "status"), [(True, pb.ORDER_STATUS_CANCELED), (False, pb.ORDER_STATUS_UNCERTAIN)])
async def test_force_cancel_sends_a_cancel_and_asks(arrived: bool, status: pb.OrderStatus.ValueType) -> None:
    """An order that is there is cancelled. One that is not there yet proves nothing: the cancel will be sent again."""
    async with stuck(arrived=arrived) as world:
        answer = await act(world, CANCEL)
        assert answer.order.status == status
        assert len(world.venue.cancels) >= 1
        assert answer.order.pending_cancel == (not arrived)


async def test_force_cancel_tries_every_id_the_order_ever_had() -> None:
    """The venue may have lost track of one of them."""
    async with gateway() as world:
        await world.submit("key-1")
        world.venue.orders.clear()
        await act(world, CANCEL)
        assert {target.venue_order_id for target in world.venue.cancels} == {"v1", None}


async def test_force_reconcile_takes_absence_once_the_request_can_not_arrive_any_more() -> None:
    """Earlier it proves nothing, whoever asks."""
    async with stuck(arrived=False) as world:
        with pytest.raises(PreconditionFailed, match="may still arrive"):
            await act(world, RECONCILE)
        assert order(world).uncertain
        world.clock.advance(world.core.desk.settings.order_lifetime_s)
        answer = await act(world, RECONCILE)
        assert (answer.order.status, answer.replayed) == (pb.ORDER_STATUS_REJECTED, False)
        assert (await reports(world))[-1].origin == pb.ORIGIN_OPERATOR


async def test_force_reconcile_ends_a_working_order_that_the_venue_does_not_know() -> None:
    """Not right after a change of it, which the venue may not show yet."""
    async with gateway() as world:
        await world.submit("key-1")
        world.venue.orders.clear()
        with pytest.raises(PreconditionFailed, match="changed just now"):
            await act(world, RECONCILE)
        world.clock.advance(2)
        answer = await act(world, RECONCILE, request_id="fix-2")
        assert answer.order.status == pb.ORDER_STATUS_CANCELED
        assert "ops-1" in (await reports(world))[-1].text


async def test_force_reconcile_takes_what_the_venue_shows_with_its_fills() -> None:
    """A fill that was missed is fetched with it."""
    async with stuck(arrived=True) as world:
        world.venue.fill(world.venue.order_of(world.venue.placed[0]), "1", "99", push=False)
        answer = await act(world, RECONCILE)
        assert (answer.order.status, answer.order.average_price) == (pb.ORDER_STATUS_FILLED, "99")


# refusals


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"operator": ""}, "operator"),
        ({"operator": "  "}, "operator"),
        ({"operator": "a" * 65}, "operator"),
        ({"reason": ""}, "reason"),
        ({"reason": "line\nbreak"}, "reason"),
        ({"reason": "r" * 501}, "reason"),
        ({"request_id": ""}, "request_id"),
        ({"request_id": "a b"}, "request_id"),
        ({"resolution": 0}, "resolution"),
        ({"resolution": 99}, "resolution"),
    ],
)
async def test_action_without_who_why_what_or_key_is_refused_by_name(changes: dict[str, Any], field: str) -> None:
    """Nothing is journalled and nothing is done."""
    async with stuck(arrived=False) as world:
        with pytest.raises(InvalidRequest) as caught:
            await act(world, **{"resolution": DECLARE, **changes})
        assert caught.value.field == field
        assert await world.core.journal.read_intent(MAIN, KEY_PREFIX + "fix-1") is None
        assert order(world).uncertain


async def test_action_on_an_order_that_needs_none_is_refused() -> None:
    """What the venue has said outranks an operator; what has ended stays so."""
    async with gateway() as world:
        await world.submit("key-1")
        with pytest.raises(PreconditionFailed) as caught:
            await act(world, DECLARE)
        assert caught.value.reason is Reason.ORDER_NOT_WORKING
        world.venue.end(world.venue.order_of(world.venue.placed[0]), VenueOrderState.CANCELED)
        with pytest.raises(PreconditionFailed):
            await act(world, QUERY)
        with pytest.raises(OrderNotFound):
            await act(world, QUERY, reference=orders.OrderReference(account_id=MAIN, client_order_id="other"))
        assert await world.core.journal.read_intent(MAIN, KEY_PREFIX + "fix-1") is None


async def test_action_without_the_journal_does_nothing() -> None:
    """Who did what must be known before it is done."""
    async with stuck(arrived=False) as world:
        world.bus.connected = False
        with pytest.raises(JournalUnavailable):
            await act(world, DECLARE)
        assert order(world).uncertain


async def test_venue_that_cannot_be_reached_is_told_and_the_order_stays_uncertain() -> None:
    """A failed force reconcile is no evidence, and may be repeated under its key."""
    async with stuck(arrived=False) as world:
        world.venue.script("fetch_fills", Down("socket closed"))
        with pytest.raises(Exception, match="socket closed"):
            await act(world, RECONCILE)
        assert order(world).uncertain
        world.clock.advance(60)
        answer = await act(world, RECONCILE)
        assert (answer.order.status, answer.replayed) == (pb.ORDER_STATUS_REJECTED, False)


async def test_fault_of_ours_in_an_action_does_not_end_the_gateway() -> None:
    """The caller reads that it is not known what was done."""
    async with stuck(arrived=False) as world:
        world.venue.script("fetch_fills", ZeroDivisionError("ours"))
        with pytest.raises(OutcomeUnknown, match="ZeroDivisionError"):
            await act(world, RECONCILE)
        assert (await world.submit("key-2")).outcome == orders.SUBMIT_OUTCOME_ACKNOWLEDGED


# repeats


async def test_repeat_does_nothing_more_and_another_content_is_refused() -> None:
    """The key decides, also while the first call is under way, and after a restart."""
    bus, venue = MemoryBus(), FakeVenue()
    async with stuck(arrived=False, bus=bus, venue=venue) as world:
        release = asyncio.Event()
        world.clock.advance(60)
        venue.script("fetch_fills", Held(release))
        first = asyncio.create_task(act(world, RECONCILE))
        await until(lambda: venue.calls[-1] == "fetch_fills")
        second = asyncio.create_task(act(world, RECONCILE))
        with pytest.raises(ClientOrderIdReused):
            await act(world, DECLARE)
        release.set()
        assert [(await call).replayed for call in (first, second)] == [False, True]
        await world.durable()
        asked = len(venue.calls)
        assert (await act(world, RECONCILE)).replayed
        assert len(venue.calls) == asked
        with pytest.raises(ClientOrderIdReused):
            await act(world, RECONCILE, reason="another")
    venue.pushing = True
    async with gateway(bus=bus, venue=venue) as world:
        answer = await act(world, RECONCILE)
        assert (answer.order.status, answer.replayed) == (pb.ORDER_STATUS_REJECTED, True)


async def test_action_that_a_crash_cut_short_is_carried_out_when_repeated() -> None:
    """Journalled and not done: the repeat does it, under the same entry of the journal."""
    bus, venue = MemoryBus(), FakeVenue()
    async with stuck(arrived=False, bus=bus, venue=venue) as world:
        venue.script("fetch_fills", Held(asyncio.Event()))
        call = asyncio.create_task(act(world, RECONCILE))
        await until(lambda: venue.calls[-1] == "fetch_fills")
        await world.durable()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    venue.script("fetch_order", Held(asyncio.Event()))
    venue.calls.clear()
    venue.pushing = True
    async with gateway(bus=bus, venue=venue) as world:
        assert order(world).uncertain
        (row,) = world.core.resolver.uncertain_orders()
        assert [piece.source for piece in row.evidence][:2] == ["gateway", "operator"]
        assert "ops-1" in row.evidence[1].finding
        # The resolver waits for an answer that never comes.
        await until(lambda: "fetch_order" in venue.calls)
        world.clock.advance(60)
        answer = await act(world, RECONCILE)
        assert (answer.order.status, answer.replayed) == (pb.ORDER_STATUS_REJECTED, False)
        assert "ops-1" in answer.order.reject.message


# stuck orders


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 10**12), st.integers(-3, 3), st.booleans())
def test_uncertain_orders_are_listed_exactly_when_uncertain_for_the_threshold(
    threshold_ns: int, off_by_ns: int, terminal: bool
) -> None:
    """Property 39: to the nanosecond, and never an order that was settled."""

    async def check() -> None:
        async with stuck(arrived=False) as world:
            age_ns = max(0, threshold_ns + off_by_ns)
            world.clock.advance(age_ns / 1e9)
            if terminal:
                await act(world, DECLARE)
            asked = wire.ListUncertainOrdersRequest()
            asked.uncertain_for.FromNanoseconds(threshold_ns)
            rows = (await world.reconciliation.ListUncertainOrders(asked, CALLER)).uncertain_orders
            assert bool(rows) == (age_ns >= threshold_ns and not terminal)

    asyncio.run(check())


async def test_order_uncertain_for_too_long_is_alerted_until_it_is_settled() -> None:
    """G6: a person hears of it without asking, and hears that it is over."""
    async with gateway() as world:
        told: list[Any] = []
        world.core.alerts.listeners.append(told.append)
        world.venue.pushing = False
        world.venue.script("place_order", Lost(arrived=False))
        world.venue.script("fetch_order", *[Lost()] * 3)
        await world.core.desk.submit(new_order("key-1"), orders.ACK_LEVEL_GATEWAY)
        await until(lambda: world.core.resolver.doubts)
        (doubt,) = world.core.resolver.doubts.values()
        world.clock.advance(59)
        await world.core.resolver.ask(doubt)
        assert told == []
        world.clock.advance(2)
        await world.core.resolver.ask(doubt)
        assert [alert.kind for alert in told] == [ORDER_STUCK]
        await world.core.resolver.ask(doubt)
        assert not order(world).uncertain
        assert world.core.alerts.lasting() == []
