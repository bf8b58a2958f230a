"""The position fold against a slow reference model in fractions."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from venuemesh.gateway.account_fold import position_state
from venuemesh.gateway.positions import PositionState, PositionStep, apply_fill, apply_funding, reconcile
from venuemesh.money import format_decimal
from venuemesh.v1 import account_pb2 as account
from venuemesh.v1 import order_pb2 as pb

BUY, SELL = pb.SIDE_BUY, pb.SIDE_SELL
PLACE = Fraction(1, 10**18)

amounts = st.decimals("0.00001", "100000", places=5)
prices = st.decimals("0.0001", "200000", places=4)
fills = st.tuples(st.sampled_from([BUY, SELL]), amounts, prices, st.decimals("-1", "1", places=6))


def fold(state: PositionState, rows: list[tuple[pb.Side.ValueType, Decimal, Decimal, Decimal]]) -> PositionState:
    for side, quantity, price, fee in rows:
        state = apply_fill(state, side=side, quantity=quantity, price=price, fee=fee).state
    return state


class Reference:
    """Average-cost accounting without any rounding."""

    def __init__(self) -> None:
        self.quantity = self.cost = self.realized = self.fees = self.notional = Fraction(0)

    def fill(self, side: pb.Side.ValueType, quantity: Decimal, price: Decimal, fee: Decimal) -> None:
        left = Fraction(quantity) * (1 if side == BUY else -1)
        at = Fraction(price)
        self.notional += left * at
        self.fees += Fraction(fee)
        if self.quantity and (self.quantity > 0) != (left > 0):
            closed = -left if abs(left) < abs(self.quantity) else self.quantity
            share = self.cost * closed / self.quantity
            self.realized += closed * at - share
            self.cost -= share
            self.quantity -= closed
            left += closed
        self.quantity += left
        self.cost += left * at


@settings(max_examples=200, deadline=None)
@given(st.lists(fills, max_size=30))
def test_fold_equals_the_reference_model(rows: list[tuple[pb.Side.ValueType, Decimal, Decimal, Decimal]]) -> None:
    """Property 26: quantity, fees exactly; cost and profit to the rounding of each partial close; the sum exactly."""
    state, reference = PositionState(symbol="X"), Reference()
    for row in rows:
        state = fold(state, [row])
        reference.fill(*row)
        assert Fraction(state.quantity) == reference.quantity
        assert Fraction(state.fees_paid) == reference.fees
        assert Fraction(state.realized_pnl) - Fraction(state.open_cost) == -reference.notional
        assert abs(Fraction(state.realized_pnl) - reference.realized) <= len(rows) * PLACE
        assert state.quantity or not state.open_cost
        assert not (state.quantity and state.open_cost) or (state.quantity > 0) == (state.open_cost > 0)


@settings(max_examples=50, deadline=None)
@given(st.lists(fills, max_size=10), prices)
def test_full_close_leaves_no_dust(
    rows: list[tuple[pb.Side.ValueType, Decimal, Decimal, Decimal]], price: Decimal
) -> None:
    """Flat is flat: no quantity, no cost, no entry price."""
    state = fold(PositionState(symbol="X"), rows)
    if not state.quantity:
        return
    side = SELL if state.quantity > 0 else BUY
    step = apply_fill(state, side=side, quantity=abs(state.quantity), price=price, fee=Decimal(0))
    assert (step.state.quantity, step.state.open_cost, step.state.entry_price) == (Decimal(0), Decimal(0), None)
    assert step.change == account.POSITION_CHANGE_CLOSE


@settings(max_examples=50, deadline=None)
@given(st.lists(fills, max_size=10), st.lists(fills, max_size=10))
def test_restart_from_the_stored_message_goes_on_the_same(
    before: list[tuple[pb.Side.ValueType, Decimal, Decimal, Decimal]],
    after: list[tuple[pb.Side.ValueType, Decimal, Decimal, Decimal]],
) -> None:
    """A position rebuilt from its wire form folds on to the last digit like one that never stopped."""
    state = fold(PositionState(symbol="X"), before)
    names = ("quantity", "open_cost", "realized_pnl", "fees_paid", "funding_received")
    stored = account.Position(symbol="X")
    for name in names:
        setattr(stored, name, format_decimal(getattr(state, name)))
    assert fold(position_state(stored), after) == fold(state, after)


def change_of(*rows: tuple[pb.Side.ValueType, str]) -> account.PositionChange.ValueType:
    state, step = PositionState(symbol="X"), None
    for side, quantity in rows:
        step = apply_fill(state, side=side, quantity=Decimal(quantity), price=Decimal(10), fee=Decimal(0))
        state = step.state
    assert isinstance(step, PositionStep)
    return step.change


def test_changes_are_named() -> None:
    """Property 28: the history says open, increase, decrease, flip, close."""
    assert change_of((BUY, "1")) == account.POSITION_CHANGE_OPEN
    assert change_of((SELL, "1"), (SELL, "1")) == account.POSITION_CHANGE_INCREASE
    assert change_of((BUY, "2"), (SELL, "1")) == account.POSITION_CHANGE_DECREASE
    assert change_of((BUY, "1"), (SELL, "3")) == account.POSITION_CHANGE_FLIP
    assert change_of((SELL, "1"), (BUY, "1")) == account.POSITION_CHANGE_CLOSE


def test_flip_realizes_the_old_side_and_opens_the_new_at_the_fill() -> None:
    """Long 2 at 10, sell 5 at 12: 4 realized, short 3 at 12."""
    zero = Decimal(0)
    state = fold(
        PositionState(symbol="X"), [(BUY, Decimal(2), Decimal(10), zero), (SELL, Decimal(5), Decimal(12), zero)]
    )
    assert (state.quantity, state.realized_pnl, state.entry_price) == (Decimal(-3), Decimal(4), Decimal(12))


def test_long_numbers_keep_every_digit() -> None:
    """38 digits pass through whatever precision the thread's context has."""
    long = Decimal("12345678901234567890.123456789012345678")
    state = fold(PositionState(symbol="X"), [(SELL, long, Decimal(1), Decimal(0))])
    assert state.quantity == long.copy_negate()
    state = fold(state, [(BUY, long, Decimal(2), Decimal(0))])
    assert (state.quantity, state.realized_pnl) == (Decimal(0), long.copy_negate())


