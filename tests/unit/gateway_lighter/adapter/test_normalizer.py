"""What the venue says of an account, in the port's words."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from gateway_lighter import account_messages as wire
from gateway_lighter import normalizer
from gateway_lighter.settings import AccountSettings
from gateway_lighter.views import AccountView, Directory
from tests.unit.gateway_lighter.adapter.shapes import ACCOUNT, DETAILS, MARKET, order, trade
from venuemesh.errors import InstrumentNotFound, ProtocolViolation, Reason, VenueUnavailable
from venuemesh.gateway.readable import readable
from venuemesh.gateway.venue import VenueOrderState
from venuemesh.v1 import instrument_pb2, order_pb2

IMMEDIATE = {"time_in_force": "immediate-or-cancel"}


@pytest.mark.parametrize(
    ("changes", "state", "reason"),
    [
        ({}, VenueOrderState.WORKING, None),
        ({"status": "in-progress"}, VenueOrderState.WORKING, None),
        ({"filled_base_amount": Decimal("0.2")}, VenueOrderState.WORKING, None),
        ({"status": "filled", "filled_base_amount": Decimal("0.5")}, VenueOrderState.FILLED, None),
        ({"status": "canceled"}, VenueOrderState.CANCELED, None),
        ({"status": "canceled"} | IMMEDIATE, VenueOrderState.EXPIRED, None),
        ({"status": "canceled-expired"}, VenueOrderState.EXPIRED, None),
        ({"status": "canceled-post-only"}, VenueOrderState.REJECTED, Reason.POST_ONLY_WOULD_CROSS),
        (
            {"status": "canceled-post-only", "order_version": 1},
            VenueOrderState.CANCELED,
            Reason.POST_ONLY_WOULD_CROSS,
        ),
        ({"status": "canceled-reduce-only"}, VenueOrderState.CANCELED, Reason.REDUCE_ONLY_WOULD_INCREASE),
        ({"status": "canceled-reduce-only"} | IMMEDIATE, VenueOrderState.REJECTED, Reason.REDUCE_ONLY_WOULD_INCREASE),
        (
            {"status": "canceled-margin-not-allowed", "filled_base_amount": Decimal("0.1")} | IMMEDIATE,
            VenueOrderState.EXPIRED,
            Reason.INSUFFICIENT_MARGIN,
        ),
        ({"status": "canceled-moon"}, VenueOrderState.CANCELED, Reason.VENUE_REJECTED),
        ({"status": "sleeping"}, VenueOrderState.UNRECOGNISED, None),
    ],
)
def test_order_state_follows_the_status_word(
    changes: dict[str, Any], state: VenueOrderState, reason: Reason | None
) -> None:
    """A word nobody knows is never guessed at, and kept."""
    found = normalizer.normalize_order(order(**changes), MARKET)
    assert (found.state, found.reason) == (state, reason)
    assert found.text == changes.get("status", "open")


def test_order_carries_ids_amounts_and_the_venues_own_time() -> None:
    """The time fit for ordering is the transaction's, in microseconds."""
    found = normalizer.normalize_order(order(is_ask=True, reduce_only=True), MARKET)
    assert (found.venue_order_id, found.venue_client_order_id) == ("844424912956320", "77")
    assert (found.side, found.symbol, found.reduce_only) == (order_pb2.SIDE_SELL, "BTC/USDC:USDC", True)
    assert found.venue_time_ns == 1785542568396486_000
    assert normalizer.normalize_order(order(transaction_time=0), MARKET).venue_time_ns == 1785542568_000_000_000
    assert normalizer.normalize_order(order(client_order_index=0), MARKET).venue_client_order_id is None


def test_cancelled_order_counts_fills_and_not_what_is_missing_from_the_rest() -> None:
    """The remaining size of an ended order is zero whatever filled."""
    row = order(status="canceled", remaining_base_amount=Decimal(0), filled_base_amount=Decimal("0.1"))
    assert normalizer.normalize_order(row, MARKET).filled_quantity == Decimal("0.1")


def test_fill_of_a_taker_names_fee_role_and_id() -> None:
    """Fees are millionths of the notional, exact."""
    (fill,) = normalizer.normalize_fills(trade(), MARKET, account_index=ACCOUNT)
    assert fill.execution_id == "9-11"
    assert (fill.side, fill.liquidity_role) == (order_pb2.SIDE_SELL, order_pb2.LIQUIDITY_ROLE_TAKER)
    assert (fill.fee, fill.fee_asset) == (Decimal("1.68"), "USDC")
    assert fill.venue_time_ns == 1785542568396_000_000
    assert not fill.forced


