"""Prices of all gateways behind one address; a book without a venue is the consolidated one."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing
from typing import Any

from router.calls import Context, read
from router.consolidated_feed import Consolidated, ConsolidatedFeed
from router.facade import Facade, at_venue, fill_in, stream_at_venue
from router.fanout import ask_all
from router.venues import VenueLink
from venuemesh.errors import InvalidRequest, MeshError, Reason
from venuemesh.gateway.services.requests import check_symbols
from venuemesh.gateway.services.streams import accepted, refused, snapshot_plan
from venuemesh.stream_options import PRICES, parse_stream_options
from venuemesh.streaming import Respond, StreamHub, responder
from venuemesh.v1 import market_data_service_pb2 as pb

METHOD = "/venuemesh.v1.MarketDataService/"
MAX_DEPTH = 1_000


@fill_in(pb.DESCRIPTOR.services_by_name["MarketDataService"])
class MarketDataServicer:
    """Books, trades, candles and statistics."""

    def __init__(self, facade: Facade, consolidated: ConsolidatedFeed, hub: StreamHub) -> None:
        self.facade = facade
        self._consolidated = consolidated
        self._hub = hub

    async def GetOrderBook(self, request: pb.GetOrderBookRequest, context: Context) -> Any:  # noqa: N802
        if request.venue:
            link = self.facade.link(request.venue)
            return await read(link, link.market_data.GetOrderBook, request, context)
        found = await self._consolidated.read(request.symbol)
        return pb.GetOrderBookResponse(order_book=found.book(_depth(request.depth)))

    ListTrades = at_venue("market_data", "ListTrades")
    ListCandles = at_venue("market_data", "ListCandles")
    GetStatistics = at_venue("market_data", "GetStatistics")

    async def StreamOrderBook(  # noqa: N802
        self, request: pb.StreamOrderBookRequest, context: Context
    ) -> AsyncIterator[Any]:
        """Of a venue as its gateway tells it; without one each message is a whole consolidated book."""
        if request.venue:
            messages = self._of_venue(request, "StreamOrderBook", pb.StreamOrderBookResponse)
        else:
            depth = _depth(request.depth)

            def fields(found: Consolidated) -> dict[str, Any]:
                return {"snapshot": found.book(depth)}

            messages = self._of_all(request, "StreamOrderBook", context, responder(pb.StreamOrderBookResponse, fields))
        async with aclosing(messages):
            async for message in messages:
                yield message

    async def StreamTopOfBook(  # noqa: N802
        self, request: pb.StreamTopOfBookRequest, context: Context
    ) -> AsyncIterator[Any]:
        """Of a venue as its gateway tells it; without one the best over all venues."""
        if request.venue:
            messages = self._of_venue(request, "StreamTopOfBook", pb.StreamTopOfBookResponse)
        else:

            def fields(found: Consolidated) -> dict[str, Any]:
                return {"top_of_book": found.top()}

            messages = self._of_all(request, "StreamTopOfBook", context, responder(pb.StreamTopOfBookResponse, fields))
        async with aclosing(messages):
            async for message in messages:
                yield message

    async def _of_venue(self, request: Any, method: str, response: type[Any]) -> AsyncGenerator[Any, None]:
        link = self.facade.link(request.venue)
        call = getattr(link.market_data, method)
        async for message in self.facade.proxy.follow(link, call, request, response, resumable=False):
            yield message

    async def _of_all(
        self, request: Any, method: str, context: Context, respond: Respond[Any]
    ) -> AsyncGenerator[Any, None]:
        """A whole message per change: a price may stand at several venues, so no change by price can be told."""
        symbols = check_symbols(request.symbols, needed=True)
        terms = parse_stream_options(request.options, PRICES)
        async with AsyncExitStack() as held:
            known: list[Consolidated] = []
            results = []
            for symbol in symbols:
                try:
                    found = await self._consolidated.read(symbol)
                    self._consolidated.hold(symbol)
                except MeshError as error:
                    # One bad symbol is told in its own result and does not end the others.
                    results.append(refused(symbol, error.reason, error.message))
                    continue
                held.callback(self._consolidated.release, symbol)
                known.append(found)
                results.append(accepted(symbol))
            plan = snapshot_plan(
                terms,
                method=f"{METHOD}{method}",
                peer=context.peer(),
                keys=[one.symbol for one in known],
                results=results,
                snapshot=lambda: self._consolidated.snapshot(known),
            )
            async with aclosing(self._hub.serve(self._consolidated.topic, plan, respond)) as messages:
                async for message in messages:
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


def _depth(asked: int) -> int:
    if asked > MAX_DEPTH:
        raise InvalidRequest(f"depth: {asked}, at most {MAX_DEPTH}", field="depth")
    return asked
