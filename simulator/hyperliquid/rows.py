"""Rows and status words as the venue writes them. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from eth_hash.auto import keccak

from simulator.engine.engine import Engine
from simulator.engine.events import Change, Fill, FundingPaid, OrderChanged, Trade
from simulator.engine.market import Candle
from simulator.engine.values import (
    OrderSnapshot,
    OrderState,
    Outcome,
    Reason,
    Side,
    TimeInForce,
    Trigger,
    TriggerKind,
)
from simulator.hyperliquid.decimals import money, text

ZERO_HASH = "0x" + "0" * 64
SIDES = {Side.BUY: "B", Side.SELL: "A"}
TIFS = {
    TimeInForce.GOOD_TIL_CANCELLED: "Gtc",
    TimeInForce.IMMEDIATE_OR_CANCEL: "Ioc",
    TimeInForce.POST_ONLY: "Alo",
}

_CANCELLED = {
    Reason.SELF_TRADE: "selfTradeCanceled",
    Reason.REDUCE_ONLY: "reduceOnlyCanceled",
    Reason.SIBLING_FILLED: "siblingFilledCanceled",
    Reason.LIQUIDATION: "liquidatedCanceled",
    Reason.SCHEDULED: "scheduledCancel",
    Reason.MARGIN: "marginCanceled",
    Reason.OPEN_INTEREST_CAP: "openInterestCapCanceled",
    Reason.DELISTED: "delistedCanceled",
}
_REJECTED = {
    Reason.OFF_TICK: "tickRejected",
    Reason.BELOW_MINIMUM: "minTradeNtlRejected",
    Reason.INSUFFICIENT_MARGIN: "perpMarginRejected",
    Reason.INSUFFICIENT_BALANCE: "insufficientSpotBalanceRejected",
    Reason.REDUCE_ONLY_WOULD_INCREASE: "reduceOnlyRejected",
    Reason.POST_ONLY_WOULD_MATCH: "badAloPxRejected",
    Reason.NO_MATCH: "iocCancelRejected",
    Reason.NO_LIQUIDITY: "marketOrderNoLiquidityRejected",
    Reason.BAD_TRIGGER_PRICE: "badTriggerPxRejected",
    Reason.TOO_MANY_ORDERS: "tooManyOpenOrdersRejected",
    Reason.POSITION_TIER_LIMIT: "perpMaxPositionRejected",
    Reason.CAP_INCREASE: "positionIncreaseAtOpenInterestCapRejected",
    Reason.CAP_FLIP: "positionFlipAtOpenInterestCapRejected",
    Reason.CAP_AGGRESSIVE: "tooAggressiveAtOpenInterestCapRejected",
    Reason.CAP_TOO_QUICK: "openInterestIncreaseRejected",
}


def status(order: OrderSnapshot, change: Change | None = None) -> str:
    """Status word of an order, or of one change of it."""
    if change is Change.TRIGGERED:
        return "triggered"
    if order.state.live:
        return "open"
    if order.state is OrderState.FILLED:
        return "filled"
    if order.state is OrderState.CANCELLED:
        return _CANCELLED.get(order.reason or Reason.REQUESTED, "canceled")
    return _REJECTED.get(order.reason or Reason.REQUESTED, "rejected")


def refusal_text(outcome: Outcome, asset: int, *, spot_quote: str | None) -> str:
    """Error text of one refused order; `spot_quote` is the quote token of a spot pair."""
    suffix = f" asset={asset}"
    reason = outcome.refusal
    if reason is Reason.POST_ONLY_WOULD_MATCH:
        bid = _plain(outcome.best_bid)
        ask = _plain(outcome.best_ask)
        return f"Post only order would have immediately matched, bbo was {bid}@{ask}.{suffix}"
    if reason is Reason.BELOW_MINIMUM:
        least = "$10" if spot_quote is None else f"10 {spot_quote}"
        return f"Order must have minimum value of {least}.{suffix}"
    if reason is None:
        raise ValueError("not a refusal")
    found = _TEXTS[reason]
    return found if reason in _UNSUFFIXED else found + suffix


def _plain(value: Decimal | None) -> str:
    return "0" if value is None else format(value.normalize(), "f")


_AT_CAP = "Order would increase open interest while open interest is capped"
_TEXTS = {
    Reason.UNKNOWN_INSTRUMENT: "Invalid asset.",
    Reason.INSTRUMENT_CLOSED: "Trading is halted.",
    Reason.INVALID_PRICE: "Order has invalid price.",
    Reason.INVALID_QUANTITY: "Order has invalid size.",
    Reason.ZERO_QUANTITY: "Order has zero size.",
    Reason.NOTIONAL_TOO_LARGE: "Order value too large. Max is $5000000.",
    Reason.PRICE_TOO_FAR: "Order price cannot be more than 95% away from the reference price",
    Reason.OFF_TICK: "Price must be divisible by tick size.",
    Reason.INSUFFICIENT_MARGIN: "Insufficient margin to place order.",
    Reason.INSUFFICIENT_BALANCE: "Insufficient spot balance",
    Reason.REDUCE_ONLY_WOULD_INCREASE: "Reduce only order would increase position.",
    Reason.NO_MATCH: "Order could not immediately match against any resting orders.",
    Reason.NO_LIQUIDITY: "No liquidity available for market order.",
    Reason.BAD_TRIGGER_PRICE: "Invalid TP/SL price.",
    Reason.TOO_MANY_ORDERS: "Too many open orders.",
    Reason.POST_ONLY_PERIOD: "Only post-only orders allowed immediately after network upgrade",
    Reason.POSITION_TIER_LIMIT: "Order would cause position to exceed margin tier limit at current leverage",
    Reason.CAP_INCREASE: _AT_CAP,
    Reason.CAP_FLIP: _AT_CAP,
    Reason.CAP_AGGRESSIVE: "Order rejected due to price more aggressive than oracle while at open interest cap",
    Reason.CAP_TOO_QUICK: "Order would increase open interest too quickly",
}
_UNSUFFIXED = frozenset(
    {
        Reason.INVALID_PRICE,
        Reason.INVALID_QUANTITY,
        Reason.ZERO_QUANTITY,
        Reason.NOTIONAL_TOO_LARGE,
        Reason.PRICE_TOO_FAR,
        Reason.POST_ONLY_PERIOD,
        Reason.POSITION_TIER_LIMIT,
        Reason.CAP_INCREASE,
        Reason.CAP_FLIP,
        Reason.CAP_AGGRESSIVE,
        Reason.CAP_TOO_QUICK,
    }
)


def outcome_row(outcome: Outcome, asset: int, *, spot_quote: str | None) -> Any:
    """One entry of `statuses`."""
    order = outcome.order
    if outcome.refusal is not None or order is None:
        return {"error": refusal_text(outcome, asset, spot_quote=spot_quote)}
    if order.state is OrderState.WAITING_FOR_PARENT:
        return "waitingForFill"
    if order.state is OrderState.WAITING_FOR_TRIGGER:
        if order.parent_id is not None or order.follows_position:
            return "waitingForTrigger"
        return {"resting": _ids(order)}
    if order.state is OrderState.OPEN:
        return {"resting": _ids(order)}
    if order.filled:
        row = {"totalSz": text(order.filled), "avgPx": text(_six_figures(order.average_price))}
        return {"filled": row | _ids(order)}
    return {"error": "Order was canceled"}


def _six_figures(value: Decimal) -> Decimal:
    """An average price, rounded to what the venue shows: six figures or the integer part."""
    places = max(0, 5 - value.adjusted())
    return round(value, places)


def _ids(order: OrderSnapshot) -> dict[str, Any]:
    found: dict[str, Any] = {"oid": order.order_id}
    if order.request.client_id is not None:
        found["cloid"] = order.request.client_id
    return found


def basic_order(order: OrderSnapshot) -> dict[str, Any]:
    """Row of `openOrders` and `orderUpdates`."""
    row: dict[str, Any] = {
        "coin": order.request.instrument,
        "side": SIDES[order.request.side],
        "limitPx": text(order.request.price),
        "sz": text(order.remaining),
        "oid": order.order_id,
        "timestamp": order.created_ms,
        "origSz": text(order.request.quantity),
    }
    if order.request.client_id is not None:
        row["cloid"] = order.request.client_id
    if order.request.reduce_only:
        row["reduceOnly"] = True
    return row


def order_type(order: OrderSnapshot) -> str:
    """`orderType` word."""
    trigger = order.request.trigger
    if order.request.twap_id is not None:
        return "Twap Slice"
    if trigger is None:
        return "Market" if order.request.label in ("FrontendMarket", "LiquidationMarket") else "Limit"
    family = "Stop" if trigger.kind is TriggerKind.STOP else "Take Profit"
    return f"{family} {'Market' if trigger.market else 'Limit'}"


def trigger_condition(trigger: Trigger | None, side: Side) -> str:
    """`triggerCondition` words."""
    if trigger is None:
        return "N/A"
    way = "above" if trigger.fires_above(side) else "below"
    return f"Price {way} {_plain(trigger.price)}"


def frontend_order(order: OrderSnapshot, engine: Engine) -> dict[str, Any]:
    """Row of `frontendOpenOrders`, `orderStatus` and `historicalOrders`; every key always present."""
    trigger = order.request.trigger
    children = []
    for child_id in order.children:
        child = engine.snapshot(child_id)
        if child is not None and child.state.live:
            children.append(frontend_order(child, engine))
    return {
        "coin": order.request.instrument,
        "side": SIDES[order.request.side],
        "limitPx": text(order.request.price),
        "sz": text(order.remaining),
        "oid": order.order_id,
        "timestamp": order.created_ms,
        "triggerCondition": trigger_condition(trigger, order.request.side),
        "isTrigger": trigger is not None,
        "triggerPx": text(trigger.price) if trigger else "0.0",
        "children": children,
        "isPositionTpsl": order.follows_position,
        "reduceOnly": order.request.reduce_only,
        "orderType": order_type(order),
        "origSz": text(order.request.quantity),
        "tif": None if trigger else order.request.label or TIFS[order.request.time_in_force],
        "cloid": order.request.client_id,
    }


def order_update(event: OrderChanged) -> dict[str, Any]:
    """Row of the `orderUpdates` channel."""
    return {
        "order": basic_order(event.order),
        "status": status(event.order, event.change),
        "statusTimestamp": event.time_ms,
    }


def historical_order(event: OrderChanged, engine: Engine) -> dict[str, Any]:
    """Row of `historicalOrders`."""
    return {
        "order": frontend_order(event.order, engine),
        "status": status(event.order, event.change),
        "statusTimestamp": event.time_ms,
    }


def transaction_hash(*parts: object) -> str:
    """A hash that looks like the venue's and is the same in every run of a seed."""
    return "0x" + bytes(keccak(":".join(map(str, parts)).encode())).hex()


