"""Market data through the adapter."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from simulator.engine.values import Side
from simulator.testing import lively
from tests.integration.hypercore.adapter.world import SYMBOL, World, world
from venuemesh.errors import InstrumentNotFound, InvalidRequest
from venuemesh.gateway.rules import is_valid_price
from venuemesh.gateway.venue import Feed
from venuemesh.v1 import instrument_pb2, market_data_pb2, order_pb2

MINUTE = market_data_pb2.CANDLE_INTERVAL_1M


def quote(found: World, bid: str = "3890", ask: str = "3900") -> None:
    """A bid and an ask of one ETH."""
    found.simulator.house_order("ETH", Side.BUY, bid, "1")
    found.simulator.house_order("ETH", Side.SELL, ask, "1")


async def test_instruments_follow_the_venues_rules(tmp_path: Path) -> None:
    """Perpetuals of the dex with their decimals, leverage and state."""
    async with world(tmp_path, accounts=[], live=False, spot=False) as found:
        eth = found.instruments[SYMBOL]
        assert eth.venue_symbol == "ETH"
        assert eth.quantity_rule.step_size == "0.0001"
        assert is_valid_price(Decimal("3900.1"), eth.price_rule)
        assert not is_valid_price(Decimal("3900.12"), eth.price_rule)
        assert found.instruments["OX/USDC:USDC"].state == instrument_pb2.INSTRUMENT_STATE_DELISTED
        assert all(
            row.instrument_type == instrument_pb2.INSTRUMENT_TYPE_PERPETUAL for row in found.instruments.values()
        )


async def test_builder_dex_is_the_same_adapter_with_another_setting(tmp_path: Path) -> None:
    """Ids come from the venue's list of dexes; symbols are the mesh's."""
    async with world(tmp_path, accounts=[], live=False, dex="xyz", venue="tradexyz") as found:
        tesla = found.instruments["TSLA/USDC:USDC"]
        assert (tesla.venue, tesla.venue_symbol, tesla.venue_section) == ("tradexyz", "xyz:TSLA", "xyz")
        assert found.venue._directory.universe.by_coin(tesla.venue_symbol).asset_id >= 110_000
        found.simulator.house_order("xyz:TSLA", Side.BUY, "429", "1")
        book = await found.venue.fetch_book("TSLA/USDC:USDC")
        assert book.bids[0].price == 429


async def test_book_and_top_are_pushed_and_fetched(tmp_path: Path) -> None:
    """Whole books with times; the top alone when it changes."""
    async with world(tmp_path, accounts=[], live=False) as found:
        await found.venue.watch(Feed.BOOK, SYMBOL)
        await found.venue.watch(Feed.TOP, SYMBOL)
        await found.venue.watch(Feed.TOP, SYMBOL)
        quote(found)
        await found.sink.until(lambda: found.sink.books and found.sink.books[-1].asks)
        book = found.sink.books[-1]
        assert (book.bids[0].price, book.asks[0].price) == (Decimal(3890), Decimal(3900))
        assert book.venue_time_ns > 0
        assert book.received_ns > 0
        await found.sink.until(lambda: found.sink.tops and found.sink.tops[-1][2])
        fetched = await found.venue.fetch_book(SYMBOL)
        assert fetched.asks[0].price == Decimal(3900)
        assert found.sink.feed_losses == []


async def test_feed_is_told_lost_when_the_link_goes_and_comes_back_by_itself(tmp_path: Path) -> None:
    """No market data is current without its link; a fresh snapshot follows the reconnect."""
    async with world(tmp_path, accounts=[], live=False) as found:
        await found.venue.watch(Feed.BOOK, SYMBOL)
        quote(found)
        await found.sink.until(lambda: found.sink.books)
        found.simulator.cut_sockets()
        await found.sink.until(lambda: found.sink.feed_losses)
        assert found.sink.feed_losses[0][0] == SYMBOL
        count = len(found.sink.books)
        await found.sink.until(lambda: len(found.sink.books) > count)


async def test_unwatched_feed_falls_silent(tmp_path: Path) -> None:
    """Frames of an ended feed are not told any more."""
    async with world(tmp_path, accounts=[], live=False) as found:
        await found.venue.watch(Feed.TOP, SYMBOL)
        await found.venue.watch(Feed.BOOK, SYMBOL)
        quote(found)
        await found.sink.until(lambda: found.sink.tops and found.sink.books)
        await found.venue.unwatch(Feed.TOP, SYMBOL)
        await found.venue.unwatch(Feed.TOP, SYMBOL)
        count = len(found.sink.tops)
        books = len(found.sink.books)
        quote(found, bid="3895", ask="3899")
        await found.sink.until(lambda: len(found.sink.books) > books)
        assert len(found.sink.tops) == count


async def test_trades_statistics_and_candles_of_a_lively_venue(tmp_path: Path) -> None:
    """Every feed delivers; no trade is told twice, also over a reconnect."""
    async with world(tmp_path, simulator_settings=lively(), accounts=[], live=False) as found:
        await found.venue.watch(Feed.TRADES, SYMBOL)
        await found.venue.watch(Feed.STATISTICS, SYMBOL)
        await found.venue.watch(Feed.CANDLES, SYMBOL, MINUTE)
        await found.sink.until(lambda: found.sink.trades and found.sink.statistics and found.sink.candles)
        found.simulator.cut_sockets()
        count = len(found.sink.trades)
        await found.sink.until(lambda: len(found.sink.trades) > count)
        ids = [trade.trade_id for trade in found.sink.trades]
        assert len(ids) == len(set(ids))
        assert found.sink.trades[0].aggressor_side in (order_pb2.SIDE_BUY, order_pb2.SIDE_SELL)
        assert Decimal(found.sink.statistics[-1].mark_price) > 0
        assert found.sink.candles[-1].interval == MINUTE


async def test_reads_of_market_data(tmp_path: Path) -> None:
    """Trades newest first and no more than asked; candles oldest first in the range; statistics of the symbol."""
    async with world(tmp_path, simulator_settings=lively(), accounts=[], live=False) as found:
        for _ in range(50):
            found.simulator.tick()
        trades = await found.venue.fetch_trades(SYMBOL, 5)
        times = [trade.venue_unix_nanos for trade in trades]
        assert 0 < len(trades) <= 5
        assert times == sorted(times, reverse=True)
        now_ns = found.simulator.now_ms() * 1_000_000
        from_ns = now_ns - 3_600_000_000_000
        candles = await found.venue.fetch_candles(SYMBOL, MINUTE, from_ns, now_ns)
        opens = [candle.open_time.ToNanoseconds() for candle in candles]
        assert opens == sorted(opens)
        assert all(from_ns <= open_ns < now_ns for open_ns in opens)
        assert [candle.complete for candle in candles[:-1]] == [True] * (len(candles) - 1)
        statistics = await found.venue.fetch_statistics(SYMBOL)
        assert statistics.symbol == SYMBOL
        assert Decimal(statistics.index_price) > 0


async def test_unknown_symbol_and_interval_are_refused(tmp_path: Path) -> None:
    """Nothing is subscribed for what does not exist."""
    async with world(tmp_path, accounts=[], live=False) as found:
        with pytest.raises(InstrumentNotFound):
            await found.venue.watch(Feed.BOOK, "NO/USDC:USDC")
        with pytest.raises(InvalidRequest):
            await found.venue.watch(Feed.CANDLES, SYMBOL)
