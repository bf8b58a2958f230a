"""MarketDataService over a fake venue: reads that say when they are old, streams a client can rebuild books from."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes_venue import BTC, ETH, VENUE, Down, FakeVenue, instrument, levels
from tests.unit.venuemesh.gateway.gateway_world import Caller, World, collect, gateway, take, until
from venuemesh.errors import InstrumentNotFound, InvalidRequest, NotFound, Reason, VenueUnavailable
from venuemesh.gateway.books import BookState
from venuemesh.gateway.market_data import FeedKey
from venuemesh.gateway.order_wire import timestamp
from venuemesh.gateway.services.book_stream import BookStream
from venuemesh.gateway.services.book_wire import Scales, mantissa, scales_of
from venuemesh.gateway.venue import BookSnapshot, Feed, Level
from venuemesh.v1 import market_data_pb2, stream_pb2
from venuemesh.v1 import market_data_service_pb2 as wire

CALLER = Caller()
BIDS = levels(("100", "1"), ("99.5", "2"))
ASKS = levels(("100.5", "1"), ("101", "2"))
MINUTE = market_data_pb2.CANDLE_INTERVAL_1M
FRESH, STALE = stream_pb2.FRESHNESS_FRESH, stream_pb2.FRESHNESS_STALE


def get_book(symbol: str = BTC, depth: int = 0) -> wire.GetOrderBookRequest:
    return wire.GetOrderBookRequest(symbol=symbol, depth=depth)


class Client:
    """What a client of StreamOrderBook holds after the messages it got."""

    def __init__(self) -> None:
        self.bids: dict[Decimal, Decimal] = {}
        self.asks: dict[Decimal, Decimal] = {}
        self.kinds: list[str] = []

    def take(self, message: wire.StreamOrderBookResponse) -> None:
        kind = message.WhichOneof("body") or ""
        self.kinds.append(kind)
        if kind == "scaled":
            update = message.scaled
            book = update.book
            bids, asks = (
                [
                    (Decimal(price).scaleb(-book.price_scale), Decimal(quantity).scaleb(-book.quantity_scale))
                    for price, quantity in zip(side.price_mantissas, side.quantity_mantissas, strict=True)
                ]
                for side in (book.bids, book.asks)
            )
            self._apply(bids, asks, whole=update.snapshot)
        elif kind in ("snapshot", "delta"):
            rows = message.snapshot if kind == "snapshot" else message.delta
            bids, asks = (
                [(Decimal(level.price), Decimal(level.quantity)) for level in side] for side in (rows.bids, rows.asks)
            )
            self._apply(bids, asks, whole=kind == "snapshot")

    def _apply(self, bids: list[tuple[Decimal, Decimal]], asks: list[tuple[Decimal, Decimal]], *, whole: bool) -> None:
        for side, rows in ((self.bids, bids), (self.asks, asks)):
            if whole:
                side.clear()
            for price, quantity in rows:
                if quantity:
                    side[price] = quantity
                else:
                    side.pop(price, None)

    @property
    def book(self) -> tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
        return sorted(self.bids.items(), reverse=True), sorted(self.asks.items())


# reads


async def test_get_order_book_when_nothing_is_watched_fetches_and_begins_to_watch() -> None:
    """The next read comes from the feed."""
    async with gateway() as world:
        world.venue.set_book(BTC, BIDS, ASKS)
        book = (await world.market_data.GetOrderBook(get_book(depth=1), CALLER)).order_book
        assert [(level.price, level.quantity) for level in book.bids] == [("100", "1")]
        assert (book.freshness, book.venue, book.epoch) == (FRESH, VENUE, world.core.books.epoch)
        await until(lambda: world.venue.watching == {(Feed.BOOK, BTC, 0)})
        world.venue.set_book(BTC, BIDS, ASKS)
        newer = (await world.market_data.GetOrderBook(get_book(), CALLER)).order_book
        assert newer.sequence > book.sequence
        assert world.venue.calls.count("fetch_book") == 1


async def test_get_order_book_when_the_venue_is_away_is_stale_and_says_why() -> None:
    """An old book is never served as a new one; without any there is an error."""
    async with gateway() as world:
        world.venue.set_book(BTC, BIDS, ASKS)
        world.core.market.touch(_key(BTC))
        await until(lambda: world.venue.watching)
        world.venue.set_book(BTC, BIDS, ASKS)
        world.venue.go_down("socket closed")
        book = (await world.market_data.GetOrderBook(get_book(), CALLER)).order_book
        assert (book.freshness, book.stale_cause) == (STALE, "socket closed")
        with pytest.raises(VenueUnavailable):
            await world.market_data.GetOrderBook(get_book(ETH), CALLER)


def _key(symbol: str) -> FeedKey:
    return FeedKey(Feed.BOOK, symbol)


async def test_get_order_book_when_the_symbol_is_unknown_or_missing_names_the_field() -> None:
    """Refused before the venue is asked."""
    async with gateway() as world:
        with pytest.raises(InstrumentNotFound) as unknown:
            await world.market_data.GetOrderBook(get_book("NOPE/X:X"), CALLER)
        with pytest.raises(InvalidRequest) as missing:
            await world.market_data.GetOrderBook(get_book(""), CALLER)
        assert (unknown.value.field, missing.value.field) == ("symbol", "symbol")
        assert "fetch_book" not in world.venue.calls


async def test_list_trades_gives_the_newest_and_bounds_the_page() -> None:
    """There are no further pages."""
    async with gateway() as world:
        world.venue.trades = [market_data_pb2.Trade(symbol=BTC, trade_id=str(n)) for n in range(5)]
        rows = (await world.market_data.ListTrades(wire.ListTradesRequest(symbol=BTC, page_size=2), CALLER)).trades
        assert [row.trade_id for row in rows] == ["0", "1"]
        with pytest.raises(InvalidRequest):
            await world.market_data.ListTrades(wire.ListTradesRequest(symbol=BTC, page_size=1_001), CALLER)


def _candles(minutes: list[int]) -> list[market_data_pb2.Candle]:
    return [
        market_data_pb2.Candle(symbol=BTC, interval=MINUTE, open_time=timestamp(minute * 60 * 10**9), close="1")
        for minute in minutes
    ]


@pytest.mark.parametrize("size", [1, 3, 7, 1_000])
async def test_list_candles_pages_give_each_once_also_over_a_gap(size: int) -> None:
    """Oldest first; a stretch without trades ends no list early."""
    minutes = [0, 1, 2, 50, 51, 2_000, 2_001]
    async with gateway() as world:
        world.venue.candles = _candles(minutes)
        seen, token = [], ""
        for _ in range(2_500):
            request = wire.ListCandlesRequest(symbol=BTC, interval=MINUTE, page_size=size, page_token=token)
            request.from_time.FromSeconds(0)
            request.to_time.FromSeconds(2_001 * 60)
            response = await world.market_data.ListCandles(request, CALLER)
            seen += [row.open_time.seconds // 60 for row in response.candles]
            token = response.next_page_token
            if not token:
                break
        assert seen == minutes[:-1]


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"interval": 0}, "interval"), ({"interval": 99}, "interval"), ({"from_time": None}, "from_time")],
)
async def test_list_candles_when_a_field_is_bad_names_it(changes: dict[str, Any], field: str) -> None:
    """Interval and beginning are needed."""
    async with gateway() as world:
        fields = {"symbol": BTC, "interval": MINUTE, "from_time": timestamp(0), **changes}
        with pytest.raises(InvalidRequest) as caught:
            await world.market_data.ListCandles(wire.ListCandlesRequest(**fields), CALLER)
        assert caught.value.field == field


async def test_get_statistics_prefers_the_feed_and_marks_what_is_old() -> None:
    """Fetched at first, from the feed then, stale when the link is gone."""
    async with gateway() as world:
        world.venue.statistics[BTC] = market_data_pb2.MarketStatistics(venue=VENUE, symbol=BTC, mark_price="100")
        request = wire.GetStatisticsRequest(symbol=BTC)
        first = (await world.market_data.GetStatistics(request, CALLER)).statistics
        assert (first.mark_price, first.freshness) == ("100", FRESH)
        await until(lambda: world.venue.watching == {(Feed.STATISTICS, BTC, 0)})
        world.core.intake.on_statistics(market_data_pb2.MarketStatistics(venue=VENUE, symbol=BTC, mark_price="101"))
        assert (await world.market_data.GetStatistics(request, CALLER)).statistics.mark_price == "101"
        world.venue.go_down()
        old = (await world.market_data.GetStatistics(request, CALLER)).statistics
        assert (old.mark_price, old.freshness) == ("101", STALE)
        world.venue.script("fetch_statistics", Down())
        with pytest.raises(VenueUnavailable):
            await world.market_data.GetStatistics(wire.GetStatisticsRequest(symbol=ETH), CALLER)


# streams


def stream_books(world: World, *symbols: str, **fields: Any) -> Any:
    return world.market_data.StreamOrderBook(wire.StreamOrderBookRequest(symbols=symbols, **fields), CALLER)


async def test_stream_order_book_gives_snapshot_then_changes_then_a_snapshot_after_a_new_link() -> None:
    """One message per state; stale and fresh are told with their cause."""
    async with gateway() as world:
        client = Client()
        async with aclosing(stream_books(world, BTC)) as stream:
            first, stale = await collect(stream, 2)
            assert first.acknowledgement.results[0].accepted
            assert (stale.status.freshness, stale.status.cause) == (STALE, "no data yet")
            await until(lambda: world.venue.watching)
            world.venue.set_book(BTC, BIDS, ASKS)
            assert (await anext(stream)).status.freshness == FRESH
            client.take(await anext(stream))
            world.clock.advance(0.5)
            world.venue.set_book(BTC, levels(("100", "3")), ASKS)
            delta = await anext(stream)
            client.take(delta)
            assert [(row.price, row.quantity) for row in delta.delta.bids] == [("99.5", "0"), ("100", "3")]
            assert list(delta.delta.asks) == []
            world.core.intake.on_feed_lost(BTC, "socket closed")
            assert (await anext(stream)).status.cause == "socket closed"
            world.venue.set_book(BTC, BIDS, ASKS)
            assert (await anext(stream)).status.freshness == FRESH
            client.take(await anext(stream))
        assert client.kinds == ["snapshot", "delta", "snapshot"]
        assert world.core.market.watched == 1
        assert len(world.hub) == 0


async def test_stream_order_book_when_one_symbol_is_bad_serves_the_others() -> None:
    """Each subscription has its own result."""
    async with gateway() as world:
        async with aclosing(stream_books(world, BTC, "NOPE/X:X", ETH)) as stream:
            results = (await anext(stream)).acknowledgement.results
        assert [(row.subscription, row.accepted) for row in results] == [
            (BTC, True),
            ("NOPE/X:X", False),
            (ETH, True),
        ]


async def test_stream_when_resume_is_asked_says_that_it_cannot() -> None:
    """Books start with a snapshot."""
    async with gateway() as world:
        options = stream_pb2.StreamOptions()
        options.resume_after.sequence = 7
        async with aclosing(stream_books(world, BTC, options=options)) as stream:
            first = (await anext(stream)).acknowledgement
        assert first.resume_outcome == stream_pb2.RESUME_OUTCOME_SNAPSHOT_INSTEAD
        assert "cannot be resumed" in first.resume_note


async def test_stream_order_book_in_scaled_integers_falls_back_to_strings_when_a_number_does_not_fit() -> None:
    """The client sees a new snapshot, and strings from then on."""
    async with gateway() as world:
        client = Client()
        async with aclosing(stream_books(world, BTC, scaled=True)) as stream:
            await collect(stream, 2)
            await until(lambda: world.venue.watching)
            for bids in (BIDS, levels(("100", "1.5")), levels(("100.25", "1.5")), levels(("100", "1"))):
                world.clock.advance(0.1)
                world.venue.set_book(BTC, bids, ASKS)
                message = await anext(stream)
                if message.WhichOneof("body") == "status":
                    message = await anext(stream)
                client.take(message)
                assert client.book[0] == [(level.price, level.quantity) for level in bids]
        assert client.kinds == ["scaled", "scaled", "snapshot", "delta"]


async def test_update_subscription_adds_with_a_snapshot_and_removes() -> None:
    """A stream changes its symbols without being opened anew."""
    async with gateway() as world:
        async with aclosing(stream_books(world, BTC)) as stream:
            stream_id = (await anext(stream)).acknowledgement.stream_id
            world.core.market.touch(_key(ETH))
            await until(lambda: len(world.venue.watching) == 2)
            world.venue.set_book(ETH, BIDS, ASKS)
            request = wire.UpdateSubscriptionRequest(
                stream_id=stream_id, add_symbols=[ETH, "NOPE/X:X"], remove_symbols=[BTC]
            )
            response = await world.market_data.UpdateSubscription(request, CALLER)
            assert [(row.subscription, row.accepted) for row in response.results] == [(ETH, True), ("NOPE/X:X", False)]
            assert (await take(stream, "snapshot")).snapshot.symbol == ETH
            world.venue.set_book(BTC, BIDS, ASKS)
            world.clock.advance(0.1)
            world.venue.set_book(ETH, levels(("100", "9")), ASKS)
            assert (await anext(stream)).delta.symbol == ETH
        with pytest.raises(NotFound) as caught:
            await world.market_data.UpdateSubscription(request, CALLER)
        assert caught.value.reason is Reason.STREAM_NOT_FOUND


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (wire.UpdateSubscriptionRequest(), "stream_id"),
        (wire.UpdateSubscriptionRequest(stream_id="x"), "add_symbols"),
        (wire.UpdateSubscriptionRequest(stream_id="x", add_symbols=["A"], remove_symbols=["A"]), "remove_symbols"),
        (wire.UpdateSubscriptionRequest(stream_id="x", add_symbols=["A"] * 201), "add_symbols"),
    ],
)
async def test_update_subscription_when_a_field_is_bad_names_it(
    request_: wire.UpdateSubscriptionRequest, field: str
) -> None:
    """Checked before the stream is looked for."""
    async with gateway() as world:
        with pytest.raises(InvalidRequest) as caught:
            await world.market_data.UpdateSubscription(request_, CALLER)
        assert caught.value.field == field


async def test_streams_of_top_trades_statistics_and_candles_carry_their_values() -> None:
    """Each has one payload, held at its own feed."""
    async with gateway() as world:
        service = world.market_data
        top = service.StreamTopOfBook(wire.StreamTopOfBookRequest(symbols=[BTC]), CALLER)
        trades = service.StreamTrades(wire.StreamTradesRequest(symbols=[BTC]), CALLER)
        statistics = service.StreamStatistics(wire.StreamStatisticsRequest(symbols=[BTC]), CALLER)
        candles = service.StreamCandles(wire.StreamCandlesRequest(symbols=[BTC], interval=MINUTE), CALLER)
        async with aclosing(top), aclosing(trades), aclosing(statistics), aclosing(candles):
            for stream in (top, trades, statistics, candles):
                await anext(stream)
            await until(lambda: len(world.venue.watching) == 4)
            assert (Feed.CANDLES, BTC, MINUTE) in world.venue.watching
            world.venue.set_book(BTC, BIDS, ASKS)
            assert (await take(top, "top_of_book")).top_of_book.bid.price == "100"
            world.core.intake.on_trades(BTC, [market_data_pb2.Trade(symbol=BTC, trade_id="1")])
            assert (await take(trades, "trade")).trade.trade_id == "1"
            world.core.intake.on_statistics(market_data_pb2.MarketStatistics(symbol=BTC, mark_price="7"))
            assert (await take(statistics, "statistics")).statistics.mark_price == "7"
            other = market_data_pb2.Candle(symbol=BTC, interval=market_data_pb2.CANDLE_INTERVAL_1H, close="0")
            world.core.intake.on_candle(other)
            world.core.intake.on_candle(_candles([5])[0])
            assert (await take(candles, "candle")).candle.close == "1"


async def test_streams_when_a_field_is_bad_name_it() -> None:
    """Symbols, intervals, policies."""
    async with gateway() as world:
        service = world.market_data
        conflate = stream_pb2.StreamOptions(slow_reader_policy=stream_pb2.SLOW_READER_POLICY_CONFLATE_LATEST)
        for stream, field in (
            (stream_books(world), "symbols"),
            (stream_books(world, *(f"S{n}" for n in range(201))), "symbols"),
            (stream_books(world, "x" * 65), "symbols"),
            (stream_books(world, BTC, venue="elsewhere"), "venue"),
            (service.StreamCandles(wire.StreamCandlesRequest(symbols=[BTC]), CALLER), "interval"),
            (
                service.StreamTrades(wire.StreamTradesRequest(symbols=[BTC], options=conflate), CALLER),
                "options.slow_reader_policy",
            ),
        ):
            with pytest.raises(InvalidRequest) as caught:
                await anext(stream)
            assert caught.value.field == field
        assert world.core.market.watched == 0


async def test_reader_that_hangs_up_lets_go_of_its_feeds() -> None:
    """However a stream ends, nothing of it stays."""
    async with gateway() as world:
        stream = stream_books(world, BTC, ETH)
        await anext(stream)
        assert world.core.market.watched == 2
        await stream.aclose()
        world.clock.advance(31.0)
        world.core.market.touch(_key(BTC))
        await until(lambda: world.core.market.watched == 1)
        assert world.market_data._readers == {}


async def test_slow_reader_of_books_gets_one_change_that_leads_to_the_newest() -> None:
    """Conflated per symbol; what it missed is in the change."""
    async with gateway(capacity=5) as world:
        client = Client()
        async with aclosing(stream_books(world, BTC)) as stream:
            await collect(stream, 2)
            await until(lambda: world.venue.watching)
            world.venue.set_book(BTC, BIDS, ASKS)
            await anext(stream)
            client.take(await anext(stream))
            for size in range(1, 100):
                world.clock.advance(0.01)
                world.venue.set_book(BTC, levels(("100", str(size)), (str(98 - size % 7), "1")), ASKS)
            client.take(await anext(stream))
            assert client.book[0] == [(Decimal(100), Decimal(99)), (Decimal(97), Decimal(1))]
            assert client.kinds == ["snapshot", "delta"]
            reading = asyncio.create_task(anext(stream))
            await asyncio.sleep(0)
            world.clock.advance(6.0)
            world.core.books.sweep()
            assert (await reading).status.freshness == STALE


# pure

price = st.integers(1, 60).map(lambda number: Decimal(number) / 2)
quantity = st.sampled_from([Decimal("1"), Decimal("0.5"), Decimal("2.125"), Decimal("0.0000001")])
side = st.dictionaries(price, quantity, max_size=10)


@settings(max_examples=150)
@given(
    books=st.lists(st.tuples(side, side, st.booleans()), min_size=1, max_size=6),
    depth=st.integers(1, 8),
    scaled=st.booleans(),
    headers=st.just(stream_pb2.StreamHeader()),
)
def test_law_a_client_that_applies_every_message_holds_the_servers_book(
    books: list[tuple[dict[Decimal, Decimal], dict[Decimal, Decimal], bool]],
    depth: int,
    scaled: bool,
    headers: stream_pb2.StreamHeader,
) -> None:
    """In strings and in scaled integers, at any depth, over stale spells and numbers that do not fit."""
    scales = {BTC: Scales(price=1, quantity=3)} if scaled else None
    stream, client = BookStream(venue=VENUE, epoch="e", depth=depth, scales=scales), Client()
    for number, (bids, asks, stale) in enumerate(books, 1):
        book = BookSnapshot(
            symbol=BTC,
            bids=[Level(price, bids[price]) for price in sorted(bids, reverse=True)],
            asks=[Level(price, asks[price]) for price in sorted(asks)],
            venue_time_ns=number,
            received_ns=number,
        )
        state = BookState(book=book, sequence=number, stale_cause="quiet" if stale else "")
        message = stream.respond(headers, state)
        client.take(message)
        assert client.book == (
            [(level.price, level.quantity) for level in book.bids[:depth]],
            [(level.price, level.quantity) for level in book.asks[:depth]],
        )
        assert (message.snapshot.freshness == STALE) == stale


def test_mantissa_is_exact_or_refused() -> None:
    """Never rounded, never past 64 bits."""
    assert mantissa(Decimal("100.5"), 1) == 1005
    assert mantissa(Decimal("100.25"), 1) is None
    assert mantissa(Decimal(2**63 - 1), 0) == 2**63 - 1
    assert mantissa(Decimal(2**63), 0) is None
    assert mantissa(Decimal("0"), 5) == 0


def test_scales_follow_the_instruments_rules() -> None:
    """Ticks and steps say how many digits there can be."""
    assert scales_of(instrument(BTC, tick="0.5", step="0.001")) == Scales(price=1, quantity=3)
    row = instrument(BTC, tick="1", step="1")
    row.price_rule.ClearField("tick_size")
    row.price_rule.max_decimals = 6
    assert scales_of(row) == Scales(price=6, quantity=0)


def test_fake_venue_pushes_only_what_is_watched() -> None:
    """Guards the fake: an unwatched book reaches nobody."""
    venue = FakeVenue()
    venue.set_book(BTC, BIDS, ASKS)
    assert venue.books[BTC].bids == BIDS
