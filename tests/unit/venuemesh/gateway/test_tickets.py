"""From terms to tickets: worst prices, triggers, schedules, expiries; and the life of trigger orders and TWAPs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes_venue import BTC, MAIN, FakeVenue, Lost, instrument, levels
from tests.unit.venuemesh.gateway.gateway_world import World, gateway, new_order
from venuemesh import deadlines
from venuemesh.errors import InvalidRequest, NotSupported, OutcomeUnknown, Reason
from venuemesh.gateway.order_wire import timestamp
from venuemesh.gateway.orders import OrderState
from venuemesh.gateway.rules import CheckedOrder, is_valid_price
from venuemesh.gateway.tickets import DeskSettings, Tickets
from venuemesh.gateway.venue import Placed, Refused, VenueOrder, VenueOrderState
from venuemesh.v1 import error_pb2
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as wire

STOP, TAKE_PROFIT = pb.ORDER_TYPE_STOP_MARKET, pb.ORDER_TYPE_TAKE_PROFIT_MARKET
STOP_LIMIT, TAKE_PROFIT_LIMIT = pb.ORDER_TYPE_STOP_LIMIT, pb.ORDER_TYPE_TAKE_PROFIT_LIMIT
BUY, SELL = pb.SIDE_BUY, pb.SIDE_SELL
REDUCE_ONLY = pb.EXECUTION_INSTRUCTION_REDUCE_ONLY


def market_trigger(kind: pb.OrderType.ValueType = STOP, price: str = "100", **changes: Any) -> dict[str, Any]:
    """What makes a trigger order out of `new_order`."""
    terms = {"order_type": kind, "price": None, "time_in_force": None, "trigger": pb.Trigger(price=price)}
    return terms | changes


def twap(minutes: float = 30, **changes: Any) -> dict[str, Any]:
    """What makes a TWAP out of `new_order`."""
    schedule = pb.TwapSchedule(duration=Duration(seconds=int(minutes * 60)))
    terms = {"order_type": pb.ORDER_TYPE_TWAP, "price": None, "time_in_force": None, "twap": schedule}
    return terms | changes


def order(world: World, key: str = "key-1") -> OrderState:
    found = world.account.order_by_key(key)
    assert found is not None
    return found


async def settle(world: World, done: Callable[[], bool]) -> None:
    """Let time pass until the resolver has found out."""
    for _ in range(200):
        if done():
            return
        world.clock.advance(1)
        world.core.resolver.hurry(MAIN)
        for _ in range(20):
            await asyncio.sleep(0)
    raise AssertionError("it was never settled")


# worst prices


@pytest.mark.parametrize(
    ("side", "bound", "worst"),
    [(BUY, None, "110.0"), (SELL, None, "90.0"), (BUY, 250, "102.5"), (SELL, 250, "97.5"), (BUY, 30, "100.0")],
)
async def test_market_trigger_has_a_worst_price_away_from_its_trigger(side: Any, bound: int | None, worst: str) -> None:
    """The caller's bound, else ours, to the worse side and rounded towards the trigger; no book is read."""
    async with gateway() as world:
        changes = market_trigger(side=side, max_slippage_bps=bound)
        assert (await world.submit("key-1", **changes)).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        (ticket,) = world.venue.placed
        assert (str(ticket.price), ticket.trigger_price) == (worst, Decimal(100))
        assert ticket.time_in_force == pb.TIME_IN_FORCE_GTC
        assert "fetch_book" not in world.venue.calls
        terms = (await world.submit("key-1", **changes)).order.terms
        assert not terms.HasField("price")


@settings(max_examples=60)
@given(
    price=st.decimals(min_value=1, max_value=100_000, places=1),
    bound=st.integers(0, 5_000),
    side=st.sampled_from([BUY, SELL]),
)
def test_worst_price_is_on_tick_and_within_the_bound(price: Decimal, bound: int, side: Any) -> None:
    """Law: never beyond what the caller allowed, and always a price the venue takes."""
    unused: Any = None
    tickets = Tickets(venue=unused, instruments=unused, books=unused, clock=unused, settings=DeskSettings())
    terms = new_order("k", **market_trigger(price=str(price), side=side, max_slippage_bps=bound))
    checked = CheckedOrder(quantity=Decimal(1), price=None, trigger_price=price)
    traded = instrument(tick="0.1")
    worst = tickets.bounded_price(terms, checked, traded)
    assert worst is not None
    assert is_valid_price(worst, traded.price_rule)
    sign = 1 if side == BUY else -1
    assert sign * (worst - price) <= price * bound / 10_000


