"""Log files of services: kept, bounded, summarised."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.local.output import MAX_LINE_BYTES, MAX_NAMES, OTHERS, TAIL_LINES, ServiceLog, pump, readable, warning_name


def test_log_when_started_again_keeps_the_former_one(tmp_path: Path) -> None:
    """Each start has its own file; one former file stays."""
    for text in ("first", "second", "third"):
        with ServiceLog(tmp_path / "router.log") as log:
            log.write(text)
    assert (tmp_path / "router.log").read_text() == "third\n"
    assert (tmp_path / "router.log.1").read_text() == "second\n"
    assert len(list(tmp_path.iterdir())) == 2


def test_log_when_it_grows_beyond_the_bound_rotates(tmp_path: Path) -> None:
    """Two files of the bound at most, whatever a service writes."""
    with ServiceLog(tmp_path / "router.log", max_bytes=100) as log:
        for number in range(50):
            log.write(f"line {number:04}")
    sizes = [file.stat().st_size for file in tmp_path.iterdir()]
    assert len(sizes) == 2
    assert max(sizes) <= 100
    assert (tmp_path / "router.log").read_text().endswith("line 0049\n")


def test_log_tail_holds_the_last_lines(tmp_path: Path) -> None:
    """Enough to see what went wrong, no more."""
    with ServiceLog(tmp_path / "router.log") as log:
        for number in range(TAIL_LINES + 10):
            log.write(str(number))
    assert log.tail() == [str(number) for number in range(10, TAIL_LINES + 10)]


def test_log_when_warnings_have_endless_names_counts_the_rest_together(tmp_path: Path) -> None:
    """The summary is bounded and still counts every warning."""
    with ServiceLog(tmp_path / "router.log") as log:
        for number in range(MAX_NAMES + 7):
            log.write(json.dumps({"level": "WARNING", "event": f"event_{number}"}))
    assert log.warnings[OTHERS] == 7
    assert log.warnings.total() == MAX_NAMES + 7


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ('{"level":"WARNING","event":"stream_lost","n":1}', "stream_lost"),
        ('{"level":"ERROR","event":"pump_failed"}', "pump_failed"),
        ('{"level":"INFO","event":"WARNING in a text"}', None),
        ('{"level":"WARNING" cut off', '" cut off'),
        ("[77] 2026/11/20 07:41:14.9 [WRN] Readloop processing time", "Readloop processing time"),
        ("[77] 2026/11/20 07:41:14.9 [INF] Server is ready", None),
        ("WARNING:simulator:bad frame", ":simulator:bad frame"),
        ("ERRORS are none", None),
        ("", None),
        ("[1, 2]", None),
    ],
)
def test_warning_name_by_line(line: str, name: str | None) -> None:
    """JSON logs by their level, texts by their mark, everything else is no warning."""
    assert warning_name(line) == name


def test_readable_puts_a_traceback_on_lines_of_its_own() -> None:
    """The end of a failing service's log is read by a person."""
    fields = {"time": "12:00", "level": "ERROR", "event": "pump_failed", "venue": "x", "exception": "Traceback\n  at"}
    assert readable(json.dumps(fields)) == ["12:00 ERROR pump_failed venue=x", "Traceback", "  at"]


@pytest.mark.parametrize("line", ["plain", "{broken", "{}", '{"event": "service_ready"}'])
def test_readable_when_it_is_no_json_log_line_leaves_it(line: str) -> None:
    """Nothing is lost of what we do not know."""
    assert readable(line) == [line]


class Chunks(asyncio.StreamReader):
    """A reader that gives prepared chunks, one per read."""

    def __init__(self, chunks: list[bytes]) -> None:
        super().__init__()
        self._chunks = chunks

    async def read(self, n: int = -1) -> bytes:
        return self._chunks.pop(0) if self._chunks else b""


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=12)))
def test_pump_gives_the_same_lines_however_they_are_cut(chunks: list[bytes]) -> None:
    """Boundaries of reads are no boundaries of lines."""
    whole = b"".join(chunks)
    lines: list[str] = []

    async def run() -> None:
        await pump(Chunks(list(chunks)), lines.append)

    asyncio.run(run())
    wanted = whole.split(b"\n")
    if not wanted[-1]:
        wanted.pop()
    stripped = [line.decode(errors="replace").rstrip("\r") for line in wanted]
    if whole and not whole.endswith(b"\n"):
        stripped[-1] = wanted[-1].decode(errors="replace")
    assert lines == stripped


async def test_pump_when_a_line_never_ends_cuts_it() -> None:
    """A service that writes no line end cannot fill our memory."""
    lines: list[str] = []
    await pump(Chunks([b"x" * MAX_LINE_BYTES] * 3), lines.append)
    assert max(map(len, lines)) <= MAX_LINE_BYTES
    assert "".join(lines) == "x" * MAX_LINE_BYTES * 3
