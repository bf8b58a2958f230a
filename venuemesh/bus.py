"""JetStream as the mesh uses it: publish, append once, read back, follow without loss.

`Bus` owns one NATS connection that reconnects for ever. Nothing here decodes payloads. Failures surface as
`JournalUnavailable` (the broker does not answer) or `SubjectTaken` (an append-once subject has a message already).
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from opentelemetry.trace import SpanKind

from venuemesh.errors import JournalUnavailable
from venuemesh.follower import Follower, StoredMessage, nanoseconds_of
from venuemesh.nats_client import (
    AckPolicy,
    BadRequestError,
    Client,
    ConsumerConfig,
    DeliverPolicy,
    DiscardPolicy,
    JetStreamContext,
    NatsError,
    NotFoundError,
    StorageType,
    StreamConfig,
    allow_websocket,
)
from venuemesh.publishing import BrokerRefused, Pipe
from venuemesh.subjects import StreamSpec, family
from venuemesh.telemetry import NO_HEADERS, Tracing, sampled_headers

log = logging.getLogger(__name__)

WRONG_LAST_SEQUENCE = 10071
MSG_ID = "Nats-Msg-Id"
EXPECTED_LAST_SUBJECT_SEQUENCE = "Nats-Expected-Last-Subject-Sequence"
NEVER_SEEN = "0"


class SubjectTaken(Exception):
    """The append-once subject already holds a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BusOptions:
    """How to reach the broker.

    `timeout_s` bounds every call; `credentials_file` is a NATS credentials file; `tls` goes with a `tls://` address.
    """

    servers: Sequence[str]
    name: str
    replicas: int = 1
    storage: str = "file"
    credentials_file: Path | None = None
    tls: ssl.SSLContext | None = None
    event_max_age_s: float = 0
    timeout_s: float = 2.0
    connect_timeout_s: float = 10.0
    reconnect_wait_s: float = 0.25
    max_in_flight: int = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamState:
    """Since when a stream exists, and the sequence numbers of its oldest and newest message, expired ones included."""

    created: datetime
    first_sequence: int
    last_sequence: int


