"""What passes between a reconnecting socket and the protocol above it: session, events, bounds. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, Protocol, TypeVar

import msgspec

from venuemesh.transport.backoff import BackoffPolicy

Said = TypeVar("Said")


class SocketSession(Protocol):
    """The protocol's pure state; asked, never awaited."""

    def frames_on_connect(self) -> Sequence[str | bytes]:
        """What to send on a new connection before anything else: sign-in, all subscriptions."""

    def heartbeat(self) -> str | bytes | None:
        """The venue's application ping; None uses the WebSocket's own ping."""


class DisconnectReason(StrEnum):
    """Why a connection ended."""

    PEER_CLOSED = "peer_closed"
    SILENT = "silent"
    OVERFLOW = "overflow"
    TOO_LARGE = "too_large"
    SEND_FAILED = "send_failed"
    REQUESTED = "requested"
    STOPPED = "stopped"


class Connected(msgspec.Struct, frozen=True, gc=False):
    """A connection stands; every earlier epoch is over."""

    epoch: int
    received_ns: int


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One message, text as UTF-8 bytes.

    `received_ns` is the wall clock, `received_s` the monotonic one, both at the socket read.
    """

    epoch: int
    data: bytes
    received_ns: int
    received_s: float


class Disconnected(msgspec.Struct, frozen=True, gc=False):
    """The connection of this epoch ended; frames may have been missed."""

    epoch: int
    reason: DisconnectReason
    detail: str
    received_ns: int


SocketEvent = Connected | Frame | Disconnected


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamConnected:
    """Told to a stream's callback: a connection stands; what was subscribed is asked for again, and data follows."""

    epoch: int
    received_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamDisconnected:
    """Told to a stream's callback: the connection ended; what came after `last_frame_ns` was missed.

    `last_frame_ns` is None when no frame ever came.
    """

    epoch: int
    received_ns: int
    last_frame_ns: int | None
    reason: DisconnectReason
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamEvent(Generic[Said]):
    """Told to a stream's callback: something the venue said; `received_ns` is the wall clock at the socket read.

    An answer to a request is here only when it came after its caller gave up.
    """

    epoch: int
    received_ns: int
    event: Said


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketConfig:
    """Bounds of one socket.

    Args:
        open_timeout_s: most time for connect and handshake.
        heartbeat_interval_s: how often the heartbeat is sent.
        silence_timeout_s: the connection is cut when no frame (and no pong, where the WebSocket's own
            ping is the heartbeat) came for this long.
        send_timeout_s: most time for the kernel to take one message.
        close_timeout_s: most time for a clean close.
        max_message_bytes: a longer message ends the connection.
        buffer_frames, buffer_bytes: most that waits for the callback.
        text_frames: whether bytes go out as text frames (JSON) rather than binary ones.
        message_budget, connect_budget: limiter budgets charged 1 per message sent and per connect.
        backoff: waits between connects.
    """

    open_timeout_s: float = 10.0
    heartbeat_interval_s: float = 15.0
    silence_timeout_s: float = 40.0
    send_timeout_s: float = 5.0
    close_timeout_s: float = 1.0
    max_message_bytes: int = 16 * 1024 * 1024
    buffer_frames: int = 10_000
    buffer_bytes: int = 32 * 1024 * 1024
    text_frames: bool = True
    message_budget: str | None = None
    connect_budget: str | None = None
    backoff: BackoffPolicy = field(default_factory=BackoffPolicy)
