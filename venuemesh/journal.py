"""The order journal and the account log on JetStream: what a gateway remembers.

`OrderJournal` holds one intent per key, written before anything is sent, and the last word on it. `EventLog` numbers
the events of each account, publishes them in order and tells when each is durable; nothing is shown to anybody before
that. A gateway is the only writer of its accounts.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from venuemesh.bus import Bus, StoredMessage, SubjectTaken
from venuemesh.clock import Clock
from venuemesh.dead_letters import DeadLetters, Unhandled, is_requeued
from venuemesh.errors import JournalUnavailable
from venuemesh.order_traces import OrderTraces
from venuemesh.outbox import Outbox, Outgoing
from venuemesh.resequence import Resequencer
from venuemesh.subjects import EVENT_STREAM, JOURNAL_STREAM, Kind, account_filter, subject
from venuemesh.telemetry import NO_HEADERS
from venuemesh.v1 import event_pb2

log = logging.getLogger(__name__)

NS_PER_S = 1_000_000_000


class LogOverflow(Exception):
    """More events wait for the broker than the log may hold.

    The process should end: after a restart everything is learnt again from journal and venue.
    """


def epoch_of(created: datetime) -> str:
    """Name of the numbering in a stream: when the stream was made."""
    return created.astimezone(UTC).strftime("%Y%m%dT%H%M%S.%fZ")


class OrderJournal:
    """Intents and outcomes of one venue, by account and key."""

    def __init__(self, bus: Bus, venue: str) -> None:
        self._bus = bus
        self._venue = venue

    async def write_intent(self, account_id: str, client_order_id: str, intent: event_pb2.OrderIntent) -> None:
        """Store the first intent ever under this key.

        Raises:
            SubjectTaken: the key has one; read it.
            JournalUnavailable: the broker did not confirm, so nothing may be sent.
        """
        name = subject(Kind.INTENT, self._venue, account_id, client_order_id)
        await self._bus.append_once(name, intent.SerializeToString())

    async def read_intent(self, account_id: str, client_order_id: str) -> event_pb2.OrderIntent | None:
        """The intent under this key; None when it was never used."""
        name = subject(Kind.INTENT, self._venue, account_id, client_order_id)
        stored = await self._bus.last(JOURNAL_STREAM, name)
        return event_pb2.OrderIntent.FromString(stored.payload) if stored else None

    async def read_outcome(self, account_id: str, client_order_id: str) -> event_pb2.OrderOutcome | None:
        """The last word on this key; None while there is none."""
        name = subject(Kind.OUTCOME, self._venue, account_id, client_order_id)
        stored = await self._bus.last(JOURNAL_STREAM, name)
        return event_pb2.OrderOutcome.FromString(stored.payload) if stored else None

    async def intents_since(self, account_id: str, since: datetime | None) -> AsyncGenerator[event_pb2.OrderIntent]:
        """Intents stored at this broker time or later, all of them when None, oldest first."""
        names = [subject(Kind.INTENT, self._venue, account_id, "").removesuffix("-") + ">"]
        async with aclosing(self._bus.replay(JOURNAL_STREAM, names, since=since)) as stored:
            async for message in stored:
                yield event_pb2.OrderIntent.FromString(message.payload)


@dataclass(slots=True)
class _Numbering:
    """Where an account's one global order stands."""

    sequence: int = 0


DurableListener = Callable[[event_pb2.Event], None]


