"""Books and tops of book: the newest of each symbol, whether it may be believed, and how a change of it is told.

A book is FRESH only while it is whole and not silent. A frame that is crossed, locked, out of order or older than one
before it is not taken: the symbol turns STALE with the cause, and FRESH again with the next good frame. Reads compute
freshness from the clock, so that a late sweep never lets an old book pass for a new one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import pairwise

from venuemesh import deadlines
from venuemesh.clock import Clock
from venuemesh.errors import MeshError, PreconditionFailed, RateLimited, Reason, VenueUnavailable
from venuemesh.gateway.instruments import Instruments
from venuemesh.gateway.venue import BookSnapshot, Feed, Level, Venue
from venuemesh.streaming import Pause, wait_at_most

log = logging.getLogger(__name__)

ZERO = Decimal(0)
DEFAULT_STALE_AFTER_S = 10.0
FETCH_TIMEOUT_S = 2.0
RESERVE_S = 0.1
"""Kept of a call's deadline to answer it."""
NEVER_SEEN = "no data yet"


@dataclass(frozen=True, slots=True, kw_only=True)
class Top:
    """Best bid and offer; None where that side is empty."""

    symbol: str
    bid: Level | None
    ask: Level | None
    venue_time_ns: int
    received_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BookState:
    """A good book with its number. `sequence` rises by each new state of any book of this gateway."""

    book: BookSnapshot
    sequence: int
    stale_cause: str = ""

    @property
    def fresh(self) -> bool:
        """Whether it may be traded on."""
        return not self.stale_cause


@dataclass(frozen=True, slots=True, kw_only=True)
class TopState:
    """A good top with its number."""

    top: Top
    sequence: int
    stale_cause: str = ""

    @property
    def fresh(self) -> bool:
        """Whether it may be traded on."""
        return not self.stale_cause


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshnessChange:
    """A feed of a symbol became stale, with the cause, or fresh, with none."""

    feed: Feed
    symbol: str
    stale_cause: str
    since_ns: int


@dataclass(slots=True, kw_only=True)
class _Track:
    """One feed of one symbol. `cause` is what was last told to listeners."""

    heard_s: float
    since_ns: int
    venue_time_ns: int = 0
    cause: str = NEVER_SEEN
    fault: str = ""


