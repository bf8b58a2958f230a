"""WebSocket conversations: subscriptions, posts, error texts, what each channel sends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from simulator.engine.values import Side
from simulator.hyperliquid import exchange
from simulator.hyperliquid.batch import Batch
from simulator.hyperliquid.channels import CHANNELS
from simulator.hyperliquid.session import Session, post_frame
from tests.unit.simulator.front_world import START_MS, USER, Front, orders, wire


class Talk:
    """A session and what it was sent."""

    def __init__(self, front: Front) -> None:
        self.front = front
        self.session = Session(front.venue)
        front.venue.engine.drain()

    def say(self, message: Any) -> list[dict[str, Any]]:
        """Send JSON, or text as it is; the frames answered."""
        text = message if isinstance(message, str) else json.dumps(message)
        frames, _ = self.session.receive(text, START_MS)
        return [json.loads(frame.text) for frame in frames]

    def subscribe(self, kind: str, **fields: Any) -> list[dict[str, Any]]:
        """Subscribe; the frames answered."""
        return self.say({"method": "subscribe", "subscription": {"type": kind, **fields}})

    def hear(self, *, tick: bool = False) -> list[dict[str, Any]]:
        """What the events since the last call make the session send."""
        batch = Batch.of(self.front.venue.engine.drain(), tick=tick)
        return [json.loads(frame.text) for frame in self.session.publish(batch, START_MS)]


@pytest.fixture
def talk() -> Talk:
    """A fresh conversation."""
    return Talk(Front())


def test_ping_when_sent_is_answered_with_pong(talk: Talk) -> None:
    """No data key."""
    assert talk.say({"method": "ping"}) == [{"channel": "pong"}]


@pytest.mark.parametrize("text", ["{", "[]", '{"method":"subscribe","xsubscription":{}}', '{"method":"nope"}'])
def test_message_when_unreadable_is_echoed_in_an_error(talk: Talk, text: str) -> None:
    """The socket survives it."""
    message = f"Error parsing JSON into valid websocket request: {text}"
    assert talk.say(text) == [{"channel": "error", "data": message}]


def test_subscription_when_repeated_unknown_or_not_there_is_an_error(talk: Talk) -> None:
    """Each with its own text, echoing the subscription."""
    talk.subscribe("bbo", coin="ETH")
    echo = '{"type":"bbo","coin":"ETH"}'
    assert talk.subscribe("bbo", coin="ETH")[0]["data"] == f"Already subscribed: {echo}"
    assert talk.subscribe("bbo", coin="NO")[0]["data"].startswith("Invalid subscription")
    assert talk.subscribe("nope")[0]["data"] == 'Invalid subscription {"type":"nope"}'
    off = {"method": "unsubscribe", "subscription": {"type": "bbo", "coin": "ETH"}}
    assert talk.say(off)[0]["channel"] == "subscriptionResponse"
    assert talk.say(off)[0]["data"] == f"Already unsubscribed: {echo}"


def test_subscription_when_taken_echoes_its_normal_form(talk: Talk) -> None:
    """Optional fields as null, candle keys in the venue's order, addresses in lower case."""
    book = talk.subscribe("l2Book", coin="ETH")[0]["data"]["subscription"]
    assert book == {"type": "l2Book", "coin": "ETH", "nSigFigs": None, "mantissa": None}
    candle = talk.subscribe("candle", coin="ETH", interval="1m")[0]["data"]["subscription"]
    assert list(candle) == ["type", "interval", "coin"]
    fills = talk.subscribe("userFills", user=USER.upper().replace("0X", "0x"))[0]["data"]["subscription"]
    assert fills["user"] == USER


def test_order_updates_when_an_order_crosses_send_open_and_filled_in_one_frame(talk: Talk) -> None:
    """As recorded: same timestamps, filled row with no remainder."""
    talk.subscribe("orderUpdates", user=USER)
    talk.front.house(Side.SELL, "1", "3900")
    talk.front.order(tif="Ioc")
    (frame,) = talk.hear()
    first, last = frame["data"]
    assert (first["status"], first["order"]["sz"]) == ("open", "0.1")
    assert (last["status"], last["order"]["sz"]) == ("filled", "0.0")
    assert first["statusTimestamp"] == last["statusTimestamp"]


