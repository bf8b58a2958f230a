"""The router's parts put together, and its life from the first connection to the drain."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from router.books import BookFeeds
from router.breakers import Breakers
from router.calls import StreamProxy
from router.consolidated_feed import ConsolidatedFeed
from router.facade import Facade
from router.facts import AccountFacts
from router.instructions import first_policy
from router.journal import RouteJournal
from router.locate import Locator
from router.measures import Measures
from router.order_sessions import RouterSessions
from router.parent_orders import ParentOrders
from router.planning import Planner
from router.policy import PolicyStore
from router.risk_desk import RiskDesk
from router.risk_plugins import CheckNotFound
from router.risk_server import Risk
from router.route_lists import RouteLists
from router.route_log import RouteLog
from router.routing import OrderRouter
from router.sending import ChildSender
from router.service_market_data import MarketDataServicer
from router.service_operations import OperationsServicer, ReconciliationServicer
from router.service_orders import OrderServicer
from router.service_reads import AccountServicer, InstrumentServicer, VenueServicer
from router.service_routing import RoutingServicer
from router.settings import BookSettings, RouterSettings
from router.venues import Venues
from venuemesh.bus import Bus
from venuemesh.clock import Clock
from venuemesh.configuration import Configuration
from venuemesh.dead_letter_service import DeadLetterDesk
from venuemesh.dead_letters import DeadLetters
from venuemesh.metrics import Metrics
from venuemesh.paging import Pager
from venuemesh.running import surroundings
from venuemesh.secrets import SecretError, read_secret
from venuemesh.security.certificates import CertificateError
from venuemesh.serving import GrpcServer, ServingError, endless, serve_until_stopped
from venuemesh.streaming import StreamHub
from venuemesh.telemetry import configure_logging
from venuemesh.v1 import (
    account_service_pb2,
    account_service_pb2_grpc,
    instrument_service_pb2,
    instrument_service_pb2_grpc,
    market_data_service_pb2,
    market_data_service_pb2_grpc,
    operations_service_pb2,
    operations_service_pb2_grpc,
    order_service_pb2,
    order_service_pb2_grpc,
    reconciliation_service_pb2,
    reconciliation_service_pb2_grpc,
    risk_service_pb2,
    risk_service_pb2_grpc,
    routing_service_pb2,
    routing_service_pb2_grpc,
    venue_service_pb2,
    venue_service_pb2_grpc,
)

BROKER_CHECK_S = 0.25
CALL_BOUNDS = ("GATEWAY__BREAKER", "GATEWAY__MAX_SUBMITS", "GATEWAY__MAX_CANCELS", "GATEWAY__MAX_READS")
"""Settings of calls to gateways that may change at run time. The others are held in several places each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """A router put together and not yet serving."""

    server: GrpcServer
    venues: Venues
    feeds: BookFeeds
    bus: Bus
    risk: Risk
    breakers: Breakers
    ready: asyncio.Event
    """Set once the journal answers: orders can be routed."""


