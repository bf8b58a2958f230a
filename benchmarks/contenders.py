"""The ways to send an order that are compared, behind one shape; here those over gRPC.

Each sends a post-only bid far below the market, which rests, and takes it back.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, Protocol

import grpc.aio
import nats
from nats.js import JetStreamContext

from venuemesh.v1 import order_pb2, order_service_pb2, order_service_pb2_grpc

SYMBOL = "BTC/USDC:USDC"
QUANTITY = Decimal("0.001")
ACCOUNT_ID = "main"


class NotTaken(Exception):
    """A contender's order did not rest, so that its time says nothing; with outcome and reason of the contract."""

    def __init__(self, text: str, outcome: int = 0, reason: int = 0) -> None:
        super().__init__(text)
        self.outcome = outcome
        self.reason = reason


class Contender(Protocol):
    """One way. `submit` and `cancel` are timed, `prepare` is not."""

    async def prepare(self) -> None:
        """Whatever a caller would have done long before."""

    async def submit(self) -> None:
        """Send one order and wait until the venue has taken it. Raises NotTaken."""

    async def cancel(self) -> None:
        """Take the last order back and wait for the venue's word."""


class OverGrpc:
    """A client of the contract: at a gateway, the router, or a bare server.

    Args:
        run_id: makes client order ids unique.
    """

    def __init__(self, channel: grpc.aio.Channel, *, venue: str, price: Decimal, run_id: str) -> None:
        self._stub: Any = order_service_pb2_grpc.OrderServiceStub(channel)
        self._venue = venue
        self._price = price
        self._keys = (f"{run_id}-{number}" for number in itertools.count())
        self._request = order_service_pb2.SubmitOrderRequest()
        self.stages_s: dict[str, list[float]] = {}
        """What the gateway says of each submit: seconds to the journal's confirmation, in sending, to the answer."""

    async def prepare(self) -> None:
        """Build the request."""
        self._request = self.request()

    def request(self) -> Any:
        """The next order."""
        order = order_pb2.NewOrder(
            account_id=ACCOUNT_ID,
            venue=self._venue,
            client_order_id=next(self._keys),
            symbol=SYMBOL,
            side=order_pb2.SIDE_BUY,
            order_type=order_pb2.ORDER_TYPE_LIMIT,
            time_in_force=order_pb2.TIME_IN_FORCE_GTC,
            instructions=[order_pb2.EXECUTION_INSTRUCTION_POST_ONLY],
            quantity=str(QUANTITY),
            price=str(self._price),
        )
        return order_service_pb2.SubmitOrderRequest(order=order)

    async def send(self, request: Any, timeout_s: float = 10) -> None:
        """Submit."""
        answer = await self._stub.SubmitOrder(request, timeout=timeout_s)
        if answer.outcome != order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED:
            raise NotTaken(answer.reject.message or str(answer), answer.outcome, answer.reject.reason)
        for stage, duration in answer.timings.ListFields():
            self.stages_s.setdefault(stage.name, []).append(duration.ToTimedelta().total_seconds())

    async def submit(self) -> None:
        """Send the prepared order."""
        await self.send(self._request)

    async def cancel(self) -> None:
        """Cancel the order sent last."""
        await self.take_back(self._request)

    async def take_back(self, request: Any) -> None:
        """Cancel by the caller's id."""
        reference = order_service_pb2.OrderReference(
            account_id=ACCOUNT_ID, venue=self._venue, client_order_id=request.order.client_order_id
        )
        await self._stub.CancelOrder(order_service_pb2.CancelOrderRequest(reference=reference), timeout=10)


class Bare(OverGrpc):
    """At a server that has no orders to cancel."""

    async def cancel(self) -> None:
        """Nothing to take back."""


class BareJournal:
    """The broker's confirmation of one small message in a stream on disk; nothing of the mesh."""

    def __init__(self, stream: JetStreamContext, subject: str) -> None:
        self._stream = stream
        self._subject = subject

    @classmethod
    @asynccontextmanager
    async def on(cls, url: str) -> AsyncIterator[BareJournal]:
        """On a stream of its own."""
        connection = await nats.connect(url)
        try:
            stream = connection.jetstream()
            await stream.add_stream(name="BARE_JOURNAL", subjects=["bare.journal"])
            yield cls(stream, "bare.journal")
        finally:
            await connection.close()

    async def prepare(self) -> None:
        """Nothing."""

    async def submit(self) -> None:
        """Store a message as long as an intent."""
        await self._stream.publish(self._subject, bytes(400))

    async def cancel(self) -> None:
        """Nothing to take back."""


@asynccontextmanager
async def channel_to(address: str) -> AsyncIterator[grpc.aio.Channel]:
    """A channel of its own connection."""
    async with grpc.aio.insecure_channel(address, options=(("grpc.use_local_subchannel_pool", 1),)) as channel:
        yield channel
