"""Frames of every channel of the reference, replies to posts, and what nobody knows."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from hypercore.exchange_codec import Accepted, Refused
from hypercore.frames import (
    CHANNELS,
    ActionReply,
    DataFrame,
    ErrorFrame,
    Greeting,
    InfoReply,
    Pong,
    PostErrorReply,
    SubscriptionReply,
    UnknownFrame,
    UnreadablePostReply,
    parse_frame,
)
from tests.unit.hypercore.shapes import FILL, ROW, STATE, TWAP, USER
from venuemesh.errors import ProtocolViolation

LEVEL = {"px": "111065.0", "sz": "6.98", "n": 13}
CTX = {
    "funding": "0.0",
    "openInterest": "0.0",
    "prevDayPx": "1.0",
    "dayNtlVlm": "0.0",
    "premium": None,
    "oraclePx": "1.0",
    "markPx": "1.0",
    "midPx": None,
    "impactPxs": None,
    "dayBaseVlm": "0.0",
}
SPOT_CTX = {
    "dayNtlVlm": "1.0",
    "markPx": "1.0",
    "midPx": "1.0",
    "prevDayPx": "1.0",
    "circulatingSupply": "1.0",
    "coin": "@107",
}
FUNDING = {
    "time": 1,
    "coin": "BTC",
    "usdc": "0.000021",
    "szi": "0.00004",
    "fundingRate": "-0.00000795",
    "nSamples": None,
}
TRADE = {
    "coin": "SOL",
    "side": "A",
    "px": "128.5",
    "sz": "0.42",
    "time": 1,
    "hash": "0x0",
    "tid": 8,
    "users": [USER, USER],
}
CANDLE = {
    "t": 1,
    "T": 2,
    "s": "BTC",
    "i": "1m",
    "o": "1.0",
    "c": "2.0",
    "h": "3.0",
    "l": "0.5",
    "v": "9.0",
    "n": 4,
}
UPDATE = {
    "order": {"coin": "ETH", "side": "B", "limitPx": "1.0", "sz": "1.0", "oid": 1, "timestamp": 1, "origSz": "1.0"},
    "status": "open",
    "statusTimestamp": 1,
}
HISTORY = {"time": 1, "state": TWAP, "status": {"status": "activated"}, "twapId": 1}

DATA: dict[str, Any] = {
    "allMids": {"mids": {"BTC": "1.0"}, "dex": "xyz"},
    "l2Book": {"coin": "BTC", "time": 1, "levels": [[LEVEL], []], "fast": True},
    "bbo": {"coin": "BTC", "time": 1, "bbo": [LEVEL, None]},
    "trades": [TRADE],
    "candle": CANDLE,
    "activeAssetCtx": {"coin": "BTC", "ctx": CTX},
    "activeSpotAssetCtx": {"coin": "@107", "ctx": SPOT_CTX},
    "assetCtxs": {"dex": "xyz", "ctxs": [CTX]},
    "spotAssetCtxs": [SPOT_CTX],
    "allDexsAssetCtxs": {"ctxs": [["", [CTX]], ["xyz", []]]},
    "fastAssetCtxs": {"BTC": {"markPx": "1.0"}, "ETH": {}},
    "notification": {"notification": "Resting order filled"},
    "orderUpdates": [UPDATE],
    "user": {"nonUserCancel": [{"coin": "BTC", "oid": 1}]},
    "userFills": {"isSnapshot": True, "user": USER, "fills": [FILL]},
    "userFundings": {"user": USER, "fundings": [FUNDING]},
    "userNonFundingLedgerUpdates": {
        "user": USER,
        "nonFundingLedgerUpdates": [{"time": 1, "hash": "0x0", "delta": {"type": "deposit", "usdc": "5.0"}}],
    },
    "activeAssetData": {
        "user": USER,
        "coin": "BTC",
        "leverage": {"type": "cross", "value": 20},
        "maxTradeSzs": ["1.0", "1.0"],
        "availableToTrade": ["1.0", "1.0"],
    },
    "webData2": {"anything": [1, None]},
    "webData3": {"userState": {}, "perpDexStates": []},
    "clearinghouseState": {"dex": "xyz", "user": USER, "clearinghouseState": STATE},
    "openOrders": {"dex": "", "user": USER, "orders": [ROW]},
    "twapStates": {"dex": "", "user": USER, "states": [[1, TWAP]]},
    "allDexsClearinghouseState": {"user": USER, "clearinghouseStates": [["", STATE], ["xyz", STATE]]},
    "spotState": {"user": USER, "spotState": {"balances": []}},
    "userHistoricalOrders": {
        "user": USER,
        "orderHistory": [{"order": ROW, "status": "open", "statusTimestamp": 1}],
    },
    "userTwapSliceFills": {"user": USER, "twapSliceFills": [{"fill": FILL, "twapId": 1}]},
    "userTwapHistory": {"isSnapshot": True, "user": USER, "history": [HISTORY]},
}


def frame(channel: str, data: Any) -> bytes:
    return json.dumps({"channel": channel, "data": data}).encode()


@pytest.mark.parametrize("channel", sorted(CHANNELS))
def test_parse_frame_types_every_channel_of_the_reference(channel: str) -> None:
    """A channel without an example here fails, so none can be added untested."""
    parsed = parse_frame(frame(channel, DATA[channel]))
    assert isinstance(parsed, DataFrame)
    assert parsed.channel == channel


@pytest.mark.parametrize("channel", sorted(CHANNELS))
@pytest.mark.parametrize("data", ["text", 5, None])
def test_parse_frame_of_a_known_channel_with_other_data_is_a_protocol_violation(channel: str, data: Any) -> None:
    """Known channel, wrong shape: loud."""
    with pytest.raises(ProtocolViolation):
        parse_frame(frame(channel, data))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("fills", [FILL]),
        ("funding", FUNDING),
        (
            "liquidation",
            {
                "lid": 1,
                "liquidator": USER,
                "liquidated_user": USER,
                "liquidated_ntl_pos": "1.0",
                "liquidated_account_value": "1.0",
            },
        ),
        ("twapHistory", [HISTORY]),
        ("twapSliceFills", [{"fill": FILL, "twapId": 1}]),
    ],
)
def test_parse_frame_of_user_events_sets_the_one_that_came(key: str, value: Any) -> None:
    """Each kind of user event."""
    parsed = parse_frame(frame("user", {key: value}))
    assert isinstance(parsed, DataFrame)
    present = [name for name in parsed.data.__struct_fields__ if getattr(parsed.data, name) is not None]
    assert len(present) == 1
    assert present[0].replace("_", "") == key.lower()


@pytest.mark.parametrize("raw", [frame("user", {"comet": {}}), frame("user", {}), frame("comets", [1])])
def test_parse_frame_of_an_unknown_channel_or_event_is_an_unknown_frame(raw: bytes) -> None:
    """Kept with its data, never dropped."""
    parsed = parse_frame(raw)
    assert isinstance(parsed, UnknownFrame)
    assert json.loads(parsed.raw) == json.loads(raw)["data"]


def test_parse_frame_of_control_frames() -> None:
    """Pong, acknowledgement, error text and the greeting, which is no JSON."""
    assert parse_frame(b'{"channel":"pong"}') == Pong()
    reply: dict[str, Any] = {"method": "subscribe", "subscription": {"type": "l2Book", "coin": "BTC", "nSigFigs": None}}
    assert parse_frame(frame("subscriptionResponse", reply)) == SubscriptionReply(
        method="subscribe", subscription=reply["subscription"]
    )
    assert parse_frame(frame("error", "Invalid subscription x")) == ErrorFrame(text="Invalid subscription x")
    assert isinstance(parse_frame(b"Websocket connection established."), Greeting)


def post(response: Any, number: Any = 5) -> bytes:
    return frame("post", {"id": number, "response": response})


def test_parse_frame_of_post_replies() -> None:
    """Accepted, refused, info and error replies, each with its id."""
    ok = {"type": "action", "payload": {"status": "ok", "response": {"type": "default"}}}
    assert parse_frame(post(ok)) == ActionReply(id=5, answer=Accepted(kind="default"))
    err = {"type": "action", "payload": {"status": "err", "response": "Nonce mismatch."}}
    refused = parse_frame(post(err))
    assert isinstance(refused, ActionReply)
    assert isinstance(refused.answer, Refused)
    info = parse_frame(post({"type": "info", "payload": {"type": "allMids", "data": {"BTC": "1.0"}}}))
    assert info == InfoReply(id=5, info_type="allMids", data=b'{"BTC": "1.0"}')
    assert parse_frame(post({"type": "error", "payload": "422: bad"})) == PostErrorReply(id=5, text="422: bad")


@pytest.mark.parametrize(
    "response",
    [
        {"type": "action", "payload": {"status": "perhaps"}},
        {"type": "comet", "payload": 1},
        {"type": "info", "payload": []},
        {"type": "error", "payload": {}},
        None,
    ],
)
def test_parse_frame_of_an_unreadable_reply_names_the_request(response: Any) -> None:
    """The id is legible, so exactly that request's outcome is unknown and no other's."""
    parsed = parse_frame(post(response, 7))
    assert isinstance(parsed, UnreadablePostReply)
    assert parsed.id == 7


@pytest.mark.parametrize("raw", [b"", b"hello", b"{}", b'{"channel":5}', b"[]", post({}, "x"), b'{"data":1}'])
def test_parse_frame_of_no_frame_is_a_protocol_violation(raw: bytes) -> None:
    """Not JSON, no channel, or a reply without a legible id."""
    with pytest.raises(ProtocolViolation):
        parse_frame(raw)


def test_parse_frame_keeps_decimals_exact() -> None:
    """Prices come from the text, digit for digit."""
    parsed = parse_frame(frame("bbo", {**DATA["bbo"], "bbo": [None, {**LEVEL, "px": "0.10000000000000001"}]}))
    assert isinstance(parsed, DataFrame)
    assert parsed.data.bbo[1].px == Decimal("0.10000000000000001")
