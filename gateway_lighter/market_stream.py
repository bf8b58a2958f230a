"""Market data over one connection: what is watched, and whether to believe what comes.

Books are continuity-checked behind this (`codec_book`): a gap makes the symbol stale until the fresh snapshot that the
session asks for by itself. Top of book and statistics are whole each time; trades are told once by their number.
"""

from __future__ import annotations

import logging
from typing import Final

from gateway_lighter import codec_frames as frames
from gateway_lighter import market_normalizer as normalizer
from gateway_lighter.codec_book import BookGap
from gateway_lighter.codec_frames import DataFrame, Shutdown
from gateway_lighter.links import Links, leaving
from gateway_lighter.market_normalizer import Interval
from gateway_lighter.normalizer import NS_PER_MS, NS_PER_US, Market
from gateway_lighter.session import (
    BookEvent,
    SubscriptionAcknowledged,
    SubscriptionRefused,
    TransactionAnswered,
    UnreadableFrame,
)
from gateway_lighter.stream_events import LighterEvent
from gateway_lighter.views import Directory
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
"""Trade ids per market by which repeats after a reconnect are recognised."""

_CHANNELS: Final = {
    Feed.BOOK: "order_book",
    Feed.TOP: "ticker",
    Feed.TRADES: "trade",
    Feed.STATISTICS: "market_stats",
    Feed.CANDLES: "candle",
}


