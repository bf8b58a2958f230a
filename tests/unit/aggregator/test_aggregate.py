"""The fold in service: streams that follow it, readers that resume, messages it must refuse."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.aggregate import Aggregate, View
from aggregator.messages import Refusal
from aggregator.reading import Scope
from aggregator.service import _merge, _respond_execution, _respond_portfolio
from aggregator.valuation import Mark
from tests.fakes import ManualClock
from tests.unit.aggregator.gateway_events import BTC, EPOCH, ETH, Gateway, PortfolioClient, comparable, stored
from venuemesh.draining import Drain
from venuemesh.errors import RateLimited, ResumeExpired
from venuemesh.stream_options import StreamTerms
from venuemesh.stream_queue import Entry
from venuemesh.streaming import StreamHub, StreamPlan
from venuemesh.v1 import event_pb2, portfolio_service_pb2

Response = portfolio_service_pb2.StreamPortfolioResponse


class Desk:
    """An aggregate with its log, on a manual clock that a waiting stream moves."""

    def __init__(self, *, window: int = 20_000, max_views: int = 256) -> None:
        self.clock = ManualClock()
        self.window = window
        self.max_views = max_views
        self.hub = StreamHub(self.clock, Drain(), pause=self._pause)
        self.log: list[Any] = []
        self.refused: list[Refusal] = []
        self.aggregate = self.restarted()

    async def _pause(self, event: asyncio.Event, seconds: float) -> None:
        await asyncio.sleep(0)
        if not event.is_set():
            self.clock.advance(seconds)

    def restarted(self) -> Aggregate:
        """A new process that has replayed the log."""
        aggregate = Aggregate(self.clock, EPOCH, resume_window=self.window, max_views=self.max_views)
        for message in self.log:
            aggregate.take(message)
        return aggregate

    def folded(self) -> list[event_pb2.Event]:
        """Every event in the order it was folded in."""
        return [event for record in self.aggregate._recent.after(0) for event in record.events]

    def store(self, event: event_pb2.Event | bytes, *, seconds: float = 0.0, name: str = "") -> None:
        message = stored(event, len(self.log) + 1, seconds=seconds, name=name)
        self.log.append(message)
        self.refused += self.aggregate.take(message)

    def plan(self, view: View, *, resume_after: int | None = None, sample_s: float = 0.0) -> StreamPlan[Any]:
        terms = StreamTerms(sample_interval_s=sample_s, resume_after=resume_after, resume_epoch=EPOCH)
        if resume_after is not None:
            return StreamPlan(terms=terms, history=partial(self.aggregate.portfolio_history, view), merge=_merge)
        return StreamPlan(
            terms=terms,
            snapshot=lambda: [Entry(view.message(), view.portfolio.sequence)],
            merge=_merge,
        )

    async def stream(self, scope: Scope | None = None, **options: Any) -> AsyncIterator[Response]:
        aggregate, scope = self.aggregate, scope or Scope()
        view = aggregate.follow(scope)
        try:
            async with aclosing(self.hub.serve(view.topic, self.plan(view, **options), _respond_portfolio)) as messages:
                async for message in messages:
                    yield Response.FromString(message.SerializeToString())
        finally:
            aggregate.release(scope)


async def settle(client: PortfolioClient, stream: Any) -> None:
    """Read until nothing is left, which the next heartbeat tells."""
    while True:
        message = await anext(stream)
        client.take(message)
        if message.WhichOneof("body") == "heartbeat":
            return


async def test_client_sees_snapshot_then_each_event_with_what_it_changed() -> None:
    """The client's folded copy equals the reading at the same sequence."""
    desk, gateway = Desk(), Gateway()
    desk.store(gateway.balance(1_000))
    client = PortfolioClient()
    async with aclosing(desk.stream()) as stream:
        for _ in range(2):
            client.take(await anext(stream))
        desk.store(gateway.fill(BTC, "a"))
        desk.store(gateway.position(BTC, 1, cost=100, mark=110))
        desk.store(gateway.event(ledger_entry={"ledger_entry_id": "l1", "asset": "USDC", "amount": "5"}))
        await settle(client, stream)
    assert client.kinds == ["acknowledgement", "snapshot", "delta", "delta", "delta", "heartbeat"]
    assert client.events == [f"hyperliquid/main/{number}" for number in (2, 3, 4)]
    assert (client.epoch, client.sequence) == (EPOCH, 4)
    assert client.view() == comparable(desk.aggregate.portfolio.message())


