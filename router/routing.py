"""Routes an order: decide once, journal, send to the venues decided on - however often it is asked.

The journal is asked first and written before any child is sent, so a repeat, another replica or a restarted router
finds the same route; children are made from the stored route, and gateways answer a repeat with the first result.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal

from router.admission import Admission
from router.calls import Context
from router.journal import RouteJournal
from router.measures import Measures
from router.parents import child_order, is_split, parent_order, with_children, worst_submit
from router.planning import Planner
from router.plans import key_reused, new_route, same_content
from router.sending import ChildSender, Dispatched
from router.venues import VenueLink, Venues
from venuemesh.clock import Clock
from venuemesh.deadlines import remaining_s, require_remaining
from venuemesh.errors import ClientOrderIdReused, JournalUnavailable
from venuemesh.gateway.rules import check_client_id
from venuemesh.money import EXACT
from venuemesh.security.grants import require_notional
from venuemesh.v1 import order_pb2, order_service_pb2, routing_pb2

log = logging.getLogger(__name__)

Announce = Callable[[routing_pb2.Route], None]
"""Told of a new route, or of one whose children have just been answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """A route with its children as they answered.

    Args:
        answers: one per child.
        replayed: the key was routed before.
    """

    route: routing_pb2.Route
    answers: Sequence[order_service_pb2.SubmitOrderResponse]
    replayed: bool

    @property
    def answer(self) -> order_service_pb2.SubmitOrderResponse:
        """The order as one: the only child's own answer, or the parent with the worst outcome of its children."""
        if not is_split(self.route):
            return self.answers[0]
        response = order_service_pb2.SubmitOrderResponse(
            order=parent_order(self.route),
            outcome=worst_submit([one.outcome for one in self.answers]),
            replayed=all(one.replayed for one in self.answers) if self.replayed else False,
        )
        if response.outcome == order_service_pb2.SUBMIT_OUTCOME_REJECTED:
            response.reject.CopyFrom(response.order.reject)
        return response


class OrderRouter:
    """Routes orders over the venues.

    Args:
        announce: told of each new route and of what its children answered.
    """

    def __init__(
        self,
        venues: Venues,
        planner: Planner,
        journal: RouteJournal,
        sender: ChildSender,
        admission: Admission,
        clock: Clock,
        measures: Measures,
        announce: Announce,
    ) -> None:
        self._venues = venues
        self._planner = planner
        self._journal = journal
        self._sender = sender
        self._admission = admission
        self._clock = clock
        self._measures = measures
        self._announce = announce

    async def plan(
        self, order: order_pb2.NewOrder, instruction: routing_pb2.RoutingInstruction
    ) -> routing_pb2.RoutePlan:
        """Where the order would go now; see `Planner.plan`."""
        return await self._planner.plan(order, instruction)

    async def submit_named(
        self, link: VenueLink, request: order_service_pb2.SubmitOrderRequest, context: Context = None
    ) -> order_service_pb2.SubmitOrderResponse:
        """Pass on an order that names its venue; it needs no route.

        Raises:
            MeshError: it is not admitted, or as `ChildSender.submit_to`.
        """
        return await self._sender.submit_to(link, request, context)

    async def submit(
        self,
        order: order_pb2.NewOrder,
        instruction: routing_pb2.RoutingInstruction,
        request: order_service_pb2.SubmitOrderRequest,
        context: Context = None,
    ) -> Routed:
        """Route the order, or find its route, and send the children that the gateways do not have yet.

        Raises:
            ClientOrderIdReused: the key belongs to something else.
            JournalUnavailable, DeadlineTooShort: nothing was sent.
            MeshError: it is not admitted, no venue can take it, or its only child was not sent.
        """
        route, replayed = await self.route(order, instruction)
        sent = await self._sender.dispatch(route, request, self._replan, context)
        return self._routed(sent, replayed=replayed)

    def _routed(self, sent: Dispatched, *, replayed: bool) -> Routed:
        route = with_children(sent.route, [one.order for one in sent.answers], self._clock.now_ns())
        self._announce(route)
        return Routed(route=route, answers=sent.answers, replayed=replayed)

    async def _replan(
        self,
        order: order_pb2.NewOrder,
        instruction: routing_pb2.RoutingInstruction,
        without: Sequence[str],
        revision: int,
    ) -> routing_pb2.RoutePlan:
        return await self._planner.plan(order, instruction, without=without, revision=revision)

    async def route(
        self, order: order_pb2.NewOrder, instruction: routing_pb2.RoutingInstruction
    ) -> tuple[routing_pb2.Route, bool]:
        """The route in force for the order's key, decided now or before; the flag says before.

        Raises:
            ClientOrderIdReused: the key belongs to something else.
            JournalUnavailable, DeadlineTooShort: nothing was sent.
            MeshError: as `Planner.plan` and `Admission.admit`.
        """
        check_client_id(order.client_order_id, field="order.client_order_id")
        self._planner.check(order, instruction)
        stored = await self._stored(order)
        if stored is None:
            stored, is_new = await self._decide(order, instruction)
            if is_new:
                return stored, False
        if not same_content(stored, order, instruction):
            raise key_reused(stored)
        return stored, True

    async def _decide(
        self, order: order_pb2.NewOrder, instruction: routing_pb2.RoutingInstruction
    ) -> tuple[routing_pb2.Route, bool]:
        """Plan, have it admitted, journal it; the flag says that this plan is the one in force."""
        plan = await self._planner.plan(order, instruction)
        if order_pb2.EXECUTION_INSTRUCTION_REDUCE_ONLY not in order.instructions:
            require_notional(lambda: _worth(order, plan), field="order.quantity")
        links = [self._venues.get(leg.venue, field="order.client_order_id") for leg in plan.legs]
        require_remaining(max(link.settings.reserve_s + link.settings.min_submit_s for link in links))
        draft = new_route(order, instruction, plan, self._clock.now_ns())
        children = [child_order(draft, leg) for leg in plan.legs]
        await self._admission.admit(order, children)
        decided = False
        try:
            async with _bounded(max(link.settings.reserve_s for link in links)):
                stored, decided = await self._journal.decide(draft)
        finally:
            if not decided:
                self._admission.forgo(children)
        if decided:
            for leg in stored.plan.legs:
                self._measures.routed(leg.venue)
            self._announce(stored)
        return stored, decided

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


def _worth(order: order_pb2.NewOrder, plan: routing_pb2.RoutePlan) -> Decimal | None:
    """Quantity at the limit price, or at what the plan expects to pay; None when neither is known.

    Each gateway holds its child to the same limit at the worst price; this holds the whole, which a split would evade.
    """
    price = order.price or plan.expected_price
    return EXACT.multiply(Decimal(order.quantity), Decimal(price)) if price else None


@asynccontextmanager
async def _bounded(reserve_s: float) -> AsyncIterator[None]:
    """Give the journal no more time than the call has left: nothing was sent, and the caller must hear that."""
    left_s = remaining_s()
    try:
        async with asyncio.timeout(None if left_s is None else max(0.0, left_s - reserve_s)):
            yield
    except TimeoutError:
        raise JournalUnavailable("the journal does not answer in time", retry_after_s=1.0) from None
