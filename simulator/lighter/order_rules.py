"""Rules an order must meet before it is queued, from reference sections 1.4, 7.3 and 7.4. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from simulator.engine.values import SelfTrade, Side, TimeInForce, Trigger, TriggerKind
from simulator.lighter.errors import Code, Refused
from simulator.lighter.markets import BLOCK, MIN_QUOTE, ORDER_QUOTE_LIMIT, Markets, MarketSpec
from simulator.lighter.orders import CONDITIONAL, OrderType, TimeInForceCode

MAX_PRICE = (1 << 32) - 1
MIN_EXPIRY_MS = 5 * 60_000
MAX_EXPIRY_MS = 30 * 86_400_000
EXPIRY_GRACE_MS = 60_000

TIMES = {
    TimeInForceCode.IMMEDIATE_OR_CANCEL: TimeInForce.IMMEDIATE_OR_CANCEL,
    TimeInForceCode.GOOD_TILL_TIME: TimeInForce.GOOD_TIL_CANCELLED,
    TimeInForceCode.POST_ONLY: TimeInForce.POST_ONLY,
}
SELF_TRADES = (SelfTrade.CANCEL_RESTING, SelfTrade.CANCEL_INCOMING, SelfTrade.CANCEL_BOTH, SelfTrade.REDUCE_BOTH)
_STOPS = frozenset({OrderType.STOP_LOSS, OrderType.STOP_LOSS_LIMIT})


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOrder:
    """One order as asked for, in base units and prices; `quantity` 0 means "whatever the position is"."""

    spec: MarketSpec
    client_index: int
    side: Side
    quantity: Decimal
    price: Decimal
    type: OrderType
    time_in_force: TimeInForceCode
    reduce_only: bool
    trigger_price: Decimal
    expiry_ms: int

    @property
    def trigger(self) -> Trigger | None:
        """The engine's condition; the bound of a triggered market order is its own price."""
        if self.type not in CONDITIONAL:
            return None
        kind = TriggerKind.STOP if self.type in _STOPS else TriggerKind.TAKE_PROFIT
        return Trigger(price=self.trigger_price, kind=kind, market=False)


def find_market(markets: Markets, index: int) -> MarketSpec:
    """A market by its id.

    Raises:
        Refused: 21602.
    """
    found = markets.by_id.get(index)
    if found is None:
        raise Refused(Code.INVALID_MARKET)
    return found


def read_order(markets: Markets, fields: Mapping[str, int], now_ms: int, *, child: bool = False) -> NewOrder:
    """An order from its signed fields; `child` relaxes amount and expiry as in a group.

    Raises:
        Refused: the first rule it breaks.
    """
    spec = find_market(markets, fields["MarketIndex"])
    try:
        kind, time = OrderType(fields["Type"]), TimeInForceCode(fields["TimeInForce"])
    except ValueError as error:
        code = Code.INVALID_TIME_IN_FORCE if fields["Type"] in set(OrderType) else Code.INVALID_ORDER_TYPE
        raise Refused(code) from error
    if fields["IsAsk"] > 1:
        raise Refused(Code.INVALID_IS_ASK)
    if fields["ReduceOnly"] > 1:
        raise Refused(Code.REDUCE_ONLY_MODE)
    if fields["ClientOrderIndex"] >= BLOCK:
        raise Refused(Code.INVALID_CLIENT_INDEX)
    if not 1 <= fields["Price"] <= MAX_PRICE:
        raise Refused(Code.INVALID_PRICE)
    if kind > OrderType.TWAP:
        raise Refused(Code.INVALID_ORDER_TYPE)
    order = NewOrder(
        spec=spec,
        client_index=fields["ClientOrderIndex"],
        side=Side.SELL if fields["IsAsk"] else Side.BUY,
        quantity=spec.size(fields["BaseAmount"]),
        price=spec.price_of(fields["Price"]),
        type=kind,
        time_in_force=time,
        reduce_only=bool(fields["ReduceOnly"]),
        trigger_price=spec.price_of(fields["TriggerPrice"]),
        expiry_ms=fields["OrderExpiry"],
    )
    _check_shape(order, now_ms)
    _check_amounts(order, child=child)
    return order


def _check_shape(order: NewOrder, now_ms: int) -> None:
    """Time in force, expiry and trigger that go with the type."""
    kind, time = order.type, order.time_in_force
    ioc = time is TimeInForceCode.IMMEDIATE_OR_CANCEL
    if order.spec.spot and (kind in CONDITIONAL or order.reduce_only):
        raise Refused(Code.ORDER_TYPE_FOR_MARKET if kind in CONDITIONAL else Code.REDUCE_ONLY_MODE)
    if kind in (OrderType.MARKET, OrderType.STOP_LOSS, OrderType.TAKE_PROFIT) and not ioc:
        raise Refused(Code.INVALID_TIME_IN_FORCE)
    if kind is OrderType.TWAP and time is not TimeInForceCode.GOOD_TILL_TIME:
        raise Refused(Code.INVALID_TIME_IN_FORCE)
    if (kind in CONDITIONAL) != bool(order.trigger_price):
        raise Refused(Code.INVALID_TRIGGER)
    expires = kind in CONDITIONAL or kind is OrderType.TWAP or not ioc
    if expires != bool(order.expiry_ms):
        raise Refused(Code.INVALID_EXPIRY)
    if expires:
        check_expiry(order.expiry_ms, now_ms)


def check_expiry(expiry_ms: int, now_ms: int) -> None:
    """Between five minutes and thirty days ahead, give or take a minute.

    Raises:
        Refused: 21711.
    """
    if not now_ms + MIN_EXPIRY_MS - EXPIRY_GRACE_MS <= expiry_ms <= now_ms + MAX_EXPIRY_MS + EXPIRY_GRACE_MS:
        raise Refused(Code.INVALID_EXPIRY)


def _check_amounts(order: NewOrder, *, child: bool) -> None:
    if order.quantity == 0:
        if not order.reduce_only and not child:
            raise Refused(Code.INVALID_BASE_AMOUNT)
        return
    if order.quantity * order.price > ORDER_QUOTE_LIMIT:
        raise Refused(Code.INVALID_AMOUNTS)
    if order.reduce_only:
        return
    if order.quantity < order.spec.min_base or order.quantity * order.price < MIN_QUOTE:
        raise Refused(Code.INVALID_AMOUNTS)
