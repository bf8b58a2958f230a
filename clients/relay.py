"""A gRPC relay that loses what a network loses, for the test of the example clients.

It passes any method on as bytes, so it knows nothing of a client's language, and each fault happens once:

- the first GetOrderBook and the first CancelAllOrders end in UNAVAILABLE before they reach the server,
- the first SubmitOrder reaches the server and its answer is lost,
- the first stream of execution reports breaks before its first report is delivered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

from venuemesh.v1 import order_service_pb2

_BEFORE_THE_SERVER = ("MarketDataService/GetOrderBook", "OrderService/CancelAllOrders")
_SUBMIT = "OrderService/SubmitOrder"
_REPORTS = "OrderService/StreamExecutionReports"


class Lost(Exception):
    """The connection breaks here."""


class Relay(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Serves every method of the server behind `upstream`."""

    def __init__(self, upstream: Any) -> None:
        self._upstream = upstream
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers((self,))
        self._faults = {*_BEFORE_THE_SERVER, _SUBMIT, _REPORTS}
        self.address = ""
        self.submits: Counter[str] = Counter()
        """SubmitOrder calls that arrived here, by client order id."""
        self.calls: Counter[str] = Counter()
        """Calls that arrived here, by service and method."""

    async def start(self) -> None:
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        self.address = f"127.0.0.1:{port}"

    async def stop(self) -> None:
        await self._server.stop(None)

    def service(self, handler_call_details: Any) -> Any:
        """Any arity is a stream of messages on the wire, and without serializers messages are bytes."""
        method: str = handler_call_details.method

        async def handle(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            try:
                async for answer in self._pass_on(method, requests, context):
                    yield answer
            except Lost:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the relay lost the connection")
            except grpc.aio.AioRpcError as error:
                await context.abort(error.code(), error.details() or "", tuple(error.trailing_metadata() or ()))

        return grpc.stream_stream_rpc_method_handler(handle)

    async def _pass_on(self, method: str, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        short = method.removeprefix("/venuemesh.v1.")
        self.calls[short] += 1
        request = await anext(requests)
        if short == _SUBMIT:
            order = order_service_pb2.SubmitOrderRequest.FromString(request).order
            self.submits[order.client_order_id] += 1
        faulty = short in self._faults
        self._faults.discard(short)
        if faulty and short in _BEFORE_THE_SERVER:
            raise Lost
        call = self._upstream.stream_stream(method)(iter([request]), timeout=context.time_remaining())
        try:
            async for answer in call:
                if faulty and (short == _SUBMIT or _is_report(answer)):
                    raise Lost
                yield answer
        finally:
            call.cancel()


def _is_report(answer: bytes) -> bool:
    return order_service_pb2.StreamExecutionReportsResponse.FromString(answer).HasField("event")
