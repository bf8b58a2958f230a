"""Spot through the adapter: pairs, precision, fees, balances, and no positions; unified accounts."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from simulator.engine.values import Side
from tests.integration.hypercore.adapter.world import ADDRESS, AGENT, SYMBOL, World, sim_settings, world
from venuemesh.gateway.venue import Feed, OrderTicket, Placed, Refused, VenueOrderState
from venuemesh.v1 import instrument_pb2, order_pb2

HYPE, PURR = "HYPE/USDC", "PURR/USDC"
IOC = order_pb2.TIME_IN_FORCE_IOC
BUY, SELL = order_pb2.SIDE_BUY, order_pb2.SIDE_SELL


def spot_settings(**changes: Any) -> Any:
    """A thousand dollars and ten HYPE in spot, beside the perp purse."""
    spot = {ADDRESS: {"USDC": "1000", "HYPE": "10"}}
    return sim_settings(**({"accounts": {ADDRESS: "100"}, "agents": {AGENT: ADDRESS}, "spot_accounts": spot} | changes))


def ticket(found: World, symbol: str, **changes: Any) -> OrderTicket:
    """An order in a spot pair."""
    return replace(found.ticket(**changes), instrument=found.instruments[symbol])


async def balances(found: World) -> dict[tuple[str, str], tuple[str, str]]:
    """Total and available by section and asset."""
    snapshot = await found.venue.fetch_snapshot("main")
    return {(row.venue_section, row.asset): (row.total, row.available) for row in snapshot.balances}


async def test_spot_pairs_are_listed_with_their_rules(tmp_path: Path) -> None:
    """Eight decimals less the base token's, no leverage, spot fees; `@107` at the venue."""
    async with world(tmp_path) as found:
        assert found.venue.capabilities.spot
        row = found.instruments[HYPE]
        assert row.instrument_type == instrument_pb2.INSTRUMENT_TYPE_SPOT
        assert (row.venue_symbol, row.base_asset, row.quote_asset, row.settle_asset) == ("@107", "HYPE", "USDC", "USDC")
        assert (row.price_rule.max_decimals, row.quantity_rule.step_size) == (6, "0.01")
        assert (row.maker_fee_rate, row.taker_fee_rate) == ("0.0004", "0.0007")
        assert not row.HasField("max_leverage")
        assert not row.margin_modes
        assert found.instruments[PURR].venue_symbol == "PURR/USDC"
        assert SYMBOL in found.instruments


async def test_spot_pairs_are_not_listed_where_settings_say_so(tmp_path: Path) -> None:
    """A gateway of a builder dex leaves them to the main one."""
    async with world(tmp_path, spot=False) as found:
        assert not found.venue.capabilities.spot
        assert HYPE not in found.instruments


async def test_buying_spot_pays_the_fee_in_what_is_bought_and_makes_no_position(tmp_path: Path) -> None:
    """Balances move by the fill; there is nothing with margin."""
    async with world(tmp_path, simulator_settings=spot_settings()) as found:
        found.simulator.house_order("@107", Side.SELL, "45", "4")
        order = ticket(found, HYPE, quantity="4", price="45", time_in_force=IOC)
        placed = await found.venue.place_order(order, lambda: None)
        assert isinstance(placed, Placed)
        await found.sink.until(lambda: found.sink.fills)
        fill = found.sink.fills[0]
        assert (fill.symbol, fill.side, fill.fee_asset, fill.liquidity_role) == (
            HYPE, BUY, "HYPE", order_pb2.LIQUIDITY_ROLE_TAKER
        )  # fmt: skip
        assert fill.fee == Decimal("0.0028")
        assert (await found.venue.fetch_snapshot("main")).positions == []
        after = await balances(found)
        assert after[("spot", "USDC")][0] == "820"
        assert Decimal(after[("spot", "HYPE")][0]) == Decimal(14) - fill.fee


async def test_selling_spot_pays_the_fee_in_the_quote(tmp_path: Path) -> None:
    """And holds the base while it rests."""
    async with world(tmp_path, simulator_settings=spot_settings()) as found:
        resting = ticket(found, HYPE, side=SELL, quantity="3", price="50")
        placed = await found.venue.place_order(resting, lambda: None)
        assert isinstance(placed, Placed)
        assert (await balances(found))[("spot", "HYPE")] == ("10", "7")
        view = await found.venue.fetch_order(found.target(resting, placed.venue_order_id))
        assert view is not None
        assert (view.state, view.symbol) == (VenueOrderState.WORKING, HYPE)
        (row,) = (await found.venue.fetch_snapshot("main")).open_orders
        assert row.symbol == HYPE
        found.simulator.house_order("@107", Side.BUY, "50", "3")
        await found.sink.until(lambda: found.sink.fills)
        assert found.sink.fills[0].fee_asset == "USDC"
        (fill,) = await found.venue.fetch_fills("main", 0)
        assert fill.execution_id == found.sink.fills[0].execution_id


async def test_selling_more_spot_than_held_is_refused(tmp_path: Path) -> None:
    """There is no short in spot."""
    async with world(tmp_path, simulator_settings=spot_settings()) as found:
        order = ticket(found, HYPE, side=SELL, quantity="11", price="45")
        assert isinstance(await found.venue.place_order(order, lambda: None), Refused)


async def test_spot_books_and_statistics(tmp_path: Path) -> None:
    """By coin, as the venue lists them in no order."""
    async with world(tmp_path, simulator_settings=spot_settings()) as found:
        found.simulator.house_order("@107", Side.SELL, "46", "4")
        await found.venue.watch(Feed.BOOK, HYPE)
        await found.sink.until(lambda: any(book.symbol == HYPE and book.asks for book in found.sink.books))
        assert (await found.venue.fetch_book(HYPE)).asks[0].price == 46
        statistics = await found.venue.fetch_statistics(HYPE)
        assert statistics.symbol == HYPE
        assert not statistics.HasField("funding_rate")
        await found.venue.watch(Feed.STATISTICS, HYPE)
        await found.sink.until(lambda: any(row.symbol == HYPE for row in found.sink.statistics))


@pytest.mark.parametrize("mode", ["u", "p"])
async def test_unified_account_shows_one_balance_and_says_so(tmp_path: Path, mode: str) -> None:
    """The money that backs spot and perps together has the section `unified`; the empty perp purse is not shown."""
    async with world(tmp_path, simulator_settings=spot_settings()) as found:
        unify(found, mode)
        held = await balances(found)
        assert set(held) == {("unified", "USDC"), ("unified", "HYPE")}
        assert Decimal(held[("unified", "USDC")][0]) == 1100
        summary = (await found.venue.fetch_snapshot("main")).summary
        assert not summary.HasField("withdrawable")
        found.simulator.house_order("ETH", Side.SELL, "3900", "0.1")
        placed = await found.venue.place_order(
            found.ticket(quantity="0.1", price="3900", time_in_force=IOC), lambda: None
        )
        assert isinstance(placed, Placed)
        snapshot = await found.venue.fetch_snapshot("main")
        assert [row.symbol for row in snapshot.positions] == [SYMBOL]


def unify(found: World, mode: str) -> None:
    """Set the account's mode as its owner would."""
    front = found.simulator.venue
    word = {"u": "unifiedAccount", "p": "portfolioMargin"}[mode]
    assert front.set_abstraction(ADDRESS, word, found.simulator.now_ms)
