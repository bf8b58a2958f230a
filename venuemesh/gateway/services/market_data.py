"""MarketDataService of a gateway: prices of its venue."""
# ruff: noqa: N802 - methods are named by the contract

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, TypeVar

from google.protobuf.message import Message

from venuemesh.errors import (
    InstrumentNotFound,
    InvalidRequest,
    MeshError,
    NotFound,
    RateLimited,
    Reason,
    VenueUnavailable,
)
from venuemesh.gateway.books import TopState
from venuemesh.gateway.market_data import FeedKey
from venuemesh.gateway.services.book_stream import BookStream
from venuemesh.gateway.services.book_wire import Scales, cut, scales_of, to_order_book, to_top
from venuemesh.gateway.services.candles import ask_candles
from venuemesh.gateway.services.parts import Context, GatewayParts
from venuemesh.gateway.services.requests import MAX_SYMBOLS, check_enum, check_symbols, missing, required
from venuemesh.gateway.services.streams import accepted, refused, snapshot_plan
from venuemesh.gateway.venue import Feed
from venuemesh.paging import Pager, page_size
from venuemesh.stream_options import EVENTS, PRICES, StreamRules, parse_stream_options
from venuemesh.streaming import Respond, StreamHub, StreamPlan, responder
from venuemesh.v1 import instrument_pb2, market_data_pb2, market_data_service_pb2_grpc, stream_pb2
from venuemesh.v1 import market_data_service_pb2 as wire

R = TypeVar("R", bound=Message)

DEFAULT_DEPTH = 20
MAX_DEPTH = 1_000
SERVICE = "/venuemesh.v1.MarketDataService/"


class Reader:
    """The symbols of one open stream; each is held at the feeds until it is removed or the stream ends.

    Args:
        on_join: told of each instrument that joins.
    """

    def __init__(
        self,
        parts: GatewayParts,
        feed: Feed,
        interval: market_data_pb2.CandleInterval.ValueType,
        on_join: Callable[[instrument_pb2.Instrument], None],
    ) -> None:
        self.feed = feed
        self._parts = parts
        self._interval = interval
        self._on_join = on_join
        self._held: dict[str, FeedKey] = {}

    @property
    def keys(self) -> list[FeedKey]:
        """What is held."""
        return list(self._held.values())

    def add(self, symbol: str) -> tuple[stream_pb2.SubscriptionResult, FeedKey | None]:
        """Join a symbol; the key is None when it was refused or was there already."""
        if symbol in self._held:
            return accepted(symbol), None
        if len(self._held) >= MAX_SYMBOLS:
            return refused(symbol, Reason.RATE_LIMIT_LOCAL, f"a stream has at most {MAX_SYMBOLS} symbols"), None
        key = FeedKey(self.feed, symbol, self._interval)
        try:
            instrument = self._parts.instruments.get(symbol, self._parts.venue.name)
            self._parts.market.hold(key)
        except (InstrumentNotFound, RateLimited) as error:
            # One bad symbol is told in its own result and does not end the others.
            return refused(symbol, error.reason, error.message), None
        self._held[symbol] = key
        self._on_join(instrument)
        return accepted(symbol), key

    def remove(self, symbol: str) -> FeedKey | None:
        """Part with a symbol."""
        key = self._held.pop(symbol, None)
        if key is not None:
            self._parts.market.release(key)
        return key

    def close(self) -> None:
        """Part with all."""
        for symbol in list(self._held):
            self.remove(symbol)


