"""The official Python client against the simulator, unchanged.

The client is blocking, so it runs in a thread while the simulator serves on the test's own loop.
"""

from __future__ import annotations

import asyncio
import gc
import queue
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from eth_account import Account
from hyperliquid.exchange import Exchange
from hyperliquid.info import Info
from hyperliquid.utils.types import Cloid

from simulator.engine.values import Side
from simulator.server import Simulator
from simulator.testing import lively, quiet, running_simulator

KEY = "0x0123456789012345678901234567890123456789012345678901234567890123"
WALLET = Account.from_key(KEY)
FUNDS = {WALLET.address: "100000"}
DEXES = ["", "xyz"]
WAIT_S = 60.0

GTC, IOC, ALO = ({"limit": {"tif": tif}} for tif in ("Gtc", "Ioc", "Alo"))


@dataclass
class Clients:
    """The client's two halves."""

    info: Info
    exchange: Exchange


@contextmanager
def clients(url: str) -> Iterator[Clients]:
    """Both halves; closes the client's HTTP sessions, which it never does itself."""
    info = Info(url, skip_ws=True, perp_dexs=DEXES)
    exchange = Exchange(WALLET, url, perp_dexs=DEXES)
    try:
        yield Clients(info, exchange)
    finally:
        info.session.close()
        exchange.session.close()
        exchange.info.session.close()


async def with_client(simulator: Simulator, work: Callable[[Clients], Any]) -> Any:
    """Run blocking client calls in a thread."""

    def call() -> Any:
        with clients(simulator.url) as both:
            return work(both)

    async with asyncio.timeout(WAIT_S):
        return await asyncio.to_thread(call)


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """A quiet venue with one account funded on both dexes."""
    settings = quiet(accounts=FUNDS, dex_accounts=FUNDS, spot_accounts={WALLET.address: {"USDC": "1000"}})
    async with running_simulator(settings) as running:
        running.house_order("ETH", Side.BUY, "3890", "50")
        running.house_order("ETH", Side.SELL, "3900", "50")
        running.house_order("xyz:TSLA", Side.BUY, "429", "50")
        running.house_order("xyz:TSLA", Side.SELL, "430", "50")
        yield running


def only(answer: Any) -> Any:
    """The one status of an order answer."""
    assert answer["status"] == "ok", answer
    (status,) = answer["response"]["data"]["statuses"]
    return status


async def test_orders_when_placed_with_every_time_in_force_are_answered(simulator: Simulator) -> None:
    """GTC rests, ALO rests or is refused, IOC fills, a trigger waits."""

    def work(c: Clients) -> None:
        assert "resting" in only(c.exchange.order("ETH", True, 0.2, 3800, GTC))
        assert "resting" in only(c.exchange.order("ETH", True, 0.2, 3801, ALO))
        assert "Post only" in only(c.exchange.order("ETH", True, 0.2, 3950, ALO))["error"]
        filled = only(c.exchange.order("ETH", True, 0.2, 3950, IOC))["filled"]
        assert (filled["totalSz"], filled["avgPx"]) == ("0.2", "3900.0")
        stop = {"trigger": {"isMarket": True, "triggerPx": 3500, "tpsl": "sl"}}
        assert "resting" in only(c.exchange.order("ETH", False, 0.2, 3500, stop, reduce_only=True))
        kinds = [row["orderType"] for row in c.info.frontend_open_orders(WALLET.address)]
        assert kinds == ["Stop Market", "Limit", "Limit"]

    await with_client(simulator, work)


async def test_bracket_when_placed_waits_with_its_children(simulator: Simulator) -> None:
    """normalTpsl: a filled parent's children wait for their trigger."""

    def work(c: Clients) -> None:
        legs = [
            {"coin": "ETH", "is_buy": True, "sz": 0.2, "limit_px": 3950, "order_type": IOC, "reduce_only": False},
            {
                "coin": "ETH",
                "is_buy": False,
                "sz": 0.2,
                "limit_px": 4200,
                "order_type": {"trigger": {"isMarket": True, "triggerPx": 4200, "tpsl": "tp"}},
                "reduce_only": True,
            },
        ]
        answer = c.exchange.bulk_orders(legs, grouping="normalTpsl")
        statuses = answer["response"]["data"]["statuses"]
        assert "filled" in statuses[0]
        assert statuses[1] == "waitingForTrigger"

    await with_client(simulator, work)


