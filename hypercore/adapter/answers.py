"""Orders as actions of the venue, and the venue's answers as the port's. Pure.

An answer in the venue's error shape (`{"error": ...}` or `status: err`) is its refusal whatever the sentence, except
where the sentence itself leaves doubt; anything unreadable leaves doubt too, and doubt is `OutcomeUnknown`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Final, TypeVar

from hypercore.action_types import OrderType, OrderWire, Tif, Tpsl
from hypercore.actions import build_order, limit, trigger
from hypercore.adapter import twaps
from hypercore.exchange_codec import (
    Accepted,
    ExchangeAnswer,
    Filled,
    Refused,
    Resting,
    Running,
    Status,
    Succeeded,
    Waiting,
    statuses_for,
)
from hypercore.refusals import RefusalMeaning
from venuemesh.errors import InvalidOrder, OutcomeUnknown, ProtocolViolation, Reason
from venuemesh.gateway import venue as port
from venuemesh.v1 import order_pb2

log = logging.getLogger(__name__)

T = TypeVar("T")

_TRIGGERS: Final = {
    order_pb2.ORDER_TYPE_STOP_MARKET: (True, Tpsl.SL),
    order_pb2.ORDER_TYPE_STOP_LIMIT: (False, Tpsl.SL),
    order_pb2.ORDER_TYPE_TAKE_PROFIT_MARKET: (True, Tpsl.TP),
    order_pb2.ORDER_TYPE_TAKE_PROFIT_LIMIT: (False, Tpsl.TP),
}
"""Whether it becomes a market order when it fires, and on which side of the price it waits."""

_WAITING: Final = {
    "waitingForFill": order_pb2.TRIGGER_STATE_WAITING_FOR_PARENT,
    "waitingForTrigger": order_pb2.TRIGGER_STATE_WAITING,
}


def build_order_wire(ticket: port.OrderTicket, asset_id: int) -> OrderWire:
    """The order object of an action.

    Raises:
        InvalidOrder: a type or time in force the venue does not have, or a decimal it cannot take.
    """
    return build_order(
        asset_id=asset_id,
        is_buy=ticket.side == order_pb2.SIDE_BUY,
        price=ticket.price,
        size=ticket.quantity,
        order_type=_order_type(ticket),
        reduce_only=ticket.reduce_only,
        cloid=ticket.venue_client_order_id,
    )


def _order_type(ticket: port.OrderTicket) -> OrderType:
    found = _TRIGGERS.get(ticket.order_type)
    if found is None:
        return limit(time_in_force(ticket))
    if ticket.trigger_price is None:
        raise InvalidOrder("trigger.price: is required", reason=Reason.REQUIRED_FIELD_MISSING, field="trigger.price")
    if ticket.time_in_force != order_pb2.TIME_IN_FORCE_GTC or ticket.post_only:
        # The wire has no place for it: once triggered a limit rests, a market order is immediate.
        name = order_pb2.TimeInForce.Name(ticket.time_in_force)
        raise InvalidOrder(f"time_in_force: {name} is not offered here", reason=Reason.UNSUPPORTED_TIME_IN_FORCE)
    is_market, tpsl = found
    return trigger(is_market=is_market, trigger_price=ticket.trigger_price, tpsl=tpsl)


def time_in_force(ticket: port.OrderTicket) -> Tif:
    """The venue's word; a market order is immediate-or-cancel at its worst price. Raises InvalidOrder."""
    if ticket.order_type not in (order_pb2.ORDER_TYPE_MARKET, order_pb2.ORDER_TYPE_LIMIT):
        name = order_pb2.OrderType.Name(ticket.order_type)
        raise InvalidOrder(f"order_type: {name} is not offered", reason=Reason.UNSUPPORTED_ORDER_TYPE)
    if ticket.time_in_force == order_pb2.TIME_IN_FORCE_IOC and not ticket.post_only:
        return Tif.IOC
    if ticket.time_in_force == order_pb2.TIME_IN_FORCE_GTC and ticket.order_type == order_pb2.ORDER_TYPE_LIMIT:
        return Tif.ALO if ticket.post_only else Tif.GTC
    name = order_pb2.TimeInForce.Name(ticket.time_in_force)
    raise InvalidOrder(f"time_in_force: {name} is not offered here", reason=Reason.UNSUPPORTED_TIME_IN_FORCE)


def read_placed(answer: ExchangeAnswer, ticket: port.OrderTicket) -> port.Placed | port.Refused:
    """What the venue said to a single order.

    Raises:
        OutcomeUnknown: it cannot be told from the answer.
    """
    return _placed(_only_status(answer), ticket)


