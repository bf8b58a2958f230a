"""Caps on open interest: what an order may still do when a market is full. Pure.

At the cap no order may open or flip a position by trading at once; one may rest, but not at a price more
aggressive than the oracle, and resting orders that become so are cancelled.
"""

from __future__ import annotations

from decimal import Decimal

from simulator.engine.market import Market
from simulator.engine.state import EngineState
from simulator.engine.values import ZERO, Order, Reason, Side, TimeInForce


def open_interest(state: EngineState, market: Market) -> Decimal:
    """Long side of all positions in an instrument, in base units."""
    return sum(
        (max(ZERO, account.position(market.instrument)) for account in state.accounts.values()),
        ZERO,
    )


def capped(state: EngineState, market: Market) -> bool:
    """Whether open interest has reached its cap."""
    cap = market.open_interest_cap
    return cap is not None and open_interest(state, market) * market.mark >= cap


def aggressive(order: Order, market: Market) -> bool:
    """Whether an order would trade beyond the oracle: a buy above it, a sell below it."""
    return order.price > market.oracle if order.side is Side.BUY else order.price < market.oracle


def refusal(state: EngineState, order: Order, market: Market) -> Reason | None:
    """Why an order of a capped or fast growing market is refused, None when it is not."""
    if not market.instrument.perpetual or order.request.reduce_only:
        return None
    held = state.accounts[order.account].position(market.instrument)
    after = held + order.remaining * order.side.sign
    growth = (abs(after) - abs(held)) * order.price
    step = market.open_interest_step
    if step is not None and growth > step:
        return Reason.CAP_TOO_QUICK
    flips = held * after < 0
    if (growth <= 0 and not flips) or not capped(state, market):
        return None
    if flips:
        return Reason.CAP_FLIP
    immediate = order.request.time_in_force is TimeInForce.IMMEDIATE_OR_CANCEL
    if immediate or market.book.crosses(order.side, order.price):
        return Reason.CAP_INCREASE
    return Reason.CAP_AGGRESSIVE if aggressive(order, market) else None


def barred(state: EngineState, order: Order, market: Market) -> bool:
    """Whether a resting order must go because it is too aggressive at the cap; one that reduces may stay."""
    if state.accounts[order.account].house or order.request.reduce_only or market.open_interest_cap is None:
        return False
    held = state.accounts[order.account].position(market.instrument)
    reduces = held * order.side.sign < 0 and order.remaining <= abs(held)
    return not reduces and aggressive(order, market) and capped(state, market)