class Books:
    """The newest book and top of every symbol that is watched or was asked for.

    Args:
        stale_after_s: silence after which a book or top is stale; None takes it from the venue's capabilities.
        pause: how `run` waits.
    """

    def __init__(
        self,
        venue: Venue,
        instruments: Instruments,
        clock: Clock,
        *,
        stale_after_s: float | None = None,
        pause: Pause = wait_at_most,
    ) -> None:
        configured = venue.capabilities.book.stale_after.ToNanoseconds() / 1e9
        self.stale_after_s = stale_after_s or configured or DEFAULT_STALE_AFTER_S
        self.epoch = f"{clock.now_ns():x}"
        self.listeners: list[Callable[[FreshnessChange], None]] = []
        self.on_interest: Callable[[Feed, str], None] = lambda _feed, _symbol: None
        """Called when somebody needs a symbol that is not current: whoever owns the feeds may begin one."""
        self._venue = venue
        self._instruments = instruments
        self._clock = clock
        self._pause = pause
        self._sequence = 0
        self._books: dict[str, BookState] = {}
        self._tops: dict[str, TopState] = {}
        self._fetched: dict[str, tuple[BookState, float]] = {}
        self._tracks: dict[tuple[Feed, str], _Track] = {}
        self._fetching: dict[str, asyncio.Lock] = {}

    # what the venue tells

    def on_book(self, book: BookSnapshot) -> BookState | None:
        """A whole book; returns its state, or None when it is not to be believed."""
        fault = book_fault(book.bids, book.asks)
        if not self._take(Feed.BOOK, book.symbol, book.venue_time_ns, fault):
            return None
        state = self._books[book.symbol] = BookState(book=book, sequence=self._next())
        return state

    def on_top(self, top: Top) -> TopState | None:
        """A best bid and offer; returns its state, or None when it is not to be believed."""
        fault = book_fault([top.bid] if top.bid else [], [top.ask] if top.ask else [])
        if not self._take(Feed.TOP, top.symbol, top.venue_time_ns, fault):
            return None
        state = self._tops[top.symbol] = TopState(top=top, sequence=self._next())
        return state

    def on_feed_lost(self, symbol: str, cause: str) -> None:
        """What is known of the symbol is not current any more, and its times start anew."""
        for feed in (Feed.BOOK, Feed.TOP):
            track = self._tracks.get((feed, symbol))
            if track is not None:
                track.venue_time_ns = 0
                track.fault = cause
                self._tell(feed, symbol, track)
        self._fetched.pop(symbol, None)

    def forget(self, feed: Feed, symbol: str) -> None:
        """The feed is not watched any more: what it left behind would only grow old."""
        self._tracks.pop((feed, symbol), None)
        if feed is Feed.BOOK:
            self._books.pop(symbol, None)
        else:
            self._tops.pop(symbol, None)

    def _take(self, feed: Feed, symbol: str, venue_time_ns: int, fault: str) -> bool:
        track = self._tracks.get((feed, symbol))
        if track is None:
            track = _Track(heard_s=self._clock.monotonic_s(), since_ns=self._clock.now_ns())
            self._tracks[(feed, symbol)] = track
        if not fault and venue_time_ns and venue_time_ns < track.venue_time_ns:
            fault = f"time went back by {(track.venue_time_ns - venue_time_ns) / 1e6:g} ms"
        track.fault = fault
        if not fault:
            track.heard_s = self._clock.monotonic_s()
            track.venue_time_ns = max(track.venue_time_ns, venue_time_ns)
        self._tell(feed, symbol, track)
        return not fault

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence

    # freshness

    def stale_cause(self, feed: Feed, symbol: str) -> str:
        """Why the feed's data of a symbol must not be used now; empty when it may."""
        track = self._tracks.get((feed, symbol))
        return self._cause(feed, symbol, track) if track is not None else NEVER_SEEN

    def status(self, feed: Feed, symbol: str) -> FreshnessChange:
        """The feed's freshness now, and since when."""
        track = self._tracks.get((feed, symbol))
        return FreshnessChange(
            feed=feed,
            symbol=symbol,
            stale_cause=self.stale_cause(feed, symbol),
            since_ns=track.since_ns if track is not None else self._clock.now_ns(),
        )

    def _cause(self, feed: Feed, symbol: str, track: _Track) -> str:
        if track.fault:
            return track.fault
        heard_s = track.heard_s
        if feed is Feed.TOP and (book := self._tracks.get((Feed.BOOK, symbol))) is not None and not book.fault:
            # A top is only sent when it changes; a book that goes on proves that this one stands.
            heard_s = max(heard_s, book.heard_s)
        if self._clock.monotonic_s() - heard_s > self.stale_after_s:
            return f"no update for {self.stale_after_s:g}s"
        return ""

    def _tell(self, feed: Feed, symbol: str, track: _Track) -> None:
        before, track.cause = track.cause, self._cause(feed, symbol, track)
        cause = track.cause
        if bool(cause) == bool(before):
            # Stale for another cause now, perhaps: it was told that it is stale.
            return
        track.since_ns = self._clock.now_ns()
        if cause:
            log.info("feed_stale", extra={"feed": feed.value, "symbol": symbol, "cause": cause})
        change = FreshnessChange(feed=feed, symbol=symbol, stale_cause=cause, since_ns=track.since_ns)
        for listener in self.listeners:
            listener(change)

    def sweep(self) -> float:
        """Tell of feeds that went silent; returns the seconds until the next one can."""
        now_s, due_s = self._clock.monotonic_s(), self.stale_after_s
        for (feed, symbol), track in list(self._tracks.items()):
            self._tell(feed, symbol, track)
            if not track.cause:
                due_s = min(due_s, max(0.0, track.heard_s + self.stale_after_s - now_s))
        # A moment past the bound, so that the next sweep finds it passed.
        return due_s + 0.001

    async def run(self) -> None:
        """Notice silence, until cancelled."""
        never = asyncio.Event()
        while True:
            await self._pause(never, self.sweep())

    # reading

    def book(self, symbol: str) -> BookState | None:
        """The newest good book, marked when it is stale; None when there never was one."""
        state = self._books.get(symbol)
        current = None if state is None else replace(state, stale_cause=self.stale_cause(Feed.BOOK, symbol))
        if current is not None and current.fresh:
            return current
        fetched, at_s = self._fetched.get(symbol, (None, 0.0))
        if fetched is None:
            return current
        silent = self._clock.monotonic_s() - at_s > self.stale_after_s
        return replace(fetched, stale_cause=f"fetched more than {self.stale_after_s:g}s ago") if silent else fetched

    def top(self, symbol: str) -> TopState | None:
        """The newest good top, marked when it is stale; made of the book where no fresh one was sent."""
        state = self._tops.get(symbol)
        current = None if state is None else replace(state, stale_cause=self.stale_cause(Feed.TOP, symbol))
        if current is not None and current.fresh:
            return current
        book = self.book(symbol)
        if book is not None and (book.fresh or current is None):
            return TopState(top=top_of(book.book), sequence=book.sequence, stale_cause=book.stale_cause)
        return current

    async def fresh_book(self, symbol: str) -> BookState:
        """A book that may be traded on: the newest, else one fetched now, within the call's deadline.

        Raises:
            VenueUnavailable: there is none to be had; nothing was sent.
        """
        state = self.book(symbol)
        if state is not None and state.fresh:
            return state
        self.on_interest(Feed.BOOK, symbol)
        return await self._fetch(symbol)

    async def best_opposite(self, symbol: str, *, buy: bool) -> Decimal:
        """Best price a market order would meet now, from a fresh top or book.

        Raises:
            VenueUnavailable: no fresh one is to be had; nothing was sent.
            PreconditionFailed: NO_LIQUIDITY, that side is empty.
        """
        state = self.top(symbol)
        if state is None or not state.fresh:
            self.on_interest(Feed.TOP, symbol)
            state = TopState(top=top_of((await self._fetch(symbol)).book), sequence=0)
        level = state.top.ask if buy else state.top.bid
        if level is None:
            raise PreconditionFailed(
                f"{symbol} has no {'asks' if buy else 'bids'} at {self._venue.name}",
                reason=Reason.NO_LIQUIDITY,
                metadata={"symbol": symbol, "venue": self._venue.name},
            )
        return level.price

    async def _fetch(self, symbol: str) -> BookState:
        """One fetch per symbol at a time; who waited takes what the one before got."""
        self._instruments.get(symbol, self._venue.name)
        left_s = deadlines.remaining_s()
        wait_s = FETCH_TIMEOUT_S if left_s is None else min(FETCH_TIMEOUT_S, left_s - RESERVE_S)
        lock = self._fetching.setdefault(symbol, asyncio.Lock())
        try:
            async with asyncio.timeout(max(wait_s, 0.0)), lock:
                known = self.book(symbol)
                if known is not None and known.fresh:
                    return known
                book = await self._venue.fetch_book(symbol)
        except TimeoutError:
            raise self._no_book(symbol, "the venue gave none in time") from None
        except RateLimited:
            raise
        except MeshError as error:
            raise self._no_book(symbol, error.message, error.retry_after_s) from error
        if fault := book_fault(book.bids, book.asks):
            raise self._no_book(symbol, f"the venue's is not to be believed: {fault}")
        state = BookState(book=book, sequence=self._next())
        self._fetched[symbol] = (state, self._clock.monotonic_s())
        return state

    def _no_book(self, symbol: str, why: str, retry_after_s: float | None = None) -> VenueUnavailable:
        cause = self.stale_cause(Feed.BOOK, symbol)
        return VenueUnavailable(
            f"no fresh book of {symbol} at {self._venue.name}: {cause}; {why}",
            retry_after_s=retry_after_s or 1.0,
            metadata={"symbol": symbol, "stale_cause": cause},
        )


