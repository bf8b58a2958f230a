"""Account streams over a real log: only durable events, snapshot at a position, resume without loss or repeat."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from typing import Any

import pytest

from tests.fakes_venue import BTC, ETH, Held, instrument
from tests.unit.venuemesh.gateway.gateway_world import (
    Caller,
    World,
    collect,
    gateway,
    new_order,
    take,
    until,
)
from venuemesh.errors import AccountNotFound, InvalidRequest, JournalUnavailable, Reason, ResumeExpired
from venuemesh.gateway.services import account_feed
from venuemesh.gateway.services.account_view import AccountView
from venuemesh.v1 import (
    account_service_pb2,
    event_pb2,
    instrument_pb2,
    instrument_service_pb2,
    order_pb2,
    stream_pb2,
)
from venuemesh.v1 import order_service_pb2 as wire

CALLER = Caller()
RESUMED = stream_pb2.RESUME_OUTCOME_RESUMED
INSTEAD = stream_pb2.RESUME_OUTCOME_SNAPSHOT_INSTEAD


def follow(world: World, after: int | None = None, epoch: str | None = None, account: str = "main") -> Any:
    """StreamAccountEvents, resumed behind `after`."""
    return world.accounts.StreamAccountEvents(
        account_service_pb2.StreamAccountEventsRequest(account_id=account, options=_options(world, after, epoch)),
        CALLER,
    )


def reports(world: World, symbols: list[str] | None = None, after: int | None = None) -> Any:
    """StreamExecutionReports, resumed behind `after`."""
    request = wire.StreamExecutionReportsRequest(
        account_id="main", symbols=symbols or [], options=_options(world, after, None)
    )
    return world.orders.StreamExecutionReports(request, CALLER)


def _options(world: World, after: int | None, epoch: str | None) -> stream_pb2.StreamOptions:
    options = stream_pb2.StreamOptions()
    if after is not None:
        options.resume_after.epoch = world.core.log.epoch if epoch is None else epoch
        options.resume_after.sequence = after
    return options


async def _trade_some(world: World, key: str, symbol: str = BTC) -> None:
    """A submit, a fill and a position: several events."""
    await world.submit(key, symbol=symbol)
    world.venue.fill(world.venue.order_of(world.venue.placed[-1]), "0.25", "100")


def _payload(message: Any) -> bytes:
    """What identifies the event a message carries, status messages included."""
    return (message.event if message.WhichOneof("body") == "event" else message.status).SerializeToString(
        deterministic=True
    )


def _journal(world: World, after: int = 0) -> list[tuple[int, bytes]]:
    rows = []
    for event in world.bus.events():
        if event.sequence > after:
            body = event.stream_status if event.HasField("stream_status") else event
            rows.append((event.sequence, body.SerializeToString(deterministic=True)))
    return rows


async def test_new_reader_gets_the_state_at_a_number_then_every_later_event() -> None:
    """Snapshot plus later events is the truth, and previous_sequence chains them."""
    async with gateway() as world:
        await _trade_some(world, "key-1")
        await world.durable()
        async with aclosing(follow(world)) as stream:
            first, snapshot = await collect(stream, 2)
            assert first.acknowledgement.results[0].accepted
            assert (first.header.epoch, first.header.sequence) == (world.core.log.epoch, 0)
            state = snapshot.snapshot
            number = snapshot.header.sequence
            assert number == state.account.position.sequence == world.core.log.sequence("main")
            assert [order.terms.client_order_id for order in state.orders] == ["key-1"]
            assert [(row.symbol, row.quantity) for row in state.positions] == [(BTC, "0.25")]
            assert state.account.summary.equity == "1000"
            await _trade_some(world, "key-2")
            await world.durable()
            later = await collect(stream, world.core.log.sequence("main") - number)
            assert [(m.header.sequence, _payload(m)) for m in later] == _journal(world, number)
            assert [m.header.previous_sequence for m in later] == [number, *(m.header.sequence for m in later[:-1])]


async def test_events_that_are_not_durable_are_shown_to_nobody() -> None:
    """Neither as an event nor in a snapshot: a crash would take them back."""
    async with gateway() as world:
        await world.durable()
        async with aclosing(follow(world)) as before:
            await collect(before, 2)
            world.bus.holding = True
            await world.submit("key-1")
            async with aclosing(follow(world)) as during:
                _, snapshot = await collect(during, 2)
                assert list(snapshot.snapshot.orders) == []
                world.bus.release()
                seen = await take(during, "event")
                assert seen.event.execution_report.order.terms.client_order_id == "key-1"
                assert seen.header.sequence == snapshot.header.sequence + 1
            assert (await take(before, "event")).event == seen.event


async def test_account_view_equals_the_account_once_all_is_durable() -> None:
    """The fold of durable events and the desk's own state are one."""
    async with gateway() as world:
        rng = random.Random(7)
        feed = world.accounts._feeds.get("main")
        for number in range(30):
            await world.submit(f"key-{number}", symbol=rng.choice([BTC, ETH]), quantity="0.5")
            order = world.venue.order_of(world.venue.placed[-1])
            match rng.randrange(4):
                case 0:
                    world.venue.fill(order, "0.5", "100")
                case 1:
                    world.venue.fill(order, "0.2", "99.5", fee="0.01")
                case 2:
                    reference = wire.OrderReference(account_id="main", client_order_id=f"key-{number}")
                    await world.orders.CancelOrder(wire.CancelOrderRequest(reference=reference), CALLER)
                case _:
                    world.venue.fund("main", f"f{number}", "-0.1")
        await world.durable()
        now = AccountView.of(world.account, sequence=world.core.log.sequence("main"), status=None)
        assert feed.view.sequence == now.sequence
        assert feed.view.open_orders() == now.open_orders()
        assert _numbers(feed.view) == _numbers(now)
        assert feed.view.all_balances() == now.all_balances()
        assert feed.view.summary == now.summary


