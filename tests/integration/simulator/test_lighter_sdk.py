"""The official `lighter-sdk` against the Lighter front, unchanged: SignerClient, ApiClient, WsClient."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from simulator.engine.values import Side
from simulator.server import Simulator
from tests.unit.simulator.lighter.serving import (
    ACCOUNT,
    API_KEY,
    BTC,
    ETH,
    OTHER_SECRET,
    OWNER,
    OWNER_KEY,
    SECRET,
    SPOT,
    lighter,
    public_hex,
    until,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::pydantic.PydanticDeprecatedSince20")
sdk = pytest.importorskip("lighter", reason="lighter-sdk is not installed", exc_type=ImportError)


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    """A lively venue."""
    async with lighter(lighter_spot=True) as running:
        yield running


@pytest.fixture
async def signer(simulator: Simulator) -> AsyncIterator[Any]:
    """A signing client of the funded account."""
    client = sdk.SignerClient(
        url=simulator.lighter.url, account_index=ACCOUNT, api_private_keys={API_KEY: SECRET}, chain_id=304
    )
    try:
        yield client
    finally:
        await client.close()


@pytest.fixture
async def api(simulator: Simulator) -> AsyncIterator[Any]:
    """A client for reads."""
    client = sdk.ApiClient(sdk.Configuration(host=simulator.lighter.url))
    try:
        yield client
    finally:
        await client.close()


async def post_only(signer: Any, client_index: int, **changes: Any) -> Any:
    """A resting bid."""
    fields = {
        "market_index": BTC,
        "client_order_index": client_index,
        "base_amount": 100,
        "price": 1_000_000,
        "is_ask": False,
        "order_type": signer.ORDER_TYPE_LIMIT,
        "time_in_force": signer.ORDER_TIME_IN_FORCE_POST_ONLY,
    }
    return await signer.create_order(**(fields | changes))


def token(signer: Any) -> str:
    """An auth token."""
    found, error = signer.create_auth_token_with_expiry(api_key_index=API_KEY)
    assert error is None
    return str(found)


async def test_key_when_checked_by_the_sdk_is_the_registered_one(signer: Any) -> None:
    """`CheckClient` compares public keys over its own HTTP client."""
    assert await asyncio.to_thread(signer.check_client) is None


async def test_order_when_created_modified_and_cancelled_is_seen_by_the_sdk(signer: Any, api: Any) -> None:
    """The hash answered is the one the library computed; the order lives and dies under one index."""
    made, sent, error = await post_only(signer, 7)
    assert error is None
    assert sent.code == 200
    assert made is not None
    orders = sdk.OrderApi(api)
    read = {"account_index": ACCOUNT, "market_id": BTC, "authorization": token(signer)}
    (first,) = (await orders.account_active_orders(**read)).orders
    assert (first.status, first.price, first.time_in_force) == ("open", "100000.0", "post-only")
    _, _, error = await signer.modify_order(BTC, 7, 200, 1_010_000, 0)
    assert error is None
    (second,) = (await orders.account_active_orders(**read)).orders
    assert (second.order_index, second.price, second.initial_base_amount) == (first.order_index, "101000.0", "0.00200")
    _, sent, error = await signer.cancel_order(BTC, first.order_index)
    assert error is None
    assert (await orders.account_active_orders(**read)).orders == []
    done = await orders.account_inactive_orders(account_index=ACCOUNT, limit=10, authorization=token(signer))
    assert [order.status for order in done.orders] == ["canceled"]
    tx = await sdk.TransactionApi(api).tx(by="hash", value=sent.tx_hash)
    assert (tx.status, json.loads(tx.event_info)["ae"]) == (2, "")


async def test_market_order_when_filled_makes_a_position_and_trades(signer: Any, api: Any) -> None:
    """The slippage helper reads the book, the account shows the position, trades belong to the order."""
    _, sent, error = await signer.create_market_order_limited_slippage(ETH, 9, 1000, 0.01, False)
    assert error is None
    assert sent.code == 200
    account = (await sdk.AccountApi(api).account(by="index", value=str(ACCOUNT))).accounts[0]
    (position,) = account.positions
    assert (position.symbol, position.position, position.sign) == ("ETH", "0.1000", 1)
    trades = await sdk.OrderApi(api).trades(
        sort_by="timestamp", limit=10, account_index=ACCOUNT, authorization=token(signer)
    )
    assert sum(float(trade.size) for trade in trades.trades) == pytest.approx(0.1)
    assert {trade.bid_client_id for trade in trades.trades} == {9}


async def test_every_kind_of_transaction_when_signed_by_the_library_is_taken(signer: Any, simulator: Simulator) -> None:
    """Stops, groups, leverage, margin, cancel-all, batch: one hash each, none refused."""
    await signer.create_market_order_limited_slippage(ETH, 1, 1000, 0.01, False)
    low, lower = 250_000, 240_000
    results = [
        await signer.create_sl_order(ETH, 2, 500, low, lower, True, reduce_only=True),
        await signer.create_tp_limit_order(ETH, 3, 500, 500_000, 490_000, True, reduce_only=True),
        await signer.update_leverage(BTC, signer.ISOLATED_MARGIN_MODE, 10),
        await signer.create_market_order_limited_slippage(BTC, 4, 100, 0.01, True),
        await signer.update_margin(BTC, 5, signer.ISOLATED_MARGIN_ADD_COLLATERAL),
        await signer.cancel_all_orders(signer.CANCEL_ALL_TIF_IMMEDIATE, 0),
    ]
    assert [result[2] for result in results] == [None] * len(results)
    records = simulator.lighter.venue.log.of_account(ACCOUNT)
    assert [record.event["ae"] for record in records] == [""] * len(records)
    statuses = [row["status"] for row in simulator.lighter.orders(ACCOUNT)]
    assert statuses == ["filled", "canceled", "canceled", "filled"]


async def test_group_when_created_by_the_library_waits_for_its_parent(signer: Any, simulator: Simulator) -> None:
    """One order triggers a pair that cancels each other."""
    expiry = simulator.now_ms() + 86_400_000
    fields = {"MarketIndex": ETH, "ClientOrderIndex": 0, "TimeInForce": 1, "OrderExpiry": expiry}
    make = sdk.signer_client.CreateOrderTxReq
    parent = make(**fields, BaseAmount=100, Price=380_000, IsAsk=0, Type=0, ReduceOnly=0, TriggerPrice=0)
    stop = make(**fields, BaseAmount=0, Price=250_000, IsAsk=1, Type=3, ReduceOnly=1, TriggerPrice=260_000)
    profit = make(**fields, BaseAmount=0, Price=480_000, IsAsk=1, Type=5, ReduceOnly=1, TriggerPrice=470_000)
    _, _, error = await signer.create_grouped_orders(3, [parent, profit, stop])
    assert error is None
    rows = simulator.lighter.orders(ACCOUNT)
    assert [row["status"] for row in rows] == ["open", "pending", "pending"]
    assert rows[1]["parent_order_index"] == rows[0]["order_index"]
    assert rows[0]["to_trigger_order_id_0"] == rows[1]["order_id"]


async def test_batch_when_sent_takes_both_transactions(signer: Any, simulator: Simulator) -> None:
    """Two orders under ascending nonces in one request."""
    types, infos = [], []
    key, nonce = await signer.nonce_manager.async_next_nonce()
    for offset, client_index in enumerate((21, 22)):
        kind, info, _, error = signer.sign_create_order(
            BTC, client_index, 100, 1_000_000, False, 0, 2, False, nonce=nonce + offset, api_key_index=key
        )
        assert error is None
        types.append(kind)
        infos.append(info)
    answer = await signer.send_tx_batch(types, infos)
    assert answer.code == 200
    assert [row["client_order_index"] for row in simulator.lighter.orders(ACCOUNT)] == [21, 22]


async def test_sender_when_refused_gets_code_and_text(signer: Any, simulator: Simulator) -> None:
    """A refusal at once leaves the nonce, a late one spends it."""
    _, _, error = await post_only(signer, 31, market_index=99)
    assert "21602" in str(error)
    assert "invalid market index" in str(error)
    assert simulator.lighter.next_nonce(ACCOUNT, API_KEY) == 1
    await post_only(signer, 32)
    _, sent, error = await post_only(signer, 32)
    assert error is None
    record = simulator.lighter.venue.log.by_hash(sent.tx_hash)
    assert record is not None
    assert json.loads(record.event["ae"])["code"] == 21728
    assert simulator.lighter.next_nonce(ACCOUNT, API_KEY) == 3


async def test_nonce_when_spent_by_somebody_else_is_recovered_by_the_sdk(signer: Any, simulator: Simulator) -> None:
    """The SDK's optimistic manager refetches after "invalid nonce" and the next order is taken."""
    await post_only(signer, 41)
    simulator.lighter.venue.spend_nonce(ACCOUNT, API_KEY)
    _, _, error = await post_only(signer, 42)
    assert "21104" in str(error)
    _, _, error = await post_only(signer, 43)
    assert error is None


