"""Batches and order lists through the whole gateway, against the simulator."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import grpc
import pytest

from simulator.engine.values import Side
from simulator.faults import Fault, FaultKind
from tests.broker import Broker
from tests.integration.hypercore.adapter.gateway import SELL, Whole, exit_order, order, reference, twap, whole
from tests.integration.hypercore.adapter.world import ADDRESS
from venuemesh.v1 import error_pb2
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as wire

BRACKET, POSITION = wire.CONTINGENCY_TYPE_BRACKET, wire.CONTINGENCY_TYPE_POSITION
STOP, TAKE_PROFIT = pb.ORDER_TYPE_STOP_MARKET, pb.ORDER_TYPE_TAKE_PROFIT_MARKET
ACKNOWLEDGED, REJECTED = wire.SUBMIT_OUTCOME_ACKNOWLEDGED, wire.SUBMIT_OUTCOME_REJECTED
UNKNOWN = wire.SUBMIT_OUTCOME_UNKNOWN
FOR_PARENT, WAITING = pb.TRIGGER_STATE_WAITING_FOR_PARENT, pb.TRIGGER_STATE_WAITING


def writes(found: Whole) -> list[tuple[str, int]]:
    """Orders at the venue by status word, with how many."""
    words = found.venue_words()
    return sorted((word, words.count(word)) for word in set(words))


# batches


async def test_batch_with_bad_elements_places_the_rest_and_tells_each(broker: Broker, tmp_path: Path) -> None:
    """Refused here, refused by the venue, accepted: every element as it would have been alone."""
    async with whole(broker, tmp_path) as found:
        found.simulator.house_order("ETH", Side.SELL, "3900", "1")
        response = await found.batch(
            order("a"),
            order("b", quantity="0"),
            order("c", price="3950", instructions=[pb.EXECUTION_INSTRUCTION_POST_ONLY]),
            order("d", price="3000.123"),
            order("e", side=SELL, instructions=[pb.EXECUTION_INSTRUCTION_REDUCE_ONLY], price="4100"),
            order("f", price="3001"),
        )
        rows = response.results
        outcomes = [row.response.outcome if row.HasField("response") else -row.error.code for row in rows]
        assert outcomes == [ACKNOWLEDGED, -3, REJECTED, -3, REJECTED, ACKNOWLEDGED]
        assert rows[2].response.reject.reason == error_pb2.REASON_POST_ONLY_WOULD_CROSS
        assert rows[4].response.reject.reason == error_pb2.REASON_REDUCE_ONLY_WOULD_INCREASE
        assert rows[4].response.reject.venue_text.startswith("Reduce only order would increase position.")
        assert writes(found) == [("badAloPxRejected", 1), ("open", 2), ("reduceOnlyRejected", 1)]


async def test_largest_batch_is_placed_and_cancelled_in_one_request_each(broker: Broker, tmp_path: Path) -> None:
    """Two hundred orders: the venue's own bound; cancel-all takes them all."""
    async with whole(broker, tmp_path) as found:
        response = await found.batch(*(order(f"k{n}", price=str(2_000 + n), quantity="0.01") for n in range(200)))
        assert {row.response.outcome for row in response.results} == {ACKNOWLEDGED}
        request = wire.CancelAllOrdersRequest(account_id="main")
        answer = await found.gateway.orders.CancelAllOrders(request, timeout=10)
        assert {row.outcome for row in answer.results} == {wire.CANCEL_OUTCOME_CANCELED}
        assert len(answer.results) == 200
        assert writes(found) == [("canceled", 200)]


async def test_lost_answer_to_a_batch_is_unknown_for_each_and_settled_for_each(broker: Broker, tmp_path: Path) -> None:
    """None is sent again; every one is found."""
    async with whole(broker, tmp_path, action_timeout_s=0.3) as found:
        found.simulator.faults.add(Fault(kind=FaultKind.DELAY_REPLY, match="order", delay_s=0.8))
        found.simulator.faults.add(Fault(kind=FaultKind.DROP_FRAME, match="orderUpdates", count=0))
        response = await found.batch(*(order(f"k{n}") for n in range(4)))
        assert {row.response.outcome for row in response.results} <= {UNKNOWN, ACKNOWLEDGED}
        await found.until(lambda: all(found.state(f"k{n}").working for n in range(4)))
        assert writes(found) == [("open", 4)]


async def test_batch_refused_before_it_took_effect_is_rejected_for_each(broker: Broker, tmp_path: Path) -> None:
    """A refusal of the whole action proves that none of it is live."""
    async with whole(broker, tmp_path) as found:
        found.simulator.faults.add(Fault(kind=FaultKind.REFUSE, match="order", text="Action already expired"))
        response = await found.batch(order("a"), order("b"))
        assert [row.response.outcome for row in response.results] == [REJECTED] * 2
        reasons = {row.response.reject.reason for row in response.results}
        assert reasons == {error_pb2.REASON_EXPIRED_BEFORE_PROCESSING}
        assert found.simulator.orders(ADDRESS) == []


