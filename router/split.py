"""Divides a quantity over venues: the cheapest division, or one by depth. Pure, exact.

Each venue has a convex cost curve and a domain: nothing, or a multiple of its step between its least and its most.
The cheapest division is found by branch and bound. The relaxation lets a venue take any quantity up to its most and
is solved exactly by taking the cheapest segments first; where its answer leaves a domain, two branches forbid that.
Everything is counted in integers of the finest digit that occurs, so nothing is rounded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from router.cost import Curve, Segment
from venuemesh.money import EXACT, Rounding, divide, round_to_step, total

MAX_NODES = 400
"""Relaxations solved at most; after them the best division found so far stands. Real venues need fewer than 20."""
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """What one venue can take: nothing, or a multiple of `step` from `least` to `most`, at the cost of `curve`."""

    venue: str
    curve: Curve
    step: Decimal
    least: Decimal
    most: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Division:
    """Quantities by venue, which sum to what was divided. `proved` is False where the search was cut short."""

    quantities: Mapping[str, Decimal]
    cost: Decimal
    proved: bool = True


def divide_cheapest(quantity: Decimal, shares: Sequence[Share]) -> Division | None:
    """The division of least cost; of equal ones, one over fewer venues. None when there is none."""
    return _Search(quantity, shares).run()


def divide_by_depth(quantity: Decimal, shares: Sequence[Share], depths: Mapping[str, Decimal]) -> Division | None:
    """As near to the venues' depths as their steps allow, over as many venues as possible.

    A venue whose least is too much for it is left out, that of the smallest depth first. `cost` is the sum of the
    distances from the exact proportions.
    """
    taking = sorted((one for one in shares if depths[one.venue] > 0), key=lambda one: (-depths[one.venue], one.venue))
    while taking:
        depth = total(depths[one.venue] for one in taking)
        wanted = [_proportional(one, quantity, depths[one.venue], depth) for one in taking]
        found = _Search(quantity, wanted, all_take=True).run()
        if found is not None:
            return found
        taking.pop()
    return None


def _proportional(share: Share, quantity: Decimal, own: Decimal, depth: Decimal) -> Share:
    """The share with a curve that is cheapest at its part of the quantity, in proportion to its depth."""
    # Only whole steps can be given, so the exact proportion is not needed beyond them.
    target = round_to_step(
        divide(EXACT.multiply(quantity, own), depth), step=share.step, rounding=Rounding.TOWARDS_ZERO
    )
    over = EXACT.subtract(share.most, target)
    curve = [Segment(min(target, share.most), Decimal(-1))]
    if over > 0:
        curve.append(Segment(over, Decimal(1)))
    return Share(venue=share.venue, curve=tuple(curve), step=share.step, least=share.least, most=share.most)


def _scale_of(values: Sequence[Decimal]) -> int:
    """Digits after the point of the finest value."""
    return max((max(0, -int(value.as_tuple().exponent)) for value in values), default=0)


def _whole(value: Decimal, scale: int) -> int:
    return int(value.scaleb(scale, context=EXACT))


Bounds = tuple[tuple[int, int], ...]


class _Search:
    """One branch and bound over integers."""

    def __init__(self, quantity: Decimal, shares: Sequence[Share], *, all_take: bool = False) -> None:
        self._shares = sorted(shares, key=lambda one: one.venue)
        numbers = [quantity]
        costs = []
        for share in self._shares:
            numbers += [share.step, share.least, share.most, *(segment.quantity for segment in share.curve)]
            costs += [segment.unit_cost for segment in share.curve]
        self._scale, self._cost_scale = _scale_of(numbers), _scale_of(costs)
        self._quantity = _whole(quantity, self._scale)
        self._steps = [_whole(one.step, self._scale) for one in self._shares]
        self._least = [self._up(_whole(one.least, self._scale), place) for place, one in enumerate(self._shares)]
        self._most = [_whole(one.most, self._scale) // self._steps[p] * self._steps[p] for p, one in self._placed()]
        self._all_take = all_take
        self._segments = sorted(
            (_whole(segment.unit_cost, self._cost_scale), place, _whole(segment.quantity, self._scale))
            for place, share in self._placed()
            for segment in share.curve
        )
        self._best: list[int] | None = None
        self._best_cost = 0

    def _placed(self) -> list[tuple[int, Share]]:
        return list(enumerate(self._shares))

    def _up(self, value: int, place: int) -> int:
        return -(-value // self._steps[place]) * self._steps[place]

    def run(self) -> Division | None:
        if not self._shares or self._quantity % math.gcd(*self._steps):
            return None
        if not self._all_take:
            self._try_single_venues()
        lowest = self._least if self._all_take else [0] * len(self._shares)
        stack: list[Bounds] = [tuple(zip(lowest, self._most, strict=True))]
        nodes = 0
        while stack and nodes < MAX_NODES:
            nodes += 1
            stack += self._explore(stack.pop())
        return self._division(proved=not stack)

    def _try_single_venues(self) -> None:
        for place, (least, most) in enumerate(zip(self._least, self._most, strict=True)):
            if least <= self._quantity <= most and self._quantity % self._steps[place] == 0:
                alone = tuple((self._quantity, most) if p == place else (0, 0) for p in range(len(self._shares)))
                self._keep(self._relax(alone))

    def _explore(self, bounds: Bounds) -> list[Bounds]:
        """Keep the relaxed answer when it is a division, else the branches that exclude it, likelier one last."""
        relaxed = self._relax(bounds)
        if relaxed is None or (self._best is not None and relaxed[0] >= self._best_cost):
            return []
        place = self._violated(relaxed[1])
        if place is None:
            self._keep(relaxed)
            return []
        taken, (low, high) = relaxed[1][place], bounds[place]
        down = taken // self._steps[place] * self._steps[place]
        down = down if down >= self._least[place] else 0
        up = max(self._up(taken, place), self._least[place])
        branches = []
        if low <= down:
            branches.append(_with(bounds, place, (low, down)))
        if up <= high:
            branches.append(_with(bounds, place, (up, high)))
        return branches if 2 * taken >= down + up else branches[::-1]

    def _violated(self, taken: Sequence[int]) -> int | None:
        """A venue whose quantity is not in its domain, the one of the coarsest step first."""
        wrong = [
            place for place, one in enumerate(taken) if one and (one < self._least[place] or one % self._steps[place])
        ]
        return max(wrong, key=lambda place: self._steps[place], default=None)

    def _relax(self, bounds: Bounds) -> tuple[int, list[int]] | None:
        """Least cost and quantities within the bounds when every quantity is allowed; None when none fit."""
        owed = [low for low, _ in bounds]
        room = [high - low for low, high in bounds]
        free = self._quantity - sum(owed)
        if free < 0:
            return None
        cost, taken = 0, [0] * len(bounds)
        for unit, place, offered in self._segments:
            must = min(offered, owed[place])
            owed[place] -= must
            may = min(offered - must, room[place], free)
            room[place] -= may
            free -= may
            taken[place] += must + may
            cost += (must + may) * unit
        return None if free or any(owed) else (cost, taken)

    def _keep(self, found: tuple[int, list[int]] | None) -> None:
        if found is not None and (self._best is None or found[0] < self._best_cost):
            self._best_cost, self._best = found

    def _division(self, *, proved: bool) -> Division | None:
        if self._best is None:
            return None
        quantities = {
            share.venue: Decimal(taken).scaleb(-self._scale, context=EXACT)
            for share, taken in zip(self._shares, self._best, strict=True)
            if taken
        }
        cost = Decimal(self._best_cost).scaleb(-self._scale - self._cost_scale, context=EXACT)
        return Division(quantities=quantities, cost=cost, proved=proved)


def _with(bounds: Bounds, place: int, pair: tuple[int, int]) -> Bounds:
    return (*bounds[:place], pair, *bounds[place + 1 :])
