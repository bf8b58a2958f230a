"""Decimals to wire integers: exact both ways, and refused by name where they do not fit."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_lighter.scaling import MAX_PRICE, MAX_SIZE, MarketScale, scale, unscale
from venuemesh.errors import InvalidOrder, InvalidRequest, Reason

ETH = MarketScale(
    market_index=0,
    size_decimals=4,
    price_decimals=2,
    min_base_amount=Decimal("0.0050"),
    min_quote_amount=Decimal("10"),
    order_quote_limit=Decimal("1000000"),
    min_initial_margin_fraction=200,
)
decimals = st.integers(0, 18)


@given(value=st.integers(1, MAX_SIZE), size_decimals=decimals)
def test_size_round_trips_exactly(value: int, size_decimals: int) -> None:
    """Every wire size is a decimal that scales back to it, however it is spelled."""
    market = MarketScale(market_index=0, size_decimals=size_decimals, price_decimals=0)
    quantity = market.unscale_size(value)
    assert market.scale_size(quantity) == value
    assert market.scale_size(quantity.normalize()) == value
    assert quantity % market.lot == 0


@given(value=st.integers(1, MAX_PRICE), price_decimals=decimals)
def test_price_round_trips_exactly(value: int, price_decimals: int) -> None:
    """The same for prices."""
    market = MarketScale(market_index=0, size_decimals=0, price_decimals=price_decimals)
    assert market.scale_price(market.unscale_price(value)) == value


@given(value=st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**9), max_value=10**9))
def test_scale_is_exact_or_refuses(value: Decimal) -> None:
    """Nothing is ever rounded."""
    try:
        scaled = scale(value, 3, field="x")
    except InvalidOrder as refused:
        assert refused.field == "x" and str(value) in refused.message
        assert value % Decimal("0.001") != 0
    else:
        assert unscale(scaled, 3) == value


@pytest.mark.parametrize(
    ("quantity", "reason"),
    [
        ("0.00005", Reason.QUANTITY_OFF_LOT),
        ("0", Reason.QUANTITY_NOT_POSITIVE),
        ("-1", Reason.QUANTITY_NOT_POSITIVE),
        ("28147497671.0656", Reason.ABOVE_MAX_QUANTITY),
        ("NaN", Reason.INVALID_DECIMAL),
        ("Infinity", Reason.INVALID_DECIMAL),
        ("1E+999999", Reason.INVALID_DECIMAL),
        ("1E-999999", Reason.INVALID_DECIMAL),
    ],
)
def test_size_that_does_not_fit_is_refused_naming_field_and_value(quantity: str, reason: Reason) -> None:
    """The reason says what to change."""
    with pytest.raises(InvalidOrder) as refused:
        ETH.scale_size(Decimal(quantity))
    assert (refused.value.reason, refused.value.field) == (reason, "quantity")
    assert refused.value.metadata["value"] == str(Decimal(quantity))


@pytest.mark.parametrize(
    ("price", "reason"),
    [
        ("1.001", Reason.PRICE_OFF_TICK),
        ("0", Reason.PRICE_NOT_POSITIVE),
        ("42949672.96", Reason.PRICE_OUT_OF_BAND),
    ],
)
def test_price_that_does_not_fit_is_refused_naming_field_and_value(price: str, reason: Reason) -> None:
    """With the caller's own name of the field."""
    with pytest.raises(InvalidOrder) as refused:
        ETH.scale_price(Decimal(price), field="trigger_price")
    assert (refused.value.reason, refused.value.field) == (reason, "trigger_price")


def test_largest_price_and_size_fit() -> None:
    """2^32 - 1 and 2^48 - 1."""
    assert ETH.scale_price(Decimal("42949672.95")) == MAX_PRICE
    assert ETH.scale_size(Decimal("28147497671.0655")) == MAX_SIZE


@pytest.mark.parametrize(
    ("quantity", "price", "reduce_only", "reason"),
    [
        ("0.0049", "5000", False, Reason.BELOW_MIN_QUANTITY),
        ("0.0050", "1999.99", False, Reason.BELOW_MIN_NOTIONAL),
        ("0.0050", "2000", False, None),
        ("0.0001", "1", True, None),
        ("500", "2000.01", False, Reason.ABOVE_MAX_NOTIONAL),
        ("500", "2000.01", True, Reason.ABOVE_MAX_NOTIONAL),
    ],
)
def test_smallest_and_largest_order(quantity: str, price: str, reduce_only: bool, reason: Reason | None) -> None:
    """The smallest do not bind a reduce-only order, the largest does."""
    if reason is None:
        ETH.check_amounts(Decimal(quantity), Decimal(price), reduce_only=reduce_only)
        return
    with pytest.raises(InvalidOrder) as refused:
        ETH.check_amounts(Decimal(quantity), Decimal(price), reduce_only=reduce_only)
    assert refused.value.reason is reason


@pytest.mark.parametrize(("leverage", "fraction"), [(1, 10_000), (3, 3_333), (20, 500), (50, 200)])
def test_leverage_becomes_the_clients_fraction(leverage: int, fraction: int) -> None:
    """10000 / leverage, rounded down."""
    assert ETH.margin_fraction(leverage) == fraction


@pytest.mark.parametrize("leverage", [0, 51])
def test_leverage_the_market_does_not_allow_is_refused(leverage: int) -> None:
    """50 times on this market."""
    assert ETH.max_leverage == 50
    with pytest.raises(InvalidRequest) as refused:
        ETH.margin_fraction(leverage)
    assert refused.value.reason is Reason.LEVERAGE_OUT_OF_RANGE


def test_spot_market_has_no_leverage() -> None:
    """And decimals out of range are a fault of ours."""
    spot = MarketScale(market_index=2048, size_decimals=2, price_decimals=6)
    assert (spot.max_leverage, spot.tick, spot.lot) == (0, Decimal("0.000001"), Decimal("0.01"))
    with pytest.raises(ValueError, match="decimals"):
        MarketScale(market_index=0, size_decimals=19, price_decimals=0)
