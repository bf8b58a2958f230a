"""Limits, collar, margin and kill switch with a venue that keeps margin and matches orders: the simulator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from simulator.engine.values import Side
from tests.broker import Broker
from tests.integration.hypercore.adapter.gateway import order, whole
from tests.integration.hypercore.adapter.world import ADDRESS
from tests.integration.router.risk_world import Front, fronted, refusal, until
from venuemesh.errors import Reason
from venuemesh.v1 import order_pb2, risk_pb2
from venuemesh.v1 import order_service_pb2 as wire

VENUE = "hyperliquid"
IOC = order_pb2.TIME_IN_FORCE_IOC
WORKING = "open"


async def send(front: Front, key: str, **changes: Any) -> wire.SubmitOrderResponse:
    """Submit an order of ETH through the router."""
    request = wire.SubmitOrderRequest(order=order(key, venue=VENUE, **changes))
    answer: wire.SubmitOrderResponse = await front.orders.SubmitOrder(request, timeout=10)
    return answer


async def test_position_made_by_real_fills_counts_and_closing_it_is_always_possible(
    broker: Broker, tmp_path: Path
) -> None:
    """Bought from the house, then at the limit, then sold again."""
    async with whole(broker, tmp_path) as mesh:
        await mesh.gateway.server.health.set(f"venue/{VENUE}", True)
        async with fronted(broker, {VENUE: mesh.gateway}) as front:
            await front.limit(risk_pb2.RISK_LIMIT_TYPE_MAX_POSITION_QUANTITY, "1")
            mesh.simulator.house_order("ETH", Side.SELL, "3900", "1")
            answer = await send(front, "open", quantity="1", price="3900", time_in_force=IOC)
            assert answer.outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
            place = (VENUE, "main", "ETH/USDC:USDC")
            ledger = front.router.risk.desk.parts.ledger
            await until(lambda: ledger.position(place) == 1 and not len(front.book))
            error = await refusal(send(front, "more"))
            assert (error.reason, error.metadata["used"]) == (Reason.RISK_LIMIT_REACHED, "1")
            mesh.simulator.house_order("ETH", Side.BUY, "3890", "1")
            sold = await send(front, "close", quantity="1", price="3890", side=order_pb2.SIDE_SELL, time_in_force=IOC)
            assert sold.outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
            await until(lambda: ledger.position(place) == 0)


async def test_capital_and_collar_use_the_venues_margin_and_mark(broker: Broker, tmp_path: Path) -> None:
    """Far more than the account can carry is INSUFFICIENT_MARGIN before anything is sent."""
    async with whole(broker, tmp_path) as mesh:
        await mesh.gateway.server.health.set(f"venue/{VENUE}", True)
        async with fronted(broker, {VENUE: mesh.gateway}) as front:
            await front.limit(risk_pb2.RISK_LIMIT_TYPE_MIN_FREE_MARGIN, "0")
            error = await refusal(send(front, "huge", quantity="100000"))
            assert error.reason is Reason.INSUFFICIENT_MARGIN
            assert (await send(front, "small")).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
            await front.limit(risk_pb2.RISK_LIMIT_TYPE_PRICE_COLLAR_BPS, "100")
            far = await refusal(send(front, "far", price="2000"))
            assert far.metadata["limit_type"] == "PRICE_COLLAR_BPS"
            assert len(mesh.simulator.orders(ADDRESS)) == 1


async def test_kill_switch_leaves_nothing_open_at_the_simulated_venue(broker: Broker, tmp_path: Path) -> None:
    """By the venue's own list."""
    async with whole(broker, tmp_path) as mesh:
        await mesh.gateway.server.health.set(f"venue/{VENUE}", True)
        async with fronted(broker, {VENUE: mesh.gateway}) as front:
            for number in range(3):
                await send(front, f"k{number}", price=str(3000 + number))
            assert mesh.venue_words() == [WORKING] * 3
            kill = await front.kill()
            assert [(row.verified, row.canceled_orders, row.remaining_orders) for row in kill.venues] == [(True, 3, 0)]
            assert mesh.venue_words() == ["canceled"] * 3
            assert (await refusal(send(front, "next"))).reason is Reason.KILL_SWITCH_ACTIVE
