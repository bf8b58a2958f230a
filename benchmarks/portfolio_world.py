"""What the benchmarks of events and portfolio share: a broker, an aggregator process, events as of a gateway."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from deploy.local.__main__ import nats_server
from venuemesh.bus import Bus, BusOptions
from venuemesh.journal import epoch_of
from venuemesh.subjects import EVENT_STREAM, Kind, stream_specs, subject
from venuemesh.v1 import account_pb2, event_pb2, order_pb2

ROOT = Path(__file__).resolve().parents[1]
VENUE = "bench"
START_TIMEOUT_S = 900.0
SYMBOLS = tuple(f"C{number}/USDC:USDC" for number in range(5))


@asynccontextmanager
async def broker() -> AsyncIterator[str]:
    """A nats-server of its own on a free port; gives its URL."""
    folder = Path(tempfile.mkdtemp(prefix="venuemesh-bench-"))
    ports = folder / "ports"
    ports.mkdir()
    process = await asyncio.create_subprocess_exec(
        str(nats_server()),
        *("--addr", "127.0.0.1", "--port", "-1", "--jetstream", "--store_dir", str(folder / "data")),
        *("--ports_file_dir", str(ports)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            while not (found := [file.read_text() for file in ports.glob("*.ports")]) or not found[0]:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        yield str(json.loads(found[0])["nats"][0])
    finally:
        process.terminate()
        await process.wait()
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def service(module: str, **settings: str) -> AsyncIterator[str]:
    """A Python process that prints a ready line; gives the address in it."""
    environment = {**os.environ, **settings}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *module.split()), cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(START_TIMEOUT_S):
            line = await process.stdout.readline()
        yield str(json.loads(line)["grpc_address"])
    finally:
        process.terminate()
        await process.wait()


def aggregator(url: str, **settings: str) -> AbstractAsyncContextManager[str]:
    """An aggregator process on the broker; gives its gRPC address once it has caught up."""
    return service(
        "aggregator",
        AGGREGATOR_NATS__URLS=url,
        AGGREGATOR_GRPC__PORT="0",
        AGGREGATOR_GRPC__DRAIN_PAUSE_S="0",
        AGGREGATOR_METRICS__ENABLED="false",
        AGGREGATOR_TELEMETRY__LOG_LEVEL="ERROR",
        **{f"AGGREGATOR_{name}": value for name, value in settings.items()},
    )


@asynccontextmanager
async def bus(url: str) -> AsyncIterator[Bus]:
    """A connection with the mesh's streams made."""
    async with Bus.connect(BusOptions(servers=[url], name="bench")) as connected:
        await connected.ensure_streams(stream_specs(0))
        yield connected


class Gateway:
    """Makes the events of some accounts, as many fills as positions, numbered as a gateway numbers them."""

    def __init__(self, epoch: str, accounts: int) -> None:
        self._epoch = epoch
        self._numbers = [0] * accounts
        self._turn = 0

    @classmethod
    async def on(cls, connected: Bus, accounts: int) -> Gateway:
        """For the log of this broker."""
        return cls(epoch_of(await connected.stream_created(EVENT_STREAM)), accounts)

    def next(self) -> tuple[str, event_pb2.Event]:
        """Subject and event."""
        self._turn += 1
        index = self._turn // 2 % len(self._numbers)
        self._numbers[index] += 1
        number, account_id = self._numbers[index], f"account-{index}"
        symbol = SYMBOLS[self._turn // 2 % len(SYMBOLS)]
        event = event_pb2.Event(
            event_id=f"{VENUE}/{account_id}/bench/{number}",
            epoch=self._epoch,
            sequence=number,
            venue=VENUE,
            account_id=account_id,
            symbol=symbol,
        )
        now_ns = time.time_ns()
        event.published_time.seconds, event.published_time.nanos = divmod(now_ns, 1_000_000_000)
        event.received_time.CopyFrom(event.published_time)
        if self._turn % 2:
            event.execution_report.CopyFrom(_fill(account_id, symbol, number))
            return subject(Kind.FILL, VENUE, account_id, symbol), event
        event.position.CopyFrom(_position(account_id, symbol, number))
        return subject(Kind.POSITION, VENUE, account_id, symbol), event


def _fill(account_id: str, symbol: str, number: int) -> order_pb2.ExecutionReport:
    terms = order_pb2.NewOrder(
        account_id=account_id, venue=VENUE, client_order_id=f"k{number}", symbol=symbol, quantity="0.5", price="101.25"
    )
    return order_pb2.ExecutionReport(
        execution_type=order_pb2.EXECUTION_TYPE_TRADE,
        origin=order_pb2.ORIGIN_VENUE,
        order=order_pb2.Order(order_id=f"o{number}", terms=terms, terminal=True, filled_quantity="0.5"),
        fill=order_pb2.Fill(
            execution_id=f"x{number}",
            account_id=account_id,
            venue=VENUE,
            symbol=symbol,
            order_id=f"o{number}",
            side=order_pb2.SIDE_BUY if number % 4 < 2 else order_pb2.SIDE_SELL,
            quantity="0.5",
            price="101.25",
            fee="0.0253125",
            fee_asset="USDC",
        ),
    )


def _position(account_id: str, symbol: str, number: int) -> account_pb2.Position:
    size = number % 7 - 3
    return account_pb2.Position(
        account_id=account_id,
        venue=VENUE,
        symbol=symbol,
        quantity=str(size),
        open_cost=str(size * 101),
        mark_price="101.5",
        realized_pnl=f"{number}.125",
        fees_paid=f"{number}.025",
        funding_received="0",
        settle_asset="USDC",
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def summary(values: Sequence[float]) -> str:
    """Median, 99th percentile and maximum of seconds, in milliseconds."""
    if not values:
        return "none"
    shown = (percentile(values, 0.5), percentile(values, 0.99), max(values))
    return "median {:.2f} ms, p99 {:.2f} ms, max {:.2f} ms".format(*(1_000 * value for value in shown))
