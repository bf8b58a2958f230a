"""What users of other connectors complain about, at whichever venue: one test per complaint, named after it."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest

from simulator.faults import FaultKind
from tests.broker import Broker
from tests.integration.faults.sides import VenueSide
from tests.integration.faults.truth import assert_equal_to_the_venue
from tests.integration.faults.world import world
from venuemesh.v1 import error_pb2, event_pb2
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as wire

MARKET = {"order_type": pb.ORDER_TYPE_MARKET, "price": None, "time_in_force": pb.TIME_IN_FORCE_IOC}


@pytest.mark.parametrize("seconds", [-300.0, -5.0])
async def test_nonce_from_a_clock_that_steps_back(
    side: VenueSide, broker: Broker, tmp_path: Path, seconds: float
) -> None:
    """Nonces rise whatever the clock does; an order that expired by it is refused, a cancel is not."""
    async with world(side, broker, tmp_path, order_expiry_s=20.0) as here:
        before = (await here.submit("before")).order
        here.clock.step(seconds)
        answer = await here.submit("after-step")
        # By more than an order's lifetime its expiry lies in the venue's past: refused there, and said so.
        refused = answer.outcome == wire.SUBMIT_OUTCOME_REJECTED
        assert refused == (seconds < -20.0)
        nonces = {order_id: row.nonce for order_id, row in here.core.desk.reservations.items()}
        assert refused or nonces[answer.order.order_id] > nonces[before.order_id]
        if refused:
            assert error_pb2.Reason.Name(answer.reject.reason) == side.expired_reason
        assert (await here.cancel("before")).outcome == wire.CANCEL_OUTCOME_CANCELED
        assert before.order_id == here.order("before").order_id
        await assert_equal_to_the_venue(here)


async def test_modify_gives_a_new_id_and_events_race(side: VenueSide, broker: Broker, tmp_path: Path) -> None:
    """Fills before and after several amendments add up on the one order the caller knows."""
    async with world(side, broker, tmp_path) as here:
        await here.submit("moved", price="3000", quantity="1")
        here.offer(ask="3000", size="0.2")
        await here.until(lambda: here.order("moved").filled == Decimal("0.2"))
        assert (await here.amend("moved", price="3010")).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        here.offer(ask="3010", size="0.3")
        await here.until(lambda: here.order("moved").filled == Decimal("0.5"))
        assert len(here.order("moved").venue_order_ids) == 1 + side.amend_changes_id
        assert (await here.cancel("moved")).outcome == wire.CANCEL_OUTCOME_CANCELED
        await assert_equal_to_the_venue(here)


async def test_unknown_outcome_after_a_time_out_is_found_out_and_never_resent(
    side: VenueSide, broker: Broker, tmp_path: Path
) -> None:
    """The caller repeats its key as often as it likes: one order, and in the end the truth."""
    async with world(side, broker, tmp_path) as here:
        here.fault(FaultKind.DROP_REPLY, match=side.order)
        first = await here.submit("timed-out")
        assert first.outcome == wire.SUBMIT_OUTCOME_UNKNOWN
        repeats = await asyncio.gather(*(here.submit("timed-out") for _ in range(5)))
        assert all(answer.replayed for answer in repeats)
        assert (await here.settled("timed-out")).status == pb.ORDER_STATUS_NEW
        assert len(here.venue_orders_of("timed-out")) == 1
        await assert_equal_to_the_venue(here)


async def test_duplicate_nonce_when_many_actions_fall_into_one_millisecond(
    side: VenueSide, broker: Broker, tmp_path: Path
) -> None:
    """The clock stands still and every action has a nonce of its own, whatever it is."""
    async with world(side, broker, tmp_path) as here:
        here.clock.hold()
        answers = await asyncio.gather(*(here.submit(f"same-ms-{n}", price=f"{3000 + n}") for n in range(20)))
        assert {answer.outcome for answer in answers} == {wire.SUBMIT_OUTCOME_ACKNOWLEDGED}
        canceled = await asyncio.gather(*(here.cancel(f"same-ms-{n}") for n in range(20)))
        assert {answer.outcome for answer in canceled} == {wire.CANCEL_OUTCOME_CANCELED}
        await assert_equal_to_the_venue(here)


async def test_websocket_does_not_reconnect_or_resubscribe(side: VenueSide, broker: Broker, tmp_path: Path) -> None:
    """After each of several cuts the stream tells of new fills again, without being asked."""
    async with world(side, broker, tmp_path) as here:
        for number in range(3):
            side.cut_sockets()
            await here.until(lambda: not here.ready)
            await here.until(lambda: here.ready)
            await here.submit(f"after-cut-{number}", price="3000")
            here.offer(ask="3000", size="0.1")
            await here.settled(f"after-cut-{number}")
            await here.until(lambda key=f"after-cut-{number}": here.order(key).terminal)  # type: ignore[misc]
        await assert_equal_to_the_venue(here)


async def test_connection_closed_politely_is_made_again_and_what_it_missed_is_fetched(
    side: VenueSide, broker: Broker, tmp_path: Path
) -> None:
    """Close code 1000 is no reason to stop listening."""
    async with world(side, broker, tmp_path) as here:
        await here.submit("resting", price="3000", quantity="0.2")
        await side.close_sockets()
        here.offer(ask="3000", size="0.1")
        await here.until(lambda: not here.ready)
        await here.until(lambda: here.ready)
        assert here.order("resting").filled == Decimal("0.1")
        await assert_equal_to_the_venue(here)


@pytest.mark.parametrize("told_again", [True, False], ids=["told-again", "not-told-again"])
async def test_fills_missed_over_a_reconnect_are_recovered(
    side: VenueSide, broker: Broker, tmp_path: Path, told_again: bool
) -> None:
    """Fills of the gap stand in the event log, once each, also where the new subscription does not begin with them."""
    async with world(side, broker, tmp_path) as here:
        await here.submit("gap", price="3000", quantity="1")
        here.refuse_connections()
        await here.until(lambda: not here.ready)
        for _ in range(3):
            here.offer(ask="3000", size="0.1")
        side.faults.clear()
        if not told_again:
            for channel in side.replaying_channels:
                here.fault(FaultKind.DROP_FRAME, match=channel, count=0)
        await here.until(lambda: here.ready)
        assert here.order("gap").filled == Decimal("0.3")
        await assert_equal_to_the_venue(here)


async def test_fill_told_before_the_order_is_accepted(side: VenueSide, broker: Broker, tmp_path: Path) -> None:
    """The stream tells of the fill while the answer is held back: it belongs to its order all the same."""
    async with world(side, broker, tmp_path) as here:
        here.offer(ask="3900", size="0.1")
        here.fault(FaultKind.DELAY_REPLY, match=side.order, delay_s=0.15)
        answer = await here.submit("early-fill", price="3900")
        assert answer.outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        await here.until(lambda: here.order("early-fill").status == pb.ORDER_STATUS_FILLED)
        await assert_equal_to_the_venue(here)


async def test_market_order_that_filled_at_once_is_not_reported_as_rejected(
    side: VenueSide, broker: Broker, tmp_path: Path
) -> None:
    """Neither when the rest of it found nothing: what filled is filled, the rest expired."""
    async with world(side, broker, tmp_path) as here:
        here.offer(ask="3900", size="0.1")
        assert (await here.submit("whole", **MARKET)).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        assert (await here.settled("whole")).status == pb.ORDER_STATUS_FILLED
        here.offer(ask="3900", size="0.1")
        await here.until_offered()
        assert (await here.submit("part", quantity="0.3", **MARKET)).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        part = await here.settled("part")
        assert (part.status, part.filled) == (pb.ORDER_STATUS_EXPIRED, Decimal("0.1"))
        await assert_equal_to_the_venue(here)


async def test_order_status_not_found_although_it_filled(side: VenueSide, broker: Broker, tmp_path: Path) -> None:
    """The venue's look-up answers garbage at first: nothing is concluded from that, and the fill is found."""
    async with world(side, broker, tmp_path) as here:
        here.offer(ask="3900", size="0.1")
        for channel in side.replaying_channels:
            here.fault(FaultKind.DROP_FRAME, match=channel, count=0)
        here.fault(FaultKind.DROP_REPLY, match=side.order)
        for look_up in side.look_ups:
            here.fault(FaultKind.GARBLE_REPLY, match=look_up, count=3)
        await here.submit("lost", price="3900")
        assert (await here.settled("lost")).status == pb.ORDER_STATUS_FILLED
        await assert_equal_to_the_venue(here)


