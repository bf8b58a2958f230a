"""Accounts: orders, fills, positions, balances and ledger."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hypercore import account_messages as wire
from hypercore.adapter import normalizer
from hypercore.adapter.normalizer import BalanceSheet, Ledger
from hypercore.codec import parse_ledger_updates
from tests.unit.hypercore.adapter.support import OTHER, USER, info, universe
from venuemesh.errors import ProtocolViolation, Reason
from venuemesh.gateway.venue import VenueOrderState
from venuemesh.v1 import account_pb2, instrument_pb2, order_pb2

NOW_NS = 1_790_000_000_000_000_000
UNIVERSE = universe()
AMOUNTS = st.decimals(min_value="0.0001", max_value=100_000, places=4)
VENUE_STATES = st.sampled_from(["open", "filled", "canceled", "reduceOnlyCanceled", "marginCanceled", "triggered"])


def row(**changes: Any) -> wire.FrontendOrder:
    """An order as orderStatus shows it."""
    plain = {
        "coin": "ETH",
        "side": "B",
        "limitPx": "3000.0",
        "sz": "1.0",
        "oid": 7,
        "timestamp": 1_790_000_000_000,
        "origSz": "1.0",
        "triggerCondition": "N/A",
        "isTrigger": False,
        "triggerPx": "0.0",
        "children": [],
        "isPositionTpsl": False,
        "reduceOnly": False,
        "orderType": "Limit",
        "tif": "Gtc",
        "cloid": "0x" + "ab" * 16,
    }
    (found,) = info("frontendOpenOrders", [plain | changes])
    assert isinstance(found, wire.FrontendOrder)
    return found


def fill(**changes: Any) -> wire.Fill:
    """A fill as userFills shows it."""
    plain = {
        "coin": "ETH",
        "px": "3000.0",
        "sz": "1.0",
        "side": "B",
        "time": 1_790_000_000_000,
        "startPosition": "0.0",
        "dir": "Open Long",
        "closedPnl": "0.0",
        "hash": "0x" + "00" * 32,
        "oid": 7,
        "crossed": True,
        "fee": "1.35",
        "tid": 99,
        "feeToken": "USDC",
    }
    (found,) = info("userFills", [plain | changes])
    assert isinstance(found, wire.Fill)
    return found


# --- orders ------------------------------------------------------------------------------------------------


@settings(max_examples=80)
@given(original=AMOUNTS, share=st.decimals(min_value=0, max_value=1, places=3), status=VENUE_STATES)
def test_filled_and_remaining_add_up_to_the_original(original: Decimal, share: Decimal, status: str) -> None:
    """What is missing from an ordinary order has filled, whatever its status."""
    remaining = (original * share).quantize(Decimal("0.0001"))
    view = normalizer.normalize_order(row(sz=str(remaining), origSz=str(original)), UNIVERSE, status=status)
    assert view is not None
    assert view.filled_quantity is not None
    assert view.filled_quantity + remaining == view.quantity == original


@settings(max_examples=40)
@given(original=AMOUNTS, remaining=AMOUNTS, status=VENUE_STATES)
def test_a_shrunk_reduce_only_order_tells_no_filled_quantity(
    original: Decimal, remaining: Decimal, status: str
) -> None:
    """Its size follows the position, so that the difference proves nothing."""
    order = row(sz=str(remaining), origSz=str(original), reduceOnly=True)
    view = normalizer.normalize_order(order, UNIVERSE, status=status)
    assert view is not None
    assert view.filled_quantity == (Decimal(0) if remaining == original else None)


@pytest.mark.parametrize(
    ("status", "state", "reason"),
    [
        ("open", VenueOrderState.WORKING, None),
        ("triggered", VenueOrderState.WORKING, None),
        ("canceled", VenueOrderState.CANCELED, None),
        ("scheduledCancel", VenueOrderState.CANCELED, None),
        ("selfTradeCanceled", VenueOrderState.CANCELED, Reason.SELF_TRADE),
        ("siblingFilledCanceled", VenueOrderState.CANCELED, Reason.SIBLING_FILLED),
        ("badTriggerPxRejected", VenueOrderState.REJECTED, Reason.INVALID_TRIGGER_PRICE),
        ("marginCanceled", VenueOrderState.CANCELED, Reason.INSUFFICIENT_MARGIN),
        ("tickRejected", VenueOrderState.REJECTED, Reason.PRICE_OFF_TICK),
        ("iocCancelRejected", VenueOrderState.REJECTED, Reason.NO_LIQUIDITY),
        ("somethingNewRejected", VenueOrderState.REJECTED, Reason.VENUE_REJECTED),
        ("resurrected", VenueOrderState.UNRECOGNISED, None),
    ],
)
def test_status_words(status: str, state: VenueOrderState, reason: Reason | None) -> None:
    """Each word has its state and reason; an unknown one is said to be unknown and kept."""
    view = normalizer.normalize_order(row(), UNIVERSE, status=status, status_ms=5)
    assert view is not None
    assert (view.state, view.reason, view.text, view.venue_time_ns) == (state, reason, status, 5_000_000)


def test_filled_order_with_a_rest_has_expired() -> None:
    """Done without its whole quantity: FILLED would promise fills that never come."""
    view = normalizer.normalize_order(row(sz="0.6"), UNIVERSE, status="filled")
    assert view is not None
    assert (view.state, view.filled_quantity) == (VenueOrderState.EXPIRED, Decimal("0.4"))


def test_trigger_orders_are_said_to_have_fired_by_their_word_alone() -> None:
    """An open row may wait for its price, for its parent, or rest after it has fired: it does not say which."""
    waiting = normalizer.normalize_order(row(isTrigger=True, triggerPx="2900.0"), UNIVERSE)
    fired = normalizer.normalize_order(row(isTrigger=True, triggerPx="2900.0"), UNIVERSE, status="triggered")
    assert waiting is not None
    assert fired is not None
    assert waiting.trigger_state == order_pb2.TRIGGER_STATE_UNSPECIFIED
    assert fired.trigger_state == order_pb2.TRIGGER_STATE_TRIGGERED
    assert waiting.trigger_price == fired.trigger_price == Decimal(2900)
    plain = normalizer.normalize_order(row(), UNIVERSE)
    assert plain is not None
    assert plain.trigger_price is None


def test_latest_order_does_not_let_a_refused_new_life_hide_the_old_one() -> None:
    """A modify whose new order was refused: the old life tells how the order ended."""
    old = normalizer.normalize_order(row(oid=7), UNIVERSE, status="canceled", status_ms=9)
    refused = normalizer.normalize_order(row(oid=8), UNIVERSE, status="badAloPxRejected", status_ms=9)
    assert old is not None
    assert refused is not None
    assert normalizer.latest_order([refused, old]) is old
    assert normalizer.latest_order([refused]) is refused


def test_orders_of_other_products_are_left_out() -> None:
    """The account's lists hold spot and other dexes too."""
    assert normalizer.normalize_order(row(coin="@107"), UNIVERSE) is None
    assert normalizer.normalize_order(row(coin="xyz:SILVER"), UNIVERSE) is None