@asynccontextmanager
async def build(
    settings: RouterSettings,
    server: GrpcServer,
    bus: Bus,
    clock: Clock,
    metrics: Metrics,
    configuration: Configuration[RouterSettings] | None = None,
) -> AsyncIterator[Router]:
    """Open the channels, watch the venues, add the services to `server`; all of it ends with the block.

    Args:
        configuration: `settings` and what may change of them; nothing may when None.
    Raises:
        ServingError: a certificate, token or key file cannot be read.
    """
    async with AsyncExitStack() as stack:
        venues = await stack.enter_async_context(_connect(settings, clock))
        configuration = configuration or Configuration(settings)
        configuration.allow(CALL_BOUNDS, lambda taken: partial(venues.change, taken.gateway))
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        feeds = BookFeeds(settings.books, clock, tasks)
        facts = AccountFacts(settings.facts, clock, tasks)
        measures = Measures(metrics)
        journal = RouteJournal(bus, clock)
        risk = _risk(settings, venues, bus, clock)
        risk.desk.on_refusal.append(measures.risk_refused)
        breakers = Breakers(venues, bus, clock, measures, uuid.uuid4().hex)
        parts = _routing(settings, venues, feeds, facts, journal, bus, clock, measures, risk.desk, breakers)
        facade = Facade(venues=venues, proxy=StreamProxy(server.drain, clock), pager=_pager(settings), clock=clock)
        hub = StreamHub(clock, server.drain, metrics=metrics)
        consolidated = _consolidated(settings.books, venues, feeds, clock)
        letters = DeadLetters(bus, clock)
        _add_services(server, facade, consolidated, journal, parts, letters, bus, hub, risk, breakers, configuration)
        books = tasks.create_task(endless(consolidated.run(), name="consolidated"), name="consolidated")
        risks = tasks.create_task(endless(risk.run(), name="risk"), name="risk")
        states = tasks.create_task(endless(parts.log.run(), name="routes"), name="routes")
        policy = tasks.create_task(endless(parts.policy.run(), name="policy"), name="policy")
        watch = tasks.create_task(endless(venues.run(), name="venues"), name="venues")
        circuits = tasks.create_task(endless(breakers.run(), name="breakers"), name="breakers")
        ready = asyncio.Event()
        health = tasks.create_task(_mirror_health(server, venues, bus, risk, breakers, ready, measures), name="health")
        try:
            yield Router(server=server, venues=venues, feeds=feeds, bus=bus, risk=risk, breakers=breakers, ready=ready)
        finally:
            feeds.close()
            facts.close()
            for task in (watch, health, states, policy, risks, books, circuits):
                task.cancel()


@dataclass(frozen=True, slots=True, kw_only=True)
class Routing:
    """What routes orders."""

    orders: OrderRouter
    sender: ChildSender
    parents: ParentOrders
    policy: PolicyStore
    log: RouteLog
    sessions: RouterSessions


def _routing(
    settings: RouterSettings,
    venues: Venues,
    feeds: BookFeeds,
    facts: AccountFacts,
    journal: RouteJournal,
    bus: Bus,
    clock: Clock,
    measures: Measures,
    risk: RiskDesk,
    breakers: Breakers,
) -> Routing:
    """The parts that decide, send and follow, put together."""
    first = first_policy(settings.books.max_age_s, settings.excluded_venues, settings.routing.funding_horizon_s)
    policy = PolicyStore(bus, first, venues.names)
    planner = Planner(
        venues,
        feeds,
        facts,
        policy,
        clock,
        assumed_fee_rate=settings.facts.assumed_fee_rate,
        eligibility=breakers.refusal,
    )
    log = RouteLog(bus, journal, clock, max_open=settings.routing.max_open_routes)
    sessions = RouterSessions(venues, clock)
    sender = ChildSender(venues, journal, risk, clock, measures, sessions)
    orders = OrderRouter(venues, planner, journal, sender, risk, clock, measures, log.announce)
    parents = ParentOrders(venues, journal, clock, risk)
    return Routing(orders=orders, sender=sender, parents=parents, policy=policy, log=log, sessions=sessions)


@asynccontextmanager
async def _connect(settings: RouterSettings, clock: Clock) -> AsyncIterator[Venues]:
    gateway = settings.gateway
    async with AsyncExitStack() as stack:
        try:
            token = None if gateway.token_file is None else read_secret(gateway.token_file)
            connecting = Venues.connect(settings.gateways, gateway, clock, token=token)
            venues = await stack.enter_async_context(connecting)
        except (SecretError, CertificateError) as error:
            raise ServingError(f"a file of the gateway settings cannot be used: {error}") from None
        yield venues