def _numbers(view: AccountView) -> list[tuple[str, ...]]:
    return [
        (row.symbol, row.quantity, row.open_cost, row.realized_pnl, row.fees_paid, row.funding_received)
        for row in view.open_positions()
    ]


@pytest.mark.parametrize("seed", range(8))
async def test_law_resume_at_random_points_gives_the_journal_once(seed: int) -> None:
    """However often and wherever a reader is cut off, what it got is the journal: nothing lost, nothing doubled."""
    rng = random.Random(seed)
    async with gateway() as world:
        await world.durable()
        got: list[tuple[int, bytes]] = []
        target = 120

        async def produce() -> None:
            number = 0
            while world.core.log.sequence("main") < target:
                number += 1
                await _trade_some(world, f"key-{number}", rng.choice([BTC, ETH]))
                if rng.random() < 0.2:
                    world.bus.holding = not world.bus.holding
                    if not world.bus.holding:
                        world.bus.release()
            world.bus.release()

        async def read() -> None:
            after = 0
            while after < target:
                async with aclosing(follow(world, after)) as stream:
                    acknowledgement = (await anext(stream)).acknowledgement
                    assert acknowledgement.resume_outcome == RESUMED, acknowledgement.resume_note
                    for _ in range(rng.randrange(1, 40)):
                        message = await anext(stream)
                        if message.WhichOneof("body") in ("event", "status"):
                            got.append((message.header.sequence, _payload(message)))
                            assert message.header.previous_sequence == after
                            after = message.header.sequence
                        if after >= target:
                            break

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(produce())
            tasks.create_task(read())
        assert got == _journal(world)[: len(got)]
        assert len(got) >= target


async def test_resume_of_another_epoch_gets_a_snapshot_and_is_told_why() -> None:
    """Numbers of another numbering mean nothing here."""
    async with gateway() as world:
        await world.durable()
        async with aclosing(follow(world, 1, "older")) as stream:
            first, second = await collect(stream, 2)
        assert first.acknowledgement.resume_outcome == INSTEAD
        assert "epoch 'older' is over" in first.acknowledgement.resume_note
        assert second.WhichOneof("body") == "snapshot"


async def test_resume_ahead_of_the_log_gets_a_snapshot() -> None:
    """A reader that knows more than the journal holds must begin again."""
    async with gateway() as world:
        await world.durable()
        async with aclosing(follow(world, 10_000)) as stream:
            first = await anext(stream)
        assert first.acknowledgement.resume_outcome == INSTEAD
        assert "ahead of the newest event" in first.acknowledgement.resume_note


