"""What a conversation has to say on its WebSocket. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One text frame of a channel, named so that faults apply by channel without reading it.

    Args:
        channel: what `Fault.match` is compared with; "" for frames outside any channel.
        text: JSON as it is sent.
    """

    channel: str
    text: str