async def test_batch_of_cancels_answers_each(broker: Broker, tmp_path: Path) -> None:
    """Live, filled meanwhile, unknown."""
    async with whole(broker, tmp_path) as found:
        await found.batch(order("a"), order("b", price="3100"), order("c"))
        found.simulator.house_order("ETH", Side.SELL, "3100", "1")
        await found.ended("b")
        request = wire.BatchCancelOrdersRequest(references=[reference(key) for key in ("a", "b", "nobody", "c", "a")])
        rows = (await found.gateway.orders.BatchCancelOrders(request, timeout=10)).results
        assert [row.response.outcome for row in (rows[0], rows[1], rows[3])] == [
            wire.CANCEL_OUTCOME_CANCELED,
            wire.CANCEL_OUTCOME_ALREADY_TERMINAL,
            wire.CANCEL_OUTCOME_CANCELED,
        ]
        assert rows[2].error.error.reason == error_pb2.REASON_ORDER_NOT_FOUND
        assert rows[4].response.outcome == wire.CANCEL_OUTCOME_CANCELED


async def test_lost_answer_to_a_batch_of_cancels_is_sent_again(broker: Broker, tmp_path: Path) -> None:
    """A cancel may be repeated; all are gone in the end."""
    async with whole(broker, tmp_path, action_timeout_s=0.3) as found:
        await found.batch(order("a"), order("b"))
        found.simulator.faults.add(Fault(kind=FaultKind.DELAY_REPLY, match="cancel", delay_s=0.8))
        request = wire.CancelAllOrdersRequest(account_id="main")
        answer = await found.gateway.orders.CancelAllOrders(request, timeout=10)
        assert len(answer.results) == 2
        assert {(await found.ended(key)).status for key in ("a", "b")} == {pb.ORDER_STATUS_CANCELED}


# brackets


def bracket(price: str = "3800") -> list[pb.NewOrder]:
    return [order("entry", price=price), exit_order("tp", TAKE_PROFIT, "4200"), exit_order("sl", STOP, "3500")]


async def test_bracket_waits_for_its_entry_then_one_exit_ends_the_other(broker: Broker, tmp_path: Path) -> None:
    """The whole life of a group, by the venue's own hand."""
    async with whole(broker, tmp_path) as found:
        answer = await found.group(BRACKET, *bracket())
        assert [row.outcome for row in answer.results] == [ACKNOWLEDGED] * 3
        assert [row.order.trigger_state for row in answer.results] == [0, FOR_PARENT, FOR_PARENT]
        assert {row.order.order_list_id for row in answer.results} == {answer.order_list_id}
        found.simulator.house_order("ETH", Side.SELL, "3800", "1")
        assert (await found.ended("entry")).status == pb.ORDER_STATUS_FILLED
        await found.until(lambda: found.state("tp").trigger_state == WAITING)
        found.simulator.house_order("ETH", Side.BUY, "4200", "1")
        found.simulator.set_price("ETH", "4200")
        assert (await found.ended("tp")).status == pb.ORDER_STATUS_FILLED
        loser = await found.ended("sl")
        assert (loser.status, loser.filled) == (pb.ORDER_STATUS_CANCELED, Decimal(0))
        assert loser.reject is not None
        assert (loser.reject.reason, loser.reject.venue_text) == (
            error_pb2.REASON_SIBLING_FILLED,
            "siblingFilledCanceled",
        )
        assert found.account.illegal_transitions == 0
        assert found.account.positions["ETH/USDC:USDC"].quantity == 0


async def test_bracket_whose_entry_fills_at_once_is_armed_by_its_answer(broker: Broker, tmp_path: Path) -> None:
    """`waitingForTrigger` instead of `waitingForFill`; the repeat of the list says the same."""
    async with whole(broker, tmp_path) as found:
        found.simulator.house_order("ETH", Side.SELL, "3900", "1")
        orders = bracket("3900")
        orders[0].time_in_force = pb.TIME_IN_FORCE_IOC
        answer = await found.group(BRACKET, *orders)
        assert [row.outcome for row in answer.results] == [ACKNOWLEDGED] * 3
        assert {found.state(key).trigger_state for key in ("tp", "sl")} == {WAITING}
        await found.ended("entry")
        again = await found.group(BRACKET, *orders)
        assert all(row.replayed for row in again.results)
        assert again.order_list_id == answer.order_list_id
        assert len(found.simulator.orders(ADDRESS)) == 3


async def test_bracket_whose_entry_is_cancelled_ends_whole(broker: Broker, tmp_path: Path) -> None:
    """The venue takes the children along."""
    async with whole(broker, tmp_path) as found:
        await found.group(BRACKET, *bracket())
        assert (await found.cancel("entry")).outcome == wire.CANCEL_OUTCOME_CANCELED
        assert {(await found.ended(key)).status for key in ("tp", "sl")} == {pb.ORDER_STATUS_CANCELED}


