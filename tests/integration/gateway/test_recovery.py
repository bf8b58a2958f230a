"""Crashes at every step of a submit, over a real journal: one venue order or a proven none, and the truth on repeat."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from tests.broker import Broker
from tests.fakes import ManualClock
from tests.fakes_venue import BTC, MAIN, VENUE, FakeVenue, Lost
from tests.unit.venuemesh.gateway.gateway_world import new_order
from venuemesh.bus import Bus, BusOptions
from venuemesh.crashpoints import CrashPoint
from venuemesh.errors import ClientOrderIdReused
from venuemesh.gateway import sending
from venuemesh.gateway.core import CoreSettings, GatewayCore
from venuemesh.gateway.orders import OrderState
from venuemesh.gateway.venue import OrderTicket, Placed, Refused
from venuemesh.journal import AccountHistory
from venuemesh.subjects import stream_specs
from venuemesh.v1 import account_pb2, event_pb2, venue_pb2
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as wire
from venuemesh.v1 import reconciliation_service_pb2 as reconciliation

LIMIT_S = 30.0


class CrashedError(Exception):
    """The process is gone."""


@pytest.fixture
async def bus(broker: Broker) -> AsyncIterator[Bus]:
    async with Bus.connect(BusOptions(servers=[broker.url], name="test", storage="memory")) as connected:
        await connected.ensure_streams(stream_specs(event_max_age_s=0))
        yield connected


class Dying(FakeVenue):
    """A venue that lives on while gateways die: `on_place` runs inside the call."""

    arrives = True

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.hanging = asyncio.Event()
        self.hang = False

    async def place_order(self, ticket: OrderTicket, sent: Callable[[], None]) -> Placed | Refused:
        self.placed.append(ticket)
        sent()
        placed = self._rest(ticket) if self.arrives else Placed(venue_order_id="never")
        if self.hang:
            self.hanging.set()
            await asyncio.Event().wait()
        return placed


lives = 0


@asynccontextmanager
async def life(bus: Bus, venue: FakeVenue, *, crashes: bool = False) -> AsyncIterator[GatewayCore]:
    """One process: recovered and running. Ends without flushing anything."""
    global lives
    lives += 1
    core = GatewayCore(
        venue=venue,
        environment=venue_pb2.ENVIRONMENT_SIMULATOR,
        bus=bus,
        clock=venue.clock,
        writer_id=f"life-{lives}",
        settings=CoreSettings(),
    )
    await core.recover()
    task = asyncio.create_task(core.run(), name="core")
    try:
        async with asyncio.timeout(LIMIT_S):
            await until(lambda: core.desk.gates[MAIN].ready or task.done())
            yield core
    finally:
        task.cancel()
        (failure,) = await asyncio.gather(task, return_exceptions=True)
        if not crashes and not isinstance(failure, asyncio.CancelledError):
            assert isinstance(failure, BaseException)
            raise failure


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not condition():
            await asyncio.sleep(0.001)


async def settle(core: GatewayCore, clock: ManualClock, key: str = "key-1") -> OrderState:
    """Let time pass until nothing about the order is in doubt."""
    clock.advance(60)
    core.resolver.hurry(MAIN)

    def settled() -> bool:
        order = core.accounts[MAIN].order_by_key(key)
        return order is not None and (order.terminal or order.working) and not order.ending

    await until(settled)
    order = core.accounts[MAIN].order_by_key(key)
    assert order is not None
    return order


async def stored(bus: Bus) -> list[event_pb2.Event]:
    """The account's log as a reader sees it; its numbers have no holes and no repeats."""
    events = [event async for event in AccountHistory(bus, VENUE, MAIN).replay()]
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    versions: dict[str, int] = {}
    for event in events:
        if event.HasField("execution_report") and event.execution_report.HasField("order"):
            order = event.execution_report.order
            assert order.order_version == versions.get(order.order_id, 0) + 1
            versions[order.order_id] = order.order_version
    return events


