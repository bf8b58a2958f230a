"""What users of other connectors to this venue complain about: one test per complaint, named after it."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest

from hypercore.adapter.venue import HyperCoreVenue
from simulator.faults import Fault, FaultKind
from simulator.testing import running_simulator
from tests.broker import Broker
from tests.integration.faults.truth import assert_equal_to_the_venue, venue_orders_of, venue_rows
from tests.integration.faults.world import MAIN, SteppedWall, quick_streams, world
from tests.integration.hypercore.adapter.world import AGENT, Recorder, gateway_settings, sim_settings
from venuemesh.errors import AuthenticationFailed
from venuemesh.v1 import error_pb2, event_pb2
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as wire

MARKET = {"order_type": pb.ORDER_TYPE_MARKET, "price": None, "time_in_force": pb.TIME_IN_FORCE_IOC}


async def test_unknown_outcome_after_a_time_out_is_found_out_and_never_resent(broker: Broker, tmp_path: Path) -> None:
    """The caller repeats its key as often as it likes: one order, and in the end the truth."""
    async with world(broker, tmp_path) as here:
        here.simulator.faults.add(Fault(kind=FaultKind.DROP_REPLY, match="order"))
        first = await here.submit("timed-out")
        assert first.outcome == wire.SUBMIT_OUTCOME_UNKNOWN
        repeats = await asyncio.gather(*(here.submit("timed-out") for _ in range(5)))
        assert all(answer.replayed for answer in repeats)
        assert (await here.settled("timed-out")).status == pb.ORDER_STATUS_NEW
        assert len(venue_orders_of(here, "timed-out")) == 1
        await assert_equal_to_the_venue(here)


async def test_duplicate_nonce_when_many_actions_fall_into_one_millisecond(broker: Broker, tmp_path: Path) -> None:
    """The clock stands still and every action has a nonce of its own, whatever it is."""
    async with world(broker, tmp_path) as here:
        here.clock.hold()
        answers = await asyncio.gather(*(here.submit(f"same-ms-{n}", price=f"{3000 + n}") for n in range(20)))
        assert {answer.outcome for answer in answers} == {wire.SUBMIT_OUTCOME_ACKNOWLEDGED}
        canceled = await asyncio.gather(*(here.cancel(f"same-ms-{n}") for n in range(20)))
        assert {answer.outcome for answer in canceled} == {wire.CANCEL_OUTCOME_CANCELED}
        await assert_equal_to_the_venue(here)


@pytest.mark.parametrize("seconds", [-3600.0, -5.0])
async def test_nonce_from_a_clock_that_steps_back(broker: Broker, tmp_path: Path, seconds: float) -> None:
    """Nonces rise whatever the clock does; an order's own expiry must not refuse it either, nor leave it open."""
    async with world(broker, tmp_path, order_expiry_s=20.0) as here:
        before = (await here.submit("before")).order
        here.clock.step(seconds)
        answer = await here.submit("after-step")
        # By more than an order's lifetime its expiry lies in the venue's past: refused there, and said so.
        refused = answer.outcome == wire.SUBMIT_OUTCOME_REJECTED
        assert refused == (seconds < -20.0)
        nonces = {order_id: row.nonce for order_id, row in here.core.desk.reservations.items()}
        assert refused or nonces[answer.order.order_id] > nonces[before.order_id]
        if refused:
            assert error_pb2.Reason.Name(answer.reject.reason) == "REASON_EXPIRED_BEFORE_PROCESSING"
        assert (await here.cancel("before")).outcome == wire.CANCEL_OUTCOME_CANCELED
        assert before.order_id == here.order("before").order_id
        await assert_equal_to_the_venue(here)


async def test_websocket_does_not_reconnect_or_resubscribe(broker: Broker, tmp_path: Path) -> None:
    """After each of several cuts the stream tells of new fills again, without being asked."""
    async with world(broker, tmp_path) as here:
        for number in range(3):
            here.simulator.cut_sockets()
            await here.until(lambda: not here.ready)
            await here.until(lambda: here.ready)
            await here.submit(f"after-cut-{number}", price="3000")
            here.offer(ask="3000", size="0.1")
            await here.settled(f"after-cut-{number}")
            await here.until(lambda key=f"after-cut-{number}": here.order(key).terminal)  # type: ignore[misc]
        await assert_equal_to_the_venue(here)