def test_unknown_side_is_a_protocol_violation() -> None:
    """A side is never guessed."""
    with pytest.raises(ProtocolViolation):
        normalizer.normalize_order(row(side="C"), UNIVERSE)


def test_latest_order_prefers_the_newest_life_and_its_final_row() -> None:
    """An amended order's old life says canceled; of one life the final row counts."""
    old = normalizer.normalize_order(row(oid=7), UNIVERSE, status="canceled", status_ms=9)
    new = normalizer.normalize_order(row(oid=8), UNIVERSE, status="open", status_ms=5)
    done = normalizer.normalize_order(row(oid=8, sz="0.0"), UNIVERSE, status="filled", status_ms=5)
    assert old is not None
    assert new is not None
    assert done is not None
    assert normalizer.latest_order([old, new]) is new
    assert normalizer.latest_order([done, new, old]) is done
    assert normalizer.latest_order([new, done]) is done
    assert normalizer.latest_order([]) is None


# --- fills -------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    left=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    right=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
def test_execution_id_is_that_of_trade_and_order(left: tuple[int, int], right: tuple[int, int]) -> None:
    """Both sides of a trade share its id; the account may be both."""
    ids = [normalizer.execution_id(fill(tid=tid, oid=oid)) for tid, oid in (left, right)]
    assert (ids[0] == ids[1]) == (left == right)