# terms


@pytest.mark.parametrize("kind", [STOP, TAKE_PROFIT, STOP_LIMIT, TAKE_PROFIT_LIMIT])
async def test_trigger_order_waits_until_the_venue_says_it_has_fired(kind: Any) -> None:
    """NEW and WAITING, then TRIGGERED with a report of its own, then a normal life."""
    limits = {"price": "99", "time_in_force": pb.TIME_IN_FORCE_GTC} if kind in (STOP_LIMIT, TAKE_PROFIT_LIMIT) else {}
    async with gateway() as world:
        answer = await world.submit("key-1", **(market_trigger(kind, instructions=[REDUCE_ONLY]) | limits))
        assert (answer.order.status, answer.order.trigger_state) == (pb.ORDER_STATUS_NEW, pb.TRIGGER_STATE_WAITING)
        (ticket,) = world.venue.placed
        assert (ticket.order_type, ticket.reduce_only) == (kind, True)
        resting = world.venue.order_of(ticket)
        world.venue.trigger(resting)
        assert order(world).trigger_state == pb.TRIGGER_STATE_TRIGGERED
        assert order(world).status == pb.ORDER_STATUS_NEW
        world.venue.fill(resting, "1", "99")
        assert order(world).status == pb.ORDER_STATUS_FILLED
        await world.durable()
        reports = [one.execution_report for one in world.bus.events() if one.HasField("execution_report")]
        assert [one.execution_type for one in reports] == [
            pb.EXECUTION_TYPE_PENDING_NEW,
            pb.EXECUTION_TYPE_NEW,
            pb.EXECUTION_TYPE_TRIGGERED,
            pb.EXECUTION_TYPE_TRADE,
        ]


async def test_triggered_order_that_the_venue_refuses_ends_canceled_with_its_reason() -> None:
    """It was live, so it cannot have been REJECTED; no illegal transition, and the caller sees why."""
    async with gateway() as world:
        await world.submit("key-1", **market_trigger())
        key = world.venue.placed[0].venue_client_order_id
        world.venue.trigger(world.venue.orders[key])
        world.venue.orders[key] = replace(world.venue.orders[key], reason=Reason.NO_LIQUIDITY)
        world.venue.end(world.venue.orders[key], VenueOrderState.REJECTED, "marketOrderNoLiquidityRejected")
        state = order(world)
        assert (state.status, world.account.illegal_transitions) == (pb.ORDER_STATUS_CANCELED, 0)
        assert state.reject is not None
        assert state.reject.reason == error_pb2.REASON_NO_LIQUIDITY
        again = await world.submit("key-1", **market_trigger())
        assert (again.outcome, again.HasField("reject")) == (wire.SUBMIT_OUTCOME_ACKNOWLEDGED, False)
        assert again.order.reject.venue_text == "marketOrderNoLiquidityRejected"


async def test_invalid_trigger_price_is_the_venues_refusal() -> None:
    """Only the venue knows its mark."""
    async with gateway() as world:
        world.venue.script(
            "place_order", Refused(reason=Reason.INVALID_TRIGGER_PRICE, text="Invalid TP/SL price. asset=1")
        )
        answer = await world.submit("key-1", **market_trigger())
        assert answer.outcome == wire.SUBMIT_OUTCOME_REJECTED
        assert answer.reject.reason == error_pb2.REASON_INVALID_TRIGGER_PRICE


