"""Cancels that always get through, and amendments that apply only when the venue confirms."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tests.fakes_venue import MAIN, Down, FakeVenue, Held, Lost
from tests.unit.venuemesh.gateway.gateway_world import World, gateway, until
from venuemesh.errors import (
    ClientOrderIdReused,
    InvalidOrder,
    JournalUnavailable,
    MeshError,
    OrderNotFound,
    PreconditionFailed,
    ProtocolViolation,
    Reason,
    Sent,
    VersionConflict,
)
from venuemesh.gateway import amendments, working
from venuemesh.gateway.orders import OrderState
from venuemesh.gateway.venue import Amended, CancelAnswer, OrderTarget, OrderTicket, Refused, VenueOrderState
from venuemesh.v1 import error_pb2, venue_pb2
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as wire


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the stream never confirms, do not wait for it long."""
    monkeypatch.setattr(working, "CONFIRM_WAIT_S", 0.01)


def reference(key: str = "key-1") -> wire.OrderReference:
    return wire.OrderReference(account_id=MAIN, client_order_id=key)


def order(world: World, key: str = "key-1") -> OrderState:
    found = world.account.order_by_key(key)
    assert found is not None
    return found


async def cancel(world: World, key: str = "key-1") -> wire.CancelOrderResponse:
    return await world.core.working.cancel(reference(key))


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


# cancels


async def test_cancel_changes_the_status_only_when_the_venue_confirms() -> None:
    """Property 18: pending meanwhile, CANCELED with what was filled before afterwards."""
    async with gateway() as world, asyncio.TaskGroup() as tasks:
        await world.submit("key-1", quantity="2")
        world.venue.fill(world.venue.order_of(world.venue.placed[0]), "0.5", "100")
        release = asyncio.Event()
        world.venue.script("cancel_order", Held(release))
        call = tasks.create_task(cancel(world))
        await until(lambda: world.venue.cancels)
        assert (order(world).status, order(world).pending_cancel) == (pb.ORDER_STATUS_PARTIALLY_FILLED, True)
        release.set()
        answer = await call
        assert answer.outcome == wire.CANCEL_OUTCOME_CANCELED
        assert (answer.order.status, answer.order.filled_quantity) == (pb.ORDER_STATUS_CANCELED, "0.5")


@pytest.mark.parametrize("obstacle", ["reconciling", "draining", "journal down", "journal slow"])
async def test_cancel_passes_whatever_stands_in_the_way_of_orders(obstacle: str) -> None:
    """Reconciling, draining, without the journal: the venue gets it, the caller its answer."""
    async with gateway() as world:
        await world.submit("key-1")
        if obstacle == "reconciling":
            world.venue.script("fetch_snapshot", Held(asyncio.Event()))
            world.core.intake.on_account_lost(MAIN, "cut")
            world.core.intake.on_account_live(MAIN)
        elif obstacle == "draining":
            world.core.drain()
        elif obstacle == "journal down":
            world.bus.connected = False
        else:
            world.bus.holding = True
        answer = await cancel(world)
        assert answer.outcome == wire.CANCEL_OUTCOME_CANCELED
        assert order(world).status == pb.ORDER_STATUS_CANCELED
        world.bus.release()
        world.bus.connected = True


async def test_cancel_confirmed_without_a_word_on_the_stream_is_believed() -> None:
    """The answer is the venue's confirmation; what was filled comes from a query."""
    async with gateway() as world:
        await world.submit("key-1", quantity="2")
        world.venue.pushing = False
        world.venue.fill(world.venue.order_of(world.venue.placed[0]), "0.5", "100")
        answer = await cancel(world)
        assert answer.outcome in (wire.CANCEL_OUTCOME_CANCELED, wire.CANCEL_OUTCOME_UNKNOWN)
        await settle(world, lambda: order(world).terminal)
        assert (order(world).status, order(world).filled) == (pb.ORDER_STATUS_CANCELED, Decimal("0.5"))


