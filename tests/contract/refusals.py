"""Errors as a caller sees them, and what every one of them must carry."""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2

from venuemesh.v1 import error_pb2

DOMAIN = "venuemesh"
DETAILS = "grpc-status-details-bin"
SENT = frozenset({"no", "yes", "maybe"})
REASONS = frozenset(name.removeprefix("REASON_") for name in error_pb2.Reason.keys())  # noqa: SIM118 - a protobuf enum, no mapping

REQUEST_FAULTS = frozenset(
    {
        "UNSPECIFIED",
        "INVALID_ARGUMENT",
        "REQUIRED_FIELD_MISSING",
        "INVALID_DECIMAL",
        "INVALID_CLIENT_ORDER_ID",
        "UNSUPPORTED_ORDER_TYPE",
        "UNSUPPORTED_TIME_IN_FORCE",
        "UNSUPPORTED_INSTRUCTION",
        "CONTRADICTORY_FIELDS",
    }
)
NO_MEANING = frozenset(
    {"OUTCOME_UNKNOWN", "VENUE_REJECTED", "NOT_IMPLEMENTED", "VENUE_PROTOCOL_ERROR", "INTERNAL", "NONCE_REJECTED"}
)
KNOWN_VENUE_REASONS = REASONS - REQUEST_FAULTS - NO_MEANING
"""Reasons a venue may have for refusing an order it offers; its bare words (VENUE_REJECTED) are not one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One error, taken apart."""

    code: grpc.StatusCode
    message: str
    reason: str
    sent: str
    fields: list[str] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)
    retry_after_s: float | None = None


def read_refusal(error: grpc.aio.AioRpcError) -> Refusal:
    """The error in parts; fails unless it carries exactly one ErrorInfo, with a reason of the contract and `sent`."""
    raw = [value for key, value in error.trailing_metadata() or () if key == DETAILS]
    assert len(raw) == 1, f"{error.code().name} without details: {error.details()}"
    details = status_pb2.Status.FromString(raw[0]).details
    infos = [unpacked(detail, error_details_pb2.ErrorInfo) for detail in details if "ErrorInfo" in detail.type_url]
    assert len(infos) == 1, f"{len(infos)} ErrorInfo"
    info = infos[0]
    assert info.domain == DOMAIN
    assert info.reason in REASONS
    assert info.metadata["sent"] in SENT
    requests = [unpacked(detail, error_details_pb2.BadRequest) for detail in details if "BadRequest" in detail.type_url]
    retries = [unpacked(detail, error_details_pb2.RetryInfo) for detail in details if "RetryInfo" in detail.type_url]
    return Refusal(
        code=error.code(),
        message=error.details() or "",
        reason=info.reason,
        sent=info.metadata["sent"],
        fields=[violation.field for request in requests for violation in request.field_violations],
        metadata=dict(info.metadata),
        retry_after_s=retries[0].retry_delay.ToNanoseconds() / 1e9 if retries else None,
    )


def unpacked(detail: Any, kind: type[Any]) -> Any:
    """A detail as its message."""
    message = kind()
    assert detail.Unpack(message)
    return message


async def refused(call: Awaitable[Any]) -> Refusal:
    """The refusal of a call that must not succeed."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return read_refusal(error)
    raise AssertionError(f"not refused, but answered: {answer}")


def reason_of(reject: Any) -> str:
    """The reason of a `Reject` as its word."""
    return error_pb2.Reason.Name(reject.reason).removeprefix("REASON_")
