"""What a routing decision cost in the end, against what it expected. Pure: made of the route's last state alone."""

from __future__ import annotations

from decimal import Decimal

from router.parents import fees_of
from router.plans import BPS
from router.route_states import is_over
from router.terms import ZERO
from venuemesh.money import EXACT, divide, format_decimal
from venuemesh.v1 import order_pb2, routing_pb2


def outcome_of(route: routing_pb2.Route, quote_asset: str) -> routing_pb2.RoutingOutcome:
    """The route with its measures; those of a route that still works are absent.

    Args:
        quote_asset: fees in other assets are no quote units, so they do not count; empty when not known.
    """
    outcome = routing_pb2.RoutingOutcome(route=route)
    fees = fees_of(route)
    if fees and quote_asset in fees:
        outcome.fees_paid = format_decimal(fees[quote_asset])
    if not is_over(route) or Decimal(route.filled_quantity) <= ZERO:
        return outcome
    if route.plan.HasField("expected_price") and route.HasField("average_price"):
        outcome.price_error_bps = format_decimal(_error_bps(route))
    spent = route.updated_time.ToNanoseconds() - route.created_time.ToNanoseconds()
    outcome.time_to_fill.FromNanoseconds(max(0, spent))
    return outcome


def _error_bps(route: routing_pb2.Route) -> Decimal:
    expected, paid = Decimal(route.plan.expected_price), Decimal(route.average_price)
    worse = EXACT.subtract(paid, expected)
    worse = worse if route.order.side == order_pb2.SIDE_BUY else EXACT.minus(worse)
    return divide(EXACT.multiply(worse, BPS), expected)
