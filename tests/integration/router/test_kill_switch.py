"""Trading states, kill switch, dead-man's switch and risk events over real gateways and a real broker."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.duration_pb2 import Duration

from tests.broker import Broker
from tests.fakes_venue import Down, Held
from tests.integration.gateway.served_gateway import Gateway, serving_gateway
from tests.integration.router.risk_world import (
    BTC,
    MAIN,
    MAX_OPEN,
    VENUE,
    Front,
    fake_venue,
    fronted,
    open_at,
    refusal,
    served,
    until,
)
from tests.integration.router.test_process import environment, start
from venuemesh.errors import MeshError, Reason, Sent
from venuemesh.gateway.dead_mans_switch import ARMED, EMULATED, NATIVE
from venuemesh.v1 import order_pb2, risk_pb2
from venuemesh.v1 import order_service_pb2 as wire
from venuemesh.v1 import risk_service_pb2 as risk
from venuemesh.v1.risk_service_pb2_grpc import RiskServiceStub

SECOND = "secondvenue"
HALTED = risk_pb2.TRADING_STATE_HALTED
REDUCE_ONLY = risk_pb2.TRADING_STATE_REDUCE_ONLY
ACTIVE = risk_pb2.TRADING_STATE_ACTIVE


async def rest(gateway: Gateway, *keys: str, **changes: Any) -> None:
    """Orders that rest at a gateway's venue."""
    for key in keys:
        answer = await gateway.submit(key, venue=gateway.venue.name, **changes)
        assert answer.outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED


async def at_gateway(gateway: Gateway, key: str, **changes: Any) -> MeshError:
    """The refusal of a submit straight at a gateway."""
    return await refusal(gateway.submit(key, venue=gateway.venue.name, **changes))


async def finished(front: Front, **scope: str) -> risk_pb2.KillSwitchState:
    """The kill switch once every venue has verified."""
    async with asyncio.timeout(60):
        while True:
            kill = (await front.state()).kill_switch
            if kill.venues and all(row.verified for row in kill.venues):
                return kill
            await asyncio.sleep(0)


# --- trading state ---


async def test_halted_scope_refuses_at_router_and_gateway_and_others_trade_on(broker: Broker) -> None:
    """The gateway is the last line, also for callers that go past the router; cancels pass."""
    async with served(broker) as gateways, fronted(broker, gateways) as front:
        gateway = gateways[VENUE]
        await rest(gateway, "resting")
        await front.set_state(HALTED, symbol=BTC)
        await until(lambda: gateway.core.risk.board.states)
        for error in (await front.refused("a"), await at_gateway(gateway, "b")):
            assert (error.reason, error.sent) == (Reason.TRADING_HALTED, Sent.NO)
            assert error.metadata["scope"] == f"symbol={BTC}"
        reference = wire.OrderReference(account_id=MAIN, venue=VENUE, client_order_id="resting")
        cancel = await front.orders.CancelOrder(wire.CancelOrderRequest(reference=reference), timeout=5)
        assert cancel.outcome == wire.CANCEL_OUTCOME_CANCELED
        assert (await front.submit("c", symbol="ETH/USDC:USDC")).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        await front.set_state(ACTIVE, symbol=BTC)
        await until(lambda: gateway.core.desk.board.refusal(VENUE, MAIN, BTC, reduce_only=False) is None)
        assert (await front.submit("a")).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED


async def test_reduce_only_state_takes_only_orders_that_say_so(broker: Broker) -> None:
    """TRADING_REDUCE_ONLY at both."""
    async with served(broker) as gateways, fronted(broker, gateways) as front:
        gateway = gateways[VENUE]
        await front.set_state(REDUCE_ONLY, venue=VENUE)
        await until(lambda: gateway.core.risk.board.states)
        for error in (await front.refused("a"), await at_gateway(gateway, "b")):
            assert error.reason is Reason.TRADING_REDUCE_ONLY
        flagged = {"instructions": [order_pb2.EXECUTION_INSTRUCTION_REDUCE_ONLY], "side": order_pb2.SIDE_SELL}
        assert (await front.submit("c", **flagged)).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED


