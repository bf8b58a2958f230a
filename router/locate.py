"""Which venue an order is at, when a request does not say."""

from __future__ import annotations

import logging

from router.calls import read
from router.fanout import ask_all
from router.journal import RouteJournal
from router.venues import VenueLink, Venues
from venuemesh.errors import InvalidRequest, JournalUnavailable, Reason
from venuemesh.v1 import order_service_pb2

log = logging.getLogger(__name__)


def at(reference: order_service_pb2.OrderReference, venue: str) -> order_service_pb2.OrderReference:
    """The reference with its venue named."""
    named = order_service_pb2.OrderReference()
    named.CopyFrom(reference)
    named.venue = venue
    return named


class Locator:
    """Finds the venue of an order: as named, by its route, or by asking all."""

    def __init__(self, venues: Venues, journal: RouteJournal) -> None:
        self._venues = venues
        self._journal = journal

    async def locate(self, reference: order_service_pb2.OrderReference) -> VenueLink:
        """The link of the order's venue.

        Raises:
            InvalidRequest: no id, or more than one venue has an order of this name.
            OrderNotFound: no venue has it.
            GatewayUnavailable: not found, and a venue that may have it could not be asked.
        """
        require_id(reference)
        if reference.venue:
            return self._venues.get(reference.venue, field="reference.venue")
        if reference.WhichOneof("id") == "client_order_id":
            link = await self._by_route(reference.account_id, reference.client_order_id)
            if link is not None:
                return link
        return await self._by_asking(reference)

    async def _by_route(self, account_id: str, client_order_id: str) -> VenueLink | None:
        try:
            route = await self._journal.find(account_id, client_order_id)
        except JournalUnavailable as error:
            # The journal only saves asking around; an order must be found, and cancelled, without it.
            log.warning("route_not_read", extra={"cause": error.message})
            return None
        # The children of a split have keys of their own; under the parent's there is no order at any venue.
        return None if route is None else self._venues.get(route.plan.legs[0].venue, field="reference")

    async def _by_asking(self, reference: order_service_pb2.OrderReference) -> VenueLink:
        async def ask(link: VenueLink) -> None:
            request = order_service_pb2.GetOrderRequest(reference=at(reference, link.name))
            timeout_s = link.settings.locate_timeout_s
            await read(link, link.orders.GetOrder, request, timeout_s=timeout_s, bounded=False)

        # Our own ids are unique; the others may name orders at several venues.
        first = reference.WhichOneof("id") == "order_id"
        answers = await ask_all(self._venues.all(), ask, first=first)
        answers.require_any()
        if len(answers.given) > 1:
            names = ", ".join(answers.given)
            raise InvalidRequest(
                f"reference: orders of this name are at {names}; name the venue",
                reason=Reason.REQUIRED_FIELD_MISSING,
                field="reference.venue",
            )
        (venue,) = answers.given
        return self._venues.get(venue)


def require_id(reference: order_service_pb2.OrderReference) -> None:
    """Refuse a reference that names nothing.

    Raises:
        InvalidRequest: no id, or a client order id without its account.
    """
    kind = reference.WhichOneof("id")
    if kind is None or not getattr(reference, kind):
        raise InvalidRequest("reference has no id", reason=Reason.REQUIRED_FIELD_MISSING, field="reference")
    if kind == "client_order_id" and not reference.account_id:
        raise InvalidRequest(
            "reference.account_id is required with client_order_id",
            reason=Reason.REQUIRED_FIELD_MISSING,
            field="reference.account_id",
        )
