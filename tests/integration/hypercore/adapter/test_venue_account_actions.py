"""Leverage, isolated margin and collateral of an account through the adapter, against the simulator."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from simulator.engine.values import Side
from tests.integration.hypercore.adapter.world import ADDRESS, AGENT, SYMBOL, World, sim_settings, world
from venuemesh.clock import SystemClock
from venuemesh.errors import InvalidRequest, Reason
from venuemesh.gateway.venue import CollateralTransfer, LeverageSetting, Refused, Reservation
from venuemesh.v1 import instrument_pb2, order_pb2

CROSS, ISOLATED = instrument_pb2.MARGIN_MODE_CROSS, instrument_pb2.MARGIN_MODE_ISOLATED
FUNDED = {
    "accounts": {ADDRESS: "10000"},
    "dex_accounts": {ADDRESS: "500"},
    "spot_accounts": {ADDRESS: {"USDC": "200"}},
    "agents": {AGENT: ADDRESS},
}


def reservation(found: World) -> Reservation:
    """Ten seconds from now."""
    return found.venue.reserve("main", not_after_ns=SystemClock().now_ns() + 10_000_000_000)


def transfer(found: World, amount: str, source: str, destination: str, asset: str = "USDC") -> CollateralTransfer:
    """A transfer between two sections of the account."""
    return CollateralTransfer(
        account_id="main",
        asset=asset,
        amount=Decimal(amount),
        from_section=source,
        to_section=destination,
        reservation=reservation(found),
    )


async def totals(found: World) -> dict[str, str]:
    """USDC by section."""
    sections = found.venue.capabilities.collateral_sections
    rows = await found.venue.fetch_section_balances("main", "USDC", sections)
    return {row.venue_section: row.total for row in rows}


async def test_leverage_is_read_from_the_venue_without_a_position(tmp_path: Path) -> None:
    """The default first, then what was set, mode included."""
    async with world(tmp_path) as found:
        instrument = found.instruments[SYMBOL]
        default = await found.venue.fetch_leverage("main", instrument)
        assert default.margin_mode == CROSS
        assert await found.venue.set_leverage("main", instrument, 7, False) is None
        now = await found.venue.fetch_leverage("main", instrument)
        assert now == LeverageSetting(leverage=Decimal(7), margin_mode=ISOLATED)


async def test_collateral_moves_between_main_spot_and_builder_dex(tmp_path: Path) -> None:
    """Signed by the API wallet; each section is read from its own place."""
    async with world(tmp_path, simulator_settings=sim_settings(**FUNDED)) as found:
        assert list(found.venue.capabilities.collateral_sections) == ["", "spot", "xyz"]
        assert await totals(found) == {"": "10000", "spot": "200", "xyz": "500"}
        assert await found.venue.transfer_collateral(transfer(found, "12.5", "", "xyz")) is None
        assert await found.venue.transfer_collateral(transfer(found, "100", "spot", "")) is None
        assert await totals(found) == {"": "10087.5", "spot": "100", "xyz": "512.5"}


async def test_collateral_transfer_when_too_much_is_the_venues_refusal(tmp_path: Path) -> None:
    """A known sentence with a known reason; nothing moved."""
    async with world(tmp_path, simulator_settings=sim_settings(**FUNDED)) as found:
        answer = await found.venue.transfer_collateral(transfer(found, "501", "xyz", ""))
        assert isinstance(answer, Refused)
        assert answer.reason is Reason.INSUFFICIENT_MARGIN
        assert (await totals(found))["xyz"] == "500"


async def test_collateral_transfer_of_an_unknown_asset_is_not_sent(tmp_path: Path) -> None:
    """The field is named."""
    async with world(tmp_path, simulator_settings=sim_settings(**FUNDED)) as found:
        with pytest.raises(InvalidRequest) as caught:
            await found.venue.transfer_collateral(transfer(found, "1", "", "xyz", asset="NOPE"))
        assert caught.value.field == "asset"


async def test_isolated_margin_is_added_and_taken_out(tmp_path: Path) -> None:
    """The position's margin moves by the amount; a cross position refuses."""
    async with world(tmp_path) as found:
        instrument = found.instruments[SYMBOL]
        assert await found.venue.set_leverage("main", instrument, 5, False) is None
        found.simulator.house_order("ETH", Side.SELL, "3900", "0.1")
        ticket = found.ticket(quantity="0.1", price="3900", time_in_force=order_pb2.TIME_IN_FORCE_IOC)
        await found.venue.place_order(ticket, lambda: None)
        before = await _margin(found)
        assert await found.venue.adjust_isolated_margin("main", instrument, Decimal(50), reservation(found)) is None
        assert await _margin(found) - before == 50
        assert await found.venue.adjust_isolated_margin("main", instrument, Decimal(-20), reservation(found)) is None
        assert await _margin(found) - before == 30


async def test_isolated_margin_of_a_cross_position_is_refused(tmp_path: Path) -> None:
    """By the venue, in its words."""
    async with world(tmp_path) as found:
        instrument = found.instruments[SYMBOL]
        found.simulator.house_order("ETH", Side.SELL, "3900", "0.1")
        ticket = found.ticket(quantity="0.1", price="3900", time_in_force=order_pb2.TIME_IN_FORCE_IOC)
        await found.venue.place_order(ticket, lambda: None)
        answer = await found.venue.adjust_isolated_margin("main", instrument, Decimal(5), reservation(found))
        assert isinstance(answer, Refused)


async def _margin(found: World) -> Decimal:
    snapshot = await found.venue.fetch_snapshot("main")
    (position,) = snapshot.positions
    assert position.margin_used is not None
    return position.margin_used
