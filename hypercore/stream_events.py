"""What a `HyperCoreStream` tells its callback. Pure."""

from __future__ import annotations

from typing import TypeAlias

from hypercore.session import SessionEvent
from venuemesh.transport.session import StreamConnected, StreamDisconnected, StreamEvent

HyperCoreEvent: TypeAlias = StreamConnected | StreamDisconnected | StreamEvent[SessionEvent]