@pytest.mark.parametrize("how", ["filled", "expired", "repeat"])
async def test_cancel_of_an_order_that_is_gone_says_already_terminal(how: str) -> None:
    """OK, not an error; also when only the venue knew that it was gone."""
    async with gateway() as world:
        await world.submit("key-1")
        there = world.venue.order_of(world.venue.placed[0])
        if how == "filled":
            world.venue.pushing = False
            world.venue.fill(there, "1", "100")
        elif how == "expired":
            world.venue.end(there, VenueOrderState.EXPIRED, push=False)
        else:
            await cancel(world)
        answer = await cancel(world)
        if answer.outcome == wire.CANCEL_OUTCOME_UNKNOWN:
            await settle(world, lambda: order(world).terminal)
            answer = await cancel(world)
        assert (answer.outcome, answer.already_terminal) == (wire.CANCEL_OUTCOME_ALREADY_TERMINAL, True)
        expected = {"filled": pb.ORDER_STATUS_FILLED, "expired": pb.ORDER_STATUS_EXPIRED}
        assert answer.order.status == expected.get(how, pb.ORDER_STATUS_CANCELED)


async def test_cancel_whose_reply_is_lost_is_sent_again_and_settled() -> None:
    """A cancel may be repeated: gone at the second try, and canceled by what the venue shows."""
    async with gateway() as world:
        await world.submit("key-1")
        world.venue.pushing = False
        world.venue.script("cancel_order", Lost())
        answer = await cancel(world)
        assert answer.outcome == wire.CANCEL_OUTCOME_ALREADY_TERMINAL
        assert answer.order.status == pb.ORDER_STATUS_CANCELED


@pytest.mark.parametrize("failure", [Down(), Lost(arrived=False), ZeroDivisionError("ours")], ids=str)
async def test_cancel_without_an_answer_is_unknown_and_goes_on(failure: Any) -> None:
    """The order keeps its pending cancel, and the gateway sends it until the venue has spoken."""
    async with gateway() as world:
        await world.submit("key-1")
        world.venue.script("cancel_order", *[failure] * working.CANCEL_TRIES)
        answer = await cancel(world)
        assert answer.outcome in (wire.CANCEL_OUTCOME_UNKNOWN, wire.CANCEL_OUTCOME_ALREADY_TERMINAL)
        await settle(world, lambda: order(world).terminal)
        assert order(world).status == pb.ORDER_STATUS_CANCELED


async def test_cancel_refused_by_the_venue_leaves_the_order_as_it_was() -> None:
    """REJECTED with the venue's words; nothing is pending any more."""
    async with gateway() as world:
        await world.submit("key-1")
        world.venue.script("cancel_order", Refused(reason=Reason.VENUE_REJECTED, text="not now"))
        answer = await cancel(world)
        assert (answer.outcome, answer.reject.venue_text) == (wire.CANCEL_OUTCOME_REJECTED, "not now")
        assert (order(world).working, order(world).pending_cancel) == (True, False)


async def test_cancel_whose_caller_hangs_up_is_sent_all_the_same() -> None:
    """Cancels always get through."""
    async with gateway() as world:
        await world.submit("key-1")
        release = asyncio.Event()
        world.venue.script("cancel_order", Held(release))
        call = asyncio.create_task(cancel(world))
        await until(lambda: world.venue.cancels)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        release.set()
        await settle(world, lambda: order(world).terminal)


async def test_cancel_of_an_order_in_flight_ends_it_when_it_arrives() -> None:
    """The cancel may overtake the order: it is sent again until the order is gone."""
    async with gateway() as world, asyncio.TaskGroup() as tasks:
        release = asyncio.Event()
        world.venue.script("place_order", Held(release))
        submit = tasks.create_task(world.submit("key-1"))
        await until(lambda: world.venue.placed)
        answer = await cancel(world)
        assert answer.outcome == wire.CANCEL_OUTCOME_UNKNOWN
        release.set()
        assert (await submit).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        await settle(world, lambda: order(world).terminal)
        assert order(world).status == pb.ORDER_STATUS_CANCELED


