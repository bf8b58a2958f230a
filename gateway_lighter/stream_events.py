"""What a `LighterStream` tells its callback. Pure."""

from __future__ import annotations

from typing import TypeAlias

from gateway_lighter.session import SessionEvent
from venuemesh.transport.session import StreamConnected, StreamDisconnected, StreamEvent

LighterEvent: TypeAlias = StreamConnected | StreamDisconnected | StreamEvent[SessionEvent]
