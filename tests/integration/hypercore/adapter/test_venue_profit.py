"""Positions and profit folded from the adapter's fills equal the venue's own, for random trades on the simulator."""

from __future__ import annotations

import random
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from simulator.engine.values import Side
from tests.integration.hypercore.adapter.world import SYMBOL, World, world
from venuemesh.gateway.positions import PositionState, apply_fill
from venuemesh.gateway.venue import Placed
from venuemesh.v1 import order_pb2

TRADES = 40
CENT = Decimal("0.01")


async def trade(found: World, chance: random.Random) -> None:
    """Buy or sell some at some price, at once, from an order of the house."""
    buy = chance.random() < 0.5
    quantity = str(Decimal(chance.randint(1, 5_000)) / 10_000 + Decimal("0.01"))
    price = str(Decimal(chance.randint(38_000, 40_000)) / 10)
    found.simulator.house_order("ETH", Side.SELL if buy else Side.BUY, price, quantity)
    side = order_pb2.SIDE_BUY if buy else order_pb2.SIDE_SELL
    ticket = found.ticket(side=side, quantity=quantity, price=price, time_in_force=order_pb2.TIME_IN_FORCE_IOC)
    assert isinstance(await found.venue.place_order(replace(ticket), lambda: None), Placed)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_profit_of_random_trades_is_the_venues(tmp_path: Path, seed: int) -> None:
    """Opening, adding, reducing, flipping: quantity, entry, fees and each fill's profit."""
    chance = random.Random(seed)
    async with world(tmp_path) as found:
        for _ in range(TRADES):
            await trade(found, chance)
        state = PositionState(symbol=SYMBOL)
        fills = await found.venue.fetch_fills("main", 0)
        assert len(fills) == TRADES
        for fill in fills:
            before = state
            state = apply_fill(state, side=fill.side, quantity=fill.quantity, price=fill.price, fee=fill.fee).state
            assert fill.venue_realized_pnl is not None
            assert abs(state.realized_pnl - before.realized_pnl - fill.venue_realized_pnl) < CENT
        (position,) = (await found.venue.fetch_snapshot("main")).positions
        assert position.quantity == state.quantity
        assert position.entry_price is not None
        assert state.entry_price is not None
        assert abs(position.entry_price - state.entry_price) < CENT
        assert state.fees_paid == sum((fill.fee for fill in fills), Decimal(0))
