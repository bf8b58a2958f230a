"""Follows the event log into an `Aggregate`: catching up, gap repair, dead letters, the broker away and back.

A log that was made anew (its stream's creation time changed), or that lost what was folded already, ends every stream
and is folded again. A start, and that, begins at the newest snapshot that fits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass

from opentelemetry.trace import SpanKind

from aggregator.aggregate import Aggregate
from aggregator.messages import Refusal, decode, replayed
from aggregator.reading import BadEvent
from aggregator.sequencing import Gap
from aggregator.snapshots import SnapshotStore
from venuemesh.bus import Bus, StreamState
from venuemesh.clock import Clock
from venuemesh.dead_letters import DeadLetters, Unhandled
from venuemesh.errors import JournalUnavailable, ResumeExpired
from venuemesh.follower import StoredMessage
from venuemesh.journal import epoch_of
from venuemesh.metrics import Metrics
from venuemesh.stream_queue import Entry
from venuemesh.subjects import EVENT_STREAM, ROOT, StreamSpec, account_filter, family
from venuemesh.telemetry import Tracing, extract
from venuemesh.v1 import event_pb2, stream_pb2

log = logging.getLogger(__name__)

SERVICE = "aggregator"
ALL_EVENTS = f"{ROOT}.>"
BREATHE_EVERY = 64
REPAIR_TIMEOUT_S = 5.0
MAX_DEAD_LETTERS = 1_000
RETRY_WAIT_S = 0.25
CANCEL_AGAIN_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedOptions:
    """Bounds of the feed.

    Args:
        away_after_s: the broker unreachable, or the fold behind it without moving, for longer than this makes the
            service NOT_SERVING and the portfolio say so.
        check_every_s: how often the fold is compared with the log.
        resume_window, max_views: see `Aggregate`.
    """

    away_after_s: float = 5.0
    check_every_s: float = 0.5
    resume_window: int = 20_000
    max_views: int = 256


class EventFeed:
    """Run `run` for as long as the service lives; everything else is synchronous.

    Args:
        specs: streams to make again when the broker lost them.
        snapshots: where a start finds the state; None folds the log from its beginning.
        tracing: records the fold of an event in the trace that its message carries; nothing when None.
    """

    def __init__(
        self,
        bus: Bus,
        clock: Clock,
        options: FeedOptions,
        *,
        specs: Sequence[StreamSpec],
        metrics: Metrics,
        snapshots: SnapshotStore | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        self.ready = asyncio.Event()
        """Set once the fold has caught up with the log for the first time."""
        self.dead_letters = DeadLetters(bus, clock, handler=SERVICE)
        self._bus = bus
        self._clock = clock
        self._options = options
        self._specs = specs
        self._snapshots = snapshots
        self._tracing = tracing if tracing is not None and tracing.recording else None
        self._aggregate: Aggregate | None = None
        self._caught_up = False
        self._serving = False
        self._away_since_ns: int | None = None
        self._away_since_s = 0.0
        self._checked = 0
        self._refusals: asyncio.Queue[tuple[str, Refusal]] = asyncio.Queue(MAX_DEAD_LETTERS)
        self._changed = asyncio.Event()
        self._replaced = asyncio.Event()
        self._lag = metrics.gauge("aggregator_lag", "Log messages not folded yet, as of the last check.")
        self._queue = metrics.gauge("aggregator_queue", "Log messages waiting behind the last one folded.")
        self._delay = metrics.gauge("aggregator_delay_seconds", "Age of the last message when it was folded.")
        self._messages = metrics.counter("aggregator_messages", "Log messages folded.")
        self._refused = metrics.counter("aggregator_refused", "Log messages and gaps given to the dead letters.")
        self._repaired = metrics.counter("aggregator_repaired", "Missing events found by reading the log again.")

    @property
    def serving(self) -> bool:
        """Whether the fold is current with the log."""
        return self._serving

    @property
    def aggregate(self) -> Aggregate | None:
        """The fold now in force; None before the log was found."""
        return self._aggregate

    def current(self) -> Aggregate:
        """The fold, once it has caught up; later on also while the broker is away, when it says so itself.

        Raises:
            JournalUnavailable: the log has not been read to its end yet.
        """
        if self._aggregate is None or not self._caught_up:
            raise JournalUnavailable("the portfolio is being rebuilt from the event log", retry_after_s=1.0)
        return self._aggregate

    def link_state(self) -> stream_pb2.LinkState.ValueType:
        """Worst state of what a stream of the portfolio depends on."""
        if not self._serving or self._aggregate is None:
            return stream_pb2.LINK_STATE_DOWN
        return self._aggregate.portfolio.link_state()

    async def wait_changed(self) -> None:
        """Return when `serving` may have changed."""
        await self._changed.wait()
        self._changed.clear()

    async def run(self) -> None:
        """Follow until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            pumps = [
                tasks.create_task(self._follow(), name="event-log"),
                tasks.create_task(self._watch(), name="event-log-watch"),
                tasks.create_task(self._bury(), name="dead-letters"),
            ]
            if self._snapshots is not None:
                keep = self._snapshots.keep(lambda: self._aggregate)
                pumps.append(tasks.create_task(keep, name="snapshots"))
            try:
                await asyncio.Event().wait()
            finally:
                await _stop(pumps)

    # --- reading ---

    async def _follow(self) -> None:
        while True:
            epoch = await self._find_log()
            self._caught_up = False
            self._aggregate = await self._begin(epoch)
            self._replaced.clear()
            async with asyncio.TaskGroup() as tasks:
                reader = tasks.create_task(self._read(self._aggregate), name="event-log-reader")
                try:
                    await self._replaced.wait()
                finally:
                    await _stop([reader])
            log.error("event_log_replaced", extra={"epoch": epoch})
            self._set_serving(False)
            self._aggregate.end_streams()

    async def _begin(self, epoch: str) -> Aggregate:
        options = self._options

        def make() -> Aggregate:
            return Aggregate(self._clock, epoch, resume_window=options.resume_window, max_views=options.max_views)

        while self._snapshots is not None:
            try:
                return await self._snapshots.restore(epoch, make)
            except JournalUnavailable as error:
                log.info("snapshots_not_read", extra={"error": error.message})
                await asyncio.sleep(RETRY_WAIT_S)
        return make()

    async def _find_log(self) -> str:
        while True:
            try:
                return epoch_of(await self._bus.stream_created(EVENT_STREAM))
            except JournalUnavailable as error:
                log.info("event_log_not_found", extra={"error": error.message})
                await asyncio.sleep(RETRY_WAIT_S)

    async def _read(self, aggregate: Aggregate) -> None:
        while True:
            try:
                async with self._bus.follow(EVENT_STREAM, [ALL_EVENTS], after=aggregate.sequence) as follower:
                    if not follower.backlog:
                        self._note_caught_up()
                    async for batch in follower.batches():
                        await self._take_all(aggregate, batch)
                        if not batch[-1].pending:
                            self._note_caught_up()
            except JournalUnavailable as error:
                log.info("event_log_away", extra={"error": error.message})
                await asyncio.sleep(RETRY_WAIT_S)

    async def _take_all(self, aggregate: Aggregate, batch: Sequence[StoredMessage]) -> None:
        for count, message in enumerate(batch, start=1):
            await self._take(aggregate, message)
            if not count % BREATHE_EVERY:
                # A full batch would otherwise keep readers of streams waiting.
                await asyncio.sleep(0)
        await asyncio.sleep(0)
        self._messages.inc(len(batch))
        self._queue.set(batch[-1].pending)
        if batch[-1].time_ns:
            self._delay.set(max(0.0, (self._clock.now_ns() - batch[-1].time_ns) / 1e9))

    async def _take(self, aggregate: Aggregate, message: StoredMessage) -> None:
        # A fold of old messages is no part of the calls that made them.
        if self._tracing is not None and self._caught_up and (parent := extract(message.headers)) is not None:
            with self._tracing.span(f"fold {family(message.subject)}", parent=parent, kind=SpanKind.CONSUMER):
                await self._fold(aggregate, message)
        else:
            await self._fold(aggregate, message)

    async def _fold(self, aggregate: Aggregate, message: StoredMessage) -> None:
        found: list[event_pb2.Event] = []
        for gap in aggregate.overdue(message):
            found += await self._look_again(gap, message.sequence)
        for refusal in aggregate.take(message, found):
            self._refuse(aggregate.epoch, refusal)

    async def _look_again(self, gap: Gap, below: int) -> list[event_pb2.Event]:
        """What is missing, if the log has it after all between its predecessor and here."""
        found = []
        try:
            async with (
                asyncio.timeout(REPAIR_TIMEOUT_S),
                aclosing(self._bus.replay(EVENT_STREAM, [account_filter(*gap.key)], after=gap.behind)) as messages,
            ):
                async for message in messages:
                    if message.sequence >= below:
                        break
                    with suppress(BadEvent):
                        event = decode(message)
                        if event.epoch == gap.epoch and gap.first <= event.sequence <= gap.last:
                            found.append(event)
        except (TimeoutError, JournalUnavailable) as error:
            log.warning("gap_repair_failed", extra={"gap": str(gap), "error": repr(error)})
        self._repaired.inc(len(found))
        log.warning("gap_overdue", extra={"account": "/".join(gap.key), "gap": str(gap), "found": len(found)})
        return found

    def _note_caught_up(self) -> None:
        if not self._caught_up:
            self._caught_up = True
            self.ready.set()
            self._set_serving(True)

    # --- resume from the log ---

    async def stored_from(self, after: int) -> bool:
        """Whether the log still has everything behind `after`.

        Raises:
            JournalUnavailable: the broker does not answer.
        """
        following = await self._bus.next_at(EVENT_STREAM, ALL_EVENTS, after + 1)
        return following is None or following.sequence == after + 1

    async def event_history(
        self, aggregate: Aggregate, after: int, up_to: int
    ) -> AsyncIterator[Entry[event_pb2.Event]]:
        """Events behind `after`: all that are in memory when those are, else up to `up_to` from the log."""
        if aggregate.remembers(after):
            async for entry in aggregate.event_history(after, up_to):
                yield entry
            return
        start = aggregate.checkpoint(after)
        if start is None:
            raise ResumeExpired(f"the log does not reach back to {after}")
        position, sequencer = start
        async with aclosing(self._bus.replay(EVENT_STREAM, [ALL_EVENTS], after=position)) as messages:
            async for message in messages:
                if message.sequence > up_to:
                    break
                events = replayed(sequencer, message)
                if message.sequence > after:
                    for index, event in enumerate(events):
                        yield Entry(event, message.sequence, partial=index < len(events) - 1)

    # --- health ---

    async def _watch(self) -> None:
        while True:
            try:
                await self._check()
            except JournalUnavailable as error:
                log.debug("event_log_check_failed", extra={"error": error.message})
                self._note_away(str(error.message))
            await asyncio.sleep(self._options.check_every_s)

    async def _check(self) -> None:
        aggregate = self._aggregate
        if not self._bus.connected:
            raise JournalUnavailable("NATS is not connected")
        if aggregate is None or not self._caught_up:
            return
        folded = aggregate.sequence
        state = await self._log_state()
        if epoch_of(state.created) != aggregate.epoch:
            self._replace("the event log was made anew")
            return
        if state.last_sequence < folded:
            # A broker that lost its disk's last writes gives the same numbers to other messages.
            self._replace(f"the event log ends at {state.last_sequence}, {folded} was folded already")
            return
        lag = state.last_sequence - aggregate.sequence
        self._lag.set(max(lag, 0))
        moved, self._checked = aggregate.sequence > self._checked, aggregate.sequence
        if lag > 0 and not moved:
            self._note_away(f"the fold is {lag} messages behind and does not move")
        else:
            self._note_back(aggregate)

    def _replace(self, cause: str) -> None:
        self._note_away(cause)
        self._replaced.set()

    async def _log_state(self) -> StreamState:
        try:
            return await self._bus.stream_state(EVENT_STREAM)
        except JournalUnavailable:
            # A broker that lost its disk has no streams; gateways and we make them again.
            await self._bus.ensure_streams(self._specs)
            raise

    def _note_away(self, cause: str) -> None:
        now_s = self._clock.monotonic_s()
        if self._away_since_ns is None:
            self._away_since_ns, self._away_since_s = self._clock.now_ns(), now_s
        if self._serving and now_s - self._away_since_s >= self._options.away_after_s:
            log.warning("event_log_lost", extra={"cause": cause})
            self._set_serving(False)
            if self._aggregate is not None:
                self._aggregate.set_log_away(self._away_since_ns, cause)

    def _note_back(self, aggregate: Aggregate) -> None:
        self._away_since_ns = None
        if not self._serving:
            log.info("event_log_back", extra={"sequence": aggregate.sequence})
            aggregate.set_log_away(None)
            self._set_serving(True)

    def _set_serving(self, serving: bool) -> None:
        self._serving = serving
        self._changed.set()

    # --- dead letters ---

    def _refuse(self, epoch: str, refusal: Refusal) -> None:
        self._refused.inc()
        log.error("event_refused", extra={"sequence": refusal.sequence, "error": refusal.error})
        try:
            self._refusals.put_nowait((epoch, refusal))
        except asyncio.QueueFull:
            # The message stays in the log: the next start finds it again.
            log.error("dead_letter_not_queued", extra={"sequence": refusal.sequence})

    async def _bury(self) -> None:
        while True:
            epoch, refusal = await self._refusals.get()
            # One name per refusal, so that neither a restart nor a second aggregator writes it again.
            unhandled = Unhandled(
                name=(epoch, str(refusal.sequence), refusal.name),
                subject=refusal.subject,
                payload=refusal.payload,
                error=refusal.error,
                source_stream=EVENT_STREAM,
                source_sequence=refusal.sequence,
            )
            while True:
                try:
                    await self.dead_letters.bury(unhandled)
                except JournalUnavailable:
                    await asyncio.sleep(RETRY_WAIT_S)
                else:
                    break


async def _stop(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel until they end.

    Once is not enough: `asyncio.wait_for`, which the NATS client waits with, loses a cancellation that comes together
    with its result (fixed in Python 3.12).
    """
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=CANCEL_AGAIN_S)
