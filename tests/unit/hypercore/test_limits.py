"""Weights and budgets as the venue documents them."""

from __future__ import annotations

from decimal import Decimal

import pytest

from hypercore import actions
from hypercore.action_types import Tif
from hypercore.limits import (
    IP_WEIGHT,
    action_priority,
    action_weight,
    budget_specs,
    info_weight,
    rows_weight,
)
from venuemesh.transport.limiter import Limiter, Priority


@pytest.mark.parametrize(
    ("info_type", "weight"),
    [
        ("l2Book", 2),
        ("allMids", 2),
        ("clearinghouseState", 2),
        ("orderStatus", 2),
        ("spotClearinghouseState", 2),
        ("exchangeStatus", 2),
        ("userRole", 60),
        ("meta", 20),
        ("frontendOpenOrders", 20),
    ],
)
def test_info_weight_is_as_documented(info_type: str, weight: int) -> None:
    """Six light ones, one heavy, all others 20."""
    assert info_weight(info_type) == weight


@pytest.mark.parametrize(
    ("info_type", "rows", "weight"),
    [
        ("userFills", 0, 0),
        ("userFills", 1, 1),
        ("userFills", 20, 1),
        ("userFillsByTime", 2_000, 100),
        ("candleSnapshot", 61, 2),
        ("meta", 500, 0),
    ],
)
def test_rows_weight_counts_each_started_twenty(info_type: str, rows: int, weight: int) -> None:
    """Rows cost on the listed requests only; candles by sixty."""
    assert rows_weight(info_type, tuple(range(rows))) == weight
    assert rows_weight(info_type, None) == 0


@pytest.mark.parametrize(("entries", "weight"), [(1, 1), (39, 1), (40, 2), (79, 2), (80, 3), (200, 6)])
def test_action_weight_grows_with_the_batch(entries: int, weight: int) -> None:
    """1 + floor(length / 40)."""
    assert action_weight(entries) == weight


def test_action_priority_lets_cancels_go_first() -> None:
    """Cancels of both kinds and TWAP cancels; a modify places an order."""
    order = actions.build_order(
        asset_id=0, is_buy=True, price=Decimal(1), size=Decimal(1), order_type=actions.limit(Tif.GTC)
    )
    assert action_priority(actions.build_cancel([(0, 1)])) is Priority.CANCEL
    assert action_priority(actions.build_cancel_by_cloid([(0, "0x" + "0" * 32)])) is Priority.CANCEL
    assert action_priority(actions.build_twap_cancel(0, 1)) is Priority.CANCEL
    assert action_priority(actions.build_order_action([order])) is Priority.ORDER
    assert action_priority(actions.build_modify(1, order)) is Priority.ORDER


def test_budgets_keep_capacity_for_cancels_when_queries_and_orders_have_spent_theirs() -> None:
    """Whatever reads and orders do, a cancel still passes."""
    limiter = Limiter(budget_specs())
    while limiter.try_acquire({IP_WEIGHT: 20}, Priority.QUERY, 0.0):
        pass
    assert limiter.try_acquire({IP_WEIGHT: 1}, Priority.ORDER, 0.0)
    while limiter.try_acquire({IP_WEIGHT: 1}, Priority.ORDER, 0.0):
        pass
    assert limiter.try_acquire({IP_WEIGHT: 6}, Priority.CANCEL, 0.0)
