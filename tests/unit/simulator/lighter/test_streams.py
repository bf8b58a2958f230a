"""WebSocket conversations: chains of books, account streams, errors; frames compared with recorded ones."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.engine.population import PopulationSettings
from simulator.engine.values import Side
from simulator.lighter.transactions import TxType
from tests.unit.simulator.lighter.world import ACCOUNT, BTC, ETH, OTHER, SPOT, World, recorded

LIVELY = PopulationSettings(levels=10, history_minutes=60, volatility_bps=3, trade_percent=60)


def apply(levels: dict[str, str], changes: list[dict[str, str]]) -> None:
    """A client's book: absolute sizes, zero removes."""
    for change in changes:
        if Decimal(change["size"]) == 0:
            levels.pop(change["price"], None)
        else:
            levels[change["price"]] = change["size"]


def book_of(world: World, market: int, side: Side) -> dict[str, str]:
    """The truth."""
    spec = world.venue.markets.by_id[market]
    levels = world.engine.markets[spec.key].book.levels(side)
    return {spec.price_text(level.price): spec.size_text(level.quantity) for level in levels}


# -- market data -------------------------------------------------------------------------------------------------


def test_book_when_followed_by_nonces_equals_the_engine() -> None:
    """Each update begins where the last frame ended; applied in order they give the true book."""
    world = World(population=LIVELY)
    socket = world.session()
    frame = socket.subscribe("order_book/0")
    assert (frame["type"], frame["channel"]) == ("subscribed/order_book", "order_book:0")
    assert frame["order_book"]["begin_nonce"] == 0
    asks: dict[str, str] = {}
    bids: dict[str, str] = {}
    nonce = frame["order_book"]["nonce"]
    apply(asks, frame["order_book"]["asks"])
    apply(bids, frame["order_book"]["bids"])
    offset = frame["offset"]
    for _ in range(30):
        world.now_ms += 500
        world.venue.step(world.now_ms)
        for update in socket.hear():
            body = update["order_book"]
            assert body["begin_nonce"] == nonce
            assert update["offset"] == body["offset"] > offset
            nonce, offset = body["nonce"], body["offset"]
            apply(asks, body["asks"])
            apply(bids, body["bids"])
        assert asks == book_of(world, ETH, Side.SELL)
        assert bids == book_of(world, ETH, Side.BUY)


def test_book_when_nothing_changed_is_not_told() -> None:
    """A change of another market moves the counter and nothing else."""
    world = World()
    socket = world.session()
    socket.subscribe("order_book/0")
    world.house(Side.BUY, "1", "100000", BTC)
    assert socket.hear() == []
    world.house(Side.BUY, "1", "3800")
    (frame,) = socket.hear()
    assert frame["order_book"]["bids"] == [{"price": "3800.00", "size": "1.0000"}]


def test_book_when_a_gap_is_made_begins_where_no_frame_ended() -> None:
    """What a client must notice; a fresh snapshot continues the chain."""
    world = World()
    socket = world.session()
    nonce = socket.subscribe("order_book/0")["order_book"]["nonce"]
    world.venue.feeds.skip(ETH)
    world.house(Side.BUY, "1", "3800")
    (frame,) = socket.hear()
    assert frame["order_book"]["begin_nonce"] != nonce
    assert socket.say({"type": "unsubscribe", "channel": "order_book/0"}) == [
        {"type": "unsubscribed", "channel": "order_book:0"}
    ]
    again = socket.subscribe("order_book/0")["order_book"]["nonce"]
    world.house(Side.BUY, "1", "3801")
    (frame,) = socket.hear()
    assert frame["order_book"]["begin_nonce"] == again


def test_ticker_when_the_book_is_empty_has_empty_texts() -> None:
    """Then the best level."""
    world = World()
    socket = world.session()
    assert socket.subscribe("ticker/1")["ticker"]["a"] == {"price": "", "size": ""}
    world.house(Side.SELL, "0.5", "111000", BTC)
    (frame,) = socket.hear()
    assert frame["ticker"]["a"] == {"price": "111000.0", "size": "0.50000"}


def test_stats_when_asked_for_all_tell_only_what_changed() -> None:
    """A map by market id."""
    world = World()
    socket = world.session()
    assert len(socket.subscribe("market_stats/all")["market_stats"]) == 8
    world.mark("3950")
    (frame,) = socket.hear()
    assert list(frame["market_stats"]) == ["0"]
    assert frame["market_stats"]["0"]["mark_price"] == "3950.00"


# -- errors ------------------------------------------------------------------------------------------------------


def test_frames_when_control_or_wrong_are_those_recorded() -> None:
    """Pong, unknown channel, double subscription, missing token."""
    world = World()
    frames = recorded("ws_control_frames")
    socket = world.session()
    assert socket.say({"type": "ping"}) == [frames[1]]
    socket.subscribe("order_book/0")
    assert socket.subscribe("order_book/99") == frames[3]
    assert socket.subscribe("order_book/0") == frames[4]
    missing = socket.subscribe(f"account_all_orders/{ACCOUNT}")
    assert missing["error"]["message"].replace(str(ACCOUNT), "1") == frames[5]["error"]["message"]
    assert socket.say({"type": "unsubscribe", "channel": "order_book/0"}) == [frames[2]]
    assert socket.say({"type": "unsubscribe", "channel": "order_book/0"})[0]["error"]["code"] == 30002
    assert socket.say({"type": "what"})[0]["error"]["code"] == 30001