class EventLog:
    """Numbers and publishes the events of a venue's accounts.

    `append` is synchronous and never waits; `run` publishes in order with at most `window` messages in flight and
    sends again, under the same ids, what was not confirmed. Bound: `capacity` messages, then `LogOverflow`.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        venue: str,
        writer_id: str,
        clock: Clock,
        capacity: int = 20_000,
        window: int = 256,
        ack_timeout_s: float = 2.0,
        retry_wait_s: float = 0.1,
    ) -> None:
        self._bus = bus
        self._venue = venue
        self._writer_id = writer_id
        self._clock = clock
        self._capacity = capacity
        self._outbox: Outbox[event_pb2.Event | None] = Outbox(
            bus,
            name=f"events of {venue}",
            on_durable=self._tell,
            window=window,
            ack_timeout_s=ack_timeout_s,
            retry_wait_s=retry_wait_s,
        )
        self._numbering: dict[str, _Numbering] = {}
        self._listeners: list[DurableListener] = []
        self._venue_events = 0
        self._traces = OrderTraces()
        self.epoch = ""

    @property
    def backlog(self) -> int:
        """Messages not yet durable."""
        return self._outbox.backlog

    def sequence(self, account_id: str) -> int:
        """Number of the account's last event, durable or not; 0 before the first."""
        numbering = self._numbering.get(account_id)
        return numbering.sequence if numbering else 0

    def on_durable(self, listener: DurableListener) -> None:
        """Call `listener` with each account event once the broker has it, in order."""
        self._listeners.append(listener)

    async def open(self) -> None:
        """Learn the epoch. Call before anything else."""
        self.epoch = epoch_of(await self._bus.stream_created(EVENT_STREAM))

    def restore(self, account_id: str, sequence: int) -> None:
        """Continue an account's numbering after a restart."""
        self._numbering[account_id] = _Numbering(sequence)

    def append(self, kind: Kind, event: event_pb2.Event, *key: str) -> event_pb2.Event:
        """Number an account event and queue it. `key` are the subject's parts behind the symbol.

        Raises:
            LogOverflow: the queue is full.
        """
        numbering = self._numbering.setdefault(event.account_id, _Numbering())
        numbering.sequence += 1
        event.epoch = self.epoch
        event.sequence = numbering.sequence
        event.venue = self._venue
        event.event_id = f"{self._venue}/{event.account_id}/{self._writer_id}/{numbering.sequence}"
        _stamp(event.published_time, self._clock.now_ns())
        name = subject(kind, self._venue, event.account_id, event.symbol, *key)
        headers = self._traces.headers(event.account_id, key[0] if key else "", event.event_id, event.causation_id)
        self._push(name, event.SerializeToString(), event.event_id, event, headers)
        return event

    def append_outcome(self, account_id: str, client_order_id: str, outcome: event_pb2.OrderOutcome) -> None:
        """Queue the last word on a key behind the events that led to it."""
        name = subject(Kind.OUTCOME, self._venue, account_id, client_order_id)
        message_id = f"outcome/{self._venue}/{account_id}/{client_order_id}/{outcome.order.order_version}"
        self._traces.ended(account_id, client_order_id)
        self._push(name, outcome.SerializeToString(), message_id, None)

    def append_venue_event(self, event: event_pb2.Event) -> None:
        """Queue an event of the venue that belongs to no account."""
        event.venue = self._venue
        # Two changes can fall into one tick of the clock; under one id the broker would drop the second.
        self._venue_events += 1
        event.event_id = f"{self._venue}/-/{self._writer_id}/{self._clock.now_ns()}/{self._venue_events}"
        _stamp(event.published_time, self._clock.now_ns())
        name = subject(Kind.VENUE, self._venue)
        self._push(name, event.SerializeToString(), event.event_id, None)

    def _push(
        self,
        name: str,
        payload: bytes,
        message_id: str,
        event: event_pb2.Event | None,
        headers: Mapping[str, str] = NO_HEADERS,
    ) -> None:
        if self.backlog >= self._capacity:
            raise LogOverflow(f"{self.backlog} events wait for the broker")
        message = Outgoing(subject=name, payload=payload, message_id=message_id, about=event, headers=headers)
        self._outbox.push(message)

    def _tell(self, event: event_pb2.Event | None) -> None:
        if event is not None:
            for listener in self._listeners:
                listener(event)

    async def flush(self) -> None:
        """Wait until everything appended so far is durable."""
        await self._outbox.flush()

    async def run(self) -> None:
        """Publish until cancelled."""
        await self._outbox.run()


def _stamp(target: Timestamp, now_ns: int) -> None:
    target.seconds, target.nanos = divmod(now_ns, NS_PER_S)


