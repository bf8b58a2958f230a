"""What the streams of several servicers share."""

from __future__ import annotations

from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from typing import TypeVar

from venuemesh.errors import Reason
from venuemesh.gateway.orders import reason_number
from venuemesh.stream_options import StreamTerms
from venuemesh.streaming import Entry, StreamPlan
from venuemesh.v1 import stream_pb2

T = TypeVar("T")

NOT_RESUMABLE = "this stream starts with a snapshot and cannot be resumed"


def snapshot_plan(
    terms: StreamTerms,
    *,
    method: str,
    peer: str,
    results: Sequence[stream_pb2.SubscriptionResult],
    snapshot: Callable[[], Iterable[Entry[T]]],
    link_state: Callable[[], stream_pb2.LinkState.ValueType] = lambda: stream_pb2.LINK_STATE_UNSPECIFIED,
    keys: Collection[Hashable] | None = None,
    accepts: Callable[[T], bool] | None = None,
) -> StreamPlan[T]:
    """How a stream is served that begins with a snapshot and cannot be resumed; see `StreamPlan`."""
    asked_to_resume = terms.resume_after is not None
    return StreamPlan(
        terms=terms,
        method=method,
        peer=peer,
        keys=keys,
        accepts=accepts,
        results=results,
        snapshot=snapshot,
        resume_outcome=(
            stream_pb2.RESUME_OUTCOME_SNAPSHOT_INSTEAD if asked_to_resume else stream_pb2.RESUME_OUTCOME_UNSPECIFIED
        ),
        resume_note=NOT_RESUMABLE if asked_to_resume else "",
        resumable=False,
        link_state=link_state,
    )


def accepted(subscription: str) -> stream_pb2.SubscriptionResult:
    """Data of this subscription will follow."""
    return stream_pb2.SubscriptionResult(subscription=subscription, accepted=True)


def refused(subscription: str, reason: Reason, message: str) -> stream_pb2.SubscriptionResult:
    """No data of this subscription will follow; the others are not affected."""
    return stream_pb2.SubscriptionResult(subscription=subscription, reason=reason_number(reason), message=message)
