"""The gateways of the mesh as the router sees them: one channel, its stubs, and a watch over each venue.

A gateway may be away at the start and at any time; its link reconnects for ever and says so meanwhile. Nothing here
decides about orders.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from router.budgets import ExtraBudget
from router.bulkhead import Bulkhead
from router.guard import CallGuard
from router.plans import instant
from router.settings import GatewaySettings
from router.views import VenueView
from venuemesh.channels import MeshChannel, open_channel
from venuemesh.clock import Clock
from venuemesh.errors import GatewayUnavailable, VenueNotFound
from venuemesh.secrets import Secret
from venuemesh.transport.backoff import Backoff, BackoffPolicy
from venuemesh.v1 import (
    account_service_pb2_grpc,
    instrument_pb2,
    instrument_service_pb2,
    instrument_service_pb2_grpc,
    market_data_service_pb2_grpc,
    operations_service_pb2_grpc,
    order_service_pb2_grpc,
    reconciliation_service_pb2_grpc,
    risk_service_pb2_grpc,
    venue_pb2,
    venue_service_pb2,
    venue_service_pb2_grpc,
)

log = logging.getLogger(__name__)

RETRY_AFTER_S = 1.0
REREAD_S = 1.0
PAGE = 1_000
MAX_INSTRUMENTS = 20_000
HEDGE_BURST = 5
_CALLABLE = (grpc.ChannelConnectivity.IDLE, grpc.ChannelConnectivity.CONNECTING)
_OPEN_FOR_BUSINESS = (venue_pb2.VENUE_STATE_TRADING, venue_pb2.VENUE_STATE_DEGRADED)


class VenueLink:
    """One venue's gateway: its channel and stubs, and what was last heard of it.

    Args:
        changed: called after anything that `status` or `view` show has changed.
    """

    def __init__(
        self,
        name: str,
        channel: MeshChannel,
        settings: GatewaySettings,
        clock: Clock,
        changed: Callable[[], None],
    ) -> None:
        self.name = name
        self.channel = channel
        self.settings = settings
        self.venues = venue_service_pb2_grpc.VenueServiceStub(channel)
        self.instruments = instrument_service_pb2_grpc.InstrumentServiceStub(channel)
        self.market_data = market_data_service_pb2_grpc.MarketDataServiceStub(channel)
        self.orders = order_service_pb2_grpc.OrderServiceStub(channel)
        self.accounts = account_service_pb2_grpc.AccountServiceStub(channel)
        self.reconciliation = reconciliation_service_pb2_grpc.ReconciliationServiceStub(channel)
        self.operations = operations_service_pb2_grpc.OperationsServiceStub(channel)
        self.submits = Bulkhead(name, "submits", settings.max_submits)
        self.reads = Bulkhead(name, "reads", settings.max_reads)
        self.cancels = Bulkhead(name, "cancels", settings.max_cancels)
        self.guard = CallGuard(name, settings.breaker, clock)
        burst = settings.retry_burst
        self.read_repeats = ExtraBudget(percent=settings.read_retry_percent, burst=burst)
        self.cancel_repeats = ExtraBudget(percent=settings.cancel_retry_percent, burst=burst)
        # Nothing saved up: second readings stay a share of the readings there were, from the first on.
        self.hedges = ExtraBudget(percent=settings.hedge_percent, burst=HEDGE_BURST, saved=0)
        self.listed: Mapping[str, instrument_pb2.Instrument] = {}
        self.risk = risk_service_pb2_grpc.RiskServiceStub(channel)
        self._health = health_pb2_grpc.HealthStub(channel)
        self._clock = clock
        self._changed = changed
        self._ready = asyncio.Event()
        self._refresh = asyncio.Event()
        self._serving = False
        self._fault = "not reached yet"
        self._since_ns = clock.now_ns()
        self._known: venue_pb2.Venue | None = None
        self._streamed: venue_pb2.VenueStatus | None = None
        self._read_fault = ""
        self._read_once = False

    def change(self, settings: GatewaySettings) -> None:
        """Hold its calls to other bounds and rules of the breaker; all else of `settings` must be as it is."""
        self.settings = settings
        self.submits.size = settings.max_submits
        self.reads.size = settings.max_reads
        self.cancels.size = settings.max_cancels
        self.guard.change(settings.breaker)

    # --- what is known ---

    @property
    def serving(self) -> bool:
        """Whether the gateway's own health says SERVING for this venue now, and its instruments are known here."""
        return self._serving and self._read_once

    @property
    def account_ids(self) -> frozenset[str]:
        """Accounts the gateway serves; empty before it was reached."""
        return frozenset(self._known.account_ids) if self._known is not None else frozenset()

    @property
    def known(self) -> bool:
        """Whether its gateway was reached at least once, so that its accounts are known."""
        return self._known is not None

    @property
    def known_down(self) -> bool:
        """Whether connecting just failed, so that another try now would only wait."""
        return self.channel.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE

    @property
    def _unreachable(self) -> str:
        """Why nothing is known of the venue now; empty when it is."""
        if self._fault or self._read_once:
            return self._fault
        return self._read_fault or "not read yet"

    def status(self) -> venue_pb2.VenueStatus:
        """The venue's health: its gateway's word while that can be heard, DOWN with the cause otherwise."""
        shown = venue_pb2.VenueStatus(venue=self.name)
        if self._known is not None:
            shown.CopyFrom(self._streamed or self._known.status)
            shown.venue = self.name
        if self._unreachable:
            shown.state = venue_pb2.VENUE_STATE_DOWN
            shown.cause = f"gateway: {self._unreachable}"
            shown.since.CopyFrom(instant(self._since_ns))
            del shown.links[:]
            del shown.sections[:]
        elif not self._serving and shown.state in _OPEN_FOR_BUSINESS:
            shown.state = venue_pb2.VENUE_STATE_DOWN
            shown.cause = "its gateway's health is NOT_SERVING"
            shown.since.CopyFrom(instant(self._since_ns))
        return shown

    def describe(self) -> venue_pb2.Venue:
        """The venue as last read, with its status now."""
        shown = venue_pb2.Venue(venue=self.name)
        if self._known is not None:
            shown.CopyFrom(self._known)
        shown.status.CopyFrom(self.status())
        return shown

    def view(self, symbol: str) -> VenueView:
        """What a decision about `symbol` needs, but the book."""
        status = self.status()
        known = self._known
        return VenueView(
            venue=self.name,
            unreachable=self._unreachable,
            state=status.state,
            state_cause=status.cause,
            account_ids=self.account_ids,
            capabilities=known.capabilities if known is not None else venue_pb2.VenueCapabilities(),
            instrument=self.listed.get(symbol),
        )

    # --- calling it ---

    async def require_ready(self) -> None:
        """Return while connected; after it, a failed call can have reached the gateway.

        Raises:
            GatewayUnavailable: no connection within `connect_wait_s`; certain that nothing was sent.
        """
        if self._state() is grpc.ChannelConnectivity.READY:
            return
        if self._state(try_to_connect=True) in _CALLABLE:
            try:
                async with asyncio.timeout(self.settings.connect_wait_s):
                    await self._ready.wait()
            except TimeoutError:
                pass
        if self._state() is not grpc.ChannelConnectivity.READY:
            raise self.unreachable("not connected")

    def _state(self, *, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self.channel.get_state(try_to_connect)

    def unreachable(self, cause: str) -> GatewayUnavailable:
        """The error of a call that was not made."""
        return GatewayUnavailable(
            f"the gateway of {self.name} cannot be reached: {cause}",
            retry_after_s=RETRY_AFTER_S,
            metadata={"venue": self.name},
        )

    # --- watching it ---

    async def run(self) -> None:
        """Keep connected and informed; ends only by cancellation."""
        async with asyncio.TaskGroup() as tasks:
            for work in (self._keep_connected, self._watch_health, self._watch_status, self._keep_fresh):
                tasks.create_task(work(), name=f"venue/{self.name}/{work.__name__.strip('_')}")

    async def _keep_connected(self) -> None:
        while True:
            state = self._state(try_to_connect=True)
            if state is grpc.ChannelConnectivity.READY:
                self._ready.set()
            else:
                self._ready.clear()
            await self.channel.wait_for_state_change(state)

    async def _watch_health(self) -> None:
        def heard(answer: health_pb2.HealthCheckResponse) -> None:
            self._heard(answer.status == health_pb2.HealthCheckResponse.SERVING)

        request = health_pb2.HealthCheckRequest(service=f"venue/{self.name}")
        await self._follow(lambda: self._health.Watch(request), heard, self._lost)  # type: ignore[attr-defined]

    async def _watch_status(self) -> None:
        def heard(message: venue_service_pb2.StreamVenueStatusResponse) -> None:
            if message.WhichOneof("body") == "venue_status":
                self._streamed = message.venue_status
                self._changed()

        def lost(_: str) -> None:
            # What GetVenue said is as good until the stream is back.
            self._streamed = None
            self._refresh.set()

        request = venue_service_pb2.StreamVenueStatusRequest()
        await self._follow(lambda: self.venues.StreamVenueStatus(request), heard, lost)

    async def _follow(
        self, open_call: Callable[[], Any], heard: Callable[[Any], None], lost: Callable[[str], None]
    ) -> None:
        """Read a stream for ever, opening it again with jittered back-off whenever it ends."""
        cap_s = self.settings.reconnect_cap_s
        backoff = Backoff(BackoffPolicy(initial_s=min(0.1, cap_s), cap_s=cap_s, healthy_s=5.0), random.random)
        while True:
            call, began_s, cause = open_call(), self._clock.monotonic_s(), "the watch ended"
            try:
                async for message in call:
                    heard(message)
            except grpc.aio.AioRpcError as error:
                cause = f"{error.code().name}: {error.details()}"
            finally:
                call.cancel()
            lost(cause)
            backoff.connection_ended(self._clock.monotonic_s() - began_s)
            await asyncio.sleep(backoff.next_delay_s())

    def _heard(self, serving: bool) -> None:
        was_away = bool(self._fault)
        if serving != self._serving or was_away:
            self._since_ns = self._clock.now_ns()
            log.info("venue_health", extra={"venue": self.name, "serving": serving})
        self._serving, self._fault = serving, ""
        self._refresh.set()
        self._changed()

    def _lost(self, cause: str) -> None:
        if not self._fault:
            self._since_ns = self._clock.now_ns()
            log.warning("gateway_lost", extra={"venue": self.name, "cause": cause})
        self._serving, self._fault = False, cause
        self._changed()

    async def _keep_fresh(self) -> None:
        while True:
            self._refresh.clear()
            wait_s = self.settings.refresh_s if await self._read_all() else min(REREAD_S, self.settings.refresh_s)
            try:
                async with asyncio.timeout(wait_s):
                    await self._refresh.wait()
            except TimeoutError:
                continue

    async def _read_all(self) -> bool:
        try:
            answer = await self.venues.GetVenue(venue_service_pb2.GetVenueRequest(venue=self.name))
            self._known = answer.venue
            self.listed = {one.symbol: one async for one in self._read_instruments()}
        except grpc.aio.AioRpcError as error:
            cause = f"{error.code().name}: {error.details()}"
            if cause != self._read_fault:
                log.warning("venue_not_read", extra={"venue": self.name, "cause": cause})
            self._read_fault = cause
            return False
        self._read_fault, self._read_once = "", True
        self._changed()
        return True

    async def _read_instruments(self) -> AsyncIterator[instrument_pb2.Instrument]:
        request = instrument_service_pb2.ListInstrumentsRequest(venue=self.name, page_size=PAGE)
        for _ in range(MAX_INSTRUMENTS // PAGE):
            page = await self.instruments.ListInstruments(request)
            for one in page.instruments:
                yield one
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token
        log.warning("too_many_instruments", extra={"venue": self.name, "kept": MAX_INSTRUMENTS})


class Venues:
    """All links, by name; tells listeners when any of them changed."""

    def __init__(self) -> None:
        self._links: dict[str, VenueLink] = {}
        self._listeners: set[asyncio.Event] = set()

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        gateways: Mapping[str, str],
        settings: GatewaySettings,
        clock: Clock,
        *,
        token: Secret | None = None,
    ) -> AsyncIterator[Venues]:
        """Open a channel per venue, each with a connection of its own; close them on exit.

        Nothing waits for a gateway; `run` keeps the links.
        """
        venues = cls()
        for name, address in gateways.items():
            channel = open_channel(
                address,
                reserve_s=settings.reserve_s,
                default_timeout_s=settings.default_timeout_s,
                tls=settings.tls,
                token=token,
                options=(("grpc.use_local_subchannel_pool", 1),),
            )
            venues._links[name] = VenueLink(name, channel, settings, clock, venues._tell)
        try:
            yield venues
        finally:
            for link in venues.all():
                await link.channel.close()

    def change(self, settings: GatewaySettings) -> None:
        """See `VenueLink.change`."""
        for link in self.all():
            link.change(settings)

    def _tell(self) -> None:
        for listener in self._listeners:
            listener.set()

    @contextmanager
    def listening(self) -> Iterator[asyncio.Event]:
        """An event that is set after each change; the listener clears it before it looks."""
        event = asyncio.Event()
        self._listeners.add(event)
        try:
            yield event
        finally:
            self._listeners.discard(event)

    async def run(self) -> None:
        """Keep every link; ends only by cancellation."""
        async with asyncio.TaskGroup() as tasks:
            for link in self.all():
                tasks.create_task(link.run(), name=f"venue/{link.name}")

    def all(self) -> list[VenueLink]:
        """Every link, by name."""
        return [self._links[name] for name in sorted(self._links)]

    @property
    def names(self) -> frozenset[str]:
        """Names of all venues of the mesh."""
        return frozenset(self._links)

    def get(self, name: str, *, field: str = "venue") -> VenueLink:
        """The link of a venue.

        Raises:
            VenueNotFound: no such venue here.
        """
        link = self._links.get(name)
        if link is None:
            raise VenueNotFound(
                f"{field}: no venue {name[:48]!r} in this mesh", field=field, metadata={"venue": name[:48]}
            )
        return link
