"""What only the venue can do: halting, post-only periods, oracle sessions, scheduled cancels, retention."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from simulator.engine.chance import SplitMix
from simulator.engine.population import PopulationSettings
from simulator.engine.values import Rules, Side
from simulator.hyperliquid.nonces import DAY_MS
from simulator.hyperliquid.sessions import Session
from simulator.hyperliquid.venue import Venue, VenueSettings
from tests.unit.simulator.front_world import START_MS, USER, Front, orders, wire
from tests.unit.simulator.listening import Ear
from tests.unit.simulator.money import all_money

TSLA, HOOD = 110001, 110004


def holding_tesla() -> Front:
    """A user long 2 xyz:TSLA from 430, with an order resting."""
    front = Front()
    front.house(Side.SELL, "5", "430", "xyz:TSLA")
    front.order(asset=TSLA, price="430", size="2", tif="Ioc")
    front.order(asset=TSLA, price="400", size="1")
    return front


# -- halting -------------------------------------------------------------------------------------------------


def test_asset_when_halted_cancels_orders_and_settles_positions_at_the_mark() -> None:
    """Orders are delisted away, positions become a Settlement fill without fee or transaction."""
    front = holding_tesla()
    whole = all_money(front.venue)
    front.venue.population.set_reference("xyz:TSLA", Decimal(440), START_MS)
    ear = Ear(front)
    ear.subscribe("orderUpdates", user=USER)
    ear.subscribe("userFills", user=USER)
    front.venue.halt("xyz:TSLA", START_MS)
    heard = ear.hear()
    assert [row["status"] for row in heard["orderUpdates"][0]] == ["delistedCanceled"]
    (fill,) = heard["userFills"][0]["fills"]
    assert (fill["dir"], fill["px"], fill["sz"], fill["side"]) == ("Settlement", "440.0", "2.0", "A")
    assert (fill["fee"], fill["closedPnl"], fill["hash"]) == ("0.0", "20.0", "0x" + "0" * 64)
    assert front.ask("clearinghouseState", dex="xyz")["assetPositions"] == []
    assert front.ask("openOrders", dex="xyz") == []
    assert all_money(front.venue) == whole


def test_asset_when_halted_is_delisted_and_takes_no_orders() -> None:
    """It keeps its index; contexts are null; the books of others go on."""
    front = holding_tesla()
    front.venue.halt("xyz:TSLA", START_MS)
    row = front.ask("meta", dex="xyz")["universe"][1]
    assert (row["name"], row["isDelisted"]) == ("xyz:TSLA", True)
    context = front.ask("metaAndAssetCtxs", dex="xyz")[1][1]
    assert (context["midPx"], context["premium"], context["impactPxs"]) == (None, None, None)
    assert "xyz:TSLA" not in front.ask("allMids", dex="xyz")
    assert "error" in front.order(asset=TSLA, price="430", size="1")
    assert "resting" in front.order(asset=110002, price="190", size="1")


def test_asset_when_halted_ends_its_twaps() -> None:
    """Nothing keeps slicing."""
    front = holding_tesla()
    terms = {"a": TSLA, "b": True, "s": "1.1", "r": False, "m": 5, "t": False}
    front.act({"type": "twapOrder", "twap": terms})
    front.venue.halt("xyz:TSLA", START_MS)
    assert front.ask("twapHistory")[0]["status"] == {"status": "terminated"}


# -- network upgrades ----------------------------------------------------------------------------------------


def test_order_when_an_upgrade_has_just_passed_must_be_post_only() -> None:
    """Everything else is refused without a trace until the period is over."""
    front = Front()
    front.venue.post_only_until_ms = START_MS + 10_000
    text = "Only post-only orders allowed immediately after network upgrade"
    assert front.order() == {"error": text}
    assert front.order(tif="Ioc") == {"error": text}
    assert front.order(asset=TSLA, price="430", size="1") == {"error": text}
    assert front.ask("historicalOrders") == []
    assert "resting" in front.order(tif="Alo")
    front.now_ms += 10_000
    assert "resting" in front.order()


def test_trigger_when_an_upgrade_has_just_passed_waits_for_the_end_of_the_period() -> None:
    """A triggered order would take liquidity."""
    front = Front()
    front.house(Side.SELL, "0.1", "3900")
    front.order(tif="Ioc")
    front.house(Side.BUY, "1", "3800")
    stop = {"isMarket": True, "triggerPx": "3800", "tpsl": "sl"}
    oid = front.order(buy=False, reduce=True, price="3800", trigger=stop)["resting"]["oid"]
    front.venue.post_only_until_ms = START_MS + 10_000
    front.venue.population.set_reference("ETH", Decimal(3800), START_MS)
    assert front.ask("orderStatus", oid=oid)["order"]["status"] == "open"
    front.venue.step(START_MS + 10_000)
    assert front.ask("orderStatus", oid=oid)["order"]["status"] == "filled"


# -- oracle sessions -----------------------------------------------------------------------------------------


def test_mark_when_the_underlying_market_is_closed_stays_within_bounds() -> None:
    """One over the maximum leverage around the last external price, 5 % at 20x."""
    front = Front()
    venue = front.venue
    venue.sessions.begin_internal("xyz:TSLA", START_MS)
    assert venue.sessions.session("xyz:TSLA") is Session.INTERNAL
    for wanted, mark in (("300", "408.5"), ("500", "451.5"), ("440", "440.0")):
        venue.population.set_reference("xyz:TSLA", Decimal(wanted), START_MS)
        assert front.ask("metaAndAssetCtxs", dex="xyz")[1][1]["markPx"] == mark


def test_oracle_when_the_underlying_market_is_closed_follows_the_book_slowly() -> None:
    """A tenth of the way at most; when it opens again oracle and mark jump to the outside price."""
    front = Front()
    venue = front.venue
    front.house(Side.BUY, "5", "439", "xyz:TSLA")
    front.house(Side.SELL, "5", "441", "xyz:TSLA")
    venue.sessions.begin_internal("xyz:TSLA", START_MS)
    market = venue.engine.markets["xyz:TSLA"]
    venue.step(START_MS + 18_000)  # a hundredth of thirty minutes
    assert (market.oracle, market.mark) == (Decimal("430.1"), Decimal(440))
    venue.step(START_MS + 3_600_000)
    assert market.oracle == Decimal("431.09")
    venue.sessions.begin_external("xyz:TSLA", Decimal(450), START_MS + 3_600_000)
    assert (market.oracle, market.mark, market.mark_bounds) == (Decimal(450), Decimal(450), None)
    assert venue.sessions.session("xyz:TSLA") is Session.EXTERNAL


def test_reference_when_the_underlying_market_opens_again_walks_as_before() -> None:
    """The session holds the walk still, and no longer than it lasts."""
    venue = Venue(VenueSettings(), PopulationSettings(levels=3, trade_percent=0), SplitMix(1), START_MS)
    market = venue.engine.markets["xyz:TSLA"]
    venue.sessions.begin_internal("xyz:TSLA", START_MS)
    assert "xyz:TSLA" in venue.population.frozen
    venue.sessions.begin_external("xyz:TSLA", market.oracle, START_MS)
    assert "xyz:TSLA" not in venue.population.frozen


# -- scheduled cancels ---------------------------------------------------------------------------------------


def schedule(front: Front, ahead_ms: int = 5_000) -> Any:
    """Arm the dead man's switch."""
    return front.act({"type": "scheduleCancel", "time": front.now_ms + ahead_ms})


