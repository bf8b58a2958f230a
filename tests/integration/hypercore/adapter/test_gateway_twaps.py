"""Native TWAPs through the whole gateway, against the simulator's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import grpc
import pytest

from simulator.clock import SteppedClock
from simulator.engine.values import Side
from simulator.faults import Fault, FaultKind
from tests.broker import Broker
from tests.integration.hypercore.adapter.gateway import SELL, Whole, twap, whole
from tests.integration.hypercore.adapter.world import sim_settings
from venuemesh.clock import SystemClock
from venuemesh.v1 import error_pb2
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as wire

ACKNOWLEDGED, REJECTED = wire.SUBMIT_OUTCOME_ACKNOWLEDGED, wire.SUBMIT_OUTCOME_REJECTED
SLICE_MS = 30_000


@asynccontextmanager
async def stepped(broker: Broker, folder: Path, **changes: Any) -> AsyncIterator[Whole]:
    """A venue whose time passes only when told, with something to buy."""
    clock = SteppedClock(SystemClock().now_ns())
    settings = sim_settings(clock="manual")
    async with whole(broker, folder, simulator_settings=settings, simulator_clock=clock, **changes) as found:
        # The venue's clock stood still while the gateway started; nothing that happens may lie before that.
        found.simulator.advance(2_000)
        found.simulator.house_order("ETH", Side.SELL, "3900", "50")
        yield found


async def send(found: Whole, request: pb.NewOrder) -> wire.SubmitOrderResponse:
    """Submit a prepared order."""
    response: wire.SubmitOrderResponse = await found.gateway.orders.SubmitOrder(
        wire.SubmitOrderRequest(order=request), timeout=10
    )
    return response


def run_out(found: Whole, slices: int = 10) -> None:
    """Let the venue place slices."""
    for _ in range(slices):
        found.simulator.advance(SLICE_MS)


async def test_twap_fills_slice_by_slice_and_ends_filled(broker: Broker, tmp_path: Path) -> None:
    """One order of ours: its slices' fills are its own, and the average price is theirs."""
    async with stepped(broker, tmp_path) as found:
        answer = await send(found, twap("twap"))
        assert answer.outcome == ACKNOWLEDGED
        assert answer.order.venue_order_ids[0].startswith("twap:")
        await found.until(lambda: found.state("twap").filled == Decimal("0.1"))
        assert found.state("twap").status == pb.ORDER_STATUS_PARTIALLY_FILLED
        run_out(found)
        state = await found.ended("twap")
        assert (state.status, state.filled, state.average_price) == (
            pb.ORDER_STATUS_FILLED,
            Decimal("1.1"),
            Decimal(3900),
        )
        assert len(state.execution_ids) == 11
        assert found.account.positions["ETH/USDC:USDC"].quantity == Decimal("1.1")
        assert found.account.illegal_transitions == 0


async def test_twap_is_cancelled_with_what_it_filled(broker: Broker, tmp_path: Path) -> None:
    """By the caller's id; a second cancel finds it ended."""
    async with stepped(broker, tmp_path) as found:
        await send(found, twap("twap"))
        run_out(found, 2)
        answer = await found.cancel("twap")
        assert answer.outcome == wire.CANCEL_OUTCOME_CANCELED
        state = await found.ended("twap")
        assert (state.status, state.filled) == (pb.ORDER_STATUS_CANCELED, Decimal("0.3"))
        assert (await found.cancel("twap")).outcome == wire.CANCEL_OUTCOME_ALREADY_TERMINAL


async def test_cancel_all_takes_twaps_and_orders(broker: Broker, tmp_path: Path) -> None:
    """Two kinds of cancel, one answer each."""
    async with stepped(broker, tmp_path) as found:
        await send(found, twap("twap"))
        await found.submit("resting")
        request = wire.CancelAllOrdersRequest(account_id="main")
        answer = await found.gateway.orders.CancelAllOrders(request, timeout=10)
        assert {row.outcome for row in answer.results} == {wire.CANCEL_OUTCOME_CANCELED}
        assert len(answer.results) == 2


