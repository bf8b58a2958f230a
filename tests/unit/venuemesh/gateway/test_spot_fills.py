"""Spot fills: they are reported and move balances, and make no position, also after a restart."""

from __future__ import annotations

import pytest

from tests.fakes_venue import BTC, FakeVenue, instrument
from tests.unit.venuemesh.gateway.gateway_world import Caller, MemoryBus, World, gateway
from venuemesh.errors import InvalidRequest, Reason
from venuemesh.gateway.positions import makes_position
from venuemesh.v1 import account_service_pb2 as accounts
from venuemesh.v1 import instrument_pb2, order_pb2

CALLER = Caller()
SPOT = "HYPE/USDC"


def spot_venue() -> FakeVenue:
    """A venue that trades a spot pair besides."""
    venue = FakeVenue()
    row = instrument(SPOT)
    row.instrument_type = instrument_pb2.INSTRUMENT_TYPE_SPOT
    row.ClearField("max_leverage")
    row.ClearField("margin_modes")
    venue.instruments.append(row)
    return venue


def test_symbol_tells_whether_it_makes_a_position() -> None:
    """A perpetual names its settlement asset."""
    assert makes_position(BTC)
    assert not makes_position(SPOT)


async def _trade(world: World, key: str, symbol: str) -> None:
    await world.submit(key, symbol=symbol)
    world.venue.fill(world.venue.order_of(world.venue.placed[-1]), "0.25", "100", fee="0.001")
    world.venue.positions.pop(("main", SPOT), None)


async def _positions(world: World) -> list[str]:
    request = accounts.ListPositionsRequest(account_id="main")
    return [row.symbol for row in (await world.accounts.ListPositions(request, CALLER)).positions]


async def test_spot_fill_is_reported_without_a_position_and_stays_so_after_a_restart() -> None:
    """Reconciliation finds no difference either."""
    bus, venue = MemoryBus(), spot_venue()
    async with gateway(bus=bus, venue=venue) as world:
        await _trade(world, "k1", SPOT)
        await _trade(world, "k2", BTC)
        await world.durable()
        assert await _positions(world) == [BTC]
        fills = await world.accounts.ListFills(accounts.ListFillsRequest(account_id="main"), CALLER)
        assert {row.symbol for row in fills.fills} == {SPOT, BTC}
        assert {row.symbol for row in bus.events() if row.HasField("position")} == {BTC}
        report = await world.core.reconciler.reconcile("main")
        assert list(report.discrepancies) == []
    async with gateway(bus=bus, venue=venue) as world:
        await world.durable()
        assert await _positions(world) == [BTC]
        assert {row.symbol for row in bus.events() if row.HasField("position")} == {BTC}
        request = accounts.ListPositionHistoryRequest(account_id="main", symbol=SPOT)
        assert not (await world.accounts.ListPositionHistory(request, CALLER)).positions


async def test_reduce_only_on_spot_is_refused_before_it_is_sent() -> None:
    """There is no position that it could reduce."""
    async with gateway(venue=spot_venue()) as world:
        with pytest.raises(InvalidRequest) as caught:
            await world.submit("k1", symbol=SPOT, instructions=[order_pb2.EXECUTION_INSTRUCTION_REDUCE_ONLY])
        assert caught.value.reason is Reason.UNSUPPORTED_INSTRUCTION
        assert world.venue.placed == []
