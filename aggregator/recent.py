"""What was folded lately, for readers that resume. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from itertools import dropwhile

from aggregator.messages import Record
from aggregator.portfolio import Portfolio
from aggregator.reading import is_fill, is_restatement
from aggregator.sequencing import AccountKey
from venuemesh.errors import ResumeExpired
from venuemesh.v1 import event_pb2


class Recent:
    """The last `window` log messages that had events. `begin` is the log sequence behind which all are here."""

    def __init__(self, window: int) -> None:
        self.begin = 0
        self.window = window
        self._records: deque[Record] = deque()

    def add(self, record: Record) -> None:
        """Remember one more."""
        self._records.append(record)
        if len(self._records) > self.window:
            self.begin = self._records.popleft().sequence

    def fill(self, begin: int, records: Iterable[Record]) -> None:
        """Remember these instead."""
        self.begin = begin
        self._records = deque(records)

    def after(self, position: int) -> list[Record]:
        """Everything behind `position`.

        Raises:
            ResumeExpired: not all of it is here any more.
        """
        if position < self.begin:
            raise ResumeExpired(f"what came behind {position} is no longer in memory; begin with a snapshot")
        return list(dropwhile(lambda record: record.sequence <= position, self._records))


class Counts:
    """Fills and restatements of each account at another time than now."""

    def __init__(self, portfolio: Portfolio) -> None:
        self._portfolio = portfolio
        self._of: dict[AccountKey, tuple[int, int]] = {}

    def _now(self, event: event_pb2.Event) -> tuple[AccountKey, tuple[int, int]]:
        key = (event.venue, event.account_id)
        counts = self._of.get(key)
        return key, counts or (self._portfolio.fill_count(key), self._portfolio.restatement_count(key))

    def go_back(self, event: event_pb2.Event) -> None:
        """To before `event`."""
        key, (fills, restatements) = self._now(event)
        self._of[key] = (fills - is_fill(event), restatements - is_restatement(event))

    def go_on(self, event: event_pb2.Event) -> tuple[int, int]:
        """To behind `event`; returns the counts of its account."""
        key, (fills, restatements) = self._now(event)
        self._of[key] = (fills + is_fill(event), restatements + is_restatement(event))
        return self._of[key]
