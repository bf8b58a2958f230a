"""Transactions: which combinations the venue takes, and what is refused by name."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_lighter import account_transactions as account
from gateway_lighter.transactions import (
    Attributes,
    CancelAllOrders,
    CancelAllWhen,
    CancelOrder,
    CreateGroupedOrders,
    CreateOrder,
    Envelope,
    Grouping,
    ModifyOrder,
    OrderFields,
    OrderKind,
    TimeInForce,
    UpdateLeverage,
    UpdateMargin,
    client_order_index,
)
from tests.unit.gateway_lighter.support import EXPIRY_MS
from venuemesh.errors import InvalidOrder, Reason

IOC, GTT, POST_ONLY = TimeInForce
PLAIN: dict[str, Any] = {"market_index": 0, "base_amount": 1, "price": 1, "is_ask": False}


def order(**changes: Any) -> CreateOrder:
    """A plain order with changes."""
    return CreateOrder(**{**PLAIN, **changes})


@pytest.mark.parametrize("kind", OrderKind)
@pytest.mark.parametrize("tif", TimeInForce)
@pytest.mark.parametrize("expiry", [0, EXPIRY_MS])
@pytest.mark.parametrize("trigger", [0, 5])
def test_order_is_taken_exactly_in_the_combinations_of_the_reference(
    kind: OrderKind, tif: TimeInForce, expiry: int, trigger: int
) -> None:
    """The table of section 7.4, restated."""
    triggered = kind.name.startswith(("STOP", "TAKE"))
    allowed_tifs = {
        OrderKind.LIMIT: {IOC, GTT, POST_ONLY},
        OrderKind.STOP_LOSS_LIMIT: {IOC, GTT, POST_ONLY},
        OrderKind.TAKE_PROFIT_LIMIT: {IOC, GTT, POST_ONLY},
        OrderKind.TWAP: {GTT},
    }.get(kind, {IOC})
    needs_expiry = triggered or kind is OrderKind.TWAP or tif is not IOC
    taken = tif in allowed_tifs and bool(expiry) == needs_expiry and bool(trigger) == triggered
    candidate = order(type=kind, time_in_force=tif, order_expiry=expiry, trigger_price=trigger)
    if taken:
        candidate.check()
    else:
        with pytest.raises(InvalidOrder):
            candidate.check()


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"market_index": 255}, "market_index", Reason.INSTRUMENT_NOT_FOUND),
        ({"market_index": -1}, "market_index", Reason.INVALID_ARGUMENT),
        ({"client_order_index": 2**48}, "client_order_index", Reason.INVALID_CLIENT_ORDER_ID),
        ({"base_amount": 0}, "base_amount", Reason.QUANTITY_NOT_POSITIVE),
        ({"base_amount": 2**48}, "base_amount", Reason.QUANTITY_NOT_POSITIVE),
        ({"price": 0}, "price", Reason.PRICE_NOT_POSITIVE),
        ({"price": 2**32}, "price", Reason.PRICE_NOT_POSITIVE),
        ({"type": 7}, "type", Reason.UNSUPPORTED_ORDER_TYPE),
        ({"time_in_force": 3}, "time_in_force", Reason.UNSUPPORTED_TIME_IN_FORCE),
        ({"order_expiry": 0}, "order_expiry", Reason.CONTRADICTORY_FIELDS),
        ({"trigger_price": 1}, "trigger_price", Reason.INVALID_TRIGGER_PRICE),
    ],
)
def test_order_out_of_range_is_refused_naming_the_field(changes: dict[str, Any], field: str, reason: Reason) -> None:
    """Field, value and reason are in the error."""
    with pytest.raises(InvalidOrder) as refused:
        order(**{"order_expiry": EXPIRY_MS, **changes}).check()
    assert (refused.value.field, refused.value.reason) == (field, reason)
    assert str(changes.get(field, "")) in refused.value.message


def test_reduce_only_order_may_take_its_size_from_the_position() -> None:
    """Size zero means whatever the position is."""
    order(base_amount=0, reduce_only=True, order_expiry=EXPIRY_MS).check()


def child(kind: OrderKind, **changes: Any) -> OrderFields:
    """A child order of a group on the ask side."""
    values = {
        **PLAIN,
        "is_ask": True,
        "type": kind,
        "base_amount": 0,
        "reduce_only": True,
        "trigger_price": 3,
        "order_expiry": EXPIRY_MS,
        **changes,
    }
    return OrderFields(**values)


PARENT = OrderFields(**PLAIN, order_expiry=EXPIRY_MS)
STOP, TAKE = child(OrderKind.STOP_LOSS_LIMIT), child(OrderKind.TAKE_PROFIT_LIMIT)
SIZED_STOP, SIZED_TAKE = (
    child(OrderKind.STOP_LOSS_LIMIT, base_amount=5),
    child(OrderKind.TAKE_PROFIT_LIMIT, base_amount=5),
)
OTO, OCO, OTOCO = Grouping


@pytest.mark.parametrize(
    ("grouping", "orders"),
    [(OTO, (PARENT, STOP)), (OTO, (PARENT, TAKE)), (OCO, (SIZED_TAKE, SIZED_STOP)), (OTOCO, (PARENT, TAKE, STOP))],
)
def test_group_of_the_reference_is_taken(grouping: Grouping, orders: tuple[OrderFields, ...]) -> None:
    """One of each grouping; a group costs quota for each order."""
    group = CreateGroupedOrders(grouping_type=grouping, orders=orders)
    group.check()
    assert group.quota_units == len(orders)


@pytest.mark.parametrize(
    ("grouping", "orders"),
    [
        (OTO, (PARENT,)),
        (OTO, (PARENT, STOP, TAKE)),
        (OTOCO, (PARENT, STOP, STOP)),
        (OTO, (PARENT, PARENT)),
        (OTO, (PARENT, child(OrderKind.STOP_LOSS_LIMIT, is_ask=False))),
        (OTO, (PARENT, child(OrderKind.STOP_LOSS_LIMIT, order_expiry=EXPIRY_MS + 1))),
        (OTO, (PARENT, SIZED_STOP)),
        (OTO, (PARENT, child(OrderKind.STOP_LOSS_LIMIT, reduce_only=False))),
        (OTO, (PARENT, child(OrderKind.STOP_LOSS_LIMIT, market_index=2))),
        (OCO, (SIZED_TAKE, child(OrderKind.STOP_LOSS_LIMIT, base_amount=6))),
        (OCO, (SIZED_TAKE, child(OrderKind.STOP_LOSS_LIMIT, base_amount=5, reduce_only=False))),
        (
            OCO,
            (
                child(OrderKind.TAKE_PROFIT_LIMIT, base_amount=5, client_order_index=9),
                child(OrderKind.STOP_LOSS_LIMIT, base_amount=5, client_order_index=9),
            ),
        ),
        (4, (PARENT, STOP)),
    ],
)
def test_group_that_breaks_a_rule_is_refused(grouping: int, orders: tuple[OrderFields, ...]) -> None:
    """Number, kinds, sides, expiries, sizes, markets, client indices."""
    with pytest.raises(InvalidOrder):
        CreateGroupedOrders(grouping_type=grouping, orders=orders).check()


@pytest.mark.parametrize(
    "transaction",
    [
        CancelOrder(market_index=255, index=1),
        CancelOrder(market_index=0, index=0),
        CancelAllOrders(time_in_force=CancelAllWhen.SCHEDULED),
        CancelAllOrders(time=5),
        CancelAllOrders(time_in_force=3),
        ModifyOrder(market_index=0, index=1, base_amount=1, price=0),
        ModifyOrder(market_index=0, index=1, base_amount=-1, price=1),
        UpdateLeverage(market_index=0, initial_margin_fraction=0),
        UpdateLeverage(market_index=0, initial_margin_fraction=500, margin_mode=2),
        UpdateMargin(market_index=0, usdc_amount=0, direction=1),
        UpdateMargin(market_index=0, usdc_amount=1, direction=2),
        account.Withdraw(asset_index=3, route_type=2, amount=1),
        account.Withdraw(asset_index=63, route_type=0, amount=1),
        account.UpdateAccountAssetConfig(asset_index=0, asset_margin_mode=0),
        account.Transfer(to_account_index=5, asset_index=3, amount=0),
        account.Transfer(to_account_index=5, asset_index=3, amount=1, memo=(0,) * 31),
        account.Transfer(to_account_index=5, asset_index=3, amount=1, memo=(256,) * 32),
        account.ChangePubKey(pub_key=bytes(39)),
    ],
)
def test_transaction_out_of_range_is_refused(transaction: Any) -> None:
    """The signer would refuse it too."""
    with pytest.raises(InvalidOrder):
        transaction.check()


@pytest.mark.parametrize(
    "changes", [{"account_index": 0}, {"account_index": 2**48 - 1}, {"api_key_index": 255}, {"nonce": -1}]
)
def test_envelope_out_of_range_is_refused(changes: dict[str, int]) -> None:
    """Account, key and nonce."""
    plain: dict[str, Any] = {
        "chain_id": 304,
        "account_index": 1,
        "api_key_index": 4,
        "nonce": 0,
        "expired_at_ms": 1,
    }
    with pytest.raises(InvalidOrder):
        Envelope(**{**plain, **changes}).check()


def test_attributes_are_written_by_code_and_defaults_are_not() -> None:
    """Market 255 and zeros mean unset; five set ones are one too many."""
    assert Attributes().pairs() == ()
    assert Attributes(order_version=3, skip_nonce=True).pairs() == ((4, 1), (8, 3))
    assert Attributes(cancel_all_market=0).pairs() == ((5, 0),)
    with pytest.raises(InvalidOrder):
        Attributes(
            integrator_account_index=1,
            integrator_taker_fee=1,
            integrator_maker_fee=1,
            skip_nonce=True,
            self_trade_mode=1,
        ).pairs()


def test_reducing_self_trades_goes_with_one_account_only() -> None:
    """The signer refuses it between accounts of one master."""
    plain: dict[str, Any] = {"chain_id": 304, "account_index": 1, "api_key_index": 4, "nonce": 0, "expired_at_ms": 1}
    Envelope(**plain, attributes=Attributes(self_trade_mode=3)).check()
    with pytest.raises(InvalidOrder, match="self_trade_mode"):
        Envelope(**plain, attributes=Attributes(self_trade_mode=3, self_trade_scope=1)).check()


@given(text=st.text(min_size=1, max_size=64))
@settings(max_examples=100)
def test_client_order_index_is_stable_and_in_range(text: str) -> None:
    """1..2^48-1, the same for ever."""
    index = client_order_index(text)
    assert 1 <= index < 2**48
    assert index == client_order_index(text)


def test_client_order_indices_of_many_orders_differ() -> None:
    """No collision among ten thousand ids in sequence."""
    assert len({client_order_index(f"{n:032x}") for n in range(10_000)}) == 10_000
    assert client_order_index("00" * 16) == 86407699194641


def test_market_index_above_one_byte_is_written_whole() -> None:
    """Spot markets begin at 2048; a client that wrote one byte traded market 0 instead."""
    assert msgspec.to_builtins(CancelOrder(market_index=2048, index=7))["MarketIndex"] == 2048
    assert 2048 in CancelOrder(market_index=2048, index=7).elements()
