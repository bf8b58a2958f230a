"""`python -m benchmarks [--check] [--quick]`: everything in one run, into docs/performance.md and performance.json.

`--check` measures what is compared, writes nothing, and exits 1 when something got worse. `--quick` takes few samples,
to see that all of it works. One part after the other: they would disturb each other.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import uvloop

from benchmarks import footprint, submits, throughput, ticks
from benchmarks.report import page
from benchmarks.targets import TOLERANCE, compared, judge
from benchmarks.world import ROOT, mesh

DOCS = ROOT / "docs"
LIBRARIES = ("grpcio", "protobuf", "nats-py", "uvloop", "msgspec", "hyperliquid-python-sdk", "lighter-sdk", "ccxt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much of everything."""

    rounds: int = 400
    trades: int = 200
    orders: int = 400
    most_orders: int = 3_000
    growth_orders: int = 200
    starts: int = 3
    events: int = 100_000
    event_seconds: int = 5
    restart_events: int = 1_000_000
    restart_orders: int = 50_000
    streams: int = 1_000
    stream_seconds: int = 15
    decisions: int = 5_000
    routes: int = 1_000
    refill_s: float = throughput.BUDGET_S


QUICK = Plan(
    rounds=12,
    trades=5,
    orders=20,
    most_orders=60,
    growth_orders=8,
    starts=1,
    events=2_000,
    restart_events=6_000,
    restart_orders=500,
    event_seconds=1,
    streams=20,
    stream_seconds=2,
    decisions=100,
    routes=20,
    refill_s=0,
)


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


async def _script(name: str, *arguments: str) -> Any:
    """Run another benchmark's script and read its figures; what it says about its own bounds is judged here."""
    say(f"{name} ...")
    with tempfile.TemporaryDirectory(prefix="venuemesh-bench-") as folder:
        file = Path(folder) / "figures.json"
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", f"benchmarks.{name}", *arguments, "--json", str(file)),
            cwd=ROOT,
            stdout=asyncio.subprocess.DEVNULL,
        )
        await process.wait()
        if not file.exists():
            raise RuntimeError(f"benchmarks.{name} ended with {process.returncode} and no figures")
        return json.loads(file.read_text())


async def measure(plan: Plan, *, compared_only: bool = False) -> dict[str, Any]:
    """Everything, or only what `compared` looks at."""
    results: dict[str, Any] = {"machine": machine()}
    accounts = submits.Accounts()
    with tempfile.TemporaryDirectory(prefix="venuemesh-bench-") as folder:
        async with mesh(Path(folder), accounts.tables()) as running:
            # Memory first: what the other parts leave in the services is not what a service needs.
            say("footprint ...")
            results["footprint"] = await footprint.measure(running, orders=plan.growth_orders)
            await asyncio.sleep(plan.refill_s)
            say("submits ...")
            results["submits"] = await submits.measure(running, accounts, rounds=plan.rounds)
            if not compared_only:
                say("ticks ...")
                results["ticks"] = await ticks.measure(running, trades=plan.trades)
                await asyncio.sleep(plan.refill_s)
                say("throughput ...")
                results["throughput"] = await throughput.measure(
                    running, orders=plan.orders, most=plan.most_orders, refill_s=plan.refill_s
                )
    if not compared_only:
        await _scripts(plan, results)
    results["machine"]["load_after"] = [round(value, 1) for value in os.getloadavg()]
    return results


async def _scripts(plan: Plan, results: dict[str, Any]) -> None:
    results["risk_checks"] = await _script("risk_checks", "--orders", str(plan.decisions))
    results["route_plan"] = await _script("route_plan", "--rounds", str(plan.routes))
    results["route_plan_rounds"] = plan.routes
    results["events"] = await _script("events", "--events", str(plan.events), "--seconds", str(plan.event_seconds))
    results["restart"] = await _script("restart", "--events", str(plan.restart_events))
    results["gateway_restart"] = await _script("gateway_restart", "--orders", str(plan.restart_orders))
    streams = ("--streams", str(plan.streams), "--seconds", str(plan.stream_seconds))
    results["portfolio_streams"] = await _script("portfolio_streams", *streams)
    say("cold start ...")
    results["cold_start"] = await footprint.cold_start(plan.starts)


def machine() -> dict[str, Any]:
    """Where and when, and the versions that matter."""
    versions = {"Python": platform.python_version()}
    for name in LIBRARIES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "not installed"
    info = Path("/proc/cpuinfo")
    models = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": models[0].partition(":")[2].strip() if models else platform.machine(),
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "load": [round(value, 1) for value in os.getloadavg()],
        "versions": versions,
    }


def write(results: Mapping[str, Any], docs: Path) -> None:
    """Both files."""
    causes = json.loads((ROOT / "benchmarks" / "causes.json").read_text())
    full = {**results, "targets": [target.row() for target in judge(results)]}
    (docs / "performance.json").write_text(json.dumps(full, indent=1) + "\n")
    (docs / "performance.md").write_text(page(results, causes))


def main() -> int:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with docs/performance.json")
    parser.add_argument("--quick", action="store_true", help="few samples; the figures mean nothing")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the two files")
    options = parser.parse_args()
    results = uvloop.run(measure(QUICK if options.quick else Plan(), compared_only=options.check))
    if options.check:
        faults = compared(results, json.loads((options.docs / "performance.json").read_text()))
        for fault in faults:
            print(f"worse: {fault}")
        print(f"{len(faults)} figures beyond the tolerance of {TOLERANCE:g}")
        return int(bool(faults))
    write(results, options.docs)
    for target in judge(results):
        print(f"{'met   ' if target.met else 'MISSED'} {target.requirement} {target.what}: {target.value:,.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
