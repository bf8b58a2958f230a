"""What a `HyperCoreStream` tells its callback. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from hypercore.frames import DataFrame, UnknownFrame
from hypercore.session import (
    PostAnswered,
    SubscriptionAcknowledged,
    SubscriptionRefused,
    UnreadableFrame,
    VenueComplaint,
)
from venuemesh.transport.session import StreamConnected, StreamDisconnected


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEvent:
    """Something the venue said; `received_ns` is the wall clock at the socket read.

    `event` is a DataFrame, UnknownFrame, SubscriptionAcknowledged, SubscriptionRefused, VenueComplaint,
    UnreadableFrame (its state must be read again), or a PostAnswered that came after its caller gave up.
    """

    epoch: int
    received_ns: int
    event: (
        DataFrame
        | UnknownFrame
        | SubscriptionAcknowledged
        | SubscriptionRefused
        | PostAnswered
        | VenueComplaint
        | UnreadableFrame
    )


HyperCoreEvent: TypeAlias = StreamConnected | StreamDisconnected | StreamEvent
