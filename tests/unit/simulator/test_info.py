"""`/info`: shapes, order of rows, decimals as printed, and agreement with recorded answers."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from simulator.engine.accounts import Position
from simulator.engine.chance import SplitMix
from simulator.engine.population import PopulationSettings
from simulator.engine.values import Side
from simulator.hyperliquid import info
from simulator.hyperliquid.decimals import parse, text
from simulator.hyperliquid.universe import Universe
from simulator.hyperliquid.venue import Venue, VenueSettings
from tests.unit.simulator.front_world import START_MS, USER, Front, orders, wire
from tests.unit.simulator.recordings import recorded

HOUR_MS = 3_600_000


@pytest.mark.parametrize(
    ("value", "printed"),
    [("1500", "1500.0"), ("0", "0.0"), ("-0.000", "0.0"), ("1E+3", "1000.0"), ("0.0671310", "0.067131")],
)
def test_decimals_when_printed_keep_one_zero_on_integers(value: str, printed: str) -> None:
    """The venue's decimal form."""
    assert text(Decimal(value)) == printed


@pytest.mark.parametrize("value", ["", "x", "NaN", "Infinity", "1_000", "1e99", "0x10"])
def test_decimals_when_unreadable_are_none(value: str) -> None:
    """Nothing but plain finite numbers of sane size."""
    assert parse(value) is None


def test_universe_when_built_gives_ids_by_product() -> None:
    """Main perps by position, spot from 10000, the first builder dex from 110000; gaps in token indices."""
    universe = Universe()
    ids = universe.asset_ids
    assert (ids["BTC"], ids["PURR/USDC"], ids["@107"], ids["xyz:TSLA"]) == (0, 10000, 10107, 110001)
    tokens = [token["index"] for token in universe.spot_meta()["tokens"]]
    assert tokens != list(range(len(tokens)))
    assert universe.perp_dexs()[0] is None


def test_meta_rows_when_recorded_have_the_same_keys_in_order() -> None:
    """Optional keys only when true; the same set and order as recorded rows of the same asset."""
    rows = {row["name"]: row for row in recorded("info_meta_xyz_mainnet.json")["universe"]}
    dex = Universe().dex("xyz")
    assert dex is not None
    for row in Universe().meta(dex)["universe"]:
        twin = rows[row["name"]]
        assert list(row) == [key for key in twin if key in row]
        for key in ("szDecimals", "maxLeverage", "marginTableId", "onlyIsolated", "marginMode", "growthMode"):
            assert row.get(key) == twin.get(key), (row["name"], key)


def test_clearinghouse_state_when_recorded_is_reproduced_from_its_cash_leg() -> None:
    """Cash leg, size, entry and mark of a recorded cross position give every derived figure."""
    want = recorded("info_clearinghouseState_btc_cross.json")
    row = want["assetPositions"][0]["position"]
    front = Front()
    market = front.venue.engine.markets["BTC"]
    market.mark = Decimal(row["positionValue"]) / Decimal(row["szi"])
    ledger = front.venue.engine.accounts[USER].ledger("")
    ledger.cash = Decimal(want["marginSummary"]["totalRawUsd"])
    cost = Decimal(row["positionValue"]) - Decimal(row["unrealizedPnl"])
    entry = cost / Decimal(row["szi"])  # exact, where the recorded entry price is cut
    ledger.positions["BTC"] = Position(quantity=Decimal(row["szi"]), entry_price=entry, leverage=20)
    got = front.ask("clearinghouseState")
    del row["cumFunding"]
    del got["assetPositions"][0]["position"]["cumFunding"]
    assert got | {"time": want["time"]} == want


def test_empty_account_when_read_is_all_zeros_and_no_error() -> None:
    """An unknown user is empty, as recorded."""
    want = recorded("info_clearinghouseState_empty.json")
    front = Front()
    got = front.ask("clearinghouseState", user="0x" + "9" * 40)
    assert got | {"time": want["time"]} == want
    assert front.ask("spotClearinghouseState", user="0x" + "9" * 40) == {"balances": []}
    assert front.ask("orderStatus", oid=1) == {"status": "unknownOid"}


def traded() -> Front:
    """A user who bought, sold half, and has an order resting."""
    front = Front()
    front.house(Side.SELL, "1", "3900")
    front.house(Side.BUY, "1", "3890")
    front.order(tif="Ioc", cloid="0x" + "1" * 32)
    front.now_ms += 10
    front.order(buy=False, price="3890", size="0.05", tif="Ioc")
    front.now_ms += 10
    front.order(price="3000", cloid="0x" + "2" * 32)
    return front


