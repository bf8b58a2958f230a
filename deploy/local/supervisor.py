"""Starts the services of a table, keeps them up, and ends them in reverse: nothing is left behind.

A service starts as soon as those it needs have told their addresses, so what is independent starts at once.
One that dies before it was ever ready fails the mesh; one that dies later is started again with growing
pauses, a bounded number of times. Every failure names the service and shows its last lines.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.local.health import NotServing, wait_serving
from deploy.local.output import TAIL_LINES, ServiceLog, readable
from deploy.local.process import RunningProcess, describe_exit
from deploy.local.services import Facts, Known, Service, check_table, launch_of
from venuemesh.clock import Clock, SystemClock
from venuemesh.security.certificates import ChannelFiles

Body = Callable[[Known], Awaitable[None]]
"""What happens while the mesh is up; the mesh goes down when it returns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Bounds of the supervisor, in seconds unless a count.

    Args:
        ready_timeout_s: from the start of a process until it is SERVING.
        grace_s: from SIGTERM until SIGKILL.
        max_restarts: of one service; counted anew after `healthy_after_s` without a fault.
        first_pause_s: before the first restart; doubled each time, at most `longest_pause_s`.
    """

    ready_timeout_s: float = 30.0
    grace_s: float = 15.0
    max_restarts: int = 5
    first_pause_s: float = 0.25
    longest_pause_s: float = 5.0
    healthy_after_s: float = 60.0

    def pause_s(self, restart: int) -> float:
        """Pause before restart number `restart`, from 1."""
        # Capped before the power grows beyond what a float holds.
        return float(min(self.first_pause_s * 2.0 ** min(restart - 1, 30), self.longest_pause_s))


class MeshFailure(Exception):
    """The mesh cannot be up; the text names the service at fault and shows its last lines."""


class _Attempt(Exception):
    """One attempt to run a service ended; the text says how."""


class Supervisor:
    """Runs one table of services. Use once.

    Args:
        services: each below those it needs.
        logs: folder of the log files.
        folder: working folder of the services.
        environ: what the services inherit.
        say: takes one line for people.
        tls: certificates for asking services for their health; plain text without.
    """

    def __init__(
        self,
        services: Sequence[Service],
        *,
        logs: Path,
        folder: Path,
        environ: Mapping[str, str],
        say: Callable[[str], None],
        policy: Policy | None = None,
        clock: Clock | None = None,
        tls: ChannelFiles | None = None,
    ) -> None:
        check_table(services)
        self._services = tuple(services)
        self._folder = folder
        self._environ = environ
        self._say = say
        self._policy = policy or Policy()
        self._clock = clock or SystemClock()
        self._tls = tls
        self._logs = {service.name: ServiceLog(logs / f"{service.name}.log") for service in services}
        self._running: dict[str, RunningProcess] = {}
        self._known: dict[str, Facts] = {}
        self._addressed = {service.name: asyncio.Event() for service in services}
        self._up = {service.name: asyncio.Event() for service in services}
        self._output: asyncio.TaskGroup

    @property
    def process_groups(self) -> dict[str, int]:
        """Process group per running service."""
        return {name: process.pid for name, process in self._running.items()}

    def warnings(self) -> dict[str, dict[str, int]]:
        """Warnings and errors logged so far, by service and event name, most frequent first."""
        return {name: dict(log.warnings.most_common()) for name, log in self._logs.items() if log.warnings}

    async def run(self, body: Body, stop: asyncio.Event) -> bool:
        """Bring the mesh up, run `body`, bring it down; returns whether `body` ran to its end.

        Args:
            stop: brings the mesh down at any moment.
        Raises:
            MeshFailure: a service cannot be started, or died too often.
            Exception: whatever `body` raised.
        """
        finished = False

        async def work() -> None:
            nonlocal finished
            for event in self._up.values():
                await event.wait()
            await body(self._known)
            finished = True

        try:
            # The readers of the output outlive the drain, whose log lines they write.
            async with asyncio.TaskGroup() as self._output:
                try:
                    await self._keep_all(work, stop)
                finally:
                    await self._drain()
        except ExceptionGroup as group:
            raise _first(group) from None
        finally:
            for process in self._running.values():
                process.kill()
            for log in self._logs.values():
                log.close()
        return finished

    async def _keep_all(self, work: Callable[[], Awaitable[None]], stop: asyncio.Event) -> None:
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(self._keep(service), name=service.name) for service in self._services]
            ends = [
                tasks.create_task(_as_coroutine(work), name="body"),
                tasks.create_task(_as_coroutine(stop.wait), name="stop"),
            ]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            for task in (*running, *ends):
                task.cancel()

    async def _keep(self, service: Service) -> None:
        """Start `service` and start it again when it dies; never returns."""
        for name in service.needs:
            await self._addressed[name].wait()
        restarts = 0
        while True:
            began_s = self._clock.monotonic_s()
            try:
                await self._attempt(service)
            except _Attempt as fault:
                if not self._up[service.name].is_set():
                    raise MeshFailure(self._report(service, str(fault))) from None
                if self._clock.monotonic_s() - began_s >= self._policy.healthy_after_s:
                    restarts = 0
                if restarts >= self._policy.max_restarts:
                    text = f"{fault}; it was restarted {restarts} times, which is the limit"
                    raise MeshFailure(self._report(service, text)) from None
                restarts += 1
                pause_s = self._policy.pause_s(restarts)
                self._say(self._report(service, f"{fault}; restart {restarts} in {pause_s:g} s"))
                await asyncio.sleep(pause_s)

    async def _attempt(self, service: Service) -> None:
        """Run the service once, until it ends. Always raises `_Attempt`."""
        name = service.name
        ready: asyncio.Future[Facts] = asyncio.get_running_loop().create_future()

        def take(line: str) -> None:
            self._logs[name].write(line)
            facts = service.ready(line)
            if facts is not None and not ready.done():
                ready.set_result(facts)

        launch = launch_of(service, self._services, self._known, environ=self._environ, folder=self._folder)
        process = await RunningProcess.start(launch, name=name, take=take, tasks=self._output)
        self._running[name] = process
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_until_exit(process), name=f"{name}-exit")
                await self._until_up(service, process, ready)
        except ExceptionGroup as group:
            fault = _first(group)
            if not isinstance(fault, _Attempt):
                raise fault from None
            await process.stop(self._policy.grace_s)
            raise fault from None

    async def _until_up(self, service: Service, process: RunningProcess, ready: asyncio.Future[Facts]) -> None:
        timeout_s, again = self._policy.ready_timeout_s, self._up[service.name].is_set()
        began_s = self._clock.monotonic_s()
        try:
            async with asyncio.timeout(timeout_s):
                facts = await ready
        except TimeoutError:
            raise _Attempt(f"did not say that it is ready within {timeout_s:g} s") from None
        self._known[service.name] = facts
        self._addressed[service.name].set()
        for health_name in service.health:
            try:
                left_s = max(timeout_s - (self._clock.monotonic_s() - began_s), 0.1)
                address = facts.get("grpc_address", "")
                await wait_serving(address, name=health_name, timeout_s=left_s, tls=self._tls)
            except NotServing as error:
                raise _Attempt(f"is not SERVING: {error}") from None
        self._up[service.name].set()
        if again:
            self._say(f"{service.name} is up again (process {process.pid})")

    async def _drain(self) -> None:
        for service in reversed(self._services):
            process = self._running.get(service.name)
            if process is None:
                continue
            if not await process.stop(self._policy.grace_s):
                self._say(f"{service.name} did not stop within {self._policy.grace_s:g} s and was killed")
            del self._running[service.name]

    def kill_all(self) -> None:
        """SIGKILL everything now: for an operator who does not want to wait for the drain."""
        for process in self._running.values():
            process.kill()

    def _report(self, service: Service, what: str) -> str:
        log = self._logs[service.name]
        lines = [part for line in log.tail() for part in readable(line)] or ["(it wrote nothing)"]
        shown = "\n".join(f"    {line}" for line in lines[-TAIL_LINES:])
        return f"{service.name} {what}\n  last lines of {log.path}:\n{shown}"


async def _as_coroutine(function: Callable[[], Awaitable[object]]) -> None:
    await function()


async def _until_exit(process: RunningProcess) -> None:
    raise _Attempt(f"ended with {describe_exit(await process.wait())}")


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The one exception that matters: the first, from however deep."""
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
