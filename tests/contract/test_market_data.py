"""Prices: books that hold together, tops, trades, candles, statistics."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from tests.contract.client import CALL_S, Client, opened, read_until
from tests.contract.numbers import is_canonical
from tests.contract.refusals import refused
from venuemesh.v1 import market_data_pb2 as pb
from venuemesh.v1 import market_data_service_pb2 as wire
from venuemesh.v1 import stream_pb2

Levels = dict[Decimal, Decimal]
ZERO = Decimal(0)
MINUTE_S = 60
MATCHED_BOOKS = 3


def check_side(levels: Any, *, descending: bool) -> list[Decimal]:
    """Prices of one side: positive, strictly ordered, nothing empty."""
    prices = [Decimal(level.price) for level in levels]
    assert prices == sorted(set(prices), reverse=descending)
    for level in levels:
        assert is_canonical(level.price)
        assert is_canonical(level.quantity)
        assert Decimal(level.price) > 0
        assert Decimal(level.quantity) > 0
    return prices


def check_book(book: pb.OrderBook, depth: int) -> None:
    """A book that may be traded on."""
    bids, asks = check_side(book.bids, descending=True), check_side(book.asks, descending=False)
    assert bids
    assert asks
    assert bids[0] < asks[0]
    assert max(len(bids), len(asks)) <= depth
    assert book.freshness == stream_pb2.FRESHNESS_FRESH
    assert not book.stale_cause
    assert book.received_time.ToNanoseconds() > 0
    assert book.sequence > 0
    assert book.epoch


async def test_book_is_fresh_ordered_and_as_deep_as_asked(client: Client) -> None:
    """0 is the default depth, and no more comes than the venue gives."""
    most = client.capabilities.book.max_depth or 1_000
    for asked in (0, 1, 3, 10_000):
        book = await client.book(depth=asked)
        check_book(book, min(asked or 20, most))
        assert (book.venue, book.symbol) == (client.name, client.symbol)


async def test_unknown_symbol_has_no_book_trades_candles_or_statistics(client: Client) -> None:
    """INSTRUMENT_NOT_FOUND of each."""
    symbol = "NO/SUCH:SYMBOL"
    calls = [
        client.market.GetOrderBook(wire.GetOrderBookRequest(symbol=symbol), timeout=CALL_S),
        client.market.ListTrades(wire.ListTradesRequest(symbol=symbol), timeout=CALL_S),
        client.market.GetStatistics(wire.GetStatisticsRequest(symbol=symbol), timeout=CALL_S),
        client.market.ListCandles(
            wire.ListCandlesRequest(symbol=symbol, interval=pb.CANDLE_INTERVAL_1M, from_time=Timestamp(seconds=1)),
            timeout=CALL_S,
        ),
    ]
    for call in calls:
        assert (await refused(call)).reason == "INSTRUMENT_NOT_FOUND"


class HeldBook:
    """What a client of the stream holds."""

    def __init__(self) -> None:
        self.bids: Levels = {}
        self.asks: Levels = {}
        self.states: dict[int, tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]] = {}

    def take(self, message: Any) -> None:
        """Fold a snapshot or a delta in."""
        kind = message.WhichOneof("body")
        change = getattr(message, kind)
        if kind == "snapshot":
            self.bids, self.asks = {}, {}
        for side, levels in ((self.bids, change.bids), (self.asks, change.asks)):
            for level in levels:
                price, quantity = Decimal(level.price), Decimal(level.quantity)
                if quantity:
                    side[price] = quantity
                else:
                    assert side.pop(price, None) is not None, "a level was removed that was not there"
        assert not self.bids or not self.asks or max(self.bids) < min(self.asks), "crossed"
        self.states[change.sequence] = (sorted(self.bids.items(), reverse=True), sorted(self.asks.items()))


def rows(levels: Any) -> list[tuple[Decimal, Decimal]]:
    """Levels as numbers."""
    return [(Decimal(level.price), Decimal(level.quantity)) for level in levels]


async def test_changes_of_a_book_lead_to_the_book_that_is_read(client: Client) -> None:
    """Snapshot and deltas, folded, equal GetOrderBook at the same number; headers are chained."""
    depth = 5
    request = wire.StreamOrderBookRequest(venue=client.name, symbols=[client.symbol], depth=depth)
    held, matched, last, kinds = HeldBook(), 0, 0, []
    async with opened(client.market.StreamOrderBook(request, timeout=2 * CALL_S)) as stream:

        async def next_book() -> wire.StreamOrderBookResponse:
            """The next book or change; a status between two has a number of its own."""
            nonlocal last
            read = await read_until(stream, "snapshot", "delta")
            for one in read:
                assert one.header.previous_sequence <= last or not last
                last = max(last, one.header.sequence)
            return read[-1]

        while matched < MATCHED_BOOKS:
            message = await next_book()
            kinds.append(message.WhichOneof("body"))
            held.take(message)
            if kinds[-1] == "snapshot":
                check_book(message.snapshot, depth)
            book = await client.book(depth=depth)
            state = held.states.get(book.sequence)
            while state is None and book.sequence > max(held.states):
                held.take(await next_book())
                state = held.states.get(book.sequence)
            if state is not None:
                assert (rows(book.bids), rows(book.asks)) == state
                matched += 1
    assert kinds[0] == "snapshot"


async def test_scaled_book_says_the_same_as_the_plain_one(client: Client) -> None:
    """Where the numbers allow scaled integers they are exact."""
    request = wire.StreamOrderBookRequest(venue=client.name, symbols=[client.symbol], depth=5, scaled=True)
    async with opened(client.market.StreamOrderBook(request, timeout=CALL_S)) as stream:
        message = (await read_until(stream, "scaled", "snapshot"))[-1]
    if message.WhichOneof("body") == "snapshot":
        check_book(message.snapshot, 5)
        return
    book = message.scaled.book
    assert message.scaled.snapshot
    bids = [Decimal(mantissa).scaleb(-book.price_scale) for mantissa in book.bids.price_mantissas]
    asks = [Decimal(mantissa).scaleb(-book.price_scale) for mantissa in book.asks.price_mantissas]
    assert bids == sorted(set(bids), reverse=True)
    assert asks == sorted(set(asks))
    assert bids[0] < asks[0]
    assert len(book.bids.quantity_mantissas) == len(bids)
    assert all(quantity > 0 for quantity in (*book.bids.quantity_mantissas, *book.asks.quantity_mantissas))


async def test_top_of_book_is_fresh_and_not_crossed(client: Client) -> None:
    """The stream begins with what is known and follows changes."""
    request = wire.StreamTopOfBookRequest(venue=client.name, symbols=[client.symbol])
    async with opened(client.market.StreamTopOfBook(request, timeout=2 * CALL_S)) as stream:
        for _ in range(2):
            top = (await read_until(stream, "top_of_book"))[-1].top_of_book
            assert (top.venue, top.symbol) == (client.name, client.symbol)
            assert top.freshness == stream_pb2.FRESHNESS_FRESH
            assert Decimal(top.bid.price) < Decimal(top.ask.price)
            assert Decimal(top.bid.quantity) > 0
            assert Decimal(top.ask.quantity) > 0
            assert top.received_unix_nanos > 0


async def test_trade_of_ours_is_on_the_public_stream_and_in_the_list(client: Client) -> None:
    """By its id, price, quantity and side."""
    request = wire.StreamTradesRequest(venue=client.name, symbols=[client.symbol])
    async with opened(client.market.StreamTrades(request, timeout=2 * CALL_S)) as stream:
        # FRESH says that the feed runs: what is traded from here on is told.
        await fresh(stream, client.symbol)
        order = await client.take()
        fill = (await client.fills(order))[-1]
        seen: list[pb.Trade] = []
        while not any(trade.trade_id == fill.trade_id for trade in seen):
            seen.append((await read_until(stream, "trade"))[-1].trade)
    check_trades(client, seen)
    assert len({trade.trade_id for trade in seen}) == len(seen)
    listed = wire.ListTradesRequest(venue=client.name, symbol=client.symbol)
    trades = list((await client.market.ListTrades(listed, timeout=CALL_S)).trades)
    check_trades(client, trades)
    times = [trade.venue_unix_nanos for trade in trades]
    assert times == sorted(times, reverse=True)
    ours = next(trade for trade in seen if trade.trade_id == fill.trade_id)
    assert Decimal(ours.price) == Decimal(fill.price)
    assert ours.aggressor_side in (0, order.terms.side)


async def fresh(stream: Any, symbol: str) -> None:
    """Read until the stream says that the symbol's feed is current."""
    while True:
        message = (await read_until(stream, "status", "trade"))[-1]
        if message.WhichOneof("body") == "trade" or message.status.freshness == stream_pb2.FRESHNESS_FRESH:
            return