async def test_twap_whose_time_is_up_before_its_size_has_expired(broker: Broker, tmp_path: Path) -> None:
    """Nobody to trade with: the venue calls it finished, with what there was."""
    async with stepped(broker, tmp_path) as found:
        await send(found, twap("twap"))
        await found.until(lambda: found.state("twap").filled == Decimal("0.1"))
        found.simulator.cancel_house_orders()
        run_out(found)
        state = await found.ended("twap")
        assert (state.status, state.filled) == (pb.ORDER_STATUS_EXPIRED, Decimal("0.1"))


async def test_refusals_of_a_twap_arrive_with_their_reasons(broker: Broker, tmp_path: Path) -> None:
    """Too small by the venue, too short by the record."""
    async with stepped(broker, tmp_path) as found:
        small = await send(found, twap("small", quantity="0.01"))
        assert small.outcome == REJECTED
        assert small.reject.reason == error_pb2.REASON_BELOW_MIN_NOTIONAL
        assert small.reject.venue_text.startswith("TWAP order value too small.")
        reduce_only = [pb.EXECUTION_INSTRUCTION_REDUCE_ONLY]
        wrong = await send(found, twap("wrong", side=SELL, instructions=reduce_only))
        assert wrong.reject.reason == error_pb2.REASON_REDUCE_ONLY_WOULD_INCREASE
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await send(found, twap("short", minutes=4))
        assert (caught.value.details() or "").startswith("order.twap.duration")


async def test_lost_answer_to_a_twap_is_settled_by_its_terms_and_time(broker: Broker, tmp_path: Path) -> None:
    """It has no client id: the one that fits, started when ours was sent, is ours."""
    async with stepped(broker, tmp_path) as found:
        found.simulator.faults.add(Fault(kind=FaultKind.DROP_REPLY, match="twapOrder"))
        answer = await send(found, twap("twap"))
        assert answer.outcome in (wire.SUBMIT_OUTCOME_UNKNOWN, ACKNOWLEDGED)
        await found.until(lambda: found.state("twap").working)
        await found.until(lambda: found.state("twap").filled == Decimal("0.1"))
        run_out(found)
        assert (await found.ended("twap")).status == pb.ORDER_STATUS_FILLED


async def test_twap_that_never_arrived_is_proved_absent(broker: Broker, tmp_path: Path) -> None:
    """Once it can no longer arrive and the venue has none like it."""
    async with stepped(broker, tmp_path, order_expiry_s=0.5) as found:
        found.simulator.faults.add(Fault(kind=FaultKind.RESET_BEFORE, match="twapOrder"))
        answer = await send(found, twap("twap"))
        assert answer.outcome in (wire.SUBMIT_OUTCOME_UNKNOWN, REJECTED)
        state = await found.ended("twap")
        assert state.status == pb.ORDER_STATUS_REJECTED
        assert state.reject is not None
        assert state.reject.reason == error_pb2.REASON_NEVER_REACHED_VENUE


async def test_two_equal_twaps_without_answers_stay_uncertain(broker: Broker, tmp_path: Path) -> None:
    """Nobody can tell which is which: said to a person, never guessed; and neither is sent again."""
    async with stepped(broker, tmp_path, action_timeout_s=0.3) as found:
        found.simulator.faults.add(Fault(kind=FaultKind.DELAY_REPLY, match="twapOrder", count=2, delay_s=0.8))
        await asyncio.gather(*(send(found, twap(key)) for key in ("one", "two")))
        await found.until(lambda: any("have these terms" in finding for finding in _findings(found)))
        uncertain = {row.order.terms.client_order_id for row in found.gateway.core.resolver.uncertain_orders()}
        assert uncertain == {"one", "two"}


def _findings(found: Whole) -> list[str]:
    rows = found.gateway.core.resolver.uncertain_orders()
    return [evidence.finding for row in rows for evidence in row.evidence]


async def test_twap_goes_on_over_a_reconnect(broker: Broker, tmp_path: Path) -> None:
    """Slices that filled while the socket was away are fetched; its end is read from the venue's history."""
    async with stepped(broker, tmp_path) as found:
        await send(found, twap("twap"))
        found.simulator.faults.add(Fault(kind=FaultKind.REFUSE_CONNECTIONS, count=0))
        found.simulator.cut_sockets()
        run_out(found)
        found.simulator.faults.clear()
        state = await found.ended("twap")
        assert (state.status, state.filled) == (pb.ORDER_STATUS_FILLED, Decimal("1.1"))
