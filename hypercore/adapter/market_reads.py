"""Market data that is asked for, over HTTP: books, trades, candles, statistics."""

from __future__ import annotations

from collections.abc import Sequence

from hypercore import messages as wire
from hypercore.adapter import market_normalizer as market
from hypercore.adapter.market_normalizer import Interval
from hypercore.adapter.market_stream import interval_word
from hypercore.adapter.normalizer import NS_PER_MS
from hypercore.adapter.views import Directory
from hypercore.assets import Asset
from hypercore.rest import HyperCoreRest
from venuemesh.clock import Clock
from venuemesh.errors import InstrumentNotFound, ProtocolViolation, Sent
from venuemesh.gateway.books import book_fault
from venuemesh.gateway.readable import readable
from venuemesh.gateway.venue import BookSnapshot
from venuemesh.v1 import market_data_pb2


class MarketReads:
    """The market reads of the port."""

    def __init__(self, rest: HyperCoreRest, directory: Directory, clock: Clock) -> None:
        self._rest = rest
        self._directory = directory
        self._clock = clock

    async def fetch_book(self, symbol: str) -> BookSnapshot:
        """The book now.

        Raises:
            InstrumentNotFound: the venue has none. ProtocolViolation: it is faulty.
        """
        asset = self._asset(symbol)
        book = await self._rest.fetch_l2_book(asset.coin)
        if book is None:
            raise InstrumentNotFound(f"the venue has no book of {symbol}", sent=Sent.YES)
        snapshot = market.normalize_book(book, asset, received_ns=self._clock.now_ns())
        if fault := book_fault(snapshot.bids, snapshot.asks):
            raise ProtocolViolation(f"book of {symbol}: {fault}", sent=Sent.YES)
        return snapshot

    async def fetch_trades(self, symbol: str, limit: int) -> Sequence[market_data_pb2.Trade]:
        """Recent public trades, newest first."""
        asset, now_ns = self._asset(symbol), self._clock.now_ns()
        rows = market.oldest_first(await self._rest.fetch_recent_trades(asset.coin))[::-1][:limit]
        with readable("trades"):
            venue = self._directory.venue
            return [market.normalize_trade(row, asset, venue=venue, received_ns=now_ns) for row in rows]

    async def fetch_candles(
        self, symbol: str, interval: Interval, from_ns: int, to_ns: int
    ) -> Sequence[market_data_pb2.Candle]:
        """Candles that open in [from, to), oldest first."""
        asset, word = self._asset(symbol), interval_word(interval)
        start_ms, end_ms = -(-from_ns // NS_PER_MS), -(-to_ns // NS_PER_MS)
        rows = await self._rest.fetch_candles(asset.coin, word, start_ms=start_ms, end_ms=end_ms)
        now_ns = self._clock.now_ns()
        with readable("candles"):
            found = [
                market.normalize_candle(row, asset, venue=self._directory.venue, now_ns=now_ns)
                for row in rows
                if start_ms <= row.open_time < end_ms
            ]
        return [candle for candle in found if candle is not None]

    async def fetch_statistics(self, symbol: str) -> market_data_pb2.MarketStatistics:
        """Mark, index, funding and so on now."""
        asset = self._asset(symbol)
        ctx = await (self._spot_ctx(asset) if asset.is_spot else self._perp_ctx(asset))
        with readable("statistics"):
            return market.normalize_statistics(
                ctx, asset, venue=self._directory.venue, received_ns=self._clock.now_ns()
            )

    async def _perp_ctx(self, asset: Asset) -> wire.AssetCtx:
        """The rows of a dex are in the order of its list."""
        found = await self._rest.fetch_asset_ctxs(asset.dex)
        if asset.index >= len(found.ctxs) or found.meta.universe[asset.index].name != asset.coin:
            raise ProtocolViolation(f"the contexts of dex {asset.dex!r} do not fit its list", sent=Sent.YES)
        return found.ctxs[asset.index]

    async def _spot_ctx(self, asset: Asset) -> wire.SpotAssetCtx:
        """The rows of spot are in no order: they name their coin."""
        found = await self._rest.fetch_spot_asset_ctxs()
        ctx = next((row for row in found.ctxs if row.coin == asset.coin), None)
        if ctx is None:
            raise ProtocolViolation(f"spot has no context of {asset.coin}", sent=Sent.YES)
        return ctx

    def _asset(self, symbol: str) -> Asset:
        return self._directory.universe.by_symbol(symbol)
