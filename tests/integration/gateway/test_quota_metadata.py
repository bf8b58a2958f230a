"""Quotas in the trailing metadata of a gateway's answers, over real gRPC."""

from __future__ import annotations

from typing import Any

import grpc.aio
import pytest

from tests.broker import Broker
from tests.integration.gateway.served_gateway import Gateway, new_order, serving_gateway
from venuemesh.v1 import operations_pb2, operations_service_pb2, order_service_pb2, venue_service_pb2

NAME = "x-venuemesh-quota-ip_weight"
EXPECTED = "limit=1200,remaining=900,reserved_for_cancels=120,reset_ms=0"


def _add_quota(gateway: Gateway) -> None:
    gateway.venue.quota_rows.append(
        operations_pb2.Quota(
            venue=gateway.venue.name, limiter="ip_weight", limit=1_200, remaining=900, reserved_for_cancels=120
        )
    )


async def _trailer(call: Any) -> str | None:
    found = {str(key): str(value) for key, value in await call.trailing_metadata()}
    return found.get(NAME)


async def test_every_answer_carries_the_quotas(broker: Broker) -> None:
    """Answers, refusals and streams; health checks do not."""
    async with serving_gateway(broker) as gateway:
        _add_quota(gateway)
        read = gateway.operations.GetQuota(operations_service_pb2.GetQuotaRequest(), timeout=5)
        assert len((await read).quotas) == 1
        assert await _trailer(read) == EXPECTED
        submitted = gateway.orders.SubmitOrder(order_service_pb2.SubmitOrderRequest(order=new_order("k1")), timeout=5)
        await submitted
        assert await _trailer(submitted) == EXPECTED
        stream = gateway.venues.StreamVenueStatus(venue_service_pb2.StreamVenueStatusRequest())
        await stream.read()
        stream.cancel()


async def test_a_refusal_carries_quotas_and_its_reason(broker: Broker) -> None:
    """The details of the error stay beside them."""
    async with serving_gateway(broker) as gateway:
        _add_quota(gateway)
        wrong = order_service_pb2.SubmitOrderRequest(order=new_order("k1", quantity="0"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await gateway.orders.SubmitOrder(wrong, timeout=5)
        trailers = {str(key): value for key, value in caught.value.trailing_metadata() or ()}
        assert trailers[NAME] == EXPECTED
        assert b"QUANTITY_NOT_POSITIVE" in trailers["grpc-status-details-bin"]
