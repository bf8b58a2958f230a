"""One WebSocket of the Lighter front: its session and a bounded queue of frames to send."""

from __future__ import annotations

import asyncio

from aiohttp import web

from simulator.faults import FaultKind, FaultPlan
from simulator.lighter.limits import CLIENT_MESSAGES, Window
from simulator.lighter.session import Frame, Session
from venuemesh.clock import Clock

MAX_QUEUE = 20_000  # frames waiting for one client; a client slower than that is disconnected


class Connection:
    """A socket, what it may hear, and what faults do to it."""

    def __init__(
        self,
        request: web.Request,
        socket: web.WebSocketResponse,
        session: Session,
        faults: FaultPlan,
        clock: Clock,
    ) -> None:
        self._request = request
        self.socket = socket
        self.session = session
        self.overflowed = False
        self.pending_posts = 0
        self._faults = faults
        self._clock = clock
        self._messages = Window()
        self._queue: asyncio.Queue[tuple[float, Frame]] = asyncio.Queue(MAX_QUEUE)
        self._held: Frame | None = None
        self.last_received_s = clock.monotonic_s()

    def heard(self) -> None:
        """The client sent something."""
        self.last_received_s = self._clock.monotonic_s()

    def too_chatty(self) -> bool:
        """Whether a client message, counted now, is one too many in a minute."""
        return not self._messages.spend("", 1, CLIENT_MESSAGES, self._clock.now_ns() // 1_000_000)

    def send(self, frames: list[Frame]) -> None:
        """Queue frames, each possibly lost, doubled, late or held back by a fault."""
        for item in frames:
            fault = self._faults.frame_fault(item.channel)
            kind = None if fault is None else fault.kind
            if kind is FaultKind.DROP_FRAME:
                continue
            if kind is FaultKind.REORDER_FRAME and self._held is None:
                self._held = item
                continue
            self._put(item)
            if kind is FaultKind.DUPLICATE_FRAME:
                self._put(item)
            if self._held is not None:
                held, self._held = self._held, None
                self._put(held)

    def _put(self, item: Frame) -> None:
        try:
            self._queue.put_nowait((self._faults.frame_delay_s(item.channel), item))
        except asyncio.QueueFull:
            self.overflowed = True

    async def write(self, speaking: asyncio.Event) -> None:
        """Send queued frames for ever; waits while the venue is told to be silent."""
        while True:
            delay_s, item = await self._queue.get()
            if delay_s:
                await asyncio.sleep(delay_s)
            await speaking.wait()
            await self.socket.send_str(item.text)

    def abort(self) -> None:
        """Cut the connection without a goodbye."""
        if self._request.transport is not None:
            self._request.transport.abort()
