"""A gap-free reader of a JetStream stream that outlives broker restarts.

It is an ordered push consumer of our own: no acks, flow control, idle heartbeats. When a message is missing, a
heartbeat stays away or the broker forgot the consumer, it makes a new one behind the last message it yielded. The
reader sees each stored message once, in order.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections import deque
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, NamedTuple, Self

from venuemesh.cancellation import end_if_cancelled
from venuemesh.errors import JournalUnavailable
from venuemesh.nats_client import (
    APIError,
    Client,
    ConsumerConfig,
    DeliverPolicy,
    JetStreamContext,
    Msg,
    NatsError,
    NotFoundError,
    Subscription,
)
from venuemesh.telemetry import NO_HEADERS

log = logging.getLogger(__name__)

IDLE_HEARTBEAT_S = 1.0
SILENCE_LIMIT_S = 3.0
RECREATE_WAIT_S = 0.2
STATUS_HEARTBEAT = "100"
MAX_BATCH = 256
_UNIX_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_REPLY_TOKENS = 9


class StoredMessage(NamedTuple):
    """A message as the broker keeps it.

    Attributes:
        time_ns: broker time, nanoseconds since the Unix epoch in whole microseconds; 0 when it has none.
        pending: how many more are waiting behind it.
    """

    subject: str
    payload: bytes
    sequence: int
    time_ns: int
    pending: int
    headers: Mapping[str, str] = NO_HEADERS

    @property
    def time(self) -> datetime | None:
        """Broker time."""
        return _UNIX_EPOCH + timedelta(microseconds=self.time_ns // 1_000) if self.time_ns else None


def nanoseconds_of(time: datetime | None) -> int:
    """Nanoseconds since the Unix epoch, in whole microseconds; 0 for none."""
    # Not through a float: it would lose the microseconds.
    return 0 if time is None else (time - _UNIX_EPOCH) // timedelta(microseconds=1) * 1_000


def _read_reply(reply: str) -> tuple[str, int, int, int, int]:
    """Consumer, delivery number, stream sequence, broker time as in `StoredMessage` and messages pending of a delivery.

    `$JS.ACK.<stream>.<consumer>.<tries>.<stream sequence>.<delivery>.<nanoseconds>.<pending>`, in a newer form with a
    domain and an account hash before the stream and perhaps a token behind. Source: NATS ADR-15, checked 2026-11-20.

    Raises:
        _Lost: it is none of these.
    """
    tokens = reply.split(".")
    at = 0 if len(tokens) == _REPLY_TOKENS else 2
    try:
        consumer, _, sequence, delivery, nanos, pending = tokens[3 + at : 9 + at]
        return consumer, int(delivery), int(sequence), int(nanos) // 1_000 * 1_000, int(pending)
    except ValueError:
        raise _Lost(f"a delivery with the reply subject {reply!r}") from None


class _Lost(Exception):
    """The consumer cannot go on; a new one is needed."""


class Follower:
    """Use as `async with bus.follow(...) as follower: async for message in follower`."""

    def __init__(self, client: Client, js: JetStreamContext, stream: str, config: ConsumerConfig) -> None:
        self._client = client
        self._js = js
        self._stream = stream
        self._config = config
        self._subscription: Subscription | None = None
        self._consumer = ""
        self._arrived: deque[Msg] = deque()
        self._arrival = asyncio.Event()
        self._last_stream_sequence = 0
        self._last_consumer_sequence = 0
        self.backlog = 0
        """Messages stored and matching when the consumer was made."""

    async def __aenter__(self) -> Self:
        try:
            await self._create()
        except (TimeoutError, NatsError) as error:
            await self._drop()
            raise JournalUnavailable(f"cannot read stream {self._stream}: {error!r}") from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._drop()

    async def __aiter__(self) -> AsyncIterator[StoredMessage]:
        async for batch in self.batches():
            for message in batch:
                yield message

    async def batches(self) -> AsyncIterator[list[StoredMessage]]:
        """The messages in lists of those that have arrived, at least one and at most `MAX_BATCH`.

        What arrives while the reader is busy waits here. The broker sends on only when the reader has come to its
        flow control request, so that is bounded by the broker's window, and nothing is dropped.
        """
        while True:
            try:
                batch = await self._next_batch()
            except (_Lost, TimeoutError, NatsError) as error:
                log.info("follower_restarts", extra={"stream": self._stream, "cause": repr(error)})
                end_if_cancelled()
                await self._recreate()
                continue
            end_if_cancelled()
            if batch:
                yield batch

    async def _next_batch(self) -> list[StoredMessage]:
        if self._subscription is None:
            raise _Lost("no subscription")
        if not self._arrived:
            self._arrival.clear()
            async with asyncio.timeout(SILENCE_LIMIT_S):
                await self._arrival.wait()
        batch: list[StoredMessage] = []
        while self._arrived and len(batch) < MAX_BATCH:
            message = self._arrived[0]
            try:
                status = message.headers.get("Status") if message.headers and not message.data else None
                if status == STATUS_HEARTBEAT:
                    await self._on_heartbeat(message)
                elif (stored := self._on_message(message)) is not None:
                    batch.append(stored)
            except _Lost:
                if batch:
                    # What came before it is good; the next call finds the same message again.
                    return batch
                raise
            self._arrived.popleft()
        return batch

    async def _on_arrival(self, message: Msg) -> None:
        self._arrived.append(message)
        self._arrival.set()

    def _on_message(self, message: Msg) -> StoredMessage | None:
        consumer, delivery, sequence, time_ns, pending = _read_reply(message.reply)
        if consumer != self._consumer:
            return None
        if delivery != self._last_consumer_sequence + 1:
            raise _Lost(f"gap after delivery {self._last_consumer_sequence}")
        self._last_consumer_sequence = delivery
        self._last_stream_sequence = sequence
        return StoredMessage(
            subject=message.subject,
            payload=message.data,
            sequence=sequence,
            time_ns=time_ns,
            pending=pending,
            headers=message.headers or {},
        )

    async def _on_heartbeat(self, message: Msg) -> None:
        if message.reply:
            # A flow control request: the server sends on once it is answered.
            await self._client.publish(message.reply)
            return
        headers = message.headers or {}
        stalled = headers.get("Nats-Consumer-Stalled")
        if stalled:
            await self._client.publish(stalled)
        delivered = int(headers.get("Nats-Last-Consumer", self._last_consumer_sequence))
        if delivered != self._last_consumer_sequence:
            raise _Lost(f"delivery {delivered} announced, {self._last_consumer_sequence} seen")

    async def _create(self) -> None:
        inbox = self._client.new_inbox()
        self._arrived.clear()
        self._subscription = await self._client.subscribe(inbox, cb=self._on_arrival)
        config = dataclasses.replace(
            self._config, deliver_subject=inbox, flow_control=True, idle_heartbeat=IDLE_HEARTBEAT_S
        )
        if self._last_stream_sequence:
            config = dataclasses.replace(
                config,
                deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=self._last_stream_sequence + 1,
                opt_start_time=None,
            )
        info: Any = await self._js.add_consumer(self._stream, config)
        self._consumer = info.name
        self._last_consumer_sequence = 0
        # Delivery may have begun before the answer was made, so what was delivered counts too.
        delivered = info.delivered.consumer_seq if info.delivered else 0
        self.backlog = int(info.num_pending or 0) + int(delivered)

    async def _recreate(self) -> None:
        while True:
            await self._drop()
            try:
                await self._create()
            except (TimeoutError, NatsError) as error:
                end_if_cancelled()
                if isinstance(error, APIError) and not isinstance(error, NotFoundError):
                    log.warning("follower_refused", extra={"stream": self._stream, "error": repr(error)})
                await asyncio.sleep(RECREATE_WAIT_S)
            else:
                return

    async def _drop(self) -> None:
        subscription, self._subscription = self._subscription, None
        consumer, self._consumer = self._consumer, ""
        if self._client.is_closed:
            return
        try:
            if subscription is not None:
                await subscription.unsubscribe()
            if consumer and self._client.is_connected:
                await self._js.delete_consumer(self._stream, consumer)
        except (TimeoutError, NatsError) as error:
            # The broker removes an ephemeral consumer by itself once nobody listens.
            log.debug("consumer_not_deleted", extra={"stream": self._stream, "error": repr(error)})