def test_funding_and_fees_do_not_touch_the_position() -> None:
    """They are counted beside it."""
    state = fold(PositionState(symbol="X"), [(BUY, Decimal(2), Decimal(10), Decimal("0.5"))])
    paid = apply_funding(state, Decimal("-0.25"))
    assert paid.state == replace(state, funding_received=Decimal("-0.25"))
    assert paid.change == account.POSITION_CHANGE_FUNDING


def test_reconcile_takes_the_venues_quantity_and_entry() -> None:
    """Property 27: realized profit, fees and funding stay."""
    state = fold(
        PositionState(symbol="X"),
        [(BUY, Decimal(2), Decimal(10), Decimal(1)), (SELL, Decimal(1), Decimal(11), Decimal(1))],
    )
    step = reconcile(state, quantity=Decimal(-4), entry_price=Decimal("9.5"))
    assert (step.state.quantity, step.state.entry_price) == (Decimal(-4), Decimal("9.5"))
    assert (step.state.realized_pnl, step.state.fees_paid) == (Decimal(1), Decimal(2))
    assert step.change == account.POSITION_CHANGE_RECONCILE


def held(quantity: str, cost: str) -> PositionState:
    return PositionState(symbol="X", quantity=Decimal(quantity), open_cost=Decimal(cost))


@pytest.mark.parametrize(
    ("ours", "quantity", "mark", "cost"),
    [
        (held("2", "200"), "3", None, "300"),
        (held("2", "200"), "1", "150", "100"),
        (held("-2", "-200"), "-5", None, "-500"),
        (held("2", "200"), "-1", "150", "-150"),
        (held("0", "0"), "4", "25", "100"),
        (held("2", "200"), "0", "150", "0"),
        (held("0", "0"), "4", None, "0"),
    ],
)
def test_reconcile_with_a_venue_that_names_no_entry_keeps_ours_or_takes_the_mark(
    ours: PositionState, quantity: str, mark: str | None, cost: str
) -> None:
    """A cost of 0 would show the whole worth as profit; that is left for a position nobody knows a price of."""
    price = None if mark is None else Decimal(mark)
    step = reconcile(ours, quantity=Decimal(quantity), entry_price=None, mark_price=price)
    assert (step.state.quantity, step.state.open_cost) == (Decimal(quantity), Decimal(cost))
    assert step.change == account.POSITION_CHANGE_RECONCILE


@settings(max_examples=60, deadline=None)
@given(
    st.decimals("-1000", "1000", places=12, allow_nan=False),
    st.decimals("0.000000000000000001", "1000", places=18, allow_nan=False),
    st.sampled_from([BUY, SELL]),
)
def test_every_cost_can_be_stored(quantity: Decimal, price: Decimal, side: pb.Side.ValueType) -> None:
    """30 digits after the point of a notional are rounded to the 18 that a stored amount has; no dust stays."""
    taken = reconcile(PositionState(symbol="X"), quantity=quantity, entry_price=price).state
    format_decimal(taken.open_cost)
    if not quantity:
        return
    filled = apply_fill(taken, side=side, quantity=abs(quantity), price=price, fee=Decimal(0)).state
    for amount in (filled.open_cost, filled.realized_pnl):
        format_decimal(amount)
    assert filled.quantity or not filled.open_cost
