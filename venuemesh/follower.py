"""A gap-free reader of a JetStream stream that outlives broker restarts.

It is an ordered push consumer of our own: no acks, flow control, idle heartbeats. When a message is missing, a
heartbeat stays away or the broker forgot the consumer, it makes a new one behind the last message it yielded. The
reader sees each stored message once, in order.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError, NotFoundError

from venuemesh.cancellation import end_if_cancelled
from venuemesh.errors import JournalUnavailable

log = logging.getLogger(__name__)

IDLE_HEARTBEAT_S = 1.0
SILENCE_LIMIT_S = 3.0
RECREATE_WAIT_S = 0.2
STATUS_HEARTBEAT = "100"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMessage:
    """A message as the broker keeps it; `pending` is how many more are waiting behind it."""

    subject: str
    payload: bytes
    sequence: int
    time: datetime | None
    pending: int
    headers: Mapping[str, str] = field(default_factory=dict)


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
        while True:
            try:
                message = await self._next()
            except (_Lost, TimeoutError, NatsError) as error:
                log.info("follower_restarts", extra={"stream": self._stream, "cause": repr(error)})
                end_if_cancelled()
                await self._recreate()
                continue
            end_if_cancelled()
            if message is not None:
                yield message

    async def _next(self) -> StoredMessage | None:
        if self._subscription is None:
            raise _Lost("no subscription")
        message = await self._subscription.next_msg(timeout=SILENCE_LIMIT_S)
        status = (message.headers or {}).get("Status") if not message.data else None
        if status == STATUS_HEARTBEAT:
            await self._on_heartbeat(message)
            return None
        return self._on_message(message)

    def _on_message(self, message: Msg) -> StoredMessage | None:
        meta = message.metadata
        if meta.consumer != self._consumer:
            return None
        if meta.sequence.consumer != self._last_consumer_sequence + 1:
            raise _Lost(f"gap after delivery {self._last_consumer_sequence}")
        self._last_consumer_sequence = meta.sequence.consumer
        self._last_stream_sequence = meta.sequence.stream
        return StoredMessage(
            subject=message.subject,
            payload=message.data,
            sequence=meta.sequence.stream,
            time=meta.timestamp,
            pending=meta.num_pending,
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
        self._subscription = await self._client.subscribe(inbox)
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
