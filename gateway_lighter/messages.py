"""Typed shapes of the venue's public answers; one Struct per object on the wire.

Fields keep the venue's words; amounts are `Decimal` straight from the text, also where the venue writes JSON numbers.
Unknown keys are ignored. A field is optional only where a recording lacks it, the venue leaves zeros out, or it sends
null or an empty string. Source: venue reference sections 3 and 15.3 to 15.4.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Annotated

import msgspec

Decimals = Annotated[int, msgspec.Meta(ge=0, le=18)]
Index = Annotated[int, msgspec.Meta(ge=0)]

ZERO = Decimal(0)


class Wire(msgspec.Struct, frozen=True, kw_only=True):
    """Base of every object."""


def amount_or_none(text: str) -> Decimal | None:
    """A decimal, or None for the empty text by which the venue says that there is none.

    Raises:
        ValueError: neither; msgspec turns it into its own error.
    """
    if text == "":
        return None
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{text!r} is no decimal") from None
    if not value.is_finite():
        raise ValueError(f"{text!r} is not finite")
    return value


# --- markets and assets ------------------------------------------------------------------------------------


class OrderBookInfo(Wire, frozen=True, kw_only=True):
    """A market's rules: row of `orderBooks`, and the common part of `orderBookDetails`.

    `min_base_amount` and `min_quote_amount` bind orders that are not reduce-only; fees here are not the account's.
    """

    symbol: str
    market_id: Index
    market_type: str
    base_asset_id: int = 0
    quote_asset_id: int = 0
    status: str
    min_base_amount: Decimal
    min_quote_amount: Decimal
    order_quote_limit: Decimal | None = None
    supported_size_decimals: Decimals
    supported_price_decimals: Decimals
    supported_quote_decimals: Decimals = 6
    liquidation_fee: Decimal | None = None
    multiplier: Decimal = Decimal(1)

    @property
    def is_active(self) -> bool:
        """Whether it trades now."""
        return self.status == "active"


class MarketConfig(Wire, frozen=True, kw_only=True):
    """Switches of a perpetual market."""

    market_margin_mode: int = 0
    force_reduce_only: bool = False
    trading_hours: str = ""
    hidden: bool = False


class PerpDetails(OrderBookInfo, frozen=True, kw_only=True):
    """Row of `order_book_details`; fractions are ticks of 1/10000, `open_interest` base units, statistics floats."""

    size_decimals: Decimals
    price_decimals: Decimals
    default_initial_margin_fraction: int
    min_initial_margin_fraction: int
    maintenance_margin_fraction: int
    closeout_margin_fraction: int
    mark_price: Decimal | None = None
    index_price: Decimal | None = None
    last_trade_price: Decimal = ZERO
    daily_trades_count: int = 0
    daily_base_token_volume: Decimal = ZERO
    daily_quote_token_volume: Decimal = ZERO
    daily_price_low: Decimal = ZERO
    daily_price_high: Decimal = ZERO
    daily_price_change: Decimal = ZERO
    open_interest: Decimal = ZERO
    market_config: MarketConfig = MarketConfig()


class SpotDetails(OrderBookInfo, frozen=True, kw_only=True):
    """Row of `spot_order_book_details`."""

    size_decimals: Decimals
    price_decimals: Decimals
    last_trade_price: Decimal = ZERO
    daily_trades_count: int = 0
    daily_base_token_volume: Decimal = ZERO
    daily_quote_token_volume: Decimal = ZERO
    daily_price_low: Decimal = ZERO
    daily_price_high: Decimal = ZERO
    daily_price_change: Decimal = ZERO


class OrderBooks(Wire, frozen=True, kw_only=True):
    """`GET orderBooks`."""

    order_books: tuple[OrderBookInfo, ...] | None = None


class OrderBookDetails(Wire, frozen=True, kw_only=True):
    """`GET orderBookDetails`."""

    order_book_details: tuple[PerpDetails, ...] | None = None
    spot_order_book_details: tuple[SpotDetails, ...] | None = None


class Asset(Wire, frozen=True, kw_only=True):
    """Row of `assetDetails`; `size_decimals` is called `decimals` by newer servers."""

    asset_id: Index
    symbol: str
    l1_decimals: Decimals
    size_decimals: Decimals | None = None
    decimals: Decimals | None = None
    min_transfer_amount: Decimal
    min_withdrawal_amount: Decimal
    margin_mode: str
    multiplier: Decimal = Decimal(1)


class AssetDetails(Wire, frozen=True, kw_only=True):
    """`GET assetDetails`."""

    asset_details: tuple[Asset, ...] | None = None


class SystemConfig(Wire, frozen=True, kw_only=True):
    """`GET systemConfig`: system accounts and integrator caps (ticks of 1e-6)."""

    liquidity_pool_index: int
    staking_pool_index: int = 0
    funding_fee_rebate_account_index: int = 0
    market_maker_incentive_account_index: int = 0
    fee_collector_account_index: int = 0
    max_integrator_perps_taker_fee: int = 0
    max_integrator_perps_maker_fee: int = 0
    max_integrator_spot_taker_fee: int = 0
    max_integrator_spot_maker_fee: int = 0


class Announcement(Wire, frozen=True, kw_only=True):
    """Row of `announcement`; seconds."""

    title: str
    content: str = ""
    created_at: int = 0
    expired_at: int = 0


class Announcements(Wire, frozen=True, kw_only=True):
    """`GET announcement`."""

    announcements: tuple[Announcement, ...] | None = None


class Status(Wire, frozen=True, kw_only=True):
    """`GET /`: `network_id` is the L1's, not the chain id of signatures; `timestamp` seconds."""

    status: int
    network_id: int
    timestamp: int


