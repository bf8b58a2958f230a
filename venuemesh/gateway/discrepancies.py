"""Differences from the venue that were found, read back from where they are stored.

They are few among an account's events, so they are read by their own subjects: each page reads all of them that are
kept, and holds no more than the page.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import aclosing

from venuemesh.bus import Bus
from venuemesh.journal import decode_event
from venuemesh.subjects import EVENT_STREAM, ROOT, Kind, token
from venuemesh.v1 import reconciliation_pb2

Row = tuple[int, reconciliation_pb2.Discrepancy]
"""A difference, and its place among all of the venue."""


class DiscrepancyHistory:
    """Differences of the accounts of one venue, in the order in which they were found."""

    def __init__(self, bus: Bus, venue: str) -> None:
        self._bus = bus
        self._venue = venue

    async def newest(
        self,
        account_id: str,
        size: int,
        *,
        below: int = 0,
        wanted: Callable[[reconciliation_pb2.Discrepancy], bool] = lambda _: True,
    ) -> list[Row]:
        """Up to `size` differences, newest first.

        Args:
            account_id: empty for all accounts.
            below: only those whose place is before this one; 0 for all.
        Raises:
            JournalUnavailable: the broker does not answer.
        """
        account = token(account_id) if account_id else "*"
        names = [f"{ROOT}.{Kind.DISCREPANCY}.{token(self._venue)}.{account}.>"]
        kept: deque[Row] = deque(maxlen=size)
        async with aclosing(self._bus.replay(EVENT_STREAM, names)) as messages:
            async for message in messages:
                if below and message.sequence >= below:
                    break
                found = decode_event(message).discrepancy
                if wanted(found):
                    kept.append((message.sequence, found))
        return list(reversed(kept))
