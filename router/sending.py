"""Sends the children of a journalled route, each once; a child that was certainly never sent may go elsewhere.

A child goes elsewhere only when all of this holds: the failure is one of the venue's availability, `sent` is no, the
journal let the router fence its key (`RouteJournal.fence`), and time is left. An UNKNOWN child is never sent again.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from router.admission import Admission
from router.calls import Context, submit
from router.journal import RouteJournal
from router.measures import LOST, REFUSED, Measures
from router.order_sessions import RouterSessions
from router.outcomes import unknown_submit
from router.parents import MAX_REVISIONS, child_key, child_order, is_split, refused_order
from router.plans import instant, reason_number
from router.risk_desk import order_key
from router.risk_ledger import OrderKey
from router.venues import VenueLink, Venues
from venuemesh.clock import Clock
from venuemesh.deadlines import require_remaining
from venuemesh.errors import JournalUnavailable, MeshError, OutcomeUnknown, Reason, Sent
from venuemesh.money import format_decimal, total
from venuemesh.v1 import order_pb2, order_service_pb2, routing_pb2

log = logging.getLogger(__name__)

_ELSEWHERE = frozenset(
    {
        Reason.GATEWAY_UNAVAILABLE,
        Reason.VENUE_DISCONNECTED,
        Reason.VENUE_UNAVAILABLE,
        Reason.CIRCUIT_OPEN,
        Reason.GATEWAY_DRAINING,
        Reason.STREAM_RECONCILING,
        Reason.RATE_LIMIT_LOCAL,
        Reason.RATE_LIMIT_VENUE,
        Reason.VOLUME_QUOTA_EXHAUSTED,
        Reason.INSTRUMENT_NOT_TRADING,
        Reason.VENUE_POST_ONLY_WINDOW,
        Reason.TOO_MANY_OPEN_ORDERS,
    }
)
"""Failures that another venue may not have; what is wrong with the order itself is wrong everywhere."""

MAX_DOUBTFUL = 10_000
"""Keys remembered because nobody told what became of them; the oldest are forgotten, the journal has most of them."""

Replan = Callable[
    [order_pb2.NewOrder, routing_pb2.RoutingInstruction, Sequence[str], int], Awaitable[routing_pb2.RoutePlan]
]
"""A plan for an order without these venues, for a revision."""
Failure = tuple[routing_pb2.RouteLeg, MeshError]
LegId = tuple[str, str]
_FORECAST: tuple[Literal["expected_price", "expected_fee", "slippage_bps"], ...] = (
    "expected_price",
    "expected_fee",
    "slippage_bps",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatched:
    """What became of a route's children: the route in force and one answer per leg of it."""

    route: routing_pb2.Route
    answers: Sequence[order_service_pb2.SubmitOrderResponse]


