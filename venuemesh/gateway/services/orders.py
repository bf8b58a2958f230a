"""OrderService of a gateway: one life cycle for orders of every type."""
# ruff: noqa: N802 - methods are named by the contract

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from functools import partial
from typing import Any

from venuemesh.errors import DeadlineTooShort, InstrumentNotFound
from venuemesh.gateway.lists import MAX_LIST, OrderLists
from venuemesh.gateway.order_wire import to_order
from venuemesh.gateway.orders import OrderState
from venuemesh.gateway.services.account_feed import AccountFeeds
from venuemesh.gateway.services.account_view import AccountView
from venuemesh.gateway.services.batches import MAX_BATCH, cancel_batch, submit_batch
from venuemesh.gateway.services.order_session import open_session
from venuemesh.gateway.services.parts import Context, GatewayParts
from venuemesh.gateway.services.preview import preview_order
from venuemesh.gateway.services.requests import (
    check_count,
    check_enum,
    check_enums,
    check_symbols,
    cursor_fault,
    missing,
    required,
    time_range,
)
from venuemesh.gateway.services.streams import accepted, refused
from venuemesh.paging import Pager
from venuemesh.session_stream import serve_session
from venuemesh.stream_options import EVENTS, parse_stream_options
from venuemesh.streaming import StreamHub, responder
from venuemesh.v1 import event_pb2, order_pb2, order_service_pb2_grpc, stream_pb2
from venuemesh.v1 import order_service_pb2 as wire

STREAMED = frozenset(("execution_report", "stream_status"))
"""Payloads of account events that StreamExecutionReports gives."""


