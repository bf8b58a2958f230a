"""Reads the audit trail back, newest first.

The broker reads forwards only, so the trail is read in blocks from its end. Entries are stored as their requests end,
and a request ends within `SPREAD_S` of its beginning: that bounds where a range of request times can lie. A page looks
at a bounded number of stored entries; one that finds few is short and says where the next goes on.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import DecodeError

from venuemesh.bus import Bus
from venuemesh.errors import JournalUnavailable
from venuemesh.gateway.audit_entry import SEVERAL, is_about
from venuemesh.gateway.order_wire import nanoseconds
from venuemesh.subjects import AUDIT_STREAM, ROOT, Kind, token
from venuemesh.v1 import operations_pb2

BLOCK: Final = 500
"""Stored entries read at once; where few match the broker's filter, more of the stream is covered at once."""
MAX_LOOKED: Final = 10_000
MAX_BLOCKS: Final = 40
SPREAD_S: Final = 300
_NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditQuery:
    """Which entries are wanted; empty and None take all. Times are half-open, in nanoseconds."""

    account_id: str = ""
    order_id: str = ""
    outcome: operations_pb2.AuditOutcome.ValueType = operations_pb2.AUDIT_OUTCOME_UNSPECIFIED
    from_ns: int = 0
    to_ns: int | None = None

    def takes(self, entry: operations_pb2.AuditEntry) -> bool:
        """Whether an entry is wanted."""
        at_ns = nanoseconds(entry.request_time)
        return (
            (not self.account_id or entry.account_id == self.account_id)
            and (not self.order_id or is_about(entry, self.order_id))
            and (not self.outcome or entry.outcome == self.outcome)
            and at_ns >= self.from_ns
            and (self.to_ns is None or at_ns < self.to_ns)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPage:
    """Entries, newest first; `before` is where the next page goes on, 0 at the end."""

    entries: tuple[operations_pb2.AuditEntry, ...]
    before: int


class AuditReader:
    """The stored trail of one venue. Every method raises JournalUnavailable when the broker does not answer."""

    def __init__(self, bus: Bus, venue: str, *, block: int = BLOCK, max_looked: int = MAX_LOOKED) -> None:
        self._bus = bus
        self._venue = venue
        self._block = block
        self._max_looked = max_looked

    async def page(self, query: AuditQuery, size: int, *, before: int = 0) -> AuditPage:
        """At most `size` entries stored before stream sequence `before`; 0 begins at the newest."""
        filters, first = self._filters(query), await self._bus.next_at(AUDIT_STREAM, self._everything, 1)
        if first is None:
            return AuditPage(entries=(), before=0)
        high, span, looked = before or await self._end(query), self._block, 0
        found: list[tuple[int, operations_pb2.AuditEntry]] = []
        for _ in range(MAX_BLOCKS):
            low = max(0, high - 1 - span)
            block = await self._read(filters, low, high, most=4 * self._block)
            if block is None:
                span = self._block
                continue
            looked += len(block)
            found += [(place, entry) for place, entry in reversed(block) if query.takes(entry)]
            if len(found) > size:
                return AuditPage(entries=tuple(entry for _, entry in found[:size]), before=found[size - 1][0])
            if low < first.sequence or _is_past(block, query):
                return AuditPage(entries=tuple(entry for _, entry in found), before=0)
            high = low + 1
            span = span * 4 if len(block) < self._block // 4 else self._block
            if looked >= self._max_looked:
                break
        return AuditPage(entries=tuple(entry for _, entry in found), before=high)

    @property
    def _everything(self) -> str:
        return f"{ROOT}.{Kind.AUDIT}.{token(self._venue)}.>"

    def _filters(self, query: AuditQuery) -> list[str]:
        account = token(query.account_id) if query.account_id else "*"
        prefix = f"{ROOT}.{Kind.AUDIT}.{token(self._venue)}.{account}"
        if not query.order_id:
            return [f"{prefix}.>"]
        return [f"{prefix}.{token(query.order_id)}", f"{prefix}.{SEVERAL}"]

    async def _end(self, query: AuditQuery) -> int:
        """A stream sequence with every wanted entry before it."""
        newest = await self._bus.last(AUDIT_STREAM, self._everything)
        low, high = 0, newest.sequence + 1 if newest else 1
        if query.to_ns is None:
            return high
        limit_ns = query.to_ns + SPREAD_S * _NS_PER_S
        # Invariant: no wanted entry lies at or behind `high`.
        while low + 1 < high:
            middle = (low + high) // 2
            stored = await self._bus.next_at(AUDIT_STREAM, self._everything, middle)
            if stored is None or nanoseconds(_entry(stored.payload, stored.sequence).request_time) >= limit_ns:
                high = middle
            else:
                low = stored.sequence
        return high

    async def _read(
        self, filters: list[str], low: int, high: int, *, most: int
    ) -> list[tuple[int, operations_pb2.AuditEntry]] | None:
        """Entries with stream sequences in (low, high), oldest first; None when there are more than `most`."""
        block: list[tuple[int, operations_pb2.AuditEntry]] = []
        async with aclosing(self._bus.replay(AUDIT_STREAM, filters, after=low)) as stored:
            async for message in stored:
                if message.sequence >= high:
                    break
                if len(block) == most and high - low - 1 > self._block:
                    return None
                block.append((message.sequence, _entry(message.payload, message.sequence)))
        return block


def _is_past(block: list[tuple[int, operations_pb2.AuditEntry]], query: AuditQuery) -> bool:
    """Whether everything before this block began before the range."""
    limit_ns = query.from_ns - SPREAD_S * _NS_PER_S
    return bool(block) and nanoseconds(block[0][1].request_time) < limit_ns


def _entry(payload: bytes, sequence: int) -> operations_pb2.AuditEntry:
    try:
        return operations_pb2.AuditEntry.FromString(payload)
    except DecodeError as error:
        raise JournalUnavailable(f"message {sequence} of {AUDIT_STREAM} is no audit entry") from error
