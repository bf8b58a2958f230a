"""The official Python client on the builder dex, with groups, sub-accounts and account modes, unchanged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import pytest
from eth_account import Account
from hyperliquid.exchange import Exchange
from hyperliquid.info import Info

from simulator.clock import SteppedClock
from simulator.engine.values import Side
from simulator.server import Simulator
from simulator.testing import quiet, running_simulator
from venuemesh.clock import SystemClock

KEY = "0x0123456789012345678901234567890123456789012345678901234567890123"
AGENT_KEY = "0x822e9959e022b78423eb653a62ea0020cd283e71a2a8133a6ff2aeffaf373cff"
WALLET, AGENT = Account.from_key(KEY), Account.from_key(AGENT_KEY)
USDC = "USDC:0x6d1e7cde53ba9467b783cb7c530ce054"
DEXES = ["", "xyz"]
OK = {"status": "ok", "response": {"type": "default"}}
WAIT_S = 60.0
GTC, IOC, ALO = ({"limit": {"tif": tif}} for tif in ("Gtc", "Ioc", "Alo"))


class Clients:
    """The client's halves, made on demand and closed together; the client never closes its sessions itself."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._sessions: list[Any] = []
        self.info = Info(url, skip_ws=True, perp_dexs=DEXES)
        self._sessions.append(self.info.session)
        self.exchange = self.acting(WALLET)

    def acting(self, wallet: Any, **options: Any) -> Exchange:
        """An exchange half for another key or account."""
        made = Exchange(wallet, self._url, perp_dexs=DEXES, **options)
        self._sessions += [made.session, made.info.session]
        return made

    def close(self) -> None:
        """Close every session."""
        for session in self._sessions:
            session.close()


@contextmanager
def clients(url: str) -> Iterator[Clients]:
    """Clients, closed at the end."""
    made = Clients(url)
    try:
        yield made
    finally:
        made.close()


async def with_client(simulator: Simulator, work: Callable[[Clients], Any]) -> Any:
    """Run blocking client calls in a thread."""

    def call() -> Any:
        with clients(simulator.url) as made:
            return work(made)

    async with asyncio.timeout(WAIT_S):
        return await asyncio.to_thread(call)


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """A quiet venue on a stepped clock; the account has money on the main dex alone."""
    clock = SteppedClock(SystemClock().now_ns())
    async with running_simulator(quiet(accounts={WALLET.address: "100000"}, clock="manual"), clock=clock) as running:
        for coin, bid, ask in (("ETH", "3890", "3900"), ("xyz:TSLA", "429", "430"), ("xyz:HOOD", "129", "130")):
            running.house_order(coin, Side.BUY, bid, "50")
            running.house_order(coin, Side.SELL, ask, "50")
        yield running


def only(answer: Any) -> Any:
    """The one status of an order answer."""
    assert answer["status"] == "ok", answer
    (status,) = answer["response"]["data"]["statuses"]
    return status


async def test_builder_dex_when_used_from_scratch_trades_and_pays_back(simulator: Simulator) -> None:
    """Fund the dex, set leverage, trade every way, close, take the money back."""

    def work(c: Clients) -> None:
        user = WALLET.address
        assert "Insufficient margin" in only(c.exchange.order("xyz:TSLA", True, 1, 430, IOC))["error"]
        assert c.exchange.send_asset(user, "", "xyz", USDC, 5000) == OK
        refused = c.exchange.update_leverage(5, "xyz:HOOD", is_cross=True)
        assert refused == {"status": "err", "response": "Cross margin is not allowed for this asset."}
        assert c.exchange.update_leverage(5, "xyz:HOOD", is_cross=False) == OK
        assert "filled" in only(c.exchange.market_open("xyz:TSLA", True, 2))
        assert "filled" in only(c.exchange.market_open("xyz:HOOD", False, 3))
        resting = only(c.exchange.order("xyz:TSLA", True, 1, 400, ALO))["resting"]["oid"]
        state = c.info.user_state(user, "xyz")
        kinds = {row["position"]["coin"]: row["position"]["leverage"]["type"] for row in state["assetPositions"]}
        assert kinds == {"xyz:TSLA": "cross", "xyz:HOOD": "isolated"}
        assert c.info.user_state(user)["assetPositions"] == []
        assert [row["oid"] for row in c.info.open_orders(user, "xyz")] == [resting]
        assert c.info.open_orders(user) == []
        assert only(c.exchange.cancel("xyz:TSLA", resting)) == "success"
        assert "filled" in only(c.exchange.order("xyz:TSLA", False, 2, 420, IOC, reduce_only=True))
        assert "filled" in only(c.exchange.order("xyz:HOOD", True, 3, 135, IOC, reduce_only=True))
        opening = [fill for fill in c.info.user_fills(user) if fill["coin"] == "xyz:TSLA"][-1]
        assert opening["fee"] == "0.0774"  # 860 at 0.009 %
        left = float(c.info.user_state(user, "xyz")["withdrawable"])
        assert c.exchange.send_asset(user, "xyz", "spot", USDC, left) == OK
        assert c.info.user_state(user, "xyz")["withdrawable"] == "0.0"

    await with_client(simulator, work)


