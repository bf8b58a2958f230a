"""RoutingService: plans, routed orders, what became of them, and the rules they are made by."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial

from router.calls import Context
from router.facade import Facade, fill_in
from router.fanout import tell_unreached
from router.journal import RouteJournal
from router.measured import outcome_of
from router.parent_orders import ParentOrders
from router.plans import route_key
from router.policy import PolicyStore
from router.route_lists import RouteLists
from router.route_log import RouteLog
from router.routing import OrderRouter
from venuemesh.errors import InvalidRequest, Reason
from venuemesh.stream_options import EVENTS, StreamTerms, parse_stream_options
from venuemesh.streaming import StreamHub, StreamPlan, responder
from venuemesh.v1 import order_service_pb2, routing_pb2, stream_pb2
from venuemesh.v1 import routing_service_pb2 as pb

READY_TIMEOUT_S = 5.0


@fill_in(pb.DESCRIPTOR.services_by_name["RoutingService"])
class RoutingServicer:
    """Says where orders would go, sends them there, and shows where they went."""

    def __init__(
        self,
        facade: Facade,
        router: OrderRouter,
        journal: RouteJournal,
        parents: ParentOrders,
        policy: PolicyStore,
        log: RouteLog,
        lists: RouteLists,
        hub: StreamHub,
    ) -> None:
        self.facade = facade
        self._router = router
        self._journal = journal
        self._parents = parents
        self._policy = policy
        self._log = log
        self._lists = lists
        self._hub = hub
        self._respond = responder(pb.StreamRoutesResponse, lambda route: {"route": route})

    async def PlanRoute(self, request: pb.PlanRouteRequest, context: Context) -> pb.PlanRouteResponse:  # noqa: N802
        return pb.PlanRouteResponse(plan=await self._router.plan(request.order, request.instruction))

    async def SubmitRoutedOrder(  # noqa: N802
        self, request: pb.SubmitRoutedOrderRequest, context: Context
    ) -> pb.SubmitRoutedOrderResponse:
        submit = order_service_pb2.SubmitOrderRequest(ack_level=request.ack_level)
        routed = await self._router.submit(request.order, request.instruction, submit, context)
        answer = routed.answer
        response = pb.SubmitRoutedOrderResponse(route=routed.route, outcome=answer.outcome, replayed=answer.replayed)
        if answer.HasField("reject"):
            response.reject.CopyFrom(answer.reject)
        return response

    async def GetRoute(self, request: pb.GetRouteRequest, context: Context) -> pb.GetRouteResponse:  # noqa: N802
        reading = await self._parents.read(await self._journal.get(*_key(request)))
        tell_unreached(context, reading.unreached)
        return pb.GetRouteResponse(route=reading.route)

    async def ListRoutes(self, request: pb.ListRoutesRequest, context: Context) -> pb.ListRoutesResponse:  # noqa: N802
        if not request.account_id:
            raise InvalidRequest("account_id is empty", reason=Reason.REQUIRED_FIELD_MISSING, field="account_id")
        routes, token = await self._lists.page(request)
        return pb.ListRoutesResponse(routes=routes, next_page_token=token)

    async def CancelRoute(self, request: pb.CancelRouteRequest, context: Context) -> pb.CancelRouteResponse:  # noqa: N802
        route = await self._journal.get(*route_key(request.route_id))
        known, results = await self._parents.cancel(route)
        return pb.CancelRouteResponse(route=known, results=results)

    async def StreamRoutes(  # noqa: N802
        self, request: pb.StreamRoutesRequest, context: Context
    ) -> AsyncIterator[pb.StreamRoutesResponse]:
        if not request.account_id:
            raise InvalidRequest("account_id is empty", reason=Reason.REQUIRED_FIELD_MISSING, field="account_id")
        terms = parse_stream_options(request.options, EVENTS)
        await self._log.require_ready(READY_TIMEOUT_S)
        plan = await self._plan(terms, request.account_id, context)
        async with aclosing(self._hub.serve(self._log.topic, plan, self._respond)) as messages:
            async for message in messages:
                yield message

    async def _plan(self, terms: StreamTerms, account_id: str, context: Context) -> StreamPlan[routing_pb2.Route]:
        note = await self._refusal(terms) if terms.resume_after is not None else ""
        resumed = terms.resume_after is not None and not note
        outcome = stream_pb2.RESUME_OUTCOME_UNSPECIFIED
        if terms.resume_after is not None:
            outcome = stream_pb2.RESUME_OUTCOME_RESUMED if resumed else stream_pb2.RESUME_OUTCOME_SNAPSHOT_INSTEAD
        return StreamPlan(
            terms=terms,
            method="/venuemesh.v1.RoutingService/StreamRoutes",
            peer=context.peer(),
            keys=[account_id],
            snapshot=None if resumed else partial(self._log.snapshot, account_id),
            history=(lambda after, up_to: self._log.history(account_id, after)) if resumed else None,
            resume_outcome=outcome,
            resume_note=note,
        )

    async def _refusal(self, terms: StreamTerms) -> str:
        """Why the reader cannot go on behind its position; empty when it can."""
        after, topic = terms.resume_after or 0, self._log.topic
        if terms.resume_epoch != topic.epoch:
            return f"epoch {terms.resume_epoch!r} is over, the numbering in force is {topic.epoch!r}"
        if after > topic.sequence:
            return f"position {after} is ahead of the newest state, {topic.sequence}"
        first = await self._log.first_sequence()
        if after and first and after + 1 < first:
            return f"states behind {after} are not kept any more, the oldest is {first}"
        return ""

    async def GetRoutingPolicy(  # noqa: N802
        self, request: pb.GetRoutingPolicyRequest, context: Context
    ) -> pb.GetRoutingPolicyResponse:
        """The rules in force; version 0 says that nobody has changed those of the configuration."""
        return pb.GetRoutingPolicyResponse(policy=await self._policy.read())

    async def UpdateRoutingPolicy(  # noqa: N802
        self, request: pb.UpdateRoutingPolicyRequest, context: Context
    ) -> pb.UpdateRoutingPolicyResponse:
        return pb.UpdateRoutingPolicyResponse(policy=await self._policy.update(request.policy))

    async def ListRoutingOutcomes(  # noqa: N802
        self, request: pb.ListRoutingOutcomesRequest, context: Context
    ) -> pb.ListRoutingOutcomesResponse:
        routes, token = await self._lists.page(request)
        outcomes = [outcome_of(route, self._quote_asset(route)) for route in routes]
        return pb.ListRoutingOutcomesResponse(outcomes=outcomes, next_page_token=token)

    def _quote_asset(self, route: routing_pb2.Route) -> str:
        """Asset that prices of the route's symbol are in; empty when no venue of it lists the symbol now."""
        for link in self.facade.venues.all():
            instrument = link.listed.get(route.order.symbol)
            if instrument is not None and instrument.quote_asset:
                return instrument.quote_asset
        return ""


def _key(request: pb.GetRouteRequest) -> tuple[str, str]:
    if request.route_id and (request.account_id or request.client_order_id):
        raise InvalidRequest(
            "route_id excludes account_id and client_order_id", reason=Reason.CONTRADICTORY_FIELDS, field="route_id"
        )
    if request.route_id:
        return route_key(request.route_id)
    for field in ("account_id", "client_order_id"):
        if not getattr(request, field):
            raise InvalidRequest(
                f"{field} is empty, and so is route_id", reason=Reason.REQUIRED_FIELD_MISSING, field=field
            )
    return request.account_id, request.client_order_id
