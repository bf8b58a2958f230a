"""A thousand portfolio streams on one aggregator: how late is an update, and is any lost.

    python -m benchmarks.portfolio_streams                        # 1,000 streams, 20 s
    python -m benchmarks.portfolio_streams --streams 200 --events-per-s 50

One process publishes events and serves marks, one is the aggregator, one holds all readers. An update's latency is
from the moment its event was made to the moment a reader holds the decoded message; that of marks is from the change
of the portfolio, the wait for the reader's sample interval included. Exit 1 when an event was lost or doubled, a stream
ended, or the 99th percentile of event updates is over the bound.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import uvloop

from benchmarks.figures import in_ms
from benchmarks.portfolio_world import ROOT, SYMBOLS, VENUE, Gateway, aggregator, broker, bus, summary
from venuemesh.subjects import EVENT_STREAM
from venuemesh.v1 import (
    market_data_pb2,
    market_data_service_pb2,
    market_data_service_pb2_grpc,
    portfolio_service_pb2,
    portfolio_service_pb2_grpc,
    stream_pb2,
)

CHANNELS = 8
BOUND_S = 0.5


class Marks(market_data_service_pb2_grpc.MarketDataServiceServicer):
    """A gateway's statistics, all symbols ten times a second."""

    async def StreamStatistics(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802 - the contract's
        """Marks that move for ever."""
        for step in range(10**9):
            for symbol in SYMBOLS:
                statistics = market_data_pb2.MarketStatistics(
                    venue=VENUE, symbol=symbol, mark_price=f"{100 + step % 50}.5", freshness=stream_pb2.FRESHNESS_FRESH
                )
                yield market_data_service_pb2.StreamStatisticsResponse(statistics=statistics)
            await asyncio.sleep(0.1)


# --- the readers' process -------------------------------------------------------------------------------------------


async def _read(stub: Any, sample_ms: int, result: dict[str, Any], ready: asyncio.Semaphore) -> None:
    options = stream_pb2.StreamOptions(sample_interval_ms=sample_ms, heartbeat_interval_ms=30_000)
    call = stub.StreamPortfolio(portfolio_service_pb2.StreamPortfolioRequest(options=options))
    numbers: list[int] = []
    result["numbers"].append(numbers)
    async for message in call:
        now_ns = time.time_ns()
        match message.WhichOneof("body"):
            case "snapshot":
                numbers.append(message.header.sequence)
                ready.release()
            case "delta" if message.delta.HasField("event"):
                numbers.append(message.header.sequence)
                result["events"].append((now_ns - message.delta.event.published_time.ToNanoseconds()) / 1e9)
            case "delta":
                result["marks"].append((now_ns - message.header.published_unix_nanos) / 1e9)
            case "closing":
                result["closed"] += 1


async def _readers(address: str, streams: int, sample_ms: int) -> None:
    result: dict[str, Any] = {"events": [], "marks": [], "numbers": [], "closed": 0}
    ready = asyncio.Semaphore(0)
    own = (("grpc.use_local_subchannel_pool", 1),)
    channels = [grpc.aio.insecure_channel(address, options=own) for _ in range(CHANNELS)]
    stubs: list[Any] = [portfolio_service_pb2_grpc.PortfolioServiceStub(channel) for channel in channels]
    begun_s = time.monotonic()
    tasks = [
        asyncio.create_task(_read(stubs[index % CHANNELS], sample_ms, result, ready), name=f"reader-{index}")
        for index in range(streams)
    ]
    for _ in range(streams):
        await ready.acquire()
    print(json.dumps({"ready_s": time.monotonic() - begun_s}), flush=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    last = int(await reader.readline())
    async with asyncio.timeout(60):
        while not all(numbers[-1] >= last for numbers in result["numbers"]):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for channel in channels:
        await channel.close()
    wrong = sum(numbers != list(range(numbers[0], last + 1)) for numbers in result["numbers"])
    print(json.dumps({**result, "numbers": [], "wrong": wrong}), flush=True)


# --- the whole ------------------------------------------------------------------------------------------------------


async def _measure(args: argparse.Namespace) -> int:
    server = grpc.aio.server()
    servicer: Any = Marks
    marks = servicer()
    market_data_service_pb2_grpc.add_MarketDataServiceServicer_to_server(marks, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with broker() as url, bus(url) as connected:
        gateway = await Gateway.on(connected, args.accounts)
        for _ in range(args.accounts * len(SYMBOLS) * 2):
            name, event = gateway.next()
            await connected.publish(name, event.SerializeToString())
        async with aggregator(url, ROUTER_ADDRESS=f"127.0.0.1:{port}") as address:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "benchmarks.portfolio_streams", "--readers", address),
                *("--streams", str(args.streams), "--sample-ms", str(args.sample_ms)),
                cwd=ROOT,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=2**30,
            )
            assert process.stdin is not None
            assert process.stdout is not None
            ready = json.loads(await process.stdout.readline())
            print(f"{args.streams} streams with their snapshots: {ready['ready_s']:.2f} s")
            begun_s = time.monotonic()
            count = round(args.seconds * args.events_per_s)
            for index in range(count):
                await asyncio.sleep(max(0.0, begun_s + index / args.events_per_s - time.monotonic()))
                name, event = gateway.next()
                await connected.publish(name, event.SerializeToString())
            last = (await connected.stream_state(EVENT_STREAM)).last_sequence
            process.stdin.write(f"{last}\n".encode())
            result = json.loads(await process.stdout.readline())
            await process.wait()
    await server.stop(0)
    sent = len(result["events"]) + len(result["marks"])
    print(f"events: {count} at {args.events_per_s:g}/s to {args.streams} streams: {summary(result['events'])}")
    print(f"marks, at most every {args.sample_ms} ms: {summary(result['marks'])}")
    print(
        f"messages read: {sent} ({sent / args.seconds:.0f}/s); streams with a gap: {result['wrong']}; "
        f"closed: {result['closed']}"
    )
    late = sorted(result["events"])[int(0.99 * len(result["events"]))] > BOUND_S
    if args.json:
        figures = {"streams": args.streams, "events": in_ms(result["events"]), "messages_per_s": sent / args.seconds}
        args.json.write_text(json.dumps({**figures, "with_a_gap": result["wrong"], "closed": result["closed"]}))
    return int(bool(result["wrong"] or result["closed"] or late))


def main() -> int:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--events-per-s", type=float, default=2)
    parser.add_argument("--sample-ms", type=int, default=1_000)
    parser.add_argument("--accounts", type=int, default=3)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--readers", help=argparse.SUPPRESS)
    args = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if args.readers:
            runner.run(_readers(args.readers, args.streams, args.sample_ms))
            return 0
        return runner.run(_measure(args))


if __name__ == "__main__":
    sys.exit(main())
