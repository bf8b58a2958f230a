"""A router whose every answer is a test's own: real gRPC, for what a healthy mesh never says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc

from venuemesh.errors import MeshError, OrderNotFound
from venuemesh.status import to_grpc_status
from venuemesh.v1 import (
    account_pb2,
    account_service_pb2,
    account_service_pb2_grpc,
    order_pb2,
    order_service_pb2_grpc,
    venue_service_pb2_grpc,
)

Answer = Callable[[Any], Any]


class Router(
    order_service_pb2_grpc.OrderServiceServicer,
    account_service_pb2_grpc.AccountServiceServicer,
    venue_service_pb2_grpc.VenueServiceServicer,
):
    """Answers each method with what `script` holds for it: a message, an error, a status code, or a list of them."""

    def __init__(self) -> None:
        self.script: dict[str, Any] = {
            "ListAccounts": account_service_pb2.ListAccountsResponse(accounts=[account_pb2.Account(account_id="main")]),
            "GetOrder": OrderNotFound("no such order"),
        }
        self.calls: list[tuple[str, Any]] = []
        self.metadata: dict[str, str] = {}
        self.address = ""

    def count(self, method: str) -> int:
        """How often a method was called."""
        return sum(name == method for name, _ in self.calls)

    def answer(self, method: str, request: Any, context: Any) -> Any:
        self.calls.append((method, request))
        self.metadata = dict(context.invocation_metadata())
        planned = self.script[method]
        if isinstance(planned, list):
            planned = planned.pop(0) if len(planned) > 1 else planned[0]
        if isinstance(planned, MeshError):
            context.abort_with_status(to_grpc_status(planned))
        if isinstance(planned, grpc.StatusCode):
            context.abort(planned, "from the transport")
        return planned

    def SubmitOrder(self, request: Any, context: Any) -> Any:
        return self.answer("SubmitOrder", request, context)

    def ReplaceOrder(self, request: Any, context: Any) -> Any:
        return self.answer("ReplaceOrder", request, context)

    def CancelOrder(self, request: Any, context: Any) -> Any:
        return self.answer("CancelOrder", request, context)

    def CancelAllOrders(self, request: Any, context: Any) -> Any:
        return self.answer("CancelAllOrders", request, context)

    def GetOrder(self, request: Any, context: Any) -> Any:
        return self.answer("GetOrder", request, context)

    def ListAccounts(self, request: Any, context: Any) -> Any:
        return self.answer("ListAccounts", request, context)

    def ListVenues(self, request: Any, context: Any) -> Any:
        return self.answer("ListVenues", request, context)


@contextmanager
def scripted_router(credentials: grpc.ServerCredentials | None = None) -> Iterator[Router]:
    """The router, serving on a port of its own."""
    router = Router()
    server = grpc.server(ThreadPoolExecutor(max_workers=4))
    order_service_pb2_grpc.add_OrderServiceServicer_to_server(router, server)
    account_service_pb2_grpc.add_AccountServiceServicer_to_server(router, server)
    venue_service_pb2_grpc.add_VenueServiceServicer_to_server(router, server)
    if credentials is None:
        port = server.add_insecure_port("127.0.0.1:0")
    else:
        port = server.add_secure_port("127.0.0.1:0", credentials)
    router.address = f"127.0.0.1:{port}"
    server.start()
    try:
        yield router
    finally:
        server.stop(None).wait()


def order(status: Any, **more: Any) -> order_pb2.Order:
    """An order in a state."""
    terms = order_pb2.NewOrder(account_id="main", client_order_id="k1", symbol="BTC/USDC:USDC", quantity="1")
    return order_pb2.Order(order_id="id-1", terms=terms, status=status, **more)
