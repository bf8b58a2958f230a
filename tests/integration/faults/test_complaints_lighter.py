"""What users of Lighter's clients complain about, beyond `test_complaints`: nonces, verdicts, notices, limits."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest

from simulator.faults import FaultKind
from simulator.lighter.transactions import TxType
from tests.broker import Broker
from tests.integration.faults.lighter import API_KEY, LighterSide
from tests.integration.faults.sides import MAIN
from tests.integration.faults.truth import assert_equal_to_the_venue
from tests.integration.faults.world import World, world
from tests.integration.gateway_lighter.world import ACCOUNT, OWNER, PUBLIC
from venuemesh.v1 import error_pb2, stream_pb2, venue_pb2
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as wire

DUPLICATE_INDEX = 21728
NOT_ENOUGH_MARGIN = 21739
UNSEEN_CODE = 29999
NO_FEE_OF_OURS = ("", "0")
TAKER_SHARE = Decimal("0.00028")
FAR_AHEAD = 2**41


@pytest.fixture
def side() -> LighterSide:
    """The one venue of this file."""
    return LighterSide()


async def acknowledged(here: World, key: str) -> None:
    """An order that must be taken."""
    answer = await here.submit(key)
    assert answer.outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED, answer


# -- nonces ------------------------------------------------------------------------------------------------------


async def test_every_order_after_an_error_has_a_good_nonce(side: LighterSide, broker: Broker, tmp_path: Path) -> None:
    """Refused before it was spent, refused after it was, lost before and after: the next order passes each time."""
    async with world(side, broker, tmp_path) as here:
        for number, (kind, code) in enumerate(
            [
                (FaultKind.REFUSE, 21706),
                (FaultKind.LATE_REFUSAL, NOT_ENOUGH_MARGIN),
                (FaultKind.REFUSE, 21104),
                (FaultKind.ERROR_AFTER, 0),
                (FaultKind.RATE_LIMIT, 0),
            ]
        ):
            here.fault(kind, match=side.order, code=code)
            await here.submit(f"failing-{number}")
            await acknowledged(here, f"after-{number}")
            await here.settled(f"failing-{number}")
        await assert_equal_to_the_venue(here)


async def test_order_overtaken_by_a_later_one_of_its_key_is_placed_once(
    side: LighterSide, broker: Broker, tmp_path: Path
) -> None:
    """The venue reads the second first, so that the nonce of the first is too low by then: it is signed anew."""
    async with world(side, broker, tmp_path) as here:
        here.fault(FaultKind.DELAY_BEFORE, match=side.order, delay_s=0.2)
        await asyncio.gather(acknowledged(here, "first"), acknowledged(here, "second"))
        assert len(here.venue_orders_of("first")) == len(here.venue_orders_of("second")) == 1
        await assert_equal_to_the_venue(here)


async def test_batches_at_once_on_one_key_do_not_fight(side: LighterSide, broker: Broker, tmp_path: Path) -> None:
    """Three batches side by side, over one key: every order once."""
    async with world(side, broker, tmp_path) as here:
        batches = [
            [here.new_order(f"batch-{number}-{place}", price=f"{3000 + place}") for place in range(4)]
            for number in range(3)
        ]
        answers = await asyncio.gather(*(here.submit_batch(batch) for batch in batches))
        outcomes = {row.response.outcome for answer in answers for row in answer.results}
        assert outcomes == {wire.SUBMIT_OUTCOME_ACKNOWLEDGED}
        assert len(side.orders()) == 12
        await assert_equal_to_the_venue(here)


async def test_counter_far_ahead_is_read_again_even_when_the_first_reading_is_stale(
    side: LighterSide, broker: Broker, tmp_path: Path
) -> None:
    """Another client of the key ran ahead, and the venue names a nonce one too low: the order passes, once."""
    async with world(side, broker, tmp_path) as here:
        side.front.venue.accounts.get(ACCOUNT).keys[API_KEY].next_nonce = FAR_AHEAD
        here.fault(FaultKind.STALE_NONCE, match="info:nextNonce")
        await acknowledged(here, "behind")
        assert side.front.next_nonce(ACCOUNT, API_KEY) == FAR_AHEAD + 1
        await acknowledged(here, "in-step")
        await assert_equal_to_the_venue(here)


# -- queued is not accepted --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (DUPLICATE_INDEX, "REASON_INVALID_CLIENT_ORDER_ID"),
        (NOT_ENOUGH_MARGIN, "REASON_INSUFFICIENT_MARGIN"),
        (UNSEEN_CODE, "REASON_VENUE_REJECTED"),
    ],
)
async def test_order_queued_and_then_dropped_is_not_reported_as_accepted(
    side: LighterSide, broker: Broker, tmp_path: Path, code: int, reason: str
) -> None:
    """Answered 200, and its transaction's row holds the refusal: REJECTED with the reason, also on a repeat."""
    async with world(side, broker, tmp_path) as here:
        here.fault(FaultKind.LATE_REFUSAL, match=side.order, code=code)
        for replayed in (False, True):
            answer = await here.submit("dropped")
            assert (answer.outcome, answer.replayed) == (wire.SUBMIT_OUTCOME_REJECTED, replayed)
            assert error_pb2.Reason.Name(answer.reject.reason) == reason
            assert str(code) in answer.reject.venue_text
        assert not side.orders()
        await acknowledged(here, "next")
        await assert_equal_to_the_venue(here)


