"""What an order without a venue must say."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from router.terms import parse_terms
from venuemesh.errors import InvalidRequest, Reason
from venuemesh.v1 import order_pb2

MARKET: dict[str, Any] = {
    "account_id": "main",
    "symbol": "BTC/USDC:USDC",
    "side": order_pb2.SIDE_BUY,
    "order_type": order_pb2.ORDER_TYPE_MARKET,
    "quantity": "1.5",
}
LIMIT: dict[str, Any] = {
    **MARKET,
    "order_type": order_pb2.ORDER_TYPE_LIMIT,
    "price": "100",
    "time_in_force": order_pb2.TIME_IN_FORCE_GTC,
}


def test_market_order_without_time_in_force_is_ioc() -> None:
    """The contract's default."""
    terms = parse_terms(order_pb2.NewOrder(**MARKET))
    assert terms.time_in_force == order_pb2.TIME_IN_FORCE_IOC
    assert (terms.quantity, terms.price, terms.may_rest) == (Decimal("1.5"), None, False)


def test_plan_needs_no_client_order_id_and_a_bad_one_is_refused() -> None:
    """Empty is a plan; a key outside the grammar is refused."""
    assert parse_terms(order_pb2.NewOrder(**MARKET)).symbol == "BTC/USDC:USDC"
    with pytest.raises(InvalidRequest) as caught:
        parse_terms(order_pb2.NewOrder(**MARKET, client_order_id="a b"))
    assert caught.value.reason is Reason.INVALID_CLIENT_ORDER_ID


@pytest.mark.parametrize(
    ("base", "changes", "reason", "field"),
    [
        (MARKET, {"account_id": ""}, Reason.REQUIRED_FIELD_MISSING, "order.account_id"),
        (MARKET, {"symbol": ""}, Reason.REQUIRED_FIELD_MISSING, "order.symbol"),
        (MARKET, {"side": 0}, Reason.REQUIRED_FIELD_MISSING, "order.side"),
        (MARKET, {"side": 9999}, Reason.INVALID_ARGUMENT, "order.side"),
        (MARKET, {"order_type": 0}, Reason.REQUIRED_FIELD_MISSING, "order.order_type"),
        (
            MARKET,
            {"order_type": 3, "trigger": order_pb2.Trigger(price="1")},
            Reason.UNSUPPORTED_ORDER_TYPE,
            "order.order_type",
        ),
        (MARKET, {"tags": {str(place): "x" for place in range(17)}}, Reason.INVALID_ARGUMENT, "order.tags"),
        (MARKET, {"twap": order_pb2.TwapSchedule()}, Reason.CONTRADICTORY_FIELDS, "order.twap"),
        (LIMIT, {"time_in_force": 9999}, Reason.UNSUPPORTED_TIME_IN_FORCE, "order.time_in_force"),
        (LIMIT, {"time_in_force": 2, "instructions": [1]}, Reason.CONTRADICTORY_FIELDS, "order.instructions"),
        (MARKET, {"quantity": ""}, Reason.REQUIRED_FIELD_MISSING, "order.quantity"),
        (MARKET, {"quantity": "1e3"}, Reason.INVALID_DECIMAL, "order.quantity"),
        (MARKET, {"quantity": "0"}, Reason.QUANTITY_NOT_POSITIVE, "order.quantity"),
        (MARKET, {"quantity": "-1"}, Reason.QUANTITY_NOT_POSITIVE, "order.quantity"),
        (MARKET, {"price": "1"}, Reason.CONTRADICTORY_FIELDS, "order.price"),
        (MARKET, {"trigger": order_pb2.Trigger(price="1")}, Reason.CONTRADICTORY_FIELDS, "order.trigger"),
        (MARKET, {"instructions": [2]}, Reason.UNSUPPORTED_INSTRUCTION, "order.instructions"),
        (LIMIT, {"price": "0"}, Reason.PRICE_NOT_POSITIVE, "order.price"),
        (LIMIT, {"price": None}, Reason.REQUIRED_FIELD_MISSING, "order.price"),
        (LIMIT, {"time_in_force": 0}, Reason.REQUIRED_FIELD_MISSING, "order.time_in_force"),
        (LIMIT, {"max_slippage_bps": 5}, Reason.CONTRADICTORY_FIELDS, "order.max_slippage_bps"),
    ],
)
def test_bad_field_is_refused_with_its_reason_and_name(
    base: dict[str, Any], changes: dict[str, Any], reason: Reason, field: str
) -> None:
    """Each fault alone, before anything is journalled."""
    values = {key: value for key, value in {**base, **changes}.items() if value is not None}
    with pytest.raises(InvalidRequest) as caught:
        parse_terms(order_pb2.NewOrder(**values))
    assert (caught.value.reason, caught.value.field) == (reason, field)
