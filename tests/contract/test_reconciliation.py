"""What operators ask of every gateway: differences, doubts, and acts about orders."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import grpc

from tests.contract.client import CALL_S, Client
from tests.contract.refusals import refused
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as orders
from venuemesh.v1 import reconciliation_service_pb2 as wire


async def resolve(client: Client, order: pb.Order, **fields: Any) -> wire.ResolveUncertainOrderResponse:
    """An operator's act about an order."""
    request = wire.ResolveUncertainOrderRequest(
        reference=orders.OrderReference(venue=client.name, account_id=client.account_id, order_id=order.order_id),
        **{"operator": "conformance", "reason": "a test", "request_id": client.key(), **fields},
    )
    answer: wire.ResolveUncertainOrderResponse = await client.reconciliation.ResolveUncertainOrder(
        request, timeout=2 * CALL_S
    )
    return answer


async def test_force_cancel_ends_a_working_order_and_a_repeat_does_nothing(client: Client) -> None:
    """G6: with the operator and the reason in the order's events."""
    order, key = await client.rest(), client.key()
    answer = await resolve(client, order, resolution=wire.RESOLUTION_FORCE_CANCEL, request_id=key)
    assert (answer.order.status, answer.replayed) == (pb.ORDER_STATUS_CANCELED, False)
    again = await resolve(client, order, resolution=wire.RESOLUTION_FORCE_CANCEL, request_id=key)
    assert (again.order, again.replayed) == (answer.order, True)


async def test_query_and_force_reconcile_of_an_order_that_works_change_nothing(client: Client) -> None:
    """The venue shows it as we know it."""
    order = await client.rest()
    for resolution in (wire.RESOLUTION_QUERY, wire.RESOLUTION_FORCE_RECONCILE):
        now = (await resolve(client, order, resolution=resolution)).order
        assert (now.status, now.terms.price) == (pb.ORDER_STATUS_NEW, order.terms.price)


async def test_operators_word_against_the_venues_is_refused(client: Client) -> None:
    """An order that the venue took was not rejected; an act needs a name and a reason."""
    order = await client.rest()
    refusal = await refused(resolve(client, order, resolution=wire.RESOLUTION_DECLARE_REJECTED))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "ORDER_NOT_WORKING")
    for field in ("operator", "reason", "request_id"):
        refusal = await refused(resolve(client, order, resolution=wire.RESOLUTION_QUERY, **{field: ""}))
        assert refusal.fields == [field]
    assert (await client.order(order.terms.client_order_id)).status == pb.ORDER_STATUS_NEW


async def test_differences_are_listed_and_streamed(client: Client) -> None:
    """However many there are: newest first, and a stream that opens at once."""
    listing = wire.ListDiscrepanciesRequest(account_id=client.account_id, venue=client.name, page_size=5)
    rows = (await client.reconciliation.ListDiscrepancies(listing, timeout=CALL_S)).discrepancies
    times = [row.found_time.ToNanoseconds() for row in rows]
    assert times == sorted(times, reverse=True)
    request = wire.StreamDiscrepanciesRequest(account_id=client.account_id, venue=client.name)
    call = client.reconciliation.StreamDiscrepancies(request, timeout=CALL_S)

    async def messages() -> Any:
        async for message in call:
            yield message

    async with aclosing(messages()) as stream:
        assert (await anext(stream)).WhichOneof("body") == "acknowledgement"
    call.cancel()
