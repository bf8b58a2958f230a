"""The products this front offers, and their `meta` answers. Pure.

Figures (size decimals, leverage, margin modes, growth mode) follow the public metadata of Hyperliquid and of
its builder dex `xyz`; start prices are plausible, not current. Positions in the lists are the asset indices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from simulator.engine.values import Instrument, InstrumentKind, MarginMode, MarginTier, PriceRule
from simulator.hyperliquid.decimals import text

PERP_DECIMALS = 6
SPOT_DECIMALS = 8
SPOT_OFFSET = 10_000
DEX_OFFSET = 100_000
DEX_STEP = 10_000
USDC_TOKEN_IDS = ("0x6d1e7cde53ba9467b783cb7c530ce054", "0xeb62eee3685fc4c43992febcd9e75443")
DEPLOYER = "0x88806a71d74ad0a510b350545c9ae490912f0888"
ORACLE_UPDATER = "0x1234567890545d1df9ee64b35fdd16966e08acec"
FEE_RECIPIENT = "0x9cd0a696c7cbb9d44de99268194cb08e5684e5fe"
GROWTH_SINCE = "2025-11-23T17:37:10.033211662"

DEX_OI_CAP = Decimal(150_000_000)

MAKER_FEE, TAKER_FEE = Decimal("0.00015"), Decimal("0.00045")
SPOT_MAKER_FEE, SPOT_TAKER_FEE = Decimal("0.0004"), Decimal("0.0007")


@dataclass(frozen=True, slots=True, kw_only=True)
class PerpRow:
    """One row of a perp universe.

    `mode` is the wire `marginMode` or empty; `growth` marks growth mode; `table` is the id of a tiered margin
    table, 0 for the single tier whose id is the leverage; `kind` is the category shown to people.
    """

    name: str
    decimals: int
    leverage: int
    price: str
    mode: str = ""
    growth: bool = False
    delisted: bool = False
    table: int = 0
    kind: str = "crypto"

    @property
    def table_id(self) -> int:
        """`marginTableId`."""
        return self.table or self.leverage


@dataclass(frozen=True, slots=True, kw_only=True)
class MarginTable:
    """A margin table with an id of 50 or more: description and (lower bound, leverage) pairs."""

    description: str
    tiers: tuple[tuple[str, int], ...]

    def wire(self) -> dict[str, Any]:
        """As `meta` lists it."""
        rows = [{"lowerBound": f"{bound}.0", "maxLeverage": leverage} for bound, leverage in self.tiers]
        return {"description": self.description, "marginTiers": rows}


TABLES: Mapping[int, MarginTable] = {
    50: MarginTable(description="", tiers=(("0", 50),)),
    51: MarginTable(description="tiered 10x", tiers=(("0", 10), ("3000000", 5))),
    52: MarginTable(description="tiered 10x (2)", tiers=(("0", 10), ("20000000", 5))),
    53: MarginTable(description="tiered 20x", tiers=(("0", 20), ("40000000", 10))),
    54: MarginTable(description="tiered 20x (2)", tiers=(("0", 20), ("70000000", 10))),
    55: MarginTable(description="tiered 25x", tiers=(("0", 25), ("100000000", 15))),
    56: MarginTable(description="tiered 40x", tiers=(("0", 40), ("150000000", 20))),
}
LISTED_FROM = 50
"""Tables below this id have one tier, as high as their id, and are not listed."""


def margin_table(table_id: int) -> dict[str, Any]:
    """`marginTable` answer; an id below 50 stands for one tier of that leverage."""
    known = TABLES.get(table_id) or MarginTable(description="", tiers=(("0", table_id),))
    return known.wire()


def _tiers(row: PerpRow) -> tuple[MarginTier, ...]:
    """Engine tiers of a row, empty where one leverage holds at any size."""
    table = TABLES.get(row.table)
    if table is None:
        return ()
    return tuple(MarginTier(lower_bound=Decimal(bound), max_leverage=n) for bound, n in table.tiers)


def _perp(name: str, decimals: int, leverage: int, price: str, **more: Any) -> PerpRow:
    return PerpRow(name=name, decimals=decimals, leverage=leverage, price=price, **more)


MAIN: tuple[PerpRow, ...] = (
    _perp("BTC", 5, 40, "110000", table=56),
    _perp("ETH", 4, 25, "3900", table=55),
    _perp("ATOM", 2, 5, "4.1"),
    _perp("BNB", 3, 10, "1080", table=51),
    _perp("OX", 1, 3, "0.0004", mode="strictIsolated", delisted=True),
    _perp("SOL", 2, 20, "190", table=54),
    _perp("AVAX", 2, 10, "20.5", table=51),
    _perp("DOGE", 0, 10, "0.19", table=52),
    _perp("XRP", 0, 20, "2.45", table=53),
    _perp("kPEPE", 0, 10, "0.007", table=52),
    _perp("HYPE", 2, 10, "45", table=52),
    _perp("PURR", 0, 3, "0.11", mode="strictIsolated"),
)

XYZ: tuple[PerpRow, ...] = (
    _perp("XYZ100", 4, 30, "25000", growth=True, kind="indices"),
    _perp("TSLA", 3, 20, "430", growth=True, kind="stocks"),
    _perp("NVDA", 3, 20, "190", growth=True, kind="stocks"),
    _perp("GOLD", 4, 25, "4050", kind="commodities"),
    _perp("HOOD", 3, 10, "130", mode="noCross", growth=True, kind="stocks"),
    _perp("INTC", 2, 10, "38", mode="noCross", growth=True, kind="stocks"),
    _perp("PLTR", 3, 10, "180", mode="noCross", growth=True, kind="stocks"),
    _perp("URANIUM", 3, 10, "80", mode="strictIsolated", growth=True, delisted=True, kind="commodities"),
    _perp("AAPL", 3, 20, "265", growth=True, kind="stocks"),
    _perp("MSFT", 3, 20, "515", growth=True, kind="stocks"),
    _perp("JPY", 2, 50, "152", mode="noCross", growth=True, kind="fx"),
    _perp("EUR", 1, 50, "1.16", mode="noCross", growth=True, kind="fx"),
    _perp("SILVER", 2, 25, "48.5", growth=True, kind="commodities"),
    _perp("CL", 3, 20, "61", growth=True, kind="commodities"),
    _perp("SP500", 3, 50, "6800", growth=True, kind="indices"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One spot token."""

    name: str
    index: int
    decimals: int
    wei_decimals: int
    token_id: str
    canonical: bool


