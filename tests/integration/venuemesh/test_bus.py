"""The bus against a real nats-server, also one that dies and comes back."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.broker import Broker
from venuemesh.bus import Bus, BusOptions, SubjectTaken
from venuemesh.errors import JournalUnavailable, Sent
from venuemesh.follower import MAX_BATCH
from venuemesh.subjects import EVENT_STREAM, JOURNAL_STREAM, ROOT, Kind, account_filter, stream_specs, subject
from venuemesh.telemetry import Tracing, extract, sampled_headers


@pytest.fixture
async def bus(broker: Broker) -> AsyncIterator[Bus]:
    async with Bus.connect(BusOptions(servers=[broker.url], name="test", timeout_s=3.0)) as connected:
        await connected.ensure_streams(stream_specs(0))
        yield connected


def _fill(symbol: str = "BTC/USDC:USDC", account: str = "main") -> str:
    return subject(Kind.FILL, "hyperliquid", account, symbol)


async def test_append_once_when_subject_has_a_message_refuses(bus: Bus) -> None:
    """The broker itself decides that a key is used once, whoever asks."""
    key = subject(Kind.INTENT, "hyperliquid", "main", "key-1")
    assert await bus.append_once(key, b"first") == 1
    with pytest.raises(SubjectTaken):
        await bus.append_once(key, b"second")
    stored = await bus.last(JOURNAL_STREAM, key)
    assert stored is not None
    assert stored.payload == b"first"


async def test_append_once_when_two_race_one_wins(bus: Bus) -> None:
    """Optimistic concurrency lets exactly one of many through."""
    key = subject(Kind.INTENT, "hyperliquid", "main", "key-2")
    results = await asyncio.gather(*(bus.append_once(key, b"%d" % i) for i in range(20)), return_exceptions=True)
    assert sum(isinstance(result, int) for result in results) == 1
    assert sum(isinstance(result, SubjectTaken) for result in results) == 19


async def test_publish_when_message_id_repeats_stores_once(bus: Bus) -> None:
    """A resend after a lost ack is harmless."""
    first = await bus.publish(_fill(), b"a", message_id="fill-1")
    assert await bus.publish(_fill(), b"a", message_id="fill-1") == first


async def test_ensure_streams_when_they_exist_changes_limits_in_place(bus: Bus) -> None:
    """A restart with another retention keeps what is stored."""
    await bus.publish(_fill(), b"a")
    await bus.ensure_streams(stream_specs(event_max_age_s=7 * 86400))
    assert [message.payload async for message in bus.replay(EVENT_STREAM, [_fill()])] == [b"a"]


async def test_replay_when_stream_is_empty_ends_at_once(bus: Bus) -> None:
    """No message ever must not mean waiting for ever."""
    assert [message async for message in bus.replay(EVENT_STREAM, [_fill()])] == []


async def test_replay_filters_one_account_in_order(bus: Bus) -> None:
    """One wildcard gives everything of one account, of every kind, in one order."""
    for number in range(500):
        await bus.publish_soon(_fill(account="main" if number % 2 else "other"), b"%d" % number, message_id=f"{number}")
    await bus.publish(subject(Kind.ORDER, "hyperliquid", "main", "BTC/USDC:USDC"), b"last")
    seen = [message.payload async for message in bus.replay(EVENT_STREAM, [account_filter("hyperliquid", "main")])]
    assert seen == [b"%d" % number for number in range(1, 500, 2)] + [b"last"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ("venuemesh.v1.fill.>", "abc"),
        ("venuemesh.v1.fill.*.main.>", "ac"),
        ("venuemesh.v1.*.hyperliquid.>", "abd"),
        ("venuemesh.v1.*.hyperliquid.main.>", "ad"),
        ("venuemesh.v1.*.*.*.BTC/USDC:USDC", "ab"),
        ("venuemesh.v1.*.*.*.BTC/USDC:USDC.>", "d"),
    ],
)
async def test_filters_of_the_documentation_give_what_it_says(bus: Bus, wanted: str, expected: str) -> None:
    """E2, docs/events.md: wildcards over kind, venue, account and symbol."""
    await bus.publish(subject(Kind.FILL, "hyperliquid", "main", "BTC/USDC:USDC"), b"a")
    await bus.publish(subject(Kind.FILL, "hyperliquid", "other", "BTC/USDC:USDC"), b"b")
    await bus.publish(subject(Kind.FILL, "lighter", "main", "ETH/USDC:USDC"), b"c")
    await bus.publish(subject(Kind.ORDER, "hyperliquid", "main", "BTC/USDC:USDC", "key"), b"d")
    found = [message.payload.decode() async for message in bus.replay(EVENT_STREAM, [wanted])]
    assert "".join(found) == expected


async def test_busy_reader_gets_everything_in_batches(bus: Bus) -> None:
    """Back-pressure: what comes while the reader is at work is neither dropped nor doubled, and batches are bounded."""
    count = 3_000
    sizes: list[int] = []
    seen: list[bytes] = []
    async with bus.follow(EVENT_STREAM, [_fill()]) as follower:
        first = await bus.publish_soon(_fill(), b"0", message_id="0")
        await first
        async for batch in follower.batches():
            if not seen:
                stored = [
                    await bus.publish_soon(_fill(), b"%d" % number, message_id=f"{number}")
                    for number in range(1, count)
                ]
                await asyncio.gather(*stored)
            sizes.append(len(batch))
            seen += [message.payload for message in batch]
            if len(seen) >= count:
                break
    assert seen == [b"%d" % number for number in range(count)]
    assert max(sizes) == MAX_BATCH


async def test_publish_soon_tells_the_place_of_each_message_and_of_a_repeat(bus: Bus) -> None:
    """Each answer belongs to its own message; a repeated id gets the place of the first."""
    futures = [await bus.publish_soon(_fill(), b"x", message_id=f"{number % 50}") for number in range(100)]
    places = await asyncio.gather(*futures)
    assert places == [*range(1, 51)] * 2


async def test_publish_soon_where_no_stream_listens_fails_its_future(bus: Bus) -> None:
    """The broker's refusal reaches whoever waits for the confirmation."""
    future = await bus.publish_soon("venuemesh.v2.nothing", b"x", message_id="x")
    with pytest.raises(JournalUnavailable, match="no stream"):
        await future


