"""A running aggregator on a real broker, and the gateway's and client's side of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from aggregator.server import Aggregator, build
from aggregator.settings import AggregatorSettings
from tests.broker import Broker
from tests.unit.aggregator.gateway_events import PortfolioClient, subject_of
from venuemesh.bus import Bus, BusOptions
from venuemesh.clock import SystemClock
from venuemesh.journal import epoch_of
from venuemesh.metrics import Metrics
from venuemesh.running import bus_options
from venuemesh.serving import GrpcServer, serve_until_stopped
from venuemesh.subjects import EVENT_STREAM, stream_specs
from venuemesh.telemetry import Tracing
from venuemesh.v1 import (
    event_pb2,
    operations_service_pb2_grpc,
    portfolio_pb2,
    portfolio_service_pb2,
    portfolio_service_pb2_grpc,
    stream_pb2,
)

PATIENCE_S = 60.0
CALL_S = 60.0

GetPortfolio = portfolio_service_pb2.GetPortfolioRequest
Filter = portfolio_service_pb2.PortfolioFilter


class World:
    """One aggregator and a channel to it."""

    def __init__(self, aggregator: Aggregator, channel: grpc.aio.Channel) -> None:
        self.aggregator = aggregator
        self.portfolio: Any = portfolio_service_pb2_grpc.PortfolioServiceStub(channel)
        self.operations: Any = operations_service_pb2_grpc.OperationsServiceStub(channel)
        self.health: Any = health_pb2_grpc.HealthStub(channel)
        self.stopping = asyncio.Event()

    async def read(self, wanted: Filter | None = None) -> portfolio_pb2.Portfolio:
        response = await self.portfolio.GetPortfolio(GetPortfolio(filter=wanted), timeout=CALL_S)
        return portfolio_pb2.Portfolio.FromString(response.portfolio.SerializeToString())

    def stream(
        self, client: PortfolioClient | None = None, *, wanted: Filter | None = None, **options: Any
    ) -> grpc.aio.UnaryStreamCall[Any, Any]:
        """A portfolio stream, resumed where `client` stands when it holds something."""
        if client is not None and client.sequence:
            options["resume_after"] = stream_pb2.StreamPosition(epoch=client.epoch, sequence=client.sequence)
        request = portfolio_service_pb2.StreamPortfolioRequest(
            filter=wanted, options=stream_pb2.StreamOptions(heartbeat_interval_ms=1_000, **options)
        )
        return self.portfolio.StreamPortfolio(request, timeout=60.0)  # type: ignore[no-any-return]

    async def becomes(self, *statuses: health_pb2.HealthCheckResponse.ServingStatus.ValueType) -> None:
        """Wait until health has shown these statuses in this order."""
        wanted = list(statuses)
        call = self.health.Watch(health_pb2.HealthCheckRequest(service=""), timeout=60.0)
        try:
            async with asyncio.timeout(PATIENCE_S):
                async for answer in call:
                    if answer.status == wanted[0]:
                        wanted.pop(0)
                    if not wanted:
                        return
        finally:
            call.cancel()


SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@asynccontextmanager
async def aggregating(broker: Broker, **settings: str) -> AsyncIterator[World]:
    """An aggregator that follows the broker's log, and drains when the block ends."""
    loaded = AggregatorSettings.load(
        {
            "AGGREGATOR_NATS__URLS": broker.url,
            "AGGREGATOR_GRPC__PORT": "0",
            "AGGREGATOR_GRPC__DRAIN_PAUSE_S": "0",
            "AGGREGATOR_FOLD__CHECK_EVERY_S": "0.05",
            "AGGREGATOR_FOLD__AWAY_AFTER_S": "0.3",
            "AGGREGATOR_MARKS__INTERVAL_S": "0.01",
            "AGGREGATOR_MARKS__STREAM_INTERVAL_S": "0.001",
            **{f"AGGREGATOR_{key}": value for key, value in settings.items()},
        }
    )
    metrics, clock = Metrics(), SystemClock()
    server = GrpcServer(loaded.grpc, metrics=metrics, tracing=Tracing("aggregator"), clock=clock)
    bound = asyncio.Event()
    async with Bus.connect(bus_options("aggregator", loaded.nats)) as bus:
        await bus.ensure_streams(stream_specs(0))
        async with (
            build(loaded, bus, server, metrics=metrics, clock=clock) as aggregator,
            asyncio.TaskGroup() as tasks,
        ):
            stop = asyncio.Event()
            tasks.create_task(
                serve_until_stopped(server, ready=aggregator.feed.ready, stop=stop, on_bound=bound.set), name="serve"
            )
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await bound.wait()
                async with grpc.aio.insecure_channel(server.address) as channel:
                    world = World(aggregator, channel)
                    world.stopping = stop
                    await world.becomes(SERVING)
                    yield world
            finally:
                stop.set()


class Publisher:
    """Puts events into the log as a gateway does."""

    def __init__(self, bus: Bus, epoch: str) -> None:
        self._bus = bus
        self.epoch = epoch

    @classmethod
    @asynccontextmanager
    async def connect(cls, broker: Broker) -> AsyncIterator[Publisher]:
        async with Bus.connect(BusOptions(servers=[broker.url], name="test", reconnect_wait_s=0.05)) as bus:
            await bus.ensure_streams(stream_specs(0))
            yield cls(bus, epoch_of(await bus.stream_created(EVENT_STREAM)))

    async def publish(self, *events: event_pb2.Event) -> int:
        """Returns the log sequence of the last one."""
        sequence = 0
        for event in events:
            event.epoch = self.epoch
            sequence = await self.store(subject_of(event), event.SerializeToString())
        return sequence

    async def store(self, name: str, payload: bytes) -> int:
        return await self._bus.publish(name, payload)

    @property
    def bus(self) -> Bus:
        return self._bus


async def read_until(
    call: Any, done: Callable[[Any], bool], *, into: PortfolioClient | None = None
) -> list[portfolio_service_pb2.StreamPortfolioResponse]:
    """Messages of a stream up to the first that is `done`."""
    messages = []
    async with asyncio.timeout(PATIENCE_S):
        while True:
            message = await call.read()
            assert message is not grpc.aio.EOF, "the stream ended"
            if into is not None:
                into.take(message)
            messages.append(message)
            if done(message):
                return messages


def at(sequence: int) -> Callable[[Any], bool]:
    """Whether a message leads to that log sequence or beyond."""
    return lambda message: message.header.sequence >= sequence


def is_a(kind: str) -> Callable[[Any], bool]:
    """Whether a message is of that kind."""
    return lambda message: message.WhichOneof("body") == kind
