"""Order states and fills as contract messages, and back. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from decimal import Decimal

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from venuemesh.gateway.orders import ZERO, OrderState
from venuemesh.gateway.venue import VenueFill
from venuemesh.money import EXACT, format_decimal
from venuemesh.v1 import order_pb2 as pb

NS_PER_S = 1_000_000_000


def order_id_of(venue: str, account_id: str, client_order_id: str) -> str:
    """The mesh's id of an order: 32 hex digits, a function of its key alone.

    Being derived, it needs no table to survive a crash: whoever has the key can ask the venue for the order.
    """
    name = "\0".join((venue, account_id, client_order_id)).encode()
    return hashlib.blake2b(name, digest_size=16, person=b"venuemesh-order").hexdigest()


def order_list_id_of(venue: str, account_id: str, contingency: int, client_order_ids: Sequence[str]) -> str:
    """The mesh's id of a list of orders: 32 hex digits, a function of its kind and its orders' keys."""
    name = "\0".join((venue, account_id, str(contingency), *client_order_ids)).encode()
    return hashlib.blake2b(name, digest_size=16, person=b"venuemesh-list").hexdigest()


def fingerprint_of(terms: pb.NewOrder) -> bytes:
    """Fingerprint of an order's content, to tell a repeat from a reuse of its key.

    The correlation id is not content: a retry may carry another.
    """
    content = pb.NewOrder()
    content.CopyFrom(terms)
    content.ClearField("correlation_id")
    return hashlib.blake2b(content.SerializeToString(deterministic=True), digest_size=16).digest()


def timestamp(ns: int) -> Timestamp:
    """A proto timestamp of nanoseconds since the Unix epoch."""
    return Timestamp(seconds=ns // NS_PER_S, nanos=ns % NS_PER_S)


def duration(seconds: float) -> Duration:
    """A proto duration, to the nearest nanosecond."""
    whole, nanos = divmod(round(seconds * NS_PER_S), NS_PER_S)
    return Duration(seconds=whole, nanos=nanos)


def nanoseconds(stamp: Timestamp) -> int:
    """Nanoseconds since the Unix epoch of a proto timestamp."""
    return stamp.seconds * NS_PER_S + stamp.nanos


def new_order_state(
    terms: pb.NewOrder,
    *,
    order_id: str,
    venue_symbol: str,
    venue_client_order_id: str,
    now_ns: int,
    order_list_id: str = "",
    trigger_state: pb.TriggerState.ValueType = pb.TRIGGER_STATE_UNSPECIFIED,
    session_id: str = "",
    cancel_on_disconnect: bool = False,
) -> OrderState:
    """The state of an order that has just been taken; its terms are valid.

    Args:
        trigger_state: where it waits for its parent; else its terms tell.
        session_id: the order session that sends it; empty for none.
        cancel_on_disconnect: whether it shall end with that session.
    """
    waits = pb.TRIGGER_STATE_WAITING if terms.HasField("trigger") else pb.TRIGGER_STATE_UNSPECIFIED
    kept = pb.NewOrder()
    kept.CopyFrom(terms)
    return OrderState(
        order_id=order_id,
        terms=kept,
        venue_symbol=venue_symbol,
        venue_client_order_id=venue_client_order_id,
        quantity=Decimal(terms.quantity),
        price=Decimal(terms.price) if terms.HasField("price") else None,
        trigger_price=Decimal(terms.trigger.price) if terms.HasField("trigger") else None,
        created_ns=now_ns,
        updated_ns=now_ns,
        fingerprint=fingerprint_of(terms),
        trigger_state=trigger_state or waits,
        order_list_id=order_list_id,
        session_id=session_id,
        cancel_on_disconnect=cancel_on_disconnect,
    )


def to_order(state: OrderState) -> pb.Order:
    """The contract message of an order state."""
    order = pb.Order(
        order_id=state.order_id,
        terms=state.terms,
        venue_symbol=state.venue_symbol,
        status=state.status,
        working=state.working,
        terminal=state.terminal,
        uncertain=state.uncertain,
        pending_cancel=state.pending_cancel,
        pending_replace=state.pending_replace,
        filled_quantity=format_decimal(state.filled),
        leaves_quantity=format_decimal(state.leaves),
        fees=[pb.FeeTotal(asset=asset, amount=format_decimal(state.fees[asset])) for asset in sorted(state.fees)],
        venue_order_ids=state.venue_order_ids,
        venue_client_order_id=state.venue_client_order_id,
        venue_status_text=state.venue_status_text,
        reject=state.reject,
        trigger_state=state.trigger_state,
        order_version=state.version,
        created_time=timestamp(state.created_ns),
        updated_time=timestamp(state.updated_ns),
        order_list_id=state.order_list_id,
        content_fingerprint=state.fingerprint,
        session_id=state.session_id,
        cancel_on_disconnect=state.cancel_on_disconnect,
    )
    _put_terms_in_force(order.terms, state)
    if (average := state.average_price) is not None:
        order.average_price = format_decimal(average)
    if state.venue_time_ns:
        order.venue_time.CopyFrom(timestamp(state.venue_time_ns))
    if state.uncertain_since_ns:
        order.uncertain_since.CopyFrom(timestamp(state.uncertain_since_ns))
    return order


def _put_terms_in_force(terms: pb.NewOrder, state: OrderState) -> None:
    terms.quantity = format_decimal(state.quantity)
    if state.price is not None:
        terms.price = format_decimal(state.price)
    if state.trigger_price is not None:
        terms.trigger.price = format_decimal(state.trigger_price)


def from_order(order: pb.Order, fills: list[pb.Fill]) -> OrderState:
    """An order state out of its last stored message and its fills, oldest first.

    Where fills are not at hand the notional comes from the average price, which is all that is shown of it.
    """
    terms = pb.NewOrder()
    terms.CopyFrom(order.terms)
    filled, notional, by_life = ZERO, ZERO, dict[str, Decimal]()
    for fill in fills:
        quantity = Decimal(fill.quantity)
        filled = EXACT.add(filled, quantity)
        notional = EXACT.add(notional, EXACT.multiply(quantity, Decimal(fill.price)))
        by_life[fill.venue_order_id] = EXACT.add(by_life.get(fill.venue_order_id, ZERO), quantity)
    if filled != Decimal(order.filled_quantity):
        notional = EXACT.multiply(Decimal(order.filled_quantity), Decimal(order.average_price))
    return OrderState(
        order_id=order.order_id,
        terms=terms,
        venue_symbol=order.venue_symbol,
        venue_client_order_id=order.venue_client_order_id,
        quantity=Decimal(terms.quantity),
        price=Decimal(terms.price) if terms.HasField("price") else None,
        trigger_price=Decimal(terms.trigger.price) if terms.HasField("trigger") else None,
        created_ns=nanoseconds(order.created_time),
        updated_ns=nanoseconds(order.updated_time),
        status=order.status,
        filled=Decimal(order.filled_quantity),
        notional=notional,
        fees={fee.asset: Decimal(fee.amount) for fee in order.fees},
        execution_ids=frozenset(fill.execution_id for fill in fills),
        venue_order_ids=tuple(order.venue_order_ids),
        filled_by_life=by_life,
        pending_cancel=order.pending_cancel,
        pending_replace=order.pending_replace,
        reject=order.reject if order.HasField("reject") else None,
        trigger_state=order.trigger_state,
        venue_status_text=order.venue_status_text,
        version=order.order_version,
        venue_time_ns=nanoseconds(order.venue_time) if order.HasField("venue_time") else 0,
        uncertain_since_ns=nanoseconds(order.uncertain_since) if order.HasField("uncertain_since") else 0,
        order_list_id=order.order_list_id,
        fingerprint=order.content_fingerprint,
        session_id=order.session_id,
        cancel_on_disconnect=order.cancel_on_disconnect,
    )


def to_fill(fill: VenueFill, *, venue: str, account_id: str, order: OrderState | None, received_ns: int) -> pb.Fill:
    """The contract message of a fill; `order` is None when the mesh did not place it."""
    message = pb.Fill(
        execution_id=fill.execution_id,
        account_id=account_id,
        venue=venue,
        symbol=fill.symbol,
        order_id=order.order_id if order else "",
        client_order_id=order.terms.client_order_id if order else "",
        venue_order_id=fill.venue_order_id,
        trade_id=fill.trade_id,
        side=fill.side,
        quantity=format_decimal(fill.quantity),
        price=format_decimal(fill.price),
        fee=format_decimal(fill.fee),
        fee_asset=fill.fee_asset,
        liquidity_role=fill.liquidity_role,
        venue_time=timestamp(fill.venue_time_ns),
        received_time=timestamp(received_ns),
        forced=fill.forced,
    )
    if fill.venue_realized_pnl is not None:
        message.venue_realized_pnl = format_decimal(fill.venue_realized_pnl)
    return message