def test_schedule_cancel_when_fired_ten_times_in_a_day_is_refused_until_midnight() -> None:
    """Counted per UTC day; unsetting stays allowed."""
    front = Front()
    front.now_ms = front.now_ms - front.now_ms % DAY_MS + 1000
    for _ in range(10):
        assert schedule(front)["status"] == "ok"
        front.now_ms += 5_000
        front.venue.step(front.now_ms)
    assert schedule(front)["status"] == "err"
    assert front.act({"type": "scheduleCancel"})["status"] == "ok"
    front.now_ms += DAY_MS
    assert schedule(front)["status"] == "ok"


def test_schedule_cancel_when_the_volume_is_short_names_both_amounts() -> None:
    """The text of the venue."""
    front = Front(schedule_cancel_volume=Decimal(1_000_000))
    front.house(Side.SELL, "1", "3900")
    front.order(size="0.5", tif="Ioc")
    assert schedule(front)["response"] == (
        "Cannot set scheduled cancel time until enough volume traded. Required: $1000000. Traded: $1950.00."
    )


# -- retention -----------------------------------------------------------------------------------------------


def fill_many(front: Front, count: int) -> list[int]:
    """Orders that fill at once; their ids."""
    front.house(Side.SELL, "50", "3900")
    return [front.order(tif="Ioc", cloid=f"0x{n:032x}")["filled"]["oid"] for n in range(count)]


@pytest.mark.parametrize("running", [False, True])
def test_order_when_too_many_closed_since_is_unknown_while_its_fill_stays(running: bool) -> None:
    """Retention is by count, by id and by client id alike; set at the start or while running."""
    front = Front() if running else Front(rules=Rules(kept_closed_orders=3, kept_changes=4))
    if running:
        front.venue.keep(orders=3, changes=4)
    oids = fill_many(front, 5)
    known = [front.ask("orderStatus", oid=oid)["status"] for oid in oids]
    assert known == ["unknownOid", "unknownOid", "order", "order", "order"]
    assert front.ask("orderStatus", oid=f"0x{0:032x}") == {"status": "unknownOid"}
    assert front.ask("orderStatus", oid=f"0x{4:032x}")["status"] == "order"
    assert len(front.ask("historicalOrders")) == 4
    assert [fill["oid"] for fill in reversed(front.ask("userFills"))] == oids


def test_open_orders_when_many_closed_since_are_never_forgotten() -> None:
    """Only closed orders count."""
    front = Front()
    front.venue.keep(orders=1)
    oid = front.order(price="3000")["resting"]["oid"]
    fill_many(front, 5)
    assert front.ask("orderStatus", oid=oid)["order"]["status"] == "open"


