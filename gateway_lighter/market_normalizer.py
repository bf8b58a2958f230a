"""Instruments and market data of Lighter in the words of the port and the contract. Pure.

Source: venue reference sections 3.2 to 3.4, 15.3 and 15.4.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Final, TypeAlias

from google.protobuf.duration_pb2 import Duration

from gateway_lighter import messages as wire
from gateway_lighter.normalizer import NS_PER_MS, NS_PER_US, Market
from venuemesh.gateway.order_wire import timestamp
from venuemesh.gateway.venue import BookSnapshot, Level
from venuemesh.money import EXACT, divide, format_decimal
from venuemesh.v1 import instrument_pb2, market_data_pb2, order_pb2, stream_pb2

FUNDING_INTERVAL_S: Final = 3_600
_HOUR_NS: Final = FUNDING_INTERVAL_S * 1_000_000_000
_PERCENT: Final = Decimal(100)

Interval: TypeAlias = market_data_pb2.CandleInterval.ValueType

_M = market_data_pb2
INTERVALS: Final[dict[Interval, tuple[str, int]]] = {
    _M.CANDLE_INTERVAL_1M: ("1m", 60),
    _M.CANDLE_INTERVAL_5M: ("5m", 300),
    _M.CANDLE_INTERVAL_15M: ("15m", 900),
    _M.CANDLE_INTERVAL_30M: ("30m", 1_800),
    _M.CANDLE_INTERVAL_1H: ("1h", 3_600),
    _M.CANDLE_INTERVAL_4H: ("4h", 14_400),
    _M.CANDLE_INTERVAL_12H: ("12h", 43_200),
    _M.CANDLE_INTERVAL_1D: ("1d", 86_400),
}
"""Interval of the contract -> the venue's word and its seconds, where it has one on both REST and stream."""
INTERVALS_BY_WORD: Final = {word: interval for interval, (word, _) in INTERVALS.items()}

_STATES = {
    "active": instrument_pb2.INSTRUMENT_STATE_TRADING,
    "settled": instrument_pb2.INSTRUMENT_STATE_DELISTED,
}


def normalize_instrument(market: Market, *, venue: str, updated_ns: int) -> instrument_pb2.Instrument:
    """A market with the rules its orders must keep. Fees depend on the account's tier and are not stated."""
    row, scale = market.details, market.scale
    quantity_rule = instrument_pb2.QuantityRule(
        step_size=format_decimal(scale.lot),
        min_quantity=format_decimal(scale.min_base_amount),
        min_notional=format_decimal(scale.min_quote_amount),
        close_exempt_from_min_notional=True,
    )
    if scale.order_quote_limit is not None:
        quantity_rule.max_notional = format_decimal(scale.order_quote_limit)
    return instrument_pb2.Instrument(
        venue=venue,
        symbol=market.symbol,
        venue_symbol=str(market.market_id),
        instrument_type=instrument_pb2.INSTRUMENT_TYPE_PERPETUAL,
        base_asset=market.base,
        quote_asset=market.collateral,
        settle_asset=market.collateral,
        state=_STATES.get(row.status, instrument_pb2.INSTRUMENT_STATE_HALTED),
        price_rule=instrument_pb2.PriceRule(
            tick_size=format_decimal(scale.tick), max_decimals=scale.price_decimals, integers_always_valid=False
        ),
        quantity_rule=quantity_rule,
        contract_size="1",
        max_leverage=str(scale.max_leverage),
        margin_modes=[instrument_pb2.MARGIN_MODE_CROSS, instrument_pb2.MARGIN_MODE_ISOLATED],
        isolated_margin_removable=True,
        funding_interval=Duration(seconds=FUNDING_INTERVAL_S),
        updated_time=timestamp(updated_ns),
    )


# --- books -------------------------------------------------------------------------------------------------


def normalize_book(
    bids: Iterable[wire.BookLevel],
    asks: Iterable[wire.BookLevel],
    market: Market,
    *,
    venue_time_us: int,
    received_ns: int,
) -> BookSnapshot:
    """A whole book, best first; `venuemesh.gateway.books.book_fault` says whether to believe it."""
    return BookSnapshot(
        symbol=market.symbol,
        bids=[normalize_level(level) for level in bids],
        asks=[normalize_level(level) for level in asks],
        venue_time_ns=venue_time_us * NS_PER_US,
        received_ns=received_ns,
    )


