"""Draining a venue through the router, over a real gateway."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import grpc.aio
import pytest

from tests.broker import Broker
from tests.integration.gateway.served_gateway import new_order, serving_gateway
from tests.integration.router.support import running
from venuemesh.errors import MeshError, Reason, Sent
from venuemesh.status import error_from_rpc
from venuemesh.v1 import operations_service_pb2 as operations
from venuemesh.v1 import order_service_pb2 as orders
from venuemesh.v1.operations_service_pb2_grpc import OperationsServiceStub
from venuemesh.v1.order_service_pb2_grpc import OrderServiceStub


async def refusal(call: Any) -> MeshError:
    """The error a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return error_from_rpc(caught.value, is_write=True)


async def test_venue_drained_through_the_router_refuses_orders_as_not_sent_until_taken_back(broker: Broker) -> None:
    """Property 32: the named venue alone; an order for it names the reason, and nothing reaches the venue."""
    async with serving_gateway(broker) as gateway:
        await gateway.server.health.set("venue/fakevenue", True)
        there: Any = SimpleNamespace(venue="fakevenue", address=gateway.server.address, _server=gateway.server)
        async with running(broker.url, there) as (_, channel):
            desk: Any = OperationsServiceStub(channel)
            submit: Any = OrderServiceStub(channel).SubmitOrder
            request = operations.DrainVenueRequest(venue="fakevenue", drain=True, operator="ann", reason="maintenance")
            assert (await desk.DrainVenue(request, timeout=5)).draining
            order = orders.SubmitOrderRequest(order=new_order("key-1", venue="fakevenue"))
            error = await refusal(submit(order, timeout=5))
            assert (error.reason, error.sent) == (Reason.GATEWAY_DRAINING, Sent.NO)
            assert gateway.venue.placed == []
            request.drain = False
            assert not (await desk.DrainVenue(request, timeout=5)).draining
            assert (await submit(order, timeout=5)).outcome == orders.SUBMIT_OUTCOME_ACKNOWLEDGED
            request.venue = "nowhere"
            unknown = await refusal(desk.DrainVenue(request, timeout=5))
            assert (unknown.reason, unknown.field) == (Reason.VENUE_NOT_FOUND, "venue")
