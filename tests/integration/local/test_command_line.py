"""The command line over fake services, and the rows whose programs exist outside this package."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from deploy.local.__main__ import nats_server
from deploy.local.mesh import Ports, make_accounts, mesh_services
from deploy.local.ports import PortBusy, require_free
from deploy.local.services import Known
from deploy.local.state import StateFolder
from deploy.local.supervisor import Policy, Supervisor

ROOT = Path(__file__).resolve().parents[3]
BOUND_S = 60.0

# The command line with a table of fakes in place of the mesh's.
FAKED = """
import sys
from pathlib import Path
from deploy.local import __main__ as command
from tests.integration.local.fake_services import fake
CODE = '''
if os.environ.get("FAKE_DEAF"): signal.signal(signal.SIGTERM, signal.SIG_IGN)
ready(grpc_address="127.0.0.1:1", metrics_address="127.0.0.1:2")
signal.pause()
'''
journal = Path(sys.argv[1])
command.mesh_services = lambda **_: tuple(fake(name, journal, CODE) for name in ("nats", "aggregator", "router"))
sys.exit(command.main(sys.argv[2:]))
"""


def up(folder: Path, *more: str) -> list[str]:
    return [str(folder / "journal"), "up", "--no-walkthrough", "--state-dir", str(folder / "state"), *more]


@asynccontextmanager
async def command(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A running command line, killed at the end if it is still there."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", FAKED, *arguments),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def until_up(process: asyncio.subprocess.Process) -> list[str]:
    assert process.stdout is not None
    seen: list[str] = []
    async with asyncio.timeout(BOUND_S):
        while line := (await process.stdout.readline()).decode():
            seen.append(line.rstrip())
            if "Ctrl-C" in line:
                return seen
    raise AssertionError(f"ended before it was up: {seen}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_up_when_signalled_drains_and_exits_zero(tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C, an init system and a closed terminal all end the mesh in order."""
    async with command(*up(tmp_path)) as process, asyncio.timeout(BOUND_S):
        said = await until_up(process)
        process.send_signal(number)
        rest, _ = await process.communicate()
        assert process.returncode == 0, rest
    text = "\n".join(said)
    assert "3 services are SERVING after" in text
    assert "router      127.0.0.1:1  http://127.0.0.1:2/metrics" in text
    assert rest.decode().rstrip().endswith("the mesh is down")
    assert (tmp_path / "journal").read_text().splitlines()[-3:] == ["stop router", "stop aggregator", "stop nats"]


async def test_up_when_signalled_twice_kills_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operator who does not want to wait for the grace of 15 s per service need not."""
    monkeypatch.setenv("FAKE_DEAF", "1")
    async with command(*up(tmp_path)) as process:
        await until_up(process)
        assert process.stdout is not None
        async with asyncio.timeout(BOUND_S / 2):
            process.send_signal(signal.SIGINT)
            while b"once more to kill" not in await process.stdout.readline():
                pass
            process.send_signal(signal.SIGINT)
            rest, _ = await process.communicate()
    assert process.returncode == 0
    assert b"killing everything" in rest


async def test_down_when_a_mesh_is_up_stops_it_and_a_second_up_is_refused_before(tmp_path: Path) -> None:
    """One mesh per folder; `down` waits until it is gone."""
    async with command(*up(tmp_path)) as first, asyncio.timeout(BOUND_S):
        await until_up(first)
        async with command(*up(tmp_path)) as second:
            refused, _ = await second.communicate()
            assert second.returncode == 1
            assert f"a mesh is up in {tmp_path / 'state'} (process {first.pid})" in refused.decode()
        async with command("-", "down", "--state-dir", str(tmp_path / "state")) as stopper:
            told, _ = await stopper.communicate()
            assert (stopper.returncode, told.decode()) == (0, "the mesh is down\n")
        await first.communicate()
        assert first.returncode == 0


async def test_down_when_nothing_is_up_says_so(tmp_path: Path) -> None:
    """There is nothing to stop, which is what was asked for."""
    async with command("-", "down", "--state-dir", str(tmp_path)) as process, asyncio.timeout(BOUND_S):
        told, _ = await process.communicate()
    assert process.returncode == 0
    assert "no mesh is up" in told.decode()


async def test_rows_of_broker_and_simulator_start_the_real_programs(tmp_path: Path) -> None:
    """nats-server's and the simulator's ready lines are understood; the facts hold their addresses."""
    state = StateFolder(tmp_path)
    table = mesh_services(
        ports=Ports.auto(),
        nats_server=nats_server(),
        jetstream=state.jetstream,
        accounts=make_accounts(state),
    )
    mesh = Supervisor(
        table[:2],
        logs=state.logs,
        folder=ROOT,
        environ=os.environ,
        say=lambda line: None,
        policy=Policy(ready_timeout_s=BOUND_S),
    )

    async def connect(known: Known) -> None:
        for url in (known["nats"]["url"], known["simulator"]["hyperliquid_url"]):
            host, port = url.rpartition("//")[2].split(":")
            _, writer = await asyncio.open_connection(host, int(port))
            writer.close()
            await writer.wait_closed()

    async with asyncio.timeout(BOUND_S):
        assert await mesh.run(connect, asyncio.Event())


def test_require_free_when_a_port_is_held_names_port_use_and_owner(tmp_path: Path) -> None:
    """The operator reads which port, what for, and which process has it."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        table = mesh_services(
            ports=Ports(nats=port, simulator=0, router=0, router_metrics=0),
            nats_server="nats-server",
            jetstream=tmp_path,
            accounts=make_accounts(StateFolder(tmp_path)),
        )
        with pytest.raises(PortBusy) as failure:
            require_free(table[:1])
    text = str(failure.value)
    assert f"127.0.0.1:{port} (nats, NATS) is held by process {os.getpid()} (" in text
    assert "--ports auto" in text
