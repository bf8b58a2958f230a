"""The caller's side of an order session without a network: what it sends, what it hears, how it goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from google.protobuf.duration_pb2 import Duration

from tests.fakes import ManualClock
from tests.unit.venuemesh.gateway.gateway_world import World, new_order
from venuemesh.v1 import order_pb2
from venuemesh.v1 import order_service_pb2 as wire

LIMIT_S = 60.0


class TickingClock(ManualClock):
    """A clock whose `pause` ends when the clock is moved far enough, and not before."""

    def __init__(self) -> None:
        super().__init__()
        self._ticks: set[asyncio.Event] = set()

    def advance(self, seconds: float) -> None:
        """Move on, and wake whoever waits for that."""
        super().advance(seconds)
        for tick in self._ticks:
            tick.set()

    async def pause(self, event: asyncio.Event, seconds: float) -> None:
        """The `Pause` of this clock."""
        until_s, tick = self.monotonic_s() + seconds, asyncio.Event()
        self._ticks.add(tick)
        try:
            async with asyncio.TaskGroup() as tasks:
                either = [tasks.create_task(event.wait()), tasks.create_task(self._reach(until_s, tick))]
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
                for task in either:
                    task.cancel()
        finally:
            self._ticks.discard(tick)

    async def _reach(self, until_s: float, tick: asyncio.Event) -> None:
        while self.monotonic_s() < until_s:
            tick.clear()
            await tick.wait()


class Chat:
    """One call of OpenOrderSession. `reading` cleared, it takes nothing off the wire any more."""

    def __init__(self) -> None:
        self.heard: list[wire.OpenOrderSessionResponse] = []
        self.reading = asyncio.Event()
        self.reading.set()
        self._sent: asyncio.Queue[wire.OpenOrderSessionRequest | Exception | None] = asyncio.Queue(1_000)
        self._news = asyncio.Event()
        self.call: asyncio.Task[None] | None = None

    # as the servicer sees it

    async def requests(self) -> AsyncIterator[wire.OpenOrderSessionRequest]:
        """What was sent, until the caller stops writing."""
        while (message := await self._sent.get()) is not None:
            if isinstance(message, Exception):
                raise message
            yield message

    def peer(self) -> str:
        """Where the call comes from."""
        return "ipv4:127.0.0.1:50000"

    async def write(self, message: wire.OpenOrderSessionResponse) -> None:
        """A message reaches the caller once it reads."""
        await self.reading.wait()
        self.heard.append(message)
        self._news.set()

    # as the test sees it

    def send(self, **body: Any) -> None:
        """Send a message with this body."""
        self._sent.put_nowait(wire.OpenOrderSessionRequest(**body))

    def submit(self, key: str, **changes: Any) -> None:
        """Send a submit of `new_order(key)`."""
        self.send(submit=wire.SubmitOrderRequest(order=new_order(key, **changes)))

    def cancel(self, key: str) -> None:
        """Send a cancel."""
        self.send(cancel=wire.CancelOrderRequest(reference=wire.OrderReference(client_order_id=key)))

    def beat(self) -> None:
        """Send a heartbeat."""
        self.send(heartbeat=wire.SessionHeartbeat())

    def hang_up(self) -> None:
        """Stop writing."""
        self._sent.put_nowait(None)

    async def next(self, body: str, *, number: int | None = None) -> Any:
        """The first message of this kind, whenever it came; it is taken out of `heard`."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                for place, message in enumerate(self.heard):
                    if message.WhichOneof("body") == body and number in (None, message.request_number):
                        return self.heard.pop(place)
                self._news.clear()
                await self._news.wait()

    async def event_of(self, key: str, status: order_pb2.OrderStatus.ValueType) -> Any:
        """The event by which an order of this key got this status."""
        while True:
            message = await self.next("event")
            order = message.event.execution_report.order
            if order.terms.client_order_id == key and order.status == status:
                return message

    async def ended(self) -> None:
        """Wait for the end of the call; raises what it ended with."""
        assert self.call is not None
        async with asyncio.timeout(LIMIT_S):
            await asyncio.shield(self.call)


@asynccontextmanager
async def chat(
    world: World, *, lease_s: float = 10.0, cancel_on_disconnect: bool = True, log_on: bool = True, **logon: Any
) -> AsyncIterator[Chat]:
    """A call that is logged on; broken at the end of the block."""
    one = Chat()
    call: asyncio.Task[None] = asyncio.create_task(world.orders.OpenOrderSession(one.requests(), one))
    one.call = call
    try:
        if log_on:
            lease = Duration(seconds=int(lease_s), nanos=int(lease_s % 1 * 1e9))
            fields = {"account_id": "main", "lease": lease, "cancel_on_disconnect": cancel_on_disconnect, **logon}
            one.send(logon=wire.SessionLogon(**fields))
            await one.next("acknowledgement")
        yield one
    finally:
        call.cancel()
        await asyncio.wait([call])
        if not call.cancelled() and (error := call.exception()) is not None and log_on:
            raise error
