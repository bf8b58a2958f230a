"""A market's book from its snapshot and the chain of updates behind it. Pure.

Each update carries the `nonce` of the frame before it as `begin_nonce`; `offset` jumps when another server answers and
proves nothing. A break of the chain is a `BookGap`: the book is stale until a fresh snapshot, which only an unsubscribe
and a new subscribe bring. Source: venue reference section 15.3.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias

from gateway_lighter.messages import BookFrame, BookLevel


@dataclass(frozen=True, slots=True, kw_only=True)
class BookChanged:
    """The book follows the venue. `venue_time_us` is the book's own, microseconds."""

    market_index: int
    nonce: int
    venue_time_us: int
    is_snapshot: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BookGap:
    """Frames are missing: what is shown of this market is stale. Told once per gap."""

    market_index: int
    expected_nonce: int | None
    found_nonce: int
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BookIgnored:
    """An update that changes nothing: older than the snapshot, or behind a gap already told."""

    market_index: int
    cause: str


BookOutcome: TypeAlias = BookChanged | BookGap | BookIgnored


class _Side:
    """Levels of one side; prices kept sorted, best first."""

    def __init__(self, key: Callable[[Decimal], Decimal]) -> None:
        self._key = key
        self._sizes: dict[Decimal, Decimal] = {}
        self._prices: list[Decimal] = []

    def __len__(self) -> int:
        return len(self._prices)

    def clear(self) -> None:
        self._sizes.clear()
        self._prices.clear()

    def put(self, level: BookLevel) -> None:
        price, size = level.price, level.size
        if size > 0:
            if price not in self._sizes:
                insort(self._prices, price, key=self._key)
            self._sizes[price] = size
        elif self._sizes.pop(price, None) is not None:
            del self._prices[bisect_left(self._prices, self._key(price), key=self._key)]

    def top(self, depth: int | None) -> tuple[BookLevel, ...]:
        return tuple(BookLevel(price=price, size=self._sizes[price]) for price in self._prices[:depth])


class BookState:
    """One market's book.

    Args:
        market_index: for the events.
    """

    def __init__(self, market_index: int) -> None:
        self.market_index = market_index
        self._bids = _Side(lambda price: -price)
        self._asks = _Side(lambda price: price)
        self._nonce: int | None = None
        self._snapshot_nonce = 0
        self.gaps = 0
        """Gaps seen since the state was made."""
        self.venue_time_us = 0

    @property
    def is_fresh(self) -> bool:
        """Whether the book follows the venue; otherwise it must not be shown as current."""
        return self._nonce is not None

    @property
    def nonce(self) -> int | None:
        """The engine's counter the book stands at; None while stale."""
        return self._nonce

    def bids(self, depth: int | None = None) -> tuple[BookLevel, ...]:
        """Best first, at most `depth`; what was last known when stale."""
        return self._bids.top(depth)

    def asks(self, depth: int | None = None) -> tuple[BookLevel, ...]:
        """Best first, at most `depth`; what was last known when stale."""
        return self._asks.top(depth)

    def invalidate(self) -> None:
        """The link is gone or the book is fetched anew: nothing counts before the next snapshot."""
        self._nonce = None

    def apply(self, frame: BookFrame, *, is_snapshot: bool) -> BookOutcome:
        """Take one frame.

        Returns:
            BookChanged, BookGap (then ask for a new snapshot) or BookIgnored.
        """
        if is_snapshot:
            return self._load(frame)
        if self._nonce is None:
            return BookIgnored(market_index=self.market_index, cause="no snapshot yet")
        if frame.nonce <= self._snapshot_nonce:
            return BookIgnored(market_index=self.market_index, cause="older than the snapshot")
        if frame.begin_nonce != self._nonce:
            return self._gap(frame, "the update does not follow the frame before it")
        if frame.nonce < frame.begin_nonce:
            return self._gap(frame, "the update ends before it begins")
        return self._put(frame, is_snapshot=False)

    def _load(self, frame: BookFrame) -> BookChanged:
        self._bids.clear()
        self._asks.clear()
        self._snapshot_nonce = frame.nonce
        return self._put(frame, is_snapshot=True)

    def _put(self, frame: BookFrame, *, is_snapshot: bool) -> BookChanged:
        for level in frame.bids or ():
            self._bids.put(level)
        for level in frame.asks or ():
            self._asks.put(level)
        self._nonce = frame.nonce
        self.venue_time_us = frame.last_updated_at
        return BookChanged(
            market_index=self.market_index,
            nonce=frame.nonce,
            venue_time_us=frame.last_updated_at,
            is_snapshot=is_snapshot,
        )

    def _gap(self, frame: BookFrame, cause: str) -> BookGap:
        expected, self._nonce = self._nonce, None
        self.gaps += 1
        return BookGap(
            market_index=self.market_index, expected_nonce=expected, found_nonce=frame.begin_nonce, cause=cause
        )
