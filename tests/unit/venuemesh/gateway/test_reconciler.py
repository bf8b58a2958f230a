"""The venue's truth is taken: at start, after each reconnect, periodically and on request."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

import pytest
from google.protobuf.duration_pb2 import Duration

from tests.fakes_venue import BTC, MAIN, FakeVenue, Held, Lost
from tests.unit.venuemesh.gateway.gateway_world import World, gateway, new_order, until
from venuemesh.errors import Reason, Reconciling
from venuemesh.gateway.facts import ProvedAbsent
from venuemesh.gateway.orders import OrderState
from venuemesh.gateway.reconciler import Reconciler
from venuemesh.gateway.venue import Refused, VenueFill, VenueOrder, VenueOrderState, VenueSnapshot
from venuemesh.v1 import account_pb2, event_pb2, stream_pb2
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import reconciliation_pb2 as rec


class Quick(FakeVenue):
    """A venue whose answers agree with each other at once."""

    def __init__(self) -> None:
        super().__init__()
        self.capabilities.settle_delay.CopyFrom(Duration(nanos=1))


def order(world: World, key: str = "key-1") -> OrderState:
    found = world.account.order_by_key(key)
    assert found is not None
    return found


def ready(world: World) -> bool:
    return world.core.desk.gates[MAIN].ready


async def events(world: World, payload: str) -> list[event_pb2.Event]:
    await world.durable()
    return [event for event in world.bus.events() if event.WhichOneof("payload") == payload]


async def discrepancies(world: World) -> list[rec.Discrepancy]:
    return [event.discrepancy for event in await events(world, "discrepancy")]


async def cut(world: World) -> None:
    """The link goes, and stays away for five minutes."""
    world.venue.go_down()
    assert not ready(world)
    world.clock.advance(300)


async def back(world: World) -> None:
    world.venue.go_up()
    await until(lambda: ready(world))


# the gate


async def test_gate_is_shut_until_caught_up_and_consumers_are_told() -> None:
    """Orders wait for the comparison; STALE and FRESH are in the account's log, once each."""
    async with gateway(venue=Quick()) as world:
        await cut(world)
        release = asyncio.Event()
        world.venue.script("fetch_snapshot", Held(release))
        world.venue.go_up()
        await until(lambda: world.venue.calls[-1] == "fetch_snapshot")
        assert not ready(world)
        with pytest.raises(Reconciling):
            await world.submit("key-1")
        release.set()
        await until(lambda: ready(world))
        await world.submit("key-1")
        told = [event.stream_status.freshness for event in await events(world, "stream_status")]
        assert told == [stream_pb2.FRESHNESS_FRESH, stream_pb2.FRESHNESS_STALE, stream_pb2.FRESHNESS_FRESH]


async def test_link_that_flaps_during_the_comparison_does_not_open_the_gate() -> None:
    """What happened between the two connections is in neither reading: compare again."""
    async with gateway(venue=Quick()) as world:
        await world.submit("key-1")
        await cut(world)
        release = asyncio.Event()
        world.venue.script("fetch_snapshot", Held(release))
        world.venue.go_up()
        await until(lambda: world.venue.calls[-1] == "fetch_snapshot")
        world.venue.go_down()
        world.venue.fill(world.venue.order_of(world.venue.placed[0]), "1", "100", push=False)
        world.venue.go_up()
        opened: list[Decimal] = []
        world.core.reconciler.on_gate = lambda: opened.append(order(world).filled) if ready(world) else None
        release.set()
        await until(lambda: ready(world))
        assert opened == [Decimal(1)]


