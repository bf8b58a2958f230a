"""Prices and quantities an instrument takes, worked out from its rules alone. Pure.

Written from the contract's words and not from the gateway's code, so that the two check each other.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from venuemesh.v1 import instrument_pb2

CANONICAL = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]*[1-9])?")
TEN = Decimal(10)
# How much above the smallest notional an order is, so that it stays above while the market moves.
NOTIONAL_MARGIN = Decimal("1.4")


def is_canonical(text: str) -> bool:
    """Whether `text` is a decimal of the contract: one spelling per number, none of them "-0"."""
    return CANONICAL.fullmatch(text) is not None and text != "-0"


def plain(value: Decimal) -> str:
    """The one spelling of a decimal: no exponent, no zeros at the end."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def price_step(price: Decimal, rule: instrument_pb2.PriceRule) -> Decimal:
    """Distance of valid prices near `price`."""
    steps = [Decimal(rule.tick_size)] if rule.HasField("tick_size") else []
    if rule.HasField("max_decimals"):
        steps.append(TEN**-rule.max_decimals)
    if rule.HasField("max_significant_figures"):
        steps.append(TEN ** (price.adjusted() + 1 - rule.max_significant_figures))
    step = max(steps)
    return min(step, Decimal(1)) if rule.integers_always_valid else step


def is_valid_price(price: Decimal, rule: instrument_pb2.PriceRule) -> bool:
    """Whether an order may have this price."""
    return price > 0 and price % price_step(price, rule) == 0


def round_price(price: Decimal, rule: instrument_pb2.PriceRule, *, up: bool = False) -> Decimal:
    """The next valid price at or below `price`, or at or above it."""
    step = price_step(price, rule)
    return (price / step).to_integral_value(ROUND_CEILING if up else ROUND_FLOOR) * step


def off_tick(price: Decimal, rule: instrument_pb2.PriceRule) -> Decimal:
    """A price near `price` that is not valid: half a step beside one that is."""
    step = price_step(price, rule)
    return round_price(price, rule) + step / 2


def smallest_quantity(price: Decimal, rule: instrument_pb2.QuantityRule, *, times: int = 1) -> Decimal:
    """A quantity a little above what an order at `price` must at least have, `times` over."""
    step = Decimal(rule.step_size)
    wanted = step
    if rule.HasField("min_quantity"):
        wanted = max(wanted, Decimal(rule.min_quantity))
    if rule.HasField("min_notional"):
        wanted = max(wanted, Decimal(rule.min_notional) * NOTIONAL_MARGIN / price)
    return (wanted * times / step).to_integral_value(ROUND_CEILING) * step
