"""What a table shows, before anything is drawn; and the words in its cells. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from google.protobuf.descriptor import EnumDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

ABSENT = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A table.

    Args:
        columns: headings; one that begins with ">" is of numbers and stands to the right.
        empty: what to say when there is no row.
    """

    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    title: str = ""
    empty: str = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One thing: names and values, a line each; absent values are left out."""

    rows: Sequence[tuple[str, str]]
    title: str = ""


Part = Grid | Facts | str
View = Callable[[Any], Sequence[Part]]


def word(message: Message, field: str) -> str:
    """The value of an enum field without its prefix; its number when it is newer than this release."""
    descriptor: Any = message.DESCRIPTOR.fields_by_name[field].enum_type
    return enum_word(descriptor, getattr(message, field))


def enum_word(descriptor: EnumDescriptor, number: int) -> str:
    """`SIDE_BUY` as "BUY"; nothing for unspecified."""
    if number == 0:
        return ""
    known = descriptor.values_by_number.get(number)
    if known is None:
        return str(number)
    # SCREAMING_SNAKE of the enum's own name is the prefix, by the rule of the contract's lint.
    prefix = "".join(f"_{letter}" if letter.isupper() else letter for letter in descriptor.name).upper().lstrip("_")
    return str(known.name).removeprefix(f"{prefix}_")


def words(descriptor: EnumDescriptor, numbers: Sequence[int]) -> str:
    """Several values of an enum in one cell."""
    return " ".join(enum_word(descriptor, number) for number in numbers)


def given(message: Message, field: str) -> str:
    """An optional value; "-" when absent."""
    return str(getattr(message, field)) if message.HasField(field) else ABSENT


def moment(value: Timestamp | None) -> str:
    """An instant in UTC to the millisecond; "-" when unset."""
    if value is None or not (value.seconds or value.nanos):
        return ABSENT
    return instant(value.ToNanoseconds())


def instant(nanos: int) -> str:
    """The same of nanoseconds since the Unix epoch."""
    if not nanos:
        return ABSENT
    try:
        at = datetime.fromtimestamp(nanos // 1_000_000_000, UTC)
    except (ValueError, OverflowError):
        return f"{nanos} ns"
    return f"{at:%Y-%m-%d %H:%M:%S}.{nanos // 1_000_000 % 1000:03d}Z"


def length(value: Duration) -> str:
    """A duration to a readable precision."""
    nanos = value.ToNanoseconds()
    if abs(nanos) < 1_000_000_000:
        return f"{nanos / 1e6:.3g} ms"
    seconds = nanos / 1e9
    if abs(seconds) < 120:
        return f"{seconds:.3g} s"
    minutes, hours, days = seconds / 60, seconds / 3_600, seconds / 86_400
    return f"{minutes:.3g} min" if minutes < 120 else f"{hours:.3g} h" if hours < 48 else f"{days:.3g} d"


def length_of(message: Message, field: str) -> str:
    """An optional duration; "-" when absent."""
    return length(getattr(message, field)) if message.HasField(field) else ABSENT


def scope(value: Any) -> str:
    """What a rule covers."""
    parts = [part for part in (value.venue, value.account_id, value.symbol) if part]
    return " ".join(parts) or "everything"


def printable(text: str) -> str:
    """Text from elsewhere, safe on a terminal: control characters, which could rewrite the screen, become "?"."""
    return "".join(letter if letter.isprintable() or letter == "\n" else "?" for letter in text)
