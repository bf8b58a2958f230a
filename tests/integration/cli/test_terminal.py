"""The command line as a person meets it: a real process on a pseudo-terminal, against a real mesh."""

from __future__ import annotations

import re
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from tests.integration.cli.runs import COMMAND, PATIENT, ROOT, Cli, LocalMesh
from tests.integration.cli.terminal import terminal

pytestmark = pytest.mark.xdist_group("cli")

SYMBOL, VENUE = "BTC/USDC:USDC", "hyperliquid"


@pytest.fixture
def environ(local_mesh: LocalMesh) -> dict[str, str]:
    """What the commands are told by the environment."""
    return {**local_mesh.environ, **PATIENT}


def test_walk_when_a_person_trades_cancels_and_watches(cli: Cli, environ: dict[str, str]) -> None:
    """Book in colours, an order, a question before cancel-all that takes no for an answer, and the live portfolio."""
    with terminal(*COMMAND, "book", SYMBOL, "-v", VENUE, "-d", "3", environ=environ) as screen:
        assert screen.end() == 0
        assert "spread" in screen.text and b"\x1b[32mBUY" in screen.raw and b"\x1b[1;31mSELL" in screen.raw
        assert all(len(line) <= 120 for line in screen.text.splitlines())

    key = f"pty-{uuid.uuid4().hex[:12]}"
    submit = ("order", "submit", "buy", "0.01", SYMBOL, "-p", "40000", "-v", VENUE, "-k", key)
    with terminal(*COMMAND, *submit, environ=environ) as screen:
        assert screen.end() == 0
        assert screen.text.index(f"client order id {key}:") < screen.text.index("ACKNOWLEDGED")

    with terminal(*COMMAND, "cancel-all", "-v", VENUE, environ=environ) as screen:
        screen.until(r"Cancel all orders of account main at hyperliquid\? \[y/N\] ")
        screen.type("n\n")
        assert screen.end() == 1
        assert "not done: nothing was changed" in screen.text
    assert cli.json("order", "show", key)["order"]["working"] is True
    with terminal(*COMMAND, "cancel-all", "-v", VENUE, environ=environ) as screen:
        screen.until(r"\[y/N\] ")
        screen.type("y\n")
        assert screen.end() == 0
        assert key in screen.text
    assert cli.json("order", "show", key)["order"]["status"] == "ORDER_STATUS_CANCELED"

    with terminal(*COMMAND, "portfolio", "watch", "--every-ms", "50", environ=environ) as screen:
        screen.until("as of")
        cli("order", "submit", "buy", "0.001", SYMBOL, "-v", VENUE)
        screen.until("as of.*net positions.*as of")
        # Drawn in place: the cursor goes up over the last picture.
        assert re.search(rb"\x1b\[\d*A", screen.raw)
        screen.type("\x03")
        assert screen.end() == 130


def test_kill_switch_on_a_terminal_asks_first(cli: Cli, environ: dict[str, str]) -> None:
    """Engaged and released by a person; silence and the end of input mean no."""
    engage = ("kill-switch", "engage", "--symbol", "SOL/USDC:USDC", "--reason", "drill")
    with terminal(*COMMAND, *engage, environ=environ) as screen:
        screen.until(r"Halt trading and cancel all orders of SOL/USDC:USDC\? \[y/N\] ")
        screen.type("\x04")
        assert screen.end() == 1
    assert "ENGAGED" not in cli("kill-switch").out
    with terminal(*COMMAND, *engage, environ=environ) as screen:
        screen.until(r"\[y/N\] ")
        screen.type("yes\n")
        assert screen.end() == 0
        assert "ENGAGED" in screen.text and screen.text.count(" verified") == 3
    with terminal(*COMMAND, "kill-switch", "release", *engage[2:], environ=environ) as screen:
        screen.until(r"pass again\? \[y/N\] ")
        screen.type("y\n")
        assert screen.end() == 0


def test_script_in_bin_runs_from_any_folder_and_through_a_link(tmp_path: Path, environ: dict[str, str]) -> None:
    """What a person puts on the PATH."""
    if not (ROOT / ".venv" / "bin" / "python").exists():
        pytest.skip("this checkout has no .venv")
    link = tmp_path / "venuemesh"
    link.symlink_to(ROOT / "bin" / "venuemesh")
    done = subprocess.run((link, "venues"), cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "hyperliquid" in done.stdout


def test_output_when_its_reader_leaves_ends_quietly(environ: dict[str, str]) -> None:
    """As with `| head -n 1`: no traceback."""
    watch = " ".join((*COMMAND, "portfolio", "watch", "-o", "json", "--every-ms", "20"))
    done = subprocess.run(
        ("/bin/sh", "-c", f"{watch} | head -n 1"), cwd=ROOT, env=environ, capture_output=True, text=True, check=False
    )
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


def test_completion_knows_commands_and_choices() -> None:
    """What the shell asks when Tab is pressed; it needs no mesh."""

    def complete(*words: str) -> list[str]:
        asked = {
            "_VENUEMESH_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(words),
            "COMP_CWORD": str(len(words) - 1),
        }
        done = subprocess.run(COMMAND, cwd=ROOT, env=asked, capture_output=True, text=True, check=True)
        return done.stdout.split()

    assert complete("venuemesh", "port") == ["portfolio"]
    assert complete("venuemesh", "order", "s") == ["submit", "show"]
    assert complete("venuemesh", "order", "submit", "--ti") == ["--tif", "--timeout"]
    assert complete("venuemesh", "order", "submit", "s") == ["sell"]


def test_help_and_completion_import_no_grpc() -> None:
    """What makes them instant: everything heavy waits for a command to run."""
    code = (
        "import sys\nsys.argv = ['venuemesh', 'order', 'submit', '--help']\n"
        "from venuemesh.cli.app import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & "
        "{'grpc', 'google', 'opentelemetry', 'asyncio', 'cryptography'}), file=sys.stderr)"
    )
    done = subprocess.run((sys.executable, "-c", code), cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--client-order-id" in done.stdout
    assert done.stderr.strip() == "[]"
