"""REST reads by name: parameters in, body out. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from simulator.engine.values import OrderSnapshot, Side
from simulator.lighter import account_rows, history, public
from simulator.lighter.accounts import ALL_KEYS, MAX_API_KEY, LighterAccount
from simulator.lighter.errors import Code, Refused, bad_param
from simulator.lighter.markets import BLOCK, MarketSpec
from simulator.lighter.order_rules import find_market
from simulator.lighter.orders import height
from simulator.lighter.trades import TradeRecord
from simulator.lighter.venue import LighterVenue

Params = Mapping[str, str]
Body = dict[str, Any]
MAX_ROWS = 100
MAX_BOOK_ORDERS = 250
MAX_CLIENT_INDEXES = 20
ANY_MARKET = 255
WRONG_ACCOUNT = "invalid auth: token does not belong to the account"
NO_TOKEN = "auth query param and Authorization header are empty"  # noqa: S105 - a text of the venue


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One read: parameters, the token that came with it, and when."""

    params: Params
    token: str
    now_ms: int

    def text(self, name: str, default: str | None = None) -> str:
        """A parameter; refused when missing without a default."""
        found = self.params.get(name, default)
        if found is None or (found == "" and default is None):
            raise bad_param(f"{name} is required")
        return found

    def integer(self, name: str, default: int | None = None) -> int:
        """A whole-number parameter."""
        text = self.text(name, None if default is None else str(default))
        try:
            return int(text)
        except ValueError as error:
            raise bad_param(f"{name} must be an integer") from error

    def limit(self, most: int = MAX_ROWS) -> int:
        """The parameter `limit`, 1 to `most`."""
        found = self.integer("limit")
        if not 1 <= found <= most:
            raise bad_param(f"limit must be between 1 and {most}")
        return found

    def flag(self, name: str) -> bool:
        """A parameter that is true or not."""
        return self.params.get(name, "").lower() in ("true", "1")


def authorised(venue: LighterVenue, request: Request, index: int) -> LighterAccount:
    """The account `index`, if the token may read it: its own, or one of the same owner.

    Raises:
        Refused: 20001 without a token, 20013 for a bad one, 21100.
    """
    if not request.token:
        raise bad_param(NO_TOKEN)
    speaker = venue.accounts.get(venue.check_token(request.token, request.now_ms))
    account = venue.accounts.get(index)
    if speaker.l1_address.lower() != account.l1_address.lower():
        raise Refused(Code.INVALID_AUTH, WRONG_ACCOUNT, status=401)
    return account


def _market(venue: LighterVenue, request: Request) -> MarketSpec:
    return find_market(venue.markets, request.integer("market_id"))


def _chosen(venue: LighterVenue, request: Request) -> list[MarketSpec]:
    """Markets of `market_id` and `filter`."""
    wanted, kind = request.integer("market_id", ANY_MARKET), request.text("filter", "all")
    if wanted != ANY_MARKET:
        return [find_market(venue.markets, wanted)]
    return [spec for spec in venue.markets.all if kind == "all" or spec.spot == (kind == "spot")]


# -- public ------------------------------------------------------------------------------------------------------


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


# -- accounts ----------------------------------------------------------------------------------------------------


def _account(venue: LighterVenue, request: Request) -> Body:
    value = request.text("value")
    match request.text("by"):
        case "index":
            found = [venue.accounts.get(_number(value, "value"))]
        case "l1_address":
            found = venue.accounts.of_owner(value)
        case _:
            raise bad_param("by must be index or l1_address")
    if not found:
        raise Refused(Code.ACCOUNT_NOT_FOUND)
    active = request.flag("active_only")
    rows = [account_rows.detailed(venue, account, active_only=active) for account in found]
    return {"total": len(rows), "accounts": rows}


