"""Subscriptions: which exist, what a client may ask for, and what each then sends. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from simulator.engine.events import Liquidated, OrderChanged
from simulator.engine.market import Market
from simulator.engine.values import OrderState, Reason, Side
from simulator.hyperliquid import account_info, info, market_info, twap
from simulator.hyperliquid.batch import Batch
from simulator.hyperliquid.decimals import money, text
from simulator.hyperliquid.replies import BadRequest
from simulator.hyperliquid.rows import historical_order, order_update, trade_row
from simulator.hyperliquid.transfers import address
from simulator.hyperliquid.universe import Dex
from simulator.hyperliquid.venue import Venue

Data = Any
SNAPSHOT_ROWS = 2000
FIRST_TRADES = 30
UNTOLD = frozenset({Reason.REQUESTED, Reason.REMAINDER, Reason.REDUCE_ONLY, Reason.PARENT_CANCELLED})


@dataclass(slots=True, kw_only=True)
class Subscription:
    """One live subscription. `echo` is what the venue repeats back; `last` what was last sent where it matters."""

    type: str
    echo: dict[str, Any]
    coin: str = ""
    user: str = ""
    dex: str = ""
    interval: str = ""
    figures: int | None = None
    mantissa: int | None = None
    last: Any = field(default=None)

    @property
    def key(self) -> str:
        """Equal for equal subscriptions."""
        return repr(sorted(self.echo.items(), key=lambda item: item[0]))


Frames = list[tuple[str, Data]]
First = Callable[[Venue, Subscription, int], Frames]
Later = Callable[[Venue, Subscription, Batch, int], Frames]


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """How a subscription type behaves: the fields it needs, its first frames, and those of each batch."""

    fields: tuple[str, ...]
    first: First
    later: Later


def parse(venue: Venue, wire: Mapping[str, Any]) -> Subscription | None:
    """A subscription from its wire form; None when it is not a valid one."""
    kind = wire.get("type")
    channel = CHANNELS.get(kind) if isinstance(kind, str) else None
    if channel is None or not isinstance(kind, str):
        return None
    found = Subscription(type=kind, echo={"type": kind})
    for name in channel.fields:
        if not _read_field(venue, found, name, wire.get(name)):
            return None
    return found


def _read_field(venue: Venue, found: Subscription, name: str, value: Any) -> bool:
    """Take one field over; False when it is missing or invalid."""
    match name:
        case "user":
            try:
                found.user = address(value) if isinstance(value, str) else ""
            except BadRequest:
                return False
            found.echo["user"] = found.user
            return bool(found.user)
        case "coin":
            found.coin = value if isinstance(value, str) else ""
            found.echo["coin"] = found.coin
            return venue.market(found.coin) is not None
        case "interval":
            found.interval = value if isinstance(value, str) else ""
            found.echo = {"type": found.type, "interval": value, "coin": found.coin}
            return found.interval in market_info.INTERVALS
        case "dex":
            found.dex = value if isinstance(value, str) else ""
            if isinstance(value, str):
                found.echo["dex"] = value
            return venue.universe.dex(found.dex) is not None
        case "nSigFigs":
            found.figures = value
            found.echo["nSigFigs"] = value
            return value is None or (isinstance(value, int) and value in (2, 3, 4, 5))
        case "mantissa":
            found.mantissa = value
            found.echo["mantissa"] = value
            return value is None or (isinstance(value, int) and value in (1, 2, 5))
        case _:  # optional switches: echoed, without effect
            if value is not None:
                found.echo[name] = value
            return True


def _dex(venue: Venue, sub: Subscription) -> Dex:
    found = venue.universe.dex(sub.dex)
    return venue.universe.dexes[0] if found is None else found


def _market(venue: Venue, sub: Subscription) -> Market:
    return venue.engine.markets[sub.coin]


def _nothing(_venue: Venue, _sub: Subscription, _now_ms: int) -> Frames:
    return []


# -- market data ---------------------------------------------------------------------------------------------


def _mids(venue: Venue, sub: Subscription, _now_ms: int) -> Frames:
    data: dict[str, Any] = {"mids": market_info.all_mids(venue, _dex(venue, sub))}
    if sub.dex:
        data = {"dex": sub.dex, **data}
    sub.last = data
    return [("allMids", data)]


def _mids_later(venue: Venue, sub: Subscription, batch: Batch, now_ms: int) -> Frames:
    if not batch.books and not batch.tick:
        return []
    before = sub.last
    frames = _mids(venue, sub, now_ms)
    return [] if frames[0][1] == before else frames


def _book(venue: Venue, sub: Subscription, now_ms: int) -> Frames:
    return [("l2Book", market_info.l2_book(_market(venue, sub), now_ms, sub.figures, sub.mantissa))]


def _book_later(venue: Venue, sub: Subscription, batch: Batch, now_ms: int) -> Frames:
    return _book(venue, sub, now_ms) if sub.coin in batch.books or batch.tick else []


def _bbo(venue: Venue, sub: Subscription, now_ms: int) -> Frames:
    sub.last = market_info.best(_market(venue, sub))
    return [("bbo", {"coin": sub.coin, "time": now_ms, "bbo": sub.last})]


def _bbo_later(venue: Venue, sub: Subscription, batch: Batch, now_ms: int) -> Frames:
    if sub.coin not in batch.books or market_info.best(_market(venue, sub)) == sub.last:
        return []
    return _bbo(venue, sub, now_ms)


def _trades(venue: Venue, sub: Subscription, _now_ms: int) -> Frames:
    rows = [trade_row(trade) for trade in list(_market(venue, sub).trades)[-FIRST_TRADES:]]
    return [("trades", rows)] if rows else []


def _trades_later(_venue: Venue, sub: Subscription, batch: Batch, _now_ms: int) -> Frames:
    trades = batch.trades.get(sub.coin)
    return [("trades", [trade_row(trade) for trade in trades])] if trades else []


def _candle(venue: Venue, sub: Subscription, now_ms: int) -> Frames:
    length = market_info.INTERVALS[sub.interval]
    rows = market_info.candles(_market(venue, sub), sub.interval, now_ms - 2 * length, now_ms)
    return [("candle", rows[-1])] if rows else []


def _candle_later(venue: Venue, sub: Subscription, batch: Batch, now_ms: int) -> Frames:
    return _candle(venue, sub, now_ms) if sub.coin in batch.trades else []


def _context(venue: Venue, sub: Subscription, now_ms: int) -> Frames:
    market = _market(venue, sub)
    if market.instrument.perpetual:
        data = {"coin": sub.coin, "ctx": market_info.perp_context(venue, market, now_ms)}
        return [("activeAssetCtx", data)]
    ctx = market_info.spot_context(market, now_ms)
    del ctx["coin"]
    return [("activeSpotAssetCtx", {"coin": sub.coin, "ctx": ctx})]


def _context_later(venue: Venue, sub: Subscription, batch: Batch, now_ms: int) -> Frames:
    changed = sub.coin in batch.prices or sub.coin in batch.trades or sub.coin in batch.books
    return _context(venue, sub, now_ms) if changed else []


def _contexts(venue: Venue, sub: Subscription, now_ms: int) -> Frames:
    data = {"dex": sub.dex, "ctxs": market_info.contexts(venue, _dex(venue, sub), now_ms)}
    return [("assetCtxs", data)]


def _spot_contexts(venue: Venue, _sub: Subscription, now_ms: int) -> Frames:
    return [("spotAssetCtxs", market_info.spot_contexts(venue, now_ms))]


def _all_contexts(venue: Venue, _sub: Subscription, now_ms: int) -> Frames:
    pairs = [[dex.name, market_info.contexts(venue, dex, now_ms)] for dex in venue.universe.dexes]
    return [("allDexsAssetCtxs", {"ctxs": sorted(pairs, key=lambda pair: str(pair[0]))})]


def _fast(venue: Venue, sub: Subscription, _now_ms: int) -> Frames:
    now = {
        key: {"markPx": text(market.mark), "midPx": text(market_info.mid_or_last(market))}
        for key, market in venue.engine.markets.items()
        if venue.own(key) and market.instrument.open
    }
    before, sub.last = sub.last or {}, now
    changed = {
        coin: {name: value for name, value in row.items() if before.get(coin, {}).get(name) != value}
        for coin, row in now.items()
    }
    changed = {coin: row for coin, row in changed.items() if row}
    return [("fastAssetCtxs", changed)] if changed else []


def _on_tick(first: First) -> Later:
    """The same frames again after every round and every price change."""

    def later(venue: Venue, sub: Subscription, batch: Batch, now_ms: int) -> Frames:
        return first(venue, sub, now_ms) if batch.tick or batch.prices else []

    return later


# -- one user ------------------------------------------------------------------------------------------------


def _order_updates(venue: Venue, sub: Subscription, batch: Batch, _now_ms: int) -> Frames:
    rows = [order_update(change) for change in batch.orders.get(sub.user, ()) if _told(venue, change)]
    return [("orderUpdates", rows)] if rows else []


def _told(venue: Venue, change: OrderChanged) -> bool:
    """The rest of a partly filled IOC goes silently, unless the venue is told otherwise."""
    return venue.tell_ioc_remainder or change.order.reason is not Reason.REMAINDER


def _user_events(venue: Venue, sub: Subscription, batch: Batch, _now_ms: int) -> Frames:
    frames: Frames = []
    fills = batch.fills.get(sub.user)
    if fills:
        frames.append(("user", {"fills": [account_info.fill(venue, item) for item in fills]}))
    frames.extend(("user", {"funding": account_info.funding_row(f)}) for f in batch.fundings.get(sub.user, ()))
    frames.extend(("user", {"liquidation": _liquidation(item)}) for item in batch.liquidations.get(sub.user, ()))
    cancels = [
        {"coin": change.order.request.instrument, "oid": change.order.order_id}
        for change in batch.orders.get(sub.user, ())
        if change.order.state is OrderState.CANCELLED and change.order.reason not in UNTOLD
    ]
    if cancels:
        frames.append(("user", {"nonUserCancel": cancels}))
    slices = twap.slice_rows(venue, fills or ())
    if slices:
        frames.append(("user", {"twapSliceFills": slices}))
    twaps = _twap_rows(venue, sub, batch)
    if twaps:
        frames.append(("user", {"twapHistory": twaps}))
    return frames


def _liquidation(event: Liquidated) -> dict[str, Any]:
    return {
        "lid": event.liquidation_id,
        "liquidator": "0x" + "0" * 40,
        "liquidated_user": event.account,
        "liquidated_ntl_pos": money(event.notional),
        "liquidated_account_value": money(event.account_value),
    }


def _fills(venue: Venue, sub: Subscription, _now_ms: int) -> Frames:
    rows = [account_info.fill(venue, item) for item in list(venue.engine.fills(sub.user))[-SNAPSHOT_ROWS:]]
    return [("userFills", {"isSnapshot": True, "user": sub.user, "fills": rows})]


def _fills_later(venue: Venue, sub: Subscription, batch: Batch, _now_ms: int) -> Frames:
    fills = batch.fills.get(sub.user)
    rows = [account_info.fill(venue, item) for item in fills or ()]
    return [("userFills", {"user": sub.user, "fills": rows})] if rows else []


def _fundings(venue: Venue, sub: Subscription, _now_ms: int) -> Frames:
    rows = account_info.user_funding(venue, sub.user, 0, None)
    fundings = [{"time": r["time"], **{k: v for k, v in r["delta"].items() if k != "type"}} for r in rows]
    return [("userFundings", {"isSnapshot": True, "user": sub.user, "fundings": fundings})]


def _fundings_later(_venue: Venue, sub: Subscription, batch: Batch, _now_ms: int) -> Frames:
    rows = [account_info.funding_row(item) for item in batch.fundings.get(sub.user, ())]
    return [("userFundings", {"user": sub.user, "fundings": rows})] if rows else []


def _ledger(venue: Venue, sub: Subscription, _now_ms: int) -> Frames:
    rows = account_info.ledger_updates(venue, sub.user, 0, None)
    data = {"isSnapshot": True, "user": sub.user, "nonFundingLedgerUpdates": rows}
    return [("userNonFundingLedgerUpdates", data)]


def _ledger_later(venue: Venue, sub: Subscription, batch: Batch, _now_ms: int) -> Frames:
    rows = [account_info.ledger_row(venue, event) for event in batch.ledger.get(sub.user, ())]
    if not rows:
        return []
    return [("userNonFundingLedgerUpdates", {"user": sub.user, "nonFundingLedgerUpdates": rows})]


def _history(venue: Venue, sub: Subscription, _now_ms: int) -> Frames:
    rows = account_info.historical_orders(venue, sub.user)[::-1]
    return [("userHistoricalOrders", {"isSnapshot": True, "user": sub.user, "orderHistory": rows})]


def _history_later(venue: Venue, sub: Subscription, batch: Batch, _now_ms: int) -> Frames:
    rows = [historical_order(item, venue.engine) for item in batch.orders.get(sub.user, ())]
    return [("userHistoricalOrders", {"user": sub.user, "orderHistory": rows})] if rows else []


def _notifications(_venue: Venue, sub: Subscription, batch: Batch, _now_ms: int) -> Frames:
    words = {Side.BUY: "Bought", Side.SELL: "Sold"}
    return [
        (
            "notification",
            {
                "notification": f"Resting order filled: {words[item.side]} {item.quantity.normalize():f} "
                f"{item.instrument} at ${item.price.normalize():f}"
            },
        )
        for item in batch.fills.get(sub.user, ())
        if not item.taker
    ]


def _asset_data(venue: Venue, sub: Subscription, _now_ms: int) -> Frames:
    market = _market(venue, sub)
    if not market.instrument.perpetual:
        return []
    return [("activeAssetData", account_info.active_asset_data(venue, sub.user, market))]


def _web_data(venue: Venue, sub: Subscription, now_ms: int) -> Frames:
    return [("webData2", info.web_data(venue, sub.user, now_ms))]


def _web_data3(venue: Venue, sub: Subscription, now_ms: int) -> Frames:
    profile = venue.registry.profiles.get(sub.user)
    agent = profile.agents.get("") if profile else None
    state = {
        "agentAddress": agent.address if agent else None,
        "agentValidUntil": agent.valid_until_ms if agent else None,
        "cumLedger": "0.0",
        "serverTime": now_ms,
        "isVault": False,
        "user": sub.user,
    }
    state["abstraction"] = profile.abstraction if profile else "default"
    dexes = [
        {"totalVaultEquity": "0.0", "perpsAtOpenInterestCap": venue.at_open_interest_cap(dex.name)}
        for dex in venue.universe.dexes
    ]
    return [("webData3", {"userState": state, "perpDexStates": dexes})]


def _state(venue: Venue, sub: Subscription, now_ms: int) -> Frames:
    state = account_info.clearinghouse_state(venue, sub.user, _dex(venue, sub), now_ms)
    return [("clearinghouseState", {"dex": sub.dex, "user": sub.user, "clearinghouseState": state})]


def _all_states(venue: Venue, sub: Subscription, now_ms: int) -> Frames:
    pairs = [
        [dex.name, account_info.clearinghouse_state(venue, sub.user, dex, now_ms)]
        for dex in sorted(venue.universe.dexes, key=lambda item: item.name)
    ]
    return [("allDexsClearinghouseState", {"user": sub.user, "clearinghouseStates": pairs})]


def _open_orders(venue: Venue, sub: Subscription, _now_ms: int) -> Frames:
    rows = account_info.open_orders(venue, sub.user, _dex(venue, sub), frontend=True)
    return [("openOrders", {"dex": sub.dex, "user": sub.user, "orders": rows})]


def _spot_state(venue: Venue, sub: Subscription, _now_ms: int) -> Frames:
    return [("spotState", {"user": sub.user, "spotState": account_info.spot_state(venue, sub.user)})]


def _twap_states(venue: Venue, sub: Subscription, _now_ms: int) -> Frames:
    states = twap.states(venue, sub.user, _dex(venue, sub))
    return [("twapStates", {"dex": sub.dex, "user": sub.user, "states": states})]


def _twap_states_later(venue: Venue, sub: Subscription, batch: Batch, now_ms: int) -> Frames:
    return _twap_states(venue, sub, now_ms) if batch.twaps.get(sub.user) else []


def _twap_rows(venue: Venue, sub: Subscription, batch: Batch) -> list[dict[str, Any]]:
    return [twap.history_row(venue, event) for event in batch.twaps.get(sub.user, ()) if not event.progress]


def _twap_history(venue: Venue, sub: Subscription, _now_ms: int) -> Frames:
    rows = twap.history(venue, sub.user)[::-1]
    return [("userTwapHistory", {"isSnapshot": True, "user": sub.user, "history": rows})]


def _twap_history_later(venue: Venue, sub: Subscription, batch: Batch, _now_ms: int) -> Frames:
    rows = _twap_rows(venue, sub, batch)
    return [("userTwapHistory", {"user": sub.user, "history": rows})] if rows else []


def _twap_fills(venue: Venue, sub: Subscription, _now_ms: int) -> Frames:
    rows = twap.slice_fills(venue, sub.user)[::-1]
    return [("userTwapSliceFills", {"isSnapshot": True, "user": sub.user, "twapSliceFills": rows})]


def _twap_fills_later(venue: Venue, sub: Subscription, batch: Batch, _now_ms: int) -> Frames:
    rows = twap.slice_rows(venue, batch.fills.get(sub.user, ()))
    return [("userTwapSliceFills", {"user": sub.user, "twapSliceFills": rows})] if rows else []


def _on_account(first: First, *, prices: bool = False) -> Later:
    """The same frames again when the user's account changed or, with `prices`, after every round."""

    def later(venue: Venue, sub: Subscription, batch: Batch, now_ms: int) -> Frames:
        moved = prices and (batch.tick or bool(batch.prices))
        return first(venue, sub, now_ms) if sub.user in batch.touched or moved else []

    return later


