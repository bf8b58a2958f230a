"""Batches: every element has its own result, and none can spoil another's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from venuemesh import elements
from venuemesh.errors import MeshError, OutcomeUnknown
from venuemesh.gateway.desk import Desk
from venuemesh.gateway.working import WorkingOrders
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as wire

log = logging.getLogger(__name__)

MAX_BATCH = 200


async def submit_batch(
    desk: Desk, orders: Sequence[pb.NewOrder], ack_level: wire.AckLevel.ValueType
) -> wire.BatchSubmitOrdersResponse:
    """One result per order, in order; those that pass are sent as they stand."""
    results = await desk.submit_all(orders, ack_level)
    return wire.BatchSubmitOrdersResponse(
        results=[
            wire.BatchSubmitResult(error=element_error(result))
            if isinstance(result, BaseException)
            else wire.BatchSubmitResult(response=result)
            for result in results
        ]
    )


async def cancel_batch(
    desk: Desk, working: WorkingOrders, references: Sequence[wire.OrderReference]
) -> wire.BatchCancelOrdersResponse:
    """One result per reference, in order; an order named twice is cancelled once."""
    looked = await asyncio.gather(*(desk.find(reference) for reference in references), return_exceptions=True)
    canceled = iter(await working.cancel_orders([found for found in looked if not isinstance(found, BaseException)]))
    return wire.BatchCancelOrdersResponse(
        results=[
            wire.BatchCancelResult(error=element_error(found))
            if isinstance(found, BaseException)
            else wire.BatchCancelResult(response=next(canceled))
            for found in looked
        ]
    )


def element_error(error: BaseException) -> wire.ElementError:
    """The error as it stands in place of a result."""
    if not isinstance(error, MeshError):
        if not isinstance(error, Exception):
            raise error
        # A fault of ours in one element must not hide what became of the others; what became of it nobody knows.
        log.error("batch_element_failed", exc_info=error)
        error = OutcomeUnknown(f"fault of ours: {type(error).__name__}")
    return elements.element_error(error)
