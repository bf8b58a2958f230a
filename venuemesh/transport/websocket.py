"""A WebSocket that reconnects by itself, says so, and never mixes or silently drops frames.

One `run()` moves bytes; a pure session object says what to send on connect and as a heartbeat. Events reach
one callback in order: `Connected(epoch)`, `Frame(epoch)`..., `Disconnected(epoch)`, then the next epoch. A
new connection is not opened before the callback has seen the end of the old one.

Frames wait for the callback in a bounded buffer. When it is full the connection is cut and
`Disconnected(OVERFLOW)` follows the frames read so far: what was missed is a visible gap, to be closed as
after any reconnect. Every `Disconnected` means that frames may have been missed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.protocol import State

from venuemesh.errors import MeshError, OutcomeUnknown, RateLimited, Sent, VenueUnavailable
from venuemesh.transport.backoff import Backoff
from venuemesh.transport.delivery import EventQueue
from venuemesh.transport.environment import HostGuard, Target
from venuemesh.transport.limiter import Priority
from venuemesh.transport.link import LinkState, LinkStats
from venuemesh.transport.observer import StateRecord
from venuemesh.transport.retry_after import parse_retry_after
from venuemesh.transport.session import (
    Connected,
    Disconnected,
    DisconnectReason,
    Frame,
    SocketConfig,
    SocketEvent,
    SocketSession,
)
from venuemesh.transport.tls import client_context
from venuemesh.transport.wiring import LinkWiring

__all__ = [
    "Connected",
    "DisconnectReason",
    "Disconnected",
    "Frame",
    "ReconnectingSocket",
    "SocketConfig",
    "SocketEvent",
    "SocketSession",
]

# The library writes whole frames at DEBUG, signatures and tokens included; that must not be a matter of settings.
_FRAMES = logging.getLogger(f"{__name__}.frames")
_FRAMES.setLevel(logging.WARNING)

_MIN_SLEEP_S = 0.001  # a timer may fire a moment early: do not spin on it
_STALL_GRACE_S = 0.1
_MESSAGE_TOO_BIG = 1009  # WebSocket close code, RFC 6455, 7.4.1


class ReconnectingSocket:
    """One logical WebSocket over a chain of connections, numbered by epoch.

    Args:
        wiring: where it goes; its gate is asked for `config.message_budget` and `config.connect_budget`.
        session: says what to send on connect and as heartbeat. It is asked after the callback has seen the
            end of the earlier connection, possibly before it sees `Connected`.
        on_event: gets every event in order, one at a time, on one task; an error it raises ends `run`.
        config: bounds.
    Raises:
        EnvironmentViolation: the URL lies outside the guard's environment.
    """

    def __init__(
        self,
        wiring: LinkWiring,
        *,
        session: SocketSession,
        on_event: Callable[[SocketEvent], Awaitable[None]],
        config: SocketConfig | None = None,
    ) -> None:
        self._target = _socket_target(wiring.guard, wiring.url)
        self._session = session
        self._clock = wiring.clock
        self._name = wiring.name
        self._config = config or SocketConfig()
        self._gate = wiring.gate
        self.stats = wiring.stats or LinkStats(wiring.clock)
        self._observer = wiring.watcher
        self._backoff = Backoff(self._config.backoff, wiring.random)
        self._sleep = wiring.sleep
        self._inbox: EventQueue[SocketEvent] = EventQueue(
            on_event, max_events=self._config.buffer_frames, max_bytes=self._config.buffer_bytes
        )
        self._connection: _Connection | None = None
        self._joined = asyncio.Event()
        self._epoch = 0
        self._running = False

    @property
    def connected(self) -> bool:
        """Whether a connection stands and everything to be sent on connect was sent."""
        return self._joined.is_set()

    @property
    def epoch(self) -> int:
        """Number of the latest connection; 0 before the first."""
        return self._epoch

    async def wait_connected(self) -> int:
        """Wait until `connected`; returns the epoch."""
        await self._joined.wait()
        return self._epoch

    def reconnect(self, detail: str) -> None:
        """Cut the present connection, if any; `run` connects again. For a protocol that saw a gap."""
        if self._connection is not None:
            self._connection.cut(DisconnectReason.REQUESTED, detail)

    async def run(self) -> None:
        """Stay connected until cancelled, then close cleanly and deliver a last `Disconnected(STOPPED)`.

        Raises:
            RuntimeError: it runs already.
            ExceptionGroup: the callback or the session raised, which is a fault of ours.
        """
        if self._running:
            raise RuntimeError(f"socket {self._name} runs already")
        self._running = True
        try:
            await self._inbox.deliver_during(
                self._stay_connected, name=f"{self._name}-deliver", drain_timeout_s=self._config.close_timeout_s
            )
        finally:
            self._running = False

    async def send(
        self,
        data: str | bytes,
        *,
        epoch: int | None = None,
        priority: Priority = Priority.ORDER,
        timeout_s: float | None = None,
    ) -> int:
        """Send one message and return the epoch that carried it.

        Returning proves that the message was handed to the kernel or its queue, not that it arrived: when
        `Disconnected` of this epoch comes first, the answer is lost. A cancelled `send` may have sent.

        Args:
            epoch: refuse unless this connection is still the present one.
            priority: for the limiter's message budget.
            timeout_s: most time to wait for the messages sent on connect and for the limiter; the config's
                `send_timeout_s` when absent.
        Raises:
            VenueUnavailable: not connected, or another epoch; nothing was sent.
            RateLimited: the message budget is spent; nothing was sent.
            OutcomeUnknown: the connection broke while the message was being written.
        """
        connection = self._connection
        if connection is None or (epoch is not None and connection.epoch != epoch):
            raise self._not_sent("not connected" if connection is None else f"epoch {epoch} is over")
        wait_s = self._config.send_timeout_s if timeout_s is None else timeout_s
        if not connection.ready.is_set():
            try:
                async with asyncio.timeout(wait_s):
                    await connection.ready.wait()
            except TimeoutError:
                raise self._not_sent("the messages to be sent on connect take too long") from None
        await self._pass_gate(priority, wait_s)
        await self._write(connection, data)
        return connection.epoch

    async def _pass_gate(self, priority: Priority, timeout_s: float) -> None:
        if self._gate is not None and self._config.message_budget is not None:
            await self._gate.acquire(self._config.message_budget, 1, priority, timeout_s)

    async def _write(self, connection: _Connection, data: str | bytes) -> None:
        if connection.end is not None or connection.ws.state is not State.OPEN:
            raise self._not_sent("the connection has ended")
        # From here to the write inside `ws.send` nothing awaits, so the check above still holds there.
        try:
            async with asyncio.timeout(self._config.send_timeout_s):
                await connection.ws.send(data, text=self._config.text_frames)
        except (ConnectionClosed, OSError) as error:  # a TimeoutError is an OSError
            connection.cut(DisconnectReason.SEND_FAILED, _describe(error))
            message = f"{self._name}: the connection broke during a write ({_describe(error)})"
            raise OutcomeUnknown(message) from error

    def _not_sent(self, detail: str) -> VenueUnavailable:
        return VenueUnavailable(f"{self._name}: {detail}", sent=Sent.NO)

    async def _stay_connected(self) -> None:
        while True:
            await self._sleep(await self._one_connection())

    async def _one_connection(self) -> float:
        """Connect, serve until the end; returns the seconds to wait before the next attempt."""
        self.stats.connecting()
        self._tell(LinkState.CONNECTING, "")
        try:
            ws = await self._open()
        except RateLimited as error:
            return self._open_failed(error.message, error.retry_after_s or 0.0)
        except (OSError, WebSocketException) as error:
            return self._open_failed(_describe(error), self._asked_wait_s(error))
        self._epoch += 1
        connection = _Connection(ws, self._epoch, self._clock.monotonic_s())
        await self._serve(connection)
        self._backoff.connection_ended(self._clock.monotonic_s() - connection.opened_s)
        await self._inbox.drained.wait()
        return self._backoff.next_delay_s()

    async def _open(self) -> ClientConnection:
        if self._gate is not None and self._config.connect_budget is not None:
            budget, wait_s = self._config.connect_budget, self._config.open_timeout_s
            await self._gate.acquire(budget, 1, Priority.QUERY, wait_s)
        return await _Connect(
            self._target.url,
            ssl=client_context() if self._target.scheme == "wss" else None,
            logger=_FRAMES,
            compression=None,  # costs latency on every message
            proxy=None,  # no proxy from the environment may stand between us and the venue
            open_timeout=self._config.open_timeout_s,
            close_timeout=self._config.close_timeout_s,
            ping_interval=None,  # the heartbeat below decides, alone
            max_size=self._config.max_message_bytes,
        )

    def _open_failed(self, detail: str, wait_s: float) -> float:
        self.stats.connect_failed(detail)
        self._tell(LinkState.DOWN, detail)
        return max(self._backoff.next_delay_s(), wait_s)

    def _asked_wait_s(self, error: Exception) -> float:
        if not isinstance(error, InvalidStatus):
            return 0.0
        headers = error.response.headers
        now_ns = self._clock.now_ns()
        return parse_retry_after(headers.get("Retry-After"), date=headers.get("Date"), now_ns=now_ns) or 0.0

    async def _serve(self, connection: _Connection) -> None:
        self._inbox.put(Connected(connection.epoch, self._clock.now_ns()))
        self._connection = connection
        try:
            async with asyncio.TaskGroup() as tasks:
                name = f"{self._name}-{connection.epoch}"
                others = [
                    tasks.create_task(self._join(connection), name=f"{name}-join"),
                    tasks.create_task(self._beat(connection), name=f"{name}-heartbeat"),
                ]
                await self._read(connection)
                for task in others:
                    task.cancel()
        finally:
            self._connection = None
            self._joined.clear()
            reason, detail = connection.finish(DisconnectReason.STOPPED, "")
            if connection.joined:
                self.stats.disconnected(detail or reason)
            else:
                self.stats.connect_failed(detail or reason)
            self._tell(LinkState.DOWN, detail or reason)
            self._inbox.put(Disconnected(connection.epoch, reason, detail, self._clock.now_ns()))
            await connection.ws.close()

    async def _join(self, connection: _Connection) -> None:
        try:
            for frame in self._session.frames_on_connect():
                await self._pass_gate(Priority.ORDER, self._config.open_timeout_s)
                await self._write(connection, frame)
        except MeshError as error:
            connection.cut(DisconnectReason.SEND_FAILED, error.message)
            return
        connection.joined = True
        connection.ready.set()
        self.stats.connect_succeeded()
        self._joined.set()
        self._tell(LinkState.LIVE, "")

    async def _read(self, connection: _Connection) -> None:
        """Move frames into the inbox until the connection ends."""
        receive, inbox, clock = connection.ws.recv, self._inbox, self._clock
        try:
            while connection.end is None:
                data = await receive(decode=False)
                now_s = clock.monotonic_s()
                connection.heard_s = now_s
                self.stats.message_received(now_s)
                if not inbox.offer(Frame(connection.epoch, data, clock.now_ns(), now_s), len(data)):
                    connection.cut(DisconnectReason.OVERFLOW, "the callback is too slow for the stream")
        except ConnectionClosed as error:
            too_large = error.sent is not None and error.sent.code == _MESSAGE_TOO_BIG
            reason = DisconnectReason.TOO_LARGE if too_large else DisconnectReason.PEER_CLOSED
            connection.finish(reason, _describe(error))

    async def _beat(self, connection: _Connection) -> None:
        """Send heartbeats, and cut a connection on which nothing is heard."""
        interval_s, silence_s = self._config.heartbeat_interval_s, self._config.silence_timeout_s
        next_beat_s = connection.opened_s + interval_s
        while True:
            look_s = min(next_beat_s, connection.heard_s + silence_s)
            await self._sleep(max(_MIN_SLEEP_S, look_s - self._clock.monotonic_s()))
            now_s = self._clock.monotonic_s()
            if now_s >= connection.heard_s + silence_s:
                # If it was our own loop that stalled, what came meanwhile is still unread: let it in.
                await self._sleep(min(_STALL_GRACE_S, silence_s))
                if self._clock.monotonic_s() < connection.heard_s + silence_s:
                    continue
                connection.cut(DisconnectReason.SILENT, f"nothing heard for {silence_s} s")
                return
            if now_s >= next_beat_s:
                next_beat_s = now_s + interval_s
                if connection.joined:
                    await self._send_heartbeat(connection)

    async def _send_heartbeat(self, connection: _Connection) -> None:
        frame = self._session.heartbeat()
        try:
            if frame is not None:
                await self._pass_gate(Priority.CANCEL, 0.0)  # a link kept alive is what cancels need
                await self._write(connection, frame)
                return
            pong = await connection.ws.ping()
        except RateLimited:
            return  # no budget for this beat: the next one tries again, and silence is watched anyway
        except MeshError:
            return  # `_write` has ended the connection with its reason, or it had ended before
        except ConnectionClosed as error:
            connection.cut(DisconnectReason.PEER_CLOSED, _describe(error))
            return
        asyncio.ensure_future(pong).add_done_callback(lambda done: self._on_pong(connection, done))

    def _on_pong(self, connection: _Connection, pong: asyncio.Future[float]) -> None:
        if not pong.cancelled() and pong.exception() is None:
            connection.heard_s = self._clock.monotonic_s()
            self.stats.latency_measured(pong.result())

    def _tell(self, state: LinkState, detail: str) -> None:
        at_ns = self._clock.now_ns()
        record = StateRecord(link=self._name, state=state, at_ns=at_ns, detail=detail, epoch=self._epoch)
        self._observer.on_state(record)


class _Connect(connect):
    """Never follows a redirect: it could leave the environment."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        return exc


class _Connection:
    """One connection; `end` is set once, with the first reason."""

    def __init__(self, ws: ClientConnection, epoch: int, now_s: float) -> None:
        self.ws = ws
        self.epoch = epoch
        self.opened_s = now_s
        self.heard_s = now_s
        self.joined = False
        self.ready = asyncio.Event()  # joined, or ended
        self.end: tuple[DisconnectReason, str] | None = None

    def finish(self, reason: DisconnectReason, detail: str) -> tuple[DisconnectReason, str]:
        """Note the end unless it is noted already; returns the noted one."""
        if self.end is None:
            self.end = (reason, detail)
            self.ready.set()
        return self.end

    def cut(self, reason: DisconnectReason, detail: str) -> None:
        """End now, without the closing handshake; the reader notices."""
        self.finish(reason, detail)
        self.ws.transport.abort()


def _socket_target(guard: HostGuard, url: str) -> Target:
    target = guard.check(url)
    if target.scheme not in ("ws", "wss"):
        raise ValueError(f"a WebSocket URL begins with ws:// or wss://, got {target.url}")
    return target


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")
