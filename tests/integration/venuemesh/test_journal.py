"""The journal and the account log against a real nats-server, also one that dies, freezes and loses answers."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.broker import Broker
from venuemesh.bus import Bus, BusOptions
from venuemesh.clock import SystemClock
from venuemesh.errors import JournalUnavailable
from venuemesh.journal import AccountHistory, EventLog, LogOverflow, OrderJournal, SubjectTaken
from venuemesh.subjects import EVENT_STREAM, Kind, account_filter, stream_specs
from venuemesh.v1 import event_pb2
from venuemesh.v1 import order_pb2 as pb

VENUE, MAIN = "fake", "main"
LIMIT_S = 30.0


@pytest.fixture
async def bus(broker: Broker) -> AsyncIterator[Bus]:
    async with Bus.connect(BusOptions(servers=[broker.url], name="test", timeout_s=3.0)) as connected:
        await connected.ensure_streams(stream_specs(0))
        yield connected


class LossyBus:
    """Loses the answers to chosen messages, or the messages themselves, the first time each is sent."""

    def __init__(self, bus: Bus, *, lost_answers: Sequence[int] = (), lost_messages: Sequence[int] = ()) -> None:
        self._bus = bus
        self._answers, self._messages = set(lost_answers), set(lost_messages)
        self._sent = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)

    async def publish_soon(
        self, subject: str, payload: bytes, *, message_id: str, headers: Mapping[str, str]
    ) -> asyncio.Future[Any]:
        self._sent += 1
        never: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self._sent in self._messages:
            return never
        future = await self._bus.publish_soon(subject, payload, message_id=message_id, headers=headers)
        return never if self._sent in self._answers else future


def make_log(bus: Any, *, writer: str = "w1", **bounds: Any) -> EventLog:
    return EventLog(bus, venue=VENUE, writer_id=writer, clock=SystemClock(), **{"ack_timeout_s": 0.2, **bounds})


@asynccontextmanager
async def running(log: EventLog) -> AsyncIterator[list[event_pb2.Event]]:
    """The log's pump; gives what listeners were told."""
    told: list[event_pb2.Event] = []
    log.on_durable(told.append)
    await log.open()
    task = asyncio.create_task(log.run(), name="event-log")
    try:
        async with asyncio.timeout(LIMIT_S):
            yield told
    finally:
        task.cancel()
        async with asyncio.timeout(60):
            (end,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(end, asyncio.CancelledError), end


def append(log: EventLog, count: int, symbol: str = "BTC/USDC:USDC") -> None:
    for _ in range(count):
        log.append(Kind.BALANCE, event_pb2.Event(account_id=MAIN, symbol=symbol))


async def read(bus: Bus, after: int = 0) -> list[int]:
    return [event.sequence async for event in AccountHistory(bus, VENUE, MAIN).replay(after)]


# faults of the broker


@pytest.mark.parametrize("how", ["SIGTERM", "SIGKILL", "freeze"])
async def test_log_over_a_fault_of_the_broker_loses_and_doubles_nothing(bus: Bus, broker: Broker, how: str) -> None:
    """Restart, crash or a frozen broker in the middle: everything is stored, told once each, in order."""
    log = make_log(bus, window=32)
    async with running(log) as told:
        append(log, 100)
        await log.flush()
        append(log, 200)
        await asyncio.sleep(0)
        if how == "freeze":
            broker.pause()
            append(log, 100)
            async with asyncio.timeout(LIMIT_S):
                while log._outbox.in_flight:
                    await asyncio.sleep(0.01)
            broker.unpause()
        else:
            await broker.stop(signal.Signals[how])
            append(log, 100)
            await broker.start()
        append(log, 50)
        await log.flush()
        assert [event.sequence for event in told] == list(range(1, 451))
        assert await read(bus) == list(range(1, 451))
        assert log.backlog == 0


@pytest.mark.parametrize(
    "lost",
    [
        {"lost_answers": [1]},
        {"lost_answers": [40]},
        {"lost_answers": [3, 5, 60]},
        {"lost_messages": [1]},
        {"lost_messages": [2, 3]},
        {"lost_messages": [10, 11, 30], "lost_answers": [12]},
    ],
    ids=str,
)
async def test_log_whose_message_or_answer_is_lost_sends_again_and_tells_once(
    bus: Bus, lost: dict[str, list[int]]
) -> None:
    """A resend stores nothing twice; what overtook it is put back in place by the reader, the very first too."""
    log = make_log(LossyBus(bus, **lost), window=20)
    async with running(log) as told:
        append(log, 100)
        await log.flush()
        assert [event.sequence for event in told] == list(range(1, 101))
    stored = [
        event_pb2.Event.FromString(message.payload).sequence
        async for message in bus.replay(EVENT_STREAM, [account_filter(VENUE, MAIN)])
    ]
    assert sorted(stored) == list(range(1, 101))
    assert await read(bus) == list(range(1, 101))
    for after in (1, 2, 9, 50, 99, 100):
        assert await read(bus, after) == list(range(after + 1, 101))


async def test_log_cancelled_at_any_moment_ends(bus: Bus) -> None:
    """The client swallows cancellations while it publishes: a pump that misses its own would hang the process."""
    log = make_log(bus)
    told: list[int] = []
    log.on_durable(lambda event: told.append(event.sequence))
    await log.open()
    for turns in range(60):
        task = asyncio.create_task(log.run(), name="event-log")
        append(log, 20)
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        async with asyncio.timeout(60):
            (end,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(end, asyncio.CancelledError)
    async with running(log):
        await log.flush()
    assert told == list(range(1, 1201))
    assert await read(bus) == list(range(1, 1201))


async def test_log_that_is_full_says_so() -> None:
    """Bounded: the process should end rather than forget."""
    log = make_log(None, capacity=3)
    append(log, 3)
    with pytest.raises(LogOverflow):
        append(log, 1)
    assert log.backlog == 3


async def test_log_whose_listener_fails_ends(bus: Bus) -> None:
    """A fault of ours is not hidden behind retries."""
    log = make_log(bus)

    def broken(event: event_pb2.Event) -> None:
        raise ZeroDivisionError

    log.on_durable(broken)
    append(log, 1)
    with pytest.raises(ZeroDivisionError):
        async with asyncio.timeout(LIMIT_S):
            await log.run()


# numbering


async def test_numbering_goes_on_behind_what_is_stored_and_accounts_are_apart(bus: Bus) -> None:
    """A restart restores the last number; each account has its own."""
    log = make_log(bus)
    async with running(log):
        append(log, 5)
        log.append(Kind.BALANCE, event_pb2.Event(account_id="other"))
        await log.flush()
    last = await AccountHistory(bus, VENUE, MAIN).last()
    assert last is not None
    assert last.sequence == 5
    again = make_log(bus, writer="w2")
    again.restore(MAIN, last.sequence)
    async with running(again):
        append(again, 3, "ETH/USDC:USDC")
        await again.flush()
        assert again.epoch == log.epoch
    assert await read(bus) == list(range(1, 9))
    assert (log.sequence("other"), log.sequence("nobody")) == (1, 0)


async def test_history_of_an_account_without_events_is_empty(bus: Bus) -> None:
    """A new account is not an error."""
    history = AccountHistory(bus, VENUE, MAIN)
    assert await history.last() is None
    assert await history.first_sequence() == 0
    assert await history.last_broker_time() is None
    assert await read(bus) == []
    assert await read(bus, 7) == []


async def test_position_in_a_log_with_many_other_accounts_is_found(bus: Bus) -> None:
    """A resume reads from near its place and gives exactly what is behind it."""
    log = make_log(bus, window=256)
    async with running(log):
        for number in range(900):
            log.append(Kind.BALANCE, event_pb2.Event(account_id="other" if number % 3 else MAIN))
        await log.flush()
    for after in (1, 150, 299, 300):
        assert await read(bus, after) == list(range(after + 1, 301))


# the order journal


def intent(key: str, quantity: str = "1") -> event_pb2.OrderIntent:
    terms = pb.NewOrder(account_id=MAIN, client_order_id=key, quantity=quantity)
    return event_pb2.OrderIntent(order=pb.Order(order_id=key, terms=terms), nonce=7)


async def test_intent_is_written_once_for_ever_and_read_back(bus: Bus) -> None:
    """The broker itself refuses a second one."""
    journal = OrderJournal(bus, VENUE)
    await journal.write_intent(MAIN, "key-1", intent("key-1"))
    with pytest.raises(SubjectTaken):
        await journal.write_intent(MAIN, "key-1", intent("key-1", "2"))
    read_back = await journal.read_intent(MAIN, "key-1")
    assert read_back == intent("key-1")
    assert await journal.read_intent(MAIN, "key-2") is None
    assert await journal.read_intent("other", "key-1") is None


async def test_last_word_on_a_key_replaces_the_one_before(bus: Bus) -> None:
    """A fill behind the end changes the outcome; the intents of the same stream stay untouched."""
    journal, log = OrderJournal(bus, VENUE), make_log(bus)
    await journal.write_intent(MAIN, "key-1", intent("key-1"))
    async with running(log):
        for version in (3, 4):
            order = pb.Order(order_id="key-1", order_version=version)
            log.append_outcome(MAIN, "key-1", event_pb2.OrderOutcome(order=order, sequence=version))
        await log.flush()
    outcome = await journal.read_outcome(MAIN, "key-1")
    assert outcome is not None
    assert outcome.order.order_version == 4
    assert await journal.read_intent(MAIN, "key-1") == intent("key-1")
    assert await journal.read_outcome(MAIN, "key-2") is None


async def test_intents_are_replayed_for_one_account_from_a_time_on(bus: Bus) -> None:
    """What a restart reads: all, or those behind the newest event."""
    journal = OrderJournal(bus, VENUE)
    for key in ("a", "amend.r-1", "b"):
        await journal.write_intent(MAIN, key, intent(key))
    await journal.write_intent("other", "c", intent("c"))
    assert [one.order.order_id async for one in journal.intents_since(MAIN, None)] == ["a", "amend.r-1", "b"]
    stored = await bus.last("VENUEMESH_JOURNAL", "venuemesh.v1.intent.fake.main.b")
    assert stored is not None
    assert [one.order.order_id async for one in journal.intents_since(MAIN, stored.time)] == ["b"]


async def test_intent_while_the_broker_is_away_is_refused(bus: Bus, broker: Broker) -> None:
    """JOURNAL_UNAVAILABLE within its bound; the key is free afterwards."""
    journal = OrderJournal(bus, VENUE)
    await broker.stop(signal.SIGKILL)
    with pytest.raises(JournalUnavailable):
        async with asyncio.timeout(LIMIT_S):
            await journal.write_intent(MAIN, "key-1", intent("key-1"))
    await broker.start()
    async with asyncio.timeout(LIMIT_S):
        while True:
            try:
                await journal.write_intent(MAIN, "key-2", intent("key-2"))
            except JournalUnavailable:
                await asyncio.sleep(0.05)
            else:
                break
    assert await journal.read_intent(MAIN, "key-2") is not None
