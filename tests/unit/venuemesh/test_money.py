"""The decimal grammar, its canonical form, rounding to tick and lot."""

from __future__ import annotations

import decimal
import re
from decimal import Decimal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from venuemesh.errors import InvalidRequest, Reason
from venuemesh.money import (
    EXACT,
    MAX_DIGITS,
    MAX_SCALE,
    Rounding,
    divide,
    format_decimal,
    is_multiple,
    parse_decimal,
    round_to_step,
    to_wire,
    total,
    use_exact_arithmetic,
)


@st.composite
def wire_numbers(draw: st.DrawFn) -> Decimal:
    """Any number of the grammar, with whatever trailing zeros the draw gives it."""
    scale = draw(st.integers(0, MAX_SCALE))
    # The digits before the point count even when the mantissa is shorter than the scale.
    limit = 10**MAX_DIGITS - 1
    return EXACT.scaleb(Decimal(draw(st.integers(-limit, limit))), -scale)


steps = st.builds(lambda digits, scale: Decimal(digits).scaleb(-scale), st.integers(1, 10**6), st.integers(0, 12))


@settings(max_examples=1_000)
@given(value=wire_numbers())
@example(value=Decimal("0E+50"))
@example(value=Decimal("-0.000"))
@example(value=Decimal("1E-18"))
@example(value=Decimal("1E+37"))
def test_parse_when_formatted_gives_the_value_back(value: Decimal) -> None:
    """parse(format(x)) = x, and the text is the only spelling of it."""
    text = format_decimal(value)
    assert parse_decimal(text, field="x") == value
    assert format_decimal(parse_decimal(text, field="x")) == text
    assert re.fullmatch(r"-?(0|[1-9]\d*)(\.\d*[1-9])?", text)


@settings(max_examples=1_000)
@given(text=st.text(alphabet="0123456789.-+eE_ ", max_size=12))
def test_parse_when_text_is_accepted_is_the_canonical_spelling(text: str) -> None:
    """Equal strings are equal values: nothing but its own canonical form is accepted."""
    try:
        value = parse_decimal(text, field="x")
    except InvalidRequest:
        return
    assert format_decimal(value) == text


@given(left=wire_numbers(), right=wire_numbers())
def test_canonical_form_when_values_are_equal_is_equal(left: Decimal, right: Decimal) -> None:
    """String equality and value equality agree, and so does order."""
    again = [parse_decimal(format_decimal(value), field="x") for value in (left, right)]
    assert (format_decimal(left) == format_decimal(right)) is (left == right)
    assert (again[0] < again[1]) is (left < right)


@given(values=st.lists(wire_numbers(), max_size=20))
def test_total_when_values_are_wide_agrees_with_integers(values: list[Decimal]) -> None:
    """The sum is exact where Python's default 28 digits would round."""
    in_units = sum(int(value.scaleb(MAX_SCALE, context=EXACT)) for value in values)
    assert total(values) == Decimal(in_units).scaleb(-MAX_SCALE, context=EXACT)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("", "is empty"),
        ("1e5", "exponent"),
        ("1E5", "exponent"),
        ("+1", "plus"),
        (".5", "both sides"),
        ("-.5", "both sides"),
        ("1.", "both sides"),
        ("01", "leading zeros"),
        ("-01.5", "leading zeros"),
        ("1.0", "trailing zeros"),
        ("0.00", "trailing zeros"),
        ("-0", "-0"),
        ("0.1234567890123456789", "18 digits after the point"),
        ("1" * 39, "38 digits"),
        ("1" * 21 + "." + "1" * 18, "38 digits"),
        ("1" * 5_000_000, "38 digits"),
        ("abc", "must be"),
        ("1_0", "must be"),
        (" 1", "must be"),
        ("1\n", "must be"),
        ("1,5", "must be"),
        ("٣", "must be"),
        ("NaN", "must be"),
        ("Infinity", "must be"),
        ("-", "must be"),
        ("--1", "must be"),
    ],
)
def test_parse_when_grammar_is_broken_names_field_rule_and_value(text: str, rule: str) -> None:
    """One reason for people, one for programs, and a message that stays short."""
    with pytest.raises(InvalidRequest) as caught:
        parse_decimal(text, field="order.price")
    error = caught.value
    assert (error.reason, error.field) == (Reason.INVALID_DECIMAL, "order.price")
    assert rule in error.message
    assert error.message.startswith("order.price: ")
    assert len(error.message) < 200


