"""Every way an order can be wrong is refused before it is sent, with its reason and the field."""

from __future__ import annotations

from decimal import Decimal

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.venuemesh.gateway.order_facts import NOW_NS, terms
from venuemesh.errors import InvalidRequest, MeshError, PreconditionFailed, Reason, Sent
from venuemesh.gateway import rules
from venuemesh.gateway.order_wire import timestamp
from venuemesh.money import Rounding, parse_decimal
from venuemesh.v1 import instrument_pb2, venue_pb2
from venuemesh.v1 import order_pb2 as pb

PRICE_RULE = instrument_pb2.PriceRule(max_significant_figures=5, max_decimals=4, integers_always_valid=True)
INSTRUMENT = instrument_pb2.Instrument(
    venue="fake",
    symbol="BTC/USDC:USDC",
    state=instrument_pb2.INSTRUMENT_STATE_TRADING,
    price_rule=PRICE_RULE,
    quantity_rule=instrument_pb2.QuantityRule(
        step_size="0.01",
        min_quantity="0.02",
        max_quantity="1000",
        min_notional="10",
        max_notional="50000",
        close_exempt_from_min_notional=True,
    ),
)
CAPABILITIES = venue_pb2.VenueCapabilities(
    order_types=[
        venue_pb2.OrderTypeSupport(
            order_type=pb.ORDER_TYPE_LIMIT,
            times_in_force=[pb.TIME_IN_FORCE_GTC, pb.TIME_IN_FORCE_IOC],
            instructions=[pb.EXECUTION_INSTRUCTION_POST_ONLY, pb.EXECUTION_INSTRUCTION_REDUCE_ONLY],
        ),
        venue_pb2.OrderTypeSupport(order_type=pb.ORDER_TYPE_MARKET, times_in_force=[pb.TIME_IN_FORCE_IOC]),
        venue_pb2.OrderTypeSupport(order_type=pb.ORDER_TYPE_STOP_MARKET, times_in_force=[pb.TIME_IN_FORCE_GTC]),
    ]
)
MARKET: dict[str, object] = {"order_type": pb.ORDER_TYPE_MARKET, "price": None, "time_in_force": None}
STOP: dict[str, object] = {"order_type": pb.ORDER_TYPE_STOP_MARKET, "price": None, "time_in_force": None}


def check(order: pb.NewOrder) -> rules.CheckedOrder:
    """All rules, in the desk's order."""
    checked = rules.check_fields(order)
    rules.check_capabilities(order, CAPABILITIES)
    reduce_only = pb.EXECUTION_INSTRUCTION_REDUCE_ONLY in order.instructions
    rules.check_instrument(checked, INSTRUMENT, reduce_only=reduce_only, reference_price=None)
    return checked