# pure


def book_fault(bids: Sequence[Level], asks: Sequence[Level]) -> str:
    """What is wrong with a book: crossed, out of order, or a level without price or quantity; empty when nothing is."""
    for name, levels, sign in (("bids", bids, -1), ("asks", asks, 1)):
        if any(level.price <= ZERO or level.quantity <= ZERO for level in levels):
            return f"{name} hold a level without price or quantity"
        if any(sign * (after.price - before.price) <= 0 for before, after in pairwise(levels)):
            return f"{name} are not best first"
    if bids and asks and bids[0].price >= asks[0].price:
        return f"crossed: bid {bids[0].price} at or above ask {asks[0].price}"
    return ""


def top_of(book: BookSnapshot) -> Top:
    """Best bid and offer of a book."""
    return Top(
        symbol=book.symbol,
        bid=book.bids[0] if book.bids else None,
        ask=book.asks[0] if book.asks else None,
        venue_time_ns=book.venue_time_ns,
        received_ns=book.received_ns,
    )


def diff_levels(before: Iterable[Level], after: Sequence[Level]) -> list[Level]:
    """What turns one side of a book into another: new and changed levels as they are, gone ones with quantity 0.

    Levels that left come first, worst case a whole side twice; applying them in any order gives the same side.
    """
    known = {level.price: level for level in before}
    changed = [level for level in after if known.get(level.price) != level]
    kept = {level.price for level in after}
    gone = [Level(price, ZERO) for price in known if price not in kept]
    return gone + changed


def apply_levels(side: Iterable[Level], changes: Iterable[Level], *, descending: bool) -> list[Level]:
    """One side of a book after changes, best first: what a client of the stream does."""
    levels = {level.price: level for level in side}
    for change in changes:
        if change.quantity:
            levels[change.price] = change
        else:
            levels.pop(change.price, None)
    return [levels[price] for price in sorted(levels, reverse=descending)]
