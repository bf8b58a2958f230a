"""Links that break, double, reorder, fall silent or are refused; a venue that restarts; an agent that expires."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest

from simulator.faults import FaultKind
from tests.broker import Broker
from tests.integration.faults.hypercore import HyperCoreSide
from tests.integration.faults.sides import MAIN, SYMBOL, VenueSide, quick_socket
from tests.integration.faults.truth import assert_equal_to_the_venue
from tests.integration.faults.world import QUICK, World, world
from tests.integration.hypercore.adapter.world import ADDRESS
from venuemesh.errors import MeshError, Reason, Reconciling, Sent
from venuemesh.v1 import error_pb2, reconciliation_pb2
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as wire

SILENCE_S = 0.3
FOREVER_S = 30.0
SOON_S = 1.0
# Longer than a reconnect takes on a slow machine.
LONG_SETTLE_S = 1.5


async def trade(here: World, *, rounds: int) -> None:
    """Orders that rest, fill partly, fill wholly and are cancelled."""
    for number in range(rounds):
        here.offer(ask="3900", size="0.3")
        await here.submit(f"rest-{number}", price=f"{3000 + number}")
        await here.submit(f"part-{number}", price="3900", quantity="0.5")
        await here.submit(f"take-{number}", price="3900", quantity="0.2", time_in_force=pb.TIME_IN_FORCE_IOC)
        here.offer(bid="3900", size="0.1")
        await here.cancel(f"part-{number}")
        await here.cancel(f"rest-{number}")
        here.side.cancel_house_orders()


async def test_vault_is_traded_by_its_leader_and_its_state_is_followed(broker: Broker, tmp_path: Path) -> None:
    """Orders, fills, amendments and cancels in the vault's name; a lost answer and a cut link change nothing."""
    side = HyperCoreSide(vault=True)
    async with world(side, broker, tmp_path) as here:
        await trade(here, rounds=2)
        await here.submit("amended")
        assert (await here.amend("amended", price="3010")).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        here.fault(FaultKind.DROP_REPLY, match=side.order)
        await here.submit("answer-lost", price="3020")
        assert (await here.settled("answer-lost")).status == pb.ORDER_STATUS_NEW
        await here.until(lambda: here.ready)
        here.refuse_connections()
        here.offer(ask="3020", size="0.05")
        side.faults.clear()
        await here.until(lambda: here.order("answer-lost").filled == Decimal("0.05"))
        await assert_equal_to_the_venue(here)
        assert not side.simulator.orders(ADDRESS)


@pytest.mark.parametrize("kind", [FaultKind.DUPLICATE_FRAME, FaultKind.REORDER_FRAME, FaultKind.DROP_FRAME])
async def test_account_frames_doubled_reordered_or_lost_change_nothing_in_the_end(
    side: VenueSide, broker: Broker, tmp_path: Path, kind: FaultKind
) -> None:
    """Every one of them; what is lost altogether is found by asking and by comparing."""
    async with world(side, broker, tmp_path, reconcile_s=0.5) as here:
        for channel in side.account_channels:
            here.fault(kind, match=channel, count=0)
        # What is not told must be asked, and the venues' budgets for questions are small.
        await trade(here, rounds=2 if kind is FaultKind.DROP_FRAME else 4)
        side.faults.clear()
        await assert_equal_to_the_venue(here)


async def test_socket_cut_during_trading_loses_no_fill(side: VenueSide, broker: Broker, tmp_path: Path) -> None:
    """Fills that happen while nobody listens are fetched before new orders are taken."""
    async with world(side, broker, tmp_path) as here:
        for number in range(3):
            await here.submit(f"rest-{number}", price="3000")
            here.refuse_connections()
            here.offer(ask="3000", size="0.1")
            await here.until(lambda: not here.ready)
            with pytest.raises(Reconciling) as caught:
                await here.submit(f"refused-{number}")
            assert caught.value.sent is Sent.NO
            side.faults.clear()
            await here.until(lambda: here.ready)
            assert here.order(f"rest-{number}").filled == Decimal("0.1")
        await assert_equal_to_the_venue(here)


