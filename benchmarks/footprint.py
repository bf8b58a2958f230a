"""Memory of every service, its growth with orders, and the cold start: `python -m benchmarks.footprint`.

Memory is read from /proc: "resident" counts pages of libraries that other processes share in full, "own" only what
would be free again if the process ended. Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import re
import signal
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.contenders import OverGrpc, channel_to
from benchmarks.submits import reference_price
from benchmarks.world import ROOT, Mesh, mesh
from venuemesh.v1 import (
    instrument_service_pb2,
    instrument_service_pb2_grpc,
    market_data_service_pb2,
    market_data_service_pb2_grpc,
)

SETTLE_S = 3.0
BLOCKS = 4
ORDER_PAUSE_S = 0.04
"""Below 2,000 messages a minute with two for each order."""
START_TIMEOUT_S = 120.0


def memory(pid: int) -> dict[str, float]:
    """Resident and own memory of a process, in MB of 2**20 bytes."""
    kilobytes = {"Rss": 0, "Private_Clean": 0, "Private_Dirty": 0}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, value = line.split(":")
        if name in kilobytes:
            kilobytes[name] = int(value.split()[0])
    own = kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]
    return {"resident_mb": round(kilobytes["Rss"] / 1_024, 1), "own_mb": round(own / 1_024, 1)}


def _all(mesh: Mesh) -> dict[str, dict[str, float]]:
    return {name: memory(pid) for name, pid in mesh.pids.items()}


async def _subscribe(stack: AsyncExitStack, address: str) -> int:
    """Books, trades and statistics of every instrument of a gateway; gives the number of instruments."""
    channel = await stack.enter_async_context(channel_to(address))
    instruments: Any = instrument_service_pb2_grpc.InstrumentServiceStub(channel)
    answer = await instruments.ListInstruments(instrument_service_pb2.ListInstrumentsRequest())
    symbols = [instrument.symbol for instrument in answer.instruments]
    stub: Any = market_data_service_pb2_grpc.MarketDataServiceStub(channel)
    calls = [
        stub.StreamOrderBook(market_data_service_pb2.StreamOrderBookRequest(symbols=symbols)),
        stub.StreamTrades(market_data_service_pb2.StreamTradesRequest(symbols=symbols)),
        stub.StreamStatistics(market_data_service_pb2.StreamStatisticsRequest(symbols=symbols)),
    ]

    async def drain(call: Any) -> None:
        async for _ in call:
            pass

    tasks = [asyncio.create_task(drain(call), name="reader") for call in calls]
    for task in tasks:
        stack.callback(task.cancel)
    return len(symbols)


async def measure(mesh: Mesh, *, orders: int) -> dict[str, Any]:
    """Memory idle, subscribed, and after each block of orders."""
    idle, price = _all(mesh), await reference_price(mesh)
    async with AsyncExitStack() as stack:
        gateways = [name for name in mesh.pids if name.startswith("gateway_")]
        counts = {name: await _subscribe(stack, mesh.grpc(name)) for name in gateways}
        await asyncio.sleep(SETTLE_S)
        subscribed = _all(mesh)
        channel = await stack.enter_async_context(channel_to(mesh.grpc("router")))
        way = OverGrpc(channel, venue="hyperliquid", price=price, run_id=f"f{time.time_ns() // 1_000_000}")
        growth = [_grown(mesh)]
        for _ in range(BLOCKS):
            for _ in range(orders // BLOCKS):
                await way.prepare()
                await way.submit()
                await way.cancel()
                await asyncio.sleep(ORDER_PAUSE_S)
            growth.append(_grown(mesh))
    blocks = {name: [later[name] - sooner[name] for sooner, later in itertools.pairwise(growth)] for name in growth[0]}
    return {
        "idle": idle,
        "subscribed": subscribed,
        "instruments": counts,
        "growth_kb_per_order": {
            name: [round(1_024 * step / (orders // BLOCKS), 2) for step in steps] for name, steps in blocks.items()
        },
        "orders": orders,
    }


def _grown(mesh: Mesh) -> dict[str, float]:
    wanted = ("gateway_hyperliquid", "router", "aggregator")
    return {name: memory(mesh.pids[name])["own_mb"] for name in wanted}


async def cold_start(times: int) -> dict[str, Any]:
    """Seconds from the command of `make run` to every service SERVING."""
    found = []
    for _ in range(times):
        with tempfile.TemporaryDirectory(prefix="venuemesh-bench-") as folder:
            began_s = time.monotonic()
            command = ("deploy.local", "up", "--ports", "auto", "--no-walkthrough", "--state-dir", folder)
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", *command), cwd=ROOT, stdout=asyncio.subprocess.PIPE, env=dict(os.environ)
            )
            assert process.stdout is not None
            async with asyncio.timeout(START_TIMEOUT_S):
                while not re.search(rb"services are SERVING", line := await process.stdout.readline()):
                    if not line:
                        raise RuntimeError("the mesh did not start")
            found.append(time.monotonic() - began_s)
            process.send_signal(signal.SIGTERM)
            await process.stdout.read()
            await process.wait()
    return {"seconds": [round(value, 2) for value in found], "median_s": round(statistics.median(found), 2)}


async def _alone(orders: int, starts: int) -> None:
    with tempfile.TemporaryDirectory(prefix="venuemesh-bench-") as folder:
        async with mesh(Path(folder), {}) as running:
            print(json.dumps(await measure(running, orders=orders), indent=2))
    print(json.dumps(await cold_start(starts)))


def main() -> int:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=800)
    parser.add_argument("--starts", type=int, default=3)
    options = parser.parse_args()
    uvloop.run(_alone(options.orders, options.starts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
