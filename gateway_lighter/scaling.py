"""Decimals of the contract into the venue's integers, exactly, and back. Pure.

A market publishes `size_decimals` and `price_decimals`: on the wire a size is size * 10^size_decimals and a price is
price * 10^price_decimals. What does not fit is refused, never rounded. Source: venue reference section 1.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Final

from venuemesh.errors import InvalidOrder, InvalidRequest, Reason

MAX_SIZE: Final = 2**48 - 1
MAX_PRICE: Final = 2**32 - 1
MARGIN_TICKS: Final = 10_000
"""Initial margin is counted in ticks of 1/10000: leverage is this over the fraction."""

_EXACT: Final = Context(prec=80)
# No order of this world is larger or finer; the bound keeps a hostile exponent from filling memory.
_MAX_MAGNITUDE: Final = 30
_MIN_EXPONENT: Final = -40


def _refuse(field: str, value: object, rule: str, reason: Reason, **details: str) -> InvalidOrder:
    return InvalidOrder(
        f"{field} {value}: {rule}", reason=reason, field=field, metadata={"value": str(value), **details}
    )


def scale(value: Decimal, decimals: int, *, field: str, off_step: Reason = Reason.INVALID_DECIMAL) -> int:
    """value * 10^decimals as an integer.

    Raises:
        InvalidOrder: not finite, absurd, or finer than the venue's step; names the field and the value.
    """
    if not value.is_finite():
        raise _refuse(field, value, "must be a finite number", Reason.INVALID_DECIMAL)
    if value and (value.adjusted() > _MAX_MAGNITUDE or int(value.as_tuple().exponent) < _MIN_EXPONENT):
        raise _refuse(field, value, "is out of any market's range", Reason.INVALID_DECIMAL)
    scaled = value.scaleb(decimals, context=_EXACT)
    whole = scaled.to_integral_value(context=_EXACT)
    if whole != scaled:
        step = format(Decimal(1).scaleb(-decimals), "f")
        raise _refuse(field, value, f"is no multiple of {step}", off_step, step=step)
    return int(whole)


def unscale(value: int, decimals: int) -> Decimal:
    """value / 10^decimals, exact, with all the market's decimals."""
    return Decimal(value).scaleb(-decimals, context=_EXACT)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketScale:
    """The numbers of one market; amounts in base and quote units.

    Raises:
        ValueError: a number of decimals outside 0..18.
    """

    market_index: int
    size_decimals: int
    price_decimals: int
    min_base_amount: Decimal = Decimal(0)
    min_quote_amount: Decimal = Decimal(0)
    order_quote_limit: Decimal | None = None
    min_initial_margin_fraction: int = 0

    def __post_init__(self) -> None:
        if not (0 <= self.size_decimals <= 18 and 0 <= self.price_decimals <= 18):
            raise ValueError(f"market {self.market_index}: decimals must be 0..18")

    @property
    def tick(self) -> Decimal:
        """Smallest difference of two prices."""
        return unscale(1, self.price_decimals)

    @property
    def lot(self) -> Decimal:
        """Smallest difference of two sizes."""
        return unscale(1, self.size_decimals)

    @property
    def max_leverage(self) -> int:
        """Whole leverage the market allows; 0 for spot."""
        return MARGIN_TICKS // self.min_initial_margin_fraction if self.min_initial_margin_fraction else 0

    def scale_size(self, quantity: Decimal, *, field: str = "quantity") -> int:
        """A positive size as 1..2^48-1.

        Raises:
            InvalidOrder: QUANTITY_NOT_POSITIVE, QUANTITY_OFF_LOT, ABOVE_MAX_QUANTITY or INVALID_DECIMAL.
        """
        size = scale(quantity, self.size_decimals, field=field, off_step=Reason.QUANTITY_OFF_LOT)
        if size <= 0:
            raise _refuse(field, quantity, "must be positive", Reason.QUANTITY_NOT_POSITIVE)
        if size > MAX_SIZE:
            most = str(unscale(MAX_SIZE, self.size_decimals))
            raise _refuse(field, quantity, f"is above {most}", Reason.ABOVE_MAX_QUANTITY, maximum=most)
        return size

    def scale_price(self, price: Decimal, *, field: str = "price") -> int:
        """A positive price as 1..2^32-1.

        Raises:
            InvalidOrder: PRICE_NOT_POSITIVE, PRICE_OFF_TICK, PRICE_OUT_OF_BAND or INVALID_DECIMAL.
        """
        scaled = scale(price, self.price_decimals, field=field, off_step=Reason.PRICE_OFF_TICK)
        if scaled <= 0:
            raise _refuse(field, price, "must be positive", Reason.PRICE_NOT_POSITIVE)
        if scaled > MAX_PRICE:
            most = str(unscale(MAX_PRICE, self.price_decimals))
            raise _refuse(field, price, f"is above {most}", Reason.PRICE_OUT_OF_BAND, maximum=most)
        return scaled

    def unscale_size(self, size: int) -> Decimal:
        """Base units of a wire size."""
        return unscale(size, self.size_decimals)

    def unscale_price(self, price: int) -> Decimal:
        """Quote per base of a wire price."""
        return unscale(price, self.price_decimals)

    def check_amounts(self, quantity: Decimal, price: Decimal, *, reduce_only: bool = False) -> None:
        """The market's smallest and largest order; the smallest do not bind a reduce-only order.

        Raises:
            InvalidOrder: BELOW_MIN_QUANTITY, BELOW_MIN_NOTIONAL or ABOVE_MAX_NOTIONAL.
        """
        notional = _EXACT.multiply(quantity, price)
        if not reduce_only and quantity < self.min_base_amount:
            least = str(self.min_base_amount)
            raise _refuse("quantity", quantity, f"is below {least}", Reason.BELOW_MIN_QUANTITY, minimum=least)
        if not reduce_only and notional < self.min_quote_amount:
            least = str(self.min_quote_amount)
            raise _refuse("quantity", quantity, f"is worth less than {least}", Reason.BELOW_MIN_NOTIONAL, minimum=least)
        if self.order_quote_limit is not None and notional > self.order_quote_limit:
            most = str(self.order_quote_limit)
            raise _refuse("quantity", quantity, f"is worth more than {most}", Reason.ABOVE_MAX_NOTIONAL, maximum=most)

    def margin_fraction(self, leverage: int) -> int:
        """Initial margin fraction in ticks for a whole leverage, rounded down as the venue's client does.

        Raises:
            InvalidRequest: outside 1..max_leverage.
        """
        if not 1 <= leverage <= self.max_leverage:
            raise InvalidRequest(
                f"leverage {leverage}: must be 1..{self.max_leverage}",
                reason=Reason.LEVERAGE_OUT_OF_RANGE,
                field="leverage",
                metadata={"value": str(leverage), "maximum": str(self.max_leverage)},
            )
        return max(MARGIN_TICKS // leverage, self.min_initial_margin_fraction)
