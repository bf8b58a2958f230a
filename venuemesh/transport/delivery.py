"""A bounded queue between whoever receives and one callback."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Generic, TypeVar

Event = TypeVar("Event")

_FAIR_SHARE = 32  # events handled before other tasks get their turn


class EventQueue(Generic[Event]):
    """Events on their way to the callback: bounded for frames; connection events always fit."""

    def __init__(self, on_event: Callable[[Event], Awaitable[None]], *, max_events: int, max_bytes: int) -> None:
        self._on_event = on_event
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._events: deque[tuple[Event, int]] = deque()
        self._bytes = 0
        self._filled = asyncio.Event()
        self.drained = asyncio.Event()
        self.drained.set()

    def offer(self, event: Event, size: int) -> bool:
        """Take an event of `size` bytes, or refuse it because the queue is full."""
        if len(self._events) >= self._max_events or self._bytes + size > self._max_bytes:
            return False
        self.put(event, size)
        return True

    def put(self, event: Event, size: int = 0) -> None:
        """Take an event regardless of the bounds."""
        self._bytes += size
        self._events.append((event, size))
        self.drained.clear()
        self._filled.set()

    async def deliver_during(self, source: Callable[[], Awaitable[None]], *, name: str, drain_timeout_s: float) -> None:
        """Deliver while `source` runs; when it ends, deliver what is left, for at most `drain_timeout_s`.

        Args:
            name: of the task on which the callback is called.
        Raises:
            ExceptionGroup: the callback or `source` raised.
        """
        async with asyncio.TaskGroup() as tasks:
            delivery = tasks.create_task(self.deliver(), name=name)
            try:
                await source()
            finally:
                if not delivery.done():
                    with suppress(TimeoutError):  # a stuck callback must not block the stop
                        async with asyncio.timeout(drain_timeout_s):
                            await self.drained.wait()
                delivery.cancel()

    async def deliver(self) -> None:
        """Call the callback for every event until cancelled."""
        while True:
            await self._filled.wait()
            self._filled.clear()
            handled = 0
            while self._events:
                event, size = self._events.popleft()
                self._bytes -= size
                await self._on_event(event)
                handled += 1
                if handled % _FAIR_SHARE == 0:
                    await asyncio.sleep(0)
            self.drained.set()
