"""Snapshots on JetStream, kept in two slots in turn: a write that was cut short leaves the other one.

A snapshot is written in parts, its first part last; each part names the whole by its hash. So a write that did not
end, or that somebody else wrote into, is seen as no snapshot.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from venuemesh.bus import Bus
from venuemesh.subjects import SNAPSHOT_STREAM, Kind, subject
from venuemesh.v1 import portfolio_state_pb2

SLOTS = 2


class BadSnapshot(Exception):
    """What is stored is no whole snapshot of this version, or not of this log; the text says why."""


@dataclass(frozen=True, slots=True)
class StoredSnapshot:
    """What is in a slot, by its first part; whether it is whole shows when it is read."""

    slot: int
    first: portfolio_state_pb2.SnapshotPart

    @property
    def epoch(self) -> str:
        """Numbering of the log it is of."""
        return self.first.epoch

    @property
    def sequence(self) -> int:
        """Sequence in that log."""
        return self.first.sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotFormat:
    """What all parts of one kind of snapshot share.

    Args:
        version: of the fold; another version is not read.
        max_parts: bound of a snapshot.
    """

    version: int
    max_parts: int


class SnapshotSlots:
    """The snapshots of one log.

    Args:
        owner: names the log among those of all services.
        on_unusable: told the slot and why what is in it cannot be used.
    """

    def __init__(
        self, bus: Bus, *owner: str, form: SnapshotFormat, on_unusable: Callable[[int, BadSnapshot], None]
    ) -> None:
        self._bus = bus
        self._owner = owner
        self._form = form
        self._on_unusable = on_unusable
        self._newest_slot = SLOTS - 1

    async def stored(self) -> list[StoredSnapshot]:
        """What is in the slots, newest first.

        Raises:
            JournalUnavailable: the broker does not answer.
        """
        found = []
        for slot in range(SLOTS):
            try:
                first = await self._part(slot, 0)
            except BadSnapshot as error:
                self._on_unusable(slot, error)
                continue
            if first is not None:
                found.append(StoredSnapshot(slot, first))
        return sorted(found, key=lambda one: one.sequence, reverse=True)

    async def read(self, snapshot: StoredSnapshot) -> list[bytes]:
        """The payloads as they were written.

        Raises:
            BadSnapshot: it is not whole, or of another version.
            JournalUnavailable: the broker does not answer.
        """
        parts = [snapshot.first]
        for index in range(1, min(snapshot.first.count, self._form.max_parts)):
            part = await self._part(snapshot.slot, index)
            if part is None:
                break
            parts.append(part)
        return await asyncio.to_thread(join, self._form, parts)

    def use(self, slot: int) -> None:
        """Spare the snapshot in this slot at the next write."""
        self._newest_slot = slot

    async def write(self, epoch: str, sequence: int, payloads: Sequence[bytes]) -> int:
        """Store a snapshot over the older one; returns its bytes.

        Raises:
            BadSnapshot: it is too large.
            JournalUnavailable: the broker did not confirm it.
        """
        slot = (self._newest_slot + 1) % SLOTS
        # In a thread, as in reading: hashing tens of megabytes would hold up the loop.
        for part in reversed(await asyncio.to_thread(cut, self._form, epoch, sequence, payloads)):
            await self._bus.publish(self._subject(slot, part.index), part.SerializeToString())
        self._newest_slot = slot
        return sum(map(len, payloads))

    async def _part(self, slot: int, index: int) -> portfolio_state_pb2.SnapshotPart | None:
        stored = await self._bus.last(SNAPSHOT_STREAM, self._subject(slot, index))
        try:
            return None if stored is None else portfolio_state_pb2.SnapshotPart.FromString(stored.payload)
        except DecodeError as error:
            raise BadSnapshot(f"part {index} cannot be read: {error}") from None

    def _subject(self, slot: int, index: int) -> str:
        return subject(Kind.SNAPSHOT, *self._owner, str(slot), str(index))


def cut(
    form: SnapshotFormat, epoch: str, sequence: int, payloads: Sequence[bytes]
) -> list[portfolio_state_pb2.SnapshotPart]:
    """The parts of a snapshot, one for each payload.

    Raises:
        BadSnapshot: they are too many.
    """
    if len(payloads) > form.max_parts:
        raise BadSnapshot(f"{sum(map(len, payloads))} bytes are more than {form.max_parts} parts")
    sha256 = _sha256(payloads)
    return [
        portfolio_state_pb2.SnapshotPart(
            format=form.version,
            epoch=epoch,
            sequence=sequence,
            sha256=sha256,
            index=index,
            count=len(payloads),
            payload=payload,
        )
        for index, payload in enumerate(payloads)
    ]


def join(form: SnapshotFormat, parts: Sequence[portfolio_state_pb2.SnapshotPart]) -> list[bytes]:
    """The payloads that were cut into these.

    Raises:
        BadSnapshot: they are not the parts of one, or not of this version.
    """
    first = parts[0]
    if first.format != form.version:
        raise BadSnapshot(f"format {first.format} is not {form.version}")
    if len(parts) != first.count or any(
        (part.index, part.sha256) != (index, first.sha256) for index, part in enumerate(parts)
    ):
        raise BadSnapshot("its parts are of different snapshots")
    payloads = [part.payload for part in parts]
    if _sha256(payloads) != first.sha256:
        raise BadSnapshot("its checksum is wrong")
    return payloads


def _sha256(payloads: Sequence[bytes]) -> bytes:
    digest = hashlib.sha256()
    for payload in payloads:
        digest.update(payload)
    return digest.digest()
