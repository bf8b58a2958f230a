"""Consolidated prices as streams: best over venues, each level with its venue, told when any venue's book changes."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from tests.broker import Broker
from tests.integration.router.support import SYMBOL, Gateway, gateways, running
from venuemesh.v1 import market_data_service_pb2 as pb
from venuemesh.v1 import market_data_service_pb2_grpc, stream_pb2

WAIT_S = 60.0


class Reading:
    """A stream of one symbol, read until what is wanted was told."""

    def __init__(self, call: Any, field: str) -> None:
        self._call = call
        self._field = field
        self.results: list[stream_pb2.SubscriptionResult] = []

    async def until(self, wanted: Any) -> Any:
        async with asyncio.timeout(WAIT_S):
            while True:
                message = await self._call.read()
                assert message is not grpc.aio.EOF
                if message.WhichOneof("body") == "acknowledgement":
                    self.results = list(message.acknowledgement.results)
                found = getattr(message, self._field)
                if message.WhichOneof("body") == self._field and wanted(found):
                    return found


def tops(channel: grpc.aio.Channel, *symbols: str) -> Reading:
    stub: Any = market_data_service_pb2_grpc.MarketDataServiceStub(channel)
    return Reading(stub.StreamTopOfBook(pb.StreamTopOfBookRequest(symbols=symbols)), "top_of_book")


def books(channel: grpc.aio.Channel, *symbols: str, depth: int = 0) -> Reading:
    stub: Any = market_data_service_pb2_grpc.MarketDataServiceStub(channel)
    return Reading(stub.StreamOrderBook(pb.StreamOrderBookRequest(symbols=symbols, depth=depth)), "snapshot")


async def test_top_follows_the_best_venue_and_names_it(broker: Broker) -> None:
    """The bid is of one venue and the ask of another; a change at either is told."""
    one, two = Gateway("one"), Gateway("two")
    one.bid, one.ask, two.bid, two.ask = "99", "102", "98", "101"
    async with gateways(one, two), running(broker.url, one, two) as (_, channel):
        reading = tops(channel, SYMBOL)
        top = await reading.until(lambda top: top.bid.venue == "one" and top.ask.venue == "two")
        assert (top.bid.price, top.ask.price, top.freshness) == ("99", "101", stream_pb2.FRESHNESS_FRESH)
        two.bid = "99.5"
        two.pull_book.set()
        top = await reading.until(lambda top: top.bid.venue == "two")
        assert (top.bid.price, top.ask.price) == ("99.5", "101")


async def test_book_has_the_levels_of_all_venues_and_leaves_an_outlier_out(broker: Broker) -> None:
    """Three venues: one that drifts away is left out with its reason, and comes back when it agrees again."""
    one, two, three = Gateway("one"), Gateway("two"), Gateway("three")
    for gateway in (one, two, three):
        gateway.bid, gateway.ask = "99", "101"
    async with gateways(one, two, three), running(broker.url, one, two, three) as (_, channel):
        reading = books(channel, SYMBOL, depth=2)
        whole = await reading.until(lambda book: not book.left_out)
        assert [level.venue for level in whole.bids] == ["one", "three"]
        three.bid, three.ask = "199", "201"
        three.pull_book.set()
        without = await reading.until(lambda book: len(book.left_out) == 1)
        assert without.left_out[0].startswith("three: outlier")
        assert {level.venue for level in (*without.bids, *without.asks)} == {"one", "two"}
        three.bid, three.ask = "99", "101"
        three.pull_book.set()
        await reading.until(lambda book: not book.left_out)


async def test_stale_venue_is_left_out_and_no_fresh_one_makes_the_book_stale(broker: Broker) -> None:
    """A stale book says so, also when all of it is."""
    one = Gateway("one")
    async with gateways(one), running(broker.url, one) as (_, channel):
        reading = books(channel, SYMBOL)
        await reading.until(lambda book: book.freshness == stream_pb2.FRESHNESS_FRESH)
        one.book_freshness = stream_pb2.FRESHNESS_STALE
        one.pull_book.set()
        stale = await reading.until(lambda book: book.freshness == stream_pb2.FRESHNESS_STALE)
        assert list(stale.left_out) == ["one: stale: scripted"]
        assert not stale.bids
        one.book_freshness = stream_pb2.FRESHNESS_FRESH
        one.pull_book.set()
        await reading.until(lambda book: book.freshness == stream_pb2.FRESHNESS_FRESH)


async def test_unknown_symbol_is_refused_by_itself(broker: Broker) -> None:
    """The other symbol of the stream goes on."""
    one = Gateway("one")
    async with gateways(one), running(broker.url, one) as (_, channel):
        reading = tops(channel, "NOPE/USDC:USDC", SYMBOL)
        await reading.until(lambda top: top.symbol == SYMBOL)
        assert [(result.subscription, result.accepted) for result in reading.results] == [
            ("NOPE/USDC:USDC", False),
            (SYMBOL, True),
        ]


@pytest.mark.parametrize("depth", [1_001])
async def test_depth_beyond_the_bound_is_refused_naming_the_field(broker: Broker, depth: int) -> None:
    """As a gateway refuses it."""
    one = Gateway("one")
    async with gateways(one), running(broker.url, one) as (_, channel):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await books(channel, SYMBOL, depth=depth).until(lambda _: True)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "depth" in str(caught.value.details())