BAD: list[tuple[dict[str, object], Reason, str]] = [
    ({"key": ""}, Reason.REQUIRED_FIELD_MISSING, "order.client_order_id"),
    ({"key": "x" * 37}, Reason.INVALID_CLIENT_ORDER_ID, "order.client_order_id"),
    ({"key": "x" * 10_000}, Reason.INVALID_CLIENT_ORDER_ID, "order.client_order_id"),
    ({"key": "a b"}, Reason.INVALID_CLIENT_ORDER_ID, "order.client_order_id"),
    ({"key": "a.b"}, Reason.INVALID_CLIENT_ORDER_ID, "order.client_order_id"),
    ({"key": "key\n"}, Reason.INVALID_CLIENT_ORDER_ID, "order.client_order_id"),
    ({"key": "ключ"}, Reason.INVALID_CLIENT_ORDER_ID, "order.client_order_id"),
    ({"key": "٣"}, Reason.INVALID_CLIENT_ORDER_ID, "order.client_order_id"),
    ({"account_id": ""}, Reason.REQUIRED_FIELD_MISSING, "order.account_id"),
    ({"symbol": ""}, Reason.REQUIRED_FIELD_MISSING, "order.symbol"),
    ({"side": None}, Reason.REQUIRED_FIELD_MISSING, "order.side"),
    ({"side": 9999}, Reason.INVALID_ARGUMENT, "order.side"),
    ({"order_type": None}, Reason.REQUIRED_FIELD_MISSING, "order.order_type"),
    ({"order_type": 9999}, Reason.INVALID_ARGUMENT, "order.order_type"),
    ({"time_in_force": None}, Reason.REQUIRED_FIELD_MISSING, "order.time_in_force"),
    ({"time_in_force": 9999}, Reason.INVALID_ARGUMENT, "order.time_in_force"),
    ({"instructions": [0]}, Reason.REQUIRED_FIELD_MISSING, "order.instructions"),
    ({"instructions": [9999]}, Reason.INVALID_ARGUMENT, "order.instructions"),
    ({"quantity": ""}, Reason.REQUIRED_FIELD_MISSING, "order.quantity"),
    ({"quantity": "0"}, Reason.QUANTITY_NOT_POSITIVE, "order.quantity"),
    ({"quantity": "-1"}, Reason.QUANTITY_NOT_POSITIVE, "order.quantity"),
    ({"quantity": "1e3"}, Reason.INVALID_DECIMAL, "order.quantity"),
    ({"quantity": "NaN"}, Reason.INVALID_DECIMAL, "order.quantity"),
    ({"quantity": "1.0"}, Reason.INVALID_DECIMAL, "order.quantity"),
    ({"quantity": "9" * 1_000_000}, Reason.INVALID_DECIMAL, "order.quantity"),
    ({"quantity": "1.005"}, Reason.QUANTITY_OFF_LOT, "order.quantity"),
    ({"quantity": "0.01"}, Reason.BELOW_MIN_QUANTITY, "order.quantity"),
    ({"quantity": "1001"}, Reason.ABOVE_MAX_QUANTITY, "order.quantity"),
    ({"quantity": "0.05"}, Reason.BELOW_MIN_NOTIONAL, "order.quantity"),
    ({"quantity": "600"}, Reason.ABOVE_MAX_NOTIONAL, "order.quantity"),
    ({"price": None}, Reason.REQUIRED_FIELD_MISSING, "order.price"),
    ({"price": ""}, Reason.REQUIRED_FIELD_MISSING, "order.price"),
    ({"price": "0"}, Reason.PRICE_NOT_POSITIVE, "order.price"),
    ({"price": "-5"}, Reason.PRICE_NOT_POSITIVE, "order.price"),
    ({"price": "1,5"}, Reason.INVALID_DECIMAL, "order.price"),
    ({"price": "100.001"}, Reason.PRICE_OFF_TICK, "order.price"),
    ({"price": "12345.6"}, Reason.PRICE_OFF_TICK, "order.price"),
    ({"price": "0.00001"}, Reason.PRICE_OFF_TICK, "order.price"),
    ({**MARKET, "price": "5"}, Reason.CONTRADICTORY_FIELDS, "order.price"),
    ({**MARKET, "max_slippage_bps": 5_001}, Reason.INVALID_ARGUMENT, "order.max_slippage_bps"),
    ({"max_slippage_bps": 5}, Reason.CONTRADICTORY_FIELDS, "order.max_slippage_bps"),
    ({"trigger": pb.Trigger(price="5")}, Reason.CONTRADICTORY_FIELDS, "order.trigger"),
    (STOP, Reason.REQUIRED_FIELD_MISSING, "order.trigger"),
    ({**STOP, "trigger": pb.Trigger()}, Reason.REQUIRED_FIELD_MISSING, "order.trigger.price"),
    ({**STOP, "trigger": pb.Trigger(price="0")}, Reason.PRICE_NOT_POSITIVE, "order.trigger.price"),
    ({**STOP, "trigger": pb.Trigger(price="100.001")}, Reason.PRICE_OFF_TICK, "order.trigger.price"),
    (
        {**STOP, "trigger": pb.Trigger(price="5", price_type=pb.TRIGGER_PRICE_TYPE_INDEX)},
        Reason.UNSUPPORTED_INSTRUCTION,
        "order.trigger.price_type",
    ),
    (
        {**STOP, "trigger": pb.Trigger(price="5"), "expire_time": timestamp(NOW_NS)},
        Reason.CONTRADICTORY_FIELDS,
        "order.expire_time",
    ),
    ({"time_in_force": pb.TIME_IN_FORCE_GTD}, Reason.CONTRADICTORY_FIELDS, "order.expire_time"),
    ({"expire_time": timestamp(NOW_NS)}, Reason.CONTRADICTORY_FIELDS, "order.expire_time"),
    (
        {"time_in_force": pb.TIME_IN_FORCE_GTD, "expire_time": timestamp(NOW_NS)},
        Reason.UNSUPPORTED_TIME_IN_FORCE,
        "order.time_in_force",
    ),
    ({"time_in_force": pb.TIME_IN_FORCE_FOK}, Reason.UNSUPPORTED_TIME_IN_FORCE, "order.time_in_force"),
    (
        {"order_type": pb.ORDER_TYPE_STOP_LIMIT, "trigger": pb.Trigger(price="5")},
        Reason.UNSUPPORTED_ORDER_TYPE,
        "order.order_type",
    ),
    (
        {**MARKET, "instructions": [pb.EXECUTION_INSTRUCTION_POST_ONLY]},
        Reason.UNSUPPORTED_INSTRUCTION,
        "order.instructions",
    ),
    (
        {"instructions": [pb.EXECUTION_INSTRUCTION_POST_ONLY], "time_in_force": pb.TIME_IN_FORCE_IOC},
        Reason.CONTRADICTORY_FIELDS,
        "order.instructions",
    ),
    ({"twap": pb.TwapSchedule(duration=Duration(seconds=60))}, Reason.CONTRADICTORY_FIELDS, "order.twap"),
    (
        {"self_trade_prevention": pb.SELF_TRADE_PREVENTION_CANCEL_RESTING},
        Reason.UNSUPPORTED_INSTRUCTION,
        "order.self_trade_prevention",
    ),
    ({"tags": {str(n): "x" for n in range(17)}}, Reason.INVALID_ARGUMENT, "order.tags"),
    ({"tags": {"x": "y" * 65}}, Reason.INVALID_ARGUMENT, "order.tags"),
    ({"correlation_id": "x" * 65}, Reason.INVALID_ARGUMENT, "order.correlation_id"),
]


