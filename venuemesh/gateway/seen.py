"""Which of the venue's rows - fills, ledger entries - are known, and up to when all of them are. Pure.

What a stream tells shows what is known, not that nothing is missing: after a gap the first new rows come before the
missed ones are fetched. Completeness therefore moves on only while the stream is caught up.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice
from typing import Generic, TypeVar

from venuemesh.v1 import stream_pb2
from venuemesh.v1.gateway_state_pb2 import SeenRow, SeenRows

Id = TypeVar("Id")
REMEMBERED = 20_000
"""Rows of one kind whose ids an account keeps, to tell repeats; live and when it is rebuilt."""
ROWS_PER_MESSAGE = 500


class Seen:
    """Ids of one account's rows of one kind.

    Bound: the latest `capacity` ids; a row older than a forgotten one cannot be told from a repeat and counts as old.

    Args:
        from_ns: rows before this venue time are none of ours.
    """

    def __init__(self, *, capacity: int, from_ns: int) -> None:
        self.from_ns = from_ns
        self.complete_ns = 0
        """Every row up to this venue time is known; 0 while nothing is."""
        self.caught_up = False
        self._capacity = capacity
        self._latest_ns = 0
        self._times: OrderedDict[str, int] = OrderedDict()

    def __contains__(self, row_id: str) -> bool:
        return row_id in self._times

    def __len__(self) -> int:
        return len(self._times)

    def is_old(self, venue_time_ns: int) -> bool:
        """Whether a row of this time is before our time, or may have been forgotten."""
        return venue_time_ns < self.from_ns

    def add(self, row_id: str, venue_time_ns: int) -> None:
        """A row is known from now on."""
        self._times[row_id] = venue_time_ns
        while len(self._times) > self._capacity:
            _, forgotten_ns = self._times.popitem(last=False)
            self.from_ns = max(self.from_ns, forgotten_ns + 1)
        self._latest_ns = max(self._latest_ns, venue_time_ns)
        if self.caught_up:
            self.complete_ns = self._latest_ns

    def catch_up(self) -> None:
        """Everything so far was fetched and the stream is live."""
        self.caught_up = True
        self.complete_ns = self._latest_ns

    def lose(self) -> None:
        """The stream is gone: rows may be missed from now on."""
        self.caught_up = False

    def follow(self, freshness: stream_pb2.Freshness.ValueType) -> None:
        """The stream was told to be fresh or stale."""
        if freshness == stream_pb2.FRESHNESS_FRESH:
            self.catch_up()
        else:
            self.lose()

    def save(self) -> Iterator[SeenRows]:
        """All of it in messages of at most `ROWS_PER_MESSAGE` rows. Do not add meanwhile."""
        yield SeenRows(
            from_unix_nanos=self.from_ns,
            complete_unix_nanos=self.complete_ns,
            latest_unix_nanos=self._latest_ns,
            caught_up=self.caught_up,
        )
        rows = (SeenRow(id=row_id, time_unix_nanos=time_ns) for row_id, time_ns in self._times.items())
        while some := list(islice(rows, ROWS_PER_MESSAGE)):
            yield SeenRows(rows=some)

    def load(self, saved: SeenRows) -> None:
        """Take the next of the messages that were saved, or several merged into one. Begin with nothing seen."""
        for row in saved.rows:
            self._times[row.id] = row.time_unix_nanos
        # Only the first message has these: what is absent in the others changes nothing.
        self.from_ns = max(self.from_ns, saved.from_unix_nanos)
        self.complete_ns = max(self.complete_ns, saved.complete_unix_nanos)
        self._latest_ns = max(self._latest_ns, saved.latest_unix_nanos)
        self.caught_up = self.caught_up or saved.caught_up


class RecentIds(Generic[Id]):
    """The latest `capacity` ids, to tell what is new from what is repeated; one forgotten counts as new again."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._ids: OrderedDict[Id, None] = OrderedDict()

    def add(self, found: Id) -> bool:
        """Whether an id is new; it is known from now on."""
        if found in self._ids:
            return False
        self._ids[found] = None
        if len(self._ids) > self._capacity:
            self._ids.popitem(last=False)
        return True
