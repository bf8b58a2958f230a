"""An order divided over venues, and one that a limit refuses, through the public services."""

from __future__ import annotations

from decimal import Decimal

import grpc.aio

from deploy.local.routing_walk import RoutedSetting
from deploy.local.steps import CALL_TIMEOUT_S, Say, call, require, tell, why, word
from venuemesh.errors import Reason, Sent
from venuemesh.money import EXACT, format_decimal, total
from venuemesh.status import error_from_rpc
from venuemesh.v1 import (
    order_pb2,
    order_service_pb2,
    order_service_pb2_grpc,
    risk_pb2,
    risk_service_pb2,
    risk_service_pb2_grpc,
    routing_pb2,
    routing_service_pb2,
    routing_service_pb2_grpc,
)

OPERATOR = "walk-through"
_HALF = Decimal("0.5")


class SplitWalk:
    """One order over several venues, then one over a limit. Run it with `run`."""

    def __init__(self, setting: RoutedSetting, say: Say, router: grpc.aio.Channel) -> None:
        self._setting = setting
        self._say = say
        self._routing = routing_service_pb2_grpc.RoutingServiceStub(router)
        self._orders = order_service_pb2_grpc.OrderServiceStub(router)
        self._risk = risk_service_pb2_grpc.RiskServiceStub(router)

    async def run(self) -> None:
        """Both steps. Raises StepFailed, naming the step and what was seen instead."""
        await self._split()
        await self._be_refused()

    async def _split(self) -> None:
        """The parts add up to the order, at every venue; as one order it reads as their sum."""
        order = self._setting.order("split")
        reply = await call(
            self._routing.SubmitRoutedOrder,
            routing_service_pb2.SubmitRoutedOrderRequest(
                order=order,
                instruction=routing_pb2.RoutingInstruction(
                    strategy=routing_pb2.ROUTING_STRATEGY_ALL_IN_COST, split_mode=routing_pb2.SPLIT_MODE_ALWAYS
                ),
                ack_level=order_service_pb2.ACK_LEVEL_TERMINAL,
            ),
        )
        route = reply.route
        require(
            reply.outcome == order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED, f"the divided order answered {why(reply)}"
        )
        parts = {leg.venue: leg.quantity for leg in route.plan.legs}
        require(len(parts) > 1, f"the order was not divided: {route.plan.explanation}")
        whole = format_decimal(total(Decimal(quantity) for quantity in parts.values()))
        require(whole == order.quantity, f"the parts make {whole}, the order is {order.quantity}")
        self._tell("split", ", ".join(f"{quantity} at {venue}" for venue, quantity in parts.items()))
        self._tell("why", route.plan.explanation)
        reference = order_service_pb2.OrderReference(account_id=order.account_id, client_order_id=order.client_order_id)
        parent = (await call(self._orders.GetOrder, order_service_pb2.GetOrderRequest(reference=reference))).order
        status = word(order_pb2.OrderStatus, parent.status)
        require(
            parent.status == order_pb2.ORDER_STATUS_FILLED and parent.filled_quantity == order.quantity,
            f"as one order it is {status} with {parent.filled_quantity} of {order.quantity}",
        )
        self._tell("as one order", f"{status} {parent.filled_quantity} for {parent.average_price} each on average")

    async def _be_refused(self) -> None:
        """A limit below the order refuses it before anything is sent; then the limit is taken away again."""
        order = self._setting.order("over")
        bound = format_decimal(EXACT.multiply(Decimal(order.quantity), _HALF))
        await self._set_limit(bound)
        self._tell("limit", f"at most {bound} {order.symbol} in one order, from now on")
        try:
            refused = await self._refusal(order)
        finally:
            await self._set_limit(None)
        require(
            refused == (Reason.RISK_LIMIT_REACHED, Sent.NO), f"the order over the limit was answered with {refused}"
        )

    async def _refusal(self, order: order_pb2.NewOrder) -> tuple[Reason, Sent] | str:
        request = order_service_pb2.SubmitOrderRequest(order=order)
        try:
            reply = await self._orders.SubmitOrder(request, timeout=CALL_TIMEOUT_S)
        except grpc.aio.AioRpcError as failure:
            error = error_from_rpc(failure, is_write=True)
            self._tell("over the limit", f"refused with {error.reason}, nothing was sent: {error.message}")
            return error.reason, error.sent
        return why(reply)

    async def _set_limit(self, bound: str | None) -> None:
        request = risk_service_pb2.UpdateLimitRequest(
            scope=risk_pb2.RiskScope(account_id=self._setting.account_id, symbol=self._setting.symbol),
            limit_type=risk_pb2.RISK_LIMIT_TYPE_MAX_ORDER_QUANTITY,
            operator=OPERATOR,
            reason="to show a refusal",
        )
        if bound is not None:
            request.limit = bound
        await call(self._risk.UpdateLimit, request)

    def _tell(self, step: str, text: str) -> None:
        tell(self._say, step, text)