async def test_cancel_in_a_delisted_instrument_passes() -> None:
    """The instrument is not listed any more; the order is still open."""
    async with gateway() as world:
        await world.submit("key-1")
        world.core.instruments.replace([])
        assert (await cancel(world)).outcome == wire.CANCEL_OUTCOME_CANCELED


async def test_cancel_by_version_and_of_unknown_orders_is_refused_before_it_is_sent() -> None:
    """Nothing reaches the venue."""
    async with gateway() as world:
        await world.submit("key-1")
        with pytest.raises(VersionConflict):
            await world.core.working.cancel(reference(), expected_version=99)
        with pytest.raises(OrderNotFound):
            await cancel(world, "nobody")
        assert world.venue.cancels == []


async def test_cancel_all_cancels_what_matches_and_answers_for_each() -> None:
    """By symbol and side; one that fails does not hide the others."""
    async with gateway() as world:
        for key in ("a", "b", "c"):
            await world.submit(key)
        await world.submit("sell", side=pb.SIDE_SELL)
        world.venue.script("cancel_order", None, Refused(reason=Reason.VENUE_REJECTED, text="no"))
        answer = await world.core.working.cancel_all(wire.CancelAllOrdersRequest(account_id=MAIN, side=pb.SIDE_BUY))
        outcomes = sorted(one.outcome for one in answer.results)
        assert outcomes == sorted([wire.CANCEL_OUTCOME_CANCELED] * 2 + [wire.CANCEL_OUTCOME_REJECTED])
        assert order(world, "sell").working


def natively(**options: Any) -> FakeVenue:
    """A venue that cancels all orders in one request."""
    venue = FakeVenue(batch=10, **options)
    venue.capabilities.cancel_all = venue_pb2.PROVISION_NATIVE
    return venue


async def cancel_all(world: World, **scope: Any) -> list[wire.CancelOrderResponse]:
    answer = await world.core.working.cancel_all(wire.CancelAllOrdersRequest(account_id=MAIN, **scope))
    return list(answer.results)


async def test_cancel_all_is_one_request_where_the_venue_has_one() -> None:
    """Each order has its answer; no order is cancelled by itself; a second call finds nothing and still goes out."""
    async with gateway(venue=natively()) as world:
        for key in ("a", "b", "c"):
            await world.submit(key)
        results = await cancel_all(world)
        assert [(row.outcome, row.order.status) for row in results] == [
            (wire.CANCEL_OUTCOME_CANCELED, pb.ORDER_STATUS_CANCELED)
        ] * 3
        assert not any(row.already_terminal or row.order.pending_cancel for row in results)
        assert (world.venue.cancels_of_all, world.venue.cancels) == ([""], [])
        assert await cancel_all(world) == []
        assert world.venue.cancels_of_all == ["", ""]


async def test_cancel_all_of_one_symbol_is_one_request_from_the_second_order_on() -> None:
    """Of a side there is none: its orders go by their ids."""
    async with gateway(venue=natively()) as world:
        for key in ("a", "b"):
            await world.submit(key)
        symbol = order(world, "a").terms.symbol
        await cancel_all(world, symbol=symbol)
        assert (world.venue.cancels_of_all, world.venue.cancels) == ([symbol], [])
        await world.submit("one")
        await cancel_all(world, symbol=symbol)
        await world.submit("side")
        await cancel_all(world, side=pb.SIDE_BUY)
        assert world.venue.cancels_of_all == [symbol]
        assert len(world.venue.cancels) == 2


@pytest.mark.parametrize(
    "reply",
    [Refused(reason=Reason.VENUE_REJECTED, text="no"), Down(), Lost(arrived=False), ValueError("a fault of ours")],
)
async def test_cancel_all_that_fails_as_a_whole_cancels_each_order_by_itself(reply: Any) -> None:
    """Cancels always get through: the one request is only a shorter way."""
    async with gateway(venue=natively()) as world:
        for key in ("a", "b"):
            await world.submit(key)
        world.venue.script("cancel_all", reply)
        results = await cancel_all(world)
        assert [row.outcome for row in results] == [wire.CANCEL_OUTCOME_CANCELED] * 2
        assert len(world.venue.cancels) == 2