def test_order_updates_when_an_order_is_rejected_send_its_reason(talk: Talk) -> None:
    """One row, as recorded for perpMarginRejected."""
    talk.subscribe("orderUpdates", user=USER)
    talk.front.order(size="200")
    (frame,) = talk.hear()
    assert [row["status"] for row in frame["data"]] == ["perpMarginRejected"]


def test_user_channels_when_an_order_fills_tell_fill_position_and_notice(talk: Talk) -> None:
    """Snapshot first where there is one, then the fill on each."""
    for kind in ("userEvents", "userFills", "clearinghouseState", "notification", "userHistoricalOrders"):
        talk.subscribe(kind, user=USER)
    talk.front.order(price="3890")
    talk.hear()
    talk.front.house(Side.SELL, "0.1", "3890")
    frames = {frame["channel"]: frame["data"] for frame in talk.hear()}
    fill = frames["userFills"]["fills"][0]
    assert "isSnapshot" not in frames["userFills"]
    assert frames["user"] == {"fills": [fill]}
    assert frames["notification"] == {"notification": "Resting order filled: Bought 0.1 ETH at $3890"}
    assert frames["clearinghouseState"]["clearinghouseState"]["assetPositions"][0]["position"]["szi"] == "0.1"


def test_book_channels_when_the_top_moves_send_and_when_not_bbo_is_silent(talk: Talk) -> None:
    """bbo only when the top changes; l2Book on every change."""
    talk.front.house(Side.BUY, "1", "3890")
    talk.hear()
    talk.subscribe("bbo", coin="ETH")
    talk.subscribe("l2Book", coin="ETH")
    talk.front.house(Side.BUY, "1", "3800")
    assert [frame["channel"] for frame in talk.hear()] == ["l2Book"]
    talk.front.house(Side.BUY, "1", "3895")
    assert [frame["channel"] for frame in talk.hear()] == ["bbo", "l2Book"]


def test_trades_when_they_happen_name_taker_side_buyer_and_seller(talk: Talk) -> None:
    """users = [buyer, seller]."""
    talk.subscribe("trades", coin="ETH")
    talk.front.house(Side.BUY, "1", "3890")
    talk.front.order(buy=False, price="3890", tif="Ioc")
    (frame,) = talk.hear()
    (row,) = frame["data"]
    assert (row["side"], row["users"][1]) == ("A", USER)


@pytest.mark.parametrize("kind", sorted(CHANNELS))
def test_channel_when_subscribed_is_confirmed_and_survives_activity(kind: str) -> None:
    """Every channel takes its fields and serialises whatever happens."""
    talk = Talk(Front())
    values = {"user": USER, "coin": "ETH", "interval": "1m", "dex": ""}
    fields = {name: values[name] for name in CHANNELS[kind].fields if name in values}
    assert talk.subscribe(kind, **fields)[0]["channel"] == "subscriptionResponse"
    talk.front.house(Side.SELL, "1", "3900")
    talk.front.order(tif="Ioc")
    talk.front.venue.step(START_MS + 3_600_000)
    talk.hear(tick=True)


def test_post_when_action_or_info_is_handed_back_and_its_answer_wrapped(talk: Talk) -> None:
    """The id is echoed; an HTTP failure becomes an error response."""
    payload = talk.front.signed(orders(wire()))
    request = {"method": "post", "id": 7, "request": {"type": "action", "payload": payload}}
    frames, post = talk.session.receive(json.dumps(request), START_MS)
    assert frames == []
    assert post is not None
    body = json.loads(post_frame(post, exchange.handle(talk.front.venue, post.payload, START_MS)).text)
    assert body["data"]["id"] == 7
    assert body["data"]["response"]["payload"]["status"] == "ok"
    bad = json.loads(post_frame(post, exchange.handle(talk.front.venue, {}, START_MS)).text)
    assert bad["data"]["response"]["type"] == "error"
    assert bad["data"]["response"]["payload"].startswith("422: ")
