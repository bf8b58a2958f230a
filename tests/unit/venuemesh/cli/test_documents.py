"""What docs/cli.md promises is what the command line has."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import typer.main

from venuemesh.cli.app import build
from venuemesh.cli.exits import Exit

PAGE = (Path(__file__).resolve().parents[4] / "docs/cli.md").read_text()
ROOT: Any = typer.main.get_command(build())


def commands(group: Any = ROOT, above: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every command by its words, groups too."""
    found = {}
    for name, one in group.commands.items():
        found[(*above, name)] = one
        if hasattr(one, "commands"):
            found |= commands(one, (*above, name))
    return found


COMMANDS = commands()


def test_every_command_line_of_the_page_exists() -> None:
    """Its words name a command, and each option is one of it."""
    lines = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    asked = [shlex.split(line.split(" | ")[0]) for line in lines if line.startswith("venuemesh ")]
    assert len(asked) > 10
    for _, *words in asked:
        path = next((tuple(words[:size]) for size in (2, 1) if tuple(words[:size]) in COMMANDS), ())
        known = {name for parameter in (COMMANDS[path] if path else ROOT).params for name in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, words
        assert path or words[0].startswith("--"), words


def test_page_lists_every_command_and_no_other() -> None:
    """The table is complete; what a group does alone need not be said twice."""
    table = PAGE.partition("## Commands")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    listed = {
        tuple(word for word in text.split() if word.islower() and word[0] != "[")
        for cell in cells
        for text in re.findall(r"`([^`]+)`", cell)
    }
    alone = {("kill-switch", "show"), ("risk", "show"), ("stuck", "list"), ("dead-letters", "list")}
    groups = {("order",), ("portfolio",), ("route",)}
    assert listed == set(COMMANDS) - alone - groups


def test_page_and_code_agree_on_exit_codes() -> None:
    """A script is written by this table."""
    table = PAGE.partition("## Exit codes")[2].partition("\n## ")[0]
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)} == {int(code) for code in Exit}


def test_page_and_code_agree_on_the_environment() -> None:
    """Every variable that is read is listed."""
    read = {
        variable
        for command in (ROOT, *COMMANDS.values())
        for parameter in command.params
        for variable in ([parameter.envvar] if isinstance(parameter.envvar, str) else parameter.envvar or ())
    }
    assert set(re.findall(r"`(VENUEMESH_[A-Z_]+)`", PAGE)) == read


def test_every_command_takes_the_common_options_and_has_help() -> None:
    """They may stand behind any command; `up` and `down` call no service."""
    for path, one in COMMANDS.items():
        assert one.help, path
        if path not in {("up",), ("down",), ("order",), ("portfolio",), ("route",)}:
            assert {"--router", "--token-file", "--output"} <= {name for p in one.params for name in p.opts}, path
