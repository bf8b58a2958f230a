"""The products this front offers, and the numbers it scales by. Pure.

Market ids, decimals, minimum amounts and margin fractions follow the venue's public metadata where the reference
has it; start prices of markets that follow no other venue's are plausible, not current.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal

from simulator.engine.values import Instrument, InstrumentKind, PriceRule

POOL = "lighter"
QUOTE_DECIMALS = 6
COLLATERAL = "USDC"
COLLATERAL_ASSET = 3
MARGIN_TICKS = 10_000
FEE_TICKS = 1_000_000
FIRST_SPOT = 2048
BLOCK = 1 << 48
ORDER_QUOTE_LIMIT = Decimal("281474976.710655")
MIN_QUOTE = Decimal(10)
LIQUIDATION_FEE = Decimal("0.01")


def fixed(value: Decimal, places: int) -> str:
    """`value` with exactly `places` decimals, cut towards zero."""
    return format(value.quantize(Decimal(1).scaleb(-places), ROUND_DOWN) + 0, "f")


def money(value: Decimal) -> str:
    """Quote amount with six decimals."""
    return fixed(value, QUOTE_DECIMALS)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketSpec:
    """One market. Margin fractions are ticks of 1/10000; `follows` names the instrument its reference copies."""

    market_id: int
    symbol: str
    size_decimals: int
    price_decimals: int
    min_base: Decimal
    price: Decimal
    fractions: tuple[int, int, int, int] = (500, 200, 120, 80)
    follows: str | None = None
    created_at: int = 1_737_098_461_100

    @property
    def key(self) -> str:
        """Name in the engine."""
        return f"{POOL}:{self.symbol}"

    @property
    def spot(self) -> bool:
        """Whether it exchanges assets."""
        return self.market_id >= FIRST_SPOT

    @property
    def default_fraction(self) -> int:
        """Initial margin of an account that chose none."""
        return self.fractions[0]

    def size(self, units: int) -> Decimal:
        """Base quantity of a scaled integer."""
        return Decimal(units).scaleb(-self.size_decimals)

    def price_of(self, units: int) -> Decimal:
        """Price of a scaled integer."""
        return Decimal(units).scaleb(-self.price_decimals)

    def size_text(self, value: Decimal) -> str:
        """A quantity in the market's decimals."""
        return fixed(value, self.size_decimals)

    def price_text(self, value: Decimal) -> str:
        """A price in the market's decimals."""
        return fixed(value, self.price_decimals)

    def size_units(self, value: Decimal) -> int:
        """Scaled integer of a quantity."""
        return int(value.scaleb(self.size_decimals))

    def price_units(self, value: Decimal) -> int:
        """Scaled integer of a price."""
        return int(value.scaleb(self.price_decimals))

    def order_index(self, engine_id: int, *, is_ask: bool) -> int:
        """Venue id of an order: asks count up from the bottom of the market's block, bids down from its top."""
        start = (self.market_id + 1) * BLOCK
        return start + engine_id if is_ask else start + BLOCK - engine_id

    def instrument(self) -> Instrument:
        """The engine's view."""
        _, least, maintenance, _ = self.fractions
        base = self.symbol.partition("/")[0]
        return Instrument(
            key=self.key,
            kind=InstrumentKind.SPOT if self.spot else InstrumentKind.PERPETUAL,
            base=base,
            quote=COLLATERAL,
            pool="" if self.spot else POOL,
            quantity_decimals=self.size_decimals,
            price_rule=PriceRule(max_decimals=self.price_decimals),
            max_leverage=1 if self.spot else MARGIN_TICKS // least,
            maker_fee=Decimal(0),
            taker_fee=Decimal(0),
            start_price=self.price,
            maintenance_fraction=None if self.spot else Decimal(maintenance) / MARGIN_TICKS,
            min_notional=Decimal(0),
            liquidation_fee=Decimal(0) if self.spot else LIQUIDATION_FEE,
        )


def _perp(
    market_id: int, symbol: str, decimals: tuple[int, int], min_base: str, price: str, least: int = 200, **more: str
) -> MarketSpec:
    fractions = (max(500, least), least, least * 6 // 10, least * 4 // 10)
    return MarketSpec(
        market_id=market_id,
        symbol=symbol,
        size_decimals=decimals[0],
        price_decimals=decimals[1],
        min_base=Decimal(min_base),
        price=Decimal(price),
        fractions=fractions,
        follows=more.get("follows"),
    )


PERPS: tuple[MarketSpec, ...] = (
    _perp(0, "ETH", (4, 2), "0.0050", "3900", follows="ETH"),
    _perp(1, "BTC", (5, 1), "0.00020", "110000", follows="BTC"),
    _perp(2, "SOL", (3, 3), "0.050", "190", 400, follows="SOL"),
    _perp(3, "DOGE", (0, 6), "10", "0.19", 1000, follows="DOGE"),
    _perp(7, "XRP", (0, 6), "4", "2.45", 500, follows="XRP"),
    _perp(9, "AVAX", (2, 4), "0.50", "20.5", 1000, follows="AVAX"),
    _perp(24, "HYPE", (2, 4), "0.15", "45", 1000, follows="HYPE"),
    _perp(36, "CRV", (1, 5), "35.0", "0.52", 1000),
)
SPOTS: tuple[MarketSpec, ...] = (
    MarketSpec(
        market_id=FIRST_SPOT,
        symbol="ETH/USDC",
        size_decimals=4,
        price_decimals=2,
        min_base=Decimal("0.0050"),
        price=Decimal(3900),
        follows="ETH",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """One asset; `decimals` is how its amounts are scaled in transactions."""

    asset_id: int
    symbol: str
    decimals: int
    l1_decimals: int
    min_transfer: str
    min_withdrawal: str
    address: str


ASSETS: tuple[Asset, ...] = (
    Asset(
        asset_id=1,
        symbol="ETH",
        decimals=8,
        l1_decimals=18,
        min_transfer="0.00100000",
        min_withdrawal="0.00100000",
        address="0x" + "0" * 40,
    ),
    Asset(
        asset_id=COLLATERAL_ASSET,
        symbol=COLLATERAL,
        decimals=6,
        l1_decimals=6,
        min_transfer="1.000000",
        min_withdrawal="1.000000",
        address="0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48",
    ),
)


class Markets:
    """Markets by id and by engine key.

    Args:
        spot: whether the spot market is listed.
    """

    def __init__(self, *, spot: bool = True) -> None:
        self.all: Sequence[MarketSpec] = (*PERPS, *SPOTS) if spot else PERPS
        self.by_id: Mapping[int, MarketSpec] = {spec.market_id: spec for spec in self.all}
        self.by_key: Mapping[str, MarketSpec] = {spec.key: spec for spec in self.all}
        self.assets: Mapping[int, Asset] = {asset.asset_id: asset for asset in ASSETS}

    def by_name(self, name: str) -> MarketSpec | None:
        """A market by its symbol, engine key or id as text."""
        for spec in self.all:
            if name in (spec.symbol, spec.key, str(spec.market_id)):
                return spec
        return None
