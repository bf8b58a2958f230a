"""A real nats-server for tests: its own port and folder, and the ways it can fail."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

START_TIMEOUT_S = 60.0


def nats_server_path() -> str:
    """The nats-server on PATH, else the one installed beside this interpreter."""
    beside = Path(sys.executable).parent / "nats-server"
    found = shutil.which("nats-server") or (str(beside) if beside.exists() else None)
    if found is None:
        raise RuntimeError("no nats-server on PATH nor in the environment")
    return found


class Broker:
    """One nats-server with JetStream below `folder`. Keeps its port and data over restarts."""

    def __init__(self, folder: Path, arguments: Sequence[str] = ()) -> None:
        self._folder = folder
        self._arguments = arguments
        self._process: asyncio.subprocess.Process | None = None
        self._port = -1

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Start and wait until it has written its ports file, which it does when it listens."""
        ports = self._folder / "ports"
        shutil.rmtree(ports, ignore_errors=True)
        ports.mkdir(parents=True)
        self._process = await asyncio.create_subprocess_exec(
            nats_server_path(),
            *("--addr", "127.0.0.1", "--port", str(self._port), "--jetstream", "--ports_file_dir", str(ports)),
            *("--store_dir", str(self._folder / "data")),
            *self._arguments,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        async with asyncio.timeout(START_TIMEOUT_S):
            while not (text := _ports_file(ports, self._process.pid)):
                if self._process.returncode is not None:
                    raise RuntimeError(f"nats-server exited with {self._process.returncode}")
                await asyncio.sleep(0.01)
        self._port = int(json.loads(text)["nats"][0].rsplit(":", 1)[1])

    async def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Stop it politely, or with SIGKILL as a crash would."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.send_signal(how)
            await process.wait()

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        # The signal is sent at once and takes effect when the kernel gets to it: until then it may still answer.
        stat = Path(f"/proc/{self._process.pid}/stat")
        while stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "T":
            time.sleep(0.001)

    def unpause(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


def _ports_file(folder: Path, pid: int) -> str:
    for file in folder.glob(f"*_{pid}.ports"):
        return file.read_text()
    return ""
