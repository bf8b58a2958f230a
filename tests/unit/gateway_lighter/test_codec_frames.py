"""WebSocket frames, typed."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from gateway_lighter.account_messages import SendAnswer, SendBatchAnswer
from gateway_lighter.codec_frames import (
    DataFrame,
    ErrorFrame,
    Greeting,
    Pong,
    ServerPing,
    Shutdown,
    TransactionReply,
    UnknownFrame,
    UnreadableData,
    UnreadableReply,
    Unsubscribed,
    parse_frame,
)
from tests.unit.gateway_lighter.support import encode
from venuemesh.errors import ProtocolViolation


def parse(**frame: Any) -> Any:
    """A frame from its keys."""
    return parse_frame(encode(frame))


def test_control_frames() -> None:
    """Each kind by its type."""
    assert parse(type="connected", session_id="x") == Greeting(session_id="x")
    assert parse(type="ping") == ServerPing()
    assert parse(type="pong") == Pong()
    assert parse(type="unsubscribed", channel="order_book/0") == Unsubscribed(channel="order_book:0")
    assert parse(type="shutdown", close_in_ms=500) == Shutdown(close_in_ms=500)


def test_error_frame_in_both_spellings() -> None:
    """Nested without a channel, or flat with one."""
    nested = parse(error={"code": 30005, "message": "Invalid Channel"})
    assert isinstance(nested, ErrorFrame) and (nested.meaning.code, nested.channel, nested.id) == (30005, None, None)
    flat = parse(type="error", code=30012, channel="order_book:0", message="failed to subscribe")
    assert isinstance(flat, ErrorFrame) and (flat.meaning.code, flat.channel) == (30012, "order_book:0")
    with pytest.raises(ProtocolViolation):
        parse(type="error", message="no code")


def test_replies_to_transactions() -> None:
    """Queued, refused in two spellings, and a batch."""
    queued = parse(type="jsonapi/sendtx", code=200, id="17", tx_hash="ab", predicted_execution_time_ms=5)
    assert queued == TransactionReply(id="17", answer=SendAnswer(tx_hash="ab", predicted_execution_time_ms=5))
    batch = parse(type="jsonapi/sendtxbatch", code=200, id=18, tx_hash=["ab", "cd"])
    assert batch == TransactionReply(id="18", answer=SendBatchAnswer(tx_hash=("ab", "cd")))
    for refused in (
        parse(error={"code": 21104, "message": "invalid nonce"}, id="17"),
        parse(type="jsonapi/sendtx", code=21104, message="invalid nonce", id="17"),
    ):
        assert isinstance(refused, ErrorFrame) and (refused.id, refused.meaning.code) == ("17", 21104)


@pytest.mark.parametrize("body", [{"code": 200}, {"tx_hash": "ab"}, {"code": 200, "tx_hash": 5}])
def test_reply_with_a_legible_id_and_unreadable_content_keeps_the_id(body: dict[str, Any]) -> None:
    """That one transaction's outcome is unknown, not everybody's."""
    found = parse(type="jsonapi/sendtx", id="17", **body)
    assert isinstance(found, UnreadableReply) and found.id == "17"


def test_reply_without_an_id_is_a_violation() -> None:
    """Nobody knows whose it is."""
    with pytest.raises(ProtocolViolation):
        parse(type="jsonapi/sendtx", code=200, tx_hash="ab")


def test_body_that_breaks_its_shape_keeps_its_channel() -> None:
    """So that its state can be read again."""
    found = parse(type="update/order_book", channel="order_book:3", order_book={"asks": []})
    assert isinstance(found, UnreadableData)
    assert (found.channel, found.is_snapshot) == ("order_book:3", False)


def test_type_nobody_knows_keeps_its_raw_frame() -> None:
    """A new channel is no error of the stream."""
    found = parse(type="update/moon_phase", channel="moon_phase")
    assert isinstance(found, UnknownFrame) and b"moon_phase" in found.raw


@pytest.mark.parametrize("channel", ["market_stats:0", "market_stats:all"])
def test_statistics_of_one_market_and_of_all_are_read_alike(channel: str) -> None:
    """An object, or a map by market id; empty prices are None."""
    stats = {"market_id": 0, "mark_price": "2064.47", "mid_price": "", "daily_price_low": 2311.81}
    value = {"0": stats} if channel.endswith("all") else stats
    found = parse(type="update/market_stats", channel=channel, market_stats=value)
    assert isinstance(found, DataFrame)
    (one,) = found.body.markets
    assert (one.amount("mark_price"), one.amount("mid_price")) == (Decimal("2064.47"), None)
    assert one.daily_price_low == Decimal("2311.81")
    with pytest.raises(KeyError):
        one.amount("symbol")


@pytest.mark.parametrize(
    "value", [{"market_id": 0, "mark_price": "NaN"}, {"0": {"market_id": 0, "mark_price": "x"}}, 5, None]
)
def test_statistics_that_are_none_are_unreadable(value: Any) -> None:
    """Also in fields that may be empty."""
    found = parse(type="update/market_stats", channel="market_stats:0", market_stats=value)
    assert isinstance(found, UnreadableData)


@pytest.mark.parametrize("side", [{"price": "1", "size": ""}, {"price": "", "size": "1"}, {"price": "x", "size": "1"}])
def test_ticker_side_half_empty_is_unreadable(side: dict[str, str]) -> None:
    """Price and size are empty together or not at all."""
    whole = {"price": "2", "size": "1"}
    found = parse(type="update/ticker", channel="ticker:0", ticker={"s": "ETH", "a": whole, "b": side})
    assert isinstance(found, UnreadableData)


def test_account_frames_take_null_for_nothing() -> None:
    """A funding payment alone leaves assets null."""
    found = parse(type="update/account_all", channel="account_all:1", account=1, assets=None, trades={}, positions={})
    assert isinstance(found, DataFrame) and found.body.assets is None
    orders = parse(type="subscribed/account_all_orders", channel="account_all_orders:1", orders=None)
    trades = parse(type="subscribed/account_all_trades", channel="account_all_trades:1", trades={})
    assert isinstance(orders, DataFrame) and orders.body.rows == ()
    assert isinstance(trades, DataFrame) and trades.body.rows == ()


@pytest.mark.parametrize("raw", [b"", b"[]", b"null", b"pong", b'{"type":5}', b'{"error":"text"}'])
def test_frame_that_is_no_object_is_a_violation(raw: bytes) -> None:
    """Typed, with the payload kept."""
    with pytest.raises(ProtocolViolation) as refused:
        parse_frame(raw)
    assert refused.value.metadata["payload"] == raw.decode()