class CurrentHeight(Wire, frozen=True, kw_only=True):
    """`GET currentHeight`."""

    height: int


# --- books, trades, candles, funding -----------------------------------------------------------------------


class RestingOrder(Wire, frozen=True, kw_only=True):
    """Row of `orderBookOrders`; `order_expiry` ms."""

    order_index: Index
    owner_account_index: int
    initial_base_amount: Decimal
    remaining_base_amount: Decimal
    price: Decimal
    order_expiry: int = 0


class OrderBookOrders(Wire, frozen=True, kw_only=True):
    """`GET orderBookOrders`: orders, best first, in price-time order; at most 250 a side."""

    asks: tuple[RestingOrder, ...] | None = None
    bids: tuple[RestingOrder, ...] | None = None


class Trade(Wire, frozen=True, kw_only=True):
    """A print, public or own. Fees in ticks of 1e-6 are absent when zero; pnl fields only for the own side.

    `timestamp` ms, `transaction_time` microseconds. `tx_hash` may be a system hash and repeat.
    """

    trade_id: Index
    tx_hash: str = ""
    type: str
    market_id: Index
    size: Decimal
    price: Decimal
    usd_amount: Decimal
    ask_id: Index
    bid_id: Index
    ask_client_id: int = 0
    bid_client_id: int = 0
    ask_account_id: int
    bid_account_id: int
    is_maker_ask: bool
    block_height: int = 0
    timestamp: int
    taker_fee: int = 0
    maker_fee: int = 0
    transaction_time: int = 0
    ask_account_pnl: Decimal | None = None
    bid_account_pnl: Decimal | None = None
    integrator_taker_fee: int = 0
    integrator_maker_fee: int = 0
    taker_position_size_before: Decimal | None = None
    taker_entry_quote_before: Decimal | None = None
    taker_position_sign_changed: bool = False
    maker_position_size_before: Decimal | None = None
    maker_entry_quote_before: Decimal | None = None
    maker_position_sign_changed: bool = False


class Trades(Wire, frozen=True, kw_only=True):
    """`GET recentTrades` and `GET trades`, newest first; an empty list may be null or missing."""

    trades: tuple[Trade, ...] | None = None
    next_cursor: str | None = None


class Candle(Wire, frozen=True, kw_only=True):
    """One candle: `t` open time in ms, `v` base and `V` quote volume, `i` last trade id. Zeros are left out.

    With merged mark prices the capital letters carry those.
    """

    t: int
    o: Decimal = ZERO
    h: Decimal = ZERO
    l: Decimal = ZERO  # noqa: E741 - the venue's word
    c: Decimal = ZERO
    v: Decimal = ZERO
    V: Decimal = ZERO
    i: int = 0


