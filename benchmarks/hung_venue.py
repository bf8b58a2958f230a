"""Latency of the other venues while one venue's gateway is frozen: the same calls before, during and after, in one run.

    .venv/bin/python benchmarks/hung_venue.py [--seconds 10]

Three gateway processes and a nats-server behind a router in this process. Callers keep sending orders to all three
throughout; in the second phase one gateway is stopped with SIGSTOP: its connections stay up and nothing answers.
Prints median and 99th percentile of the other two, of plans over all three, and what the frozen one's callers read.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import logging
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import grpc.aio

from tests.broker import Broker
from tests.integration.router.support import Gateway, new_order, orders, running, submit_request, until
from venuemesh.errors import Reason
from venuemesh.status import error_from_rpc
from venuemesh.v1 import order_service_pb2, routing_service_pb2, routing_service_pb2_grpc

FROZEN, OTHERS = "frozen", ("calm", "other")
CALLERS = 8
"""Callers of the frozen venue; each waits for its answer."""
DEADLINE_S = 2.0
PAUSE_S = 0.005
"""Between two calls of one caller: the machine must not be the limit."""


@dataclass
class Phase:
    """What was measured in one phase."""

    submits_ms: list[float] = field(default_factory=list)
    plans_ms: list[float] = field(default_factory=list)
    frozen: Counter[str] = field(default_factory=Counter)

    def line(self, name: str) -> str:
        told = ", ".join(f"{count} {what}" for what, count in self.frozen.most_common())
        return f"{name:<14} {_words(self.submits_ms):<46} {_words(self.plans_ms):<46} {told}"


def _words(times_ms: list[float]) -> str:
    last = sorted(times_ms)[int(len(times_ms) * 0.99)]
    return f"{len(times_ms):>6} median {statistics.median(times_ms):6.2f}   p99 {last:7.2f} ms"


async def serve_gateway(venue: str) -> None:
    """A scripted gateway as a process of its own; prints its port."""
    gateway = Gateway(venue)
    await gateway.start()
    print(gateway.port, flush=True)
    await asyncio.Event().wait()


@asynccontextmanager
async def process(venue: str) -> AsyncIterator[tuple[Gateway, asyncio.subprocess.Process]]:
    """A gateway process, and a stand-in that knows its address."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--gateway", venue, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    known = Gateway(venue)
    known.port = int(await child.stdout.readline())
    try:
        yield known, child
    finally:
        child.kill()
        await child.wait()


class Load:
    """Callers of all kinds; `phase` takes what they see."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.phase = Phase()
        self._orders = orders(channel)
        self._routing = routing_service_pb2_grpc.RoutingServiceStub(channel)
        self._keys = itertools.count()

    async def submit(self, venue: str) -> str:
        """Submit one order; returns the outcome or the reason."""
        request = submit_request(f"k{next(self._keys)}", venue=venue)
        try:
            answer = await self._orders.SubmitOrder(request, timeout=DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            return error_from_rpc(error, is_write=True).reason.value
        return order_service_pb2.SubmitOutcome.Name(answer.outcome).removeprefix("SUBMIT_OUTCOME_")

    async def call_other(self, venue: str) -> None:
        began = time.perf_counter()
        outcome = await self.submit(venue)
        assert outcome == "ACKNOWLEDGED", outcome
        self.phase.submits_ms.append((time.perf_counter() - began) * 1e3)

    async def call_frozen(self) -> None:
        phase = self.phase
        outcome = await self.submit(FROZEN)
        phase.frozen[outcome] += 1
        if outcome == Reason.CIRCUIT_OPEN.value:
            await asyncio.sleep(0.1)

    async def plan(self) -> None:
        began = time.perf_counter()
        await self._routing.PlanRoute(routing_service_pb2.PlanRouteRequest(order=new_order("")), timeout=DEADLINE_S)
        self.phase.plans_ms.append((time.perf_counter() - began) * 1e3)

    async def for_ever(self, call: Callable[[], Awaitable[None]]) -> None:
        while True:
            await call()
            await asyncio.sleep(PAUSE_S)


async def measure(seconds: float) -> None:
    async with AsyncExitStack() as stack:
        broker = Broker(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        await broker.start()
        stack.push_async_callback(broker.stop)
        started = {name: await stack.enter_async_context(process(name)) for name in (FROZEN, *OTHERS)}
        stand_ins = [gateway for gateway, _ in started.values()]
        router, channel = await stack.enter_async_context(
            running(broker.url, *stand_ins, books={"fetch_timeout_s": 0.25})
        )
        await until(router, lambda: all(link.serving for link in router.venues.all()))
        load = Load(channel)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        workers = [tasks.create_task(load.for_ever(load.plan))]
        workers += [tasks.create_task(load.for_ever(lambda venue=venue: load.call_other(venue))) for venue in OTHERS]
        workers += [tasks.create_task(load.for_ever(load.call_frozen)) for _ in range(CALLERS)]
        await asyncio.sleep(2.0)
        print(f"{'':<14} {'submits to the others':<46} {'plans over all three':<46} callers of the frozen venue")
        for name, how in (("all well", None), ("one frozen", signal.SIGSTOP), ("after", signal.SIGCONT)):
            if how is not None:
                started[FROZEN][1].send_signal(how)
            load.phase = phase = Phase()
            await asyncio.sleep(seconds)
            print(phase.line(name), flush=True)
        for worker in workers:
            worker.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each of the three phases")
    parser.add_argument("--gateway", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    asyncio.run(serve_gateway(arguments.gateway) if arguments.gateway else measure(arguments.seconds))


if __name__ == "__main__":
    main()
