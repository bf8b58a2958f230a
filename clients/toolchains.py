"""Build the example clients whose toolchain is on this machine: `python clients/toolchains.py [name ...]`.

Exit code: 0 when every client was built or skipped with a reason, 1 when a build failed, 2 for an unknown name.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BUILD_TIMEOUT_S = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """How one client is built and run.

    Args:
        needs: programs that must be on PATH.
        build: commands, run in the client's folder.
        run: the command that runs it, relative to its folder.
        made: what the build leaves there, relative to its folder.
    """

    name: str
    needs: tuple[str, ...]
    build: tuple[tuple[str, ...], ...]
    run: tuple[str, ...]
    made: str

    @property
    def folder(self) -> Path:
        return HERE / self.name

    def missing(self) -> str | None:
        """Why it cannot be built here; None when it can."""
        absent = [program for program in self.needs if shutil.which(program, path=search_path()) is None]
        return f"{', '.join(absent)} not found" if absent else None


CLIENTS = (
    Client(
        name="go",
        needs=("go", "buf"),
        build=(
            ("buf", "generate"),
            ("cp", "../service_config.json", "gen/service_config.json"),
            ("go", "build", "-o", "bin/example", "."),
        ),
        run=("bin/example",),
        made="bin/example",
    ),
    Client(
        name="typescript",
        needs=("node", "npm", "buf"),
        build=(
            ("npm", "ci", "--silent", "--ignore-scripts"),
            ("buf", "generate"),
            ("npm", "run", "--silent", "build"),
        ),
        run=("node", "dist/example.js"),
        made="dist/example.js",
    ),
    Client(
        name="java",
        needs=("java", "mvn"),
        build=(("mvn", "--batch-mode", "--quiet", "package"),),
        run=("java", "-jar", "target/example.jar"),
        made="target/example.jar",
    ),
    Client(
        name="rust",
        needs=("cargo",),
        build=(("cargo", "build", "--quiet"),),
        run=("target/debug/example",),
        made="target/debug/example",
    ),
    Client(
        name="python",
        needs=(),
        build=((sys.executable, "generate.py"),),
        run=(sys.executable, "example.py"),
        made="gen/venuemesh/v1/order_service_pb2_grpc.py",
    ),
)


def search_path() -> str:
    """PATH with the programs of this environment, buf among them, behind it."""
    return f"{os.environ.get('PATH', '')}{os.pathsep}{Path(sys.executable).parent}"


def build(client: Client) -> bool:
    """Build one client; what the tools say goes to the terminal. Whether every command succeeded."""
    for command in client.build:
        done = subprocess.run(  # noqa: S603 - the commands above
            command,
            cwd=client.folder,
            env={**os.environ, "PATH": search_path()},
            check=False,
            timeout=BUILD_TIMEOUT_S,
        )
        if done.returncode != 0:
            print(f"{client.name}: `{' '.join(command)}` exited with {done.returncode}", file=sys.stderr)
            return False
    return True


def main(names: Sequence[str]) -> int:
    known = {client.name: client for client in CLIENTS}
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"no client {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    failed = False
    for client in (known[name] for name in names or known):
        why = client.missing()
        if why is not None:
            print(f"{client.name}: skipped, {why}", flush=True)
            continue
        built = build(client)
        failed = failed or not built
        print(f"{client.name}: {'built' if built else 'failed'}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
