"""Reads the HTTP `Retry-After` header. Pure."""

from __future__ import annotations

from email.utils import parsedate_to_datetime

MAX_RETRY_AFTER_S = 3600.0


def parse_retry_after(value: str | None, *, date: str | None = None, now_ns: int) -> float | None:
    """Seconds to wait, between 0 and `MAX_RETRY_AFTER_S`; None when absent or unreadable.

    Args:
        value: the header: whole seconds or an HTTP date (RFC 9110, 10.2.3); decimals are accepted too.
        date: the answer's own `Date` header. A date is taken relative to it where present, so that a
            wrong clock on either side does not turn into a wrong wait.
        now_ns: our wall clock, used when `date` is absent.
    """
    if value is None:
        return None
    text = value.strip()
    try:
        seconds = float(text) if text.isascii() and text[:1].isdigit() else _until(text, date, now_ns)
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


def _until(text: str, date: str | None, now_ns: int) -> float:
    then = parsedate_to_datetime(text).timestamp()
    if date is not None:
        try:
            return then - parsedate_to_datetime(date.strip()).timestamp()
        except (ValueError, OverflowError):
            pass  # an unreadable Date header is no reason to ignore the wait: fall back to our clock
    return then - now_ns / 1e9
