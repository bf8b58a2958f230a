"""Reconnecting socket over real sockets: order, epochs, gaps, silence, unknown sends, isolation."""

from __future__ import annotations

import asyncio
import http
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from tests.fakes import ManualClock
from tests.integration.transport.servers import Recorder, http_server, refusing_port, reply
from venuemesh.clock import Clock, SystemClock
from venuemesh.errors import OutcomeUnknown, RateLimited, Sent, VenueUnavailable
from venuemesh.transport.backoff import BackoffPolicy
from venuemesh.transport.environment import Environment, EnvironmentViolation, HostGuard
from venuemesh.transport.gate import LimiterGate
from venuemesh.transport.limiter import BudgetSpec, Limiter, LimiterQueue
from venuemesh.transport.link import LinkState
from venuemesh.transport.websocket import (
    Connected,
    Disconnected,
    DisconnectReason,
    Frame,
    ReconnectingSocket,
    SocketConfig,
    SocketEvent,
)
from venuemesh.transport.wiring import LinkWiring

GUARD = HostGuard(environment=Environment.SIMULATOR)
FAST = BackoffPolicy(initial_s=0.001, cap_s=0.002)


class Session:
    """Subscribes to its topics; beats with `beat`, or with the WebSocket's own ping when None."""

    def __init__(self, *topics: str, beat: str | None = None) -> None:
        self.topics = list(topics)
        self.beat = beat

    def frames_on_connect(self) -> list[str | bytes]:
        return [f"sub {topic}" for topic in self.topics]

    def heartbeat(self) -> str | None:
        return self.beat


class Peer:
    """A venue: keeps what each connection sent; `serve_one` decides how a connection goes."""

    def __init__(self, serve_one: Callable[[ServerConnection, int], Awaitable[None]] | None = None) -> None:
        self._serve_one = serve_one or self._echo
        self.received: list[list[str | bytes]] = []
        self.connections: list[ServerConnection] = []
        self.changed = asyncio.Condition()
        self.url = ""

    async def handle(self, connection: ServerConnection) -> None:
        self.received.append([])
        self.connections.append(connection)
        with suppress(ConnectionClosed):
            await self._serve_one(connection, len(self.connections))

    async def _echo(self, connection: ServerConnection, number: int) -> None:
        while True:
            await self.take(connection, number)

    async def take(self, connection: ServerConnection, number: int) -> str | bytes:
        message = await connection.recv()
        async with self.changed:
            self.received[number - 1].append(message)
            self.changed.notify_all()
        return message

    async def until(self, ready: Callable[[], bool]) -> None:
        async with asyncio.timeout(60), self.changed:
            await self.changed.wait_for(ready)


@asynccontextmanager
async def serving(peer: Peer, **options: Any) -> AsyncIterator[Server]:
    async with serve(peer.handle, "127.0.0.1", 0, close_timeout=0.1, **options) as server:
        peer.url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/ws"
        yield server


class Client:
    """A socket under test with everything it told."""

    def __init__(
        self,
        url: str,
        session: Session | None = None,
        *,
        gate: LimiterGate | None = None,
        handler: Callable[[SocketEvent], Awaitable[None]] | None = None,
        clock: Clock | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        **config: Any,
    ) -> None:
        self.events: list[SocketEvent] = []
        self.recorder = Recorder()
        self._handler = handler
        self._changed = asyncio.Condition()
        wiring = LinkWiring(
            url=url,
            guard=GUARD,
            clock=clock or SystemClock(),
            name="feed",
            gate=gate,
            observer=self.recorder,
            random=lambda: 0.0,
            sleep=sleep,
        )
        self.socket = ReconnectingSocket(
            wiring,
            session=session or Session(),
            on_event=self._on_event,
            config=SocketConfig(**{"backoff": FAST, **config}),
        )

    async def _on_event(self, event: SocketEvent) -> None:
        self.events.append(event)
        async with self._changed:
            self._changed.notify_all()
        if self._handler is not None:
            await self._handler(event)

    async def until(self, ready: Callable[[], bool]) -> None:
        async with asyncio.timeout(60), self._changed:
            await self._changed.wait_for(ready)

    def frames(self) -> list[tuple[int, bytes]]:
        return [(event.epoch, event.data) for event in self.events if isinstance(event, Frame)]

    def ends(self) -> list[tuple[int, DisconnectReason]]:
        return [(event.epoch, event.reason) for event in self.events if isinstance(event, Disconnected)]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.socket.run(), name="run")
        try:
            yield
        finally:
            task.cancel()
            async with asyncio.timeout(60):
                with suppress(asyncio.CancelledError):
                    await task


