"""Costs and comparisons of the walk over several venues."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.local.routing_walk import average_price, cheapest, describe
from venuemesh.v1 import error_pb2, market_data_pb2, routing_pb2

amounts = st.integers(min_value=1, max_value=10**6)


@given(levels=st.lists(st.tuples(amounts, amounts), min_size=1, max_size=5), wanted=amounts)
@settings(max_examples=100, deadline=None)
def test_average_price_equals_buying_unit_by_unit(levels: list[tuple[int, int]], wanted: int) -> None:
    """Level by level until the quantity is there; a book that holds less has no price."""
    book = [market_data_pb2.PriceLevel(price=str(price), quantity=str(quantity)) for price, quantity in levels]
    found = average_price(book, Decimal(wanted))
    left, paid = wanted, 0
    for price, quantity in levels:
        taken = min(left, quantity)
        left, paid = left - taken, paid + taken * price
    if left:
        assert found is None
    else:
        assert found is not None
        assert float(found) == pytest.approx(float(Fraction(paid, wanted)))


def test_cheapest_names_every_venue_of_the_lowest_cost() -> None:
    """Where two are equal either may be chosen."""
    assert cheapest({"b": Decimal(1), "a": Decimal("1.0"), "c": Decimal(2)}) == ("a", "b")


def test_candidate_that_is_left_out_tells_its_reason() -> None:
    """In the router's words."""
    one = routing_pb2.RouteCandidate(venue="v", reason=error_pb2.REASON_INSTRUMENT_NOT_TRADING, message="too old")
    assert describe(one, None) == "v: left out, INSTRUMENT_NOT_TRADING: too old"