BAD: list[tuple[dict[str, Any], Reason, str]] = [
    (market_trigger(trigger=None), Reason.REQUIRED_FIELD_MISSING, "order.trigger"),
    (market_trigger(price="0"), Reason.PRICE_NOT_POSITIVE, "order.trigger.price"),
    (market_trigger(price="100.3"), Reason.PRICE_OFF_TICK, "order.trigger.price"),
    (market_trigger() | {"price": "1"}, Reason.CONTRADICTORY_FIELDS, "order.price"),
    (market_trigger(STOP_LIMIT), Reason.REQUIRED_FIELD_MISSING, "order.price"),
    (market_trigger(STOP_LIMIT) | {"price": "99"}, Reason.REQUIRED_FIELD_MISSING, "order.time_in_force"),
    (market_trigger(time_in_force=pb.TIME_IN_FORCE_IOC), Reason.UNSUPPORTED_TIME_IN_FORCE, "order.time_in_force"),
    (
        market_trigger(STOP_LIMIT) | {"price": "99", "time_in_force": pb.TIME_IN_FORCE_FOK},
        Reason.UNSUPPORTED_TIME_IN_FORCE,
        "order.time_in_force",
    ),
    (
        market_trigger(instructions=[pb.EXECUTION_INSTRUCTION_POST_ONLY]),
        Reason.UNSUPPORTED_INSTRUCTION,
        "order.instructions",
    ),
    (market_trigger(quantity="0.01"), Reason.BELOW_MIN_NOTIONAL, "order.quantity"),
    ({"trigger": pb.Trigger(price="100")}, Reason.CONTRADICTORY_FIELDS, "order.trigger"),
    ({"twap": pb.TwapSchedule()}, Reason.CONTRADICTORY_FIELDS, "order.twap"),
    (twap() | {"twap": None}, Reason.REQUIRED_FIELD_MISSING, "order.twap"),
    (twap(4), Reason.INVALID_ARGUMENT, "order.twap.duration"),
    (twap(1_441), Reason.INVALID_ARGUMENT, "order.twap.duration"),
    (twap(5.5), Reason.INVALID_ARGUMENT, "order.twap.duration"),
    (twap(-5), Reason.INVALID_ARGUMENT, "order.twap.duration"),
    (twap(max_slippage_bps=10), Reason.UNSUPPORTED_INSTRUCTION, "order.max_slippage_bps"),
    (twap() | {"price": "100"}, Reason.CONTRADICTORY_FIELDS, "order.price"),
]


@pytest.mark.parametrize(("changes", "reason", "field"), BAD)
async def test_impossible_terms_are_refused_by_name_before_anything_is_sent(
    changes: dict[str, Any], reason: Reason, field: str
) -> None:
    """And a preview names the same."""
    async with gateway(venue=FakeVenue(twap=True)) as world:
        world.venue.set_book(BTC, *_book())
        with pytest.raises(InvalidRequest) as caught:
            await world.submit("key-1", **changes)
        assert (caught.value.reason, caught.value.field) == (reason, field)
        assert world.venue.placed == []
        preview = await world.orders.PreviewOrder(wire.PreviewOrderRequest(order=new_order("key-1", **changes)), None)
        assert error_pb2.Reason.Value(f"REASON_{reason}") in [row.reason for row in preview.rejects]


def _book() -> tuple[Any, Any]:
    return levels(("99", "5")), levels(("100", "5"))


async def test_preview_of_a_market_trigger_judges_it_by_its_trigger() -> None:
    """Its notional is that of the worst price, whatever the book says."""
    async with gateway() as world:
        request = wire.PreviewOrderRequest(order=new_order("k", **market_trigger()))
        preview = await world.orders.PreviewOrder(request, None)
        assert (list(preview.rejects), preview.estimated_notional) == ([], "110")
        assert "fetch_book" not in world.venue.calls


# expiry


async def test_request_expires_with_its_callers_deadline() -> None:
    """A caller that has given up must not meet a late order; without a deadline the desk's own bound holds."""
    async with gateway() as world:
        now_ns = world.clock.now_ns()
        await world.submit("key-1")
        deadlines.set_deadline(deadlines.Deadline(world.clock, world.clock.monotonic_s() + 2.0))
        await world.submit("key-2")
        deadlines.set_deadline(deadlines.Deadline(world.clock, world.clock.monotonic_s() + 60.0))
        await world.submit("key-3")
        deadlines.set_deadline(None)
        expiries = [(ticket.reservation.expires_ns - now_ns) / 1e9 for ticket in world.venue.placed]
        assert expiries == [15.0, 2.0, 15.0]


# shrunk orders


async def test_reduce_only_order_that_shrank_is_filled_once_its_fills_are_known() -> None:
    """The venue says filled and not how much: after its settle delay, what was fetched is all there is."""
    async with gateway() as world:
        await world.submit("key-1", side=SELL, instructions=[REDUCE_ONLY])
        key = world.venue.placed[0].venue_client_order_id
        world.venue.fill(world.venue.orders[key], "0.3", "100", push=False)
        _shrunk(world, key)
        assert order(world).working
        await settle(world, lambda: order(world).terminal)
        state = order(world)
        assert (state.status, state.filled, state.quantity) == (pb.ORDER_STATUS_FILLED, Decimal("0.3"), Decimal("0.3"))
        assert world.core.resolver.doubts == {}


