"""Pages over several venues and their tokens."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from router.pages import ENDED, Cursor, VenuePage, merge, read_cursors, write_cursors

NOW_NS = 1_790_000_000_000_000_000
DAY_NS = 24 * 3600 * 10**9
CURSORS = {"a": Cursor("next", 3, 7), "b": ENDED}


def time_of(row: tuple[int, str]) -> int:
    return row[0]


def test_cursors_give_back_where_each_venue_stands() -> None:
    """Written and read."""
    assert read_cursors(write_cursors(CURSORS)) == CURSORS


def test_cursors_are_empty_when_no_venue_has_more() -> None:
    """The last page has no token."""
    assert write_cursors({"a": ENDED}) == ""


@settings(max_examples=100, deadline=None)
@given(
    times=st.lists(st.lists(st.integers(0, 30), max_size=12), min_size=1, max_size=3),
    size=st.integers(1, 5),
    gateway_size=st.integers(1, 6),
    newest_first=st.booleans(),
)
def test_pages_give_every_row_once_in_order(
    times: list[list[int]], size: int, gateway_size: int, newest_first: bool
) -> None:
    """Whatever the pages of the gateways: the union of all pages is all rows, sorted, each once."""
    lists = {
        f"v{place}": [(time, f"v{place}-{index}") for index, time in enumerate(sorted(one, reverse=newest_first))]
        for place, one in enumerate(times)
    }
    cursors = {venue: Cursor() for venue in lists}
    seen: list[tuple[int, str]] = []
    for _ in range(200):
        pages = {}
        for venue, cursor in cursors.items():
            if not cursor.open:
                continue
            rows = [row for row in lists[venue] if not cursor.until_ns or row[0] < cursor.until_ns]
            start = int(cursor.token or 0)
            end = start + min(gateway_size, cursor.offset + size) if cursor.offset < gateway_size else start
            end = max(end, start + cursor.offset + 1)
            more = str(end) if end < len(rows) else ""
            pages[venue] = VenuePage(cursor=cursor, rows=rows[start:end], next_token=more)
        if not pages:
            break
        rows, after = merge(pages, size=size, time_ns=time_of, newest_first=newest_first)
        assert len(rows) <= size
        seen += rows
        cursors |= after
    sign = -1 if newest_first else 1
    assert sorted(seen) == sorted(row for one in lists.values() for row in one)
    assert [sign * time for time, _ in seen] == sorted(sign * time for time, _ in seen)
