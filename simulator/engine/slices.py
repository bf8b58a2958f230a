"""Orders worked in slices: a parent that waits outside the book while small orders trade for it. Pure.

Who cuts the slices, and when, is the front's affair; here the parent is kept and credited.
"""

from __future__ import annotations

from simulator.engine import checks
from simulator.engine.engine import Engine
from simulator.engine.events import Change
from simulator.engine.values import Order, OrderRequest, OrderSnapshot, OrderState, Outcome


def open_sliced(engine: Engine, account: str, request: OrderRequest, now_ms: int) -> Outcome:
    """Keep a parent; it is live, holds no margin, and trades only through its slices."""
    refusal = checks.static_refusal(engine, account, request, now_ms, follows=False)
    if refusal is not None:
        return Outcome(refusal=refusal)
    return Outcome(order=engine.park(account, request, now_ms).snapshot())


def credit_slice(engine: Engine, parent: Order, slice_: OrderSnapshot, now_ms: int) -> None:
    """Count what a slice traded as the parent's; a parent with nothing left is filled."""
    if not slice_.filled:
        return
    parent.filled += slice_.filled
    parent.filled_notional += slice_.filled * slice_.average_price
    parent.remaining -= slice_.filled
    parent.updated_ms = now_ms
    if parent.remaining > 0:
        engine.changed(parent, Change.PARTLY_FILLED, now_ms)
    else:
        engine.close(parent, OrderState.FILLED, None, now_ms)