async def test_order_called_filled_without_any_fill_stays_in_doubt() -> None:
    """Nothing proves anything: it is asked about for ever, and a person can see it."""
    async with gateway() as world:
        await world.submit("key-1", side=SELL, instructions=[REDUCE_ONLY])
        _shrunk(world, world.venue.placed[0].venue_client_order_id)
        for _ in range(30):
            world.clock.advance(5)
            world.core.resolver.hurry(MAIN)
            await asyncio.sleep(0)
        assert not order(world).terminal
        assert list(world.core.resolver.doubts) == [order(world).order_id]


def _shrunk(world: World, key: str) -> None:
    world.venue.orders[key] = replace(
        world.venue.orders[key], state=VenueOrderState.FILLED, filled_quantity=None, text="filled"
    )
    world.venue._push_order(key)


# amendments


async def amend(world: World, **change: Any) -> wire.ReplaceOrderResponse:
    request = wire.ReplaceOrderRequest(
        reference=wire.OrderReference(account_id=MAIN, client_order_id="key-1"), request_id="r-1", **change
    )
    return await world.core.working.replace(request)


async def test_trigger_price_of_a_market_trigger_is_amended_with_a_worst_price_of_its_own() -> None:
    """The worst price moves along and is none of the order's terms."""
    async with gateway() as world:
        await world.submit("key-1", **market_trigger())
        answer = await amend(world, trigger_price="120")
        assert answer.outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        (ticket,) = world.venue.amendments
        assert (ticket.trigger_price, str(ticket.price), ticket.time_in_force) == (
            Decimal(120),
            "132.0",
            pb.TIME_IN_FORCE_GTC,
        )
        terms = answer.order.terms
        assert (terms.trigger.price, terms.HasField("price")) == ("120", False)


async def test_trigger_and_limit_price_are_amended_together() -> None:
    """Each where asked."""
    async with gateway() as world:
        limits = {"price": "99", "time_in_force": pb.TIME_IN_FORCE_GTC}
        await world.submit("key-1", **(market_trigger(STOP_LIMIT) | limits))
        terms = (await amend(world, trigger_price="120", price="119")).order.terms
        assert (terms.trigger.price, terms.price) == ("120", "119")


@pytest.mark.parametrize(
    ("changes", "change", "reason"),
    [
        ({}, {"trigger_price": "90"}, Reason.CONTRADICTORY_FIELDS),
        (market_trigger(), {"price": "90"}, Reason.CONTRADICTORY_FIELDS),
        (market_trigger(), {"trigger_price": "90.3"}, Reason.PRICE_OFF_TICK),
        (market_trigger(), {"trigger_price": "0"}, Reason.PRICE_NOT_POSITIVE),
    ],
)
async def test_amendment_of_a_term_the_order_does_not_have_is_refused(
    changes: dict[str, Any], change: dict[str, Any], reason: Reason
) -> None:
    """Nothing is sent."""
    async with gateway() as world:
        await world.submit("key-1", **changes)
        with pytest.raises(InvalidRequest) as caught:
            await amend(world, **change)
        assert caught.value.reason is reason
        assert world.venue.amendments == []


async def test_lost_amendment_of_a_trigger_is_judged_by_the_trigger_price_the_venue_shows() -> None:
    """A worst price beside it, which is none of our terms, proves nothing."""
    for arrived, price in ((True, Decimal(120)), (False, Decimal(100))):
        async with gateway() as world:
            await world.submit("key-1", **market_trigger())
            world.venue.script("amend_order", Lost(arrived=arrived))
            assert (await amend(world, trigger_price="120")).outcome == wire.SUBMIT_OUTCOME_UNKNOWN
            await settle(world, partial(_is_settled, world))
            assert (order(world).trigger_price, order(world).price) == (price, None)


def _is_settled(world: World) -> bool:
    return not order(world).pending_replace


# TWAP