class Candles(Wire, frozen=True, kw_only=True):
    """`GET candles`, oldest first, at most 500."""

    r: str = ""
    c: tuple[Candle, ...] | None = None


class Funding(Wire, frozen=True, kw_only=True):
    """Row of `fundings`: `timestamp` s, `rate` percent per period, paid by `direction`; `value` quote per base."""

    timestamp: int
    value: Decimal
    rate: Decimal
    direction: str


class Fundings(Wire, frozen=True, kw_only=True):
    """`GET fundings`, oldest first."""

    resolution: str = ""
    fundings: tuple[Funding, ...] | None = None


class FundingRate(Wire, frozen=True, kw_only=True):
    """Row of `funding-rates`: a fraction per eight hours, for several venues."""

    market_id: Index
    exchange: str
    symbol: str
    rate: Decimal


class FundingRates(Wire, frozen=True, kw_only=True):
    """`GET funding-rates`."""

    funding_rates: tuple[FundingRate, ...] | None = None


class BookLevel(Wire, frozen=True, kw_only=True):
    """Absolute size at a price; zero removes the level."""

    price: Decimal
    size: Decimal


class BookFrame(Wire, frozen=True, kw_only=True):
    """Body of `order_book`: a snapshot, or the levels that changed between `begin_nonce` and `nonce`.

    `offset` only grows and may jump: it says nothing about gaps. `last_updated_at` microseconds.
    """

    code: int = 0
    asks: tuple[BookLevel, ...] | None = None
    bids: tuple[BookLevel, ...] | None = None
    offset: int = 0
    nonce: int
    begin_nonce: int = 0
    last_updated_at: int = 0


class TickerSide(Wire, frozen=True, kw_only=True):
    """Best price and its size; both empty when the side is."""

    price: str = ""
    size: str = ""

    def __post_init__(self) -> None:
        if (amount_or_none(self.price) is None) != (amount_or_none(self.size) is None):
            raise ValueError("price and size must be empty together")

    @property
    def level(self) -> BookLevel | None:
        """The level, or None."""
        price, size = amount_or_none(self.price), amount_or_none(self.size)
        return None if price is None or size is None else BookLevel(price=price, size=size)


class Ticker(Wire, frozen=True, kw_only=True):
    """Best ask `a` and bid `b` of symbol `s`; microseconds."""

    s: str
    a: TickerSide
    b: TickerSide
    last_updated_at: int = 0


class MarketStats(Wire, frozen=True, kw_only=True):
    """Body of `market_stats`; rates are percent per hour, `funding_timestamp` ms, `open_interest` quote units.

    `current_funding_rate` is the estimate of the next payment, `funding_rate` the last one.
    """

    symbol: str = ""
    market_id: Index
    index_price: str = ""
    mark_price: str = ""
    mid_price: str = ""
    best_ask_price: str = ""
    best_bid_price: str = ""
    last_trade_price: str = ""
    open_interest: str = ""
    current_funding_rate: str = ""
    funding_rate: str = ""
    funding_timestamp: int = 0
    daily_base_token_volume: Decimal = ZERO
    daily_quote_token_volume: Decimal = ZERO
    daily_price_low: Decimal = ZERO
    daily_price_high: Decimal = ZERO
    daily_price_change: Decimal = ZERO

    def __post_init__(self) -> None:
        for name in _STATS_AMOUNTS:
            amount_or_none(getattr(self, name))

    def amount(self, name: str) -> Decimal | None:
        """One of the textual amounts by name; None where the venue sent nothing."""
        if name not in _STATS_AMOUNTS:
            raise KeyError(name)
        return amount_or_none(getattr(self, name))


_STATS_AMOUNTS = (
    "index_price",
    "mark_price",
    "mid_price",
    "best_ask_price",
    "best_bid_price",
    "last_trade_price",
    "open_interest",
    "current_funding_rate",
    "funding_rate",
)
