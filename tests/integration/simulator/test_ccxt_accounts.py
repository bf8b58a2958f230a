"""ccxt (async) against the simulator, unchanged: TWAP orders, account modes, the builder dex."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import ccxt
import ccxt.pro
import pytest

from simulator.clock import SteppedClock
from simulator.engine.values import Side
from simulator.server import Simulator
from simulator.testing import quiet, running_simulator
from venuemesh.clock import SystemClock

KEY = "0x0123456789012345678901234567890123456789012345678901234567890123"
ADDRESS = "0x14791697260E4c9A71f18484C9f997B308e59325"
ETH, TSLA = "ETH/USDC:USDC", "XYZ-TSLA/USDC:USDC"
FUNDS = {ADDRESS: "100000"}
WAIT_S = 30


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """A quiet venue on a stepped clock."""
    settings = quiet(accounts=FUNDS, dex_accounts=FUNDS, clock="manual")
    async with running_simulator(settings, clock=SteppedClock(SystemClock().now_ns())) as running:
        running.house_order("ETH", Side.BUY, "3890", "50")
        running.house_order("ETH", Side.SELL, "3900", "50")
        running.house_order("xyz:TSLA", Side.BUY, "429", "50")
        running.house_order("xyz:TSLA", Side.SELL, "430", "50")
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


async def test_twap_when_created_runs_on_the_venues_time_and_shows_in_trades(simulator: Simulator, client: Any) -> None:
    """Eleven slices in five minutes."""
    made = await client.create_twap_order(ETH, "buy", 1.1, 5 * 60_000)
    assert len(await client.fetch_my_trades(ETH)) == 1
    simulator.advance(300_000)
    trades = await client.fetch_my_trades(ETH)
    assert [trade["amount"] for trade in trades] == [0.1] * 11
    assert {trade["info"]["twapId"] for trade in trades} == {int(made["id"])}
    with pytest.raises(ccxt.ExchangeError):
        await client.cancel_order(made["id"], ETH, {"twap": True})


async def test_twap_when_cancelled_stops(simulator: Simulator, client: Any) -> None:
    """Cancelled once, it slices no more."""
    made = await client.create_twap_order(TSLA, "buy", 11, 5 * 60_000)
    await client.cancel_order(made["id"], TSLA, {"twap": True})
    simulator.advance(300_000)
    assert len(await client.fetch_my_trades(TSLA)) == 1


async def test_unified_account_when_set_is_where_the_balance_is_read(client: Any) -> None:
    """ccxt reads spot once the account is unified, and trades on the dex with it."""
    assert (await client.fetch_balance())["USDC"]["total"] == 100_000
    await client.set_user_abstraction("unifiedAccount")
    await client.create_order(TSLA, "market", "buy", 2, 430)
    (position,) = await client.fetch_positions([TSLA])
    assert (position["symbol"], position["contracts"]) == (TSLA, 2)
    balance = await client.fetch_balance({"enableUnifiedMargin": True})
    assert balance["USDC"]["used"] == 43
    assert 199_990 < balance["USDC"]["total"] < 200_000
