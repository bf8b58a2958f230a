"""Trigger orders through the whole gateway, against the simulator."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from simulator.engine.values import Side
from simulator.faults import Fault, FaultKind
from tests.broker import Broker
from tests.integration.hypercore.adapter.gateway import BUY, SELL, Whole, exit_order, order, whole
from tests.integration.hypercore.adapter.world import ADDRESS
from venuemesh.v1 import error_pb2
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as wire

STOP, TAKE_PROFIT = pb.ORDER_TYPE_STOP_MARKET, pb.ORDER_TYPE_TAKE_PROFIT_MARKET
STOP_LIMIT, TAKE_PROFIT_LIMIT = pb.ORDER_TYPE_STOP_LIMIT, pb.ORDER_TYPE_TAKE_PROFIT_LIMIT
ACKNOWLEDGED = wire.SUBMIT_OUTCOME_ACKNOWLEDGED


async def send(found: Whole, request: pb.NewOrder) -> wire.SubmitOrderResponse:
    """Submit a prepared order."""
    response: wire.SubmitOrderResponse = await found.gateway.orders.SubmitOrder(
        wire.SubmitOrderRequest(order=request), timeout=10
    )
    return response


@pytest.mark.parametrize(
    ("kind", "trigger"), [(STOP, "3800"), (STOP_LIMIT, "3800"), (TAKE_PROFIT, "4000"), (TAKE_PROFIT_LIMIT, "4000")]
)
async def test_trigger_order_waits_fires_and_closes_the_position(
    broker: Broker, tmp_path: Path, kind: Any, trigger: str
) -> None:
    """NEW and WAITING, TRIGGERED by the mark, FILLED by its fill; the reports tell each step once."""
    async with whole(broker, tmp_path) as found:
        await found.hold_position()
        found.simulator.house_order("ETH", Side.BUY, trigger, "5")
        answer = await send(found, exit_order("exit", kind, trigger, quantity="1"))
        assert (answer.outcome, answer.order.trigger_state) == (ACKNOWLEDGED, pb.TRIGGER_STATE_WAITING)
        found.simulator.set_price("ETH", trigger)
        state = await found.ended("exit")
        assert (state.status, state.filled) == (pb.ORDER_STATUS_FILLED, Decimal(1))
        assert state.trigger_state == pb.TRIGGER_STATE_TRIGGERED
        reports = [event.execution_report for event in await found.gateway.journal() if event.execution_report.order]
        kinds = [one.execution_type for one in reports if one.order.terms.client_order_id == "exit"]
        assert kinds.count(pb.EXECUTION_TYPE_TRIGGERED) == kinds.count(pb.EXECUTION_TYPE_TRADE) == 1
        assert kinds.index(pb.EXECUTION_TYPE_TRIGGERED) < kinds.index(pb.EXECUTION_TYPE_TRADE)
        assert found.account.illegal_transitions == 0


async def test_triggered_market_order_without_liquidity_ends_canceled_with_the_venues_reason(
    broker: Broker, tmp_path: Path
) -> None:
    """It had been live for a day, say: terminal, explained, and no contradiction."""
    async with whole(broker, tmp_path) as found:
        await found.hold_position()
        await send(found, exit_order("exit", STOP, "3800", quantity="1"))
        found.simulator.set_price("ETH", "3800")
        state = await found.ended("exit")
        assert state.status == pb.ORDER_STATUS_CANCELED
        assert state.reject is not None
        assert state.reject.reason == error_pb2.REASON_NO_LIQUIDITY
        assert state.reject.venue_text == "marketOrderNoLiquidityRejected"
        assert found.account.illegal_transitions == 0


async def test_trigger_that_holds_already_is_refused_as_an_invalid_trigger_price(
    broker: Broker, tmp_path: Path
) -> None:
    """Only the venue knows its mark; its words arrive."""
    async with whole(broker, tmp_path) as found:
        await found.hold_position()
        answer = await send(found, exit_order("exit", STOP, "3950", quantity="1"))
        assert answer.outcome == wire.SUBMIT_OUTCOME_REJECTED
        assert answer.reject.reason == error_pb2.REASON_INVALID_TRIGGER_PRICE
        assert answer.reject.venue_text.startswith("Invalid TP/SL price.")


async def test_trigger_price_is_amended_under_a_new_venue_id(broker: Broker, tmp_path: Path) -> None:
    """The order is the caller's all the time; the old trigger is gone at the venue."""
    async with whole(broker, tmp_path) as found:
        await found.hold_position()
        await send(found, exit_order("exit", STOP, "3700", quantity="1"))
        answer = await found.replace("exit", trigger_price="3800")
        assert answer.outcome == ACKNOWLEDGED
        assert (answer.order.terms.trigger.price, answer.order.terms.HasField("price")) == ("3800", False)
        assert len(answer.order.venue_order_ids) == 2
        found.simulator.house_order("ETH", Side.BUY, "3800", "5")
        found.simulator.set_price("ETH", "3800")
        assert (await found.ended("exit")).status == pb.ORDER_STATUS_FILLED


