"""Price, size and wire-decimal rules, against a brute-force reference in fractions."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypercore.precision import (
    Direction,
    check_price,
    check_size,
    is_valid_price,
    nearest_prices,
    round_price,
    round_size,
    scaled_integer,
    wire_decimal,
)
from venuemesh.errors import InvalidOrder, Reason

prices = st.decimals(min_value="0.00000001", max_value="9999999", places=9, allow_nan=False)
lots = st.integers(0, 8)


def decimals_allowed(sz_decimals: int, is_spot: bool) -> int:
    return max(0, (8 if is_spot else 6) - sz_decimals)


def brute_valid(price: Fraction, decimals: int) -> bool:
    """Straight from the sentence of the rule: whole, or few decimals and few figures."""
    if price <= 0:
        return False
    if price.denominator == 1:
        return True
    for places in range(1, decimals + 1):
        scaled = price * 10**places
        if scaled.denominator == 1:
            return len(str(scaled.numerator)) <= 5
    return False


def brute_floor(price: Fraction, decimals: int) -> Fraction:
    """The largest of all candidates n / 10^k with at most five figures, and of the whole numbers."""
    found = Fraction(math.floor(price))
    for places in range(1, decimals + 1):
        found = max(found, Fraction(min(math.floor(price * 10**places), 99_999), 10**places))
    return found


def brute_ceiling(price: Fraction, decimals: int) -> Fraction:
    """The smallest of all candidates."""
    found = Fraction(math.ceil(price))
    for places in range(1, decimals + 1):
        count = math.ceil(price * 10**places)
        if count <= 99_999:
            found = min(found, Fraction(count, 10**places))
    return found


@given(price=prices, sz_decimals=lots, is_spot=st.booleans())
@settings(max_examples=300)
def test_is_valid_price_agrees_with_the_rule_in_fractions(price: Decimal, sz_decimals: int, is_spot: bool) -> None:
    """Validity equals the rule worked out in exact fractions."""
    expected = brute_valid(Fraction(price), decimals_allowed(sz_decimals, is_spot))
    assert is_valid_price(price, sz_decimals, is_spot=is_spot) is expected


@given(price=prices, sz_decimals=lots, is_spot=st.booleans())
@settings(max_examples=300)
def test_round_price_gives_the_nearest_valid_price_of_its_direction(
    price: Decimal, sz_decimals: int, is_spot: bool
) -> None:
    """Down and up equal the best candidate of a brute-force search; nearest is one of the two."""
    decimals = decimals_allowed(sz_decimals, is_spot)
    lower, upper = nearest_prices(price, sz_decimals, is_spot=is_spot)
    floor = brute_floor(Fraction(price), decimals)
    assert (Fraction(lower) if lower is not None else 0) == floor
    assert Fraction(upper) == brute_ceiling(Fraction(price), decimals)
    assert brute_valid(Fraction(upper), decimals)
    assert lower is None or brute_valid(Fraction(lower), decimals)
    if lower is not None:
        middle = round_price(price, sz_decimals, Direction.NEAREST, is_spot=is_spot)
        assert middle in (lower, upper)
        assert abs(middle - price) == min(price - lower, upper - price)


@given(price=prices, sz_decimals=lots, is_spot=st.booleans(), way=st.sampled_from(Direction))
@settings(max_examples=100)
def test_round_price_of_a_rounded_price_changes_nothing(
    price: Decimal, sz_decimals: int, is_spot: bool, way: Direction
) -> None:
    """Rounding is idempotent, and what it gives passes the check."""
    _, valid = nearest_prices(price, sz_decimals, is_spot=is_spot)
    assert round_price(valid, sz_decimals, way, is_spot=is_spot) == valid
    check_price(valid, sz_decimals, is_spot=is_spot)


@pytest.mark.parametrize(
    ("text", "sz_decimals", "is_spot", "valid"),
    [
        ("1234.5", 1, False, True),
        ("1234.56", 1, False, False),
        ("0.001234", 0, False, True),
        ("0.001234", 1, False, False),
        ("0.0012345", 1, False, False),
        ("123456", 1, False, True),
        ("123456.0", 1, False, True),
        ("0.0001234", 0, True, True),
        ("0.0001234", 2, True, False),
        ("1E+5", 0, False, True),
        ("0", 0, False, False),
        ("-1", 0, False, False),
        ("NaN", 0, False, False),
    ],
)
def test_is_valid_price_on_the_documented_examples(text: str, sz_decimals: int, is_spot: bool, valid: bool) -> None:
    """The reference's examples (0.001234 needs szDecimals 0: it has six decimals), and values no price has."""
    assert is_valid_price(Decimal(text), sz_decimals, is_spot=is_spot) is valid


