"""Routes an order: decide once, journal, send to the venue decided on - and nowhere else, however often it is asked.

The journal is asked first and written before the child is sent, so a repeat, another replica or a restarted router
finds the same route; the child is made from the stored route, and the gateway answers a repeat with the first result.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from router.books import BookFeeds, Seen
from router.calls import Context, submit
from router.journal import RouteJournal
from router.measures import LOST, REFUSED, Measures
from router.outcomes import unknown_submit
from router.plans import (
    candidate_message,
    check_instruction,
    child_order,
    explicit_plan,
    key_reused,
    new_route,
    no_venue_error,
    route_plan,
    same_content,
)
from router.risk_desk import RiskDesk
from router.selection import Candidate, Rules, VenueView, assess, decide, refuse_without_book
from router.terms import OrderTerms, parse_terms
from router.venues import VenueLink, Venues
from venuemesh.clock import Clock
from venuemesh.deadlines import remaining_s, require_remaining
from venuemesh.errors import ClientOrderIdReused, InvalidRequest, JournalUnavailable, MeshError, OutcomeUnknown
from venuemesh.gateway.rules import check_client_id
from venuemesh.v1 import order_pb2, order_service_pb2, routing_pb2

log = logging.getLogger(__name__)

DEFAULT_STRATEGY = routing_pb2.ROUTING_STRATEGY_BEST_PRICE


class OrderRouter:
    """Plans and routes orders over the venues.

    Args:
        rules: what leaves venues out by the mesh's policy.
    """

    def __init__(
        self,
        venues: Venues,
        feeds: BookFeeds,
        journal: RouteJournal,
        rules: Rules,
        clock: Clock,
        measures: Measures,
        risk: RiskDesk,
    ) -> None:
        self.rules = rules
        self._venues = venues
        self._feeds = feeds
        self._journal = journal
        self._clock = clock
        self._measures = measures
        self._risk = risk

    # --- planning ---

    async def plan(
        self, order: order_pb2.NewOrder, instruction: routing_pb2.RoutingInstruction
    ) -> routing_pb2.RoutePlan:
        """Where the order would go now.

        Raises:
            InvalidRequest: the order or the instruction breaks a rule.
            MeshError: no venue can take it; says why for each.
        """
        if check_instruction(order, instruction):
            return await self._explicit_plan(order)
        terms = parse_terms(order)
        candidates = await self.candidates(terms, instruction.excluded_venues)
        decision = decide(instruction.strategy or DEFAULT_STRATEGY, terms, candidates)
        if decision.chosen is None:
            raise no_venue_error(decision.candidates)
        return route_plan(terms, decision, order.client_order_id, self._clock.now_ns())

    async def _explicit_plan(self, order: order_pb2.NewOrder) -> routing_pb2.RoutePlan:
        """What is known about the venue named; an order that only its gateway can judge gets no forecast."""
        link = self._venues.get(order.venue, field="order.venue")
        try:
            terms = parse_terms(order)
        except InvalidRequest:
            return explicit_plan(order, None, self._clock.now_ns())
        (candidate,) = await self._assess(terms, [link], self.rules)
        return explicit_plan(order, candidate_message(terms, candidate), self._clock.now_ns())

    async def candidates(self, terms: OrderTerms, excluded: Sequence[str] = ()) -> list[Candidate]:
        """Every venue of the mesh, assessed on one snapshot of books."""
        rules = dataclasses.replace(self.rules, excluded=self.rules.excluded | frozenset(excluded))
        return await self._assess(terms, self._venues.all(), rules)

    async def _assess(self, terms: OrderTerms, links: Sequence[VenueLink], rules: Rules) -> list[Candidate]:
        views = {link.name: link.view(terms.symbol) for link in links}
        usable = [link for link in links if refuse_without_book(terms, views[link.name], rules) is None]
        seen = await self._feeds.seen_all(usable, terms.symbol)
        return [assess(terms, _with_book(views[link.name], seen), rules) for link in links]

    # --- routing ---

    async def route(
        self, order: order_pb2.NewOrder, instruction: routing_pb2.RoutingInstruction
    ) -> tuple[routing_pb2.Route, bool]:
        """The route in force for the order's key, decided now or before; the flag says before.

        Raises:
            ClientOrderIdReused: the key belongs to something else.
            JournalUnavailable, DeadlineTooShort: nothing was sent.
            MeshError: as `plan`.
        """
        check_client_id(order.client_order_id, field="order.client_order_id")
        if check_instruction(order, instruction):
            self._venues.get(order.venue, field="order.venue")
        else:
            parse_terms(order)
        stored = await self._stored(order)
        if stored is None:
            plan = await self.plan(order, instruction)
            self._require_time(plan)
            draft = new_route(order, instruction, plan, self._clock.now_ns())
            # Before the key is used up: a refused order may be sent again when there is room.
            await self._risk.admit(order, [child_order(draft)])
            is_new = False
            try:
                async with _bounded(self._reserve_s(plan)):
                    stored, is_new = await self._journal.decide(draft)
            finally:
                if not is_new:
                    self._risk.settle(child_order(draft), None)
            if is_new:
                self._measures.routed(stored.plan.legs[0].venue)
                await self._journal.announce(stored)
                return stored, False
        if not same_content(stored, order, instruction):
            raise key_reused(stored)
        return stored, True

    async def _stored(self, order: order_pb2.NewOrder) -> routing_pb2.Route | None:
        account_id, key = order.account_id, order.client_order_id
        async with _bounded(0.0):
            route = await self._journal.find(account_id, key)
            if route is not None:
                return route
            other = await self._journal.other_order(account_id, key)
            if other is None:
                return None
            # Another router may have decided and sent between the two readings.
            route = await self._journal.find(account_id, key)
        if route is not None or other.terms.venue == order.venue:
            return route
        raise ClientOrderIdReused(
            f"client_order_id {key!r} is an order at {other.terms.venue}",
            field="order.client_order_id",
            metadata={"client_order_id": key, "order_id": other.order_id, "venue": other.terms.venue},
        )

    def _require_time(self, plan: routing_pb2.RoutePlan) -> None:
        settings = self._leg_link(plan).settings
        require_remaining(settings.reserve_s + settings.min_submit_s)

    def _reserve_s(self, plan: routing_pb2.RoutePlan) -> float:
        return self._leg_link(plan).settings.reserve_s

    def _leg_link(self, plan: routing_pb2.RoutePlan) -> VenueLink:
        return self._venues.get(plan.legs[0].venue, field="order.client_order_id")

    async def send(
        self,
        route: routing_pb2.Route,
        request: order_service_pb2.SubmitOrderRequest,
        context: Context = None,
    ) -> order_service_pb2.SubmitOrderResponse:
        """Send the route's child with the request's wishes; safe to repeat for the same route."""
        child = order_service_pb2.SubmitOrderRequest()
        child.CopyFrom(request)
        child.order.CopyFrom(child_order(route))
        return await self.submit_to(self._leg_link(route.plan), child, context)

    async def submit_to(
        self, link: VenueLink, request: order_service_pb2.SubmitOrderRequest, context: Context = None
    ) -> order_service_pb2.SubmitOrderResponse:
        """Submit at one venue, once. A lost answer is the outcome UNKNOWN, not an error.

        Raises:
            MeshError: the gateway's own, or one of the router's with `sent` = no.
        """
        async with self._risk.covering([request.order]) as room:
            try:
                answer: order_service_pb2.SubmitOrderResponse = await submit(
                    link, link.orders.SubmitOrder, request, context
                )
            except OutcomeUnknown as error:
                self._measures.failed(link.name, LOST)
                key = request.order.client_order_id
                cause = error.message
                log.warning("submit_unknown", extra={"venue": link.name, "client_order_id": key, "cause": cause})
                return unknown_submit(request.order, self._clock.now_ns())
            except MeshError:
                self._measures.failed(link.name, REFUSED)
                raise
            room.answered(request.order, answer)
        self._measures.submitted(link.name, answer.outcome)
        return answer


def _with_book(view: VenueView, seen: Mapping[str, Seen]) -> VenueView:
    book, fault = seen.get(view.venue, (None, ""))
    return dataclasses.replace(view, book=book, book_fault=fault)


@asynccontextmanager
async def _bounded(reserve_s: float) -> AsyncIterator[None]:
    """Give the journal no more time than the call has left: nothing was sent, and the caller must hear that."""
    left_s = remaining_s()
    try:
        async with asyncio.timeout(None if left_s is None else max(0.0, left_s - reserve_s)):
            yield
    except TimeoutError:
        raise JournalUnavailable("the journal does not answer in time", retry_after_s=1.0) from None
