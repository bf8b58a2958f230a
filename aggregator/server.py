"""The aggregator's parts put together, and its life from the first connection to the drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from aggregator.feeds import EventFeed, FeedOptions
from aggregator.marks import MarkBoard, StatisticsMarks
from aggregator.service import OPERATIONS_SERVICE, PORTFOLIO_SERVICE, OperationsServicer, PortfolioServicer
from aggregator.settings import AggregatorSettings
from aggregator.snapshots import SnapshotOptions, SnapshotStore
from venuemesh.bus import Bus
from venuemesh.channels import open_channel
from venuemesh.clock import Clock
from venuemesh.configuration import Configuration
from venuemesh.dead_letter_service import DeadLetterDesk
from venuemesh.encoding import add_encoding
from venuemesh.metrics import Metrics
from venuemesh.paging import Pager
from venuemesh.running import mesh_streams, surroundings
from venuemesh.secrets import SecretError, read_secret
from venuemesh.security.certificates import CertificateError
from venuemesh.serving import GrpcServer, ServingError, serve_until_stopped
from venuemesh.streaming import StreamHub
from venuemesh.telemetry import Tracing, configure_logging
from venuemesh.v1 import market_data_service_pb2_grpc, operations_service_pb2_grpc, portfolio_service_pb2_grpc

SERVICE = "aggregator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregator:
    """An aggregator put together: following the log, not yet serving."""

    server: GrpcServer
    feed: EventFeed
    hub: StreamHub


@asynccontextmanager
async def build(
    settings: AggregatorSettings,
    bus: Bus,
    server: GrpcServer,
    *,
    metrics: Metrics,
    clock: Clock,
    tracing: Tracing | None = None,
    configuration: Configuration[AggregatorSettings] | None = None,
) -> AsyncIterator[Aggregator]:
    """Follow the log and the marks while the block runs; a part that fails ends the block with its error.

    Args:
        configuration: `settings` and what may change of them; nothing may when None.
    """
    fold = settings.fold
    options = FeedOptions(
        away_after_s=fold.away_after_s,
        check_every_s=fold.check_every_s,
        resume_window=fold.resume_window,
        max_views=fold.max_views,
    )
    specs = mesh_streams(settings.nats)
    snapshots = None
    if fold.snapshots:
        when = SnapshotOptions(
            every_s=fold.snapshot_every_s,
            min_messages=fold.snapshot_min_messages,
            check_every_s=min(1.0, fold.snapshot_every_s),
        )
        snapshots = SnapshotStore(bus, clock, when, metrics=metrics)
    feed = EventFeed(bus, clock, options, specs=specs, metrics=metrics, snapshots=snapshots, tracing=tracing)
    hub = StreamHub(clock, server.drain, metrics=metrics, capacity=fold.queue_capacity)
    portfolio = PortfolioServicer(feed, hub, mark_interval_s=settings.marks.stream_interval_s)
    add_portfolio = add_encoding(portfolio_service_pb2_grpc.add_PortfolioServiceServicer_to_server)
    server.add(PORTFOLIO_SERVICE, add_portfolio, portfolio)
    # Names neither a place nor a secret: any aggregator can read the tokens of another.
    letters = DeadLetterDesk(feed.dead_letters, Pager(SERVICE.encode()), clock)
    operations = OperationsServicer(hub, letters, configuration or Configuration(settings))
    server.add(OPERATIONS_SERVICE, operations_service_pb2_grpc.add_OperationsServiceServicer_to_server, operations)
    async with AsyncExitStack() as stack:
        board = await _mark_board(stack, settings, feed, clock)
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        pumps = [
            tasks.create_task(feed.run(), name="event-feed"),
            tasks.create_task(_mirror_health(feed, server), name="health"),
        ]
        if board is not None:
            pumps.append(tasks.create_task(board.run(), name="mark-board"))
        try:
            yield Aggregator(server=server, feed=feed, hub=hub)
        finally:
            for pump in pumps:
                pump.cancel()


async def _mark_board(
    stack: AsyncExitStack, settings: AggregatorSettings, feed: EventFeed, clock: Clock
) -> MarkBoard | None:
    outgoing = settings.outgoing
    try:
        token = None if outgoing.token_file is None else read_secret(outgoing.token_file)
    except SecretError as error:
        raise ServingError(str(error)) from None

    async def source(address: str) -> StatisticsMarks:
        try:
            channel = await stack.enter_async_context(open_channel(address, tls=outgoing.tls, token=token))
        except CertificateError as error:
            raise ServingError(str(error)) from None
        return StatisticsMarks(market_data_service_pb2_grpc.MarketDataServiceStub(channel), clock)

    sources = {venue: await source(address) for venue, address in settings.venue_addresses.items()}
    default = None if settings.router_address is None else await source(settings.router_address)
    if not sources and default is None:
        return None
    return MarkBoard(feed, sources, default=default, interval_s=settings.marks.interval_s)


async def _mirror_health(feed: EventFeed, server: GrpcServer) -> None:
    """SERVING while the fold is current with the log."""
    await feed.ready.wait()
    while True:
        await server.set_serving(feed.serving)
        await feed.wait_changed()


async def run() -> None:
    """The aggregator as a process, until SIGTERM or SIGINT."""
    # Faults of the settings are told before their own log format is known.
    configure_logging()
    settings = AggregatorSettings.load()
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(surroundings(SERVICE, settings))
        aggregator = await stack.enter_async_context(
            build(
                settings,
                running.bus,
                running.server,
                metrics=running.metrics,
                clock=running.clock,
                tracing=running.tracing,
                configuration=running.configuration,
            )
        )
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        bound = asyncio.Event()

        async def announce() -> None:
            await bound.wait()
            await aggregator.feed.ready.wait()
            running.announce()

        announcing = tasks.create_task(announce(), name="announce")
        await serve_until_stopped(
            running.server,
            ready=aggregator.feed.ready,
            on_bound=bound.set,
            on_hangup=running.configuration.on_hangup,
        )
        announcing.cancel()
