"""I/O of the Lighter front: one aiohttp application with `/`, `/info`, `/api/v1/*` and `/stream`.

It moves bytes, keeps connections, wakes the sequencer and applies faults; what is said is decided by the pure
modules. What a transaction did is published as soon as it is executed.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from simulator.connections import CLOSE_WAIT_S, Connection, Connections, reset
from simulator.faults import RESETTING, Fault, FaultKind, FaultPlan
from simulator.frames import Frame
from simulator.lighter import rest
from simulator.lighter.errors import Code, Refused, bad_param
from simulator.lighter.limits import RateLimits
from simulator.lighter.request import Request
from simulator.lighter.session import Post, Session, control, error_frame, reply_frame
from simulator.lighter.transactions import TxType, parse
from simulator.lighter.venue import LighterVenue, Sent
from venuemesh.clock import Clock

MAX_PENDING_POSTS = 50
MAX_BODY = 1 << 20
RATE_MESSAGE = '{"ratelimit": "Ratelimit is off"}'
WITHOUT_EFFECT = frozenset({FaultKind.REFUSE, FaultKind.RATE_LIMIT, FaultKind.ERROR_BEFORE, FaultKind.RESET_BEFORE})
Answer = tuple[int, Any]


class LighterApp:
    """The front as an aiohttp application.

    Args:
        venue: what it speaks for.
        clock: venue time and idle times.
        faults: consulted for every request and frame.
        rate_limits: whether the venue's limits hold.
        idle_close_s: a socket on which the client said nothing for so long is closed.
        ping_s: how often clients are pinged, 0 for never.
        wakes: whether queued transactions are executed by a timer; otherwise only by `tick`.
    """

    def __init__(
        self,
        venue: LighterVenue,
        clock: Clock,
        faults: FaultPlan,
        *,
        rate_limits: bool,
        idle_close_s: float,
        wakes: bool,
        ping_s: float = 0.0,
    ) -> None:
        self.venue = venue
        self._clock = clock
        self._faults = faults
        self._limits = RateLimits(enabled=rate_limits)
        self._idle_close_s = idle_close_s
        self._ping_s = ping_s
        self._pinged_s = clock.monotonic_s()
        self._wakes = wakes
        self._timer: asyncio.TimerHandle | None = None
        self.sockets = Connections[Session]()
        self.application = web.Application(client_max_size=MAX_BODY)
        self.application.router.add_get("/", self._status)
        self.application.router.add_get("/info", self._info)
        self.application.router.add_get("/stream", self._socket)
        self.application.router.add_get("/api/v1/{name:.+}", self._get)
        self.application.router.add_post("/api/v1/{name:.+}", self._post_form)
        self.application.router.add_route("*", "/{tail:.*}", self._unknown)

    def now_ms(self) -> int:
        """Venue time."""
        return self._clock.now_ns() // 1_000_000

    # -- publishing and time ---------------------------------------------------------------------------------

    def publish(self) -> None:
        """Send every client what it should hear of the events since the last call."""
        now_ms = self.now_ms()
        self.venue.collect("", now_ms)
        for spec in self.venue.changed_markets:
            if self._faults.book_gap(spec.symbol):
                self.venue.feeds.skip(spec.market_id)
        batch = self.venue.batch(now_ms)
        if batch.empty:
            return
        self.sockets.publish(lambda session: session.publish(batch, now_ms))

    def tick(self) -> None:
        """One round of time and of the synthetic markets, published."""
        self.venue.step(self.now_ms())
        self.publish()

    def run_due(self) -> None:
        """Execute what is due, publish it, and wake up again for what is not."""
        self.venue.run_due(self.now_ms())
        self.publish()
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_ms = self.venue.next_due_ms
        if due_ms is not None and self._wakes:
            delay_s = max(0.0, (due_ms - self.now_ms()) / 1000)
            self._timer = asyncio.get_running_loop().call_later(delay_s, self.run_due)

    async def close_idle(self) -> None:
        """Close sockets on which the client said nothing for too long; ping the others when it is time."""
        limit = self._clock.monotonic_s() - self._idle_close_s
        idle = [item for item in self.sockets if item.last_received_s <= limit]
        await asyncio.gather(*(item.socket.close() for item in idle))
        if self._ping_s and self._clock.monotonic_s() - self._pinged_s >= self._ping_s:
            self._pinged_s = self._clock.monotonic_s()
            await self.ping_sockets()

    async def ping_sockets(self) -> None:
        """Ping every client in the venue's own way; close those that left the last ping unanswered."""
        for connection in self.sockets:
            frame = connection.session.ping()
            if frame is None:
                await connection.socket.close(code=1008, message=b"no pong")
            else:
                connection.send([frame])

    def cut_sockets(self) -> int:
        """Cut every open socket without a goodbye; how many."""
        return self.sockets.cut()

    def announce_shutdown(self, close_in_ms: int) -> None:
        """Tell every client that its connection will end."""
        for connection in self.sockets:
            connection.send([control({"type": "shutdown", "close_in_ms": close_in_ms})])

    def fall_silent(self, seconds: float) -> None:
        """Send nothing on any socket for `seconds`; what is due waits."""
        self.sockets.fall_silent(seconds)

    async def close(self) -> None:
        """Stop waking up and say goodbye to every client."""
        self._wakes = False
        self._arm()
        await self.sockets.close()

    # -- HTTP ------------------------------------------------------------------------------------------------

    async def _status(self, _request: web.Request) -> web.StreamResponse:
        body: dict[str, Any] = {"status": 200, "network_id": 1, "timestamp": self.now_ms() // 1000}
        if not self.venue.settings.verify:
            body["signatures"] = "unchecked"
        return _json(200, body)

    async def _info(self, _request: web.Request) -> web.StreamResponse:
        return _json(200, {"contract_address": "0x3B4D794a66304F130a4Db8F2551B0070dfCf5ca7"})

    async def _unknown(self, _request: web.Request) -> web.StreamResponse:
        return _json(404, Refused(Code.NOT_FOUND).body)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if self._faults.refuses_connections():
            return reset(request)
        token = _token(request)
        caller, tier = self._caller(request.remote or "", token.split(":")[1] if token.count(":") > 1 else "")
        if not self._limits.read(caller, tier, name, self.now_ms()):
            return _json(429, Refused(Code.TOO_MANY_REQUESTS).body)
        fault = self._faults.request_fault(f"info:{name}")
        stale = name == "nextNonce" and self._faults.nonce_fault(f"info:{name}", FaultKind.STALE_NONCE) is not None

        def perform() -> Answer:
            asked = Request(params=dict(request.query), token=token, now_ms=self.now_ms())
            body = rest.read(self.venue, name, asked)
            if stale:
                body["nonce"] -= 1
            return 200, body

        return await self._reply(request, fault, perform)

    async def _post_form(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        if self._faults.refuses_connections():
            return reset(request)
        form = {key: str(value) for key, value in (await request.post()).items()}
        if name not in ("sendTx", "sendTxBatch"):
            return await self._other_post(request, name, form)
        try:
            post = _read_form(form, batch=name == "sendTxBatch")
        except Refused as refusal:
            return _json(refusal.status, refusal.body)
        fault = self._faults.request_fault(_name(post))
        return await self._reply(request, fault, lambda: (200, self._send(post, request.remote or "")))

    async def _other_post(self, request: web.Request, name: str, form: Mapping[str, str]) -> web.StreamResponse:
        def perform() -> Answer:
            if name != "changeAccountTier":
                raise Refused(Code.NOT_FOUND, status=404)
            asked = Request(params=form, token=_token(request), now_ms=self.now_ms())
            return 200, rest.change_tier(self.venue, asked)

        return await self._reply(request, self._faults.request_fault(f"info:{name}"), perform)

    async def _reply(self, request: web.Request, fault: Fault | None, perform: Any) -> web.StreamResponse:
        """The venue's answer, or what a fault makes of it."""
        status, body = await self._answer(fault, perform)
        if fault is not None and fault.kind in RESETTING:
            return reset(request)
        if fault is not None and fault.kind is FaultKind.GARBLE_REPLY:
            return web.Response(status=200, text="<html>garbled")
        headers = {}
        if fault is not None and fault.kind is FaultKind.RATE_LIMIT and fault.retry_after_s is not None:
            headers["Retry-After"] = str(fault.retry_after_s)
        return _json(status, body, headers)

    async def _answer(self, fault: Fault | None, perform: Any) -> Answer:
        """Effects happen before a delay or not at all."""
        kind = None if fault is None else fault.kind
        if fault is not None and kind is FaultKind.DELAY_BEFORE:
            await asyncio.sleep(fault.delay_s)
        if fault is not None and kind in WITHOUT_EFFECT:
            return _refused_by_fault(fault)
        try:
            status, body = perform()
        except Refused as refusal:
            status, body = refusal.status, refusal.body
        if fault is not None and kind is FaultKind.DELAY_REPLY:
            await asyncio.sleep(fault.delay_s)
        if fault is not None and kind is FaultKind.ERROR_AFTER:
            return fault.status, Refused(Code.INTERNAL).body
        return status, body

    # -- transactions ----------------------------------------------------------------------------------------

    def _caller(self, remote: str, account: str) -> tuple[str, str]:
        """Who is limited: the owner of an account where known, else the address; and the tier."""
        found = self.venue.accounts.find(int(account)) if account.isdigit() else None
        return (remote, "standard") if found is None else (found.l1_address.lower(), found.tier.name)

    def _send(self, post: Post, remote: str) -> dict[str, Any]:
        """Take what a post holds; the answer's body.

        Raises:
            Refused: nothing was taken.
        """
        now_ms, name = self.now_ms(), _name(post)
        first = parse(post.types[0], post.infos[0]) if post.types and post.infos else None
        caller, tier = self._caller(remote, str(first.account) if first else "")
        if not self._limits.transact(caller, tier, len(post.types), now_ms):
            raise Refused(Code.TOO_MANY_REQUESTS, status=429)
        if first is not None and self._faults.nonce_fault(name, FaultKind.SPEND_NONCE) is not None:
            self.venue.spend_nonce(first.account, first.api_key)
        if post.batch:
            taken = self.venue.send_batch(post.types, post.infos, now_ms)
        else:
            taken = [self.venue.send(post.types[0], post.infos[0], now_ms)]
        late = self._faults.nonce_fault(name, FaultKind.LATE_REFUSAL)
        if late is not None:
            for item in taken:
                item.record.forced = late.code or Code.CLIENT_INDEX_EXISTS
        self.run_due()
        return _sent_body(taken, batch=post.batch) | self.venue.quota_answer(taken)

    # -- WebSocket -------------------------------------------------------------------------------------------

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        if self._faults.refuses_connections():
            return reset(request)
        socket = web.WebSocketResponse(timeout=CLOSE_WAIT_S, max_msg_size=MAX_BODY, autoping=False)
        await socket.prepare(request)
        session = Session(self.venue, str(uuid.uuid4()))
        connection = Connection(request, socket, session, self._faults, self._clock)
        connection.send([session.greeting()])
        await self.sockets.serve(connection, self._read)
        return socket

    async def _read(self, connection: Connection[Session], tasks: asyncio.TaskGroup) -> None:
        async for message in connection.socket:
            connection.heard()
            if message.type is WSMsgType.PING:
                await connection.socket.pong(message.data)
            if message.type is not WSMsgType.TEXT:
                continue
            frames, post = connection.session.receive(message.data, self.now_ms())
            if post is None:
                chatty = connection.session.too_chatty(self.now_ms())
                connection.send([error_frame(Refused(Code.TOO_MANY_MESSAGES))] if chatty else frames)
            elif connection.posts >= MAX_PENDING_POSTS:
                connection.send([error_frame(Refused(Code.TOO_MANY_INFLIGHT), post)])
            else:
                await self._take_post(connection, post, tasks)

    async def _take_post(self, connection: Connection[Session], post: Post, tasks: asyncio.TaskGroup) -> None:
        """Perform a post at once, in order; only a delayed one runs beside the others."""
        fault = self._faults.request_fault(_name(post))
        connection.posts += 1
        if fault is not None and fault.kind in (FaultKind.DELAY_REPLY, FaultKind.DELAY_BEFORE):
            tasks.create_task(self._post_now(connection, post, fault), name="delayed-post")
        else:
            await self._post_now(connection, post, fault)

    async def _post_now(self, connection: Connection[Session], post: Post, fault: Fault | None) -> None:
        try:
            status, body = await self._answer(fault, lambda: (200, self._send(post, connection.remote)))
        finally:
            connection.posts -= 1
        if fault is not None and fault.kind in RESETTING:
            connection.abort()
            return
        if fault is not None and fault.kind is FaultKind.GARBLE_REPLY:
            connection.send([Frame(channel="", text="<html>garbled")])
        elif status == 200:
            connection.send([reply_frame(post, body)])
        else:
            connection.send([error_frame(Refused(int(body["code"]), str(body["message"])), post)])


def _sent_body(taken: list[Sent], *, batch: bool) -> dict[str, Any]:
    return {
        "code": 200,
        "message": RATE_MESSAGE,
        "tx_hash": [item.tx_hash for item in taken] if batch else taken[0].tx_hash,
        "predicted_execution_time_ms": taken[-1].predicted_ms,
    }


def _read_form(form: Mapping[str, str], *, batch: bool) -> Post:
    """The transactions of a form.

    Raises:
        Refused: 20001 for what is missing or malformed.
    """
    try:
        if not batch:
            return Post(id=None, batch=False, types=[int(form["tx_type"])], infos=[form["tx_info"]])
        types = msgspec.json.decode(form["tx_types"], type=list[int])
        infos = msgspec.json.decode(form["tx_infos"], type=list[str])
    except (KeyError, ValueError, msgspec.DecodeError) as error:
        raise bad_param(f"{error}") from error
    return Post(id=None, batch=True, types=types, infos=list(infos))


def _name(post: Post) -> str:
    """What faults call a post: its transaction type, or "batch"."""
    if post.batch:
        return "batch"
    known = post.types and post.types[0] in set(TxType)
    return TxType(post.types[0]).name.lower() if known else "unknown"


def _token(request: web.Request) -> str:
    return request.headers.get("Authorization", "") or request.query.get("auth", "")


def _refused_by_fault(fault: Fault) -> Answer:
    if fault.kind is FaultKind.RATE_LIMIT:
        return 429, Refused(Code.TOO_MANY_REQUESTS).body
    if fault.kind is FaultKind.REFUSE:
        refusal = Refused(fault.code or Code.INVALID_TX_INFO)
        return 400, {"code": refusal.code, "message": fault.text or refusal.message}
    return fault.status, Refused(Code.INTERNAL).body


def _json(status: int, body: Any, headers: Mapping[str, str] | None = None) -> web.Response:
    data = msgspec.json.encode(body)
    return web.Response(status=status, body=data, content_type="application/json", headers=headers)
