"""Submitting: levels, outcomes, idempotency, batches."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import grpc
import pytest

from tests.contract.client import CALL_S, IOC, LIMIT, Client
from tests.contract.refusals import reason_of, refused
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as wire

TOO_SHORT_S = 0.05


async def test_submit_at_venue_level_is_acknowledged_with_the_order_as_it_stands(client: Client) -> None:
    """The whole order comes back: terms as asked, ids, amounts, timings in their order."""
    order = client.new_order(await client.quote(), tags={"purpose": "conformance"})
    answer = await client.submit(order)
    assert (answer.outcome, answer.replayed) == (wire.SUBMIT_OUTCOME_ACKNOWLEDGED, False)
    got = answer.order
    for name in ("account_id", "client_order_id", "venue", "symbol", "side", "order_type", "quantity", "price"):
        assert getattr(got.terms, name) == getattr(order, name), name
    assert got.terms.tags == order.tags
    assert got.order_id
    assert got.order_id not in got.venue_order_ids
    assert got.venue_order_ids
    assert (got.status, got.working, got.terminal, got.uncertain) == (pb.ORDER_STATUS_NEW, True, False, False)
    assert (got.filled_quantity, got.leaves_quantity) == ("0", order.quantity)
    assert got.order_version > 0
    assert got.created_time.ToNanoseconds() <= got.updated_time.ToNanoseconds()
    assert got.venue_symbol == client.instrument.venue_symbol
    assert answer.timings.HasField("journal")
    assert answer.timings.HasField("acknowledgement")
    assert (await client.order(order.client_order_id)).order_id == got.order_id


async def test_submit_at_gateway_level_answers_before_the_venue_and_ends_acknowledged(client: Client) -> None:
    """The order is journalled and sent; what became of it is read by its key."""
    order = client.new_order(await client.quote())
    answer = await client.submit(order, wire.ACK_LEVEL_GATEWAY)
    assert answer.outcome in (wire.SUBMIT_OUTCOME_PENDING, wire.SUBMIT_OUTCOME_ACKNOWLEDGED)
    found = await client.order(order.client_order_id)
    while not found.working:
        assert not found.terminal, found
        found = await client.order(order.client_order_id, min_version=found.order_version + 1)
    assert found.order_id == answer.order.order_id


async def test_submit_at_terminal_level_waits_for_the_last_fill(client: Client) -> None:
    """A taking order comes back filled, with its average price and fees."""
    order = await client.take()
    assert order.terminal
    assert order.filled_quantity == order.terms.quantity
    assert order.leaves_quantity == "0"
    assert Decimal(order.average_price) > 0


async def test_submit_at_terminal_level_answers_when_its_time_is_up(client: Client) -> None:
    """An order that rests is acknowledged all the same, before the caller's deadline."""
    order = client.new_order(await client.quote())
    answer = None
    for _ in range(5):
        try:
            answer = await client.submit(order, wire.ACK_LEVEL_TERMINAL, timeout=1.0)
            break
        except grpc.RpcError as error:
            # The machine was away for longer than the gateway keeps in reserve: the same key asks again.
            assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert answer is not None
    assert answer.outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
    assert answer.order.working


async def test_immediate_order_away_from_the_market_ends_unfilled(client: Client) -> None:
    """Ended by its time in force or refused for want of liquidity: nothing rests, nothing filled."""
    if not client.offers(LIMIT, IOC):
        pytest.skip("the venue lists no immediate limit order")
    answer = await client.submit(client.new_order(await client.quote(), time_in_force=IOC), wire.ACK_LEVEL_TERMINAL)
    assert answer.order.terminal
    assert (answer.order.filled_quantity, answer.order.leaves_quantity) == ("0", "0")
    if answer.outcome == wire.SUBMIT_OUTCOME_REJECTED:
        assert reason_of(answer.reject) == "NO_LIQUIDITY"
        assert answer.order.status == pb.ORDER_STATUS_REJECTED
    else:
        assert answer.order.status in (pb.ORDER_STATUS_EXPIRED, pb.ORDER_STATUS_CANCELED)


async def test_same_key_again_gives_the_first_result(client: Client) -> None:
    """Also after the order has changed: the order as it is now, marked as replayed."""
    order = client.new_order(await client.quote())
    first = await client.submit(order)
    again = await client.submit(order)
    assert (first.replayed, again.replayed) == (False, True)
    assert (again.outcome, again.order.order_id) == (wire.SUBMIT_OUTCOME_ACKNOWLEDGED, first.order.order_id)
    assert not again.HasField("timings")
    await client.cancel(client.by_key(order.client_order_id))
    late = await client.submit(order)
    assert late.replayed
    assert (late.order.order_id, late.order.status) == (first.order.order_id, pb.ORDER_STATUS_CANCELED)