def test_bracket_when_hardly_anything_is_kept_still_arms_its_children() -> None:
    """Children do not depend on their parent being remembered."""
    front = Front()
    front.venue.keep(orders=0)
    front.house(Side.SELL, "1", "3900")
    stop = {"isMarket": True, "triggerPx": "3500", "tpsl": "sl"}
    child = wire(buy=False, reduce=True, price="3500", trigger=stop)
    body = front.act(orders(wire(tif="Ioc"), child, grouping="normalTpsl"))
    statuses = body["response"]["data"]["statuses"]
    assert "filled" in statuses[0]
    assert statuses[1] == "waitingForTrigger"


# -- what a builder dex says of itself -----------------------------------------------------------------------


def test_margin_modes_of_the_dex_when_misused_are_refused_by_name() -> None:
    """Cross on an isolated asset; taking margin out of a strict one."""
    front = Front()
    cross = {"type": "updateLeverage", "asset": HOOD, "isCross": True, "leverage": 5}
    assert front.act(cross)["response"] == "Cross margin is not allowed for this asset."
    front.house(Side.SELL, "10", "130", "xyz:HOOD")
    front.act(cross | {"isCross": False})
    assert "filled" in front.order(asset=HOOD, price="130", size="1", tif="Ioc")
    margin = {"type": "updateIsolatedMargin", "asset": HOOD, "isBuy": True, "ntli": 10_000_000}
    assert front.act(margin)["status"] == "ok"
    assert front.act(margin | {"ntli": -5_000_000})["status"] == "ok"
    lower = front.act(cross | {"isCross": False, "leverage": 2})
    assert lower["response"] == (
        "Isolated position does not have sufficient margin available to decrease leverage. "
        "To decrease leverage, add margin to the position."
    )
    top_up = {"type": "topUpIsolatedOnlyMargin", "asset": HOOD, "leverage": "2"}
    assert front.act(top_up)["status"] == "ok"
    state = front.ask("clearinghouseState", dex="xyz")["assetPositions"][0]["position"]
    assert state["marginUsed"] == "65.0"
    assert front.act(cross | {"isCross": False, "leverage": 2})["status"] == "ok"


def test_fees_on_the_dex_when_in_growth_mode_are_a_fifth_and_else_double() -> None:
    """Base rate times two, times a tenth in growth mode."""
    front = Front()
    front.house(Side.SELL, "5", "430", "xyz:TSLA")
    front.house(Side.SELL, "5", "4050", "xyz:GOLD")
    front.order(asset=TSLA, price="430", size="1", tif="Ioc")
    front.order(asset=110003, price="4050", size="1", tif="Ioc")
    gold, tesla = front.ask("userFills")
    assert (tesla["fee"], gold["fee"]) == ("0.0387", "3.645")


def test_funding_when_the_hour_is_full_is_halved_on_the_dex_and_told_everywhere() -> None:
    """userFunding, userFundings and userEvents, for both dexes."""
    front = Front()
    front.house(Side.SELL, "100", "430", "xyz:TSLA")
    front.house(Side.SELL, "10", "3900")
    front.order(asset=TSLA, price="430", size="100", tif="Ioc")
    front.order(size="10", tif="Ioc")
    ear = Ear(front)
    ear.subscribe("userFundings", user=USER)
    ear.subscribe("userEvents", user=USER)
    hour = front.now_ms - front.now_ms % 3_600_000 + 3_600_000
    front.now_ms = hour
    front.venue.step(hour)
    rows = front.ask("userFunding", startTime=0)
    assert [(row["time"], row["delta"]["coin"], row["delta"]["usdc"]) for row in rows] == [
        (hour, "ETH", "-0.4875"),  # 39000 at 0.0000125
        (hour, "xyz:TSLA", "-0.26875"),  # 43000 at 0.00000625
    ]
    assert rows[1]["delta"]["fundingRate"] == "0.00000625"
    heard = ear.hear()
    told = [{"time": row["time"], **{k: v for k, v in row["delta"].items() if k != "type"}} for row in rows]
    assert heard["userFundings"][0]["fundings"] == told
    assert [data["funding"] for data in heard["user"]] == told
    snapshot = Ear(front).subscribe("userFundings", user=USER)[0]
    assert (snapshot["isSnapshot"], snapshot["fundings"]) == (True, told)


def test_annotations_when_read_describe_the_dex_and_nothing_of_the_main_one() -> None:
    """Category, names and keywords by coin."""
    front = Front()
    assert front.ask("perpAnnotation", coin="xyz:TSLA")["category"] == "stocks"
    assert front.ask("perpAnnotation", coin="ETH") is None
    assert ["xyz:GOLD", "commodities"] in front.ask("perpCategories")
    concise = dict(front.ask("perpConciseAnnotations"))
    assert concise["xyz:EUR"] == {"category": "fx", "displayName": "EUR", "keywords": ["eur", "fx"]}
    assert front.ask("perpDexStatus", dex="xyz") == {"totalNetDeposit": "10000.0"}
