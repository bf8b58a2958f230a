"""Pages over several venues: merge what gateways page, and the token that says where each one stands. Pure.

A cursor holds, per venue, the gateway's own page token, how many rows of that page were already given, and the time
the list was bounded at when its first page was cut in the middle: rows newer than that would shift the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

import msgspec

Row = TypeVar("Row")


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """Where the list of one venue goes on."""

    token: str = ""
    """The gateway's page token; empty for its first page."""
    offset: int = 0
    """Rows of that page already given."""
    until_ns: int = 0
    """The list was cut at this time, exclusive; 0 when it was not."""
    state: int = 0
    """0 goes on, 1 ended, 2 could not be reached on an earlier page."""

    @property
    def open(self) -> bool:
        """Whether there is more to ask for."""
        return self.state == 0


ENDED = Cursor(state=1)
UNREACHED = Cursor(state=2)


def write_cursors(cursors: Mapping[str, Cursor]) -> str:
    """Where each venue stands, as the cursor of a page token (`venuemesh.paging`); empty when no venue has more."""
    if not any(cursor.open for cursor in cursors.values()):
        return ""
    return msgspec.json.encode(cursors).decode()


def read_cursors(text: str) -> dict[str, Cursor]:
    """What `write_cursors` wrote; the token around it has been checked."""
    return msgspec.json.decode(text, type=dict[str, Cursor])


class VenuePage(msgspec.Struct, Generic[Row], frozen=True, kw_only=True):
    """One page a gateway gave, from the cursor's page token on."""

    cursor: Cursor
    rows: Sequence[Row]
    next_token: str


def merge(
    pages: Mapping[str, VenuePage[Row]],
    *,
    size: int,
    time_ns: Callable[[Row], int],
    newest_first: bool = True,
) -> tuple[list[Row], dict[str, Cursor]]:
    """The next `size` rows over all venues in order of time, and where each venue stands after them.

    Rows of one venue keep the gateway's order. Venues that are level are taken by name.
    """
    sign = -1 if newest_first else 1
    taken = dict.fromkeys(pages, 0)
    rows: list[Row] = []
    # A venue that has more but gave nothing of it now lets nothing be placed.
    blocked = any(page.next_token and page.cursor.offset >= len(page.rows) for page in pages.values())
    while len(rows) < size and not blocked:
        heads = [
            (sign * time_ns(page.rows[place]), venue)
            for venue, page in pages.items()
            if (place := page.cursor.offset + taken[venue]) < len(page.rows)
        ]
        if not heads:
            break
        _, venue = min(heads)
        page = pages[venue]
        rows.append(page.rows[page.cursor.offset + taken[venue]])
        taken[venue] += 1
        if page.cursor.offset + taken[venue] == len(page.rows) and page.next_token:
            # What this venue has next is not known, so nothing after it can be placed.
            break
    bounds = {venue: _bound(page, time_ns) if newest_first else 0 for venue, page in pages.items()}
    return rows, {venue: _after(page, taken[venue], bounds[venue]) for venue, page in pages.items()}


def _after(page: VenuePage[Row], taken: int, bound_ns: int) -> Cursor:
    offset = page.cursor.offset + taken
    if offset < len(page.rows):
        # A page that has a token never shifts; the first one does when newer rows come.
        until = page.cursor.until_ns or (bound_ns if not page.cursor.token else 0)
        return Cursor(page.cursor.token, offset, until)
    return Cursor(page.next_token, 0, page.cursor.until_ns) if page.next_token else ENDED


def _bound(page: VenuePage[Row], time_ns: Callable[[Row], int]) -> int:
    return max(map(time_ns, page.rows), default=-1) + 1
