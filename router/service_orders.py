"""OrderService over all gateways: to the venue named, or to the one the router decides on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

from router.batches import by_venue, check_size, gather_places, with_elements
from router.calls import Context, cancel, read, submit
from router.facade import Facade, Listing, fill_in, paged, stream_at_venue
from router.fanout import NOT_HERE, ask_all
from router.locate import Locator, at, require_id
from router.order_sessions import RouterSessions
from router.outcomes import unknown_cancel, unknown_replace, unknown_submit
from router.parent_orders import ParentOrders
from router.risk_desk import RiskDesk, order_key
from router.routing import OrderRouter
from router.sending import ChildSender
from router.venues import VenueLink
from venuemesh.elements import element_error
from venuemesh.errors import (
    GatewayUnavailable,
    InvalidRequest,
    JournalUnavailable,
    MeshError,
    NotYetImplemented,
    OutcomeUnknown,
    Reason,
)
from venuemesh.session_stream import serve_session
from venuemesh.streaming import StreamHub
from venuemesh.v1 import error_pb2, order_pb2, routing_pb2
from venuemesh.v1 import order_service_pb2 as pb

log = logging.getLogger(__name__)

BY_DEFAULT = routing_pb2.RoutingInstruction()


def _order_time(order: order_pb2.Order) -> int:
    return order.created_time.ToNanoseconds()


@fill_in(pb.DESCRIPTOR.services_by_name["OrderService"])
class OrderServicer:
    """Submit, amend, cancel and read orders at any venue."""

    def __init__(
        self,
        facade: Facade,
        router: OrderRouter,
        sender: ChildSender,
        locator: Locator,
        parents: ParentOrders,
        risk: RiskDesk,
        *,
        sessions: RouterSessions,
        hub: StreamHub,
    ) -> None:
        self.facade = facade
        self._sessions = sessions
        self._hub = hub
        self._sender = sender
        self._risk = risk
        self._router = router
        self._locator = locator
        self._parents = parents

    # --- submit ---

    async def SubmitOrder(self, request: pb.SubmitOrderRequest, context: Context) -> pb.SubmitOrderResponse:  # noqa: N802
        if request.order.venue:
            link = self.facade.link(request.order.venue, field="order.venue")
            return await self._router.submit_named(link, request, context)
        return (await self._router.submit(request.order, BY_DEFAULT, request, context)).answer

    async def OpenOrderSession(self, requests: Any, context: Context) -> None:  # noqa: N802
        """Orders that live only as long as their caller keeps its lease; each is held by a session at its gateway."""
        await serve_session(requests, context, orders=self, open_port=self._sessions.open, hub=self._hub)

    async def SubmitOrderList(self, request: pb.SubmitOrderListRequest, context: Context) -> Any:  # noqa: N802
        """Orders that belong together are of one venue, which each of them names."""
        venues = {order.venue for order in request.orders}
        if not venues:
            raise InvalidRequest("orders is empty", reason=Reason.REQUIRED_FIELD_MISSING, field="orders")
        if len(venues) > 1:
            raise InvalidRequest(
                "orders.venue: orders of a list are of one venue", reason=Reason.CONTRADICTORY_FIELDS, field="orders"
            )
        link = self.facade.link(venues.pop(), field="orders.venue")
        # As its gateway reads it: what protects a position only makes it smaller.
        entries = 1 if request.contingency_type == pb.CONTINGENCY_TYPE_BRACKET else 0
        reduces = [place >= entries for place in range(len(request.orders))]
        async with self._risk.covering(request.orders, reduces=reduces) as room:
            try:
                known = any(await self._sender.known(link, request.orders) or ())
                answer: pb.SubmitOrderListResponse = await submit(
                    link, link.orders.SubmitOrderList, request, context, known=known
                )
            except OutcomeUnknown:
                self._sender.note_doubt(request.orders)
                now_ns = self.facade.clock.now_ns()
                return pb.SubmitOrderListResponse(results=[unknown_submit(order, now_ns) for order in request.orders])
            for order, result in zip(request.orders, answer.results, strict=False):
                room.answered(order, result)
            return answer

    async def BatchSubmitOrders(  # noqa: N802
        self, request: pb.BatchSubmitOrdersRequest, context: Context
    ) -> pb.BatchSubmitOrdersResponse:
        check_size(len(request.orders), "orders")
        groups = by_venue([order.venue for order in request.orders])
        jobs: dict[tuple[int, ...], Any] = {
            (place,): partial(self._submit_one, request, place) for place in groups.pop("", [])
        }
        for venue, places in groups.items():
            jobs[tuple(places)] = partial(self._submit_part, venue, with_elements(request, "orders", places))

        def failed(_: int, error: MeshError) -> pb.BatchSubmitResult:
            return pb.BatchSubmitResult(error=element_error(error))

        def lost(place: int) -> pb.BatchSubmitResult:
            answer = unknown_submit(request.orders[place], self.facade.clock.now_ns())
            return pb.BatchSubmitResult(response=answer)

        return pb.BatchSubmitOrdersResponse(results=await gather_places(jobs, failed=failed, lost=lost))

    async def _submit_one(self, batch: pb.BatchSubmitOrdersRequest, place: int) -> list[pb.BatchSubmitResult]:
        request = pb.SubmitOrderRequest(order=batch.orders[place], ack_level=batch.ack_level)
        routed = await self._router.submit(request.order, BY_DEFAULT, request)
        return [pb.BatchSubmitResult(response=routed.answer)]

    async def _submit_part(self, venue: str, part: pb.BatchSubmitOrdersRequest) -> Sequence[pb.BatchSubmitResult]:
        link = self.facade.link(venue, field="orders.venue")
        refused: dict[int, pb.BatchSubmitResult] = {}
        known = await self._sender.known(link, part.orders)
        for place, order in enumerate(part.orders):
            try:
                if known is not None and not known[place]:
                    raise link.guard.refused()
                await self._risk.take([order])
            except MeshError as error:
                refused[place] = pb.BatchSubmitResult(error=element_error(error))
        left = [place for place in range(len(part.orders)) if place not in refused]
        admitted = with_elements(part, "orders", left)
        sent = await self._submit_admitted(link, admitted, known=known is not None) if left else []
        return [refused[place] if place in refused else sent.pop(0) for place in range(len(part.orders))]

    async def _submit_admitted(
        self, link: VenueLink, part: pb.BatchSubmitOrdersRequest, *, known: bool
    ) -> list[pb.BatchSubmitResult]:
        """One call for these orders; a result for each, in order."""
        async with self._risk.covering(part.orders) as room:
            try:
                answer: pb.BatchSubmitOrdersResponse = await submit(
                    link, link.orders.BatchSubmitOrders, part, known=known
                )
            except OutcomeUnknown:
                self._sender.note_doubt(part.orders)
                now_ns = self.facade.clock.now_ns()
                return [pb.BatchSubmitResult(response=unknown_submit(order, now_ns)) for order in part.orders]
            except MeshError as error:
                room.refused(part.orders, error)
                return [pb.BatchSubmitResult(error=element_error(error)) for _ in part.orders]
            results = list(answer.results)
            for order, result in zip(part.orders, results, strict=False):
                if result.HasField("response"):
                    room.answered(order, result.response)
                elif result.error.error.reason != error_pb2.REASON_CLIENT_ORDER_ID_REUSED:
                    room.unsent.add(order_key(order))
            lost = [unknown_submit(order, self.facade.clock.now_ns()) for order in part.orders[len(results) :]]
            return [*results, *(pb.BatchSubmitResult(response=one) for one in lost)]

    # --- amend and cancel ---

    async def ReplaceOrder(self, request: pb.ReplaceOrderRequest, context: Context) -> Any:  # noqa: N802
        route = await self._split_of(request.reference)
        if route is not None:
            return await self._parents.replace(route, request)
        link = await self._locator.locate(request.reference)
        request = _at(request, link)
        async with self._risk.amending(link, request) as answered:
            try:
                answer: pb.ReplaceOrderResponse = await submit(link, link.orders.ReplaceOrder, request, context)
            except OutcomeUnknown:
                return unknown_replace(request.reference, self.facade.clock.now_ns())
            answered(answer)
            return answer

    async def CancelOrder(self, request: pb.CancelOrderRequest, context: Context) -> Any:  # noqa: N802
        return await self._cancel(request, context)

    async def _cancel(self, request: pb.CancelOrderRequest, context: Context = None) -> pb.CancelOrderResponse:
        require_id(request.reference)
        version = request.expected_version if request.HasField("expected_version") else None
        try:
            route = await self._parents.find_split(request.reference)
        except JournalUnavailable as error:
            log.warning("route_not_read", extra={"cause": error.message})
            return await self._cancel_blindly(request, context)
        if route is not None:
            return await self._parents.cancel_as_one(route, version)
        return await self._cancel_one_order(request, context)

    async def _cancel_one_order(
        self, request: pb.CancelOrderRequest, context: Context = None
    ) -> pb.CancelOrderResponse:
        if not request.reference.venue and request.reference.WhichOneof("id") == "order_id":
            return await self._cancel_anywhere(request)
        link = await self._locator.locate(request.reference)
        return await self._cancel_at(link, request, context)

    async def _cancel_blindly(self, request: pb.CancelOrderRequest, context: Context) -> pb.CancelOrderResponse:
        """The journal cannot say whether the order was split: both is tried at once, as no cancel may wait for it."""
        children = asyncio.create_task(self._parents.cancel_without_journal(request.reference), name="cancel/children")
        try:
            return await self._cancel_one_order(request, context)
        except MeshError:
            split = await children
            if split is None:
                raise
            return split
        finally:
            children.cancel()

    async def _split_of(self, reference: pb.OrderReference) -> routing_pb2.Route | None:
        """The route of an order that was split. Without the journal orders are still found by asking around."""
        try:
            return await self._parents.find_split(reference)
        except JournalUnavailable as error:
            log.warning("route_not_read", extra={"cause": error.message})
            return None

    async def _cancel_at(
        self, link: VenueLink, request: pb.CancelOrderRequest, context: Context = None
    ) -> pb.CancelOrderResponse:
        try:
            answer: pb.CancelOrderResponse = await cancel(link, link.orders.CancelOrder, _at(request, link), context)
        except OutcomeUnknown:
            return unknown_cancel(at(request.reference, link.name), self.facade.clock.now_ns())
        return answer

    async def _cancel_anywhere(self, request: pb.CancelOrderRequest) -> pb.CancelOrderResponse:
        """Our order ids are unique, so every venue may be told at once; the one that has it cancels it."""

        async def ask(link: VenueLink) -> pb.CancelOrderResponse:
            answer: pb.CancelOrderResponse = await cancel(link, link.orders.CancelOrder, _at(request, link))
            return answer

        answers = await ask_all(self.facade.venues.all(), ask, first=True)
        if answers.given:
            return next(iter(answers.given.values()))
        lost = [venue for venue, error in answers.failed.items() if isinstance(error, OutcomeUnknown)]
        if len(lost) == 1 and len(answers.unreached) == 1:
            return unknown_cancel(at(request.reference, lost[0]), self.facade.clock.now_ns())
        for error in answers.failed.values():
            # A venue that knows the order and refuses has the last word.
            if error.reason not in NOT_HERE and not isinstance(error, GatewayUnavailable | OutcomeUnknown):
                raise error
        answers.require_any()
        raise AssertionError("no venue is configured")

    async def BatchCancelOrders(  # noqa: N802
        self, request: pb.BatchCancelOrdersRequest, context: Context
    ) -> pb.BatchCancelOrdersResponse:
        check_size(len(request.references), "references")
        groups = by_venue([reference.venue for reference in request.references])
        jobs: dict[tuple[int, ...], Any] = {
            (place,): partial(self._cancel_one, request.references[place]) for place in groups.pop("", [])
        }
        for venue, places in groups.items():
            jobs[tuple(places)] = partial(self._cancel_part, venue, with_elements(request, "references", places))

        def failed(_: int, error: MeshError) -> pb.BatchCancelResult:
            return pb.BatchCancelResult(error=element_error(error))

        def lost(place: int) -> pb.BatchCancelResult:
            answer = unknown_cancel(request.references[place], self.facade.clock.now_ns())
            return pb.BatchCancelResult(response=answer)

        return pb.BatchCancelOrdersResponse(results=await gather_places(jobs, failed=failed, lost=lost))

    async def _cancel_one(self, reference: pb.OrderReference) -> list[pb.BatchCancelResult]:
        return [pb.BatchCancelResult(response=await self._cancel(pb.CancelOrderRequest(reference=reference)))]

    async def _cancel_part(self, venue: str, part: pb.BatchCancelOrdersRequest) -> Sequence[pb.BatchCancelResult]:
        link = self.facade.link(venue, field="references.venue")
        answer: pb.BatchCancelOrdersResponse = await cancel(link, link.orders.BatchCancelOrders, part)
        return answer.results

    async def CancelAllOrders(  # noqa: N802
        self, request: pb.CancelAllOrdersRequest, context: Context
    ) -> pb.CancelAllOrdersResponse:
        """At the venue named, else everywhere at once; what could not be reached is in the answer."""
        if request.venue:
            link = self.facade.link(request.venue)
            answer: pb.CancelAllOrdersResponse = await cancel(link, link.orders.CancelAllOrders, request, context)
            return answer

        async def ask(link: VenueLink) -> pb.CancelAllOrdersResponse:
            asked = pb.CancelAllOrdersRequest()
            asked.CopyFrom(request)
            asked.venue = link.name
            answer: pb.CancelAllOrdersResponse = await cancel(link, link.orders.CancelAllOrders, asked)
            return answer

        answers = await ask_all(self.facade.venues.all(), ask, skip_down=False)
        if not answers.given and not answers.unreached:
            answers.require_any()
        whole = pb.CancelAllOrdersResponse(unreached=answers.unreached)
        for answer in answers.given.values():
            whole.results.extend(answer.results)
            whole.unreached.extend(answer.unreached)
        return whole

    # --- read ---

    async def GetOrder(self, request: pb.GetOrderRequest, context: Context) -> Any:  # noqa: N802
        route = await self._split_of(request.reference)
        if route is not None:
            return pb.GetOrderResponse(order=await self._parents.get(route, context))
        link = await self._locator.locate(request.reference)
        return await read(link, link.orders.GetOrder, _at(request, link), context)

    ListOrders = paged(
        Listing(stub="orders", method="ListOrders", response=pb.ListOrdersResponse, rows="orders", time_ns=_order_time)
    )

    async def PreviewOrder(self, request: pb.PreviewOrderRequest, context: Context) -> Any:  # noqa: N802
        if not request.order.venue:
            raise NotYetImplemented("PreviewOrder without a venue: PlanRoute says where an order would go")
        link = self.facade.link(request.order.venue, field="order.venue")
        return await read(link, link.orders.PreviewOrder, request, context)

    StreamExecutionReports = stream_at_venue(
        "orders", "StreamExecutionReports", pb.StreamExecutionReportsResponse, resumable=True
    )


def _at(request: Any, link: VenueLink) -> Any:
    """The request with the venue of its reference named; the message itself when it is already."""
    if request.reference.venue == link.name:
        return request
    named = type(request)()
    named.CopyFrom(request)
    named.reference.venue = link.name
    return named
