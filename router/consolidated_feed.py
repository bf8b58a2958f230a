"""Consolidated books that are kept: computed anew soon after any venue's book changed, and told to all readers.

The bound of the path: a change is computed at most `SPACING_S` after the gateway's message was read, whatever the rate
of changes, and every `REVIEW_S` the book is looked at again, because a book grows old without a message.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from router.books import BookFeeds, Seen
from router.consolidated import best, consolidate, outliers
from router.venues import VenueLink, Venues
from router.views import BookView
from venuemesh.clock import Clock
from venuemesh.errors import GatewayUnavailable, InstrumentNotFound, RateLimited
from venuemesh.stream_queue import Entry
from venuemesh.streaming import Topic
from venuemesh.v1 import market_data_pb2

SPACING_S: Final = 0.02
"""Least time between two computations of one pump: what changes meanwhile is taken together."""
REVIEW_S: Final = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Consolidated:
    """One symbol over its venues at one moment.

    Args:
        books: fresh books by venue.
        left_out: the other venues, each as "venue: reason".
        at_ns: when it was put together.
    """

    symbol: str
    books: dict[str, BookView]
    left_out: tuple[str, ...]
    at_ns: int

    def book(self, depth: int) -> market_data_pb2.OrderBook:
        """The first levels of both sides, each with its venue."""
        return consolidate(self.symbol, self.books, self.left_out, depth=depth, now_ns=self.at_ns)

    def top(self) -> market_data_pb2.TopOfBook:
        """The best bid and offer, each with its venue."""
        return best(self.symbol, self.books, now_ns=self.at_ns)


class ConsolidatedFeed:
    """Puts symbols together and keeps those that somebody reads.

    Args:
        max_age_s: a book older than this is left out.
        max_distance_bps: see `outliers`.
        max_symbols: kept at once, over all readers.
    """

    def __init__(
        self,
        venues: Venues,
        feeds: BookFeeds,
        clock: Clock,
        *,
        max_age_s: float,
        max_distance_bps: int,
        max_symbols: int,
    ) -> None:
        self.topic: Topic[Consolidated] = Topic(clock)
        self._venues = venues
        self._feeds = feeds
        self._clock = clock
        self._max_age_s = max_age_s
        self._max_distance_bps = max_distance_bps
        self._max_symbols = max_symbols
        self._readers: Counter[str] = Counter()
        self._told: dict[str, tuple[object, ...]] = {}
        self._dirty: set[str] = set()
        self._changed = asyncio.Event()
        feeds.on_change.append(self._on_change)

    async def read(self, symbol: str) -> Consolidated:
        """The symbol now; waits at most as long as one reading of a book may take.

        Raises:
            GatewayUnavailable, InstrumentNotFound: no venue that lists it can be reached, or none lists it.
        """
        listing, left_out = self._listing(symbol)
        return self._put_together(symbol, await self._feeds.seen_all(listing, symbol), left_out)

    def hold(self, symbol: str) -> None:
        """Keep a symbol until `release`.

        Raises:
            RateLimited: too many are kept.
        """
        if symbol not in self._readers and len(self._readers) >= self._max_symbols:
            raise RateLimited(
                f"{self._max_symbols} consolidated symbols are followed already",
                metadata={"limit": "max_feeds", "value": str(self._max_symbols)},
            )
        self._readers[symbol] += 1

    def release(self, symbol: str) -> None:
        """One reader less."""
        self._readers[symbol] -= 1
        if not self._readers[symbol]:
            del self._readers[symbol]
            self._told.pop(symbol, None)

    def snapshot(self, known: Iterable[Consolidated]) -> Sequence[Entry[Consolidated]]:
        """What a new reader begins with."""
        now_ns = self._clock.now_ns()
        return [Entry(one, 0, now_ns, one.symbol, one.symbol) for one in known]

    async def run(self) -> None:
        """Compute and tell until cancelled."""
        while True:
            try:
                async with asyncio.timeout(REVIEW_S):
                    await self._changed.wait()
            except TimeoutError:
                self._dirty.update(self._readers)
            self._changed.clear()
            dirty, self._dirty = self._dirty & set(self._readers), set()
            for symbol in sorted(dirty):
                self._tell(symbol)
            await asyncio.sleep(SPACING_S)

    def _on_change(self, symbol: str) -> None:
        if symbol in self._readers:
            self._dirty.add(symbol)
            self._changed.set()

    def _tell(self, symbol: str) -> None:
        """Publish the symbol if anything but its age changed."""
        try:
            listing, left_out = self._listing(symbol)
        except (GatewayUnavailable, InstrumentNotFound) as error:
            listing, left_out = [], [error.message]
        now = self._put_together(symbol, {link.name: self._feeds.peek(link, symbol) for link in listing}, left_out)
        content = (
            tuple((venue, book.bids, book.asks) for venue, book in sorted(now.books.items())),
            tuple(one.partition(":")[0] for one in now.left_out),
        )
        if self._told.get(symbol) == content:
            return
        self._told[symbol] = content
        self.topic.publish(now, key=symbol, slot=symbol)

    def _listing(self, symbol: str) -> tuple[list[VenueLink], list[str]]:
        left_out: list[str] = []
        listing: list[VenueLink] = []
        for link in self._venues.all():
            view = link.view(symbol)
            if view.unreachable:
                left_out.append(f"{link.name}: {view.unreachable}")
            elif view.instrument is not None:
                listing.append(link)
        if not listing:
            if left_out:
                raise GatewayUnavailable(f"no venue with {symbol!r} can be reached: {'; '.join(left_out)}")
            raise InstrumentNotFound(f"symbol: no venue lists {symbol[:48]!r}", field="symbol")
        return listing, left_out

    def _put_together(self, symbol: str, seen: dict[str, Seen], left_out: Sequence[str]) -> Consolidated:
        books: dict[str, BookView] = {}
        gone = list(left_out)
        for venue, (book, fault) in seen.items():
            if book is None:
                gone.append(f"{venue}: {fault}")
            elif book.stale_cause:
                gone.append(f"{venue}: stale: {book.stale_cause}")
            elif book.age_s > self._max_age_s:
                gone.append(f"{venue}: {book.age_s:.3f} s old")
            else:
                books[venue] = book
        for venue, why in outliers(books, max_distance_bps=self._max_distance_bps).items():
            gone.append(f"{venue}: {why}")
            del books[venue]
        return Consolidated(symbol=symbol, books=books, left_out=tuple(sorted(gone)), at_ns=self._clock.now_ns())
