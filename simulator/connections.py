"""The WebSockets of a front: a bounded queue for each, and what faults do to what is sent.

A front decides what is said, when a socket is idle and how it is read; here sockets are kept and written to.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Generic, Protocol, TypeVar

from aiohttp import web

from simulator.faults import FaultKind, FaultPlan
from simulator.frames import Frame
from venuemesh.clock import Clock

log = logging.getLogger(__name__)

MAX_QUEUE = 20_000  # frames waiting for one client; a client slower than that is disconnected
CLOSE_WAIT_S = 0.5  # how long a closing handshake may wait for a peer that may be gone


class Conversation(Protocol):
    """What a front knows of one client."""

    @property
    def subscribed(self) -> set[str]:
        """Kinds of the live subscriptions."""


S = TypeVar("S", bound=Conversation)


class Connection(Generic[S]):
    """One WebSocket: its conversation and a bounded queue of frames to send.

    Args:
        request: the one that was upgraded to `socket`.
        session: the conversation it carries.
        faults: consulted for every frame.
        clock: for the times of the last words.
    """

    def __init__(
        self, request: web.Request, socket: web.WebSocketResponse, session: S, faults: FaultPlan, clock: Clock
    ) -> None:
        self._request = request
        self.remote = request.remote or ""
        self.socket = socket
        self.session = session
        self.posts = 0  # taken and not yet answered
        self.overflowed = False
        self._faults = faults
        self._clock = clock
        self._queue: asyncio.Queue[tuple[float, Frame]] = asyncio.Queue(MAX_QUEUE)
        self._held: Frame | None = None
        self.last_sent_s = self.last_received_s = clock.monotonic_s()

    def heard(self) -> None:
        """The client sent something."""
        self.last_received_s = self._clock.monotonic_s()

    def send(self, frames: Sequence[Frame]) -> None:
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
            self.last_sent_s = self._clock.monotonic_s()

    def abort(self) -> None:
        """Cut the connection without a goodbye."""
        reset(self._request)


class Connections(Generic[S]):
    """The open WebSockets of one front, and the silence that may lie over them."""

    def __init__(self) -> None:
        self._open: set[Connection[S]] = set()
        self._speaking = asyncio.Event()
        self._speaking.set()
        self._silences = 0

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Connection[S]]:
        """Those open now; they may open and close meanwhile."""
        return iter(list(self._open))

    def subscribed(self) -> set[str]:
        """Kinds of all live subscriptions, so that a test can wait for one."""
        return {kind for connection in self._open for kind in connection.session.subscribed}

    async def serve(
        self, connection: Connection[S], read: Callable[[Connection[S], asyncio.TaskGroup], Awaitable[None]]
    ) -> None:
        """Keep a connection among the open ones and write to it until `read` has heard its last word.

        What `read` starts in the task group ends before the connection is forgotten.
        """
        self._open.add(connection)
        try:
            async with asyncio.TaskGroup() as tasks:
                writer = tasks.create_task(connection.write(self._speaking), name="socket-writer")
                await read(connection, tasks)
                writer.cancel()
        except* ConnectionError as group:  # the peer left while a frame was on its way
            log.debug("socket_lost", extra={"error": repr(group.exceptions[0])})
        finally:
            self._open.discard(connection)

    def publish(self, say: Callable[[S], Sequence[Frame]]) -> None:
        """Queue for every client what its conversation has to `say`; a client that is too slow is cut."""
        for connection in self:
            connection.send(say(connection.session))
            if connection.overflowed:
                log.warning("client_too_slow", extra={"queued": MAX_QUEUE})
                connection.abort()

    def cut(self) -> int:
        """Cut every open socket without a goodbye; how many."""
        doomed = list(self)
        for connection in doomed:
            connection.abort()
        return len(doomed)

    def fall_silent(self, seconds: float) -> None:
        """Send nothing on any socket for `seconds`; what is due waits. The latest call counts."""
        self._silences += 1
        self._speaking.clear()
        asyncio.get_running_loop().call_later(seconds, self._speak, self._silences)

    def _speak(self, silence: int) -> None:
        if silence == self._silences:
            self._speaking.set()

    async def close(self) -> None:
        """Say goodbye to every client."""
        goodbyes = (item.socket.close(code=1001, message=b"server stops") for item in self)
        await asyncio.gather(*goodbyes)


def reset(request: web.Request) -> web.StreamResponse:
    """Cut the connection a request came on; the response returned is never seen."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)