def _number(text: str, name: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise bad_param(f"{name} must be an integer") from error


def _by_owner(venue: LighterVenue, request: Request) -> Body:
    address = request.text("l1_address")
    found = venue.accounts.of_owner(address)
    if not found:
        raise Refused(Code.ACCOUNT_NOT_FOUND)
    return {"l1_address": found[0].l1_address, "sub_accounts": [account_rows.summary(venue, item) for item in found]}


def _api_keys(venue: LighterVenue, request: Request) -> Body:
    account = venue.accounts.get(request.integer("account_index"))
    wanted = request.integer("api_key_index", ALL_KEYS)
    keys = [key for key in account.keys.values() if wanted in (ALL_KEYS, key.index)]
    if not keys:
        raise Refused(Code.API_KEY_NOT_FOUND)
    return {
        "api_keys": [
            {
                "account_index": account.index,
                "api_key_index": key.index,
                "nonce": key.next_nonce,
                "public_key": key.public_key.hex(),
                "transaction_time": key.changed_us,
            }
            for key in keys
        ]
    }


def _next_nonce(venue: LighterVenue, request: Request) -> Body:
    account = venue.accounts.get(request.integer("account_index"))
    index = request.integer("api_key_index")
    if not 0 <= index <= MAX_API_KEY:
        raise Refused(Code.INVALID_API_KEY_INDEX)
    key = account.keys.get(index)
    return {"nonce": key.next_nonce if key else 0}


def _limits(venue: LighterVenue, request: Request) -> Body:
    account = authorised(venue, request, request.integer("account_index"))
    return {
        "max_llp_percentage": 100,
        "max_llp_amount": "0.000000",
        "user_tier": account.tier.name,
        "can_create_public_pool": False,
        "user_tier_name": account.tier.name,
        "current_maker_fee_tick": account.tier.maker_ticks,
        "current_taker_fee_tick": account.tier.taker_ticks,
        "leased_lit": "0.00000000",
        "effective_lit_stakes": "0.00000000",
        "user_tier_last_update": account.tier_changed_s,
    }


def _metadata(venue: LighterVenue, request: Request) -> Body:
    body = _account(venue, request)
    kept = (
        "account_index",
        "name",
        "description",
        "can_invite",
        "referral_points_percentage",
        "created_at",
        "can_rfq",
        "can_rfq_market_ids",
        "metadata",
        "agent_enabled",
    )
    return {"account_metadatas": [{name: row[name] for name in kept} for row in body["accounts"]]}


def _position_funding(venue: LighterVenue, request: Request) -> Body:
    account = authorised(venue, request, request.integer("account_index"))
    side, limit = request.text("side", "all"), request.limit()
    rows = [account_rows.funding_row(venue, event) for event in reversed(account_rows.fundings(venue, account))]
    kept = [row for row in rows if side in ("all", row["position_side"])]
    page, cursor = _page(kept, request.text("cursor", ""), limit)
    return {"position_fundings": page, **cursor}


def _money(rows: Callable[[LighterVenue, LighterAccount, str], Body]) -> Callable[[LighterVenue, Request], Body]:
    """A history of money, for the account's own token."""

    def answer(venue: LighterVenue, request: Request) -> Body:
        account = authorised(venue, request, request.integer("account_index"))
        return rows(venue, account, request.text("cursor", ""))

    return answer


def _transfer_fee(venue: LighterVenue, request: Request) -> Body:
    authorised(venue, request, request.integer("account_index"))
    return {"transfer_fee_usdc": 0}


# -- orders, trades, transactions --------------------------------------------------------------------------------


def _page(rows: list[Body], cursor: str, limit: int) -> tuple[list[Body], Body]:
    """A page from `cursor`, which counts rows already given."""
    start = 0
    if cursor:
        if not cursor.isdigit():
            raise Refused(Code.INVALID_CURSOR)
        start = int(cursor)
    more = {"next_cursor": str(start + limit)} if start + limit < len(rows) else {}
    return rows[start : start + limit], more


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
        span = range(_number(first, "between_timestamps"), _number(last, "between_timestamps") + 1)
        kept = [order for order in kept if order.updated_ms // 1000 in span]
    page, cursor = _page([venue.orders.row(order) for order in kept], request.text("cursor", ""), limit)
    return {"orders": page, **cursor}


def _orders_by_client(venue: LighterVenue, request: Request) -> Body:
    account = authorised(venue, request, request.integer("account_index"))
    wanted = [_number(text, "client_order_indexes") for text in request.text("client_order_indexes").split(",")]
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
    page, cursor = _page_by_id(rows, request.text("cursor", ""), limit)
    return {"trades": page, **cursor}


def _role_matches(row: Body, viewer: str, request: Request) -> bool:
    """The parameters `role` and `ask_filter`, which look at the viewer's side."""
    if not viewer:
        return True
    role, side = request.text("role", "all"), request.integer("ask_filter", -1)
    asking = viewer.endswith(f":{row['ask_account_id']}")
    making = row["is_maker_ask"] == asking
    return (role == "all" or making == (role == "maker")) and (side == -1 or asking == bool(side))


def _page_by_id(rows: list[Body], cursor: str, limit: int) -> tuple[list[Body], Body]:
    """A page of trades below the id in `cursor`, so that new trades shift nothing."""
    if cursor:
        if not cursor.isdigit():
            raise Refused(Code.INVALID_CURSOR)
        rows = [row for row in rows if row["trade_id"] < int(cursor)]
    page = rows[:limit]
    return page, ({"next_cursor": page[-1]["trade_id_str"]} if len(rows) > limit else {})


def _tx(venue: LighterVenue, request: Request) -> Body:
    value = request.text("value")
    match request.text("by"):
        case "hash":
            found = venue.log.by_hash(value.removeprefix("0x"))
        case "sequence_index":
            found = venue.log.by_sequence(_number(value, "value"))
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


READS: Mapping[str, Callable[[LighterVenue, Request], Body]] = {
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
    "account": _account,
    "accountsByL1Address": _by_owner,
    "apikeys": _api_keys,
    "nextNonce": _next_nonce,
    "accountLimits": _limits,
    "accountMetadata": _metadata,
    "positionFunding": _position_funding,
    "deposit/history": _money(history.deposits),
    "withdraw/history": _money(history.withdrawals),
    "transfer/history": _money(history.transfers),
    "transferFeeInfo": _transfer_fee,
    "accountActiveOrders": _active_orders,
    "accountInactiveOrders": _inactive_orders,
    "accountOrders": _orders_by_client,
    "trades": _trades,
    "tx": _tx,
    "txs": _txs,
    "accountTxs": _account_txs,
}
WITHOUT_CODE = frozenset({"withdrawalDelay"})


def read(venue: LighterVenue, name: str, request: Request) -> Body:
    """Answer of `GET /api/v1/<name>`.

    Raises:
        Refused: 29404 with HTTP 404 for an unknown name, else whatever the read refuses.
    """
    handler = READS.get(name)
    if handler is None:
        raise Refused(Code.NOT_FOUND, status=404)
    body = handler(venue, request)
    return body if name in WITHOUT_CODE else {"code": 200, **body}


def change_tier(venue: LighterVenue, request: Request) -> Body:
    """`POST changeAccountTier`: only while flat and without orders."""
    account = authorised(venue, request, request.integer("account_index"))
    tier = request.text("new_tier")
    if tier == account.tier.name:
        raise Refused(Code.TIER_SAME)
    owned = venue.accounts.of_owner(account.l1_address)
    if any(venue.engine.live_orders(item.name) for item in owned):
        raise Refused(Code.TIER_ORDERS)
    rows = [account_rows.detailed(venue, item, active_only=True) for item in owned]
    if any(row["positions"] for row in rows):
        raise Refused(Code.TIER_POSITIONS)
    try:
        venue.set_tier(account, tier, request.now_ms)
    except KeyError as error:
        raise Refused(Code.TIER_INVALID) from error
    return {"code": 200}
