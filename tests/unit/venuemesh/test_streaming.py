"""Streams served from a topic: order of messages, heartbeats, slow readers, drain, resume, clean-up."""

from __future__ import annotations

import asyncio
import gc
import random
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import ManualClock
from venuemesh.draining import Drain
from venuemesh.metrics import Metrics
from venuemesh.stream_options import Policy, StreamTerms
from venuemesh.stream_queue import Entry
from venuemesh.streaming import StreamHub, StreamPlan, Topic, responder, wait_at_most
from venuemesh.v1 import market_data_pb2, market_data_service_pb2, stream_pb2

Response = market_data_service_pb2.StreamTradesResponse
Trade = market_data_pb2.Trade
respond = responder(Response, lambda trade: {"trade": trade})


def trade(number: int, symbol: str = "BTC") -> Trade:
    return Trade(trade_id=str(number), symbol=symbol)


class Bench:
    """A hub on a manual clock: a stream that waits moves the clock instead."""

    def __init__(self, *, capacity: int = 2_000, history_stall_s: float = 10.0) -> None:
        self.clock = ManualClock()
        self.drain = Drain()
        self.metrics = Metrics()
        self.hub = StreamHub(
            self.clock,
            self.drain,
            metrics=self.metrics,
            capacity=capacity,
            pause=self._pause,
            history_stall_s=history_stall_s,
        )
        self.topic = Topic[Trade](self.clock, epoch="e1")

    async def _pause(self, event: asyncio.Event, seconds: float) -> None:
        await asyncio.sleep(0)
        if not event.is_set():
            self.clock.advance(seconds)

    def publish(self, number: int, symbol: str = "BTC") -> None:
        self.topic.publish(trade(number, symbol), sequence=number, key=symbol)


def kind(message: Response) -> str:
    return message.WhichOneof("body") or ""


async def rest_of(stream: AsyncIterator[Response]) -> list[Response]:
    """All messages to the end of a stream that must end soon."""
    messages = []
    async for message in stream:
        messages.append(message)
        assert len(messages) < 100, "the stream does not end"
    return messages


async def test_stream_begins_with_acknowledgement_then_snapshot_then_live() -> None:
    """What is published between the snapshot and the first read comes after the snapshot."""
    bench = Bench()
    bench.topic.advance(7)
    plan = StreamPlan[Trade](
        terms=StreamTerms(heartbeat_s=2.0),
        results=[stream_pb2.SubscriptionResult(subscription="BTC", accepted=True)],
        snapshot=lambda: [Entry(trade(7), 7)],
    )
    async with aclosing(bench.hub.serve(bench.topic, plan, respond)) as stream:
        first = await anext(stream)
        bench.publish(8)
        second, third = await anext(stream), await anext(stream)
    assert first.acknowledgement.results[0].subscription == "BTC"
    assert first.acknowledgement.heartbeat_interval_ms == 2_000
    assert (first.header.epoch, first.header.sequence) == ("e1", 0)
    assert [second.trade.trade_id, third.trade.trade_id] == ["7", "8"]
    assert (third.header.sequence, third.header.previous_sequence) == (8, 7)
    assert third.header.published_unix_nanos == bench.clock.now_ns()


async def test_idle_stream_beats_at_the_wanted_interval() -> None:
    """Heartbeats come only when nothing else does, each one interval after the last message."""
    bench = Bench()
    plan = StreamPlan[Trade](terms=StreamTerms(heartbeat_s=3.0), link_state=lambda: stream_pb2.LINK_STATE_LIVE)
    async with aclosing(bench.hub.serve(bench.topic, plan, respond)) as stream:
        await anext(stream)
        started_s = bench.clock.monotonic_s()
        beats = [await anext(stream) for _ in range(3)]
    assert [kind(beat) for beat in beats] == ["heartbeat"] * 3
    assert bench.clock.monotonic_s() - started_s == pytest.approx(9.0)
    assert beats[0].heartbeat.link_state == stream_pb2.LINK_STATE_LIVE
    assert beats[2].heartbeat.server_unix_nanos == bench.clock.now_ns()


