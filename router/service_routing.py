"""RoutingService: plans, routed orders and what became of them."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from router.calls import Context, read
from router.facade import Facade, fill_in
from router.fanout import tell_unreached
from router.journal import RouteJournal
from router.plans import instant, route_key
from router.routing import DEFAULT_STRATEGY, OrderRouter
from venuemesh.errors import InvalidRequest, MeshError, Reason
from venuemesh.v1 import order_pb2, order_service_pb2, routing_pb2
from venuemesh.v1 import routing_service_pb2 as pb


@fill_in(pb.DESCRIPTOR.services_by_name["RoutingService"])
class RoutingServicer:
    """Says where orders would go, sends them there, and shows where they went."""

    def __init__(self, facade: Facade, router: OrderRouter, journal: RouteJournal) -> None:
        self.facade = facade
        self._router = router
        self._journal = journal

    async def PlanRoute(self, request: pb.PlanRouteRequest, context: Context) -> pb.PlanRouteResponse:  # noqa: N802
        return pb.PlanRouteResponse(plan=await self._router.plan(request.order, request.instruction))

    async def SubmitRoutedOrder(  # noqa: N802
        self, request: pb.SubmitRoutedOrderRequest, context: Context
    ) -> pb.SubmitRoutedOrderResponse:
        route, _ = await self._router.route(request.order, request.instruction)
        submit = order_service_pb2.SubmitOrderRequest(ack_level=request.ack_level)
        answer = await self._router.send(route, submit, context)
        response = pb.SubmitRoutedOrderResponse(
            route=with_child(route, answer.order, self.facade.clock.now_ns()),
            outcome=answer.outcome,
            replayed=answer.replayed,
        )
        if answer.HasField("reject"):
            response.reject.CopyFrom(answer.reject)
        return response

    async def GetRoute(self, request: pb.GetRouteRequest, context: Context) -> pb.GetRouteResponse:  # noqa: N802
        account_id, key = _key(request)
        route = await self._journal.get(account_id, key)
        leg = route.plan.legs[0]
        link = self.facade.link(leg.venue)
        asked = order_service_pb2.GetOrderRequest()
        asked.reference.account_id = account_id
        asked.reference.venue = leg.venue
        asked.reference.client_order_id = leg.client_order_id
        try:
            answer = await read(link, link.orders.GetOrder, asked, context)
        except MeshError as error:
            if error.reason is not Reason.ORDER_NOT_FOUND:
                # The decision is known, what became of it is not: its status stays unstated.
                route.status = order_pb2.ORDER_STATUS_UNSPECIFIED
                tell_unreached(context, [f"{leg.venue}: {error.reason}: {error.message}"])
            return pb.GetRouteResponse(route=route)
        return pb.GetRouteResponse(route=with_child(route, answer.order, self.facade.clock.now_ns()))

    async def GetRoutingPolicy(  # noqa: N802
        self, request: pb.GetRoutingPolicyRequest, context: Context
    ) -> pb.GetRoutingPolicyResponse:
        """The policy of the configuration; version 0 says that nobody has changed it at run time."""
        rules = self._router.rules
        age = Duration()
        age.FromNanoseconds(round(rules.max_book_age_s * 1e9))
        policy = routing_pb2.RoutingPolicy(
            default_strategy=DEFAULT_STRATEGY,
            default_split_mode=routing_pb2.SPLIT_MODE_NEVER,
            max_book_age=age,
            excluded_venues=sorted(rules.excluded),
        )
        return pb.GetRoutingPolicyResponse(policy=policy)


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


def with_child(route: routing_pb2.Route, child: order_pb2.Order, now_ns: int) -> routing_pb2.Route:
    """The route with its one child as known now; its state is the child's."""
    whole = routing_pb2.Route()
    whole.CopyFrom(route)
    whole.status = child.status
    whole.filled_quantity = child.filled_quantity
    whole.leaves_quantity = child.leaves_quantity
    if child.HasField("average_price"):
        whole.average_price = child.average_price
    whole.updated_time.CopyFrom(child.updated_time if child.HasField("updated_time") else instant(now_ns))
    whole.children.append(child)
    return whole