def check_trades(client: Client, trades: list[pb.Trade]) -> None:
    """Each is whole."""
    assert trades
    for trade in trades:
        assert (trade.venue, trade.symbol) == (client.name, client.symbol)
        assert trade.trade_id
        assert is_canonical(trade.price)
        assert is_canonical(trade.quantity)
        assert min(Decimal(trade.price), Decimal(trade.quantity)) > 0
        assert trade.venue_unix_nanos > 0


def check_candle(candle: pb.Candle) -> None:
    """High and low bound the rest, and it begins on its minute."""
    prices = [Decimal(text) for text in (candle.open, candle.close)]
    assert Decimal(candle.low) <= min(prices)
    assert max(prices) <= Decimal(candle.high)
    assert Decimal(candle.low) > 0
    assert Decimal(candle.volume) >= 0
    assert candle.open_time.seconds % MINUTE_S == 0
    assert candle.interval == pb.CANDLE_INTERVAL_1M


async def test_candles_come_in_pages_that_join_without_a_seam(client: Client) -> None:
    """Half an hour of minutes, oldest first, none twice; only the newest can be running."""
    now = Timestamp()
    now.GetCurrentTime()
    start = now.seconds - 30 * MINUTE_S
    found: list[pb.Candle] = []
    token = ""
    while True:
        request = wire.ListCandlesRequest(
            venue=client.name,
            symbol=client.symbol,
            interval=pb.CANDLE_INTERVAL_1M,
            from_time=Timestamp(seconds=start),
            to_time=Timestamp(seconds=now.seconds),
            page_size=7,
            page_token=token,
        )
        answer = await client.market.ListCandles(request, timeout=CALL_S)
        assert len(answer.candles) <= 7
        found += answer.candles
        token = answer.next_page_token
        if not token:
            break
    assert found
    opens = [candle.open_time.seconds for candle in found]
    assert opens == sorted(set(opens))
    assert start <= opens[0]
    assert opens[-1] < now.seconds
    for candle in found:
        check_candle(candle)
    assert all(candle.complete for candle in found[:-2])