async def test_heartbeat_carries_the_number_that_filtered_events_led_to() -> None:
    """A reader of a quiet symbol can resume behind what it filtered out, and the chain of numbers holds."""
    bench = Bench()
    plan = StreamPlan[Trade](terms=StreamTerms(), keys={"ETH"})
    async with aclosing(bench.hub.serve(bench.topic, plan, respond)) as stream:
        await anext(stream)
        for number in range(1, 5):
            bench.publish(number)
        beat = await anext(stream)
        bench.publish(5, "ETH")
        data = await anext(stream)
    assert (kind(beat), beat.header.sequence) == ("heartbeat", 4)
    assert (data.header.sequence, data.header.previous_sequence) == (5, 4)


async def test_stream_with_its_own_numbering_counts_from_one() -> None:
    """Without an epoch of the source the stream's id is the epoch and numbers are contiguous."""
    bench = Bench()
    topic = Topic[Trade](bench.clock)
    async with aclosing(bench.hub.serve(topic, StreamPlan(terms=StreamTerms()), respond)) as stream:
        acknowledgement = await anext(stream)
        topic.publish(trade(70), key="BTC")
        topic.publish(trade(80), key="BTC")
        got = [await anext(stream), await anext(stream)]
        bench.drain.begin()
        closing = await anext(stream)
    assert [message.header.sequence for message in got] == [1, 2]
    assert got[0].header.epoch == acknowledgement.acknowledgement.stream_id
    assert not closing.closing.HasField("resume_after")


async def test_slow_reader_is_closed_with_its_position_and_others_are_not_touched() -> None:
    """Overflow ends one stream with SLOW_CONSUMER behind what it was given; its neighbour gets everything."""
    bench = Bench(capacity=3)
    plan = StreamPlan[Trade](terms=StreamTerms(), method="/trades")
    async with (
        aclosing(bench.hub.serve(bench.topic, plan, respond)) as slow,
        aclosing(bench.hub.serve(bench.topic, plan, respond)) as quick,
    ):
        await anext(slow)
        await anext(quick)
        got = []
        for number in range(1, 8):
            bench.publish(number)
            got.append((await anext(quick)).trade.trade_id)
            if number == 1:
                await anext(slow)
        rest = await rest_of(slow)
    assert got == [str(number) for number in range(1, 8)]
    assert [kind(message) for message in rest] == ["closing"]
    assert rest[0].closing.reason == stream_pb2.CLOSING_REASON_SLOW_CONSUMER
    assert (rest[0].closing.resume_after.epoch, rest[0].closing.resume_after.sequence) == ("e1", 1)
    assert 'stream_ended_total{method="/trades",reason="slow_consumer"} 1.0' in bench.metrics.render()


async def test_conflating_reader_gets_the_latest_state_per_key() -> None:
    """CONFLATE_LATEST never overflows on one symbol and reports what it replaced."""
    bench = Bench(capacity=3)
    topic = Topic[Trade](bench.clock)
    plan = StreamPlan[Trade](terms=StreamTerms(policy=Policy.CONFLATE_LATEST))
    async with aclosing(bench.hub.serve(topic, plan, respond)) as stream:
        await anext(stream)
        for number in range(50):
            topic.publish(trade(number, "BTC"), key="BTC", slot="BTC")
            topic.publish(trade(number, "ETH"), key="ETH", slot="ETH")
        got = [await anext(stream), await anext(stream)]
        beat = await anext(stream)
    assert [(message.trade.symbol, message.trade.trade_id) for message in got] == [("BTC", "49"), ("ETH", "49")]
    assert beat.heartbeat.conflated_count == 98


async def test_sampling_reader_waits_for_its_interval_on_the_injected_clock() -> None:
    """The second state of a symbol is due one interval after the first, and heartbeats do not hurry it."""
    bench = Bench()
    topic = Topic[Trade](bench.clock)
    plan = StreamPlan[Trade](terms=StreamTerms(policy=Policy.SAMPLE, sample_interval_s=0.5))
    async with aclosing(bench.hub.serve(topic, plan, respond)) as stream:
        await anext(stream)
        topic.publish(trade(1), slot="BTC")
        await anext(stream)
        at_s = bench.clock.monotonic_s()
        topic.publish(trade(2), slot="BTC")
        topic.publish(trade(3), slot="BTC")
        message = await anext(stream)
    assert message.trade.trade_id == "3"
    assert bench.clock.monotonic_s() - at_s == pytest.approx(0.5)


async def test_status_goes_to_its_own_field() -> None:
    """A published StreamStatus needs no mapping by the service."""
    bench = Bench()
    topic = Topic[Trade | stream_pb2.StreamStatus](bench.clock)
    plan = StreamPlan[Trade | stream_pb2.StreamStatus](terms=StreamTerms())
    async with aclosing(bench.hub.serve(topic, plan, respond)) as stream:
        await anext(stream)
        topic.publish(stream_pb2.StreamStatus(subscription="BTC", freshness=stream_pb2.FRESHNESS_STALE), key="BTC")
        message = await anext(stream)
    assert message.status.subscription == "BTC"


