"""One process of the mesh: started in a process group of its own, read, and ended with all it started."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from deploy.local.output import pump

LEASH = Path(__file__).with_name("leash.py")
LAST_WORDS_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What to run: the command and its whole environment."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path


class RunningProcess:
    """A started process. Make it with `start`."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        pipes: list[asyncio.ReadTransport],
        pumps: list[asyncio.Task[None]],
    ) -> None:
        self._process = process
        self._pipes = pipes
        self._pumps = pumps
        self._buried = False

    @classmethod
    async def start(
        cls, launch: Launch, *, name: str, take: Callable[[str], None], tasks: asyncio.TaskGroup
    ) -> RunningProcess:
        """Start on the leash; each line of output and error goes to `take`.

        Args:
            tasks: runs the readers of the output, so it must outlive the process.
        """
        # Pipes of our own rather than asyncio's: its `wait` may wait for the pipes too, which a grandchild
        # that outlives the service keeps open.
        readers: list[asyncio.StreamReader] = []
        pipes: list[asyncio.ReadTransport] = []
        writers: list[int] = []
        try:
            for _ in range(2):
                reader, pipe, write_end = await _open_pipe()
                readers.append(reader)
                pipes.append(pipe)
                writers.append(write_end)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), *launch.command),
                env=dict(launch.environment),
                cwd=launch.folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writers[0],
                stderr=writers[1],
                process_group=0,
            )
        except BaseException:
            for pipe in pipes:
                pipe.close()
            raise
        finally:
            for write_end in writers:
                os.close(write_end)
        pumps = [tasks.create_task(pump(reader, take), name=f"{name}-output") for reader in readers]
        return cls(process, pipes, pumps)

    @property
    def pid(self) -> int:
        """Also the id of its process group."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it has not been seen to end."""
        return self._process.returncode is None

    async def wait(self) -> int:
        """Its exit code once it ended, negative for a signal; what it started is killed, its last words read."""
        code = await self._process.wait()
        await self._bury()
        return code

    async def stop(self, grace_s: float) -> bool:
        """SIGTERM, then SIGKILL after `grace_s`; returns whether it ended by itself in time."""
        in_time = True
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_s):
                await self._process.wait()
        except TimeoutError:
            in_time = False
            self.kill()
            await self._process.wait()
        await self._bury()
        return in_time

    def kill(self) -> None:
        """SIGKILL the whole group; does nothing once it was seen empty, for its number may be another's then."""
        if self._buried:
            return
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            # PermissionError: macOS's answer for a group of zombies.
            return

    def _signal(self, number: signal.Signals) -> None:
        if self.alive:
            self._process.send_signal(number)

    async def _bury(self) -> None:
        self.kill()
        self._buried = True
        _, unfinished = await asyncio.wait(self._pumps, timeout=LAST_WORDS_S)
        for task in unfinished:
            task.cancel()
        for pipe in self._pipes:
            pipe.close()


async def _open_pipe() -> tuple[asyncio.StreamReader, asyncio.ReadTransport, int]:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    read_end, write_end = os.pipe()
    try:
        pipe, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb", buffering=0)
        )
    except BaseException:
        os.close(write_end)
        raise
    return reader, pipe, write_end


def describe_exit(code: int) -> str:
    """`exit code 3` or `signal SIGKILL`."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
