"""One short run of the crash harness in every test run; `make soak` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.run import Report, run_mesh
from tests.soak.summary import summary

SEED = 20
ATTACK_S = 8.0
LEAST_KILLS = 4


@pytest.mark.xdist_group("e2e")
async def test_nothing_is_lost_or_doubled_when_everything_dies_under_load(tmp_path: Path) -> None:
    """Properties 36 and 41: gateways, broker and router killed, both venues spoilt; then all is equal to the venue."""
    report = Report(seed=SEED)
    well = await run_mesh(tmp_path, report, seed=str(SEED), rounds=1, attack_s=ATTACK_S, least_kills=LEAST_KILLS)
    told = summary(report, minutes=ATTACK_S / 60)
    assert well, told
    assert report.violations == [], told
    # It must have been an attack, on orders that mattered.
    assert report.tally.kills.total() >= LEAST_KILLS, told
    assert report.tally.faults, told
    assert report.orders, told
