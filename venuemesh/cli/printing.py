"""Draws answers: tables on a terminal or in a file, protobuf JSON for scripts. Notes go to standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from venuemesh.cli.exits import Exit
from venuemesh.cli.grids import Facts, Part, View, printable
from venuemesh.cli.wishes import Output

FILE_WIDTH = 240
"""Of a table that goes to a file or a pipe: wide enough that no cell is folded."""

_GOOD, _BAD, _DOUBT, _DIM = "green", "bold red", "yellow", "dim"
_STYLES = {
    **dict.fromkeys(("BUY", "FILLED", "ACKNOWLEDGED", "SERVING", "TRADING", "LIVE", "CLOSED", "ACTIVE", "OK"), _GOOD),
    **dict.fromkeys(("FRESH", "yes", "verified", "released"), _GOOD),
    **dict.fromkeys(("SELL", "REJECTED", "REFUSED", "DOWN", "STALE", "OPEN", "HALTED", "NOT_SERVING"), _BAD),
    **dict.fromkeys(("ENGAGED", "MAINNET", "not verified", "CRITICAL"), _BAD),
    **dict.fromkeys(("UNCERTAIN", "UNKNOWN", "PENDING", "PENDING_NEW", "DEGRADED", "RECONCILING"), _DOUBT),
    **dict.fromkeys(("HALF_OPEN", "REDUCE_ONLY", "DRAINING", "POST_ONLY", "CONNECTING"), _DOUBT),
    "-": _DIM,
}


class Printer:
    """Standard output holds answers alone, so that a script can read them; everything else is standard error."""

    def __init__(self, output: Output) -> None:
        self._json = output is Output.JSON
        terminal = sys.stdout.isatty()
        # Rich folds at 80 where there is no terminal to measure.
        self._out = Console(file=sys.stdout, width=None if terminal else FILE_WIDTH, highlight=False)
        self._err = Console(file=sys.stderr, width=None if sys.stderr.isatty() else FILE_WIDTH, highlight=False)
        self.can_ask = sys.stdin.isatty() and sys.stderr.isatty()

    # --- answers ---

    def show(self, message: Message, view: View) -> None:
        """One answer: as JSON on one line, or as its view."""
        if self._json:
            self.record(message)
        else:
            self._print(self._drawn(view(message)))

    def parts(self, parts: Sequence[Part]) -> None:
        """Parts of an answer, for people."""
        self._print(self._drawn(parts))

    def record(self, record: Message | Mapping[str, Any]) -> None:
        """One JSON object on one line: canonical protobuf JSON, empty fields included."""
        shown = as_json(record) if isinstance(record, Message) else record
        print(json.dumps(shown, ensure_ascii=False, separators=(",", ":")), flush=True)

    def _print(self, what: RenderableType) -> None:
        self._out.print(what)
        self._out.file.flush()

    @contextmanager
    def live(self) -> Iterator[Picture]:
        """A picture that is drawn anew in place on a terminal, and below the last one elsewhere."""
        if not self._out.is_terminal:
            yield Picture(lambda parts: self._print(self._drawn(parts)))
            return
        with Live(console=self._out, auto_refresh=False, vertical_overflow="visible") as drawing:
            yield Picture(lambda parts: drawing.update(self._drawn(parts), refresh=True))

    def _drawn(self, parts: Sequence[Part]) -> Group:
        return Group(*(_drawn(part) for part in parts))

    # --- everything else ---

    def note(self, text: str) -> None:
        """One line for whoever watches."""
        self._err.print(Text(printable(text)), soft_wrap=True)

    def ask(self, question: str) -> bool:
        """Yes or no, from the terminal; no is the default, also at the end of input."""
        try:
            return self._err.input(Text(f"{printable(question)} [y/N] ")).strip().lower() in {"y", "yes"}
        except EOFError:
            return False

    @contextmanager
    def progress(self, doing: str) -> Iterator[None]:
        """Show that something takes its time; nothing where nobody watches."""
        if self._json or not self._err.is_terminal:
            yield
            return
        with self._err.status(Text(doing)):
            yield

    def failure(self, head: str, facts: Sequence[tuple[str, str]], record: Mapping[str, Any]) -> None:
        """Why a command failed."""
        if self._json:
            print(json.dumps(record, ensure_ascii=False), file=sys.stderr, flush=True)
            return
        self._err.print(Text(printable(head), style=_BAD))
        self._err.print(_drawn(Facts(rows=facts)))

    def fault(self, kind: str, text: str, code: Exit) -> None:
        """The same for what no service has said."""
        record = {"error": {"reason": kind.upper().replace(" ", "_"), "message": text, "exit": int(code)}}
        self.failure(f"{kind}: {text}", (), record)


class Picture:
    """Takes what is to be seen now."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw


def as_json(message: Message) -> dict[str, Any]:
    """Canonical protobuf JSON, with the fields that are empty."""
    shown: dict[str, Any] = json_format.MessageToDict(message, always_print_fields_with_no_presence=True)
    return shown


def _drawn(part: Part) -> RenderableType:
    if isinstance(part, str):
        return Text(printable(part))
    if isinstance(part, Facts):
        return _drawn_facts(part)
    if not part.rows:
        return Text(f"{part.title}: {part.empty}" if part.title else part.empty, style=_DIM)
    table = Table(box=SIMPLE_HEAD, title=part.title or None, title_justify="left", title_style="bold", pad_edge=False)
    for column in part.columns:
        table.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", overflow="fold")
    for row in part.rows:
        table.add_row(*(_cell(text) for text in row))
    return table


def _drawn_facts(facts: Facts) -> RenderableType:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style=_DIM)
    grid.add_column(overflow="fold")
    for name, value in facts.rows:
        if value not in {"", "-"}:
            grid.add_row(name, _cell(value))
    return Group(Text(facts.title, style="bold"), grid) if facts.title else grid


def _cell(text: str) -> Text:
    return Text(printable(text), style=_STYLES.get(text, ""))
