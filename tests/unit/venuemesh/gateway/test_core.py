"""The gateway as a whole: what it tells of itself, what it does with the venue's words, and how it ends."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from tests.fakes import ManualClock
from tests.fakes_venue import BTC, MAIN, FakeVenue
from tests.unit.venuemesh.gateway.gateway_world import MemoryBus, World, gateway, new_order, until
from tests.unit.venuemesh.gateway.order_facts import fill
from venuemesh import deadlines
from venuemesh.errors import VenueUnavailable
from venuemesh.gateway.core import CoreSettings, GatewayCore
from venuemesh.gateway.instrument_refresh import RefreshSettings
from venuemesh.gateway.venue import VenueOrder, VenueOrderState
from venuemesh.v1 import event_pb2, venue_pb2
from venuemesh.v1 import order_pb2 as pb


def bare_core(venue: FakeVenue, bus: MemoryBus) -> GatewayCore:
    return GatewayCore(
        venue=venue,
        environment=venue_pb2.ENVIRONMENT_SIMULATOR,
        bus=bus,  # type: ignore[arg-type]
        clock=venue.clock,
        writer_id="w",
        settings=CoreSettings(instruments=RefreshSettings(retry_s=0.0)),
    )


def told(world: World) -> list[venue_pb2.VenueState.ValueType]:
    rows = world.bus._stored.get("VENUEMESH_MESH", [])
    return [event_pb2.Event.FromString(row.payload).venue_status.state for row in rows]


# health


async def test_status_is_trading_once_every_account_is_caught_up() -> None:
    """The state follows the gate, not only the links; each change is published."""
    async with gateway() as world:
        assert world.core.status().state == venue_pb2.VENUE_STATE_TRADING
        assert bool(world.core.serving)
        world.clock.advance(1)
        world.venue.go_down("socket closed")
        assert world.core.status().state == venue_pb2.VENUE_STATE_DOWN
        assert "socket closed" in world.core.status().cause
        assert world.core.serving is False
        world.clock.advance(1)
        world.venue.go_up()
        await until(lambda: world.core.serving)
        assert world.core.status().state == venue_pb2.VENUE_STATE_TRADING
        world.clock.advance(1)
        world.core.drain()
        assert world.core.status().state == venue_pb2.VENUE_STATE_DRAINING
        await world.durable()
        states = told(world)
        assert states[-1] == venue_pb2.VENUE_STATE_DRAINING
        assert states.count(venue_pb2.VENUE_STATE_TRADING) == 2
        assert venue_pb2.VENUE_STATE_DOWN in states


async def test_status_listener_hears_every_change_once() -> None:
    """What StreamVenueStatus hangs on."""
    async with gateway() as world:
        heard: list[venue_pb2.VenueStatus] = []
        world.core.on_status.append(heard.append)
        world.core.intake.on_account_lost(MAIN, "cut")
        world.core.intake.on_account_lost(MAIN, "cut")
        assert [one.cause for one in heard] == ["main: cut"]


# what the venue tells


async def test_push_about_an_order_of_somebody_else_is_left_to_reconciliation() -> None:
    """No order of ours appears, nothing is told."""
    async with gateway() as world:
        view = VenueOrder(
            venue_order_id="99",
            venue_client_order_id=None,
            symbol=BTC,
            side=pb.SIDE_BUY,
            quantity=Decimal(1),
            filled_quantity=None,
            price=None,
            state=VenueOrderState.WORKING,
            reason=None,
            text="open",
            venue_time_ns=0,
        )
        before = world.core.log.sequence(MAIN)
        world.core.intake.on_order(MAIN, view)
        assert world.core.log.sequence(MAIN) == before


async def test_history_that_a_stream_begins_with_is_ignored() -> None:
    """The first frame of a fill stream holds the latest thousands of all time."""
    async with gateway() as world:
        for number in range(5):
            world.core.intake.on_fill(MAIN, fill(f"old-{number}", 1, time_ns=world.clock.now_ns() - 10**12 + number))
        assert world.account.positions == {}


# restart


async def test_recover_gives_back_the_nonce_and_the_open_orders() -> None:
    """No nonce is used twice, and nothing is sent while recovering."""
    async with gateway() as world:
        await world.submit("key-1")
        await world.submit("key-2")
        await world.durable()
    again = FakeVenue(world.clock)
    core = bare_core(again, world.bus)
    await core.recover()
    assert again.reserve(MAIN, not_after_ns=0).nonce == 3
    assert again.calls == []
    assert len(core.accounts[MAIN].open_orders()) == 2
    assert core.log.sequence(MAIN) >= len(world.bus.events())


async def test_recover_of_an_empty_journal_is_a_new_account() -> None:
    """First start."""
    core = bare_core(FakeVenue(), MemoryBus())
    await core.recover()
    assert core.accounts[MAIN].newborn
    assert core.accounts[MAIN].all_orders() == []


# running


async def test_venue_without_instruments_is_asked_again_before_anything_else_begins() -> None:
    """The links open when the instruments are known."""
    venue = FakeVenue(ManualClock())
    core = bare_core(venue, MemoryBus())
    venue.script("fetch_instruments", VenueUnavailable("down"), VenueUnavailable("down"))
    await core.recover()
    task = asyncio.create_task(core.run())
    async with asyncio.timeout(60):
        await venue.running.wait()
    assert venue.calls[:3] == ["fetch_instruments"] * 3
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


async def test_part_that_fails_ends_the_whole() -> None:
    """A gateway does not go on with a dead link task."""

    class Broken(FakeVenue):
        async def run(self, sink: Any) -> None:
            raise ZeroDivisionError

    core = bare_core(Broken(), MemoryBus())
    await core.recover()
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.timeout(60):
            await core.run()
    assert caught.value.subgroup(ZeroDivisionError) is not None


async def test_spawn_before_run_is_refused_without_a_stray_coroutine() -> None:
    """Nothing may be begun that nobody would finish."""
    core = bare_core(FakeVenue(), MemoryBus())

    async def work() -> None:
        raise AssertionError

    with pytest.raises(RuntimeError):
        core.spawn(work(), "x")


async def test_background_work_does_not_inherit_the_callers_deadline() -> None:
    """A resolver or reconciler started inside a call must not give up with it."""
    async with gateway() as world:
        deadlines.set_deadline(deadlines.Deadline(world.clock, world.clock.monotonic_s() + 1))
        seen: list[float | None] = []

        async def work() -> None:
            seen.append(deadlines.remaining_s())

        world.core.spawn(work(), "work")
        await until(lambda: seen)
        deadlines.set_deadline(None)
        assert seen == [None]


async def test_orders_of_two_accounts_under_one_key_are_two_orders() -> None:
    """The key belongs to the account."""
    async with gateway(venue=FakeVenue(accounts=("main", "other"))) as world:
        await until(lambda: world.core.desk.gates["other"].ready)
        one = await world.core.desk.submit(new_order("key-1"))
        two = await world.core.desk.submit(new_order("key-1", account_id="other"))
        assert one.order.order_id != two.order.order_id
        assert not two.replayed
