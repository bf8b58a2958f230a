"""Snapshots of the fold on JetStream: a restart loads the newest that fits and folds only the log behind it.

A snapshot is written in parts into one of two slots, in turn, its first part last; each part names the whole by its
hash. So a write that was cut short, or that another aggregator wrote into, is seen as no snapshot, and the other slot
or the log itself is there. Nothing is trusted that does not fit the log: its epoch, its length, and the very message at
the snapshot's place must be the same.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from aggregator.aggregate import Aggregate
from aggregator.messages import Record, fingerprint, replayed
from aggregator.reading import BadEvent
from venuemesh.bus import Bus
from venuemesh.clock import Clock
from venuemesh.errors import JournalUnavailable
from venuemesh.metrics import Metrics
from venuemesh.subjects import EVENT_STREAM, ROOT, SNAPSHOT_STREAM, Kind, subject
from venuemesh.v1 import portfolio_state_pb2

log = logging.getLogger(__name__)

FORMAT = 1
"""Version of the fold. Raise it with every change of what the same events fold to, or of how the state is kept."""
PART_BYTES = 512 * 1024
MAX_PARTS = 128
SLOTS = 2
RECALL_MESSAGES = 4_096
RECALL_TIMEOUT_S = 5.0
SERVICE = "aggregator"
ALL_EVENTS = f"{ROOT}.>"


class BadSnapshot(Exception):
    """What is stored is no whole snapshot of this version, or not of this log; the text says why."""


def cut(state: portfolio_state_pb2.PortfolioState) -> list[portfolio_state_pb2.SnapshotPart]:
    """The parts of a snapshot.

    Raises:
        BadSnapshot: it is larger than `MAX_PARTS`.
    """
    whole = state.SerializeToString(deterministic=True)
    payloads = [whole[begin : begin + PART_BYTES] for begin in range(0, len(whole), PART_BYTES)]
    if len(payloads) > MAX_PARTS:
        raise BadSnapshot(f"{len(whole)} bytes are more than {MAX_PARTS} parts of {PART_BYTES}")
    digest = hashlib.sha256(whole).digest()
    return [
        portfolio_state_pb2.SnapshotPart(
            format=FORMAT,
            epoch=state.epoch,
            sequence=state.sequence,
            sha256=digest,
            index=index,
            count=len(payloads),
            payload=payload,
        )
        for index, payload in enumerate(payloads)
    ]


def join(parts: Sequence[portfolio_state_pb2.SnapshotPart]) -> portfolio_state_pb2.PortfolioState:
    """The snapshot that was cut into these.

    Raises:
        BadSnapshot: they are not the parts of one, or not of this version.
    """
    first = parts[0]
    if first.format != FORMAT:
        raise BadSnapshot(f"format {first.format} is not {FORMAT}")
    if len(parts) != first.count or any(
        (part.index, part.sha256) != (index, first.sha256) for index, part in enumerate(parts)
    ):
        raise BadSnapshot("its parts are of different snapshots")
    whole = b"".join(part.payload for part in parts)
    if hashlib.sha256(whole).digest() != first.sha256:
        raise BadSnapshot("its checksum is wrong")
    try:
        return portfolio_state_pb2.PortfolioState.FromString(whole)
    except DecodeError as error:
        raise BadSnapshot(f"it cannot be read: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotOptions:
    """When snapshots are written: at most every so many seconds, when so many messages were folded since the last."""

    every_s: float = 30.0
    min_messages: int = 5_000
    check_every_s: float = 1.0


class SnapshotStore:
    """Reads and writes the snapshots of one log."""

    def __init__(self, bus: Bus, clock: Clock, options: SnapshotOptions, *, metrics: Metrics) -> None:
        self._bus = bus
        self._clock = clock
        self._options = options
        self._newest_slot = SLOTS - 1
        self._saved: tuple[str, int] = ("", 0)
        self._saved_at_s: float | None = None
        self._bytes = metrics.gauge("aggregator_snapshot_bytes", "Size of the last snapshot written.")
        self._sequence = metrics.gauge("aggregator_snapshot_sequence", "Log sequence of the last snapshot.")
        self._written = metrics.counter("aggregator_snapshots", "Snapshots written.")
        self._unusable = metrics.counter("aggregator_snapshots_unusable", "Snapshots that did not fit.")

    # --- reading ---

    async def restore(self, epoch: str, make: Callable[[], Aggregate]) -> Aggregate:
        """The fold at the newest snapshot that fits the log; what `make` gives, at its beginning, when none does.

        Raises:
            JournalUnavailable: the broker does not answer.
        """
        for slot, state in await self._stored():
            aggregate = make()
            try:
                await self._require_fit(epoch, state)
                aggregate.load(state)
            except (BadSnapshot, BadEvent, ArithmeticError) as error:
                self._note_unusable(slot, error)
                continue
            await self._recall(aggregate)
            self._newest_slot, self._saved = slot, (epoch, state.sequence)
            self._saved_at_s = self._clock.monotonic_s()
            self._sequence.set(state.sequence)
            log.info("snapshot_loaded", extra={"sequence": state.sequence, "slot": slot})
            return aggregate
        return make()

    async def _stored(self) -> list[tuple[int, portfolio_state_pb2.PortfolioState]]:
        """Whole snapshots with their slots, newest first."""
        found = []
        for slot in range(SLOTS):
            try:
                state = await self._read(slot)
            except BadSnapshot as error:
                self._note_unusable(slot, error)
                continue
            if state is not None:
                found.append((slot, state))
        return sorted(found, key=lambda one: one[1].sequence, reverse=True)

    async def _read(self, slot: int) -> portfolio_state_pb2.PortfolioState | None:
        first = await self._part(slot, 0)
        if first is None:
            return None
        parts = [first]
        for index in range(1, min(first.count, MAX_PARTS)):
            part = await self._part(slot, index)
            if part is None:
                break
            parts.append(part)
        return join(parts)

    async def _part(self, slot: int, index: int) -> portfolio_state_pb2.SnapshotPart | None:
        stored = await self._bus.last(SNAPSHOT_STREAM, _subject(slot, index))
        try:
            return None if stored is None else portfolio_state_pb2.SnapshotPart.FromString(stored.payload)
        except DecodeError as error:
            raise BadSnapshot(f"part {index} cannot be read: {error}") from None

    async def _require_fit(self, epoch: str, state: portfolio_state_pb2.PortfolioState) -> None:
        if state.epoch != epoch:
            raise BadSnapshot(f"it is of epoch {state.epoch}, {epoch} is in force")
        stored = await self._bus.next_at(EVENT_STREAM, ALL_EVENTS, state.sequence)
        if stored is None or stored.sequence != state.sequence:
            raise BadSnapshot(f"the log has no message {state.sequence}")
        if fingerprint(stored.payload) != state.last_payload_sha256:
            raise BadSnapshot(f"message {state.sequence} of the log is another one")

    async def _recall(self, aggregate: Aggregate) -> None:
        """Read again what was folded shortly before, so that streams can be resumed over the restart."""
        start = aggregate.checkpoint(max(0, aggregate.sequence - min(aggregate.window, RECALL_MESSAGES)))
        if start is None:
            return
        position, sequencer = start
        records = []
        try:
            async with (
                asyncio.timeout(RECALL_TIMEOUT_S),
                aclosing(self._bus.replay(EVENT_STREAM, [ALL_EVENTS], after=position)) as messages,
            ):
                async for message in messages:
                    if message.sequence > aggregate.sequence:
                        break
                    if events := replayed(sequencer, message):
                        records.append(Record(message.sequence, tuple(events)))
        except (TimeoutError, JournalUnavailable) as error:
            # A stream that resumes from before the snapshot then begins with one.
            log.warning("recall_failed", extra={"error": repr(error)})
            return
        kept = records[-aggregate.window :]
        aggregate.recall(position if len(kept) == len(records) else records[-len(kept) - 1].sequence, kept)

    def _note_unusable(self, slot: int, error: Exception) -> None:
        self._unusable.inc()
        log.warning("snapshot_unusable", extra={"slot": slot, "cause": str(error)})

    # --- writing ---

    async def keep(self, current: Callable[[], Aggregate | None]) -> None:
        """Write snapshots until cancelled."""
        while True:
            aggregate = current()
            if aggregate is not None and self._is_due(aggregate):
                try:
                    await self.save(aggregate)
                except (BadSnapshot, JournalUnavailable) as error:
                    log.warning("snapshot_not_written", extra={"sequence": aggregate.sequence, "cause": str(error)})
                self._saved_at_s = self._clock.monotonic_s()
            await asyncio.sleep(self._options.check_every_s)

    def _is_due(self, aggregate: Aggregate) -> bool:
        epoch, sequence = self._saved
        grown = aggregate.sequence - (sequence if epoch == aggregate.epoch else 0)
        waited_s = None if self._saved_at_s is None else self._clock.monotonic_s() - self._saved_at_s
        return grown >= self._options.min_messages and (waited_s is None or waited_s >= self._options.every_s)

    async def save(self, aggregate: Aggregate) -> None:
        """Write the fold as it is now.

        Raises:
            BadSnapshot: it is too large. JournalUnavailable: the broker did not confirm it.
        """
        state = aggregate.save()
        parts = cut(state)
        slot = (self._newest_slot + 1) % SLOTS
        for part in reversed(parts):
            await self._bus.publish(_subject(slot, part.index), part.SerializeToString())
        self._newest_slot, self._saved = slot, (state.epoch, state.sequence)
        size = sum(len(part.payload) for part in parts)
        self._written.inc()
        self._bytes.set(size)
        self._sequence.set(state.sequence)
        log.info("snapshot_written", extra={"sequence": state.sequence, "bytes": size})


def _subject(slot: int, index: int) -> str:
    return subject(Kind.SNAPSHOT, SERVICE, str(slot), str(index))
