"""`MeshError` to `google.rpc.Status` and back: the only two places that know the error wire format.

A status carries exactly one `ErrorInfo` (reason, domain `venuemesh`, metadata with `sent`) and the standard
details that fit: BadRequest, RetryInfo, QuotaFailure, PreconditionFailure, ResourceInfo. They ride in the
trailer `grpc-status-details-bin`. Peers refuse a header block of about 8 KiB, so everything is cut to fit.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from venuemesh import errors
from venuemesh.errors import DOMAIN, MeshError, Reason, Sent

DETAILS_KEY = "grpc-status-details-bin"
MAX_TRAILER_BYTES = 7 * 1024
# The trailer is sent in base64 (4/3) and beside it the message again, escaped (at worst 3 bytes for one).
MAX_MESSAGE_BYTES = 512
MAX_DETAILS_BYTES = 3_900
MAX_METADATA_ENTRIES = 32
MAX_KEY_CHARS = 64
MAX_VALUE_BYTES = 256
MAX_RETRY_AFTER_S = 24 * 3600.0

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_REASONS = {reason.value: reason for reason in Reason}
_RESOURCES = {
    Reason.VENUE_NOT_FOUND: "venue",
    Reason.ACCOUNT_NOT_FOUND: "account",
    Reason.INSTRUMENT_NOT_FOUND: "instrument",
    Reason.ORDER_NOT_FOUND: "order",
    Reason.STREAM_NOT_FOUND: "stream",
    Reason.ROUTE_NOT_FOUND: "route",
    Reason.CLIENT_ORDER_ID_REUSED: "order",
}
# Refusals that only gRPC's own server code gives before a handler runs, so nothing can have been sent.
_BEFORE_HANDLER = frozenset({grpc.StatusCode.UNIMPLEMENTED})


def to_status(error: MeshError) -> status_pb2.Status:
    """The rich status of `error`, cut to fit a trailer: long texts end in `...`, most metadata is kept."""
    message = _cut(error.message, MAX_MESSAGE_BYTES)
    info = error_details_pb2.ErrorInfo(reason=error.reason.value, domain=DOMAIN, metadata=dict(_metadata(error)))
    status = status_pb2.Status(code=error.code.value[0], message=message)
    # ErrorInfo goes last: the others have a known size, it gets what is left.
    others = [_packed(detail) for detail in _standard_details(error, message)]
    room = MAX_DETAILS_BYTES - sum(detail.ByteSize() + 4 for detail in others) - status.ByteSize()
    while info.ByteSize() > room - 64 and len(info.metadata) > 1:
        longest = max((key for key in info.metadata if key != "sent"), key=lambda key: len(info.metadata[key]))
        del info.metadata[longest]
    status.details.extend([_packed(info), *others])
    return status


def to_grpc_status(error: MeshError, trailers: tuple[tuple[str, str], ...] = ()) -> grpc.Status:
    """What `ServicerContext.abort_with_status` takes; `trailers` is metadata to send behind the details."""
    status: Any = rpc_status.to_status(to_status(error))
    if trailers:
        status = status._replace(trailing_metadata=(*status.trailing_metadata, *trailers))
    found: grpc.Status = status
    return found


def _metadata(error: MeshError) -> Iterator[tuple[str, str]]:
    yield "sent", error.sent.value
    kept = [(key, value) for key, value in error.metadata.items() if key != "sent"]
    for key, value in kept[: MAX_METADATA_ENTRIES - 1]:
        yield key[:MAX_KEY_CHARS], _cut(value, MAX_VALUE_BYTES)


def _standard_details(error: MeshError, message: str) -> Iterator[Message]:
    if error.field is not None:
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=_cut(error.field, MAX_VALUE_BYTES), description=message, reason=error.reason.value
        )
        yield error_details_pb2.BadRequest(field_violations=[violation])
    if error.retry_after_s is not None:
        info = error_details_pb2.RetryInfo()
        info.retry_delay.FromNanoseconds(round(min(max(error.retry_after_s, 0.0), MAX_RETRY_AFTER_S) * 1e9))
        yield info
    if error.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        subject = _cut(error.metadata.get("limit", "caller"), MAX_VALUE_BYTES)
        quota = error_details_pb2.QuotaFailure.Violation(subject=subject, description=message)
        yield error_details_pb2.QuotaFailure(violations=[quota])
    elif error.code is grpc.StatusCode.FAILED_PRECONDITION:
        subject = _cut(error.metadata.get("scope", error.metadata.get("venue", "")), MAX_VALUE_BYTES)
        state = error_details_pb2.PreconditionFailure.Violation(
            type=error.reason.value, subject=subject, description=message
        )
        yield error_details_pb2.PreconditionFailure(violations=[state])
    elif error.reason in _RESOURCES:
        kind = _RESOURCES[error.reason]
        name = error.metadata.get(kind, error.metadata.get(f"{kind}_id", ""))
        yield error_details_pb2.ResourceInfo(
            resource_type=kind, resource_name=_cut(name, MAX_VALUE_BYTES), description=message
        )


def _packed(message: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed


def _cut(text: str, limit: int) -> str:
    """At most `limit` bytes of UTF-8; half surrogates, which cannot be encoded, become question marks."""
    raw = text.encode(errors="replace")
    if len(raw) <= limit:
        return raw.decode()
    return raw[: limit - 3].decode(errors="ignore") + "..."


def error_from_rpc(rpc_error: grpc.aio.AioRpcError, *, is_write: bool) -> MeshError:
    """The `MeshError` that the other side raised, or what a failure of the transport means.

    A status without our `ErrorInfo` comes from gRPC itself or a proxy. For a write it proves nothing: the
    request may have arrived and been carried out, so it is `OutcomeUnknown` with `sent` = maybe, except
    UNIMPLEMENTED, which is answered before any handler runs. For a read nothing can have been sent to a
    venue on the caller's behalf, and the error follows the code.

    Args:
        rpc_error: what an awaited call raised.
        is_write: whether the method changes something.
    """
    code = rpc_error.code()
    message = rpc_error.details() or code.name
    details = _details_of(rpc_error)
    info = _unpacked(details, error_details_pb2.ErrorInfo)
    if info is None or info.domain != DOMAIN:
        return _transport_error(code, message, is_write=is_write)
    metadata = dict(info.metadata)
    sent = _sent_of(metadata.pop("sent", None), is_write=is_write)
    reason = _REASONS.get(info.reason)
    if reason is None:
        # A newer server: keep the word for people and act by the code.
        metadata["reason"] = info.reason
    retry = _unpacked(details, error_details_pb2.RetryInfo)
    request = _unpacked(details, error_details_pb2.BadRequest)
    return _class_of(reason, code, sent)(
        message,
        reason=reason or Reason.INTERNAL,
        sent=sent,
        retry_after_s=None if retry is None else retry.retry_delay.ToNanoseconds() / 1e9,
        field=request.field_violations[0].field if request and request.field_violations else None,
        metadata=metadata,
    )


def _transport_error(code: grpc.StatusCode, message: str, *, is_write: bool) -> MeshError:
    metadata = {"grpc_code": code.name}
    if is_write and code not in _BEFORE_HANDLER:
        return errors.OutcomeUnknown(f"{code.name}: {message}", metadata=metadata)
    match code:
        case grpc.StatusCode.UNAVAILABLE:
            return errors.GatewayUnavailable(message, metadata=metadata)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return errors.DeadlineTooShort(message, metadata=metadata)
        case grpc.StatusCode.UNIMPLEMENTED:
            return errors.NotYetImplemented(message, metadata=metadata)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return errors.RateLimited(message, metadata=metadata)
    return MeshError(f"{code.name}: {message}", metadata=metadata)


def _sent_of(text: str | None, *, is_write: bool) -> Sent:
    known = {sent.value: sent for sent in Sent}
    return known.get(text or "", Sent.MAYBE if is_write else Sent.NO)


def _details_of(rpc_error: grpc.aio.AioRpcError) -> list[AnyMessage]:
    trailers: Any = rpc_error.trailing_metadata() or ()
    for key, value in trailers:
        if key == DETAILS_KEY:
            try:
                return list(status_pb2.Status.FromString(value).details)
            except DecodeError:
                return []
    return []


def _unpacked(details: list[AnyMessage], kind: type[Message]) -> Any:
    for detail in details:
        message = kind()
        try:
            if detail.Unpack(message):
                return message
        except DecodeError:
            return None
    return None


def _subclasses(parent: type[MeshError]) -> Iterator[type[MeshError]]:
    for child in parent.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from _subclasses(child)


_ALL = tuple(_subclasses(MeshError))
_BY_REASON: dict[Reason, type[MeshError]] = {
    cls.default_reason: cls for cls in reversed(_ALL) if cls.default_reason is not Reason.INTERNAL
}
# The general class of a code: the first one directly under MeshError, where its claim is general enough.
_BY_CODE: dict[grpc.StatusCode, type[MeshError]] = {
    **{cls.code: cls for cls in reversed(_ALL) if cls.__base__ is MeshError},
    grpc.StatusCode.INTERNAL: MeshError,
}


def _class_of(reason: Reason | None, code: grpc.StatusCode, sent: Sent) -> type[MeshError]:
    by_reason = _BY_REASON.get(reason) if reason is not None else None
    if by_reason is not None and by_reason.code is code:
        return by_reason
    if code is grpc.StatusCode.DEADLINE_EXCEEDED and sent is Sent.NO:
        return errors.DeadlineTooShort
    return _BY_CODE.get(code, MeshError)
