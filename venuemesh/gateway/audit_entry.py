"""One attempt to ask the venue as an entry of the audit trail, secrets removed. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from venuemesh.errors import Sent
from venuemesh.gateway.order_wire import timestamp
from venuemesh.subjects import Kind, subject
from venuemesh.transport.observer import RequestOutcome, RequestRecord
from venuemesh.transport.redaction import redact_body, redact_prose, redact_target
from venuemesh.v1 import operations_pb2 as pb

SEVERAL: Final = "several"
"""Stands in a subject for the orders of a request about more than one; no order has this id."""
MAX_DETAIL_CHARACTERS: Final = 2_000
_NS_PER_S = 1_000_000_000

Refuses = Callable[[Any], bool]
"""Whether an answer, decoded from JSON, declines what was asked, or a part of it; the adapter's own knowledge."""

_OUTCOMES: Final = {
    RequestOutcome.OK: pb.AUDIT_OUTCOME_OK,
    RequestOutcome.LATE: pb.AUDIT_OUTCOME_OK,
    RequestOutcome.CLIENT_ERROR: pb.AUDIT_OUTCOME_REFUSED,
    RequestOutcome.RATE_LIMITED: pb.AUDIT_OUTCOME_REFUSED,
    RequestOutcome.SERVER_ERROR: pb.AUDIT_OUTCOME_UNKNOWN,
    RequestOutcome.UNEXPECTED: pb.AUDIT_OUTCOME_UNKNOWN,
    RequestOutcome.NOT_CONNECTED: pb.AUDIT_OUTCOME_NOT_SENT,
    RequestOutcome.LOST: pb.AUDIT_OUTCOME_UNKNOWN,
    RequestOutcome.CANCELED: pb.AUDIT_OUTCOME_UNKNOWN,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """An attempt and whose it was. Bodies longer than the bound are left out, their lengths are kept."""

    number: int
    record: RequestRecord
    account_id: str
    order_ids: tuple[str, ...]
    correlation_id: str
    request_bytes: int
    response_bytes: int


def never_refuses(_answer: Any) -> bool:
    """For a venue whose answers say by their status whether they refuse."""
    return False


def build_entry(seen: Observed, *, venue: str, writer_id: str, refuses: Refuses = never_refuses) -> pb.AuditEntry:
    """The entry of an attempt."""
    record = seen.record
    entry = pb.AuditEntry(
        audit_entry_id=f"{venue}/{writer_id}/{seen.number}",
        venue=venue,
        account_id=seen.account_id,
        endpoint=record.endpoint,
        request=_request(seen),
        response=_response(seen),
        outcome=outcome_of(record, refuses),
        request_time=timestamp(record.started_ns),
        order_id=seen.order_ids[0] if seen.order_ids else "",
        correlation_id=seen.correlation_id,
        link_id=record.link,
        write=record.write,
        attempt=record.attempt,
        detail=redact_prose(record.detail)[:MAX_DETAIL_CHARACTERS],
        other_order_ids=seen.order_ids[1:],
        request_length=seen.request_bytes,
        response_length=seen.response_bytes,
    )
    if record.status:
        entry.http_status = record.status
    if record.status is not None:
        entry.latency.seconds, entry.latency.nanos = divmod(round(record.latency_s * _NS_PER_S), _NS_PER_S)
    return entry


def outcome_of(record: RequestRecord, refuses: Refuses) -> pb.AuditOutcome.ValueType:
    """How an attempt ended, for an auditor: what the venue declined is refused, whatever the status of the answer."""
    if record.sent is Sent.NO:
        return pb.AUDIT_OUTCOME_NOT_SENT
    outcome = _OUTCOMES[record.outcome]
    if outcome != pb.AUDIT_OUTCOME_OK or not record.response_body:
        return outcome
    try:
        answer = msgspec.json.decode(record.response_body)
    except (msgspec.DecodeError, RecursionError):
        return outcome
    return pb.AUDIT_OUTCOME_REFUSED if refuses(answer) else outcome


def subject_of(entry: pb.AuditEntry) -> str:
    """Where an entry is stored: by account and order, so that the entries of one order are found at once."""
    order = SEVERAL if entry.other_order_ids else entry.order_id
    return subject(Kind.AUDIT, entry.venue, entry.account_id, order)


def is_about(entry: pb.AuditEntry, order_id: str) -> bool:
    """Whether an order is among those of an entry."""
    return order_id == entry.order_id or order_id in entry.other_order_ids


def loss_entry(*, venue: str, writer_id: str, number: int, lost: int, since_ns: int, until_ns: int) -> pb.AuditEntry:
    """The place of entries that were lost, in the trail itself."""
    return pb.AuditEntry(
        audit_entry_id=f"{venue}/{writer_id}/{number}",
        venue=venue,
        endpoint="audit.lost",
        outcome=pb.AUDIT_OUTCOME_UNKNOWN,
        request_time=timestamp(until_ns),
        detail=f"{lost} entries were lost since {timestamp(since_ns).ToJsonString()}: the queue was full",
    )


def _request(seen: Observed) -> str:
    record = seen.record
    if record.request_body:
        return redact_body(record.request_body)
    return _left_out(seen.request_bytes) or redact_target(record.target)


def _response(seen: Observed) -> str:
    return redact_body(seen.record.response_body) or _left_out(seen.response_bytes)


def _left_out(size: int) -> str:
    return f"[{size} bytes, left out for their size]" if size else ""
