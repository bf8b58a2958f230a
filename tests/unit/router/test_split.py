"""Dividing a quantity over venues, against brute force."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.cost import Segment, cost_of
from router.split import Division, Share, divide_by_depth, divide_cheapest

D = Decimal


def share(venue: str, *segments: tuple[str, str], step: str = "1", least: str = "1", most: str | None = None) -> Share:
    """Segments as (quantity, unit cost)."""
    curve = tuple(Segment(D(quantity), D(cost)) for quantity, cost in segments)
    offered = sum((segment.quantity for segment in curve), D(0))
    limit = offered if most is None else min(D(most), offered)
    return Share(venue=venue, curve=curve, step=D(step), least=D(least), most=limit)


def test_cheapest_division_takes_each_venue_as_far_as_it_is_cheaper() -> None:
    """Levels of both books are taken in order of cost."""
    left = share("left", ("2", "100"), ("9", "105"))
    right = share("right", ("3", "101"), ("9", "102"))
    found = divide_cheapest(D(7), [left, right])
    assert found == Division(quantities={"left": D(2), "right": D(5)}, cost=D(707))


def test_one_venue_wins_a_tie_over_several() -> None:
    """A division that saves nothing is not made."""
    found = divide_cheapest(D(4), [share("a", ("9", "100")), share("b", ("9", "100"))])
    assert found is not None
    assert found.quantities == {"a": D(4)}


def test_least_quantity_of_a_venue_keeps_a_scrap_from_it() -> None:
    """Two cheap units are not worth the five the venue asks for."""
    cheap = share("cheap", ("2", "90"), ("9", "130"), least="5")
    found = divide_cheapest(D(6), [cheap, share("plain", ("9", "100"))])
    assert found is not None
    assert found.quantities == {"plain": D(6)}


def test_least_quantity_is_taken_where_it_still_pays() -> None:
    """Five at the cheap venue, though its last three are dear."""
    cheap = share("cheap", ("2", "50"), ("9", "110"), least="5")
    found = divide_cheapest(D(6), [cheap, share("plain", ("9", "100"))])
    assert found is not None
    assert found.quantities == {"cheap": D(5), "plain": D(1)}


def test_coarse_step_takes_whole_steps_and_a_fine_one_the_rest() -> None:
    """1.005 over a step of 0.1 and one of 0.001."""
    coarse, fine = share("coarse", ("5", "100"), step="0.1", least="0.1"), share("fine", ("5", "101"), step="0.001")
    fine = Share(venue="fine", curve=fine.curve, step=D("0.001"), least=D("0.001"), most=D(5))
    found = divide_cheapest(D("1.005"), [coarse, fine])
    assert found is not None
    assert found.quantities == {"coarse": D("1.0"), "fine": D("0.005")}


def test_quantity_off_every_step_cannot_be_divided() -> None:
    """No sum of whole steps gives it."""
    assert divide_cheapest(D("1.5"), [share("a", ("9", "1")), share("b", ("9", "1"), step="2", least="2")]) is None


def test_more_than_all_venues_offer_cannot_be_divided() -> None:
    """Nine are wanted, eight are there."""
    assert divide_cheapest(D(9), [share("a", ("4", "1")), share("b", ("4", "1"))]) is None


STEPS = st.sampled_from([1, 2, 4, 3])
UNITS = D("0.01")


@st.composite
def shares(draw: st.DrawFn) -> list[Share]:
    """Up to three venues with rising costs, different steps, leasts and mosts; units of 0.01."""
    found = []
    for place in range(draw(st.integers(1, 3))):
        sizes = draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
        costs = sorted(draw(st.lists(st.integers(-9, 9), min_size=len(sizes), max_size=len(sizes))))
        curve = tuple(Segment(size * UNITS, D(cost)) for size, cost in zip(sizes, costs, strict=True))
        found.append(
            Share(
                venue=f"v{place}",
                curve=curve,
                step=draw(STEPS) * UNITS,
                least=draw(st.integers(1, 6)) * UNITS,
                most=min(sum(sizes), draw(st.integers(1, 18))) * UNITS,
            )
        )
    return found


def allowed(one: Share) -> Iterator[Decimal]:
    yield D(0)
    for count in range(1, 30):
        quantity = count * one.step
        if one.least <= quantity <= one.most:
            yield quantity


def every_division(quantity: Decimal, given_shares: list[Share]) -> Iterator[tuple[Decimal, ...]]:
    for division in itertools.product(*(allowed(one) for one in given_shares)):
        if sum(division) == quantity:
            yield division


@settings(max_examples=300, deadline=None)
@given(over=shares(), units=st.integers(1, 24))
def test_cheapest_division_is_the_brute_force_optimum(over: list[Share], units: int) -> None:
    """P23: quantities sum exactly, each in its venue's domain (P24), and no division costs less."""
    quantity = units * UNITS
    best = min(
        (
            sum((cost_of(one.curve, part) for one, part in zip(over, division, strict=True) if part), D(0))
            for division in every_division(quantity, over)
        ),
        default=None,
    )
    found = divide_cheapest(quantity, over)
    if best is None:
        assert found is None
        return
    assert found is not None
    assert found.proved
    assert found.cost == best
    assert sum(found.quantities.values()) == quantity
    for one in over:
        assert found.quantities.get(one.venue, D(0)) in set(allowed(one))


@settings(max_examples=200, deadline=None)
@given(over=shares(), units=st.integers(1, 24), data=st.data())
def test_division_by_depth_sums_exactly_and_keeps_every_rule(
    over: list[Share], units: int, data: st.DataObject
) -> None:
    """P23: whatever the depths, the parts are in their venues' domains and sum to the whole."""
    quantity = units * UNITS
    depths = {one.venue: data.draw(st.integers(1, 20)) * UNITS for one in over}
    found = divide_by_depth(quantity, over, depths)
    if found is None:
        deepest = max(over, key=lambda one: (depths[one.venue], -int(one.venue[1:])))
        assert quantity not in set(allowed(deepest))
        return
    assert sum(found.quantities.values()) == quantity
    for one in over:
        assert found.quantities.get(one.venue, D(0)) in set(allowed(one))


def test_division_by_depth_follows_the_depths() -> None:
    """Twice the depth takes twice the part, to a step."""
    over = [share("a", ("99", "1")), share("b", ("99", "1"))]
    found = divide_by_depth(D(10), over, {"a": D(20), "b": D(10)})
    assert found is not None
    assert found.quantities in ({"a": D(7), "b": D(3)}, {"a": D(6), "b": D(4)})


def test_division_by_depth_leaves_out_a_venue_whose_least_is_too_much() -> None:
    """The small venue asks for more than there is to give."""
    over = [share("a", ("99", "1")), share("b", ("99", "1"), least="20")]
    found = divide_by_depth(D(10), over, {"a": D(20), "b": D(10)})
    assert found is not None
    assert found.quantities == {"a": D(10)}


@pytest.mark.parametrize("venues", [3, 8])
def test_search_ends_where_steps_make_it_hard(venues: int) -> None:
    """Steps without common measure and a tight least: an answer within the bound of work, and exact in its sum."""
    over = [
        share(f"v{place}", *((str(7 + place), str(100 + level)) for level in range(20)), step=str(2 + place % 3))
        for place in range(venues)
    ]
    found = divide_cheapest(D(101), over)
    assert found is not None
    assert sum(found.quantities.values()) == 101