class AccountHistory:
    """Reads one account's events back, by their own numbers.

    Args:
        dead_letters: where a message goes that is no event. Reading ends there all the same: an account that is told
            over a hole would be told wrongly.
    """

    def __init__(self, bus: Bus, venue: str, account_id: str, *, dead_letters: DeadLetters | None = None) -> None:
        self._bus = bus
        self._owner = (venue, account_id)
        self._dead_letters = dead_letters
        self._filter = account_filter(venue, account_id)

    async def last(self) -> event_pb2.Event | None:
        """The account's newest event."""
        stored = await self._bus.last(EVENT_STREAM, self._filter)
        return decode_event(stored) if stored else None

    async def replay(self, after_sequence: int = 0) -> AsyncGenerator[event_pb2.Event]:
        """Events behind an account sequence, each once, in order, up to the newest one stored."""
        after_stream = await self._stream_position(after_sequence) if after_sequence else 0
        order = Resequencer[event_pb2.Event](after_sequence or await self._before_first())
        async with aclosing(self._bus.replay(EVENT_STREAM, [self._filter], after=after_stream)) as stored:
            async for message in stored:
                event = await self._read(message)
                for ready in order.push(event.sequence, event):
                    yield ready
        for late in order.drain():
            yield late
        if order.skipped:
            log.error("account_log_has_gaps", extra={"filter": self._filter, "gaps": str(order.skipped[:10])})

    async def of_order(self, symbol: str, client_order_id: str) -> AsyncGenerator[event_pb2.Event]:
        """Every stored event of one order, in order, without reading those of others."""
        names = [subject(kind, *self._owner, symbol, client_order_id) for kind in (Kind.ORDER, Kind.FILL)]
        async with aclosing(self._bus.replay(EVENT_STREAM, names)) as stored:
            events = sorted([decode_event(message) async for message in stored], key=lambda event: event.sequence)
        for event in events:
            yield event

    async def _read(self, message: StoredMessage) -> event_pb2.Event:
        try:
            return decode_event(message)
        except JournalUnavailable as error:
            if self._dead_letters is not None:
                await self._dead_letters.bury(
                    Unhandled(
                        name=(EVENT_STREAM, str(message.sequence)),
                        subject=message.subject,
                        payload=message.payload,
                        error=error.message,
                        source_stream=EVENT_STREAM,
                        source_sequence=message.sequence,
                    )
                )
            raise

    async def _original(self, sequence: int) -> StoredMessage | None:
        """The first message at this stream sequence or later that nobody put back: its number fits its place."""
        stored = await self._bus.next_at(EVENT_STREAM, self._filter, sequence)
        while stored is not None and is_requeued(stored.headers):
            stored = await self._bus.next_at(EVENT_STREAM, self._filter, stored.sequence + 1)
        return stored

    async def _before_first(self) -> int:
        """The number to begin behind when everything kept is read."""
        first = await self.first_sequence()
        # A resend can have put the account's very first events out of order; later than that, older ones have expired.
        return 0 if first <= _REORDER_WINDOW else first - 1

    async def first_sequence(self) -> int:
        """Number of the oldest event still stored; 0 when there is none."""
        stored = await self._original(1)
        return decode_event(stored).sequence if stored else 0

    async def _stream_position(self, sequence: int) -> int:
        """A stream sequence with every event behind `sequence` after it, by bisection."""
        newest = await self._bus.last(EVENT_STREAM, self._filter)
        if newest is None:
            return 0
        low, high = 0, newest.sequence
        # Invariant: all events of the account at or before stream sequence `low` have numbers <= `sequence`.
        while low < high:
            middle = (low + high) // 2
            found = await self._original(middle + 1)
            if found is None or decode_event(found).sequence > sequence:
                high = middle
            else:
                low = found.sequence
        # A resend can put an event a little before its place; a window of it is read again and filtered by number.
        return max(0, low - _REORDER_WINDOW)

    async def last_broker_time(self) -> datetime | None:
        """Broker time of the newest event; None when there is none."""
        stored = await self._bus.last(EVENT_STREAM, self._filter)
        return stored.time if stored else None


_REORDER_WINDOW = 512
INTENT_OVERLAP = timedelta(seconds=60)


def decode_event(message: StoredMessage) -> event_pb2.Event:
    """The event in a stored message.

    Raises:
        JournalUnavailable: it is not one, so the journal cannot be trusted.
    """
    try:
        return event_pb2.Event.FromString(message.payload)
    except DecodeError as error:
        raise JournalUnavailable(f"message {message.sequence} of {EVENT_STREAM} is not an event") from error


__all__ = [
    "INTENT_OVERLAP",
    "AccountHistory",
    "EventLog",
    "LogOverflow",
    "OrderJournal",
    "SubjectTaken",
    "decode_event",
    "epoch_of",
]
