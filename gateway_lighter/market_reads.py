"""What the venue is asked about its markets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from gateway_lighter import market_normalizer as normalizer
from gateway_lighter.market_normalizer import INTERVALS, Interval
from gateway_lighter.market_stream import interval_word
from gateway_lighter.normalizer import NS_PER_MS
from gateway_lighter.rest import LighterRest
from gateway_lighter.views import Directory
from venuemesh.clock import Clock
from venuemesh.errors import InstrumentNotFound, ProtocolViolation, Sent
from venuemesh.gateway.books import book_fault
from venuemesh.gateway.readable import readable
from venuemesh.gateway.venue import BookSnapshot
from venuemesh.v1 import instrument_pb2, market_data_pb2

CANDLE_PAGE: Final = 500
MAX_TRADES: Final = 100


class MarketReads:
    """Questions about markets; the directory is refreshed by them."""

    def __init__(self, directory: Directory, rest: LighterRest, clock: Clock) -> None:
        self._directory = directory
        self._venue = directory.venue
        self._rest = rest
        self._clock = clock

    async def fetch_instruments(self) -> Sequence[instrument_pb2.Instrument]:
        """Every perpetual with its rules."""
        details = await self._rest.fetch_order_book_details()
        if not self._directory.loaded:
            self._directory.name_assets(await self._rest.fetch_asset_details())
        now_ns = self._clock.now_ns()
        with readable("instruments"):
            self._directory.replace(details.order_book_details or ())
            return [
                normalizer.normalize_instrument(row, venue=self._venue, updated_ns=now_ns)
                for row in self._directory.markets
            ]

    async def fetch_book(self, symbol: str) -> BookSnapshot:
        """The book now, from its orders: at most 250 a side; a faulty one is a `ProtocolViolation`."""
        market = self._directory.by_symbol(symbol)
        orders = await self._rest.fetch_order_book_orders(market.market_id)
        received_ns = self._clock.now_ns()
        with readable("a book"):
            book = BookSnapshot(
                symbol=symbol,
                bids=normalizer.collect_levels(orders.bids or ()),
                asks=normalizer.collect_levels(orders.asks or ()),
                venue_time_ns=received_ns,  # the venue does not say
                received_ns=received_ns,
            )
        if fault := book_fault(book.bids, book.asks):
            raise ProtocolViolation(f"book of {symbol}: {fault}", sent=Sent.YES)
        return book

    async def fetch_trades(self, symbol: str, limit: int) -> Sequence[market_data_pb2.Trade]:
        """Recent public trades, newest first, at most 100."""
        market = self._directory.by_symbol(symbol)
        rows = await self._rest.fetch_recent_trades(market.market_id, max(1, min(limit, MAX_TRADES)))
        now_ns = self._clock.now_ns()
        with readable("trades"):
            return [
                normalizer.normalize_trade(row, market, venue=self._venue, received_ns=now_ns)
                for row in normalizer.oldest_first(rows)[::-1][:limit]
            ]

    async def fetch_candles(
        self, symbol: str, interval: Interval, from_ns: int, to_ns: int
    ) -> Sequence[market_data_pb2.Candle]:
        """Candles that open in [from, to), oldest first; over as many pages as it takes."""
        market, word = self._directory.by_symbol(symbol), interval_word(interval)
        start_ms, end_ms = -(-from_ns // NS_PER_MS), -(-to_ns // NS_PER_MS)
        page_ms = CANDLE_PAGE * INTERVALS[interval][1] * 1_000
        found: list[market_data_pb2.Candle] = []
        while start_ms < end_ms:
            until_ms = min(start_ms + page_ms, end_ms)
            rows = await self._rest.fetch_candles(market.market_id, word, start_ms=start_ms, end_ms=until_ms)
            now_ns = self._clock.now_ns()
            with readable("candles"):
                found += [
                    normalizer.normalize_candle(row, market, interval, venue=self._venue, now_ns=now_ns)
                    for row in rows
                    if start_ms <= row.t < until_ms
                ]
            start_ms = until_ms
        return found

    async def fetch_statistics(self, symbol: str) -> market_data_pb2.MarketStatistics:
        """Mark, index, volumes and open interest now; the query names no funding rate."""
        market_id = self._directory.by_symbol(symbol).market_id
        details = await self._rest.fetch_order_book_details(market_id)
        row = next((row for row in details.order_book_details or () if row.market_id == market_id), None)
        if row is None:
            raise InstrumentNotFound(f"the venue has no details of {symbol}", sent=Sent.YES)
        with readable("statistics"):
            market = self._directory.read(row)
            return normalizer.normalize_details(market, venue=self._venue, received_ns=self._clock.now_ns())
