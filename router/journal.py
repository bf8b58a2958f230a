"""The router's part of the journal: one route per (account, key) for ever, decided by compare-and-set.

Whichever router appends first decides; every other one, and every repeat, reads the stored route.
"""

from __future__ import annotations

import asyncio
import logging

from google.protobuf.message import DecodeError

from router.plans import route_not_found
from venuemesh.bus import Bus, SubjectTaken
from venuemesh.clock import Clock
from venuemesh.errors import JournalUnavailable, MeshError, Reason
from venuemesh.subjects import JOURNAL_STREAM, ROOT, Kind, subject, token
from venuemesh.v1 import event_pb2, order_pb2, routing_pb2

log = logging.getLogger(__name__)


class RouteJournal:
    """Reads and appends routes. Every method raises JournalUnavailable when the broker does not answer."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock

    async def find(self, account_id: str, client_order_id: str) -> routing_pb2.Route | None:
        """The route of a key; None when there is none."""
        stored = await self._bus.last(JOURNAL_STREAM, _subject(account_id, client_order_id))
        return None if stored is None else _route(stored.payload)

    async def get(self, account_id: str, client_order_id: str) -> routing_pb2.Route:
        """The route of a key.

        Raises:
            NotFound: ROUTE_NOT_FOUND.
        """
        route = await self.find(account_id, client_order_id)
        if route is None:
            raise route_not_found(client_order_id)
        return route

    async def decide(self, route: routing_pb2.Route) -> tuple[routing_pb2.Route, bool]:
        """Store the route unless its key has one; returns the route in force and whether it is this one."""
        order = route.order
        try:
            await self._bus.append_once(_subject(order.account_id, order.client_order_id), route.SerializeToString())
        except SubjectTaken:
            stored = await self.find(order.account_id, order.client_order_id)
            if stored is None:
                raise JournalUnavailable("the journal refuses the route and does not show the one it has") from None
            return stored, False
        return route, True

    async def other_order(self, account_id: str, client_order_id: str) -> order_pb2.Order | None:
        """An order that some gateway journalled under this key; None when there is none."""
        pattern = ".".join((ROOT, Kind.INTENT, "*", token(account_id), token(client_order_id)))
        stored = await self._bus.last(JOURNAL_STREAM, pattern)
        if stored is None:
            return None
        try:
            return event_pb2.OrderIntent.FromString(stored.payload).order
        except DecodeError:
            raise MeshError("an order intent in the journal cannot be read", reason=Reason.INTERNAL) from None

    async def announce(self, route: routing_pb2.Route) -> None:
        """Publish the decision as an event. The journal holds it already, so a failure is only logged."""
        order = route.order
        venue = route.plan.legs[0].venue
        event = event_pb2.Event(
            event_id=f"route/{route.route_id}",
            venue=venue,
            account_id=order.account_id,
            symbol=order.symbol,
            received_time=route.created_time,
            correlation_id=order.correlation_id,
            route=route,
        )
        event.published_time.FromNanoseconds(self._clock.now_ns())
        where = subject(Kind.ROUTE, venue, order.account_id, order.symbol)
        try:
            stored = await self._bus.publish_soon(where, event.SerializeToString(), message_id=event.event_id)
        except JournalUnavailable as error:
            log.warning("route_not_announced", extra={"route_id": route.route_id, "cause": error.message})
        else:
            stored.add_done_callback(_check_announced)


def _check_announced(stored: asyncio.Future[object]) -> None:
    if not stored.cancelled() and (error := stored.exception()) is not None:
        log.warning("route_not_announced", extra={"cause": repr(error)})


def _subject(account_id: str, client_order_id: str) -> str:
    return subject(Kind.ROUTE_INTENT, "", account_id, client_order_id)


def _route(payload: bytes) -> routing_pb2.Route:
    try:
        route = routing_pb2.Route.FromString(payload)
    except DecodeError:
        route = routing_pb2.Route()
    if not route.plan.legs:
        raise MeshError("a route in the journal cannot be read", reason=Reason.INTERNAL)
    return route