class OrderServicer(order_service_pb2_grpc.OrderServiceServicer):
    """Orders of the accounts of one venue."""

    def __init__(self, parts: GatewayParts, feeds: AccountFeeds, hub: StreamHub, pager: Pager) -> None:
        self._parts = parts
        self._feeds = feeds
        self._hub = hub
        self._pager = pager
        self._lists = OrderLists(parts.desk)
        self._respond = responder(wire.StreamExecutionReportsResponse, _body)

    # writing

    async def SubmitOrder(self, request: wire.SubmitOrderRequest, context: Context) -> wire.SubmitOrderResponse:
        """Submit an order; a repeat of its key gives the first result."""
        check_enum(request.ack_level, wire.AckLevel, "ack_level", optional=True)
        if not request.HasField("order"):
            raise missing("order", "is required")
        return await self._parts.desk.submit(request.order, request.ack_level, session_id=request.session_id)

    async def BatchSubmitOrders(
        self, request: wire.BatchSubmitOrdersRequest, context: Context
    ) -> wire.BatchSubmitOrdersResponse:
        """Submit several orders; each has its own result."""
        check_enum(request.ack_level, wire.AckLevel, "ack_level", optional=True)
        check_count(len(request.orders), MAX_BATCH, "orders")
        return await submit_batch(self._parts.desk, request.orders, request.ack_level)

    async def ReplaceOrder(self, request: wire.ReplaceOrderRequest, context: Context) -> wire.ReplaceOrderResponse:
        """Amend a working order; a repeat of the `request_id` gives the first result."""
        return await self._parts.working.replace(request)

    async def CancelOrder(self, request: wire.CancelOrderRequest, context: Context) -> wire.CancelOrderResponse:
        """Cancel an order; passes every gate."""
        expected = request.expected_version if request.HasField("expected_version") else None
        return await self._parts.working.cancel(request.reference, expected)

    async def BatchCancelOrders(
        self, request: wire.BatchCancelOrdersRequest, context: Context
    ) -> wire.BatchCancelOrdersResponse:
        """Cancel several orders; each has its own result."""
        check_count(len(request.references), MAX_BATCH, "references")
        return await cancel_batch(self._parts.desk, self._parts.working, request.references)

    async def CancelAllOrders(
        self, request: wire.CancelAllOrdersRequest, context: Context
    ) -> wire.CancelAllOrdersResponse:
        """Cancel everything of an account that is not terminal, perhaps of one symbol or side only."""
        required(request.account_id, "account_id")
        check_enum(request.side, order_pb2.Side, "side", optional=True)
        return await self._parts.working.cancel_all(request)

    async def SubmitOrderList(
        self, request: wire.SubmitOrderListRequest, context: Context
    ) -> wire.SubmitOrderListResponse:
        """Submit orders that belong together: all of them or none."""
        check_enum(request.ack_level, wire.AckLevel, "ack_level", optional=True)
        check_enum(request.contingency_type, wire.ContingencyType, "contingency_type")
        check_count(len(request.orders), MAX_LIST, "orders")
        return await self._lists.submit(request)

    async def OpenOrderSession(  # type: ignore[override]
        self, request_iterator: AsyncIterator[wire.OpenOrderSessionRequest], context: Context
    ) -> None:
        """Orders that live only as long as their caller keeps its lease, where it asks for that."""
        open_port = partial(open_session, self._parts, self._feeds)
        await serve_session(request_iterator, context, orders=self, open_port=open_port, hub=self._hub)

    # reading

    async def GetOrder(self, request: wire.GetOrderRequest, context: Context) -> wire.GetOrderResponse:
        """One order, waiting for a version of it where asked."""
        desk = self._parts.desk
        account, order = await desk.find(request.reference)
        wanted = request.min_version
        if order.version < wanted:
            await desk.waits.until(order, lambda state: state.version >= wanted, desk.wait_s())
            order = account.order(order.order_id) or order
        if order.version < wanted:
            raise DeadlineTooShort(
                f"order {order.order_id} has version {order.version}, not yet {wanted}",
                metadata={"order_id": order.order_id, "order_version": str(order.version)},
            )
        return wire.GetOrderResponse(order=to_order(order))

    async def ListOrders(self, request: wire.ListOrdersRequest, context: Context) -> wire.ListOrdersResponse:
        """Orders the gateway retains, newest first, a page at a time."""
        self._parts.desk.check_venue(request.venue)
        account = self._parts.desk.account(required(request.account_id, "account_id"))
        check_enums(request.statuses, order_pb2.OrderStatus, "statuses")
        from_ns, to_ns = time_range(request)
        now_ns = self._parts.clock.now_ns()
        page = self._pager.read(request, now_ns=now_ns)
        before = _cursor(page.cursor) if page.cursor else None
        statuses = frozenset(request.statuses)
        response, last = wire.ListOrdersResponse(), ""
        for order in reversed(account.all_orders()):
            if before is not None and (order.created_ns, order.order_id) >= before:
                continue
            if order.created_ns < from_ns:
                break
            if (
                (to_ns is not None and order.created_ns >= to_ns)
                or (request.symbol and order.terms.symbol != request.symbol)
                or (statuses and order.status not in statuses)
            ):
                continue
            if len(response.orders) == page.size:
                response.next_page_token = self._pager.token(request, last, now_ns=now_ns)
                break
            response.orders.append(to_order(order))
            last = _name(order)
        return response

    async def PreviewOrder(self, request: wire.PreviewOrderRequest, context: Context) -> wire.PreviewOrderResponse:
        """Everything that would refuse an order, without sending it."""
        if not request.HasField("order"):
            raise missing("order", "is required")
        return await preview_order(self._parts, request.order)

    async def StreamExecutionReports(
        self, request: wire.StreamExecutionReportsRequest, context: Context
    ) -> AsyncGenerator[wire.StreamExecutionReportsResponse, None]:
        """Working and uncertain orders, then each change of any order; or the changes behind a position."""
        self._parts.desk.check_venue(request.venue)
        feed = self._feeds.get(required(request.account_id, "account_id"))
        asked = check_symbols(request.symbols)
        results = [self._result(symbol) for symbol in asked]
        symbols = {result.subscription for result in results if result.accepted} if asked else None
        plan = await feed.plan(
            parse_stream_options(request.options, EVENTS),
            lambda view: _snapshot(view, symbols),
            method="/venuemesh.v1.OrderService/StreamExecutionReports",
            context=context,
            symbols=symbols,
            accepts=_is_streamed,
            results=results,
            link_state=self._parts.market.link_state,
        )
        async with aclosing(self._hub.serve(feed.topic, plan, self._respond)) as messages:
            async for message in messages:
                yield message

    def _result(self, symbol: str) -> stream_pb2.SubscriptionResult:
        try:
            self._parts.instruments.get(symbol, self._parts.venue.name)
        except InstrumentNotFound as error:
            # One bad symbol is told in its own result and does not end the others.
            return refused(symbol, error.reason, error.message)
        return accepted(symbol)


def _snapshot(view: AccountView, symbols: set[str] | None) -> Iterable[Any]:
    count = 0
    for order in view.open_orders():
        if symbols is None or order.terms.symbol in symbols:
            count += 1
            yield order_pb2.ExecutionReport(
                execution_type=order_pb2.EXECUTION_TYPE_ORDER_STATUS, origin=order_pb2.ORIGIN_GATEWAY, order=order
            )
    yield wire.SnapshotEnd(count=count)


def _is_streamed(value: Any) -> bool:
    return not isinstance(value, event_pb2.Event) or value.WhichOneof("payload") in STREAMED


def _body(value: Any) -> dict[str, Any]:
    match value:
        case order_pb2.ExecutionReport():
            return {"snapshot": value}
        case wire.SnapshotEnd():
            return {"snapshot_end": value}
        case _ if value.HasField("stream_status"):
            return {"status": value.stream_status}
        case _:
            return {"event": value}


def _name(order: OrderState) -> str:
    return f"{order.created_ns}.{order.order_id}"


def _cursor(cursor: str) -> tuple[int, str]:
    created, _, order_id = cursor.partition(".")
    if not created.isdigit():
        raise cursor_fault()
    return int(created), order_id