def direction(fill: Fill, *, perpetual: bool, isolated: bool) -> str:
    """`dir` words of a fill."""
    if not perpetual:
        return "Buy" if fill.side is Side.BUY else "Sell"
    if fill.settlement:
        return "Settlement"
    start, signed = fill.start_position, fill.quantity * fill.side.sign
    if fill.liquidated == fill.account:
        return f"Liquidated {'Isolated' if isolated else 'Cross'} {'Long' if start > 0 else 'Short'}"
    end = start + signed
    if start * end < 0:
        return "Long > Short" if start > 0 else "Short > Long"
    if start * signed < 0:
        return "Close Long" if start > 0 else "Close Short"
    return "Open Long" if signed > 0 else "Open Short"


def fill_row(fill: Fill, *, perpetual: bool, isolated: bool = False) -> dict[str, Any]:
    """Row of `userFills`; what no client sent has a zero hash."""
    system = fill.settlement or fill.twap_id is not None
    row: dict[str, Any] = {
        "coin": fill.instrument,
        "px": text(fill.price),
        "sz": text(fill.quantity),
        "side": SIDES[fill.side],
        "time": fill.time_ms,
        "startPosition": text(fill.start_position),
        "dir": direction(fill, perpetual=perpetual, isolated=isolated),
        "closedPnl": money(fill.closed_pnl),
        "hash": ZERO_HASH if system else transaction_hash("trade", fill.trade_id),
        "oid": fill.order_id,
        "crossed": fill.taker,
        "fee": text(fill.fee),
        "tid": fill.trade_id,
    }
    if fill.client_id is not None:
        row["cloid"] = fill.client_id
    if fill.liquidated is not None and fill.mark_price is not None:
        row["liquidation"] = {
            "liquidatedUser": fill.liquidated,
            "markPx": text(fill.mark_price),
            "method": "market",
        }
    if fill.extra_fee:
        row["builderFee"] = text(fill.extra_fee)
    return row | {"feeToken": fill.fee_token, "twapId": fill.twap_id}


def trade_row(trade: Trade) -> dict[str, Any]:
    """Row of `trades` and `recentTrades`."""
    return {
        "coin": trade.instrument,
        "side": SIDES[trade.side],
        "px": text(trade.price),
        "sz": text(trade.quantity),
        "time": trade.time_ms,
        "hash": transaction_hash("trade", trade.trade_id),
        "tid": trade.trade_id,
        "users": [trade.buyer, trade.seller],
    }


def candle_row(candle: Candle, coin: str, interval: str, length_ms: int) -> dict[str, Any]:
    """Row of `candleSnapshot` and the `candle` channel."""
    return {
        "t": candle.open_ms,
        "T": candle.open_ms + length_ms - 1,
        "s": coin,
        "i": interval,
        "o": text(candle.open),
        "c": text(candle.close),
        "h": text(candle.high),
        "l": text(candle.low),
        "v": text(candle.volume),
        "n": candle.trades,
    }


def funding_delta(event: FundingPaid) -> dict[str, Any]:
    """What one funding payment was, without its time."""
    return {
        "coin": event.instrument,
        "usdc": text(event.amount),
        "szi": text(event.quantity),
        "fundingRate": text(event.rate),
        "nSamples": None,
    }
