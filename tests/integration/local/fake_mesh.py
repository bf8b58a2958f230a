"""Router and aggregator in one gRPC server, just enough for the walk; each fault makes one promise false."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from enum import Enum, auto
from typing import Any

import grpc.aio

from venuemesh.errors import InvalidOrder, Reason
from venuemesh.status import to_grpc_status
from venuemesh.v1 import (
    account_pb2,
    error_pb2,
    event_pb2,
    instrument_pb2,
    instrument_service_pb2,
    instrument_service_pb2_grpc,
    market_data_pb2,
    market_data_service_pb2,
    market_data_service_pb2_grpc,
    order_pb2,
    order_service_pb2,
    order_service_pb2_grpc,
    portfolio_pb2,
    portfolio_service_pb2,
    portfolio_service_pb2_grpc,
    routing_pb2,
    routing_service_pb2,
    routing_service_pb2_grpc,
    stream_pb2,
    venue_pb2,
    venue_service_pb2,
    venue_service_pb2_grpc,
)

VENUE, ACCOUNT, SYMBOL = "hyperliquid", "main", "BTC/USDC:USDC"
CHEAPER = "lighter"
ASKS = {VENUE: "64124", CHEAPER: "64120"}


class Fault(Enum):
    """One broken promise."""

    NONE = auto()
    MAINNET = auto()
    STALE_BOOK = auto()
    REJECTS = auto()
    STREAM_CLOSES = auto()
    POSITION_WRONG = auto()
    READ_DISAGREES = auto()
    NOT_REPLAYED = auto()
    CANCEL_UNKNOWN = auto()
    ACCEPTS_ZERO = auto()
    REFUSES_BY_ANSWER = auto()
    PLANS_DEARER = auto()
    SEES_OTHER_BOOKS = auto()
    SEES_ONE_BOOK = auto()
    SENDS_ELSEWHERE = auto()
    ROUTE_RESTS = auto()
    ROUTES_ANEW = auto()


class FakeMesh(
    venue_service_pb2_grpc.VenueServiceServicer,
    instrument_service_pb2_grpc.InstrumentServiceServicer,
    market_data_service_pb2_grpc.MarketDataServiceServicer,
    order_service_pb2_grpc.OrderServiceServicer,
    portfolio_service_pb2_grpc.PortfolioServiceServicer,
    routing_service_pb2_grpc.RoutingServiceServicer,
):
    """Fills market orders at once, rests limit orders, and keeps one position."""

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self._held = Decimal("0.5")
        self._routed = 0
        self._orders: dict[str, order_pb2.Order] = {}
        self._executions: asyncio.Queue[Any] = asyncio.Queue()
        self._deltas: asyncio.Queue[Any] = asyncio.Queue()

    async def ListVenues(self, request: Any, context: Any) -> Any:
        deployed = venue_pb2.ENVIRONMENT_MAINNET if self._fault is Fault.MAINNET else venue_pb2.ENVIRONMENT_SIMULATOR
        venue = venue_pb2.Venue(venue=VENUE, environment=deployed, account_ids=[ACCOUNT])
        return venue_service_pb2.ListVenuesResponse(venues=[venue])

    async def GetInstrument(self, request: Any, context: Any) -> Any:
        instrument = instrument_pb2.Instrument(
            price_rule=instrument_pb2.PriceRule(max_significant_figures=5, max_decimals=1),
            quantity_rule=instrument_pb2.QuantityRule(step_size="0.00001", min_notional="10"),
        )
        return instrument_service_pb2.GetInstrumentResponse(instrument=instrument)

    async def GetOrderBook(self, request: Any, context: Any) -> Any:
        fresh = stream_pb2.FRESHNESS_STALE if self._fault is Fault.STALE_BOOK else stream_pb2.FRESHNESS_FRESH
        book = market_data_pb2.OrderBook(
            bids=[market_data_pb2.PriceLevel(price="64123", quantity="1")],
            asks=[market_data_pb2.PriceLevel(price=ASKS[request.venue or VENUE], quantity="1")],
            freshness=fresh,
            stale_cause="venue link down",
        )
        return market_data_service_pb2.GetOrderBookResponse(order_book=book)

    async def SubmitOrder(self, request: Any, context: Any) -> Any:
        terms = request.order
        if Decimal(terms.quantity) <= 0 and self._fault is not Fault.ACCEPTS_ZERO:
            return await self._refuse(context)
        known = self._orders.get(terms.client_order_id)
        if known is not None:
            return order_service_pb2.SubmitOrderResponse(
                order=known,
                outcome=order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED,
                replayed=self._fault is not Fault.NOT_REPLAYED,
            )
        if self._fault is Fault.REJECTS:
            reject = order_pb2.Reject(reason=error_pb2.REASON_INSUFFICIENT_MARGIN, message="no margin")
            return order_service_pb2.SubmitOrderResponse(
                outcome=order_service_pb2.SUBMIT_OUTCOME_REJECTED, reject=reject
            )
        order = order_pb2.Order(order_id=f"id-{len(self._orders)}", terms=terms, status=order_pb2.ORDER_STATUS_NEW)
        self._orders[terms.client_order_id] = order
        self._report(order)
        if terms.order_type == order_pb2.ORDER_TYPE_MARKET:
            self._fill(order)
        return order_service_pb2.SubmitOrderResponse(order=order, outcome=order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED)

    async def _refuse(self, context: Any) -> Any:
        if self._fault is Fault.REFUSES_BY_ANSWER:
            reject = order_pb2.Reject(reason=error_pb2.REASON_QUANTITY_NOT_POSITIVE, message="must be above 0")
            return order_service_pb2.SubmitOrderResponse(
                outcome=order_service_pb2.SUBMIT_OUTCOME_REJECTED, reject=reject
            )
        error = InvalidOrder("must be above 0", reason=Reason.QUANTITY_NOT_POSITIVE, field="order.quantity")
        await context.abort_with_status(to_grpc_status(error))

    def _fill(self, order: order_pb2.Order) -> None:
        order.status, order.filled_quantity = order_pb2.ORDER_STATUS_FILLED, order.terms.quantity
        order.average_price = "64124"
        self._report(order)
        self._held += Decimal(order.terms.quantity)
        shown = self._held + 1 if self._fault is Fault.POSITION_WRONG else self._held
        delta = portfolio_pb2.PortfolioAccount(venue=VENUE, account_id=ACCOUNT, positions=[_position(shown)])
        self._deltas.put_nowait(
            portfolio_service_pb2.StreamPortfolioResponse(delta=portfolio_service_pb2.PortfolioDelta(accounts=[delta]))
        )

    def _report(self, order: order_pb2.Order) -> None:
        event = event_pb2.Event(execution_report=order_pb2.ExecutionReport(order=order))
        self._executions.put_nowait(order_service_pb2.StreamExecutionReportsResponse(event=event))

    async def CancelOrder(self, request: Any, context: Any) -> Any:
        order = self._orders[request.reference.client_order_id]
        outcome = order_service_pb2.CANCEL_OUTCOME_UNKNOWN
        if self._fault is not Fault.CANCEL_UNKNOWN:
            outcome, order.status = order_service_pb2.CANCEL_OUTCOME_CANCELED, order_pb2.ORDER_STATUS_CANCELED
            self._report(order)
        return order_service_pb2.CancelOrderResponse(order=order, outcome=outcome)

    async def PlanRoute(self, request: Any, context: Any) -> Any:
        return routing_service_pb2.PlanRouteResponse(plan=self._plan(request.order.quantity))

    def _plan(self, quantity: str) -> routing_pb2.RoutePlan:
        seen = {VENUE: "64119", CHEAPER: "64120"} if self._fault is Fault.SEES_OTHER_BOOKS else ASKS
        best, *others = sorted(seen, key=lambda venue: seen[venue], reverse=self._fault is Fault.PLANS_DEARER)
        candidates = [
            routing_pb2.RouteCandidate(
                venue=venue, eligible=True, expected_price=seen[venue], best_price=seen[venue], score=seen[venue]
            )
            for venue in (best, *others)
        ]
        if self._fault is Fault.SEES_ONE_BOOK:
            candidates[1].eligible, candidates[1].reason = False, error_pb2.REASON_VENUE_DISCONNECTED
        return routing_pb2.RoutePlan(
            strategy=routing_pb2.ROUTING_STRATEGY_BEST_PRICE,
            legs=[routing_pb2.RouteLeg(venue=best, quantity=quantity)],
            candidates=candidates,
            explanation="least cost",
        )

    async def SubmitRoutedOrder(self, request: Any, context: Any) -> Any:
        terms, plan = request.order, self._plan(request.order.quantity)
        self._routed += 1
        terms.venue = VENUE if self._fault is Fault.SENDS_ELSEWHERE else plan.legs[0].venue
        rests = self._fault is Fault.ROUTE_RESTS
        route = routing_pb2.Route(
            route_id=f"route-{self._routed if self._fault is Fault.ROUTES_ANEW else 1}",
            plan=plan,
            status=order_pb2.ORDER_STATUS_NEW if rests else order_pb2.ORDER_STATUS_FILLED,
            filled_quantity="0" if rests else terms.quantity,
            average_price=ASKS[terms.venue],
            children=[order_pb2.Order(terms=terms)],
        )
        return routing_service_pb2.SubmitRoutedOrderResponse(
            route=route, outcome=order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED, replayed=self._routed > 1
        )

    async def StreamExecutionReports(self, request: Any, context: Any) -> AsyncIterator[Any]:
        response = order_service_pb2.StreamExecutionReportsResponse
        yield response(acknowledgement=stream_pb2.StreamAcknowledgement())
        if self._fault is Fault.STREAM_CLOSES:
            yield response(closing=stream_pb2.StreamClosing(reason=stream_pb2.CLOSING_REASON_DRAINING))
            return
        yield response(snapshot_end=order_service_pb2.SnapshotEnd())
        while True:
            yield await self._executions.get()

    async def StreamPortfolio(self, request: Any, context: Any) -> AsyncIterator[Any]:
        yield portfolio_service_pb2.StreamPortfolioResponse(snapshot=self._portfolio())
        while True:
            yield await self._deltas.get()
            if self._fault is Fault.POSITION_WRONG:
                return

    async def GetPortfolio(self, request: Any, context: Any) -> Any:
        return portfolio_service_pb2.GetPortfolioResponse(portfolio=self._portfolio(final=True))

    def _portfolio(self, *, final: bool = False) -> portfolio_pb2.Portfolio:
        shown = self._held - 1 if final and self._fault is Fault.READ_DISAGREES else self._held
        account = portfolio_pb2.PortfolioAccount(venue=VENUE, account_id=ACCOUNT, positions=[_position(shown)])
        return portfolio_pb2.Portfolio(accounts=[account])


def _position(quantity: Decimal) -> account_pb2.Position:
    return account_pb2.Position(symbol=SYMBOL, quantity=str(quantity))


@asynccontextmanager
async def serving(fault: Fault) -> AsyncIterator[str]:
    """Address of a running fake mesh."""
    # The stubs call every method abstract; at run time one that is not served answers UNIMPLEMENTED.
    server, mesh = grpc.aio.server(), FakeMesh(fault)  # type: ignore[abstract]
    venue_service_pb2_grpc.add_VenueServiceServicer_to_server(mesh, server)
    instrument_service_pb2_grpc.add_InstrumentServiceServicer_to_server(mesh, server)
    market_data_service_pb2_grpc.add_MarketDataServiceServicer_to_server(mesh, server)
    order_service_pb2_grpc.add_OrderServiceServicer_to_server(mesh, server)
    portfolio_service_pb2_grpc.add_PortfolioServiceServicer_to_server(mesh, server)
    routing_service_pb2_grpc.add_RoutingServiceServicer_to_server(mesh, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(None)
