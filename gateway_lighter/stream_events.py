"""What a `LighterStream` tells its callback. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from gateway_lighter.session import SessionEvent
from venuemesh.transport.session import DisconnectReason


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamConnected:
    """A connection stands; channels are asked for again one by one, each with a snapshot."""

    epoch: int
    received_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamDisconnected:
    """The connection ended: books are stale, and fills since `last_frame_ns` are never replayed: fetch them.

    `last_frame_ns` is None when no frame ever came.
    """

    epoch: int
    received_ns: int
    last_frame_ns: int | None
    reason: DisconnectReason
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEvent:
    """Something the venue said; `received_ns` is the wall clock at the socket read.

    A `TransactionAnswered` here came after its caller gave up.
    """

    epoch: int
    received_ns: int
    event: SessionEvent


LighterEvent: TypeAlias = StreamConnected | StreamDisconnected | StreamEvent