def normalize_level(level: wire.BookLevel) -> Level:
    """One price level."""
    return Level(price=level.price, quantity=level.size)


def collect_levels(orders: Iterable[wire.RestingOrder]) -> list[Level]:
    """Levels of resting orders, in the order given; the query shows orders, not levels."""
    levels: dict[Decimal, tuple[Decimal, int]] = {}
    for order in orders:
        size, count = levels.get(order.price, (Decimal(0), 0))
        levels[order.price] = (EXACT.add(size, order.remaining_base_amount), count + 1)
    return [Level(price=price, quantity=size, order_count=count) for price, (size, count) in levels.items()]


# --- trades, candles, statistics ---------------------------------------------------------------------------


def normalize_trade(trade: wire.Trade, market: Market, *, venue: str, received_ns: int) -> market_data_pb2.Trade:
    """A public trade; the taker bought where the maker's order was an ask."""
    return market_data_pb2.Trade(
        venue=venue,
        symbol=market.symbol,
        trade_id=str(trade.trade_id),
        price=format_decimal(trade.price),
        quantity=format_decimal(trade.size),
        aggressor_side=order_pb2.SIDE_BUY if trade.is_maker_ask else order_pb2.SIDE_SELL,
        venue_unix_nanos=trade.transaction_time * NS_PER_US or trade.timestamp * NS_PER_MS,
        received_unix_nanos=received_ns,
    )


def oldest_first(trades: Iterable[wire.Trade]) -> list[wire.Trade]:
    """Trades by their number, which only grows."""
    return sorted(trades, key=lambda trade: trade.trade_id)


def normalize_candle(
    candle: wire.Candle, market: Market, interval: Interval, *, venue: str, now_ns: int
) -> market_data_pb2.Candle:
    """A candle, complete when its interval is over by `now_ns`. The venue does not count its trades."""
    _, seconds = INTERVALS[interval]
    return market_data_pb2.Candle(
        venue=venue,
        symbol=market.symbol,
        interval=interval,
        open_time=timestamp(candle.t * NS_PER_MS),
        open=format_decimal(candle.o),
        high=format_decimal(candle.h),
        low=format_decimal(candle.l),
        close=format_decimal(candle.c),
        volume=format_decimal(candle.v),
        complete=now_ns >= candle.t * NS_PER_MS + seconds * 1_000_000_000,
    )


def normalize_statistics(
    stats: wire.MarketStats, market: Market, *, venue: str, received_ns: int
) -> market_data_pb2.MarketStatistics:
    """Live figures of the stream. The venue's rate is percent per hour, its open interest in quote units."""
    rate, open_interest = stats.amount("current_funding_rate"), stats.amount("open_interest")
    mark = stats.amount("mark_price")
    row = _statistics(
        market,
        venue=venue,
        received_ns=received_ns,
        mark_price=mark,
        index_price=stats.amount("index_price"),
        mid_price=stats.amount("mid_price"),
        last_price=stats.amount("last_trade_price"),
        funding_rate=None if rate is None else divide(rate, _PERCENT),
        open_interest=round(divide(open_interest, mark), market.scale.size_decimals)
        if open_interest is not None and mark
        else None,
        volume_24h=stats.daily_base_token_volume,
        quote_volume_24h=stats.daily_quote_token_volume,
    )
    row.next_funding_time.CopyFrom(timestamp((received_ns // _HOUR_NS + 1) * _HOUR_NS))
    return row


def normalize_details(market: Market, *, venue: str, received_ns: int) -> market_data_pb2.MarketStatistics:
    """Figures of the query, which names no funding; its open interest is in base units."""
    row = market.details
    return _statistics(
        market,
        venue=venue,
        received_ns=received_ns,
        mark_price=row.mark_price,
        index_price=row.index_price,
        last_price=row.last_trade_price or None,
        open_interest=row.open_interest,
        volume_24h=row.daily_base_token_volume,
        quote_volume_24h=row.daily_quote_token_volume,
    )


def _statistics(
    market: Market, *, venue: str, received_ns: int, **amounts: Decimal | None
) -> market_data_pb2.MarketStatistics:
    row = market_data_pb2.MarketStatistics(
        venue=venue,
        symbol=market.symbol,
        received_time=timestamp(received_ns),
        freshness=stream_pb2.FRESHNESS_FRESH,
    )
    for name, value in amounts.items():
        if value is not None:
            setattr(row, name, format_decimal(value))
    return row