def dies_at(monkeypatch: pytest.MonkeyPatch, wanted: CrashPoint) -> asyncio.Event:
    """The next time the desk passes `wanted`, its process ends."""
    dead = asyncio.Event()

    def reach(point: CrashPoint) -> None:
        if point is wanted and not dead.is_set():
            dead.set()
            raise CrashedError

    monkeypatch.setattr(sending, "reach", reach)
    return dead


STEPS = [CrashPoint.INTENT_WRITTEN, CrashPoint.EVENT_QUEUED, CrashPoint.ANSWER_READ, CrashPoint.ANSWER_FOLDED]


@pytest.mark.parametrize("point", STEPS)
async def test_crash_at_a_step_of_submit_leaves_one_order_or_a_proven_none(
    bus: Bus, point: CrashPoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """G2: nothing is sent again; the repeat of the key gets UNKNOWN, then what is true."""
    clock = ManualClock()
    venue = Dying(clock)
    dead = dies_at(monkeypatch, point)
    async with life(bus, venue, crashes=True) as core:
        call = asyncio.create_task(core.desk.submit(new_order("key-1")))
        await dead.wait()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    placed = len(venue.placed)
    assert placed == (0 if point in STEPS[:2] else 1)
    async with life(bus, venue) as core:
        first = await core.desk.submit(new_order("key-1"))
        assert first.replayed
        assert first.outcome in (wire.SUBMIT_OUTCOME_UNKNOWN, wire.SUBMIT_OUTCOME_ACKNOWLEDGED)
        order = await settle(core, clock)
        answer = await core.desk.submit(new_order("key-1"))
        expected = wire.SUBMIT_OUTCOME_ACKNOWLEDGED if placed else wire.SUBMIT_OUTCOME_REJECTED
        assert (answer.outcome, answer.replayed) == (expected, True)
        assert order.working is bool(placed)
        with pytest.raises(ClientOrderIdReused):
            await core.desk.submit(new_order("key-1", quantity="7"))
        await core.log.flush()
    assert len(venue.placed) == placed
    assert len(venue.orders) == placed
    await stored(bus)


@pytest.mark.parametrize("durable", [True, False], ids=["events stored", "events lost"])
@pytest.mark.parametrize(("arrives", "filled"), [(False, None), (True, None), (True, "0.4"), (True, "1")], ids=str)
async def test_crash_after_the_request_was_written(bus: Bus, durable: bool, arrives: bool, filled: str | None) -> None:
    """The answer was never read, the venue went on alone, and the events of the order may be lost with the process."""
    clock = ManualClock()
    venue = Dying(clock)
    venue.hang, venue.arrives = True, arrives
    async with life(bus, venue) as core:
        await core.log.flush()
        if not durable:
            venue.pushing = False
            core.log._outbox._window = 0
        call = asyncio.create_task(core.desk.submit(new_order("key-1")))
        await venue.hanging.wait()
        if durable:
            await core.log.flush()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    venue.hang, venue.pushing = False, True
    clock.advance(1)
    if filled:
        venue.fill(venue.order_of(venue.placed[0]), filled, "100")
    async with life(bus, venue) as core:
        order = await settle(core, clock)
        answer = await core.desk.submit(new_order("key-1"))
        assert answer.replayed
        if not arrives:
            assert answer.outcome == wire.SUBMIT_OUTCOME_REJECTED
        else:
            assert answer.outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
            assert order.filled == Decimal(filled or 0)
            assert order.terminal is (filled == "1")
            position = core.accounts[MAIN].positions.get(BTC)
            assert (position.quantity if position else 0) == Decimal(filled or 0)
        await core.log.flush()
    assert len(venue.placed) == 1
    events = await stored(bus)
    assert len([one for one in events if one.execution_report.HasField("fill")]) == bool(filled)
    assert not [one for one in events if one.position.change == account_pb2.POSITION_CHANGE_RECONCILE]


async def test_crash_between_a_fill_and_its_position_event_catches_the_position_up_once(bus: Bus) -> None:
    """With its fee, although the instruments are learnt after the journal; and not again at the next start."""
    clock = ManualClock()
    venue = Dying(clock)
    dead = asyncio.Event()

    def die(event: event_pb2.Event) -> None:
        if event.execution_report.HasField("fill"):
            dead.set()
            raise CrashedError

    async with life(bus, venue, crashes=True) as core:
        await core.desk.submit(new_order("key-1"))
        await core.log.flush()
        core.log._outbox._window = 1
        core.log.on_durable(die)
        venue.fill(venue.order_of(venue.placed[0]), "0.4", "100", fee="0.05")
        await dead.wait()
    assert not [one for one in await stored(bus) if one.HasField("position")]
    for _ in range(2):
        async with life(bus, venue) as core:
            position = core.accounts[MAIN].positions[BTC]
            assert (position.quantity, position.fees_paid) == (Decimal("0.4"), Decimal("0.05"))
            await core.log.flush()
    told = [one.position for one in await stored(bus) if one.HasField("position")]
    assert [(one.quantity, one.fees_paid, one.settle_asset) for one in told] == [("0.4", "0.05", "USDC")]


async def test_restart_without_a_crash_changes_nothing_but_freshness(bus: Bus) -> None:
    """Orders, positions and answers are the same; the numbering goes on."""
    clock = ManualClock()
    venue = Dying(clock)
    async with life(bus, venue) as core:
        for number in range(5):
            await core.desk.submit(new_order(f"key-{number}"))
        venue.fill(venue.order_of(venue.placed[0]), "1", "100")
        venue.fill(venue.order_of(venue.placed[1]), "0.25", "101")
        before = {order.order_id: order for order in core.accounts[MAIN].all_orders()}
        positions = dict(core.accounts[MAIN].positions)
        await core.log.flush()
        count = len(await stored(bus))
    async with life(bus, venue) as core:
        after = {order.order_id: order for order in core.accounts[MAIN].all_orders()}
        assert after == before
        assert core.accounts[MAIN].positions == positions
        assert (await core.desk.submit(new_order("key-0"))).order.status == pb.ORDER_STATUS_FILLED
        await core.log.flush()
    news = (await stored(bus))[count:]
    assert {one.WhichOneof("payload") for one in news} == {"stream_status"}
    assert len(venue.placed) == 5


async def test_pending_cancel_goes_on_after_a_restart(bus: Bus) -> None:
    """Cancels always get through, also over the end of the process that took them."""
    clock = ManualClock()
    venue = Dying(clock)
    async with life(bus, venue) as core:
        await core.desk.submit(new_order("key-1"))
        venue.up = False
        answer = await core.working.cancel(wire.OrderReference(account_id=MAIN, client_order_id="key-1"))
        assert answer.outcome == wire.CANCEL_OUTCOME_UNKNOWN
        await core.log.flush()
    venue.up = True
    async with life(bus, venue) as core:
        order = await settle(core, clock)
        await until(lambda: core.accounts[MAIN].order(order.order_id).terminal)  # type: ignore[union-attr]
        assert len(venue.cancels) > 1


async def test_amendment_cut_by_a_crash_is_settled_by_what_the_venue_shows(bus: Bus) -> None:
    """It took effect there: the order has the new terms here, under the same key."""
    clock = ManualClock()
    venue = Dying(clock)
    hanging = asyncio.Event()

    async def hang(*arguments: Any) -> Any:
        venue._amend(*arguments)
        hanging.set()
        await asyncio.Event().wait()

    async with life(bus, venue) as core:
        await core.desk.submit(new_order("key-1"))
        venue.amend_order = hang  # type: ignore[method-assign,assignment]
        request = wire.ReplaceOrderRequest(
            reference=wire.OrderReference(account_id=MAIN, client_order_id="key-1"), request_id="r-1", price="105"
        )
        call = asyncio.create_task(core.working.replace(request))
        await hanging.wait()
        await core.log.flush()
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
    async with life(bus, venue) as core:
        await until(lambda: core.accounts[MAIN].order_by_key("key-1").price == Decimal(105))  # type: ignore[union-attr]
        assert not core.accounts[MAIN].order_by_key("key-1").pending_replace  # type: ignore[union-attr]


@pytest.mark.parametrize("new_life", [True, False], ids=["new id at the venue", "same id"])
async def test_confirmed_amendment_whose_events_a_crash_took_has_the_venues_terms(bus: Bus, new_life: bool) -> None:
    """The caller was told that it holds; a restart must not show the old price for ever."""
    clock = ManualClock()
    venue = Dying(clock)
    request = wire.ReplaceOrderRequest(
        reference=wire.OrderReference(account_id=MAIN, client_order_id="key-1"), request_id="r-1", price="105"
    )
    async with life(bus, venue) as core:
        await core.desk.submit(new_order("key-1"))
        await core.log.flush()
        core.log._outbox._window = 0
        assert (await core.working.replace(request)).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
    if new_life:
        name, order = next(iter(venue.orders.items()))
        venue.orders[name] = replace(order, venue_order_id="another")
    clock.advance(60)
    async with life(bus, venue) as core:
        await core.reconciler.reconcile(MAIN)
        order = core.accounts[MAIN].order_by_key("key-1")
        assert order is not None
        assert (order.price, order.working) == (Decimal(105), True)
        await core.log.flush()
    events = await stored(bus)
    assert [one.execution_report.order.terms.price for one in events if one.HasField("execution_report")][-1] == "105"


# operators


def by_operator(resolution: reconciliation.Resolution.ValueType) -> reconciliation.ResolveUncertainOrderRequest:
    return reconciliation.ResolveUncertainOrderRequest(
        reference=wire.OrderReference(account_id=MAIN, client_order_id="key-1"),
        resolution=resolution,
        operator="ops-1",
        reason="the venue says it never came",
        request_id="fix-1",
    )


async def test_operators_action_and_the_evidence_before_it_survive_a_restart(bus: Bus) -> None:
    """G6: who did what and why is in the journal and in the order's events; a repeat does nothing more."""
    clock = ManualClock()
    venue = FakeVenue(clock)
    async with life(bus, venue) as core:
        venue.pushing = False
        venue.script("place_order", Lost(arrived=False))
        venue.script("fetch_order", *[Lost()] * 100)
        await core.desk.submit(new_order("key-1"))
        await core.log.flush()
    venue.pushing = True
    async with life(bus, venue) as core:
        (row,) = core.resolver.uncertain_orders()
        assert (row.evidence[0].source, row.evidence[0].finding) == ("gateway", "the reply to place_order was lost")
        answer = await core.operators.resolve(by_operator(reconciliation.RESOLUTION_DECLARE_REJECTED))
        assert (answer.order.status, answer.replayed) == (pb.ORDER_STATUS_REJECTED, False)
        await core.log.flush()
    async with life(bus, venue) as core:
        order = core.accounts[MAIN].order_by_key("key-1")
        assert order is not None
        assert order.status == pb.ORDER_STATUS_REJECTED
        asked = len(venue.calls)
        answer = await core.operators.resolve(by_operator(reconciliation.RESOLUTION_DECLARE_REJECTED))
        assert (answer.order.status, answer.replayed) == (pb.ORDER_STATUS_REJECTED, True)
        assert len(venue.calls) == asked
        with pytest.raises(ClientOrderIdReused):
            await core.operators.resolve(by_operator(reconciliation.RESOLUTION_QUERY))
        reports = [event.execution_report for event in await stored(bus) if event.HasField("execution_report")]
        texts = [report.text for report in reports if report.origin == pb.ORIGIN_OPERATOR]
        assert len(texts) == 2
        assert all("ops-1: the venue says it never came" in text for text in texts)


async def test_order_that_was_held_absent_over_a_restart_comes_back_when_the_venue_shows_it(bus: Bus) -> None:
    """A conclusion of an earlier process is as open to proof as one of our own."""
    clock = ManualClock()
    venue = FakeVenue(clock)
    async with life(bus, venue) as core:
        venue.pushing = False
        venue.script("place_order", Lost(arrived=True))
        venue.script("fetch_order", *[Lost()] * 100)
        await core.desk.submit(new_order("key-1"))
        await core.operators.resolve(by_operator(reconciliation.RESOLUTION_DECLARE_REJECTED))
        await core.log.flush()
    venue.pushing = True
    clock.advance(60)
    async with life(bus, venue) as core:
        order = core.accounts[MAIN].order_by_key("key-1")
        assert order is not None
        assert order.working
        assert core.reconciler.last_report(MAIN).discrepancies[0].order_id == order.order_id  # type: ignore[union-attr]
        repeat = await core.desk.submit(new_order("key-1"))
        assert (repeat.outcome, repeat.replayed) == (wire.SUBMIT_OUTCOME_ACKNOWLEDGED, True)
        assert len(venue.placed) == 1
    await stored(bus)


# one key, two processes


async def test_one_key_through_two_gateways_at_once_is_one_order(bus: Bus) -> None:
    """Property 36: JetStream decides whose it is; the other gets the same order as a repeat, and learns its truth."""
    venues = [FakeVenue(ManualClock()) for _ in range(2)]
    # One venue behind two gateways: what one places the other finds.
    venues[1].orders, venues[1].order_accounts = venues[0].orders, venues[0].order_accounts
    keys = [f"key-{number}" for number in range(20)]
    async with life(bus, venues[0]) as first, life(bus, venues[1]) as second:
        desks = (first.desk, second.desk)
        answers = await asyncio.gather(*(desk.submit(new_order(key)) for key in keys for desk in desks))
        placed = [ticket.order_id for venue in venues for ticket in venue.placed]
        assert sorted(placed) == sorted({answer.order.order_id for answer in answers})
        assert len(placed) == len(keys)
        for mine, other in zip(answers[::2], answers[1::2], strict=True):
            assert mine.order.order_id == other.order.order_id
            assert sorted([mine.replayed, other.replayed]) == [False, True]
            assert wire.SUBMIT_OUTCOME_REJECTED not in (mine.outcome, other.outcome)
        for core in (first, second):
            account = core.accounts[MAIN]
            await until(lambda account=account: all(account.order_by_key(key).working for key in keys))
        again = await asyncio.gather(*(desk.submit(new_order(key)) for key in keys for desk in desks))
        assert {(one.outcome, one.replayed) for one in again} == {(wire.SUBMIT_OUTCOME_ACKNOWLEDGED, True)}
        assert sum(len(venue.placed) for venue in venues) == len(keys)


async def test_one_key_with_two_contents_through_two_gateways_is_one_order_and_one_refusal(bus: Bus) -> None:
    """Whoever comes second is told which order has the key."""
    venues = [FakeVenue(ManualClock()) for _ in range(2)]
    async with life(bus, venues[0]) as first, life(bus, venues[1]) as second:
        for number in range(10):
            key = f"key-{number}"
            results = await asyncio.gather(
                first.desk.submit(new_order(key, price="100")),
                second.desk.submit(new_order(key, price="101")),
                return_exceptions=True,
            )
            taken = [one for one in results if isinstance(one, wire.SubmitOrderResponse)]
            refused = [one for one in results if isinstance(one, ClientOrderIdReused)]
            assert (len(taken), len(refused)) == (1, 1)
            assert refused[0].metadata["order_id"] == taken[0].order.order_id
        assert sum(len(venue.placed) for venue in venues) == 10
