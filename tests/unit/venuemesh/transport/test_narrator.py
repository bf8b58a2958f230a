"""What a stream tells its callback: in order, bounded, with a visible gap."""

from __future__ import annotations

import asyncio

from venuemesh.transport.narrator import Narrator
from venuemesh.transport.session import (
    Connected,
    Disconnected,
    DisconnectReason,
    Frame,
    StreamConnected,
    StreamDisconnected,
    StreamEvent,
)

Told = StreamConnected | StreamDisconnected | StreamEvent[str]


class FakeSocket:
    """Notes why it was to reconnect."""

    def __init__(self) -> None:
        self.cuts: list[str] = []

    def reconnect(self, detail: str) -> None:
        self.cuts.append(detail)


class Listener:
    """A callback that keeps what it is told."""

    def __init__(self, *, max_events: int = 10) -> None:
        self.events: list[Told] = []
        self.socket = FakeSocket()
        self.narrator: Narrator[str] = Narrator(self.socket, self, max_events=max_events, max_bytes=1_000)

    async def __call__(self, event: Told) -> None:
        self.events.append(event)

    async def deliver(self) -> list[Told]:
        """Everything told so far."""
        await self.narrator.run_during(lambda: asyncio.sleep(0), name="events", drain_timeout_s=5.0)
        return self.events


def frame(epoch: int = 1, received_ns: int = 5) -> Frame:
    """A frame of the venue."""
    return Frame(epoch, b"{}", received_ns, 0.0)


def ended(epoch: int = 1) -> Disconnected:
    """The end of a connection."""
    return Disconnected(epoch, DisconnectReason.PEER_CLOSED, "gone", 9)


async def test_words_stand_between_beginning_and_end_of_their_connection() -> None:
    """With the time of the last frame: what came after it was missed."""
    listener = Listener()
    narrator = listener.narrator
    narrator.connected(Connected(1, 3))
    narrator.heard(frame(received_ns=5))
    narrator.tell("book", frame(received_ns=5))
    narrator.heard(frame(received_ns=7))  # a pong says nothing, and nothing was missed before it
    narrator.disconnected(ended())
    assert await listener.deliver() == [
        StreamConnected(epoch=1, received_ns=3),
        StreamEvent(epoch=1, received_ns=5, event="book"),
        StreamDisconnected(epoch=1, received_ns=9, last_frame_ns=7, reason=DisconnectReason.PEER_CLOSED, detail="gone"),
    ]


async def test_end_of_a_connection_without_a_frame_names_no_last_one() -> None:
    """Nothing is invented."""
    listener = Listener()
    listener.narrator.disconnected(ended())
    (event,) = await listener.deliver()
    assert isinstance(event, StreamDisconnected) and event.last_frame_ns is None


async def test_callback_that_is_too_slow_costs_the_connection_and_nothing_in_its_middle() -> None:
    """The gap begins with the first that did not fit, though there is room again; a late answer and the end fit."""
    listener = Listener(max_events=2)
    narrator = listener.narrator
    for said in ("one", "two", "three"):
        narrator.tell(said, frame())
    assert listener.socket.cuts == ["the callback is too slow for the stream"]
    narrator.tell_late("answer", frame())
    await listener.deliver()
    narrator.tell("four", frame())
    narrator.disconnected(ended())
    narrator.connected(Connected(2, 10))
    await listener.deliver()
    narrator.tell("five", frame(epoch=2))
    await listener.deliver()
    assert len(listener.socket.cuts) == 1
    assert [event.event if isinstance(event, StreamEvent) else type(event) for event in listener.events] == [
        "one",
        "two",
        "answer",
        StreamDisconnected,
        StreamConnected,
        "five",
    ]