async def test_groups_when_placed_by_the_client_follow_their_life_cycle(simulator: Simulator) -> None:
    """normalTpsl with a resting parent, filled later, then its take-profit hit."""

    def leg(price: float, tpsl: str) -> dict[str, Any]:
        trigger = {"trigger": {"isMarket": True, "triggerPx": price, "tpsl": tpsl}}
        terms = {"coin": "ETH", "is_buy": False, "sz": 0.5, "limit_px": price}
        return terms | {"order_type": trigger, "reduce_only": True}

    def place(c: Clients) -> Any:
        parent = {"coin": "ETH", "is_buy": True, "sz": 0.5, "limit_px": 3850, "order_type": GTC, "reduce_only": False}
        answer = c.exchange.bulk_orders([parent, leg(4200, "tp"), leg(3500, "sl")], grouping="normalTpsl")
        statuses = answer["response"]["data"]["statuses"]
        assert statuses[1:] == ["waitingForFill", "waitingForFill"]
        return statuses[0]["resting"]["oid"]

    def history(c: Clients) -> list[tuple[str, str]]:
        rows = c.info.historical_orders(WALLET.address)
        return [(row["order"]["orderType"], row["status"]) for row in reversed(rows)]

    await with_client(simulator, place)
    simulator.cancel_house_orders()
    simulator.house_order("ETH", Side.SELL, "3850", "0.5")
    simulator.house_order("ETH", Side.BUY, "4200", "1")
    simulator.set_price("ETH", "4200")
    rows = await with_client(simulator, history)
    assert rows[3:] == [
        ("Limit", "filled"),
        ("Take Profit Market", "triggered"),
        ("Take Profit Market", "filled"),
        ("Stop Market", "siblingFilledCanceled"),
    ]


async def test_sub_account_when_the_agent_acts_for_it_is_read_by_its_own_address(simulator: Simulator) -> None:
    """Agent of the master, sub-account as vault, money on the dex through fromSubAccount."""

    def work(c: Clients) -> None:
        sub = c.exchange.create_sub_account("desk")["response"]["data"]
        assert c.exchange.sub_account_transfer(sub, True, 2_000_000_000) == OK
        own = c.acting(WALLET, vault_address=sub)
        assert own.send_asset(sub, "", "xyz", USDC, 500) == OK
        agent = c.acting(AGENT, vault_address=sub)
        assert "filled" in only(agent.order("ETH", True, 0.2, 3950, IOC))
        assert "filled" in only(agent.order("xyz:TSLA", True, 1, 430, IOC))
        assert len(c.info.user_fills(sub)) == 2
        assert c.info.user_fills(WALLET.address) == c.info.user_fills(AGENT.address) == []
        assert c.info.user_state(sub, "xyz")["assetPositions"][0]["position"]["szi"] == "1.0"
        assert c.info.query_sub_accounts(WALLET.address)[0]["subAccountUser"] == sub

    simulator.approve_agent(AGENT.address, WALLET.address)
    await with_client(simulator, work)


async def test_account_modes_when_set_by_the_client_move_the_balances(simulator: Simulator) -> None:
    """userSetAbstraction and agentSetAbstraction; transfers between classes are then refused."""

    def work(c: Clients) -> None:
        user = WALLET.address
        assert c.info.query_user_abstraction_state(user) == "default"
        assert c.exchange.user_set_abstraction(user, "unifiedAccount") == OK
        assert c.info.query_user_abstraction_state(user) == "unifiedAccount"
        assert c.info.spot_user_state(user)["balances"][0]["total"] == "100000.0"
        assert c.info.user_state(user)["marginSummary"]["accountValue"] == "0.0"
        refused = {"status": "err", "response": "Action disabled when unified account is active"}
        assert c.exchange.usd_class_transfer(10, to_perp=True) == refused
        assert "filled" in only(c.exchange.order("xyz:TSLA", True, 1, 430, IOC))
        assert "filled" in only(c.exchange.order("xyz:TSLA", False, 1, 429, IOC))
        assert c.exchange.agent_set_abstraction("i") == OK
        assert c.info.query_user_abstraction_state(user) == "disabled"
        assert Decimal(c.info.spot_user_state(user)["balances"][0]["total"]) < 100_000

    await with_client(simulator, work)


async def test_venue_when_changed_in_process_publishes_and_refuses(simulator: Simulator) -> None:
    """The switches tests use: `app.change` acts now and tells every client."""
    until = simulator.now_ms() + 60_000
    simulator.app.change(lambda venue, _now: setattr(venue, "post_only_until_ms", until))

    def refused(c: Clients) -> None:
        text = "Only post-only orders allowed immediately after network upgrade"
        assert only(c.exchange.order("ETH", True, 0.2, 3800, GTC)) == {"error": text}
        assert "resting" in only(c.exchange.order("ETH", True, 0.2, 3800, ALO))

    await with_client(simulator, refused)
    simulator.advance(60_000)
    simulator.app.change(lambda venue, now_ms: venue.halt("xyz:TSLA", now_ms))

    def halted(c: Clients) -> None:
        assert c.info.meta("xyz")["universe"][1]["isDelisted"] is True
        assert "resting" in only(c.exchange.order("ETH", True, 0.2, 3800, GTC))

    await with_client(simulator, halted)
