"""Retry-After: seconds, dates, nonsense."""

from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from venuemesh.transport.retry_after import MAX_RETRY_AFTER_S, parse_retry_after

NOW_S = 1_790_000_000
NOW_NS = NOW_S * 10**9


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("7", 7.0),
        (" 1.5 ", 1.5),
        ("0", 0.0),
        ("999999999999", MAX_RETRY_AFTER_S),
        ("1e999", MAX_RETRY_AFTER_S),
        ("-3", None),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_seconds_are_read_and_bounded(value: str | None, expected: float | None) -> None:
    """Whole or decimal seconds pass up to the bound; what is unreadable counts as absent."""
    assert parse_retry_after(value, now_ns=NOW_NS) == expected


def test_date_when_answer_is_dated_ignores_our_clock() -> None:
    """A date is taken relative to the answer's own Date, so a wrong clock does no harm."""
    wait = parse_retry_after(
        formatdate(NOW_S + 90, usegmt=True), date=formatdate(NOW_S + 60, usegmt=True), now_ns=NOW_NS
    )
    assert wait == 30.0


@pytest.mark.parametrize("date", [None, "yesterday"])
def test_date_without_readable_date_header_uses_our_clock(date: str | None) -> None:
    """Without a Date header our wall clock is the next best."""
    assert parse_retry_after(formatdate(NOW_S + 30, usegmt=True), date=date, now_ns=NOW_NS) == 30.0


def test_date_in_the_past_means_now() -> None:
    """A moment that has passed needs no wait."""
    assert parse_retry_after(formatdate(NOW_S - 5, usegmt=True), now_ns=NOW_NS) == 0.0


@given(st.text(max_size=40), st.none() | st.text(max_size=40))
def test_any_text_gives_a_bounded_wait_or_none(value: str, date: str | None) -> None:
    """Whatever the venue writes, the wait is within its bounds."""
    wait = parse_retry_after(value, date=date, now_ns=NOW_NS)
    assert wait is None or 0 <= wait <= MAX_RETRY_AFTER_S