async def test_amendment_and_cancel_queued_and_then_dropped_change_nothing(
    side: LighterSide, broker: Broker, tmp_path: Path
) -> None:
    """Each is refused by name, the order works on as it was, and the next try passes."""
    async with world(side, broker, tmp_path) as here:
        await acknowledged(here, "kept")
        here.fault(FaultKind.LATE_REFUSAL, match=side.amend, code=NOT_ENOUGH_MARGIN)
        assert (await here.amend("kept", price="3010")).outcome == wire.SUBMIT_OUTCOME_REJECTED
        here.fault(FaultKind.LATE_REFUSAL, match=side.cancel, code=NOT_ENOUGH_MARGIN)
        assert (await here.cancel("kept")).outcome == wire.CANCEL_OUTCOME_REJECTED
        assert (here.order("kept").price, here.order("kept").working) == (Decimal(3000), True)
        await assert_equal_to_the_venue(here)
        assert (await here.cancel("kept")).outcome == wire.CANCEL_OUTCOME_CANCELED
        await assert_equal_to_the_venue(here)


async def test_queued_and_accepted_are_two_states(broker: Broker, tmp_path: Path) -> None:
    """The venue holds the order back: PENDING for who asks for no more, ACKNOWLEDGED for who waits for its word."""
    side = LighterSide(lighter_delays=True)
    async with world(side, broker, tmp_path) as here:
        sent = await here.core.desk.submit(here.new_order("held"), wire.ACK_LEVEL_GATEWAY)
        assert (sent.outcome, sent.order.status) == (wire.SUBMIT_OUTCOME_PENDING, pb.ORDER_STATUS_PENDING_NEW)
        assert (await here.settled("held")).status == pb.ORDER_STATUS_NEW
        await acknowledged(here, "awaited")
        assert here.venue_orders_of("awaited")[0].open
        await assert_equal_to_the_venue(here)


# -- orders ------------------------------------------------------------------------------------------------------


async def test_nothing_is_paid_to_an_integrator(side: LighterSide, broker: Broker, tmp_path: Path) -> None:
    """No approval is sent, no order names one, and the fee is the venue's own."""
    async with world(side, broker, tmp_path) as here:
        here.offer(ask="3900", size="0.1")
        await here.submit("taking", price="3900")
        await here.settled("taking")
        await assert_equal_to_the_venue(here)
        (row,) = side.front.orders(ACCOUNT)
        assert row["integrator_fee_collector_index"] in NO_FEE_OF_OURS
        (fill,) = [event.execution_report.fill for event in await here.events() if _has_fill(event)]
        assert Decimal(fill.fee) == Decimal("390") * TAKER_SHARE
        kinds = {record.tx.type for record in side.front.venue.log.of_account(ACCOUNT)}
        assert kinds == {TxType.CREATE_ORDER}


def _has_fill(event: object) -> bool:
    return bool(event.execution_report.HasField("fill"))  # type: ignore[attr-defined]


async def test_post_only_order_is_taken_and_one_that_would_cross_is_rejected(
    side: LighterSide, broker: Broker, tmp_path: Path
) -> None:
    """The expiry that the venue wants goes with it; the sequencer's cancel of a crossing one reads REJECTED."""
    async with world(side, broker, tmp_path) as here:
        post_only = {"instructions": [pb.EXECUTION_INSTRUCTION_POST_ONLY]}
        assert (await here.submit("resting", **post_only)).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        here.offer(ask="3900", size="0.1")
        answer = await here.submit("crossing", price="3950", **post_only)
        assert answer.outcome == wire.SUBMIT_OUTCOME_REJECTED
        assert error_pb2.Reason.Name(answer.reject.reason) == "REASON_POST_ONLY_WOULD_CROSS"
        await assert_equal_to_the_venue(here)


async def test_signature_for_another_chain_is_named_as_what_it_is(broker: Broker, tmp_path: Path) -> None:
    """The key is right and the chain id is not: every transaction is refused as not signed by the key, none is lost."""
    side = LighterSide(lighter_chain_id=300)
    async with world(side, broker, tmp_path) as here:
        answer = await here.submit("other-chain")
        assert answer.outcome == wire.SUBMIT_OUTCOME_REJECTED
        assert error_pb2.Reason.Name(answer.reject.reason) == "REASON_AUTHENTICATION_FAILED"
        assert "invalid signature" in answer.reject.venue_text
        await assert_equal_to_the_venue(here)


