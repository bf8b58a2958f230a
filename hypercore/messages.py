"""Typed shapes of the venue's market answers; one Struct per object on the wire.

Fields keep the venue's words in snake case (`limitPx` is `limit_px`); amounts are `Decimal` straight from the
text. Unknown keys are ignored. A field is optional only where a recording lacks it or the venue sends null.
Source: venue reference sections 2.1 and 6.1.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

import msgspec

Addressed = str
"""0x and 40 hex digits; answers are lower case."""


class Wire(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Base of every object with camel-case keys."""


class PairWire(msgspec.Struct, frozen=True, array_like=True):
    """Base of every object the venue writes as a fixed array."""


# --- instruments -------------------------------------------------------------------------------------------


class PerpRow(Wire, frozen=True, kw_only=True):
    """One row of `meta.universe`; the flags are present only when set."""

    name: str
    sz_decimals: Annotated[int, msgspec.Meta(ge=0, le=18)]
    max_leverage: int
    margin_table_id: int | None = None
    only_isolated: bool = False
    is_delisted: bool = False
    margin_mode: str | None = None
    growth_mode: str | None = None
    last_growth_mode_change_time: str | None = None


class MarginTier(Wire, frozen=True, kw_only=True):
    """Maximum leverage from `lower_bound` of notional (quote units) on."""

    lower_bound: Decimal
    max_leverage: int


class MarginTable(Wire, frozen=True, kw_only=True):
    """Tiers of one margin table."""

    description: str = ""
    margin_tiers: tuple[MarginTier, ...]


class NumberedMarginTable(PairWire, frozen=True):
    """Element of `meta.marginTables`."""

    id: int
    table: MarginTable


class Meta(Wire, frozen=True, kw_only=True):
    """Perp universe of one dex; a row's position is its index."""

    universe: tuple[PerpRow, ...]
    margin_tables: tuple[NumberedMarginTable, ...] = ()
    collateral_token: int = 0


class AssetCtx(Wire, frozen=True, kw_only=True):
    """Live figures of one perp; `funding` is hourly, `open_interest` in coins, one-sided."""

    funding: Decimal
    open_interest: Decimal
    prev_day_px: Decimal
    day_ntl_vlm: Decimal
    oracle_px: Decimal
    mark_px: Decimal
    premium: Decimal | None = None
    mid_px: Decimal | None = None
    impact_pxs: tuple[Decimal, Decimal] | None = None
    day_base_vlm: Decimal | None = None


class MetaAndAssetCtxs(PairWire, frozen=True):
    """Universe and contexts, aligned by index."""

    meta: Meta
    ctxs: tuple[AssetCtx, ...]


class SpotPair(Wire, frozen=True, kw_only=True):
    """Row of `spotMeta.universe`; `tokens` are base and quote token indices, `index` is the pair's own."""

    tokens: tuple[int, int]
    name: str
    index: int
    is_canonical: bool = False


class SpotToken(Wire, frozen=True, kw_only=True):
    """Row of `spotMeta.tokens`; indices have gaps."""

    name: str
    sz_decimals: Annotated[int, msgspec.Meta(ge=0, le=18)]
    wei_decimals: int
    index: int
    token_id: str
    is_canonical: bool = False
    full_name: str | None = None


class SpotMeta(Wire, frozen=True, kw_only=True):
    """Spot pairs and tokens."""

    universe: tuple[SpotPair, ...]
    tokens: tuple[SpotToken, ...] = ()


class SpotAssetCtx(Wire, frozen=True, kw_only=True):
    """Live figures of one spot pair; match by `coin`, never by position."""

    coin: str | None = None
    day_ntl_vlm: Decimal
    mark_px: Decimal
    prev_day_px: Decimal
    mid_px: Decimal | None = None
    circulating_supply: Decimal | None = None
    total_supply: Decimal | None = None
    day_base_vlm: Decimal | None = None


class SpotMetaAndAssetCtxs(PairWire, frozen=True):
    """Spot universe and contexts, not aligned."""

    meta: SpotMeta
    ctxs: tuple[SpotAssetCtx, ...]