async def test_order_that_the_one_request_did_not_meet_is_cancelled_by_itself() -> None:
    """It was on its way: what the venue says of all proves nothing of it."""
    async with gateway(venue=natively()) as world:
        await world.submit("a")
        await world.submit("late")
        late = world.venue.orders[order(world, "late").venue_client_order_id]

        def misses_one(_instrument: object) -> None:
            world.venue.end(world.venue.orders[order(world, "a").venue_client_order_id], VenueOrderState.CANCELED)

        world.venue._cancel_all = misses_one  # type: ignore[method-assign]
        results = await cancel_all(world)
        assert [row.outcome for row in results] == [wire.CANCEL_OUTCOME_CANCELED] * 2
        assert [target.venue_client_order_id for target in world.venue.cancels] == [late.venue_client_order_id]


# amendments


async def amend(world: World, request_id: str = "r-1", key: str = "key-1", **change: Any) -> wire.ReplaceOrderResponse:
    change = change or {"price": "101"}
    return await world.core.working.replace(
        wire.ReplaceOrderRequest(reference=reference(key), request_id=request_id, **change)
    )


async def test_amendment_applies_when_the_venue_confirms_and_not_before() -> None:
    """Property 17a."""
    async with gateway() as world, asyncio.TaskGroup() as tasks:
        await world.submit("key-1")
        release = asyncio.Event()
        world.venue.script("amend_order", Held(release))
        call = tasks.create_task(amend(world, price="101", quantity="3"))
        await until(lambda: world.venue.amendments)
        assert (order(world).pending_replace, order(world).price) == (True, Decimal(100))
        release.set()
        answer = await call
        assert answer.outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        assert (answer.order.terms.price, answer.order.terms.quantity) == ("101", "3")
        assert not answer.order.pending_replace


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"quantity": "0"}, "quantity"),
        ({"quantity": "0.5"}, "quantity"),
        ({"price": "100.3"}, "order.price"),
        ({"trigger_price": "5"}, "trigger_price"),
        ({"expected_version": 7, "price": "101"}, None),
    ],
    ids=str,
)
async def test_bad_amendment_is_refused_before_anything_is_written(change: dict[str, Any], field: str | None) -> None:
    """Like a bad order: by field, and the order stays as it was."""
    async with gateway() as world:
        await world.submit("key-1")
        world.venue.fill(world.venue.order_of(world.venue.placed[0]), "0.5", "100")
        with pytest.raises((InvalidOrder, VersionConflict)) as caught:
            await amend(world, **change)
        assert caught.value.field == field
        assert world.venue.amendments == []
        assert not order(world).pending_replace
        with pytest.raises(InvalidOrder):
            await world.core.working.replace(wire.ReplaceOrderRequest(reference=reference(), request_id="r"))


async def test_amendment_refused_by_the_venue_leaves_the_terms() -> None:
    """REJECTED with the venue's words."""
    async with gateway() as world:
        await world.submit("key-1")
        world.venue.script("amend_order", Refused(reason=Reason.POST_ONLY_WOULD_CROSS, text="would cross"))
        answer = await amend(world)
        assert answer.outcome == wire.SUBMIT_OUTCOME_REJECTED
        assert answer.reject.reason == error_pb2.REASON_POST_ONLY_WOULD_CROSS
        assert (order(world).price, order(world).pending_replace) == (Decimal(100), False)


