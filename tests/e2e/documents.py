"""Commands of the documents: found in their `sh` blocks, and run as they stand against a mesh."""

from __future__ import annotations

import base64
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ("README.md", "docs/runbook.md")
"""Those of docs/security.md have tests of their own."""
BLOCK = re.compile(r"(?:<!-- not run: (?P<why>[^\n]*) -->\n)?```sh\n(?P<body>.*?)```", re.DOTALL)
REFUSED = re.compile(r"# refused with (\w+)")
LINE_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Command:
    """One line of a document; `refused` is the reason it is to fail with, `not_run` why no test runs it."""

    document: str
    line: str
    refused: str = ""
    not_run: str = ""


def commands(document: str) -> list[Command]:
    """The lines of a document's blocks, in order; a comment `# refused with REASON` speaks of the next."""
    found: list[Command] = []
    for block in BLOCK.finditer((ROOT / document).read_text()):
        refused = ""
        for line in block["body"].splitlines():
            said = REFUSED.fullmatch(line)
            if said is None and line:
                found.append(Command(document, line, refused, block["why"] or ""))
            refused = said[1] if said else ""
    return found


def run(command: Command, addresses: Mapping[str, str], folder: Path) -> None:
    """Run a line in a folder that looks like a checkout, with the documented addresses replaced by real ones.

    Raises:
        AssertionError: it did not do what the document says.
    """
    line = command.line
    for documented, real in addresses.items():
        line = line.replace(documented, real)
    if line.startswith("grpcurl ") and shutil.which("grpcurl") is None:
        line = as_buf(line)
    (folder / ".run").mkdir(exist_ok=True)
    if not (folder / ".venv").exists():
        (folder / ".venv").symlink_to(sys.prefix)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ("/bin/sh", "-c", line),
        cwd=folder,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=LINE_TIMEOUT_S,
    )
    said = f"{command.document}: {line}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    if command.refused:
        assert done.returncode != 0 and command.refused in reasons_in(done.stderr), said
    else:
        assert done.returncode == 0 and not done.stderr, said


def reasons_in(answer: str) -> str:
    """What a failed call printed, with the details that buf leaves encoded."""
    encoded = re.findall(r'"value": "([A-Za-z0-9+/]+)"', answer)
    padded = (value + "=" * (-len(value) % 4) for value in encoded)
    return answer + "".join(base64.b64decode(value).decode(errors="replace") for value in padded)


def as_buf(line: str) -> str:
    """The same call for buf, which comes with the development tools and learns the methods from the server too."""
    words = shlex.split(line)
    assert words[:2] == ["grpcurl", "-plaintext"], line
    data = words[words.index("-d") + 1] if "-d" in words else "{}"
    address, method = words[-2:]
    call = ["buf", "curl", "--http2-prior-knowledge", "--protocol", "grpc"]
    return shlex.join([*call, "-d", data, f"http://{address}/{method}"])
