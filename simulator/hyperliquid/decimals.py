"""Decimal texts as the venue prints and accepts them. Pure."""

from __future__ import annotations

from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal, InvalidOperation

SIX = Decimal("0.000001")
TEN = Decimal("0.0000000001")


def text(value: Decimal) -> str:
    """Plain digits, no exponent, one zero after the point at least: "1500.0", "0.0", "0.067131"."""
    plain = format(value.normalize(), "f") if value else "0"
    return plain if "." in plain else plain + ".0"


def money(value: Decimal) -> str:
    """`text` of an amount cut to six decimals."""
    return text(value.quantize(SIX, ROUND_DOWN))


def ratio(value: Decimal) -> str:
    """`text` of a ratio rounded to ten decimals."""
    return text(value.quantize(TEN, ROUND_HALF_UP))


def parse(value: str) -> Decimal | None:
    """Decimal of a wire string; None when it is not a plain finite number of sane size."""
    if len(value) > 40 or "_" in value:
        return None
    try:
        number = Decimal(value)
    except InvalidOperation:
        return None
    return number if number.is_finite() and -12 <= number.adjusted() <= 18 else None