def _channel(fields: str, first: First, later: Later) -> Channel:
    return Channel(fields=tuple(fields.split()), first=first, later=later)


CHANNELS: Mapping[str, Channel] = {
    "allMids": _channel("dex", _mids, _mids_later),
    "l2Book": _channel("coin nSigFigs mantissa fast", _book, _book_later),
    "bbo": _channel("coin", _bbo, _bbo_later),
    "trades": _channel("coin", _trades, _trades_later),
    "candle": _channel("coin interval", _candle, _candle_later),
    "activeAssetCtx": _channel("coin", _context, _context_later),
    "assetCtxs": _channel("dex", _contexts, _on_tick(_contexts)),
    "spotAssetCtxs": _channel("", _spot_contexts, _on_tick(_spot_contexts)),
    "allDexsAssetCtxs": _channel("", _all_contexts, _on_tick(_all_contexts)),
    "fastAssetCtxs": _channel("", _fast, _on_tick(_fast)),
    "notification": _channel("user", _nothing, _notifications),
    "orderUpdates": _channel("user", _nothing, _order_updates),
    "userEvents": _channel("user", _nothing, _user_events),
    "userFills": _channel("user aggregateByTime", _fills, _fills_later),
    "userFundings": _channel("user", _fundings, _fundings_later),
    "userNonFundingLedgerUpdates": _channel("user", _ledger, _ledger_later),
    "activeAssetData": _channel("user coin", _asset_data, _on_account(_asset_data, prices=True)),
    "webData2": _channel("user", _web_data, _on_account(_web_data, prices=True)),
    "webData3": _channel("user", _web_data3, _on_account(_web_data3)),
    "clearinghouseState": _channel("user dex", _state, _on_account(_state, prices=True)),
    "allDexsClearinghouseState": _channel("user", _all_states, _on_account(_all_states, prices=True)),
    "openOrders": _channel("user dex", _open_orders, _on_account(_open_orders)),
    "spotState": _channel("user", _spot_state, _on_account(_spot_state)),
    "twapStates": _channel("user dex", _twap_states, _twap_states_later),
    "userHistoricalOrders": _channel("user", _history, _history_later),
    "userTwapHistory": _channel("user", _twap_history, _twap_history_later),
    "userTwapSliceFills": _channel("user", _twap_fills, _twap_fills_later),
}
