"""Is this an order the venue could take? Checked before anything is journalled or sent. Pure.

Each rule refuses with its reason, the field and the value, and the nearest values that would pass where there are
some. The venue's capability record and the instrument's own rules are all it knows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from functools import cache

from venuemesh.errors import InvalidOrder, PreconditionFailed, Reason
from venuemesh.money import EXACT, Rounding, format_decimal, is_multiple, parse_decimal, round_to_step
from venuemesh.v1 import instrument_pb2, venue_pb2
from venuemesh.v1 import order_pb2 as pb

CLIENT_ORDER_ID = re.compile(r"[A-Za-z0-9_-]{1,36}", re.ASCII)
MARKET_TYPES = frozenset(
    (pb.ORDER_TYPE_MARKET, pb.ORDER_TYPE_STOP_MARKET, pb.ORDER_TYPE_TAKE_PROFIT_MARKET, pb.ORDER_TYPE_TWAP)
)
TAKE_PROFITS = frozenset((pb.ORDER_TYPE_TAKE_PROFIT_MARKET, pb.ORDER_TYPE_TAKE_PROFIT_LIMIT))
TRIGGER_TYPES = frozenset(
    (
        pb.ORDER_TYPE_STOP_MARKET,
        pb.ORDER_TYPE_STOP_LIMIT,
        pb.ORDER_TYPE_TAKE_PROFIT_MARKET,
        pb.ORDER_TYPE_TAKE_PROFIT_LIMIT,
    )
)
RESTING = frozenset((pb.TIME_IN_FORCE_GTC, pb.TIME_IN_FORCE_GTD))
MAX_TAGS = 16
MAX_TAG_CHARACTERS = 64
MAX_SLIPPAGE_BPS = 5_000
TEN = Decimal(10)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedOrder:
    """What the checks parsed on their way; `price` and `trigger_price` are None where the order has none."""

    quantity: Decimal
    price: Decimal | None
    trigger_price: Decimal | None


def check_client_id(value: str, *, field: str) -> None:
    """Refuse a `client_order_id` or `request_id` that is not 1 to 36 of letters, digits, "-" and "_"."""
    if not value:
        raise _invalid(Reason.REQUIRED_FIELD_MISSING, field, "is required")
    if not CLIENT_ORDER_ID.fullmatch(value):
        shown = value if len(value) <= 48 else f"{value[:48]}... ({len(value)} characters)"
        raise _invalid(
            Reason.INVALID_CLIENT_ORDER_ID, field, f'must be 1 to 36 of letters, digits, "-" and "_", got {shown!r}'
        )


def check_fields(order: pb.NewOrder) -> CheckedOrder:
    """Refuse an order that no venue could take: missing, malformed or contradictory fields.

    Raises:
        InvalidOrder, InvalidRequest: naming the field.
    """
    check_client_id(order.client_order_id, field="order.client_order_id")
    for name in ("account_id", "symbol"):
        if not getattr(order, name):
            raise _invalid(Reason.REQUIRED_FIELD_MISSING, f"order.{name}", "is required")
    _check_enum(order.side, pb.Side, "order.side")
    _check_enum(order.order_type, pb.OrderType, "order.order_type")
    for instruction in order.instructions:
        _check_enum(instruction, pb.ExecutionInstruction, "order.instructions")
    if order.time_in_force:
        _check_enum(order.time_in_force, pb.TimeInForce, "order.time_in_force")
    _check_not_ignored(order)
    quantity = _positive(order.quantity, "order.quantity", Reason.QUANTITY_NOT_POSITIVE)
    _check_labels(order)
    return CheckedOrder(quantity=quantity, price=_checked_price(order), trigger_price=_checked_trigger(order))


def _check_enum(value: int, kind: object, field: str) -> None:
    if value == 0:
        raise _invalid(Reason.REQUIRED_FIELD_MISSING, field, "is required, got UNSPECIFIED")
    if value not in _known_values(kind):
        raise _invalid(Reason.INVALID_ARGUMENT, field, f"has a value this gateway does not know: {value}")


@cache
def _known_values(kind: object) -> frozenset[int]:
    return frozenset(kind.values())  # type: ignore[attr-defined]


def _check_not_ignored(order: pb.NewOrder) -> None:
    """Refuse what no gateway acts on yet, rather than leave it out silently."""
    if order.HasField("twap") and order.order_type != pb.ORDER_TYPE_TWAP:
        raise _invalid(Reason.CONTRADICTORY_FIELDS, "order.twap", "must be absent for this order type")
    if order.self_trade_prevention != pb.SELF_TRADE_PREVENTION_UNSPECIFIED:
        raise _invalid(
            Reason.UNSUPPORTED_INSTRUCTION, "order.self_trade_prevention", "only the venue's own rule is offered"
        )
    if order.trigger.price_type != pb.TRIGGER_PRICE_TYPE_UNSPECIFIED:
        raise _invalid(
            Reason.UNSUPPORTED_INSTRUCTION, "order.trigger.price_type", "only the venue's own choice is offered"
        )


def _check_labels(order: pb.NewOrder) -> None:
    if len(order.tags) > MAX_TAGS:
        raise _invalid(Reason.INVALID_ARGUMENT, "order.tags", f"has {len(order.tags)} entries, at most {MAX_TAGS}")
    for key, value in order.tags.items():
        if max(len(key), len(value)) > MAX_TAG_CHARACTERS:
            raise _invalid(Reason.INVALID_ARGUMENT, "order.tags", f"keys and values have at most {MAX_TAG_CHARACTERS}")
    if len(order.correlation_id) > MAX_TAG_CHARACTERS:
        raise _invalid(Reason.INVALID_ARGUMENT, "order.correlation_id", f"has at most {MAX_TAG_CHARACTERS} characters")
    if order.max_slippage_bps > MAX_SLIPPAGE_BPS:
        raise _invalid(
            Reason.INVALID_ARGUMENT,
            "order.max_slippage_bps",
            f"is {order.max_slippage_bps}, at most {MAX_SLIPPAGE_BPS}",
        )


def _checked_price(order: pb.NewOrder) -> Decimal | None:
    if order.order_type in MARKET_TYPES:
        if order.HasField("price"):
            raise _invalid(Reason.CONTRADICTORY_FIELDS, "order.price", "must be absent for market types")
        return None
    if not order.HasField("price"):
        raise _invalid(Reason.REQUIRED_FIELD_MISSING, "order.price", "is required for limit types")
    if order.HasField("max_slippage_bps"):
        raise _invalid(Reason.CONTRADICTORY_FIELDS, "order.max_slippage_bps", "must be absent for limit types")
    return _positive(order.price, "order.price", Reason.PRICE_NOT_POSITIVE)


def _checked_trigger(order: pb.NewOrder) -> Decimal | None:
    if order.order_type not in TRIGGER_TYPES:
        if order.HasField("trigger"):
            raise _invalid(Reason.CONTRADICTORY_FIELDS, "order.trigger", "must be absent for this order type")
        return None
    if not order.HasField("trigger"):
        raise _invalid(Reason.REQUIRED_FIELD_MISSING, "order.trigger", "is required for stop and take-profit types")
    return _positive(order.trigger.price, "order.trigger.price", Reason.PRICE_NOT_POSITIVE)


def _positive(text: str, field: str, reason: Reason) -> Decimal:
    if not text:
        raise _invalid(Reason.REQUIRED_FIELD_MISSING, field, "is required")
    value = parse_decimal(text, field=field)
    if value <= 0:
        raise _invalid(reason, field, f"must be more than 0, got {text}")
    return value


def time_in_force_of(order: pb.NewOrder) -> pb.TimeInForce.ValueType:
    """What the order asks for; IOC for a market order that says nothing.

    Raises:
        InvalidOrder: a limit order says nothing, or GTD has no time.
    """
    field = "order.time_in_force"
    if (order.time_in_force == pb.TIME_IN_FORCE_GTD) != order.HasField("expire_time"):
        raise _invalid(Reason.CONTRADICTORY_FIELDS, "order.expire_time", "is required with GTD and absent otherwise")
    if order.time_in_force == pb.TIME_IN_FORCE_UNSPECIFIED:
        if order.order_type == pb.ORDER_TYPE_MARKET:
            return pb.TIME_IN_FORCE_IOC
        if order.order_type in MARKET_TYPES:
            return pb.TIME_IN_FORCE_GTC
        raise _invalid(Reason.REQUIRED_FIELD_MISSING, field, "is required for limit types, got UNSPECIFIED")
    return order.time_in_force


def check_capabilities(order: pb.NewOrder, capabilities: venue_pb2.VenueCapabilities) -> None:
    """Refuse, by name, a combination the venue does not offer.

    Raises:
        InvalidOrder: UNSUPPORTED_ORDER_TYPE, UNSUPPORTED_TIME_IN_FORCE or UNSUPPORTED_INSTRUCTION.
    """
    support = next((entry for entry in capabilities.order_types if entry.order_type == order.order_type), None)
    if support is None:
        raise _unsupported(
            Reason.UNSUPPORTED_ORDER_TYPE,
            "order.order_type",
            pb.OrderType.Name(order.order_type),
            [pb.OrderType.Name(entry.order_type) for entry in capabilities.order_types],
        )
    if order.order_type == pb.ORDER_TYPE_TWAP:
        _check_schedule(order, capabilities)
    time_in_force = time_in_force_of(order)
    if time_in_force not in support.times_in_force:
        raise _unsupported(
            Reason.UNSUPPORTED_TIME_IN_FORCE,
            "order.time_in_force",
            pb.TimeInForce.Name(time_in_force),
            [pb.TimeInForce.Name(value) for value in support.times_in_force],
        )
    for instruction in order.instructions:
        if instruction not in support.instructions:
            raise _unsupported(
                Reason.UNSUPPORTED_INSTRUCTION,
                "order.instructions",
                pb.ExecutionInstruction.Name(instruction),
                [pb.ExecutionInstruction.Name(value) for value in support.instructions],
            )
    if pb.EXECUTION_INSTRUCTION_POST_ONLY in order.instructions and time_in_force not in RESTING:
        raise _invalid(
            Reason.CONTRADICTORY_FIELDS, "order.instructions", "POST_ONLY needs TIME_IN_FORCE_GTC or GTD: it must rest"
        )


def _check_schedule(order: pb.NewOrder, capabilities: venue_pb2.VenueCapabilities) -> None:
    """A TWAP runs for whole minutes, within the venue's bounds."""
    field = "order.twap.duration"
    if not order.HasField("twap"):
        raise _invalid(Reason.REQUIRED_FIELD_MISSING, "order.twap", "is required for TWAP orders")
    seconds, nanos = order.twap.duration.seconds, order.twap.duration.nanos
    if nanos or seconds % 60 or seconds <= 0:
        raise _invalid(Reason.INVALID_ARGUMENT, field, f"must be whole minutes, got {seconds}s {nanos}ns")
    shortest, longest = capabilities.min_twap_duration.seconds, capabilities.max_twap_duration.seconds
    if not shortest <= seconds <= longest:
        raise _invalid(
            Reason.INVALID_ARGUMENT,
            field,
            f"{seconds // 60} minutes; this venue takes {shortest // 60} to {longest // 60}",
            {"min_minutes": str(shortest // 60), "max_minutes": str(longest // 60)},
        )
    if order.twap.randomize and not capabilities.twap_randomize:
        raise _invalid(Reason.UNSUPPORTED_INSTRUCTION, "order.twap.randomize", "this venue does not vary the slices")
    if order.HasField("max_slippage_bps") and not capabilities.twap_bounded:
        # The venue takes none; leaving it out silently would promise a worst price there is not.
        raise _invalid(Reason.UNSUPPORTED_INSTRUCTION, "order.max_slippage_bps", "must be absent for TWAP orders")


def check_expiry(order: pb.NewOrder, capabilities: venue_pb2.VenueCapabilities, now_ns: int) -> None:
    """Refuse an end of a GTD order that has passed, or is nearer or further than the venue takes."""
    if not order.HasField("expire_time"):
        return
    field = "order.expire_time"
    ahead_ns = order.expire_time.ToNanoseconds() - now_ns
    if ahead_ns <= 0:
        raise _invalid(Reason.INVALID_ARGUMENT, field, f"{order.expire_time.ToJsonString()} has passed")
    shortest, longest = capabilities.min_good_till, capabilities.max_good_till
    if capabilities.HasField("min_good_till") and ahead_ns < shortest.ToNanoseconds():
        raise _out_of_bounds(field, ahead_ns, "least", shortest.seconds)
    if capabilities.HasField("max_good_till") and ahead_ns > longest.ToNanoseconds():
        raise _out_of_bounds(field, ahead_ns, "most", longest.seconds)


def _out_of_bounds(field: str, ahead_ns: int, word: str, bound_s: int) -> InvalidOrder:
    rule = f"must be at {word} {bound_s} s ahead at this venue, is {ahead_ns // 1_000_000_000} s"
    return _invalid(Reason.INVALID_ARGUMENT, field, rule, {f"{word}_s": str(bound_s)})


def check_instrument(
    order: CheckedOrder, instrument: instrument_pb2.Instrument, *, reduce_only: bool, reference_price: Decimal | None
) -> None:
    """Refuse an order that breaks the instrument's price or quantity rules.

    Args:
        reference_price: what the notional of an order without a price is judged by; None leaves that to the venue.
    Raises:
        InvalidOrder: PRICE_OFF_TICK, QUANTITY_OFF_LOT, BELOW_MIN_NOTIONAL and so on.
        PreconditionFailed: INSTRUMENT_NOT_TRADING.
    """
    if instrument.state != instrument_pb2.INSTRUMENT_STATE_TRADING:
        raise PreconditionFailed(
            f"{instrument.symbol} is {instrument_pb2.InstrumentState.Name(instrument.state)} at {instrument.venue}",
            reason=Reason.INSTRUMENT_NOT_TRADING,
            metadata={"symbol": instrument.symbol},
        )
    if reduce_only and instrument.instrument_type == instrument_pb2.INSTRUMENT_TYPE_SPOT:
        raise _invalid(
            Reason.UNSUPPORTED_INSTRUCTION,
            "order.instructions",
            "REDUCE_ONLY means nothing on spot: there is no position",
        )
    check_price(order.price, instrument.price_rule, field="order.price")
    check_price(order.trigger_price, instrument.price_rule, field="order.trigger.price")
    price = order.price if order.price is not None else reference_price
    _check_quantity(order.quantity, price, instrument.quantity_rule, reduce_only=reduce_only)


def check_price(price: Decimal | None, rule: instrument_pb2.PriceRule, *, field: str) -> None:
    """Refuse a price the rule does not allow; metadata names the nearest ones that pass."""
    if price is None or is_valid_price(price, rule):
        return
    nearest = _neighbours(nearest_price(price, rule, Rounding.FLOOR), nearest_price(price, rule, Rounding.CEILING))
    raise _invalid(
        Reason.PRICE_OFF_TICK,
        field,
        f"{format_decimal(price)} is not a price of this instrument; nearest: {' and '.join(nearest.values())}",
        nearest,
    )


def _neighbours(below: Decimal, above: Decimal) -> dict[str, str]:
    """The nearest values that pass, for the caller; nothing passes that is not above 0."""
    nearest = {"nearest_below": format_decimal(below)} if below > 0 else {}
    return nearest | {"nearest_above": format_decimal(above)}


def is_valid_price(price: Decimal, rule: instrument_pb2.PriceRule) -> bool:
    """Whether the instrument's price rule allows `price`."""
    if rule.integers_always_valid and price == price.to_integral_value():
        return True
    return is_multiple(price, step=_price_step(price, rule))


def nearest_price(price: Decimal, rule: instrument_pb2.PriceRule, rounding: Rounding) -> Decimal:
    """The closest price in the direction of `rounding` that the rule allows."""
    step = _price_step(price, rule)
    if rule.integers_always_valid and step > 1:
        step = Decimal(1)
    return round_to_step(price, step=step, rounding=rounding)


def _price_step(price: Decimal, rule: instrument_pb2.PriceRule) -> Decimal:
    """Distance between allowed prices near `price`: the coarsest of tick, decimals and figures."""
    steps = [Decimal(rule.tick_size)] if rule.HasField("tick_size") else []
    if rule.HasField("max_decimals"):
        steps.append(TEN**-rule.max_decimals)
    if rule.HasField("max_significant_figures"):
        steps.append(TEN ** (price.adjusted() - rule.max_significant_figures + 1))
    return max(steps)


def _check_quantity(
    quantity: Decimal, price: Decimal | None, rule: instrument_pb2.QuantityRule, *, reduce_only: bool
) -> None:
    field = "order.quantity"
    shown = format_decimal(quantity)
    step = Decimal(rule.step_size)
    if not is_multiple(quantity, step=step):
        below = round_to_step(quantity, step=step, rounding=Rounding.FLOOR)
        above = round_to_step(quantity, step=step, rounding=Rounding.CEILING)
        raise _invalid(
            Reason.QUANTITY_OFF_LOT,
            field,
            f"{shown} is not a multiple of {rule.step_size}",
            _neighbours(below, above),
        )
    if rule.HasField("min_quantity") and quantity < Decimal(rule.min_quantity):
        raise _invalid(Reason.BELOW_MIN_QUANTITY, field, f"{shown} is under the smallest, {rule.min_quantity}")
    if rule.HasField("max_quantity") and quantity > Decimal(rule.max_quantity):
        raise _invalid(Reason.ABOVE_MAX_QUANTITY, field, f"{shown} is over the largest, {rule.max_quantity}")
    if price is None:
        return
    notional = EXACT.multiply(quantity, price)
    # A reduce-only order may close a whole position of any size: only the venue knows, so only it may refuse.
    exempt = reduce_only and rule.close_exempt_from_min_notional
    if rule.HasField("min_notional") and notional < Decimal(rule.min_notional) and not exempt:
        raise _invalid(
            Reason.BELOW_MIN_NOTIONAL,
            field,
            f"{shown} at {format_decimal(price)} is worth {format_decimal(notional)}, at least {rule.min_notional}",
        )
    if rule.HasField("max_notional") and notional > Decimal(rule.max_notional):
        raise _invalid(
            Reason.ABOVE_MAX_NOTIONAL,
            field,
            f"{shown} at {format_decimal(price)} is worth {format_decimal(notional)}, at most {rule.max_notional}",
        )


def _unsupported(reason: Reason, field: str, asked: str, offered: list[str]) -> InvalidOrder:
    return InvalidOrder(
        f"{field}: {asked} is not offered by this venue; offered: {', '.join(offered) or 'none'}",
        reason=reason,
        field=field,
        metadata={"offered": ",".join(offered)},
    )


def _invalid(reason: Reason, field: str, rule: str, metadata: dict[str, str] | None = None) -> InvalidOrder:
    return InvalidOrder(f"{field}: {rule}", reason=reason, field=field, metadata=metadata)