async def test_bracket_whose_entry_is_refused_is_refused_whole(broker: Broker, tmp_path: Path) -> None:
    """Each order with the venue's words."""
    async with whole(broker, tmp_path) as found:
        orders = bracket()
        orders[0].quantity = "1200"
        answer = await found.group(BRACKET, *orders)
        assert [row.outcome for row in answer.results] == [REJECTED] * 3
        assert {row.reject.reason for row in answer.results} == {error_pb2.REASON_INSUFFICIENT_MARGIN}


async def test_lost_answer_to_a_bracket_is_settled_order_by_order(broker: Broker, tmp_path: Path) -> None:
    """Children have client ids of their own, so that each can be asked about."""
    async with whole(broker, tmp_path) as found:
        found.simulator.faults.add(Fault(kind=FaultKind.DROP_REPLY, match="order"))
        answer = await found.group(BRACKET, *bracket())
        assert {row.outcome for row in answer.results} <= {UNKNOWN, ACKNOWLEDGED}
        await found.until(lambda: all(found.state(key).working for key in ("entry", "tp", "sl")))
        assert [found.state(key).trigger_state for key in ("entry", "tp", "sl")] == [0, FOR_PARENT, FOR_PARENT]
        assert writes(found) == [("open", 3)]


async def test_bracket_survives_a_reconnect(broker: Broker, tmp_path: Path) -> None:
    """Everything happens while the socket is away; all states are true afterwards."""
    async with whole(broker, tmp_path) as found:
        await found.group(BRACKET, *bracket())
        found.simulator.faults.add(Fault(kind=FaultKind.REFUSE_CONNECTIONS, count=0))
        found.simulator.cut_sockets()
        found.simulator.house_order("ETH", Side.SELL, "3800", "1")
        found.simulator.house_order("ETH", Side.BUY, "3500", "1")
        found.simulator.set_price("ETH", "3500")
        found.simulator.faults.clear()
        ends = [(await found.ended(key)).status for key in ("entry", "sl", "tp")]
        assert ends == [pb.ORDER_STATUS_FILLED, pb.ORDER_STATUS_FILLED, pb.ORDER_STATUS_CANCELED]
        assert found.account.positions["ETH/USDC:USDC"].quantity == 0


# position groups


async def test_position_group_closes_the_whole_position_whatever_its_quantity(broker: Broker, tmp_path: Path) -> None:
    """Its size follows the position; its sibling goes."""
    async with whole(broker, tmp_path) as found:
        await found.hold_position("1")
        exits = [exit_order("tp", TAKE_PROFIT, "4200", quantity="1"), exit_order("sl", STOP, "3500", quantity="1")]
        answer = await found.group(POSITION, *exits)
        assert [row.order.trigger_state for row in answer.results] == [WAITING, WAITING]
        await found.hold_position("0.5")
        found.simulator.house_order("ETH", Side.BUY, "4200", "5")
        found.simulator.set_price("ETH", "4200")
        state = await found.ended("tp")
        await found.until(lambda: found.state("tp").filled == Decimal("1.5"))
        assert state.status == pb.ORDER_STATUS_FILLED
        assert (await found.ended("sl")).status == pb.ORDER_STATUS_CANCELED
        assert found.account.positions["ETH/USDC:USDC"].quantity == 0


async def test_position_group_of_a_position_closed_by_hand_is_cancelled(broker: Broker, tmp_path: Path) -> None:
    """With the venue's reason."""
    async with whole(broker, tmp_path) as found:
        await found.hold_position("1")
        await found.group(POSITION, exit_order("tp", TAKE_PROFIT, "4200", quantity="1"))
        found.simulator.house_order("ETH", Side.BUY, "3890", "5")
        await found.submit("close", side=SELL, quantity="1", price="3890", time_in_force=pb.TIME_IN_FORCE_IOC)
        state = await found.ended("tp")
        assert (state.status, state.reject.reason if state.reject else 0) == (
            pb.ORDER_STATUS_CANCELED,
            error_pb2.REASON_REDUCE_ONLY_WOULD_INCREASE,
        )


@pytest.mark.parametrize("bad", ["oco", "element", "twap"])
async def test_lists_that_cannot_be_are_refused_by_name(broker: Broker, tmp_path: Path, bad: str) -> None:
    """With the element and its field in the details; nothing reaches the venue."""
    async with whole(broker, tmp_path) as found:
        orders, kind = bracket(), BRACKET
        if bad == "oco":
            orders, kind = orders[1:], wire.CONTINGENCY_TYPE_OCO
        elif bad == "element":
            orders[1].trigger.price = "4200.123"
        else:
            orders[1] = twap("twap", side=SELL)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await found.group(kind, *orders)
        code = grpc.StatusCode.UNIMPLEMENTED if bad == "oco" else grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.code() == code
        assert (caught.value.details() or "").startswith("contingency_type" if bad == "oco" else "orders[1].")
        assert found.simulator.orders(ADDRESS) == []