async def test_comparison_that_fails_keeps_the_gate_shut_and_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Venue faults and our own alike; the report says why."""
    async with gateway(venue=Quick()) as world:
        monkeypatch.setattr(
            world.core.reconciler, "_settings", replace(world.core.reconciler._settings, retry_first_s=0.0)
        )
        await cut(world)
        world.venue.script("fetch_fills", ZeroDivisionError("ours"))
        reports: list[str] = []
        real = world.core.reconciler.reconcile

        async def noted(account_id: str, trigger: rec.ReconciliationTrigger.ValueType) -> rec.ReconciliationReport:
            report = await real(account_id, trigger)
            reports.append(report.error)
            return report

        monkeypatch.setattr(world.core.reconciler, "reconcile", noted)
        await back(world)
        assert reports == ["fault of ours: ZeroDivisionError", ""]


async def test_comparison_on_request_while_the_link_is_down_does_not_open_the_gate() -> None:
    """Answers by HTTP do not make the stream live."""
    async with gateway(venue=Quick()) as world:
        world.core.intake.on_account_lost(MAIN, "cut")
        report = await world.core.reconciler.reconcile(MAIN)
        assert (report.error, ready(world)) == ("", False)
        assert report.trigger == rec.RECONCILIATION_TRIGGER_OPERATOR
        assert world.core.reconciler.last_report(MAIN) == report


# what is recovered


async def test_fill_missed_over_a_reconnect_is_recovered_once() -> None:
    """G7: the order, the position and the log have it; a push of it afterwards changes nothing."""
    async with gateway(venue=Quick()) as world:
        await world.submit("key-1", quantity="2")
        await cut(world)
        fill = world.venue.fill(world.venue.order_of(world.venue.placed[0]), "0.5", "100", push=False)
        world.clock.advance(300)
        await back(world)
        world.core.intake.on_fill(MAIN, fill)
        assert order(world).filled == Decimal("0.5")
        assert world.account.positions[BTC].quantity == Decimal("0.5")
        assert (
            len([one for one in await events(world, "execution_report") if one.execution_report.HasField("fill")]) == 1
        )
        (missed,) = await discrepancies(world)
        assert (missed.discrepancy_type, missed.restated) == (rec.DISCREPANCY_TYPE_FILL_MISSED, True)
        assert (missed.order_id, missed.ours) == (order(world).order_id, "none")
        assert missed.venues == f"{fill.execution_id}: buy 0.5 at 100"


async def test_fill_pushed_right_after_the_reconnect_does_not_hide_the_missed_one() -> None:
    """The stream is live before the missed fills are fetched: what is new must not move the place to fetch from."""
    async with gateway(venue=Quick()) as world:
        await world.submit("key-1", quantity="2")
        there = world.venue.order_of(world.venue.placed[0])
        await cut(world)
        world.venue.fill(there, "0.5", "100", push=False)
        world.clock.advance(300)
        world.venue.go_up()
        world.venue.fill(there, "0.25", "100")
        await until(lambda: ready(world))
        assert order(world).filled == Decimal("0.75")
        assert world.account.positions[BTC].quantity == Decimal("0.75")
        assert [found.discrepancy_type for found in await discrepancies(world)] == [rec.DISCREPANCY_TYPE_FILL_MISSED]


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (VenueOrderState.CANCELED, pb.ORDER_STATUS_CANCELED),
        (VenueOrderState.EXPIRED, pb.ORDER_STATUS_EXPIRED),
    ],
)
async def test_order_that_ended_while_away_is_restated(
    state: VenueOrderState, status: pb.OrderStatus.ValueType
) -> None:
    """Property 27: the venue's end is taken, and told as a discrepancy."""
    async with gateway(venue=Quick()) as world:
        await world.submit("key-1")
        await cut(world)
        world.venue.end(world.venue.order_of(world.venue.placed[0]), state, push=False)
        await back(world)
        assert order(world).status == status
        (found,) = await events(world, "discrepancy")
        assert found.discrepancy.discrepancy_type == rec.DISCREPANCY_TYPE_ORDER_STATE
        assert found.discrepancy.order_id == order(world).order_id
        assert found.discrepancy.restated


async def test_order_filled_while_away_is_filled_with_its_fills() -> None:
    """Fetched first, so that it never looks cancelled."""
    async with gateway(venue=Quick()) as world:
        await world.submit("key-1")
        await cut(world)
        world.venue.fill(world.venue.order_of(world.venue.placed[0]), "1", "98", push=False)
        await back(world)
        assert (order(world).status, order(world).average_price) == (pb.ORDER_STATUS_FILLED, Decimal(98))


async def test_order_that_the_venue_has_forgotten_is_ended_and_told() -> None:
    """Not open, its fills fetched, unknown by id: it has ended, nobody knows how."""
    async with gateway(venue=Quick()) as world:
        await world.submit("key-1")
        await cut(world)
        world.venue.orders.clear()
        await back(world)
        assert order(world).status == pb.ORDER_STATUS_CANCELED
        (found,) = await events(world, "discrepancy")
        assert found.discrepancy.discrepancy_type == rec.DISCREPANCY_TYPE_ORDER_MISSING


async def test_order_in_doubt_is_left_to_the_resolver() -> None:
    """Its absence from a snapshot is no proof."""
    async with gateway(venue=Quick()) as world:
        world.venue.script("fetch_order", Held(asyncio.Event()))
        world.venue.script("place_order", ZeroDivisionError())
        await world.submit("key-1")
        await world.core.reconciler.reconcile(MAIN)
        assert order(world).uncertain


# what is only told


