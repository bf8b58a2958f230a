"""`/info`: parameters checked, then the answer of the matching read. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from simulator.engine.market import Market
from simulator.engine.values import ZERO
from simulator.hyperliquid import account_info, market_info, twap
from simulator.hyperliquid.decimals import money
from simulator.hyperliquid.replies import BadRequest
from simulator.hyperliquid.transfers import address
from simulator.hyperliquid.universe import Dex, margin_table
from simulator.hyperliquid.venue import Answer, Venue, unprocessable

Query = Mapping[str, Any]
Read = Callable[[Venue, Query, int], Any]


def handle(venue: Venue, payload: object, now_ms: int) -> Answer:
    """Answer a decoded `/info` body; what is not a known request is a 422."""
    try:
        read = READS.get(request_type(payload))
        if read is None or not isinstance(payload, dict):
            raise BadRequest("unknown request")
        return Answer(body=read(venue, payload, now_ms))
    except BadRequest as error:
        return unprocessable(str(error))
    except UnknownDex:
        return Answer(status=500, body=None)


class UnknownDex(Exception):
    """No such perp dex."""


def request_type(payload: object) -> str:
    """Type of a decoded body, "?" when it has none."""
    kind = payload.get("type") if isinstance(payload, dict) else None
    return kind if isinstance(kind, str) else "?"


def _dex(venue: Venue, query: Query) -> Dex:
    name = query.get("dex") or ""
    found = venue.universe.dex(name) if isinstance(name, str) else None
    if found is None:
        raise UnknownDex(str(name))
    return found


def _user(query: Query) -> str:
    value = query.get("user")
    if not isinstance(value, str):
        raise BadRequest("missing field `user`")
    return address(value)


def _integer(query: Query, name: str) -> int:
    value = query.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadRequest(f"missing field `{name}`")
    return value


def _optional(query: Query, name: str) -> int | None:
    return None if query.get(name) is None else _integer(query, name)


def _market(venue: Venue, query: Query) -> Market | None:
    coin = query.get("coin")
    if not isinstance(coin, str):
        raise BadRequest("missing field `coin`")
    return venue.market(coin)


def _l2_book(venue: Venue, query: Query, now_ms: int) -> Any:
    market = _market(venue, query)
    figures, mantissa = _optional(query, "nSigFigs"), _optional(query, "mantissa")
    if figures not in (None, 2, 3, 4, 5) or mantissa not in (None, 1, 2, 5):
        raise BadRequest("invalid aggregation")
    return None if market is None else market_info.l2_book(market, now_ms, figures, mantissa)


def _candles(venue: Venue, query: Query, _now_ms: int) -> Any:
    request = query.get("req")
    if not isinstance(request, dict) or str(request.get("interval")) not in market_info.INTERVALS:
        raise BadRequest("missing field `req`")
    market = _market(venue, request)
    if market is None:
        return None
    start, end = _integer(request, "startTime"), _optional(request, "endTime")
    return market_info.candles(market, str(request["interval"]), start, end if end is not None else 1 << 62)


def _recent_trades(venue: Venue, query: Query, _now_ms: int) -> Any:
    market = _market(venue, query)
    return None if market is None else market_info.recent_trades(market)


def _funding_history(venue: Venue, query: Query, _now_ms: int) -> Any:
    market = _market(venue, query)
    start, end = _integer(query, "startTime"), _optional(query, "endTime")
    return None if market is None else market_info.funding_history(market, start, end)


def _meta_and_contexts(venue: Venue, query: Query, now_ms: int) -> Any:
    dex = _dex(venue, query)
    return [venue.universe.meta(dex), market_info.contexts(venue, dex, now_ms)]


def _order_status(venue: Venue, query: Query, _now_ms: int) -> Any:
    oid = query.get("oid")
    if not isinstance(oid, int | str) or isinstance(oid, bool):
        raise BadRequest("missing field `oid`")
    return account_info.order_status(venue, _user(query), oid)


def _fills_by_time(venue: Venue, query: Query, _now_ms: int) -> Any:
    return account_info.fills_by_time(
        venue,
        _user(query),
        _integer(query, "startTime"),
        _optional(query, "endTime"),
        newest_first=bool(query.get("reversed")),
    )


def _user_funding(venue: Venue, query: Query, _now_ms: int) -> Any:
    start, end = _integer(query, "startTime"), _optional(query, "endTime")
    return account_info.user_funding(venue, _user(query), start, end)


def _ledger(venue: Venue, query: Query, _now_ms: int) -> Any:
    start, end = _integer(query, "startTime"), _optional(query, "endTime")
    return account_info.ledger_updates(venue, _user(query), start, end)


def _active_asset_data(venue: Venue, query: Query, _now_ms: int) -> Any:
    market = _market(venue, query)
    if market is None or not market.instrument.perpetual:
        return None
    return account_info.active_asset_data(venue, _user(query), market)


def _max_builder_fee(venue: Venue, query: Query, _now_ms: int) -> Any:
    builder = query.get("builder")
    if not isinstance(builder, str):
        raise BadRequest("missing field `builder`")
    profile = venue.registry.profiles.get(_user(query))
    return profile.builders.get(address(builder), 0) if profile else 0


def _approved_builders(venue: Venue, query: Query, _now_ms: int) -> Any:
    profile = venue.registry.profiles.get(_user(query))
    return [builder for builder, fee in profile.builders.items() if fee] if profile else []


def _abstraction(venue: Venue, query: Query, _now_ms: int) -> Any:
    profile = venue.registry.profiles.get(_user(query))
    return profile.abstraction if profile else "default"


def _limits(venue: Venue, query: Query, _now_ms: int) -> Any:
    dex = _dex(venue, query)
    if not dex.name:
        return None
    return {
        "totalOiCap": "10000000000.0",
        "oiSzCapPerPerp": "20000000000.0",
        "maxTransferNtl": "3000000000.0",
        "coinToOiCap": venue.universe.capped_coins(dex),
    }


def _dex_status(venue: Venue, query: Query, _now_ms: int) -> Any:
    pool = _dex(venue, query).name
    separate = (account for account in venue.engine.accounts.values() if not account.house and not account.unified)
    ledgers = (account.ledgers.get(pool) for account in separate)
    total = sum((ledger.cash for ledger in ledgers if ledger), ZERO)
    return {"totalNetDeposit": money(total)}


def _capped(venue: Venue, query: Query, _now_ms: int) -> Any:
    return venue.at_open_interest_cap(_dex(venue, query).name)


def _margin_table(venue: Venue, query: Query, _now_ms: int) -> Any:
    _dex(venue, query)
    number = _integer(query, "id")
    return margin_table(number) if number > 0 else None


def _annotation(venue: Venue, query: Query, _now_ms: int) -> Any:
    coin = query.get("coin")
    if not isinstance(coin, str):
        raise BadRequest("missing field `coin`")
    return venue.universe.annotation(coin)


def _annotations(venue: Venue, *names: str) -> list[list[Any]]:
    """Pairs of coin and the named parts of its annotation, of every builder dex, sorted by coin."""
    coins = sorted(coin for coin in venue.universe.asset_ids if ":" in coin)
    found = ((coin, venue.universe.annotation(coin)) for coin in coins)
    return [[coin, {name: row[name] for name in names}] for coin, row in found if row]


def _twap_slices(venue: Venue, query: Query, _now_ms: int) -> Any:
    start, end = _integer(query, "startTime"), _optional(query, "endTime")
    return twap.slice_fills_by_time(venue, _user(query), start, end)


def _sub_accounts2(venue: Venue, query: Query, now_ms: int) -> Any:
    """`subAccounts` with the state of every dex."""
    rows = account_info.sub_accounts(venue, _user(query), now_ms) or []
    for row in rows:
        del row["clearinghouseState"]
        states = [
            [dex.name, account_info.clearinghouse_state(venue, row["subAccountUser"], dex, now_ms)]
            for dex in venue.universe.dexes
        ]
        row["dexToClearinghouseState"] = states
    return rows or None


def _fees(_venue: Venue, query: Query, _now_ms: int) -> Any:
    _user(query)
    return account_info.user_fees()


def _no_rows(_venue: Venue, query: Query, _now_ms: int) -> Any:
    """Features the simulator has not: their lists are empty for every user."""
    _user(query)
    return []


def _null(_venue: Venue, query: Query, _now_ms: int) -> Any:
    """Features the simulator has not: null for every user."""
    _user(query)


def web_data(venue: Venue, user: str, now_ms: int) -> Any:
    """`webData2` of a user, main dex."""
    dex = venue.universe.dexes[0]
    contexts = market_info.contexts(venue, dex, now_ms)
    spot, twaps = market_info.spot_contexts(venue, now_ms), twap.states(venue, user, dex)
    return account_info.web_data(venue, user, dex, contexts, spot, twaps, now_ms)


READS: Mapping[str, Read] = {
    "meta": lambda v, q, _: v.universe.meta(_dex(v, q)),
    "allPerpMetas": lambda v, _q, _: [v.universe.meta(dex) for dex in v.universe.dexes],
    "metaAndAssetCtxs": _meta_and_contexts,
    "spotMeta": lambda v, _q, _: v.universe.spot_meta(),
    "spotMetaAndAssetCtxs": lambda v, _q, now: [
        v.universe.spot_meta(),
        market_info.spot_contexts(v, now),
    ],
    "perpDexs": lambda v, _q, _: v.universe.perp_dexs(),
    "perpDexLimits": _limits,
    "perpDexStatus": _dex_status,
    "perpsAtOpenInterestCap": _capped,
    "perpAnnotation": _annotation,
    "perpCategories": lambda v, _q, _: [[coin, row["category"]] for coin, row in _annotations(v, "category")],
    "perpConciseAnnotations": lambda v, _q, _: _annotations(v, "category", "displayName", "keywords"),
    "marginTable": _margin_table,
    "allMids": lambda v, q, _: market_info.all_mids(v, _dex(v, q)),
    "l2Book": _l2_book,
    "candleSnapshot": _candles,
    "recentTrades": _recent_trades,
    "fundingHistory": _funding_history,
    "predictedFundings": lambda v, _q, _: market_info.predicted_fundings(v),
    "exchangeStatus": lambda _v, _q, now: {"time": now, "specialStatuses": None},
    "clearinghouseState": lambda v, q, now: account_info.clearinghouse_state(v, _user(q), _dex(v, q), now),
    "spotClearinghouseState": lambda v, q, _: account_info.spot_state(v, _user(q)),
    "openOrders": lambda v, q, _: account_info.open_orders(v, _user(q), _dex(v, q), frontend=False),
    "frontendOpenOrders": lambda v, q, _: account_info.open_orders(v, _user(q), _dex(v, q), frontend=True),
    "orderStatus": _order_status,
    "historicalOrders": lambda v, q, _: account_info.historical_orders(v, _user(q)),
    "userFills": lambda v, q, _: account_info.user_fills(v, _user(q)),
    "userFillsByTime": _fills_by_time,
    "userFunding": _user_funding,
    "userNonFundingLedgerUpdates": _ledger,
    "userFees": _fees,
    "userRateLimit": lambda v, q, _: account_info.user_rate_limit(v, _user(q)),
    "userRole": lambda v, q, now: account_info.user_role(v, _user(q), now),
    "extraAgents": lambda v, q, _: account_info.extra_agents(v, _user(q)),
    "activeAssetData": _active_asset_data,
    "portfolio": lambda v, q, now: account_info.portfolio(v, _user(q), now),
    "subAccounts": lambda v, q, now: account_info.sub_accounts(v, _user(q), now),
    "subAccounts2": _sub_accounts2,
    "maxBuilderFee": _max_builder_fee,
    "approvedBuilders": _approved_builders,
    "referral": lambda v, q, _: account_info.referral(v, _user(q)),
    "userAbstraction": _abstraction,
    "userDexAbstraction": _null,
    "userToMultiSigSigners": _null,
    "userTwapSliceFills": lambda v, q, _: twap.slice_fills(v, _user(q)),
    "userTwapSliceFillsByTime": _twap_slices,
    "twapHistory": lambda v, q, _: twap.history(v, _user(q)),
    "userVaultEquities": _no_rows,
    "delegations": _no_rows,
    "webData2": lambda v, q, now: web_data(v, _user(q), now),
}