class MarketStream:
    """Feeds of all symbols."""

    def __init__(self, directory: Directory, links: Links, clock: Clock) -> None:
        self._directory = directory
        self._venue = directory.venue
        self._clock = clock
        self._board = links.shared.board
        self._sink: VenueSink | None = None
        self._watched: dict[str, int] = {}
        self._latest_us: dict[int, int] = {}
        self._trades: dict[int, RecentIds[int]] = {}
        self.stream = links.stream(MARKET_LINK, self._on_event)

    async def run(self, sink: VenueSink) -> None:
        """Stay subscribed until cancelled."""
        self._sink = sink
        await self.stream.run()

    def watch(self, feed: Feed, symbol: str, interval: Interval | None) -> None:
        """Begin a feed, over every reconnect; a second call changes nothing.

        Raises:
            InstrumentNotFound, InvalidRequest: no such symbol, or candles without a known interval.
            RateLimited: more subscriptions than the venue takes.
        """
        channel, market = self._channel(feed, symbol, interval)
        self.stream.subscribe(channel)
        self._watched[channel.replace("/", ":")] = market.market_id

    def unwatch(self, feed: Feed, symbol: str, interval: Interval | None) -> None:
        """End a feed; one that is not watched is left alone."""
        channel, market = self._channel(feed, symbol, interval)
        if self._watched.pop(channel.replace("/", ":"), None) is None:
            return
        if feed is Feed.TRADES:
            self._trades.pop(market.market_id, None)
        if feed is Feed.TOP:
            self._latest_us.pop(market.market_id, None)
        self.stream.unsubscribe(channel)

    def _channel(self, feed: Feed, symbol: str, interval: Interval | None) -> tuple[str, Market]:
        market = self._directory.by_symbol(symbol)
        channel = f"{_CHANNELS[feed]}/{market.market_id}"
        return (f"{channel}/{interval_word(interval)}" if feed is Feed.CANDLES else channel), market

    # --- events --------------------------------------------------------------------------------------------

    async def _on_event(self, event: LighterEvent) -> None:
        sink = self._sink
        assert sink is not None  # the stream runs only inside `run`
        if isinstance(event, StreamConnected):
            self._latest_us.clear()
            return
        if isinstance(event, StreamDisconnected):
            self._lose_all(f"the market data link is down: {event.reason}", sink)
            return
        found = event.event
        try:
            if isinstance(found, BookEvent):
                self._book(found, event.received_ns, sink)
            elif isinstance(found, DataFrame):
                with readable(f"a {found.kind} frame"):
                    self._deliver(found, event.received_ns, sink)
            elif isinstance(found, UnreadableFrame):
                self._unreadable(found.channel, found.violation, sink)
            elif isinstance(found, SubscriptionRefused):
                self._refused(found, sink)
            elif isinstance(found, Shutdown):
                log.warning("venue_restarts", extra={"close_in_ms": found.close_in_ms})
                self._board.on_leaving(MARKET_LINK, leaving(found))
            elif not isinstance(found, SubscriptionAcknowledged | TransactionAnswered):
                log.warning("frame_unexpected", extra={"frame": repr(found)[:500]})
        except ProtocolViolation as violation:
            self._unreadable(found.channel if isinstance(found, DataFrame) else "", violation, sink)

    def _unreadable(self, channel: str, violation: ProtocolViolation, sink: VenueSink) -> None:
        """The market it was of is stale; where not even that is legible, all are."""
        log.error("frame_unreadable", extra={"channel": channel, "error": violation.message, **violation.metadata})
        cause = "a frame of the venue cannot be read"
        market_id = self._watched.get(channel)
        if market_id is None:
            self._lose_all(cause, sink)
        else:
            self._lose(market_id, cause, sink)

    def _refused(self, found: SubscriptionRefused, sink: VenueSink) -> None:
        log.error("subscription_refused", extra={"channel": found.channel, "text": found.meaning.text})
        market_id = self._watched.get(found.channel)
        if found.dropped:
            self._watched.pop(found.channel, None)
        if market_id is not None:
            self._lose(market_id, f"the venue refused {found.channel}: {found.meaning.text}", sink)

    def _lose_all(self, cause: str, sink: VenueSink) -> None:
        for market_id in dict.fromkeys(self._watched.values()):
            self._lose(market_id, cause, sink)

    def _lose(self, market_id: int, cause: str, sink: VenueSink) -> None:
        if (market := self._directory.find(market_id)) is not None:
            sink.on_feed_lost(market.symbol, cause)

    def _distrust(self, market: Market, fault: str, sink: VenueSink) -> None:
        log.warning("market_data_fault", extra={"symbol": market.symbol, "fault": fault})
        sink.on_feed_lost(market.symbol, fault)

    def _deliver(self, frame: DataFrame, received_ns: int, sink: VenueSink) -> None:
        market_id = self._watched.get(frame.channel)
        market = None if market_id is None else self._directory.find(market_id)
        if market is None:
            return  # on its way when the feed was ended
        match frame.body:
            case frames.TickerBody() as body:
                self._top(body, market, received_ns, sink)
            case frames.TradeBody() as body:
                self._public_trades(body, market, received_ns, sink)
            case frames.MarketStatsBody() as body:
                for stats in body.markets:
                    if stats.market_id == market.market_id:
                        sink.on_statistics(
                            normalizer.normalize_statistics(stats, market, venue=self._venue, received_ns=received_ns)
                        )
            case frames.CandleBody() as body:
                interval = normalizer.INTERVALS_BY_WORD[frame.channel.rpartition(":")[2]]
                now_ns = self._clock.now_ns()
                for candle in body.candles or ():
                    sink.on_candle(
                        normalizer.normalize_candle(candle, market, interval, venue=self._venue, now_ns=now_ns)
                    )
            case _:
                log.warning("frame_not_asked_for", extra={"kind": frame.kind})

    def _book(self, event: BookEvent, received_ns: int, sink: VenueSink) -> None:
        market = self._directory.find(event.outcome.market_index)
        if market is None:
            return
        if isinstance(event.outcome, BookGap):
            self._distrust(market, f"book gap: {event.outcome.cause}", sink)
            return
        book = normalizer.normalize_book(
            event.bids, event.asks, market, venue_time_us=event.outcome.venue_time_us, received_ns=received_ns
        )
        if fault := book_fault(book.bids, book.asks):
            self._distrust(market, f"book: {fault}", sink)
            self.stream.resubscribe(f"order_book/{market.market_id}")
            return
        sink.on_book(book)

    def _top(self, body: frames.TickerBody, market: Market, received_ns: int, sink: VenueSink) -> None:
        ticker = body.ticker
        bid, ask = (
            None if side.level is None else normalizer.normalize_level(side.level) for side in (ticker.b, ticker.a)
        )
        time_us = ticker.last_updated_at or body.timestamp * (NS_PER_MS // NS_PER_US)
        latest_us = self._latest_us.get(market.market_id, 0)
        fault = book_fault([bid] if bid else [], [ask] if ask else [])
        if time_us < latest_us:
            fault = f"time goes back by {latest_us - time_us} us"
        if fault:
            self._distrust(market, f"top of book: {fault}", sink)
            return
        self._latest_us[market.market_id] = time_us
        sink.on_top(market.symbol, bid, ask, time_us * NS_PER_US, received_ns)

    def _public_trades(self, body: frames.TradeBody, market: Market, received_ns: int, sink: VenueSink) -> None:
        """Prints and liquidations; the first frame of a subscription repeats recent ones."""
        known = self._trades.setdefault(market.market_id, RecentIds(REMEMBERED_TRADES))
        rows = normalizer.oldest_first([*(body.trades or ()), *(body.liquidation_trades or ())])
        fresh = [row for row in rows if known.add(row.trade_id)]
        if fresh:
            sink.on_trades(
                market.symbol,
                [normalizer.normalize_trade(row, market, venue=self._venue, received_ns=received_ns) for row in fresh],
            )


def interval_word(interval: Interval | None) -> str:
    """The venue's word for a candle length. Raises InvalidRequest."""
    found = None if interval is None else normalizer.INTERVALS.get(interval)
    if found is None:
        raise InvalidRequest(f"interval: {interval} is no candle length of this venue", field="interval")
    return found[0]
