"""Sockets of a front: what is queued, what is cut, and how long silence lasts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import ClientWebSocketResponse, web
from aiohttp.test_utils import TestClient, TestServer

from simulator import connections
from simulator.connections import Connection, Connections
from simulator.faults import FaultPlan
from simulator.frames import Frame
from tests.fakes import ManualClock

HELLO = Frame(channel="greetings", text="hello")


class Talk:
    """A conversation with one subscription."""

    subscribed = frozenset({"greetings"})


class Front:
    """A front that only listens."""

    def __init__(self) -> None:
        self.sockets = Connections[Any]()
        self.clock = ManualClock()
        self.heard = asyncio.Event()
        self.left = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Upgrade and serve."""
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await self.sockets.serve(Connection(request, socket, Talk(), FaultPlan(), self.clock), self._read)
        self.left.set()
        return socket

    async def _read(self, connection: Connection[Any], _tasks: asyncio.TaskGroup) -> None:
        async for _ in connection.socket:
            connection.heard()
            self.heard.set()


@pytest.fixture
def front() -> Front:
    """The front under test."""
    return Front()


@pytest.fixture
async def socket(front: Front) -> AsyncIterator[ClientWebSocketResponse]:
    """A client the front has heard once, so that it counts among the open ones."""
    application = web.Application()
    application.router.add_get("/", front.answer)
    async with TestClient(TestServer(application)) as client, client.ws_connect("/") as found:
        await found.send_str("here")
        await front.heard.wait()
        yield found


async def test_publish_when_a_client_is_too_slow_cuts_it(front: Front, socket: ClientWebSocketResponse) -> None:
    """The queue is bounded; what does not fit ends the connection instead of being lost unseen."""
    front.sockets.publish(lambda _: [HELLO] * (connections.MAX_QUEUE + 1))
    while (await socket.receive()).type not in (web.WSMsgType.CLOSED, web.WSMsgType.ERROR):
        pass
    await front.left.wait()
    assert len(front.sockets) == 0


async def test_silence_when_told_again_lasts_as_the_latest_call_says(
    front: Front, socket: ClientWebSocketResponse
) -> None:
    """A later silence replaces an earlier one, shorter or longer; what is due is then sent."""
    front.sockets.fall_silent(3600)
    front.sockets.publish(lambda _: [HELLO])
    front.sockets.fall_silent(0)
    assert (await socket.receive_str()) == "hello"


async def test_connection_when_either_side_speaks_remembers_when(front: Front, socket: ClientWebSocketResponse) -> None:
    """Both times are the front's to judge idleness by."""
    (connection,) = front.sockets
    assert front.sockets.subscribed() == {"greetings"}
    began = connection.last_sent_s
    front.clock.advance(5)
    front.sockets.publish(lambda _: [HELLO])
    await socket.receive_str()
    front.clock.advance(5)
    front.heard.clear()
    await socket.send_str("again")
    await front.heard.wait()
    assert (connection.last_sent_s - began, connection.last_received_s - began) == (5, 10)
