"""Dead-man's switch of a gateway: native where the venue has one, else its own timer; it survives restarts."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from tests.fakes import ManualClock
from tests.fakes_venue import Down, FakeVenue, Lost
from tests.unit.venuemesh.gateway.gateway_world import Caller, MemoryBus, World, gateway
from venuemesh.errors import (
    InvalidRequest,
    JournalUnavailable,
    NotFound,
    OutcomeUnknown,
    PreconditionFailed,
    Reason,
    VenueRejected,
)
from venuemesh.gateway.venue import Refused, VenueOrderState
from venuemesh.v1 import operations_pb2, order_pb2, risk_pb2, venue_pb2
from venuemesh.v1 import risk_service_pb2 as risk

CALLER = Caller()
NATIVE, EMULATED = venue_pb2.PROVISION_NATIVE, venue_pb2.PROVISION_EMULATED
TOO_LITTLE = Refused(reason=Reason.VENUE_REJECTED, text="not enough volume traded")


def native_venue() -> FakeVenue:
    """A venue with a switch of its own, which takes stops too."""
    venue = FakeVenue()
    venue.capabilities.dead_mans_switch = NATIVE
    venue.capabilities.dead_mans_switch_cancels_stops = True
    return venue


async def arm(world: World, lease_s: int = 30, **fields: Any) -> risk_pb2.DeadMansSwitch:
    """Arm the switch of `main`."""
    request = risk.ArmDeadMansSwitchRequest(account_id="main", lease=Duration(seconds=lease_s), **fields)
    switch: risk_pb2.DeadMansSwitch = (await world.risk.ArmDeadMansSwitch(request, CALLER)).dead_mans_switch
    return switch


async def renew(world: World, switch: risk_pb2.DeadMansSwitch) -> risk_pb2.DeadMansSwitch:
    """Say that the caller lives."""
    response = await world.risk.RenewLease(risk.RenewLeaseRequest(switch_id=switch.switch_id), CALLER)
    renewed: risk_pb2.DeadMansSwitch = response.dead_mans_switch
    return renewed


async def disarm(world: World, switch: risk_pb2.DeadMansSwitch) -> bool:
    """Take it away."""
    request = risk.DisarmDeadMansSwitchRequest(switch_id=switch.switch_id)
    return bool((await world.risk.DisarmDeadMansSwitch(request, CALLER)).was_armed)


async def after(world: World, seconds: float) -> None:
    """Let time pass and the switches look at it."""
    world.clock.advance(seconds)
    await world.core.switches.fire_due()


def working(world: World) -> list[str]:
    """Keys of orders that are live."""
    return [order.terms.client_order_id for order in world.account.open_orders()]


async def test_switch_when_nobody_renews_cancels_the_orders() -> None:
    """And says so with an alert; a renewal comes too late."""
    async with gateway() as world:
        told = list[operations_pb2.Alert]()
        world.core.alerts.listeners.append(told.append)
        await world.submit("k1")
        await world.submit("k2")
        switch = await arm(world)
        assert (switch.venues[0].provision, switch.venues[0].cancels_stops) == (EMULATED, False)
        assert switch.deadline.ToNanoseconds() == world.clock.now_ns() + 30_000_000_000
        await after(world, 29.9)
        assert working(world) == ["k1", "k2"]
        await after(world, 0.2)
        assert working(world) == []
        assert [(alert.kind, alert.severity) for alert in told] == [
            ("dead_mans_switch_fired", operations_pb2.ALERT_SEVERITY_CRITICAL)
        ]
        with pytest.raises(PreconditionFailed):
            await renew(world, switch)
        assert not await disarm(world, switch)


async def test_switch_fires_by_itself_when_its_time_comes() -> None:
    """The gateway's own task, in real time."""
    async with gateway() as world:
        await world.submit("k1")
        await arm(world, 1)
        world.clock.advance(1.0)
        world.core.switches._wake.set()
        order = world.account.order_by_key("k1")
        assert order is not None
        assert await world.core.desk.waits.until(order, lambda state: state.terminal, 5.0)


