"""How long an aggregator takes to start with a million events in the log: from a snapshot, and by folding all of it.

    python -m benchmarks.restart                       # a million events; some minutes
    python -m benchmarks.restart --events 100000 --tail 2000

The first start folds all of it and writes a snapshot; then `--tail` more events come, which it folds live. The second
start must show the same portfolio, to the byte; exit 1 when it does not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path
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
    async with connected.follow(SNAPSHOT_STREAM, ["venuemesh.v1.snapshot.aggregator.>"]) as follower:
        async for message in follower:
            part = portfolio_state_pb2.SnapshotPart.FromString(message.payload)
            size += len(part.payload)
            if part.index == 0:
                if part.sequence >= sequence:
                    return size
                size = 0
    return size


async def _read(address: str, sequence: int) -> bytes:
    """The portfolio once it has folded the log up to there."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = portfolio_service_pb2_grpc.PortfolioServiceStub(channel)
        while True:
            answer = await stub.GetPortfolio(portfolio_service_pb2.GetPortfolioRequest())
            if answer.portfolio.position.sequence >= sequence:
                encoded: bytes = answer.portfolio.SerializeToString(deterministic=True)
                return encoded
            await asyncio.sleep(0.05)


async def _last(connected: Bus) -> int:
    return (await connected.stream_state(EVENT_STREAM)).last_sequence


async def _measure(events: int, tail: int) -> dict[str, Any]:
    async with broker() as url, bus(url) as connected:
        begun_s = time.monotonic()
        await _fill(url, events)
        print(f"{events:,} events in the log, published in {time.monotonic() - begun_s:.0f} s", flush=True)
        begun_s = time.monotonic()
        async with aggregator(url, FOLD__SNAPSHOT_EVERY_S="1") as address:
            folded_s = time.monotonic() - begun_s
            print(f"by folding the whole log: ready after {folded_s:.2f} s", flush=True)
            size = await _snapshot_behind(connected, events - 5_000)
            print(f"snapshot: {size:,} bytes", flush=True)
            await _fill(url, tail)
            steady = await _read(address, await _last(connected))
        begun_s = time.monotonic()
        async with aggregator(url) as address:
            restored_s = time.monotonic() - begun_s
            print(f"from a snapshot and a tail: ready after {restored_s:.2f} s", flush=True)
            restarted = await _read(address, await _last(connected))
    print(f"the same portfolio: {steady == restarted}")
    return {
        "events": events,
        "tail": tail,
        "folded_s": round(folded_s, 2),
        "restored_s": round(restored_s, 2),
        "snapshot_bytes": size,
        "same": steady == restarted,
    }


def main() -> int:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--tail", type=int, default=4_000)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    args = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        figures = runner.run(_measure(args.events, args.tail))
    if args.json:
        args.json.write_text(json.dumps(figures))
    return int(not figures["same"])


if __name__ == "__main__":
    sys.exit(main())
