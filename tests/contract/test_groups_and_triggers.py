"""Orders that wait for a price, and orders that belong together, where the venue's record lists them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import grpc
import pytest

from tests.contract.client import BUY, CALL_S, GTC, REDUCE_ONLY, SELL, Client, Quote
from tests.contract.refusals import KNOWN_VENUE_REASONS, reason_of, refused
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as wire
from venuemesh.v1 import venue_pb2

STOP, TAKE_PROFIT = pb.ORDER_TYPE_STOP_MARKET, pb.ORDER_TYPE_TAKE_PROFIT_MARKET


def exit_order(client: Client, quote: Quote, kind: int, **changes: Any) -> pb.NewOrder:
    """A market order to sell that waits for a price far from the market."""
    price = client.away(quote, BUY) if kind == STOP else client.away(quote, SELL)
    fields = {"order_type": kind, "side": SELL, "price": None, "trigger": pb.Trigger(price=price)}
    return client.new_order(quote, **fields, **changes)


def needs(client: Client, *kinds: int) -> None:
    """Skip where the record lists no such order."""
    if not all(client.offers(kind, GTC) for kind in kinds):
        pytest.skip("the venue lists no such trigger orders")


@pytest.mark.parametrize("kind", [STOP, TAKE_PROFIT], ids=["stop", "take-profit"])
async def test_trigger_order_waits_and_is_cancelled(client: Client, kind: int) -> None:
    """It says that it waits, is among the open orders, and goes like any other."""
    needs(client, kind)
    answer = await client.submit(exit_order(client, await client.quote(), kind))
    assert answer.outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
    order = answer.order
    assert (order.working, order.trigger_state) == (True, pb.TRIGGER_STATE_WAITING)
    assert (order.filled_quantity, order.leaves_quantity) == ("0", order.terms.quantity)
    assert order.order_id in {row.order_id for row in await client.open_orders()}
    canceled = await client.cancel(client.by_id(order_id=order.order_id))
    assert canceled.outcome == wire.CANCEL_OUTCOME_CANCELED


async def test_trigger_on_the_wrong_side_is_refused_by_the_venue(client: Client) -> None:
    """A stop that would start at once is an answer with its reason, not an order."""
    needs(client, STOP)
    quote = await client.quote()
    order = exit_order(client, quote, STOP)
    order.trigger.price = client.away(quote, SELL)
    answer = await client.submit(order, wire.ACK_LEVEL_TERMINAL)
    if answer.outcome == wire.SUBMIT_OUTCOME_REJECTED:
        assert reason_of(answer.reject) == "INVALID_TRIGGER_PRICE"
    else:
        # Venues that take it start it at once.
        assert answer.order.terminal


async def test_trigger_order_without_or_with_a_bad_trigger_is_refused(client: Client) -> None:
    """Before it is sent, and the field named."""
    needs(client, STOP)
    quote = await client.quote()
    for trigger, reason, field in (
        (None, "REQUIRED_FIELD_MISSING", "order.trigger"),
        (pb.Trigger(price="0"), "PRICE_NOT_POSITIVE", "order.trigger.price"),
        (pb.Trigger(price="1.0"), "INVALID_DECIMAL", "order.trigger.price"),
    ):
        order = exit_order(client, quote, STOP)
        order.ClearField("trigger")
        if trigger is not None:
            order.trigger.CopyFrom(trigger)
        refusal = await refused(client.submit(order))
        assert (refusal.reason, refusal.fields, refusal.sent) == (reason, [field], "no")


async def submit_list(client: Client, contingency: int, orders: list[pb.NewOrder]) -> wire.SubmitOrderListResponse:
    """Submit orders that belong together."""
    request = wire.SubmitOrderListRequest(contingency_type=contingency, orders=orders)  # type: ignore[arg-type]
    answer: wire.SubmitOrderListResponse = await client.orders.SubmitOrderList(request, timeout=CALL_S)
    return answer


def bracket(client: Client, quote: Quote, quantity: str) -> list[pb.NewOrder]:
    """An entry that rests, with a take-profit and a stop-loss."""
    exits = [
        exit_order(client, quote, kind, quantity=quantity, instructions=[REDUCE_ONLY]) for kind in (TAKE_PROFIT, STOP)
    ]
    return [client.new_order(quote, quantity=quantity), *exits]


async def test_bracket_is_taken_as_the_record_says(client: Client) -> None:
    """Entry works, exits wait for it; a repeat gives the same; the entry's cancel ends them. Else refused by name."""
    quote = await client.quote()
    orders = bracket(client, quote, client.quantity(quote))
    if client.capabilities.brackets == venue_pb2.PROVISION_NONE:
        refusal = await refused(submit_list(client, wire.CONTINGENCY_TYPE_BRACKET, orders))
        assert refusal.code is grpc.StatusCode.UNIMPLEMENTED
        assert refusal.sent == "no"
        return
    first = await submit_list(client, wire.CONTINGENCY_TYPE_BRACKET, orders)
    assert first.order_list_id
    assert [row.outcome for row in first.results] == [wire.SUBMIT_OUTCOME_ACKNOWLEDGED] * 3
    assert {row.order.order_list_id for row in first.results} == {first.order_list_id}
    entry, *exits = [row.order for row in first.results]
    assert entry.working
    assert {row.trigger_state for row in exits} == {pb.TRIGGER_STATE_WAITING_FOR_PARENT}
    again = await submit_list(client, wire.CONTINGENCY_TYPE_BRACKET, orders)
    assert again.order_list_id == first.order_list_id
    assert all(row.replayed for row in again.results)
    assert [row.order.order_id for row in again.results] == [row.order.order_id for row in first.results]
    assert (await client.cancel(client.by_id(order_id=entry.order_id))).outcome == wire.CANCEL_OUTCOME_CANCELED
    for row in exits:
        ended = await client.until_terminal(row.terms.client_order_id)
        assert (ended.status, ended.filled_quantity) == (pb.ORDER_STATUS_CANCELED, "0")


