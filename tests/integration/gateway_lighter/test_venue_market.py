"""Market data through the adapter, over real sockets, against the simulator."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from simulator.engine.values import Side
from simulator.faults import Fault, FaultKind
from simulator.testing import lively
from tests.integration.gateway_lighter.world import ACCOUNT, OWNER, PUBLIC, SYMBOL, World, world
from venuemesh.errors import InstrumentNotFound, InvalidRequest
from venuemesh.gateway.venue import Feed
from venuemesh.v1 import instrument_pb2, market_data_pb2

LIVELY = lively(lighter_accounts={ACCOUNT: {"l1_address": OWNER, "keys": PUBLIC, "usdc": "1000"}})


def quote(found: World, offset: int) -> None:
    """A house bid so far below the mark."""
    found.front.house_order("BTC", Side.BUY, found.mark - offset, "0.1")


async def test_instruments_have_the_symbols_and_rules_of_the_contract(tmp_path: Path) -> None:
    """BTC carries the same symbol as elsewhere; its rules are the venue's metadata."""
    async with world(tmp_path, live=False) as found:
        btc = found.instruments[SYMBOL]
        assert (btc.venue_symbol, btc.base_asset, btc.settle_asset) == ("1", "BTC", "USDC")
        assert btc.state == instrument_pb2.INSTRUMENT_STATE_TRADING
        assert (btc.price_rule.tick_size, btc.quantity_rule.step_size) == ("0.1", "0.00001")
        assert btc.quantity_rule.min_notional == "10"


async def test_watched_book_follows_the_venue(tmp_path: Path) -> None:
    """The snapshot, then each change, as whole books best first."""
    async with world(tmp_path) as found:
        await found.venue.watch(Feed.BOOK, SYMBOL)
        await found.sink.until(lambda: found.sink.books)
        quote(found, 10)
        quote(found, 5)
        await found.sink.until(lambda: len(found.sink.books[-1].bids) == 2)
        best, second = found.sink.books[-1].bids
        assert best.price - second.price == 5
        fetched = await found.venue.fetch_book(SYMBOL)
        assert [(level.price, level.quantity) for level in fetched.bids] == [
            (level.price, level.quantity) for level in found.sink.books[-1].bids
        ]


async def test_book_gap_is_told_stale_and_repaired_by_a_fresh_snapshot(tmp_path: Path) -> None:
    """A break in the chain is never papered over: stale first, then the whole book anew."""
    async with world(tmp_path) as found:
        await found.venue.watch(Feed.BOOK, SYMBOL)
        await found.sink.until(lambda: found.sink.books)
        found.front.faults.add(Fault(kind=FaultKind.BOOK_GAP, match="BTC"))
        quote(found, 10)
        await found.sink.until(lambda: found.sink.feed_losses)
        symbol, cause = found.sink.feed_losses[0]
        assert symbol == SYMBOL
        assert "gap" in cause
        await found.sink.until(lambda: found.sink.books[-1].bids)
        quote(found, 5)
        await found.sink.until(lambda: len(found.sink.books[-1].bids) == 2)


async def test_cut_socket_makes_feeds_stale_and_they_come_back(tmp_path: Path) -> None:
    """Every watched symbol is told lost, and watched again on the next connection."""
    async with world(tmp_path) as found:
        await found.venue.watch(Feed.BOOK, SYMBOL)
        await found.sink.until(lambda: found.sink.books)
        seen = len(found.sink.books)
        found.front.app.cut_sockets()
        await found.sink.until(lambda: found.sink.feed_losses and len(found.sink.books) > seen)


async def test_trades_tops_statistics_and_candles_are_told(tmp_path: Path) -> None:
    """Every feed of a lively market, each trade once."""
    async with world(tmp_path, simulator_settings=LIVELY) as found:
        sink = found.sink
        for feed in (Feed.TOP, Feed.TRADES, Feed.STATISTICS):
            await found.venue.watch(feed, SYMBOL)
        await found.venue.watch(Feed.CANDLES, SYMBOL, market_data_pb2.CANDLE_INTERVAL_1M)
        await sink.until(lambda: sink.tops and sink.trades and sink.statistics and sink.candles)
        _, bid, ask = sink.tops[-1]
        assert bid is not None
        assert ask is not None
        assert bid.price < ask.price
        assert len({trade.trade_id for trade in sink.trades}) == len(sink.trades)
        statistics = sink.statistics[-1]
        assert abs(Decimal(statistics.mark_price) / found.mark - 1) < Decimal("0.05")
        assert statistics.HasField("next_funding_time")
        assert not sink.candles[-1].complete
        for feed in (Feed.TOP, Feed.TRADES, Feed.STATISTICS):
            await found.venue.unwatch(feed, SYMBOL)


async def test_queries_of_market_data(tmp_path: Path) -> None:
    """Trades newest first, candles oldest first and inside the range, statistics, and typed refusals."""
    async with world(tmp_path, simulator_settings=LIVELY) as found:
        venue = found.venue
        await venue.watch(Feed.TRADES, SYMBOL)
        await found.sink.until(lambda: found.sink.trades)
        trades = await venue.fetch_trades(SYMBOL, 10)
        assert trades
        assert [int(row.trade_id) for row in trades] == sorted((int(row.trade_id) for row in trades), reverse=True)
        now_ns = found.front.app.now_ms() * 1_000_000
        hour_ns = 3_600_000_000_000
        minute = market_data_pb2.CANDLE_INTERVAL_1M
        candles = await venue.fetch_candles(SYMBOL, minute, now_ns - hour_ns, now_ns)
        opens = [row.open_time.ToNanoseconds() for row in candles]
        assert opens == sorted(opens)
        assert opens
        assert all(now_ns - hour_ns <= at < now_ns for at in opens)
        assert Decimal((await venue.fetch_statistics(SYMBOL)).mark_price) > 0
        with pytest.raises(InstrumentNotFound):
            await venue.fetch_book("NOPE/USDC:USDC")
        with pytest.raises(InvalidRequest):
            await venue.fetch_candles(SYMBOL, market_data_pb2.CANDLE_INTERVAL_3M, 0, now_ns)
