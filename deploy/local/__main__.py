"""`python -m deploy.local up|demo|down`: the mesh on this machine.

Exit code: 0 when everything asked for was done, 1 when not, 2 for a wrong command line.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy.local.mesh import ACCOUNT_ID, VENUE, VENUES, Ports, make_accounts, mesh_services, secured_services
from deploy.local.ports import PortBusy, require_free
from deploy.local.routing_walk import RoutedSetting
from deploy.local.security import LocalSecurity
from deploy.local.services import Known, Service
from deploy.local.split_walk import SplitWalk
from deploy.local.state import StateBusy, StateFolder
from deploy.local.summary import example_calls, service_table, warning_table
from deploy.local.supervisor import MeshFailure, Policy, Supervisor
from deploy.local.walkthrough import Setting, walk
from deploy.local.watching import StepFailed
from venuemesh.channels import open_channel
from venuemesh.clock import Clock, SystemClock

ROOT = Path(__file__).resolve().parents[2]
ROUTED_QUANTITY = "0.01"
"""Of bitcoin, which every venue that lists it takes: far above the minimum, within its first price levels."""
DOWN_TIMEOUT_S = 90.0
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class CannotStart(Exception):
    """Something the mesh needs is missing; the text says what to do."""


def parser() -> argparse.ArgumentParser:
    """The command line."""
    main = argparse.ArgumentParser(prog="python -m deploy.local", description="The mesh on this machine.")
    commands = main.add_subparsers(dest="command", required=True)
    state = argparse.ArgumentParser(add_help=False)
    state.add_argument("--state-dir", type=Path, default=ROOT / ".run", help="logs, data and keys (default: .run)")
    common = argparse.ArgumentParser(add_help=False, parents=[state])
    common.add_argument(
        "--ports", choices=("default", "auto"), default="default", help="the documented ports, or any free ones"
    )
    common.add_argument(
        "--keep",
        action="store_true",
        help="keep orders, keys and logs of earlier starts; the simulated venue itself always starts anew",
    )
    common.add_argument(
        "--tls",
        action="store_true",
        help="TLS between all services, and tokens for callers, made below the state folder",
    )
    common.add_argument(
        "--ready-timeout", type=float, default=30.0, metavar="S", help="seconds a service may take to be SERVING"
    )
    up = commands.add_parser("up", parents=[common], help="start, show the main job, stay up until Ctrl-C")
    up.add_argument("--no-walkthrough", action="store_true", help="start without sending any order")
    commands.add_parser("demo", parents=[common], help="start, check the main job step by step, stop")
    commands.add_parser("down", parents=[state], help="stop the mesh that is up in the folder")
    return main


def nats_server() -> str:
    """The nats-server on PATH, else the one installed beside this interpreter."""
    beside = Path(sys.executable).parent / "nats-server"
    found = shutil.which("nats-server") or (str(beside) if beside.exists() else None)
    if found is None:
        raise CannotStart("no nats-server on PATH nor in this environment: run `make setup`")
    return found


class LocalMesh:
    """One start of the mesh, as the command line wants it."""

    def __init__(self, options: argparse.Namespace, state: StateFolder, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._began_s = clock.monotonic_s()
        # Unique among all starts over the same data: the journal keeps keys for ever.
        self._run_id = f"walk-{clock.now_ns() // 1_000_000}"
        ports = Ports.auto() if options.ports == "auto" else Ports()
        self._security = LocalSecurity.make(state.root, secured_services(), clock) if options.tls else None
        self._services: Sequence[Service] = mesh_services(
            ports=ports,
            nats_server=nats_server(),
            jetstream=state.jetstream,
            accounts=make_accounts(state),
            security=self._security,
        )
        require_free(self._services)
        self._stop = asyncio.Event()
        self._supervisor = Supervisor(
            self._services,
            logs=state.logs,
            folder=ROOT,
            environ=os.environ,
            say=say,
            policy=Policy(ready_timeout_s=options.ready_timeout),
            clock=clock,
            tls=None if self._security is None else self._security.channel,
        )
        self._logs = state.logs

    async def run(self) -> bool:
        """Up and down again; whether everything that was asked for was done. Raises what the supervisor does."""
        body = self._demo if self._options.command == "demo" else self._stay_up
        with self._signals():
            finished = await self._supervisor.run(body, self._stop)
        warnings = warning_table(self._supervisor.warnings())
        if warnings:
            say(f"warnings in {self._logs}:\n{warnings}")
        say("the mesh is down")
        # Being stopped is the normal end of `up` and a demo cut short otherwise.
        return finished or self._options.command == "up"

    async def _demo(self, known: Known) -> None:
        self._say_serving()
        await self._walk(known)
        say("every step holds")

    async def _stay_up(self, known: Known) -> None:
        self._say_serving()
        if not self._options.no_walkthrough:
            await self._walk(known)
        say(f"\n{service_table(self._services, known)}\n\nlogs: {self._logs}\n")
        say("try (grpcurl needs no proto files, the servers describe themselves):")
        calls = example_calls(
            router=known["router"]["grpc_address"],
            aggregator=known["aggregator"]["grpc_address"],
            venue=VENUE,
            account_id=ACCOUNT_ID,
            symbol=VENUES[0].symbol,
            run_id=self._run_id,
            flags="-plaintext" if self._security is None else _tls_flags(self._security),
        )
        for call in calls:
            say(f"  {call}")
        say("\nCtrl-C stops everything")
        await self._stop.wait()

    async def _walk(self, known: Known) -> None:
        say("the main job, through the public services:")
        first, *others = (
            Setting(
                router=known["router"]["grpc_address"],
                aggregator=known["aggregator"]["grpc_address"],
                venue=row.venue,
                account_id=ACCOUNT_ID,
                symbol=row.symbol,
                run_id=self._run_id,
                tls=None if self._security is None else self._security.channel,
                token=None if self._security is None else self._security.token,
            )
            for row in VENUES
        )
        routed = RoutedSetting(
            venues=tuple(row.venue for row in VENUES if row.symbol == first.symbol),
            account_id=ACCOUNT_ID,
            symbol=first.symbol,
            quantity=ROUTED_QUANTITY,
            run_id=self._run_id,
        )
        await walk(first, say, others, routed)
        say(f"divided over {' and '.join(routed.venues)}, and refused by a limit:")
        async with open_channel(first.router, tls=first.tls, token=first.token) as router:
            await SplitWalk(routed, say, router).run()

    def _say_serving(self) -> None:
        say(f"{len(self._services)} services are SERVING after {self._clock.monotonic_s() - self._began_s:.1f} s")

    @contextmanager
    def _signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()

        def asked(number: signal.Signals) -> None:
            if self._stop.is_set():
                say("killing everything")
                self._supervisor.kill_all()
            else:
                say(f"\n{number.name}: stopping; once more to kill")
                self._stop.set()

        for number in _STOP_SIGNALS:
            loop.add_signal_handler(number, asked, number)
        try:
            yield
        finally:
            for number in _STOP_SIGNALS:
                loop.remove_signal_handler(number)


def _tls_flags(security: LocalSecurity) -> str:
    """What grpcurl needs at the router and the aggregator; a gateway asks for `-cert` and `-key` too."""
    return f'-cacert {security.channel.ca_file} -H "authorization: Bearer $(cat {security.token_file})"'


def say(line: str) -> None:
    """One line for the operator, at once."""
    print(line, flush=True)


async def start(options: argparse.Namespace, state: StateFolder) -> bool:
    """Run `up` or `demo` in a folder that is ours."""
    return await LocalMesh(options, state, SystemClock()).run()


def down(state: StateFolder) -> bool:
    """Ask the mesh of the folder to stop and wait until it has; whether it did, or there was none."""
    process = state.running()
    if process is None:
        say(f"no mesh is up in {state.root}")
        return True
    os.kill(process, signal.SIGTERM)
    clock = SystemClock()
    until_s = clock.monotonic_s() + DOWN_TIMEOUT_S
    while state.running() is not None:
        if clock.monotonic_s() > until_s:
            say(f"process {process} is still there after {DOWN_TIMEOUT_S:g} s")
            return False
        time.sleep(0.05)
    say("the mesh is down")
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    options = parser().parse_args(arguments)
    state = StateFolder(options.state_dir)
    try:
        if options.command == "down":
            return 0 if down(state) else 1
        with state.locked():
            if not options.keep:
                state.wipe()
            return 0 if asyncio.run(start(options, state)) else 1
    except (MeshFailure, StepFailed, PortBusy, StateBusy, CannotStart) as error:
        print(f"failed: {error}", file=sys.stderr)
    except OSError as error:
        print(f"failed: {error.strerror}: {error.filename or 'no file'}", file=sys.stderr)
    except KeyboardInterrupt:
        # Before the signal handlers are there nothing has been started.
        print("failed: interrupted before the start", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
