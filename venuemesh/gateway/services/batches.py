"""Batches: every element has its own result, and none can spoil another's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Iterable
from typing import TypeVar

from venuemesh.errors import MeshError, OutcomeUnknown
from venuemesh.gateway.orders import reason_number
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as wire

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_BATCH = 200


async def each(calls: Iterable[Awaitable[T]]) -> list[T | wire.ElementError]:
    """The results of all, in their order; an error takes its own element's place only.

    The calls begin in their order, so that orders of one batch are sent as they stand in it.
    """
    return await asyncio.gather(*(_one(call) for call in calls))


async def _one(call: Awaitable[T]) -> T | wire.ElementError:
    try:
        return await call
    except MeshError as error:
        return element_error(error)
    except Exception as error:
        # A fault of ours in one element must not hide what became of the others; what became of it nobody knows.
        log.exception("batch_element_failed")
        return element_error(OutcomeUnknown(f"fault of ours: {type(error).__name__}"))


def element_error(error: MeshError) -> wire.ElementError:
    """The error as it stands in place of a result."""
    reject = pb.Reject(reason=reason_number(error.reason), message=error.message)
    return wire.ElementError(error=reject, code=error.code.value[0])
