"""Publishing to JetStream with many messages in flight, at the cost of one write and one read per message.

The client library's own asynchronous publish takes three times as long: it makes a task, a random name and two
dataclasses for each message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import msgspec

from venuemesh.errors import JournalUnavailable
from venuemesh.nats_client import Client, Msg, Subscription

NO_RESPONDERS = "503"


class _Refusal(msgspec.Struct, frozen=True):
    description: str = ""
    err_code: int = 0


class _Answer(msgspec.Struct, frozen=True):
    """What JetStream says of one message."""

    seq: int | None = None
    error: _Refusal | None = None


_read_answer = msgspec.json.Decoder(_Answer).decode


class BrokerRefused(JournalUnavailable):
    """The broker answered that it did not store the message; `api_code` is JetStream's."""

    def __init__(self, message: str, api_code: int) -> None:
        super().__init__(message)
        self.api_code = api_code


class Pipe:
    """Messages on their way to the broker and not confirmed yet, at most `max_in_flight`."""

    def __init__(self, client: Client, *, max_in_flight: int, timeout_s: float) -> None:
        self._client = client
        self._max = max_in_flight
        self._timeout_s = timeout_s
        self._pending: dict[str, asyncio.Future[int]] = {}
        self._count = 0
        self._room = asyncio.Event()
        self._inbox = ""
        self._subscription: Subscription | None = None
        self._opening = asyncio.Lock()

    async def publish(self, subject: str, payload: bytes, headers: Mapping[str, str]) -> asyncio.Future[int]:
        """Hand a message to the connection; the future gives its stream sequence, or JournalUnavailable.

        A future that nobody waits for any more is to be cancelled: the broker need not answer.

        Raises:
            JournalUnavailable: for `timeout_s` too many were in flight.
        """
        if self._subscription is None:
            await self._open()
        if len(self._pending) >= self._max:
            await self._make_room()
        self._count += 1
        token = str(self._count)
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._pending[token] = future
        try:
            await self._client.publish(subject, payload, reply=self._inbox + token, headers=dict(headers))
        except BaseException:
            self._pending.pop(token, None)
            raise
        return future

    async def _open(self) -> None:
        async with self._opening:
            if self._subscription is None:
                self._inbox = self._client.new_inbox() + "."
                self._subscription = await self._client.subscribe(self._inbox + "*", cb=self._on_answer)

    async def _make_room(self) -> None:
        self._pending = {token: future for token, future in self._pending.items() if not future.done()}
        try:
            async with asyncio.timeout(self._timeout_s):
                while len(self._pending) >= self._max:
                    self._room.clear()
                    await self._room.wait()
        except TimeoutError:
            raise JournalUnavailable(f"JetStream takes no more messages: {self._max} are in flight") from None

    async def _on_answer(self, message: Msg) -> None:
        future = self._pending.pop(message.subject[len(self._inbox) :], None)
        self._room.set()
        if future is None or future.done():
            return
        try:
            future.set_result(_stored_at(message))
        except JournalUnavailable as error:
            future.set_exception(error)


def _stored_at(message: Msg) -> int:
    """Stream sequence in an answer.

    Raises:
        JournalUnavailable: the broker did not store the message, or says something else.
    """
    if message.headers and message.headers.get("Status") == NO_RESPONDERS:
        raise JournalUnavailable("JetStream has no stream for the subject")
    try:
        answer = _read_answer(message.data)
    except msgspec.DecodeError:
        raise JournalUnavailable(f"JetStream answered {message.data[:100]!r}") from None
    if answer.error is not None:
        raise BrokerRefused(f"JetStream refused: {answer.error.description}", answer.error.err_code)
    if answer.seq is None:
        raise JournalUnavailable(f"JetStream answered {message.data[:100]!r}")
    return answer.seq
