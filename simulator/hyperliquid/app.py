"""I/O of the Hyperliquid front: one aiohttp application with `/info`, `/exchange` and `/ws`.

It moves bytes, keeps connections and applies faults; what is said is decided by the pure modules. Every
change of the engine is published before its answer leaves, so a socket may hear of a fill before the caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import msgspec
from aiohttp import WSMsgType, web

from simulator.connections import CLOSE_WAIT_S, Connection, Connections, reset
from simulator.faults import RESETTING, Fault, FaultKind, FaultPlan
from simulator.hyperliquid import exchange, info
from simulator.hyperliquid.batch import Batch
from simulator.hyperliquid.limits import WeightLimit, action_weight, info_weight
from simulator.hyperliquid.replies import refused
from simulator.hyperliquid.session import Post, Session, error_frame, post_frame
from simulator.hyperliquid.venue import Answer, Venue
from venuemesh.clock import Clock

T = TypeVar("T")

MAX_POSTS = 100
MAX_BODY = 1 << 20


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
        self.sockets = Connections[Session]()
        self.application = web.Application(client_max_size=MAX_BODY)
        self.application.router.add_post("/info", self._info)
        self.application.router.add_post("/exchange", self._exchange)
        self.application.router.add_get("/ws", self._socket)

    def now_ms(self) -> int:
        """Venue time."""
        return self._clock.now_ns() // 1_000_000

    # -- publishing ------------------------------------------------------------------------------------------

    def publish(self, *, tick: bool = False) -> None:
        """Send every client what it should hear of the events since the last call."""
        events = self.venue.engine.drain()
        if not events and not tick:
            return
        batch = Batch.of(events, tick=tick)
        now_ms = self.now_ms()
        self.sockets.publish(lambda session: session.publish(batch, now_ms))

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
        idle = [item for item in self.sockets if item.last_sent_s <= limit]
        await asyncio.gather(*(item.socket.close(message=b"Inactive") for item in idle))

    def cut_sockets(self) -> int:
        """Cut every open socket without a goodbye; how many."""
        return self.sockets.cut()

    def fall_silent(self, seconds: float) -> None:
        """Send nothing on any socket for `seconds`; what is due waits."""
        self.sockets.fall_silent(seconds)

    async def close(self) -> None:
        """Say goodbye to every client."""
        await self.sockets.close()

    # -- HTTP ------------------------------------------------------------------------------------------------

    async def _info(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, action=False)

    async def _exchange(self, request: web.Request) -> web.StreamResponse:
        return await self._serve(request, action=True)

    async def _serve(self, request: web.Request, *, action: bool) -> web.StreamResponse:
        if self._faults.refuses_connections():
            return reset(request)
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
            return reset(request)
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
            return reset(request)
        socket = web.WebSocketResponse(timeout=CLOSE_WAIT_S, max_msg_size=MAX_BODY, compress=False)
        await socket.prepare(request)
        connection = Connection(request, socket, Session(self.venue), self._faults, self._clock)
        await self.sockets.serve(connection, self._read)
        return socket

    async def _read(self, connection: Connection[Session], tasks: asyncio.TaskGroup) -> None:
        async for message in connection.socket:
            connection.heard()
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

    async def _post(self, connection: Connection[Session], post: Post, tasks: asyncio.TaskGroup) -> None:
        """Perform a post at once, in order; only a delayed one runs beside the others."""
        fault = self._faults.request_fault(_name(post.payload, action=post.kind == "action"))
        connection.posts += 1
        if fault is not None and fault.kind in (FaultKind.DELAY_REPLY, FaultKind.DELAY_BEFORE):
            tasks.create_task(self._post_now(connection, post, fault), name="delayed-post")
        else:
            await self._post_now(connection, post, fault)

    async def _post_now(self, connection: Connection[Session], post: Post, fault: Fault | None) -> None:
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


def _response(answer: Answer, fault: Fault | None) -> web.Response:
    headers = {}
    if fault is not None and fault.kind is FaultKind.RATE_LIMIT and fault.retry_after_s is not None:
        headers["Retry-After"] = str(fault.retry_after_s)
    if answer.plain:
        return web.Response(status=answer.status, text=str(answer.body), headers=headers)
    body = msgspec.json.encode(answer.body)
    return web.Response(status=answer.status, body=body, content_type="application/json", headers=headers)
