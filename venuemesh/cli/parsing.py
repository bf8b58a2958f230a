"""What people write on a command line, as typed values; each fault names the option. Pure and light."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation

from venuemesh.cli.exits import UsageFault

_UNITS = {"ms": 1_000_000, "s": 10**9, "m": 60 * 10**9, "min": 60 * 10**9, "h": 3_600 * 10**9, "d": 86_400 * 10**9}
_SPAN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|min|m|h|d)", re.ASCII)


def decimal_text(text: str, option: str) -> str:
    """A number in the one spelling of the contract: "0.010" and "1e-2" are "0.01".

    Raises:
        UsageFault: it is no finite number, or has more digits than the contract takes.
    """
    from venuemesh.errors import InvalidRequest
    from venuemesh.money import format_decimal, parse_decimal

    try:
        value = Decimal(text)
    except InvalidOperation:
        raise UsageFault(f"{option}: must be a number, not {text!r}") from None
    if not value.is_finite() or abs(value.adjusted()) > 50:
        raise UsageFault(f"{option}: must be a finite number of usual size, not {text!r}")
    try:
        spelt = format_decimal(value)
        parse_decimal(spelt, field=option)
    except (InvalidRequest, ValueError) as error:
        raise UsageFault(str(error) if str(error).startswith(option) else f"{option}: {error}") from None
    return spelt


def optional_decimal(text: str | None, option: str) -> str | None:
    """The same where absence means something."""
    return None if text is None else decimal_text(text, option)


def span_ns(text: str, option: str) -> int:
    """A duration such as 500ms, 30s, 10m, 2h or 1d, in nanoseconds.

    Raises:
        UsageFault: it is none.
    """
    found = _SPAN.fullmatch(text)
    if found is None:
        raise UsageFault(f"{option}: must be a duration such as 30s, 10m or 2h, not {text!r}")
    return int(Decimal(found[1]) * _UNITS[found[2]])


def instant_ns(text: str, option: str, *, now_ns: int, future: bool = False) -> int:
    """An instant: RFC 3339 such as 2026-11-20T10:00:00Z, or a duration before now (after now with `future`).

    Raises:
        UsageFault: it is neither, or names no offset from UTC.
    """
    if _SPAN.fullmatch(text):
        span = span_ns(text, option)
        return now_ns + span if future else now_ns - span
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise UsageFault(
            f"{option}: must be a time such as 2026-11-20T10:00:00Z or a duration such as 10m, not {text!r}"
        )
    since = at.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1_000


def tags_of(texts: list[str], option: str = "--tag") -> dict[str, str]:
    """Labels as `key=value`.

    Raises:
        UsageFault: one has no "=".
    """
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageFault(f"{option}: must be key=value, not {text!r}")
        found[key] = value
    return found


def one_of(**given: object) -> str:
    """The name of the one that is set; names without an underscore are arguments, the others options.

    Raises:
        UsageFault: none is, or several are.
    """
    names = [name for name, value in given.items() if value]
    if len(names) == 1:
        return names[0]
    spelt = ", ".join(f"--{name.replace('_', '-')}" if "_" in name else name.upper() for name in given)
    raise UsageFault(f"give exactly one of {spelt}")