@pytest.mark.parametrize(
    "channel",
    [
        "account_market/0/{a}",
        "account_all_orders/{a}",
        "account_orders/0/{a}",
        "account_all_trades/{a}",
        "account_all_positions/{a}",
        "account_all_assets/{a}",
        "account_spot_avg_entry_prices/{a}",
        "account_tx/{a}",
        "notification/{a}",
    ],
)
def test_private_channel_when_token_is_missing_or_a_strangers_is_refused(channel: str) -> None:
    """20001 and 20013; with its own token it opens."""
    world = World()
    socket = world.session()
    name = channel.format(a=ACCOUNT)
    assert socket.subscribe(name)["error"]["code"] == 20001
    assert socket.subscribe(name, token=world.token(OTHER))["error"]["code"] == 20013
    assert socket.subscribe(name, token=world.token(lives_s=9 * 3600))["error"]["code"] == 20013
    assert socket.subscribe(name, token=world.token())["type"].startswith("subscribed/")


# -- accounts ----------------------------------------------------------------------------------------------------


def test_orders_when_they_change_are_told_once_more_when_they_die() -> None:
    """The integrator fields change from nothing to zero, as recorded."""
    world = World()
    socket = world.session()
    assert socket.subscribe(f"account_all_orders/{ACCOUNT}", token=world.token())["orders"] == {}
    world.order(ClientOrderIndex=5)
    (frame,) = socket.hear()
    (row,) = frame["orders"]["0"]
    assert (row["status"], row["integrator_taker_fee"]) == ("open", "0")
    world.send(TxType.CANCEL_ORDER, MarketIndex=ETH, Index=5)
    (frame,) = socket.hear()
    (row,) = frame["orders"]["0"]
    assert (row["status"], row["remaining_base_amount"], row["base_size"]) == ("canceled", "0.0000", 0)


def test_fill_when_it_happens_is_told_on_every_account_channel() -> None:
    """Orders, trades, positions and the all-in-one channel agree."""
    world = World()
    world.house(Side.SELL, "1", "3900")
    socket = world.session()
    for kind in ("account_all", "account_all_orders", "account_all_trades", "account_all_positions", "account_tx"):
        socket.subscribe(f"{kind}/{ACCOUNT}", token=world.token())
    world.order(Price=390_000, ClientOrderIndex=5)
    frames = {frame["type"]: frame for frame in socket.hear()}
    (trade,) = frames["update/account_all_trades"]["trades"]["0"]
    assert frames["update/account_all"]["trades"]["0"] == [trade]
    assert (trade["bid_client_id"], trade["is_maker_ask"], trade["size"]) == (5, True, "0.1000")
    (order,) = frames["update/account_all_orders"]["orders"]["0"]
    assert order["order_index"] == trade["bid_id"]
    assert frames["update/account_all_positions"]["positions"]["0"]["position"] == "0.1000"
    (tx,) = frames["update/account_tx"]["txs"]
    assert tx["hash"] == trade["tx_hash"]
    assert socket.hear() == []


def test_trades_when_subscribed_after_a_fill_are_not_replayed() -> None:
    """The account snapshot is empty, the public one is not."""
    world = World()
    world.house(Side.SELL, "1", "3900")
    world.order(Price=390_000)
    world.venue.batch(world.now_ms)
    socket = world.session()
    own = socket.subscribe(f"account_all_trades/{ACCOUNT}", token=world.token())
    assert (own["trades"], own["total_volume"]) == ({}, 390.0)
    assert len(socket.subscribe("trade/0")["trades"]) == 1


def test_funding_when_paid_is_told_with_its_sign() -> None:
    """A long pays when the rate is positive."""
    world = World()
    world.house(Side.SELL, "1", "3900")
    world.order(Price=390_000)
    socket = world.session()
    socket.subscribe(f"account_all/{ACCOUNT}")
    socket.hear()
    world.now_ms += 3_600_000
    world.upkeep.advance(world.now_ms)
    (frame,) = socket.hear()
    (row,) = frame["funding_histories"]["0"]
    assert (row["position_side"], row["position_size"]) == ("long", "0.1000")
    assert Decimal(row["change"]) < 0
    assert world.read("positionFunding", account_index=ACCOUNT, limit=10)["position_fundings"] == [row]


