"""The commands of docs/security.md do what the page says."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs/security.md").read_text()


def test_commands_of_the_page_run_one_after_the_other(tmp_path: Path) -> None:
    """Key, token, narrower token, what it allows."""
    (tmp_path / ".run").mkdir(mode=0o700)
    commands = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
    assert len(commands) == 4
    said = ""
    for command in commands:
        arguments = [word.replace(".venv/bin/python", sys.executable) for word in shlex.split(command)]
        done = subprocess.run(
            arguments, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        assert not done.stderr
        said = done.stdout
    for name in ("token.keys", "desk.token", "bot.token"):
        assert (tmp_path / ".run" / name).stat().st_mode & 0o077 == 0
    assert said.splitlines() == [
        "subject=desk-1",
        "scopes=read,trade",
        "accounts=main",
        "venues=hyperliquid",
        "before=2027-01-31T12:00:00Z",
        "max_notional=5000",
    ]


def test_page_names_every_limit_there_is() -> None:
    """And no other."""
    from venuemesh.security.grants import _LIMITS

    listed = set(re.findall(r"^\| `([a-z_]+)=", PAGE, re.MULTILINE))
    assert listed == set(_LIMITS)
