"""Market data of a venue: which feeds are watched, the newest state of each, and its fan-out to readers.

A feed is watched at the venue while somebody reads it and for a while after, so that a reader who comes back finds it
running. `run` is the only one that talks to the venue about feeds; a watch that fails is tried again, ever more slowly.
Readers of one feed share one topic: books, tops, statistics and candles may be conflated per symbol, trades never.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from venuemesh.clock import Clock
from venuemesh.errors import MeshError, RateLimited
from venuemesh.gateway.books import NEVER_SEEN, Books, BookState, FreshnessChange, Top, TopState
from venuemesh.gateway.order_wire import timestamp
from venuemesh.gateway.seen import RecentIds
from venuemesh.gateway.venue import BookSnapshot, Feed, Level, Venue
from venuemesh.stream_queue import Entry
from venuemesh.streaming import Pause, Topic, wait_at_most
from venuemesh.v1 import market_data_pb2, stream_pb2

log = logging.getLogger(__name__)

Interval = market_data_pb2.CandleInterval
Value = BookState | TopState | market_data_pb2.Trade | market_data_pb2.MarketStatistics | market_data_pb2.Candle
"""What topics carry, beside `StreamStatus`."""

REMEMBERED_TRADES = 500


class FeedKey(NamedTuple):
    """One feed of one symbol; `interval` is 0 but for candles."""

    feed: Feed
    symbol: str
    interval: Interval.ValueType = market_data_pb2.CANDLE_INTERVAL_UNSPECIFIED

    @property
    def topic_key(self) -> tuple[str, Interval.ValueType]:
        """What readers of the feed's topic select by."""
        return (self.symbol, self.interval)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketSettings:
    """Bounds of market data, in seconds unless said otherwise.

    Attributes:
        max_watches: feeds watched at once; venues bound them too.
        linger_s: how long a feed goes on after its last reader.
        watch_timeout_s: bound of one call to the venue.
        retry_first_s: wait after a watch failed, doubling up to `retry_last_s`.
    """

    max_watches: int = 500
    linger_s: float = 30.0
    watch_timeout_s: float = 5.0
    retry_first_s: float = 0.25
    retry_last_s: float = 10.0


@dataclass(slots=True, kw_only=True)
class _Watch:
    """One feed somebody wants or wanted. `stale_cause` is used by feeds that `Books` does not judge."""

    readers: int = 0
    idle_until_s: float = 0.0
    active: bool = False
    due_s: float = 0.0
    retry_s: float = 0.0
    stale_cause: str = NEVER_SEEN
    since_ns: int = 0