# -- connections -------------------------------------------------------------------------------------------------


async def test_venue_that_pings_is_answered_and_does_not_close_the_connection(
    side: LighterSide, broker: Broker, tmp_path: Path
) -> None:
    """Its own ping, not the protocol's: a client that leaves one unanswered is closed with 1008 at the next."""
    async with world(side, broker, tmp_path) as here:
        for _ in range(3):
            await side.front.app.ping_sockets()
            await here.until(lambda: not any(item.session._pong_due for item in side.front.app.sockets))
        await acknowledged(here, "after-pings")
        assert [link.reconnections for link in here.core.venue.links()] == [0] * len(here.core.venue.links())
        assert here.ready


async def test_notice_that_the_venue_restarts_is_passed_on(side: LighterSide, broker: Broker, tmp_path: Path) -> None:
    """DEGRADED with the venue's words from the notice on, TRADING again on a new connection."""
    async with world(side, broker, tmp_path) as here:
        await here.until(lambda: here.core.status().state == venue_pb2.VENUE_STATE_TRADING)
        told: list[venue_pb2.VenueStatus] = []
        here.core.on_status.append(told.append)
        side.front.app.announce_shutdown(500)
        await here.until(lambda: told)
        assert told[0].state == venue_pb2.VENUE_STATE_DEGRADED
        assert "announces the end of this connection in 500 ms" in told[0].cause
        assert stream_pb2.LINK_STATE_DEGRADED in {link.state for link in told[0].links}
        side.cut_sockets()
        await here.until(lambda: told[-1].state == venue_pb2.VENUE_STATE_TRADING)
        await acknowledged(here, "afterwards")
        await assert_equal_to_the_venue(here)


async def test_private_channels_refused_for_their_token_are_asked_for_with_a_new_one(
    side: LighterSide, broker: Broker, tmp_path: Path
) -> None:
    """The key is no longer the account's when the connection is made again: not live until it is, and then in step."""
    async with world(side, broker, tmp_path) as here:
        await here.submit("resting", quantity="0.3")
        side.revoke_key()
        side.cut_sockets()
        await here.until(lambda: not here.ready)
        here.offer(ask="3000", size="0.1")
        side.restore_key()
        await here.until(lambda: here.ready)
        assert here.order("resting").filled == Decimal("0.1")
        await assert_equal_to_the_venue(here)


# -- limits ------------------------------------------------------------------------------------------------------


@pytest.fixture
def standard() -> LighterSide:
    """A venue that holds a standard account to its 60 requests a minute."""
    account = {"l1_address": OWNER, "keys": PUBLIC, "usdc": "100000", "tier": "standard"}
    return LighterSide(lighter_accounts={ACCOUNT: account}, lighter_rate_limits=True)


async def test_standard_account_is_not_blocked_by_its_own_start_and_trading(
    standard: LighterSide, broker: Broker, tmp_path: Path
) -> None:
    """Start, orders, fills and cancels stay inside 60 requests; what is left is told, and the venue never says 429."""
    async with world(standard, broker, tmp_path, tier="standard") as here:
        here.offer(ask="3900", size="1")
        for number in range(4):
            await acknowledged(here, f"rest-{number}")
            answer = await here.submit(f"take-{number}", price="3900", time_in_force=pb.TIME_IN_FORCE_IOC)
            assert answer.outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
            assert (await here.cancel(f"rest-{number}")).outcome == wire.CANCEL_OUTCOME_CANCELED
        await assert_equal_to_the_venue(here)
        quota = next(row for row in here.core.venue.quotas() if row.limiter == "requests")
        assert (quota.limit, quota.remaining < 60 - 12) == (60, True)
        assert quota.reserved_for_cancels == 10


async def test_cancels_are_not_stuck_behind_the_limits_of_a_standard_account(
    standard: LighterSide, broker: Broker, tmp_path: Path
) -> None:
    """Orders have spent their part of the 60 requests a minute: refused here by name, and cancels go out."""
    async with world(standard, broker, tmp_path, tier="standard") as here:
        await acknowledged(here, "doomed")
        number = 0
        while (answer := await here.submit(f"spend-{number}", price="2999")).outcome != wire.SUBMIT_OUTCOME_REJECTED:
            number += 1
            assert number < 60
        assert error_pb2.Reason.Name(answer.reject.reason) == "REASON_RATE_LIMIT_LOCAL"
        assert (await here.cancel("doomed")).outcome == wire.CANCEL_OUTCOME_CANCELED
        assert here.venue_orders_of("doomed")[0].status == "canceled"
        assert here.core.accounts[MAIN].illegal_transitions == 0