def foreign(world: World, name: str = "v99") -> VenueOrder:
    """An order somebody made outside the mesh."""
    view = VenueOrder(
        venue_order_id=name,
        venue_client_order_id=None,
        symbol=BTC,
        side=pb.SIDE_BUY,
        quantity=Decimal(1),
        filled_quantity=Decimal(0),
        price=Decimal(5),
        state=VenueOrderState.WORKING,
        reason=None,
        text="open",
        venue_time_ns=0,
    )
    world.venue.orders[name] = view
    world.venue.order_accounts[name] = MAIN
    return view


async def test_unexpected_order_is_reported_once() -> None:
    """Not on every comparison; again if it went and came back."""
    async with gateway(venue=Quick()) as world:
        view = foreign(world)
        for _ in range(3):
            await world.core.reconciler.reconcile(MAIN)
        assert len(await events(world, "discrepancy")) == 1
        del world.venue.orders["v99"]
        await world.core.reconciler.reconcile(MAIN)
        world.venue.orders["v99"] = view
        await world.core.reconciler.reconcile(MAIN)
        kinds = {event.discrepancy.discrepancy_type for event in await events(world, "discrepancy")}
        assert kinds == {rec.DISCREPANCY_TYPE_ORDER_UNEXPECTED}
        assert len(await events(world, "discrepancy")) == 2


async def test_our_own_order_held_ended_and_still_open_there_is_reported() -> None:
    """The worst kind of difference: live money nobody here counts."""
    async with gateway(venue=Quick()) as world:
        await world.submit("key-1")
        there = world.venue.order_of(world.venue.placed[0])
        world.venue.end(there, VenueOrderState.CANCELED)
        assert order(world).terminal
        key = there.venue_client_order_id or ""
        world.venue.orders[key] = replace(world.venue.orders[key], state=VenueOrderState.WORKING)
        await world.core.reconciler.reconcile(MAIN)
        assert await events(world, "discrepancy") == []
        world.clock.advance(1)
        report = await world.core.reconciler.reconcile(MAIN)
        (found,) = report.discrepancies
        assert found.discrepancy_type == rec.DISCREPANCY_TYPE_ORDER_UNEXPECTED
        assert (found.order_id, found.ours) == (order(world).order_id, "ORDER_STATUS_CANCELED")


# positions and money


async def test_position_difference_is_restated_published_and_gone() -> None:
    """Quantity and entry are the venue's; the next comparison finds nothing."""
    async with gateway(venue=Quick()) as world:
        world.venue.positions[MAIN, BTC] = Decimal(-3)
        report = await world.core.reconciler.reconcile(MAIN)
        (found,) = report.discrepancies
        assert (found.discrepancy_type, found.ours, found.venues) == (rec.DISCREPANCY_TYPE_POSITION, "0", "-3")
        positions = await events(world, "position")
        assert positions[-1].position.change == account_pb2.POSITION_CHANGE_RECONCILE
        assert positions[-1].position.quantity == "-3"
        assert not (await world.core.reconciler.reconcile(MAIN)).discrepancies


async def test_position_of_a_new_account_is_taken_without_a_discrepancy() -> None:
    """What the venue held before the mesh is where it begins."""
    venue = Quick()
    venue.positions[MAIN, BTC] = Decimal(2)
    async with gateway(venue=venue) as world:
        assert world.account.positions[BTC].quantity == Decimal(2)
        assert await events(world, "discrepancy") == []


async def test_fill_during_the_reading_of_positions_is_not_mistaken_for_a_difference() -> None:
    """The snapshot is older than the fill: believing it would undo the fill until the next comparison."""

    class Busy(Quick):
        """A fill happens right before and right after each snapshot is taken."""

        def _snapshot(self, account_id: str, taken_ns: int) -> VenueSnapshot:
            if self.placed:
                self.fill(self.order_of(self.placed[0]), "0.1", "100")
            taken = super()._snapshot(account_id, taken_ns)
            if self.placed:
                self.fill(self.order_of(self.placed[0]), "0.1", "100")
            return taken

    async with gateway(venue=Busy()) as world:
        await world.submit("key-1")
        world.venue.pushing = False
        report = await world.core.reconciler.reconcile(MAIN)
        assert rec.DISCREPANCY_TYPE_POSITION not in {one.discrepancy_type for one in report.discrepancies}
        assert world.account.positions[BTC].quantity == world.venue.positions[MAIN, BTC]


