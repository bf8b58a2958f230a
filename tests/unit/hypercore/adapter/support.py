"""Recorded payloads and a small universe for the gateway's pure tests."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

from hypercore.assets import Universe, build_universe
from hypercore.codec import parse_info
from hypercore.exchange_codec import ExchangeAnswer, parse_exchange_answer
from tests import recordings
from venuemesh.gateway.venue import OrderTicket, Reservation, TwapTerms
from venuemesh.v1 import instrument_pb2, order_pb2

FIXTURES = recordings.recordings("hyperliquid")
needs_recordings = recordings.needs_recordings("hyperliquid")

USER = "0x61fb9e7583dc92cc76eb52f93d88addaa0f02265"
OTHER = "0x" + "12" * 20

SPOT_META = {
    "universe": [
        {"tokens": [1, 0], "name": "PURR/USDC", "index": 0, "isCanonical": True},
        {"tokens": [150, 0], "name": "@107", "index": 107, "isCanonical": False},
    ],
    "tokens": [
        {"name": "USDC", "szDecimals": 8, "weiDecimals": 8, "index": 0, "tokenId": "0x" + "6d" * 16},
        {"name": "PURR", "szDecimals": 0, "weiDecimals": 5, "index": 1, "tokenId": "0x" + "c1" * 16},
        {"name": "HYPE", "szDecimals": 2, "weiDecimals": 8, "index": 150, "tokenId": "0x" + "0d" * 16},
    ],
}
META = {
    "universe": [
        {"name": "BTC", "szDecimals": 5, "maxLeverage": 40, "marginTableId": 40},
        {"name": "ETH", "szDecimals": 4, "maxLeverage": 25, "marginTableId": 25},
        {"name": "SOL", "szDecimals": 2, "maxLeverage": 20, "marginTableId": 20},
        {"name": "OX", "szDecimals": 1, "maxLeverage": 3, "marginMode": "strictIsolated", "isDelisted": True},
        {"name": "FREE", "szDecimals": 0, "maxLeverage": 3, "marginMode": "noCross"},
    ]
}
XYZ_META = {"universe": [{"name": "xyz:SILVER", "szDecimals": 2, "maxLeverage": 25}]}
XYZ_DEXS = [None, {"name": "xyz", "fullName": "XYZ", "deployer": OTHER}]


def universe(dex: str = "", *, include_spot: bool = False) -> Universe:
    """Five perps of the main dex, or one of `xyz`."""
    return build_universe(
        spot_meta=info("spotMeta", SPOT_META),
        metas={dex: info("meta", XYZ_META if dex else META)},
        perp_dexs=info("perpDexs", XYZ_DEXS),
        include_spot=include_spot,
    )


def info(info_type: str, value: Any) -> Any:
    """A payload written out, as the codec reads it."""
    return parse_info(info_type, json.dumps(value).encode())


def body(name: str) -> bytes:
    """A recorded body as bytes."""
    envelope = json.loads((FIXTURES / name).read_text())
    return json.dumps(envelope["frame"] if "frame" in envelope else envelope["response"]).encode()


CLOID = "0x" + "ab" * 16


def ticket(
    *,
    quantity: str = "1",
    price: str = "1500",
    order_type: order_pb2.OrderType.ValueType = order_pb2.ORDER_TYPE_LIMIT,
    time_in_force: order_pb2.TimeInForce.ValueType = order_pb2.TIME_IN_FORCE_GTC,
    post_only: bool = False,
    side: order_pb2.Side.ValueType = order_pb2.SIDE_BUY,
    trigger_price: str | None = None,
    reduce_only: bool = False,
    twap: TwapTerms | None = None,
) -> OrderTicket:
    """A limit order of ETH unless told otherwise."""
    return OrderTicket(
        account_id="main",
        order_id="ab" * 16,
        venue_client_order_id=CLOID,
        instrument=instrument_pb2.Instrument(symbol="ETH/USDC:USDC", venue_symbol="ETH"),
        side=side,
        order_type=order_type,
        quantity=Decimal(quantity),
        price=Decimal(price),
        trigger_price=None if trigger_price is None else Decimal(trigger_price),
        time_in_force=time_in_force,
        post_only=post_only,
        reduce_only=reduce_only,
        reservation=Reservation(nonce=1, expires_ns=2_000_000),
        twap=twap,
    )


def answer(*statuses: Any) -> ExchangeAnswer:
    """An `ok` answer with these statuses."""
    body = {"status": "ok", "response": {"type": "order", "data": {"statuses": list(statuses)}}}
    return parse_exchange_answer(json.dumps(body).encode())


def refusal(text: str) -> ExchangeAnswer:
    """A refusal of the whole action."""
    return parse_exchange_answer(json.dumps({"status": "err", "response": text}).encode())
