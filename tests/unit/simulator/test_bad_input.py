"""Nothing a client can send breaks the front: it is answered, refused or unprocessable."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.hyperliquid import exchange, info
from simulator.hyperliquid.channels import CHANNELS
from simulator.hyperliquid.session import Session
from tests.unit.simulator.front_world import START_MS, USER, Front, orders

FRONT = Front()
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 70), 1 << 70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["", "ETH", "xyz:TSLA", "@107", USER, "1", "0.1", "-1", "1e18", "NaN", "0x" + "1" * 32, "1m"]),
    st.text(max_size=8),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner), max_leaves=6
)
FIELDS = ("user", "coin", "dex", "oid", "startTime", "endTime", "req", "nSigFigs", "mantissa", "builder", "interval")


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(VALUES, st.sampled_from(sorted(info.READS))),
    st.dictionaries(st.sampled_from(FIELDS), VALUES),
)
def test_info_when_given_anything_answers_with_a_status(kind: Any, fields: dict[str, Any]) -> None:
    """200, 422 or 500 for an unknown dex; never an exception."""
    answer = info.handle(FRONT.venue, {"type": kind, **fields}, START_MS)
    assert answer.status in (200, 422, 500)
    json.dumps(answer.body)


@settings(max_examples=100, deadline=None)
@given(st.one_of(st.sampled_from(sorted(CHANNELS)), VALUES), st.dictionaries(st.sampled_from(FIELDS), VALUES))
def test_socket_when_given_any_subscription_confirms_or_errs(kind: Any, fields: dict[str, Any]) -> None:
    """A subscription is confirmed or refused in words."""
    message = json.dumps({"method": "subscribe", "subscription": {"type": kind, **fields}})
    frames, _ = Session(FRONT.venue).receive(message, START_MS)
    assert frames[0].channel in ("subscriptionResponse", "error")


@settings(max_examples=100, deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "a": st.sampled_from([0, 1, 4, 10107, 110001, 999, -1]),
            "b": st.booleans(),
            "p": st.sampled_from(["0", "1", "3900", "3900.05", "430", "1e18", "-3900", "x", "", "1e-12"]),
            "s": st.sampled_from(["0", "0.1", "1e18", "-1", "x", "1e-12", "100"]),
            "r": st.booleans(),
            "t": st.sampled_from(
                [
                    {"limit": {"tif": "Gtc"}},
                    {"limit": {"tif": "Ioc"}},
                    {"trigger": {"isMarket": True, "triggerPx": "4000", "tpsl": "tp"}},
                    {"trigger": {"isMarket": False, "triggerPx": "x", "tpsl": "sl"}},
                ]
            ),
        }
    ),
    st.sampled_from(["na", "normalTpsl", "positionTpsl", {"p": 5}]),
)
def test_order_when_given_any_numbers_gets_one_status_an_order(order: dict[str, Any], grouping: Any) -> None:
    """Two equal orders, two statuses, whatever they hold."""
    body = FRONT.act(orders(order, order, grouping=grouping))
    assert len(body["response"]["data"]["statuses"]) == 2


@settings(max_examples=100, deadline=None)
@given(VALUES)
def test_exchange_when_given_anything_is_unprocessable(payload: Any) -> None:
    """What is no envelope is a 422."""
    for body in (payload, {"action": payload, "nonce": 1, "signature": {"r": "0x1", "s": "0x1", "v": 27}}):
        assert exchange.handle(FRONT.venue, body, START_MS).status == 422
