"""Prices of the walk obey the instrument's rules."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from deploy.local.walkthrough import allowed_price
from venuemesh.v1 import instrument_pb2


@given(
    price=st.decimals(min_value="0.0001", max_value="200000", places=7).filter(lambda price: price > 0),
    figures=st.integers(min_value=4, max_value=6),
    decimals=st.integers(min_value=4, max_value=6),
)
def test_allowed_price_is_within_digits_and_just_below(price: Decimal, figures: int, decimals: int) -> None:
    """At most so many figures and decimals, never above the wish, and nothing allowed lies between."""
    rule = instrument_pb2.PriceRule(max_significant_figures=figures, max_decimals=decimals)
    found = allowed_price(price, rule)
    step = max(Decimal(1).scaleb(-decimals), Decimal(1).scaleb(price.adjusted() + 1 - figures))
    assert found <= price < found + step
    assert found % step == 0


def test_allowed_price_takes_the_tick() -> None:
    """A venue with a tick has no digits rule."""
    rule = instrument_pb2.PriceRule(tick_size="0.25")
    assert allowed_price(Decimal("10.3"), rule) == Decimal("10.25")
    assert allowed_price(Decimal("10.3"), instrument_pb2.PriceRule()) == Decimal("10.3")