async def test_freshness_event_is_a_status_and_a_delta_of_one_number() -> None:
    """A reader that knows only statuses sees it, one that folds deltas too; the status alone moves no position."""
    desk, gateway = Desk(), Gateway()
    client = PortfolioClient()
    async with aclosing(desk.stream()) as stream:
        for _ in range(2):
            client.take(await anext(stream))
        desk.store(gateway.freshness(fresh=False))
        status, delta = await anext(stream), await anext(stream)
    assert status.status.subscription == "hyperliquid/main"
    assert (status.header.sequence, delta.header.sequence) == (0, 1)
    assert [part.part for part in delta.delta.stale_parts] == ["hyperliquid/main"]


async def test_reordered_log_is_one_delta_per_event_and_stale_while_it_waits() -> None:
    """The account says that it waits, then shows both events in their own order under one log sequence."""
    desk, gateway = Desk(), Gateway()
    first, second, third = gateway.balance(1), gateway.balance(2), gateway.balance(3)
    client = PortfolioClient()
    async with aclosing(desk.stream()) as stream:
        for _ in range(2):
            client.take(await anext(stream))
        desk.store(first)
        desk.store(third)
        await settle(client, stream)
        assert [part.cause for part in client.portfolio.stale_parts] == [f"waiting for event 2 of {EPOCH}"]
        assert client.view() == comparable(desk.aggregate.portfolio.message())
        desk.store(second)
        two, three = await anext(stream), await anext(stream)
    assert [message.delta.event.sequence for message in (two, three)] == [2, 3]
    assert [message.header.sequence for message in (two, three)] == [2, 3]
    assert [message.delta.stale_parts_changed for message in (two, three)] == [False, True]
    assert (two.header.sequence, three.header.sequence, desk.aggregate.sequence) == (2, 3, 3)


async def test_marks_conflate_and_never_carry_or_delay_a_fill() -> None:
    """Ten marks are one message at the sampling interval; a fill in between goes out at once."""
    desk, gateway = Desk(), Gateway()
    desk.store(gateway.position(BTC, 1, cost=100, mark=100))
    client = PortfolioClient()
    async with aclosing(desk.stream(sample_s=1.0)) as stream:
        for _ in range(2):
            client.take(await anext(stream))

        def tick(price: int) -> None:
            desk.aggregate.set_marks({("hyperliquid", BTC): Mark(price=Decimal(price))})

        tick(101)
        client.take(await anext(stream))
        for price in range(102, 112):
            tick(price)
        begun_s = desk.clock.monotonic_s()
        message = await anext(stream)
        client.take(message)
        assert desk.clock.monotonic_s() - begun_s == pytest.approx(1.0)
        assert not message.delta.HasField("event")
        assert message.delta.accounts[0].positions[0].mark_price == "111"
        tick(112)
        desk.store(gateway.fill(BTC, "a"))
        begun_s = desk.clock.monotonic_s()
        marks, fill = await anext(stream), await anext(stream)
        assert desk.clock.monotonic_s() == begun_s
        client.take(marks)
        client.take(fill)
    assert (marks.delta.accounts[0].positions[0].mark_price, marks.delta.HasField("event")) == ("112", False)
    assert fill.delta.event.execution_report.fill.order_id == "o-a"
    assert client.view() == comparable(desk.aggregate.portfolio.message())


async def test_filtered_stream_holds_only_its_part() -> None:
    """Events of other symbols move nothing but the position that a heartbeat carries."""
    desk, gateway = Desk(), Gateway()
    desk.store(gateway.position(ETH, 1, cost=10, mark=11))
    client = PortfolioClient()
    scope = Scope(symbols=frozenset({BTC}))
    async with aclosing(desk.stream(scope)) as stream:
        for _ in range(2):
            client.take(await anext(stream))
        desk.store(gateway.position(ETH, 2, cost=20, mark=11))
        desk.store(gateway.fill(BTC, "a"))
        desk.store(gateway.position(ETH, 3, cost=30, mark=11))
        await settle(client, stream)
        assert client.view() == comparable(desk.aggregate.read(scope).message())
    assert client.events == ["hyperliquid/main/3"]
    assert client.sequence == 4
    assert client.portfolio.accounts[0].position.sequence == 3