def test_trade_with_oneself_is_two_fills_with_different_ids() -> None:
    """Both sides are ours: one paid as maker, one as taker."""
    first, second = normalizer.normalize_fills(trade(bid_account_id=ACCOUNT), MARKET, account_index=ACCOUNT)
    assert {first.execution_id, second.execution_id} == {"9-11", "9-12"}
    assert {first.fee, second.fee} == {Decimal("1.68"), Decimal("0.24")}


def test_trade_of_others_is_no_fill() -> None:
    """The public tape carries everybody's."""
    assert normalizer.normalize_fills(trade(), MARKET, account_index=7) == []


@pytest.mark.parametrize(
    ("kind", "is_maker_ask", "forced"),
    [("liquidation", False, True), ("liquidation", True, False), ("deleverage", True, True), ("trade", False, False)],
)
def test_forced_fills_are_the_liquidated_sides(kind: str, is_maker_ask: bool, forced: bool) -> None:
    """The maker that took a liquidation over was not forced."""
    (fill,) = normalizer.normalize_fills(trade(type=kind, is_maker_ask=is_maker_ask), MARKET, account_index=ACCOUNT)
    assert fill.forced is forced


def test_trade_without_size_cannot_be_read() -> None:
    """Nothing is bought for nothing."""
    with pytest.raises(ProtocolViolation), readable("a fill"):
        normalizer.normalize_fills(trade(size=Decimal(0)), MARKET, account_index=ACCOUNT)


@pytest.mark.parametrize(
    ("percent", "leverage"),
    [("5.00", "20"), ("8.33", "12"), ("100.00", "1"), ("2.00", "50"), ("33.33", "3"), ("3.33", "30"), ("0", None)],
)
def test_leverage_is_recognised_in_a_cut_percentage(percent: str, leverage: str | None) -> None:
    """8.33 percent is twelve times, not 12.0048."""
    assert normalizer.leverage_of(Decimal(percent)) == (None if leverage is None else Decimal(leverage))


def position(**changes: Any) -> wire.Position:
    """Short 0.5 BTC."""
    values: dict[str, Any] = {
        "market_id": 1,
        "initial_margin_fraction": Decimal("5.00"),
        "sign": -1,
        "position": Decimal("0.50000"),
        "avg_entry_price": Decimal("60000.0"),
        "position_value": Decimal("30100.00"),
        "liquidation_price": Decimal("70000.12345"),
    }
    return wire.Position(**(values | changes))


def test_short_position_is_negative_and_its_mark_is_the_values() -> None:
    """The row names no mark; its value over its size is it."""
    found = normalizer.normalize_position(position(), MARKET)
    assert (found.quantity, found.mark_price) == (Decimal("-0.5"), Decimal("60200.0"))
    assert (found.leverage, found.margin_mode) == (Decimal(20), instrument_pb2.MARGIN_MODE_CROSS)
    assert found.margin_used == Decimal(1505)


def test_isolated_position_uses_what_was_allocated_and_a_flat_one_nothing() -> None:
    """Flat markets stay in the venue's list with sign 1."""
    found = normalizer.normalize_position(position(margin_mode=1, allocated_margin=Decimal(9)), MARKET)
    assert (found.margin_mode, found.margin_used) == (instrument_pb2.MARGIN_MODE_ISOLATED, Decimal(9))
    flat = normalizer.normalize_position(position(position=Decimal(0), sign=1), MARKET)
    assert (flat.quantity, flat.entry_price, flat.mark_price) == (Decimal(0), None, None)


def view() -> AccountView:
    """An account at a venue with one market."""
    directory = Directory(venue="lighter")
    directory._collateral = "USDC"
    directory.replace([DETAILS])
    key = {"index": 4, "file": "unused"}
    settings = AccountSettings.model_validate(
        {"account_id": "main", "account_index": ACCOUNT, "l1_address": "0x" + "aa" * 20, "keys": [key]}
    )
    return AccountView(settings, directory)


def test_row_of_another_account_is_a_violation_and_of_another_market_left_out() -> None:
    """A frame that is not ours is never ours."""
    with pytest.raises(ProtocolViolation, match="another account"):
        view().order(order(owner_account_index=1))
    assert view().order(order(market_index=2048)) is None
    assert view().fills(trade(market_id=2048)) == []


def test_directory_before_the_first_listing_is_unavailable_and_unknown_symbols_are_named() -> None:
    """Nothing is translated before the collateral is known."""
    directory = Directory(venue="lighter")
    assert not directory.loaded
    with pytest.raises(VenueUnavailable):
        directory.read(DETAILS)
    with pytest.raises(InstrumentNotFound):
        directory.by_symbol("BTC/USDC:USDC")
    with pytest.raises(InstrumentNotFound):
        directory.by_venue_symbol("BTC")
    with pytest.raises(ProtocolViolation):
        directory.name_assets([])
