"""The supervisor over real processes: order, failures, restarts, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.local.services import Known, Plan, Service
from deploy.local.supervisor import MeshFailure, Policy, Supervisor
from tests.integration.local.fake_services import STAY, fake, group_exists

ROOT = Path(__file__).resolve().parents[3]
BOUND_S = 30.0
QUICK = Policy(ready_timeout_s=BOUND_S, grace_s=BOUND_S, first_pause_s=0.01, longest_pause_s=0.02, max_restarts=2)


def supervisor(
    services: Sequence[Service], folder: Path, *, policy: Policy = QUICK, say: Callable[[str], None] | None = None
) -> Supervisor:
    return Supervisor(
        services,
        logs=folder / "logs",
        folder=folder,
        environ={"PATH": os.environ["PATH"], "ALPHA_SECRET": "a", "BETA_SECRET": "b"},
        say=say or (lambda line: None),
        policy=policy,
    )


async def nothing(known: Known) -> None:
    """A body that ends at once."""


def lines(journal: Path) -> list[str]:
    return journal.read_text().splitlines() if journal.exists() else []


async def test_run_when_services_need_each_other_starts_in_order_and_drains_in_reverse(tmp_path: Path) -> None:
    """A service starts after those it needs have told their addresses, and stops before them."""
    journal = tmp_path / "journal"
    show = "\nnote(f'{name} sees {os.environ[\"FAKE_FACT_ALPHA\"]}')" + STAY
    table = [
        fake("alpha", journal),
        fake("beta", journal, show, needs=("alpha",)),
        fake("gamma", journal, show, needs=("alpha", "beta")),
    ]
    mesh = supervisor(table, tmp_path)
    groups: dict[str, int] = {}

    async def body(known: Known) -> None:
        groups.update(mesh.process_groups)
        assert known["beta"]["url"] == "beta"

    async with asyncio.timeout(BOUND_S):
        assert await mesh.run(body, asyncio.Event())
    assert lines(journal) == [
        "start alpha",
        "start beta",
        "beta sees alpha",
        "start gamma",
        "gamma sees alpha",
        "stop gamma",
        "stop beta",
        "stop alpha",
    ]
    assert len(set(groups.values())) == 3
    assert not any(group_exists(group) for group in groups.values())


async def test_run_when_independent_starts_all_before_any_is_ready(tmp_path: Path) -> None:
    """Two services that wait for each other's start come up: nothing is started one after the other."""
    journal = tmp_path / "journal"
    for name in ("alpha", "beta"):
        os.mkfifo(f"{journal}.{name}")
    exchange = """
other = {"alpha": "beta", "beta": "alpha"}[name]
first, second = (name, other) if name == "alpha" else (other, name)
for fifo in (first, second):
    with open(f"{os.environ['FAKE_JOURNAL']}.{fifo}", "w" if fifo == name else "r"): pass
"""
    table = [fake(name, journal, exchange + STAY) for name in ("alpha", "beta")]
    async with asyncio.timeout(BOUND_S):
        assert await supervisor(table, tmp_path).run(nothing, asyncio.Event())


async def test_run_when_service_never_becomes_ready_names_it_with_its_last_lines(tmp_path: Path) -> None:
    """The failure says who, how long it was given, and shows its log."""
    journal = tmp_path / "journal"
    # A shell, because it is there at once: its line must come within the time-out on a busy machine too.
    slow = Plan(command=("/bin/sh", "-c", "echo still loading keys; exec sleep 600"), settings={})
    table = [fake("alpha", journal), replace(fake("beta", journal, needs=("alpha",)), plan=lambda known: slow)]
    mesh = supervisor(table, tmp_path, policy=Policy(ready_timeout_s=2.5, grace_s=BOUND_S))
    with pytest.raises(MeshFailure) as failure:
        await mesh.run(nothing, asyncio.Event())
    text = str(failure.value)
    assert "beta did not say that it is ready within 2.5 s" in text
    assert "still loading keys" in text
    assert mesh.process_groups == {}
    assert "stop alpha" in lines(journal)