async def test_view_of_a_filter_is_dropped_with_its_last_reader() -> None:
    """Filters cost something per event, so they are counted and bounded."""
    desk = Desk(max_views=2)
    desk.store(Gateway().balance(1))
    scope = Scope(symbols=frozenset({BTC}))
    async with aclosing(desk.stream(scope)) as one, aclosing(desk.stream(scope)) as two:
        await anext(one)
        await anext(two)
        with pytest.raises(RateLimited, match="different filters"):
            desk.aggregate.follow(Scope(symbols=frozenset({ETH})))
    desk.aggregate.follow(Scope(symbols=frozenset({ETH})))


def test_undecodable_message_is_refused_with_its_bytes() -> None:
    """A broken payload goes to the dead letters; the fold goes on and its sequence counts it."""
    desk, gateway = Desk(), Gateway()
    desk.store(gateway.balance(1))
    desk.store(b"\xff\xff\xff", name="venuemesh.v1.fill.hyperliquid.main.-")
    desk.store(gateway.balance(2))
    (refusal,) = desk.refused
    assert (refusal.payload, refusal.subject, refusal.sequence) == (
        b"\xff\xff\xff",
        "venuemesh.v1.fill.hyperliquid.main.-",
        2,
    )
    assert "not an event" in refusal.error
    assert (desk.aggregate.sequence, desk.aggregate.portfolio.totals("USDC").balance) == (3, "2")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"venue": ""}, "no venue"),
        ({"epoch": ""}, "no epoch"),
        ({"sequence": 0}, "no number"),
        ({"account_id": "other"}, "under venuemesh.v1.balance.hyperliquid.main"),
    ],
)
def test_event_that_cannot_be_placed_is_refused(change: dict[str, Any], word: str) -> None:
    """What names no account, epoch or number, or another account than its subject, is never folded."""
    desk = Desk()
    event = Gateway().balance(1)
    name = stored(event, 1).subject
    for field, value in change.items():
        setattr(event, field, value)
    desk.store(event, name=name)
    assert word in desk.refused[0].error
    assert not desk.aggregate.portfolio.message().accounts


def test_contradictory_event_is_refused_and_the_account_says_so() -> None:
    """It holds its place in the order; what follows is folded, and the account is marked as incomplete."""
    desk, gateway = Desk(), Gateway()
    bad = gateway.balance(1)
    bad.balance.total = "lots"
    desk.store(bad)
    desk.store(gateway.balance(2))
    assert "balance.total" in desk.refused[0].error
    assert event_pb2.Event.FromString(desk.refused[0].payload).event_id == bad.event_id
    assert desk.aggregate.portfolio.totals("USDC").balance == "2"
    (part,) = desk.aggregate.portfolio.stale_parts()
    assert part.part == "hyperliquid/main lost events"
    assert part.cause.startswith("event 1: balance.total")


def test_gap_that_stays_is_given_up_by_log_time_and_named() -> None:
    """Half a minute of log later the account goes on, says what it lost, and a dead letter names the gap."""
    desk, gateway = Desk(), Gateway()
    events = [gateway.balance(number) for number in range(1, 6)]
    other = Gateway("lighter", "main")
    desk.store(events[0], seconds=1)
    desk.store(events[3], seconds=2)
    desk.store(other.balance(7), seconds=31)
    assert desk.refused == []
    desk.store(other.balance(8), seconds=33)
    assert [refusal.error for refusal in desk.refused] == [f"events 2 to 3 of epoch {EPOCH} never came"]
    causes = {part.part: part.cause for part in desk.aggregate.portfolio.stale_parts()}
    assert causes == {"hyperliquid/main lost events": f"events 2 to 3 of epoch {EPOCH} never came"}
    assert desk.aggregate.read(Scope(venues=frozenset({"hyperliquid"}))).totals("USDC").balance == "4"
    desk.store(events[1], seconds=34)
    assert "had been given up" in desk.refused[1].error
    assert_same(desk.aggregate, desk.restarted())