async def test_twap_goes_alone_with_its_schedule_and_belongs_to_its_fills() -> None:
    """Also in a batch; its slices' fills name its id."""
    async with gateway(venue=FakeVenue(batch=10, twap=True)) as world:
        world.venue.set_book(BTC, *_book())
        request = wire.BatchSubmitOrdersRequest(
            orders=[new_order("a"), new_order("twap", **twap(instructions=[REDUCE_ONLY])), new_order("b")]
        )
        response = await world.orders.BatchSubmitOrders(request, None)
        assert [row.response.outcome for row in response.results] == [wire.SUBMIT_OUTCOME_ACKNOWLEDGED] * 3
        assert [len(tickets) for _, tickets in world.venue.batches] == [2]
        (ticket,) = [one for one in world.venue.placed if one.twap is not None]
        assert ticket.twap is not None
        assert (ticket.twap.minutes, ticket.twap.randomize, ticket.reduce_only) == (30, False, True)
        assert response.results[1].response.order.trigger_state == pb.TRIGGER_STATE_UNSPECIFIED


async def test_twap_of_a_venue_that_bounds_its_slices_has_a_worst_price() -> None:
    """A wide bound, for the market moves while it runs; the caller's own goes before it."""
    venue = FakeVenue(twap=True)
    venue.capabilities.twap_bounded = True
    async with gateway(venue=venue) as world:
        world.venue.set_book(BTC, *_book())
        for key, changes in (("ours", {}), ("callers", {"max_slippage_bps": 100})):
            request = wire.SubmitOrderRequest(order=new_order(key, **twap(**changes)))
            assert (await world.orders.SubmitOrder(request, None)).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        ours, callers = (one.price for one in world.venue.placed)
        assert 0 < abs(callers - 100) < abs(ours - 100) <= 10


async def test_good_till_date_order_tells_the_venue_its_end() -> None:
    """Others have none."""
    venue = FakeVenue()
    venue.capabilities.order_types[0].times_in_force.append(pb.TIME_IN_FORCE_GTD)
    async with gateway(venue=venue) as world:
        end = timestamp(world.clock.now_ns() + 3_600 * 10**9)
        timed = new_order("timed", time_in_force=pb.TIME_IN_FORCE_GTD, expire_time=end)
        for order in (timed, new_order("plain")):
            await world.orders.SubmitOrder(wire.SubmitOrderRequest(order=order), None)
        assert [one.expire_ns for one in world.venue.placed] == [end.ToNanoseconds(), 0]


async def test_target_of_a_twap_tells_all_that_is_known_of_it() -> None:
    """Terms and time, the ids it cannot have, and whether another one of equal terms waits for its id."""
    async with gateway(venue=FakeVenue(twap=True)) as world:
        world.venue.set_book(BTC, *_book())
        world.venue.script("place_order", Placed(venue_order_id="twap:1"))
        await world.submit("first", **twap())
        for key in ("second", "third"):
            world.venue.script("place_order", Lost(arrived=False))
            world.venue.script("fetch_order", None)
            await world.submit(key, **twap())
        target = world.core.desk.target_of(world.account, order(world, "second")).twap
        assert target is not None
        assert (target.others, target.rivals) == (frozenset({"twap:1"}), True)
        assert target.not_after_ns - target.not_before_ns == 15 * 10**9
        alone = world.core.desk.target_of(world.account, order(world, "first")).twap
        assert alone is not None
        assert alone.rivals
        await world.submit("plain")
        assert world.core.desk.target_of(world.account, order(world, "plain")).twap is None


async def test_twap_cannot_be_amended() -> None:
    """Said by name."""
    async with gateway(venue=FakeVenue(twap=True)) as world:
        world.venue.set_book(BTC, *_book())
        await world.submit("key-1", **twap())
        with pytest.raises(NotSupported):
            await amend(world, quantity="2")


async def test_unresolved_twap_stays_uncertain_for_a_person() -> None:
    """Where the venue's answer cannot be told apart, nothing is guessed, however long it takes."""

    class Ambiguous(FakeVenue):
        async def fetch_order(self, target: Any) -> VenueOrder | None:
            raise OutcomeUnknown("TWAPs 5 and 6 have these terms and this time")

    async with gateway(venue=Ambiguous(twap=True)) as world:
        world.venue.set_book(BTC, *_book())
        world.venue.script("place_order", Lost())
        world.venue.pushing = False
        assert (await world.submit("key-1", **twap())).outcome == wire.SUBMIT_OUTCOME_UNKNOWN
        for _ in range(30):
            world.clock.advance(5)
            world.core.resolver.hurry(MAIN)
            await asyncio.sleep(0)
        assert order(world).uncertain
        (row,) = world.core.resolver.uncertain_orders()
        assert "TWAPs 5 and 6" in row.evidence[-1].finding
