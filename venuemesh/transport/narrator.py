"""What a stream tells its one callback: the venue's words in order, between beginning and end of each connection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from venuemesh.transport.delivery import EventQueue
from venuemesh.transport.session import (
    Connected,
    Disconnected,
    Frame,
    StreamConnected,
    StreamDisconnected,
    StreamEvent,
)
from venuemesh.transport.websocket import ReconnectingSocket

Said = TypeVar("Said")


class Narrator(Generic[Said]):
    """Tells the callback in order, without ever waiting for it.

    When the queue in between is full the connection is cut, and nothing more of it is told: what was missed is a
    visible gap. Beginnings and ends of connections always fit.

    Args:
        max_events, max_bytes: most that waits for the callback, counted in events and bytes of their frames.
    """

    def __init__(
        self,
        socket: ReconnectingSocket,
        on_event: Callable[[StreamConnected | StreamDisconnected | StreamEvent[Said]], Awaitable[None]],
        *,
        max_events: int,
        max_bytes: int,
    ) -> None:
        self._socket = socket
        self._queue = EventQueue(on_event, max_events=max_events, max_bytes=max_bytes)
        self._last_frame_ns: int | None = None
        self._cut = False

    async def run_during(self, source: Callable[[], Awaitable[None]], *, name: str, drain_timeout_s: float) -> None:
        """Call the callback while `source` runs, and for what is left when it ends; see `EventQueue`."""
        await self._queue.deliver_during(source, name=name, drain_timeout_s=drain_timeout_s)

    def connected(self, event: Connected) -> None:
        """A connection stands."""
        self._cut = False
        self._queue.put(StreamConnected(epoch=event.epoch, received_ns=event.received_ns))

    def heard(self, frame: Frame) -> None:
        """A frame came, whether or not it says anything to the callback: no gap begins before it."""
        self._last_frame_ns = frame.received_ns

    def tell(self, said: Said, frame: Frame) -> None:
        """Something the venue said in a frame; the connection is given up where it no longer fits."""
        event = StreamEvent(epoch=frame.epoch, received_ns=frame.received_ns, event=said)
        if not self._cut and not self._queue.offer(event, len(frame.data)):
            self.give_up("the callback is too slow for the stream")

    def tell_late(self, said: Said, frame: Frame) -> None:
        """An answer whose caller has gone: it always fits, since it may settle an order."""
        self._queue.put(StreamEvent(epoch=frame.epoch, received_ns=frame.received_ns, event=said))

    def give_up(self, detail: str) -> None:
        """Cut the connection; nothing of it is told any more: the gap begins here."""
        self._cut = True
        self._socket.reconnect(detail)

    def disconnected(self, event: Disconnected) -> None:
        """The connection ended."""
        self._queue.put(
            StreamDisconnected(
                epoch=event.epoch,
                received_ns=event.received_ns,
                last_frame_ns=self._last_frame_ns,
                reason=event.reason,
                detail=event.detail,
            )
        )