class MarketDataServicer(market_data_service_pb2_grpc.MarketDataServiceServicer):
    """Books, trades, candles and statistics of one venue; a stale one says so."""

    def __init__(self, parts: GatewayParts, hub: StreamHub, pager: Pager) -> None:
        self._parts = parts
        self._hub = hub
        self._pager = pager
        self._readers: dict[str, Reader] = {}

    async def GetOrderBook(self, request: wire.GetOrderBookRequest, context: Context) -> wire.GetOrderBookResponse:
        """The newest book; fetched when none is current, and stale with its cause when that fails."""
        symbol = self._symbol(request)
        depth = self._depth(request.depth)
        books = self._parts.books
        try:
            state = await books.fresh_book(symbol)
        except (VenueUnavailable, RateLimited):
            known = books.book(symbol)
            if known is None:
                raise
            state = known
        book = to_order_book(state, cut(state, depth), venue=self._parts.venue.name, epoch=books.epoch)
        return wire.GetOrderBookResponse(order_book=book)

    async def ListTrades(self, request: wire.ListTradesRequest, context: Context) -> wire.ListTradesResponse:
        """Recent public trades, newest first."""
        symbol, size = self._symbol(request), page_size(request.page_size)
        trades = await self._parts.venue.fetch_trades(symbol, size)
        return wire.ListTradesResponse(trades=list(trades)[:size])

    async def ListCandles(self, request: wire.ListCandlesRequest, context: Context) -> wire.ListCandlesResponse:
        """Candles, oldest first, a page at a time."""
        self._symbol(request)
        check_enum(request.interval, market_data_pb2.CandleInterval, "interval")
        now_ns = self._parts.clock.now_ns()
        page = self._pager.read(request, now_ns=now_ns)
        candles, cursor = await ask_candles(self._parts.venue, request, page, now_ns=now_ns)
        token = self._pager.token(request, cursor, now_ns=now_ns) if cursor else ""
        return wire.ListCandlesResponse(candles=candles, next_page_token=token)

    async def GetStatistics(self, request: wire.GetStatisticsRequest, context: Context) -> wire.GetStatisticsResponse:
        """Mark, index, funding and so on: the newest of the feed, else fetched, else stale and marked so."""
        symbol = self._symbol(request)
        market = self._parts.market
        known = market.statistics(symbol)
        if known is not None and known.freshness == stream_pb2.FRESHNESS_FRESH:
            return wire.GetStatisticsResponse(statistics=known)
        market.touch(FeedKey(Feed.STATISTICS, symbol))
        try:
            fetched = await self._parts.venue.fetch_statistics(symbol)
        except MeshError:
            if known is None:
                raise
            return wire.GetStatisticsResponse(statistics=known)
        answer = wire.GetStatisticsResponse(statistics=fetched)
        answer.statistics.freshness = stream_pb2.FRESHNESS_FRESH
        return answer

    async def StreamOrderBook(
        self, request: wire.StreamOrderBookRequest, context: Context
    ) -> AsyncGenerator[wire.StreamOrderBookResponse, None]:
        """A snapshot per symbol, then changes."""
        books = self._parts.books
        stream = BookStream(venue=self._parts.venue.name, epoch=books.epoch, depth=self._depth(request.depth))

        def on_join(instrument: instrument_pb2.Instrument) -> None:
            scales: Scales | None = scales_of(instrument) if request.scaled else None
            stream.add(instrument.symbol, scales)

        served = self._serve(Feed.BOOK, "StreamOrderBook", request, context, PRICES, stream.respond, on_join)
        async with aclosing(served) as messages:
            async for message in messages:
                yield message

    async def StreamTopOfBook(
        self, request: wire.StreamTopOfBookRequest, context: Context
    ) -> AsyncGenerator[wire.StreamTopOfBookResponse, None]:
        """Best bid and offer of each symbol, then each change."""
        name = self._parts.venue.name

        def fields(state: TopState) -> dict[str, Any]:
            return {"top_of_book": to_top(state, venue=name)}

        respond: Respond[wire.StreamTopOfBookResponse] = responder(wire.StreamTopOfBookResponse, fields)
        async with aclosing(self._serve(Feed.TOP, "StreamTopOfBook", request, context, PRICES, respond)) as messages:
            async for message in messages:
                yield message

    async def StreamTrades(
        self, request: wire.StreamTradesRequest, context: Context
    ) -> AsyncGenerator[wire.StreamTradesResponse, None]:
        """Every public trade."""
        respond: Respond[wire.StreamTradesResponse] = responder(
            wire.StreamTradesResponse, lambda trade: {"trade": trade}
        )
        async with aclosing(self._serve(Feed.TRADES, "StreamTrades", request, context, EVENTS, respond)) as messages:
            async for message in messages:
                yield message

    async def StreamCandles(
        self, request: wire.StreamCandlesRequest, context: Context
    ) -> AsyncGenerator[wire.StreamCandlesResponse, None]:
        """The running candle on each change, and once when it is complete."""
        check_enum(request.interval, market_data_pb2.CandleInterval, "interval")
        respond: Respond[wire.StreamCandlesResponse] = responder(
            wire.StreamCandlesResponse, lambda candle: {"candle": candle}
        )
        served = self._serve(
            Feed.CANDLES, "StreamCandles", request, context, PRICES, respond, interval=request.interval
        )
        async with aclosing(served) as messages:
            async for message in messages:
                yield message

    async def StreamStatistics(
        self, request: wire.StreamStatisticsRequest, context: Context
    ) -> AsyncGenerator[wire.StreamStatisticsResponse, None]:
        """Statistics of each symbol, then each change."""
        respond: Respond[wire.StreamStatisticsResponse] = responder(
            wire.StreamStatisticsResponse, lambda statistics: {"statistics": statistics}
        )
        served = self._serve(Feed.STATISTICS, "StreamStatistics", request, context, PRICES, respond)
        async with aclosing(served) as messages:
            async for message in messages:
                yield message

    async def UpdateSubscription(
        self, request: wire.UpdateSubscriptionRequest, context: Context
    ) -> wire.UpdateSubscriptionResponse:
        """Symbols join or leave a running stream; whoever knows its id may ask."""
        stream_id = required(request.stream_id, "stream_id")
        joining = check_symbols(request.add_symbols, "add_symbols")
        leaving = check_symbols(request.remove_symbols, "remove_symbols")
        if not joining and not leaving:
            raise missing("add_symbols", "or remove_symbols: at least one symbol is required")
        if both := set(joining) & set(leaving):
            message = f"remove_symbols: {min(both)} is in add_symbols too"
            raise InvalidRequest(message, reason=Reason.CONTRADICTORY_FIELDS, field="remove_symbols")
        reader, subscription = self._readers.get(stream_id), self._hub.find(stream_id)
        if reader is None or subscription is None:
            raise NotFound("stream_id: no such stream runs here", reason=Reason.STREAM_NOT_FOUND, field="stream_id")
        topic, market = self._parts.market.topics[reader.feed], self._parts.market
        for symbol in leaving:
            if (left := reader.remove(symbol)) is not None:
                topic.remove_keys(subscription, [left.topic_key])
        response = wire.UpdateSubscriptionResponse()
        for symbol in joining:
            result, joined = reader.add(symbol)
            response.results.append(result)
            if joined is not None:
                topic.add_keys(subscription, [joined.topic_key])
                for entry in market.snapshot([joined]):
                    subscription.offer(entry)
        return response

    async def _serve(
        self,
        feed: Feed,
        method: str,
        request: Any,
        context: Context,
        rules: StreamRules,
        respond: Respond[R],
        on_join: Callable[[instrument_pb2.Instrument], None] = lambda _instrument: None,
        interval: market_data_pb2.CandleInterval.ValueType = market_data_pb2.CANDLE_INTERVAL_UNSPECIFIED,
    ) -> AsyncGenerator[R, None]:
        """The messages of one stream of a feed; its symbols are held while it runs."""
        self._parts.desk.check_venue(request.venue)
        symbols = check_symbols(request.symbols, needed=True)
        terms = parse_stream_options(request.options, rules)
        market = self._parts.market
        reader = Reader(self._parts, feed, interval, on_join)
        stream_id = ""
        try:
            plan: StreamPlan[Any] = snapshot_plan(
                terms,
                method=SERVICE + method,
                peer=context.peer(),
                results=[reader.add(symbol)[0] for symbol in symbols],
                snapshot=lambda: market.snapshot(reader.keys),
                keys=[key.topic_key for key in reader.keys],
                link_state=market.link_state,
            )
            async with aclosing(self._hub.serve(market.topics[feed], plan, respond)) as messages:
                async for message in messages:
                    if not stream_id:
                        stream_id = message.acknowledgement.stream_id  # type: ignore[attr-defined]
                        self._readers[stream_id] = reader
                    yield message
        finally:
            self._readers.pop(stream_id, None)
            reader.close()

    def _symbol(self, request: Any) -> str:
        """The symbol of a request about one instrument of this venue."""
        self._parts.desk.check_venue(request.venue)
        symbol = required(request.symbol, "symbol")
        self._parts.instruments.get(symbol, self._parts.venue.name)
        return symbol

    def _depth(self, asked: int) -> int:
        """Levels per side: 0 is 20, and never more than the venue gives."""
        most = self._parts.venue.capabilities.book.max_depth or MAX_DEPTH
        return min(asked or DEFAULT_DEPTH, most)