async def test_fill_shown_by_the_position_before_the_fill_list_is_not_counted_twice() -> None:
    """Two places of one venue agree only after a moment: the frame waits its settle delay before it believes."""

    class Lagging(Quick):
        """Shows its fills only at the third question."""

        shown = 0

        async def fetch_fills(self, account_id: str, since_ns: int) -> list[VenueFill]:
            self.shown += 1
            found = await super().fetch_fills(account_id, since_ns)
            return list(found) if self.shown >= 3 else []

    async with gateway(venue=Lagging()) as world:
        await world.submit("key-1")
        world.venue.pushing = False
        vars(world.venue)["shown"] = 1
        world.venue.fill(world.venue.order_of(world.venue.placed[0]), "0.5", "100")
        report = await world.core.reconciler.reconcile(MAIN)
        assert rec.DISCREPANCY_TYPE_POSITION not in {one.discrepancy_type for one in report.discrepancies}
        assert world.account.positions[BTC].quantity == Decimal("0.5")


async def test_missed_funding_is_fetched_and_balances_compared() -> None:
    """The ledger is complete after a reconnect."""
    async with gateway(venue=Quick()) as world:
        await world.submit("key-1")
        world.venue.fill(world.venue.order_of(world.venue.placed[0]), "1", "100")
        await cut(world)
        world.venue.pushing = False
        world.venue.fund(MAIN, "f1", "-0.25")
        world.venue.pushing = True
        world.venue.balances = [account_pb2.Balance(account_id=MAIN, asset="USDC", total="999", available="900")]
        await back(world)
        assert world.account.positions[BTC].funding_received == Decimal("-0.25")
        assert world.account.balances["", "USDC"].total == "999"
        report = world.core.reconciler.last_report(MAIN)
        assert report is not None
        assert report.balances_compared == 1
        assert report.trigger == rec.RECONCILIATION_TRIGGER_RECONNECT


async def test_comparison_of_two_accounts_does_not_mix_them() -> None:
    """Each has its own gate, report and differences."""
    venue = FakeVenue(accounts=("main", "other"))
    async with gateway(venue=venue) as world:
        await until(lambda: world.core.desk.gates["other"].ready)
        world.core.intake.on_account_lost("other", "cut")
        assert ready(world)
        assert not world.core.desk.gates["other"].ready
        with pytest.raises(Reconciling):
            await world.core.desk.submit(new_order("k", account_id="other"))
        await world.core.desk.submit(new_order("k"))


async def test_comparisons_of_one_account_do_not_overlap() -> None:
    """A periodic one and one on request wait for each other."""
    async with gateway(venue=Quick()) as world:
        running = 0
        most = 0
        real = Reconciler._compare

        async def counted(self: Reconciler, *arguments: object) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(0)
            await real(self, *arguments)  # type: ignore[arg-type]
            running -= 1

        world.core.reconciler._compare = counted.__get__(world.core.reconciler)  # type: ignore[method-assign]
        async with asyncio.TaskGroup() as tasks:
            for _ in range(3):
                tasks.create_task(world.core.reconciler.reconcile(MAIN))
        assert most == 1


# missed fills and balances


async def test_fill_that_only_a_query_brought_is_reported_once_it_should_have_been_told() -> None:
    """A fill on its way is none; one the live stream never told is, with the order it belongs to."""
    async with gateway(venue=Quick()) as world:
        world.venue.capabilities.settle_delay.FromSeconds(1)
        world.core.resolver.settle_ns = 10**9
        await world.submit("key-1", quantity="2")
        world.clock.advance(10)
        there = world.venue.order_of(world.venue.placed[0])
        lost = world.venue.fill(there, "0.5", "100", push=False)
        world.clock.advance(1)
        late = world.venue.fill(there, "0.25", "100", push=False)
        world.clock.advance(0.5)
        world.venue.positions.clear()
        world.venue.positions[(MAIN, BTC)] = Decimal("0.75")
        report = await world.core.reconciler.reconcile(MAIN)
        found = [(one.discrepancy_type, one.venues, one.order_id) for one in report.discrepancies]
        told = f"{lost.execution_id}: buy 0.5 at 100"
        assert found == [(rec.DISCREPANCY_TYPE_FILL_MISSED, told, order(world).order_id)]
        assert late.execution_id in world.account.fills
        again = await world.core.reconciler.reconcile(MAIN)
        assert list(again.discrepancies) == []


def usdc(total: str, available: str = "0") -> account_pb2.Balance:
    return account_pb2.Balance(account_id=MAIN, venue="fakevenue", asset="USDC", total=total, available=available)


async def with_balance(world: World, balance: account_pb2.Balance) -> rec.ReconciliationReport:
    """Compare while the venue shows this balance and has not pushed it."""
    world.venue.balances = [balance]
    return await world.core.reconciler.reconcile(MAIN)


