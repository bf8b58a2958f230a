"""Triggers and TP/SL groups at the front: answers, status rows, and the order in which they are told."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from simulator.engine.values import Side
from tests.unit.simulator.front_world import USER, Front, orders, wire
from tests.unit.simulator.listening import Ear


def trigger(kind: str, price: str, *, market: bool = True) -> dict[str, Any]:
    """Trigger terms."""
    return {"isMarket": market, "triggerPx": price, "tpsl": kind}


def leg(kind: str, price: str, *, market: bool = True, limit: str | None = None, **more: Any) -> dict[str, Any]:
    """A closing sell of 0.1 ETH."""
    terms: dict[str, Any] = {
        "buy": False,
        "reduce": True,
        "price": limit or price,
        "trigger": trigger(kind, price, market=market),
    }
    return wire(**(terms | more))


def held(front: Front, *, buy: bool = True) -> None:
    """Give the user 0.1 ETH at 3900, long or short."""
    front.house(Side.SELL if buy else Side.BUY, "0.1", "3900")
    assert "filled" in front.order(buy=buy, tif="Ioc")


def move(front: Front, price: str) -> None:
    """Move the mark of ETH."""
    front.venue.population.set_reference("ETH", Decimal(price), front.now_ms)


def place(front: Front, grouping: str, *legs: dict[str, Any]) -> list[Any]:
    """Place a group; its statuses."""
    body = front.act(orders(*legs, grouping=grouping))
    assert body["status"] == "ok", body
    return list(body["response"]["data"]["statuses"])


def told(heard: dict[str, list[Any]]) -> list[tuple[int, str]]:
    """Rows of orderUpdates as (oid, status), in order."""
    return [(row["order"]["oid"], row["status"]) for frame in heard["orderUpdates"] for row in frame]


def statuses(front: Front, *oids: int) -> list[str]:
    """orderStatus of orders."""
    return [front.ask("orderStatus", oid=oid)["order"]["status"] for oid in oids]


def ids(front: Front) -> list[int]:
    """Open orders, oldest first."""
    return [row["oid"] for row in reversed(front.ask("openOrders"))]


SIDES = [
    (True, "sl", "3800", "3801", "3800"),
    (True, "tp", "4000", "3999", "4000"),
    (False, "sl", "4000", "3999", "4000"),
    (False, "tp", "3800", "3801", "3800"),
]


@pytest.mark.parametrize("market", [True, False])
@pytest.mark.parametrize(("buy", "kind", "price", "near", "hit"), SIDES)
def test_trigger_when_the_mark_reaches_it_and_not_before_closes_the_position(
    buy: bool, kind: str, price: str, near: str, hit: str, market: bool
) -> None:
    """Stop and take-profit, market and limit, for longs and shorts."""
    front = Front()
    held(front, buy=buy)
    front.house(Side.BUY if buy else Side.SELL, "1", price)
    closing = leg(kind, price, market=market) | {"b": not buy}
    (status,) = place(front, "na", closing)
    ear = Ear(front)
    ear.subscribe("orderUpdates", user=USER)
    move(front, near)
    assert told(ear.hear()) == []
    move(front, hit)
    oid = status["resting"]["oid"]
    assert told(ear.hear()) == [(oid, "triggered"), (oid, "filled")]
    assert front.ask("clearinghouseState")["assetPositions"] == []
    row = front.ask("orderStatus", oid=oid)["order"]["order"]
    way = "above" if (kind == "tp") == buy else "below"
    family = "Take Profit" if kind == "tp" else "Stop"
    assert row["triggerCondition"] == f"Price {way} {price}"
    assert row["orderType"] == f"{family} {'Market' if market else 'Limit'}"
    assert (row["isTrigger"], row["triggerPx"], row["tif"]) == (True, f"{price}.0", None)


@pytest.mark.parametrize(("buy", "kind", "price"), [(False, "sl", "3950"), (False, "tp", "3850"), (True, "sl", "3850")])
def test_trigger_when_its_condition_holds_already_is_an_invalid_price(buy: bool, kind: str, price: str) -> None:
    """Exact text and status code."""
    front = Front()
    held(front, buy=not buy)
    assert place(front, "na", leg(kind, price) | {"b": buy}) == [{"error": "Invalid TP/SL price. asset=1"}]
    assert front.ask("historicalOrders")[0]["status"] == "badTriggerPxRejected"


def test_limit_trigger_when_nobody_meets_it_rests_at_its_own_price() -> None:
    """`isMarket` false: after triggering it is a limit order."""
    front = Front()
    held(front)
    (status,) = place(front, "na", leg("sl", "3800", market=False, limit="3790"))
    move(front, "3800")
    oid = status["resting"]["oid"]
    assert statuses(front, oid) == ["open"]
    assert front.venue.engine.markets["ETH"].book.best_price(Side.SELL) == 3790


def test_market_trigger_when_nobody_meets_it_is_rejected_for_lack_of_liquidity() -> None:
    """Bounded by ten percent, it finds an empty book."""
    front = Front()
    held(front)
    (status,) = place(front, "na", leg("sl", "3800"))
    move(front, "3800")
    assert statuses(front, status["resting"]["oid"]) == ["marketOrderNoLiquidityRejected"]


def test_bracket_when_the_parent_rests_waits_for_its_fill() -> None:
    """The children are listed under the parent and at top level, all rows in one frame."""
    front = Front()
    ear = Ear(front)
    ear.subscribe("orderUpdates", user=USER)
    answer = place(front, "normalTpsl", wire(price="3800"), leg("tp", "4200"), leg("sl", "3500"))
    assert answer[1:] == ["waitingForFill", "waitingForFill"]
    parent, profit, stop = ids(front)
    assert told(ear.hear()) == [(parent, "open"), (profit, "open"), (stop, "open")]
    rows = {row["oid"]: row for row in front.ask("frontendOpenOrders")}
    assert [child["oid"] for child in rows[parent]["children"]] == [profit, stop]
    assert (rows[profit]["reduceOnly"], rows[profit]["isPositionTpsl"]) == (True, False)


def test_bracket_when_the_parent_is_cancelled_takes_its_children_along() -> None:
    """Parent first, then its children, in one frame."""
    front = Front()
    place(front, "normalTpsl", wire(price="3800"), leg("tp", "4200"), leg("sl", "3500"))
    parent, profit, stop = ids(front)
    ear = Ear(front)
    ear.subscribe("orderUpdates", user=USER)
    front.act({"type": "cancel", "cancels": [{"a": 1, "o": parent}]})
    assert told(ear.hear()) == [(parent, "canceled"), (profit, "canceled"), (stop, "canceled")]


def test_bracket_when_one_child_fills_cancels_the_other_as_sibling() -> None:
    """Triggered, filled, then the sibling."""
    front = Front()
    front.house(Side.SELL, "0.1", "3900")
    answer = place(front, "normalTpsl", wire(tif="Ioc"), leg("tp", "4200"), leg("sl", "3500"))
    assert "filled" in answer[0]
    assert answer[1:] == ["waitingForTrigger", "waitingForTrigger"]
    profit, stop = ids(front)
    front.house(Side.BUY, "1", "4200")
    ear = Ear(front)
    ear.subscribe("orderUpdates", user=USER)
    move(front, "4200")
    assert told(ear.hear()) == [(profit, "triggered"), (profit, "filled"), (stop, "siblingFilledCanceled")]


def test_bracket_when_a_limit_child_only_triggers_keeps_its_sibling() -> None:
    """A resting take-profit protects nothing yet: the stop stays."""
    front = Front()
    front.house(Side.SELL, "0.1", "3900")
    place(front, "normalTpsl", wire(tif="Ioc"), leg("tp", "4200", market=False, limit="4250"), leg("sl", "3500"))
    profit, stop = ids(front)
    move(front, "4200")
    assert statuses(front, profit, stop) == ["open", "open"]
    front.house(Side.BUY, "1", "3500")
    move(front, "3500")  # the stop closes the position; the take-profit goes
    assert statuses(front, stop, profit) == ["filled", "siblingFilledCanceled"]
    assert front.ask("clearinghouseState")["assetPositions"] == []


def test_bracket_when_the_position_is_closed_by_hand_loses_its_children() -> None:
    """Armed children of a filled parent have nothing left to reduce."""
    front = Front()
    front.house(Side.SELL, "0.1", "3900")
    place(front, "normalTpsl", wire(tif="Ioc"), leg("tp", "4200"), leg("sl", "3500"))
    children = ids(front)
    front.house(Side.BUY, "1", "3890")
    front.order(buy=False, price="3890", tif="Ioc")
    assert statuses(front, *children) == ["reduceOnlyCanceled", "reduceOnlyCanceled"]


def test_position_tpsl_when_placed_follows_the_position_and_one_ends_the_other() -> None:
    """Answered waitingForTrigger, size zero, and the whole position when it fires."""
    front = Front()
    held(front)
    legs = [leg("tp", "4200", size="0"), leg("sl", "3500", size="0")]
    assert place(front, "positionTpsl", *legs) == ["waitingForTrigger", "waitingForTrigger"]
    profit, stop = ids(front)
    row = next(row for row in front.ask("frontendOpenOrders") if row["oid"] == profit)
    assert (row["isPositionTpsl"], row["sz"], row["origSz"]) == (True, "0.0", "0.0")
    front.house(Side.SELL, "0.2", "3900")
    front.order(size="0.2", tif="Ioc")
    front.house(Side.BUY, "1", "4200")
    ear = Ear(front)
    ear.subscribe("orderUpdates", user=USER)
    move(front, "4200")
    assert told(ear.hear()) == [(profit, "triggered"), (profit, "filled"), (stop, "siblingFilledCanceled")]
    assert front.ask("clearinghouseState")["assetPositions"] == []


def test_position_tpsl_when_the_position_is_closed_by_hand_is_cancelled() -> None:
    """In the same frame as the closing fill, and not told as a cancel by others."""
    front = Front()
    held(front)
    place(front, "positionTpsl", leg("tp", "4200", size="0"), leg("sl", "3500", size="0"))
    profit, stop = ids(front)
    front.house(Side.BUY, "1", "3890")
    ear = Ear(front)
    ear.subscribe("orderUpdates", user=USER)
    ear.subscribe("userEvents", user=USER)
    front.order(buy=False, price="3890", tif="Ioc")
    heard = ear.hear()
    assert len(heard["orderUpdates"]) == 1
    assert set(told(heard)[2:]) == {(profit, "reduceOnlyCanceled"), (stop, "reduceOnlyCanceled")}
    assert [next(iter(data)) for data in heard["user"]] == ["fills"]


def test_ioc_when_partly_filled_answers_filled_and_drops_the_rest_silently() -> None:
    """`filled` with less than asked for; no row in orderUpdates unless the venue is told to send one."""
    for tell in (False, True):
        front = Front()
        front.venue.tell_ioc_remainder = tell
        front.house(Side.SELL, "0.04", "3900")
        ear = Ear(front)
        ear.subscribe("orderUpdates", user=USER)
        filled = front.order(size="0.1", tif="Ioc")["filled"]
        assert (filled["totalSz"], filled["avgPx"]) == ("0.04", "3900.0")
        words = [status for _, status in told(ear.hear())]
        assert words == (["open", "open", "canceled"] if tell else ["open", "open"])
        row = front.ask("orderStatus", oid=filled["oid"])["order"]
        assert (row["order"]["sz"], row["order"]["origSz"], row["status"]) == ("0.06", "0.1", "canceled")
        assert front.ask("openOrders") == []
