"""A new total quantity of a split order, divided among the children that still work. Pure, exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

from router.split import Share, divide_by_depth
from router.terms import ZERO
from venuemesh.errors import InvalidOrder, Reason
from venuemesh.money import EXACT, Rounding, format_decimal, parse_decimal, round_to_step, total
from venuemesh.v1 import instrument_pb2, order_pb2


def divide_amendment(
    quantity: str,
    children: Sequence[order_pb2.Order],
    working: Sequence[order_pb2.Order],
    rules: Mapping[str, instrument_pb2.QuantityRule],
) -> dict[str, str]:
    """New total quantity of each working child by its key; with what the others filled they sum to `quantity`.

    What is to stay open is divided in proportion to what is open now, by whole steps of each venue.

    Args:
        rules: quantity rule by venue.
    Raises:
        InvalidOrder: not above what is filled, or no sum of steps gives it.
    """
    wanted = parse_decimal(quantity, field="quantity")
    done = total(Decimal(child.filled_quantity) for child in children)
    leaving = EXACT.subtract(wanted, done)
    if leaving <= ZERO:
        raise _refused(Reason.BELOW_MIN_QUANTITY, f"{quantity} is not above {format_decimal(done)}, which is filled")
    shares = [_share(child, rules[child.terms.venue], leaving) for child in working]
    opens = {child.terms.client_order_id: Decimal(child.leaves_quantity) for child in working}
    division = divide_by_depth(leaving, shares, opens)
    if division is None or len(division.quantities) < len(working):
        steps = ", ".join(f"{rules[child.terms.venue].step_size} at {child.terms.venue}" for child in working)
        raise _refused(
            Reason.QUANTITY_OFF_LOT, f"{quantity} cannot be divided among the children, whose steps are {steps}"
        )
    return {
        child.terms.client_order_id: format_decimal(
            EXACT.add(Decimal(child.filled_quantity), division.quantities[child.terms.client_order_id])
        )
        for child in working
    }


def _share(child: order_pb2.Order, rule: instrument_pb2.QuantityRule, most: Decimal) -> Share:
    step = Decimal(rule.step_size)
    least = max(step, Decimal(rule.min_quantity)) if rule.HasField("min_quantity") else step
    return Share(
        venue=child.terms.client_order_id,
        curve=(),
        step=step,
        least=round_to_step(least, step=step, rounding=Rounding.CEILING),
        most=round_to_step(most, step=step, rounding=Rounding.FLOOR),
    )


def _refused(reason: Reason, rule: str) -> InvalidOrder:
    return InvalidOrder(f"quantity: {rule}", reason=reason, field="quantity")
