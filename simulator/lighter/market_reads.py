"""Reads of what everybody may see: markets, books, candles, funding, the system. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from simulator.lighter import public
from simulator.lighter.markets import MarketSpec
from simulator.lighter.order_rules import find_market
from simulator.lighter.orders import height
from simulator.lighter.request import ANY_MARKET, Body, Read, Request
from simulator.lighter.venue import LighterVenue

MAX_BOOK_ORDERS = 250


def _market(venue: LighterVenue, request: Request) -> MarketSpec:
    return find_market(venue.markets, request.integer("market_id"))


def _chosen(venue: LighterVenue, request: Request) -> list[MarketSpec]:
    """Markets of `market_id` and `filter`."""
    wanted, kind = request.integer("market_id", ANY_MARKET), request.text("filter", "all")
    if wanted != ANY_MARKET:
        return [find_market(venue.markets, wanted)]
    return [spec for spec in venue.markets.all if kind == "all" or spec.spot == (kind == "spot")]


def _order_books(venue: LighterVenue, request: Request) -> Body:
    return {"order_books": [public.order_book(spec) for spec in _chosen(venue, request)]}


def _details(venue: LighterVenue, request: Request) -> Body:
    chosen = _chosen(venue, request)
    rows = [(spec.spot, public.order_book_details(venue, spec, request.now_ms)) for spec in chosen]
    return {
        "order_book_details": [row for spot, row in rows if not spot],
        "spot_order_book_details": [row for spot, row in rows if spot],
    }


def _book_orders(venue: LighterVenue, request: Request) -> Body:
    return public.book_orders(venue, _market(venue, request), request.limit(MAX_BOOK_ORDERS))


def _recent_trades(venue: LighterVenue, request: Request) -> Body:
    limit = request.limit()
    records = list(venue.tape.of_market(_market(venue, request).market_id))[-limit:]
    return {"trades": [venue.tape.row(record) for record in reversed(records)]}


def _candles(venue: LighterVenue, request: Request) -> Body:
    resolution = request.text("resolution")
    rows = public.candles(
        venue,
        _market(venue, request),
        resolution,
        request.integer("start_timestamp"),
        request.integer("end_timestamp"),
        request.integer("count_back", 0),
    )
    return {"r": resolution, "c": rows or None}


def _mark_candles(venue: LighterVenue, request: Request) -> Body:
    body = _candles(venue, request)
    return body | {"c": [public.mark_candle(row) for row in body["c"] or ()] or None}


def _fundings(venue: LighterVenue, request: Request) -> Body:
    resolution = request.text("resolution")
    rows = public.fundings(
        venue,
        _market(venue, request),
        resolution,
        request.integer("start_timestamp"),
        request.integer("end_timestamp"),
        request.integer("count_back", 0),
    )
    return {"resolution": resolution, "fundings": rows}


def _funding_rates(venue: LighterVenue, _request: Request) -> Body:
    return {"funding_rates": public.funding_rates(venue)}


def _exchange_stats(venue: LighterVenue, request: Request) -> Body:
    return public.exchange_stats(venue, venue.markets.all, request.now_ms)


def _assets(venue: LighterVenue, request: Request) -> Body:
    wanted = request.integer("asset_id", 0)
    chosen = [asset for asset in venue.markets.assets.values() if wanted in (0, asset.asset_id)]
    return {"asset_details": [public.asset_details(venue, asset) for asset in chosen]}


def _system_config(_venue: LighterVenue, _request: Request) -> Body:
    return {
        "liquidity_pool_index": 281474976710654,
        "staking_pool_index": 281474976624800,
        "funding_fee_rebate_account_index": 713888,
        "market_maker_incentive_account_index": 723106,
        "fee_collector_account_index": 281474976496476,
        "liquidity_pool_cooldown_period": 300000,
        "staking_pool_lockup_period": 3600000,
        "max_integrator_spot_taker_fee": 10000,
        "max_integrator_spot_maker_fee": 10000,
        "max_integrator_perps_taker_fee": 1000,
        "max_integrator_perps_maker_fee": 1000,
    }


def _height(_venue: LighterVenue, request: Request) -> Body:
    return {"height": height(request.now_ms)}


def _announcements(_venue: LighterVenue, _request: Request) -> Body:
    return {"announcements": []}


def _withdrawal_delay(_venue: LighterVenue, _request: Request) -> Body:
    return {"seconds": 1114}


READS: Mapping[str, Read] = {
    "orderBooks": _order_books,
    "orderBookDetails": _details,
    "orderBookOrders": _book_orders,
    "recentTrades": _recent_trades,
    "candles": _candles,
    "markPriceCandles": _mark_candles,
    "fundings": _fundings,
    "funding-rates": _funding_rates,
    "exchangeStats": _exchange_stats,
    "assetDetails": _assets,
    "systemConfig": _system_config,
    "currentHeight": _height,
    "announcement": _announcements,
    "withdrawalDelay": _withdrawal_delay,
}