async def test_switch_that_is_renewed_does_not_fire() -> None:
    """Each renewal moves the deadline on by the lease."""
    async with gateway() as world:
        await world.submit("k1")
        switch = await arm(world)
        for _ in range(5):
            await after(world, 20.0)
            switch = await renew(world, switch)
        assert working(world) == ["k1"]
        assert switch.deadline.ToNanoseconds() == world.clock.now_ns() + 30_000_000_000
        await after(world, 30.0)
        assert working(world) == []


async def test_switch_that_is_disarmed_does_not_fire() -> None:
    """Also not after a restart."""
    bus, clock = MemoryBus(), ManualClock()
    async with gateway(bus=bus, clock=clock) as world:
        switch = await arm(world)
        assert await disarm(world, switch)
        assert not await disarm(world, switch)
    async with gateway(bus=bus, clock=clock) as world:
        await world.submit("k1")
        await after(world, 100.0)
        assert working(world) == ["k1"]
        with pytest.raises(PreconditionFailed):
            await renew(world, switch)


async def test_switch_survives_a_restart_and_can_be_renewed() -> None:
    """Its lease is kept; a deadline that passed meanwhile fires at once."""
    bus, clock, venue = MemoryBus(), ManualClock(), FakeVenue()
    async with gateway(bus=bus, clock=clock, venue=venue) as world:
        await world.submit("k1")
        switch = await arm(world)
        await world.durable()
    clock.advance(10.0)
    async with gateway(bus=bus, clock=clock, venue=venue) as world:
        await renew(world, switch)
        await after(world, 25.0)
        assert working(world) == ["k1"]
        await world.durable()
    clock.advance(10.0)
    async with gateway(bus=bus, clock=clock, venue=venue) as world:
        await after(world, 0.0)
        order = world.account.order_by_key("k1")
        assert order is not None
        assert await world.core.desk.waits.until(order, lambda state: state.terminal, 5.0)


async def test_switch_of_a_venue_that_has_one_is_set_there_too() -> None:
    """The answer says native, and that stops go as well."""
    async with gateway(venue=native_venue()) as world:
        switch = await arm(world)
        (row,) = switch.venues
        assert (row.provision, row.cancels_stops, row.message) == (NATIVE, True, "")
        assert world.venue.schedules == {"main": switch.deadline.ToNanoseconds()}
        world.clock.advance(5.0)
        renewed = await renew(world, switch)
        assert world.venue.schedules == {"main": renewed.deadline.ToNanoseconds()}
        assert await disarm(world, switch)
        assert world.venue.schedules == {"main": None}


async def test_switch_that_the_venue_refuses_is_the_gateways_and_says_why() -> None:
    """As for an account that has not traded enough."""
    async with gateway(venue=native_venue()) as world:
        await world.submit("k1")
        world.venue.script("schedule_cancel", TOO_LITTLE)
        switch = await arm(world)
        (row,) = switch.venues
        assert (row.provision, row.cancels_stops) == (EMULATED, False)
        assert "not enough volume traded" in row.message
        await renew(world, switch)
        assert world.venue.calls.count("schedule_cancel") == 1
        await after(world, 30.0)
        assert working(world) == []


async def test_switch_when_the_venues_answer_is_lost_may_take_stops_and_says_so() -> None:
    """Nobody can tell whether it is set there: it is taken back and renewed as if it were."""
    async with gateway(venue=native_venue()) as world:
        world.venue.script("schedule_cancel", Lost())
        switch = await arm(world)
        assert (switch.venues[0].provision, switch.venues[0].cancels_stops) == (EMULATED, True)
        assert await disarm(world, switch)
        assert world.venue.schedules == {"main": None}