class ChildSender:
    """Sends children of routes, and orders that name their venue."""

    def __init__(
        self,
        venues: Venues,
        journal: RouteJournal,
        admission: Admission,
        clock: Clock,
        measures: Measures,
        sessions: RouterSessions,
    ) -> None:
        self._venues = venues
        self._sessions = sessions
        self._journal = journal
        self._admission = admission
        self._clock = clock
        self._measures = measures
        self._doubtful: OrderedDict[OrderKey, None] = OrderedDict()

    async def submit_to(
        self, link: VenueLink, request: order_service_pb2.SubmitOrderRequest, context: Context = None
    ) -> order_service_pb2.SubmitOrderResponse:
        """Submit at one venue, once. A lost answer is the outcome UNKNOWN, not an error.

        Raises:
            MeshError: the gateway's own, or one of the router's with `sent` = no.
        """
        async with self._admission.covering([request.order]) as room:
            started_s = self._clock.monotonic_s()
            try:
                known = any(await self.known(link, [request.order]) or ())
                bound = await self._sessions.bind(link, request)
                answer: order_service_pb2.SubmitOrderResponse = await submit(
                    link, link.orders.SubmitOrder, bound, context, known=known
                )
            except OutcomeUnknown as error:
                self._measures.failed(link.name, LOST)
                self.note_doubt([request.order])
                key, cause = request.order.client_order_id, error.message
                log.warning("submit_unknown", extra={"venue": link.name, "client_order_id": key, "cause": cause})
                return unknown_submit(request.order, self._clock.now_ns())
            except MeshError:
                self._measures.failed(link.name, REFUSED)
                raise
            seconds = self._clock.monotonic_s() - started_s
            room.answered(request.order, answer)
        self._measures.submitted(link.name, answer.outcome, seconds)
        return answer

    async def known(self, link: VenueLink, orders: Sequence[order_pb2.NewOrder]) -> list[bool] | None:
        """Which orders their gateway has, or may have, already; None while the venue's breaker lets new ones pass.

        A repeat must not read CIRCUIT_OPEN: its caller would take an order that may be live for one that is not there.
        """
        if link.guard.refusal() is None:
            return None
        return [order_key(order) in self._doubtful or await self._journal.known(order) for order in orders]

    def note_doubt(self, orders: Iterable[order_pb2.NewOrder]) -> None:
        """Remember orders whose answer was lost: their gateway may get them yet, before it journals them."""
        for order in orders:
            self._doubtful[order_key(order)] = None
        while len(self._doubtful) > MAX_DOUBTFUL:
            self._doubtful.popitem(last=False)

    async def dispatch(
        self,
        route: routing_pb2.Route,
        request: order_service_pb2.SubmitOrderRequest,
        replan: Replan,
        context: Context = None,
    ) -> Dispatched:
        """Send every leg with the request's wishes; safe to repeat for the same route.

        Raises:
            MeshError: the only child was not sent; of several children, each has its own answer instead.
        """
        answers: dict[LegId, order_service_pb2.SubmitOrderResponse] = {}
        tried: set[str] = set()
        while True:
            failures = await self._send_all(route, request, answers, context)
            tried.update(leg.venue for leg, _ in failures)
            revised = await self._elsewhere(route, failures, tried, replan) if failures else None
            if revised is None:
                break
            route = revised
        for leg, error in failures:
            answers[_id(leg)] = await self._give_up(route, leg, error)
        return Dispatched(route=route, answers=[answers[_id(leg)] for leg in route.plan.legs])

    async def _send_all(
        self,
        route: routing_pb2.Route,
        request: order_service_pb2.SubmitOrderRequest,
        answers: dict[LegId, order_service_pb2.SubmitOrderResponse],
        context: Context,
    ) -> list[Failure]:
        """Send the legs that have no answer yet, all at once; returns those that failed."""
        legs = [leg for leg in route.plan.legs if _id(leg) not in answers]
        context = None if is_split(route) else context
        async with asyncio.TaskGroup() as tasks:
            sent = [
                (leg, tasks.create_task(self._send(route, leg, request, context), name=f"leg/{leg.venue}"))
                for leg in legs
            ]
        failures: list[Failure] = []
        for leg, task in sent:
            result = task.result()
            if isinstance(result, MeshError):
                failures.append((leg, result))
            else:
                answers[_id(leg)] = result
        return failures

    async def _send(
        self,
        route: routing_pb2.Route,
        leg: routing_pb2.RouteLeg,
        request: order_service_pb2.SubmitOrderRequest,
        context: Context,
    ) -> order_service_pb2.SubmitOrderResponse | MeshError:
        child = order_service_pb2.SubmitOrderRequest()
        child.CopyFrom(request)
        child.order.CopyFrom(child_order(route, leg))
        try:
            link = self._venues.get(leg.venue, field="order.client_order_id")
            return await self.submit_to(link, child, context)
        except MeshError as error:
            return error

    # --- elsewhere ---

    async def _elsewhere(
        self, route: routing_pb2.Route, failures: Sequence[Failure], tried: set[str], replan: Replan
    ) -> routing_pb2.Route | None:
        """A further revision without the legs that were certainly never sent; None when there can be none."""
        movable = all(error.sent is Sent.NO and error.reason in _ELSEWHERE for _, error in failures)
        named = route.plan.strategy == routing_pb2.ROUTING_STRATEGY_EXPLICIT
        if not movable or named or route.revision >= MAX_REVISIONS:
            return None
        try:
            plan = await self._replanned(route, failures, tried, replan)
            for leg, error in failures:
                if not await self._journal.fence(child_order(route, leg), _reject(error)):
                    # Its gateway had the key before: what became of it there is not known here, so it stays.
                    return None
            return await self._journal.revise(self._revised(route, failures, plan))
        except MeshError as error:
            log.warning("not_rerouted", extra={"route_id": route.route_id, "cause": error.message})
            return None

    async def _replanned(
        self, route: routing_pb2.Route, failures: Sequence[Failure], tried: set[str], replan: Replan
    ) -> routing_pb2.RoutePlan:
        """A plan for what the failed legs had, at venues that have no part of the order and have not failed."""
        require_remaining(max(self._venues.get(leg.venue).settings.reserve_s for leg, _ in failures))
        part = order_pb2.NewOrder()
        part.CopyFrom(route.order)
        part.quantity = format_decimal(total(Decimal(leg.quantity) for leg, _ in failures))
        used = {one.venue for one in route.plan.legs} | tried
        return await replan(part, route.instruction, sorted(used), route.revision + 1)

    def _revised(
        self, route: routing_pb2.Route, failures: Sequence[Failure], plan: routing_pb2.RoutePlan
    ) -> routing_pb2.Route:
        revised = routing_pb2.Route()
        revised.CopyFrom(route)
        revised.revision = route.revision + 1
        gone = {_id(leg) for leg, _ in failures}
        kept = [leg for leg in route.plan.legs if _id(leg) not in gone]
        del revised.plan.legs[:]
        revised.plan.legs.extend((*kept, *plan.legs))
        order = route.order
        for leg in revised.plan.legs[len(kept) :]:
            alone = len(revised.plan.legs) == 1
            derived = child_key(order.account_id, order.client_order_id, leg.venue, revised.revision)
            leg.client_order_id = order.client_order_id if alone else derived
        revised.plan.dropped_legs.extend(leg for leg, _ in failures)
        why = ", ".join(f"{leg.venue} certainly did not get its part ({error.reason})" for leg, error in failures)
        revised.plan.explanation += f"; {why}: {plan.explanation}"
        for name in _FORECAST:
            # Forecast of what is left of the first plan and of the new one together: only known when nothing is left.
            revised.plan.ClearField(name)
            if not kept and plan.HasField(name):
                setattr(revised.plan, name, getattr(plan, name))
        revised.updated_time.CopyFrom(instant(self._clock.now_ns()))
        return revised

    async def _give_up(
        self, route: routing_pb2.Route, leg: routing_pb2.RouteLeg, error: MeshError
    ) -> order_service_pb2.SubmitOrderResponse:
        """The answer of a child that was refused here or by its gateway and goes nowhere else.

        Raises:
            MeshError: it is the only child.
        """
        if not is_split(route):
            raise error
        child = child_order(route, leg)
        if error.sent is not Sent.NO:
            return unknown_submit(child, self._clock.now_ns())
        reject = _reject(error)
        try:
            fenced = await self._journal.fence(child, reject)
        except JournalUnavailable:
            fenced = False
        if not fenced:
            return unknown_submit(child, self._clock.now_ns())
        return order_service_pb2.SubmitOrderResponse(
            order=refused_order(route, leg, reject, self._clock.now_ns()),
            outcome=order_service_pb2.SUBMIT_OUTCOME_REJECTED,
            reject=reject,
        )


def _reject(error: MeshError) -> order_pb2.Reject:
    return order_pb2.Reject(reason=reason_number(error.reason), message=error.message)


def _id(leg: routing_pb2.RouteLeg) -> LegId:
    return leg.venue, leg.client_order_id