class Bus:
    """One connection to NATS. Make it with `Bus.connect`."""

    def __init__(self, client: Client, options: BusOptions, tracing: Tracing | None = None) -> None:
        self._client = client
        self._tracing = tracing
        self._options = options
        self._js: JetStreamContext = client.jetstream(timeout=options.timeout_s)
        self._pipe = Pipe(client, max_in_flight=options.max_in_flight, timeout_s=options.timeout_s)

    @classmethod
    @asynccontextmanager
    async def connect(cls, options: BusOptions, *, tracing: Tracing | None = None) -> AsyncIterator[Bus]:
        """Connect, and close with everything flushed on exit.

        Args:
            tracing: records what waits for the broker in the traces it belongs to; nothing when None.
        Raises:
            JournalUnavailable: no server answered within `connect_timeout_s`.
        """
        if any(url.startswith(("ws://", "wss://")) for url in options.servers):
            allow_websocket()
        client = Client()
        try:
            async with asyncio.timeout(options.connect_timeout_s):
                await client.connect(
                    servers=list(options.servers),
                    name=options.name,
                    user_credentials=str(options.credentials_file) if options.credentials_file else None,
                    tls=options.tls,
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=options.reconnect_wait_s,  # type: ignore[arg-type]  # seconds, any number
                    connect_timeout=max(1, int(options.connect_timeout_s)),
                    error_cb=_log_error,
                    disconnected_cb=_log_event("nats_disconnected"),
                    reconnected_cb=_log_event("nats_reconnected"),
                )
        except (TimeoutError, OSError, NatsError) as error:
            # The half-open client keeps trying in the background unless it is closed.
            await client.close()
            raise JournalUnavailable(f"NATS at {', '.join(options.servers)} does not answer: {error!r}") from error
        try:
            yield cls(client, options, tracing)
        finally:
            await _close(client, options.timeout_s)

    @property
    def connected(self) -> bool:
        """Whether the connection is up now."""
        return bool(self._client.is_connected)

    async def ensure_streams(self, specs: Sequence[StreamSpec]) -> None:
        """Create the streams that are missing and bring the others' limits in line."""
        for spec in specs:
            config = self._stream_config(spec)
            try:
                await self._js.add_stream(config)
            except BadRequestError:
                await self._js.update_stream(config)
            except (TimeoutError, NatsError) as error:
                raise JournalUnavailable(f"cannot create stream {spec.name}: {error!r}") from error

    def _stream_config(self, spec: StreamSpec) -> StreamConfig:
        return StreamConfig(
            name=spec.name,
            subjects=list(spec.subjects),
            description=spec.description,
            max_age=spec.max_age_s,
            max_bytes=spec.max_bytes,
            max_msgs_per_subject=spec.max_messages_per_subject,
            discard=DiscardPolicy.NEW if spec.keep_old else DiscardPolicy.OLD,
            storage=StorageType(self._options.storage),
            num_replicas=self._options.replicas,
            duplicate_window=spec.dedupe_window_s,
            allow_direct=True,
        )

    async def append_once(self, subject: str, payload: bytes) -> int:
        """Store the first message ever of `subject`; returns its stream sequence.

        Raises:
            SubjectTaken: it has one already.
            JournalUnavailable: the broker did not confirm; the message may be stored later all the same.
        """
        return await self._publish(subject, payload, {EXPECTED_LAST_SUBJECT_SEQUENCE: NEVER_SEEN})

    async def append_after(self, subject: str, payload: bytes, last_sequence: int) -> int:
        """Store a message if the newest of `subject` is the one at `last_sequence`; returns its stream sequence.

        Args:
            last_sequence: 0 when there is none.
        Raises:
            SubjectTaken: another is the newest.
            JournalUnavailable: the broker did not confirm; the message may be stored later all the same.
        """
        return await self._publish(subject, payload, {EXPECTED_LAST_SUBJECT_SEQUENCE: str(last_sequence)})

    async def publish(
        self,
        subject: str,
        payload: bytes,
        *,
        message_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> int:
        """Store a message; a repeated `message_id` within the stream's window is stored once."""
        return await self._publish(
            subject, payload, {**(headers or {}), **({MSG_ID: message_id} if message_id else {})}
        )

    async def _publish(self, subject: str, payload: bytes, headers: Mapping[str, str]) -> int:
        self._require_connection()
        if self._tracing is None or not self._tracing.sampling:
            return await self._store(subject, payload, headers)
        with self._tracing.span(f"append {family(subject)}", kind=SpanKind.PRODUCER) as span:
            sequence = await self._store(subject, payload, headers)
            span.set_attribute("messaging.message.id", sequence)
        return sequence

    async def _store(self, subject: str, payload: bytes, headers: Mapping[str, str]) -> int:
        try:
            async with asyncio.timeout(self._options.timeout_s):
                return await (await self._pipe.publish(subject, payload, {**headers, **sampled_headers()}))
        except BrokerRefused as error:
            if error.api_code == WRONG_LAST_SEQUENCE:
                raise SubjectTaken(subject) from error
            raise JournalUnavailable(f"{subject}: {error.message}") from error
        except (TimeoutError, NatsError) as error:
            raise JournalUnavailable(f"JetStream did not confirm {subject}: {error!r}") from error

    async def publish_soon(
        self, subject: str, payload: bytes, *, message_id: str, headers: Mapping[str, str] = NO_HEADERS
    ) -> asyncio.Future[Any]:
        """Hand a message to the broker; the future gives its stream sequence. Waits while too many are in flight."""
        self._require_connection()
        try:
            return await self._pipe.publish(subject, payload, {MSG_ID: message_id, **headers})
        except (TimeoutError, NatsError) as error:
            raise JournalUnavailable(f"JetStream takes no more messages: {error!r}") from error

    def _require_connection(self) -> None:
        # While disconnected the client would buffer and send later what the caller was told had failed.
        if not self.connected:
            raise JournalUnavailable("NATS is not connected")

    async def last(self, stream: str, subject_filter: str) -> StoredMessage | None:
        """Newest message of a subject or wildcard; None when there is none."""
        return await self._read(stream, subject_filter, None)

    async def next_at(self, stream: str, subject_filter: str, sequence: int) -> StoredMessage | None:
        """First message at stream sequence `sequence` or later that matches; None when there is none."""
        return await self._read(stream, subject_filter, sequence)

    async def _read(self, stream: str, subject_filter: str, sequence: int | None) -> StoredMessage | None:
        try:
            raw = await self._js.get_msg(
                stream, subject=subject_filter, seq=sequence, direct=True, next=sequence is not None
            )
        except NotFoundError:
            return None
        except (TimeoutError, NatsError) as error:
            raise JournalUnavailable(f"JetStream does not answer: {error!r}") from error
        return StoredMessage(
            subject=raw.subject or "",
            payload=raw.data or b"",
            sequence=raw.seq or 0,
            time_ns=nanoseconds_of(raw.time),
            pending=0,
            headers=raw.headers or {},
        )

    async def stream_created(self, stream: str) -> datetime:
        """When the stream was made: names an epoch of everything numbered in it."""
        return (await self.stream_state(stream)).created

    async def stream_state(self, stream: str) -> StreamState:
        """What the broker holds of a stream.

        Raises:
            JournalUnavailable: it does not answer, or has no such stream.
        """
        try:
            info = await self._js.stream_info(stream)
        except (TimeoutError, NatsError) as error:
            raise JournalUnavailable(f"JetStream does not answer: {error!r}") from error
        if info.created is None:
            raise JournalUnavailable(f"JetStream does not say when {stream} was created")
        return StreamState(created=info.created, first_sequence=info.state.first_seq, last_sequence=info.state.last_seq)

    def follow(
        self,
        stream: str,
        filters: Sequence[str],
        *,
        after: int = 0,
        since: datetime | None = None,
        last_per_subject: bool = False,
    ) -> Follower:
        """Read a stream from a place on, without gaps, for as long as the reader wants.

        Args:
            after: stream sequence of the last message already handled; 0 for the beginning.
            since: begin at this broker time instead.
            last_per_subject: begin with the newest message of each subject instead.
        """
        policy = DeliverPolicy.BY_START_SEQUENCE
        if last_per_subject:
            policy = DeliverPolicy.LAST_PER_SUBJECT
        elif since is not None:
            policy = DeliverPolicy.BY_START_TIME
        config = ConsumerConfig(
            deliver_policy=policy,
            opt_start_seq=after + 1 if policy == DeliverPolicy.BY_START_SEQUENCE else None,
            opt_start_time=since if policy == DeliverPolicy.BY_START_TIME else None,
            ack_policy=AckPolicy.NONE,
            filter_subjects=list(filters),
            mem_storage=True,
            num_replicas=1,
            max_deliver=1,
        )
        return Follower(self._client, self._js, stream, config)

    async def replay(
        self,
        stream: str,
        filters: Sequence[str],
        *,
        after: int = 0,
        since: datetime | None = None,
        last_per_subject: bool = False,
    ) -> AsyncGenerator[StoredMessage, None]:
        """What is stored now, in order; ends when it has caught up."""
        follower = self.follow(stream, filters, after=after, since=since, last_per_subject=last_per_subject)
        async with follower:
            if follower.backlog == 0:
                return
            async for message in follower:
                yield message
                if message.pending == 0:
                    return


async def _close(client: Client, timeout_s: float) -> None:
    try:
        async with asyncio.timeout(timeout_s):
            if client.is_connected:
                await client.flush()
    except (TimeoutError, OSError, NatsError) as error:
        log.warning("nats_flush_failed", extra={"error": repr(error)})
    try:
        await client.close()
    except (OSError, NatsError) as error:
        # With the broker away there is nothing left to close in good order.
        log.warning("nats_close_failed", extra={"error": repr(error)})


async def _log_error(error: Exception) -> None:
    log.warning("nats_error", extra={"error": repr(error)})


def _log_event(name: str) -> Any:
    async def report() -> None:
        log.info(name)

    return report


__all__ = ["Bus", "BusOptions", "StoredMessage", "SubjectTaken"]
