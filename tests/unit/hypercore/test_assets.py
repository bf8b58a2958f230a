"""Universes, ids, names and symbols: from made-up lists with gaps and from recorded ones."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercore.assets import (
    AssetKind,
    MarginMode,
    Universe,
    build_universe,
    dex_index,
    perp_asset_id,
    spot_asset_id,
)
from hypercore.codec import parse_info
from hypercore.messages import Meta, PerpDex, SpotMeta
from tests.unit.hypercore.support import body, needs_recordings
from venuemesh.errors import InstrumentNotFound, ProtocolViolation

TOKENS = [
    {"name": "USDC", "szDecimals": 8, "weiDecimals": 8, "index": 0, "tokenId": "0x6d", "evmContract": None},
    {"name": "PURR", "szDecimals": 0, "weiDecimals": 5, "index": 1, "tokenId": "0xc1"},
    {"name": "HYPE", "szDecimals": 2, "weiDecimals": 8, "index": 150, "tokenId": "0x0d", "news": [1]},
    {"name": "USDH", "szDecimals": 2, "weiDecimals": 8, "index": 360, "tokenId": "0x54"},
    {"name": "UBTC", "szDecimals": 5, "weiDecimals": 10, "index": 197, "tokenId": "0x8f"},
    {"name": "od d ", "szDecimals": 1, "weiDecimals": 8, "index": 9, "tokenId": "0x99"},
]
SPOT = {
    "universe": [
        {"tokens": [1, 0], "name": "PURR/USDC", "index": 0, "isCanonical": True},
        {"tokens": [150, 0], "name": "@107", "index": 107, "isCanonical": False},
        {"tokens": [150, 360], "name": "@232", "index": 232},
        {"tokens": [197, 0], "name": "@142", "index": 142},
        {"tokens": [9, 0], "name": "@3", "index": 3},
        {"tokens": [777, 0], "name": "@500", "index": 500},
        {"tokens": [1, 0], "name": "@501", "index": 501},
    ],
    "tokens": TOKENS,
}


def spot_meta() -> SpotMeta:
    return msgspec.convert(SPOT, SpotMeta)


def meta(*rows: dict[str, object], collateral: int = 0) -> Meta:
    full = [{"szDecimals": 3, "maxLeverage": 10, "marginTableId": 10, **row} for row in rows]
    tables = [[51, {"description": "", "marginTiers": [{"lowerBound": "0.0", "maxLeverage": 10}]}]]
    return msgspec.convert(
        {"universe": full, "marginTables": tables, "collateralToken": collateral, "unheard": {}}, Meta
    )


def dexs(*names: str | None) -> list[PerpDex | None]:
    return [None if name is None else PerpDex(name=name, full_name=name, deployer="0x0") for name in names]


def test_build_universe_numbers_every_kind_of_asset_from_the_lists() -> None:
    """Main perps by place, spot by the index field, builder perps by dex and place: 0, 10107, 120001."""
    universe = build_universe(
        spot_meta=spot_meta(),
        metas={"": meta({"name": "BTC"}, {"name": "ETH"}), "xyz": meta({"name": "xyz:A"}, {"name": "xyz:TSLA"})},
        perp_dexs=dexs(None, "flx", "xyz"),
    )
    assert universe.by_coin("ETH").asset_id == 1
    assert universe.by_coin("@107").asset_id == 10_107
    assert universe.by_coin("PURR/USDC").asset_id == 10_000
    assert universe.by_coin("xyz:TSLA").asset_id == 120_001
    assert universe.by_id(120_001).coin == "xyz:TSLA"
    assert universe.by_id(120_001).dex == "xyz"


def test_build_universe_gives_the_unified_symbols() -> None:
    """`BTC/USDC:USDC`, `HYPE/USDC`, and a builder perp without its dex."""
    universe = build_universe(
        spot_meta=spot_meta(),
        metas={"": meta({"name": "BTC"}, {"name": "kPEPE"}), "xyz": meta({"name": "xyz:TSLA"})},
        perp_dexs=dexs(None, "xyz"),
    )
    wanted = {
        "BTC/USDC:USDC": "BTC",
        "KPEPE/USDC:USDC": "kPEPE",
        "TSLA/USDC:USDC": "xyz:TSLA",
        "HYPE/USDC": "@107",
        "HYPE/USDH": "@232",
        "PURR/USDC": "PURR/USDC",
        "OD_D/USDC": "@3",
    }
    assert {symbol: universe.by_symbol(symbol).coin for symbol in wanted} == wanted


def test_build_universe_resolves_collateral_through_spot_meta() -> None:
    """A dex on token 360 settles in USDH, whatever its index."""
    universe = build_universe(
        spot_meta=spot_meta(),
        metas={"flx": meta({"name": "flx:OIL"}, collateral=360)},
        perp_dexs=dexs(None, "flx"),
        include_spot=False,
    )
    oil = universe.by_symbol("OIL/USDH:USDH")
    assert oil.collateral is not None
    assert oil.collateral.wire_name == "USDH:0x54"
    assert (oil.settle, oil.kind) == ("USDH", AssetKind.PERP)
    assert len(universe) == 1


def test_build_universe_with_two_assets_of_one_symbol_names_the_second_by_its_dex() -> None:
    """A symbol means one asset; the first dex asked for keeps it, a delisted one gives way."""
    universe = build_universe(
        spot_meta=spot_meta(),
        metas={
            "xyz": meta({"name": "xyz:TSLA"}, {"name": "xyz:OLD", "isDelisted": True}),
            "flx": meta({"name": "flx:TSLA"}, {"name": "flx:OLD"}),
        },
        perp_dexs=dexs(None, "xyz", "flx"),
    )
    assert universe.by_symbol("TSLA/USDC:USDC").coin == "xyz:TSLA"
    assert universe.by_symbol("FLX-TSLA/USDC:USDC").coin == "flx:TSLA"
    assert universe.by_symbol("OLD/USDC:USDC").coin == "flx:OLD"
    assert universe.by_symbol("XYZ-OLD/USDC:USDC").is_delisted
    assert universe.by_symbol("@501/USDC").asset_id == 10_501
    assert len({asset.symbol for asset in universe.assets}) == len(universe)


def test_build_universe_keeps_gaps_and_names_what_it_skips() -> None:
    """A pair whose token is not listed cannot be traded; it is named, and the rest stands."""
    universe = build_universe(spot_meta=spot_meta(), metas={"": meta({"name": "BTC"})})
    assert [text for text in universe.skipped if "@500" in text]
    assert len(universe.skipped) == 1
    with pytest.raises(InstrumentNotFound):
        universe.by_coin("@500")


def test_build_universe_reads_margin_modes_tiers_and_growth() -> None:
    """Mode key, older flag, unlisted and listed margin tables, growth mode, an unknown mode."""
    universe = build_universe(
        spot_meta=spot_meta(),
        metas={
            "": meta(
                {"name": "A"},
                {"name": "B", "onlyIsolated": True},
                {"name": "C", "onlyIsolated": True, "marginMode": "noCross", "growthMode": "enabled"},
                {"name": "D", "marginMode": "somethingNew", "marginTableId": 51},
                {"name": "E", "marginTableId": 77},
            )
        },
    )
    modes = [universe.by_coin(coin).margin_mode for coin in "ABCD"]
    strict = MarginMode.STRICT_ISOLATED
    assert modes == [MarginMode.CROSS, strict, MarginMode.NO_CROSS, strict]
    assert universe.by_coin("C").growth_mode
    assert universe.by_coin("C").only_isolated
    assert [(t.lower_bound, t.max_leverage) for t in universe.by_coin("A").margin_tiers] == [(Decimal(0), 10)]
    assert universe.by_coin("D").margin_tiers[0].max_leverage == 10
    assert universe.by_coin("E").margin_tiers == ()


def test_build_universe_with_an_alias_uses_the_operators_name() -> None:
    """An operator may call the venue's UBTC BTC in symbols; the venue's name stays in `coin`."""
    universe = build_universe(spot_meta=spot_meta(), metas={}, token_aliases={"UBTC": "BTC"})
    assert universe.by_symbol("BTC/USDC").coin == "@142"


@pytest.mark.parametrize(
    ("dex", "collateral"), [("nodex", 0), ("xyz", 4_242)], ids=["unlisted dex", "unlisted collateral"]
)
def test_build_universe_when_lists_do_not_fit_is_a_protocol_violation(dex: str, collateral: int) -> None:
    """Trading with a guessed number or currency is worse than not starting."""
    with pytest.raises(ProtocolViolation):
        build_universe(
            spot_meta=spot_meta(),
            metas={dex: meta({"name": f"{dex}:A"}, collateral=collateral)},
            perp_dexs=dexs(None, "xyz"),
        )


def test_universe_when_asked_for_the_unknown_raises_instrument_not_found() -> None:
    """All three ways of asking, and tokens."""
    universe = Universe([])
    with pytest.raises(InstrumentNotFound):
        universe.by_coin("BTC")
    with pytest.raises(InstrumentNotFound):
        universe.by_id(0)
    with pytest.raises(InstrumentNotFound):
        universe.by_symbol("BTC/USDC:USDC")
    with pytest.raises(InstrumentNotFound):
        universe.token_named("USDC")
    assert universe.get_coin("BTC") is None


@given(dex=st.integers(0, 50), position=st.integers(0, 9_999), pair=st.integers(0, 89_999))
def test_asset_ids_of_different_kinds_never_collide(dex: int, position: int, pair: int) -> None:
    """Every id says its kind, dex and place."""
    perp, spot = perp_asset_id(dex, position), spot_asset_id(pair)
    assert perp != spot
    if dex:
        assert divmod(perp - 100_000, 10_000) == (dex, position)
    else:
        assert perp == position


@pytest.mark.parametrize(("dex", "position"), [(-1, 0), (0, -1), (1, 10_000), (0, 10_000)])
def test_perp_asset_id_out_of_range_is_refused(dex: int, position: int) -> None:
    """An id in another asset's range would trade that asset."""
    with pytest.raises(ValueError, match=r"index|range"):
        perp_asset_id(dex, position)