FACTS = st.fixed_dictionaries(
    {
        "px": st.sampled_from(["3000.0", "3001.0"]),
        "sz": st.sampled_from(["1.0", "2.0"]),
        "startPosition": st.sampled_from(["0.0", "1.0"]),
        "oid": st.integers(1, 2),
        "time": st.integers(1, 2),
        "side": st.sampled_from("AB"),
    }
)


@settings(max_examples=80)
@given(left=FACTS, right=FACTS, missing=st.sampled_from([0, None]))
def test_execution_id_without_trade_id_is_that_of_the_facts(
    left: dict[str, Any], right: dict[str, Any], missing: int | None
) -> None:
    """Equal facts give equal ids, different facts different ones, and no spelling of a number matters."""
    ids = [normalizer.execution_id(fill(**facts, tid=missing)) for facts in (left, right)]
    assert (ids[0] == ids[1]) == (left == right)
    respelt = left | {"px": left["px"] + "00"}
    assert normalizer.execution_id(fill(**respelt, tid=0)) == ids[0]


def test_fill_of_a_slice_is_the_twaps() -> None:
    """Its own order id is nobody's; the trade's identity does not depend on which list told it."""
    plain = normalizer.normalize_fill(fill(), UNIVERSE, user=USER)
    slice_ = normalizer.normalize_fill(fill(twapId=5), UNIVERSE, user=USER)
    assert plain is not None
    assert slice_ is not None
    assert (plain.venue_order_id, slice_.venue_order_id) == ("7", "twap:5")
    assert plain.execution_id == slice_.execution_id


def test_fee_is_taken_as_it_is_and_may_be_a_rebate() -> None:
    """`fee` includes the builder's; adding it again would double it."""
    found = normalizer.normalize_fill(fill(fee="0.012896", builderFee="0.002424"), UNIVERSE, user=USER)
    rebate = normalizer.normalize_fill(fill(fee="-0.01", crossed=False), UNIVERSE, user=USER)
    assert found is not None
    assert rebate is not None
    assert found.fee == Decimal("0.012896")
    assert rebate.fee == Decimal("-0.01")
    assert rebate.liquidity_role == order_pb2.LIQUIDITY_ROLE_MAKER


@pytest.mark.parametrize(
    ("direction", "victim", "forced"),
    [
        ("Open Long", None, False),
        ("Close Long", USER, True),
        ("Close Long", USER.upper().replace("X", "x", 1), True),
        ("Open Long", OTHER, False),
        ("Liquidated Isolated Long", None, True),
        ("Liquidated Cross Short", OTHER, True),
        ("Auto-Deleveraging", None, True),
        ("Settlement", None, True),
    ],
)
def test_forced_fills(direction: str, victim: str | None, forced: bool) -> None:
    """Closed by the venue is forced; having traded with somebody's liquidation is not."""
    changes: dict[str, Any] = {"dir": direction}
    if victim is not None:
        changes["liquidation"] = {"liquidatedUser": victim, "markPx": "3000.0", "method": "market"}
    found = normalizer.normalize_fill(fill(**changes), UNIVERSE, user=USER)
    assert found is not None
    assert found.forced is forced


# --- positions and balances --------------------------------------------------------------------------------


def perps(*positions: dict[str, Any], value: str = "1000.0") -> wire.ClearinghouseState:
    """A margin account with these positions."""
    whole = {"accountValue": value, "totalNtlPos": "0.0", "totalRawUsd": "0.0", "totalMarginUsed": "300.0"}
    found = info(
        "clearinghouseState",
        {
            "marginSummary": whole,
            "crossMarginSummary": whole,
            "crossMaintenanceMarginUsed": "12.5",
            "withdrawable": "600.0",
            "assetPositions": [{"type": "oneWay", "position": row} for row in positions],
            "time": 1_790_000_000_000,
        },
    )
    assert isinstance(found, wire.ClearinghouseState)
    return found


def position(**changes: Any) -> dict[str, Any]:
    """An ETH long."""
    plain = {
        "coin": "ETH",
        "szi": "0.5",
        "leverage": {"type": "cross", "value": 20},
        "entryPx": "3000.0",
        "positionValue": "1550.0",
        "unrealizedPnl": "50.0",
        "returnOnEquity": "0.6",
        "liquidationPx": "2000.5",
        "marginUsed": "77.5",
    }
    return plain | changes


