"""An error in place of one element's result, where the others must not suffer from it. Pure."""

from __future__ import annotations

from venuemesh.errors import MeshError
from venuemesh.v1 import error_pb2, order_pb2, order_service_pb2


def element_error(error: MeshError) -> order_service_pb2.ElementError:
    """The error as it stands in place of a result."""
    reason = error_pb2.Reason.Value(f"REASON_{error.reason.value}")
    return order_service_pb2.ElementError(
        error=order_pb2.Reject(reason=reason, message=error.message), code=error.code.value[0]
    )