@pytest.mark.parametrize("told_again", [True, False], ids=["told-again", "not-told-again"])
async def test_fills_missed_over_a_reconnect_are_recovered(broker: Broker, tmp_path: Path, told_again: bool) -> None:
    """Fills of the gap stand in the event log, once each, also where the new subscription does not begin with them."""
    async with world(broker, tmp_path) as here:
        await here.submit("gap", price="3000", quantity="1")
        here.simulator.faults.add(Fault(kind=FaultKind.REFUSE_CONNECTIONS, count=0))
        here.simulator.cut_sockets()
        await here.until(lambda: not here.ready)
        for _ in range(3):
            here.offer(ask="3000", size="0.1")
        here.simulator.faults.clear()
        if not told_again:
            for channel in ("orderUpdates", "userFills", "userEvents"):
                here.simulator.faults.add(Fault(kind=FaultKind.DROP_FRAME, match=channel, count=0))
        await here.until(lambda: here.ready)
        assert here.order("gap").filled == Decimal("0.3")
        await assert_equal_to_the_venue(here)


async def test_fill_told_before_the_order_is_accepted(broker: Broker, tmp_path: Path) -> None:
    """The stream tells of the fill while the answer is held back: it belongs to its order all the same."""
    async with world(broker, tmp_path) as here:
        here.offer(ask="3900", size="0.1")
        here.simulator.faults.add(Fault(kind=FaultKind.DELAY_REPLY, match="order", delay_s=0.15))
        answer = await here.submit("early-fill", price="3900")
        assert answer.outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        await here.until(lambda: here.order("early-fill").status == pb.ORDER_STATUS_FILLED)
        await assert_equal_to_the_venue(here)


async def test_market_order_that_filled_at_once_is_not_reported_as_rejected(broker: Broker, tmp_path: Path) -> None:
    """Neither when the rest of it found nothing: what filled is filled, the rest expired."""
    async with world(broker, tmp_path) as here:
        here.offer(ask="3900", size="0.1")
        assert (await here.submit("whole", **MARKET)).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        assert (await here.settled("whole")).status == pb.ORDER_STATUS_FILLED
        here.offer(ask="3900", size="0.1")
        await here.until_offered()
        assert (await here.submit("part", quantity="0.3", **MARKET)).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        part = await here.settled("part")
        assert (part.status, part.filled) == (pb.ORDER_STATUS_EXPIRED, Decimal("0.1"))
        await assert_equal_to_the_venue(here)


async def test_modify_gives_a_new_id_and_events_race(broker: Broker, tmp_path: Path) -> None:
    """Fills before and after several amendments add up on the one order the caller knows."""
    async with world(broker, tmp_path) as here:
        await here.submit("moved", price="3000", quantity="1")
        here.offer(ask="3000", size="0.2")
        await here.until(lambda: here.order("moved").filled == Decimal("0.2"))
        assert (await here.amend("moved", price="3010")).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        here.offer(ask="3010", size="0.3")
        await here.until(lambda: here.order("moved").filled == Decimal("0.5"))
        assert len(here.order("moved").venue_order_ids) == 2
        assert (await here.cancel("moved")).outcome == wire.CANCEL_OUTCOME_CANCELED
        await assert_equal_to_the_venue(here)