async def test_drain_ends_every_stream_with_a_closing_notice() -> None:
    """A waiting stream says goodbye at once, with its position and the time to come back."""
    bench = Bench()
    hub = StreamHub(bench.clock, bench.drain)
    plan = StreamPlan[Trade](terms=StreamTerms())
    async with aclosing(hub.serve(bench.topic, plan, respond)) as stream:
        await anext(stream)
        bench.publish(1)
        await anext(stream)
        waiting = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        bench.drain.begin()
        async with asyncio.timeout(60):
            message = await waiting
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
    assert message.closing.reason == stream_pb2.CLOSING_REASON_DRAINING
    assert message.closing.resume_after.sequence == 1
    assert message.closing.reconnect_after.ToMilliseconds() == 1_000


async def test_lost_source_closes_the_stream_after_what_is_queued() -> None:
    """A producer that cannot go on says so; what was queued still arrives."""
    bench = Bench()
    async with aclosing(bench.hub.serve(bench.topic, StreamPlan(terms=StreamTerms()), respond)) as stream:
        await anext(stream)
        bench.publish(1)
        bench.topic.end()
        bench.publish(2)
        kinds = [kind(message) for message in await rest_of(stream)]
    assert kinds == ["trade", "closing"]


async def test_keys_can_be_added_and_removed_while_the_stream_runs() -> None:
    """UpdateSubscription: a key added later gets its snapshot through `offer`, a removed one falls silent."""
    bench = Bench()
    plan = StreamPlan[Trade](terms=StreamTerms(), keys={"BTC"})
    async with aclosing(bench.hub.serve(bench.topic, plan, respond)) as stream:
        stream_id = (await anext(stream)).acknowledgement.stream_id
        subscription = bench.hub.find(stream_id)
        assert subscription is not None
        bench.topic.add_keys(subscription, ["ETH"])
        subscription.offer(Entry(trade(0, "ETH"), 0, key="ETH"))
        bench.publish(1, "ETH")
        bench.topic.remove_keys(subscription, ["BTC"])
        bench.publish(2, "BTC")
        bench.publish(3, "ETH")
        got = [(await anext(stream)).trade.trade_id for _ in range(3)]
    assert got == ["0", "1", "3"]
    assert bench.hub.find(stream_id) is None


async def test_list_subscribers_shows_queue_and_counts() -> None:
    """Operators see each reader: method, peer, since when, how far behind."""
    bench = Bench()
    plan = StreamPlan[Trade](terms=StreamTerms(), method="/trades", peer="ipv4:127.0.0.1:9")
    async with aclosing(bench.hub.serve(bench.topic, plan, respond)) as stream:
        stream_id = (await anext(stream)).acknowledgement.stream_id
        for number in (1, 2, 3):
            bench.publish(number)
        await anext(stream)
        (row,) = bench.hub.list_subscribers()
        assert "venuemesh_stream_longest_queue 2.0" in bench.metrics.render()
    assert (row.stream_id, row.method, row.peer) == (stream_id, "/trades", "ipv4:127.0.0.1:9")
    assert (row.queue_length, row.sent_count) == (2, 1)
    assert row.connected_time.ToNanoseconds() == bench.clock.now_ns()
    assert bench.hub.list_subscribers() == []


async def test_reader_that_goes_away_leaves_nothing_behind() -> None:
    """A cancelled stream task detaches its subscription, which is then collected."""
    bench = Bench()
    hub = StreamHub(bench.clock, bench.drain)
    begun = asyncio.Event()
    seen: list[weakref.ref[object]] = []

    async def reader() -> None:
        plan = StreamPlan[Trade](terms=StreamTerms(), keys={"BTC"})
        async with aclosing(hub.serve(bench.topic, plan, respond)) as stream:
            async for message in stream:
                seen.append(weakref.ref(hub.find(message.acknowledgement.stream_id)))  # type: ignore[arg-type]
                begun.set()

    task = asyncio.create_task(reader(), name="reader")
    async with asyncio.timeout(60):
        await begun.wait()
    await asyncio.sleep(0)
    assert (len(bench.topic), len(hub)) == (1, 1)
    task.cancel()
    # Awaiting it would keep the frames alive in the traceback.
    await asyncio.wait([task])
    assert task.cancelled()
    del task
    gc.collect()
    assert (len(bench.topic), len(hub)) == (0, 0)
    assert bench.topic._of_key == {}
    assert seen[0]() is None