def test_check_price_when_off_tick_names_the_nearest_valid_prices() -> None:
    """The refusal carries field, reason and both neighbours."""
    with pytest.raises(InvalidOrder, match=r"nearest valid: 1234\.5 or 1234\.6") as caught:
        check_price(Decimal("1234.56"), 1, is_spot=False, field="limit_price")
    assert caught.value.reason is Reason.PRICE_OFF_TICK
    assert caught.value.field == "limit_price"
    assert caught.value.metadata["nearest"] == "1234.5,1234.6"


def test_round_price_down_below_the_smallest_price_is_refused() -> None:
    """There is no valid price between zero and the smallest step."""
    with pytest.raises(InvalidOrder) as caught:
        round_price(Decimal("0.0000004"), 0, Direction.DOWN, is_spot=False)
    assert caught.value.reason is Reason.PRICE_OFF_TICK


@pytest.mark.parametrize(
    ("text", "reason"),
    [("0", Reason.PRICE_NOT_POSITIVE), ("-3", Reason.PRICE_NOT_POSITIVE), ("Infinity", Reason.INVALID_DECIMAL)],
)
def test_check_price_when_not_a_positive_number_is_refused(text: str, reason: Reason) -> None:
    """Zero, negative and non-finite prices have their own reasons."""
    with pytest.raises(InvalidOrder) as caught:
        check_price(Decimal(text), 2, is_spot=False)
    assert caught.value.reason is reason


@given(size=st.decimals(min_value="0.000000001", max_value="100000", places=9), sz_decimals=lots)
@settings(max_examples=100)
def test_check_size_takes_exactly_the_multiples_of_the_lot(size: Decimal, sz_decimals: int) -> None:
    """A size passes if and only if it is a whole number of lots."""
    whole = (Fraction(size) * 10**sz_decimals).denominator == 1
    if whole:
        check_size(size, sz_decimals)
        return
    with pytest.raises(InvalidOrder) as caught:
        check_size(size, sz_decimals)
    assert caught.value.reason is Reason.QUANTITY_OFF_LOT
    assert round_size(size, sz_decimals, Direction.DOWN) < size < round_size(size, sz_decimals, Direction.UP)


def test_check_size_when_zero_is_refused_as_not_positive() -> None:
    """Zero has its own reason."""
    with pytest.raises(InvalidOrder) as caught:
        check_size(Decimal("0.0"), 3)
    assert caught.value.reason is Reason.QUANTITY_NOT_POSITIVE


@given(units=st.integers(-(10**20), 10**20), places=st.integers(0, 8), padding=st.integers(0, 6))
def test_wire_decimal_is_exact_and_in_its_one_spelling(units: int, places: int, padding: int) -> None:
    """Value kept, no exponent, plus, trailing zero or minus zero, whatever zeros the input carried."""
    value = Decimal(units * 10**padding).scaleb(-places - padding)
    text = wire_decimal(value)
    assert Decimal(text) == value
    assert set(text) <= set("-0123456789.")
    assert text != "-0"
    assert "." not in text or text[-1] not in "0."


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ("100.00", "100"),
        ("-0", "0"),
        ("-0.00", "0"),
        ("1E+3", "1000"),
        ("1E-8", "0.00000001"),
        ("25.20", "25.2"),
        ("0E+10", "0"),
    ],
)
def test_wire_decimal_on_awkward_spellings(given_text: str, expected: str) -> None:
    """Spellings that made other clients sign for a stranger."""
    assert wire_decimal(Decimal(given_text)) == expected


@pytest.mark.parametrize("text", ["0.000000001", "1.123456789", "NaN", "sNaN", "-Infinity", "1E+40", "1E-400"])
def test_wire_decimal_when_it_would_have_to_round_is_refused_with_the_field(text: str) -> None:
    """More than eight decimals, or no ordinary number: refused, never rounded."""
    with pytest.raises(InvalidOrder) as caught:
        wire_decimal(Decimal(text), "limit_price")
    assert caught.value.reason is Reason.INVALID_DECIMAL
    assert caught.value.field == "limit_price"


def test_scaled_integer_is_exact_or_refused() -> None:
    """The helper vectors of the reference: 123123123123, 0.00001231 and 0.000012312312 at eight places."""
    assert scaled_integer(Decimal(123123123123), 8, "amount") == 12312312312300000000
    assert scaled_integer(Decimal("0.00001231"), 8, "amount") == 1231
    with pytest.raises(InvalidOrder):
        scaled_integer(Decimal("0.000012312312"), 8, "amount")
