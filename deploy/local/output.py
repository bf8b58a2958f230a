"""What a service writes: its log file, the last lines, and a count of its warnings."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

TAIL_LINES = 25
MAX_FILE_BYTES = 20 * 1024 * 1024
MAX_LINE_BYTES = 64 * 1024
MAX_NAMES = 50
OTHERS = "(others)"
_CHUNK_BYTES = 64 * 1024
_SHOWN_CHARS = 80
_LEVELS = {"WARNING", "ERROR", "CRITICAL"}
# nats-server marks its lines, Python's text formats name the level.
_TEXT_LEVEL = re.compile(r"\[(?:WRN|ERR|FTL)\]|\b(?:WARNING|ERROR|CRITICAL)\b")


class ServiceLog:
    """The log file of one service. The one of the start before is kept as `<name>.log.1`.

    A file that reaches `max_bytes` becomes `<name>.log.1` too, so two files at most exist. Use as a context
    manager, or call `close`.
    """

    def __init__(self, path: Path, *, max_bytes: int = MAX_FILE_BYTES) -> None:
        self.path = path
        self.warnings: Counter[str] = Counter()
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._max_bytes = max_bytes
        self._written = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        self._rotate()

    def _rotate(self) -> None:
        if self.path.exists():
            self.path.replace(self.path.with_name(f"{self.path.name}.1"))
        self._file = self.path.open("ab", buffering=0)
        self._written = 0

    def write(self, line: str) -> None:
        """Add one line, without its end."""
        self._tail.append(line)
        name = warning_name(line)
        if name is not None:
            self.warnings[name if name in self.warnings or len(self.warnings) < MAX_NAMES else OTHERS] += 1
        raw = line.encode(errors="replace") + b"\n"
        if self._written + len(raw) > self._max_bytes and self._written:
            self._file.close()
            self._rotate()
        self._file.write(raw)
        self._written += len(raw)

    def tail(self) -> list[str]:
        """The last lines, oldest first."""
        return list(self._tail)

    def close(self) -> None:
        """Close the file; a second call changes nothing."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def warning_name(line: str) -> str | None:
    """Event name of a warning or error; the beginning of the line when it has none; None for other lines."""
    if line.startswith("{"):
        try:
            fields = json.loads(line)
        except ValueError:
            fields = {}
        if isinstance(fields, dict) and "level" in fields:
            return str(fields.get("event", line))[:_SHOWN_CHARS] if fields["level"] in _LEVELS else None
    found = _TEXT_LEVEL.search(line)
    return line[found.end() :].strip()[:_SHOWN_CHARS] if found else None


def readable(line: str) -> list[str]:
    """A log line for people: a JSON one as level, event and key-values, its traceback on lines of its own."""
    if not line.startswith("{"):
        return [line]
    try:
        fields = json.loads(line)
    except ValueError:
        return [line]
    if not isinstance(fields, dict) or "level" not in fields or "event" not in fields:
        return [line]
    trace = str(fields.pop("exception", "")).splitlines()
    head = [str(fields.pop(key)) for key in ("time", "level", "logger", "event") if key in fields]
    return [" ".join([*head, *(f"{key}={value}" for key, value in fields.items())]), *trace]


async def pump(reader: asyncio.StreamReader, take: Callable[[str], None]) -> None:
    """Hand every line to `take` until the other side closes; a line over 64 KiB is cut into several."""
    rest = b""
    while chunk := await reader.read(_CHUNK_BYTES):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            take(line.decode(errors="replace").rstrip("\r"))
        while len(rest) > MAX_LINE_BYTES:
            take(rest[:MAX_LINE_BYTES].decode(errors="replace"))
            rest = rest[MAX_LINE_BYTES:]
    if rest:
        take(rest.decode(errors="replace"))
