"""What tests of streams share: a link into nowhere but the simulator, and a callback that remembers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from venuemesh.clock import Clock, SystemClock
from venuemesh.transport.environment import Environment, HostGuard
from venuemesh.transport.gate import LimiterGate
from venuemesh.transport.observer import NullObserver, Observer, RequestRecord
from venuemesh.transport.session import StreamConnected, StreamDisconnected, StreamEvent
from venuemesh.transport.wiring import LinkWiring

Told = StreamConnected | StreamDisconnected | StreamEvent[Any]


def link(
    name: str = "market",
    *,
    url: str = "ws://127.0.0.1:1/ws",
    clock: Clock | None = None,
    gate: LimiterGate | None = None,
    observer: Observer | None = None,
) -> LinkWiring:
    """A link that may reach loopback alone; nobody listens at the default address."""
    return LinkWiring(
        url=url,
        guard=HostGuard(environment=Environment.SIMULATOR),
        clock=clock or SystemClock(),
        name=name,
        gate=gate,
        observer=observer or NullObserver(),
    )


class Listener(NullObserver):
    """Keeps the events of a stream, lets tests wait for one, and keeps request records."""

    def __init__(self) -> None:
        self.events: list[Told] = []
        self.records: list[RequestRecord] = []
        self.react: Callable[[Told], Awaitable[None]] | None = None
        self._news = asyncio.Condition()

    async def __call__(self, event: Told) -> None:
        async with self._news:
            self.events.append(event)
            self._news.notify_all()
        if self.react is not None:
            await self.react(event)

    def on_request(self, record: RequestRecord) -> None:
        self.records.append(record)

    def of(self, kind: type) -> list[Any]:
        """Events of a kind, those inside StreamEvent included."""
        inner = [event.event if isinstance(event, StreamEvent) else event for event in self.events]
        return [event for event in inner if isinstance(event, kind)]

    async def wait(self, kind: type, count: int = 1) -> Any:
        """The `count`-th event of a kind."""
        async with self._news:
            await self._news.wait_for(lambda: len(self.of(kind)) >= count)
        return self.of(kind)[count - 1]
