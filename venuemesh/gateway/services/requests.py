"""Checks that several servicers make of their requests; each refusal names the field. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from venuemesh.errors import InvalidRequest, NotYetImplemented, Reason
from venuemesh.gateway.order_wire import nanoseconds

MAX_SYMBOLS = 200
MAX_SYMBOL_CHARACTERS = 64
MAX_TEXT_CHARACTERS = 200
NS_PER_S = 1_000_000_000


def not_yet(method: str) -> NotYetImplemented:
    """The refusal of a method that the contract has and this release does not serve."""
    return NotYetImplemented(f"{method} is not served yet", metadata={"method": method})


def required(value: str, field: str) -> str:
    """A text that must be there.

    Raises:
        InvalidRequest: it is empty.
    """
    if not value:
        raise missing(field, "is required")
    return value


def text(value: str, field: str, *, longest: int = MAX_TEXT_CHARACTERS) -> str:
    """A text for people that must be there: printable, not only blanks, and bounded.

    Raises:
        InvalidRequest: it is not.
    """
    if not value.strip():
        raise missing(field, "is required")
    if len(value) > longest or not value.isprintable():
        rule = f"must be at most {longest} printable characters, got {len(value)}: {value[:32]!r}"
        raise InvalidRequest(f"{field}: {rule}", field=field)
    return value


def missing(field: str, rule: str) -> InvalidRequest:
    """The refusal of a request without a field it needs."""
    return InvalidRequest(f"{field}: {rule}", reason=Reason.REQUIRED_FIELD_MISSING, field=field)


def check_enum(value: int, kind: Any, field: str, *, optional: bool = False) -> None:
    """Refuse an enum that is unset where it matters, or that this release does not know.

    Args:
        kind: the generated enum, such as `order_pb2.Side`.
        optional: whether UNSPECIFIED is allowed.
    """
    if value == 0:
        if not optional:
            raise missing(field, "is required, got UNSPECIFIED")
        return
    if value not in kind.values():
        raise InvalidRequest(f"{field}: has a value this gateway does not know: {value}", field=field)


def check_enums(values: Iterable[int], kind: Any, field: str) -> None:
    """The same for each of a list."""
    for value in values:
        check_enum(value, kind, field)


def check_symbols(symbols: Sequence[str], field: str = "symbols", *, needed: bool = False) -> list[str]:
    """The symbols of a request, each once, in their order.

    Raises:
        InvalidRequest: none where some are needed, more than 200, or one that cannot be a symbol.
    """
    if needed and not symbols:
        raise missing(field, "at least one is required")
    if len(symbols) > MAX_SYMBOLS:
        raise InvalidRequest(f"{field}: {len(symbols)} symbols, at most {MAX_SYMBOLS}", field=field)
    if any(not symbol or len(symbol) > MAX_SYMBOL_CHARACTERS for symbol in symbols):
        raise InvalidRequest(f"{field}: a symbol has 1 to {MAX_SYMBOL_CHARACTERS} characters", field=field)
    return list(dict.fromkeys(symbols))


def check_count(count: int, limit: int, field: str) -> None:
    """Refuse an empty batch and one of more than `limit`."""
    if not count:
        raise missing(field, "at least one is required")
    if count > limit:
        raise InvalidRequest(f"{field}: {count} elements, at most {limit}", field=field)


def instant(stamp: Timestamp, field: str) -> int:
    """Nanoseconds since the Unix epoch.

    Raises:
        InvalidRequest: before 1970, after 9999, or nanoseconds out of range.
    """
    if not (0 <= stamp.seconds <= 253_402_300_799 and 0 <= stamp.nanos < NS_PER_S):
        raise InvalidRequest(f"{field}: {stamp.seconds}s {stamp.nanos}ns is no time", field=field)
    return nanoseconds(stamp)


def time_range(request: Any) -> tuple[int, int | None]:
    """The half-open range of `from_time` and `to_time`: 0 and None where absent.

    Raises:
        InvalidRequest: one is no time, or the range is empty.
    """
    from_ns = instant(request.from_time, "from_time") if request.HasField("from_time") else 0
    to_ns = instant(request.to_time, "to_time") if request.HasField("to_time") else None
    if to_ns is not None and to_ns <= from_ns:
        raise InvalidRequest("to_time: must be after from_time", reason=Reason.CONTRADICTORY_FIELDS, field="to_time")
    return from_ns, to_ns


def cursor_fault() -> InvalidRequest:
    """The refusal of a page token that is signed and still makes no sense."""
    return InvalidRequest("page_token: is not one this service made", field="page_token")
