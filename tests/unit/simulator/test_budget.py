"""Request weight per client address and request budget per account."""

from __future__ import annotations

from typing import Any

import pytest

from simulator.engine.values import Side
from simulator.hyperliquid.limits import WeightLimit, action_weight, info_weight
from tests.unit.simulator.front_world import START_MS, Front, orders, wire


@pytest.mark.parametrize(("length", "weight"), [(1, 1), (39, 1), (40, 2), (79, 2), (80, 3), (200, 6)])
def test_action_when_batched_weighs_one_more_for_every_forty(length: int, weight: int) -> None:
    """1 + floor(length / 40)."""
    assert action_weight(length) == weight


@pytest.mark.parametrize(
    ("kind", "rows", "weight"),
    [
        ("l2Book", 0, 2),
        ("allMids", 0, 2),
        ("clearinghouseState", 0, 2),
        ("orderStatus", 0, 2),
        ("spotClearinghouseState", 0, 2),
        ("exchangeStatus", 0, 2),
        ("userRole", 0, 60),
        ("meta", 0, 20),
        ("openOrders", 500, 20),
        ("userFills", 19, 20),
        ("userFills", 20, 21),
        ("userFillsByTime", 2000, 120),
        ("historicalOrders", 45, 22),
        ("twapHistory", 40, 22),
        ("userTwapSliceFills", 20, 21),
        ("userTwapSliceFillsByTime", 20, 21),
        ("userFunding", 500, 45),
        ("candleSnapshot", 59, 20),
        ("candleSnapshot", 60, 21),
    ],
)
def test_read_when_answered_weighs_by_kind_and_rows(kind: str, rows: int, weight: int) -> None:
    """Two, twenty or sixty; one more per twenty rows, or per sixty candles."""
    assert info_weight(kind, [{}] * rows) == weight


def test_weight_when_a_minute_has_passed_is_free_again() -> None:
    """A sliding minute per client address."""
    limit = WeightLimit(40)
    limit.spend("a", 20, START_MS)
    limit.spend("a", 20, START_MS + 1000)
    assert limit.exhausted("a", START_MS + 59_999)
    assert not limit.exhausted("b", START_MS + 59_999)
    assert not limit.exhausted("a", START_MS + 60_000)


def used(front: Front) -> int:
    """Requests used so far."""
    return int(front.ask("userRateLimit")["nRequestsUsed"])


def cancel(oid: int, count: int = 1) -> dict[str, Any]:
    """A cancel action."""
    return {"type": "cancel", "cancels": [{"a": 1, "o": oid}] * count}


def test_batch_when_sent_counts_every_element_even_the_failed_ones() -> None:
    """Orders, cancels and modifies count one each."""
    front = Front()
    front.act(orders(wire(), wire(size="0.0001"), wire(price="3800")))
    assert used(front) == 3
    front.act(cancel(1, count=4))
    assert used(front) == 7


def test_action_when_refused_costs_nothing() -> None:
    """Neither for what it asked nor for the wait it would have restarted."""
    front = Front()
    assert front.act({"type": "updateLeverage", "asset": 1, "isCross": True, "leverage": 99})["status"] == "err"
    assert front.act(orders(wire()) | {"builder": {"b": "0x" + "7" * 40, "f": 10}})["status"] == "err"
    assert front.act(orders(*[wire()] * 201))["status"] == "err"
    assert used(front) == 0


def test_stale_cancel_when_refused_costs_five_times_its_weight() -> None:
    """A stale order costs nothing."""
    front = Front()
    assert front.order(expires=START_MS)["response"] == "Action already expired"
    assert used(front) == 0
    assert front.act(cancel(1, count=2), expires=START_MS)["response"] == "Action already expired"
    assert used(front) == 10


def test_cap_when_volume_is_traded_grows_by_a_request_per_dollar() -> None:
    """userRateLimit tells what is enforced."""
    front = Front(address_budget=100)
    front.house(Side.SELL, "1", "3900")
    front.order(tif="Ioc")
    assert front.ask("userRateLimit") == {
        "cumVlm": "390.0", "nRequestsUsed": 1, "nRequestsCap": 490, "nRequestsSurplus": 0,
    }  # fmt: skip


def test_budget_when_bought_raises_the_cap_and_needs_no_budget_itself() -> None:
    """reserveRequestWeight at 0.0005 USDC each."""
    front = Front(address_budget=0)
    assert "resting" in front.order()
    assert front.order(price="3800")["status"] == "err"
    assert front.act({"type": "reserveRequestWeight", "weight": 100})["status"] == "ok"
    assert front.ask("userRateLimit")["nRequestsCap"] == 100
    assert front.ask("clearinghouseState")["marginSummary"]["accountValue"] == "9999.95"
    assert "resting" in front.order(price="3800")


def test_budget_when_spent_lets_one_request_pass_in_ten_seconds_but_no_batch() -> None:
    """Refusals in between do not restart the wait."""
    front = Front(address_budget=1)
    oid = front.order()["resting"]["oid"]
    assert front.act(orders(wire(), wire()))["status"] == "err"
    assert "resting" in front.order(price="3800")
    front.now_ms += 9_999
    assert front.order(price="3700")["status"] == "err"
    front.now_ms += 1
    assert "resting" in front.order(price="3700")
    assert front.act(cancel(oid))["status"] == "err"  # three used, and cancels may use twice the one


def test_cancels_when_the_budget_is_spent_have_as_much_again() -> None:
    """min(limit + 100000, 2 x limit)."""
    front = Front(address_budget=3)
    oids = [front.order(price=price)["resting"]["oid"] for price in ("3800", "3700", "3600")]
    for oid in oids:
        assert front.act(cancel(oid))["status"] == "ok"
    assert used(front) == 6


def test_sub_account_when_it_acts_has_a_budget_of_its_own() -> None:
    """Counted by the account acted for."""
    front = Front()
    sub = front.act({"type": "createSubAccount", "name": "one"})["response"]["data"]
    front.act({"type": "subAccountTransfer", "subAccountUser": sub, "isDeposit": True, "usd": 1_000_000_000})
    before = used(front)
    assert "resting" in front.order(vault=sub)
    assert used(front) == before
    assert front.ask("userRateLimit", user=sub)["nRequestsUsed"] == 1
