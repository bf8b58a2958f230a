"""Caps on open interest, margin tiers, and margin that has gone when an order matches."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

from simulator.engine import risk
from simulator.engine.values import MarginTier, Reason, Side
from simulator.hyperliquid.universe import Universe
from tests.unit.simulator.engine_world import ALICE, BOB, BUY, HOUSE, IOC, SELL, World, perpetual
from tests.unit.simulator.front_world import START_MS, USER, Front
from tests.unit.simulator.listening import Ear

CAPPED = {"error": "Order would increase open interest while open interest is capped"}


def capped() -> Front:
    """A user long 0.1 ETH on a market that is then capped."""
    front = Front()
    front.house(Side.SELL, "5", "3900")
    front.house(Side.BUY, "5", "3890")
    front.order(tif="Ioc")
    front.venue.set_open_interest_cap("ETH", Decimal(0), START_MS)
    return front


def last_status(front: Front) -> Any:
    """Status word of the latest order."""
    return front.ask("historicalOrders")[0]["status"]


def test_order_when_open_interest_is_capped_may_not_open_or_flip_but_may_close() -> None:
    """Exact texts and status words."""
    front = capped()
    assert front.ask("perpsAtOpenInterestCap") == ["ETH"]
    assert front.order(tif="Ioc") == CAPPED
    assert last_status(front) == "positionIncreaseAtOpenInterestCapRejected"
    assert front.order(buy=False, price="3890", size="0.3", tif="Ioc") == CAPPED
    assert last_status(front) == "positionFlipAtOpenInterestCapRejected"
    assert "filled" in front.order(buy=False, price="3890", size="0.1", tif="Ioc")


def test_resting_order_when_capped_may_not_be_beyond_the_oracle() -> None:
    """A passive price rests, an aggressive one is refused."""
    front = capped()
    front.venue.population.withdraw_quotes("ETH", START_MS)
    assert "resting" in front.order(price="3880")
    front.venue.population.set_reference("ETH", Decimal(3870), START_MS)
    front.venue.engine.cancel_all("0x00000000000000000000000000000000000000a3", START_MS, Reason.REQUESTED)
    text = "Order rejected due to price more aggressive than oracle while at open interest cap"
    assert front.order(price="3890") == {"error": text}
    assert last_status(front) == "tooAggressiveAtOpenInterestCapRejected"


def test_resting_order_when_the_cap_is_reached_and_it_is_beyond_the_oracle_is_cancelled() -> None:
    """`openInterestCapCanceled`, told as a cancel by the venue."""
    front = Front()
    oid = front.order(price="3895")["resting"]["oid"]
    front.venue.population.set_reference("ETH", Decimal(3890), START_MS)
    ear = Ear(front)
    ear.subscribe("orderUpdates", user=USER)
    ear.subscribe("userEvents", user=USER)
    front.venue.set_open_interest_cap("ETH", Decimal(0), START_MS)
    heard = ear.hear()
    assert heard["orderUpdates"][0][0]["status"] == "openInterestCapCanceled"
    assert heard["user"] == [{"nonUserCancel": [{"coin": "ETH", "oid": oid}]}]


def test_order_when_it_grows_open_interest_too_quickly_is_refused() -> None:
    """One order may add no more than the step."""
    front = Front()
    front.venue.set_open_interest_step("ETH", Decimal(1000))
    assert front.order(size="0.3") == {"error": "Order would increase open interest too quickly"}
    assert last_status(front) == "openInterestIncreaseRejected"
    assert "resting" in front.order(size="0.2")
    front.venue.set_open_interest_step("ETH", None)
    assert "resting" in front.order(size="0.3", price="3890")


def test_cap_when_lifted_lets_orders_in_again() -> None:
    """None is no cap."""
    front = capped()
    front.venue.set_open_interest_cap("ETH", None, START_MS)
    assert "filled" in front.order(tif="Ioc")
    assert front.ask("perpsAtOpenInterestCap") == []


def test_dex_caps_when_changed_show_in_limits_and_dex_list() -> None:
    """perpDexs and perpDexLimits say what is enforced."""
    front = Front()
    front.venue.set_open_interest_cap("xyz:TSLA", Decimal(5_000_000), START_MS)
    pairs = dict(front.ask("perpDexLimits", dex="xyz")["coinToOiCap"])
    assert (pairs["xyz:TSLA"], pairs["xyz:NVDA"]) == ("5000000.0", "150000000.0")
    assert dict(front.ask("perpDexs")[1]["assetToStreamingOiCap"]) == pairs
    assert front.ask("perpDexLimits", dex="") is None


TIERS = (MarginTier(lower_bound=Decimal(0), max_leverage=20), MarginTier(lower_bound=Decimal(10_000), max_leverage=10))


def test_maintenance_when_tiered_is_continuous_and_steeper_above() -> None:
    """Half of 5 % up to the bound, half of 10 % beyond, without a jump."""
    tiered, flat = perpetual(margin_tiers=TIERS), perpetual()
    assert risk.maintenance(Decimal(8000), tiered) == risk.maintenance(Decimal(8000), flat) == 200
    assert risk.maintenance(Decimal(10_000), tiered) == 250
    assert risk.maintenance(Decimal(20_000), tiered) == 750


def test_order_when_the_position_would_outgrow_its_leverage_is_refused() -> None:
    """At 20x no more than the first tier; at 10x more."""
    front = Front(cash="100000")
    market = front.venue.engine.markets["ETH"]
    market.instrument = replace(market.instrument, margin_tiers=TIERS)
    text = "Order would cause position to exceed margin tier limit at current leverage"
    assert front.order(size="3") == {"error": text}
    assert last_status(front) == "perpMaxPositionRejected"
    assert front.act({"type": "updateLeverage", "asset": 1, "isCross": True, "leverage": 10})["status"] == "ok"
    assert "resting" in front.order(size="3")


def test_leverage_when_above_the_tier_of_the_position_is_invalid() -> None:
    """A large position cannot be given more leverage than its tier."""
    front = Front(cash="100000")
    front.house(Side.SELL, "5", "3900")
    front.act({"type": "updateLeverage", "asset": 1, "isCross": True, "leverage": 10})
    front.order(size="3", tif="Ioc")
    market = front.venue.engine.markets["ETH"]
    market.instrument = replace(market.instrument, margin_tiers=TIERS)
    body = front.act({"type": "updateLeverage", "asset": 1, "isCross": True, "leverage": 15})
    assert body == {"status": "err", "response": "Invalid leverage value"}


def test_meta_when_read_lists_tables_from_fifty_and_every_row_points_at_one() -> None:
    """Ids below 50 are one tier and not listed; each table is also read alone."""
    front, universe = Front(), Universe()
    for dex in universe.dexes:
        meta = front.ask("meta", dex=dex.name)
        listed = dict(meta["marginTables"])
        used = {row["marginTableId"] for row in meta["universe"]}
        assert set(listed) == {number for number in used if number >= 50}
        for row in meta["universe"]:
            table = listed.get(row["marginTableId"]) or front.ask("marginTable", id=row["marginTableId"])
            assert table["marginTiers"][0] == {"lowerBound": "0.0", "maxLeverage": row["maxLeverage"]}
    main = dict(front.ask("meta")["marginTables"])
    assert main[56]["marginTiers"][1] == {"lowerBound": "150000000.0", "maxLeverage": 20}


def test_resting_order_when_its_margin_has_gone_is_cancelled_at_the_match() -> None:
    """The taker goes on to the next; the maker's order ends as out of margin."""
    world = World(cash="1000")
    world.place(HOUSE, SELL, "90", "100")
    world.place(ALICE, BUY, "90", "100", IOC)
    order_id = world.id_of(world.place(ALICE, BUY, "60", "97"))
    world.mark("97")  # equity 725.95 carries the 90 held but not 60 more, which takes 727.5
    taker = world.place(BOB, SELL, "60", "97", IOC)
    assert taker.refusal is not None
    order = world.engine.known_order(order_id)
    assert order.reason is Reason.MARGIN
    assert world.position(ALICE) == 90


def test_resting_order_when_its_margin_has_gone_is_margin_canceled_at_the_front() -> None:
    """The status word."""
    front = Front(cash="1000")
    front.house(Side.SELL, "4", "3900")
    front.order(size="4", tif="Ioc")
    oid = front.order(price="3780", size="0.9")["resting"]["oid"]
    front.venue.population.set_reference("ETH", Decimal(3780), START_MS)
    front.house(Side.SELL, "0.9", "3780")
    assert front.ask("orderStatus", oid=oid)["order"]["status"] == "marginCanceled"


def test_open_interest_when_read_counts_longs_alone() -> None:
    """One-sided, in coins."""
    assert capped().ask("metaAndAssetCtxs")[1][1]["openInterest"] == "0.1"
