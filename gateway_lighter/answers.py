"""Orders as transactions of the venue, and its verdicts as the port's answers. Pure.

A reader of a finding returns None where it does not tell yet what became of the request.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

from gateway_lighter.account_messages import EventOrder
from gateway_lighter.codec_verdicts import TransactionState, Verdict
from gateway_lighter.normalizer import Market
from gateway_lighter.refusals import RefusalMeaning, classify_order_status, status_word
from gateway_lighter.transactions import (
    TRIGGERED,
    CreateGroupedOrders,
    CreateOrder,
    Grouping,
    ModifyOrder,
    OrderFields,
    OrderKind,
    TimeInForce,
    Transaction,
)
from gateway_lighter.verdicts import Finding
from venuemesh.errors import InvalidOrder, Reason
from venuemesh.gateway import venue as port
from venuemesh.v1 import order_pb2

_GONE: Final = frozenset({Reason.ORDER_NOT_WORKING, Reason.ORDER_NOT_FOUND})
_UNDECIDED: Final = frozenset({"in-progress"})
_KINDS: Final = {
    order_pb2.ORDER_TYPE_LIMIT: OrderKind.LIMIT,
    order_pb2.ORDER_TYPE_MARKET: OrderKind.MARKET,
    order_pb2.ORDER_TYPE_STOP_MARKET: OrderKind.STOP_LOSS,
    order_pb2.ORDER_TYPE_STOP_LIMIT: OrderKind.STOP_LOSS_LIMIT,
    order_pb2.ORDER_TYPE_TAKE_PROFIT_MARKET: OrderKind.TAKE_PROFIT,
    order_pb2.ORDER_TYPE_TAKE_PROFIT_LIMIT: OrderKind.TAKE_PROFIT_LIMIT,
    order_pb2.ORDER_TYPE_TWAP: OrderKind.TWAP,
}
_PRICED: Final = frozenset({OrderKind.LIMIT, OrderKind.STOP_LOSS_LIMIT, OrderKind.TAKE_PROFIT_LIMIT})


def build_create(ticket: port.OrderTicket, market: Market, *, until_ms: int) -> CreateOrder:
    """The transaction that makes an order.

    Args:
        until_ms: when it ends, if it is of a kind that has an end.
    Raises:
        InvalidOrder: a type or time in force the venue does not have, or an amount it cannot take.
    """
    return CreateOrder(**_fields(ticket, market, until_ms, market.scale.scale_size(ticket.quantity)))


def build_bracket(tickets: Sequence[port.OrderTicket], market: Market, *, until_ms: Sequence[int]) -> Transaction:
    """An entry with one exit or two; the exits take its size, and wait until it has filled.

    Raises:
        InvalidOrder: as `build_create`, or orders that are no such group for the venue, such as with several ends.
    """
    entry = OrderFields(**_fields(tickets[0], market, until_ms[0], market.scale.scale_size(tickets[0].quantity)))
    exits = [
        OrderFields(**_fields(ticket, market, end, 0)) for ticket, end in zip(tickets[1:], until_ms[1:], strict=True)
    ]
    pair = len(exits) > 1
    grouping = Grouping.ONE_TRIGGERS_ONE_CANCELS_OTHER if pair else Grouping.ONE_TRIGGERS_OTHER
    return CreateGroupedOrders(grouping_type=grouping, orders=(entry, *exits))


def build_position_exits(
    tickets: Sequence[port.OrderTicket], market: Market, *, until_ms: Sequence[int]
) -> Transaction:
    """A take-profit, a stop-loss, or both, of whatever the position is when they fire: their size is 0.

    Raises:
        InvalidOrder: as `build_bracket`.
    """
    fields = [_fields(ticket, market, end, 0) for ticket, end in zip(tickets, until_ms, strict=True)]
    if len(fields) == 1:
        return CreateOrder(**fields[0])
    orders = tuple(OrderFields(**one) for one in fields)
    return CreateGroupedOrders(grouping_type=Grouping.ONE_CANCELS_OTHER, orders=orders)


def _fields(ticket: port.OrderTicket, market: Market, until_ms: int, base_amount: int) -> dict[str, Any]:
    kind = _KINDS.get(ticket.order_type)
    if kind is None:
        name = order_pb2.OrderType.Name(ticket.order_type)
        raise InvalidOrder(f"order_type: {name} is not offered", reason=Reason.UNSUPPORTED_ORDER_TYPE)
    tif = time_in_force(ticket, kind)
    trigger = ticket.trigger_price
    at_once = tif is TimeInForce.IMMEDIATE_OR_CANCEL and kind not in TRIGGERED
    return {
        "market_index": market.market_id,
        "client_order_index": int(ticket.venue_client_order_id),
        "base_amount": base_amount,
        "price": market.scale.scale_price(ticket.price),
        "is_ask": ticket.side == order_pb2.SIDE_SELL,
        "type": kind,
        "time_in_force": tif,
        "reduce_only": ticket.reduce_only,
        "trigger_price": market.scale.scale_price(trigger, field="trigger.price") if trigger is not None else 0,
        "order_expiry": 0 if at_once else until_ms,
    }


def build_modify(target: port.OrderTarget, ticket: port.OrderTicket, market: Market) -> ModifyOrder:
    """The transaction that changes an order; its size is the order's whole, filled part included."""
    trigger = ticket.trigger_price
    return ModifyOrder(
        market_index=market.market_id,
        index=wire_index(target),
        base_amount=market.scale.scale_size(ticket.quantity),
        price=market.scale.scale_price(ticket.price),
        trigger_price=market.scale.scale_price(trigger, field="trigger.price") if trigger is not None else 0,
    )


