"""What the streams of several servicers share."""

from __future__ import annotations

from venuemesh.errors import Reason
from venuemesh.gateway.orders import reason_number
from venuemesh.stream_options import StreamTerms
from venuemesh.v1 import stream_pb2

NOT_RESUMABLE = "this stream starts with a snapshot and cannot be resumed"


def snapshot_only(terms: StreamTerms) -> tuple[stream_pb2.ResumeOutcome.ValueType, str]:
    """The acknowledgement's outcome and note on a stream that has no history."""
    if terms.resume_after is None:
        return stream_pb2.RESUME_OUTCOME_UNSPECIFIED, ""
    return stream_pb2.RESUME_OUTCOME_SNAPSHOT_INSTEAD, NOT_RESUMABLE


def accepted(subscription: str) -> stream_pb2.SubscriptionResult:
    """Data of this subscription will follow."""
    return stream_pb2.SubscriptionResult(subscription=subscription, accepted=True)


def refused(subscription: str, reason: Reason, message: str) -> stream_pb2.SubscriptionResult:
    """No data of this subscription will follow; the others are not affected."""
    return stream_pb2.SubscriptionResult(subscription=subscription, reason=reason_number(reason), message=message)
