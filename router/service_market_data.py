"""Prices of all gateways behind one address; a book without a venue is the consolidated one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from router.books import BookFeeds
from router.calls import Context, read
from router.consolidated import consolidate, outliers
from router.facade import Facade, at_venue, fill_in, stream_at_venue
from router.fanout import ask_all
from router.venues import VenueLink
from router.views import BookView
from venuemesh.errors import GatewayUnavailable, InstrumentNotFound, NotYetImplemented, Reason
from venuemesh.v1 import market_data_service_pb2 as pb


@fill_in(pb.DESCRIPTOR.services_by_name["MarketDataService"])
class MarketDataServicer:
    """Books, trades, candles and statistics."""

    def __init__(self, facade: Facade, feeds: BookFeeds, max_book_age_s: float, max_distance_bps: int) -> None:
        self.facade = facade
        self._feeds = feeds
        self._max_book_age_s = max_book_age_s
        self._max_distance_bps = max_distance_bps

    async def GetOrderBook(self, request: pb.GetOrderBookRequest, context: Context) -> Any:  # noqa: N802
        if request.venue:
            link = self.facade.link(request.venue)
            return await read(link, link.market_data.GetOrderBook, request, context)
        return pb.GetOrderBookResponse(order_book=await self._consolidated(request))

    async def _consolidated(self, request: pb.GetOrderBookRequest) -> Any:
        books: dict[str, BookView] = {}
        left_out: list[str] = []
        listing: list[VenueLink] = []
        for link in self.facade.venues.all():
            view = link.view(request.symbol)
            if view.unreachable:
                left_out.append(f"{link.name}: {view.unreachable}")
            elif view.instrument is not None:
                listing.append(link)
        if not listing:
            if left_out:
                raise GatewayUnavailable(f"no venue with {request.symbol!r} can be reached: {'; '.join(left_out)}")
            raise InstrumentNotFound(f"symbol: no venue lists {request.symbol[:48]!r}", field="symbol")
        for venue, (book, fault) in (await self._feeds.seen_all(listing, request.symbol)).items():
            if book is None:
                left_out.append(f"{venue}: {fault}")
            elif book.stale_cause:
                left_out.append(f"{venue}: stale: {book.stale_cause}")
            elif book.age_s > self._max_book_age_s:
                left_out.append(f"{venue}: {book.age_s:.3f} s old")
            else:
                books[venue] = book
        for venue, why in outliers(books, max_distance_bps=self._max_distance_bps).items():
            left_out.append(f"{venue}: {why}")
            del books[venue]
        now_ns = self.facade.clock.now_ns()
        return consolidate(request.symbol, books, sorted(left_out), depth=request.depth, now_ns=now_ns)

    ListTrades = at_venue("market_data", "ListTrades")
    ListCandles = at_venue("market_data", "ListCandles")
    GetStatistics = at_venue("market_data", "GetStatistics")

    async def StreamOrderBook(  # noqa: N802
        self, request: pb.StreamOrderBookRequest, context: Context
    ) -> AsyncIterator[Any]:
        async for message in self._stream(request, "StreamOrderBook", pb.StreamOrderBookResponse):
            yield message

    async def StreamTopOfBook(  # noqa: N802
        self, request: pb.StreamTopOfBookRequest, context: Context
    ) -> AsyncIterator[Any]:
        async for message in self._stream(request, "StreamTopOfBook", pb.StreamTopOfBookResponse):
            yield message

    async def _stream(self, request: Any, method: str, response: type[Any]) -> AsyncIterator[Any]:
        if not request.venue:
            raise NotYetImplemented(f"{method} without a venue: the consolidated stream is not served yet")
        link = self.facade.link(request.venue)
        call = getattr(link.market_data, method)
        async for message in self.facade.proxy.follow(link, call, request, response, resumable=False):
            yield message

    StreamTrades = stream_at_venue("market_data", "StreamTrades", pb.StreamTradesResponse)
    StreamCandles = stream_at_venue("market_data", "StreamCandles", pb.StreamCandlesResponse)
    StreamStatistics = stream_at_venue("market_data", "StreamStatistics", pb.StreamStatisticsResponse)

    async def UpdateSubscription(self, request: pb.UpdateSubscriptionRequest, context: Context) -> Any:  # noqa: N802
        """The stream belongs to one gateway; the others do not know it."""

        async def ask(link: VenueLink) -> Any:
            return await read(link, link.market_data.UpdateSubscription, request)

        answers = await ask_all(self.facade.venues.all(), ask)
        if answers.given:
            return next(iter(answers.given.values()))
        unknown = [error for error in answers.failed.values() if error.reason is Reason.STREAM_NOT_FOUND]
        if unknown and len(unknown) == len(answers.failed):
            raise unknown[0]
        raise next(error for error in answers.failed.values() if error.reason is not Reason.STREAM_NOT_FOUND)
