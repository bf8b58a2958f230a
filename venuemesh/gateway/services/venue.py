"""VenueService of a gateway: its one venue."""
# ruff: noqa: N802 - methods are named by the contract

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from venuemesh.errors import Reason
from venuemesh.gateway.order_wire import timestamp
from venuemesh.gateway.services.parts import Context, GatewayParts
from venuemesh.gateway.services.requests import check_symbols
from venuemesh.gateway.services.streams import accepted, refused, snapshot_plan
from venuemesh.stream_options import Policy, StreamRules, parse_stream_options
from venuemesh.streaming import Entry, StreamHub, Topic, responder
from venuemesh.v1 import stream_pb2, venue_pb2, venue_service_pb2_grpc
from venuemesh.v1 import venue_service_pb2 as wire

STATUSES = StreamRules(default=Policy.EVERY_EVENT, conflation=True)


class VenueServicer(venue_service_pb2_grpc.VenueServiceServicer):
    """The venue, what it can do and how it is."""

    def __init__(self, parts: GatewayParts, hub: StreamHub) -> None:
        self._parts = parts
        self._hub = hub
        self._topic: Topic[venue_pb2.VenueStatus] = Topic(parts.clock)
        self._respond = responder(wire.StreamVenueStatusResponse, lambda status: {"venue_status": status})
        parts.on_status.append(self._on_status)

    def _on_status(self, status: venue_pb2.VenueStatus) -> None:
        self._topic.publish(status, slot=status.venue)

    async def ListVenues(self, request: wire.ListVenuesRequest, context: Context) -> wire.ListVenuesResponse:
        """The one venue of this gateway."""
        return wire.ListVenuesResponse(venues=[self._parts.venue_message()])

    async def GetVenue(self, request: wire.GetVenueRequest, context: Context) -> wire.GetVenueResponse:
        """The venue; its name may be left out."""
        self._parts.desk.check_venue(request.venue)
        return wire.GetVenueResponse(venue=self._parts.venue_message())

    async def GetCapabilities(
        self, request: wire.GetCapabilitiesRequest, context: Context
    ) -> wire.GetCapabilitiesResponse:
        """What the venue can do."""
        self._parts.desk.check_venue(request.venue)
        return wire.GetCapabilitiesResponse(capabilities=self._parts.venue.capabilities)

    async def StreamVenueStatus(
        self, request: wire.StreamVenueStatusRequest, context: Context
    ) -> AsyncGenerator[wire.StreamVenueStatusResponse, None]:
        """The state now, then each change."""
        asked = check_symbols(request.venues, "venues")
        terms = parse_stream_options(request.options, STATUSES)
        name = self._parts.venue.name
        wanted = not asked or name in asked
        plan = snapshot_plan(
            terms,
            method="/venuemesh.v1.VenueService/StreamVenueStatus",
            peer=context.peer(),
            snapshot=lambda: [self._now()] if wanted else [],
            results=[self._result(venue) for venue in asked or [name]],
            accepts=lambda _status: wanted,
            link_state=self._parts.market.link_state,
        )
        async with aclosing(self._hub.serve(self._topic, plan, self._respond)) as messages:
            async for message in messages:
                yield message

    def _result(self, venue: str) -> stream_pb2.SubscriptionResult:
        if venue == self._parts.venue.name:
            return accepted(venue)
        message = f"this is the gateway of {self._parts.venue.name}"
        return refused(venue, Reason.VENUE_NOT_FOUND, message)

    def _now(self) -> Entry[venue_pb2.VenueStatus]:
        status = self._parts.status()
        if not status.HasField("since"):
            status.since.CopyFrom(timestamp(self._parts.clock.now_ns()))
        return Entry(status, published_ns=self._parts.clock.now_ns())
