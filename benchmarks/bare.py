"""What gRPC itself costs: an echo of SubmitOrder, and a proxy that passes it on; nothing of the mesh in either.

    python -m benchmarks.bare                       # the echo
    python -m benchmarks.bare 127.0.0.1:4711        # a proxy in front of that

They decode and encode the contract's messages, on the same event loop as the services. The address is printed.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import uvloop

from benchmarks.world import ROOT
from venuemesh.v1 import order_pb2, order_service_pb2, order_service_pb2_grpc


class Echo(order_service_pb2_grpc.OrderServiceServicer):
    """Says at once what a gateway says of an order that rests."""

    async def SubmitOrder(self, request: Any, context: Any) -> Any:  # noqa: N802 - the contract's
        """The order as taken."""
        order = order_pb2.Order(
            order_id="0" * 32, venue_order_ids=["123456789"], status=order_pb2.ORDER_STATUS_NEW, terms=request.order
        )
        return order_service_pb2.SubmitOrderResponse(order=order, outcome=order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED)


class Proxy(order_service_pb2_grpc.OrderServiceServicer):
    """Passes on to another server."""

    def __init__(self, target: str) -> None:
        self._stub: Any = order_service_pb2_grpc.OrderServiceStub(grpc.aio.insecure_channel(target))

    async def SubmitOrder(self, request: Any, context: Any) -> Any:  # noqa: N802 - the contract's
        """What the other one says."""
        return await self._stub.SubmitOrder(request, timeout=10)


async def _serve(target: str | None) -> None:
    server = grpc.aio.server()
    servicer: Any = Echo() if target is None else Proxy(target)
    order_service_pb2_grpc.add_OrderServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"grpc_address": f"127.0.0.1:{port}"}), flush=True)
    await server.wait_for_termination()


@asynccontextmanager
async def bare(*arguments: str) -> AsyncIterator[str]:
    """The process; gives its address."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.bare", *arguments), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        yield str(json.loads(await process.stdout.readline())["grpc_address"])
    finally:
        process.kill()
        await process.wait()


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1] if len(sys.argv) > 1 else None))