async def test_run_when_service_dies_at_start_fails_at_once_with_its_last_lines(tmp_path: Path) -> None:
    """Wrong settings do not get better by trying again."""
    journal = tmp_path / "journal"
    table = [fake("alpha", journal, "\nprint('ROUTER_VENUES: is required', file=sys.stderr)\nsys.exit(2)")]
    with pytest.raises(MeshFailure, match=r"(?s)alpha ended with exit code 2.*ROUTER_VENUES: is required"):
        async with asyncio.timeout(BOUND_S):
            await supervisor(table, tmp_path).run(nothing, asyncio.Event())
    assert lines(journal) == ["start alpha"]


async def test_run_when_command_does_not_exist_names_the_service_and_the_command(tmp_path: Path) -> None:
    """A missing program is told in words."""
    table = [replace(fake("alpha", tmp_path / "journal"), plan=lambda known: Plan(command=("/nowhere/nats-server",)))]
    with pytest.raises(MeshFailure, match=r"(?s)alpha ended with exit code 127.*cannot run /nowhere/nats-server"):
        async with asyncio.timeout(BOUND_S):
            await supervisor(table, tmp_path).run(nothing, asyncio.Event())


async def test_run_when_service_dies_while_up_restarts_it_with_its_former_facts(tmp_path: Path) -> None:
    """It is started again, told what it said before, and the operator sees how it died."""
    journal = tmp_path / "journal"
    came_back = asyncio.Event()
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if "is up again" in line:
            came_back.set()

    code = "\nnote(f\"former {os.environ.get('FAKE_FACT_ALPHA', 'none')}\")" + STAY
    mesh = supervisor([fake("alpha", journal, code)], tmp_path, say=say)

    async def body(known: Known) -> None:
        os.kill(mesh.process_groups["alpha"], signal.SIGKILL)
        await came_back.wait()

    async with asyncio.timeout(BOUND_S):
        assert await mesh.run(body, asyncio.Event())
    assert lines(journal) == ["start alpha", "former none", "start alpha", "former alpha", "stop alpha"]
    assert "alpha ended with signal SIGKILL; restart 1 in 0.01 s" in said[0]


async def test_run_when_service_keeps_dying_gives_up_after_the_bound(tmp_path: Path) -> None:
    """Two restarts are allowed here; the third death brings the mesh down."""
    journal = tmp_path / "journal"
    table = [
        fake("alpha", journal),
        fake("beta", journal, "\nready(url=name)\nprint('out of luck', flush=True)\nsys.exit(3)", needs=("alpha",)),
    ]
    with pytest.raises(MeshFailure, match=r"(?s)beta ended with exit code 3; it was restarted 2 times.*out of luck"):
        async with asyncio.timeout(BOUND_S):
            await supervisor(table, tmp_path).run(_forever, asyncio.Event())
    assert lines(journal).count("start beta") == 3
    assert lines(journal)[-1] == "stop alpha"


async def _forever(known: Known) -> None:
    await asyncio.Event().wait()


async def test_run_when_asked_to_stop_during_start_drains_what_is_there(tmp_path: Path) -> None:
    """Ctrl-C does not wait for readiness, and the body has not run."""
    journal, stop = tmp_path / "journal", asyncio.Event()
    said: list[str] = []
    table = [fake("alpha", journal), fake("beta", journal, "\nsignal.pause()", needs=("alpha",))]
    mesh = supervisor(table, tmp_path, say=said.append)

    async def stop_once_started() -> None:
        while "start beta" not in lines(journal):
            await asyncio.sleep(0.01)
        stop.set()

    async with asyncio.timeout(BOUND_S), asyncio.TaskGroup() as tasks:
        tasks.create_task(stop_once_started())
        assert not await mesh.run(nothing, stop)
    assert lines(journal)[-2:] == ["stop beta", "stop alpha"]


