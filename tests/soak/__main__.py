"""`python -m tests.soak --minutes 30 [--seed 7]`: long runs with a summary; exit code 1 on any violation.

A run is a series of meshes, each with a seed of its own derived from the one given. The seed decides what is done and
in which order; what each blow meets is up to the machine, so that a seed that failed is to be repeated some times.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shutil
import sys
import time
from pathlib import Path

from tests.soak.run import Report, run_mesh
from tests.soak.summary import summary

ROOT = Path(__file__).resolve().parents[2]
MAX_FAILURES = 3


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Crash and fault runs.")
    parser.add_argument("--minutes", type=float, default=10.0, help="how long (default: 10)")
    parser.add_argument("--seed", type=int, default=None, help="of the blows (default: drawn)")
    parser.add_argument("--rounds", type=int, default=10, metavar="N", help="comparisons per mesh (default: 10)")
    parser.add_argument("--attack", type=float, default=12.0, metavar="S", help="seconds between them (default: 12)")
    parser.add_argument("--state-dir", type=Path, default=ROOT / ".run" / "soak", help="evidence of failures")
    options = parser.parse_args()
    report = Report(seed=secrets.randbelow(1_000_000) if options.seed is None else options.seed)
    began_s = time.monotonic()
    asyncio.run(soak(report, options, until_s=began_s + options.minutes * 60))
    print(summary(report, minutes=(time.monotonic() - began_s) / 60))
    return 1 if report.violations else 0


async def soak(report: Report, options: argparse.Namespace, *, until_s: float) -> None:
    """One mesh after the other; the folders of those that failed are kept, up to a few."""
    failures = 0
    while time.monotonic() < until_s and failures < MAX_FAILURES:
        seed = f"{report.seed}.{report.meshes + 1}"
        folder = options.state_dir / seed
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        well = await run_mesh(
            folder, report, seed=seed, rounds=options.rounds, attack_s=options.attack, until_s=until_s
        )
        print(
            f"mesh {seed}: {'well' if well else f'FAILED, evidence in {folder}'}; so far {report.rounds} comparisons, "
            f"{report.tally.total} kills and faults, {len(report.violations)} violations",
            flush=True,
        )
        if well:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            failures += 1


if __name__ == "__main__":
    sys.exit(main())