def spot(**extra: Any) -> wire.SpotState:
    """Some USDC, of which a part is held, and some HYPE."""
    rows = [
        {"coin": "USDC", "token": 0, "total": "14.625485", "hold": "4.0", "entryNtl": "0.0"},
        {"coin": "HYPE", "token": 150, "total": "2.5", "hold": "0.0", "entryNtl": "100.0"},
    ]
    found = info("spotClearinghouseState", {"balances": rows, **extra})
    assert isinstance(found, wire.SpotState)
    return found


def sheet(dex: str = "") -> BalanceSheet:
    """The balance sheet of the main account."""
    return BalanceSheet(venue="hyperliquid", account_id="main", dex=dex, collateral="USDC")


def test_positions_carry_marks_margin_and_mode() -> None:
    """The mark is what the row's value says; an isolated short keeps its sign."""
    short = position(
        coin="BTC",
        szi="-0.00061",
        positionValue="47.66235",
        leverage={"type": "isolated", "value": 3, "rawUsd": "1.0"},
        liquidationPx=None,
        entryPx=None,
    )
    long_, other = normalizer.normalize_positions(perps(position(), short, position(coin="xyz:SILVER")), UNIVERSE)
    assert (long_.mark_price, long_.leverage, long_.margin_used) == (Decimal(3100), Decimal(20), Decimal("77.5"))
    assert long_.margin_mode == instrument_pb2.MARGIN_MODE_CROSS
    assert (other.quantity, other.mark_price) == (Decimal("-0.00061"), Decimal(78135))
    assert other.margin_mode == instrument_pb2.MARGIN_MODE_ISOLATED
    assert (other.entry_price, other.liquidation_price) == (None, None)


@settings(max_examples=40)
@given(
    value=st.decimals(min_value=-1000, max_value=1_000_000, places=6),
    profits=st.lists(st.decimals(min_value=-1000, max_value=1000, places=6), max_size=3),
)
def test_purse_and_open_profit_add_up_to_equity(value: Decimal, profits: list[Decimal]) -> None:
    """The cash of the perp purse moves with fills, fees and funding, not with the mark."""
    state = perps(*(position(unrealizedPnl=str(profit)) for profit in profits), value=str(value))
    purse = sheet().balances(state, spot(), mode="default", received_ns=NOW_NS)[0]
    assert Decimal(purse.total) + sum(profits, Decimal(0)) == value
    assert sheet().summary(state, spot(), mode="default", received_ns=NOW_NS).equity == normalizer.format_decimal(value)


def test_ordinary_account_has_a_purse_and_spot_balances() -> None:
    """Each in its section, with what is free."""
    rows = sheet().balances(perps(), spot(), mode="disabled", received_ns=NOW_NS)
    assert [(row.venue_section, row.asset, row.total, row.available) for row in rows] == [
        ("", "USDC", "1000", "600"),
        ("spot", "USDC", "14.625485", "10.625485"),
        ("spot", "HYPE", "2.5", "2.5"),
    ]
    assert rows[0].venue_time.seconds == 1_790_000_000


@pytest.mark.parametrize("mode", ["unifiedAccount", "portfolioMargin"])
def test_unified_account_shows_its_spot_balances_and_says_so(mode: str) -> None:
    """Its perp state shows no money; zero would be the classic mistake."""
    state = spot(tokenToAvailableAfterMaintenance=[[0, "11.5"]])
    rows = sheet().balances(perps(value="0.0"), state, mode=mode, received_ns=NOW_NS)
    assert [(row.venue_section, row.asset) for row in rows] == [("unified", "USDC"), ("unified", "HYPE")]
    summary = sheet().summary(perps(position(), value="0.0"), state, mode=mode, received_ns=NOW_NS)
    assert (summary.margin_used, summary.margin_available) == ("77.5", "11.5")
    assert not summary.HasField("equity")


def test_builder_dex_leaves_spot_to_the_main_gateway() -> None:
    """Two gateways of one account must not count a coin twice."""
    rows = sheet("xyz").balances(perps(), spot(), mode="default", received_ns=NOW_NS)
    assert [(row.venue_section, row.asset) for row in rows] == [("xyz", "USDC")]
    assert sheet("xyz").balances(perps(), spot(), mode="unifiedAccount", received_ns=NOW_NS) == []


