"""What an order without a venue must say before a venue is looked for, as typed values. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from venuemesh.errors import InvalidOrder, Reason
from venuemesh.gateway.rules import CheckedOrder, check_fields, time_in_force_of
from venuemesh.v1 import order_pb2

ZERO = Decimal(0)
_ROUTED_TYPES = frozenset({order_pb2.ORDER_TYPE_MARKET, order_pb2.ORDER_TYPE_LIMIT})
_RESTING = frozenset({order_pb2.TIME_IN_FORCE_GTC, order_pb2.TIME_IN_FORCE_GTD})
_UNKEYED = "plan"


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderTerms:
    """The part of an order that decides where it may go.

    `price` is None for market orders; `time_in_force` is IOC for a market order that names none. Enums are the
    contract's numbers.
    """

    account_id: str
    symbol: str
    is_buy: bool
    order_type: int
    quantity: Decimal
    price: Decimal | None
    time_in_force: int
    instructions: frozenset[int]
    max_slippage_bps: int | None

    @property
    def numbers(self) -> CheckedOrder:
        """What an instrument's rules look at."""
        return CheckedOrder(quantity=self.quantity, price=self.price, trigger_price=None)

    @property
    def may_rest(self) -> bool:
        """Whether what does not fill at once stays in the book."""
        return self.order_type == order_pb2.ORDER_TYPE_LIMIT and self.time_in_force in _RESTING

    @property
    def post_only(self) -> bool:
        """Whether it must not take liquidity."""
        return order_pb2.EXECUTION_INSTRUCTION_POST_ONLY in self.instructions

    @property
    def fill_or_kill(self) -> bool:
        """Whether it fills at once and whole or not at all; no two venues can promise that together."""
        return self.time_in_force == order_pb2.TIME_IN_FORCE_FOK

    @property
    def all_or_nothing(self) -> bool:
        """Whether a part of the quantity is of no use."""
        return self.order_type == order_pb2.ORDER_TYPE_MARKET or self.time_in_force == order_pb2.TIME_IN_FORCE_FOK


def parse_terms(order: order_pb2.NewOrder) -> OrderTerms:
    """Read and check an order that names no venue, by the rules of the gateways.

    The gateway checks everything again. What no venue could take is refused here, because a route binds the key to a
    venue for ever. `client_order_id` may be empty, as in a plan.

    Raises:
        InvalidRequest: a field is missing, unreadable or contradicts another; names it.
        InvalidOrder: a kind of order that belongs to a venue: triggers, TWAP, reduce-only.
    """
    if order.time_in_force not in order_pb2.TimeInForce.values():
        rule = f"{order.time_in_force} is not known here"
        raise _refused(Reason.UNSUPPORTED_TIME_IN_FORCE, "order.time_in_force", rule)
    checked = check_fields(_judged(order))
    time_in_force = time_in_force_of(order)
    if order.order_type not in _ROUTED_TYPES:
        word = order_pb2.OrderType.Name(order.order_type)
        raise _refused(Reason.UNSUPPORTED_ORDER_TYPE, "order.order_type", f"{word} is not routed; name the venue")
    if order.HasField("twap"):
        raise _refused(Reason.CONTRADICTORY_FIELDS, "order.twap", "must be absent for this order type")
    if order_pb2.EXECUTION_INSTRUCTION_REDUCE_ONLY in order.instructions:
        rule = "REDUCE_ONLY is about a position at one venue; name the venue"
        raise _refused(Reason.UNSUPPORTED_INSTRUCTION, "order.instructions", rule)
    terms = OrderTerms(
        account_id=order.account_id,
        symbol=order.symbol,
        is_buy=order.side == order_pb2.SIDE_BUY,
        order_type=order.order_type,
        quantity=checked.quantity,
        price=checked.price,
        time_in_force=time_in_force,
        instructions=frozenset(order.instructions),
        max_slippage_bps=order.max_slippage_bps if order.HasField("max_slippage_bps") else None,
    )
    if terms.post_only and time_in_force != order_pb2.TIME_IN_FORCE_GTC:
        raise _refused(Reason.CONTRADICTORY_FIELDS, "order.instructions", "POST_ONLY needs GTC: it must rest")
    return terms


def _judged(order: order_pb2.NewOrder) -> order_pb2.NewOrder:
    """What is checked here. Self-trade prevention is passed on unread: a gateway may offer what this release lacks."""
    judged = order_pb2.NewOrder()
    judged.CopyFrom(order)
    judged.client_order_id = order.client_order_id or _UNKEYED
    judged.ClearField("self_trade_prevention")
    return judged


def _refused(reason: Reason, field: str, rule: str) -> InvalidOrder:
    return InvalidOrder(f"{field}: {rule}", reason=reason, field=field)