async def test_resume_behind_what_is_kept_gets_a_snapshot() -> None:
    """Retention took the events: the state now is all that can be given."""
    async with gateway() as world:
        await _trade_some(world, "key-1")
        await world.durable()
        world.bus.expire(3)
        async with aclosing(follow(world, 1)) as stream:
            first, second = await collect(stream, 2)
        assert "not kept any more, the oldest is 4" in first.acknowledgement.resume_note
        assert second.WhichOneof("body") == "snapshot"
        async with aclosing(follow(world, 3)) as stream:
            assert (await anext(stream)).acknowledgement.resume_outcome == RESUMED
            assert (await anext(stream)).header.sequence == 4


async def test_resume_when_an_event_in_the_middle_is_gone_fails_instead_of_skipping() -> None:
    """A gap is an error the caller can act on, never silence."""
    async with gateway() as world:
        for number in range(4):
            await _trade_some(world, f"key-{number}")
        await world.durable()
        del world.bus._stored["VENUEMESH_EVENTS"][5]
        async with aclosing(follow(world, 2)) as stream:
            with pytest.raises(ResumeExpired, match="events 6 to 6"):
                await collect(stream, 10)


async def test_resume_when_later_events_are_stored_and_not_confirmed_stops_before_them() -> None:
    """After a broker fault a later event can be stored while those before it are still to be sent again."""
    async with gateway() as world:
        await world.submit("key-1")
        await world.durable()
        newest = world.core.log.sequence("main")
        early = event_pb2.Event(account_id="main", sequence=newest + 3, epoch=world.core.log.epoch)
        world.bus._store("venuemesh.v1.order.fakevenue.main.-", early.SerializeToString())
        async with aclosing(follow(world, newest - 2)) as stream, asyncio.TaskGroup() as tasks:
            got = await collect(stream, 3)
            reading = tasks.create_task(collect(stream, 1))
            await asyncio.sleep(0)
            await world.submit("key-2")
            got += await reading
        assert [message.header.sequence for message in got[1:]] == [newest - 1, newest, newest + 1]


async def test_resume_when_caught_up_reads_nothing_back() -> None:
    """The common reconnect costs the broker nothing."""
    async with gateway() as world:
        await world.durable()
        newest = world.core.log.sequence("main")

        async def refuse(*_: Any, **__: Any) -> Any:
            raise AssertionError("the log was read")
            yield

        world.bus.replay = refuse  # type: ignore[method-assign, assignment]
        async with aclosing(follow(world, newest)) as stream, asyncio.TaskGroup() as tasks:
            assert (await anext(stream)).acknowledgement.resume_outcome == RESUMED
            reading = tasks.create_task(take(stream, "event"))
            await asyncio.sleep(0)
            await world.submit("key-1")
            assert (await reading).header.previous_sequence == newest


async def test_execution_reports_begin_with_open_orders_and_carry_the_accounts_numbers() -> None:
    """Snapshot, its end, then order and fill events only; skipped numbers are filtered events."""
    async with gateway() as world:
        await _trade_some(world, "key-1")
        await _trade_some(world, "key-2", ETH)
        await world.durable()
        async with aclosing(reports(world)) as stream:
            messages = await collect(stream, 4)
            assert [m.WhichOneof("body") for m in messages] == [
                "acknowledgement",
                "snapshot",
                "snapshot",
                "snapshot_end",
            ]
            assert [m.snapshot.order.terms.client_order_id for m in messages[1:3]] == ["key-1", "key-2"]
            assert messages[3].snapshot_end.count == 2
            number = messages[3].header.sequence
            await _trade_some(world, "key-3")
            await world.durable()
            types = []
            while not types or types[-1] != order_pb2.EXECUTION_TYPE_TRADE:
                message = await take(stream, "event")
                assert message.header.previous_sequence == number
                number = message.header.sequence
                types.append(message.event.execution_report.execution_type)
            assert types[0] == order_pb2.EXECUTION_TYPE_PENDING_NEW


