"""A whole gateway but for its gRPC server: real desk, journal and adapter over a simulated venue that can fail.

Times are long, so that a slow machine changes nothing; where the end of a wait is the point, a test asks for `QUICK`.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulator.faults import Fault, FaultKind
from simulator.testing import running_simulator
from tests.broker import Broker
from tests.integration.faults.sides import MAIN, SYMBOL, TrueOrder, VenueSide, quick_socket, restart
from venuemesh.bus import Bus, BusOptions
from venuemesh.clock import SystemClock
from venuemesh.configuration import Configuration
from venuemesh.draining import Drain
from venuemesh.gateway.core import CoreSettings, GatewayCore
from venuemesh.gateway.desk import DeskSettings
from venuemesh.gateway.instrument_refresh import RefreshSettings
from venuemesh.gateway.orders import OrderState
from venuemesh.gateway.reconciler import ReconcilerSettings
from venuemesh.gateway.resolver import ResolverSettings
from venuemesh.gateway.services.register import build_services
from venuemesh.metrics import Metrics
from venuemesh.settings import ServiceSettings
from venuemesh.subjects import stream_specs
from venuemesh.transport.session import SocketConfig
from venuemesh.v1 import event_pb2, order_pb2, order_service_pb2, venue_pb2

TIMEOUT_S = 0.3
EXPIRY_S = 1.0
QUICK = {"order_expiry_s": EXPIRY_S, "action_timeout_s": TIMEOUT_S}
"""How long an order may still reach the venue, and how long an answer is awaited."""
SETTLE_S = 0.1
WAIT_S = 60.0
POLL_S = 0.005
CALL_S = 6.0


class SteppedWall(SystemClock):
    """The machine's clocks, with a wall clock that can be stepped as NTP does, or held still."""

    def __init__(self) -> None:
        self._offset_ns = 0
        self._held_ns: int | None = None

    def now_ns(self) -> int:
        return self._held_ns if self._held_ns is not None else super().now_ns() + self._offset_ns

    def step(self, seconds: float) -> None:
        """Move the wall clock; may be negative."""
        self._offset_ns += round(seconds * 1e9)

    def hold(self) -> None:
        """The wall clock shows one instant from here on."""
        self._held_ns = self.now_ns()


@dataclass(kw_only=True)
class World:
    """The gateway, its venue, and the ways to use both."""

    core: GatewayCore
    side: VenueSide
    clock: SteppedWall
    stack: AsyncExitStack

    # the venue

    def fault(self, kind: FaultKind, match: str = "*", **more: Any) -> None:
        """Put a rule in force at the venue."""
        self.side.faults.add(Fault(kind=kind, match=match, **more))

    def offer(self, *, bid: str = "", ask: str = "", size: str = "5") -> None:
        """Put house orders into the book."""
        self.side.offer(bid=bid, ask=ask, size=size)

    def end_order(self, key: str) -> None:
        """The venue cancels an order of ours, and tells whoever listens now."""
        self.side.end_order(self.order(key).venue_order_ids[-1])

    def venue_orders_of(self, key: str) -> list[TrueOrder]:
        """The venue's orders that came of one key: more than one only where an amendment made a new one."""
        client_id = self.order(key).venue_client_order_id
        return [row for row in self.side.orders() if row.client_id == client_id]

    def refuse_connections(self) -> None:
        """Cut every connection, and take none until the faults are cleared."""
        self.fault(FaultKind.REFUSE_CONNECTIONS, count=0)
        assert self.side.cut_sockets() >= 1

    async def until_offered(self) -> None:
        """Wait until the gateway knows of an offer that a market order can take."""
        await self.until(lambda: (top := self.core.books.top(SYMBOL)) is not None and top.top.ask is not None)

    async def restart_simulator(self) -> None:
        """The venue's process ends and another begins at the same address, which knows nothing of the past."""
        await restart(self.side, self.stack)

    # the caller

    @staticmethod
    def new_order(key: str, **changes: Any) -> order_pb2.NewOrder:
        """A limit order to buy that rests; None clears a field."""
        fields: dict[str, Any] = {
            "account_id": MAIN,
            "client_order_id": key,
            "symbol": SYMBOL,
            "side": order_pb2.SIDE_BUY,
            "order_type": order_pb2.ORDER_TYPE_LIMIT,
            "quantity": "0.1",
            "price": "3000",
            "time_in_force": order_pb2.TIME_IN_FORCE_GTC,
            **changes,
        }
        return order_pb2.NewOrder(**{name: value for name, value in fields.items() if value is not None})

    async def submit(self, key: str, **changes: Any) -> order_service_pb2.SubmitOrderResponse:
        """Submit an order."""
        return await self.core.desk.submit(self.new_order(key, **changes))

    @staticmethod
    def by_key(key: str) -> order_service_pb2.OrderReference:
        """Names an order by the caller's id."""
        return order_service_pb2.OrderReference(account_id=MAIN, client_order_id=key)

    async def cancel(self, key: str) -> order_service_pb2.CancelOrderResponse:
        """Cancel an order."""
        return await self.core.working.cancel(self.by_key(key))

    async def amend(self, key: str, **changes: Any) -> order_service_pb2.ReplaceOrderResponse:
        """Amend an order."""
        request = order_service_pb2.ReplaceOrderRequest(
            reference=self.by_key(key), request_id=f"amend-{key}", **changes
        )
        return await self.core.working.replace(request)

    async def submit_batch(self, orders: list[order_pb2.NewOrder]) -> order_service_pb2.BatchSubmitOrdersResponse:
        """Submit orders together, as the service does."""
        request = order_service_pb2.BatchSubmitOrdersRequest(orders=orders)
        answer: order_service_pb2.BatchSubmitOrdersResponse = await self._order_service.BatchSubmitOrders(request, None)
        return answer

    async def cancel_batch(self, keys: list[str]) -> order_service_pb2.BatchCancelOrdersResponse:
        """Cancel orders together, as the service does."""
        request = order_service_pb2.BatchCancelOrdersRequest(references=[self.by_key(key) for key in keys])
        answer: order_service_pb2.BatchCancelOrdersResponse = await self._order_service.BatchCancelOrders(request, None)
        return answer

    @property
    def _order_service(self) -> Any:
        services = build_services(self.core, Drain(), Metrics(), configuration=Configuration(ServiceSettings()))
        return next(row.servicer for row in services if row.descriptor.name == "OrderService")

    def order(self, key: str) -> OrderState:
        """An order as the gateway knows it."""
        found = self.core.accounts[MAIN].order_by_key(key)
        assert found is not None
        return found

    @property
    def ready(self) -> bool:
        """Whether new orders are taken."""
        return self.core.desk.gates[MAIN].ready

    async def until(self, condition: Callable[[], object], wait_s: float = WAIT_S) -> None:
        """Wait until something is so.

        Raises:
            TimeoutError: it was not, within `wait_s` seconds.
        """
        async with asyncio.timeout(wait_s):
            while not condition():
                await asyncio.sleep(POLL_S)

    async def settled(self, key: str) -> OrderState:
        """An order once nothing about it is in doubt or on its way."""

        def certain() -> bool:
            order = self.order(key)
            pending = order.pending_cancel or order.pending_replace or order.ending is not None
            unanswered = order.status in (order_pb2.ORDER_STATUS_PENDING_NEW, order_pb2.ORDER_STATUS_UNCERTAIN)
            return order.terminal or not (unanswered or pending)

        await self.until(certain)
        return self.order(key)

    async def rested(self, key: str) -> None:
        """Wait until an order has stood for longer than the venue's settle delay."""
        settle_ns = round(SETTLE_S * 1e9)
        await self.until(lambda: self.clock.now_ns() > self.order(key).updated_ns + settle_ns)

    async def events(self) -> list[event_pb2.Event]:
        """Every stored event of the account, once all is durable."""
        await self.core.log.flush()
        return [event async for event in self.core.history(MAIN).replay()]


