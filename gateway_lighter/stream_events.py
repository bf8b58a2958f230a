"""What a `LighterStream` tells its callback. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from gateway_lighter.session import SessionEvent
from venuemesh.transport.session import StreamConnected, StreamDisconnected


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEvent:
    """Something the venue said; `received_ns` is the wall clock at the socket read.

    A `TransactionAnswered` here came after its caller gave up.
    """

    epoch: int
    received_ns: int
    event: SessionEvent


LighterEvent: TypeAlias = StreamConnected | StreamDisconnected | StreamEvent