async def test_execution_reports_of_one_symbol_leave_the_others_out() -> None:
    """Also out of the snapshot and the backlog; an unknown symbol is told in its own result."""
    async with gateway() as world:
        await _trade_some(world, "key-1")
        await _trade_some(world, "key-2", ETH)
        await world.durable()
        async with aclosing(reports(world, [ETH, "NOPE/X:X"])) as stream:
            first, snapshot, end = await collect(stream, 3)
            assert [(row.subscription, row.accepted) for row in first.acknowledgement.results] == [
                (ETH, True),
                ("NOPE/X:X", False),
            ]
            assert snapshot.snapshot.order.terms.symbol == ETH
            assert end.snapshot_end.count == 1
        async with aclosing(reports(world, [ETH], after=0)) as stream:
            await anext(stream)
            expected = [
                event.sequence
                for event in world.bus.events()
                if (event.HasField("execution_report") and event.symbol == ETH) or event.HasField("stream_status")
            ]
            numbers = [message.header.sequence for message in await collect(stream, len(expected))]
            assert numbers == expected


async def test_link_loss_and_return_are_told_as_status() -> None:
    """Readers know when the account is not current, also those who come in between."""
    async with gateway() as world:
        await world.durable()
        async with aclosing(follow(world)) as stream:
            await collect(stream, 2)
            world.venue.go_down("socket closed")
            lost = await take(stream, "status")
            assert (lost.status.freshness, lost.status.cause) == (stream_pb2.FRESHNESS_STALE, "socket closed")
            await world.durable()
            async with aclosing(follow(world)) as late:
                assert (await take(late, "status")).status.freshness == stream_pb2.FRESHNESS_STALE
            world.venue.go_up()
            back = await take(stream, "status")
            assert back.status.freshness == stream_pb2.FRESHNESS_FRESH


async def test_resume_over_a_restart_is_told_that_the_account_is_not_caught_up() -> None:
    """A reader that was fresh before does not hold itself fresh until the new process is."""
    async with gateway() as world:
        await world.submit("key-1")
        await world.durable()
        bus, newest, clock = world.bus, world.core.log.sequence("main"), world.clock
    held = asyncio.Event()
    venue = world.venue
    venue.script("fetch_fills", Held(held))
    restarted = gateway(bus=bus, clock=clock, venue=venue, wait_ready=False)
    async with restarted as world, aclosing(follow(world, newest)) as stream:
        first = await anext(stream)
        assert first.acknowledgement.resume_outcome == RESUMED
        stale = await take(stream, "status")
        assert stale.status.freshness == stream_pb2.FRESHNESS_STALE
        held.set()
        fresh = await take(stream, "status")
        assert fresh.status.freshness == stream_pb2.FRESHNESS_FRESH
        assert fresh.header.sequence > stale.header.sequence