class Anew(FakeVenue):
    """Amends by cancelling and placing anew: a new id, fills counted from 0."""

    def __init__(self) -> None:
        super().__init__()
        self.capabilities.amend_mode = venue_pb2.AMEND_MODE_CANCEL_REPLACE

    def _amend(self, target: OrderTarget, ticket: OrderTicket) -> Amended | Refused:
        key = target.venue_client_order_id
        before = self.orders[key]
        if before.state is not VenueOrderState.WORKING:
            return Refused(reason=Reason.ORDER_NOT_WORKING, text="Cannot modify canceled or filled order")
        self.end(before, VenueOrderState.CANCELED)
        self._ids += 1
        self.orders[key] = replace(
            before,
            venue_order_id=f"v{self._ids}",
            quantity=ticket.quantity,
            price=ticket.price,
            filled_quantity=Decimal(0),
            state=VenueOrderState.WORKING,
        )
        self._push_order(key)
        return Amended(venue_order_id=f"v{self._ids}")


async def test_amendment_of_a_partly_filled_order_asks_a_venue_that_places_anew_for_the_rest() -> None:
    """New total 3 with 0.5 filled: 2.5 are placed, or the caller would end up with more than was asked for."""
    async with gateway(venue=Anew()) as world:
        await world.submit("key-1", quantity="2")
        world.venue.fill(world.venue.order_of(world.venue.placed[0]), "0.5", "100")
        answer = await amend(world, quantity="3")
        assert world.venue.amendments[0].quantity == Decimal("2.5")
        shown = answer.order
        assert (shown.terms.quantity, shown.filled_quantity, shown.leaves_quantity) == ("3", "0.5", "2.5")
        assert shown.working
        world.venue.fill(world.venue.order_of(world.venue.placed[0]), "2.5", "100")
        assert (order(world).status, order(world).filled) == (pb.ORDER_STATUS_FILLED, Decimal(3))


@pytest.mark.parametrize("venue", [FakeVenue, Anew])
@pytest.mark.parametrize("pushing", [True, False])
async def test_amendment_whose_reply_is_lost_is_unknown_until_the_venue_shows_it(
    venue: type[FakeVenue], pushing: bool
) -> None:
    """In place or anew, told by the stream or not: what the venue shows decides."""
    async with gateway(venue=venue()) as world:
        await world.submit("key-1")
        world.venue.pushing = pushing
        world.venue.script("amend_order", Lost())
        answer = await amend(world, price="101", quantity="3")
        assert answer.outcome == wire.SUBMIT_OUTCOME_UNKNOWN
        await settle(world, lambda: not order(world).pending_replace)
        now = order(world)
        assert (now.price, now.quantity, now.working) == (Decimal(101), Decimal(3), True)


@pytest.mark.parametrize("error", [ProtocolViolation("unreadable", sent=Sent.YES), ZeroDivisionError("ours")], ids=str)
async def test_amendment_answered_unreadably_is_unknown(error: Exception) -> None:
    """An answer that cannot be read is no refusal."""
    async with gateway() as world:
        await world.submit("key-1")
        world.venue.script("fetch_order", Held(asyncio.Event()))
        world.venue.script("amend_order", error)
        assert (await amend(world)).outcome == wire.SUBMIT_OUTCOME_UNKNOWN
        assert order(world).pending_replace


async def test_amendment_that_never_arrived_is_given_up_only_after_its_lifetime() -> None:
    """However often the venue is asked before: absence is no proof until the request could not arrive any more."""
    async with gateway() as world:
        await world.submit("key-1")
        world.venue.script("amend_order", Lost(arrived=False))
        await amend(world)
        doubt = next(iter(world.core.resolver.doubts.values()))
        for _ in range(30):
            await world.core.resolver.ask(doubt)
            assert order(world).pending_replace
        world.clock.advance(world.core.desk.settings.order_lifetime_s + 0.9)
        await world.core.resolver.ask(doubt)
        assert order(world).pending_replace
        world.clock.advance(0.2)
        await world.core.resolver.ask(doubt)
        assert (order(world).pending_replace, order(world).price) == (False, Decimal(100))