async def test_order_status_not_found_although_it_filled(broker: Broker, tmp_path: Path) -> None:
    """The venue's look-up answers garbage at first: nothing is concluded from that, and the fill is found."""
    async with world(broker, tmp_path) as here:
        here.offer(ask="3900", size="0.1")
        for channel in ("orderUpdates", "userFills", "userEvents"):
            here.simulator.faults.add(Fault(kind=FaultKind.DROP_FRAME, match=channel, count=0))
        here.simulator.faults.add(Fault(kind=FaultKind.DROP_REPLY, match="order"))
        here.simulator.faults.add(Fault(kind=FaultKind.GARBLE_REPLY, match="info:orderStatus", count=3))
        await here.submit("lost", price="3900")
        assert (await here.settled("lost")).status == pb.ORDER_STATUS_FILLED
        await assert_equal_to_the_venue(here)


async def test_agent_address_instead_of_the_account_is_refused_loudly(tmp_path: Path) -> None:
    """It would look like an account without money; both addresses are named and nothing starts."""
    async with running_simulator(sim_settings()) as simulator:
        settings = gateway_settings(
            simulator,
            tmp_path,
            accounts=[{"account_id": MAIN, "address": AGENT, "agent_key_file": str(tmp_path / "agent.key")}],
        )
        venue = HyperCoreVenue(settings, SteppedWall(), stream_options=quick_streams())
        with pytest.raises(AuthenticationFailed) as caught:
            await venue.run(Recorder())
        assert AGENT in caught.value.message


async def test_batch_is_not_blocked_by_one_bad_element(broker: Broker, tmp_path: Path) -> None:
    """Bad for the gateway or bad for the venue: each is told of its own, the rest are placed, and cancelled alike."""
    async with world(broker, tmp_path) as here:
        here.offer(ask="3900", size="5")
        good = [here.new_order(f"batch-{number}", price=f"{3000 + number}") for number in range(4)]
        off_tick = here.new_order("batch-off-tick", price="3000.123")
        crossing = here.new_order("batch-crossing", price="3950", instructions=[pb.EXECUTION_INSTRUCTION_POST_ONLY])
        answer = await here.submit_batch([off_tick, good[0], crossing, *good[1:]])
        bad, first, second, *rest = answer.results
        assert error_pb2.Reason.Name(bad.error.error.reason) == "REASON_PRICE_OFF_TICK"
        assert second.response.outcome == wire.SUBMIT_OUTCOME_REJECTED
        assert error_pb2.Reason.Name(second.response.reject.reason) == "REASON_POST_ONLY_WOULD_CROSS"
        assert {row.response.outcome for row in (first, *rest)} == {wire.SUBMIT_OUTCOME_ACKNOWLEDGED}
        await assert_equal_to_the_venue(here)
        canceled = await here.cancel_batch(["batch-0", "batch-unknown", "batch-crossing", "batch-1"])
        kinds = [row.WhichOneof("result") for row in canceled.results]
        assert kinds == ["response", "error", "response", "response"]
        assert canceled.results[2].response.already_terminal
        assert not here.order("batch-0").working
        assert not here.order("batch-1").working
        await assert_equal_to_the_venue(here)


@pytest.mark.parametrize(
    ("kind", "effect"),
    [(FaultKind.DROP_REPLY, True), (FaultKind.ERROR_AFTER, True), (FaultKind.RESET_BEFORE, False)],
)
async def test_batch_whose_answer_is_lost_is_found_out_element_by_element(
    broker: Broker, tmp_path: Path, kind: FaultKind, effect: bool
) -> None:
    """No element is guessed; in the end each is what the venue has."""
    async with world(broker, tmp_path, ask_s=0.3) as here:
        here.simulator.faults.add(Fault(kind=kind, match="order", status=502, count=0))
        keys = [f"batch-{number}" for number in range(3)]
        answer = await here.submit_batch([here.new_order(key, price=f"{3000 + n}") for n, key in enumerate(keys)])
        for row in answer.results:
            known = row.response.outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED and effect
            assert known or row.response.outcome == wire.SUBMIT_OUTCOME_UNKNOWN
        here.simulator.faults.clear()
        for key in keys:
            order = await here.settled(key)
            assert order.status == (pb.ORDER_STATUS_NEW if effect else pb.ORDER_STATUS_REJECTED)
            assert len(venue_orders_of(here, key)) == effect
        await assert_equal_to_the_venue(here)


