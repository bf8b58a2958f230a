"""Public answers: markets, books, statistics, candles, funding. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from simulator.engine.market import DAY_MS, HOUR_MS, MINUTE_MS, Candle, Market
from simulator.engine.values import ZERO, Side
from simulator.lighter.errors import Code, Refused
from simulator.lighter.markets import (
    COLLATERAL_ASSET,
    MIN_QUOTE,
    ORDER_QUOTE_LIMIT,
    Asset,
    MarketSpec,
    fixed,
    money,
)
from simulator.lighter.venue import LighterVenue

MULTIPLIER = "1.000000000000000000"
OPEN_INTEREST_LIMIT = "72057594037927936.000000"
RESOLUTIONS = {
    "1m": MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "30m": 30 * MINUTE_MS,
    "1h": HOUR_MS,
    "4h": 4 * HOUR_MS,
    "12h": 12 * HOUR_MS,
    "1d": DAY_MS,
    "1w": 7 * DAY_MS,
}
MAX_CANDLES = 500
MAX_FUNDINGS = 749
LAST_INSTANT_MS = 10_000_000_000_000  # in the year 2286
CLAMP_SMALL, CLAMP_BIG, BASE_RATE = "0.0500", "4.0000", "0.0100"
PERCENT = Decimal(100)
INSURANCE_FUND = (1 << 48) - 1


def order_book(spec: MarketSpec) -> dict[str, Any]:
    """An `OrderBook` object."""
    base, quote = 0, 0
    if spec.spot:
        base, quote = 1, COLLATERAL_ASSET
    return {
        "symbol": spec.symbol,
        "market_id": spec.market_id,
        "market_type": "spot" if spec.spot else "perp",
        "base_asset_id": base,
        "quote_asset_id": quote,
        "status": "active",
        "taker_fee": "0.0000",
        "is_taker_fee_enabled": True,
        "maker_fee": "0.0000",
        "is_maker_fee_enabled": True,
        "liquidation_fee": "0.0000" if spec.spot else "1.0000",
        "min_base_amount": spec.size_text(spec.min_base),
        "min_quote_amount": money(MIN_QUOTE),
        "order_quote_limit": money(ORDER_QUOTE_LIMIT),
        "supported_size_decimals": spec.size_decimals,
        "supported_price_decimals": spec.price_decimals,
        "supported_quote_decimals": 6,
        "created_at": str(spec.created_at),
        "multiplier": MULTIPLIER,
    }


def daily(market: Market, now_ms: int) -> dict[str, Any]:
    """Statistics of the last day, as floats."""
    minutes = [item for item in market.minutes if item.open_ms >= now_ms - DAY_MS]
    opened = minutes[0].open if minutes else market.last
    return {
        "daily_base_token_volume": float(sum((item.volume for item in minutes), ZERO)),
        "daily_quote_token_volume": float(sum((item.notional for item in minutes), ZERO)),
        "daily_price_low": float(min((item.low for item in minutes), default=market.last)),
        "daily_price_high": float(max((item.high for item in minutes), default=market.last)),
        "daily_price_change": float((market.last - opened) / opened * PERCENT),
    }


def _trades_count(market: Market, now_ms: int) -> int:
    return sum(item.trades for item in market.minutes if item.open_ms >= now_ms - DAY_MS)


def open_interest(venue: LighterVenue, market: Market) -> Decimal:
    """Long side of all positions, base units."""
    accounts = venue.engine.accounts.values()
    return sum((max(ZERO, account.position(market.instrument)) for account in accounts), ZERO)


def order_book_details(venue: LighterVenue, spec: MarketSpec, now_ms: int) -> dict[str, Any]:
    """A row of `orderBookDetails`."""
    market = venue.market(spec)
    row = order_book(spec) | {
        "size_decimals": spec.size_decimals,
        "price_decimals": spec.price_decimals,
        "last_trade_price": float(market.last),
        "daily_trades_count": _trades_count(market, now_ms),
        **daily(market, now_ms),
        "daily_chart": {},
    }
    if spec.spot:
        return row
    default, least, maintenance, closeout = spec.fractions
    return row | {
        "quote_multiplier": 1,
        "default_initial_margin_fraction": default,
        "min_initial_margin_fraction": least,
        "maintenance_margin_fraction": maintenance,
        "closeout_margin_fraction": closeout,
        "mark_price": spec.price_text(market.mark),
        "index_price": spec.price_text(market.oracle),
        "open_interest": float(open_interest(venue, market)),
        "market_config": {
            "market_margin_mode": 0,
            "insurance_fund_account_index": INSURANCE_FUND,
            "liquidation_mode": 0,
            "force_reduce_only": False,
            "trading_hours": "",
            "funding_fee_discounts_enabled": False,
            "hidden": False,
            "rfq_enabled": False,
        },
        "strategy_index": 0,
        "market_flags": 0,
        "funding_premium_multiplier": 100,
        "funding_clamp_small": CLAMP_SMALL,
        "funding_clamp_big": CLAMP_BIG,
        "base_interest_rate": BASE_RATE,
    }


def percent(rate: Decimal) -> str:
    """A share as a percent text with four decimals."""
    return fixed(rate * PERCENT, 4)


def market_stats(venue: LighterVenue, spec: MarketSpec, now_ms: int) -> dict[str, Any]:
    """`market_stats` of a perpetual, `spot_market_stats` of a spot market."""
    market = venue.market(spec)
    mid, ask, bid = market.book.mid(), market.book.best_price(Side.SELL), market.book.best_price(Side.BUY)
    prices = {
        "mid_price": "" if mid is None else spec.price_text(mid),
        "best_ask_price": "" if ask is None else spec.price_text(ask),
        "best_bid_price": "" if bid is None else spec.price_text(bid),
    }
    head = {"symbol": spec.symbol, "market_id": spec.market_id, "index_price": spec.price_text(market.oracle)}
    if spec.spot:
        return head | prices | {"last_trade_price": spec.price_text(market.last), **daily(market, now_ms)}
    paid = market.fundings[-1] if market.fundings else None
    return (
        head
        | {"mark_price": spec.price_text(market.mark)}
        | prices
        | {
            "open_interest": money(open_interest(venue, market) * market.mark),
            "open_interest_limit": OPEN_INTEREST_LIMIT,
            "funding_clamp_small": CLAMP_SMALL,
            "funding_clamp_big": CLAMP_BIG,
            "base_interest_rate": BASE_RATE,
            "last_trade_price": spec.price_text(market.last),
            "current_funding_rate": percent(market.funding_rate()),
            "funding_rate": percent(paid.rate) if paid else "0.0000",
            "funding_timestamp": paid.time_ms if paid else now_ms - now_ms % HOUR_MS,
            "premium": percent(market.premium()),
            **daily(market, now_ms),
        }
    )


def asset_details(venue: LighterVenue, asset: Asset) -> dict[str, Any]:
    """A row of `assetDetails`."""
    collateral = asset.asset_id == COLLATERAL_ASSET
    eth = venue.engine.markets.get("lighter:ETH")
    price = Decimal(1) if collateral or eth is None else eth.oracle
    return {
        "asset_id": asset.asset_id,
        "symbol": asset.symbol,
        "l1_decimals": asset.l1_decimals,
        "decimals": asset.decimals,
        "size_decimals": asset.decimals,
        "min_transfer_amount": asset.min_transfer,
        "min_withdrawal_amount": asset.min_withdrawal,
        "margin_mode": "enabled" if collateral else "disabled",
        "index_price": money(price),
        "price_decimals": 6,
        "l1_address": asset.address,
        "loan_to_value": "0.0000",
        "liquidation_threshold": "0.0000",
        "liquidation_factor": "0.0000",
        "liquidation_fee": "0.000000",
        "global_supply_cap": fixed(ZERO, asset.decimals),
        "user_supply_cap": fixed(ZERO, asset.decimals),
        "total_supplied": fixed(ZERO, asset.decimals),
        "multiplier": MULTIPLIER,
    }


def book_orders(venue: LighterVenue, spec: MarketSpec, limit: int) -> dict[str, Any]:
    """`orderBookOrders`: single orders, best first."""
    book = venue.market(spec).book
    asks = [venue.orders.book_row(order) for order, _ in zip(book.orders(Side.SELL), range(limit), strict=False)]
    bids = [venue.orders.book_row(order) for order, _ in zip(book.orders(Side.BUY), range(limit), strict=False)]
    return {"total_asks": len(asks), "asks": asks, "total_bids": len(bids), "bids": bids}


def candle_row(candle: Candle, last_id: int) -> dict[str, Any]:
    """One candle; zero values are left out, as the venue does."""
    values = {
        "o": float(candle.open),
        "h": float(candle.high),
        "l": float(candle.low),
        "c": float(candle.close),
        "v": float(candle.volume),
        "V": float(candle.notional),
        "i": last_id,
    }
    return {"t": candle.open_ms, **{key: value for key, value in values.items() if value}}


def _range(start: int, end: int, step: int, count_back: int) -> tuple[int, int]:
    """Checked bounds, extended backwards to hold at least `count_back` rows."""
    for instant in (start, end):
        if not 0 < instant < LAST_INSTANT_MS:
            raise Refused(Code.INVALID_TIMESTAMP)
    if end <= start:
        raise Refused(Code.INVALID_TIMESTAMPS)
    return min(start, end - count_back * step) if count_back else start, end


def candles(
    venue: LighterVenue, spec: MarketSpec, resolution: str, start: int, end: int, count_back: int
) -> list[dict[str, Any]]:
    """Candles that open in [start, end), oldest first, the newest 500.

    Raises:
        Refused: 22402 for an unknown resolution, 22400 when the range holds no opening.
    """
    step = RESOLUTIONS.get(resolution)
    if step is None:
        raise Refused(Code.INVALID_RESOLUTION)
    start, end = _range(start, end, step, count_back)
    if (end - 1) // step * step < start:
        raise Refused(Code.INVALID_TIMESTAMPS)
    market = venue.market(spec)
    found = market.candles(step, start, end - 1)[-MAX_CANDLES:]
    last_ids = _last_ids(venue, spec, step)
    return [candle_row(candle, last_ids.get(candle.open_ms, 0)) for candle in found]


def _last_ids(venue: LighterVenue, spec: MarketSpec, step: int) -> dict[int, int]:
    """Id of the last trade of each candle, as far as trades are kept."""
    found: dict[int, int] = {}
    for record in venue.tape.of_market(spec.market_id):
        found[record.trade.time_ms - record.trade.time_ms % step] = record.trade.trade_id
    return found


def current_candles(venue: LighterVenue, spec: MarketSpec, resolution: str, since_ms: int) -> list[dict[str, Any]]:
    """Candles from the one that holds `since_ms` on."""
    step = RESOLUTIONS[resolution]
    ids = _last_ids(venue, spec, step)
    rows = venue.market(spec).candles(step, since_ms - since_ms % step, LAST_INSTANT_MS)
    return [candle_row(item, ids.get(item.open_ms, 0)) for item in rows]


def mark_candle(candle: dict[str, Any]) -> dict[str, Any]:
    """A mark-price candle: the prices of a trade candle and a count of samples."""
    return {key: value for key, value in candle.items() if key in "tohlc"} | {"sc": 1}


def fundings(
    venue: LighterVenue, spec: MarketSpec, resolution: str, start: int, end: int, count_back: int
) -> list[dict[str, Any]]:
    """Hourly or daily funding in [start, end), oldest first."""
    step = {"1h": HOUR_MS, "1d": DAY_MS}.get(resolution)
    if step is None:
        raise Refused(Code.INVALID_RESOLUTION)
    start, end = _range(start, end, step, count_back)
    market = venue.market(spec)
    sums: dict[int, Decimal] = {}
    for item in market.fundings:
        if start <= item.time_ms < end:
            opened = item.time_ms - item.time_ms % step
            sums[opened] = sums.get(opened, ZERO) + item.rate
    return [
        {
            "timestamp": opened // 1000,
            "value": fixed(abs(rate) * market.oracle, 8),
            "rate": percent(abs(rate)),
            "direction": "long" if rate >= 0 else "short",
        }
        for opened, rate in list(sums.items())[-MAX_FUNDINGS:]
    ]


def exchange_stats(venue: LighterVenue, specs: Iterable[MarketSpec], now_ms: int) -> dict[str, Any]:
    """`exchangeStats`."""
    rows = []
    for spec in specs:
        market = venue.market(spec)
        stats = daily(market, now_ms)
        rows.append(
            {
                "symbol": spec.symbol,
                "last_trade_price": float(market.last),
                "daily_trades_count": _trades_count(market, now_ms),
                "daily_base_token_volume": stats["daily_base_token_volume"],
                "daily_quote_token_volume": stats["daily_quote_token_volume"],
                "daily_price_change": stats["daily_price_change"],
            }
        )
    return {
        "total": len(rows),
        "order_book_stats": rows,
        "daily_usd_volume": sum(row["daily_quote_token_volume"] for row in rows),
        "daily_trades_count": sum(row["daily_trades_count"] for row in rows),
    }


def funding_rates(venue: LighterVenue) -> list[dict[str, Any]]:
    """Rates as shares per eight hours."""
    return [
        {
            "market_id": spec.market_id,
            "exchange": "lighter",
            "symbol": spec.symbol,
            "rate": float(venue.market(spec).funding_rate() * 8),
        }
        for spec in venue.markets.all
        if not spec.spot
    ]
