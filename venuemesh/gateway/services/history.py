"""Lists made from an account's stored events, a page at a time.

A page reads at most `MAX_SCAN` events; a filter that finds little gives short pages with a token, never a long wait.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from typing import TypeVar

from google.protobuf.message import Message

from venuemesh.gateway.services.requests import cursor_fault
from venuemesh.journal import AccountHistory
from venuemesh.v1 import event_pb2

Row = TypeVar("Row", bound=Message)
Pick = Callable[[event_pb2.Event], Row | None]
"""The row an event holds, None when it is not wanted."""

FIRST_CHUNK = 500
LARGEST_CHUNK = 8_000
MAX_SCAN = 20_000


async def newest_first(
    history: AccountHistory, newest: int, cursor: str, size: int, pick: Pick[Row], *, not_before_ns: int = 0
) -> tuple[list[Row], str]:
    """Up to `size` rows of events numbered below the cursor, newest first, and the cursor of the next page.

    Args:
        newest: number of the account's newest durable event.
        not_before_ns: events received before this time are of no use, nor are those before them.
    """
    below = number_of(cursor) if cursor else newest + 1
    oldest = await history.first_sequence()
    rows: list[Row] = []
    chunk, scanned = FIRST_CHUNK, 0
    while oldest and below > oldest and scanned < MAX_SCAN:
        after = max(oldest - 1, below - 1 - chunk)
        events = await _between(history, after, below)
        for event in reversed(events):
            if event.received_time.ToNanoseconds() < not_before_ns:
                return rows, ""
            row = pick(event)
            if row is not None:
                rows.append(row)
                if len(rows) == size:
                    return rows, str(event.sequence) if event.sequence > oldest else ""
        scanned += below - 1 - after
        below = after + 1
        chunk = min(2 * chunk, LARGEST_CHUNK)
    return rows, str(below) if oldest and below > oldest else ""


async def _between(history: AccountHistory, after: int, below: int) -> list[event_pb2.Event]:
    between = []
    async with aclosing(history.replay(after)) as events:
        async for event in events:
            if event.sequence >= below:
                break
            between.append(event)
    return between


async def oldest_first(
    history: AccountHistory, newest: int, cursor: str, size: int, pick: Pick[Row]
) -> tuple[list[Row], str]:
    """Up to `size` rows of events behind the cursor, oldest first, and the cursor of the next page.

    Args:
        newest: number of the account's newest durable event.
    """
    rows: list[Row] = []
    last, scanned = number_of(cursor) if cursor else 0, 0
    async with aclosing(history.replay(last)) as events:
        async for event in events:
            if event.sequence > newest:
                break
            if len(rows) == size or scanned == MAX_SCAN:
                return rows, str(last)
            scanned += 1
            last = event.sequence
            row = pick(event)
            if row is not None:
                rows.append(row)
    return rows, ""


def number_of(cursor: str) -> int:
    """The number in a cursor."""
    if not cursor.isascii() or not cursor.isdigit():
        raise cursor_fault()
    return int(cursor)
