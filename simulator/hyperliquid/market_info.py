"""Public `/info` answers: metadata, contexts, books, candles, trades, funding. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

from simulator.engine import caps
from simulator.engine.book import Level
from simulator.engine.market import DAY_MS, HOUR_MS, MINUTE_MS, Market
from simulator.engine.values import ZERO, Side
from simulator.hyperliquid.decimals import ratio, text
from simulator.hyperliquid.rows import candle_row, trade_row
from simulator.hyperliquid.universe import Dex
from simulator.hyperliquid.venue import Venue

DEPTH = 20
MAX_CANDLES = 5000
MAX_FUNDINGS = 500
RECENT_TRADES = 10
IMPACT_NOTIONAL = Decimal(20_000)
INTERVALS = {
    "1m": MINUTE_MS,
    "3m": 3 * MINUTE_MS,
    "5m": 5 * MINUTE_MS,
    "15m": 15 * MINUTE_MS,
    "30m": 30 * MINUTE_MS,
    "1h": HOUR_MS,
    "2h": 2 * HOUR_MS,
    "4h": 4 * HOUR_MS,
    "8h": 8 * HOUR_MS,
    "12h": 12 * HOUR_MS,
    "1d": DAY_MS,
    "3d": 3 * DAY_MS,
    "1w": 7 * DAY_MS,
    "1M": 30 * DAY_MS,
}


def mid_or_last(market: Market) -> Decimal:
    """Mid of the book, else the last trade."""
    mid = market.book.mid()
    return market.last if mid is None else mid


def all_mids(venue: Venue, dex: Dex) -> dict[str, str]:
    """`allMids`: a dex's own coins; the main answer has the spot pairs too."""
    return {
        key: text(mid_or_last(market))
        for key, market in venue.engine.markets.items()
        if venue.own(key)
        and market.instrument.open
        and (market.instrument.pool == dex.name if market.instrument.perpetual else not dex.name)
    }


def _impact(market: Market, side: Side) -> Decimal | None:
    """Average price to trade the impact notional into one side of the book."""
    left, cost, amount = IMPACT_NOTIONAL, ZERO, ZERO
    for level in market.book.levels(side):
        quantity = min(level.quantity, left / level.price)
        cost += quantity * level.price
        amount += quantity
        left -= quantity * level.price
        if left <= 0:
            break
    return cost / amount if amount else None


def open_interest(venue: Venue, market: Market) -> Decimal:
    """Long side of all positions, in coins."""
    return caps.open_interest(venue.engine, market)


def perp_context(venue: Venue, market: Market, now_ms: int) -> dict[str, Any]:
    """Context of a perpetual; mid, premium and impact prices are null together."""
    volume, notional, opened = market.day(now_ms)
    mid = market.book.mid()
    bid, ask = _impact(market, Side.BUY), _impact(market, Side.SELL)
    full = mid is not None and bid is not None and ask is not None
    return {
        "funding": text(market.funding_rate()),
        "openInterest": text(open_interest(venue, market)),
        "prevDayPx": text(opened),
        "dayNtlVlm": text(notional),
        "premium": text(market.premium()) if full else None,
        "oraclePx": text(market.oracle),
        "markPx": text(market.mark),
        "midPx": text(mid) if full and mid is not None else None,
        "impactPxs": [_impact_text(bid), _impact_text(ask)] if full else None,
        "dayBaseVlm": text(volume),
    }


def _impact_text(value: Decimal | None) -> str:
    return "0.0" if value is None else text(round(value, max(0, 6 - value.adjusted())))


def spot_context(market: Market, now_ms: int) -> dict[str, Any]:
    """Context of a spot pair."""
    volume, notional, opened = market.day(now_ms)
    mid = market.book.mid()
    return {
        "prevDayPx": text(opened),
        "dayNtlVlm": text(notional),
        "markPx": text(market.mark),
        "midPx": None if mid is None else text(mid),
        "circulatingSupply": "1000000000.0",
        "coin": market.instrument.key,
        "totalSupply": "1000000000.0",
        "dayBaseVlm": text(volume),
    }