def test_fills_when_read_are_newest_first_and_by_time_oldest_first() -> None:
    """Keys as recorded, inclusive times, directions and closed profit."""
    front = traded()
    newest, oldest = front.ask("userFills")
    assert [oldest["dir"], newest["dir"]] == ["Open Long", "Close Long"]
    assert newest["startPosition"] == "0.1"
    assert newest["closedPnl"] == "-0.5"
    assert oldest["fee"] == "0.1755"
    assert (oldest["px"], oldest["crossed"], oldest["feeToken"]) == ("3900.0", True, "USDC")
    by_time = front.ask("userFillsByTime", startTime=START_MS, endTime=None)
    assert by_time == [oldest, newest]
    assert front.ask("userFillsByTime", startTime=newest["time"]) == [newest]
    want = set(recorded("info_userFills_xyz_and_spot.json")[0]) - {"liquidation", "builderFee"}
    assert want - {"cloid"} <= set(oldest)


def test_order_status_when_asked_by_id_or_cloid_agrees_and_is_scoped_to_the_user() -> None:
    """Remaining 0.0 when filled; the other user's order is unknown."""
    front = traded()
    by_cloid = front.ask("orderStatus", oid="0x" + "1" * 32)
    row = by_cloid["order"]["order"]
    assert (by_cloid["order"]["status"], row["sz"], row["origSz"]) == ("filled", "0.0", "0.1")
    assert front.ask("orderStatus", oid=row["oid"]) == by_cloid
    assert front.ask("orderStatus", user="0x" + "9" * 40, oid=row["oid"]) == {"status": "unknownOid"}


def test_open_orders_when_read_show_their_dex_only() -> None:
    """Plain rows omit what is not set, frontend rows never do."""
    front = traded()
    (row,) = front.ask("openOrders", dex="")
    assert row["cloid"] == "0x" + "2" * 32
    assert "reduceOnly" not in row
    (frontend,) = front.ask("frontendOpenOrders")
    assert set(frontend) == set(recorded("info_frontendOpenOrders_sdk.json")[0]) | {"cloid", "reduceOnly", "side"}
    assert front.ask("openOrders", dex="xyz") == []


def test_historical_orders_when_read_are_newest_first_with_every_state() -> None:
    """An id appears once per state."""
    statuses = [row["status"] for row in traded().ask("historicalOrders")]
    assert statuses == ["open", "filled", "open", "filled", "open"]


def test_trigger_when_listed_says_its_condition_and_children() -> None:
    """A bracket parent lists its children, and they are listed too."""
    front = Front()
    legs = [
        wire(price="3800"),
        wire(buy=False, price="4200", reduce=True,
             trigger={"isMarket": True, "triggerPx": "4200", "tpsl": "tp"}),
        wire(buy=False, price="3500", reduce=True,
             trigger={"isMarket": True, "triggerPx": "3500", "tpsl": "sl"}),
    ]  # fmt: skip
    body = front.act(orders(*legs, grouping="normalTpsl"))
    statuses = body["response"]["data"]["statuses"]
    assert [statuses[1], statuses[2]] == ["waitingForFill", "waitingForFill"]
    stop, profit, parent = front.ask("frontendOpenOrders")
    assert (profit["triggerCondition"], profit["orderType"]) == ("Price above 4200", "Take Profit Market")
    assert (stop["triggerCondition"], stop["tif"]) == ("Price below 3500", None)
    assert [child["oid"] for child in parent["children"]] == [profit["oid"], stop["oid"]]


def test_funding_when_paid_is_listed_and_published() -> None:
    """Negative usdc is paid: a long pays a positive rate and receives a negative one."""
    front = traded()
    front.venue.step(START_MS - START_MS % HOUR_MS + HOUR_MS)
    (row,) = front.ask("userFunding", startTime=0)
    assert row["delta"]["coin"] == "ETH"
    due = Decimal(row["delta"]["szi"]) * 3900 * Decimal(row["delta"]["fundingRate"])
    assert abs(Decimal(row["delta"]["usdc"]) + due) < Decimal("0.000001")
    assert due != 0
    assert front.ask("fundingHistory", coin="ETH", startTime=0)[0]["fundingRate"] == row["delta"]["fundingRate"]