async def test_key_when_changed_by_its_owner_signs_from_then_on(signer: Any, simulator: Simulator) -> None:
    """Type 8 is signed with the new key, and by the owner's Ethereum key."""
    fresh = sdk.SignerClient(
        url=simulator.lighter.url, account_index=ACCOUNT, api_private_keys={77: OTHER_SECRET}, chain_id=304
    )
    try:
        # With a nonce given: without one the library reads it by a blocking call, here in the venue's own loop.
        _, error = await fresh.change_api_key(OWNER_KEY, "0x" + public_hex(OTHER_SECRET), nonce=0, api_key_index=77)
        assert error is None
        assert simulator.lighter.next_nonce(ACCOUNT, 77) == 1
        _, _, error = await post_only(fresh, 51)
        assert error is None
    finally:
        await fresh.close()


async def test_money_when_moved_by_the_sdk_arrives(signer: Any, simulator: Simulator, api: Any) -> None:
    """A sub-account is opened, receives a transfer, and shows up under its owner."""
    _, _, error = await signer.create_sub_account()
    assert error is None
    owned = await sdk.AccountApi(api).accounts_by_l1_address(l1_address=OWNER)
    sub = owned.sub_accounts[-1].index
    _, _, error = await signer.transfer(
        OWNER_KEY, sub, signer.ASSET_ID_USDC, signer.ROUTE_PERP, signer.ROUTE_PERP, 250, 0, "0x" + "00" * 32
    )
    assert error is None
    found = (await sdk.AccountApi(api).account(by="index", value=str(sub))).accounts[0]
    assert found.collateral == "250.000000"