@pytest.mark.parametrize(("change", "reason", "field"), BAD, ids=lambda value: str(value)[:60])
def test_bad_order_is_refused_by_reason_and_field(change: dict[str, object], reason: Reason, field: str) -> None:
    """Property 24: nothing is sent, and the caller learns what to mend."""
    with pytest.raises(InvalidRequest) as caught:
        check(terms(**change))  # type: ignore[arg-type]
    assert (caught.value.reason, caught.value.field, caught.value.sent) == (reason, field, Sent.NO)
    assert len(caught.value.message) < 300


GOOD: list[dict[str, object]] = [
    {},
    {"key": "x" * 36},
    {"key": "a-B_9"},
    {"time_in_force": pb.TIME_IN_FORCE_IOC},
    {"instructions": [pb.EXECUTION_INSTRUCTION_POST_ONLY, pb.EXECUTION_INSTRUCTION_REDUCE_ONLY]},
    {"quantity": "0.02", "instructions": [pb.EXECUTION_INSTRUCTION_REDUCE_ONLY]},
    {"quantity": "0.1", "price": "123456"},
    MARKET,
    {**MARKET, "max_slippage_bps": 0},
    {**STOP, "trigger": pb.Trigger(price="90")},
    {"tags": {str(n): "x" * 64 for n in range(16)}},
]


@pytest.mark.parametrize("change", GOOD, ids=lambda value: str(value)[:60])
def test_good_order_passes(change: dict[str, object]) -> None:
    """What the venue offers is not refused."""
    check(terms(**change))  # type: ignore[arg-type]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=80))
def test_any_message_is_taken_or_refused_and_never_a_crash(payload: bytes) -> None:
    """Fuzz: whatever bytes make a NewOrder, the checks end in a refusal of ours or in nothing."""
    try:
        order = pb.NewOrder.FromString(payload)
    except Exception:  # not a message at all
        return
    try:
        check(order)
    except MeshError as error:
        assert error.sent is Sent.NO


def test_instrument_that_does_not_trade_is_refused() -> None:
    """The state of the instrument is named."""
    halted = instrument_pb2.Instrument()
    halted.CopyFrom(INSTRUMENT)
    halted.state = instrument_pb2.INSTRUMENT_STATE_HALTED
    with pytest.raises(PreconditionFailed) as caught:
        rules.check_instrument(rules.check_fields(terms()), halted, reduce_only=False, reference_price=None)
    assert caught.value.reason is Reason.INSTRUMENT_NOT_TRADING


def test_notional_of_a_market_order_is_judged_by_the_reference_price() -> None:
    """Its worst price bounds what it can be worth."""
    checked = rules.check_fields(terms(quantity="0.05", **MARKET))  # type: ignore[arg-type]
    with pytest.raises(InvalidRequest) as caught:
        rules.check_instrument(checked, INSTRUMENT, reduce_only=False, reference_price=Decimal(100))
    assert caught.value.reason is Reason.BELOW_MIN_NOTIONAL


def valid_by_hand(price: Decimal, rule: instrument_pb2.PriceRule) -> bool:
    """The rule read aloud: digits counted on the written number."""
    whole, _, fraction = f"{price.normalize():f}".partition(".")
    figures = len((whole + fraction).lstrip("0").rstrip("0") if fraction else whole.lstrip("0").rstrip("0"))
    if rule.integers_always_valid and not fraction:
        return True
    if rule.HasField("max_decimals") and len(fraction) > rule.max_decimals:
        return False
    if rule.HasField("max_significant_figures") and figures > rule.max_significant_figures:
        return False
    return not rule.HasField("tick_size") or price % Decimal(rule.tick_size) == 0


