"""The books decisions are made on: one stream per venue and symbol, opened when first needed.

Bounded: at most `max_feeds` streams over all venues, the one used least recently makes room; one that nobody used
for `idle_s` is closed. While a stream has no book yet, one reading with a short time limit stands in, shared by all
who wait for it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import Callable, Iterable

import grpc
import grpc.aio

from router.book_fold import BookFold, BookGap, book_view
from router.settings import BookSettings
from router.venues import VenueLink
from router.views import BookView
from venuemesh.clock import Clock
from venuemesh.deadlines import background_context
from venuemesh.errors import MeshError
from venuemesh.status import error_from_rpc
from venuemesh.transport.backoff import Backoff, BackoffPolicy
from venuemesh.v1 import market_data_service_pb2, stream_pb2

log = logging.getLogger(__name__)

REREAD_S = 1.0
"""After a reading that brought no book, before the next one is tried."""

Seen = tuple[BookView | None, str]
"""A book, or why there is none."""


class _Feed:
    """One followed book."""

    def __init__(self, link: VenueLink, symbol: str) -> None:
        self.link = link
        self.symbol = symbol
        self.fold = BookFold()
        self.used_s = 0.0
        self.task: asyncio.Task[None] | None = None
        self.reading: asyncio.Task[Seen] | None = None
        self.failed_s: float | None = None
        """When a reading last brought no book."""


class BookFeeds:
    """Gives the book of a venue and symbol now.

    Args:
        tasks: owns the streams; they end with it.
    """

    def __init__(self, settings: BookSettings, clock: Clock, tasks: asyncio.TaskGroup) -> None:
        self._settings = settings
        self._clock = clock
        self._tasks = tasks
        self._feeds: OrderedDict[tuple[str, str], _Feed] = OrderedDict()
        self.on_change: list[Callable[[str], None]] = []
        """Called with the symbol of each book that changed or was lost."""

    @property
    def followed(self) -> list[tuple[str, str]]:
        """Venue and symbol of every stream open now, least recently used first."""
        return list(self._feeds)

    def close(self) -> None:
        """End every stream."""
        for feed in self._feeds.values():
            for task in (feed.task, feed.reading):
                if task is not None:
                    task.cancel()
        self._feeds.clear()

    async def seen(self, link: VenueLink, symbol: str) -> Seen:
        """The book as it stands, or why there is none; waits at most `fetch_timeout_s`."""
        feed = self._feed(link, symbol)
        now_s = feed.used_s = self._clock.monotonic_s()
        book = feed.fold.view(now_s)
        if book is not None and (book.stale_cause or book.age_s <= self._settings.max_age_s):
            return book, ""
        reading = feed.reading
        if reading is not None and reading.done() and self._failed_lately(feed, now_s):
            # Decisions about the other venues would wait for this one again and again.
            return book, reading.result()[1]
        if reading is None or reading.done():
            reading = feed.reading = self._tasks.create_task(
                self._read(feed), name=f"book-reading/{link.name}/{symbol}", context=background_context()
            )
        read, fault = await asyncio.shield(reading)
        feed.failed_s = None if read is not None else self._clock.monotonic_s()
        return (read, "") if read is not None else (book, fault)

    def peek(self, link: VenueLink, symbol: str) -> Seen:
        """The same without waiting: what the stream has told so far. Keeps the stream open."""
        feed = self._feed(link, symbol)
        now_s = feed.used_s = self._clock.monotonic_s()
        return feed.fold.view(now_s), "no book yet"

    def _failed_lately(self, feed: _Feed, now_s: float) -> bool:
        return feed.failed_s is not None and now_s - feed.failed_s < REREAD_S

    async def seen_all(self, links: Iterable[VenueLink], symbol: str) -> dict[str, Seen]:
        """The same for several venues at once, by venue name."""
        async with asyncio.TaskGroup() as tasks:
            waited = {
                link.name: tasks.create_task(self.seen(link, symbol), name=f"book-seen/{link.name}") for link in links
            }
        return {venue: task.result() for venue, task in waited.items()}

    def _feed(self, link: VenueLink, symbol: str) -> _Feed:
        key = (link.name, symbol)
        feed = self._feeds.get(key)
        if feed is not None:
            self._feeds.move_to_end(key)
            return feed
        while len(self._feeds) >= self._settings.max_feeds:
            _, oldest = self._feeds.popitem(last=False)
            if oldest.task is not None:
                oldest.task.cancel()
        feed = self._feeds[key] = _Feed(link, symbol)
        feed.used_s = self._clock.monotonic_s()
        feed.task = self._tasks.create_task(
            self._follow(feed), name=f"book/{link.name}/{symbol}", context=background_context()
        )
        return feed

    async def _read(self, feed: _Feed) -> Seen:
        request = market_data_service_pb2.GetOrderBookRequest(
            venue=feed.link.name, symbol=feed.symbol, depth=self._settings.depth
        )
        try:
            answer = await feed.link.market_data.GetOrderBook(request, timeout=self._settings.fetch_timeout_s)
        except grpc.aio.AioRpcError as error:
            return None, error_from_rpc(error, is_write=False).message
        except MeshError as error:
            return None, error.message
        return book_view(answer.order_book, self._clock.now_ns()), ""

    async def _follow(self, feed: _Feed) -> None:
        backoff = Backoff(BackoffPolicy(initial_s=0.1, cap_s=feed.link.settings.reconnect_cap_s), random.random)
        while not self._idle(feed):
            began_s = self._clock.monotonic_s()
            cause = await self._stream(feed)
            feed.fold.lost()
            self._tell(feed)
            if self._idle(feed):
                break
            log.info("book_lost", extra={"venue": feed.link.name, "symbol": feed.symbol, "cause": cause})
            backoff.connection_ended(self._clock.monotonic_s() - began_s)
            await asyncio.sleep(backoff.next_delay_s())
        self._feeds.pop((feed.link.name, feed.symbol), None)

    async def _stream(self, feed: _Feed) -> str:
        """Follow one stream to its end; returns why it ended."""
        call = feed.link.market_data.StreamOrderBook(
            market_data_service_pb2.StreamOrderBookRequest(
                venue=feed.link.name,
                symbols=[feed.symbol],
                depth=self._settings.depth,
                options=stream_pb2.StreamOptions(heartbeat_interval_ms=self._settings.heartbeat_ms),
            )
        )
        try:
            async for message in call:
                refused = _refusal(message)
                if refused:
                    return refused
                feed.fold.apply(message, wall_ns=self._clock.now_ns(), mono_s=self._clock.monotonic_s())
                self._tell(feed)
                if self._idle(feed):
                    return "not used"
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"
        except BookGap as gap:
            return f"gap: {gap}"
        finally:
            call.cancel()
        return "ended"

    def _tell(self, feed: _Feed) -> None:
        for listener in self.on_change:
            listener(feed.symbol)

    def _idle(self, feed: _Feed) -> bool:
        return self._clock.monotonic_s() - feed.used_s > self._settings.idle_s


def _refusal(message: market_data_service_pb2.StreamOrderBookResponse) -> str:
    if message.WhichOneof("body") != "acknowledgement":
        return ""
    return next((one.message or str(one.reason) for one in message.acknowledgement.results if not one.accepted), "")
