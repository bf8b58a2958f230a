"""Instruments of a builder dex with what the venue says of them elsewhere: caps, fees, margin modes, halts."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from hypercore.adapter.market_normalizer import builder_fee
from simulator.faults import Fault, FaultKind
from tests.integration.hypercore.adapter.world import ADDRESS, AGENT, SYMBOL, World, sim_settings, world
from venuemesh.v1 import instrument_pb2

CROSS, ISOLATED = instrument_pb2.MARGIN_MODE_CROSS, instrument_pb2.MARGIN_MODE_ISOLATED
TSLA, GOLD, HOOD, URANIUM = (f"{name}/USDC:USDC" for name in ("TSLA", "GOLD", "HOOD", "URANIUM"))
XYZ: dict[str, Any] = {"accounts": [], "live": False, "dex": "xyz", "venue": "tradexyz", "spot": False}


async def listed(found: World) -> dict[str, instrument_pb2.Instrument]:
    """The instruments, read anew."""
    return {row.symbol: row for row in await found.venue.fetch_instruments()}


async def test_builder_dex_shows_margin_modes_fees_and_caps(tmp_path: Path) -> None:
    """Cross where it is allowed, removable margin or not, growth fees, and the cap in quote units."""
    async with world(tmp_path, **XYZ) as found:
        rows = found.instruments
        assert list(rows[TSLA].margin_modes) == [CROSS, ISOLATED]
        assert (list(rows[HOOD].margin_modes), rows[HOOD].isolated_margin_removable) == ([ISOLATED], True)
        assert (list(rows[URANIUM].margin_modes), rows[URANIUM].isolated_margin_removable) == ([ISOLATED], False)
        assert rows[URANIUM].state == instrument_pb2.INSTRUMENT_STATE_DELISTED
        assert (rows[TSLA].maker_fee_rate, rows[TSLA].taker_fee_rate) == ("0.00003", "0.00009")
        assert (rows[GOLD].maker_fee_rate, rows[GOLD].taker_fee_rate) == ("0.0003", "0.0009")
        assert Decimal(rows[TSLA].open_interest_cap) > 0
        assert not rows[TSLA].at_open_interest_cap
        assert rows[TSLA].oracle_session == instrument_pb2.ORACLE_SESSION_UNSPECIFIED


async def test_account_tells_its_own_fees(tmp_path: Path) -> None:
    """At the base tier they are the instrument's."""
    async with world(tmp_path) as found:
        row = (await listed(found))[SYMBOL]
        rates = await found.venue.fetch_fee_rates("main", row)
        assert rates is not None
        assert (rates.maker, rates.taker) == (Decimal(row.maker_fee_rate), Decimal(row.taker_fee_rate))


async def test_asset_at_its_open_interest_cap_is_shown_as_such(tmp_path: Path) -> None:
    """On the main dex too, which tells no caps."""
    for options, coin, symbol in ((XYZ, "xyz:TSLA", TSLA), ({"accounts": [], "live": False}, "ETH", SYMBOL)):
        async with world(tmp_path, **options) as found:
            found.simulator.venue.set_open_interest_cap(coin, Decimal(0), found.simulator.now_ms())
            assert (await listed(found))[symbol].at_open_interest_cap


async def test_asset_that_its_deployer_halts_is_delisted_on_the_next_reading(tmp_path: Path) -> None:
    """The protocol has no other word for it."""
    async with world(tmp_path, **XYZ) as found:
        found.simulator.venue.halt("xyz:TSLA", found.simulator.now_ms())
        assert (await listed(found))[TSLA].state == instrument_pb2.INSTRUMENT_STATE_DELISTED


async def test_listing_when_the_terms_cannot_be_read_keeps_the_last_ones(tmp_path: Path) -> None:
    """What is descriptive does not stop trading."""
    async with world(tmp_path, **XYZ) as found:
        before = found.instruments[TSLA]
        found.simulator.faults.add(
            Fault(kind=FaultKind.ERROR_BEFORE, match="info:perpsAtOpenInterestCap", status=500, count=0)
        )
        after = (await listed(found))[TSLA]
        assert (after.taker_fee_rate, after.open_interest_cap) == (before.taker_fee_rate, before.open_interest_cap)


@pytest.mark.parametrize(
    ("scale", "growth", "fee"),
    [
        ("1", True, "0.00009"),
        ("1", False, "0.0009"),
        ("0", False, "0.00045"),
        ("0.5", False, "0.000675"),
        ("3", False, "0.0027"),
    ],
)
def test_builder_fee_follows_the_deployers_scale(scale: str, growth: bool, fee: str) -> None:
    """Twice from 1 on, added to 1 below; a tenth in growth mode."""
    assert builder_fee("0.00045", Decimal(scale), growth=growth) == fee


async def test_delisted_or_capped_asset_has_its_account_read_as_before(tmp_path: Path) -> None:
    """Terms of instruments change nothing of the account."""
    settings = sim_settings(dex_accounts={ADDRESS: "500"}, agents={AGENT: ADDRESS})
    async with world(tmp_path, simulator_settings=settings, dex="xyz", venue="tradexyz", spot=False) as found:
        found.simulator.venue.halt("xyz:TSLA", found.simulator.now_ms())
        snapshot = await found.venue.fetch_snapshot("main")
        assert [(row.venue_section, row.total) for row in snapshot.balances] == [("xyz", "500")]