async def test_lost_amendment_of_a_trigger_is_settled_by_what_the_venue_shows(broker: Broker, tmp_path: Path) -> None:
    """It took effect and its answer was cut off."""
    async with whole(broker, tmp_path, action_timeout_s=0.3) as found:
        await found.hold_position()
        await send(found, exit_order("exit", STOP, "3700", quantity="1"))
        found.simulator.faults.add(Fault(kind=FaultKind.DELAY_REPLY, match="batchModify", delay_s=0.6))
        answer = await found.replace("exit", trigger_price="3800")
        assert answer.outcome in (wire.SUBMIT_OUTCOME_UNKNOWN, wire.SUBMIT_OUTCOME_PENDING)
        await found.until(lambda: not found.state("exit").pending_replace)
        state = found.state("exit")
        assert (state.trigger_price, state.price, state.working) == (Decimal(3800), None, True)


async def test_lost_answer_to_a_trigger_is_settled_by_its_client_id(broker: Broker, tmp_path: Path) -> None:
    """One order at the venue, live, waiting."""
    async with whole(broker, tmp_path) as found:
        await found.hold_position()
        found.simulator.faults.add(Fault(kind=FaultKind.DROP_REPLY, match="order"))
        answer = await send(found, exit_order("exit", STOP, "3700", quantity="1"))
        assert answer.outcome in (wire.SUBMIT_OUTCOME_UNKNOWN, ACKNOWLEDGED)
        await found.until(lambda: found.state("exit").working)
        assert found.state("exit").trigger_state == pb.TRIGGER_STATE_WAITING
        assert found.venue_words().count("open") == 1


async def test_reduce_only_order_larger_than_the_position_is_filled_with_what_there_was(
    broker: Broker, tmp_path: Path
) -> None:
    """The venue shrinks it and calls it filled without saying how much: known once its fills are."""
    async with whole(broker, tmp_path) as found:
        await found.hold_position()
        await found.submit(
            "exit", side=SELL, quantity="5", price="4000", instructions=[pb.EXECUTION_INSTRUCTION_REDUCE_ONLY]
        )
        found.simulator.house_order("ETH", Side.BUY, "4000", "5")
        state = await found.ended("exit")
        assert (state.status, state.filled, state.quantity) == (pb.ORDER_STATUS_FILLED, Decimal(1), Decimal(1))


async def test_cancel_of_a_waiting_trigger(broker: Broker, tmp_path: Path) -> None:
    """Like any other order."""
    async with whole(broker, tmp_path) as found:
        await found.hold_position()
        await send(found, exit_order("exit", TAKE_PROFIT, "4200", quantity="1"))
        assert (await found.cancel("exit")).outcome == wire.CANCEL_OUTCOME_CANCELED
        assert found.state("exit").status == pb.ORDER_STATUS_CANCELED


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        ({"time_in_force": pb.TIME_IN_FORCE_FOK}, error_pb2.REASON_UNSUPPORTED_TIME_IN_FORCE),
        ({"time_in_force": pb.TIME_IN_FORCE_GTD}, error_pb2.REASON_UNSUPPORTED_TIME_IN_FORCE),
    ],
)
async def test_what_the_venue_does_not_have_is_refused_by_name(
    broker: Broker, tmp_path: Path, terms: dict[str, Any], reason: int
) -> None:
    """Never turned into something else; the preview says it without sending."""
    async with whole(broker, tmp_path) as found:
        wanted = order("k", **terms)
        if wanted.time_in_force == pb.TIME_IN_FORCE_GTD:
            wanted.expire_time.seconds = 2_000_000_000
        preview = await found.gateway.orders.PreviewOrder(wire.PreviewOrderRequest(order=wanted), timeout=10)
        assert [row.reason for row in preview.rejects] == [reason]
        assert found.simulator.orders(ADDRESS) == []
        assert wanted.side == BUY
