"""REST answers: shapes that vary between servers, and everything else refused with the payload kept."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_lighter.codec import ENDPOINTS, RAW_KEPT, parse_answer, parse_refusal
from gateway_lighter.messages import Trades
from tests.unit.gateway_lighter.support import encode
from venuemesh.errors import ProtocolViolation, Reason

TRADE: dict[str, Any] = {
    "trade_id": 1,
    "type": "trade",
    "market_id": 0,
    "size": "0.5",
    "price": "2000.10",
    "usd_amount": "1000.05",
    "ask_id": 281474976710657,
    "bid_id": 562949953421311,
    "ask_account_id": 1,
    "bid_account_id": 2,
    "is_maker_ask": True,
    "timestamp": 1_790_000_000_000,
}


def trades(**changes: Any) -> Trades:
    """One trade with changes, parsed."""
    answer: Trades = parse_answer("trades", encode({"code": 200, "trades": [{**TRADE, **changes}]}))
    return answer


@pytest.mark.parametrize("body", [{"code": 200, "trades": []}, {"code": 200, "trades": None}, {"code": 200}])
def test_empty_list_in_any_of_its_spellings_is_empty(body: dict[str, Any]) -> None:
    """[], null and a missing key."""
    assert not parse_answer("recentTrades", encode(body)).trades


def test_zero_fields_left_out_are_zero() -> None:
    """Fees and flags of a trade."""
    (trade,) = trades().trades or ()
    assert (trade.taker_fee, trade.maker_fee, trade.taker_position_sign_changed) == (0, 0, False)


def test_numbers_written_as_text_are_numbers() -> None:
    """Documents write ids and flags as strings, servers as numbers."""
    (trade,) = trades(trade_id="145", is_maker_ask="true", maker_fee="28").trades or ()
    assert (trade.trade_id, trade.is_maker_ask, trade.maker_fee) == (145, True, 28)


def test_json_numbers_become_decimals_without_a_float_between() -> None:
    """Every digit of a candle's volume stays."""
    raw = b'{"code":200,"r":"1m","c":[{"t":1,"v":13.223699999999997,"V":1e-06}]}'
    (candle,) = parse_answer("candles", raw).c
    assert (candle.v, candle.V, candle.o) == (Decimal("13.223699999999997"), Decimal("0.000001"), Decimal(0))


@pytest.mark.parametrize(
    "changes",
    [
        {"price": "NaN"},
        {"price": "-Infinity"},
        {"price": "sNaN1"},
        {"price": "1_000"},
        {"price": ""},
        {"price": None},
        {"price": [1]},
        {"size": True},
        {"trade_id": -1},
        {"trade_id": "1.5"},
        {"is_maker_ask": "perhaps"},
        {"timestamp": "2026-11-20"},
    ],
)
def test_amount_or_field_of_another_kind_is_refused(changes: dict[str, Any]) -> None:
    """Never a NaN, never a KeyError."""
    with pytest.raises(ProtocolViolation) as refused:
        trades(**changes)
    assert refused.value.reason is Reason.VENUE_PROTOCOL_ERROR
    assert "trade_id" in refused.value.metadata["payload"]


def test_text_that_looks_like_no_number_in_a_text_field_is_fine() -> None:
    """Only amounts must be finite."""
    (trade,) = trades(tx_hash="nan", type="inf").trades or ()
    assert (trade.tx_hash, trade.type) == ("nan", "inf")


@pytest.mark.parametrize("raw", [b"", b"{", b"<html>", b"[]", b"null", b'"text"', b"\xff\xfe", b"[" * 100_000])
@pytest.mark.parametrize("endpoint", sorted(ENDPOINTS))
def test_payload_that_is_no_answer_is_a_protocol_violation(endpoint: str, raw: bytes) -> None:
    """For every endpoint; the kept text is bounded."""
    with pytest.raises(ProtocolViolation) as refused:
        parse_answer(endpoint, raw)
    assert len(refused.value.metadata["payload"]) <= RAW_KEPT


@given(raw=st.binary(max_size=200))
def test_any_bytes_are_typed_or_refused(raw: bytes) -> None:
    """Both readers."""
    for read in (parse_refusal, lambda body: parse_answer("account", body)):
        try:
            read(raw)
        except ProtocolViolation as refused:
            assert refused.metadata["what"]


def test_endpoint_nobody_typed_is_refused_by_name() -> None:
    """A new read needs a shape first."""
    with pytest.raises(ProtocolViolation, match="rfq/list"):
        parse_answer("rfq/list", b"{}")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"code": 200}, None),
        ({"seconds": 1114}, None),
        ({"code": 21104, "message": "invalid nonce"}, 21104),
        ({"code": "21104"}, 21104),
        ({"code": 29404, "message": None}, 29404),
    ],
)
def test_refusal_is_found_by_its_code(body: dict[str, Any], code: int | None) -> None:
    """200 and no code at all are successes."""
    meaning = parse_refusal(encode(body))
    assert (meaning and meaning.code) == code


def test_position_is_signed_by_its_sign() -> None:
    """`position` is unsigned on the wire; another sign than -1, 0, 1 is refused."""
    position = {
        "market_id": 0,
        "initial_margin_fraction": "5.00",
        "sign": -1,
        "position": "1.5",
        "avg_entry_price": "2000",
        "position_value": "-0.000000",
    }
    account = {
        "index": 1,
        "account_type": 0,
        "l1_address": "0x0",
        "available_balance": "0",
        "collateral": "0",
        "positions": [position],
    }
    answer = parse_answer("account", encode({"code": 200, "accounts": [account]}))
    assert answer.accounts[0].positions[0].signed_quantity == Decimal("-1.5")
    account["positions"] = [{**position, "sign": 2}]
    with pytest.raises(ProtocolViolation, match="sign"):
        parse_answer("account", encode({"code": 200, "accounts": [account]}))