def test_liquidation_when_the_mark_falls_is_told_as_such_and_costs_one_percent() -> None:
    """A trade of type liquidation, a notification, and the account's other orders cancelled."""
    world = World(usdc="1000")
    world.house(Side.SELL, "10", "3900")
    world.order(Price=390_000, BaseAmount=45_000)
    world.order(Price=300_000, BaseAmount=100, IsAsk=0)
    socket = world.session()
    for kind in ("account_all_trades", "account_all_orders", "notification"):
        socket.subscribe(f"{kind}/{ACCOUNT}", token=world.token())
    socket.hear()
    world.house(Side.BUY, "10", "3699")
    world.mark("3700")
    frames = {frame["type"]: frame for frame in socket.hear()}
    (trade,) = frames["update/account_all_trades"]["trades"]["0"]
    assert (trade["type"], trade["taker_fee"], trade["ask_client_id"]) == ("liquidation", 10_000, 0)
    (notice,) = frames["update/notification"]["notifs"]
    assert (notice["kind"], notice["content"]["size"], notice["content"]["is_ask"]) == ("liquidation", "4.5000", True)
    words = {(row["type"], row["status"]) for row in frames["update/account_all_orders"]["orders"]["0"]}
    assert words == {("liquidation", "filled"), ("limit", "canceled-liquidation")}
    assert world.engine.fees["USDC"] == Decimal("166.455")


# -- shapes ------------------------------------------------------------------------------------------------------


def keys(value: Any) -> set[str]:
    """Field names."""
    return set(value)


def missing(recording: dict[str, Any], ours: dict[str, Any], *optional: str) -> set[str]:
    """Recorded fields that ours lacks, but for optional ones; types must agree."""
    for name in keys(recording) & keys(ours):
        was, now = type(recording[name]), type(ours[name])
        assert was is now or {was, now} <= {int, float}, f"{name}: {was} became {now}"
    return keys(recording) - keys(ours) - set(optional)


def test_answers_when_compared_with_recorded_ones_have_every_field() -> None:
    """Names and types of public and account answers."""
    world = World(population=LIVELY)
    world.venue.step(world.now_ms)
    details = recorded("rest_orderBookDetails.eth")["order_book_details"][0]
    assert missing(details, world.read("orderBookDetails", market_id=ETH)["order_book_details"][0]) == set()
    for row in recorded("rest_orderBooks.five")["order_books"]:
        market = SPOT if row["market_type"] == "spot" else ETH
        assert missing(row, world.read("orderBooks", market_id=market)["order_books"][0]) == set()
    book = recorded("rest_orderBookOrders.eth")
    ours = world.read("orderBookOrders", market_id=ETH, limit=1)
    assert missing(book, ours) == set()
    assert missing(book["asks"][0], ours["asks"][0]) == set()
    world.order(Price=400_000, ClientOrderIndex=5)
    world.order(ClientOrderIndex=6)
    trade = recorded("rest_recentTrades.eth")["trades"][0]
    assert missing(trade, world.read("recentTrades", market_id=ETH, limit=1)["trades"][0], "maker_fee") == set()
    order = recorded("rest_accountActiveOrders.one")["orders"][0]
    (own,) = world.read("accountActiveOrders", account_index=ACCOUNT)["orders"]
    assert missing(order, own) == set()
    account = recorded("rest_account.isolated")["accounts"][0]
    ours = world.read("account", by="index", value=ACCOUNT)["accounts"][0]
    assert missing(account, ours) == set()
    assert missing(account["positions"][0], ours["positions"][0]) == set()
    assert missing(account["assets"][0], ours["assets"][0]) == set()
    limits = recorded("rest_accountLimits.standard")["body"]
    assert world.read("accountLimits", account_index=ACCOUNT) == limits
    tx = recorded("rest_tx.create_order_filled")
    sent = world.order(Price=400_000)
    assert missing(tx, world.read("tx", by="hash", value=sent.tx_hash)) == set()


def test_frames_when_compared_with_recorded_ones_have_every_field() -> None:
    """Names and types of snapshots and updates."""
    world = World(population=LIVELY)
    socket = world.session()
    for name, channel in (
        ("ws_ticker.btc", "ticker/1"),
        ("ws_height", "height"),
        ("ws_order_book_subscribed", "order_book/0"),
        ("ws_market_stats_subscribed_single", "market_stats/1"),
        ("ws_spot_market_stats_update_single", "spot_market_stats/2048"),
        ("ws_candle_subscribed", "candle/0/1m"),
        ("ws_user_stats_with_position", f"user_stats/{ACCOUNT}"),
        ("ws_account_all_assets_update", f"account_all_assets/{ACCOUNT}"),
    ):
        frame = socket.subscribe(channel, token=world.token())
        recording = recorded(name)
        assert missing(recording, frame) == set(), name
        for part in ("ticker", "order_book", "market_stats", "spot_market_stats", "stats"):
            if part in recording:
                assert missing(recording[part], frame[part]) == set(), name
        if "candles" in recording:
            assert missing(recording["candles"][0], frame["candles"][0], "i") == set()


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=40) | st.from_regex(r"[a-z_]{1,12}(/[0-9a-z]{0,6}){0,3}", fullmatch=True))
def test_subscribe_when_given_anything_answers_a_frame(channel: str) -> None:
    """A snapshot or an error, never silence or a crash."""
    answer = WORLD.session().subscribe(channel)
    assert "error" in answer or answer["type"].startswith("subscribed/")


WORLD = World()