# --- ledger ------------------------------------------------------------------------------------------------

LEDGER = Ledger(venue="hyperliquid", account_id="main", user=USER, dex="", collateral="USDC")


def entries(ledger: Ledger = LEDGER, **delta: Any) -> list[tuple[int, str, str, str]]:
    """Entries of one update: kind, asset, amount, section."""
    raw = msgspec.json.encode([{"time": 5, "hash": "0x12", "delta": delta}])
    (update,) = parse_ledger_updates(raw)
    found = ledger.updates(update)
    assert len({entry.ledger_entry_id for entry in found}) == len(found)
    return [(entry.ledger_entry_type, entry.asset, entry.amount, entry.venue_section) for entry in found]


SEND = {
    "type": "send",
    "token": "USDC",
    "amount": "10.0",
    "usdcValue": "10.0",
    "fee": "0.0",
    "feeToken": "",
    "nativeTokenFee": "0.0",
    "nonce": 5,
}


def test_deposits_and_withdrawals() -> None:
    """Signed by the change of the balance."""
    assert entries(type="deposit", usdc="5.0") == [(account_pb2.LEDGER_ENTRY_TYPE_DEPOSIT, "USDC", "5", "")]
    withdrawn = entries(type="withdraw", usdc="5.0", nonce=1, fee="1.0")
    assert withdrawn == [(account_pb2.LEDGER_ENTRY_TYPE_WITHDRAWAL, "USDC", "-5", "")]


def test_moves_between_own_purses_add_up_to_zero() -> None:
    """One entry per purse."""
    for found in (
        entries(type="accountClassTransfer", usdc="7.0", toPerp=True),
        entries(**SEND, user=USER, destination=USER, sourceDex="", destinationDex="spot"),
    ):
        assert {row[3] for row in found} == {"", "spot"}
        assert sum(Decimal(row[2]) for row in found) == 0


def test_sends_to_and_from_others_are_signed() -> None:
    """Out with its fee, in without."""
    out = entries(**(SEND | {"fee": "1.0"}), user=USER, destination=OTHER, sourceDex="", destinationDex="")
    assert [row[2] for row in out] == ["-10", "-1"]
    into = entries(**SEND, user=OTHER, destination=USER, sourceDex="", destinationDex="")
    assert [row[2] for row in into] == ["10"]
    sub = entries(type="subAccountTransfer", usdc="3.0", user=USER, destination=OTHER)
    assert [row[2] for row in sub] == ["-3"]


def test_moves_to_another_dex_belong_to_each_gateway_in_part() -> None:
    """What leaves the main dex is here; what arrives on xyz is the other gateway's."""
    move = {**SEND, "user": USER, "destination": USER, "sourceDex": "", "destinationDex": "xyz"}
    other = Ledger(venue="tradexyz", account_id="main", user=USER, dex="xyz", collateral="USDC")
    assert [row[2:] for row in entries(**move)] == [("-10", "")]
    assert [row[2:] for row in entries(other, **move)] == [("10", "xyz")]


def test_unknown_ledger_kind_gives_no_entry_and_is_said_to_be_unknown() -> None:
    """Kinds without a reader are visible to the caller, which logs them."""
    assert entries(type="vaultDistribution", usdc="1.0") == []
    assert not LEDGER.knows("vaultDistribution")
    assert LEDGER.knows("deposit")


def test_transfer_without_an_amount_is_a_protocol_violation() -> None:
    """Money is never guessed."""
    with pytest.raises(ProtocolViolation):
        entries(type="deposit")


def test_funding_of_stream_and_query_is_one_entry() -> None:
    """The stream's row has its time inside, the query's beside it."""
    plain = {"coin": "ETH", "usdc": "-0.25", "szi": "1.0", "fundingRate": "0.0000125"}
    (queried,) = info("userFunding", [{"time": 5, "hash": "0x0", "delta": plain}])
    streamed = msgspec.structs.replace(queried.delta, time=5)
    first = LEDGER.funding(queried.delta, UNIVERSE, time_ms=queried.time)
    second = LEDGER.funding(streamed, UNIVERSE)
    assert first is not None
    assert first == second
    assert (first.amount, first.symbol, first.asset) == ("-0.25", "ETH/USDC:USDC", "USDC")
