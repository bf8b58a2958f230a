"""The router's part of the journal: one route per (account, key) for ever, decided by compare-and-set.

Whichever router appends first decides; every other one, and every repeat, reads the stored route. A leg that was
certainly never sent may go elsewhere in a further revision, decided the same way, and only after its own key was
fenced: taken in its gateway's journal by an intent that is rejected already. From then on nobody can send it.
"""

from __future__ import annotations

import logging

from google.protobuf.message import DecodeError

from router.outcomes import unknown_order
from router.plans import instant, route_not_found
from venuemesh.bus import Bus, SubjectTaken
from venuemesh.clock import Clock
from venuemesh.errors import JournalUnavailable, MeshError, Reason
from venuemesh.gateway.order_wire import fingerprint_of, order_id_of
from venuemesh.journal import decode_event
from venuemesh.subjects import EVENT_STREAM, JOURNAL_STREAM, ROOT, Kind, subject, token
from venuemesh.v1 import event_pb2, order_pb2, routing_pb2

log = logging.getLogger(__name__)

REVISION = "revision"
AMENDMENT = "amendment"
WRITER = "router"
"""`writer_id` of an intent that fences a key; gateways name themselves otherwise."""


class RouteJournal:
    """Reads and appends routes. Every method raises JournalUnavailable when the broker does not answer."""

    def __init__(self, bus: Bus, clock: Clock) -> None:
        self._bus = bus
        self._clock = clock

    async def find(self, account_id: str, client_order_id: str) -> routing_pb2.Route | None:
        """The route of a key in its latest revision; None when there is none."""
        stored = await self._bus.last(JOURNAL_STREAM, _subject(account_id, client_order_id))
        if stored is None:
            return None
        revised = await self._bus.last(JOURNAL_STREAM, _subject(account_id, client_order_id, REVISION, "*"))
        return _route((revised or stored).payload)

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

    async def revise(self, route: routing_pb2.Route) -> routing_pb2.Route:
        """Store a further revision of a route; returns the one in force, which another router may have written."""
        order = route.order
        where = _subject(order.account_id, order.client_order_id, REVISION, str(route.revision))
        try:
            await self._bus.append_once(where, route.SerializeToString())
        except SubjectTaken:
            return await self.get(order.account_id, order.client_order_id)
        return route

    async def fence(self, child: order_pb2.NewOrder, reject: order_pb2.Reject) -> bool:
        """Make sure that a child can never be sent; False when its gateway has its key already.

        The gateway of `child.venue` journals an intent under the same subject before it sends anything, and only one
        of both can be the first.
        """
        order = order_pb2.Order(
            order_id=order_id_of(child.venue, child.account_id, child.client_order_id),
            terms=child,
            status=order_pb2.ORDER_STATUS_REJECTED,
            terminal=True,
            filled_quantity="0",
            leaves_quantity="0",
            reject=reject,
            order_version=1,
            created_time=instant(self._clock.now_ns()),
            updated_time=instant(self._clock.now_ns()),
            content_fingerprint=fingerprint_of(child),
        )
        intent = event_pb2.OrderIntent(order=order, journalled_time=order.created_time, writer_id=WRITER)
        try:
            await self._bus.append_once(_intent_subject(child), intent.SerializeToString())
        except SubjectTaken:
            intent = await self._intent(child) or intent
            return intent.writer_id == WRITER
        return True

    async def evidence(self, child: order_pb2.NewOrder) -> order_pb2.Order | None:
        """What the journal and the events tell of a child when its gateway does not; None: it was never sent so far."""
        reported = await self._bus.last(EVENT_STREAM, _events_of(child))
        if reported is not None:
            event = decode_event(reported)
            if event.execution_report.HasField("order"):
                return event.execution_report.order
        intent = await self._intent(child)
        if intent is None:
            return None
        return intent.order if intent.writer_id == WRITER else unknown_order(child, self._clock.now_ns())

    async def known(self, order: order_pb2.NewOrder) -> bool:
        """Whether the gateway of `order.venue` has its key, so that a submit makes no order.

        False, too, while the broker is away; nobody waits for it to come back.
        """
        if not self._bus.connected:
            return False
        try:
            return await self._intent(order) is not None
        except JournalUnavailable as error:
            log.warning("key_not_read", extra={"venue": order.venue, "cause": error.message})
            return False

    async def _intent(self, child: order_pb2.NewOrder) -> event_pb2.OrderIntent | None:
        stored = await self._bus.last(JOURNAL_STREAM, _intent_subject(child))
        return None if stored is None else _intent(stored.payload)

    async def amend(
        self, route: routing_pb2.Route, amendment: routing_pb2.RouteAmendment
    ) -> routing_pb2.RouteAmendment:
        """Store an amendment unless its request id has one; returns the one in force."""
        order = route.order
        where = _subject(order.account_id, order.client_order_id, AMENDMENT, amendment.request_id)
        try:
            await self._bus.append_once(where, amendment.SerializeToString())
        except SubjectTaken:
            stored = await self._bus.last(JOURNAL_STREAM, where)
            if stored is None:
                raise JournalUnavailable("the journal refuses the amendment and does not show the one it has") from None
            return routing_pb2.RouteAmendment.FromString(stored.payload)
        return amendment

    async def amendment(self, route: routing_pb2.Route, request_id: str) -> routing_pb2.RouteAmendment | None:
        """The amendment of a request id; None when there is none."""
        order = route.order
        where = _subject(order.account_id, order.client_order_id, AMENDMENT, request_id)
        stored = await self._bus.last(JOURNAL_STREAM, where)
        return None if stored is None else routing_pb2.RouteAmendment.FromString(stored.payload)

    async def other_order(self, account_id: str, client_order_id: str) -> order_pb2.Order | None:
        """An order that some gateway journalled under this key; None when there is none."""
        pattern = ".".join((ROOT, Kind.INTENT, "*", token(account_id), token(client_order_id)))
        stored = await self._bus.last(JOURNAL_STREAM, pattern)
        if stored is None:
            return None
        return _intent(stored.payload).order


def _subject(account_id: str, client_order_id: str, *rest: str) -> str:
    """Subject of a route, of its revisions and amendments behind it; a `*` stays a wildcard."""
    name = subject(Kind.ROUTE_INTENT, "", account_id, client_order_id)
    return ".".join((name, *(part if part == "*" else token(part) for part in rest)))


def _intent_subject(child: order_pb2.NewOrder) -> str:
    return subject(Kind.INTENT, child.venue, child.account_id, child.client_order_id)


def _events_of(child: order_pb2.NewOrder) -> str:
    """Reports and fills of one order: their kinds differ, the rest of their subjects does not."""
    names = (child.venue, child.account_id, child.symbol, child.client_order_id)
    return ".".join((ROOT, "*", *(token(name) for name in names)))


def _intent(payload: bytes) -> event_pb2.OrderIntent:
    try:
        return event_pb2.OrderIntent.FromString(payload)
    except DecodeError:
        raise MeshError("an order intent in the journal cannot be read", reason=Reason.INTERNAL) from None


def _route(payload: bytes) -> routing_pb2.Route:
    try:
        route = routing_pb2.Route.FromString(payload)
    except DecodeError:
        route = routing_pb2.Route()
    if not route.plan.legs:
        raise MeshError("a route in the journal cannot be read", reason=Reason.INTERNAL)
    return route