prices = st.builds(lambda digits, scale: Decimal(digits).scaleb(-scale), st.integers(1, 10**9), st.integers(0, 8))
price_rules = st.sampled_from(
    [
        instrument_pb2.PriceRule(max_significant_figures=5, max_decimals=6, integers_always_valid=True),
        instrument_pb2.PriceRule(max_significant_figures=5, max_decimals=2, integers_always_valid=True),
        instrument_pb2.PriceRule(max_significant_figures=5, max_decimals=0, integers_always_valid=True),
        instrument_pb2.PriceRule(max_significant_figures=5),
        instrument_pb2.PriceRule(max_decimals=3),
        instrument_pb2.PriceRule(tick_size="0.5"),
        instrument_pb2.PriceRule(tick_size="0.05"),
        instrument_pb2.PriceRule(tick_size="5"),
    ]
)


@settings(max_examples=600, deadline=None)
@given(prices, price_rules)
def test_price_rule_equals_counting_digits(price: Decimal, rule: instrument_pb2.PriceRule) -> None:
    """5 significant figures, decimals, whole numbers, ticks: as the venues' documents say it."""
    assert rules.is_valid_price(price, rule) == valid_by_hand(price, rule)


@settings(max_examples=600, deadline=None)
@given(prices, price_rules)
def test_nearest_prices_are_valid_and_the_nearest(price: Decimal, rule: instrument_pb2.PriceRule) -> None:
    """Below and above are prices of the instrument, and no price of it lies between."""
    below = rules.nearest_price(price, rule, Rounding.FLOOR)
    above = rules.nearest_price(price, rule, Rounding.CEILING)
    assert below <= price <= above
    assert not below or valid_by_hand(below, rule)
    assert valid_by_hand(above, rule)
    if valid_by_hand(price, rule):
        assert below == above == price
        return
    for part in range(1, 40):
        between = below + (above - below) * part / 40
        assert not valid_by_hand(between, rule) or between in (below, above)


@settings(max_examples=200, deadline=None)
@given(prices)
def test_refused_price_names_only_neighbours_that_pass(price: Decimal) -> None:
    """The metadata can be sent back as it is."""
    try:
        rules.check_price(price, PRICE_RULE, field="order.price")
    except InvalidRequest as error:
        named = [error.metadata[key] for key in ("nearest_below", "nearest_above") if key in error.metadata]
        assert named
        for text in named:
            rules.check_price(parse_decimal(text, field="x"), PRICE_RULE, field="x")
            assert Decimal(text) > 0


# --- ends of orders, and schedules -------------------------------------------------------------------------

TIMED = venue_pb2.VenueCapabilities(min_good_till=Duration(seconds=300), max_good_till=Duration(seconds=86_400))


@pytest.mark.parametrize("ahead_s", [-1, 0, 299, 86_401])
def test_end_out_of_the_venues_bounds_is_refused_before_it_is_sent(ahead_s: int) -> None:
    """The field and the bound are named (P20)."""
    order = terms(time_in_force=pb.TIME_IN_FORCE_GTD, expire_time=timestamp(NOW_NS + ahead_s * 10**9))
    with pytest.raises(InvalidRequest) as caught:
        rules.check_expiry(order, TIMED, NOW_NS)
    assert (caught.value.reason, caught.value.field) == (Reason.INVALID_ARGUMENT, "order.expire_time")


def test_end_within_the_bounds_or_of_a_venue_without_bounds_passes() -> None:
    """An order without an end has none to check."""
    rules.check_expiry(terms(), TIMED, NOW_NS)
    for ahead_s, record in ((300, TIMED), (86_400, TIMED), (1, CAPABILITIES), (10**6, CAPABILITIES)):
        order = terms(time_in_force=pb.TIME_IN_FORCE_GTD, expire_time=timestamp(NOW_NS + ahead_s * 10**9))
        rules.check_expiry(order, record, NOW_NS)


def test_twap_may_ask_for_what_the_record_lists_and_nothing_else() -> None:
    """A worst price of its slices, and slices that vary."""
    schedule = pb.TwapSchedule(duration=Duration(seconds=600), randomize=True)
    order = terms(order_type=pb.ORDER_TYPE_TWAP, price=None, time_in_force=None, twap=schedule, max_slippage_bps=50)
    record = venue_pb2.VenueCapabilities(
        order_types=[venue_pb2.OrderTypeSupport(order_type=pb.ORDER_TYPE_TWAP, times_in_force=[pb.TIME_IN_FORCE_GTC])],
        min_twap_duration=Duration(seconds=300),
        max_twap_duration=Duration(seconds=3_600),
        twap_bounded=True,
        twap_randomize=True,
    )
    rules.check_capabilities(order, record)
    for name, field in (("twap_randomize", "order.twap.randomize"), ("twap_bounded", "order.max_slippage_bps")):
        less = venue_pb2.VenueCapabilities()
        less.CopyFrom(record)
        less.ClearField(name)  # type: ignore[arg-type]
        with pytest.raises(InvalidRequest) as caught:
            rules.check_capabilities(order, less)
        assert (caught.value.reason, caught.value.field) == (Reason.UNSUPPORTED_INSTRUCTION, field)