async def test_stream_never_read_attaches_nothing() -> None:
    """A call cancelled before its first message must not stay attached for ever."""
    bench = Bench()
    stream = bench.hub.serve(bench.topic, StreamPlan(terms=StreamTerms()), respond)
    assert len(bench.topic) == 0
    await stream.aclose()
    assert len(bench.hub) == 0


async def test_failing_snapshot_detaches() -> None:
    """An error while the stream opens leaves no subscription behind."""
    bench = Bench()

    def fail() -> list[Entry[Trade]]:
        raise ValueError("no snapshot")

    with pytest.raises(ValueError, match="no snapshot"):
        await anext(bench.hub.serve(bench.topic, StreamPlan(terms=StreamTerms(), snapshot=fail), respond))
    assert (len(bench.topic), len(bench.hub)) == (0, 0)


async def test_wait_at_most_returns_on_the_event_and_on_the_timeout() -> None:
    """The real pause: an event that is set returns at once, one that never is returns after the time."""
    event = asyncio.Event()
    await wait_at_most(event, 0.001)
    assert not event.is_set()
    event.set()
    async with asyncio.timeout(60):
        await wait_at_most(event, 3_600)


# --- resume ------------------------------------------------------------------------------------------------------


def resuming(
    journal: list[int], after: int, *, breathe: Callable[[], AsyncIterator[None]] | None = None
) -> StreamPlan[Trade]:
    async def history(behind: int, up_to: int) -> AsyncIterator[Entry[Trade]]:
        # Reads the growing journal, as a replay of JetStream does, and may well pass the live point.
        position = behind
        while position < len(journal):
            if breathe is not None:
                async for _ in breathe():
                    pass
            position += 1
            yield Entry(trade(position), position, key="BTC")

    terms = StreamTerms(resume_epoch="e1", resume_after=after)
    return StreamPlan(terms=terms, history=history, resume_outcome=stream_pb2.RESUME_OUTCOME_RESUMED)


async def test_resumed_stream_gives_history_then_live() -> None:
    """The backlog first, then live messages, one chain of numbers from the caller's position on."""
    bench = Bench()
    journal = list(range(1, 6))
    bench.topic.advance(5)
    async with aclosing(bench.hub.serve(bench.topic, resuming(journal, 2), respond)) as stream:
        acknowledgement = await anext(stream)
        journal.append(6)
        bench.publish(6)
        got = [await anext(stream) for _ in range(4)]
    assert acknowledgement.acknowledgement.resume_outcome == stream_pb2.RESUME_OUTCOME_RESUMED
    assert acknowledgement.header.sequence == 2
    assert [message.trade.trade_id for message in got] == ["3", "4", "5", "6"]
    assert [message.header.previous_sequence for message in got] == [2, 3, 4, 5]


async def test_reader_that_leaves_within_the_events_of_one_number_gets_all_of_them_again() -> None:
    """Only the last entry of a number moves the position, live and from history."""
    bench = Bench()

    def publish() -> None:
        bench.topic.publish(trade(1), sequence=1)
        for name in (2, 3):
            bench.topic.publish(trade(name), sequence=2, partial=name == 2)

    async def history(behind: int, up_to: int) -> AsyncIterator[Entry[Trade]]:
        for name in (2, 3):
            yield Entry(trade(name), 2, partial=name == 2)

    async with aclosing(bench.hub.serve(bench.topic, StreamPlan(terms=StreamTerms()), respond)) as stream:
        await anext(stream)
        publish()
        live = [await anext(stream) for _ in range(3)]
    plan = StreamPlan[Trade](terms=StreamTerms(resume_after=live[1].header.sequence), history=history)
    async with aclosing(bench.hub.serve(bench.topic, plan, respond)) as stream:
        await anext(stream)
        again = [await anext(stream) for _ in range(3)]
    assert [(message.trade.trade_id, message.header.sequence) for message in live] == [("1", 1), ("2", 1), ("3", 2)]
    assert [(message.trade.trade_id, message.header.sequence) for message in again[:2]] == [("2", 1), ("3", 2)]
    assert kind(again[2]) == "heartbeat"


