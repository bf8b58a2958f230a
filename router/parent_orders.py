"""Reads, cancels and amends routed orders by their children; what was refused or not reached is said per child."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeVar

from router.admission import AmendmentAdmission
from router.calls import Context, cancel, read, submit
from router.fanout import tell_unreached
from router.journal import RouteJournal
from router.outcomes import unknown_cancel, unknown_replace
from router.parents import (
    MAX_REVISIONS,
    child_key,
    child_order,
    is_split,
    parent_order,
    refused_order,
    unsent_order,
    with_children,
    worst_cancel,
    worst_submit,
)
from router.plans import ROUTE_PREFIX, reason_number, route_key
from router.resizing import divide_amendment
from router.venues import VenueLink, Venues
from venuemesh.clock import Clock
from venuemesh.errors import (
    InvalidOrder,
    JournalUnavailable,
    MeshError,
    NotFound,
    OrderNotFound,
    OutcomeUnknown,
    PreconditionFailed,
    Reason,
    Unavailable,
    VersionConflict,
)
from venuemesh.gateway.rules import check_client_id
from venuemesh.v1 import order_pb2, order_service_pb2, routing_pb2
from venuemesh.v1 import order_service_pb2 as pb

log = logging.getLogger(__name__)

T = TypeVar("T")
CANCELED_UNSENT = "cancelled before it was sent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """A route as known now, and the venues that could not be asked, each as "venue: reason"."""

    route: routing_pb2.Route
    unreached: Sequence[str]


class ParentOrders:
    """Routed orders as one order each.

    Args:
        risk: judges what an amendment adds.
    """

    def __init__(self, venues: Venues, journal: RouteJournal, clock: Clock, risk: AmendmentAdmission) -> None:
        self._venues = venues
        self._journal = journal
        self._clock = clock
        self._risk = risk

    # --- finding and reading ---

    async def find_split(self, reference: pb.OrderReference) -> routing_pb2.Route | None:
        """The route of an order that the reference names, where it was split; None where it is no such order.

        Raises:
            JournalUnavailable: the broker does not answer.
        """
        if reference.venue:
            return None
        try:
            match reference.WhichOneof("id"):
                case "client_order_id" if reference.account_id:
                    route = await self._journal.find(reference.account_id, reference.client_order_id)
                case "order_id" if reference.order_id.startswith(ROUTE_PREFIX):
                    route = await self._journal.get(*route_key(reference.order_id))
                case _:
                    return None
        except NotFound as error:
            raise OrderNotFound(f"reference.order_id: {error.message}", field="reference.order_id") from None
        if route is not None and reference.account_id not in ("", route.order.account_id):
            # Whoever may act for the account named may not act for another by way of an id.
            raise OrderNotFound("reference.order_id: no such order of this account", field="reference.order_id")
        return route if route is not None and (is_split(route) or reference.order_id) else None

    async def read(self, route: routing_pb2.Route) -> Reading:
        """The route with its children as their gateways know them, or as the journal does where a gateway is away.

        Raises:
            MeshError: neither tells of a child.
        """
        unreached: list[str] = []
        children = await _at_once([self._child(route, leg, unreached) for leg in route.plan.legs])
        known = with_children(route, children, self._clock.now_ns())
        return Reading(route=known, unreached=sorted(unreached))

    async def _child(
        self, route: routing_pb2.Route, leg: routing_pb2.RouteLeg, unreached: list[str]
    ) -> order_pb2.Order:
        request = pb.GetOrderRequest(reference=_reference(route, leg))
        try:
            link = self._venues.get(leg.venue)
            # A hung venue must leave time for what the journal tells.
            timeout_s = link.settings.locate_timeout_s
            answer: pb.GetOrderResponse = await read(link, link.orders.GetOrder, request, timeout_s=timeout_s)
        except MeshError as error:
            if error.reason is not Reason.ORDER_NOT_FOUND:
                unreached.append(f"{leg.venue}: {error.reason}: {error.message}")
            return await self._journal.evidence(child_order(route, leg)) or unsent_order(route, leg)
        return answer.order

    async def get(self, route: routing_pb2.Route, context: Context = None) -> order_pb2.Order:
        """A split order as one order."""
        reading = await self.read(route)
        if context is not None:
            tell_unreached(context, reading.unreached)
        return parent_order(reading.route)

    # --- cancel ---

    async def cancel(self, route: routing_pb2.Route) -> tuple[routing_pb2.Route, list[pb.CancelOrderResponse]]:
        """Cancel every child; one that was never sent is made sure never to be.

        Returns the route as known now and one result per leg; a child that could not be reached is REJECTED there with
        the reason, and the caller repeats.
        """
        results = await _at_once([self._cancel_leg(route, leg) for leg in route.plan.legs])
        route = with_children(route, [result.order for result in results], self._clock.now_ns())
        return route, results

    async def _cancel_leg(self, route: routing_pb2.Route, leg: routing_pb2.RouteLeg) -> pb.CancelOrderResponse:
        reference = _reference(route, leg)
        try:
            link = self._venues.get(leg.venue)
            answer: pb.CancelOrderResponse = await cancel(
                link, link.orders.CancelOrder, pb.CancelOrderRequest(reference=reference)
            )
        except OutcomeUnknown:
            return unknown_cancel(reference, self._clock.now_ns())
        except MeshError as error:
            return await self._cancel_unsent(route, leg, error)
        return answer

    async def _cancel_unsent(
        self, route: routing_pb2.Route, leg: routing_pb2.RouteLeg, error: MeshError
    ) -> pb.CancelOrderResponse:
        """The gateway has no such child or is away: if nobody journalled it, nobody may any more."""
        reject = order_pb2.Reject(reason=reason_number(Reason.NEVER_REACHED_VENUE), message=CANCELED_UNSENT)
        child = child_order(route, leg)
        # A gateway that refuses the caller, for one, has said nothing about the child.
        absent = error.reason is Reason.ORDER_NOT_FOUND or isinstance(error, Unavailable)
        try:
            if absent and await self._journal.fence(child, reject):
                order = refused_order(route, leg, reject, self._clock.now_ns())
                return pb.CancelOrderResponse(order=order, outcome=pb.CANCEL_OUTCOME_CANCELED)
            known = await self._journal.evidence(child)
        except JournalUnavailable:
            known = None
        refused = order_pb2.Reject(reason=reason_number(error.reason), message=f"{leg.venue}: {error.message}")
        order = known or unsent_order(route, leg)
        return pb.CancelOrderResponse(order=order, outcome=pb.CANCEL_OUTCOME_REJECTED, reject=refused)

    async def cancel_as_one(self, route: routing_pb2.Route, expected_version: int | None) -> pb.CancelOrderResponse:
        """The same, answered as for one order.

        Raises:
            VersionConflict: the order has another version.
        """
        if expected_version is not None:
            _check_version(parent_order((await self.read(route)).route), expected_version)
        known, results = await self.cancel(route)
        answer = pb.CancelOrderResponse(
            order=parent_order(known), outcome=worst_cancel([result.outcome for result in results])
        )
        answer.already_terminal = answer.outcome == pb.CANCEL_OUTCOME_ALREADY_TERMINAL
        refused = next((result for result in results if result.HasField("reject")), None)
        if refused is not None:
            answer.reject.CopyFrom(refused.reject)
        return answer

    async def cancel_without_journal(self, reference: pb.OrderReference) -> pb.CancelOrderResponse | None:
        """Cancel whatever children a split of this key can have, while the journal cannot say which it has.

        Their keys follow from the parent's, so every venue is asked for each that it could have. None: no venue has
        one, so the order was not split. The answer is UNKNOWN at best: a child may be where nobody could be asked.
        """
        account_id, client_order_id = reference.account_id, reference.client_order_id
        if reference.order_id.startswith(ROUTE_PREFIX):
            account_id, client_order_id = route_key(reference.order_id)
        if not client_order_id:
            return None
        asked = [
            (link, child_key(account_id, client_order_id, link.name, revision))
            for link in self._venues.all()
            for revision in range(MAX_REVISIONS + 1)
        ]
        answers = await _at_once([self._cancel_guess(link, account_id, key) for link, key in asked])
        found = [answer.order for answer in answers if answer is not None]
        if not found:
            return None
        order = order_pb2.NewOrder()
        order.CopyFrom(found[0].terms)
        order.client_order_id = client_order_id
        for name in ("venue", "quantity", "parent_order_id"):
            order.ClearField(name)
        named = pb.OrderReference(account_id=account_id, client_order_id=client_order_id)
        answer = unknown_cancel(named, self._clock.now_ns())
        answer.order.terms.CopyFrom(order)
        return answer

    async def _cancel_guess(self, link: VenueLink, account_id: str, key: str) -> pb.CancelOrderResponse | None:
        reference = pb.OrderReference(account_id=account_id, venue=link.name, client_order_id=key)
        try:
            answer: pb.CancelOrderResponse = await cancel(
                link, link.orders.CancelOrder, pb.CancelOrderRequest(reference=reference)
            )
        except OutcomeUnknown:
            return unknown_cancel(reference, self._clock.now_ns())
        except MeshError as error:
            log.info("cancel_of_child_refused", extra={"venue": link.name, "cause": error.message})
            return None
        return answer

    # --- amend ---

    async def replace(self, route: routing_pb2.Route, request: pb.ReplaceOrderRequest) -> pb.ReplaceOrderResponse:
        """Amend every child that works: the price of all, the quantity divided among them.

        The division is journalled before any child hears of it; a repeat of the request id asks the same of each.

        Raises:
            InvalidOrder: the quantity cannot be divided among the children.
            VersionConflict, PreconditionFailed: another version, or nothing works any more.
            ClientOrderIdReused: the request id belongs to another amendment.
        """
        check_client_id(request.request_id, field="request_id")
        if request.HasField("trigger_price"):
            raise InvalidOrder(
                "trigger_price: a routed order has no trigger",
                reason=Reason.UNSUPPORTED_INSTRUCTION,
                field="trigger_price",
            )
        amendment = await self._journal.amendment(route, request.request_id)
        replayed = amendment is not None
        if amendment is None:
            known = (await self.read(route)).route
            if request.HasField("expected_version"):
                _check_version(parent_order(known), request.expected_version)
            amendment = await self._journal.amend(route, self._amendment(known, request))
        if _asks_other(amendment, request):
            raise PreconditionFailed(
                f"request_id: {request.request_id!r} was used for another amendment",
                reason=Reason.CLIENT_ORDER_ID_REUSED,
                field="request_id",
            )
        legs = {leg.client_order_id: leg for leg in amendment.legs}
        answers = await _at_once(
            [
                self._replace_leg(route, leg, amendment, legs[leg.client_order_id])
                for leg in route.plan.legs
                if leg.client_order_id in legs
            ]
        )
        reading = await self.read(route)
        response = pb.ReplaceOrderResponse(
            order=parent_order(reading.route),
            outcome=worst_submit([answer.outcome for answer in answers]),
            replayed=replayed,
        )
        refused = next((answer for answer in answers if answer.HasField("reject")), None)
        if refused is not None:
            response.reject.CopyFrom(refused.reject)
        return response

    def _amendment(self, route: routing_pb2.Route, request: pb.ReplaceOrderRequest) -> routing_pb2.RouteAmendment:
        working = [child for child in route.children if child.working and not child.uncertain]
        if not working:
            raise PreconditionFailed("no child of the order works", reason=Reason.ORDER_NOT_WORKING)
        amendment = routing_pb2.RouteAmendment(request_id=request.request_id)
        quantities: dict[str, str] = {child.terms.client_order_id: child.terms.quantity for child in working}
        if request.HasField("quantity"):
            amendment.quantity = request.quantity
            rules = {
                child.terms.venue: self._venues.get(child.terms.venue).listed[child.terms.symbol].quantity_rule
                for child in working
            }
            quantities = divide_amendment(request.quantity, route.children, working, rules)
        if request.HasField("price"):
            amendment.price = request.price
        for child in working:
            key = child.terms.client_order_id
            if request.HasField("price") or Decimal(quantities[key]) != Decimal(child.terms.quantity):
                amendment.legs.add(venue=child.terms.venue, quantity=quantities[key], client_order_id=key)
        return amendment

    async def _replace_leg(
        self,
        route: routing_pb2.Route,
        leg: routing_pb2.RouteLeg,
        amendment: routing_pb2.RouteAmendment,
        wanted: routing_pb2.RouteLeg,
    ) -> pb.ReplaceOrderResponse:
        reference = _reference(route, leg)
        request = pb.ReplaceOrderRequest(
            reference=reference, request_id=child_key(route.order.account_id, amendment.request_id, leg.venue)
        )
        if amendment.HasField("quantity"):
            request.quantity = wanted.quantity
        if amendment.HasField("price"):
            request.price = amendment.price
        try:
            link = self._venues.get(leg.venue)
            async with self._risk.amending(link, request) as answered:
                try:
                    answer: pb.ReplaceOrderResponse = await submit(link, link.orders.ReplaceOrder, request)
                except OutcomeUnknown:
                    return unknown_replace(reference, self._clock.now_ns())
                answered(answer)
        except MeshError as error:
            reject = order_pb2.Reject(reason=reason_number(error.reason), message=f"{leg.venue}: {error.message}")
            return pb.ReplaceOrderResponse(outcome=order_service_pb2.SUBMIT_OUTCOME_REJECTED, reject=reject)
        return answer


async def _at_once(jobs: Sequence[Awaitable[T]]) -> list[T]:
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(_wait(job), name=f"child/{place}") for place, job in enumerate(jobs)]
    return [task.result() for task in running]


async def _wait(job: Awaitable[T]) -> T:
    return await job


def _reference(route: routing_pb2.Route, leg: routing_pb2.RouteLeg) -> pb.OrderReference:
    return pb.OrderReference(account_id=route.order.account_id, venue=leg.venue, client_order_id=leg.client_order_id)


def _check_version(order: order_pb2.Order, expected: int) -> None:
    if order.order_version != expected:
        raise VersionConflict(
            f"order {order.order_id} has version {order.order_version}, not {expected}",
            metadata={"order_version": str(order.order_version)},
        )


def _asks_other(amendment: routing_pb2.RouteAmendment, request: pb.ReplaceOrderRequest) -> bool:
    def wishes(message: routing_pb2.RouteAmendment | pb.ReplaceOrderRequest) -> tuple[str | None, str | None]:
        return (
            message.quantity if message.HasField("quantity") else None,
            message.price if message.HasField("price") else None,
        )

    return wishes(amendment) != wishes(request)