async def test_run_when_service_ignores_sigterm_kills_it_and_what_it_started(tmp_path: Path) -> None:
    """After the grace comes SIGKILL for the whole process group, children of the service included."""
    journal = tmp_path / "journal"
    deaf = """
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
if child == 0:
    signal.pause()
ready(url=str(child))
signal.pause()
"""
    said: list[str] = []
    mesh = supervisor([fake("alpha", journal, deaf)], tmp_path, policy=Policy(grace_s=0.2), say=said.append)
    groups: list[int] = []

    async def body(known: Known) -> None:
        groups.append(mesh.process_groups["alpha"])
        assert os.getpgid(int(known["alpha"]["url"])) == groups[0]

    async with asyncio.timeout(BOUND_S):
        assert await mesh.run(body, asyncio.Event())
    assert said == ["alpha did not stop within 0.2 s and was killed"]
    async with asyncio.timeout(BOUND_S):
        # The grandchild is reaped by init, in its own time.
        while group_exists(groups[0]):
            await asyncio.sleep(0.01)


async def test_run_when_body_fails_drains_and_passes_the_failure_on(tmp_path: Path) -> None:
    """A walk-through that does not hold is the caller's to report; the mesh is down by then."""
    journal = tmp_path / "journal"

    async def body(known: Known) -> None:
        raise ValueError("the book is empty")

    with pytest.raises(ValueError, match="the book is empty"):
        async with asyncio.timeout(BOUND_S):
            await supervisor([fake("alpha", journal)], tmp_path).run(body, asyncio.Event())
    assert lines(journal) == ["start alpha", "stop alpha"]


async def test_run_hides_each_service_from_the_settings_of_the_others(tmp_path: Path) -> None:
    """A key that reaches one service's environment is not in another's."""
    journal = tmp_path / "journal"
    show = "\nnote(' '.join(sorted(key for key in os.environ if key.endswith('_SECRET'))))" + STAY
    table = [
        fake("alpha", journal, show, prefix="ALPHA_"),
        fake("beta", journal, show, prefix="BETA_", needs=("alpha",)),
    ]
    async with asyncio.timeout(BOUND_S):
        await supervisor(table, tmp_path).run(nothing, asyncio.Event())
    assert lines(journal)[:4] == ["start alpha", "ALPHA_SECRET", "start beta", "BETA_SECRET"]


async def test_warnings_counts_what_services_logged_by_event(tmp_path: Path) -> None:
    """The summary at the end names each warning once, with its number."""
    journal = tmp_path / "journal"
    code = """
for level in ("WARNING", "INFO", "WARNING", "ERROR"):
    print(json.dumps({"level": level, "event": f"{level.lower()}_seen"}), file=sys.stderr)
"""
    mesh = supervisor([fake("alpha", journal, code + STAY)], tmp_path)
    async with asyncio.timeout(BOUND_S):
        await mesh.run(nothing, asyncio.Event())
    assert mesh.warnings() == {"alpha": {"warning_seen": 2, "error_seen": 1}}


ORPHANS = """
import asyncio, json, os, sys
from pathlib import Path
from deploy.local.supervisor import Supervisor
from tests.integration.local.fake_services import fake

async def main():
    folder = Path(sys.argv[1])
    table = [fake("alpha", folder / "journal"), fake("beta", folder / "journal", needs=("alpha",))]
    mesh = Supervisor(table, logs=folder / "logs", folder=folder, environ=dict(os.environ), say=print)
    async def body(known):
        print(json.dumps(mesh.process_groups), flush=True)
        await asyncio.Event().wait()
    await mesh.run(body, asyncio.Event())

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
async def test_services_die_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    """SIGKILL leaves the supervisor no time for anything, and still no service survives it."""
    parent = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", ORPHANS, str(tmp_path)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert parent.stdout is not None
    try:
        async with asyncio.timeout(BOUND_S):
            groups = json.loads(await parent.stdout.readline()).values()
            assert all(group_exists(group) for group in groups)
            parent.kill()
            await parent.wait()
            while any(group_exists(group) for group in groups):
                await asyncio.sleep(0.01)
    finally:
        if parent.returncode is None:
            parent.kill()
            await parent.wait()
    # Killed, not asked: the fakes note a SIGTERM.
    assert not [line for line in lines(tmp_path / "journal") if line.startswith("stop")]
