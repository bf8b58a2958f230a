"""Bad input: each refused before it is sent, with its reason and the field named, and the key left free."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from tests.contract.client import BUY, CALL_S, Client
from tests.contract.numbers import is_valid_price, off_tick, plain
from tests.contract.refusals import reason_of, refused
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as wire

UNKNOWN = 9999
LATER = Timestamp(seconds=4_000_000_000)

BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "quantity-zero": ({"quantity": "0"}, "QUANTITY_NOT_POSITIVE", "order.quantity"),
    "quantity-negative": ({"quantity": "-1"}, "QUANTITY_NOT_POSITIVE", "order.quantity"),
    "quantity-missing": ({"quantity": ""}, "REQUIRED_FIELD_MISSING", "order.quantity"),
    "quantity-exponent": ({"quantity": "1e3"}, "INVALID_DECIMAL", "order.quantity"),
    "quantity-plus": ({"quantity": "+1"}, "INVALID_DECIMAL", "order.quantity"),
    "quantity-comma": ({"quantity": "1,5"}, "INVALID_DECIMAL", "order.quantity"),
    "quantity-trailing-zero": ({"quantity": "1.50"}, "INVALID_DECIMAL", "order.quantity"),
    "quantity-leading-zero": ({"quantity": "01"}, "INVALID_DECIMAL", "order.quantity"),
    "quantity-nan": ({"quantity": "NaN"}, "INVALID_DECIMAL", "order.quantity"),
    "quantity-too-fine": ({"quantity": "0.0000000000000000001"}, "INVALID_DECIMAL", "order.quantity"),
    "quantity-other-digits": ({"quantity": "١"}, "INVALID_DECIMAL", "order.quantity"),
    "price-missing": ({"price": None}, "REQUIRED_FIELD_MISSING", "order.price"),
    "price-zero": ({"price": "0"}, "PRICE_NOT_POSITIVE", "order.price"),
    "price-negative": ({"price": "-5"}, "PRICE_NOT_POSITIVE", "order.price"),
    "price-no-number": ({"price": "ten"}, "INVALID_DECIMAL", "order.price"),
    "side-missing": ({"side": pb.SIDE_UNSPECIFIED, "price": "1"}, "REQUIRED_FIELD_MISSING", "order.side"),
    "side-unknown": ({"side": UNKNOWN, "price": "1"}, "INVALID_ARGUMENT", "order.side"),
    "type-missing": ({"order_type": 0}, "REQUIRED_FIELD_MISSING", "order.order_type"),
    "type-unknown": ({"order_type": UNKNOWN}, "INVALID_ARGUMENT", "order.order_type"),
    "time-in-force-missing": ({"time_in_force": 0}, "REQUIRED_FIELD_MISSING", "order.time_in_force"),
    "time-in-force-unknown": ({"time_in_force": UNKNOWN}, "INVALID_ARGUMENT", "order.time_in_force"),
    "instruction-missing": ({"instructions": [0]}, "REQUIRED_FIELD_MISSING", "order.instructions"),
    "instruction-unknown": ({"instructions": [UNKNOWN]}, "INVALID_ARGUMENT", "order.instructions"),
    "key-missing": ({"client_order_id": ""}, "REQUIRED_FIELD_MISSING", "order.client_order_id"),
    "key-too-long": ({"client_order_id": "x" * 37}, "INVALID_CLIENT_ORDER_ID", "order.client_order_id"),
    "key-with-space": ({"client_order_id": "a b"}, "INVALID_CLIENT_ORDER_ID", "order.client_order_id"),
    "key-with-umlaut": ({"client_order_id": "schlüssel"}, "INVALID_CLIENT_ORDER_ID", "order.client_order_id"),
    "symbol-missing": ({"symbol": ""}, "REQUIRED_FIELD_MISSING", "order.symbol"),
    "slippage-on-limit": ({"max_slippage_bps": 10}, "CONTRADICTORY_FIELDS", "order.max_slippage_bps"),
    "trigger-on-limit": ({"trigger": pb.Trigger(price="1")}, "CONTRADICTORY_FIELDS", "order.trigger"),
    "expiry-on-gtc": ({"expire_time": LATER}, "CONTRADICTORY_FIELDS", "order.expire_time"),
    "price-on-market": (
        {"order_type": pb.ORDER_TYPE_MARKET, "time_in_force": pb.TIME_IN_FORCE_IOC},
        "CONTRADICTORY_FIELDS",
        "order.price",
    ),
    "too-many-tags": ({"tags": {str(n): "x" for n in range(17)}}, "INVALID_ARGUMENT", "order.tags"),
    "tag-too-long": ({"tags": {"k": "x" * 65}}, "INVALID_ARGUMENT", "order.tags"),
}
NOT_FOUND: dict[str, tuple[dict[str, Any], str, str]] = {
    "symbol-unknown": ({"symbol": "NO/SUCH:SYMBOL"}, "INSTRUMENT_NOT_FOUND", "order.symbol"),
    "account-unknown": ({"account_id": "no-such-account"}, "ACCOUNT_NOT_FOUND", "order.account_id"),
}


@pytest.mark.parametrize("case", [*BAD, *NOT_FOUND])
async def test_bad_field_is_refused_with_reason_and_field(client: Client, case: str) -> None:
    """Nothing was sent; a preview says the same."""
    changes, reason, field = (BAD | NOT_FOUND)[case]
    order = client.new_order(await client.quote(), **changes)
    refusal = await refused(client.submit(order))
    code = grpc.StatusCode.NOT_FOUND if case in NOT_FOUND else grpc.StatusCode.INVALID_ARGUMENT
    assert (refusal.code, refusal.reason, refusal.fields, refusal.sent) == (code, reason, [field], "no")
    assert field in refusal.message
    preview = wire.PreviewOrderRequest(order=order)
    if not case.startswith("key-missing"):
        answer = await client.orders.PreviewOrder(preview, timeout=CALL_S)
        assert reason in [reason_of(reject) for reject in answer.rejects]
    await assert_free(client, order)


async def assert_free(client: Client, order: pb.NewOrder) -> None:
    """No order has the key."""
    if 0 < len(order.client_order_id) <= 36 and order.account_id == client.account_id:
        assert (await refused(client.order(order.client_order_id))).reason == "ORDER_NOT_FOUND"


async def test_other_venue_is_refused(client: Client) -> None:
    """A gateway has one venue."""
    refusal = await refused(client.submit(client.new_order(await client.quote(), venue="no-such-venue")))
    assert (refusal.reason, refusal.fields, refusal.sent) == ("VENUE_NOT_FOUND", ["order.venue"], "no")


async def test_price_off_tick_is_refused_with_the_nearest_valid_ones(client: Client) -> None:
    """They bracket the price, are valid, and one of them is taken."""
    quote = await client.quote()
    rule = client.instrument.price_rule
    price = off_tick(Decimal(client.away(quote)), rule)
    refusal = await refused(client.submit(client.new_order(quote, price=plain(price))))
    assert (refusal.reason, refusal.fields, refusal.sent) == ("PRICE_OFF_TICK", ["order.price"], "no")
    below, above = (Decimal(refusal.metadata[name]) for name in ("nearest_below", "nearest_above"))
    assert below < price < above
    assert is_valid_price(below, rule)
    assert is_valid_price(above, rule)
    answer = await client.submit(client.new_order(quote, price=refusal.metadata["nearest_below"]))
    assert answer.outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED


async def test_quantity_off_lot_is_refused_with_the_nearest_valid_ones(client: Client) -> None:
    """They bracket the quantity, are multiples of the step, and one of them is taken."""
    quote = await client.quote()
    step = Decimal(client.instrument.quantity_rule.step_size)
    quantity = Decimal(client.quantity(quote)) + step / 2
    refusal = await refused(client.submit(client.new_order(quote, quantity=plain(quantity))))
    assert (refusal.reason, refusal.fields, refusal.sent) == ("QUANTITY_OFF_LOT", ["order.quantity"], "no")
    below, above = (Decimal(refusal.metadata[name]) for name in ("nearest_below", "nearest_above"))
    assert above - below == step
    assert below < quantity < above
    assert not below % step
    assert not above % step
    answer = await client.submit(client.new_order(quote, quantity=refusal.metadata["nearest_above"]))
    assert answer.outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED


async def test_order_below_the_smallest_notional_or_quantity_is_refused(client: Client) -> None:
    """The rule it breaks is named; markets and limits alike."""
    rule = client.instrument.quantity_rule
    quote = await client.quote()
    step = Decimal(rule.step_size)
    too_small = rule.HasField("min_quantity") and Decimal(rule.min_quantity) > step
    too_cheap = rule.HasField("min_notional") and Decimal(rule.min_notional) > step * quote.ask
    if not (too_small or too_cheap):
        pytest.skip("the smallest step is a valid order")
    expected = "BELOW_MIN_QUANTITY" if too_small else "BELOW_MIN_NOTIONAL"
    for order in (client.new_order(quote, quantity=plain(step)), client.taking_order(quote, quantity=plain(step))):
        refusal = await refused(client.submit(order))
        assert (refusal.reason, refusal.fields, refusal.sent) == (expected, ["order.quantity"], "no")


async def test_several_faults_are_all_told_by_a_preview(client: Client) -> None:
    """A submit stops at the first; a preview mends and goes on."""
    order = client.new_order(await client.quote(), quantity="0", price="1e5", side=0)
    answer = await client.orders.PreviewOrder(wire.PreviewOrderRequest(order=order), timeout=CALL_S)
    reasons = [reason_of(reject) for reject in answer.rejects]
    assert {"QUANTITY_NOT_POSITIVE", "INVALID_DECIMAL", "REQUIRED_FIELD_MISSING"} <= set(reasons)


async def test_missing_order_and_unknown_level_are_refused(client: Client) -> None:
    """What surrounds the order is checked too."""
    refusal = await refused(client.orders.SubmitOrder(wire.SubmitOrderRequest(), timeout=CALL_S))
    assert (refusal.reason, refusal.fields) == ("REQUIRED_FIELD_MISSING", ["order"])
    refusal = await refused(client.submit(client.new_order(await client.quote()), UNKNOWN))
    assert (refusal.reason, refusal.fields) == ("INVALID_ARGUMENT", ["ack_level"])


async def test_message_of_ten_megabytes_is_refused(client: Client) -> None:
    """The bound is told, and the connection goes on."""
    order = client.new_order(await client.quote(), tags={"k": "x" * 10_000_000})
    refusal = await refused(client.submit(order))
    assert (refusal.reason, refusal.sent) == ("MESSAGE_TOO_LARGE", "no")
    assert (await client.account()).account_id == client.account_id


async def test_unknown_fields_are_passed_over(client: Client) -> None:
    """A newer caller's order is taken; what this release does not know changes nothing."""
    order = client.new_order(await client.quote(), side=BUY)
    # Field 2000, a string: no message of this release has it.
    raw = order.SerializeToString() + b"\x82\x7d\x05later"
    newer = pb.NewOrder.FromString(raw)
    assert newer != order
    answer = await client.submit(newer)
    assert answer.outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
    assert answer.order.terms.client_order_id == order.client_order_id
    assert (await client.submit(newer)).replayed


async def test_unknown_enum_numbers_in_reads_are_refused_not_a_fault(client: Client) -> None:
    """Named by field; INTERNAL would be ours."""
    request = wire.ListOrdersRequest(account_id=client.account_id, venue=client.name, statuses=[UNKNOWN])  # type: ignore[list-item]
    refusal = await refused(client.orders.ListOrders(request, timeout=CALL_S))
    assert (refusal.reason, refusal.fields) == ("INVALID_ARGUMENT", ["statuses"])