async def test_trading_state_holds_over_a_broker_outage_and_a_gateway_restart(broker: Broker) -> None:
    """The last known state counts; a new gateway knows it before its first order."""
    venue = fake_venue()
    async with served(broker, venue) as gateways:
        stub: Any = RiskServiceStub(gateways[VENUE].channel)
        request = risk.SetTradingStateRequest(state=HALTED, operator="ann", reason="night")
        answer = await stub.SetTradingState(request, timeout=5)
        assert answer.trading_state.scope.venue == VENUE
        await broker.stop()
        assert (await at_gateway(gateways[VENUE], "a")).reason in (Reason.TRADING_HALTED, Reason.JOURNAL_UNAVAILABLE)
        assert gateways[VENUE].core.desk.board.refusal(VENUE, MAIN, BTC, reduce_only=False) is not None
        await broker.start()
    async with serving_gateway(broker, venue=fake_venue()) as again:
        assert (await at_gateway(again, "b")).reason is Reason.TRADING_HALTED


# --- kill switch ---


async def test_kill_switch_halts_cancels_and_verifies_at_every_venue(broker: Broker) -> None:
    """Also orders the mesh did not place; release lets trading begin again."""
    one, two = fake_venue(), fake_venue(SECOND)
    async with served(broker, one, two) as gateways, fronted(broker, gateways) as front:
        await rest(gateways[VENUE], "a")
        await rest(gateways[SECOND], "c")
        ours = next(iter(one.orders.values()))
        one.orders["foreign"] = replace(ours, venue_order_id="99", venue_client_order_id="foreign")
        one.order_accounts["foreign"] = MAIN
        kill = await front.kill()
        rows = {row.venue: (row.verified, row.canceled_orders, row.remaining_orders) for row in kill.venues}
        assert rows == {VENUE: (True, 2, 0), SECOND: (True, 1, 0)}
        assert not open_at(one) and not open_at(two)
        for error in (await front.refused("d"), await at_gateway(gateways[SECOND], "e")):
            assert (error.reason, error.sent) == (Reason.KILL_SWITCH_ACTIVE, Sent.NO)
            assert error.metadata["operator"] == "ann"
        assert not (await front.release()).engaged
        await until(lambda: not gateways[VENUE].core.risk.board.engaged())
        assert (await front.submit("d")).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED


async def test_kill_switch_of_a_scope_leaves_the_rest_alone(broker: Broker) -> None:
    """One venue's orders go, the other's stay."""
    one, two = fake_venue(), fake_venue(SECOND)
    async with served(broker, one, two) as gateways, fronted(broker, gateways) as front:
        await rest(gateways[VENUE], "a")
        await rest(gateways[SECOND], "c")
        kill = await front.kill(venue=VENUE)
        assert [row.venue for row in kill.venues] == [VENUE]
        assert not open_at(one) and len(open_at(two)) == 1
        assert (await front.submit("d", venue=SECOND)).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED


