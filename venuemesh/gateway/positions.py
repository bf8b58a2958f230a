"""Positions from fills: signed quantity, exact cost, realized profit, fees and funding. Pure.

The state keeps the *cost* of what is open, not a rounded average. A partial close takes its share of the cost,
rounded to 18 places; what it takes is gone from the cost, so at every step

    realized + quantity * mark - open_cost  =  -(sum of signed fill notionals) + quantity * mark

holds to the last digit, and a full close leaves no dust. A notional of more than 18 digits after the point is rounded
to them, as its stored form must be.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import ROUND_FLOOR, Decimal

from venuemesh.money import EXACT, MAX_SCALE, divide, to_wire
from venuemesh.v1 import account_pb2, order_pb2

ZERO = Decimal(0)
BPS = Decimal(10_000)
CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionState:
    """Position of one account in one instrument; amounts in the settlement asset."""

    symbol: str
    quantity: Decimal = ZERO
    open_cost: Decimal = ZERO
    realized_pnl: Decimal = ZERO
    fees_paid: Decimal = ZERO
    funding_received: Decimal = ZERO

    @property
    def entry_price(self) -> Decimal | None:
        """Average price of what is open, rounded to 18 places; None when flat."""
        return divide(self.open_cost, self.quantity) if self.quantity else None


@dataclass(frozen=True, slots=True)
class PositionStep:
    """A position after a change, and what kind of change it was."""

    state: PositionState
    change: account_pb2.PositionChange.ValueType


def makes_position(symbol: str) -> bool:
    """Whether fills in a symbol make a position: those of perpetuals do, spot only moves balances.

    The contract names a perpetual with its settlement asset, `BTC/USDC:USDC`, and spot without, `HYPE/USDC`.
    """
    return ":" in symbol


def apply_fill(
    state: PositionState, *, side: order_pb2.Side.ValueType, quantity: Decimal, price: Decimal, fee: Decimal
) -> PositionStep:
    """Fold one fill. `fee` is in the settlement asset; pass 0 for a fee paid in another."""
    # The copy methods keep every digit; plain minus and abs() would round to the thread's context.
    signed = quantity if side == order_pb2.SIDE_BUY else quantity.copy_negate()
    before = state.quantity
    after = EXACT.add(before, signed)
    closing = _same_or_less(signed, before)
    cost_closed = _share_of_cost(state, closing)
    opening = EXACT.add(signed, closing)
    realized = EXACT.subtract(_cost(closing, price), cost_closed)
    return PositionStep(
        replace(
            state,
            quantity=after,
            open_cost=EXACT.add(EXACT.subtract(state.open_cost, cost_closed), _cost(opening, price)),
            realized_pnl=EXACT.add(state.realized_pnl, realized),
            fees_paid=EXACT.add(state.fees_paid, fee),
        ),
        _change(before, after),
    )


def apply_funding(state: PositionState, amount: Decimal) -> PositionStep:
    """Fold one funding payment; negative is paid."""
    received = EXACT.add(state.funding_received, amount)
    return PositionStep(replace(state, funding_received=received), account_pb2.POSITION_CHANGE_FUNDING)


def reconcile(
    state: PositionState, *, quantity: Decimal, entry_price: Decimal | None, mark_price: Decimal | None = None
) -> PositionStep:
    """Take the venue's quantity and entry as the truth; what was realized before stays as it is.

    A venue that names no entry leaves the price of what is open to us: ours where the position has kept its side, else
    the mark. Where there is neither, the cost is 0 and all of the position's worth shows as unrealized.
    """
    price = entry_price
    if price is None:
        kept = state.quantity and quantity and (state.quantity > 0) == (quantity > 0)
        price = state.entry_price if kept else mark_price
    cost = _cost(quantity, ZERO if price is None else price)
    return PositionStep(replace(state, quantity=quantity, open_cost=cost), account_pb2.POSITION_CHANGE_RECONCILE)


def _cost(quantity: Decimal, price: Decimal) -> Decimal:
    """What a quantity costs, in the 18 digits after the point that a stored amount has."""
    product = EXACT.multiply(quantity, price)
    exponent = product.as_tuple().exponent
    return product if isinstance(exponent, int) and exponent >= -MAX_SCALE else to_wire(product)


def liquidation_distance_bps(quantity: Decimal, mark: Decimal, liquidation: Decimal) -> Decimal:
    """How far the mark may move against a position, in hundredths of a percent of the mark; two decimals, rounded down.

    Negative when the mark is past the liquidation price. `quantity` is signed and not 0, `mark` is above 0.
    """
    room = EXACT.subtract(mark, liquidation) if quantity > 0 else EXACT.subtract(liquidation, mark)
    return divide(EXACT.multiply(room, BPS), mark).quantize(CENT, rounding=ROUND_FLOOR)


def _same_or_less(signed: Decimal, before: Decimal) -> Decimal:
    """The part of the held position that a fill closes, with the held position's sign."""
    if not before or (signed > 0) == (before > 0):
        return ZERO
    size = min(signed.copy_abs(), before.copy_abs())
    return size if before > 0 else size.copy_negate()


def _share_of_cost(state: PositionState, closing: Decimal) -> Decimal:
    if closing == state.quantity:
        return state.open_cost
    if not closing:
        return ZERO
    return divide(EXACT.multiply(state.open_cost, closing), state.quantity)


def _change(before: Decimal, after: Decimal) -> account_pb2.PositionChange.ValueType:
    if not before:
        return account_pb2.POSITION_CHANGE_OPEN
    if not after:
        return account_pb2.POSITION_CHANGE_CLOSE
    if (before > 0) != (after > 0):
        return account_pb2.POSITION_CHANGE_FLIP
    grew = after.copy_abs() > before.copy_abs()
    return account_pb2.POSITION_CHANGE_INCREASE if grew else account_pb2.POSITION_CHANGE_DECREASE
