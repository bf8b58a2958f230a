"""Price and size rules of HyperCore, and the one decimal form that may be signed.

A price has at most five significant figures and at most `6 - szDecimals` decimals on perps (`8 - szDecimals`
on spot); whole numbers are always allowed. A size is a multiple of `10 ** -szDecimals`.
Source: official documentation "Tick and lot size"; rules measured in the venue reference, section 1.2.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from enum import StrEnum

from venuemesh.errors import InvalidOrder, Reason

MAX_SIGNIFICANT_FIGURES = 5
MAX_DECIMALS_PERP = 6
MAX_DECIMALS_SPOT = 8
MAX_WIRE_DECIMALS = 8

# Values beyond these are no order of this world; the bound keeps a hostile exponent from filling memory.
_MAX_MAGNITUDE = 30
_MIN_EXPONENT = -40
_EXACT = Context(prec=80)


class Direction(StrEnum):
    """Where a rounded value may land, seen from the value given."""

    DOWN = "down"
    UP = "up"
    NEAREST = "nearest"


_ROUNDING = {
    Direction.DOWN: ROUND_FLOOR,
    Direction.UP: ROUND_CEILING,
    Direction.NEAREST: ROUND_HALF_EVEN,
}


def wire_decimal(value: Decimal, field: str = "value") -> str:
    """The only spelling of `value` that signs correctly: no exponent, no plus, no trailing zeros, no "-0".

    The venue parses and re-spells every decimal before it hashes, so any other spelling recovers a stranger's
    address. The value is never rounded.

    Raises:
        InvalidOrder: not finite, more than eight decimals, or absurdly large; names `field` and the value.
    Source: hyperliquid-python-sdk 0.24.0 `float_to_wire`.
    """
    _require_sane(value, field)
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
        _, _, fraction = text.partition(".")
        if len(fraction) > MAX_WIRE_DECIMALS:
            raise InvalidOrder(
                f"{field} {value} has {len(fraction)} decimals; the venue takes at most {MAX_WIRE_DECIMALS}",
                reason=Reason.INVALID_DECIMAL,
                field=field,
                metadata={"value": text},
            )
    return "0" if text == "-0" else text


def max_price_decimals(sz_decimals: int, *, is_spot: bool) -> int:
    """Decimals a non-integer price may have; never below zero."""
    return max(0, (MAX_DECIMALS_SPOT if is_spot else MAX_DECIMALS_PERP) - sz_decimals)


def is_valid_price(price: Decimal, sz_decimals: int, *, is_spot: bool) -> bool:
    """Whether the venue's tick rule takes `price` (positive, in quote units)."""
    if not _is_sane(price) or price <= 0:
        return False
    exponent, digits = _reduced(price)
    if exponent >= 0:
        return True
    return digits <= MAX_SIGNIFICANT_FIGURES and -exponent <= max_price_decimals(sz_decimals, is_spot=is_spot)


def price_step(price: Decimal, sz_decimals: int, *, is_spot: bool) -> Decimal:
    """Distance between valid prices in the decade of `price`; the rule has no single tick per asset."""
    _require_positive(price, "price", Reason.PRICE_NOT_POSITIVE)
    by_figures = price.adjusted() - (MAX_SIGNIFICANT_FIGURES - 1)
    by_decimals = -max_price_decimals(sz_decimals, is_spot=is_spot)
    return Decimal(1).scaleb(min(0, max(by_figures, by_decimals)))


def round_price(price: Decimal, sz_decimals: int, direction: Direction, *, is_spot: bool) -> Decimal:
    """The valid price nearest to `price` in `direction`; a valid price comes back unchanged in value.

    Raises:
        InvalidOrder: not positive, or rounding down leaves nothing above zero.
    """
    step = price_step(price, sz_decimals, is_spot=is_spot)
    rounded = price.quantize(step, rounding=_ROUNDING[direction], context=_EXACT)
    if rounded <= 0:
        raise InvalidOrder(
            f"price {price} is below the smallest price {step}",
            reason=Reason.PRICE_OFF_TICK,
            field="price",
            metadata={"value": str(price), "smallest": format(step, "f")},
        )
    return rounded


def nearest_prices(price: Decimal, sz_decimals: int, *, is_spot: bool) -> tuple[Decimal | None, Decimal]:
    """Valid prices at or below and at or above `price`; the lower one is None where it would be zero."""
    upper = round_price(price, sz_decimals, Direction.UP, is_spot=is_spot)
    try:
        lower = round_price(price, sz_decimals, Direction.DOWN, is_spot=is_spot)
    except InvalidOrder:
        return None, upper
    return lower, upper