async def test_publish_soon_waits_while_too_many_are_in_flight(broker: Broker) -> None:
    """Bounded: a broker that stores nothing is not buried, and the caller learns it."""
    options = BusOptions(servers=[broker.url], name="test", timeout_s=0.2, max_in_flight=3)
    async with Bus.connect(options) as bus:
        broker.pause()
        try:
            futures = [await bus.publish_soon(_fill(), b"x", message_id=f"{number}") for number in range(3)]
            with pytest.raises(JournalUnavailable, match="3 are in flight"):
                await bus.publish_soon(_fill(), b"x", message_id="one more")
            futures[0].cancel()
            await bus.publish_soon(_fill(), b"x", message_id="instead of it")
        finally:
            broker.unpause()


async def test_next_at_finds_the_first_match_at_or_after_a_sequence(bus: Bus) -> None:
    """What a resume needs to find its place."""
    for number, account in enumerate(["main", "other", "main"]):
        await bus.publish(_fill(account=account), b"%d" % number)
    found = await bus.next_at(EVENT_STREAM, account_filter("hyperliquid", "main"), 2)
    assert found is not None
    assert (found.sequence, found.payload) == (3, b"2")
    assert await bus.next_at(EVENT_STREAM, account_filter("hyperliquid", "main"), 4) is None


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_follow_when_broker_restarts_loses_and_doubles_nothing(
    bus: Bus, broker: Broker, how: signal.Signals
) -> None:
    """A reader rides over a broker's end, also over a crash."""
    seen: list[bytes] = []
    everything = asyncio.Event()

    async def read() -> None:
        async with bus.follow(EVENT_STREAM, [_fill()]) as follower:
            async for message in follower:
                seen.append(message.payload)
                if message.payload == b"19":
                    everything.set()

    async with asyncio.TaskGroup() as tasks:
        reader = tasks.create_task(read(), name="reader")
        for number in range(10):
            await bus.publish(_fill(), b"%d" % number, message_id=f"{number}")
        await broker.stop(how)
        await broker.start()
        for number in range(10, 20):
            await _publish_until_stored(bus, number)
        async with asyncio.timeout(60):
            await everything.wait()
        reader.cancel()
    assert seen == [b"%d" % number for number in range(20)]


async def _publish_until_stored(bus: Bus, number: int) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                await bus.publish(_fill(), b"%d" % number, message_id=f"{number}")
            except JournalUnavailable:
                await asyncio.sleep(0.02)
            else:
                return


async def test_publish_when_broker_is_gone_says_that_nothing_was_sent(bus: Bus, broker: Broker) -> None:
    """The caller of an order learns that the journal is down, and that no order left."""
    await broker.stop()
    async with asyncio.timeout(60):
        while bus.connected:
            await asyncio.sleep(0.01)
    with pytest.raises(JournalUnavailable) as caught:
        await bus.append_once(subject(Kind.INTENT, "hyperliquid", "main", "key-3"), b"x")
    assert caught.value.sent is Sent.NO


async def test_publish_when_broker_hangs_gives_up_in_bounded_time(bus: Bus, broker: Broker) -> None:
    """A broker that accepts bytes and never answers does not hold a submit for ever."""
    broker.pause()
    try:
        with pytest.raises(JournalUnavailable):
            await bus.publish(_fill(), b"x")
    finally:
        broker.unpause()


async def test_connect_when_nothing_listens_fails_and_leaves_nothing_running() -> None:
    """A wrong address is a clear error at start."""
    options = BusOptions(servers=["nats://127.0.0.1:1"], name="test", connect_timeout_s=0.3)
    with pytest.raises(JournalUnavailable, match=r"127\.0\.0\.1:1"):
        async with Bus.connect(options):
            pass


async def test_message_of_a_sampled_call_carries_its_span_and_others_nothing(broker: Broker) -> None:
    """What waits for the broker is a span; who reads the message continues the trace."""
    exporter = InMemorySpanExporter()
    tracing = Tracing("test", SimpleSpanProcessor(exporter))
    async with Bus.connect(BusOptions(servers=[broker.url], name="traced"), tracing=tracing) as bus:
        await bus.ensure_streams(stream_specs(0))
        await bus.publish(_fill(), b"untraced", message_id="1")
        assert exporter.get_finished_spans() == ()
        with tracing.span("call") as call:
            await bus.publish(_fill(), b"traced", message_id="2")
            future = await bus.publish_soon(_fill(), b"soon", message_id="3", headers=sampled_headers())
        await future
        untraced, traced, soon = [message async for message in bus.replay(EVENT_STREAM, [f"{ROOT}.>"])]
    appended, _ = exporter.get_finished_spans()
    assert appended.name == "append venuemesh.v1.fill"
    assert appended.context is not None and appended.parent is not None
    assert appended.parent.span_id == call.get_span_context().span_id
    assert extract(untraced.headers) is None
    spans = [extract(message.headers) for message in (traced, soon)]
    assert [span and span.span_id for span in spans] == [appended.context.span_id, call.get_span_context().span_id]
    tracing.shutdown()
