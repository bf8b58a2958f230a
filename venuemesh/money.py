"""Exact decimals: the wire grammar, its canonical form, and the only place that rounds. Pure.

The wire carries a number as a decimal string with one spelling per value, so that equal strings are equal
values. Python's default context keeps 28 digits and would round a sum of larger ones silently; everything
here computes in `EXACT`, which refuses to lose a digit instead.
"""

from __future__ import annotations

import decimal
import re
from collections.abc import Iterable
from decimal import Context, Decimal
from enum import StrEnum

from venuemesh.errors import InvalidRequest, Reason

MAX_DIGITS = 38
MAX_SCALE = 18

_SIGNALS = [decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow]
# Wide enough for a product, or a quotient and its remainder, of any two numbers of the grammar.
_WIDTH = 4 * MAX_DIGITS

EXACT = Context(prec=_WIDTH, rounding=decimal.ROUND_HALF_EVEN, traps=[*_SIGNALS, decimal.Inexact])
"""Adds, subtracts, multiplies and compares without loss; raises `decimal.Inexact` where it cannot."""

_ROUNDED = Context(prec=_WIDTH, rounding=decimal.ROUND_HALF_EVEN, traps=_SIGNALS)
_WIRE_STEP = Decimal(1).scaleb(-MAX_SCALE)
_ZERO = Decimal(0)
_MAX_TEXT = MAX_DIGITS + len("-.")
_ALWAYS_FITS = MAX_SCALE + len("0.")
_SHOWN = 48

_CANONICAL = re.compile(r"(?!-0\Z)-?(?:0|[1-9][0-9]*)(?:\.[0-9]{0,17}[1-9])?", re.ASCII)
_RULES = (
    (re.compile(r"\Z"), "is empty"),
    (re.compile(r".*[eE]", re.DOTALL), "must have no exponent"),
    (re.compile(r"\+"), "must have no plus sign"),
    (re.compile(r"-?\.|.*\.\Z", re.DOTALL), "must have digits on both sides of the point"),
    (
        re.compile(r"(?!-?[0-9]+(?:\.[0-9]+)?\Z)"),
        "must be an optional minus, digits, and optionally a point and digits",
    ),
    (re.compile(r"-?0[0-9]"), "must have no leading zeros"),
    (re.compile(r".*\.[0-9]*0\Z"), "must have no trailing zeros after the point"),
    (re.compile(r"-0\Z"), "must be 0 instead of -0"),
    (re.compile(r".*\.[0-9]{19}"), f"must have at most {MAX_SCALE} digits after the point"),
)


class Rounding(StrEnum):
    """Which neighbour a value between two steps goes to."""

    FLOOR = decimal.ROUND_FLOOR
    """Towards minus infinity: a buy limit price never worse."""
    CEILING = decimal.ROUND_CEILING
    """Towards plus infinity: a sell limit price never worse."""
    TOWARDS_ZERO = decimal.ROUND_DOWN
    """Never more than asked: quantities."""
    AWAY_FROM_ZERO = decimal.ROUND_UP
    """Never less than asked: minimums, fees charged to us."""
    NEAREST = decimal.ROUND_HALF_EVEN
    """For display and averages only."""


def parse_decimal(text: str, *, field: str) -> Decimal:
    """Read a number of a request, in the canonical grammar and no other.

    Optional minus, digits, optionally a point and digits; no exponent, plus, leading zeros, trailing zeros
    after the point or `-0`; at most 38 digits, 18 of them after the point.

    Args:
        text: as it stood in the request.
        field: path of the request field, for the error.
    Raises:
        InvalidRequest: INVALID_DECIMAL, naming the field, the rule and the value.
    """
    if len(text) <= MAX_DIGITS and _CANONICAL.fullmatch(text) is not None:
        return Decimal(text)
    return _parse_carefully(text, field)