async def test_running_candle_moves_with_a_trade(client: Client) -> None:
    """The stream tells the candle that runs, again after a trade."""
    request = wire.StreamCandlesRequest(venue=client.name, symbols=[client.symbol], interval=pb.CANDLE_INTERVAL_1M)
    async with opened(client.market.StreamCandles(request, timeout=3 * CALL_S)) as stream:
        await read_until(stream, "acknowledgement")
        await client.take()
        candle = (await read_until(stream, "candle"))[-1].candle
    assert (candle.venue, candle.symbol) == (client.name, client.symbol)
    check_candle(candle)


async def test_candles_need_an_interval_and_a_beginning(client: Client) -> None:
    """Fields are named."""
    for changes, field in (
        ({"interval": 0, "from_time": Timestamp(seconds=1)}, "interval"),
        ({"interval": pb.CANDLE_INTERVAL_1M}, "from_time"),
    ):
        request = wire.ListCandlesRequest(venue=client.name, symbol=client.symbol, **changes)
        refusal = await refused(client.market.ListCandles(request, timeout=CALL_S))
        assert (refusal.reason, refusal.fields) == ("REQUIRED_FIELD_MISSING", [field])
    following = wire.StreamCandlesRequest(venue=client.name, symbols=[client.symbol])
    async with opened(client.market.StreamCandles(following, timeout=CALL_S)) as stream:
        assert (await refused(stream.read())).fields == ["interval"]


async def test_statistics_are_read_and_streamed(client: Client) -> None:
    """A mark price near the book; every number canonical."""
    request = wire.GetStatisticsRequest(venue=client.name, symbol=client.symbol)
    read = (await client.market.GetStatistics(request, timeout=CALL_S)).statistics
    following = wire.StreamStatisticsRequest(venue=client.name, symbols=[client.symbol])
    async with opened(client.market.StreamStatistics(following, timeout=2 * CALL_S)) as stream:
        streamed = (await read_until(stream, "statistics"))[-1].statistics
    quote = await client.quote()
    for statistics in (read, streamed):
        assert (statistics.venue, statistics.symbol) == (client.name, client.symbol)
        assert statistics.freshness == stream_pb2.FRESHNESS_FRESH
        assert quote.bid * Decimal("0.9") < Decimal(statistics.mark_price) < quote.ask * Decimal("1.1")
        for field, value in statistics.ListFields():
            if any(option.name == "decimal" for option, _ in field.GetOptions().ListFields()):
                assert is_canonical(value), field.name


async def test_symbols_join_and_leave_a_running_stream(client: Client) -> None:
    """UpdateSubscription by the stream's id; each symbol has its own result."""
    request = wire.StreamOrderBookRequest(venue=client.name, symbols=["NO/SUCH:SYMBOL"], depth=1)
    async with opened(client.market.StreamOrderBook(request, timeout=2 * CALL_S)) as stream:
        hello = (await read_until(stream, "acknowledgement"))[-1].acknowledgement
        assert [row.accepted for row in hello.results] == [False]
        update = wire.UpdateSubscriptionRequest(stream_id=hello.stream_id, add_symbols=[client.symbol, "NO/SUCH:OTHER"])
        answer = await client.market.UpdateSubscription(update, timeout=CALL_S)
        assert [(row.subscription, row.accepted) for row in answer.results] == [
            (client.symbol, True),
            ("NO/SUCH:OTHER", False),
        ]
        book = (await read_until(stream, "snapshot"))[-1].snapshot
        assert book.symbol == client.symbol
    gone = wire.UpdateSubscriptionRequest(stream_id="no-such-stream", add_symbols=[client.symbol])
    assert (await refused(client.market.UpdateSubscription(gone, timeout=CALL_S))).reason == "STREAM_NOT_FOUND"


@pytest.mark.parametrize("method", ["StreamOrderBook", "StreamTopOfBook", "StreamTrades", "StreamStatistics"])
async def test_market_stream_needs_symbols(client: Client, method: str) -> None:
    """None is no wish for all."""
    request = getattr(wire, f"{method}Request")(venue=client.name)
    async with opened(getattr(client.market, method)(request, timeout=CALL_S)) as stream:
        refusal = await refused(stream.read())
    assert (refusal.reason, refusal.fields) == ("REQUIRED_FIELD_MISSING", ["symbols"])
