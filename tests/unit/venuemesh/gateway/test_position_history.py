"""History of positions, and how far each is from liquidation."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes_venue import BTC, ETH
from tests.unit.venuemesh.gateway.gateway_world import Caller, World, gateway
from venuemesh.errors import InvalidRequest
from venuemesh.gateway.positions import liquidation_distance_bps
from venuemesh.gateway.services import history
from venuemesh.v1 import account_pb2, order_pb2
from venuemesh.v1 import account_service_pb2 as accounts

CALLER = Caller()
BUY, SELL = order_pb2.SIDE_BUY, order_pb2.SIDE_SELL
Change = account_pb2.PositionChange


async def trade(world: World, key: str, side: order_pb2.Side.ValueType, quantity: str, symbol: str = BTC) -> None:
    """An order that fills at once."""
    world.clock.advance(1.0)
    await world.submit(key, side=side, quantity=quantity, symbol=symbol)
    world.venue.fill(world.venue.order_of(world.venue.placed[-1]), quantity, "100")


async def rows(world: World, **fields: Any) -> list[account_pb2.Position]:
    """All pages."""
    found: list[account_pb2.Position] = []
    token = ""
    while True:
        request = accounts.ListPositionHistoryRequest(account_id="main", page_token=token, **fields)
        response = await world.accounts.ListPositionHistory(request, CALLER)
        found += response.positions
        token = response.next_page_token
        if not token:
            return found


async def life_of_a_position(world: World) -> None:
    """Every kind of change, in order."""
    await trade(world, "k1", BUY, "1")
    await trade(world, "k2", BUY, "2")
    await trade(world, "k3", SELL, "1")
    await trade(world, "k4", SELL, "3")
    world.clock.advance(1.0)
    world.venue.fund("main", "f1", "-0.5")
    await trade(world, "k5", BUY, "1")
    await trade(world, "other", BUY, "1", ETH)
    world.venue.positions[("main", BTC)] = Decimal(5)
    # A difference is believed when nothing moved while it was looked at again.
    world.core.resolver.settle_ns = 1
    await world.core.reconciler.reconcile("main")
    await world.durable()


@pytest.mark.parametrize("size", [0, 1, 3])
async def test_history_gives_every_change_newest_first(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open, increase, decrease, flip, funding, close, reconcile: by page, each once."""
    monkeypatch.setattr(history, "FIRST_CHUNK", 4)
    async with gateway() as world:
        await life_of_a_position(world)
        found = await rows(world, symbol=BTC, page_size=size)
        assert [Change.Name(row.change).removeprefix("POSITION_CHANGE_") for row in found] == [
            "RECONCILE",
            "CLOSE",
            "FUNDING",
            "FLIP",
            "DECREASE",
            "INCREASE",
            "OPEN",
        ]
        assert [row.quantity for row in found] == ["5", "0", "-1", "-1", "2", "3", "1"]
        assert found[2].funding_received == "-0.5"


async def test_history_of_some_changes_symbols_and_times() -> None:
    """Filters hold together."""
    async with gateway() as world:
        await life_of_a_position(world)
        found = await rows(world, changes=[account_pb2.POSITION_CHANGE_OPEN])
        assert [row.symbol for row in found] == [ETH, BTC]
        whole = await rows(world, symbol=BTC)
        request = accounts.ListPositionHistoryRequest(account_id="main", symbol=BTC)
        request.from_time.CopyFrom(whole[5].venue_time)
        request.to_time.CopyFrom(whole[3].venue_time)
        response = await world.accounts.ListPositionHistory(request, CALLER)
        assert list(response.positions) == whole[4:6]
        with pytest.raises(InvalidRequest):
            await rows(world, changes=[0])


def test_distance_to_liquidation_counts_the_move_against_the_position() -> None:
    """Down for a long, up for a short; past it is negative; rounded so that it never promises too much."""
    assert liquidation_distance_bps(Decimal(1), Decimal(100), Decimal(90)) == Decimal(1_000)
    assert liquidation_distance_bps(Decimal(-1), Decimal(100), Decimal(103)) == Decimal(300)
    assert liquidation_distance_bps(Decimal(1), Decimal(100), Decimal(101)) == Decimal(-100)
    assert liquidation_distance_bps(Decimal(1), Decimal(3), Decimal(2)) == Decimal("3333.33")
    assert liquidation_distance_bps(Decimal(-1), Decimal(3), Decimal(2)) == Decimal("-3333.34")


@settings(max_examples=60)
@given(
    st.sampled_from([1, -1]),
    st.decimals("0.0001", "1000000", places=4),
    st.decimals("0", "1000000", places=4),
)
def test_distance_equals_the_model_in_fractions(sign: int, mark: Decimal, liquidation: Decimal) -> None:
    """To a hundredth of a basis point, rounded down."""
    room = sign * (Fraction(mark) - Fraction(liquidation)) * 10_000 / Fraction(mark)
    found = Fraction(liquidation_distance_bps(Decimal(sign), mark, liquidation))
    assert found <= room + Fraction(1, 10**12)
    assert room - found <= Fraction(1, 100)
