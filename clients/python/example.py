"""A client of the mesh from end to end: submit, follow over a cut, cancel all, watch the portfolio, route.

Needs a running mesh and no other part of this repository; settings are in docs/clients.md.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

# The stubs made by generate.py; a project of its own would install them as a package.
sys.path.insert(0, str(Path(__file__).resolve().parent / "gen"))

from mesh import STREAM_LIMIT_S, Executions, Orders, OutcomeUnknown, Settings, open_channel

from venuemesh.v1 import (
    market_data_service_pb2,
    market_data_service_pb2_grpc,
    order_pb2,
    order_service_pb2,
    order_service_pb2_grpc,
    portfolio_service_pb2,
    portfolio_service_pb2_grpc,
    routing_service_pb2,
    routing_service_pb2_grpc,
    venue_pb2,
    venue_service_pb2,
    venue_service_pb2_grpc,
)


class ExampleFailed(Exception):
    """The mesh answered something the story does not go on from."""


def run(settings: Settings, router: grpc.Channel, aggregator: grpc.Channel) -> None:
    """The whole story. Raises ExampleFailed, OutcomeUnknown or grpc.RpcError."""
    key = f"py-{time.time_ns() // 1_000_000}"
    orders_stub = order_service_pb2_grpc.OrderServiceStub(router)
    refuse_real_money(settings, router)

    executions = Executions(orders_stub, settings.account_id, settings.venue)
    executions.start()
    resting = buy(settings, f"{key}-rest")
    resting.venue = settings.venue
    resting.order_type = order_pb2.ORDER_TYPE_LIMIT
    resting.time_in_force = order_pb2.TIME_IN_FORCE_GTC
    resting.price = far_from_market(settings, router)
    order = Orders(orders_stub).submit(resting)
    print(f"submit: {resting.client_order_id} is {status(order)}")
    require(order.working, f"{resting.client_order_id} does not rest")
    see(executions, resting.client_order_id, lambda one: one.working)

    # Nobody listens while the order is cancelled; the stream tells it all the same.
    executions.cut()
    cancel_all(settings, orders_stub)
    see(executions, resting.client_order_id, lambda one: one.terminal)
    executions.cut()

    watch_a_routed_order(settings, router, aggregator, f"{key}-route")
    print("done")


def refuse_real_money(settings: Settings, router: grpc.Channel) -> None:
    """An example must not trade where it costs something."""
    stub = venue_service_pb2_grpc.VenueServiceStub(router)
    venue = stub.GetVenue(venue_service_pb2.GetVenueRequest(venue=settings.venue)).venue
    name = venue_pb2.Environment.Name(venue.environment).removeprefix("ENVIRONMENT_")
    print(f"venue: {venue.venue} is {name}")
    allowed = (venue_pb2.ENVIRONMENT_SIMULATOR, venue_pb2.ENVIRONMENT_TESTNET)
    require(venue.environment in allowed, f"{venue.venue} is not a simulator or test network")


def buy(settings: Settings, key: str) -> order_pb2.NewOrder:
    """What all orders here have in common."""
    return order_pb2.NewOrder(
        account_id=settings.account_id,
        client_order_id=key,
        symbol=settings.symbol,
        side=order_pb2.SIDE_BUY,
        quantity=settings.quantity,
    )


def far_from_market(settings: Settings, router: grpc.Channel) -> str:
    """A price a fifth below the best bid, as a whole number: those are on every venue's tick."""
    stub = market_data_service_pb2_grpc.MarketDataServiceStub(router)
    request = market_data_service_pb2.GetOrderBookRequest(venue=settings.venue, symbol=settings.symbol, depth=1)
    book = stub.GetOrderBook(request).order_book
    require(len(book.bids) > 0, "the book has no bid")
    return str(int(book.bids[0].price.partition(".")[0]) * 4 // 5)


def see(executions: Executions, key: str, wanted: Callable[[order_pb2.Order], bool]) -> None:
    """Follow the stream until it tells this of the order."""
    while True:
        order = executions.next_report().order
        if order.terms.client_order_id == key and wanted(order):
            print(f"executions: {key} is {status(order)} at sequence {executions.sequence}")
            return


def cancel_all(settings: Settings, stub: Any) -> None:
    """Cancel everything of the account everywhere; what could not be reached is named and stays."""
    request = order_service_pb2.CancelAllOrdersRequest(account_id=settings.account_id)
    answer = stub.CancelAllOrders(request)
    print(f"cancel all: {len(answer.results)} orders, {len(answer.unreached)} venues not reached")
    require(not answer.unreached, f"not reached: {', '.join(answer.unreached)}")


def watch_a_routed_order(settings: Settings, router: grpc.Channel, aggregator: grpc.Channel, key: str) -> None:
    """Let the router choose the venue and see the fill arrive in the portfolio."""
    portfolio = portfolio_service_pb2_grpc.PortfolioServiceStub(aggregator)
    changes = portfolio.StreamPortfolio(portfolio_service_pb2.StreamPortfolioRequest(), timeout=STREAM_LIMIT_S)
    for message in changes:
        if message.HasField("snapshot"):
            accounts = len(message.snapshot.accounts)
            print(f"portfolio: snapshot of {accounts} accounts at sequence {message.header.sequence}")
            place_routed(settings, router, key)
        elif message.HasField("delta"):
            report = message.delta.event.execution_report
            if report.fill.client_order_id == key:
                print(f"portfolio: fill of {report.fill.quantity} at sequence {message.header.sequence}")
                changes.cancel()
                return
    raise ExampleFailed("the portfolio stream ended before the fill")


def place_routed(settings: Settings, router: grpc.Channel, key: str) -> None:
    """A market order that names no venue: the router chooses, and the rules of a submit are the same."""
    order = buy(settings, key)
    order.order_type = order_pb2.ORDER_TYPE_MARKET
    order.time_in_force = order_pb2.TIME_IN_FORCE_IOC
    request = routing_service_pb2.PlanRouteRequest(order=order)
    plan = routing_service_pb2_grpc.RoutingServiceStub(router).PlanRoute(request).plan
    print(f"route: {plan.legs[0].venue} is the best of {len(plan.candidates)} venues now")
    placed = Orders(order_service_pb2_grpc.OrderServiceStub(router)).submit(order)
    print(f"submit: {key} is {status(placed)} at {placed.terms.venue}")
    require(placed.status != order_pb2.ORDER_STATUS_REJECTED, f"{key}: {placed.reject.message}")


def status(order: order_pb2.Order) -> str:
    """`NEW`, or the number of a status that is newer than these stubs."""
    if order.status not in order_pb2.OrderStatus.values():
        return str(order.status)
    return order_pb2.OrderStatus.Name(order.status).removeprefix("ORDER_STATUS_")


def require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ExampleFailed(otherwise)


def main() -> int:
    settings = Settings.from_environment()
    try:
        with (
            open_channel(settings.router, settings) as router,
            open_channel(settings.aggregator, settings) as aggregator,
        ):
            run(settings, router, aggregator)
    except (ExampleFailed, OutcomeUnknown, ValueError, OSError) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    except grpc.RpcError as error:
        print(f"failed: {error.code().name}: {error.details()}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
