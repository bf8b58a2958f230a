"""TWAPs: one order to the mesh, many small ones at the venue."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gateway_lighter.slices import Slices
from simulator.engine.values import Side
from simulator.faults import Fault, FaultKind
from tests.integration.gateway_lighter.world import World, world
from venuemesh.gateway.venue import CancelAnswer, OrderTicket, Placed, TwapTerms, VenueFill, VenueOrderState
from venuemesh.v1 import order_pb2

PERIOD_MS = 30_000
MINUTES = 6
SLICES = MINUTES * 60_000 // PERIOD_MS


def twap(found: World, quantity: str = "0.012", **changes: Any) -> OrderTicket:
    """Buy over six minutes, at up to 500 above the mark."""
    plain = found.ticket(offset=500, quantity=quantity)
    terms = {"order_type": order_pb2.ORDER_TYPE_TWAP, "twap": TwapTerms(minutes=MINUTES, randomize=False)}
    return replace(plain, **(terms | changes))


async def start(found: World, **changes: Any) -> tuple[OrderTicket, Placed]:
    """A TWAP under way, with enough to buy."""
    found.front.house_order("BTC", Side.SELL, found.mark, "1")
    ticket = twap(found, **changes)
    placed = await found.venue.place_order(ticket, lambda: None)
    assert isinstance(placed, Placed)
    return ticket, placed


def pass_time(found: World, slices: int) -> None:
    """Let the venue send so many slices."""
    venue, now_ms = found.front.venue, found.front.app.now_ms()
    for at in range(slices):
        venue.step(now_ms + at * PERIOD_MS)
        found.front.app.publish()


def belongs(fill: VenueFill, ticket: OrderTicket, placed: Placed) -> bool:
    """Whether a fill is told as the TWAP's."""
    return (fill.venue_order_id, fill.venue_client_order_id) == (placed.venue_order_id, ticket.venue_client_order_id)


async def test_twap_is_one_order_that_its_slices_fill(tmp_path: Path) -> None:
    """It works, fills little by little, and ends filled; its slices are no orders of the account (P19)."""
    async with world(tmp_path) as found:
        ticket, placed = await start(found)
        assert not placed.ended
        truth = found.truth(ticket)
        assert truth is not None
        assert (truth["type"], truth["status"]) == ("twap", "pending")
        pass_time(found, SLICES)
        await found.sink.until(lambda: sum((fill.quantity for fill in found.sink.fills), Decimal(0)) == ticket.quantity)
        assert len(found.sink.fills) == SLICES
        assert all(belongs(fill, ticket, placed) for fill in found.sink.fills)
        await found.sink.until(lambda: found.sink.orders[-1].state is VenueOrderState.FILLED)
        assert {row.venue_order_id for row in found.sink.orders} == {placed.venue_order_id}
        view = await found.venue.fetch_order(found.target(ticket))
        assert view is not None
        assert (view.state, view.filled_quantity) == (VenueOrderState.FILLED, ticket.quantity)


async def test_fill_that_comes_before_its_slice_is_told_as_the_twaps_all_the_same(tmp_path: Path) -> None:
    """The order of channels is not promised."""
    async with world(tmp_path) as found:
        ticket, placed = await start(found)
        found.front.faults.add(Fault(kind=FaultKind.REORDER_FRAME, match="account_all_orders", count=0))
        pass_time(found, 3)
        await found.sink.until(lambda: len(found.sink.fills) >= 2)
        assert all(belongs(fill, ticket, placed) for fill in found.sink.fills)


async def test_fills_asked_for_after_a_restart_are_told_as_the_twaps(tmp_path: Path) -> None:
    """A process that has seen nothing of it asks whose they are; ids are those of the stream."""
    async with world(tmp_path) as found:
        ticket, placed = await start(found)
        pass_time(found, 4)
        await found.sink.until(lambda: len(found.sink.fills) == 4)
        found.venue._parts.reads["main"]._slices = Slices()  # nothing is known any more
        fetched = await found.venue.fetch_fills("main", 0)
        assert list(fetched) == found.sink.fills
        assert all(belongs(fill, ticket, placed) for fill in fetched)


@pytest.mark.parametrize("by_venue_id", [True, False])
async def test_twap_is_cancelled_with_what_was_filled(tmp_path: Path, by_venue_id: bool) -> None:
    """By either id; what was bought stays bought."""
    async with world(tmp_path) as found:
        ticket, placed = await start(found)
        pass_time(found, 2)
        target = found.target(ticket, placed.venue_order_id if by_venue_id else None)
        assert await found.venue.cancel_order(target) is CancelAnswer.CANCELED
        view = await found.venue.fetch_order(target)
        assert view is not None
        assert (view.state, view.filled_quantity) == (VenueOrderState.CANCELED, ticket.quantity / 6)
        assert not (await found.venue.fetch_snapshot("main")).open_orders


async def test_twap_whose_time_is_up_expires_with_its_rest_open(tmp_path: Path) -> None:
    """Nobody sold at its price."""
    async with world(tmp_path) as found:
        ticket = twap(found)
        assert isinstance(await found.venue.place_order(ticket, lambda: None), Placed)
        found.front.venue.step(found.front.app.now_ms() + MINUTES * 60_000)
        found.front.app.publish()
        await found.sink.until(lambda: found.sink.orders and found.sink.orders[-1].state is VenueOrderState.EXPIRED)
        assert found.sink.orders[-1].filled_quantity == 0
