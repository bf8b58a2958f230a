"""Snapshots of the fold on JetStream: a restart loads the newest that fits and folds only the log behind it.

Nothing is trusted that does not fit the log: its epoch, its length, and the very message at the snapshot's place must
be the same. What does not fit is passed over: the other slot and the log itself are there.
"""

from __future__ import annotations

import asyncio
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
from venuemesh.snapshot_slots import BadSnapshot, SnapshotFormat, SnapshotSlots
from venuemesh.subjects import EVENT_STREAM, ROOT
from venuemesh.v1 import portfolio_state_pb2

log = logging.getLogger(__name__)

FORMAT = 1
"""Version of the fold. Raise it with every change of what the same events fold to, or of how the state is kept."""
PART_BYTES = 512 * 1024
FORM = SnapshotFormat(version=FORMAT, max_parts=128)
RECALL_MESSAGES = 4_096
RECALL_TIMEOUT_S = 5.0
SERVICE = "aggregator"
ALL_EVENTS = f"{ROOT}.>"


def encode(state: portfolio_state_pb2.PortfolioState) -> list[bytes]:
    """A snapshot in payloads of at most `PART_BYTES`."""
    whole = state.SerializeToString(deterministic=True)
    return [whole[begin : begin + PART_BYTES] for begin in range(0, len(whole), PART_BYTES)]


def decode(payloads: Sequence[bytes]) -> portfolio_state_pb2.PortfolioState:
    """The snapshot in these payloads.

    Raises:
        BadSnapshot: they are none.
    """
    try:
        return portfolio_state_pb2.PortfolioState.FromString(b"".join(payloads))
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
        self._slots = SnapshotSlots(bus, SERVICE, form=FORM, on_unusable=self._note_unusable)
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
        for snapshot in await self._slots.stored():
            aggregate = make()
            try:
                state = decode(await self._slots.read(snapshot))
                await self._require_fit(epoch, state)
                aggregate.load(state)
            except (BadSnapshot, BadEvent, ArithmeticError) as error:
                self._note_unusable(snapshot.slot, error)
                continue
            await self._recall(aggregate)
            self._slots.use(snapshot.slot)
            self._saved = (epoch, state.sequence)
            self._saved_at_s = self._clock.monotonic_s()
            self._sequence.set(state.sequence)
            log.info("snapshot_loaded", extra={"sequence": state.sequence, "slot": snapshot.slot})
            return aggregate
        return make()

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
        size = await self._slots.write(state.epoch, state.sequence, encode(state))
        self._saved = (state.epoch, state.sequence)
        self._written.inc()
        self._bytes.set(size)
        self._sequence.set(state.sequence)
        log.info("snapshot_written", extra={"sequence": state.sequence, "bytes": size})