def test_found_events_repair_a_gap_instead() -> None:
    """What a second look at the log found is folded before the gap would be given up."""
    desk, gateway = Desk(), Gateway()
    first, second, third = gateway.balance(1), gateway.balance(2), gateway.balance(3)
    desk.store(first, seconds=1)
    desk.store(third, seconds=2)
    late = stored(Gateway("lighter", "main").balance(9), 3, seconds=40)
    (gap,) = desk.aggregate.overdue(late)
    assert (gap.first, gap.last, gap.behind) == (2, 2, 1)
    assert desk.aggregate.take(late, [second]) == []
    assert not desk.aggregate.portfolio.stale_parts()
    assert desk.aggregate.portfolio.message().accounts[0].position.sequence == 3


def assert_same(one: Aggregate, other: Aggregate) -> None:
    left, right = one.portfolio.message(), other.portfolio.message()
    assert left.SerializeToString(deterministic=True) == right.SerializeToString(deterministic=True)


async def test_resume_too_far_back_is_refused_by_the_history() -> None:
    """Memory is bounded: what fell out of it is not made up."""
    desk, gateway = Desk(window=3), Gateway()
    for number in range(6):
        desk.store(gateway.balance(number))
    assert [desk.aggregate.remembers(after) for after in (2, 3, 6, 7)] == [False, True, True, False]
    with pytest.raises(ResumeExpired):
        await anext(desk.aggregate.event_history(1, 6))


async def test_log_without_its_beginning_starts_where_it_does() -> None:
    """After retention deleted the first messages an account begins in the middle without a gap."""
    clock, gateway = ManualClock(), Gateway()
    for _ in range(9):
        gateway.balance(0)
    aggregate = Aggregate(clock, EPOCH)
    assert aggregate.take(stored(gateway.balance(5), 100)) == []
    assert aggregate.portfolio.totals("USDC").balance == "5"
    assert [aggregate.remembers(after) for after in (98, 99)] == [False, True]
    assert aggregate.checkpoint(98) is None


# --- laws ---------------------------------------------------------------------------------------------------------