def _consolidated(settings: BookSettings, venues: Venues, feeds: BookFeeds, clock: Clock) -> ConsolidatedFeed:
    """Half of the followed books may be of consolidated symbols, so that decisions find room for theirs."""
    return ConsolidatedFeed(
        venues,
        feeds,
        clock,
        max_age_s=settings.max_age_s,
        max_distance_bps=settings.max_distance_bps,
        max_symbols=max(1, settings.max_feeds // (2 * max(1, len(venues.all())))),
    )


def _risk(settings: RouterSettings, venues: Venues, bus: Bus, clock: Clock) -> Risk:
    try:
        return Risk.build(venues, bus, clock, settings.risk, uuid.uuid4().hex)
    except CheckNotFound as error:
        raise ServingError(str(error)) from error


def _pager(settings: RouterSettings) -> Pager:
    if settings.page_token_key_file is None:
        return Pager(b"")
    try:
        return Pager(read_secret(settings.page_token_key_file).reveal().encode())
    except SecretError as error:
        raise ServingError(str(error)) from None


def _add_services(
    server: GrpcServer,
    facade: Facade,
    consolidated: ConsolidatedFeed,
    journal: RouteJournal,
    parts: Routing,
    dead_letters: DeadLetters,
    bus: Bus,
    hub: StreamHub,
    risk: Risk,
    breakers: Breakers,
    configuration: Configuration[RouterSettings],
) -> None:
    letters = DeadLetterDesk(dead_letters, facade.pager, facade.clock)
    locator = Locator(facade.venues, journal)
    lists = RouteLists(bus, parts.log, facade.pager, facade.clock)
    routing = RoutingServicer(facade, parts.orders, journal, parts.parents, parts.policy, parts.log, lists, hub)
    orders = OrderServicer(
        facade, parts.orders, parts.sender, locator, parts.parents, risk.desk, sessions=parts.sessions, hub=hub
    )
    for module, stubs, name, servicer in (
        (venue_service_pb2, venue_service_pb2_grpc, "VenueService", VenueServicer(facade, server.drain)),
        (instrument_service_pb2, instrument_service_pb2_grpc, "InstrumentService", InstrumentServicer(facade)),
        (
            market_data_service_pb2,
            market_data_service_pb2_grpc,
            "MarketDataService",
            MarketDataServicer(facade, consolidated, hub),
        ),
        (order_service_pb2, order_service_pb2_grpc, "OrderService", orders),
        (account_service_pb2, account_service_pb2_grpc, "AccountService", AccountServicer(facade)),
        (routing_service_pb2, routing_service_pb2_grpc, "RoutingService", routing),
        (
            operations_service_pb2,
            operations_service_pb2_grpc,
            "OperationsService",
            OperationsServicer(facade, letters, breakers, configuration),
        ),
        (
            reconciliation_service_pb2,
            reconciliation_service_pb2_grpc,
            "ReconciliationService",
            ReconciliationServicer(facade, locator),
        ),
        (risk_service_pb2, risk_service_pb2_grpc, "RiskService", risk.servicer(facade, hub, facade.clock)),
    ):
        add = getattr(stubs, f"add_{name}Servicer_to_server")
        server.add(module.DESCRIPTOR.services_by_name[name], add, servicer)


async def _mirror_health(
    server: GrpcServer,
    venues: Venues,
    bus: Bus,
    risk: Risk,
    breakers: Breakers,
    ready: asyncio.Event,
    measures: Measures,
) -> None:
    """`venue/<name>` follows the venue; the router itself serves while its journal does."""
    with venues.listening() as changed:
        while True:
            changed.clear()
            for link in venues.all():
                await server.health.set(f"venue/{link.name}", link.serving)
                measures.serving(link.name, link.serving)
            if ready.is_set():
                await server.set_serving(bus.connected)
            elif bus.connected and risk.store.ready.is_set() and breakers.ready.is_set():
                ready.set()
            try:
                async with asyncio.timeout(BROKER_CHECK_S):
                    await changed.wait()
            except TimeoutError:
                continue


async def run() -> None:
    """The router as a process, until SIGTERM or SIGINT."""
    # Faults of the settings are told before their own log format is known.
    configure_logging()
    settings = RouterSettings.load()
    async with (
        surroundings("router", settings) as running,
        build(settings, running.server, running.bus, running.clock, running.metrics, running.configuration) as router,
    ):
        await serve_until_stopped(
            running.server,
            ready=router.ready,
            on_bound=running.announce,
            on_hangup=running.configuration.on_hangup,
        )