def wire_index(target: port.OrderTarget) -> int:
    """What the venue knows an order by: its own index where known, else the client order index."""
    return int(target.venue_order_id) if target.venue_order_id else client_index(target)


def client_index(target: port.OrderTarget) -> int:
    """The client order index; 0, which the venue reads as none, where another client gave none."""
    text = target.venue_client_order_id
    return int(text) if text.isascii() and text.isdigit() else 0


def time_in_force(ticket: port.OrderTicket, kind: OrderKind) -> TimeInForce:
    """The venue's word. A market order that waits for its trigger does so until its end, and then is immediate.

    Raises:
        InvalidOrder: the venue has none for what is asked.
    """
    stays = ticket.time_in_force in (order_pb2.TIME_IN_FORCE_GTC, order_pb2.TIME_IN_FORCE_GTD)
    at_once = ticket.time_in_force == order_pb2.TIME_IN_FORCE_IOC
    if kind in _PRICED and (stays or (at_once and not ticket.post_only)):
        if at_once:
            return TimeInForce.IMMEDIATE_OR_CANCEL
        return TimeInForce.POST_ONLY if ticket.post_only else TimeInForce.GOOD_TILL_TIME
    if not ticket.post_only:
        if kind is OrderKind.TWAP and stays:
            return TimeInForce.GOOD_TILL_TIME
        if (kind in TRIGGERED and stays) or (kind is OrderKind.MARKET and at_once):
            return TimeInForce.IMMEDIATE_OR_CANCEL
    name = order_pb2.TimeInForce.Name(ticket.time_in_force)
    raise InvalidOrder(f"time_in_force: {name} is not offered here", reason=Reason.UNSUPPORTED_TIME_IN_FORCE)


def refused(meaning: RefusalMeaning) -> port.Refused:
    """The venue's no."""
    return port.Refused(reason=meaning.reason, text=meaning.text)


def refusal_in(finding: Finding) -> port.Refused | None:
    """The no a verdict holds; a transaction that failed without a word is refused too."""
    if not isinstance(finding, Verdict) or finding.state is not TransactionState.REFUSED:
        return None
    if finding.refusal is None:
        return port.Refused(reason=Reason.VENUE_REJECTED, text="the venue failed the transaction and names no reason")
    return refused(finding.refusal)


def read_placed(finding: Finding, market: Market, client_index: int = 0) -> port.Placed | port.Refused | None:
    """What became of a new order.

    Args:
        client_index: the order's, where its transaction makes several and tells of one; 0 takes whichever it tells of.
    """
    if (no := refusal_in(finding)) is not None:
        return no
    if isinstance(finding, port.VenueOrder):
        return None if finding.text in _UNDECIDED else placed_as(finding)
    if finding.order is None or client_index not in (0, finding.order.client_order_index):
        return None
    return _placed_by_event(finding.order, market)


def _placed_by_event(order: EventOrder, market: Market) -> port.Placed | None:
    """An order inside a transaction's row; of one that was cancelled it does not say how much had filled."""
    word = status_word(order.status)
    if word == "filled":
        filled = market.scale.unscale_size(order.initial_size)
        return port.Placed(venue_order_id=str(order.order_index), filled_quantity=filled, ended=True)
    if word in ("open", "pending"):
        return port.Placed(venue_order_id=str(order.order_index), filled_quantity=_filled(order, market))
    return None


def _filled(order: EventOrder, market: Market) -> Decimal:
    return market.scale.unscale_size(order.initial_size - order.remaining_size)


def placed_as(view: port.VenueOrder) -> port.Placed | port.Refused | None:
    """The answer to a submit, told by the order's own state."""
    if view.state is port.VenueOrderState.UNRECOGNISED:
        return None
    if view.state is port.VenueOrderState.REJECTED:
        return port.Refused(reason=view.reason or Reason.VENUE_REJECTED, text=view.text)
    return port.Placed(
        venue_order_id=view.venue_order_id,
        filled_quantity=view.filled_quantity,
        ended=view.state is not port.VenueOrderState.WORKING,
        trigger_state=view.trigger_state,
    )


def read_amended(finding: Finding) -> port.Amended | port.Refused | None:
    """What became of an amendment; the id stays."""
    if (no := refusal_in(finding)) is not None:
        return no
    if not isinstance(finding, Verdict) or finding.order is None:
        return None
    word = status_word(finding.order.status)
    if word.startswith("canceled"):  # the new terms were not allowed, and that was the order's end
        return port.Refused(reason=classify_order_status(word).reason or Reason.ORDER_NOT_WORKING, text=word)
    return port.Amended(venue_order_id=str(finding.order.order_index), ended=word == "filled")


def read_canceled(finding: Finding) -> port.CancelAnswer | port.Refused | None:
    """What became of a cancel."""
    if (no := refusal_in(finding)) is not None:
        return port.CancelAnswer.GONE if no.reason in _GONE else no
    return port.CancelAnswer.CANCELED if isinstance(finding, Verdict) else None


def read_done(finding: Finding) -> bool | port.Refused | None:
    """Whether the venue did it: for transactions that make no order."""
    return refusal_in(finding) or (True if isinstance(finding, Verdict) else None)
