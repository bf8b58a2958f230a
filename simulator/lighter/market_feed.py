"""Order books as they are streamed: what changed since the last frame, chained by nonces. Pure.

One counter runs over all markets, as at the venue; a frame's `begin_nonce` is the `nonce` of the market's last one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from simulator.engine.engine import Engine
from simulator.engine.values import ZERO, Side
from simulator.lighter.markets import Markets, MarketSpec

SKIPPED = 7  # how far a gap jumps
Levels = dict[Decimal, Decimal]


@dataclass(frozen=True, slots=True, kw_only=True)
class BookDelta:
    """Changed levels of one market, absolute sizes, zero for a level that went."""

    spec: MarketSpec
    asks: list[dict[str, str]]
    bids: list[dict[str, str]]
    begin_nonce: int
    nonce: int
    offset: int
    updated_us: int


@dataclass(slots=True)
class _Book:
    asks: Levels = field(default_factory=dict)
    bids: Levels = field(default_factory=dict)
    nonce: int = 0
    offset: int = 0
    updated_us: int = 0


class MarketFeeds:
    """Streamed state of every book.

    Args:
        engine: whose books.
        markets: which of them.
        first_nonce: the counter starts here.
    """

    def __init__(self, engine: Engine, markets: Markets, first_nonce: int) -> None:
        self._engine = engine
        self._markets = markets
        self._counter = first_nonce
        self._books = {spec.market_id: _Book() for spec in markets.all}

    @property
    def nonce(self) -> int:
        """The counter now."""
        return self._counter

    def start(self, updated_us: int) -> None:
        """Take the books as they are."""
        for spec in self._markets.all:
            self.advance(spec, updated_us)

    def last_nonce(self, market_id: int) -> int:
        """Nonce of a market's last frame."""
        return self._books[market_id].nonce

    def skip(self, market_id: int) -> None:
        """Break the chain: the next frame of this market begins where none ended."""
        self._counter += SKIPPED
        self._books[market_id].nonce = self._counter

    def _now(self, spec: MarketSpec, side: Side) -> Levels:
        return {level.price: level.quantity for level in self._engine.markets[spec.key].book.levels(side)}

    def advance(self, spec: MarketSpec, updated_us: int) -> BookDelta | None:
        """What changed in a book since the last call; None when nothing did."""
        book = self._books[spec.market_id]
        asks, bids = self._now(spec, Side.SELL), self._now(spec, Side.BUY)
        changed_asks = _changes(spec, book.asks, asks, rising=True)
        changed_bids = _changes(spec, book.bids, bids, rising=False)
        if not changed_asks and not changed_bids:
            return None
        begin = book.nonce
        self._counter += 1
        book.asks, book.bids = asks, bids
        book.nonce, book.offset, book.updated_us = self._counter, book.offset + 1, updated_us
        return BookDelta(
            spec=spec,
            asks=changed_asks,
            bids=changed_bids,
            begin_nonce=begin,
            nonce=book.nonce,
            offset=book.offset,
            updated_us=updated_us,
        )

    def snapshot(self, spec: MarketSpec) -> BookDelta:
        """The whole book as last streamed; `begin_nonce` 0."""
        book = self._books[spec.market_id]
        return BookDelta(
            spec=spec,
            asks=_rows(spec, sorted(book.asks.items())),
            bids=_rows(spec, sorted(book.bids.items(), reverse=True)),
            begin_nonce=0,
            nonce=book.nonce,
            offset=book.offset,
            updated_us=book.updated_us,
        )

    def ticker(self, spec: MarketSpec) -> dict[str, Any]:
        """Best levels; empty texts for an empty side."""
        book = self._books[spec.market_id]
        nothing = {"price": "", "size": ""}
        asks = _rows(spec, [min(book.asks.items())]) if book.asks else [nothing]
        bids = _rows(spec, [max(book.bids.items())]) if book.bids else [nothing]
        return {"s": spec.symbol, "a": asks[0], "b": bids[0], "last_updated_at": book.updated_us}


def _rows(spec: MarketSpec, levels: Iterable[tuple[Decimal, Decimal]]) -> list[dict[str, str]]:
    return [{"price": spec.price_text(price), "size": spec.size_text(size)} for price, size in levels]


def _changes(spec: MarketSpec, before: Levels, after: Levels, *, rising: bool) -> list[dict[str, str]]:
    found = {price: size for price, size in after.items() if before.get(price) != size}
    found |= {price: ZERO for price in before if price not in after}
    return _rows(spec, sorted(found.items(), reverse=not rising))


def book_body(delta: BookDelta) -> dict[str, Any]:
    """The `order_book` object of a frame."""
    return {
        "code": 0,
        "asks": delta.asks,
        "bids": delta.bids,
        "offset": delta.offset,
        "nonce": delta.nonce,
        "last_updated_at": delta.updated_us,
        "begin_nonce": delta.begin_nonce,
    }