async def test_cancels_pass_while_the_venue_limits_orders(side: VenueSide, broker: Broker, tmp_path: Path) -> None:
    """Every order is answered with 429 for now; a cancel is another matter."""
    async with world(side, broker, tmp_path) as here:
        await here.submit("doomed")
        here.fault(FaultKind.RATE_LIMIT, match=side.order, count=0)
        for number in range(3):
            answer = await here.submit(f"limited-{number}")
            assert answer.outcome == wire.SUBMIT_OUTCOME_REJECTED
            assert error_pb2.Reason.Name(answer.reject.reason) in ("REASON_RATE_LIMIT_VENUE", "REASON_RATE_LIMIT_LOCAL")
        assert (await here.cancel("doomed")).outcome == wire.CANCEL_OUTCOME_CANCELED
        await assert_equal_to_the_venue(here)


async def test_client_order_id_is_on_every_fill(side: VenueSide, broker: Broker, tmp_path: Path) -> None:
    """Whoever told of the fill, it names the caller's order."""
    async with world(side, broker, tmp_path) as here:
        here.offer(ask="3900", size="0.1")
        await here.submit("named", price="3900", quantity="0.2")
        here.offer(ask="3900", size="0.1")
        await here.until(lambda: here.order("named").terminal)
        fills = [_fill(event) for event in await here.events() if event.execution_report.HasField("fill")]
        assert {fill.client_order_id for fill in fills} == {"named"}
        await assert_equal_to_the_venue(here)


async def test_decimals_that_binary_floats_cannot_hold(side: VenueSide, broker: Broker, tmp_path: Path) -> None:
    """Sizes and prices arrive as they were asked for, to the last digit."""
    async with world(side, broker, tmp_path) as here:
        wanted = {"d-0": ("3000.1", "0.3"), "d-1": ("3001.7", "0.0071"), "d-2": ("2999.9", "25.2")}
        for key, (price, quantity) in wanted.items():
            answer = await here.submit(key, price=price, quantity=quantity)
            assert answer.outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        for key, (price, quantity) in wanted.items():
            (row,) = here.venue_orders_of(key)
            assert (row.price, row.quantity) == (Decimal(price), Decimal(quantity))
        await assert_equal_to_the_venue(here)


def _fill(event: event_pb2.Event) -> pb.Fill:
    return event.execution_report.fill
