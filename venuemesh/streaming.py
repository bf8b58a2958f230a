"""Server streams of the mesh: publish once, and each reader gets acknowledgement, snapshot, changes, heartbeats,
closing notice.

    topic: Topic[Event] = Topic(clock, epoch=epoch, sequence=last)
    topic.publish(event, sequence=7, key=symbol)                       # the producer: synchronous, never waits

    async def StreamThings(self, request, context):                    # the servicer
        terms = parse_stream_options(request.options, EVENTS)
        plan = StreamPlan(terms=terms, method=METHOD, peer=context.peer(), snapshot=self._snapshot)
        async with aclosing(self._hub.serve(topic, plan, respond)) as messages:
            async for message in messages:
                yield message

A slow reader affects itself only: its queue overflows and its stream ends with SLOW_CONSUMER and the position to
resume after. A resuming reader gets the history behind its position and then the live messages, none lost and none
doubled, provided the history is complete up to the topic's number at the time it ends.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Hashable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from google.protobuf.message import Message

from venuemesh.clock import Clock
from venuemesh.draining import Drain
from venuemesh.metrics import Metrics
from venuemesh.stream_metrics import StreamMetrics
from venuemesh.stream_options import StreamTerms
from venuemesh.stream_queue import DEFAULT_CAPACITY, Entry, StreamQueue
from venuemesh.v1 import operations_pb2, stream_pb2

T = TypeVar("T")
R = TypeVar("R", bound=Message)

Control = stream_pb2.StreamAcknowledgement | stream_pb2.StreamHeartbeat | stream_pb2.StreamClosing
Respond = Callable[[stream_pb2.StreamHeader, Any], R]
"""Makes a service's own message of a header and a body: a `Control` message or a published value."""
Pause = Callable[[asyncio.Event, float], Awaitable[None]]
"""Returns when the event is set or the seconds are over."""

MAX_CATCH_UP_ROUNDS = 16
HISTORY_STALL_S = 10.0
RECONNECT_AFTER_MS = {stream_pb2.CLOSING_REASON_DRAINING: 1_000, stream_pb2.CLOSING_REASON_SOURCE_LOST: 1_000}

_CONTROL_FIELDS: dict[type[Message], str] = {
    stream_pb2.StreamAcknowledgement: "acknowledgement",
    stream_pb2.StreamHeartbeat: "heartbeat",
    stream_pb2.StreamClosing: "closing",
    stream_pb2.StreamStatus: "status",
}


def responder(response: type[R], fields: Callable[[T], dict[str, Any]]) -> Respond[R]:
    """The `Respond` of a response type whose control messages have their usual field names.

    Args:
        fields: the field and message a published value becomes, such as `lambda trade: {"trade": trade}`.
            A published `StreamStatus` goes to `status` by itself.
    """

    def respond(header: stream_pb2.StreamHeader, body: Any) -> R:
        name = _CONTROL_FIELDS.get(type(body))
        return response(header=header, **({name: body} if name is not None else fields(body)))

    return respond