async def test_list_with_one_bad_element_is_refused_whole(client: Client) -> None:
    """The element and its field are named, and no key is used up."""
    if client.capabilities.brackets == venue_pb2.PROVISION_NONE:
        pytest.skip("the venue lists no brackets")
    quote = await client.quote()
    orders = bracket(client, quote, client.quantity(quote))
    orders[2].quantity = "0"
    refusal = await refused(submit_list(client, wire.CONTINGENCY_TYPE_BRACKET, orders))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "QUANTITY_NOT_POSITIVE")
    assert refusal.fields == ["orders[2].quantity"]
    assert refusal.sent == "no"
    for order in orders:
        assert (await refused(client.order(order.client_order_id))).reason == "ORDER_NOT_FOUND"


async def test_list_without_a_contingency_is_refused(client: Client) -> None:
    """How orders depend on each other is never guessed."""
    quote = await client.quote()
    for contingency in (wire.CONTINGENCY_TYPE_UNSPECIFIED, 9999):
        refusal = await refused(submit_list(client, contingency, bracket(client, quote, client.quantity(quote))))
        assert refusal.code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED)
        assert refusal.sent == "no"


async def test_exits_of_a_position_wait_beside_it(client: Client) -> None:
    """Take-profit and stop-loss of what is held; both go when they are cancelled."""
    needs(client, STOP, TAKE_PROFIT)
    if client.capabilities.brackets == venue_pb2.PROVISION_NONE:
        pytest.skip("the venue lists no groups")
    held = await client.take()
    quote = await client.quote()
    exits = [
        exit_order(client, quote, kind, quantity=held.terms.quantity, instructions=[REDUCE_ONLY])
        for kind in (TAKE_PROFIT, STOP)
    ]
    answer = await submit_list(client, wire.CONTINGENCY_TYPE_POSITION, exits)
    for row in answer.results:
        known = row.outcome == wire.SUBMIT_OUTCOME_REJECTED and reason_of(row.reject) in KNOWN_VENUE_REASONS
        assert row.outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED or known, row
        assert Decimal(row.order.filled_quantity) == 0