async def test_orders_when_cancelled_and_modified_by_id_and_cloid_follow(simulator: Simulator) -> None:
    """A modify issues a new id; the cloid finds the newest."""

    def work(c: Clients) -> None:
        first, second = Cloid.from_int(1), Cloid.from_int(2)
        oid = only(c.exchange.order("ETH", True, 0.2, 3800, GTC, cloid=first))["resting"]["oid"]
        moved = only(c.exchange.modify_order(oid, "ETH", True, 0.1, 3810, GTC, cloid=second))["resting"]
        assert moved["oid"] != oid
        again = only(c.exchange.modify_order(second, "ETH", True, 0.1, 3815, GTC, cloid=second))["resting"]
        status = c.info.query_order_by_cloid(WALLET.address, second)
        assert status["order"]["order"]["oid"] == again["oid"]
        assert c.info.query_order_by_oid(WALLET.address, oid)["order"]["status"] == "canceled"
        assert only(c.exchange.cancel_by_cloid("ETH", second)) == "success"
        assert "never placed" in only(c.exchange.cancel("ETH", again["oid"]))["error"]
        assert c.info.open_orders(WALLET.address) == []

    await with_client(simulator, work)


@pytest.mark.parametrize("coin", ["ETH", "xyz:TSLA"])
async def test_market_open_and_close_when_used_leave_the_account_flat(simulator: Simulator, coin: str) -> None:
    """The client's own market helpers, on the main dex and on the builder dex."""

    def work(c: Clients) -> None:
        dex = "xyz" if ":" in coin else ""
        assert "filled" in only(c.exchange.market_open(coin, True, 1))
        (row,) = c.info.user_state(WALLET.address, dex)["assetPositions"]
        assert row["position"]["szi"] == "1.0"
        if dex:  # the client looks for the position on the main dex only
            close = only(c.exchange.order(coin, False, 1, 400, IOC, reduce_only=True))
        else:
            close = only(c.exchange.market_close(coin))
        assert "filled" in close
        assert c.info.user_state(WALLET.address, dex)["assetPositions"] == []
        directions = [fill["dir"] for fill in c.info.user_fills(WALLET.address)]
        assert directions == ["Close Long", "Open Long"]

    await with_client(simulator, work)


async def test_account_actions_when_sent_are_accepted(simulator: Simulator) -> None:
    """Leverage, isolated margin, scheduled cancel, transfers, sub-account, referrer."""

    def work(c: Clients) -> None:
        ok = {"status": "ok", "response": {"type": "default"}}
        assert c.exchange.update_leverage(5, "ETH", is_cross=False) == ok
        assert "filled" in only(c.exchange.market_open("ETH", True, 1))
        assert c.exchange.update_isolated_margin(50, "ETH") == ok
        position = c.info.user_state(WALLET.address)["assetPositions"][0]["position"]
        assert position["leverage"]["type"] == "isolated"
        assert c.exchange.schedule_cancel(int(time.time() * 1000) + 60_000) == ok
        assert c.exchange.schedule_cancel(None) == ok
        assert c.exchange.usd_class_transfer(10, to_perp=False) == ok
        assert c.exchange.usd_transfer(5, "0x" + "9" * 40) == ok
        usdc = "USDC:0x6d1e7cde53ba9467b783cb7c530ce054"
        assert c.exchange.send_asset(WALLET.address, "", "xyz", usdc, 7) == ok
        assert c.exchange.create_sub_account("one")["response"]["type"] == "createSubAccount"
        assert c.exchange.approve_builder_fee("0x" + "8" * 40, "0.01%") == ok
        assert c.exchange.noop(int(time.time() * 1000)) == ok

    await with_client(simulator, work)


async def test_agent_when_approved_by_the_client_trades(simulator: Simulator) -> None:
    """A fresh agent key signs for the account."""

    def work(c: Clients) -> None:
        answer, key = c.exchange.approve_agent("bot")
        assert answer["status"] == "ok"
        agent = Exchange(Account.from_key(key), simulator.url, account_address=WALLET.address)
        try:
            assert "resting" in only(agent.order("ETH", True, 0.2, 3800, GTC))
        finally:
            agent.session.close()
            agent.info.session.close()
        assert len(c.info.open_orders(WALLET.address)) == 1
        assert c.info.extra_agents(WALLET.address)[0]["name"] == "bot"

    await with_client(simulator, work)


async def test_sub_account_when_named_as_vault_trades_for_itself(simulator: Simulator) -> None:
    """Signed by the master, booked on the sub-account."""

    def work(c: Clients) -> None:
        sub = c.exchange.create_sub_account("two")["response"]["data"]
        assert c.exchange.sub_account_transfer(sub, True, 1_000_000_000)["status"] == "ok"
        acting = Exchange(WALLET, simulator.url, vault_address=sub)
        try:
            assert "resting" in only(acting.order("ETH", True, 0.2, 3800, GTC))
        finally:
            acting.session.close()
            acting.info.session.close()
        assert len(c.info.open_orders(sub)) == 1
        assert c.info.open_orders(WALLET.address) == []

    await with_client(simulator, work)


