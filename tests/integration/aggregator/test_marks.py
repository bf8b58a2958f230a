"""Live marks from a market data service: valued, stale when it goes, followed only where something is open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc.aio

from tests.broker import Broker
from tests.integration.aggregator.world import Publisher, aggregating, at, read_until
from tests.unit.aggregator.gateway_events import BTC, ETH, Gateway, PortfolioClient, comparable
from venuemesh.v1 import (
    market_data_pb2,
    market_data_service_pb2,
    market_data_service_pb2_grpc,
    stream_pb2,
)

Response = market_data_service_pb2.StreamStatisticsResponse
PART = f"mark hyperliquid {BTC}"


class Market(market_data_service_pb2_grpc.MarketDataServiceServicer):
    """Serves what the test puts; remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.out: asyncio.Queue[Response] = asyncio.Queue()
        self.open = 0

    async def StreamStatistics(self, request: Any, context: Any) -> AsyncIterator[Response]:  # type: ignore[override]
        self.asked.append((request.venue, tuple(request.symbols)))
        self.open += 1
        try:
            yield Response(acknowledgement=stream_pb2.StreamAcknowledgement(stream_id="s"))
            while True:
                yield await self.out.get()
        finally:
            self.open -= 1

    def put(self, price: str, symbol: str = BTC, freshness: int = stream_pb2.FRESHNESS_FRESH) -> None:
        statistics = market_data_pb2.MarketStatistics(
            venue="hyperliquid",
            symbol=symbol,
            mark_price=price,
            freshness=freshness,  # type: ignore[arg-type]
        )
        self.out.put_nowait(Response(statistics=statistics))

    def put_status(self, freshness: int, cause: str) -> None:
        status = stream_pb2.StreamStatus(subscription=BTC, freshness=freshness, cause=cause)  # type: ignore[arg-type]
        status.since.FromSeconds(5)
        self.out.put_nowait(Response(status=status))


@asynccontextmanager
async def served(market: Market, port: int = 0) -> AsyncIterator[int]:
    server = grpc.aio.server()
    market_data_service_pb2_grpc.add_MarketDataServiceServicer_to_server(market, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield bound
    finally:
        await server.stop(None)


def shows(client: PortfolioClient, price: str, *, stale: str | None) -> Callable[[Any], bool]:
    """Whether the client's BTC position is valued at `price`, and the mark is stale for that cause."""

    def check(_: Any) -> bool:
        marks = [p.mark_price for account in client.portfolio.accounts for p in account.positions if p.symbol == BTC]
        causes = {part.part: part.cause for part in client.portfolio.stale_parts}
        return marks == [price] and causes.get(PART) == stale

    return check


async def test_live_marks_value_open_positions_and_say_when_they_are_stale(broker: Broker) -> None:
    """No mark yet, fresh, stale by status, fresh again, stale by its own word: the portfolio follows each."""
    gateway, market, client = Gateway(), Market(), PortfolioClient()
    async with (
        Publisher.connect(broker) as publisher,
        served(market) as port,
        aggregating(broker, VENUES=f"hyperliquid=127.0.0.1:{port}") as world,
    ):
        call = world.stream()
        sequence = await publisher.publish(
            gateway.balance(1_000), gateway.position(BTC, 2, cost=100, mark=55), gateway.position(ETH, 0)
        )
        await read_until(call, at(sequence), into=client)
        assert shows(client, "55", stale="no live mark; valued at the mark of its last event")(None)
        for price in ("not a price", "0", "60"):
            market.put(price)
        await read_until(call, shows(client, "60", stale=None), into=client)
        assert market.asked == [("hyperliquid", (BTC,))]
        assert client.portfolio.totals[0].equity == "1020"
        market.put_status(stream_pb2.FRESHNESS_STALE, "no update for 10s")
        await read_until(call, shows(client, "60", stale="no update for 10s"), into=client)
        market.put_status(stream_pb2.FRESHNESS_FRESH, "")
        await read_until(call, shows(client, "60", stale=None), into=client)
        market.put("61", freshness=stream_pb2.FRESHNESS_STALE)
        await read_until(call, shows(client, "61", stale="stale at the venue"), into=client)
        market.put("62")
        await read_until(call, shows(client, "62", stale=None), into=client)
        assert client.view() == comparable(await world.read())
        call.cancel()


async def test_mark_source_goes_and_comes_back_without_a_restart(broker: Broker) -> None:
    """Its marks are stale while it is away, fresh when it is back, and unfollowed when nothing is open."""
    gateway, market, client = Gateway(), Market(), PortfolioClient()
    async with Publisher.connect(broker) as publisher, AsyncExitStack() as first:
        port = await first.enter_async_context(served(market))
        async with aggregating(broker, VENUES=f"hyperliquid=127.0.0.1:{port}") as world:
            call = world.stream()
            await publisher.publish(gateway.position(BTC, 2, cost=100, mark=55))
            market.put("60")
            await read_until(call, shows(client, "60", stale=None), into=client)
            await first.aclose()
            await read_until(call, shows(client, "60", stale="the mark stream was lost"), into=client)
            market.put("70")
            async with served(market, port):
                await read_until(call, shows(client, "70", stale=None), into=client)
                await read_until(call, at(await publisher.publish(gateway.position(BTC, 0))), into=client)
                async with asyncio.timeout(60):
                    while market.open:
                        await asyncio.sleep(0.01)
            call.cancel()
    assert not client.portfolio.stale_parts


async def test_router_serves_the_venues_without_a_gateway_of_their_own(broker: Broker) -> None:
    """One address for all venues, asked by venue; a new position widens what is followed."""
    market, client = Market(), PortfolioClient()
    here, there = Gateway(), Gateway("lighter", "desk")
    async with Publisher.connect(broker) as publisher, served(market) as port:
        await publisher.publish(here.position(BTC, 1), there.position(ETH, 1))
        async with aggregating(broker, ROUTER_ADDRESS=f"127.0.0.1:{port}") as world:
            async with asyncio.timeout(60):
                while len(market.asked) < 2:
                    await asyncio.sleep(0.01)
            assert sorted(market.asked) == [("hyperliquid", (BTC,)), ("lighter", (ETH,))]
            call = world.stream()
            await read_until(call, at(await publisher.publish(here.position(ETH, 1))), into=client)
            call.cancel()
            async with asyncio.timeout(60):
                while ("hyperliquid", (BTC, ETH)) not in market.asked:
                    await asyncio.sleep(0.01)