def _parse_carefully(text: str, field: str) -> Decimal:
    """The long numbers, and the reason when it is none; `text` can be megabytes, so cut before matching."""
    if len(text) > _MAX_TEXT or sum(map(str.isdigit, text.removeprefix("-").lstrip("0."))) > MAX_DIGITS:
        raise _refused(text, field, f"must have at most {MAX_DIGITS} digits")
    if _CANONICAL.fullmatch(text) is not None:
        return Decimal(text)
    rule = next((rule for pattern, rule in _RULES if pattern.match(text)), "is not a canonical decimal")
    raise _refused(text, field, rule)


def _refused(text: str, field: str, rule: str) -> InvalidRequest:
    shown = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text)} characters)"
    return InvalidRequest(
        f"{field}: {shown!r} {rule}",
        reason=Reason.INVALID_DECIMAL,
        field=field,
        metadata={"rule": rule, "value": shown},
    )


def format_decimal(value: Decimal) -> str:
    """The canonical spelling: `parse_decimal(format_decimal(x)) == x`, whatever zeros `x` carries.

    Raises:
        ValueError: not finite, or outside 38 digits with 18 after the point: round with `to_wire` first.
    """
    text = str(value)
    if "E" in text:
        if not -_MAX_TEXT <= value.adjusted() <= _MAX_TEXT:
            # A zero with a huge exponent is still zero; anything else would print for ever.
            return "0" if not value else _misfit(value)
        text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    if len(text) > _ALWAYS_FITS or not value.is_finite():
        return text if _fits(text) else _misfit(value)
    return "0" if text == "-0" else text


def _fits(text: str) -> bool:
    return _CANONICAL.fullmatch(text) is not None and sum(map(str.isdigit, text.lstrip("-0."))) <= MAX_DIGITS


def _misfit(value: Decimal) -> str:
    raise ValueError(f"{value!r} has no wire form: finite, {MAX_DIGITS} digits, {MAX_SCALE} after the point")


def round_to_step(value: Decimal, *, step: Decimal, rounding: Rounding) -> Decimal:
    """The multiple of `step` that `rounding` names; `value` itself when it is one.

    Args:
        value: a price or quantity.
        step: tick size or lot size, above zero.
    Raises:
        ValueError: `step` is not above zero.
    """
    _require_step(step)
    # At 4 x 38 digits no inexact quotient of two wire numbers can land on the wrong side of a step.
    steps = _ROUNDED.divide(value, step).to_integral_value(rounding=rounding.value, context=_ROUNDED)
    return EXACT.multiply(steps, step)


def is_multiple(value: Decimal, *, step: Decimal) -> bool:
    """Whether `value` lies on the grid of `step` (tick or lot); zero does.

    Raises:
        ValueError: `step` is not above zero.
    """
    _require_step(step)
    return not EXACT.remainder(value, step)


def _require_step(step: Decimal) -> None:
    if not step > 0:
        raise ValueError(f"step must be above zero, got {step}")


def divide(dividend: Decimal, divisor: Decimal) -> Decimal:
    """Quotient rounded half-even to the 18 digits the wire can carry: averages, ratios.

    Raises:
        decimal.DivisionByZero, decimal.InvalidOperation: `divisor` is zero.
    """
    return to_wire(_ROUNDED.divide(dividend, divisor))


def to_wire(value: Decimal) -> Decimal:
    """`value` rounded half-even to 18 digits after the point."""
    return value.quantize(_WIRE_STEP, context=_ROUNDED)


def total(values: Iterable[Decimal]) -> Decimal:
    """Exact sum; zero of nothing."""
    result = _ZERO
    for value in values:
        result = EXACT.add(result, value)
    return result


def use_exact_arithmetic() -> None:
    """Make `+ - *` of this thread, and of tasks and threads started later, as wide as `EXACT`.

    Called once where a process starts. Division still rounds, at 152 digits instead of 28; pass its result
    through `divide` or `to_wire` before it goes out.
    """
    decimal.DefaultContext.prec = _WIDTH
    decimal.setcontext(_ROUNDED.copy())