def contexts(venue: Venue, dex: Dex, now_ms: int) -> list[dict[str, Any]]:
    """Contexts in universe order."""
    markets = venue.engine.markets
    return [perp_context(venue, markets[venue.universe.coin_of(dex.name, row)], now_ms) for row in dex.rows]


def spot_contexts(venue: Venue, now_ms: int) -> list[dict[str, Any]]:
    """Contexts of all spot pairs; match by coin."""
    markets = venue.engine.markets.items()
    own = (market for key, market in markets if venue.own(key) and not market.instrument.perpetual)
    return [spot_context(market, now_ms) for market in own]


def _aggregate(levels: Iterable[Level], side: Side, figures: int, mantissa: int) -> list[Level]:
    """Levels on a coarser grid: bids rounded down, asks up."""
    rounding = ROUND_FLOOR if side is Side.BUY else ROUND_CEILING
    found: list[Level] = []
    for level in levels:
        step = Decimal(mantissa).scaleb(level.price.adjusted() - figures + 1)
        price = (level.price / step).to_integral_value(rounding) * step
        if found and found[-1].price == price:
            last = found.pop()
            found.append(
                Level(
                    price=price,
                    quantity=last.quantity + level.quantity,
                    orders=last.orders + level.orders,
                )
            )
        elif len(found) == DEPTH:
            break
        else:
            found.append(Level(price=price, quantity=level.quantity, orders=level.orders))
    return found


def level_row(level: Level) -> dict[str, Any]:
    """One level of a book."""
    return {"px": text(level.price), "sz": text(level.quantity), "n": level.orders}


def l2_book(market: Market, now_ms: int, figures: int | None = None, mantissa: int | None = None) -> dict[str, Any]:
    """`l2Book`: at most 20 levels a side, bids first."""
    sides = []
    for side in (Side.BUY, Side.SELL):
        levels: Iterable[Level] = market.book.levels(side)
        if figures is not None:
            levels = _aggregate(levels, side, figures, mantissa or 1)
        sides.append([level_row(level) for level, _ in zip(levels, range(DEPTH), strict=False)])
    return {"coin": market.instrument.key, "time": now_ms, "levels": sides}


def best(market: Market) -> list[dict[str, Any] | None]:
    """Best bid and ask as the `bbo` channel has them."""
    found: list[dict[str, Any] | None] = []
    for side in (Side.BUY, Side.SELL):
        level = next(iter(market.book.levels(side)), None)
        found.append(None if level is None else level_row(level))
    return found


def candles(market: Market, interval: str, start_ms: int, end_ms: int) -> list[dict[str, Any]]:
    """`candleSnapshot`, oldest first."""
    length = INTERVALS[interval]
    found = market.candles(length, start_ms, end_ms)[-MAX_CANDLES:]
    return [candle_row(candle, market.instrument.key, interval, length) for candle in found]


def recent_trades(market: Market) -> list[dict[str, Any]]:
    """`recentTrades`, newest first."""
    trades = list(market.trades)[-RECENT_TRADES:]
    return [trade_row(trade) for trade in reversed(trades)]


def funding_history(market: Market, start_ms: int, end_ms: int | None) -> list[dict[str, Any]]:
    """`fundingHistory`, oldest first."""
    rows = [
        {
            "coin": market.instrument.key,
            "fundingRate": text(item.rate),
            "premium": ratio(item.premium),
            "time": item.time_ms,
        }
        for item in market.fundings
        if item.time_ms >= start_ms and (end_ms is None or item.time_ms <= end_ms)
    ]
    return rows[:MAX_FUNDINGS]


def predicted_fundings(venue: Venue) -> list[Any]:
    """`predictedFundings` of the main dex."""
    return [
        [
            key,
            [
                [
                    "HlPerp",
                    {
                        "fundingRate": text(market.funding_rate()),
                        "nextFundingTime": venue.upkeep.next_funding_ms,
                        "fundingIntervalHours": 1,
                    },
                ]
            ],
        ]
        for key, market in venue.engine.markets.items()
        if venue.own(key) and market.instrument.perpetual and not market.instrument.pool and market.instrument.open
    ]