async def test_fill_racing_an_amendment_to_more_does_not_end_the_order() -> None:
    """The old quantity fills while the amendment is under way; the rest lives on when it is confirmed."""
    async with gateway() as world, asyncio.TaskGroup() as tasks:
        await world.submit("key-1")
        release = asyncio.Event()
        world.venue.script("amend_order", Held(release, Amended(venue_order_id="v1")))
        call = tasks.create_task(amend(world, quantity="3"))
        await until(lambda: world.venue.amendments)
        fill = world.venue.fill(world.venue.order_of(world.venue.placed[0]), "1", "100", push=False)
        world.core.intake.on_fill(MAIN, fill)
        assert order(world).working
        release.set()
        answer = await call
        assert (answer.order.leaves_quantity, answer.order.working) == ("2", True)


async def test_same_amendment_from_many_callers_is_sent_once() -> None:
    """REPEAT_BY_KEY, while it is under way and afterwards."""
    async with gateway() as world:
        await world.submit("key-1")
        release = asyncio.Event()
        world.venue.script("amend_order", Held(release))
        async with asyncio.TaskGroup() as tasks:
            calls = [tasks.create_task(amend(world)) for _ in range(5)]
            await until(lambda: world.venue.amendments)
            release.set()
        answers = [call.result() for call in calls]
        assert {one.outcome for one in answers} == {wire.SUBMIT_OUTCOME_ACKNOWLEDGED}
        assert [one.replayed for one in answers].count(False) == 1
        assert (await amend(world)).replayed
        assert len(world.venue.amendments) == 1
        with pytest.raises(ClientOrderIdReused) as caught:
            await amend(world, price="102")
        assert caught.value.metadata["order_id"] == order(world).order_id


async def _or_error(call: Awaitable[wire.ReplaceOrderResponse]) -> wire.ReplaceOrderResponse | Exception:
    try:
        return await call
    except MeshError as error:
        return error


async def test_two_amendments_of_one_order_at_once_are_not_both_sent() -> None:
    """The second finds the first under way, even if both were waiting for the journal."""
    async with gateway() as world:
        await world.submit("key-1")
        release = asyncio.Event()
        world.venue.script("amend_order", Held(release))
        async with asyncio.TaskGroup() as tasks:
            first, second = (
                tasks.create_task(_or_error(amend(world, f"r-{number}", price=f"10{number}"))) for number in (1, 2)
            )
            await second
            release.set()
        results = [first.result(), second.result()]
        refused = [one for one in results if isinstance(one, PreconditionFailed)]
        assert [one.reason for one in refused] == [Reason.ORDER_NOT_WORKING]
        assert len(world.venue.amendments) == 1


async def test_amendment_without_the_journal_is_not_sent() -> None:
    """Same rule as for orders; the key stays free."""
    async with gateway() as world:
        await world.submit("key-1")
        world.bus.connected = False
        with pytest.raises(JournalUnavailable):
            await amend(world)
        assert world.venue.amendments == []
        assert not order(world).pending_replace
        world.bus.connected = True
        assert (await amend(world)).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED


async def test_amendment_of_an_earlier_process_gives_its_first_result() -> None:
    """Also when the order has ended since; another content is refused and names the order."""
    async with gateway() as world:
        await world.submit("key-1")
        await amend(world, price="101")
        world.venue.script("amend_order", Refused(reason=Reason.NO_LIQUIDITY, text="no"))
        await amend(world, "r-2", price="102")
        await world.durable()
    async with gateway(venue=world.venue, bus=world.bus) as again:
        for _ in range(2):
            answer = await amend(again, price="101")
            assert (answer.outcome, answer.replayed) == (wire.SUBMIT_OUTCOME_ACKNOWLEDGED, True)
        refused = await amend(again, "r-2", price="102")
        assert (refused.outcome, refused.reject.message) == (wire.SUBMIT_OUTCOME_REJECTED, "no")
        with pytest.raises(ClientOrderIdReused) as caught:
            await amend(again, price="103")
        assert (caught.value.field, caught.value.metadata["order_id"]) == ("request_id", order(again).order_id)
        await again.core.working.cancel(reference())
        assert (await amend(again, price="101")).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        assert len(world.venue.amendments) == 2
        assert order(again).price == Decimal(101)