async def test_cancels_are_not_stuck_behind_limits(broker: Broker, tmp_path: Path) -> None:
    """Orders have spent what our own budget of the venue's weight gives them; the cancel is sent all the same."""
    async with world(broker, tmp_path, ip_weight=700, action_timeout_s=2.0) as here:
        await here.submit("doomed")
        here.use_http()
        number = 0
        while (answer := await here.submit(f"spend-{number}", price="2999")).outcome != wire.SUBMIT_OUTCOME_REJECTED:
            number += 1
            assert number < 700
        assert error_pb2.Reason.Name(answer.reject.reason) == "REASON_RATE_LIMIT_LOCAL"
        assert (await here.cancel("doomed")).outcome == wire.CANCEL_OUTCOME_CANCELED
        assert venue_orders_of(here, "doomed")[0]["status"] == "canceled"


async def test_cancels_pass_while_the_venue_limits_orders(broker: Broker, tmp_path: Path) -> None:
    """Every order is answered with 429 for now; a cancel is another matter."""
    async with world(broker, tmp_path) as here:
        await here.submit("doomed")
        here.simulator.faults.add(Fault(kind=FaultKind.RATE_LIMIT, match="order", count=0))
        for number in range(3):
            answer = await here.submit(f"limited-{number}")
            assert answer.outcome == wire.SUBMIT_OUTCOME_REJECTED
            assert error_pb2.Reason.Name(answer.reject.reason) in ("REASON_RATE_LIMIT_VENUE", "REASON_RATE_LIMIT_LOCAL")
        assert (await here.cancel("doomed")).outcome == wire.CANCEL_OUTCOME_CANCELED
        await assert_equal_to_the_venue(here)


async def test_client_order_id_is_on_every_fill(broker: Broker, tmp_path: Path) -> None:
    """Whoever told of the fill, it names the caller's order."""
    async with world(broker, tmp_path) as here:
        here.offer(ask="3900", size="0.1")
        await here.submit("named", price="3900", quantity="0.2")
        here.offer(ask="3900", size="0.1")
        await here.until(lambda: here.order("named").terminal)
        fills = [_fill(event) for event in await here.events() if event.execution_report.HasField("fill")]
        assert {fill.client_order_id for fill in fills} == {"named"}
        await assert_equal_to_the_venue(here)


async def test_decimals_that_binary_floats_cannot_hold(broker: Broker, tmp_path: Path) -> None:
    """Sizes and prices arrive as they were asked for, to the last digit."""
    async with world(broker, tmp_path) as here:
        wanted = {"d-0": ("3000.1", "0.3"), "d-1": ("3001.7", "0.0071"), "d-2": ("2999.9", "25.2")}
        for key, (price, quantity) in wanted.items():
            answer = await here.submit(key, price=price, quantity=quantity)
            assert answer.outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        for key, (price, quantity) in wanted.items():
            (row,) = venue_orders_of(here, key)
            assert (Decimal(row["order"]["limitPx"]), Decimal(row["order"]["origSz"])) == (
                Decimal(price),
                Decimal(quantity),
            )
        await assert_equal_to_the_venue(here)


async def test_post_only_window_after_an_upgrade_is_a_reason_of_its_own(broker: Broker, tmp_path: Path) -> None:
    """The venue takes only post-only orders for now: said by its name, nothing tried again blindly."""
    async with world(broker, tmp_path) as here:
        text = "Only post-only orders allowed immediately after network upgrade"
        here.simulator.faults.add(Fault(kind=FaultKind.REFUSE, match="order", text=text))
        answer = await here.submit("too-soon")
        assert answer.outcome == wire.SUBMIT_OUTCOME_REJECTED
        assert error_pb2.Reason.Name(answer.reject.reason) == "REASON_VENUE_POST_ONLY_WINDOW"
        assert text in answer.reject.venue_text
        assert not venue_rows(here)
        await assert_equal_to_the_venue(here)


def _fill(event: event_pb2.Event) -> pb.Fill:
    return event.execution_report.fill
