"""A whole gateway - gRPC, JetStream, frame and adapter - over a simulator in the same event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.duration_pb2 import Duration

from hypercore.adapter.venue import HyperCoreVenue
from simulator.engine.values import Side
from simulator.server import Simulator
from simulator.settings import SimulatorSettings
from simulator.testing import running_simulator
from tests.broker import Broker
from tests.integration.gateway.served_gateway import Gateway, serving_gateway
from tests.integration.hypercore.adapter.world import ADDRESS, SYMBOL, fast_streams, gateway_settings, sim_settings
from venuemesh.clock import Clock, SystemClock
from venuemesh.gateway.account import Account
from venuemesh.gateway.orders import OrderState
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as wire

LIMIT_S = 60.0
BUY, SELL = pb.SIDE_BUY, pb.SIDE_SELL
REDUCE_ONLY = pb.EXECUTION_INSTRUCTION_REDUCE_ONLY


@dataclass
class Whole:
    """The running gateway and what it trades on."""

    gateway: Gateway
    simulator: Simulator

    @property
    def account(self) -> Account:
        """The gateway's account `main`."""
        return self.gateway.core.accounts["main"]

    async def submit(self, key: str, **terms: Any) -> wire.SubmitOrderResponse:
        """Submit an order of ETH over gRPC."""
        request = wire.SubmitOrderRequest(order=order(key, **terms))
        response: wire.SubmitOrderResponse = await self.gateway.orders.SubmitOrder(request, timeout=10)
        return response

    async def batch(self, *orders: pb.NewOrder) -> wire.BatchSubmitOrdersResponse:
        """Submit several."""
        request = wire.BatchSubmitOrdersRequest(orders=orders)
        response: wire.BatchSubmitOrdersResponse = await self.gateway.orders.BatchSubmitOrders(request, timeout=10)
        return response

    async def group(self, kind: wire.ContingencyType.ValueType, *orders: pb.NewOrder) -> wire.SubmitOrderListResponse:
        """Submit a list."""
        request = wire.SubmitOrderListRequest(contingency_type=kind, orders=orders)
        response: wire.SubmitOrderListResponse = await self.gateway.orders.SubmitOrderList(request, timeout=10)
        return response

    async def cancel(self, key: str) -> wire.CancelOrderResponse:
        """Cancel by the caller's id."""
        request = wire.CancelOrderRequest(reference=reference(key))
        response: wire.CancelOrderResponse = await self.gateway.orders.CancelOrder(request, timeout=10)
        return response

    async def replace(self, key: str, request_id: str = "r-1", **change: Any) -> wire.ReplaceOrderResponse:
        """Amend by the caller's id."""
        request = wire.ReplaceOrderRequest(reference=reference(key), request_id=request_id, **change)
        response: wire.ReplaceOrderResponse = await self.gateway.orders.ReplaceOrder(request, timeout=10)
        return response

    def state(self, key: str) -> OrderState:
        """The order as the gateway holds it."""
        found = self.account.order_by_key(key)
        assert found is not None
        return found

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until `condition` holds; looked at whenever the loop has done something."""
        async with asyncio.timeout(LIMIT_S):
            while not condition():
                await asyncio.sleep(0)

    async def ended(self, key: str) -> OrderState:
        """The order once it is terminal."""
        await self.until(lambda: self.state(key).terminal)
        return self.state(key)

    async def hold_position(self, quantity: str = "1", price: str = "3900") -> None:
        """Buy from the house, so that there is something to protect."""
        key = f"open-{quantity}".replace(".", "-")
        self.simulator.house_order("ETH", Side.SELL, price, quantity)
        answer = await self.submit(key, quantity=quantity, price=price, time_in_force=pb.TIME_IN_FORCE_IOC)
        assert answer.outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED, answer
        assert (await self.ended(key)).status == pb.ORDER_STATUS_FILLED

    def venue_words(self) -> list[str]:
        """Status words of the account's orders at the venue, oldest first."""
        return [str(row["status"]) for row in self.simulator.orders(ADDRESS)]


def reference(key: str) -> wire.OrderReference:
    """An order by the caller's id."""
    return wire.OrderReference(account_id="main", client_order_id=key)


def order(key: str, **changes: Any) -> pb.NewOrder:
    """A limit order of ETH that rests below the market; None clears a field."""
    fields: dict[str, Any] = {
        "account_id": "main",
        "client_order_id": key,
        "symbol": SYMBOL,
        "side": BUY,
        "order_type": pb.ORDER_TYPE_LIMIT,
        "quantity": "0.1",
        "price": "3000",
        "time_in_force": pb.TIME_IN_FORCE_GTC,
        **changes,
    }
    return pb.NewOrder(**{name: value for name, value in fields.items() if value is not None})


def exit_order(key: str, kind: pb.OrderType.ValueType, trigger: str, **changes: Any) -> pb.NewOrder:
    """A sell that waits for its price."""
    limit = kind in (pb.ORDER_TYPE_STOP_LIMIT, pb.ORDER_TYPE_TAKE_PROFIT_LIMIT)
    terms: dict[str, Any] = {
        "order_type": kind,
        "side": SELL,
        "price": trigger if limit else None,
        "time_in_force": pb.TIME_IN_FORCE_GTC if limit else None,
        "trigger": pb.Trigger(price=trigger),
        "instructions": [REDUCE_ONLY],
    }
    return order(key, **(terms | changes))


def twap(key: str, *, minutes: int = 5, quantity: str = "1.1", **changes: Any) -> pb.NewOrder:
    """A TWAP of ETH."""
    terms: dict[str, Any] = {
        "order_type": pb.ORDER_TYPE_TWAP,
        "price": None,
        "time_in_force": None,
        "quantity": quantity,
        "twap": pb.TwapSchedule(duration=Duration(seconds=minutes * 60)),
    }
    return order(key, **(terms | changes))


@asynccontextmanager
async def whole(
    broker: Broker,
    folder: Path,
    *,
    simulator_settings: SimulatorSettings | None = None,
    simulator_clock: Clock | None = None,
    **changes: Any,
) -> AsyncIterator[Whole]:
    """Run everything while the block runs; the account takes orders when it begins."""
    values = {"settle_delay_s": 0.2} | changes
    async with running_simulator(simulator_settings or sim_settings(), clock=simulator_clock) as simulator:
        settings = gateway_settings(simulator, folder, **values)
        venue: Any = HyperCoreVenue(settings, SystemClock(), stream_config=fast_streams())
        async with serving_gateway(broker, venue=venue) as gateway:
            yield Whole(gateway, simulator)