async def wait_at_most(event: asyncio.Event, seconds: float) -> None:
    """The `Pause` of real time."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


class Subscription(Generic[T]):
    """One reader of a topic: what it wants and what waits for it.

    Args:
        keys: entry keys it wants; None for all. Entries without a key reach everybody.
        accepts: a further test of the value.
    """

    def __init__(
        self,
        clock: Clock,
        queue: StreamQueue[T],
        *,
        keys: Collection[Hashable] | None = None,
        accepts: Callable[[T], bool] | None = None,
        method: str = "",
        peer: str = "",
    ) -> None:
        self.stream_id = uuid.uuid4().hex
        self.method = method
        self.peer = peer
        self.connected_ns = clock.now_ns()
        self.keys: set[Hashable] | None = None if keys is None else set(keys)
        self.queue = queue
        self.sent = 0
        self.wakeup = asyncio.Event()
        self.ended: stream_pb2.ClosingReason.ValueType | None = None
        self._accepts = accepts
        self._clock = clock

    def wants(self, entry: Entry[T]) -> bool:
        """Whether `entry` is for this reader."""
        if self.keys is not None and entry.key is not None and entry.key not in self.keys:
            return False
        return self._accepts is None or self._accepts(entry.value)

    def offer(self, entry: Entry[T]) -> None:
        """Queue `entry` for this reader alone, if it wants it: also the snapshot of a key added later."""
        if self.ended is None and self.wants(entry) and self.queue.put(entry, self._clock.monotonic_s()):
            self.wakeup.set()

    def end(self, reason: stream_pb2.ClosingReason.ValueType) -> None:
        """Close the stream once what is queued was sent; the first reason given counts."""
        if self.ended is None:
            self.ended = reason
            self.wakeup.set()

    def describe(self) -> operations_pb2.Subscriber:
        """The reader as OperationsService.ListSubscribers shows it."""
        subscriber = operations_pb2.Subscriber(
            stream_id=self.stream_id,
            method=self.method,
            peer=self.peer,
            queue_length=len(self.queue),
            sent_count=self.sent,
            conflated_count=self.queue.conflated,
        )
        subscriber.connected_time.FromNanoseconds(self.connected_ns)
        return subscriber


class Topic(Generic[T]):
    """Where a producer publishes; every attached subscription gets what it wants of it.

    Args:
        epoch: names the numbering of `sequence`; empty where each stream numbers itself.
        sequence: number of the state before the first publish.
    """

    def __init__(self, clock: Clock, *, epoch: str = "", sequence: int = 0) -> None:
        self.epoch = epoch
        self.sequence = sequence
        """Number of the state that everything published so far leads to."""
        self._clock = clock
        self._subscriptions: dict[str, Subscription[T]] = {}
        self._of_key: dict[Hashable, dict[str, Subscription[T]]] = {}
        self._of_all_keys: dict[str, Subscription[T]] = {}

    def __len__(self) -> int:
        return len(self._subscriptions)

    def publish(
        self, value: T, *, sequence: int = 0, key: Hashable = None, slot: Hashable = None, partial: bool = False
    ) -> Entry[T]:
        """Hand `value` to every reader that wants it; cannot block or fail whatever the readers do.

        Args:
            sequence: at least that of the message before; 0 where each stream numbers itself.
            key: what readers select by; None reaches all.
            slot: names the state that this one replaces; None when each message counts.
            partial: see `Entry`; the rest must be published before anything else runs.
        """
        entry = Entry(value, sequence, self._clock.now_ns(), key, slot, partial)
        self.sequence = max(self.sequence, sequence)
        if key is None:
            for subscription in self._subscriptions.values():
                subscription.offer(entry)
            return entry
        for subscription in self._of_all_keys.values():
            subscription.offer(entry)
        for subscription in self._of_key.get(key, {}).values():
            subscription.offer(entry)
        return entry

    def advance(self, sequence: int) -> None:
        """Note that the source moved on to `sequence` with nothing to publish."""
        self.sequence = max(self.sequence, sequence)

    def attach(self, subscription: Subscription[T]) -> None:
        """From now on `subscription` gets what is published."""
        self._subscriptions[subscription.stream_id] = subscription
        if subscription.keys is None:
            self._of_all_keys[subscription.stream_id] = subscription
        else:
            self.add_keys(subscription, tuple(subscription.keys))

    def detach(self, subscription: Subscription[T]) -> None:
        """Stop that; allowed for one that is not attached."""
        self._subscriptions.pop(subscription.stream_id, None)
        self._of_all_keys.pop(subscription.stream_id, None)
        for key in subscription.keys or ():
            self._forget(subscription, key)

    def add_keys(self, subscription: Subscription[T], keys: Iterable[Hashable]) -> None:
        """Let an attached reader of keys have these too; `subscription.offer` gives it their snapshots."""
        assert subscription.keys is not None, "it has all keys"
        for key in keys:
            subscription.keys.add(key)
            self._of_key.setdefault(key, {})[subscription.stream_id] = subscription

    def remove_keys(self, subscription: Subscription[T], keys: Iterable[Hashable]) -> None:
        """The reverse; what is queued already is still sent."""
        assert subscription.keys is not None, "it has all keys"
        for key in keys:
            subscription.keys.discard(key)
            self._forget(subscription, key)

    def _forget(self, subscription: Subscription[T], key: Hashable) -> None:
        readers = self._of_key.get(key)
        if readers is not None:
            readers.pop(subscription.stream_id, None)
            if not readers:
                del self._of_key[key]

    def end(self, reason: stream_pb2.ClosingReason.ValueType = stream_pb2.CLOSING_REASON_SOURCE_LOST) -> None:
        """Close every stream of this topic."""
        for subscription in self._subscriptions.values():
            subscription.end(reason)


@dataclass(frozen=True, kw_only=True)  # no slots: Python 3.11 cannot make `StreamPlan[T](...)` of a frozen slotted one
class StreamPlan(Generic[T]):
    """How one stream is to be served.

    Args:
        terms: from `parse_stream_options`.
        method: full method name. `peer`: `context.peer()`. Both for ListSubscribers.
        keys, accepts: see `Subscription`; they apply to history and live messages, not to the snapshot.
        results: one per requested subscription.
        snapshot: called once, in the same instant the reader is attached; its entries are sent first. The iterable
            must not read changing state later.
        history: called with (after, up to): entries numbered above `after`, in order, complete at least up to the
            second number. Given only when resuming; `resume_after` of the terms is where it begins.
        resume_outcome, resume_note: for the acknowledgement.
        merge: see `StreamQueue`.
        resumable: whether the closing notice may carry a position.
        begins_now: there is no state to show, and the position of the first message is the topic's.
        attached: called with the reader before its first message: for a producer that has messages for it alone.
        link_state: worst state of the venue links behind the stream.
    """

    terms: StreamTerms
    method: str = ""
    peer: str = ""
    keys: Collection[Hashable] | None = None
    accepts: Callable[[T], bool] | None = None
    results: Sequence[stream_pb2.SubscriptionResult] = ()
    snapshot: Callable[[], Iterable[Entry[T]]] | None = None
    history: Callable[[int, int], AsyncIterator[Entry[T]]] | None = None
    resume_outcome: stream_pb2.ResumeOutcome.ValueType = stream_pb2.RESUME_OUTCOME_UNSPECIFIED
    resume_note: str = ""
    merge: Callable[[T, T], T] | None = None
    resumable: bool = True
    begins_now: bool = False
    attached: Callable[[Subscription[T]], None] | None = None
    link_state: Callable[[], stream_pb2.LinkState.ValueType] = lambda: stream_pb2.LINK_STATE_UNSPECIFIED


class StreamHub:
    """What all streams of a service share: clock, drain signal, bounds, and the list of readers.

    Args:
        capacity: messages that may wait for one reader.
        pause: how a stream waits; tests pass one that moves their clock.
    """

    def __init__(
        self,
        clock: Clock,
        drain: Drain,
        *,
        metrics: Metrics | None = None,
        capacity: int = DEFAULT_CAPACITY,
        pause: Pause = wait_at_most,
        history_stall_s: float = HISTORY_STALL_S,
    ) -> None:
        self.clock = clock
        self.drain = drain
        self.capacity = capacity
        self.pause = pause
        self.history_stall_s = history_stall_s
        self._subscriptions: dict[str, Subscription[Any]] = {}
        self._metrics = None if metrics is None else StreamMetrics(metrics, self)

    def __len__(self) -> int:
        return len(self._subscriptions)

    def find(self, stream_id: str) -> Subscription[Any] | None:
        """The reader of that stream, for UpdateSubscription."""
        return self._subscriptions.get(stream_id)

    def list_subscribers(self) -> list[operations_pb2.Subscriber]:
        """All readers, the longest connected first."""
        return [subscription.describe() for subscription in self._subscriptions.values()]

    def longest_queue(self) -> int:
        """Messages waiting for the slowest reader."""
        return max((len(subscription.queue) for subscription in self._subscriptions.values()), default=0)

    async def serve(self, topic: Topic[T], plan: StreamPlan[T], respond: Respond[R]) -> AsyncGenerator[R, None]:
        """The messages of one stream, from acknowledgement to closing notice.

        Close it with `contextlib.aclosing`: however it ends, the reader is detached then.
        """
        stream = _Stream(self, topic, plan, respond)
        subscription = stream.subscription
        # Nothing is attached before the first message is asked for: a generator never begun is never closed.
        self._subscriptions[subscription.stream_id] = subscription
        topic.attach(subscription)
        try:
            snapshot = plan.snapshot() if plan.snapshot is not None else ()
            if plan.begins_now:
                stream.sequence = topic.sequence
            if plan.attached is not None:
                plan.attached(subscription)
            yield stream.acknowledgement()
            messages = cast(AsyncGenerator[R, None], self.drain.until_draining(stream.messages(snapshot)))
            async with aclosing(messages):
                async for message in messages:
                    subscription.sent += 1
                    if self._metrics is not None:
                        self._metrics.sent.labels(plan.method).inc()
                    yield message
            yield stream.closing()
        finally:
            topic.detach(subscription)
            del self._subscriptions[subscription.stream_id]
            if self._metrics is not None:
                self._metrics.ended(plan.method, stream.ending, subscription.queue.conflated)


class _Stream(Generic[T, R]):
    """State of one stream being served: numbering, heartbeat timer, why it ends."""

    def __init__(self, hub: StreamHub, topic: Topic[T], plan: StreamPlan[T], respond: Respond[R]) -> None:
        self._hub = hub
        self._topic = topic
        self._plan = plan
        self._respond = respond
        queue = StreamQueue[T](capacity=hub.capacity, interval_s=plan.terms.queue_interval_s, merge=plan.merge)
        self.subscription = Subscription(
            hub.clock, queue, keys=plan.keys, accepts=plan.accepts, method=plan.method, peer=plan.peer
        )
        self.sequence = 0 if plan.history is None else (plan.terms.resume_after or 0)
        """Of the last message handed out."""
        self.ending: stream_pb2.ClosingReason.ValueType | None = None
        self._read_to = self.sequence
        # A stream with a numbering of its own names it after itself.
        self._epoch = topic.epoch or self.subscription.stream_id
        self._numbered_by_source = bool(topic.epoch)
        self._sent_s = hub.clock.monotonic_s()

    def acknowledgement(self) -> R:
        plan = self._plan
        return self._message(
            stream_pb2.StreamAcknowledgement(
                stream_id=self.subscription.stream_id,
                results=plan.results,
                resume_outcome=plan.resume_outcome,
                resume_note=plan.resume_note,
                heartbeat_interval_ms=round(plan.terms.heartbeat_s * 1_000),
            )
        )

    def closing(self) -> R:
        # The messages end without a reason of their own only when the drain closed them.
        self.ending = self.ending or stream_pb2.CLOSING_REASON_DRAINING
        body = stream_pb2.StreamClosing(reason=self.ending)
        body.reconnect_after.FromMilliseconds(RECONNECT_AFTER_MS.get(self.ending, 0))
        if self._plan.resumable and self._numbered_by_source and self.sequence:
            body.resume_after.epoch = self._epoch
            body.resume_after.sequence = self.sequence
        return self._message(body)

    async def messages(self, snapshot: Iterable[Entry[T]]) -> AsyncGenerator[R, None]:
        """Snapshot or history, then live, with heartbeats; returns with `ending` set, or is closed by the drain."""
        for entry in snapshot:
            yield self._data(entry)
        if self._plan.history is not None:
            async with aclosing(self._catch_up(self._plan.history)) as entries:
                async for entry in entries:
                    yield self._data(entry)
        subscription, queue, clock = self.subscription, self.subscription.queue, self._hub.clock
        handed_out = max(self._read_to, self.sequence)
        while not self._is_over():
            subscription.wakeup.clear()
            now_s = clock.monotonic_s()
            popped = queue.pop(now_s)
            if popped is not None:
                if not self._is_old(popped, handed_out):
                    yield self._data(popped)
                continue
            if subscription.ended is not None and not queue:
                self.ending = subscription.ended
                return
            beat_in_s = self._sent_s + self._plan.terms.heartbeat_s - now_s
            if beat_in_s <= 0:
                yield self._heartbeat()
                continue
            due_s = queue.due_in(now_s)
            await self._hub.pause(subscription.wakeup, beat_in_s if due_s is None else min(due_s, beat_in_s))

    def _is_over(self) -> bool:
        if self.subscription.queue.overflowed:
            self.ending = stream_pb2.CLOSING_REASON_SLOW_CONSUMER
        return self.ending is not None

    @staticmethod
    def _is_old(entry: Entry[T], handed_out: int) -> bool:
        """Whether history gave it already. A state beside the events may share their number, so it counts as new."""
        if not entry.sequence:
            return False
        return entry.sequence < handed_out or (entry.sequence == handed_out and entry.slot is None)

    async def _catch_up(self, history: Callable[[int, int], AsyncIterator[Entry[T]]]) -> AsyncGenerator[Entry[T], None]:
        """History up to the live point. Live messages wait in the queue meanwhile; when they become too many they
        are let go and the next round of history gives them."""
        queue = self.subscription.queue
        for _ in range(MAX_CATCH_UP_ROUNDS):
            if queue.overflowed:
                queue.restart()
            up_to = self._topic.sequence
            iterator = history(self._read_to, up_to)
            try:
                while True:
                    async with asyncio.timeout(self._hub.history_stall_s):
                        entry = await anext(iterator)
                    if not self._is_old(entry, self._read_to) and self.subscription.wants(entry):
                        yield entry
                    if not entry.partial:
                        self._read_to = max(self._read_to, entry.sequence)
            except StopAsyncIteration:
                self._read_to = max(self._read_to, up_to)
            except TimeoutError:
                self.ending = stream_pb2.CLOSING_REASON_SOURCE_LOST
                return
            finally:
                if isinstance(iterator, AsyncGenerator):
                    await iterator.aclose()
            if not queue.overflowed:
                return

    def _data(self, entry: Entry[T]) -> R:
        sequence = entry.sequence if self._numbered_by_source else self.sequence + 1
        if entry.partial:
            sequence = self.sequence
        return self._message(entry.value, sequence, entry.published_ns)

    def _heartbeat(self) -> R:
        subscription = self.subscription
        body = stream_pb2.StreamHeartbeat(
            server_unix_nanos=self._hub.clock.now_ns(),
            link_state=self._plan.link_state(),
            queue_length=len(subscription.queue),
            conflated_count=subscription.queue.conflated,
        )
        # With nothing queued, all up to the topic's number was offered to this reader: it may resume behind it.
        seen = self._topic.sequence if self._numbered_by_source and not subscription.queue else self.sequence
        return self._message(body, seen)

    def _message(self, body: Any, sequence: int = 0, published_ns: int = 0) -> R:
        number = max(sequence, self.sequence)
        header = stream_pb2.StreamHeader(
            epoch=self._epoch,
            sequence=number,
            previous_sequence=self.sequence,
            published_unix_nanos=published_ns or self._hub.clock.now_ns(),
        )
        self.sequence = number
        self._sent_s = self._hub.clock.monotonic_s()
        return self._respond(header, body)


__all__ = [
    "Entry",
    "Pause",
    "Respond",
    "StreamHub",
    "StreamPlan",
    "Subscription",
    "Topic",
    "responder",
    "wait_at_most",
]
