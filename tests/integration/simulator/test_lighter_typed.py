"""The strict `typed-lighter` client against the Lighter front: it refuses any shape that is not current."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from simulator.engine.values import Side
from simulator.server import Simulator
from tests.unit.simulator.lighter.serving import ACCOUNT, API_KEY, BTC, ETH, OWNER, SECRET, SPOT, lighter

typed = pytest.importorskip("typed_lighter", reason="typed-lighter is not installed", exc_type=ImportError)


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """A lively venue with its spot market."""
    # A pool: this client sends no token for trades and positions, which only pools show without one.
    async with lighter(lighter_spot=True, account={"spot": {"USDC": "5000"}, "pool": True}) as running:
        yield running


@pytest.fixture
async def client(simulator: Simulator) -> AsyncIterator[Any]:
    """A client of the funded account."""
    made = typed.Lighter.new(
        network="mainnet",
        api_url=simulator.lighter.url,
        ws_url=simulator.lighter.ws_url,
        account_index=ACCOUNT,
        api_keys={API_KEY: SECRET},
    )
    async with made as found:
        yield found


def limit(client_index: int, **changes: Any) -> dict[str, Any]:
    """A resting bid."""
    fields = {
        "order_type": "limit",
        "market_index": ETH,
        "client_order_index": client_index,
        "base_amount": 1000,
        "is_ask": False,
        "price": 350_000,
        "time_in_force": "post-only",
    }
    return fields | changes


async def trade(client: Any, simulator: Simulator, market: int = ETH, symbol: str = "ETH") -> None:
    """A market buy that is filled."""
    spec = simulator.lighter.venue.markets.by_id[market]
    price = spec.price_units(simulator.lighter.venue.market(spec).mark * 102 / 100)
    order = limit(99, order_type="market", price=price, market_index=market)
    order.pop("time_in_force")
    await client.tx.create_order(order)
    assert simulator.lighter.trades(ACCOUNT), symbol


async def test_public_reads_when_validated_are_current(client: Any, simulator: Simulator) -> None:
    """Every market read the client has."""
    markets = client.api.markets
    assert len((await markets.order_books())["order_books"]) == 9
    details = await markets.order_book_details()
    assert (len(details["order_book_details"]), len(details["spot_order_book_details"])) == (8, 1)
    assert (await markets.order_book_orders(market_id=ETH, limit=10))["total_asks"] == 10
    await trade(client, simulator)
    assert (await markets.recent_trades(market_id=ETH, limit=10))["trades"]
    now = datetime.now(UTC)
    span = {"start_timestamp": now - timedelta(hours=2), "end_timestamp": now, "count_back": 0}
    assert len((await markets.candles(market_id=ETH, resolution="1m", **span))["c"]) > 60
    fundings = await markets.fundings(market_id=ETH, resolution="1h", **span)
    assert fundings["resolution"] == "1h"
    assert (await markets.exchange_stats())["total"] == 9
    assert (await markets.funding_rates())["funding_rates"]
    assert (await markets.asset_details())["asset_details"]


async def test_private_reads_when_validated_are_current(client: Any, simulator: Simulator) -> None:
    """Account, limits, keys, orders, trades, transactions."""
    await trade(client, simulator)
    await client.tx.create_order(limit(1))
    account = client.api.account
    found = (await account.get({"by": "index", "value": ACCOUNT}))["accounts"][0]
    assert [row["symbol"] for row in found["positions"]] == ["ETH"]
    assert (await account.by_l1_address(l1_address=OWNER))["sub_accounts"]
    assert (await account.limits(ACCOUNT))["user_tier"] == "standard"
    assert len((await account.keys.list(account_index=ACCOUNT))["api_keys"]) == 2
    assert (await account.keys.next_nonce(account_index=ACCOUNT, api_key_index=API_KEY))["nonce"] == 3
    assert len((await account.orders.active(account_index=ACCOUNT))["orders"]) == 1
    assert len((await account.orders.inactive(account_index=ACCOUNT, limit=10))["orders"]) == 1
    own = await account.orders.trades(sort_by="timestamp", limit=10, account_index=ACCOUNT)
    assert own["trades"]
    assert (await account.position_funding(account_index=ACCOUNT, limit=10))["position_fundings"] == []
    assert (await account.transfers.history(ACCOUNT))["transfers"] == []
    assert (await account.transfers.deposits(ACCOUNT, l1_address=OWNER))["deposits"]
    assert (await account.transfers.withdrawals(ACCOUNT))["withdraws"] == []


async def test_transactions_when_signed_by_this_client_are_taken(client: Any, simulator: Simulator) -> None:
    """A third implementation of the signature agrees with the simulator's."""
    sent = await client.tx.create_order(limit(1))
    assert simulator.lighter.venue.log.by_hash(sent["tx_hash"]) is not None
    (row,) = simulator.lighter.orders(ACCOUNT)
    await client.tx.modify_order(market_index=ETH, order_index=row["order_index"], base_amount=1500, price=351_000)
    await client.tx.cancel_order(market_index=ETH, order_index=1)
    (row,) = simulator.lighter.orders(ACCOUNT)
    assert (row["status"], row["price"], row["order_version"]) == ("canceled", "3510.00", 1)
    await client.tx.create_order(limit(2, market_index=SPOT), transport="ws")
    assert simulator.lighter.orders(ACCOUNT)[-1]["status"] == "open"


CHANNELS = {
    "order_book": {"market_id": BTC},
    "ticker": {"market_id": BTC},
    "trades": {"market_id": ETH},
    "market_stats": {"market_id": "all"},
    "spot_market_stats": {"market_id": SPOT},
    "candles": {"market_id": ETH, "resolution": "1m"},
    "mark_price_candles": {"market_id": ETH, "resolution": "1m"},
    "height": {},
    "account_all": {"account_index": ACCOUNT},
    "user_stats": {"account_index": ACCOUNT},
    "account_market": {"market_id": ETH, "account_index": ACCOUNT},
    "account_all_orders": {"account_index": ACCOUNT},
    "account_orders": {"market_id": ETH, "account_index": ACCOUNT},
    "account_all_trades": {"account_index": ACCOUNT},
    "account_all_positions": {"account_index": ACCOUNT},
    "account_all_assets": {"account_index": ACCOUNT},
    "account_spot_avg_entry_prices": {"account_index": ACCOUNT},
    "account_tx": {"account_index": ACCOUNT},
    "notifications": {"account_index": ACCOUNT},
    "rfq": {},
}
SNAPSHOT_ONLY = {"notifications", "rfq", "height"}
ON_SPOT = {"account_all_assets", "account_spot_avg_entry_prices"}


@pytest.mark.parametrize("channel", list(CHANNELS))
async def test_channel_when_subscribed_sends_valid_snapshot_and_update(
    client: Any, simulator: Simulator, channel: str
) -> None:
    """Every frame is validated by the client; an order, a fill and moving markets make the updates."""
    market = (SPOT, "ETH/USDC") if channel in ON_SPOT else (ETH, "ETH")
    async with getattr(client.streams, channel)(**CHANNELS[channel]) as frames:
        stream = aiter(frames)
        first = await anext(stream)
        assert first["type"].startswith("subscribed/")
        await client.tx.create_order(limit(1))
        simulator.lighter.house_order("BTC", Side.BUY, "90000", "0.1")
        await trade(client, simulator, *market)
        if channel in SNAPSHOT_ONLY:
            return
        async with asyncio.timeout(60):
            assert (await anext(stream))["type"].startswith("update/")