@needs_recordings
def test_build_universe_on_recorded_testnet_lists() -> None:
    """Testnet numbers differ from mainnet's, the dex has its own place, symbols stay unique."""
    universe = build_universe(
        spot_meta=parse_info("spotMeta", body("info_spotMeta_testnet.json")),
        metas={"": parse_info("meta", body("info_meta_testnet.json"))},
    )
    assert universe.by_symbol("SOL/USDC:USDC").asset_id == 0
    assert universe.by_symbol("BTC/USDC:USDC").asset_id == 3
    assert universe.by_symbol("PURR/USDC").asset_id == 10_000
    assert len({asset.symbol for asset in universe.assets}) == len(universe)
    assert len({asset.asset_id for asset in universe.assets}) == len(universe)
    perp_dexs = parse_info("perpDexs", body("info_perpDexs_testnet.json"))
    assert perp_asset_id(dex_index("xyz", perp_dexs), 0) == 750_000


@needs_recordings
def test_build_universe_on_the_recorded_builder_dex() -> None:
    """TSLA of xyz with xyz first among the builder dexes: 110001, and its margin variants."""
    universe = build_universe(
        spot_meta=spot_meta(),
        metas={"xyz": parse_info("meta", body("info_meta_xyz_mainnet.json"))},
        perp_dexs=dexs(None, "xyz"),
        include_spot=False,
    )
    tsla = universe.by_symbol("TSLA/USDC:USDC")
    assert (tsla.asset_id, tsla.coin, tsla.sz_decimals) == (110_001, "xyz:TSLA", 3)
    assert tsla.margin_mode is MarginMode.CROSS
    assert universe.by_coin("xyz:HOOD").margin_mode is MarginMode.NO_CROSS
    assert universe.by_coin("xyz:URANIUM").is_delisted
    assert not universe.skipped