@pytest.mark.parametrize("arrived", [True, False])
async def test_amendment_without_an_answer_gives_what_the_venue_showed_of_it(arrived: bool) -> None:
    """UNKNOWN until it is settled, then the truth, to every repeat, also after a restart."""
    async with gateway() as world:
        await world.submit("key-1")
        world.venue.script("amend_order", Lost(arrived=arrived))
        world.venue.script("fetch_order", *[Lost()] * 2)
        assert (await amend(world, price="101")).outcome == wire.SUBMIT_OUTCOME_UNKNOWN
        assert (await amend(world, price="101")).outcome == wire.SUBMIT_OUTCOME_UNKNOWN
        world.clock.advance(60)
        await world.core.resolver.ask_now(world.account, order(world).order_id)
        await world.core.resolver.ask_now(world.account, order(world).order_id)
        expected = wire.SUBMIT_OUTCOME_ACKNOWLEDGED if arrived else wire.SUBMIT_OUTCOME_REJECTED
        assert (await amend(world, price="101")).outcome == expected
        await world.durable()
    async with gateway(venue=world.venue, bus=world.bus) as again:
        answer = await amend(again, price="101")
        assert (answer.outcome, answer.replayed) == (expected, True)
        assert not order(again).pending_replace
        assert len(world.venue.amendments) == 1


async def test_amendment_of_which_only_the_intent_survived_is_asked_about() -> None:
    """The process ended after the send and before its event was durable: the venue's terms are taken."""
    async with gateway() as world:
        await world.submit("key-1")
        await world.durable()
        world.bus.holding = True
        await amend(world, price="101")
        await until(lambda: world.venue.amendments)
    world.bus.holding = False
    world.bus._held.clear()
    async with gateway(venue=world.venue, bus=world.bus) as again:
        await until(lambda: order(again).price == Decimal(101) and not order(again).pending_replace)
        assert (await amend(again, price="101")).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED


async def test_amendment_that_the_journal_took_too_late_was_certainly_not_sent() -> None:
    """The broker stored it without confirming: a repeat is told so, and nothing is sent under that key."""
    async with gateway() as world:
        await world.submit("key-1")
        store = world.bus.append_once

        async def forget(subject: str, payload: bytes) -> int:
            await store(subject, payload)
            raise JournalUnavailable("JetStream did not confirm")

        world.bus.append_once = forget  # type: ignore[method-assign]
        with pytest.raises(JournalUnavailable):
            await amend(world)
        world.bus.append_once = store  # type: ignore[method-assign]
        for _ in range(2):
            again = await amend(world)
            assert (again.outcome, again.replayed) == (wire.SUBMIT_OUTCOME_REJECTED, True)
            assert again.reject.reason == error_pb2.REASON_NEVER_REACHED_VENUE
        assert world.venue.amendments == []


async def test_amendment_whose_caller_hangs_up_is_finished_and_remembered() -> None:
    """The repeat gets its result."""
    async with gateway() as world:
        await world.submit("key-1")
        release = asyncio.Event()
        world.venue.script("amend_order", Held(release))
        call = asyncio.create_task(amend(world))
        await until(lambda: world.venue.amendments)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        release.set()
        answer = await amend(world)
        assert (answer.outcome, answer.replayed) == (wire.SUBMIT_OUTCOME_ACKNOWLEDGED, True)


async def test_remembered_amendments_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is forgotten; the journal still knows its key."""
    monkeypatch.setattr(amendments, "MAX_REMEMBERED_AMENDMENTS", 2)
    async with gateway() as world:
        await world.submit("key-1")
        for number in range(4):
            await amend(world, f"r-{number}", price=str(101 + number))
        assert len(world.core.working.amendments._amendments) == 2
        first = await amend(world, "r-0", price="101")
        assert (first.outcome, first.replayed) == (wire.SUBMIT_OUTCOME_ACKNOWLEDGED, True)
        assert len(world.venue.amendments) == 4


def test_words_of_a_cancel_are_all_judged() -> None:
    """A new answer of the port must be considered in the desk."""
    assert {answer.name for answer in CancelAnswer} == {"CANCELED", "GONE"}
