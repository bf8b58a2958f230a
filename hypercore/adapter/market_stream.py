"""Market data over one connection: what is watched, and whether to believe what comes.

The venue numbers nothing and sends whole books, so that a gap is invisible and harmless, and a frame is believed when
it is sound and not older than the one before. What is not believed makes the symbol stale until the next good frame.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from hypercore import frames
from hypercore import messages as wire
from hypercore.adapter import market_normalizer as normalizer
from hypercore.adapter.links import Links
from hypercore.adapter.market_normalizer import Interval
from hypercore.adapter.normalizer import NS_PER_MS
from hypercore.adapter.settings import HyperCoreSettings
from hypercore.adapter.views import Directory
from hypercore.assets import MAIN_DEX, Asset
from hypercore.frames import DataFrame
from hypercore.session import PostAnswered, SubscriptionAcknowledged, SubscriptionRefused, UnreadableFrame
from hypercore.stream_events import HyperCoreEvent
from venuemesh.clock import Clock
from venuemesh.errors import InvalidRequest, ProtocolViolation
from venuemesh.gateway.books import book_fault
from venuemesh.gateway.link_board import MARKET_LINK
from venuemesh.gateway.readable import readable
from venuemesh.gateway.seen import RecentIds
from venuemesh.gateway.venue import Feed, VenueSink
from venuemesh.transport.session import StreamConnected, StreamDisconnected

log = logging.getLogger(__name__)

REMEMBERED_TRADES: Final = 2_000
"""Trade ids per symbol by which repeats after a reconnect are recognised."""

_TYPES: Final = {
    Feed.BOOK: "l2Book",
    Feed.TOP: "bbo",
    Feed.TRADES: "trades",
    Feed.STATISTICS: "activeAssetCtx",
    Feed.CANDLES: "candle",
}


class MarketStream:
    """Feeds of all symbols."""

    def __init__(self, directory: Directory, links: Links, settings: HyperCoreSettings, clock: Clock) -> None:
        self._directory = directory
        self._venue = settings.venue
        self._clock = clock
        self._fast_books = settings.fast_books
        # Of the main dex they are many and nobody asks whether its markets are open.
        dex = settings.dex
        self._references = None if dex == MAIN_DEX else {"type": "assetCtxs", "dex": dex}
        self._sink: VenueSink | None = None
        self._watched: dict[tuple[Feed, str, str], Mapping[str, Any]] = {}
        self._latest_ms: dict[tuple[Feed, str], int] = {}
        self._trades: dict[str, RecentIds[int]] = {}
        self.stream = links.stream(MARKET_LINK, self._on_event)

    async def run(self, sink: VenueSink) -> None:
        """Stay subscribed until cancelled."""
        self._sink = sink
        if self._references is not None:
            await self.stream.subscribe(self._references)
        await self.stream.run()

    async def watch(self, feed: Feed, symbol: str, interval: Interval | None) -> None:
        """Begin a feed, over every reconnect; a second call changes nothing.

        Raises:
            InstrumentNotFound, InvalidRequest: no such symbol, or candles without a known interval.
            RateLimited: more subscriptions than the venue takes.
        """
        key, subscription = self._subscription(feed, symbol, interval)
        await self.stream.subscribe(subscription)
        self._watched[key] = subscription

    async def unwatch(self, feed: Feed, symbol: str, interval: Interval | None) -> None:
        """End a feed; one that is not watched is left alone."""
        key, subscription = self._subscription(feed, symbol, interval)
        if self._watched.pop(key, None) is None:
            return
        self._latest_ms.pop((feed, key[1]), None)
        if feed is Feed.TRADES:
            self._trades.pop(key[1], None)
        await self.stream.unsubscribe(subscription)

    def _subscription(
        self, feed: Feed, symbol: str, interval: Interval | None
    ) -> tuple[tuple[Feed, str, str], Mapping[str, Any]]:
        coin = self._directory.universe.by_symbol(symbol).coin
        subscription: dict[str, Any] = {"type": _TYPES[feed], "coin": coin}
        if feed is Feed.BOOK and self._fast_books:
            subscription["fast"] = True
        word = ""
        if feed is Feed.CANDLES:
            word = interval_word(interval)
            subscription["interval"] = word
        return (feed, coin, word), subscription

    # --- events --------------------------------------------------------------------------------------------

    async def _on_event(self, event: HyperCoreEvent) -> None:
        sink = self._sink
        assert sink is not None  # the stream runs only inside `run`
        if isinstance(event, StreamConnected):
            self._latest_ms.clear()
            return
        if isinstance(event, StreamDisconnected):
            self._lose_all(f"the market data link is down: {event.reason}", sink)
            return
        found = event.event
        if isinstance(found, DataFrame):
            try:
                with readable(f"a {found.channel} frame"):
                    self._deliver(found.data, event.received_ns, sink)
            except ProtocolViolation as violation:
                self._unreadable(violation, sink)
        elif isinstance(found, UnreadableFrame):
            self._unreadable(found.violation, sink)
        elif isinstance(found, SubscriptionRefused):
            self._refused(found, sink)
        elif not isinstance(found, SubscriptionAcknowledged | PostAnswered):
            log.warning("frame_unexpected", extra={"frame": repr(found)[:500]})

    def _unreadable(self, violation: ProtocolViolation, sink: VenueSink) -> None:
        """Nobody can tell whose frame it was."""
        log.error("frame_unreadable", extra={"error": violation.message, **violation.metadata})
        self._lose_all("a frame of the venue cannot be read", sink)

    def _refused(self, found: SubscriptionRefused, sink: VenueSink) -> None:
        log.error("subscription_refused", extra={"text": found.meaning.text})
        coin = str(found.subscription.get("coin"))
        if found.subscription == self._references:
            self._lose_references(f"the venue refused them: {found.meaning.text}", sink)
            return
        self._watched = {key: row for key, row in self._watched.items() if row != found.subscription}
        if (asset := self._directory.find(coin)) is not None:
            sink.on_feed_lost(asset.symbol, f"the venue refused the feed: {found.meaning.text}")

    def _lose_references(self, cause: str, sink: VenueSink) -> None:
        if self._references is not None:
            sink.on_reference_lost(self._references["dex"], cause)

    def _lose_all(self, cause: str, sink: VenueSink) -> None:
        self._lose_references(cause, sink)
        for coin in dict.fromkeys(coin for _, coin, _ in self._watched):
            if (asset := self._directory.find(coin)) is not None:
                sink.on_feed_lost(asset.symbol, cause)

    def _deliver(self, data: Any, received_ns: int, sink: VenueSink) -> None:
        match data:
            case wire.L2Book():
                self._book(data, received_ns, sink)
            case wire.Bbo():
                self._top(data, received_ns, sink)
            case tuple():
                self._public_trades(data, received_ns, sink)
            case frames.CoinCtx() | frames.CoinSpotCtx():
                if (asset := self._asset(Feed.STATISTICS, data.coin)) is not None:
                    row = normalizer.normalize_statistics(data.ctx, asset, venue=self._venue, received_ns=received_ns)
                    sink.on_statistics(row)
            case wire.Candle():
                self._candle(data, sink)
            case frames.OneDexCtxs():
                prices = normalizer.normalize_references(data.ctxs, self._directory.universe, data.dex)
                sink.on_reference_prices(data.dex, prices, received_ns)
            case _:
                log.warning("frame_not_asked_for", extra={"kind": type(data).__name__})

    def _asset(self, feed: Feed, coin: str, word: str = "") -> Asset | None:
        """The asset of a watched feed; frames on their way when a feed was ended are dropped."""
        return self._directory.find(coin) if (feed, coin, word) in self._watched else None

    def _book(self, book: wire.L2Book, received_ns: int, sink: VenueSink) -> None:
        asset = self._asset(Feed.BOOK, book.coin)
        if asset is None:
            return
        snapshot = normalizer.normalize_book(book, asset, received_ns=received_ns)
        fault = self._age_fault(Feed.BOOK, book.coin, book.time)
        fault = fault or book_fault(snapshot.bids, snapshot.asks)
        if fault:
            self._distrust(asset, f"book: {fault}", sink)
            return
        sink.on_book(snapshot)

    def _top(self, top: wire.Bbo, received_ns: int, sink: VenueSink) -> None:
        asset = self._asset(Feed.TOP, top.coin)
        if asset is None:
            return
        bid, ask = (None if level is None else normalizer.normalize_level(level) for level in top.bbo)
        fault = self._age_fault(Feed.TOP, top.coin, top.time)
        fault = fault or book_fault([bid] if bid else [], [ask] if ask else [])
        if fault:
            self._distrust(asset, f"top of book: {fault}", sink)
            return
        sink.on_top(asset.symbol, bid, ask, top.time * NS_PER_MS, received_ns)

    def _age_fault(self, feed: Feed, coin: str, time_ms: int) -> str:
        latest = self._latest_ms.get((feed, coin), 0)
        if time_ms < latest:
            return f"time goes back by {latest - time_ms} ms"
        self._latest_ms[(feed, coin)] = time_ms
        return ""

    def _distrust(self, asset: Asset, fault: str, sink: VenueSink) -> None:
        log.warning("market_data_fault", extra={"symbol": asset.symbol, "fault": fault})
        sink.on_feed_lost(asset.symbol, fault)

    def _public_trades(self, rows: tuple[wire.Trade, ...], received_ns: int, sink: VenueSink) -> None:
        """Trades of one coin; the first frame of a subscription repeats recent ones."""
        fresh = [
            row
            for row in normalizer.oldest_first(rows)
            if self._trades.setdefault(row.coin, RecentIds(REMEMBERED_TRADES)).add(row.tid)
        ]
        for coin in dict.fromkeys(row.coin for row in fresh):
            if (asset := self._asset(Feed.TRADES, coin)) is not None:
                trades = [
                    normalizer.normalize_trade(row, asset, venue=self._venue, received_ns=received_ns)
                    for row in fresh
                    if row.coin == coin
                ]
                sink.on_trades(asset.symbol, trades)

    def _candle(self, candle: wire.Candle, sink: VenueSink) -> None:
        asset = self._asset(Feed.CANDLES, candle.coin, candle.interval)
        if asset is None:
            return
        row = normalizer.normalize_candle(candle, asset, venue=self._venue, now_ns=self._clock.now_ns())
        if row is not None:
            sink.on_candle(row)


def interval_word(interval: Interval | None) -> str:
    """The venue's word for a candle length. Raises InvalidRequest."""
    word = None if interval is None else normalizer.INTERVALS.get(interval)
    if word is None:
        raise InvalidRequest(f"interval: {interval} is no candle length of this venue", field="interval")
    return word
