"""Reads of orders, trades and transactions. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from simulator.engine.values import OrderSnapshot, Side
from simulator.lighter.errors import Code, Refused, bad_param
from simulator.lighter.markets import BLOCK
from simulator.lighter.order_rules import find_market
from simulator.lighter.request import ANY_MARKET, Body, Read, Request, authorised, number, page
from simulator.lighter.trades import TradeRecord
from simulator.lighter.venue import LighterVenue

MAX_CLIENT_INDEXES = 20


def _in_market(venue: LighterVenue, request: Request, orders: Iterable[OrderSnapshot]) -> list[OrderSnapshot]:
    wanted = request.integer("market_id", ANY_MARKET)
    kept = [order for order in orders if order.request.instrument in venue.markets.by_key]
    if wanted == ANY_MARKET:
        return kept
    spec = find_market(venue.markets, wanted)
    return [order for order in kept if order.request.instrument == spec.key]


def _active_orders(venue: LighterVenue, request: Request) -> Body:
    account = authorised(venue, request, request.integer("account_index"))
    live = [order.snapshot() for order in venue.engine.live_orders(account.name)]
    return {"orders": [venue.orders.row(order) for order in _in_market(venue, request, live)]}


def _inactive_orders(venue: LighterVenue, request: Request) -> Body:
    account = authorised(venue, request, request.integer("account_index"))
    limit, side = request.limit(), request.integer("ask_filter", -1)
    dead = [order for order in venue.engine.all_orders(account.name) if not order.state.live]
    kept = [
        order
        for order in reversed(_in_market(venue, request, dead))
        if side == -1 or (order.request.side is Side.SELL) == bool(side)
    ]
    between = request.text("between_timestamps", "")
    if between:
        first, _, last = between.partition("-")
        span = range(number(first, "between_timestamps"), number(last, "between_timestamps") + 1)
        kept = [order for order in kept if order.updated_ms // 1000 in span]
    return page("orders", [venue.orders.row(order) for order in kept], request.text("cursor", ""), limit)


def _orders_by_client(venue: LighterVenue, request: Request) -> Body:
    account = authorised(venue, request, request.integer("account_index"))
    wanted = [number(text, "client_order_indexes") for text in request.text("client_order_indexes").split(",")]
    if len(wanted) > MAX_CLIENT_INDEXES or any(not 0 < index < BLOCK for index in wanted):
        raise bad_param("client_order_indexes")
    found = [venue.engine.find_client_id(account.name, str(index)) for index in wanted]
    return {"orders": [venue.orders.row(order) for order in found if order is not None]}


def _trades(venue: LighterVenue, request: Request) -> Body:
    limit = request.limit()
    if request.text("sort_by") not in ("block_height", "timestamp", "trade_id"):
        raise bad_param("sort_by")
    if request.text("sort_dir", "desc") != "desc":
        raise bad_param("sort_dir")
    wanted = request.integer("market_id", ANY_MARKET)
    viewer, records = "", list[TradeRecord]()
    if "account_index" in request.params:
        account = venue.accounts.get(request.integer("account_index"))
        if not account.pool:
            account = authorised(venue, request, account.index)
        viewer, records = account.name, list(venue.tape.of_account(account.name))
    else:
        records = [item for spec in venue.markets.all for item in venue.tape.of_market(spec.market_id)]
        records.sort(key=lambda item: item.trade.trade_id)
    if wanted != ANY_MARKET:
        records = [item for item in records if item.spec.market_id == wanted]
    order = request.text("order_index", request.text("order_index_str", ""))
    rows = [venue.tape.row(item, viewer) for item in reversed(records)]
    if order:
        rows = [row for row in rows if order in (row["ask_id_str"], row["bid_id_str"])]
    kinds = request.text("type", "all")
    rows = [row for row in rows if kinds in ("all", row["type"]) and _role_matches(row, viewer, request)]
    return _page_by_id(rows, request.text("cursor", ""), limit)


def _role_matches(row: Body, viewer: str, request: Request) -> bool:
    """The parameters `role` and `ask_filter`, which look at the viewer's side."""
    if not viewer:
        return True
    role, side = request.text("role", "all"), request.integer("ask_filter", -1)
    asking = viewer.endswith(f":{row['ask_account_id']}")
    making = row["is_maker_ask"] == asking
    return (role == "all" or making == (role == "maker")) and (side == -1 or asking == bool(side))


def _page_by_id(rows: list[Body], cursor: str, limit: int) -> Body:
    """A page of trades below the id in `cursor`, so that new trades shift nothing."""
    if cursor:
        if not cursor.isdigit():
            raise Refused(Code.INVALID_CURSOR)
        rows = [row for row in rows if row["trade_id"] < int(cursor)]
    more = {"next_cursor": rows[limit - 1]["trade_id_str"]} if len(rows) > limit else {}
    return {"trades": rows[:limit], **more}


def _tx(venue: LighterVenue, request: Request) -> Body:
    value = request.text("value")
    match request.text("by"):
        case "hash":
            found = venue.log.by_hash(value.removeprefix("0x"))
        case "sequence_index":
            found = venue.log.by_sequence(number(value, "value"))
        case _:
            raise bad_param("by must be hash or sequence_index")
    if found is None:
        raise Refused(Code.TX_NOT_FOUND)
    return found.enriched()


def _txs(venue: LighterVenue, request: Request) -> Body:
    return {"txs": [record.row() for record in venue.log.latest(request.limit())]}


def _account_txs(venue: LighterVenue, request: Request) -> Body:
    if request.text("by") != "account_index":
        raise bad_param("by must be account_index")
    account = authorised(venue, request, request.integer("value"))
    limit, start = request.limit(), request.integer("index", 0)
    records = list(reversed(venue.log.of_account(account.index)))
    return {"txs": [record.row() for record in records[start : start + limit]]}


READS: Mapping[str, Read] = {
    "accountActiveOrders": _active_orders,
    "accountInactiveOrders": _inactive_orders,
    "accountOrders": _orders_by_client,
    "trades": _trades,
    "tx": _tx,
    "txs": _txs,
    "accountTxs": _account_txs,
}
