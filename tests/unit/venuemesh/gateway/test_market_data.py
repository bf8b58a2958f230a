"""Market data: feeds are watched while read, lost links are told, and fan-out reaches who asked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.fakes import ManualClock
from tests.fakes_venue import BTC, ETH, VENUE, Down, FakeVenue, Held, levels
from venuemesh.errors import RateLimited
from venuemesh.gateway.books import Books, BookState
from venuemesh.gateway.instruments import Instruments
from venuemesh.gateway.market_data import FeedKey, MarketData, MarketSettings, worst_link
from venuemesh.gateway.order_wire import timestamp
from venuemesh.gateway.venue import Feed
from venuemesh.stream_queue import StreamQueue
from venuemesh.streaming import Subscription
from venuemesh.v1 import market_data_pb2, stream_pb2

BIDS = levels(("100", "1"))
ASKS = levels(("100.5", "1"))
BOOK = FeedKey(Feed.BOOK, BTC)
MINUTE = market_data_pb2.CANDLE_INTERVAL_1M


class Market:
    """Market data over a fake venue on a manual clock."""

    def __init__(self, **settings: Any) -> None:
        self.clock = ManualClock()
        self.venue = FakeVenue(self.clock)
        instruments = Instruments()
        instruments.replace(self.venue.instruments)
        self.books = Books(self.venue, instruments, self.clock)
        self.market = MarketData(self.venue, self.books, self.clock, settings=MarketSettings(**settings))
        self.venue.sink = self.market  # type: ignore[assignment]

    def read(self, key: FeedKey) -> Subscription[Any]:
        """A reader of one feed that keeps everything."""
        subscription: Subscription[Any] = Subscription(self.clock, StreamQueue(), keys=[key.topic_key])
        self.market.topics[key.feed].attach(subscription)
        return subscription

    def got(self, subscription: Subscription[Any]) -> list[Any]:
        """What reached the reader since the last look; statuses as (freshness, cause)."""
        values = []
        while (entry := subscription.queue.pop(self.clock.monotonic_s())) is not None:
            value = entry.value
            if isinstance(value, stream_pb2.StreamStatus):
                value = ("stale", value.cause) if value.freshness == stream_pb2.FRESHNESS_STALE else "fresh"
            values.append(value)
        return values


def trade(number: int, symbol: str = BTC) -> market_data_pb2.Trade:
    return market_data_pb2.Trade(venue=VENUE, symbol=symbol, trade_id=str(number), price="100", quantity="1")


def candle(opened_s: int, close: str, *, complete: bool = False) -> market_data_pb2.Candle:
    return market_data_pb2.Candle(
        venue=VENUE,
        symbol=BTC,
        interval=MINUTE,
        open_time=timestamp(opened_s * 10**9),
        close=close,
        complete=complete,
    )


async def test_hold_when_two_read_watches_once_and_ends_after_the_last_and_a_while() -> None:
    """Readers share a feed; it lingers, so that one who comes back finds it running."""
    bench = Market(linger_s=30.0)
    bench.market.hold(BOOK)
    bench.market.hold(BOOK)
    await bench.market.settle()
    assert bench.venue.watching == {(Feed.BOOK, BTC, 0)}
    bench.market.release(BOOK)
    bench.clock.advance(100.0)
    await bench.market.settle()
    bench.market.release(BOOK)
    assert await bench.market.settle() == pytest.approx(30.0)
    assert bench.venue.watching == {(Feed.BOOK, BTC, 0)}
    bench.clock.advance(30.0)
    await bench.market.settle()
    assert bench.venue.watching == set()
    assert bench.venue.calls == ["watch", "unwatch"]
    assert bench.market.watched == 0


async def test_hold_within_the_linger_keeps_the_feed_that_runs() -> None:
    """Coming back costs the venue nothing."""
    bench = Market(linger_s=30.0)
    bench.market.hold(BOOK)
    await bench.market.settle()
    bench.market.release(BOOK)
    bench.clock.advance(29.0)
    bench.market.hold(BOOK)
    bench.clock.advance(29.0)
    await bench.market.settle()
    assert bench.venue.calls == ["watch"]


async def test_hold_while_the_venue_is_told_to_end_the_feed_begins_it_again() -> None:
    """A reader that comes in the middle of an unwatch is not forgotten."""
    bench = Market(linger_s=0.0)
    bench.market.hold(BOOK)
    await bench.market.settle()
    bench.market.release(BOOK)
    released = asyncio.Event()
    bench.venue.script("unwatch", Held(released))
    async with asyncio.TaskGroup() as tasks:
        ending = tasks.create_task(bench.market.settle())
        await asyncio.sleep(0)
        bench.market.hold(BOOK)
        released.set()
        await ending
    await bench.market.settle()
    assert bench.venue.watching == {(Feed.BOOK, BTC, 0)}


async def test_watch_when_the_venue_is_away_is_tried_again_ever_more_slowly() -> None:
    """A failed watch is not forgotten and does not hammer."""
    bench = Market(retry_first_s=1.0, retry_last_s=4.0)
    bench.venue.script("watch", Down(), Down(), Down(), Down())
    bench.market.hold(BOOK)
    waits = []
    for _ in range(4):
        waits.append(await bench.market.settle())
        bench.clock.advance(waits[-1])
    assert waits == pytest.approx([1.0, 2.0, 4.0, 4.0])
    await bench.market.settle()
    assert bench.venue.watching == {(Feed.BOOK, BTC, 0)}


async def test_run_begins_and_ends_feeds_by_itself() -> None:
    """The pump wakes when a reader comes and when a linger is over."""
    bench = Market(linger_s=10.0)

    async def pause(event: asyncio.Event, seconds: float) -> None:
        await asyncio.sleep(0)
        if not event.is_set():
            bench.clock.advance(seconds)

    bench.market._pause = pause
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        pump = tasks.create_task(bench.market.run())
        bench.market.hold(BOOK)
        while not bench.venue.watching:
            await asyncio.sleep(0)
        bench.market.release(BOOK)
        while bench.venue.watching:
            await asyncio.sleep(0)
        pump.cancel()


def test_hold_when_too_many_feeds_are_read_refuses() -> None:
    """Venues bound subscriptions and so do we, by name of the limit."""
    bench = Market(max_watches=1)
    bench.market.hold(BOOK)
    with pytest.raises(RateLimited) as caught:
        bench.market.hold(FeedKey(Feed.BOOK, ETH))
    assert caught.value.metadata["limit"] == "max_watches"
    bench.market.touch(FeedKey(Feed.TOP, ETH))
    assert bench.market.watched == 1


async def test_hold_when_full_of_lingering_feeds_ends_the_oldest() -> None:
    """A feed nobody reads gives way to one that somebody does."""
    bench = Market(max_watches=1, linger_s=1_000.0)
    bench.market.touch(BOOK)
    await bench.market.settle()
    bench.market.hold(FeedKey(Feed.BOOK, ETH))
    await bench.market.settle()
    assert bench.venue.watching == {(Feed.BOOK, ETH, 0)}


async def test_books_interest_watches_the_feed_for_a_while() -> None:
    """A market order on a symbol nobody reads makes the next one quick."""
    bench = Market()
    bench.venue.set_book(BTC, BIDS, ASKS)
    await bench.books.best_opposite(BTC, buy=True)
    await bench.market.settle()
    assert bench.venue.watching == {(Feed.TOP, BTC, 0)}


def test_feed_lost_tells_stale_with_cause_and_fresh_with_the_first_good_frame() -> None:
    """Readers of every feed of the symbol hear of the loss, each once, and of its end with the data."""
    bench = Market()
    keys = [BOOK, FeedKey(Feed.TRADES, BTC), FeedKey(Feed.STATISTICS, BTC), FeedKey(Feed.CANDLES, BTC, MINUTE)]
    readers = [bench.read(key) for key in keys]
    for key in keys:
        bench.market.hold(key)
    statistics = market_data_pb2.MarketStatistics(venue=VENUE, symbol=BTC, mark_price="100")

    def frames() -> None:
        bench.market.on_book(bench.venue.set_book(BTC, BIDS, ASKS))
        bench.market.on_trades(BTC, [trade(len(bench.venue.trades))])
        bench.venue.trades.append(trade(0))
        bench.market.on_statistics(statistics)
        bench.market.on_candle(candle(60, "100"))

    frames()
    assert all(bench.got(reader)[0] == "fresh" for reader in readers)
    bench.market.on_feed_lost(BTC, "socket closed")
    bench.market.on_feed_lost(BTC, "still closed")
    assert [bench.got(reader) for reader in readers] == [[("stale", "socket closed")]] * 4
    frames()
    after = [bench.got(reader) for reader in readers]
    assert [messages[0] for messages in after] == ["fresh"] * 4
    assert [len(messages) for messages in after] == [2] * 4


def test_all_feeds_lost_marks_every_symbol() -> None:
    """The market link carries them all."""
    bench = Market()
    keys = [BOOK, FeedKey(Feed.BOOK, ETH)]
    readers = [bench.read(key) for key in keys]
    for key in keys:
        bench.market.hold(key)
        bench.market.on_book(bench.venue.set_book(key.symbol, BIDS, ASKS))
    for reader in readers:
        bench.got(reader)
    bench.market.on_all_feeds_lost("market link down")
    assert [bench.got(reader) for reader in readers] == [[("stale", "market link down")]] * 2


def test_bad_book_reaches_no_reader_and_says_stale() -> None:
    """A crossed frame is told as a cause, never as a book."""
    bench = Market()
    reader = bench.read(BOOK)
    bench.market.on_book(bench.venue.set_book(BTC, BIDS, ASKS))
    bench.got(reader)
    bench.market.on_book(bench.venue.set_book(BTC, levels(("101", "1")), ASKS))
    assert bench.got(reader) == [("stale", "crossed: bid 101 at or above ask 100.5")]


def test_trades_when_the_venue_repeats_them_are_told_once() -> None:
    """A feed that begins anew sends recent trades again."""
    bench = Market()
    key = FeedKey(Feed.TRADES, BTC)
    bench.market.hold(key)
    reader = bench.read(key)
    bench.market.on_trades(BTC, [trade(1), trade(2)])
    bench.market.on_trades(BTC, [trade(1), trade(2), trade(3)])
    assert [value.trade_id for value in bench.got(reader) if value != "fresh"] == ["1", "2", "3"]


def test_candles_when_conflated_keep_the_end_of_each() -> None:
    """The complete candle is not replaced by the beginning of the next."""
    bench = Market()
    key = FeedKey(Feed.CANDLES, BTC, MINUTE)
    queue: StreamQueue[Any] = StreamQueue(interval_s=0.0)
    reader: Subscription[Any] = Subscription(bench.clock, queue, keys=[key.topic_key])
    bench.market.topics[Feed.CANDLES].attach(reader)
    for update in (candle(60, "1"), candle(60, "2"), candle(60, "3", complete=True), candle(120, "4")):
        bench.market.on_candle(update)
    assert [(value.close, value.complete) for value in bench.got(reader)] == [("3", True), ("4", False)]


def test_books_when_conflated_keep_the_newest_per_symbol() -> None:
    """A slow reader gets the newest state of each symbol, not the queue of them."""
    bench = Market()
    queue: StreamQueue[Any] = StreamQueue(interval_s=0.0)
    reader: Subscription[Any] = Subscription(bench.clock, queue, keys=[BOOK.topic_key, (ETH, 0)])
    bench.market.topics[Feed.BOOK].attach(reader)
    bench.market.on_book(bench.venue.set_book(BTC, BIDS, ASKS))
    bench.market.on_book(bench.venue.set_book(ETH, BIDS, ASKS))
    bench.got(reader)
    for size in range(1, 50):
        for symbol in (BTC, ETH):
            bench.market.on_book(bench.venue.set_book(symbol, levels(("100", str(size))), ASKS))
    states: list[BookState] = bench.got(reader)
    assert [(state.book.symbol, str(state.book.bids[0].quantity)) for state in states] == [(BTC, "49"), (ETH, "49")]
    assert queue.conflated == 96


def test_snapshot_when_nothing_came_yet_says_stale() -> None:
    """A new reader knows at once that there is nothing to trade on."""
    bench = Market()
    entries = bench.market.snapshot([BOOK])
    assert [(entry.value.freshness, entry.value.cause) for entry in entries] == [
        (stream_pb2.FRESHNESS_STALE, "no data yet")
    ]
    bench.market.on_book(bench.venue.set_book(BTC, BIDS, ASKS))
    assert [type(entry.value) for entry in bench.market.snapshot([BOOK])] == [BookState]


async def test_trades_are_fresh_once_watched_though_nobody_trades() -> None:
    """Silence of a quiet market is no fault."""
    bench = Market()
    key = FeedKey(Feed.TRADES, BTC)
    reader = bench.read(key)
    bench.market.hold(key)
    await bench.market.settle()
    assert bench.got(reader) == ["fresh"]
    assert bench.market.snapshot([key]) == []


def test_worst_link_counts_down_before_connecting_before_degraded() -> None:
    """Heartbeats carry the worst state."""
    live, down, degraded = stream_pb2.LINK_STATE_LIVE, stream_pb2.LINK_STATE_DOWN, stream_pb2.LINK_STATE_DEGRADED
    assert worst_link([live, degraded]) == degraded
    assert worst_link([live, down, degraded]) == down
    assert worst_link([]) == stream_pb2.LINK_STATE_UNSPECIFIED
