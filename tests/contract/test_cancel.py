"""Cancels: by every id, of what is gone, several at once, and all of a scope."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from tests.contract.client import BUY, CALL_S, SELL, Client
from tests.contract.refusals import reason_of, refused
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as wire


@pytest.mark.parametrize("kind", ["client_order_id", "order_id", "venue_order_id"])
async def test_cancel_by_any_id_ends_the_order(client: Client, kind: str) -> None:
    """The venue confirmed it; nothing is left open."""
    order = await client.rest()
    ids = {
        "client_order_id": order.terms.client_order_id,
        "order_id": order.order_id,
        "venue_order_id": order.venue_order_ids[-1],
    }
    answer = await client.cancel(client.by_id(**{kind: ids[kind]}))
    assert (answer.outcome, answer.already_terminal) == (wire.CANCEL_OUTCOME_CANCELED, False)
    assert answer.order.order_id == order.order_id
    assert (answer.order.status, answer.order.terminal, answer.order.working) == (pb.ORDER_STATUS_CANCELED, True, False)
    assert (answer.order.filled_quantity, answer.order.leaves_quantity) == ("0", "0")
    assert not answer.order.pending_cancel
    assert not answer.HasField("reject")


async def test_cancel_of_an_order_that_is_gone_says_so(client: Client) -> None:
    """OK with `already_terminal`: cancelled before, and filled before."""
    order = await client.rest()
    await client.cancel(client.by_id(order_id=order.order_id))
    again = await client.cancel(client.by_id(order_id=order.order_id))
    assert (again.outcome, again.already_terminal) == (wire.CANCEL_OUTCOME_ALREADY_TERMINAL, True)
    assert again.order.status == pb.ORDER_STATUS_CANCELED
    filled = await client.take()
    late = await client.cancel(client.by_id(order_id=filled.order_id))
    assert (late.outcome, late.already_terminal) == (wire.CANCEL_OUTCOME_ALREADY_TERMINAL, True)
    assert late.order.status == pb.ORDER_STATUS_FILLED


async def test_cancel_of_an_unknown_order_is_not_found(client: Client) -> None:
    """By each kind of id."""
    for name in ({"client_order_id": "cf-never-used"}, {"order_id": "0" * 32}, {"venue_order_id": "999999999999999"}):
        refusal = await refused(client.cancel(client.by_id(**name)))
        assert (refusal.code, refusal.reason) == (grpc.StatusCode.NOT_FOUND, "ORDER_NOT_FOUND"), name
        assert refusal.fields == [f"reference.{next(iter(name))}"]
        assert refusal.sent == "no"


async def test_cancel_without_an_id_is_refused(client: Client) -> None:
    """Nothing is guessed."""
    reference = wire.OrderReference(account_id=client.account_id, venue=client.name)
    refusal = await refused(client.cancel(reference))
    assert (refusal.reason, refusal.sent) == ("REQUIRED_FIELD_MISSING", "no")
    assert refusal.fields == ["reference.id"]


async def test_cancel_of_another_version_is_refused(client: Client) -> None:
    """The order stays; with the right version it goes."""
    order = await client.rest()
    reference = client.by_id(order_id=order.order_id)
    refusal = await refused(client.cancel(reference, expected_version=order.order_version + 7))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "STATE_VERSION_CONFLICT")
    assert refusal.sent == "no"
    now = await client.order(order.terms.client_order_id)
    assert now.working
    answer = await client.cancel(reference, expected_version=now.order_version)
    assert answer.outcome == wire.CANCEL_OUTCOME_CANCELED


async def test_cancel_at_once_by_several_callers_cancels_once(client: Client) -> None:
    """Each is told that the order is gone, none of a fault."""
    order = await client.rest()
    answers = await asyncio.gather(*(client.cancel(client.by_id(order_id=order.order_id)) for _ in range(4)))
    good = (wire.CANCEL_OUTCOME_CANCELED, wire.CANCEL_OUTCOME_ALREADY_TERMINAL)
    assert all(answer.outcome in good for answer in answers), answers
    assert {answer.order.status for answer in answers} == {pb.ORDER_STATUS_CANCELED}


async def test_batch_cancel_gives_each_its_result(client: Client) -> None:
    """Live, gone and unknown orders in one call, in the order of the request."""
    live, gone = await client.rest(), await client.rest()
    await client.cancel(client.by_id(order_id=gone.order_id))
    references = [
        client.by_id(order_id=live.order_id),
        client.by_id(client_order_id="cf-never-used"),
        client.by_id(order_id=gone.order_id),
    ]
    request = wire.BatchCancelOrdersRequest(references=references)
    answer = await client.orders.BatchCancelOrders(request, timeout=CALL_S)
    first, second, third = answer.results
    assert first.response.outcome == wire.CANCEL_OUTCOME_CANCELED
    assert (reason_of(second.error.error), second.error.code) == ("ORDER_NOT_FOUND", 5)
    assert third.response.already_terminal


async def test_batch_cancel_without_elements_is_refused(client: Client) -> None:
    """The field is named."""
    refusal = await refused(client.orders.BatchCancelOrders(wire.BatchCancelOrdersRequest(), timeout=CALL_S))
    assert (refusal.reason, refusal.fields) == ("REQUIRED_FIELD_MISSING", ["references"])


async def only_ours(client: Client, *orders: pb.Order) -> None:
    """Skip where a mass cancel would take somebody else's orders."""
    ours = {order.order_id for order in orders}
    if any(row.order_id not in ours for row in await client.open_orders()):
        pytest.skip("the account has other open orders")


async def test_cancel_all_of_a_side_leaves_the_other(client: Client) -> None:
    """Then all of the symbol; another symbol is untouched by either."""
    buys = [await client.rest(), await client.rest()]
    sell = await client.rest(side=SELL)
    await only_ours(client, *buys, sell)
    scope: dict[str, Any] = {"account_id": client.account_id, "venue": client.name}
    nothing = wire.CancelAllOrdersRequest(**scope, symbol="NO/SUCH:SYMBOL")
    assert not (await client.orders.CancelAllOrders(nothing, timeout=CALL_S)).results
    request = wire.CancelAllOrdersRequest(**scope, symbol=client.symbol, side=BUY)
    answer = await client.orders.CancelAllOrders(request, timeout=CALL_S)
    assert {row.order.order_id for row in answer.results} == {order.order_id for order in buys}
    assert {row.outcome for row in answer.results} == {wire.CANCEL_OUTCOME_CANCELED}
    assert not answer.unreached
    assert (await client.order(sell.terms.client_order_id)).working
    answer = await client.orders.CancelAllOrders(wire.CancelAllOrdersRequest(**scope), timeout=CALL_S)
    assert [row.order.order_id for row in answer.results] == [sell.order_id]
    assert not await client.open_orders()
    again = await client.orders.CancelAllOrders(wire.CancelAllOrdersRequest(**scope), timeout=CALL_S)
    assert not again.results


async def test_cancel_all_needs_an_account(client: Client) -> None:
    """Nothing is cancelled for want of a name."""
    refusal = await refused(client.orders.CancelAllOrders(wire.CancelAllOrdersRequest(), timeout=CALL_S))
    assert (refusal.reason, refusal.fields) == ("REQUIRED_FIELD_MISSING", ["account_id"])
    unknown = wire.CancelAllOrdersRequest(account_id="no-such-account")
    assert (await refused(client.orders.CancelAllOrders(unknown, timeout=CALL_S))).reason == "ACCOUNT_NOT_FOUND"