def test_liquidation_when_it_happens_is_in_fills_ledger_and_state() -> None:
    """Direction, liquidated user and method on the fill; the position before it in the ledger."""
    front = Front(cash="100")
    front.house(Side.SELL, "1", "3900")
    front.order(size="0.4", tif="Ioc")
    front.house(Side.BUY, "1", "3715")
    front.venue.upkeep.set_prices("ETH", Decimal(3720), Decimal(3720), START_MS)
    newest = front.ask("userFills")[0]
    assert newest["dir"] == "Liquidated Cross Long"
    assert newest["liquidation"] == {"liquidatedUser": USER, "markPx": "3720.0", "method": "market"}
    delta = front.ask("userNonFundingLedgerUpdates", startTime=0)[-1]["delta"]
    assert delta["liquidatedPositions"] == [{"coin": "ETH", "szi": "0.4"}]
    assert front.ask("clearinghouseState")["assetPositions"] == []


def lively() -> Venue:
    """A venue with synthetic markets."""
    return Venue(VenueSettings(), PopulationSettings(), SplitMix(5), START_MS)


def ask(venue: Venue, **query: Any) -> Any:
    """A public info request."""
    return info.handle(venue, query, START_MS).body


def test_book_when_read_has_twenty_levels_and_coarser_ones_add_up() -> None:
    """Best first, bids rounded down, asks up."""
    venue = lively()
    book = ask(venue, type="l2Book", coin="BTC")
    bids, asks = book["levels"]
    assert (len(bids), len(asks)) == (20, 20)
    assert Decimal(bids[0]["px"]) > Decimal(bids[1]["px"])
    assert Decimal(asks[0]["px"]) < Decimal(asks[1]["px"])
    coarse = ask(venue, type="l2Book", coin="BTC", nSigFigs=3, mantissa=None)["levels"]
    assert all(Decimal(level["px"]) % 1000 == 0 for side in coarse for level in side)
    assert sum(level["n"] for level in coarse[0]) == 25
    assert ask(venue, type="l2Book", coin="NOPE") is None


def test_contexts_when_read_align_and_are_null_together_for_dead_books() -> None:
    """A delisted asset has neither mid nor premium nor impact prices."""
    meta, contexts = ask(lively(), type="metaAndAssetCtxs")
    rows = dict(zip([row["name"] for row in meta["universe"]], contexts, strict=True))
    assert set(rows["BTC"]) == set(recorded("ws_activeAssetCtx_SOL.json")["data"]["ctx"])
    assert (rows["OX"]["midPx"], rows["OX"]["premium"], rows["OX"]["impactPxs"]) == (None, None, None)
    assert Decimal(rows["BTC"]["impactPxs"][0]) < Decimal(rows["BTC"]["impactPxs"][1])


def test_candles_when_read_are_oldest_first_with_closing_times() -> None:
    """Hours built of minutes."""
    rows = ask(
        lively(),
        type="candleSnapshot",
        req={"coin": "BTC", "interval": "1h", "startTime": 0, "endTime": START_MS},
    )
    assert [row["t"] for row in rows] == sorted(row["t"] for row in rows)
    assert all(row["T"] == row["t"] + HOUR_MS - 1 for row in rows)
    assert all(Decimal(row["l"]) <= Decimal(row["o"]) <= Decimal(row["h"]) for row in rows)


def test_mids_when_asked_by_dex_hold_its_own_coins() -> None:
    """The main answer has the spot pairs."""
    venue = lively()
    main, xyz = ask(venue, type="allMids"), ask(venue, type="allMids", dex="xyz")
    assert {"BTC", "@107", "PURR/USDC"} <= set(main)
    assert all(coin.startswith("xyz:") for coin in xyz)


def test_request_when_unknown_is_unprocessable_and_an_unknown_dex_a_server_error() -> None:
    """422 for what cannot be read, 500 for a dex that is not there."""
    venue = lively()
    bad: list[Any] = [{}, {"type": "nope"}, {"type": "openOrders"}, {"type": "openOrders", "user": "0x1"}, []]
    for query in bad:
        assert info.handle(venue, query, START_MS).status == 422
    assert info.handle(venue, {"type": "meta", "dex": "nope"}, START_MS).status == 500


@pytest.mark.parametrize("kind", sorted(info.READS))
def test_request_when_complete_is_answered(kind: str) -> None:
    """Every read answers a full query with JSON-able data."""
    front = traded()
    query = {
        "coin": "ETH",
        "startTime": 0,
        "endTime": None,
        "oid": 1,
        "builder": USER,
        "id": 50,
        "req": {"coin": "ETH", "interval": "1m", "startTime": 0, "endTime": START_MS},
    }
    json.dumps(front.ask(kind, **query))