@pytest.mark.parametrize("text", ["0", "1", "-1", "0.1", "-0.5", "10", "61234.5", "0." + "0" * 17 + "1", "9" * 38])
def test_parse_when_canonical_is_accepted(text: str) -> None:
    """The whole range of the grammar."""
    assert format_decimal(parse_decimal(text, field="x")) == text


def test_parse_when_38_digits_lie_on_both_sides_of_the_point_is_accepted() -> None:
    """Twenty before and eighteen after, with a minus: the longest text there is."""
    text = "-" + "9" * 20 + "." + "9" * 18
    assert parse_decimal(text, field="x") == Decimal(text)


@pytest.mark.parametrize(
    "value", ["NaN", "-NaN123", "sNaN", "Infinity", "-Infinity", "1E-19", "1E+38", "1E+999999", "1" * 39]
)
def test_format_when_value_has_no_wire_form_refuses(value: str) -> None:
    """Nothing is rounded in silence on its way out."""
    with pytest.raises(ValueError, match="no wire form"):
        format_decimal(Decimal(value))


@given(value=wire_numbers(), step=steps, rounding=st.sampled_from(Rounding))
def test_round_to_step_when_any_value_gives_the_neighbour_on_the_named_side(
    value: Decimal, step: Decimal, rounding: Rounding
) -> None:
    """The result is a multiple, less than a step away, on the right side; rounding again changes nothing."""
    rounded = round_to_step(value, step=step, rounding=rounding)
    assert is_multiple(rounded, step=step)
    assert abs(EXACT.subtract(rounded, value)) < step
    assert round_to_step(rounded, step=step, rounding=rounding) == rounded
    match rounding:
        case Rounding.FLOOR:
            assert rounded <= value
        case Rounding.CEILING:
            assert rounded >= value
        case Rounding.TOWARDS_ZERO:
            assert abs(rounded) <= abs(value)
        case Rounding.AWAY_FROM_ZERO:
            assert abs(rounded) >= abs(value)
        case Rounding.NEAREST:
            assert EXACT.multiply(abs(EXACT.subtract(rounded, value)), Decimal(2)) <= step


@given(count=st.integers(-(10**20), 10**20), step=steps)
def test_is_multiple_when_value_is_steps_is_true_and_beside_it_false(count: int, step: Decimal) -> None:
    """The grid is exact, also for steps such as 0.03 that no power of ten divides."""
    value = EXACT.multiply(Decimal(count), step)
    assert is_multiple(value, step=step)
    assert not is_multiple(EXACT.add(value, EXACT.multiply(step, Decimal("0.5"))), step=step)


@pytest.mark.parametrize("step", ["0", "-0.1", "NaN"])
def test_round_to_step_when_step_is_not_positive_refuses(step: str) -> None:
    """A zero tick is a broken instrument, not a free price."""
    with pytest.raises((ValueError, decimal.InvalidOperation)):
        round_to_step(Decimal(1), step=Decimal(step), rounding=Rounding.FLOOR)


def test_divide_when_quotient_is_endless_rounds_to_what_the_wire_carries() -> None:
    """An average price of thirds goes out with 18 digits."""
    assert format_decimal(divide(Decimal(2), Decimal(3))) == "0.666666666666666667"
    assert to_wire(Decimal("0.0000000000000000005")) == 0


def test_exact_when_a_digit_would_be_lost_raises() -> None:
    """EXACT never rounds."""
    with pytest.raises(decimal.Inexact):
        EXACT.divide(Decimal(1), Decimal(3))


def test_use_exact_arithmetic_when_called_keeps_digits_of_plain_operators() -> None:
    """`+` in code that knows nothing of EXACT loses nothing either."""
    big, small = Decimal("9" * 30), Decimal("0.1")
    default_precision = decimal.DefaultContext.prec
    try:
        with decimal.localcontext():
            use_exact_arithmetic()
            assert (big + small) - big == small
    finally:
        decimal.DefaultContext.prec = default_precision