async def test_kill_switch_cancels_as_soon_as_a_venue_is_back(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer names what is not verified; the work goes on by itself."""
    monkeypatch.setattr("router.risk_kill.RESERVE_S", 3.0)
    one, two = fake_venue(), fake_venue(SECOND)
    async with served(broker, one, two) as gateways, fronted(broker, gateways) as front:
        await rest(gateways[VENUE], "a")
        await rest(gateways[SECOND], "c")
        two.go_down()
        kill = await front.kill(timeout=5)
        rows = {row.venue: row for row in kill.venues}
        assert rows[VENUE].verified and not rows[SECOND].verified
        assert rows[SECOND].remaining_orders == 1 and rows[SECOND].message
        two.go_up()
        kill = await finished(front)
        assert not open_at(two)


async def test_kill_switch_reaches_a_gateway_that_was_down_when_it_starts_again(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its orders survived it at the venue; nothing new is taken before they are gone."""
    monkeypatch.setattr("router.risk_kill.RESERVE_S", 3.0)
    venue = fake_venue()
    async with served(broker, venue) as gateways:
        await rest(gateways[VENUE], "a")
        await gateways[VENUE].core.log.flush()
        port = gateways[VENUE].server.address
    async with fronted(broker, {VENUE: port}) as front:
        kill = await front.kill(timeout=4)
        assert [row.verified for row in kill.venues] == [False]
    assert len(open_at(venue)) == 1
    async with served(broker, venue) as gateways, fronted(broker, gateways) as front:
        await finished(front)
        assert not open_at(venue)
        assert (await at_gateway(gateways[VENUE], "b")).reason is Reason.KILL_SWITCH_ACTIVE


async def test_router_process_killed_amid_a_kill_switch_is_continued_by_the_next(broker: Broker) -> None:
    """SIGKILL while one venue has verified and the other has not answered; the next router never heard the command."""
    one, two = fake_venue(), fake_venue(SECOND)
    blocked = asyncio.Event()
    async with served(broker, one, two) as gateways:
        await rest(gateways[VENUE], "a")
        await rest(gateways[SECOND], "b", "c")
        venues = ",".join(f"{name}={gateway.server.address}" for name, gateway in gateways.items())
        process = await start(environment(broker, venues))
        assert process.stdout is not None
        ready = json.loads(await process.stdout.readline())
        two.script("cancel_order", Held(blocked), Held(blocked))
        async with grpc.aio.insecure_channel(ready["grpc_address"]) as channel:
            stub: Any = RiskServiceStub(channel)
            request = risk.EngageKillSwitchRequest(operator="ann", reason="too much")
            call = stub.EngageKillSwitch(request, timeout=10)
            board = gateways[VENUE].core.risk.board
            await until(lambda: two.calls.count("cancel_order") == 2)
            await until(lambda: any(row.verified for kill in board.kills.values() for row in kill.venues))
            process.kill()
            with pytest.raises(grpc.aio.AioRpcError):
                await call
        await process.communicate()
        assert not open_at(one) and len(open_at(two)) == 2
        blocked.set()
        async with fronted(broker, gateways) as front:
            kill = await finished(front)
            assert {row.venue: row.remaining_orders for row in kill.venues} == {VENUE: 0, SECOND: 0}
            assert kill.engaged_by == "ann"
        assert not open_at(two)


async def test_kill_switch_works_without_the_broker_and_is_stored_when_it_is_back(broker: Broker) -> None:
    """Cancels always get through; the answer says that it is not stored yet."""
    venue = fake_venue()
    async with served(broker, venue) as gateways, fronted(broker, gateways) as front:
        await rest(gateways[VENUE], "a")
        await broker.stop()
        kill = await front.kill(timeout=10)
        assert kill.engaged and not open_at(venue)
        assert kill.venues[0].message.startswith("not stored yet")
        assert (await front.refused("b")).reason in (Reason.KILL_SWITCH_ACTIVE, Reason.JOURNAL_UNAVAILABLE)
        await broker.start()
        await until(lambda: front.router.risk.store.board.kills)
        await until(lambda: not front.router.risk.kills._unstored)
    async with served(broker, fake_venue()) as again:
        assert (await at_gateway(again[VENUE], "c")).reason is Reason.KILL_SWITCH_ACTIVE


async def test_order_on_its_way_when_the_kill_switch_is_engaged_is_cancelled_too(broker: Broker) -> None:
    """It is journalled and its answer is not there; verified only when it is gone."""
    venue = fake_venue()
    async with served(broker, venue) as gateways, fronted(broker, gateways) as front:
        answered = asyncio.Event()
        venue.script("place_order", Held(answered))
        submit = asyncio.create_task(gateways[VENUE].submit("late"))
        await until(lambda: "place_order" in venue.calls)
        call = asyncio.create_task(front.kill())
        await until(lambda: gateways[VENUE].core.risk.board.engaged())
        answered.set()
        await submit
        await call
        await finished(front)
        assert not open_at(venue)


async def test_orders_racing_a_kill_switch_are_refused_or_gone(broker: Broker) -> None:
    """Whatever the interleaving, the verified answer means that the venue has none and gets none."""
    venue = fake_venue()
    async with served(broker, venue) as gateways, fronted(broker, gateways) as front:
        submits = [asyncio.create_task(gateways[VENUE].submit(f"k{n}")) for n in range(10)]
        kill = asyncio.create_task(front.kill())
        submits += [asyncio.create_task(front.submit(f"l{n}")) for n in range(10)]
        await asyncio.gather(*submits, return_exceptions=True)
        await kill
        await finished(front)
        assert not open_at(venue)


async def test_operator_and_reason_are_mandatory(broker: Broker) -> None:
    """For every change, at router and gateway."""
    async with served(broker) as gateways, fronted(broker, gateways) as front:
        here: Any = RiskServiceStub(gateways[VENUE].channel)
        for stub in (front.risk, here):
            for call, request in (
                (stub.EngageKillSwitch, risk.EngageKillSwitchRequest),
                (stub.ReleaseKillSwitch, risk.ReleaseKillSwitchRequest),
                (stub.SetTradingState, risk.SetTradingStateRequest),
            ):
                assert (await refusal(call(request(reason="r"), timeout=5))).field == "operator"
                assert (await refusal(call(request(operator="o"), timeout=5))).field == "reason"


async def test_venue_that_does_not_tell_is_not_verified(broker: Broker) -> None:
    """The cancels were confirmed, the list of open orders cannot be read: that is no proof."""
    venue = fake_venue()
    async with served(broker, venue) as gateways, fronted(broker, gateways, kill_retry_s=60.0) as front:
        await rest(gateways[VENUE], "a")
        venue.script("fetch_snapshot", Down())
        kill = await front.kill()
        assert [(row.verified, row.canceled_orders) for row in kill.venues] == [(False, 1)]
        again = await front.kill()
        assert [(row.verified, row.canceled_orders) for row in again.venues] == [(True, 1)]


# --- dead-man's switch ---


async def test_dead_mans_switch_over_all_venues_is_one_switch_with_a_row_per_venue(broker: Broker) -> None:
    """Its id names them, so that another router renews and disarms it."""
    one, two = fake_venue(), fake_venue(SECOND)
    one.capabilities.dead_mans_switch = NATIVE
    one.capabilities.dead_mans_switch_cancels_stops = True
    async with served(broker, one, two) as gateways, fronted(broker, gateways) as front, fronted(broker, gateways) as b:
        request = risk.ArmDeadMansSwitchRequest(account_id=MAIN, lease=Duration(seconds=60))
        switch = (await front.risk.ArmDeadMansSwitch(request, timeout=5)).dead_mans_switch
        assert switch.switch_id == f"{VENUE}+{SECOND}/{MAIN}"
        rows = {row.venue: (row.provision, row.cancels_stops) for row in switch.venues}
        assert rows == {VENUE: (NATIVE, True), SECOND: (EMULATED, False)}
        assert all(gateway.core.switches.armed[MAIN].state == ARMED for gateway in gateways.values())
        renewed = await b.risk.RenewLease(risk.RenewLeaseRequest(switch_id=switch.switch_id), timeout=5)
        assert renewed.dead_mans_switch.deadline.ToNanoseconds() > switch.deadline.ToNanoseconds()
        await until(lambda: len(front.router.risk.events.armed()) == 2)
        assert len((await front.state()).dead_mans_switches) == 2
        disarm = risk.DisarmDeadMansSwitchRequest(switch_id=switch.switch_id)
        assert (await b.risk.DisarmDeadMansSwitch(disarm, timeout=5)).was_armed
        assert not (await b.risk.DisarmDeadMansSwitch(disarm, timeout=5)).was_armed
        assert not any(gateway.core.switches.armed for gateway in gateways.values())


async def test_dead_mans_switch_where_a_venue_cannot_be_armed_says_so_and_a_lease_needs_all(broker: Broker) -> None:
    """The row of the missing venue has the reason; renewing names the venue that did not answer."""
    async with served(broker) as gateways, fronted(broker, {**gateways, SECOND: "127.0.0.1:1"}) as front:
        request = risk.ArmDeadMansSwitchRequest(account_id=MAIN, venues=[VENUE, SECOND], lease=Duration(seconds=60))
        switch = (await front.risk.ArmDeadMansSwitch(request, timeout=5)).dead_mans_switch
        rows = {row.venue: row.message for row in switch.venues}
        assert switch.switch_id == f"{VENUE}/{MAIN}" and rows[SECOND].startswith("not armed: GATEWAY_UNAVAILABLE")
        lease = risk.RenewLeaseRequest(switch_id=f"{VENUE}+{SECOND}/{MAIN}")
        error = await refusal(front.risk.RenewLease(lease, timeout=5))
        assert error.reason is Reason.GATEWAY_UNAVAILABLE and SECOND in error.message
        for bad in ("", "nothing", f"nowhere/{MAIN}"):
            fault = await refusal(front.risk.RenewLease(risk.RenewLeaseRequest(switch_id=bad), timeout=5))
            assert fault.field == "switch_id"


# --- events ---


async def read(stream: Any, count: int) -> list[risk.StreamRiskEventsResponse]:
    """The next messages of a stream that are events."""
    found: list[risk.StreamRiskEventsResponse] = []
    async with asyncio.timeout(60):
        async for message in stream:
            if message.WhichOneof("body") == "risk_event":
                found.append(message)
            if len(found) == count:
                break
    return found


async def test_risk_events_resume_at_another_router_without_loss_or_repeat(broker: Broker) -> None:
    """Property 41: snapshot, changes and refusals; what happened in between comes once."""
    async with served(broker) as gateways, fronted(broker, gateways) as front, fronted(broker, gateways) as other:
        stream = front.risk.StreamRiskEvents(risk.StreamRiskEventsRequest())
        first = await anext(aiter(stream))
        assert first.HasField("acknowledgement")
        await front.limit(MAX_OPEN, "0")
        await front.refused("a")
        seen = await read(stream, 2)
        stream.cancel()
        assert [one.risk_event.WhichOneof("change") for one in seen] == ["limit", "limit"]
        assert seen[1].risk_event.message.startswith("refused a of main")
        await front.set_state(HALTED)
        await front.limit(MAX_OPEN, None)
        request = risk.StreamRiskEventsRequest()
        request.options.resume_after.epoch = seen[0].header.epoch
        request.options.resume_after.sequence = seen[0].header.sequence
        again = await read(other.risk.StreamRiskEvents(request), 3)
        assert [one.risk_event.message for one in again] == [
            seen[1].risk_event.message,
            "mesh set to HALTED by ann: test",
            "MAX_OPEN_ORDERS of mesh removed by ann: test",
        ]


async def test_every_change_has_exactly_one_event_whatever_dies(broker: Broker) -> None:
    """A change whose writer died before its event was stored gets it from whoever follows the bucket."""
    async with served(broker) as gateways, fronted(broker, gateways) as front:
        store = front.router.risk.store

        async def broken(record: Any) -> None:
            return None

        announce, store.announce = store.announce, broken  # type: ignore[method-assign]
        other = gateways[VENUE].core.risk
        there, other.announce = other.announce, broken  # type: ignore[method-assign]
        await front.set_state(HALTED)
        store.announce, other.announce = announce, there  # type: ignore[method-assign]
        async with fronted(broker, gateways) as second, fronted(broker, gateways) as third:
            for one in (second, third):
                topic = one.router.risk.events.current()
                await until(lambda topic=topic: topic.sequence)
            request = risk.StreamRiskEventsRequest()
            request.options.resume_after.epoch = second.router.risk.events.current().epoch
            request.options.resume_after.sequence = 0
            await second.set_state(ACTIVE)
            events = await read(second.risk.StreamRiskEvents(request), 2)
            assert [one.risk_event.trading_state.version for one in events] == [1, 2]
