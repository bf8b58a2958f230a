"""Small real servers on loopback, port 0, whose faults are exact to the byte."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from venuemesh.transport.link import LinkState
from venuemesh.transport.observer import RequestRecord, StateRecord


class RawHttpServer:
    """Reads whole HTTP requests; `answer` gives the raw bytes to send back, None closes without any.

    After an answer the connection stays open unless the answer says `connection: close`.
    """

    def __init__(self, answer: Callable[[bytes], Awaitable[bytes | None]]) -> None:
        self._answer = answer
        self.requests: list[bytes] = []
        self.connections = 0
        self.open_now = 0
        self.open_most = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open_now += 1
        self.open_most = max(self.open_most, self.open_now)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = 0
                for line in head.lower().split(b"\r\n"):
                    if line.startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                self.requests.append(head + await reader.readexactly(length))
                answer = await self._answer(self.requests[-1])
                if answer is None:
                    return
                writer.write(answer)
                await writer.drain()
                if b"connection: close" in answer:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return  # the client has gone
        finally:
            self.open_now -= 1
            writer.close()


@asynccontextmanager
async def http_server(answer: Callable[[bytes], Awaitable[bytes | None]]) -> AsyncIterator[RawHttpServer]:
    """Serve until the block ends."""
    server = RawHttpServer(answer)
    listening = await asyncio.start_server(server.handle, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()


def reply(status: int = 200, body: bytes = b"{}", **headers: str) -> bytes:
    """A well-formed answer; `_` in a header's name stands for `-`."""
    lines = [f"HTTP/1.1 {status} Any", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


@contextmanager
def refusing_port() -> Iterator[int]:
    """A port that is taken but not listened to: every connect is refused for sure."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


class Recorder:
    """An observer that keeps everything."""

    def __init__(self) -> None:
        self.requests: list[RequestRecord] = []
        self.states: list[StateRecord] = []
        self._told = asyncio.Event()

    def on_request(self, record: RequestRecord) -> None:
        self.requests.append(record)

    def on_state(self, record: StateRecord) -> None:
        self.states.append(record)
        self._told.set()

    async def until_state(self, state: LinkState, times: int = 1) -> None:
        """Wait until the link has told `state` so many times."""
        async with asyncio.timeout(60):
            while sum(record.state is state for record in self.states) < times:
                self._told.clear()
                await self._told.wait()
