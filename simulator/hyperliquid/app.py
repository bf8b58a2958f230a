"""I/O of the Hyperliquid front: one aiohttp application with `/info`, `/exchange` and `/ws`.

It moves bytes, keeps connections and applies faults; what is said is decided by the pure modules. Every
change of the engine is published before its answer leaves, so a socket may hear of a fill before the caller.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import msgspec
from aiohttp import WSMsgType, web

from simulator.faults import Fault, FaultKind, FaultPlan
from simulator.hyperliquid import exchange, info
from simulator.hyperliquid.batch import Batch
from simulator.hyperliquid.limits import WeightLimit, action_weight, info_weight
from simulator.hyperliquid.replies import refused
from simulator.hyperliquid.session import Frame, Post, Session, error_frame, post_frame
from simulator.hyperliquid.venue import Answer, Venue
from venuemesh.clock import Clock

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_QUEUE = 20_000  # frames waiting for one client; a client slower than that is disconnected
MAX_POSTS = 100
CLOSE_WAIT_S = 0.5  # how long a closing handshake may wait for a peer that may be gone
MAX_BODY = 1 << 20
RESETTING = frozenset({FaultKind.DROP_REPLY, FaultKind.RESET_BEFORE})


class Connection:
    """One WebSocket: its session and a bounded queue of frames to send."""

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
        self.posts = 0
        self.overflowed = False
        self._faults = faults
        self._clock = clock
        self._queue: asyncio.Queue[tuple[float, Frame]] = asyncio.Queue(MAX_QUEUE)
        self._held: Frame | None = None
        self.last_sent_s = clock.monotonic_s()

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
            self.last_sent_s = self._clock.monotonic_s()

    def abort(self) -> None:
        """Cut the connection without a goodbye."""
        if self._request.transport is not None:
            self._request.transport.abort()


class HyperliquidApp:
    """The front as an aiohttp application.

    Args:
        venue: what it speaks for.
        clock: venue time and idle times.
        faults: consulted for every request and frame.
        ip_weight_per_minute: 0 for no limit.
        idle_close_s: a socket on which nothing was sent for so long is closed.
    """

    def __init__(
        self, venue: Venue, clock: Clock, faults: FaultPlan, *, ip_weight_per_minute: int, idle_close_s: float
    ) -> None:
        self.venue = venue
        self._clock = clock
        self._faults = faults
        self._weights = WeightLimit(ip_weight_per_minute)
        self._idle_close_s = idle_close_s
        self._connections: set[Connection] = set()
        self._speaking = asyncio.Event()
        self._speaking.set()
        self._silences = 0
        self.application = web.Application(client_max_size=MAX_BODY)
        self.application.router.add_post("/info", self._info)
        self.application.router.add_post("/exchange", self._exchange)
        self.application.router.add_get("/ws", self._socket)

    def now_ms(self) -> int:
        """Venue time."""
        return self._clock.now_ns() // 1_000_000

    @property
    def connections(self) -> int:
        """Open sockets."""
        return len(self._connections)

    def subscribed(self) -> set[str]:
        """Types of all live subscriptions, so that a test can wait for one."""
        return {kind for connection in self._connections for kind in connection.session.subscribed}

    # -- publishing ------------------------------------------------------------------------------------------

    def publish(self, *, tick: bool = False) -> None:
        """Send every client what it should hear of the events since the last call."""
        events = self.venue.engine.drain()
        if not events and not tick:
            return
        batch = Batch.of(events, tick=tick)
        now_ms = self.now_ms()
        for connection in list(self._connections):
            connection.send(connection.session.publish(batch, now_ms))
            if connection.overflowed:
                log.warning("client_too_slow", extra={"queued": MAX_QUEUE})
                connection.abort()

    def change(self, act: Callable[[Venue, int], T]) -> T:
        """Let `act` do something to the venue, now, and publish what came of it.

        Raises:
            Exception: whatever `act` raises.
        """
        try:
            return act(self.venue, self.now_ms())
        finally:
            self.publish()

    def tick(self) -> None:
        """One round of the synthetic markets, published."""
        self.venue.step(self.now_ms())
        self.publish(tick=True)

    async def close_idle(self) -> None:
        """Close sockets on which nothing was sent for too long."""
        limit = self._clock.monotonic_s() - self._idle_close_s
        idle = [item for item in self._connections if item.last_sent_s <= limit]
        await asyncio.gather(*(item.socket.close(message=b"Inactive") for item in idle))

    def cut_sockets(self) -> int:
        """Cut every open socket without a goodbye; how many."""
        doomed = list(self._connections)
        for connection in doomed:
            connection.abort()
        return len(doomed)

    def fall_silent(self, seconds: float) -> None:
        """Send nothing on any socket for `seconds`; what is due waits."""
        self._silences += 1
        current = self._silences
        self._speaking.clear()
        asyncio.get_running_loop().call_later(seconds, self._speak, current)

    def _speak(self, silence: int) -> None:
        if silence == self._silences:
            self._speaking.set()

    async def close(self) -> None:
        """Say goodbye to every client."""
        goodbyes = (item.socket.close(code=1001, message=b"server stops") for item in self._connections)
        await asyncio.gather(*goodbyes)

    # -- HTTP ------------------------------------------------------------------------------------------------

    async def _info(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, action=False)

    async def _exchange(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, action=True)

    async def _serve(self, request: web.Request, *, action: bool) -> web.StreamResponse:
        if self._faults.refuses_connections():
            return _reset(request)
        try:
            payload = msgspec.json.decode(await request.read())
        except msgspec.DecodeError as error:
            text = f"Failed to parse the request body as JSON: {error}"
            return web.Response(status=400, text=text)
        remote = request.remote or ""
        if self._weights.exhausted(remote, self.now_ms()):
            return web.Response(status=429, text="null", content_type="application/json")
        fault = self._faults.request_fault(_name(payload, action=action))
        answer = await self._answer(payload, fault, action=action)
        weight = action_weight(exchange.batch_length(payload)) if action else _info_weight(payload, answer)
        self._weights.spend(remote, weight, self.now_ms())
        if fault is not None and fault.kind in RESETTING:
            return _reset(request)
        return _response(answer, fault)

    async def _answer(self, payload: Any, fault: Fault | None, *, action: bool) -> Answer:
        """The venue's answer, or what a fault makes of it; effects happen before a delay or not at all."""
        kind = None if fault is None else fault.kind
        if fault is not None and kind is FaultKind.DELAY_BEFORE:
            await asyncio.sleep(fault.delay_s)
        if fault is not None and kind is FaultKind.REFUSE:
            return refused(fault.text)
        if fault is not None and kind is FaultKind.RATE_LIMIT:
            return Answer(status=429, body=None)
        if fault is not None and kind is FaultKind.ERROR_BEFORE:
            return Answer(status=fault.status, body=None)
        if kind is FaultKind.RESET_BEFORE:
            return Answer(body=None)
        answer = self._perform(payload, action=action)
        if fault is not None and kind is FaultKind.DELAY_REPLY:
            await asyncio.sleep(fault.delay_s)
        if fault is not None and kind is FaultKind.ERROR_AFTER:
            return Answer(status=fault.status, body=None)
        if kind is FaultKind.GARBLE_REPLY:
            return replace(answer, body="<html>garbled", plain=True)
        return answer

    def _perform(self, payload: Any, *, action: bool) -> Answer:
        if not action:
            return info.handle(self.venue, payload, self.now_ms())
        answer = exchange.handle(self.venue, payload, self.now_ms())
        self.publish()
        return answer

    # -- WebSocket -------------------------------------------------------------------------------------------

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        if self._faults.refuses_connections():
            return _reset(request)
        socket = web.WebSocketResponse(timeout=CLOSE_WAIT_S, max_msg_size=MAX_BODY, compress=False)
        await socket.prepare(request)
        connection = Connection(request, socket, Session(self.venue), self._faults, self._clock)
        self._connections.add(connection)
        try:
            async with asyncio.TaskGroup() as tasks:
                writer = tasks.create_task(connection.write(self._speaking), name="socket-writer")
                await self._read(connection, tasks)
                writer.cancel()
        except* ConnectionError as group:  # the peer left while a frame was on its way
            log.debug("socket_lost", extra={"error": repr(group.exceptions[0])})
        finally:
            self._connections.discard(connection)
        return socket

    async def _read(self, connection: Connection, tasks: asyncio.TaskGroup) -> None:
        async for message in connection.socket:
            if message.type is not WSMsgType.TEXT:
                continue
            frames, post = connection.session.receive(message.data, self.now_ms())
            connection.send(frames)
            if post is None:
                continue
            if connection.posts >= MAX_POSTS:
                connection.send([error_frame(f"too many pending post requests id={post.id}")])
                continue
            await self._post(connection, post, tasks)

    async def _post(self, connection: Connection, post: Post, tasks: asyncio.TaskGroup) -> None:
        """Perform a post at once, in order; only a delayed one runs beside the others."""
        fault = self._faults.request_fault(_name(post.payload, action=post.kind == "action"))
        connection.posts += 1
        if fault is not None and fault.kind in (FaultKind.DELAY_REPLY, FaultKind.DELAY_BEFORE):
            tasks.create_task(self._post_now(connection, post, fault), name="delayed-post")
        else:
            await self._post_now(connection, post, fault)

    async def _post_now(self, connection: Connection, post: Post, fault: Fault | None) -> None:
        try:
            answer = await self._answer(post.payload, fault, action=post.kind == "action")
        finally:
            connection.posts -= 1
        if fault is not None and fault.kind in RESETTING:
            connection.abort()
            return
        connection.send([post_frame(post, answer)])


def _name(payload: Any, *, action: bool) -> str:
    return exchange.action_type(payload) if action else f"info:{info.request_type(payload)}"


def _info_weight(payload: Any, answer: Answer) -> int:
    return info_weight(info.request_type(payload), answer.body)


def _reset(request: web.Request) -> web.StreamResponse:
    """Cut the connection; the response returned is never seen."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


def _response(answer: Answer, fault: Fault | None) -> web.Response:
    headers = {}
    if fault is not None and fault.kind is FaultKind.RATE_LIMIT and fault.retry_after_s is not None:
        headers["Retry-After"] = str(fault.retry_after_s)
    if answer.plain:
        return web.Response(status=answer.status, text=str(answer.body), headers=headers)
    body = msgspec.json.encode(answer.body)
    return web.Response(status=answer.status, body=body, content_type="application/json", headers=headers)
