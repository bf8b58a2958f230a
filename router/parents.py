"""A routed order and its children: their keys, their terms, and the one state that follows from theirs. Pure.

An order that is not split has one child under its own key, and that child's state is the order's, unchanged. The
children of a split have keys derived from the parent's, so that nobody needs a table to find or to cancel them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from decimal import Decimal

from router.plans import instant
from router.terms import ZERO
from venuemesh.gateway.order_wire import order_id_of
from venuemesh.money import EXACT, divide, format_decimal, total
from venuemesh.v1 import order_pb2, order_service_pb2, routing_pb2

CHILD_PREFIX = "vm-"
MAX_REVISIONS = 2
"""How often legs that were certainly never sent may go elsewhere."""

_ENDED = frozenset(
    {
        order_pb2.ORDER_STATUS_FILLED,
        order_pb2.ORDER_STATUS_CANCELED,
        order_pb2.ORDER_STATUS_REJECTED,
        order_pb2.ORDER_STATUS_EXPIRED,
    }
)
_KNOWN = frozenset(order_pb2.OrderStatus.values()) - {order_pb2.ORDER_STATUS_UNSPECIFIED}
_WORST_SUBMIT = (
    order_service_pb2.SUBMIT_OUTCOME_UNKNOWN,
    order_service_pb2.SUBMIT_OUTCOME_PENDING,
    order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED,
    order_service_pb2.SUBMIT_OUTCOME_REJECTED,
)
_WORST_CANCEL = (
    order_service_pb2.CANCEL_OUTCOME_UNKNOWN,
    order_service_pb2.CANCEL_OUTCOME_REJECTED,
    order_service_pb2.CANCEL_OUTCOME_CANCELED,
    order_service_pb2.CANCEL_OUTCOME_ALREADY_TERMINAL,
)


def child_key(account_id: str, client_order_id: str, venue: str, revision: int = 0) -> str:
    """Key of the child that a revision of the plan sends to a venue: 35 characters, the same in every process."""
    name = "\0".join((account_id, client_order_id, venue, str(revision))).encode()
    digest = hashlib.blake2b(name, digest_size=16, person=b"venuemesh-child").hexdigest()
    return CHILD_PREFIX + digest


def is_split(route: routing_pb2.Route) -> bool:
    """Whether the order has children under keys of their own."""
    legs = route.plan.legs
    return len(legs) != 1 or legs[0].client_order_id != route.order.client_order_id


def child_order(route: routing_pb2.Route, leg: routing_pb2.RouteLeg) -> order_pb2.NewOrder:
    """What a leg sends: the stored terms with the leg's venue, quantity and key."""
    child = order_pb2.NewOrder()
    child.CopyFrom(route.order)
    child.venue = leg.venue
    child.quantity = leg.quantity
    child.client_order_id = leg.client_order_id
    if leg.client_order_id != route.order.client_order_id:
        child.parent_order_id = route.route_id
    return child


def unsent_order(route: routing_pb2.Route, leg: routing_pb2.RouteLeg) -> order_pb2.Order:
    """A child that is planned and that no gateway has: it is not live, and a repeat of the parent's key sends it."""
    child = child_order(route, leg)
    return order_pb2.Order(
        order_id=order_id_of(child.venue, child.account_id, child.client_order_id),
        terms=child,
        status=order_pb2.ORDER_STATUS_PENDING_NEW,
        filled_quantity="0",
        leaves_quantity=child.quantity,
        created_time=route.created_time,
        updated_time=route.created_time,
    )


def refused_order(
    route: routing_pb2.Route, leg: routing_pb2.RouteLeg, reject: order_pb2.Reject, now_ns: int
) -> order_pb2.Order:
    """A child that was never sent and never can be."""
    order = unsent_order(route, leg)
    order.status = order_pb2.ORDER_STATUS_REJECTED
    order.terminal = True
    order.leaves_quantity = "0"
    order.reject.CopyFrom(reject)
    order.updated_time.CopyFrom(instant(now_ns))
    return order


def with_children(route: routing_pb2.Route, children: Sequence[order_pb2.Order], now_ns: int) -> routing_pb2.Route:
    """The route with its children as known now and the state that follows from them.

    Args:
        children: one per leg, in the order of the legs.
    """
    whole = routing_pb2.Route()
    whole.CopyFrom(route)
    del whole.children[:]
    whole.children.extend(children)
    if not is_split(route):
        _copy_state(whole, children[0], now_ns)
        return whole
    filled = total(Decimal(child.filled_quantity or "0") for child in children)
    whole.status = status_of(children)
    whole.filled_quantity = format_decimal(filled)
    whole.leaves_quantity = format_decimal(total(Decimal(child.leaves_quantity or "0") for child in children))
    if (average := _average(children, filled)) is not None:
        whole.average_price = format_decimal(average)
    latest = max((child.updated_time.ToNanoseconds() for child in children), default=0)
    whole.updated_time.CopyFrom(instant(latest or now_ns))
    return whole


def _copy_state(whole: routing_pb2.Route, child: order_pb2.Order, now_ns: int) -> None:
    whole.status = child.status
    whole.filled_quantity = child.filled_quantity
    whole.leaves_quantity = child.leaves_quantity
    if child.HasField("average_price"):
        whole.average_price = child.average_price
    whole.updated_time.CopyFrom(child.updated_time if child.HasField("updated_time") else instant(now_ns))


