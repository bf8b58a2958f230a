"""Which venues take an order: rank the candidates by a strategy, divide where a split is wanted. Pure, exact.

A strategy is a sort key over the candidates that can take the order; `STRATEGIES` lists those served. Costs are
compared as exact totals; only what is shown is rounded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from router.assess import Candidate
from router.cost import FREE, Curve, Segment, capacity, cost_curve
from router.split import Division, Share, divide_by_depth, divide_cheapest
from router.terms import ZERO, OrderTerms
from router.views import Refusal
from venuemesh.errors import Reason
from venuemesh.money import EXACT, total
from venuemesh.v1 import routing_pb2

NEAR = Decimal("0.001")
"""Liquidity counts within this part of the best price over all candidates."""
_UNKNOWN_SPREAD = Decimal("Infinity")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How an order is to be routed: the contract's numbers, none of them UNSPECIFIED."""

    strategy: int = routing_pb2.ROUTING_STRATEGY_ALL_IN_COST
    split_mode: int = routing_pb2.SPLIT_MODE_NEVER
    preferred: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """Base units for one venue."""

    venue: str
    quantity: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """`parts` is empty when nothing can take the order; candidates are best first, refused ones last."""

    strategy: int
    parts: tuple[Part, ...]
    candidates: tuple[Candidate, ...]
    near: Mapping[str, Decimal] = field(default_factory=dict)
    """Liquidity near the best price, where the strategy looks at it."""

    @property
    def chosen(self) -> Candidate | None:
        """The candidate of the first part."""
        return self.candidates[0] if self.parts else None


SortKey = tuple[Decimal | str, ...]
Strategy = Callable[[OrderTerms, Candidate, Mapping[str, Decimal]], SortKey]


def _signed(terms: OrderTerms, value: Decimal | None) -> Decimal:
    value = value if value is not None else ZERO
    return value if terms.is_buy else EXACT.minus(value)


def _unfilled(terms: OrderTerms, candidate: Candidate) -> Decimal:
    """An order that cannot rest goes first where most of it fills."""
    assert candidate.walk is not None
    return ZERO if terms.may_rest else EXACT.subtract(terms.quantity, candidate.walk.taken)


def best_price(terms: OrderTerms, one: Candidate, near: Mapping[str, Decimal]) -> SortKey:
    """Least cost of the whole quantity (most, for a sale); then the nearest opposite price; then the name."""
    return _unfilled(terms, one), _signed(terms, one.cost), _signed(terms, one.best_price), one.venue


def all_in_cost(terms: OrderTerms, one: Candidate, near: Mapping[str, Decimal]) -> SortKey:
    """The same with fees and expected funding in the cost."""
    assert one.all_in is not None
    return _unfilled(terms, one), one.all_in, _signed(terms, one.best_price), one.venue


def lowest_fees(terms: OrderTerms, one: Candidate, near: Mapping[str, Decimal]) -> SortKey:
    """Least expected fee in quote units; then the least cost of all."""
    assert one.fee is not None
    assert one.all_in is not None
    return _unfilled(terms, one), one.fee, one.all_in, one.venue


def highest_liquidity(terms: OrderTerms, one: Candidate, near: Mapping[str, Decimal]) -> SortKey:
    """Most quantity near the best price over all candidates; then the narrowest spread; then the least cost."""
    assert one.all_in is not None
    spread = one.spread if one.spread is not None else _UNKNOWN_SPREAD
    return EXACT.minus(near[one.venue]), spread, one.all_in, one.venue


STRATEGIES: dict[int, Strategy] = {
    routing_pb2.ROUTING_STRATEGY_BEST_PRICE: best_price,
    routing_pb2.ROUTING_STRATEGY_LOWEST_FEES: lowest_fees,
    routing_pb2.ROUTING_STRATEGY_HIGHEST_LIQUIDITY: highest_liquidity,
    routing_pb2.ROUTING_STRATEGY_ALL_IN_COST: all_in_cost,
}
"""USER_PREFERENCE ranks by the wish's own list."""


def decide(wish: Wish, terms: OrderTerms, candidates: Iterable[Candidate]) -> Decision:
    """Rank the candidates, choose one, and divide the order when the wish says so and it can be.

    Raises:
        KeyError: no such strategy in `STRATEGIES`.
    """
    known = [_preferred_only(wish, one) for one in candidates]
    taking = [one for one in known if one.refusal is None]
    near = near_quantities(terms, taking)
    ranked = _ranked(wish, terms, taking, near)
    alone = next((one for one in ranked if one.alone is None), None)
    division = _divided(wish, terms, ranked)
    if division is not None and (alone is None or len(division.quantities) > 1):
        parts = tuple(
            Part(one.venue, division.quantities[one.venue]) for one in ranked if one.venue in division.quantities
        )
    else:
        parts = () if alone is None else (Part(alone.venue, terms.quantity),)
    return Decision(strategy=wish.strategy, parts=parts, candidates=_shown(known, ranked, parts), near=near)


