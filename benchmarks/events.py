"""Events from a gateway's log through JetStream into the fold and to a client, beside raw NATS and a bare gRPC stream.

    python -m benchmarks.events                          # all of it
    python -m benchmarks.events --rate 500 --events 50000

Printed, all in one run on one machine:

- sustained: events per second that one `EventLog` publishes and one aggregator folds, both at work at once, and the
  processor time each event takes in either process (which other load on the machine hardly changes);
- publish-to-handler at `--rate`: from `EventLog.append` to the fold having taken the event, with one event in flight
  for each interval; beside it the same for a plain NATS message;
- publish-to-client: to a reader of StreamExecutions holding the decoded message; beside it a bare gRPC stream.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import nats
import uvloop

from aggregator.feeds import EventFeed, FeedOptions
from benchmarks.figures import in_ms
from benchmarks.portfolio_world import ROOT, VENUE, Gateway, aggregator, broker, bus, summary
from venuemesh.bus import Bus
from venuemesh.clock import SystemClock
from venuemesh.journal import AccountHistory, EventLog
from venuemesh.metrics import Metrics
from venuemesh.money import use_exact_arithmetic
from venuemesh.subjects import EVENT_STREAM, Kind, stream_specs
from venuemesh.v1 import portfolio_service_pb2, portfolio_service_pb2_grpc

ACCOUNTS = 4
CAPACITY = 20_000


# --- the publisher's process ----------------------------------------------------------------------------------------


@asynccontextmanager
async def _log(connected: Bus) -> AsyncIterator[EventLog]:
    log = EventLog(connected, venue=VENUE, writer_id="bench", clock=SystemClock(), capacity=2 * CAPACITY)
    await log.open()
    running = asyncio.create_task(log.run(), name="log")
    try:
        yield log
    finally:
        running.cancel()
        await asyncio.wait([running])


async def _publish(url: str, events: int) -> None:
    """Publish as fast as the broker confirms, never with more waiting than a gateway's log holds."""
    async with bus(url) as connected, _log(connected) as log:
        for index in range(ACCOUNTS):
            newest = await AccountHistory(connected, VENUE, f"account-{index}").last()
            log.restore(f"account-{index}", newest.sequence if newest is not None else 0)
        gateway = await Gateway.on(connected, ACCOUNTS)
        # Made beforehand: what is measured is the log, not the making of test data.
        made = [gateway.next()[1] for _ in range(events)]
        begun_s, cpu_s = time.monotonic(), time.process_time()
        for index, event in enumerate(made):
            log.append(Kind.FILL if index % 2 == 0 else Kind.POSITION, event)
            if log.backlog >= CAPACITY:
                await log.flush()
        await log.flush()
        print(json.dumps({"s": time.monotonic() - begun_s, "cpu_s": time.process_time() - cpu_s}), flush=True)


# --- sustained ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _feed(connected: Bus) -> AsyncIterator[EventFeed]:
    """The aggregator's own feed and fold in this process."""
    feed = EventFeed(connected, SystemClock(), FeedOptions(), specs=stream_specs(0), metrics=Metrics())
    running = asyncio.create_task(feed.run(), name="feed")
    try:
        await feed.ready.wait()
        yield feed
    finally:
        running.cancel()
        await asyncio.wait([running])


def _sequence(feed: EventFeed) -> int:
    return 0 if feed.aggregate is None else feed.aggregate.sequence


async def _sustained(url: str, events: int) -> dict[str, float]:
    async with bus(url) as connected, _feed(connected) as feed:
        before = _sequence(feed)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.events", "--publish-to", url, "--events", str(events)),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        while _sequence(feed) == before:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        begun_s, cpu_s = time.monotonic(), time.process_time()
        while _sequence(feed) < before + events:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        took_s, cpu_s = time.monotonic() - begun_s, time.process_time() - cpu_s
        assert process.stdout is not None
        published = json.loads(await process.stdout.readline())
        await process.wait()
    print(f"sustained: {events / max(took_s, published['s']):,.0f} events/s published, stored, read back and folded")
    print(
        f"  publisher {1e6 * published['cpu_s'] / events:.0f} us of processor time per event, fold "
        f"{1e6 * cpu_s / events:.0f} us: {events / max(published['cpu_s'], cpu_s):,.0f}/s with a core each"
    )
    return {
        "per_s": events / max(took_s, published["s"]),
        "per_s_with_a_core_each": events / max(published["cpu_s"], cpu_s),
        "publisher_us": 1e6 * published["cpu_s"] / events,
        "fold_us": 1e6 * cpu_s / events,
    }


# --- latency --------------------------------------------------------------------------------------------------------


async def _at_rate(rate: float, count: int, send: Callable[[int], Awaitable[None]]) -> None:
    begun_s = time.monotonic()
    for index in range(count):
        await asyncio.sleep(max(0.0, begun_s + index / rate - time.monotonic()))
        await send(index)


