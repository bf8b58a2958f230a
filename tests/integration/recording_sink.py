"""A sink of an adapter that keeps everything it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from venuemesh.gateway.venue import (
    BookSnapshot,
    Level,
    ReferencePrice,
    VenueFill,
    VenueOrder,
    VenuePosition,
)
from venuemesh.v1 import account_pb2, market_data_pb2, stream_pb2

WAIT_S = 60.0


@dataclass
class Recorder:
    """A sink that keeps everything and lets a test wait for it."""

    links: list[tuple[str, int, str]] = field(default_factory=list)
    live: list[str] = field(default_factory=list)
    lost: list[tuple[str, str]] = field(default_factory=list)
    orders: list[VenueOrder] = field(default_factory=list)
    fills: list[VenueFill] = field(default_factory=list)
    ledger: list[account_pb2.LedgerEntry] = field(default_factory=list)
    positions: list[Sequence[VenuePosition]] = field(default_factory=list)
    balances: list[tuple[Sequence[account_pb2.Balance], account_pb2.AccountSummary]] = field(default_factory=list)
    books: list[BookSnapshot] = field(default_factory=list)
    tops: list[tuple[str, Level | None, Level | None]] = field(default_factory=list)
    trades: list[market_data_pb2.Trade] = field(default_factory=list)
    statistics: list[market_data_pb2.MarketStatistics] = field(default_factory=list)
    candles: list[market_data_pb2.Candle] = field(default_factory=list)
    feed_losses: list[tuple[str, str]] = field(default_factory=list)
    unknown_words: list[tuple[str, str]] = field(default_factory=list)
    references: list[tuple[str, Sequence[ReferencePrice]]] = field(default_factory=list)
    reference_losses: list[tuple[str, str]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def on_link(self, link_id: str, state: stream_pb2.LinkState.ValueType, cause: str) -> None:
        self.links.append((link_id, state, cause))
        self.changed.set()

    def on_account_live(self, account_id: str) -> None:
        self.live.append(account_id)
        self.changed.set()

    def on_account_lost(self, account_id: str, cause: str) -> None:
        self.lost.append((account_id, cause))
        self.changed.set()

    def on_order(self, account_id: str, order: VenueOrder) -> None:
        self.orders.append(order)
        self.changed.set()

    def on_fill(self, account_id: str, fill: VenueFill) -> None:
        self.fills.append(fill)
        self.changed.set()

    def on_ledger(self, account_id: str, entry: account_pb2.LedgerEntry) -> None:
        self.ledger.append(entry)
        self.changed.set()

    def on_positions(self, account_id: str, positions: Sequence[VenuePosition]) -> None:
        self.positions.append(positions)
        self.changed.set()

    def on_balances(
        self, account_id: str, balances: Sequence[account_pb2.Balance], summary: account_pb2.AccountSummary
    ) -> None:
        self.balances.append((balances, summary))
        self.changed.set()

    def on_book(self, book: BookSnapshot) -> None:
        self.books.append(book)
        self.changed.set()

    def on_top(self, symbol: str, bid: Level | None, ask: Level | None, venue_time_ns: int, received_ns: int) -> None:
        self.tops.append((symbol, bid, ask))
        self.changed.set()

    def on_trades(self, symbol: str, trades: Sequence[market_data_pb2.Trade]) -> None:
        self.trades.extend(trades)
        self.changed.set()

    def on_statistics(self, statistics: market_data_pb2.MarketStatistics) -> None:
        self.statistics.append(statistics)
        self.changed.set()

    def on_candle(self, candle: market_data_pb2.Candle) -> None:
        self.candles.append(candle)
        self.changed.set()

    def on_feed_lost(self, symbol: str, cause: str) -> None:
        self.feed_losses.append((symbol, cause))
        self.changed.set()

    def on_reference_prices(self, section: str, prices: Sequence[ReferencePrice], received_ns: int) -> None:
        self.references.append((section, prices))
        self.changed.set()

    def on_reference_lost(self, section: str, cause: str) -> None:
        self.reference_losses.append((section, cause))
        self.changed.set()

    def on_unknown_words(self, account_id: str, text: str) -> None:
        self.unknown_words.append((account_id, text))
        self.changed.set()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until `condition` holds; looked at after everything that comes."""
        async with asyncio.timeout(WAIT_S):
            while not condition():
                self.changed.clear()
                await self.changed.wait()
