"""The process of a gateway: one venue adapter behind the shared servicers."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import uuid
from collections.abc import Awaitable, Callable
from functools import partial

from venuemesh import crashpoints
from venuemesh.clock import Clock
from venuemesh.configuration import Commit, Configuration
from venuemesh.gateway.audit import AuditTrail
from venuemesh.gateway.audit_entry import Refuses
from venuemesh.gateway.core import GatewayCore
from venuemesh.gateway.link_watch import LinkWatch
from venuemesh.gateway.measures import LinkMetrics, watch_core
from venuemesh.gateway.request_spans import RequestSpans
from venuemesh.gateway.services.register import add_services
from venuemesh.gateway.settings import ENVIRONMENTS, VenueGatewaySettings
from venuemesh.gateway.venue import Venue
from venuemesh.gateway.venue_clock import VenueClock
from venuemesh.running import Running, surroundings
from venuemesh.serving import endless, serve_until_stopped
from venuemesh.transport.observer import Observer, SafeObserver

log = logging.getLogger(__name__)

HEALTH_PERIOD_S = 0.1
FINISH_S = 3.0
"""How long a gateway that stops waits for answers nobody waits for any more: below the time a flush may take."""

BuildVenue = Callable[[Clock, Observer], Awaitable[Venue]]
"""Makes the adapter; every attempt to ask the venue is told to the observer."""


def writer_id() -> str:
    """Names this process in the journal: host, process and a random part."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


async def serve_gateway(settings: VenueGatewaySettings, build_venue: BuildVenue, *, refuses: Refuses) -> None:
    """Run a gateway until SIGTERM, then drain.

    Order of the end: new orders are refused, health turns NOT_SERVING, streams say goodbye, calls in flight finish,
    what was sent is answered, everything learnt becomes durable, the venue links close.

    Args:
        refuses: whether an answer of the venue declines what was asked, for the audit trail.
    Raises:
        JournalUnavailable: the broker does not answer at the start.
    """
    crashpoints.arm(settings.crash_point, passes=settings.crash_passes)
    venue_name = settings.venue
    async with surroundings(f"gateway_{venue_name}", settings) as running:
        process = writer_id()
        audit = AuditTrail(running.bus, venue=venue_name, writer_id=process, clock=running.clock, refuses=refuses)
        spans = RequestSpans(running.tracing, venue_name)
        venue_clock = VenueClock(running.clock)
        observer = SafeObserver(LinkMetrics(running.metrics, venue_name), audit, spans, venue_clock)
        venue = await build_venue(running.clock, observer)
        core = GatewayCore(
            venue=venue,
            environment=ENVIRONMENTS[settings.environment],
            bus=running.bus,
            clock=running.clock,
            writer_id=process,
            settings=settings.core,
            audit=audit,
            venue_clock=venue_clock,
        )
        watch_core(running.metrics, core, running.clock)
        await core.recover()
        allow_links(running.configuration, core.venue, core.link_watch)
        add_services(running.server, core, running)
        await _serve(core, running)


def allow_links(configuration: Configuration[VenueGatewaySettings], venue: Venue, watch: LinkWatch) -> None:
    """Let the rules of links change at run time: when one counts as degraded, and whether orders are paused then."""

    def prepare(taken: VenueGatewaySettings) -> Commit:
        policy, wanted = taken.links.policy, taken.links.watch

        def commit() -> None:
            venue.judge_links(policy)
            watch.change(wanted)

        return commit

    configuration.allow(["LINKS"], prepare)


async def _serve(core: GatewayCore, running: Running[VenueGatewaySettings]) -> None:
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        pumps = [
            tasks.create_task(endless(core.run(), name="gateway core"), name="core"),
            tasks.create_task(_watch_health(core, running, ready), name="health"),
        ]
        await serve_until_stopped(
            running.server,
            ready=ready,
            on_bound=running.announce,
            on_stop=core.drain,
            on_hangup=running.configuration.on_hangup,
            flush=[partial(core.finish, FINISH_S), core.log.flush, core.audit.flush],
        )
        for pump in pumps:
            pump.cancel()


async def _watch_health(core: GatewayCore, running: Running[VenueGatewaySettings], ready: asyncio.Event) -> None:
    """SERVING while every account is caught up with the venue and the journal takes events."""
    name = f"venue/{core.venue.name}"
    await running.server.health.set(name, False)
    while True:
        serving = core.serving
        await running.server.health.set(name, serving)
        if ready.is_set():
            await running.server.set_serving(serving)
        elif serving:
            ready.set()
        await asyncio.sleep(HEALTH_PERIOD_S)
