"""Draining a gateway: by an operator, who takes it back, and at the end of the process. Property 32."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from tests.broker import Broker
from tests.fakes_venue import Held
from tests.integration.gateway.served_gateway import Gateway, new_order, serving_gateway
from venuemesh.errors import MeshError, Reason, Sent
from venuemesh.status import error_from_rpc
from venuemesh.v1 import operations_service_pb2 as operations
from venuemesh.v1 import order_pb2, venue_pb2, venue_service_pb2
from venuemesh.v1 import order_service_pb2 as wire


async def drain(gateway: Gateway, *, drain: bool = True, **changes: Any) -> operations.DrainVenueResponse:
    """Drain the venue, or take it back."""
    fields = {"operator": "ann", "reason": "maintenance of the venue", **changes}
    answer: operations.DrainVenueResponse = await gateway.operations.DrainVenue(
        operations.DrainVenueRequest(drain=drain, **fields), timeout=10
    )
    return answer


async def refusal(call: Any) -> MeshError:
    """The error a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return error_from_rpc(caught.value, is_write=True)


async def venue_status(gateway: Gateway) -> venue_pb2.VenueStatus:
    """What VenueService says of the venue."""
    answer = await gateway.venues.ListVenues(venue_service_pb2.ListVenuesRequest(), timeout=10)
    status: venue_pb2.VenueStatus = answer.venues[0].status
    return status


async def test_drained_venue_refuses_orders_finishes_what_is_in_flight_and_passes_the_rest(broker: Broker) -> None:
    """Cancels and repeats go on, amendments do not; the refusal says who wanted it and why."""
    async with serving_gateway(broker) as gateway:
        await gateway.submit("before")
        release = asyncio.Event()
        gateway.venue.script("place_order", Held(release))
        in_flight = asyncio.create_task(gateway.submit("in-flight"))
        while len(gateway.venue.placed) < 2:
            await asyncio.sleep(0)
        answer = await drain(gateway)
        assert (answer.draining, answer.in_flight) == (True, 1)
        error = await refusal(gateway.submit("after"))
        assert (error.reason, error.sent) == (Reason.GATEWAY_DRAINING, Sent.NO)
        assert "ann" in error.message
        assert "maintenance of the venue" in error.message
        release.set()
        assert (await in_flight).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        assert (await gateway.submit("before")).replayed
        reference = wire.OrderReference(account_id="main", client_order_id="before")
        change = wire.ReplaceOrderRequest(reference=reference, request_id="change", price="101")
        error = await refusal(gateway.orders.ReplaceOrder(change, timeout=10))
        assert (error.reason, error.sent) == (Reason.GATEWAY_DRAINING, Sent.NO)
        canceled = await gateway.orders.CancelOrder(wire.CancelOrderRequest(reference=reference), timeout=10)
        assert canceled.outcome == wire.CANCEL_OUTCOME_CANCELED
        status = await venue_status(gateway)
        assert (status.state, "ann" in status.cause) == (venue_pb2.VENUE_STATE_DRAINING, True)
        assert len(gateway.venue.placed) == 2


async def test_drain_holds_over_a_restart_until_it_is_taken_back(broker: Broker) -> None:
    """A crash must not undo what an operator decided."""
    async with serving_gateway(broker) as gateway:
        await drain(gateway)
        await drain(gateway, reason="still")
        venue = gateway.venue
    async with serving_gateway(broker, venue=venue) as gateway:
        error = await refusal(gateway.submit("key-1"))
        assert (error.reason, "still" in error.message) == (Reason.GATEWAY_DRAINING, True)
        assert not (await drain(gateway, drain=False, reason="done")).draining
        assert (await gateway.submit("key-1")).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        assert (await venue_status(gateway)).state == venue_pb2.VENUE_STATE_TRADING
    async with serving_gateway(broker, venue=venue) as gateway:
        assert (await gateway.submit("key-2")).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"operator": ""}, "operator"),
        ({"reason": " "}, "reason"),
        ({"reason": "x" * 201}, "reason"),
        ({"operator": "a\nb"}, "operator"),
        ({"venue": "elsewhere"}, "venue"),
    ],
)
async def test_drain_without_operator_or_reason_is_refused_by_field(
    broker: Broker, changes: dict[str, Any], field: str
) -> None:
    """Nobody drains a venue without saying who and why."""
    async with serving_gateway(broker) as gateway:
        error = await refusal(drain(gateway, **changes))
        assert error.field == field
        assert (await gateway.submit("key-1")).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED


async def test_drain_that_cannot_be_stored_is_in_force_and_taking_back_is_not(broker: Broker) -> None:
    """In doubt the side that sends nothing is taken."""
    async with serving_gateway(broker) as gateway:
        await broker.stop()
        error = await refusal(drain(gateway))
        assert error.reason is Reason.JOURNAL_UNAVAILABLE
        assert (await refusal(drain(gateway, drain=False))).reason is Reason.JOURNAL_UNAVAILABLE
        assert (await venue_status(gateway)).state == venue_pb2.VENUE_STATE_DRAINING
        await broker.start()
        while not gateway.core.serving:
            await asyncio.sleep(0.01)
        assert (await refusal(gateway.submit("key-1"))).reason is Reason.GATEWAY_DRAINING
        assert gateway.venue.placed == []


async def test_end_of_the_process_waits_for_answers_that_no_caller_waits_for(broker: Broker) -> None:
    """What the venue answers within the grace is not left in doubt for the next start."""
    async with serving_gateway(broker) as gateway:
        release = asyncio.Event()
        gateway.venue.script("place_order", Held(release))
        answer = await gateway.orders.SubmitOrder(
            wire.SubmitOrderRequest(order=new_order("key-1"), ack_level=wire.ACK_LEVEL_GATEWAY), timeout=10
        )
        assert answer.outcome == wire.SUBMIT_OUTCOME_PENDING
        gateway.core.drain()
        finishing = asyncio.create_task(gateway.core.finish(10))
        await asyncio.sleep(0)
        assert not finishing.done()
        release.set()
        await finishing
        order = gateway.core.accounts["main"].order_by_key("key-1")
        assert order is not None
        assert order.status == order_pb2.ORDER_STATUS_NEW
        await gateway.core.finish(10)


async def test_end_of_the_process_does_not_wait_for_ever(broker: Broker) -> None:
    """A venue that is silent is asked at the next start."""
    async with serving_gateway(broker) as gateway:
        gateway.venue.script("place_order", Held(asyncio.Event()))
        request = wire.SubmitOrderRequest(order=new_order("key-1"), ack_level=wire.ACK_LEVEL_GATEWAY)
        await gateway.orders.SubmitOrder(request, timeout=10)
        await gateway.core.finish(0.05)
        order = gateway.core.accounts["main"].order_by_key("key-1")
        assert order is not None
        assert order.status == order_pb2.ORDER_STATUS_PENDING_NEW