async def test_order_in_flight_when_the_socket_is_cut_is_settled_by_asking(
    side: VenueSide, broker: Broker, tmp_path: Path
) -> None:
    """The answer is on its way when the connection dies; the order is there once."""
    async with world(side, broker, tmp_path, action_timeout_s=5.0) as here:
        here.fault(FaultKind.DELAY_REPLY, match=side.order, delay_s=5.0)
        submitting = asyncio.create_task(here.submit("in-flight"))
        await here.until(lambda: side.orders())
        side.cut_sockets()
        answer = await submitting
        assert answer.outcome in (wire.SUBMIT_OUTCOME_UNKNOWN, wire.SUBMIT_OUTCOME_ACKNOWLEDGED)
        order = await here.settled("in-flight")
        assert order.status == pb.ORDER_STATUS_NEW
        assert len(here.venue_orders_of("in-flight")) == 1
        await assert_equal_to_the_venue(here)


async def test_silence_stops_new_orders_lets_cancels_pass_and_ends_in_the_truth(
    side: VenueSide, broker: Broker, tmp_path: Path
) -> None:
    """The venue accepts everything and says nothing: noticed by the heartbeat, made good by asking."""
    socket = quick_socket(silence_s=SILENCE_S, heartbeat_s=SILENCE_S / 3)
    async with world(side, broker, tmp_path, **QUICK, socket=socket) as here:
        await here.submit("resting", price="3005")
        await here.submit("doomed", price="3001")
        side.fall_silent(FOREVER_S)
        first = await here.submit("into-silence", price="3002")
        assert first.outcome in (wire.SUBMIT_OUTCOME_UNKNOWN, wire.SUBMIT_OUTCOME_ACKNOWLEDGED)
        here.offer(ask="3005", size="0.1")
        await here.until(lambda: not here.ready)
        await here.cancel("doomed")
        await here.until(lambda: here.order("doomed").terminal)
        assert here.venue_orders_of("doomed")[0].status == "canceled"
        side.fall_silent(0.0)
        await here.until(lambda: here.ready)
        assert here.order("resting").filled == Decimal("0.1")
        assert (await here.settled("into-silence")).working
        await assert_equal_to_the_venue(here)


async def test_connections_refused_for_a_while_leave_an_order_in_doubt_until_they_are_taken_again(
    side: VenueSide, broker: Broker, tmp_path: Path
) -> None:
    """No answer, no stream, no reads: UNKNOWN for as long as nobody can tell, and then the truth."""
    async with world(side, broker, tmp_path, **QUICK) as here:
        here.fault(FaultKind.DROP_REPLY, match=side.order)
        here.fault(FaultKind.REFUSE_CONNECTIONS, count=0)
        first = await here.submit("in-doubt")
        assert first.outcome == wire.SUBMIT_OUTCOME_UNKNOWN
        await here.until(lambda: not here.ready)
        # Longer than its proof of absence would take if the venue could be asked.
        await here.until(lambda: _expired(here, "in-doubt"))
        assert here.order("in-doubt").uncertain
        canceled = await here.cancel("in-doubt")
        assert canceled.outcome == wire.CANCEL_OUTCOME_UNKNOWN
        side.faults.clear()
        await here.until(lambda: here.ready and here.order("in-doubt").terminal)
        assert here.order("in-doubt").status == pb.ORDER_STATUS_CANCELED
        await assert_equal_to_the_venue(here)


def _expired(here: World, key: str) -> bool:
    settles_ns = here.core.resolver.settles_ns(here.order(key))
    return settles_ns is not None and here.clock.now_ns() > settles_ns + 200_000_000


