"""What nobody knows is settled by evidence, and by nothing else."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tests.fakes_venue import MAIN, FakeVenue, Held, Lost
from tests.unit.venuemesh.gateway.gateway_world import World, gateway, new_order, until
from venuemesh.errors import OutcomeUnknown, Reason
from venuemesh.gateway.order_wire import nanoseconds
from venuemesh.gateway.orders import OrderState
from venuemesh.gateway.resolver import MAX_EVIDENCE, Doubt
from venuemesh.gateway.venue import OrderTarget, Refused, VenueOrder, VenueOrderState
from venuemesh.journal import LogOverflow
from venuemesh.v1 import account_pb2, error_pb2
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as wire


def order(world: World, key: str = "key-1") -> OrderState:
    found = world.account.order_by_key(key)
    assert found is not None
    return found


async def lose(world: World, key: str = "key-1", *, arrived: bool, **change: Any) -> Doubt:
    """A submit whose reply is lost, on a stream that tells nothing, before the resolver has asked."""
    world.venue.pushing = False
    world.venue.script("place_order", Lost(arrived=arrived))
    await world.core.desk.submit(new_order(key, **change), wire.ACK_LEVEL_GATEWAY)
    await until(lambda: world.core.resolver.doubts or order(world, key).working)
    order_id = order(world, key).order_id
    return world.core.resolver.doubts.get(order_id) or Doubt(world.account, order_id, 0, 0)


async def test_lost_order_that_is_at_the_venue_is_found_there() -> None:
    """UNKNOWN, then the truth; once, and nothing is sent again."""
    async with gateway() as world:
        await lose(world, arrived=True)
        await until(lambda: order(world).working)
        again = await world.submit("key-1")
        assert (again.outcome, again.replayed) == (wire.SUBMIT_OUTCOME_ACKNOWLEDGED, True)
        assert len(world.venue.placed) == 1
        await until(lambda: not world.core.resolver.doubts or not order(world).uncertain)


async def test_lost_order_that_was_filled_meanwhile_ends_with_its_fills() -> None:
    """The query tells that it is filled; the fills are fetched before it is called so."""
    async with gateway() as world:
        asked = asyncio.Event()
        world.venue.script("fetch_order", Held(asked))
        await lose(world, arrived=True)
        world.venue.fill(world.venue.order_of(world.venue.placed[0]), "1", "99")
        asked.set()
        await until(lambda: order(world).terminal)
        assert (order(world).status, order(world).average_price) == (pb.ORDER_STATUS_FILLED, Decimal(99))


@pytest.mark.parametrize("tries", [1, 200])
async def test_absence_is_proof_only_after_expiry_and_settle_delay(tries: int) -> None:
    """G2: never earlier, however often the venue is asked, and then at once."""
    async with gateway() as world:
        doubt = await lose(world, arrived=False)
        settings = world.core.desk.settings
        for _ in range(tries):
            await world.core.resolver.ask(doubt)
        world.clock.advance(settings.order_lifetime_s + 0.999)
        for _ in range(tries):
            await world.core.resolver.ask(doubt)
            assert order(world).uncertain
        world.clock.advance(0.002)
        await world.core.resolver.ask(doubt)
        now = order(world)
        assert now.status == pb.ORDER_STATUS_REJECTED
        assert now.reject is not None
        assert now.reject.reason == error_pb2.REASON_NEVER_REACHED_VENUE
        assert now.order_id not in world.core.resolver.doubts
        assert len(doubt.evidence) <= MAX_EVIDENCE


async def test_question_asked_before_the_deadline_and_answered_after_it_proves_nothing() -> None:
    """What counts is when the venue was asked."""
    async with gateway() as world:
        doubt = await lose(world, arrived=False)
        world.clock.advance(world.core.desk.settings.order_lifetime_s + 0.9)
        await until(lambda: world.venue.calls[-1] == "fetch_order")
        real = world.venue.fetch_order

        async def slow(target: OrderTarget) -> VenueOrder | None:
            world.clock.advance(10)
            return await real(target)

        world.venue.fetch_order = slow  # type: ignore[method-assign]
        await world.core.resolver.ask(doubt)
        assert order(world).uncertain
        await world.core.resolver.ask(doubt)
        assert order(world).status == pb.ORDER_STATUS_REJECTED


async def test_venue_that_cannot_be_reached_proves_nothing_ever() -> None:
    """Hours of failed questions leave it UNKNOWN."""
    async with gateway() as world:
        doubt = await lose(world, arrived=False)
        world.venue.up = False
        for _ in range(50):
            world.clock.advance(600)
            await world.core.resolver.ask(doubt)
        assert order(world).uncertain
        assert (await world.submit("key-1")).outcome == wire.SUBMIT_OUTCOME_UNKNOWN


async def test_late_fill_on_an_order_held_to_be_lost_brings_it_back() -> None:
    """A fill is proof against proof: the order is live again, told, and the position moved."""
    async with gateway() as world:
        doubt = await lose(world, arrived=False)
        world.clock.advance(60)
        await world.core.resolver.ask(doubt)
        assert order(world).terminal
        world.venue._rest(world.venue.placed[0])
        fill = world.venue.fill(world.venue.order_of(world.venue.placed[0]), "0.4", "100", push=False)
        world.core.intake.on_fill(MAIN, fill)
        assert (order(world).status, order(world).filled) == (pb.ORDER_STATUS_PARTIALLY_FILLED, Decimal("0.4"))
        assert order(world) in world.account.open_orders()
        assert world.account.positions["BTC/USDC:USDC"].quantity == Decimal("0.4")
        assert (await world.submit("key-1")).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED


async def test_word_of_the_venue_that_is_not_known_settles_nothing() -> None:
    """Neither live nor dead: UNKNOWN stays UNKNOWN, with the word shown; and it is no absence either."""
    async with gateway() as world:
        held = asyncio.Event()
        world.venue.script("fetch_order", Held(held))
        doubt = await lose(world, arrived=True)
        key = world.venue.placed[0].venue_client_order_id
        strange = replace(world.venue.orders[key], state=VenueOrderState.UNRECOGNISED, text="marmaladed")
        world.venue.orders[key] = strange
        held.set()
        world.clock.advance(100)
        for _ in range(3):
            await world.core.resolver.ask(doubt)
        assert order(world).uncertain
        assert (await world.submit("key-1")).order.venue_status_text == "marmaladed"


async def test_fill_long_missed_is_fetched_from_where_the_order_began() -> None:
    """Newer fills hide that an older one is missing: an order that lacks fills is asked for from its start."""
    async with gateway() as world:
        await world.submit("key-1")
        await world.submit("key-2", quantity="2")
        first, second = (world.venue.order_of(ticket) for ticket in world.venue.placed)
        world.clock.advance(10)
        world.venue.fill(first, "1", "100", push=False)
        world.clock.advance(300)
        world.venue.fill(second, "1", "100")
        assert order(world).filled == 0
        world.core.intake.on_order(MAIN, world.venue.order_of(world.venue.placed[0]))
        assert order(world).working
        doubt = world.core.resolver.doubts[order(world).order_id]
        await world.core.resolver.ask(doubt)
        assert order(world).status == pb.ORDER_STATUS_FILLED


async def test_end_told_before_its_fill_is_not_asked_about_at_once() -> None:
    """The fill is on its way on the same stream: no request per filled order."""
    async with gateway() as world:
        await world.submit("key-1")
        there = world.venue.order_of(world.venue.placed[0])
        fill = world.venue.fill(there, "1", "100", push=False)
        before = len(world.venue.calls)
        world.core.intake.on_order(MAIN, world.venue.order_of(world.venue.placed[0]))
        for _ in range(50):
            await asyncio.sleep(0)
        world.core.intake.on_fill(MAIN, fill)
        assert order(world).status == pb.ORDER_STATUS_FILLED
        world.clock.advance(1)
        world.core.resolver.hurry(MAIN)
        await until(lambda: not world.core.resolver.doubts)
        assert len(world.venue.calls) == before


async def test_pending_cancel_is_sent_until_the_venue_refuses_it() -> None:
    """A no is an answer: the order stands."""
    async with gateway() as world:
        await world.submit("key-1")
        world.venue.up = False
        await world.core.working.cancel(wire.OrderReference(account_id=MAIN, client_order_id="key-1"))
        assert order(world).pending_cancel
        world.venue.up = True
        world.venue.script("cancel_order", Refused(reason=Reason.VENUE_REJECTED, text="no"))
        world.clock.advance(10)
        world.core.resolver.hurry(MAIN)
        await until(lambda: not order(world).pending_cancel)
        assert order(world).working


async def test_fault_of_ours_about_one_order_does_not_stop_the_others() -> None:
    """It is logged and shown as evidence; the next order is asked about."""
    async with gateway() as world:
        held = asyncio.Event()
        world.venue.script("fetch_order", Held(held), ZeroDivisionError("ours"))
        await lose(world, "key-1", arrived=True)
        await lose(world, "key-2", arrived=True)
        held.set()
        await until(lambda: order(world, "key-1").working)
        world.clock.advance(10)
        world.core.resolver.hurry(MAIN)
        await until(lambda: order(world, "key-2").working)


async def test_log_that_is_full_ends_the_gateway_whoever_meets_it() -> None:
    """An event that cannot be kept must not be passed over as a fault of one order or one comparison."""
    async with gateway() as world:
        doubt = await lose(world, arrived=False)
        world.core.log._capacity = 0
        world.venue._rest(world.venue.placed[0])
        with pytest.raises(LogOverflow):
            await world.core.resolver.ask(doubt)
        world.venue.balances = [account_pb2.Balance(account_id=MAIN, asset="USDC", total="1", available="1")]
        with pytest.raises(LogOverflow):
            await world.core.reconciler.reconcile(MAIN)
        world.core.log._capacity = 1000


async def test_uncertain_orders_are_listed_longest_first_with_evidence() -> None:
    """Property 39: what an operator sees, and when absence will be proof."""
    async with gateway() as world:
        await lose(world, "key-1", arrived=False)
        world.clock.advance(2)
        await lose(world, "key-2", arrived=False)
        await until(lambda: all(len(doubt.evidence) > 1 for doubt in world.core.resolver.doubts.values()))
        rows = world.core.resolver.uncertain_orders()
        assert [row.order.terms.client_order_id for row in rows] == ["key-1", "key-2"]
        assert [evidence.source for evidence in rows[0].evidence][:2] == ["gateway", "query by id"]
        assert rows[0].evidence[0].finding == "the reply to place_order was lost"
        expires_ns = order(world, "key-1").created_ns + 15 * 10**9
        assert nanoseconds(rows[0].settles_time) == expires_ns + 10**9
        assert world.core.resolver.uncertain_orders("other") == []


async def test_doubts_do_not_pile_up() -> None:
    """Settled orders leave, asking comes ever more slowly."""
    async with gateway() as world:
        for number in range(5):
            await lose(world, f"key-{number}", arrived=number % 2 == 0)
        world.clock.advance(100)
        world.core.resolver.hurry(MAIN)
        await until(lambda: not world.core.resolver.doubts)
        assert not world.core.desk.reservations.keys() - {one.order_id for one in world.account.open_orders()}


async def test_asking_slows_down_to_the_longest_wait() -> None:
    """Doubling from the first wait to the last."""
    async with gateway(venue=FakeVenue()) as world:
        doubt = await lose(world, arrived=False)
        await until(lambda: doubt.evidence)
        waits = []
        for _ in range(8):
            await world.core.resolver.ask(doubt)
            waits.append(doubt.next_s - world.clock.monotonic_s())
        assert waits == sorted(waits)
        assert waits[-1] == world.core.resolver._settings.last_s


async def test_open_order_that_a_list_left_out_is_asked_about_once_it_has_settled() -> None:
    """Nothing else about it is in doubt; one answer, whatever it is, ends the asking."""
    for ended in (False, True):
        async with gateway() as world:
            await world.submit("key-1")
            world.venue.pushing = False
            key = world.venue.placed[0].venue_client_order_id
            if ended:
                world.venue.end(world.venue.orders[key], VenueOrderState.CANCELED)
            world.core.resolver.recheck(world.account, order(world).order_id)
            assert "fetch_order" not in world.venue.calls
            (doubt,) = world.core.resolver.doubts.values()
            assert doubt.next_s == world.clock.monotonic_s() + 1.0
            await world.core.resolver.ask(doubt)
            assert world.venue.calls.count("fetch_order") == 1
            assert world.core.resolver.doubts == {}
            assert order(world).terminal is ended


async def test_recheck_that_the_venue_does_not_answer_is_tried_again() -> None:
    """A failed question settles nothing."""
    async with gateway() as world:
        await world.submit("key-1")
        world.core.resolver.recheck(world.account, order(world).order_id)
        (doubt,) = world.core.resolver.doubts.values()
        world.venue.up = False
        await world.core.resolver.ask(doubt)
        assert list(world.core.resolver.doubts) == [order(world).order_id]


async def test_doubts_that_are_due_together_cost_one_question() -> None:
    """One reading for all doubts of an account; each is judged by itself."""
    async with gateway() as world:
        world.venue.pushing = False
        world.core.desk.on_doubt = lambda *_: None
        keys = [f"key-{number}" for number in range(5)]
        for key in keys:
            world.venue.script("place_order", Lost(arrived=key == "key-2"))
        await asyncio.gather(*(world.submit(key) for key in keys))
        resolver = world.core.resolver
        await until(lambda: len(resolver.doubts) in (0, 4))
        world.venue.calls.clear()
        resolver.hurry(MAIN)
        await until(lambda: world.venue.calls.count("fetch_order") >= 4)
        assert world.venue.calls.count("fetch_orders") == 1
        world.clock.advance(60)
        resolver.hurry(MAIN)
        await until(lambda: not resolver.doubts)
        rejected = [key for key in keys if order(world, key).status == pb.ORDER_STATUS_REJECTED]
        assert rejected == [key for key in keys if key != "key-2"]


async def test_question_for_many_that_breaks_is_asked_one_by_one() -> None:
    """One order that our code cannot handle must not keep the others uncertain; no answer proves nothing."""
    async with gateway() as world:
        doubts = [await lose(world, key, arrived=False) for key in ("key-1", "key-2")]
        world.clock.advance(60)

        async def broken(_: object) -> list[VenueOrder | None]:
            raise ZeroDivisionError("ours")

        async def cut(_: object) -> list[VenueOrder | None]:
            raise OutcomeUnknown("cut")

        world.venue.fetch_orders = cut  # type: ignore[method-assign,assignment]
        await world.core.resolver.ask_together(doubts)
        assert all(order(world, key).uncertain for key in ("key-1", "key-2"))
        assert doubts[0].evidence[-1].finding == "not reached: cut"
        world.venue.fetch_orders = broken  # type: ignore[method-assign,assignment]
        world.venue.script("fetch_order", ZeroDivisionError("ours"))
        await world.core.resolver.ask_together(doubts)
        assert order(world, "key-1").uncertain
        assert order(world, "key-2").status == pb.ORDER_STATUS_REJECTED
