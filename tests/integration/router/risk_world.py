"""Routers before real gateways over fake venues: real gRPC, real JetStream, and risk as it is deployed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import grpc.aio
import pytest

from router.server import Router
from tests.broker import Broker
from tests.fakes_venue import BTC, MAIN, VENUE, FakeVenue
from tests.integration.gateway.served_gateway import Gateway, new_order, serving_gateway
from tests.integration.router.support import running
from venuemesh.errors import MeshError
from venuemesh.status import error_from_rpc
from venuemesh.v1 import market_data_pb2, order_pb2, risk_pb2, stream_pb2
from venuemesh.v1 import order_service_pb2 as wire
from venuemesh.v1 import risk_service_pb2 as risk
from venuemesh.v1.order_service_pb2_grpc import OrderServiceStub
from venuemesh.v1.risk_service_pb2_grpc import RiskServiceStub

LIMIT_S = 60.0
FAST = {"settle_s": 0.05, "kill_retry_s": 0.05, "reconnect_cap_s": 0.1, "mark_review_s": 0.02, "grace_s": 0.2}
MAX_OPEN = risk_pb2.RISK_LIMIT_TYPE_MAX_OPEN_ORDERS
MAX_QUANTITY = risk_pb2.RISK_LIMIT_TYPE_MAX_ORDER_QUANTITY
MAX_POSITION = risk_pb2.RISK_LIMIT_TYPE_MAX_POSITION_QUANTITY


@dataclass
class Front:
    """One router with its stubs."""

    router: Router
    orders: Any
    risk: Any

    @property
    def book(self) -> Any:
        """Its reservations."""
        return self.router.risk.desk.parts.book

    async def submit(self, key: str, **changes: Any) -> wire.SubmitOrderResponse:
        """Submit a limit order of BTC at the first venue."""
        order = new_order(key, **{"venue": VENUE, **changes})
        answer: wire.SubmitOrderResponse = await self.orders.SubmitOrder(
            wire.SubmitOrderRequest(order=order), timeout=10
        )
        return answer

    async def refused(self, key: str, **changes: Any) -> MeshError:
        """The error a submit ends with."""
        return await refusal(self.submit(key, **changes))

    async def limit(self, kind: int, bound: str | None, **more: Any) -> risk_pb2.RiskLimit:
        """Set a limit."""
        scope = more.pop("scope", {})
        request = risk.UpdateLimitRequest(
            scope=risk_pb2.RiskScope(**scope), limit_type=kind, limit=bound, operator="ann", reason="test", **more
        )
        answer = await self.risk.UpdateLimit(request, timeout=10)
        return answer.limit  # type: ignore[no-any-return]

    async def kill(self, timeout: float = 10, **scope: str) -> risk_pb2.KillSwitchState:
        """Engage the kill switch."""
        request = risk.EngageKillSwitchRequest(scope=risk_pb2.RiskScope(**scope), operator="ann", reason="too much")
        answer = await self.risk.EngageKillSwitch(request, timeout=timeout)
        return answer.kill_switch  # type: ignore[no-any-return]

    async def release(self, **scope: str) -> risk_pb2.KillSwitchState:
        """Release it."""
        request = risk.ReleaseKillSwitchRequest(scope=risk_pb2.RiskScope(**scope), operator="ann", reason="done")
        return (await self.risk.ReleaseKillSwitch(request, timeout=10)).kill_switch  # type: ignore[no-any-return]

    async def set_state(self, state: risk_pb2.TradingState.ValueType, **scope: str) -> None:
        """Set a trading state."""
        request = risk.SetTradingStateRequest(
            scope=risk_pb2.RiskScope(**scope), state=state, operator="ann", reason="test"
        )
        await self.risk.SetTradingState(request, timeout=10)

    async def state(self) -> risk_pb2.RiskState:
        """GetRiskState."""
        return (await self.risk.GetRiskState(risk.GetRiskStateRequest(), timeout=10)).risk_state  # type: ignore[no-any-return]


async def refusal(call: Any) -> MeshError:
    """The error a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return error_from_rpc(caught.value, is_write=True)


async def until(condition: Callable[[], object]) -> None:
    """Wait until `condition` holds; looked at whenever the loop has done something."""
    async with asyncio.timeout(LIMIT_S):
        while not condition():
            await asyncio.sleep(0)


def fake_venue(name: str = VENUE, **options: Any) -> FakeVenue:
    """A venue by another name; BTC has a mark of 100."""
    venue = FakeVenue(**options)
    venue.name = name
    venue.statistics[BTC] = market_data_pb2.MarketStatistics(
        venue=name, symbol=BTC, mark_price="100", freshness=stream_pb2.FRESHNESS_FRESH
    )
    for row in venue.instruments:
        row.venue = name
    return venue


@asynccontextmanager
async def fronted(broker: Broker, gateways: dict[str, Any], **more: Any) -> AsyncIterator[Front]:
    """A router over gateways that run, its view of their accounts rebuilt."""
    rows: list[Any] = [
        SimpleNamespace(
            venue=name,
            address=gateway if isinstance(gateway, str) else gateway.server.address,
            _server=None if isinstance(gateway, str) else gateway.server,
        )
        for name, gateway in gateways.items()
    ]
    async with running(broker.url, *rows, risk={**FAST, **more}) as (router, channel):
        up = {row.venue for row in rows if row._server is not None}
        ledger, log = router.risk.desk.parts.ledger, router.risk.desk.parts.log
        events = router.risk.events
        await until(lambda: {venue for venue, _ in ledger.rebuilt} >= up and log.caught_up and events.topic is not None)
        yield Front(router, OrderServiceStub(channel), RiskServiceStub(channel))


@asynccontextmanager
async def served(broker: Broker, *venues: FakeVenue) -> AsyncIterator[dict[str, Gateway]]:
    """Gateways of these venues, healthy."""
    async with AsyncExitStack() as stack:
        found: dict[str, Gateway] = {}
        for venue in venues or (fake_venue(),):
            gateway = await stack.enter_async_context(serving_gateway(broker, venue=venue))
            await gateway.server.health.set(f"venue/{venue.name}", True)
            found[venue.name] = gateway
        yield found


def open_at(venue: FakeVenue) -> list[str]:
    """Ids of the orders open at a venue, by the venue's own word."""
    return [order.venue_order_id for order in venue._snapshot(MAIN, 0).open_orders]


__all__ = [
    "BTC", "FAST", "MAIN", "MAX_OPEN", "MAX_POSITION", "MAX_QUANTITY", "VENUE",
    "Front", "fake_venue", "fronted", "new_order", "open_at", "order_pb2", "refusal", "served", "until",
]  # fmt: skip