async def test_reads_when_done_by_the_sdk_are_complete(api: Any) -> None:
    """Public reads deserialise into the SDK's models."""
    assert (await sdk.RootApi(api).status()).status == 200
    orders = sdk.OrderApi(api)
    assert {book.market_id for book in (await orders.order_books()).order_books} >= {ETH, BTC, SPOT}
    details = (await orders.order_book_details(market_id=ETH)).order_book_details[0]
    assert (details.size_decimals, details.price_decimals) == (4, 2)
    book = await orders.order_book_orders(market_id=ETH, limit=5)
    assert float(book.bids[0].price) < float(book.asks[0].price)
    assert (await orders.exchange_stats()).total >= 8
    funding = await sdk.FundingApi(api).funding_rates()
    assert funding.funding_rates[0].exchange == "lighter"


async def test_read_when_token_is_missing_or_wrong_is_refused(signer: Any, api: Any) -> None:
    """20001 without one, 20013 with HTTP 401 for one that is too long-lived."""
    orders = sdk.OrderApi(api)
    with pytest.raises(sdk.exceptions.BadRequestException, match="20001"):
        await orders.account_active_orders(account_index=ACCOUNT, market_id=BTC, authorization="")
    long, _ = signer.create_auth_token_with_expiry(deadline=9 * 3600, api_key_index=API_KEY)
    with pytest.raises(sdk.exceptions.UnauthorizedException, match="invalid deadline"):
        await orders.account_active_orders(account_index=ACCOUNT, market_id=BTC, authorization=long)


async def test_ws_client_when_running_follows_book_and_account(signer: Any, simulator: Simulator) -> None:
    """`WsClient.run_async`: the book it keeps equals the venue's, the account hears of the fill."""
    books: dict[str, Any] = {}
    accounts: list[Any] = []
    client = sdk.WsClient(
        ws_url=simulator.lighter.ws_url,
        order_book_ids=[BTC],
        account_ids=[ACCOUNT],
        on_order_book_update=lambda market, book: books.__setitem__(str(market), book),
        on_account_update=lambda _account, message: accounts.append(message),
    )
    task = asyncio.create_task(client.run_async(), name="ws-client")
    try:
        await until(lambda: bool(books) and bool(accounts))
        simulator.lighter.house_order("BTC", Side.BUY, "90000", "0.5")
        await signer.create_market_order_limited_slippage(BTC, 61, 100, 0.01, False)
        await until(lambda: any(message["trades"] for message in accounts))
        await until(lambda: any(level["price"] == "90000.0" for level in books["1"]["bids"]))
        fill = next(message["trades"]["1"][0] for message in accounts if message["trades"])
        assert fill["bid_client_id"] == 61
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await client.ws.close()
