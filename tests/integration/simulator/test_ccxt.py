"""ccxt (async and pro) against the simulator, unchanged.

Spot pairs other than PURR/USDC are out of ccxt's reach here as it finds tokens by position in a list whose
indices have gaps.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import ccxt
import ccxt.pro
import pytest

from simulator.server import Simulator
from simulator.testing import lively, running_simulator

KEY = "0x0123456789012345678901234567890123456789012345678901234567890123"
ADDRESS = "0x14791697260E4c9A71f18484C9f997B308e59325"
ETH, TSLA, PURR = "ETH/USDC:USDC", "XYZ-TSLA/USDC:USDC", "PURR/USDC"
FUNDS = {ADDRESS: "100000"}
WAIT_S = 30


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """A lively venue with a funded account."""
    settings = lively(accounts=FUNDS, dex_accounts=FUNDS, spot_accounts={ADDRESS: {"USDC": "1000"}})
    async with running_simulator(settings) as running:
        yield running


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[Any]:
    """A client with keys, its markets loaded."""
    exchange = ccxt.pro.hyperliquid({"walletAddress": ADDRESS, "privateKey": KEY, "enableRateLimit": False})
    urls = {"public": simulator.url, "private": simulator.url, "ws": {"public": simulator.ws_url}}
    exchange.urls["api"] = urls
    try:
        async with asyncio.timeout(WAIT_S):
            await exchange.load_markets()
            yield exchange
    finally:
        await exchange.close()


async def test_markets_when_loaded_with_keys_have_perps_spot_and_the_builder_dex(client: Any) -> None:
    """Loading also approves ccxt's builder and sets its referrer, all signed for mainnet."""
    assert client.market(ETH)["id"] == "1"
    assert client.market(TSLA)["id"] == "110001"
    assert client.market(PURR)["spot"]
    assert client.options["approvedBuilderFee"]


@pytest.mark.parametrize("symbol", [ETH, TSLA])
async def test_orders_when_created_edited_and_cancelled_are_found(client: Any, symbol: str) -> None:
    """create, fetch, edit (a new id), open orders, cancel."""
    price = float(client.price_to_precision(symbol, (await client.fetch_ticker(symbol))["last"] * 0.9))
    made = await client.create_order(symbol, "limit", "buy", 1, price)
    assert (await client.fetch_order(made["id"], symbol))["status"] == "open"
    lower = float(client.price_to_precision(symbol, price * 0.99))
    edited = await client.edit_order(made["id"], symbol, "limit", "buy", 1, lower)
    assert edited["id"] != made["id"]
    assert [row["id"] for row in await client.fetch_open_orders(symbol)] == [edited["id"]]
    await client.cancel_order(edited["id"], symbol)
    assert await client.fetch_open_orders(symbol) == []
    assert (await client.fetch_order(edited["id"], symbol))["status"] == "canceled"
    with pytest.raises(ccxt.OrderNotFound):
        await client.cancel_order(edited["id"], symbol)


async def test_market_order_when_filled_shows_in_trades_position_and_balance(client: Any) -> None:
    """The builder fee ccxt asked for is charged, the position is there."""
    last = (await client.fetch_ticker(ETH))["last"]
    filled = await client.create_order(ETH, "market", "buy", 0.1, last)
    assert filled["filled"] == 0.1
    (trade,) = await client.fetch_my_trades(ETH)
    assert trade["takerOrMaker"] == "taker"
    (position,) = await client.fetch_positions([ETH])
    assert (position["contracts"], position["side"]) == (0.1, "long")
    balance = (await client.fetch_balance())["USDC"]
    assert 0 < balance["free"] < balance["total"] < 100_000.5


async def test_order_when_refused_raises_the_mapped_error(client: Any) -> None:
    """Texts of the venue become ccxt's error classes."""
    with pytest.raises(ccxt.InsufficientFunds):
        await client.create_order(ETH, "limit", "buy", 1200, 3000)
    with pytest.raises(ccxt.InvalidOrder):
        await client.create_order(ETH, "limit", "buy", 0.001, 3000)


async def test_market_data_when_fetched_is_complete(client: Any) -> None:
    """Candles, book, tickers, funding."""
    assert len(await client.fetch_ohlcv(ETH, "1m")) > 100
    book = await client.fetch_order_book(ETH)
    assert len(book["bids"]) == len(book["asks"]) == 20
    assert len(await client.fetch_tickers()) > 20
    assert (await client.fetch_funding_rates([ETH]))[ETH]["markPrice"] > 0


async def test_streams_when_watched_deliver_market_and_account_data(simulator: Simulator, client: Any) -> None:
    """Order book, trades, ticker, candles; then own orders and trades of a market order."""
    book = await client.watch_order_book(ETH)
    assert book["bids"][0][0] < book["asks"][0][0]
    assert await client.watch_trades(ETH)
    assert (await client.watch_ticker(ETH))["last"] > 0
    assert await client.watch_ohlcv(ETH, "1m")
    async with asyncio.TaskGroup() as tasks:
        orders = tasks.create_task(client.watch_orders(ETH), name="orders")
        trades = tasks.create_task(client.watch_my_trades(ETH), name="trades")
        await _subscribed(simulator, {"orderUpdates", "userFills"})
        await client.create_order(ETH, "market", "buy", 0.1, book["asks"][0][0])
    assert orders.result()[-1]["status"] == "closed"
    assert trades.result()[-1]["amount"] == 0.1


async def test_order_when_sent_over_the_socket_is_answered_there(client: Any) -> None:
    """The post channel."""
    made = await client.create_order_ws(ETH, "limit", "buy", 0.1, 3000)
    cancelled = await client.cancel_order_ws(made["id"], ETH)
    assert cancelled["info"] == "success"


async def _subscribed(simulator: Simulator, kinds: set[str]) -> None:
    """Wait until the venue has these subscriptions."""
    while not kinds <= simulator.app.sockets.subscribed():
        await asyncio.sleep(0.01)
