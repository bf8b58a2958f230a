"""ccxt (async and pro) against the Lighter front, unchanged; it signs with the library of `lighter-sdk`."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import AsyncIterator
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ccxt
import ccxt.pro
import pytest

from simulator.engine.values import Side
from simulator.server import Simulator
from tests.unit.simulator.lighter.serving import (
    ACCOUNT,
    API_KEY,
    OWNER_KEY,
    SECRET,
    lighter,
    until,
)

ETH, BTC = "ETH/USDC:USDC", "BTC/USDC:USDC"


def library() -> Path | None:
    """The signer library inside the installed `lighter-sdk`, None where there is none for this machine."""
    spec = find_spec("lighter")
    if spec is None or spec.origin is None:
        return None
    machine = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}[platform.machine().lower()]
    system, ending = {"Linux": ("linux", "so"), "Darwin": ("darwin", "dylib")}.get(
        platform.system(), ("windows", "dll")
    )
    found = Path(spec.origin).parent / "signers" / f"lighter-signer-{system}-{machine}.{ending}"
    return found if found.exists() else None


pytestmark = pytest.mark.skipif(library() is None, reason="lighter-sdk, whose signer library ccxt loads, is missing")


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """A lively venue."""
    async with lighter() as running:
        yield running


def exchange(simulator: Simulator, **options: Any) -> Any:
    """A ccxt.pro client pointed at the simulator."""
    keys = {
        str(ACCOUNT): {str(API_KEY): {"lighterPrivateKey": SECRET, "signer": None, "deadline": None, "token": None}}
    }
    config = {
        "libraryPath": str(library()),
        "accountIndex": ACCOUNT,
        "apiKeyIndex": API_KEY,
        "chainId": 304,
        "auths": keys,
    }
    found = ccxt.pro.lighter({"options": config | options, "enableRateLimit": False})
    for name in ("root", "public", "private"):
        found.urls["api"][name] = simulator.lighter.url
    found.urls["api"]["ws"] = simulator.lighter.ws_url
    return found


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[Any]:
    """A client with its markets loaded."""
    found = exchange(simulator)
    try:
        await found.load_markets()
        yield found
    finally:
        await found.close()


async def test_markets_when_loaded_have_the_scaling_of_the_venue(client: Any) -> None:
    """Decimals and minimum amounts."""
    market = client.market(ETH)
    assert (market["id"], market["precision"]["amount"], market["precision"]["price"]) == ("0", 0.0001, 0.01)
    assert market["limits"]["amount"]["min"] == 0.005


async def test_market_data_when_fetched_is_complete(client: Any) -> None:
    """Candles, book, tickers, trades, funding."""
    assert len(await client.fetch_ohlcv(ETH, "1m", limit=100)) > 50
    book = await client.fetch_order_book(ETH)
    assert book["bids"][0][0] < book["asks"][0][0]
    tickers = await client.fetch_tickers()
    assert tickers[BTC]["last"] > 0
    assert (await client.fetch_funding_rates())[ETH]["fundingRate"] is not None
    await until_traded(client)


async def until_traded(client: Any) -> None:
    """Wait for a synthetic trade."""
    while not await client.fetch_trades(ETH):
        await asyncio.sleep(0.05)


async def test_orders_when_created_edited_and_cancelled_are_found(client: Any) -> None:
    """create, open orders, edit in place, cancel, closed orders; all with skipped nonces."""
    made = await client.create_order(ETH, "limit", "buy", 0.1, 3500)
    (first,) = await client.fetch_open_orders(ETH)
    assert (first["status"], first["price"], first["amount"]) == ("open", 3500, 0.1)
    assert first["clientOrderId"] == made["clientOrderId"]
    await client.edit_order(first["id"], ETH, "limit", "buy", 0.2, 3510)
    (second,) = await client.fetch_open_orders(ETH)
    assert (second["id"], second["price"], second["amount"]) == (first["id"], 3510, 0.2)
    await client.cancel_order(first["id"], ETH)
    assert await client.fetch_open_orders(ETH) == []
    assert [row["status"] for row in await client.fetch_closed_orders(ETH)] == ["canceled"]


async def test_market_order_when_filled_shows_in_position_and_balance(client: Any) -> None:
    """A worst price, a fill, a position."""
    last = (await client.fetch_ticker(ETH))["last"]
    await client.create_order(ETH, "market", "buy", 0.1, last * 1.02)
    (position,) = [item for item in await client.fetch_positions([ETH]) if item["contracts"]]
    assert (position["contracts"], position["side"]) == (0.1, "long")
    balance = (await client.fetch_balance({"type": "swap"}))["USDC"]
    assert 90_000 < balance["total"] <= 100_100
    (trade,) = [item for item in await client.fetch_my_trades(ETH) if item["amount"] == 0.1] or [None]
    assert trade is None or trade["takerOrMaker"] == "taker"


async def test_leverage_and_margin_when_set_show_in_the_position(client: Any) -> None:
    """Isolated at ten times, then more margin."""
    await client.set_leverage(10, BTC, {"marginMode": "isolated"})
    last = (await client.fetch_ticker(BTC))["last"]
    await client.create_order(BTC, "market", "sell", 0.01, last * 0.98)
    (before,) = [item for item in await client.fetch_positions([BTC]) if item["contracts"]]
    await client.add_margin(BTC, 25)
    (after,) = [item for item in await client.fetch_positions([BTC]) if item["contracts"]]
    assert (after["marginMode"], after["leverage"], after["side"]) == ("isolated", 10, "short")
    # What ccxt calls the initial margin is its own and moves with the mark; this is what the venue holds.
    margins = [Decimal(row["info"]["allocated_margin"]) for row in (before, after)]
    assert margins[1] - margins[0] == 25


async def test_order_when_refused_raises_the_mapped_error(client: Any) -> None:
    """Codes become ccxt's error classes; the nonce is not spent."""
    with pytest.raises(ccxt.InvalidOrder):
        await client.create_order(ETH, "limit", "buy", 0.001, 3500)