def well_ordered(events: list[SocketEvent]) -> bool:
    """Connected, then frames of the same epoch, then Disconnected; epochs count up by one."""
    epoch, up = 0, False
    for event in events:
        if isinstance(event, Connected):
            if up or event.epoch != epoch + 1:
                return False
            epoch, up = event.epoch, True
        elif not up or event.epoch != epoch:
            return False
        elif isinstance(event, Disconnected):
            up = False
    return True


async def test_reconnect_subscribes_to_everything_again() -> None:
    """P11: after each loss all subscriptions are sent again, including one added in between."""

    async def two_then_close(connection: ServerConnection, number: int) -> None:
        for _ in range(2):
            await peer.take(connection, number)
        await connection.send(f"data {number}")
        if number >= 3:
            await connection.wait_closed()

    peer, session = Peer(two_then_close), Session("a", "b")
    async with serving(peer):
        client = Client(peer.url, session)
        async with client.running():
            await client.until(lambda: (3, b"data 3") in client.frames())
            session.topics.append("c")
    assert peer.received == [["sub a", "sub b"]] * 3
    assert client.frames() == [(1, b"data 1"), (2, b"data 2"), (3, b"data 3")]
    assert client.ends() == [
        (1, DisconnectReason.PEER_CLOSED),
        (2, DisconnectReason.PEER_CLOSED),
        (3, DisconnectReason.STOPPED),
    ]
    assert well_ordered(client.events)
    seen = client.socket.stats.snapshot()
    assert (seen.connections, seen.reconnections, seen.messages) == (3, 2, 3)
    states = [(record.state, record.epoch) for record in client.recorder.states]
    assert states[:4] == [
        (LinkState.CONNECTING, 0),
        (LinkState.LIVE, 1),
        (LinkState.DOWN, 1),
        (LinkState.CONNECTING, 1),
    ]


async def test_silent_peer_is_cut_and_replaced() -> None:
    """P12: a peer that answers nothing at all, not even heartbeats, is unhealthy and gets reconnected."""

    async def silent_at_first(connection: ServerConnection, number: int) -> None:
        while True:
            await peer.take(connection, number)
            if number >= 2:
                await connection.send("pong")

    peer = Peer(silent_at_first)
    async with serving(peer):
        client = Client(peer.url, Session(beat="ping"), heartbeat_interval_s=0.02, silence_timeout_s=0.2)
        async with client.running():
            await client.until(lambda: len(client.frames()) >= 3)
            assert client.socket.stats.state() is LinkState.LIVE
    assert client.ends()[0] == (1, DisconnectReason.SILENT)
    assert "ping" in peer.received[0]
    downs = [record for record in client.recorder.states if record.state is LinkState.DOWN]
    assert (downs[0].epoch, "nothing heard" in downs[0].detail) == (1, True)


async def test_pong_of_the_protocol_counts_as_life_when_there_is_no_application_heartbeat() -> None:
    """A quiet venue without a ping of its own is kept by the WebSocket's, whose round trip is measured."""
    looks, enough = 0, asyncio.Event()

    async def count(seconds: float) -> None:
        nonlocal looks
        looks += 1
        if looks > 40:  # in all longer than the silence allowed
            enough.set()
        await asyncio.sleep(seconds)

    peer = Peer()
    async with serving(peer):
        client = Client(peer.url, sleep=count, heartbeat_interval_s=0.1, silence_timeout_s=3.0)
        async with client.running(), asyncio.timeout(60):
            await enough.wait()
    assert client.ends() == [(1, DisconnectReason.STOPPED)]
    assert (client.socket.stats.snapshot().latency_p50_s or 0) > 0