async def test_same_key_at_once_makes_one_order(client: Client) -> None:
    """One of the callers was the first; all get the same order."""
    order = client.new_order(await client.quote())
    answers = await asyncio.gather(*(client.submit(order) for _ in range(8)))
    assert sorted(answer.replayed for answer in answers) == [False] + [True] * 7
    assert {answer.order.order_id for answer in answers} == {answers[0].order.order_id}
    assert {tuple(answer.order.venue_order_ids) for answer in answers} == {tuple(answers[0].order.venue_order_ids)}
    assert {answer.outcome for answer in answers} == {wire.SUBMIT_OUTCOME_ACKNOWLEDGED}
    mine = [row for row in await client.open_orders() if row.terms.client_order_id == order.client_order_id]
    assert len(mine) == 1


async def test_same_key_with_other_content_is_refused_and_names_the_order(client: Client) -> None:
    """Whatever differs; the order that has the key is untouched."""
    quote = await client.quote()
    order = client.new_order(quote)
    first = await client.submit(order)
    for changes in ({"quantity": client.quantity(quote, times=2)}, {"price": client.price(quote.bid / 2)}, {"side": 2}):
        other = pb.NewOrder()
        other.CopyFrom(order)
        for name, value in changes.items():
            setattr(other, name, value)
        refusal = await refused(client.submit(other))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.ALREADY_EXISTS, "CLIENT_ORDER_ID_REUSED")
        assert refusal.sent == "no"
        assert refusal.metadata["order_id"] == first.order.order_id
    now = await client.order(order.client_order_id)
    assert (now.terms.quantity, now.terms.price) == (order.quantity, order.price)


async def test_keys_are_per_account_and_orders_have_different_ids(client: Client) -> None:
    """Two keys with the same content are two orders."""
    quote = await client.quote()
    first, second = [await client.submit(client.new_order(quote)) for _ in range(2)]
    assert first.order.order_id != second.order.order_id
    assert set(first.order.venue_order_ids).isdisjoint(second.order.venue_order_ids)


async def test_deadline_too_short_is_refused_and_nothing_was_sent(client: Client) -> None:
    """The key is still free afterwards."""
    order = client.new_order(await client.quote())
    refusal = await refused(client.submit(order, timeout=TOO_SHORT_S))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_TOO_SHORT")
    assert refusal.sent == "no"
    assert (await refused(client.order(order.client_order_id))).reason == "ORDER_NOT_FOUND"
    assert not (await client.submit(order)).replayed


async def test_batch_places_the_good_elements_and_tells_of_the_bad_ones(client: Client) -> None:
    """One result per element, in the order of the request; each is what the element alone would have got."""
    quote = await client.quote()
    good = [client.new_order(quote) for _ in range(3)]
    zero = client.new_order(quote, quantity="0")
    unknown = client.new_order(quote, symbol="NO/SUCH:SYMBOL")
    request = wire.BatchSubmitOrdersRequest(
        orders=[good[0], zero, good[1], unknown, good[2], good[0]], ack_level=wire.ACK_LEVEL_VENUE
    )
    answer = await client.orders.BatchSubmitOrders(request, timeout=CALL_S)
    kinds = [row.WhichOneof("result") for row in answer.results]
    assert kinds == ["response", "error", "response", "error", "response", "response"]
    results = answer.results
    for place, order in ((0, good[0]), (2, good[1]), (4, good[2])):
        assert results[place].response.outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        assert results[place].response.order.terms.client_order_id == order.client_order_id
    assert sorted((results[0].response.replayed, results[5].response.replayed)) == [False, True]
    assert results[0].response.order.order_id == results[5].response.order.order_id
    assert (reason_of(results[1].error.error), results[1].error.code) == ("QUANTITY_NOT_POSITIVE", 3)
    assert (reason_of(results[3].error.error), results[3].error.code) == ("INSTRUMENT_NOT_FOUND", 5)


async def test_batch_without_elements_or_with_too_many_is_refused(client: Client) -> None:
    """Bounds are told by field; nothing is placed."""
    quote = await client.quote()
    empty = await refused(client.orders.BatchSubmitOrders(wire.BatchSubmitOrdersRequest(), timeout=CALL_S))
    assert (empty.reason, empty.fields) == ("REQUIRED_FIELD_MISSING", ["orders"])
    order = client.new_order(quote, quantity="0")
    many = wire.BatchSubmitOrdersRequest(orders=[order] * 201)
    refusal = await refused(client.orders.BatchSubmitOrders(many, timeout=CALL_S))
    assert (refusal.reason, refusal.fields) == ("INVALID_ARGUMENT", ["orders"])


async def test_preview_tells_cost_and_sends_nothing(client: Client) -> None:
    """A good order has no rejects and a notional; its key stays free."""
    order = client.new_order(await client.quote())
    answer = await client.orders.PreviewOrder(wire.PreviewOrderRequest(order=order), timeout=CALL_S)
    assert not answer.rejects
    assert Decimal(answer.estimated_notional) == Decimal(order.quantity) * Decimal(order.price)
    assert (await refused(client.order(order.client_order_id))).reason == "ORDER_NOT_FOUND"