@asynccontextmanager
async def world(
    side: VenueSide,
    broker: Broker,
    folder: Path,
    *,
    socket: SocketConfig | None = None,
    reconcile_s: float = 60.0,
    ask_s: float = 0.02,
    **settings: Any,
) -> AsyncIterator[World]:
    """A gateway that has recovered and takes orders.

    Args:
        side: the venue; its simulator is started here.
        reconcile_s: between periodic comparisons with the venue.
        ask_s: between the first two questions about an order in doubt; each costs of the venue's request weight.
        settings: of the adapter.
    """
    clock = SteppedWall()
    values: dict[str, Any] = {
        "order_expiry_s": 20.0,
        "action_timeout_s": 2.5,
        "settle_delay_s": SETTLE_S,
        **settings,
    }
    bus_options = BusOptions(servers=[broker.url], name="faults", timeout_s=10.0, storage="memory")
    async with AsyncExitStack() as stack, Bus.connect(bus_options) as bus:
        side.simulator = await stack.enter_async_context(running_simulator(side.simulator_settings()))
        await bus.ensure_streams(stream_specs(0))
        venue = side.build(folder, clock, socket=socket or quick_socket(), **values)
        core = GatewayCore(
            venue=venue,
            environment=venue_pb2.ENVIRONMENT_SIMULATOR,
            bus=bus,
            clock=clock,
            writer_id=uuid.uuid4().hex,
            settings=_core_settings(reconcile_s, ask_s, values["order_expiry_s"]),
        )
        await core.recover()
        running = asyncio.create_task(core.run(), name="core")
        here = World(core=core, side=side, clock=clock, stack=stack)
        try:
            await here.until(lambda: here.ready or running.done())
            yield here
            assert not running.done(), "the gateway ended"
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running


def _core_settings(reconcile_s: float, ask_s: float, lifetime_s: float) -> CoreSettings:
    return CoreSettings(
        desk=DeskSettings(order_lifetime_s=lifetime_s, default_wait_s=CALL_S),
        resolver=ResolverSettings(first_s=ask_s, last_s=max(ask_s, 0.3)),
        reconciler=ReconcilerSettings(period_s=reconcile_s, retry_first_s=0.02, retry_last_s=0.1),
        instruments=RefreshSettings(retry_s=0.05),
    )


__all__ = ["MAIN", "SYMBOL", "World", "quick_socket", "world"]