TOKENS: tuple[Token, ...] = (
    Token(name="USDC", index=0, decimals=8, wei_decimals=8, token_id=USDC_TOKEN_IDS[0], canonical=True),
    Token(
        name="PURR",
        index=1,
        decimals=0,
        wei_decimals=5,
        token_id="0xc1fb593aeffbeb02f85e0308e9956a90",  # noqa: S106 - a public token id, no password
        canonical=True,
    ),
    Token(
        name="HYPE",
        index=150,
        decimals=2,
        wei_decimals=8,
        token_id="0x0d01dc56dcaaca66ad901c959b4011ec",  # noqa: S106
        canonical=False,
    ),
    Token(
        name="UBTC",
        index=197,
        decimals=5,
        wei_decimals=10,
        token_id="0x8f254b963e8468305d409b33aa137c67",  # noqa: S106
        canonical=False,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SpotRow:
    """One spot pair; `index` is the wire index, with gaps."""

    index: int
    base: str
    price: str


SPOT: tuple[SpotRow, ...] = (
    SpotRow(index=0, base="PURR", price="0.11"),
    SpotRow(index=107, base="HYPE", price="45"),
    SpotRow(index=142, base="UBTC", price="110000"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dex:
    """One perp dex: "" is the venue's own."""

    name: str
    rows: tuple[PerpRow, ...]


class Universe:
    """Assets by wire id and by coin name, as engine instruments and as `meta` answers."""

    def __init__(self) -> None:
        self.dexes: tuple[Dex, ...] = (Dex(name="", rows=MAIN), Dex(name="xyz", rows=XYZ))
        self.tokens: Mapping[str, Token] = {token.name: token for token in TOKENS}
        self.instruments: list[Instrument] = []
        self.asset_ids: dict[str, int] = {}
        self.coins: dict[int, str] = {}
        for index, dex in enumerate(self.dexes):
            offset = 0 if index == 0 else DEX_OFFSET + DEX_STEP * index
            for position, row in enumerate(dex.rows):
                self._add(self._perpetual(dex.name, row), offset + position)
        for pair in SPOT:
            self._add(self._spot(pair), SPOT_OFFSET + pair.index)
        self.oi_caps: dict[str, Decimal] = {}  # coin -> notional; coins without one have none
        for dex in self.dexes[1:]:
            self.oi_caps |= {self.coin_of(dex.name, row): DEX_OI_CAP for row in dex.rows}

    def _add(self, instrument: Instrument, asset_id: int) -> None:
        self.instruments.append(instrument)
        self.asset_ids[instrument.key] = asset_id
        self.coins[asset_id] = instrument.key

    @staticmethod
    def coin_of(dex: str, row: PerpRow) -> str:
        """Coin string of a universe row."""
        return f"{dex}:{row.name}" if dex else row.name

    def _perpetual(self, dex: str, row: PerpRow) -> Instrument:
        modes = {
            "": MarginMode.ANY,
            "noCross": MarginMode.ISOLATED_REMOVABLE,
            "strictIsolated": MarginMode.ISOLATED_STRICT,
        }
        scale = Decimal(1) if not dex else Decimal("0.2") if row.growth else Decimal(2)
        return Instrument(
            key=self.coin_of(dex, row),
            kind=InstrumentKind.PERPETUAL,
            base=row.name,
            quote="USDC",
            pool=dex,
            quantity_decimals=row.decimals,
            price_rule=PriceRule(max_decimals=PERP_DECIMALS - row.decimals, max_figures=5),
            max_leverage=row.leverage,
            maker_fee=MAKER_FEE * scale,
            taker_fee=TAKER_FEE * scale,
            start_price=Decimal(row.price),
            margin_mode=modes[row.mode],
            funding_multiplier=Decimal("0.5") if dex else Decimal(1),
            open=not row.delisted,
            margin_tiers=_tiers(row),
        )

    def _spot(self, pair: SpotRow) -> Instrument:
        decimals = self.tokens[pair.base].decimals
        return Instrument(
            key=self.pair_name(pair),
            kind=InstrumentKind.SPOT,
            base=pair.base,
            quote="USDC",
            pool="",
            quantity_decimals=decimals,
            price_rule=PriceRule(max_decimals=SPOT_DECIMALS - decimals, max_figures=5),
            max_leverage=1,
            maker_fee=SPOT_MAKER_FEE,
            taker_fee=SPOT_TAKER_FEE,
            start_price=Decimal(pair.price),
        )

    @staticmethod
    def pair_name(pair: SpotRow) -> str:
        """Coin string of a spot pair: only index 0 has a readable one."""
        return f"{pair.base}/USDC" if pair.index == 0 else f"@{pair.index}"

    def dex(self, name: str) -> Dex | None:
        """A dex by name, None when unknown."""
        return next((dex for dex in self.dexes if dex.name == name), None)

    def row(self, coin: str) -> PerpRow | None:
        """Universe row of a perpetual, None when there is no such coin."""
        rows = ((self.coin_of(dex.name, row), row) for dex in self.dexes for row in dex.rows)
        return next((row for name, row in rows if name == coin), None)

    def delist(self, coin: str) -> None:
        """Mark a perpetual as delisted; its index stays."""
        self.dexes = tuple(
            replace(
                dex,
                rows=tuple(
                    replace(row, delisted=True) if self.coin_of(dex.name, row) == coin else row for row in dex.rows
                ),
            )
            for dex in self.dexes
        )

    def capped_coins(self, dex: Dex) -> list[list[str]]:
        """Pairs of listed coin and open-interest cap of a dex, sorted by coin."""
        listed = sorted(self.coin_of(dex.name, row) for row in dex.rows if not row.delisted)
        return [[coin, text(self.oi_caps[coin])] for coin in listed if coin in self.oi_caps]

    def annotation(self, coin: str) -> dict[str, Any] | None:
        """`perpAnnotation` answer: how a builder dex presents a coin; None for others."""
        row = self.row(coin)
        if row is None or ":" not in coin:
            return None
        return {
            "category": row.kind,
            "description": f"{row.name} perpetual",
            "displayName": row.name,
            "keywords": [row.name.lower(), row.kind],
        }

    def spot_token(self, wire: str) -> Token | None:
        """Token of a "NAME:0x<id>" string; both networks' USDC ids are accepted."""
        name, _, token_id = wire.partition(":")
        token = self.tokens.get(name)
        if token is None:
            return None
        ids = USDC_TOKEN_IDS if name == "USDC" else (token.token_id,)
        return token if token_id.lower() in ids else None

    def meta(self, dex: Dex) -> dict[str, Any]:
        """`meta` answer of a dex."""
        tables = sorted({row.table_id for row in dex.rows if row.table_id >= LISTED_FROM})
        return {
            "universe": [self._meta_row(dex.name, row) for row in dex.rows],
            "marginTables": [[number, margin_table(number)] for number in tables],
            "collateralToken": 0,
        }

    def _meta_row(self, dex: str, row: PerpRow) -> dict[str, Any]:
        found: dict[str, Any] = {
            "szDecimals": row.decimals,
            "name": self.coin_of(dex, row),
            "maxLeverage": row.leverage,
            "marginTableId": row.table_id,
        }
        if row.mode:
            found["onlyIsolated"] = True
        if row.delisted:
            found["isDelisted"] = True
        if row.mode:
            found["marginMode"] = row.mode
        if row.growth:
            found["growthMode"] = "enabled"
            found["lastGrowthModeChangeTime"] = GROWTH_SINCE
        return found

    def spot_meta(self) -> dict[str, Any]:
        """`spotMeta` answer."""
        return {
            "universe": [
                {
                    "tokens": [self.tokens[pair.base].index, 0],
                    "name": self.pair_name(pair),
                    "index": pair.index,
                    "isCanonical": pair.index == 0,
                }
                for pair in SPOT
            ],
            "tokens": [
                {
                    "name": token.name,
                    "szDecimals": token.decimals,
                    "weiDecimals": token.wei_decimals,
                    "index": token.index,
                    "tokenId": token.token_id,
                    "isCanonical": token.canonical,
                    "evmContract": None,
                    "fullName": None,
                    "deployerTradingFeeShare": "0.0",
                }
                for token in TOKENS
            ],
        }

    def perp_dexs(self) -> list[dict[str, Any] | None]:
        """`perpDexs` answer: null stands for the venue's own dex."""
        found: list[dict[str, Any] | None] = [None]
        for dex in self.dexes[1:]:
            coins = sorted(self.coin_of(dex.name, row) for row in dex.rows if not row.delisted)
            found.append(
                {
                    "name": dex.name,
                    "fullName": dex.name.upper(),
                    "deployer": DEPLOYER,
                    "oracleUpdater": None,
                    "feeRecipient": FEE_RECIPIENT,
                    "assetToStreamingOiCap": self.capped_coins(dex),
                    "subDeployers": [["setOracle", [ORACLE_UPDATER]]],
                    "deployerFeeScale": "1.0",
                    "lastDeployerFeeScaleChangeTime": "1970-01-01T00:00:00",
                    "assetToFundingMultiplier": [[coin, "0.5"] for coin in coins],
                    "assetToFundingInterestRate": [],
                }
            )
        return found