class CoinAmount(PairWire, frozen=True):
    """`["xyz:TSLA", "150000000.0"]`."""

    coin: str
    amount: Decimal


class SubDeployer(PairWire, frozen=True):
    """A deployer permission and who holds it."""

    permission: str
    addresses: tuple[Addressed, ...]


class PerpDex(Wire, frozen=True, kw_only=True):
    """Row of `perpDexs`; the row's position is the dex index and element 0 is null."""

    name: str
    full_name: str
    deployer: Addressed
    oracle_updater: Addressed | None = None
    fee_recipient: Addressed | None = None
    asset_to_streaming_oi_cap: tuple[CoinAmount, ...] = ()
    sub_deployers: tuple[SubDeployer, ...] = ()
    deployer_fee_scale: Decimal | None = None
    last_deployer_fee_scale_change_time: str | None = None
    asset_to_funding_multiplier: tuple[CoinAmount, ...] = ()
    asset_to_funding_interest_rate: tuple[CoinAmount, ...] = ()


class PerpDexLimits(Wire, frozen=True, kw_only=True):
    """Open-interest and transfer limits of one builder dex."""

    total_oi_cap: Decimal
    oi_sz_cap_per_perp: Decimal
    max_transfer_ntl: Decimal
    coin_to_oi_cap: tuple[CoinAmount, ...] = ()


class PerpDexStatus(Wire, frozen=True, kw_only=True):
    """Net deposit into one dex, quote units."""

    total_net_deposit: Decimal


class ExchangeStatus(Wire, frozen=True, kw_only=True):
    """Venue clock (ms) and its announcements; `special_statuses` has no documented shape."""

    time: int
    special_statuses: Any = None


# --- books, trades, candles, funding -----------------------------------------------------------------------


class Level(Wire, frozen=True, kw_only=True):
    """Price level; `n` is the number of orders in it."""

    px: Decimal
    sz: Decimal
    n: int


class L2Book(Wire, frozen=True, kw_only=True):
    """Full book snapshot: `levels[0]` bids, `levels[1]` asks, best first, at most 20 a side; `time` ms."""

    coin: str
    levels: tuple[tuple[Level, ...], tuple[Level, ...]]
    time: int
    spread: Decimal | None = None
    fast: bool = False


class Bbo(Wire, frozen=True, kw_only=True):
    """Best bid and ask; None is an empty side."""

    coin: str
    time: int
    bbo: tuple[Level | None, Level | None]


class Trade(Wire, frozen=True, kw_only=True):
    """A public trade; `side` is the taker's, `users` are buyer and seller."""

    coin: str
    side: str
    px: Decimal
    sz: Decimal
    time: int
    hash: str
    tid: int
    users: tuple[Addressed, Addressed] | None = None


class Candle(msgspec.Struct, frozen=True, kw_only=True):
    """One candle; times ms, `close_time = open_time + interval - 1`, volume in base units."""

    open_time: int = msgspec.field(name="t")
    close_time: int = msgspec.field(name="T")
    coin: str = msgspec.field(name="s")
    interval: str = msgspec.field(name="i")
    open: Decimal = msgspec.field(name="o")
    close: Decimal = msgspec.field(name="c")
    high: Decimal = msgspec.field(name="h")
    low: Decimal = msgspec.field(name="l")
    volume: Decimal = msgspec.field(name="v")
    trades: int = msgspec.field(name="n")


class FundingRate(Wire, frozen=True, kw_only=True):
    """Row of `fundingHistory`: hourly rate at `time` ms."""

    coin: str
    funding_rate: Decimal
    premium: Decimal | None = None
    time: int


class PredictedFunding(Wire, frozen=True, kw_only=True):
    """Next funding of one venue for one coin."""

    funding_rate: Decimal
    next_funding_time: int
    funding_interval_hours: int | None = None


class VenuePrediction(PairWire, frozen=True):
    """`["HlPerp", {...}]`, null where that venue has no such coin."""

    venue: str
    prediction: PredictedFunding | None


class CoinPredictions(PairWire, frozen=True):
    """Predicted funding of one coin over venues."""

    coin: str
    predictions: tuple[VenuePrediction, ...]
