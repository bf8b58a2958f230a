"""Messages on their way to JetStream: in order, none twice, none forgotten while the process lives.

At most `window` messages are in flight. What the broker did not confirm is sent again under the same id, which the
broker knows if it has the message after all. How many messages may wait is the owner's to decide.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from venuemesh.bus import Bus
from venuemesh.cancellation import end_if_cancelled
from venuemesh.errors import JournalUnavailable
from venuemesh.nats_client import NatsError
from venuemesh.telemetry import NO_HEADERS
from venuemesh.turns import give_way

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing(Generic[T]):
    """A message with its id and headers; `about` is the owner's, who gets it back once the message is durable."""

    subject: str
    payload: bytes
    message_id: str
    about: T
    headers: Mapping[str, str] = field(default_factory=lambda: NO_HEADERS)


class Outbox(Generic[T]):
    """Publishes until `run` is cancelled.

    Args:
        name: for the log.
        on_durable: called with each message's `about`, in order, once the broker has it.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        name: str,
        on_durable: Callable[[T], None],
        window: int = 256,
        ack_timeout_s: float = 2.0,
        retry_wait_s: float = 0.1,
    ) -> None:
        self._bus = bus
        self._name = name
        self._on_durable = on_durable
        self._window = window
        self._ack_timeout_s = ack_timeout_s
        self._retry_wait_s = retry_wait_s
        self._waiting: deque[Outgoing[T]] = deque()
        self._in_flight: deque[tuple[Outgoing[T], asyncio.Future[Any]]] = deque()
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def backlog(self) -> int:
        """Messages not yet durable."""
        return len(self._waiting) + len(self._in_flight)

    @property
    def in_flight(self) -> int:
        """Messages sent and not confirmed."""
        return len(self._in_flight)

    def push(self, message: Outgoing[T]) -> None:
        """Queue a message behind all others."""
        self._waiting.append(message)
        self._idle.clear()
        self._wake.set()

    async def flush(self) -> None:
        """Wait until everything queued so far is durable."""
        await self._idle.wait()

    async def run(self) -> None:
        """Publish until cancelled."""
        # A run that was cancelled while it waited for a confirmation took the waiting itself with it.
        self._take_back()
        while True:
            try:
                await self._publish_some()
            except (JournalUnavailable, TimeoutError, NatsError) as error:
                end_if_cancelled()
                log.warning(
                    "outbox_retries", extra={"outbox": self._name, "backlog": self.backlog, "error": repr(error)}
                )
                self._take_back()
                await asyncio.sleep(self._retry_wait_s)

    async def _publish_some(self) -> None:
        while self._waiting and len(self._in_flight) < self._window:
            message = self._waiting[0]
            future = await self._bus.publish_soon(
                message.subject, message.payload, message_id=message.message_id, headers=message.headers
            )
            self._in_flight.append((message, future))
            self._waiting.popleft()
            end_if_cancelled()
        if self._in_flight:
            async with asyncio.timeout(self._ack_timeout_s):
                await self._in_flight[0][1]
            self._confirm()
            return
        self._idle.set()
        self._wake.clear()
        await self._wake.wait()
        await give_way()

    def _confirm(self) -> None:
        """Tell the owner of everything at the head that the broker has."""
        while self._in_flight and self._in_flight[0][1].done():
            message, future = self._in_flight[0]
            future.result()
            self._in_flight.popleft()
            self._on_durable(message.about)

    def _take_back(self) -> None:
        """Queue again what is not confirmed; the broker knows the ids of what it has after all."""
        for message, future in reversed(self._in_flight):
            future.cancel()
            # A failed future that nobody reads would be reported as an error of ours.
            if future.done() and not future.cancelled():
                future.exception()
            self._waiting.appendleft(message)
        self._in_flight.clear()
