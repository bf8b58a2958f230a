"""Instruments, books and statistics."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hypercore.adapter import market_normalizer
from hypercore.precision import is_valid_price
from tests.unit.hypercore.adapter.support import info, universe
from venuemesh.gateway import rules
from venuemesh.gateway.venue_offers import FeeRates
from venuemesh.v1 import instrument_pb2, market_data_pb2

NOW_NS = 1_790_000_000_123_456_789
UNIVERSE = universe(include_spot=True)
INSTRUMENTS = {
    asset.symbol: market_normalizer.normalize_instrument(asset, venue="hyperliquid", updated_ns=NOW_NS)
    for asset in UNIVERSE.assets
}


@settings(max_examples=150)
@given(
    symbol=st.sampled_from(sorted(INSTRUMENTS)),
    price=st.decimals(min_value="0.00000001", max_value=1_000_000, places=8),
    places=st.integers(0, 8),
)
def test_price_rule_accepts_exactly_what_the_venue_takes(symbol: str, price: Decimal, places: int) -> None:
    """The instrument's rule, which knows no venue, and the protocol's own rule agree."""
    asset = UNIVERSE.by_symbol(symbol)
    candidate = round(price, places)
    if candidate <= 0:
        return
    expected = is_valid_price(candidate, asset.sz_decimals, is_spot=asset.is_spot)
    assert rules.is_valid_price(candidate, INSTRUMENTS[symbol].price_rule) == expected


def test_perpetual_terms() -> None:
    """Fees, funding, leverage, notional and names of a perpetual."""
    row = INSTRUMENTS["BTC/USDC:USDC"]
    assert (row.venue_symbol, row.base_asset, row.quote_asset, row.settle_asset) == ("BTC", "BTC", "USDC", "USDC")
    assert row.quantity_rule.step_size == "0.00001"
    assert (row.quantity_rule.min_notional, row.quantity_rule.close_exempt_from_min_notional) == ("10", True)
    assert (row.maker_fee_rate, row.taker_fee_rate) == ("0.00015", "0.00045")
    assert (row.max_leverage, row.funding_interval.seconds) == ("40", 3600)
    assert list(row.margin_modes) == [instrument_pb2.MARGIN_MODE_CROSS, instrument_pb2.MARGIN_MODE_ISOLATED]
    assert row.isolated_margin_removable


def test_margin_modes_and_states() -> None:
    """strictIsolated keeps its margin, noCross may take it out; a delisted asset says so."""
    strict, free = INSTRUMENTS["OX/USDC:USDC"], INSTRUMENTS["FREE/USDC:USDC"]
    assert strict.state == instrument_pb2.INSTRUMENT_STATE_DELISTED
    assert list(strict.margin_modes) == list(free.margin_modes) == [instrument_pb2.MARGIN_MODE_ISOLATED]
    assert (strict.isolated_margin_removable, free.isolated_margin_removable) == (False, True)


def test_spot_terms() -> None:
    """Spot has its own fees and no leverage, margin or funding."""
    row = INSTRUMENTS["HYPE/USDC"]
    assert row.instrument_type == instrument_pb2.INSTRUMENT_TYPE_SPOT
    assert (row.venue_symbol, row.price_rule.max_decimals) == ("@107", 6)
    assert (row.maker_fee_rate, row.taker_fee_rate) == ("0.0004", "0.0007")
    assert not row.HasField("max_leverage")
    assert not row.HasField("funding_interval")
    assert list(row.margin_modes) == []


def test_statistics_of_an_empty_book_leave_out_what_is_not_there() -> None:
    """No mid without a book; funding is due at the next full hour."""
    plain = {
        "funding": "0.0000125",
        "openInterest": "5259.34",
        "prevDayPx": "132.32",
        "dayNtlVlm": "965843.7286000003",
        "premium": None,
        "oraclePx": "128.41",
        "markPx": "128.45",
        "midPx": None,
        "impactPxs": None,
    }
    ctxs = info("metaAndAssetCtxs", [{"universe": []}, [plain]]).ctxs
    row = market_normalizer.normalize_statistics(
        ctxs[0], UNIVERSE.by_coin("SOL"), venue="hyperliquid", received_ns=NOW_NS
    )
    assert not row.HasField("mid_price")
    assert not row.HasField("volume_24h")
    assert (row.quote_volume_24h, row.funding_rate) == ("965843.7286000003", "0.0000125")
    assert row.next_funding_time.ToNanoseconds() == (NOW_NS // 3_600_000_000_000 + 1) * 3_600_000_000_000


def test_running_candle_is_not_complete() -> None:
    """Complete only after its last millisecond."""
    plain = {"t": 0, "T": 59_999, "s": "BTC", "i": "1m", "o": "1", "c": "2", "h": "3", "l": "0.5", "v": "4", "n": 5}
    (candle,) = info("candleSnapshot", [plain])
    asset = UNIVERSE.by_coin("BTC")
    for now_ns, complete in ((59_999_000_000, False), (60_000_000_000, True)):
        row = market_normalizer.normalize_candle(candle, asset, venue="hyperliquid", now_ns=now_ns)
        assert row is not None
        assert row.complete is complete
    (odd,) = info("candleSnapshot", [plain | {"i": "7m"}])
    assert market_normalizer.normalize_candle(odd, asset, venue="hyperliquid", now_ns=0) is None


def test_every_interval_of_the_contract_has_a_word() -> None:
    """The venue offers them all."""
    numbers = set(market_data_pb2.CandleInterval.values()) - {market_data_pb2.CANDLE_INTERVAL_UNSPECIFIED}
    assert set(market_normalizer.INTERVALS) == numbers
    assert len(set(market_normalizer.INTERVALS.values())) == len(numbers)


def test_fees_of_an_account_are_its_tiers_and_scale_on_a_builder_dex() -> None:
    """The venue tells main-dex rates; a builder's instrument keeps its factor over the base rates."""
    fees: Any = SimpleNamespace(
        user_add_rate=Decimal("0.00012"),
        user_cross_rate=Decimal("0.0004"),
        user_spot_add_rate=None,
        user_spot_cross_rate=None,
    )
    main, spot = INSTRUMENTS["BTC/USDC:USDC"], INSTRUMENTS["HYPE/USDC"]
    assert market_normalizer.account_fees(fees, main) == FeeRates(maker=Decimal("0.00012"), taker=Decimal("0.0004"))
    assert market_normalizer.account_fees(fees, spot) is None
    built = instrument_pb2.Instrument()
    built.CopyFrom(main)
    built.maker_fee_rate, built.taker_fee_rate = "0.0003", "0.0009"
    doubled = market_normalizer.account_fees(fees, built)
    assert doubled == FeeRates(maker=Decimal("0.00024"), taker=Decimal("0.0008"))
