"""Orders between the wire and the engine: what the engine does not keep of them, and how they are shown. Pure."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum
from typing import Any

from simulator.engine.engine import Engine
from simulator.engine.values import ZERO, Order, OrderSnapshot, OrderState, Reason, Side
from simulator.lighter.accounts import account_index
from simulator.lighter.markets import BLOCK, Markets, MarketSpec, money

KEPT = 50_000
HOUSE_EXPIRY_MS = 28 * 86_400_000


class OrderType(IntEnum):
    """Wire codes of order types."""

    LIMIT = 0
    MARKET = 1
    STOP_LOSS = 2
    STOP_LOSS_LIMIT = 3
    TAKE_PROFIT = 4
    TAKE_PROFIT_LIMIT = 5
    TWAP = 6
    TWAP_SUB = 7
    LIQUIDATION = 8


class TimeInForceCode(IntEnum):
    """Wire codes of times in force."""

    IMMEDIATE_OR_CANCEL = 0
    GOOD_TILL_TIME = 1
    POST_ONLY = 2


TYPE_TEXTS = (
    "limit",
    "market",
    "stop-loss",
    "stop-loss-limit",
    "take-profit",
    "take-profit-limit",
    "twap",
    "twap-sub",
    "liquidation",
)
TIF_TEXTS = ("immediate-or-cancel", "good-till-time", "post-only")
CONDITIONAL = frozenset(
    {OrderType.STOP_LOSS, OrderType.STOP_LOSS_LIMIT, OrderType.TAKE_PROFIT, OrderType.TAKE_PROFIT_LIMIT}
)
AT_ANY_PRICE = frozenset({OrderType.MARKET, OrderType.STOP_LOSS, OrderType.TAKE_PROFIT, OrderType.LIQUIDATION})


@dataclass(slots=True, kw_only=True)
class Extra:
    """What the venue keeps of an order beside the engine."""

    type: int = OrderType.LIMIT
    time_in_force: int = TimeInForceCode.GOOD_TILL_TIME
    client_index: int = 0
    expiry_ms: int = 0
    trigger_price: Decimal = ZERO
    version: int = 0
    tx_hash: str = ""
    integrator: int = 0
    integrator_taker: int = 0
    integrator_maker: int = 0
    changed_us: int = 0
    trigger_ms: int = 0
    parent_id: int | None = None  # of a slice, the engine's id of its TWAP
    starved: bool = False  # ended because the opposite side was empty


class Extras:
    """Extras by engine order id; the oldest are dropped beyond `KEPT`."""

    def __init__(self) -> None:
        self._kept: OrderedDict[int, Extra] = OrderedDict()

    def put(self, engine_id: int, extra: Extra) -> None:
        """Keep an order's extra."""
        self._kept[engine_id] = extra
        if len(self._kept) > KEPT:
            self._kept.popitem(last=False)

    def of(self, engine_id: int) -> Extra | None:
        """What is kept of an order; None for house orders and liquidations."""
        return self._kept.get(engine_id)


STATUS_CODES = {
    "in-progress": 0,
    "pending": 1,
    "open": 2,
    "filled": 3,
    "canceled": 4,
    "canceled-post-only": 5,
    "canceled-reduce-only": 6,
    "canceled-position-not-allowed": 7,
    "canceled-margin-not-allowed": 8,
    "canceled-too-much-slippage": 9,
    "canceled-not-enough-liquidity": 10,
    "canceled-self-trade": 11,
    "canceled-expired": 12,
    "canceled-oco": 13,
    "canceled-child": 14,
    "canceled-liquidation": 15,
    "canceled-invalid-balance": 16,
}
TRIGGER_CODES = {"na": 0, "ready": 0, "mark-price": 1, "twap": 2, "parent-order": 3}
"""The engine of the venue knows four; one that has fired waits for nothing any more."""
_BY_REASON = {
    Reason.POST_ONLY_WOULD_MATCH: "canceled-post-only",
    Reason.REDUCE_ONLY_WOULD_INCREASE: "canceled-reduce-only",
    Reason.REDUCE_ONLY: "canceled-reduce-only",
    Reason.INSUFFICIENT_MARGIN: "canceled-margin-not-allowed",
    Reason.INSUFFICIENT_BALANCE: "canceled-invalid-balance",
    Reason.SELF_TRADE: "canceled-self-trade",
    Reason.EXPIRED: "canceled-expired",
    Reason.SIBLING_FILLED: "canceled-oco",
    Reason.PARENT_CANCELLED: "canceled-child",
    Reason.LIQUIDATION: "canceled-liquidation",
}
_UNMATCHED = frozenset({Reason.NO_MATCH, Reason.NO_LIQUIDITY, Reason.REMAINDER})