async def test_renewal_that_the_venue_refuses_leaves_the_old_deadline() -> None:
    """It stands at the venue; the caller is told and may try again."""
    async with gateway(venue=native_venue()) as world:
        switch = await arm(world)
        world.clock.advance(10.0)
        for failure, error in ((TOO_LITTLE, VenueRejected), (Lost(arrived=False), OutcomeUnknown)):
            world.venue.script("schedule_cancel", failure)
            with pytest.raises(error):
                await renew(world, switch)
        assert world.core.switches.armed["main"].deadline == switch.deadline
        world.venue.script("schedule_cancel", TOO_LITTLE)
        with pytest.raises(VenueRejected):
            await disarm(world, switch)
        assert await disarm(world, switch)


async def test_switch_that_cannot_be_stored_is_not_armed() -> None:
    """It would not outlive the process."""
    async with gateway() as world:
        world.bus.connected = False
        with pytest.raises(JournalUnavailable):
            await arm(world)
        world.bus.connected = True
        assert world.core.switches.armed == {}


async def test_switch_that_fired_and_could_not_be_stored_cancels_once() -> None:
    """Its record is stored later; orders made meanwhile are not touched again."""
    async with gateway() as world:
        await world.submit("k1")
        switch = await arm(world)
        world.bus.connected = False
        await after(world, 31.0)
        assert working(world) == []
        world.bus.connected = True
        await world.submit("k2")
        with pytest.raises(PreconditionFailed):
            await renew(world, switch)
        await after(world, 2.0)
        assert working(world) == ["k2"]
        assert world.core.switches.armed == {}


async def test_switch_that_fires_while_the_link_is_down_keeps_trying() -> None:
    """What is not confirmed is alerted and stays a pending cancel."""
    async with gateway() as world:
        told = list[operations_pb2.Alert]()
        world.core.alerts.listeners.append(told.append)
        await world.submit("k1")
        await arm(world)
        world.venue.script("cancel_order", Down(), Down())
        await after(world, 30.0)
        assert [alert.kind for alert in told] == ["dead_mans_switch_fired", "dead_mans_switch_left_orders"]
        order = world.account.order_by_key("k1")
        assert order is not None
        assert order.pending_cancel
        world.clock.advance(10.0)
        world.core.resolver.hurry("main")
        assert await world.core.desk.waits.until(order, lambda state: state.terminal, 5.0)
        assert world.venue.order_of(world.venue.placed[0]).state is VenueOrderState.CANCELED


async def test_switch_of_another_venue_account_or_lease_is_refused() -> None:
    """Each with the field at fault."""
    async with gateway() as world:
        with pytest.raises(InvalidRequest):
            await arm(world, venues=["elsewhere"])
        for lease_s in (0, 3_601):
            with pytest.raises(InvalidRequest) as caught:
                await arm(world, lease_s)
            assert caught.value.field == "lease"
        with pytest.raises(NotFound):
            await renew(world, risk_pb2.DeadMansSwitch(switch_id="elsewhere/main"))
        with pytest.raises(NotFound):
            await disarm(world, risk_pb2.DeadMansSwitch(switch_id="fakevenue/nobody"))
        with pytest.raises(PreconditionFailed):
            await renew(world, risk_pb2.DeadMansSwitch(switch_id="fakevenue/main"))
        assert (await arm(world, venues=["fakevenue"])).switch_id == "fakevenue/main"


@pytest.mark.parametrize("native", [True, False])
async def test_switch_that_fires_leaves_stops_unless_the_venue_took_them(native: bool) -> None:
    """A reduce-only stop protects somebody who is away: the gateway's own switch leaves it."""
    async with gateway(venue=native_venue() if native else FakeVenue()) as world:
        await world.submit("plain")
        await world.submit(
            "stop",
            side=order_pb2.SIDE_SELL,
            order_type=order_pb2.ORDER_TYPE_STOP_LIMIT,
            trigger=order_pb2.Trigger(price="90"),
            price="89",
            instructions=[order_pb2.EXECUTION_INSTRUCTION_REDUCE_ONLY],
        )
        await arm(world)
        await after(world, 30.0)
        assert working(world) == ([] if native else ["stop"])