async def test_cancel_all_when_called_ends_every_order(client: Any, simulator: Simulator) -> None:
    """Two resting orders, one call."""
    await client.create_order(ETH, "limit", "buy", 0.1, 3500)
    await client.create_order(ETH, "limit", "buy", 0.1, 3501)
    await client.cancel_all_orders()
    assert [row["status"] for row in simulator.lighter.orders(ACCOUNT)] == ["canceled", "canceled"]


async def test_stop_when_created_waits_and_scheduled_cancel_is_set_and_taken_back(
    client: Any, simulator: Simulator
) -> None:
    """`stopLossPrice` and `cancelAllOrdersAfter` as ccxt writes them."""
    bid = (await client.fetch_ticker(ETH))["last"]
    await client.create_order(ETH, "market", "buy", 0.1, round(bid * 1.05))
    stop = {"stopLossPrice": round(bid * 0.9), "reduceOnly": True, "clientOrderId": 31}
    await client.create_order(ETH, "limit", "sell", 0.1, round(bid * 0.85), stop)
    row = simulator.lighter.find_order(ACCOUNT, 31)
    assert row is not None
    assert (row["type"], row["status"], row["trigger_status"]) == ("stop-loss-limit", "pending", "mark-price")
    account = simulator.lighter.venue.accounts.get(ACCOUNT)
    before_ms = simulator.now_ms()
    await client.cancel_all_orders_after(600_000)
    assert before_ms + 590_000 < account.cancel_all_ms < before_ms + 630_000
    await client.cancel_all_orders_after(0)
    assert account.cancel_all_ms == 0


async def test_streams_when_watched_deliver_market_data(client: Any) -> None:
    """Order book, ticker, trades."""
    book = await client.watch_order_book(ETH)
    assert book["bids"][0][0] < book["asks"][0][0]
    assert (await client.watch_ticker(ETH))["last"] > 0
    while not await client.watch_trades(ETH):
        pass  # the first answer is the snapshot, empty until somebody trades


async def test_streams_when_an_order_fills_deliver_order_trade_and_balance(client: Any, simulator: Simulator) -> None:
    """A resting bid is hit; ccxt's account streams tell it."""
    # ccxt sends no token for own trades, which the venue wants unless the account is a pool: give it one.
    await client.preLoadLighterLibrary()
    auth = client.create_auth({"accountIndex": ACCOUNT, "apiKeyIndex": API_KEY})
    async with asyncio.TaskGroup() as tasks:
        orders = tasks.create_task(client.watch_orders(ETH), name="orders")
        trades = tasks.create_task(client.watch_my_trades(ETH, params={"auth": auth}), name="trades")
        balance = tasks.create_task(client.watch_balance({"type": "swap"}), name="balance")
        await until(lambda: len(simulator.lighter.app.sockets.subscribed()) >= 3)
        last = (await client.fetch_ticker(ETH))["last"]
        await client.create_order_ws(ETH, "market", "buy", 0.05, last * 1.02)
        assert simulator.lighter.trades(ACCOUNT)
    assert orders.result()
    assert sum(item["amount"] for item in trades.result()) > 0
    assert balance.result()["USDC"]["total"] > 0


async def test_order_when_sent_over_the_socket_is_answered_there(client: Any, simulator: Simulator) -> None:
    """`create_order_ws` and `cancel_order_ws` wait for the reply with their id."""
    made = await client.create_order_ws(ETH, "limit", "buy", 0.1, 3500)
    (row,) = simulator.lighter.orders(ACCOUNT)
    assert row["client_order_id"] == made["clientOrderId"]
    await client.cancel_order_ws(row["order_id"], ETH)
    assert [item["status"] for item in simulator.lighter.orders(ACCOUNT)] == ["canceled"]


async def test_user_with_only_an_l1_key_when_ordering_is_let_in(simulator: Simulator) -> None:
    """ccxt finds the account by its address and registers an API key of its own."""
    found = exchange(simulator, auths={}, accountIndex=None, apiKeyIndex=None)
    found.privateKey = OWNER_KEY
    try:
        await found.load_markets()
        await found.create_order(ETH, "limit", "buy", 0.1, 3500)
        (row,) = simulator.lighter.orders(ACCOUNT)
        assert row["status"] == "open"
        simulator.lighter.house_order("ETH", Side.SELL, "3500", "0.1")
    finally:
        await found.close()
