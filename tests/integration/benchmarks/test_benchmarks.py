"""The benchmarks still run: one mesh of real processes, a handful of samples of each kind."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks import footprint, submits, throughput, ticks
from benchmarks.world import mesh

LIMIT_S = 120


# The SDKs are not ours to tidy.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
async def test_every_part_that_needs_the_mesh_measures_something(tmp_path: Path) -> None:
    """Every contender's orders rest, and each figure is there."""
    accounts = submits.Accounts()
    async with asyncio.timeout(LIMIT_S), mesh(tmp_path, accounts.tables()) as running:
        memory = await footprint.measure(running, orders=4)
        assert memory["subscribed"]["router"]["own_mb"] > 0
        latency = (await submits.measure(running, accounts, rounds=2, round_s=0))["latency"]
        ours = {"venue raw", "gateway", "router", "bare echo", "bare proxy", "bare journal"}
        assert ours | {"SDK", "ccxt"} == set(latency["hyperliquid"])
        assert ours <= set(latency["lighter"])
        trades = await ticks.measure(running, trades=3)
        assert trades["after the venue's frame"]["router"]["count"] > 0
        rates = await throughput.measure(running, orders=8, most=60, refill_s=0, patience_s=1.5)
        assert rates["spent budget"]["cancels"]["count"] > 0