async def _handler(url: str, rate: float, count: int) -> list[float]:
    """From append to the fold."""
    latencies: list[float] = []
    async with bus(url) as connected, _feed(connected) as feed, _log(connected) as log:
        aggregate = feed.aggregate
        assert aggregate is not None
        for index in range(ACCOUNTS):
            newest = aggregate.portfolio.message().accounts[index]
            log.restore(newest.account_id, newest.position.sequence)
        gateway = await Gateway.on(connected, ACCOUNTS)
        take = aggregate.take

        def taken(message: Any, found: Any = ()) -> Any:
            refusals = take(message, found)
            latencies.append(time.perf_counter() - sent[message.sequence])
            return refusals

        setattr(aggregate, "take", taken)  # noqa: B010 - measured from the outside
        sent: dict[int, float] = {}
        first = aggregate.sequence

        async def send(index: int) -> None:
            _, event = gateway.next()
            sent[first + index + 1] = time.perf_counter()
            log.append(Kind.FILL if index % 2 == 0 else Kind.POSITION, event)

        await _at_rate(rate, count, send)
        while len(latencies) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return latencies


async def _raw_nats(url: str, rate: float, count: int) -> list[float]:
    """From publish to a subscriber of the same process; no JetStream."""
    latencies: list[float] = []
    connection = await nats.connect(url)

    async def take(message: Any) -> None:
        latencies.append(time.perf_counter() - float(message.data))

    await connection.subscribe("bench.raw", cb=take)
    await connection.flush()

    async def send(index: int) -> None:
        await connection.publish("bench.raw", repr(time.perf_counter()).encode())

    await _at_rate(rate, count, send)
    await connection.flush()
    while len(latencies) < count:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await connection.close()
    return latencies


async def _client(url: str, rate: float, count: int) -> list[float]:
    """From the making of an event to a reader of StreamExecutions; the aggregator is a process of its own."""
    latencies: list[float] = []
    async with aggregator(url) as address, bus(url) as connected, grpc.aio.insecure_channel(address) as channel:
        stub: Any = portfolio_service_pb2_grpc.PortfolioServiceStub(channel)
        call = stub.StreamExecutions(portfolio_service_pb2.StreamExecutionsRequest(fills_only=True))
        await call.read()

        async def read() -> None:
            while len(latencies) < count:
                message = await call.read()
                if message.WhichOneof("body") == "event":
                    latencies.append((time.time_ns() - message.event.published_time.ToNanoseconds()) / 1e9)

        reading = asyncio.create_task(read(), name="reader")
        numbers = await _numbers(stub)
        async with _log(connected) as log:
            for account_id, number in numbers.items():
                log.restore(account_id, number)
            gateway = await Gateway.on(connected, ACCOUNTS)

            async def send(index: int) -> None:
                log.append(Kind.FILL, gateway.next()[1])
                gateway.next()

            await _at_rate(rate, count, send)
            await reading
        call.cancel()
    return latencies


async def _numbers(stub: Any) -> dict[str, int]:
    answer = await stub.GetPortfolio(portfolio_service_pb2.GetPortfolioRequest())
    return {account.account_id: account.position.sequence for account in answer.portfolio.accounts}


async def _bare_grpc(rate: float, count: int) -> list[float]:
    """From a server's write to a reader in the same process: bytes of the same size, nothing else."""
    latencies: list[float] = []

    async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
        begun_s = time.monotonic()
        for index in range(count):
            await asyncio.sleep(max(0.0, begun_s + index / rate - time.monotonic()))
            yield repr(time.perf_counter()).encode().ljust(400)

    server = grpc.aio.server()
    handler: Any = grpc.unary_stream_rpc_method_handler(stream)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Bare", {"Stream": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call: Any = channel.unary_stream("/bench.Bare/Stream")
        async for message in call(b""):
            latencies.append(time.perf_counter() - float(message))  # noqa: PERF401
    await server.stop(0)
    return latencies


async def _measure(args: argparse.Namespace) -> None:
    use_exact_arithmetic()
    count = round(args.rate * args.seconds)
    async with broker() as url:
        found: dict[str, Any] = {"sustained": await _sustained(url, args.events), "rate": args.rate}
        print(f"at {args.rate:g}/s:")
        latencies = {
            "publish-to-handler": await _handler(url, args.rate, count),
            "raw NATS, no JetStream": await _raw_nats(url, args.rate, count),
            "publish-to-client": await _client(url, args.rate, count),
            "bare gRPC stream": await _bare_grpc(args.rate, count),
        }
        for name, values in latencies.items():
            print(f"  {name:<23} {summary(values)}")
        async with bus(url) as connected:
            stored = (await connected.stream_state(EVENT_STREAM)).last_sequence
    print(f"stored: {stored}, as published: {stored == args.events + 2 * count}")
    found["latency"] = {name: in_ms(values) for name, values in latencies.items()}
    found["all_stored"] = stored == args.events + 2 * count
    if args.json:
        args.json.write_text(json.dumps(found))


def main() -> int:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=1_000)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--publish-to", help=argparse.SUPPRESS)
    args = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_publish(args.publish_to, args.events) if args.publish_to else _measure(args))
    return 0


if __name__ == "__main__":
    sys.exit(main())