def _preferred_only(wish: Wish, one: Candidate) -> Candidate:
    if wish.strategy != routing_pb2.ROUTING_STRATEGY_USER_PREFERENCE or one.refusal or one.venue in wish.preferred:
        return one
    return dataclasses.replace(one, refusal=Refusal(Reason.INVALID_ARGUMENT, "not among the preferred venues"))


def _ranked(wish: Wish, terms: OrderTerms, taking: Sequence[Candidate], near: Mapping[str, Decimal]) -> list[Candidate]:
    if wish.strategy == routing_pb2.ROUTING_STRATEGY_USER_PREFERENCE:
        return sorted(taking, key=lambda one: wish.preferred.index(one.venue))
    key = STRATEGIES[wish.strategy]
    return sorted(taking, key=lambda one: key(terms, one, near))


def _shown(known: Sequence[Candidate], ranked: Sequence[Candidate], parts: Sequence[Part]) -> tuple[Candidate, ...]:
    """Those with a part first, then those that could take the whole, then the refused by name."""
    venues = {part.venue for part in parts}
    taking = [one for one in ranked if one.venue in venues]
    others = [one for one in ranked if one.venue not in venues and one.alone is None]
    refused = [one for one in known if one.refusal is not None]
    refused += [dataclasses.replace(one, refusal=one.alone) for one in ranked if one.alone and one.venue not in venues]
    return (*taking, *others, *sorted(refused, key=lambda one: one.venue))


def near_quantities(terms: OrderTerms, candidates: Sequence[Candidate]) -> dict[str, Decimal]:
    """What each venue offers near the best opposite price that any of them has."""
    prices = [one.best_price for one in candidates if one.best_price is not None]
    if not prices:
        return {one.venue: ZERO for one in candidates}
    best = min(prices) if terms.is_buy else max(prices)
    room = EXACT.multiply(best, NEAR)
    bound = EXACT.add(best, room) if terms.is_buy else EXACT.subtract(best, room)
    return {
        one.venue: total(
            level.quantity for level in one.levels if (level.price <= bound if terms.is_buy else level.price >= bound)
        )
        for one in candidates
    }


# --- splitting ---


def _divided(wish: Wish, terms: OrderTerms, ranked: Sequence[Candidate]) -> Division | None:
    """The division the wish asks for; None when it wants none or none is possible."""
    if wish.split_mode == routing_pb2.SPLIT_MODE_NEVER or terms.fill_or_kill or len(ranked) < 2:
        return None
    priced = wish.strategy == routing_pb2.ROUTING_STRATEGY_BEST_PRICE
    curves = {one.venue: _curve(terms, one, priced=priced) for one in ranked}
    shares = [share for one in ranked if (share := _share(one, curves[one.venue])) is not None]
    if wish.split_mode == routing_pb2.SPLIT_MODE_ALWAYS:
        depths = {one.venue: total(level.quantity for level in one.levels) for one in ranked}
        if not any(depths.values()):
            # Nothing is offered at the order's price, so all that a venue differs by is its place.
            depths = dict.fromkeys(depths, Decimal(1))
        return divide_by_depth(terms.quantity, shares, depths)
    return divide_cheapest(terms.quantity, _with_unfilled(terms, shares))


def _curve(terms: OrderTerms, one: Candidate, *, priced: bool) -> Curve:
    assert one.charges is not None
    return cost_curve(one.levels, terms, FREE if priced else one.charges)


def _share(one: Candidate, curve: Curve) -> Share | None:
    assert one.domain is not None
    domain = one.domain
    if domain.least > domain.most:
        return None
    return Share(venue=one.venue, curve=curve, step=domain.step, least=domain.least, most=domain.most)


def _with_unfilled(terms: OrderTerms, shares: Sequence[Share]) -> Sequence[Share]:
    """Let an order whose rest expires leave a rest, at a price that makes any fill better than none."""
    if terms.may_rest or terms.all_or_nothing or not shares:
        return shares
    dearest = max((abs(segment.unit_cost) for share in shares for segment in share.curve), default=ZERO)
    finest = min(share.step for share in shares)
    steps = EXACT.add(EXACT.divide_int(terms.quantity, finest), Decimal(2))
    penalty = EXACT.multiply(EXACT.add(EXACT.multiply(dearest, Decimal(2)), Decimal(1)), steps)
    return [
        dataclasses.replace(share, curve=(*share.curve, Segment(unfilled, penalty)))
        if (unfilled := EXACT.subtract(terms.quantity, capacity(share.curve))) > ZERO
        else share
        for share in shares
    ]
