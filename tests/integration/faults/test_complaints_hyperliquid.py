"""What users of other connectors to Hyperliquid complain about, beyond `test_complaints`."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from hypercore.adapter.market_normalizer import PERP_FEES
from hypercore.adapter.venue import HyperCoreVenue
from simulator.faults import FaultKind
from simulator.hyperliquid.account_info import user_fills
from simulator.testing import running_simulator
from tests.broker import Broker
from tests.integration.faults.hypercore import HyperCoreSide
from tests.integration.faults.sides import MAIN
from tests.integration.faults.truth import assert_equal_to_the_venue
from tests.integration.faults.world import QUICK, SteppedWall, world
from tests.integration.hypercore.adapter.world import (
    ADDRESS,
    AGENT,
    Recorder,
    fast_streams,
    gateway_settings,
    sim_settings,
)
from venuemesh.errors import AuthenticationFailed
from venuemesh.v1 import error_pb2
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as wire

MARKET = {"order_type": pb.ORDER_TYPE_MARKET, "price": None, "time_in_force": pb.TIME_IN_FORCE_IOC}


@pytest.fixture
def side() -> HyperCoreSide:
    """The one venue of this file."""
    return HyperCoreSide()


async def test_agent_address_instead_of_the_account_is_refused_loudly(tmp_path: Path) -> None:
    """It would look like an account without money; both addresses are named and nothing starts."""
    async with running_simulator(sim_settings()) as simulator:
        settings = gateway_settings(
            simulator,
            tmp_path,
            accounts=[{"account_id": MAIN, "address": AGENT, "agent_key_file": str(tmp_path / "agent.key")}],
        )
        venue = HyperCoreVenue(settings, SteppedWall(), stream_config=fast_streams())
        with pytest.raises(AuthenticationFailed) as caught:
            await venue.run(Recorder())
        assert AGENT in caught.value.message


async def test_batch_is_not_blocked_by_one_bad_element(side: HyperCoreSide, broker: Broker, tmp_path: Path) -> None:
    """Bad for the gateway or bad for the venue: each is told of its own, the rest are placed, and cancelled alike."""
    async with world(side, broker, tmp_path) as here:
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
    side: HyperCoreSide, broker: Broker, tmp_path: Path, kind: FaultKind, effect: bool
) -> None:
    """No element is guessed; in the end each is what the venue has."""
    async with world(side, broker, tmp_path, ask_s=0.3, **QUICK) as here:
        here.fault(kind, match=side.order, status=502, count=0)
        keys = [f"batch-{number}" for number in range(3)]
        answer = await here.submit_batch([here.new_order(key, price=f"{3000 + n}") for n, key in enumerate(keys)])
        for row in answer.results:
            known = row.response.outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED and effect
            assert known or row.response.outcome == wire.SUBMIT_OUTCOME_UNKNOWN
        side.faults.clear()
        for key in keys:
            order = await here.settled(key)
            assert order.status == (pb.ORDER_STATUS_NEW if effect else pb.ORDER_STATUS_REJECTED)
            assert len(here.venue_orders_of(key)) == effect
        await assert_equal_to_the_venue(here)


async def test_cancels_are_not_stuck_behind_limits(side: HyperCoreSide, broker: Broker, tmp_path: Path) -> None:
    """Orders have spent what our own budget of the venue's weight gives them; the cancel is sent all the same."""
    async with world(side, broker, tmp_path, ip_weight=700) as here:
        await here.submit("doomed")
        side.use_http()
        number = 0
        while (answer := await here.submit(f"spend-{number}", price="2999")).outcome != wire.SUBMIT_OUTCOME_REJECTED:
            number += 1
            assert number < 700
        assert error_pb2.Reason.Name(answer.reject.reason) == "REASON_RATE_LIMIT_LOCAL"
        assert (await here.cancel("doomed")).outcome == wire.CANCEL_OUTCOME_CANCELED
        assert here.venue_orders_of("doomed")[0].status == "canceled"


async def test_post_only_window_after_an_upgrade_is_a_reason_of_its_own(
    side: HyperCoreSide, broker: Broker, tmp_path: Path
) -> None:
    """The venue takes only post-only orders for now: said by its name, nothing tried again blindly."""
    async with world(side, broker, tmp_path) as here:
        text = "Only post-only orders allowed immediately after network upgrade"
        here.fault(FaultKind.REFUSE, match=side.order, text=text)
        answer = await here.submit("too-soon")
        assert answer.outcome == wire.SUBMIT_OUTCOME_REJECTED
        assert error_pb2.Reason.Name(answer.reject.reason) == "REASON_VENUE_POST_ONLY_WINDOW"
        assert text in answer.reject.venue_text
        assert not side.orders()
        await assert_equal_to_the_venue(here)


async def test_nothing_is_sent_that_nobody_asked_for_and_no_builder_is_paid(
    side: HyperCoreSide, broker: Broker, tmp_path: Path
) -> None:
    """The start only reads; each call is one action, and no order or approval names a builder or referrer."""
    async with world(side, broker, tmp_path) as here:
        profile = side.simulator.venue.registry.profile(ADDRESS)
        assert profile.requests == 0
        here.offer(ask="3900", size="0.1")
        await here.submit("taking", price="3900")
        await here.submit("resting")
        await here.cancel("resting")
        assert profile.requests == 3
        assert (profile.builders, profile.referrer) == ({}, None)
        await here.until(lambda: here.order("taking").terminal)
        (fill,) = user_fills(side.simulator.venue, ADDRESS)
        assert "builderFee" not in fill
        assert Decimal(fill["fee"]) == Decimal(390) * Decimal(PERP_FEES[1])
        await assert_equal_to_the_venue(here)