async def test_order_when_its_expiry_has_passed_is_refused(simulator: Simulator) -> None:
    """`expires_after` in the past."""

    def work(c: Clients) -> None:
        c.exchange.set_expires_after(int(time.time() * 1000) - 1000)
        answer = c.exchange.order("ETH", True, 0.2, 3800, GTC)
        assert answer == {"status": "err", "response": "Action already expired"}

    await with_client(simulator, work)


async def test_reads_when_called_are_all_answered(simulator: Simulator) -> None:
    """Every read method of the client that the simulator knows."""

    def work(c: Clients) -> None:
        user, now = WALLET.address, int(time.time() * 1000)
        assert c.info.meta()["universe"][0]["name"] == "BTC"
        assert c.info.spot_meta()["tokens"][0]["name"] == "USDC"
        assert len(c.info.meta_and_asset_ctxs()) == 2
        assert len(c.info.spot_meta_and_asset_ctxs()) == 2
        assert c.info.perp_dexs()[1]["name"] == "xyz"
        assert c.info.all_mids()["ETH"] == "3895.0"
        assert c.info.all_mids("xyz")["xyz:TSLA"] == "429.5"
        assert c.info.l2_snapshot("ETH")["levels"][0][0]["px"] == "3890.0"
        assert c.info.candles_snapshot("ETH", "1m", 0, now) == []
        assert c.info.funding_history("ETH", 0) == []
        assert c.info.spot_user_state(user)["balances"][0]["total"] == "1000.0"
        assert c.info.user_funding_history(user, 0) == []
        assert c.info.user_fees(user)["userCrossRate"] == "0.00045"
        assert c.info.user_role(user) == {"role": "user"}
        assert c.info.user_rate_limit(user)["nRequestsCap"] == 10_000
        assert c.info.historical_orders(user) == []
        assert c.info.user_non_funding_ledger_updates(user, 0)[0]["delta"] == {"type": "deposit", "usdc": "100000.0"}
        assert c.info.portfolio(user)[0][0] == "day"
        assert c.info.user_fills_by_time(user, 0) == []
        assert c.info.query_sub_accounts(user) is None
        assert c.info.query_referral_state(user)["referredBy"] is None

    await with_client(simulator, work)


SUBSCRIPTIONS: list[dict[str, Any]] = [
    {"type": "allMids"},
    {"type": "l2Book", "coin": "ETH"},
    {"type": "bbo", "coin": "ETH"},
    {"type": "trades", "coin": "ETH"},
    {"type": "candle", "coin": "ETH", "interval": "1m"},
    {"type": "activeAssetCtx", "coin": "ETH"},
    {"type": "activeAssetCtx", "coin": "@107"},
    {"type": "activeAssetCtx", "coin": "xyz:TSLA"},
    {"type": "userEvents", "user": WALLET.address},
    {"type": "userFills", "user": WALLET.address},
    {"type": "orderUpdates", "user": WALLET.address},
    {"type": "userFundings", "user": WALLET.address},
    {"type": "userNonFundingLedgerUpdates", "user": WALLET.address},
    {"type": "webData2", "user": WALLET.address},
    {"type": "activeAssetData", "user": WALLET.address, "coin": "ETH"},
]


# websocket-client, which the official client uses, leaves its socket to the collector when the peer closes first
@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket.socket:pytest.PytestUnraisableExceptionWarning")
async def test_subscriptions_when_made_by_the_client_all_get_frames() -> None:
    """Every subscription the client offers hears something once an order has filled.

    The venue ends the connection: the client's own close may block its reader for ten seconds.
    """
    async with running_simulator(lively(accounts=FUNDS)) as simulator:
        info = await asyncio.to_thread(Info, simulator.url, perp_dexs=DEXES)
        try:
            await asyncio.to_thread(_hear_everything, simulator.url, info)
        finally:
            await simulator.app.close()
            await asyncio.to_thread(_leave, info)


def _hear_everything(url: str, info: Info) -> None:
    """Subscribe, trade, and wait until every subscription was heard.

    Raises:
        queue.Empty: something stayed silent.
    """
    heard: queue.Queue[str] = queue.Queue()
    for subscription in SUBSCRIPTIONS:
        name = f"{subscription['type']} {subscription.get('coin', '')}"
        info.subscribe(subscription, lambda _message, name=name: heard.put(name))
    missing = {f"{item['type']} {item.get('coin', '')}" for item in SUBSCRIPTIONS}
    missing.discard(heard.get(timeout=WAIT_S))  # the socket is up: what follows is heard
    with clients(url) as both:
        assert "filled" in only(both.exchange.market_open("ETH", True, 0.1))
    while missing:
        missing.discard(heard.get(timeout=WAIT_S))


def _leave(info: Info) -> None:
    if info.ws_manager is not None:
        info.ws_manager.join(WAIT_S)
        info.disconnect_websocket()
    info.ws_manager = None
    gc.collect()  # so that the leaked socket is reported to this test and no other
    info.session.close()