async def test_stall_of_our_own_loop_is_not_taken_for_silence_of_the_peer() -> None:
    """Frames that came while this process could not read still count before the connection is cut."""
    clock, looks, looked_on = ManualClock(), 0, asyncio.Event()
    peer = Peer()

    async def sleep(_seconds: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 1:
            clock.advance(1000)  # the stall
        elif looks == 2:
            await peer.until(lambda: bool(peer.received) and peer.received[0] == ["sub a"])
            await peer.connections[0].send("came meanwhile")
            await client.until(lambda: bool(client.frames()))
        else:
            looked_on.set()
            await asyncio.Event().wait()

    async with serving(peer):
        session = Session("a", beat="ping")
        client = Client(peer.url, session, clock=clock, sleep=sleep, heartbeat_interval_s=2000.0)
        async with client.running(), asyncio.timeout(60):
            await looked_on.wait()
    assert client.ends() == [(1, DisconnectReason.STOPPED)]


async def test_several_sockets_at_once_do_not_mix() -> None:
    """P12a: many sockets with cuts at different times each get their own frames, in order, per epoch."""

    async def count_then_close(connection: ServerConnection, number: int) -> None:
        topic = str(await peer.take(connection, number)).removeprefix("sub ")
        for n in range(20):
            await connection.send(f"{topic} {n}")

    peer = Peer(count_then_close)
    async with serving(peer):
        clients = {f"t{index}": Client(peer.url, Session(f"t{index}")) for index in range(8)}
        async with asyncio.TaskGroup() as tasks:
            runs = [tasks.create_task(client.socket.run()) for client in clients.values()]
            for client in clients.values():
                await client.until(lambda client=client: len(client.ends()) >= 3)  # type: ignore[misc]
            for run in runs:
                run.cancel()
    for topic, client in clients.items():
        assert well_ordered(client.events)
        for epoch in (1, 2, 3):
            own = [data.decode() for at, data in client.frames() if at == epoch]
            assert own == [f"{topic} {n}" for n in range(20)]


async def test_slow_callback_gets_an_explicit_gap_never_a_silent_drop() -> None:
    """An overflow cuts the connection: every frame read before it is delivered, then the gap is named."""
    release = asyncio.Event()
    ends_seen_before_reconnect: list[int] = []

    async def sleep(seconds: float) -> None:
        if seconds < 1:  # the back-off, not a look of the heartbeat
            ends_seen_before_reconnect.append(len(client.ends()))
        await asyncio.sleep(seconds)

    async def flood(connection: ServerConnection, number: int) -> None:
        for n in range(50 if number == 1 else 5):
            await connection.send(f"{number} {n}")
        await connection.wait_closed()

    async def stall(event: SocketEvent) -> None:
        if isinstance(event, Frame) and event.epoch == 1:
            await release.wait()

    peer = Peer(flood)
    async with serving(peer):
        client = Client(peer.url, handler=stall, sleep=sleep, buffer_frames=10)
        async with client.running():
            await client.recorder.until_state(LinkState.DOWN)
            release.set()
            await client.until(lambda: len([f for f in client.frames() if f[0] == 2]) == 5)
    assert client.ends()[0] == (1, DisconnectReason.OVERFLOW)
    assert ends_seen_before_reconnect == [1]  # the callback saw the end of the old before anything new
    first = [data for epoch, data in client.frames() if epoch == 1]
    assert first == [f"1 {n}".encode() for n in range(len(first))]
    assert 9 <= len(first) <= 11  # the buffer holds `Connected` too; one frame is with the callback
    assert well_ordered(client.events)


async def test_buffer_is_bounded_in_bytes_too() -> None:
    """Few but large frames overflow as well."""
    release = asyncio.Event()

    async def stall(event: SocketEvent) -> None:
        if isinstance(event, Frame) and event.epoch == 1:
            await release.wait()

    async def flood(connection: ServerConnection, number: int) -> None:
        for _ in range(8 if number == 1 else 0):
            await connection.send("x" * 1000)
        await connection.wait_closed()

    peer = Peer(flood)
    async with serving(peer):
        client = Client(peer.url, handler=stall, buffer_bytes=3000)
        async with client.running():
            await client.recorder.until_state(LinkState.DOWN)
            release.set()
            await client.until(lambda: bool(client.ends()))
    assert client.ends()[0] == (1, DisconnectReason.OVERFLOW)


async def test_message_over_the_bound_ends_the_connection() -> None:
    """A huge message cannot fill the memory; the reason is named."""

    async def big_at_first(connection: ServerConnection, number: int) -> None:
        await connection.send("x" * (2000 if number == 1 else 1000))
        await connection.wait_closed()

    peer = Peer(big_at_first)
    async with serving(peer):
        client = Client(peer.url, max_message_bytes=1000)
        async with client.running():
            await client.until(lambda: bool(client.frames()))
    assert client.ends()[0] == (1, DisconnectReason.TOO_LARGE)
    assert client.frames() == [(2, b"x" * 1000)]


async def test_send_reaches_the_peer_and_names_its_epoch() -> None:
    """What is sent arrives as text, after the subscriptions, also when sent from within `Connected`."""

    async def greet(event: SocketEvent) -> None:
        if isinstance(event, Connected):
            assert await client.socket.send(b'{"hello":1}') == event.epoch

    peer = Peer()
    async with serving(peer):
        client = Client(peer.url, Session("a", "b"), handler=greet)
        async with client.running():
            await peer.until(lambda: bool(peer.received) and len(peer.received[0]) == 3)
    assert peer.received == [["sub a", "sub b", '{"hello":1}']]


async def test_send_when_not_connected_reports_nothing_sent() -> None:
    """Before the first connection, and while the venue is away, a send is refused as unsent."""
    with refusing_port() as port:
        client = Client(f"ws://127.0.0.1:{port}")
        with pytest.raises(VenueUnavailable) as before:
            await client.socket.send("x")
        async with client.running():
            await client.recorder.until_state(LinkState.DOWN, times=3)
            with pytest.raises(VenueUnavailable) as away:
                await client.socket.send("x")
    assert before.value.sent is Sent.NO
    assert away.value.sent is Sent.NO
    assert client.events == []
    assert client.socket.stats.snapshot().state in (LinkState.DOWN, LinkState.CONNECTING)


async def test_send_for_an_epoch_that_is_over_reports_nothing_sent() -> None:
    """A message meant for an old connection never goes out on a new one."""
    peer = Peer()
    async with serving(peer):
        client = Client(peer.url)
        async with client.running(), asyncio.timeout(60):
            await client.socket.wait_connected()
            client.socket.reconnect("gap seen")
            with pytest.raises(VenueUnavailable, match="has ended"):
                await client.socket.send("z")  # cut, but not yet noticed by the reader
            await client.until(lambda: sum(isinstance(e, Connected) for e in client.events) == 2)
            with pytest.raises(VenueUnavailable, match="epoch 1 is over") as caught:
                await client.socket.send("x", epoch=1)
            assert await client.socket.send("y", epoch=2) == 2
            await peer.until(lambda: peer.received[-1] == ["y"])
    assert caught.value.sent is Sent.NO
    assert client.ends()[0] == (1, DisconnectReason.REQUESTED)
    assert peer.received[0] == []


async def test_send_when_the_peer_stops_reading_is_unknown() -> None:
    """A write that got stuck half-way may have been read: the outcome is unknown, the socket replaced."""

    async def deaf(connection: ServerConnection, number: int) -> None:
        connection.transport.pause_reading()
        await connection.wait_closed()

    peer = Peer(deaf)
    async with serving(peer):
        client = Client(peer.url, send_timeout_s=0.2)
        async with client.running(), asyncio.timeout(60):
            await client.socket.wait_connected()
            with pytest.raises(OutcomeUnknown) as caught:
                for _ in range(100):
                    await client.socket.send("x" * 1_000_000)
            await client.until(lambda: bool(client.ends()))
    assert caught.value.sent is Sent.MAYBE
    assert client.ends()[0] == (1, DisconnectReason.SEND_FAILED)


async def test_send_after_the_connection_broke_reports_nothing_sent() -> None:
    """Between the loss and the reconnect a send is certainly unsent."""
    peer, seen = Peer(), asyncio.Event()

    async def try_at_the_end(event: SocketEvent) -> None:
        if isinstance(event, Disconnected) and not seen.is_set():
            with pytest.raises(VenueUnavailable) as caught:
                await client.socket.send("x")
            assert caught.value.sent is Sent.NO
            seen.set()

    async with serving(peer):
        client = Client(peer.url, handler=try_at_the_end)
        async with client.running(), asyncio.timeout(60):
            await client.socket.wait_connected()
            peer.connections[0].transport.abort()
            await seen.wait()
    assert peer.received[0] == []


async def test_cancel_closes_cleanly_and_tells_the_callback() -> None:
    """On stop the peer sees a normal close, and the callback learns that nothing more comes."""
    closed: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()

    async def note_close(connection: ServerConnection, number: int) -> None:
        await connection.wait_closed()
        closed.set_result(connection.close_code)

    peer = Peer(note_close)
    async with serving(peer):
        client = Client(peer.url)
        async with client.running(), asyncio.timeout(60):
            await client.socket.wait_connected()
        async with asyncio.timeout(60):
            assert await closed == 1000
    assert client.ends() == [(1, DisconnectReason.STOPPED)]
    assert not client.socket.connected


async def test_failing_callback_ends_run_with_its_error() -> None:
    """A fault of the callback is ours: it is not hidden behind a reconnect."""

    async def broken(_event: SocketEvent) -> None:
        raise ZeroDivisionError

    peer = Peer()
    async with serving(peer):
        client = Client(peer.url, handler=broken)
        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.timeout(60):
                await client.socket.run()
    assert caught.group_contains(ZeroDivisionError)


async def test_refused_handshake_waits_as_long_as_the_venue_says() -> None:
    """P34: a 429 on the handshake delays the next attempt by its Retry-After."""
    waits: list[float] = []
    refusals = [http.HTTPStatus.TOO_MANY_REQUESTS]

    def refuse_first(connection: ServerConnection, _request: Request) -> Response | None:
        if not refusals:
            return None
        response = connection.respond(refusals.pop(), "slow down\n")
        response.headers["Retry-After"] = "17"
        return response

    async def note(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) > 1:
            await asyncio.Event().wait()

    peer = Peer()
    async with serving(peer, process_request=refuse_first):
        client = Client(peer.url, sleep=note)
        async with client.running():
            await client.recorder.until_state(LinkState.LIVE)
    assert waits[0] == 17


async def test_redirected_handshake_is_not_followed() -> None:
    """V5: a redirect could lead out of the environment, so its target sees no connection."""

    async def redirect(_request: bytes) -> bytes | None:
        return reply(302, location=other.url, connection="close")

    other = Peer()
    async with serving(other), http_server(redirect) as server:
        client = Client(server.url.replace("http", "ws"))
        async with client.running():
            await client.recorder.until_state(LinkState.DOWN, times=2)
    assert other.connections == []
    assert client.socket.epoch == 0


def test_socket_outside_its_environment_is_not_even_made() -> None:
    """V5: the refusal comes before any socket."""
    for url, error in (("wss://api.venue.example/ws", EnvironmentViolation), ("http://localhost", ValueError)):
        with pytest.raises(error):
            Client(url)


async def test_message_budget_is_charged_and_spent_budget_refuses_unsent() -> None:
    """P8, P33: messages and connects have budgets of their own; a spent one refuses before the write."""
    clock = SystemClock()
    budgets = [BudgetSpec(name="ws_messages", limit=4), BudgetSpec(name="ws_connects", limit=2)]
    gate = LimiterGate(LimiterQueue(Limiter(budgets)), clock)
    peer = Peer()
    async with serving(peer):
        options: dict[str, Any] = {
            "message_budget": "ws_messages",
            "connect_budget": "ws_connects",
            "send_timeout_s": 1.0,
        }
        client = Client(peer.url, Session("a", "b"), gate=gate, **options)
        async with client.running(), asyncio.timeout(60):
            await client.socket.wait_connected()
            await client.socket.send("1")
            await client.socket.send("2")
            with pytest.raises(RateLimited) as caught:
                await client.socket.send("3")
            await peer.until(lambda: len(peer.received[0]) == 4)
    assert caught.value.sent is Sent.NO
    messages, connects = gate.remaining()
    assert (messages.used, connects.used) == (4, 1)


async def test_backoff_grows_over_short_spells_and_resets_after_a_healthy_one() -> None:
    """G7: one place decides the waits; a connection that is cut at once does not count as healthy."""
    waits: list[float] = []
    enough = asyncio.Event()

    async def note(seconds: float) -> None:
        if seconds < 100:  # heartbeat looks are far longer here
            waits.append(seconds)
            if len(waits) >= 4:
                enough.set()
            await asyncio.sleep(0)
        else:
            await asyncio.Event().wait()

    async def close_at_once(_connection: ServerConnection, _number: int) -> None:
        return

    for healthy_s, expected in ((3600.0, [1, 2, 4, 8]), (0.0, [1, 1, 1, 1])):
        waits.clear()
        enough.clear()
        peer = Peer(close_at_once)
        policy = BackoffPolicy(initial_s=1, multiplier=2, cap_s=60, jitter=0, healthy_s=healthy_s)
        async with serving(peer):
            quiet: dict[str, Any] = {"heartbeat_interval_s": 1000.0, "silence_timeout_s": 1000.0}
            client = Client(peer.url, sleep=note, backoff=policy, **quiet)
            async with client.running(), asyncio.timeout(60):
                await enough.wait()
        assert waits[:4] == expected