async def test_venue_that_restarts_without_its_memory_is_taken_at_its_word(
    side: VenueSide, broker: Broker, tmp_path: Path
) -> None:
    """Its open orders are gone, its positions too: the gateway says so, and goes on."""
    async with world(side, broker, tmp_path) as here:
        here.offer(ask="3900", size="0.2")
        await here.submit("filled", price="3900", quantity="0.2")
        await here.submit("open", price="3000")
        await assert_equal_to_the_venue(here)
        await here.rested("open")
        await here.restart_simulator()
        await here.until(lambda: here.order("open").terminal)
        await here.until(lambda: here.ready)
        assert here.order("open").status == pb.ORDER_STATUS_CANCELED
        assert here.core.accounts[MAIN].positions[SYMBOL].quantity == 0
        kinds = {event.discrepancy.discrepancy_type for event in await here.events() if event.HasField("discrepancy")}
        assert reconciliation_pb2.DISCREPANCY_TYPE_ORDER_MISSING in kinds
        assert reconciliation_pb2.DISCREPANCY_TYPE_POSITION in kinds
        assert (await here.submit("after")).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        assert [row.client_id for row in side.orders()] == [here.order("after").venue_client_order_id]


async def test_order_that_ends_unheard_right_after_it_was_placed_is_found_soon(
    side: VenueSide, broker: Broker, tmp_path: Path
) -> None:
    """Placed, then the link breaks and the venue ends it: known once the settle delay is over, not a minute later."""
    async with world(side, broker, tmp_path, settle_delay_s=LONG_SETTLE_S) as here:
        await here.submit("short-lived", price="3000")
        here.refuse_connections()
        here.end_order("short-lived")
        side.faults.clear()
        await here.until(lambda: here.order("short-lived").terminal, LONG_SETTLE_S + SOON_S)
        await assert_equal_to_the_venue(here)


async def test_order_that_ends_unheard_while_the_link_is_down_is_found_on_reconnect(
    side: VenueSide, broker: Broker, tmp_path: Path
) -> None:
    """The venue ends it while nobody listens: told as restated before new orders are taken."""
    async with world(side, broker, tmp_path) as here:
        await here.submit("ended", price="3000")
        await here.rested("ended")
        here.refuse_connections()
        here.end_order("ended")
        await here.until(lambda: not here.ready)
        side.faults.clear()
        await here.until(lambda: here.ready)
        assert here.order("ended").status == pb.ORDER_STATUS_CANCELED
        await assert_equal_to_the_venue(here)


async def test_revoked_key_is_an_answer_of_its_own_and_leaves_the_orders_as_they_are(
    side: VenueSide, broker: Broker, tmp_path: Path
) -> None:
    """Refused with a reason an operator can act on; approved again, everything goes on."""
    async with world(side, broker, tmp_path) as here:
        await here.submit("before", price="3000")
        side.revoke_key()
        answer = await here.submit("with-revoked-key")
        assert answer.outcome == wire.SUBMIT_OUTCOME_REJECTED
        assert error_pb2.Reason.Name(answer.reject.reason) == "REASON_AUTHENTICATION_FAILED"
        canceled = await here.cancel("before")
        assert canceled.outcome in (wire.CANCEL_OUTCOME_REJECTED, wire.CANCEL_OUTCOME_UNKNOWN)
        assert here.order("before").working
        await assert_equal_to_the_venue_but_for_pending(here)
        side.restore_key()
        assert (await here.submit("after")).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        await here.cancel("before")
        await here.until(lambda: here.order("before").terminal)
        await assert_equal_to_the_venue(here)


async def assert_equal_to_the_venue_but_for_pending(here: World) -> None:
    """Nothing was placed and nothing cancelled behind the gateway's back."""
    assert [row.status for row in here.side.orders()] == ["open"]


async def test_private_subscription_refused_unread_reads_retry_until_the_venue_answers(
    side: VenueSide, broker: Broker, tmp_path: Path
) -> None:
    """Reads that fail while comparing after a reconnect are tried again; no order passes before one has succeeded."""
    async with world(side, broker, tmp_path) as here:
        await here.submit("resting", price="3000")
        here.fault(FaultKind.ERROR_BEFORE, match=side.state_reads["fills"], status=502, count=4)
        here.fault(FaultKind.GARBLE_REPLY, match=side.state_reads["orders"], count=2)
        side.cut_sockets()
        await here.until(lambda: not here.ready)
        here.offer(ask="3000", size="0.1")
        with pytest.raises(MeshError) as caught:
            await here.submit("too-early")
        assert caught.value.reason is Reason.STREAM_RECONCILING
        await here.until(lambda: here.ready)
        await assert_equal_to_the_venue(here)
