"""Running the command line: in this process, and a whole mesh that it started itself."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from venuemesh.cli.app import build

ROOT = Path(__file__).resolve().parents[3]
COMMAND = (sys.executable, "-m", "venuemesh.cli")
UP_TIMEOUT_S = 90.0
# A busy machine is no fault of the command's.
PATIENT = {"VENUEMESH_TIMEOUT": "30"}
# The simulated venue's own limits are not what is tested, and a lively market makes short tests.
SIMULATOR = {"SIMULATOR_ADMIN": "true", "SIMULATOR_IP_WEIGHT_PER_MINUTE": "0", "SIMULATOR_TICK_MS": "100"}
APP = build()


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as the one object it must be."""
        (line,) = self.out.splitlines()
        return json.loads(line)

    @property
    def lines(self) -> list[Any]:
        """Standard output as one object a line."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def error(self) -> Any:
        """The last line of standard error as the error of `--output json`."""
        return json.loads(self.err.splitlines()[-1])["error"]


class Cli:
    """Runs commands in this process, so that a test pays for imports once."""

    def __init__(self, **environ: str) -> None:
        self.environ = {**PATIENT, **environ}

    def __call__(self, *arguments: str, code: int | None = 0) -> Ran:
        done = CliRunner().invoke(APP, list(arguments), env=self.environ, prog_name="venuemesh")
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        ran = Ran(done.exit_code, done.stdout, done.stderr)
        assert code is None or ran.code == code, f"{arguments} exited with {ran.code}: {ran.out}{ran.err}"
        return ran

    def json(self, *arguments: str, code: int | None = 0) -> Any:
        """The answer of a command for scripts."""
        return self(*arguments, "--output", "json", code=code).json

    @contextmanager
    def running(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """A command in a process of its own, killed when it is not over in time."""
        environ = {**os.environ, **self.environ}
        with subprocess.Popen(
            (*COMMAND, *arguments), cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True
        ) as process:
            too_late = threading.Timer(UP_TIMEOUT_S, process.kill)
            too_late.start()
            try:
                yield process
            finally:
                too_late.cancel()
                process.kill()


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalMesh:
    """A mesh on this machine, as `venuemesh up` printed it."""

    addresses: Mapping[str, str]
    state: Path

    @property
    def environ(self) -> dict[str, str]:
        """What a command needs to reach it."""
        return {"VENUEMESH_ROUTER": self.addresses["router"], "VENUEMESH_AGGREGATOR": self.addresses["aggregator"]}

    def fault(self, kind: str, match: str, *, venue: str = "") -> None:
        """Let the simulated venue do one thing wrong."""
        body = json.dumps({"kind": kind, "match": match, "count": 1}).encode()
        url = f"{self.addresses['simulator']}/sim/faults{f'?venue={venue}' if venue else ''}"
        request = urllib.request.Request(url, body, method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            assert answer.status == 200


@contextmanager
def running_mesh(state: Path) -> Iterator[LocalMesh]:
    """`venuemesh up` in a process of its own, and `venuemesh down` at the end."""
    arguments = ("up", "--ports", "auto", "--no-walkthrough", "--state-dir", str(state))
    environ = {**os.environ, **SIMULATOR}
    process = subprocess.Popen(
        (*COMMAND, *arguments), cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    too_late = threading.Timer(UP_TIMEOUT_S, process.kill)
    too_late.start()
    said: list[str] = []
    try:
        for line in process.stdout:
            said.append(line)
            if "Ctrl-C" in line:
                break
        too_late.cancel()
        assert process.poll() is None, "".join(said)
        rows = re.findall(r"^  (\w+) +(\S+:\d+)(?: |$)", "".join(said), re.MULTILINE)
        yield LocalMesh(addresses=dict(rows), state=state)
        down = subprocess.run(
            (*COMMAND, "down", "--state-dir", str(state)), cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert (down.returncode, down.stdout) == (0, "the mesh is down\n"), down.stderr
        rest, _ = process.communicate(timeout=UP_TIMEOUT_S)
        assert process.returncode == 0, rest
    finally:
        too_late.cancel()
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