def read_all_placed(
    answer: ExchangeAnswer, tickets: Sequence[port.OrderTicket]
) -> list[port.Placed | port.Refused | port.Unclear]:
    """What the venue said to each order of an action.

    Where one order fails before matching, the venue may refuse the whole action with its one sentence: each of them is
    then refused with it.

    Raises:
        OutcomeUnknown: nothing can be told of any of them.
    """
    if isinstance(answer, Refused):
        return [_refusal_of(answer)] * len(tickets)
    statuses = _statuses(answer, len(tickets))
    return [
        _or_unclear(lambda status=status, ticket=ticket: _placed(status, ticket))  # type: ignore[misc]
        for status, ticket in zip(statuses, tickets, strict=True)
    ]


def _or_unclear(read: Callable[[], T]) -> T | port.Unclear:
    try:
        return read()
    except OutcomeUnknown as error:
        return port.Unclear(cause=error.message)


def _placed(status: Status, ticket: port.OrderTicket) -> port.Placed | port.Refused:
    if isinstance(status, Resting):
        # A partly filled order may answer this too, so that nothing is said about fills.
        return port.Placed(venue_order_id=str(status.oid))
    if isinstance(status, Filled):
        return port.Placed(
            venue_order_id=str(status.oid),
            filled_quantity=status.total_sz,
            ended=_has_ended(ticket, status.total_sz),
        )
    if isinstance(status, Waiting):
        return port.Placed(venue_order_id="", trigger_state=_WAITING[status.what])
    return _refusal_of(status)


def read_twap_started(answer: ExchangeAnswer) -> port.Placed | port.Refused:
    """What the venue said to a new TWAP.

    Raises:
        OutcomeUnknown: it cannot be told from the answer.
    """
    status = _only_status(answer)
    if isinstance(status, Running):
        return port.Placed(venue_order_id=twaps.order_id(status.twap_id))
    return _refusal_of(status)


def read_amended(answer: ExchangeAnswer, ticket: port.OrderTicket) -> port.Amended | port.Refused:
    """What the venue said to an amendment; the id is new, and fills counted are the new order's.

    Raises:
        OutcomeUnknown: it cannot be told from the answer.
    """
    status = _only_status(answer)
    if isinstance(status, Resting):
        return port.Amended(venue_order_id=str(status.oid))
    if isinstance(status, Filled):
        ended = _has_ended(ticket, status.total_sz)
        return port.Amended(venue_order_id=str(status.oid), filled_quantity=status.total_sz, ended=ended)
    return _refusal_of(status)


def read_canceled(answer: ExchangeAnswer) -> port.CancelAnswer | port.Refused:
    """What the venue said to a cancel of one order.

    Raises:
        OutcomeUnknown: it cannot be told from the answer.
    """
    return _canceled(_only_status(answer))


def read_all_canceled(answer: ExchangeAnswer, count: int) -> list[port.CancelAnswer | port.Refused | port.Unclear]:
    """What the venue said to each cancel of an action.

    Raises:
        OutcomeUnknown: nothing can be told of any of them.
    """
    if isinstance(answer, Refused):
        return [_refusal_of(answer)] * count
    return [_or_unclear(lambda status=status: _canceled(status)) for status in _statuses(answer, count)]  # type: ignore[misc]


def _canceled(status: Status) -> port.CancelAnswer | port.Refused:
    if isinstance(status, Succeeded):
        return port.CancelAnswer.CANCELED
    refusal = _refusal_of(status)
    return port.CancelAnswer.GONE if refusal.reason is Reason.ORDER_NOT_WORKING else refusal


def read_done(answer: ExchangeAnswer) -> port.Refused | None:
    """What the venue said to an action without elements; None when it did it.

    Raises:
        OutcomeUnknown: it cannot be told from the answer.
    """
    return None if isinstance(answer, Accepted) else _refusal_of(answer)


def _has_ended(ticket: port.OrderTicket, filled: Decimal) -> bool:
    immediate = ticket.order_type not in _TRIGGERS and time_in_force(ticket) is Tif.IOC
    return immediate or filled >= ticket.quantity


def _only_status(answer: ExchangeAnswer) -> Status:
    return answer if isinstance(answer, Refused) else _statuses(answer, 1)[0]


def _statuses(answer: Accepted, count: int) -> Sequence[Status]:
    try:
        return statuses_for(answer, count)
    except ProtocolViolation as cause:
        raise OutcomeUnknown(f"the answer cannot be read: {cause.message}", metadata=cause.metadata) from cause


def _refusal_of(status: Status) -> port.Refused:
    if not isinstance(status, Refused):
        raise OutcomeUnknown(
            "the answer has a form this gateway does not know", metadata={"payload": repr(status)[:2_000]}
        )
    meaning = status.meaning
    if not meaning.recognized:
        log.warning("refusal_unrecognised", extra={"text": meaning.text})
    elif not meaning.definitive:
        raise OutcomeUnknown(meaning.text, metadata=_metadata(meaning))
    return port.Refused(reason=meaning.reason, text=meaning.text)


def _metadata(meaning: RefusalMeaning) -> dict[str, str]:
    return {"venue_text": meaning.text[:2_000], **meaning.details}