def check_price(price: Decimal, sz_decimals: int, *, is_spot: bool, field: str = "price") -> None:
    """Refuse a price the venue would refuse, naming the nearest prices it would take.

    Raises:
        InvalidOrder: PRICE_NOT_POSITIVE, INVALID_DECIMAL or PRICE_OFF_TICK.
    """
    _require_positive(price, field, Reason.PRICE_NOT_POSITIVE)
    if is_valid_price(price, sz_decimals, is_spot=is_spot):
        return
    lower, upper = nearest_prices(price, sz_decimals, is_spot=is_spot)
    near = [wire_decimal(p, field) for p in (lower, upper) if p is not None]
    decimals = max_price_decimals(sz_decimals, is_spot=is_spot)
    raise InvalidOrder(
        f"{field} {price} is off tick: at most {MAX_SIGNIFICANT_FIGURES} significant figures and "
        f"{decimals} decimals, or a whole number; nearest valid: {' or '.join(near)}",
        reason=Reason.PRICE_OFF_TICK,
        field=field,
        metadata={"value": str(price), "nearest": ",".join(near)},
    )


def size_step(sz_decimals: int) -> Decimal:
    """Lot size in base units."""
    return Decimal(1).scaleb(-sz_decimals)


def round_size(size: Decimal, sz_decimals: int, direction: Direction) -> Decimal:
    """`size` moved to a multiple of the lot; rounding down may give zero."""
    _require_sane(size, "size")
    return size.quantize(size_step(sz_decimals), rounding=_ROUNDING[direction], context=_EXACT)


def check_size(size: Decimal, sz_decimals: int, *, field: str = "size") -> None:
    """Refuse a size that is not a positive multiple of the lot.

    Raises:
        InvalidOrder: QUANTITY_NOT_POSITIVE, INVALID_DECIMAL or QUANTITY_OFF_LOT.
    """
    _require_positive(size, field, Reason.QUANTITY_NOT_POSITIVE)
    if round_size(size, sz_decimals, Direction.DOWN) == size:
        return
    candidates = (round_size(size, sz_decimals, way) for way in (Direction.DOWN, Direction.UP))
    near = [wire_decimal(candidate, field) for candidate in candidates if candidate > 0]
    raise InvalidOrder(
        f"{field} {size} is off lot: must be a multiple of {format(size_step(sz_decimals), 'f')}; "
        f"nearest valid: {' or '.join(near)}",
        reason=Reason.QUANTITY_OFF_LOT,
        field=field,
        metadata={"value": str(size), "nearest": ",".join(near)},
    )


def scaled_integer(value: Decimal, power: int, field: str) -> int:
    """`value * 10 ** power` as an exact integer: micro-USD amounts and the like.

    Raises:
        InvalidOrder: the product is not whole.
    Source: hyperliquid-python-sdk 0.24.0 `float_to_int`.
    """
    _require_sane(value, field)
    scaled = value.scaleb(power, context=_EXACT)
    whole = int(scaled)
    if whole != scaled:
        raise InvalidOrder(
            f"{field} {value} has more than {power} decimals",
            reason=Reason.INVALID_DECIMAL,
            field=field,
            metadata={"value": str(value)},
        )
    return whole


def _reduced(value: Decimal) -> tuple[int, int]:
    """Exponent and digit count of a positive value without trailing zeros; exact at any length."""
    _, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)  # only NaN and infinities have a letter here
    count = len(digits)
    while count > 1 and digits[count - 1] == 0:
        count -= 1
    lead = 0
    while lead < count - 1 and digits[lead] == 0:
        lead += 1
    return exponent + len(digits) - count, count - lead


def _is_sane(value: Decimal) -> bool:
    if not value.is_finite():
        return False
    exponent = value.as_tuple().exponent
    return isinstance(exponent, int) and exponent >= _MIN_EXPONENT and value.adjusted() <= _MAX_MAGNITUDE


def _require_sane(value: Decimal, field: str) -> None:
    if not _is_sane(value):
        raise InvalidOrder(
            f"{field} is not a decimal number of ordinary size",
            reason=Reason.INVALID_DECIMAL,
            field=field,
            metadata={"value": str(value)[:64]},
        )


def _require_positive(value: Decimal, field: str, reason: Reason) -> None:
    _require_sane(value, field)
    if value <= 0:
        raise InvalidOrder(
            f"{field} must be above zero, got {value}",
            reason=reason,
            field=field,
            metadata={"value": str(value)},
        )
