"""A gateway as it is deployed, but for its venue: real gRPC, real JetStream, real clock, a fake venue."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc.aio

from tests.broker import Broker
from tests.fakes_venue import BTC, MAIN, FakeVenue
from venuemesh.bus import Bus, BusOptions
from venuemesh.clock import SystemClock
from venuemesh.configuration import Configuration
from venuemesh.gateway.audit import AuditTrail
from venuemesh.gateway.audit_entry import Refuses, never_refuses
from venuemesh.gateway.core import CoreSettings, GatewayCore
from venuemesh.gateway.services.register import add_services
from venuemesh.metrics import Metrics
from venuemesh.serving import GrpcServer
from venuemesh.settings import GrpcSettings, ServiceSettings
from venuemesh.streaming import StreamHub
from venuemesh.subjects import stream_specs
from venuemesh.telemetry import Tracing
from venuemesh.transport.observer import Observer
from venuemesh.v1 import event_pb2, order_pb2, stream_pb2, venue_pb2
from venuemesh.v1 import order_service_pb2 as orders
from venuemesh.v1.account_service_pb2_grpc import AccountServiceStub
from venuemesh.v1.market_data_service_pb2_grpc import MarketDataServiceStub
from venuemesh.v1.operations_service_pb2_grpc import OperationsServiceStub
from venuemesh.v1.order_service_pb2_grpc import OrderServiceStub
from venuemesh.v1.venue_service_pb2_grpc import VenueServiceStub

LIMIT_S = 60.0


@dataclass(kw_only=True)
class Gateway:
    """The running gateway, a channel to it and its stubs."""

    core: GatewayCore
    venue: FakeVenue
    server: GrpcServer
    channel: grpc.aio.Channel
    orders: Any = field(init=False)
    accounts: Any = field(init=False)
    market_data: Any = field(init=False)
    operations: Any = field(init=False)
    venues: Any = field(init=False)

    def __post_init__(self) -> None:
        self.orders = OrderServiceStub(self.channel)
        self.accounts = AccountServiceStub(self.channel)
        self.market_data = MarketDataServiceStub(self.channel)
        self.operations = OperationsServiceStub(self.channel)
        self.venues = VenueServiceStub(self.channel)

    async def submit(self, key: str, **changes: Any) -> orders.SubmitOrderResponse:
        """Submit `new_order(key)`."""
        request = orders.SubmitOrderRequest(order=new_order(key, **changes))
        response: orders.SubmitOrderResponse = await self.orders.SubmitOrder(request, timeout=10)
        return response

    async def trade(self, key: str, **changes: Any) -> None:
        """Submit an order and fill a quarter of it."""
        await self.submit(key, **changes)
        self.venue.fill(self.venue.order_of(self.venue.placed[-1]), "0.25", "100")

    async def journal(self) -> list[event_pb2.Event]:
        """Every stored event of the account, once all is durable."""
        await self.core.log.flush()
        return [event async for event in self.core.history(MAIN).replay()]

    def resume_after(self, sequence: int) -> stream_pb2.StreamOptions:
        """Options of a stream that goes on behind `sequence`."""
        options = stream_pb2.StreamOptions()
        options.resume_after.epoch = self.core.log.epoch
        options.resume_after.sequence = sequence
        return options


def new_order(key: str, **changes: Any) -> order_pb2.NewOrder:
    """A limit order to buy that rests; `None` clears a field."""
    fields: dict[str, Any] = {
        "account_id": MAIN,
        "client_order_id": key,
        "symbol": BTC,
        "side": order_pb2.SIDE_BUY,
        "order_type": order_pb2.ORDER_TYPE_LIMIT,
        "quantity": "1",
        "price": "100",
        "time_in_force": order_pb2.TIME_IN_FORCE_GTC,
        **changes,
    }
    return order_pb2.NewOrder(**{name: value for name, value in fields.items() if value is not None})


@asynccontextmanager
async def serving_gateway(
    broker: Broker,
    *,
    venue: FakeVenue | None = None,
    build: Callable[[Observer], Any] | None = None,
    venue_name: str = "",
    refuses: Refuses = never_refuses,
    core_settings: CoreSettings | None = None,
    capacity: int = 2_000,
    **settings: Any,
) -> AsyncIterator[Gateway]:
    """A recovered gateway that serves and takes orders.

    Args:
        build: makes the venue called `venue_name` instead, given the observer of its requests: the audit trail.
    """
    clock, metrics = SystemClock(), Metrics()
    options = BusOptions(servers=[broker.url], name="test", timeout_s=3.0)
    async with asyncio.timeout(LIMIT_S), Bus.connect(options) as bus:
        await bus.ensure_streams(stream_specs(0))
        writer_id = uuid.uuid4().hex
        audit = None
        if build is not None:
            audit = AuditTrail(bus, venue=venue_name, writer_id=writer_id, clock=clock, refuses=refuses)
            venue = build(audit)
        else:
            venue = venue or FakeVenue(clock)
            venue.clock = clock
        core = GatewayCore(
            venue=venue,
            environment=venue_pb2.ENVIRONMENT_SIMULATOR,
            bus=bus,
            clock=clock,
            writer_id=writer_id,
            settings=core_settings or CoreSettings(),
            audit=audit,
        )
        await core.recover()
        times = {"drain_pause_s": 0.0, "drain_grace_s": 5.0, **settings}
        server = GrpcServer(GrpcSettings(**times), metrics=metrics, tracing=Tracing("gateway"), clock=clock)
        hub = StreamHub(clock, server.drain, metrics=metrics, capacity=capacity)
        add_services(server, core, _Surroundings(metrics, Configuration(ServiceSettings())), hub=hub)
        async with asyncio.TaskGroup() as tasks:
            pumps = [
                tasks.create_task(core.run(), name="core"),
            ]
            port = await server.start()
            try:
                while not core.desk.gates[MAIN].ready:
                    await asyncio.sleep(0)
                await core.log.flush()
                async with connected(port) as channel:
                    yield Gateway(core=core, venue=venue, server=server, channel=channel)
            finally:
                await server.stop_now()
                for pump in pumps:
                    pump.cancel()


@dataclass(frozen=True)
class _Surroundings:
    metrics: Metrics
    configuration: Configuration[Any]


SMALL_WINDOW = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 16_384))
"""Channel options of a client that takes little in before it reads."""


@asynccontextmanager
async def connected(port: int, *options: tuple[str, int]) -> AsyncIterator[grpc.aio.Channel]:
    """A channel with a connection of its own, as another client would have."""
    options = (("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1), *options)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        yield channel