class MarketData:
    """Feeds of one venue. It is the market half of the adapter's sink, and `run` is one of the gateway's pumps."""

    def __init__(
        self,
        venue: Venue,
        books: Books,
        clock: Clock,
        *,
        settings: MarketSettings | None = None,
        pause: Pause = wait_at_most,
    ) -> None:
        self.settings = settings or MarketSettings()
        self.topics: dict[Feed, Topic[Any]] = {feed: Topic(clock) for feed in Feed}
        self._venue = venue
        self._books = books
        self._clock = clock
        self._pause = pause
        self._watches: dict[FeedKey, _Watch] = {}
        self._statistics: dict[str, market_data_pb2.MarketStatistics] = {}
        self._candles: dict[tuple[str, Interval.ValueType], market_data_pb2.Candle] = {}
        self._trade_ids: dict[str, RecentIds[str]] = {}
        self._wake = asyncio.Event()
        books.listeners.append(self._on_freshness)
        books.on_interest = lambda feed, symbol: self.touch(FeedKey(feed, symbol))

    # who watches what

    @property
    def watched(self) -> int:
        """Feeds watched now, lingering ones included."""
        return len(self._watches)

    def hold(self, key: FeedKey) -> None:
        """A reader begins; `release` ends it.

        Raises:
            RateLimited: too many feeds are watched.
        """
        watch = self._watches.get(key)
        if watch is None:
            if len(self._watches) >= self.settings.max_watches and not self._let_one_go():
                raise RateLimited(
                    f"{self.settings.max_watches} feeds are watched already",
                    metadata={"limit": "max_watches", "value": str(self.settings.max_watches)},
                )
            watch = self._watches[key] = _Watch(since_ns=self._clock.now_ns())
        watch.readers += 1
        self._wake.set()

    def release(self, key: FeedKey) -> None:
        """A reader ended; the feed goes on for a while."""
        watch = self._watches[key]
        watch.readers -= 1
        watch.idle_until_s = self._clock.monotonic_s() + self.settings.linger_s
        self._wake.set()

    def touch(self, key: FeedKey) -> None:
        """Somebody read once and may again: watch for a while, if there is room."""
        if key not in self._watches and len(self._watches) >= self.settings.max_watches:
            return
        watch = self._watches.setdefault(key, _Watch(since_ns=self._clock.now_ns()))
        watch.idle_until_s = self._clock.monotonic_s() + self.settings.linger_s
        self._wake.set()

    def _let_one_go(self) -> bool:
        """End the lingering of the feed that has lingered longest, to make room; False when all have readers."""
        idle = [(watch.idle_until_s, key) for key, watch in self._watches.items() if not watch.readers]
        if not idle:
            return False
        # The venue is told by `run`; until then there may be one more than the bound.
        self._watches[min(idle)[1]].idle_until_s = 0.0
        return True

    async def run(self) -> None:
        """Begin and end feeds at the venue as they are wanted, until cancelled."""
        while True:
            self._wake.clear()
            await self._pause(self._wake, await self.settle())

    async def settle(self) -> float:
        """Tell the venue what is wanted and not any more; returns the seconds until there can be more to tell."""
        wait_s = self.settings.linger_s
        for key, watch in list(self._watches.items()):
            now_s = self._clock.monotonic_s()
            wanted = watch.readers > 0 or watch.idle_until_s > now_s
            if wanted != watch.active and watch.due_s <= now_s:
                await self._ask(key, watch, wanted)
            if not wanted and not watch.active:
                self._drop(key, watch)
                continue
            if wanted != watch.active:
                wait_s = min(wait_s, watch.due_s - now_s)
            elif not watch.readers:
                wait_s = min(wait_s, watch.idle_until_s - now_s)
        return max(wait_s, 0.0)

    async def _ask(self, key: FeedKey, watch: _Watch, wanted: bool) -> None:
        call = self._venue.watch if wanted else self._venue.unwatch
        interval = key.interval if key.feed is Feed.CANDLES else None
        try:
            async with asyncio.timeout(self.settings.watch_timeout_s):
                await call(key.feed, key.symbol, interval)
        except (MeshError, TimeoutError) as error:
            self._postpone(key, watch, error)
            return
        watch.active, watch.due_s, watch.retry_s = wanted, 0.0, 0.0
        if wanted and key.feed is Feed.TRADES:
            # A feed of trades may be silent and well.
            self._mark(key, watch, "")

    def _postpone(self, key: FeedKey, watch: _Watch, error: Exception) -> None:
        first, last = self.settings.retry_first_s, self.settings.retry_last_s
        watch.retry_s = min(watch.retry_s * 2, last) if watch.retry_s else first
        watch.due_s = self._clock.monotonic_s() + watch.retry_s
        log.warning("feed_not_changed", extra={"feed": key.feed.value, "symbol": key.symbol, "error": repr(error)})

    def _drop(self, key: FeedKey, watch: _Watch) -> None:
        if watch.readers or watch.idle_until_s > self._clock.monotonic_s():
            # Wanted again while the venue was told to end it.
            return
        self._watches.pop(key, None)
        match key.feed:
            case Feed.BOOK | Feed.TOP:
                self._books.forget(key.feed, key.symbol)
            case Feed.STATISTICS:
                self._statistics.pop(key.symbol, None)
            case Feed.CANDLES:
                self._candles.pop((key.symbol, key.interval), None)
            case Feed.TRADES:
                self._trade_ids.pop(key.symbol, None)

    # what the venue tells

    def on_book(self, book: BookSnapshot) -> None:
        """A new state of a watched book."""
        if (state := self._books.on_book(book)) is not None:
            self._publish(FeedKey(Feed.BOOK, book.symbol), state)

    def on_top(self, symbol: str, bid: Level | None, ask: Level | None, venue_time_ns: int, received_ns: int) -> None:
        """A new best bid and offer."""
        top = Top(symbol=symbol, bid=bid, ask=ask, venue_time_ns=venue_time_ns, received_ns=received_ns)
        if (state := self._books.on_top(top)) is not None:
            self._publish(FeedKey(Feed.TOP, symbol), state)

    def on_trades(self, symbol: str, trades: Sequence[market_data_pb2.Trade]) -> None:
        """Public trades, oldest first; what a venue repeats when a feed begins anew is told once."""
        key = FeedKey(Feed.TRADES, symbol)
        self._heard(key)
        known = self._trade_ids.setdefault(symbol, RecentIds(REMEMBERED_TRADES))
        for trade in trades:
            if known.add(trade.trade_id):
                self.topics[Feed.TRADES].publish(trade, key=key.topic_key)

    def on_statistics(self, statistics: market_data_pb2.MarketStatistics) -> None:
        """Mark, index, funding and so on."""
        key = FeedKey(Feed.STATISTICS, statistics.symbol)
        self._heard(key)
        self._statistics[statistics.symbol] = statistics
        self._publish(key, statistics)

    def on_candle(self, candle: market_data_pb2.Candle) -> None:
        """The running or just completed candle."""
        key = FeedKey(Feed.CANDLES, candle.symbol, candle.interval)
        self._heard(key)
        self._candles[key.topic_key] = candle
        # Each candle is a state of its own: the end of one is not replaced by the beginning of the next.
        self._publish(key, candle, candle.open_time.seconds)

    def on_feed_lost(self, symbol: str, cause: str) -> None:
        """Market data of the symbol is not current any more."""
        self._books.on_feed_lost(symbol, cause)
        for key, watch in self._watches.items():
            if key.symbol == symbol and key.feed not in (Feed.BOOK, Feed.TOP):
                self._mark(key, watch, cause)

    def on_all_feeds_lost(self, cause: str) -> None:
        """The link that carries market data is gone."""
        for symbol in {key.symbol for key in self._watches}:
            self.on_feed_lost(symbol, cause)

    def _heard(self, key: FeedKey) -> None:
        watch = self._watches.get(key)
        if watch is not None and watch.stale_cause:
            self._mark(key, watch, "")

    def _mark(self, key: FeedKey, watch: _Watch, cause: str) -> None:
        before, watch.stale_cause = watch.stale_cause, cause
        if bool(before) == bool(cause):
            return
        watch.since_ns = self._clock.now_ns()
        self.topics[key.feed].publish(self._status(key), key=key.topic_key)

    def _on_freshness(self, change: FreshnessChange) -> None:
        key = FeedKey(change.feed, change.symbol)
        self.topics[change.feed].publish(_status_message(change), key=key.topic_key)

    def _publish(self, key: FeedKey, value: Value, part: int = 0) -> None:
        self.topics[key.feed].publish(value, key=key.topic_key, slot=(key.topic_key, part))

    # reading

    def statistics(self, symbol: str) -> market_data_pb2.MarketStatistics | None:
        """The newest statistics, marked as fresh or stale; None when there are none."""
        known = self._statistics.get(symbol)
        if known is None:
            return None
        answer = market_data_pb2.MarketStatistics()
        answer.CopyFrom(known)
        stale = self._status(FeedKey(Feed.STATISTICS, symbol)).freshness
        answer.freshness = stale
        return answer

    def snapshot(self, keys: Iterable[FeedKey]) -> list[Entry[Any]]:
        """What a new reader gets first: the newest state of each feed, and a status where it is not current."""
        entries: list[Entry[Any]] = []
        for key in keys:
            value = self._newest(key)
            if value is not None:
                entries.append(Entry(value, published_ns=self._clock.now_ns(), key=key.topic_key))
            status = self._status(key)
            if status.freshness == stream_pb2.FRESHNESS_STALE:
                entries.append(Entry(status, published_ns=self._clock.now_ns(), key=key.topic_key))
        return entries

    def _newest(self, key: FeedKey) -> Value | None:
        match key.feed:
            case Feed.BOOK:
                return self._books.book(key.symbol)
            case Feed.TOP:
                return self._books.top(key.symbol)
            case Feed.STATISTICS:
                return self.statistics(key.symbol)
            case Feed.CANDLES:
                return self._candles.get((key.symbol, key.interval))
            case Feed.TRADES:
                return None

    def _status(self, key: FeedKey) -> stream_pb2.StreamStatus:
        if key.feed in (Feed.BOOK, Feed.TOP):
            return _status_message(self._books.status(key.feed, key.symbol))
        watch = self._watches.get(key)
        cause, since_ns = (watch.stale_cause, watch.since_ns) if watch else (NEVER_SEEN, self._clock.now_ns())
        change = FreshnessChange(feed=key.feed, symbol=key.symbol, stale_cause=cause, since_ns=since_ns)
        return _status_message(change)

    def link_state(self) -> stream_pb2.LinkState.ValueType:
        """Worst state of the venue's links."""
        return worst_link(link.state for link in self._venue.links())


_WORST_FIRST = (
    stream_pb2.LINK_STATE_DOWN,
    stream_pb2.LINK_STATE_CONNECTING,
    stream_pb2.LINK_STATE_DEGRADED,
    stream_pb2.LINK_STATE_LIVE,
)


def worst_link(states: Iterable[stream_pb2.LinkState.ValueType]) -> stream_pb2.LinkState.ValueType:
    """The worst of several link states; UNSPECIFIED of none."""
    present = set(states)
    return next((state for state in _WORST_FIRST if state in present), stream_pb2.LINK_STATE_UNSPECIFIED)


def _status_message(change: FreshnessChange) -> stream_pb2.StreamStatus:
    return stream_pb2.StreamStatus(
        subscription=change.symbol,
        freshness=stream_pb2.FRESHNESS_STALE if change.stale_cause else stream_pb2.FRESHNESS_FRESH,
        since=timestamp(change.since_ns),
        cause=change.stale_cause,
    )
