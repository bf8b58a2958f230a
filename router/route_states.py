"""Which of two readings of a route is the later one, and what both together tell. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from router.parents import unsent_order, with_children
from venuemesh.v1 import order_pb2, routing_pb2

_ENDED = frozenset(
    {
        order_pb2.ORDER_STATUS_FILLED,
        order_pb2.ORDER_STATUS_CANCELED,
        order_pb2.ORDER_STATUS_REJECTED,
        order_pb2.ORDER_STATUS_EXPIRED,
    }
)
ChildKey = tuple[str, str]


def is_over(route: routing_pb2.Route) -> bool:
    """Whether no child can change any more."""
    return bool(route.children) and all(child.terminal for child in route.children) and route.status in _ENDED


def key_of(child: order_pb2.Order | routing_pb2.RouteLeg) -> ChildKey:
    """Venue and client order id."""
    if isinstance(child, routing_pb2.RouteLeg):
        return child.venue, child.client_order_id
    return child.terms.venue, child.terms.client_order_id


def _rank(child: order_pb2.Order) -> tuple[int, int, int]:
    """A gateway numbers an order's states; what the router made of no answer has number 0 and gives way."""
    planned = child.status == order_pb2.ORDER_STATUS_PENDING_NEW
    return child.order_version, int(child.terminal), int(not planned)


def merged(known: routing_pb2.Route, heard: routing_pb2.Route, now_ns: int) -> routing_pb2.Route:
    """The later plan of both with the latest state of each child."""
    base = heard if heard.revision > known.revision else known
    latest: dict[ChildKey, order_pb2.Order] = {}
    for child in (*known.children, *heard.children):
        kept = latest.get(key_of(child))
        if kept is None or _rank(child) > _rank(kept):
            latest[key_of(child)] = child
    return with_children(base, _in_order(base, latest), now_ns)


def with_child(route: routing_pb2.Route, child: order_pb2.Order, now_ns: int) -> routing_pb2.Route:
    """The route after a report about one of its children."""
    told = routing_pb2.Route(revision=route.revision, children=[child])
    return merged(route, told, now_ns)


def _in_order(route: routing_pb2.Route, latest: dict[ChildKey, order_pb2.Order]) -> Sequence[order_pb2.Order]:
    return [latest.get(key_of(leg)) or unsent_order(route, leg) for leg in route.plan.legs]


def same_state(one: routing_pb2.Route, other: routing_pb2.Route) -> bool:
    """Whether both say the same of plan and children; what follows from them is then the same too."""
    if one.revision != other.revision or len(one.children) != len(other.children):
        return False
    return all(
        _rank(mine) == _rank(theirs) and mine.status == theirs.status
        for mine, theirs in zip(one.children, other.children, strict=True)
    )
