"""The venue's own dead-man's switch through the adapter, and a whole gateway over it."""

from __future__ import annotations

from pathlib import Path

from simulator.clock import SteppedClock
from tests.integration.hypercore.adapter.world import sim_settings, world
from venuemesh.clock import SystemClock
from venuemesh.gateway.venue import Placed, Refused, VenueOrderState
from venuemesh.v1 import venue_pb2

SECOND_NS = 1_000_000_000


async def test_schedule_cancel_is_set_moved_and_taken_back(tmp_path: Path) -> None:
    """The simulator keeps the time of the account."""
    async with world(tmp_path) as found:
        assert found.venue.capabilities.dead_mans_switch == venue_pb2.PROVISION_NATIVE
        assert found.venue.capabilities.dead_mans_switch_cancels_stops
        now_ns = SystemClock().now_ns()
        assert await found.venue.schedule_cancel("main", now_ns + 60 * SECOND_NS) is None
        assert await found.venue.schedule_cancel("main", now_ns + 90 * SECOND_NS) is None
        assert await found.venue.schedule_cancel("main", None) is None


async def test_schedule_cancel_without_volume_is_refused_with_the_numbers(tmp_path: Path) -> None:
    """What an account that has traded little gets; the gateway then does it itself."""
    async with world(tmp_path, simulator_settings=sim_settings(schedule_cancel_volume="1000000")) as found:
        answer = await found.venue.schedule_cancel("main", SystemClock().now_ns() + 60 * SECOND_NS)
        assert isinstance(answer, Refused)
        assert "until enough volume traded" in answer.text
        assert found.sink.unknown_words == []


async def test_schedule_cancel_when_its_time_comes_cancels_the_orders(tmp_path: Path) -> None:
    """Without any request of ours, on the venue's clock."""
    clock = SteppedClock(SystemClock().now_ns())
    async with world(tmp_path, simulator_settings=sim_settings(clock="manual"), simulator_clock=clock) as found:
        assert isinstance(await found.venue.place_order(found.ticket(), lambda: None), Placed)
        assert await found.venue.schedule_cancel("main", clock.now_ns() + 6 * SECOND_NS) is None
        found.simulator.advance(7_000)
        await found.sink.until(lambda: any(row.text == "scheduledCancel" for row in found.sink.orders))
        assert found.sink.orders[-1].state is VenueOrderState.CANCELED


async def test_builder_dex_has_no_switch_of_its_own(tmp_path: Path) -> None:
    """The venue's covers every dex of the account: the gateway of one must not cancel the orders of another."""
    async with world(tmp_path, accounts=[], live=False, dex="xyz", venue="tradexyz") as found:
        assert found.venue.capabilities.dead_mans_switch == venue_pb2.PROVISION_EMULATED
        assert not found.venue.capabilities.dead_mans_switch_cancels_stops