def status_of(children: Sequence[order_pb2.Order]) -> order_pb2.OrderStatus.ValueType:
    """One status over all children; doubt about one is doubt about the whole."""
    statuses = [child.status for child in children]
    if any(one == order_pb2.ORDER_STATUS_UNCERTAIN or one not in _KNOWN for one in statuses):
        return order_pb2.ORDER_STATUS_UNCERTAIN
    filled = any(Decimal(child.filled_quantity or "0") > ZERO for child in children)
    if all(one in _ENDED for one in statuses):
        return _ending(set(statuses), filled=filled)
    if filled:
        return order_pb2.ORDER_STATUS_PARTIALLY_FILLED
    waiting = all(one in _ENDED or one == order_pb2.ORDER_STATUS_PENDING_NEW for one in statuses)
    return order_pb2.ORDER_STATUS_PENDING_NEW if waiting else order_pb2.ORDER_STATUS_NEW


def _ending(statuses: set[order_pb2.OrderStatus.ValueType], *, filled: bool) -> order_pb2.OrderStatus.ValueType:
    if statuses == {order_pb2.ORDER_STATUS_FILLED}:
        return order_pb2.ORDER_STATUS_FILLED
    if statuses == {order_pb2.ORDER_STATUS_REJECTED}:
        return order_pb2.ORDER_STATUS_REJECTED
    if order_pb2.ORDER_STATUS_CANCELED in statuses or order_pb2.ORDER_STATUS_EXPIRED not in statuses:
        # A part that was refused beside one that filled leaves the rest of the order undone, as a cancel does.
        return order_pb2.ORDER_STATUS_CANCELED
    return order_pb2.ORDER_STATUS_EXPIRED


def _average(children: Sequence[order_pb2.Order], filled: Decimal) -> Decimal | None:
    if filled <= ZERO:
        return None
    notional = total(
        EXACT.multiply(Decimal(child.filled_quantity), Decimal(child.average_price))
        for child in children
        if child.HasField("average_price")
    )
    return divide(notional, filled)


def parent_order(route: routing_pb2.Route) -> order_pb2.Order:
    """A split order as one order: its id is the route's, its state that of `with_children`."""
    order = order_pb2.Order(
        order_id=route.route_id,
        terms=route.order,
        status=route.status,
        working=any(child.working for child in route.children),
        terminal=route.status in _ENDED,
        uncertain=route.status == order_pb2.ORDER_STATUS_UNCERTAIN,
        pending_cancel=any(child.pending_cancel for child in route.children),
        pending_replace=any(child.pending_replace for child in route.children),
        filled_quantity=route.filled_quantity,
        leaves_quantity=route.leaves_quantity,
        fees=[order_pb2.FeeTotal(asset=asset, amount=format_decimal(paid)) for asset, paid in fees_of(route).items()],
        order_version=sum(child.order_version for child in route.children),
        created_time=route.created_time,
        updated_time=route.updated_time,
        cancel_on_disconnect=_ends_with_its_sessions(route.children),
    )
    order.terms.quantity = format_decimal(total(Decimal(child.terms.quantity) for child in route.children))
    prices = {child.terms.price for child in route.children if child.terms.HasField("price")}
    if len(prices) == 1:
        order.terms.price = prices.pop()
    if route.HasField("average_price"):
        order.average_price = route.average_price
    refused = next((child for child in route.children if child.HasField("reject")), None)
    if refused is not None:
        order.reject.CopyFrom(refused.reject)
        order.reject.message = f"{refused.terms.venue}: {refused.reject.message}"
    return order


def _ends_with_its_sessions(children: Sequence[order_pb2.Order]) -> bool:
    """Whether nothing of the order is left once the sessions that sent its children are gone."""
    return any(child.cancel_on_disconnect for child in children) and all(
        child.cancel_on_disconnect or child.terminal for child in children
    )


def fees_of(route: routing_pb2.Route) -> Mapping[str, Decimal]:
    """Fees paid by all children, by asset."""
    paid: dict[str, Decimal] = {}
    for child in route.children:
        for fee in child.fees:
            paid[fee.asset] = EXACT.add(paid.get(fee.asset, ZERO), Decimal(fee.amount))
    return dict(sorted(paid.items()))


def worst_submit(
    outcomes: Sequence[order_service_pb2.SubmitOutcome.ValueType],
) -> order_service_pb2.SubmitOutcome.ValueType:
    """UNKNOWN, then PENDING, then ACKNOWLEDGED; REJECTED when all are. One this release does not know is in doubt."""
    known = next((one for one in _WORST_SUBMIT if one in outcomes), order_service_pb2.SUBMIT_OUTCOME_UNKNOWN)
    return known if set(outcomes) <= set(_WORST_SUBMIT) else order_service_pb2.SUBMIT_OUTCOME_UNKNOWN


def worst_cancel(
    outcomes: Sequence[order_service_pb2.CancelOutcome.ValueType],
) -> order_service_pb2.CancelOutcome.ValueType:
    """UNKNOWN, then REJECTED, then CANCELED; ALREADY_TERMINAL when all are."""
    known = next((one for one in _WORST_CANCEL if one in outcomes), order_service_pb2.CANCEL_OUTCOME_UNKNOWN)
    return known if set(outcomes) <= set(_WORST_CANCEL) else order_service_pb2.CANCEL_OUTCOME_UNKNOWN
