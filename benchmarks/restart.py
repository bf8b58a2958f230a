"""How long an aggregator takes to start with a million events in the log: from a snapshot, and by folding all of it.

    python -m benchmarks.restart                       # a million events; some minutes
    python -m benchmarks.restart --events 100000 --tail 2000

Three starts on the same log: without snapshots; with them, for the first time, until one is written; and with them
again, after `--tail` more events. The first and the last must show the same portfolio; exit 1 when they do not.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from typing import Any

import grpc
import grpc.aio
import uvloop

from benchmarks.portfolio_world import ROOT, aggregator, broker, bus
from venuemesh.bus import Bus
from venuemesh.subjects import EVENT_STREAM, SNAPSHOT_STREAM
from venuemesh.v1 import portfolio_service_pb2, portfolio_service_pb2_grpc, portfolio_state_pb2


async def _fill(url: str, events: int) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.events", "--publish-to", url, "--events", str(events)),
        cwd=ROOT,
        stdout=asyncio.subprocess.DEVNULL,
    )
    await process.wait()


async def _snapshot_behind(connected: Bus, sequence: int) -> int:
    """Wait for a snapshot at this place or later; returns the size of its parts."""
    size = 0
    async with connected.follow(SNAPSHOT_STREAM, ["venuemesh.v1.snapshot.>"]) as follower:
        async for message in follower:
            part = portfolio_state_pb2.SnapshotPart.FromString(message.payload)
            size += len(part.payload)
            if part.index == 0:
                if part.sequence >= sequence:
                    return size
                size = 0
    return size


async def _read(address: str) -> bytes:
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = portfolio_service_pb2_grpc.PortfolioServiceStub(channel)
        answer = await stub.GetPortfolio(portfolio_service_pb2.GetPortfolioRequest())
    encoded: bytes = answer.portfolio.SerializeToString(deterministic=True)
    return encoded


async def _start(url: str, what: str, **settings: str) -> bytes:
    begun_s = time.monotonic()
    async with aggregator(url, **settings) as address:
        print(f"{what}: ready after {time.monotonic() - begun_s:.2f} s", flush=True)
        return await _read(address)


async def _measure(events: int, tail: int) -> int:
    async with broker() as url, bus(url) as connected:
        begun_s = time.monotonic()
        await _fill(url, events)
        last = (await connected.stream_state(EVENT_STREAM)).last_sequence
        print(f"{last:,} events in the log, published in {time.monotonic() - begun_s:.0f} s", flush=True)
        async with aggregator(url, FOLD__SNAPSHOT_EVERY_S="1"):
            size = await _snapshot_behind(connected, last - 5_000)
        print(f"snapshot: {size:,} bytes", flush=True)
        await _fill(url, tail)
        quick = await _start(url, f"from the snapshot and a tail of {tail:,}")
        slow = await _start(url, "by folding the whole log", FOLD__SNAPSHOTS="false")
    print(f"the same portfolio: {quick == slow}")
    return int(quick != slow)


def main() -> int:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--tail", type=int, default=10_000)
    args = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_measure(args.events, args.tail))


if __name__ == "__main__":
    sys.exit(main())