class OrderViews:
    """How orders look on the wire.

    Args:
        integrator texts differ: `""` in answers to reads and in snapshots, `"0"` in updates.
    """

    def __init__(self, engine: Engine, markets: Markets) -> None:
        self._engine = engine
        self._markets = markets
        self.extras = Extras()

    def spec(self, order: Order | OrderSnapshot) -> MarketSpec:
        """Market of an order."""
        return self._markets.by_key[order.request.instrument]

    def index(self, order: Order | OrderSnapshot) -> int:
        """Venue id of an order."""
        return self.spec(order).order_index(order.order_id, is_ask=order.request.side is Side.SELL)

    def find(self, account: str, market: MarketSpec, index: int) -> Order | None:
        """An account's order by client index (below 2^48) or venue id."""
        if index < BLOCK:
            found = self._engine.find_client_id(account, str(index))
            return found if found is not None and found.instrument == market.key else None
        within = index % BLOCK
        for engine_id in (within, BLOCK - within):
            order = self._engine.order(engine_id)
            if order is None or order.account != account or order.instrument != market.key:
                continue
            if self.index(order) == index:
                return order
        return None

    def status(self, order: Order | OrderSnapshot) -> str:
        """Status word."""
        match order.state:
            case OrderState.WAITING_FOR_PARENT | OrderState.WAITING_FOR_TRIGGER:
                return "pending"
            case OrderState.OPEN:
                return "open"
            case OrderState.FILLED:
                return "filled"
        if order.reason in _UNMATCHED:
            extra = self.extras.of(order.order_id)
            if extra is None or extra.type not in AT_ANY_PRICE:
                return "canceled"
            return "canceled-not-enough-liquidity" if extra.starved else "canceled-too-much-slippage"
        return _BY_REASON.get(order.reason, "canceled") if order.reason else "canceled"

    def trigger_status(self, order: Order | OrderSnapshot, extra: Extra) -> str:
        """What the order waits for."""
        if order.state is OrderState.WAITING_FOR_PARENT:
            return "parent-order"
        if order.state is OrderState.WAITING_FOR_TRIGGER:
            return "twap" if extra.type == OrderType.TWAP else "mark-price"
        return "ready" if extra.type in CONDITIONAL and order.triggered else "na"

    def _relative(self, engine_id: int | None) -> int:
        found = None if engine_id is None else self._engine.order(engine_id)
        return 0 if found is None else self.index(found)

    def row(self, order: Order | OrderSnapshot, *, update: bool = False) -> dict[str, Any]:
        """An order object, fields in the venue's order; `update` for frames that tell a change."""
        spec, index = self.spec(order), self.index(order)
        extra = self.extras.of(order.order_id) or Extra(type=OrderType.LIQUIDATION, time_in_force=0)
        remaining = order.remaining if order.state.live else ZERO
        parent = self._relative(order.parent_id or extra.parent_id)
        children = [self._relative(child) for child in order.children[:2]]
        sibling = self._relative(order.siblings[0]) if order.siblings else 0
        nothing = "0" if update else ""
        changed_us = extra.changed_us or order.updated_ms * 1000
        filled_quote = order.average_price * order.filled
        seconds = order.created_ms // 1000
        return {
            "order_index": index,
            "client_order_index": extra.client_index,
            "order_id": str(index),
            "client_order_id": str(extra.client_index),
            "market_index": spec.market_id,
            "owner_account_index": account_index(order.account),
            "initial_base_amount": spec.size_text(order.request.quantity),
            "price": spec.price_text(order.request.price),
            "nonce": index % BLOCK,
            "remaining_base_amount": spec.size_text(remaining),
            "is_ask": order.request.side is Side.SELL,
            "base_size": spec.size_units(remaining),
            "base_price": spec.price_units(order.request.price),
            "filled_base_amount": spec.size_text(order.filled),
            "filled_quote_amount": money(round(filled_quote, 6)),
            "side": "",
            "type": TYPE_TEXTS[extra.type],
            "time_in_force": TIF_TEXTS[extra.time_in_force],
            "reduce_only": order.request.reduce_only,
            "trigger_price": spec.price_text(extra.trigger_price),
            "order_expiry": extra.expiry_ms,
            "status": self.status(order),
            "trigger_status": self.trigger_status(order, extra),
            "trigger_time": extra.trigger_ms,
            "parent_order_index": parent,
            "parent_order_id": str(parent),
            "to_trigger_order_id_0": str(children[0] if children else 0),
            "to_trigger_order_id_1": str(children[1] if len(children) > 1 else 0),
            "to_cancel_order_id_0": str(sibling),
            "integrator_fee_collector_index": str(extra.integrator) if extra.integrator else nothing,
            "integrator_taker_fee": str(extra.integrator_taker) if extra.integrator else nothing,
            "integrator_maker_fee": str(extra.integrator_maker) if extra.integrator else nothing,
            "order_flags": 0,
            "order_version": extra.version,
            "block_height": height(order.updated_ms),
            "timestamp": seconds,
            "created_at": seconds,
            "updated_at": order.updated_ms // 1000,
            "transaction_time": changed_us,
        }

    def event(self, order: Order | OrderSnapshot) -> dict[str, Any]:
        """The short form inside `event_info`."""
        row = self.row(order)
        spec = self.spec(order)
        extra = self.extras.of(order.order_id) or Extra()
        return {
            "i": row["order_index"],
            "u": row["client_order_index"],
            "a": row["owner_account_index"],
            "is": spec.size_units(order.request.quantity),
            "p": row["base_price"],
            "rs": row["base_size"],
            "ia": int(row["is_ask"]),
            "ot": int(extra.type),
            "f": int(extra.time_in_force),
            "ro": int(row["reduce_only"]),
            "tp": spec.price_units(extra.trigger_price),
            "e": extra.expiry_ms,
            "st": STATUS_CODES[row["status"]],
            "ts": TRIGGER_CODES[row["trigger_status"]],
            "t0": int(row["to_trigger_order_id_0"]),
            "t1": int(row["to_trigger_order_id_1"]),
            "c0": int(row["to_cancel_order_id_0"]),
            "ifci": extra.integrator,
            "itf": extra.integrator_taker,
            "imf": extra.integrator_maker,
            "of": 0,
            "mn": extra.version,
        }

    def book_row(self, order: Order) -> dict[str, Any]:
        """A row of `orderBookOrders`."""
        spec, index = self.spec(order), self.index(order)
        extra = self.extras.of(order.order_id)
        return {
            "order_index": index,
            "order_id": str(index),
            "owner_account_index": account_index(order.account),
            "initial_base_amount": spec.size_text(order.request.quantity),
            "remaining_base_amount": spec.size_text(order.remaining),
            "price": spec.price_text(order.request.price),
            "order_expiry": extra.expiry_ms if extra else order.created_ms + HOUSE_EXPIRY_MS,
            "transaction_time": extra.changed_us if extra else order.updated_ms * 1000,
        }


def height(now_ms: int) -> int:
    """Block height at an instant: a block every five seconds, far from the real pace."""
    return now_ms // 5000
