"""What a quantity costs at one venue: its book walked, with fees and expected funding. Pure, exact.

A cost curve is a list of segments of constant cost per base unit, dearest last. Cost is signed so that less is better
on both sides: what a buy pays, or minus what a sale brings, plus fees, plus funding expected over the horizon. Only
the funding rate over the horizon is rounded, to 18 digits; everything after it is exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise

from router.terms import ZERO, OrderTerms
from router.views import FeeRates, Funding, Level
from venuemesh.money import EXACT, divide, total

ONE = Decimal(1)
_BP = Decimal("0.0001")


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """What taking from one side of a book gives: base units and quote units, exact."""

    taken: Decimal
    notional: Decimal
    available: Decimal
    """All that is offered within the order's worst price."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Base units at one signed cost per unit."""

    quantity: Decimal
    unit_cost: Decimal


Curve = tuple[Segment, ...]
"""Segments, cheapest first: the cost of a quantity is convex."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Charges:
    """What is added to a price, as fractions of notional. All zero to compare prices alone."""

    fees: FeeRates
    funding_rate: Decimal
    """Paid by a buyer over the whole horizon; received by a seller."""


FREE = Charges(fees=FeeRates(maker=ZERO, taker=ZERO), funding_rate=ZERO)


def funding_over(funding: Funding | None, horizon_s: int) -> Decimal:
    """The rate expected over the horizon: the running one, pro rata; zero when nothing is known."""
    if funding is None or funding.interval_s <= 0 or horizon_s <= 0:
        return ZERO
    return divide(EXACT.multiply(funding.rate, Decimal(horizon_s)), Decimal(funding.interval_s))


def within_limit(levels: Sequence[Level], terms: OrderTerms) -> tuple[Level, ...]:
    """The levels that the order may take, best first."""
    worst = worst_price(levels, terms)
    if worst is None:
        return tuple(levels)
    reach = []
    for level in levels:
        if level.price > worst if terms.is_buy else level.price < worst:
            break
        reach.append(level)
    return tuple(reach)


def walk_book(levels: Sequence[Level], terms: OrderTerms) -> Walk:
    """Take the order's quantity from `levels`, best first, no further than its worst price."""
    reach = within_limit(levels, terms)
    left, taken, notional = terms.quantity, ZERO, ZERO
    for level in reach:
        part = min(left, level.quantity)
        left = EXACT.subtract(left, part)
        taken = EXACT.add(taken, part)
        notional = EXACT.add(notional, EXACT.multiply(part, level.price))
        if not left:
            break
    return Walk(taken=taken, notional=notional, available=total(level.quantity for level in reach))


def worst_price(levels: Sequence[Level], terms: OrderTerms) -> Decimal | None:
    """The limit price, or the slippage bound of a market order; None when nothing bounds it."""
    if terms.price is not None:
        return terms.price
    if terms.max_slippage_bps is None or not levels:
        return None
    room = Decimal(terms.max_slippage_bps if terms.is_buy else -terms.max_slippage_bps)
    return EXACT.multiply(levels[0].price, EXACT.add(ONE, EXACT.multiply(room, _BP)))


def cost_curve(levels: Sequence[Level], terms: OrderTerms, charges: Charges) -> Curve:
    """What each further unit costs at this venue, up to what the order can use.

    What rests counts at the limit price with the maker's fee, yet never less than the dearest level taken before it:
    an order takes before it rests, so that cost is what the next unit adds.
    """
    segments, left, dearest = [], terms.quantity, None
    for level in within_limit(levels, terms):
        cost = unit_cost(level.price, terms, charges, maker=False)
        dearest = cost if dearest is None else max(dearest, cost)
        part = min(left, level.quantity)
        segments.append(Segment(part, dearest))
        left = EXACT.subtract(left, part)
        if not left:
            break
    if left and terms.may_rest and terms.price is not None:
        resting = unit_cost(terms.price, terms, charges, maker=True)
        segments.append(Segment(left, resting if dearest is None else max(resting, dearest)))
    return tuple(segments)


def unit_cost(price: Decimal, terms: OrderTerms, charges: Charges, *, maker: bool) -> Decimal:
    """Signed cost of one base unit at `price`, everything included."""
    fee = charges.fees.maker if maker else charges.fees.taker
    if terms.is_buy:
        return EXACT.multiply(price, EXACT.add(EXACT.add(ONE, fee), charges.funding_rate))
    return EXACT.multiply(price, EXACT.subtract(EXACT.subtract(fee, charges.funding_rate), ONE))


def capacity(curve: Curve) -> Decimal:
    """Base units the curve offers."""
    return total(segment.quantity for segment in curve)


def cost_of(curve: Curve, quantity: Decimal) -> Decimal:
    """Cost of the first `quantity` units.

    Raises:
        ValueError: the curve offers less.
    """
    left, cost = quantity, ZERO
    for segment in curve:
        part = min(left, segment.quantity)
        cost = EXACT.add(cost, EXACT.multiply(part, segment.unit_cost))
        left = EXACT.subtract(left, part)
        if not left:
            return cost
    if left:
        raise ValueError(f"{left} more than the curve offers")
    return cost


def is_convex(curve: Curve) -> bool:
    """Whether no segment is cheaper than the one before it."""
    return all(before.unit_cost <= after.unit_cost for before, after in pairwise(curve))


def expected_fee(levels: Iterable[Level], terms: OrderTerms, fees: FeeRates, quantity: Decimal) -> Decimal:
    """Fee of `quantity` units in quote units: the taker's for what fills at once, the maker's for what rests."""
    left, fee = quantity, ZERO
    for level in within_limit(tuple(levels), terms):
        part = min(left, level.quantity)
        fee = EXACT.add(fee, EXACT.multiply(EXACT.multiply(part, level.price), fees.taker))
        left = EXACT.subtract(left, part)
    if left and terms.may_rest and terms.price is not None:
        fee = EXACT.add(fee, EXACT.multiply(EXACT.multiply(left, terms.price), fees.maker))
    return fee