async def test_balance_that_nothing_explains_is_a_discrepancy_and_is_taken() -> None:
    """Told once, restated, and gone; what is available may differ freely."""
    async with gateway(venue=Quick()) as world:
        assert list((await with_balance(world, usdc("1000"))).discrepancies) == []
        assert list((await with_balance(world, usdc("1000", "5"))).discrepancies) == []
        report = await with_balance(world, usdc("990"))
        (found,) = report.discrepancies
        assert (found.discrepancy_type, found.restated) == (rec.DISCREPANCY_TYPE_BALANCE, True)
        assert (found.ours, found.venues, found.symbol) == ("1000 USDC", "990 USDC", "")
        assert world.account.balances[("", "USDC")].total == "990"
        assert list((await with_balance(world, usdc("990"))).discrepancies) == []
        world.venue.balances = []
        (gone,) = (await world.core.reconciler.reconcile(MAIN)).discrepancies
        assert (gone.ours, gone.venues) == ("990 USDC", "0 USDC")
        assert world.account.balances[("", "USDC")].total == "0"


async def test_balance_that_a_fill_or_a_payment_moved_is_none() -> None:
    """What we know of explains it, whatever the amount: fees and funding are the venue's arithmetic."""
    async with gateway(venue=Quick()) as world:
        await with_balance(world, usdc("1000"))
        await world.submit("key-1")
        world.venue.fill(world.venue.order_of(world.venue.placed[0]), "1", "100", fee="0.05")
        assert list((await with_balance(world, usdc("999.95"))).discrepancies) == []
        world.venue.fund(MAIN, "f1", "-0.25")
        assert list((await with_balance(world, usdc("999.7"))).discrepancies) == []
        rounded = await with_balance(world, usdc("999.700001"))
        assert list(rounded.discrepancies) == []


async def test_balance_that_is_told_between_the_two_readings_is_none() -> None:
    """The push was only later than the answer to the query."""
    async with gateway(venue=Quick()) as world:
        await with_balance(world, usdc("1000"))
        release = asyncio.Event()
        world.venue.script("fetch_snapshot", None, Held(release))
        call = asyncio.create_task(with_balance(world, usdc("990")))
        await until(lambda: world.venue.calls[-1] == "fetch_snapshot" and world.venue.calls.count("fetch_snapshot") > 2)
        world.core.intake.on_balances(MAIN, [usdc("990")], account_pb2.AccountSummary())
        release.set()
        assert list((await call).discrepancies) == []


# contradictions


async def test_contradiction_is_counted_alerted_and_stored_once_as_a_discrepancy() -> None:
    """An illegal transition is refused and not lost: it is listed, and the venue is asked about what still works."""
    async with gateway(venue=Quick()) as world:
        world.venue.script("place_order", Refused(reason=Reason.NO_LIQUIDITY, text="no"))
        await world.submit("key-1")
        world.venue._rest(world.venue.placed[0])
        there = world.venue.order_of(world.venue.placed[0])
        for _ in range(2):
            world.core.intake.on_order(MAIN, there)
        assert order(world).status == pb.ORDER_STATUS_REJECTED
        assert world.account.illegal_transitions >= 2
        (found,) = await discrepancies(world)
        assert (found.discrepancy_type, found.restated) == (rec.DISCREPANCY_TYPE_ORDER_STATE, False)
        assert (found.order_id, found.ours) == (order(world).order_id, "ORDER_STATUS_REJECTED")


async def test_open_order_in_a_list_revives_one_that_was_held_absent() -> None:
    """The snapshot is evidence as good as a push: RESTATED by reconciliation, and cancellable again."""
    async with gateway(venue=Quick()) as world:
        world.venue.pushing = False
        world.venue.script("place_order", Lost(arrived=True))
        world.core.desk.on_doubt = lambda *_: None
        world.core.resolver.doubt = lambda *_: None  # type: ignore[method-assign]
        await world.submit("key-1")
        world.account.apply(order(world).order_id, ProvedAbsent(evidence="asked"))
        world.clock.advance(10)
        report = await world.core.reconciler.reconcile(MAIN)
        assert order(world).working
        (found,) = report.discrepancies
        assert (found.ours, found.venues, found.restated) == ("ORDER_STATUS_REJECTED", "ORDER_STATUS_NEW", True)
        last = (await events(world, "execution_report"))[-1].execution_report
        assert (last.execution_type, last.origin) == (pb.EXECUTION_TYPE_RESTATED, pb.ORIGIN_RECONCILIATION)