async def test_state_beside_the_events_passes_after_a_resume_though_it_has_their_number() -> None:
    """A mark published at the live point is no repeat of the event there; an older one is."""
    bench = Bench()

    async def history(behind: int, up_to: int) -> AsyncIterator[Entry[Trade]]:
        bench.topic.publish(trade(100), sequence=1, slot="mark")
        bench.topic.publish(trade(2), sequence=2)
        bench.topic.publish(trade(200), sequence=2, slot="mark")
        yield Entry(trade(2), 2)

    plan = StreamPlan[Trade](terms=StreamTerms(resume_after=1), history=history)
    async with aclosing(bench.hub.serve(bench.topic, plan, respond)) as stream:
        await anext(stream)
        got = [(await anext(stream)).trade.trade_id for _ in range(2)]
        assert kind(await anext(stream)) == "heartbeat"
    assert got == ["2", "200"]


async def test_history_that_stalls_closes_the_stream() -> None:
    """A history that gives nothing for too long ends the stream with a place to resume, not in silence."""
    bench = Bench(history_stall_s=0.01)

    async def history(behind: int, up_to: int) -> AsyncIterator[Entry[Trade]]:
        yield Entry(trade(3), 3)
        await asyncio.Event().wait()

    plan = StreamPlan[Trade](terms=StreamTerms(resume_after=2), history=history)
    async with aclosing(bench.hub.serve(bench.topic, plan, respond)) as stream:
        messages = await rest_of(stream)
    assert [kind(message) for message in messages] == ["acknowledgement", "trade", "closing"]
    assert messages[-1].closing.reason == stream_pb2.CLOSING_REASON_SOURCE_LOST
    assert messages[-1].closing.resume_after.sequence == 3


async def test_reader_that_never_catches_up_is_told_so() -> None:
    """Live messages that overflow the buffer in every round of history end the stream with its position."""
    bench = Bench(capacity=1)

    async def history(behind: int, up_to: int) -> AsyncIterator[Entry[Trade]]:
        yield Entry(trade(behind + 1), behind + 1)
        for _ in range(3):
            bench.publish(bench.topic.sequence + 1)

    # Each round promises to be complete, so this one journals as it goes.
    plan = StreamPlan[Trade](terms=StreamTerms(resume_after=0), history=history)
    async with aclosing(bench.hub.serve(bench.topic, plan, respond)) as stream:
        messages = await rest_of(stream)
    assert kind(messages[-1]) == "closing"
    assert messages[-1].closing.reason == stream_pb2.CLOSING_REASON_SLOW_CONSUMER


@given(seed=st.integers(0, 2**32), stored=st.integers(0, 30), capacity=st.sampled_from([3, 8, 2_000]))
@settings(max_examples=120, deadline=None)
def test_resumed_streams_together_equal_the_journal(seed: int, stored: int, capacity: int) -> None:
    """Property 41: whatever the interleaving of writer, reader, breaks and overflows, nothing is lost or doubled."""
    asyncio.run(_resume_at_random(random.Random(seed), stored, capacity))


async def _resume_at_random(chance: random.Random, stored: int, capacity: int) -> None:
    bench = Bench(capacity=capacity)
    journal = list(range(1, stored + 1))
    bench.topic.advance(stored)
    total = stored + 60

    def write(count: int) -> None:
        for _ in range(min(count, total - len(journal))):
            journal.append(len(journal) + 1)
            # Journalled first, published later: the live point may lie behind the end of the journal.
            if chance.random() < 0.8:
                catch_up_topic()

    def catch_up_topic() -> None:
        for number in range(bench.topic.sequence + 1, len(journal) + 1):
            bench.publish(number)

    async def breathe() -> AsyncIterator[None]:
        write(chance.choice((0, 0, 1, 5)))
        await asyncio.sleep(0)
        yield

    position, got = 0, []
    for _ in range(500):
        if position == total:
            break
        async with aclosing(
            bench.hub.serve(bench.topic, resuming(journal, position, breathe=breathe), respond)
        ) as stream:
            async for message in stream:
                assert message.header.previous_sequence == position
                position = message.header.sequence
                if kind(message) == "trade":
                    got.append(int(message.trade.trade_id))
                write(chance.choice((0, 1, 2, 9)))
                if kind(message) == "heartbeat":
                    catch_up_topic()
                if chance.random() < 0.1 or position == total:
                    break
    assert got == list(range(1, total + 1))
    assert len(bench.topic) == 0