async def test_stream_while_the_restarts_events_are_not_durable_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no state to show that a crash could not take back."""
    monkeypatch.setattr(account_feed, "READY_TIMEOUT_S", 0.01)
    async with gateway() as world:
        world.venue.pushing = False
        world.venue.script("place_order", Held(asyncio.Event()))
        submitting = asyncio.create_task(world.submit("key-1"))
        await until(lambda: world.venue.placed)
        await world.durable()
        submitting.cancel()
        bus, clock = world.bus, world.clock
        for task in asyncio.all_tasks():
            if task.get_name().startswith("submit-"):
                task.cancel()
    bus.holding = True
    async with gateway(bus=bus, clock=clock, wait_ready=False) as world:
        with pytest.raises(JournalUnavailable, match="not durable yet"):
            await anext(follow(world))
        bus.release()
        monkeypatch.setattr(account_feed, "READY_TIMEOUT_S", 5.0)
        async with aclosing(follow(world)) as stream:
            _, snapshot = await collect(stream, 2)
        assert [order.uncertain for order in snapshot.snapshot.orders] == [True]


async def test_slow_reader_is_closed_with_a_position_and_loses_nothing() -> None:
    """Its own queue overflows; it resumes behind what it got."""
    async with gateway(capacity=10) as world:
        await world.durable()
        async with aclosing(follow(world)) as slow, aclosing(follow(world)) as quick:
            await collect(slow, 2)
            read_to = (await collect(quick, 2))[1].header.sequence
            for number in range(10):
                await _trade_some(world, f"key-{number}")
                await world.durable()
                while read_to < world.core.log.sequence("main"):
                    read_to = (await anext(quick)).header.sequence
            closing = await take(slow, "closing")
        assert closing.closing.reason == stream_pb2.CLOSING_REASON_SLOW_CONSUMER
        after = closing.closing.resume_after.sequence
        expected = _journal(world, after)
        async with aclosing(follow(world, after)) as stream:
            assert (await anext(stream)).acknowledgement.resume_outcome == RESUMED
            messages = await collect(stream, len(expected))
        assert [(m.header.sequence, _payload(m)) for m in messages] == expected


async def test_drain_gives_every_stream_a_closing_notice() -> None:
    """With the position to go on behind, and no error."""
    async with gateway() as world:
        await world.durable()
        async with aclosing(follow(world)) as stream, aclosing(reports(world)) as other:
            snapshot = (await collect(stream, 2))[1]
            await collect(other, 2)
            world.drain.begin()
            closing = (await take(stream, "closing")).closing
            assert closing.reason == stream_pb2.CLOSING_REASON_DRAINING
            assert closing.resume_after.sequence == snapshot.header.sequence
            assert (await take(other, "closing")).closing.reason == stream_pb2.CLOSING_REASON_DRAINING
            with pytest.raises(StopAsyncIteration):
                await anext(stream)


async def test_streams_when_a_field_is_bad_name_it() -> None:
    """Accounts, policies and bounds."""
    async with gateway() as world:
        with pytest.raises(AccountNotFound):
            await anext(follow(world, account="nobody"))
        with pytest.raises(InvalidRequest) as caught:
            await anext(follow(world, account=""))
        assert caught.value.field == "account_id"
        options = stream_pb2.StreamOptions(slow_reader_policy=stream_pb2.SLOW_READER_POLICY_CONFLATE_LATEST)
        request = account_service_pb2.StreamAccountEventsRequest(account_id="main", options=options)
        with pytest.raises(InvalidRequest) as caught:
            await anext(world.accounts.StreamAccountEvents(request, CALLER))
        assert caught.value.field == "options.slow_reader_policy"
        with pytest.raises(InvalidRequest) as caught:
            await anext(reports(world, [f"S{n}" for n in range(201)]))
        assert caught.value.field == "symbols"


async def test_heartbeats_of_a_filtered_stream_move_its_position_on() -> None:
    """A reader of a quiet symbol resumes behind what it has no use for."""
    async with gateway() as world:
        await world.durable()
        async with aclosing(reports(world, [ETH])) as stream:
            await collect(stream, 2)
            await world.submit("key-1")
            await world.durable()
            world.clock.advance(6.0)
            for subscription in world.hub._subscriptions.values():
                subscription.wakeup.set()
            beat = await take(stream, "heartbeat")
            assert beat.header.sequence == world.core.log.sequence("main")
            assert beat.heartbeat.link_state == stream_pb2.LINK_STATE_LIVE


def test_new_order_is_what_the_tests_mean() -> None:
    """Guards the helper: a cleared field is absent."""
    assert not new_order("k", price=None).HasField("price")


async def test_instrument_updates_begin_with_all_and_tell_listings_changes_and_ends() -> None:
    """Nothing is told that did not change; what is gone comes once more, as DELISTED."""
    async with gateway() as world:
        request = instrument_service_pb2.StreamInstrumentUpdatesRequest()
        async with aclosing(world.instruments.StreamInstrumentUpdates(request, Caller())) as stream:
            first, *rows = await collect(stream, 3)
            assert [row.accepted for row in first.acknowledgement.results] == [True]
            assert [row.instrument.symbol for row in rows] == [BTC, ETH]
            changed = instrument(BTC, tick="5")
            world.core.instruments.replace([changed, instrument("NEW/USDC:USDC")])
            told = [message.instrument for message in await collect(stream, 3)]
            assert told[0] == changed
            assert [(row.symbol, row.state) for row in told[1:]] == [
                ("NEW/USDC:USDC", instrument_pb2.INSTRUMENT_STATE_TRADING),
                (ETH, instrument_pb2.INSTRUMENT_STATE_DELISTED),
            ]


async def test_instrument_updates_of_another_venue_are_refused() -> None:
    """By the field that names it."""
    async with gateway() as world:
        request = instrument_service_pb2.StreamInstrumentUpdatesRequest(venue="elsewhere")
        with pytest.raises(InvalidRequest) as caught:
            await anext(world.instruments.StreamInstrumentUpdates(request, Caller()))
        assert caught.value.reason is Reason.VENUE_NOT_FOUND