class Disorder:
    """A log of three accounts with repeats and small reorders, as after broker faults."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.gateways = [Gateway(), Gateway("hyperliquid", "second"), Gateway("lighter", "main")]
        self.late: list[event_pb2.Event] = []
        self.sent: list[event_pb2.Event] = []

    def _make(self) -> event_pb2.Event:
        chance = self.chance
        gateway, symbol = chance.choice(self.gateways), chance.choice([BTC, ETH])
        amount = Decimal(chance.randrange(-(10**12), 10**12)).scaleb(-6)
        match chance.randrange(6):
            case 0:
                return gateway.balance(amount)
            case 1:
                return gateway.fill(symbol, symbol[:3] + chance.choice("abc"), terminal=chance.random() < 0.5)
            case 2:
                return gateway.freshness(fresh=chance.random() < 0.5)
            case 3:
                return gateway.summary(margin_used=str(chance.randrange(100)))
        mark = None if chance.random() < 0.2 else chance.randrange(1, 100)
        quantity = chance.choice([Decimal(0), amount])
        return gateway.position(symbol, quantity, cost=amount if quantity else 0, mark=mark, realized=amount)

    def store_some(self, desk: Desk, count: int) -> None:
        for _ in range(count):
            event = self._make()
            self.sent.append(event)
            if self.chance.random() < 0.15:
                self.late.append(event)
            else:
                desk.store(event)
            if self.chance.random() < 0.1:
                desk.store(self.chance.choice(self.sent[-5:]) if not self.late else self.sent[-1])
            if self.late and self.chance.random() < 0.5:
                desk.store(self.late.pop(0))

    def finish(self, desk: Desk) -> None:
        for event in self.late:
            desk.store(event)
        self.late = []

    def tick(self, desk: Desk) -> None:
        prices = {
            instrument: Mark(price=Decimal(self.chance.randrange(1, 99)), stale_since_ns=self.chance.choice([None, 5]))
            for instrument in [("hyperliquid", BTC), ("lighter", ETH)]
        }
        desk.aggregate.set_marks({key: self.chance.choice([mark, None]) for key, mark in prices.items()})


@given(seed=st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_clients_copy_equals_the_reading_at_every_sequence(seed: int) -> None:
    """E4: whatever comes in whatever order, a client that folds deltas holds what GetPortfolio would say."""
    asyncio.run(_follow(random.Random(seed)))


async def _follow(chance: random.Random) -> None:
    desk, disorder = Desk(), Disorder(chance)
    disorder.store_some(desk, chance.randrange(6))
    scope = chance.choice([Scope(), Scope(symbols=frozenset({BTC})), Scope(venues=frozenset({"hyperliquid"}))])
    client = PortfolioClient()
    async with aclosing(desk.stream(scope)) as stream:
        for _ in range(12):
            await settle(client, stream)
            assert client.sequence == desk.aggregate.sequence
            assert client.view() == comparable(desk.aggregate.read(scope).message())
            disorder.store_some(desk, chance.choice((0, 1, 3)))
            if chance.random() < 0.4:
                disorder.tick(desk)
    disorder.finish(desk)
    assert desk.refused == []
    desk.aggregate.set_marks({("hyperliquid", BTC): None, ("lighter", ETH): None})
    assert_same(desk.aggregate, desk.restarted())


@given(seed=st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_resumed_portfolio_streams_lose_and_double_nothing(seed: int) -> None:
    """Property 41 over restarts of the aggregator too: each event once, and in the end the same portfolio."""
    asyncio.run(_resume(random.Random(seed)))


async def _resume(chance: random.Random) -> None:
    desk, disorder = Desk(), Disorder(chance)
    disorder.store_some(desk, 4)
    scope = chance.choice([Scope(), Scope(symbols=frozenset({ETH}))])
    client = PortfolioClient()
    async with aclosing(desk.stream(scope)) as stream:
        for _ in range(2):
            client.take(await anext(stream))
    before = {event.event_id for event in desk.folded()}
    for turn in range(8):
        disorder.store_some(desk, chance.randrange(4))
        if turn == 7:
            disorder.finish(desk)
        if chance.random() < 0.3:
            desk.aggregate = desk.restarted()
        elif chance.random() < 0.5:
            disorder.tick(desk)
        async with aclosing(desk.stream(scope, resume_after=client.sequence)) as stream:
            async for message in stream:
                client.take(message)
                disorder.store_some(desk, chance.choice((0, 0, 1)) if turn < 7 else 0)
                # Inside the events of one log sequence a client's position does not move: leaving there repeats them.
                moved = message.header.sequence > message.header.previous_sequence
                if message.WhichOneof("body") == "heartbeat" or (turn < 7 and moved and chance.random() < 0.2):
                    break
    wanted = [event.event_id for event in desk.folded() if scope.has(event) and event.event_id not in before]
    assert client.events == wanted
    assert client.view() == comparable(desk.aggregate.read(scope).message())


async def test_resumed_deltas_count_fills_as_they_were_then() -> None:
    """Each event of the backlog carries its account as it stood behind it, filtered as asked for."""
    desk, gateway = Desk(), Gateway()
    for symbol in (BTC, ETH, BTC, BTC, ETH, BTC):
        desk.store(gateway.fill(symbol, "a"))
    for scope, wanted in ((Scope(), [3, 4, 5, 6]), (Scope(symbols=frozenset({BTC})), [2, 3, 4])):
        async with aclosing(desk.stream(scope, resume_after=2)) as stream:
            await anext(stream)
            got = [(await anext(stream)).delta.accounts[0] for _ in wanted]
        assert [account.fill_count for account in got] == wanted
        assert got[-1].position.sequence == 6


async def test_executions_resume_from_memory_in_order() -> None:
    """The raw events behind a position, each once."""
    desk, gateway = Desk(), Gateway()
    for name in "abcdef":
        desk.store(gateway.fill(BTC, name))
    plan = StreamPlan[event_pb2.Event](
        terms=replace(StreamTerms(), resume_after=2, resume_epoch=EPOCH), history=desk.aggregate.event_history
    )
    async with aclosing(desk.hub.serve(desk.aggregate.events, plan, _respond_execution)) as stream:
        await anext(stream)
        encoded = [await anext(stream) for _ in range(4)]
        desk.store(gateway.fill(BTC, "g"))
        encoded.append(await anext(stream))
    response = portfolio_service_pb2.StreamExecutionsResponse
    got = [response.FromString(message.SerializeToString()) for message in encoded]
    assert [message.event.sequence for message in got] == [3, 4, 5, 6, 7]
    assert [message.header.previous_sequence for message in got] == [2, 3, 4, 5, 6]
