"""Checks an order must pass, in the order a venue makes them. Pure reads of the engine."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from simulator.engine import risk
from simulator.engine.market import Market
from simulator.engine.values import (
    Order,
    OrderRequest,
    OrderState,
    Reason,
    Side,
    TimeInForce,
)

if TYPE_CHECKING:
    from simulator.engine.engine import Engine


def static_refusal(engine: Engine, account: str, request: OrderRequest, *, follows: bool) -> Reason | None:
    """Rules that need no book: known instrument, price and quantity grid, value, reference band."""
    market = engine.markets.get(request.instrument)
    if market is None:
        return Reason.UNKNOWN_INSTRUMENT
    instrument = market.instrument
    if request.price <= 0:
        return Reason.INVALID_PRICE
    sized = not (follows and request.trigger)
    if sized and request.quantity == 0:
        return Reason.ZERO_QUANTITY
    if request.quantity < 0 or request.quantity % instrument.lot != 0:
        return Reason.INVALID_QUANTITY
    if request.quantity * request.price > engine.rules.max_notional:
        return Reason.NOTIONAL_TOO_LARGE
    if abs(request.price / market.mark - 1) > engine.rules.price_band:
        return Reason.PRICE_TOO_FAR
    if not instrument.open:
        return Reason.INSTRUMENT_CLOSED
    if not instrument.price_rule.accepts(request.price):
        return Reason.OFF_TICK
    if request.trigger and not instrument.price_rule.accepts(request.trigger.price):
        return Reason.BAD_TRIGGER_PRICE
    if sized and _below_minimum(engine, account, market, request):
        return Reason.BELOW_MINIMUM
    return None


def _below_minimum(engine: Engine, account: str, market: Market, request: OrderRequest) -> bool:
    """Below the least value, unless it closes the whole position (a larger reduce-only one shrinks)."""
    owner = engine.accounts.get(account)
    if owner is None or owner.house or request.quantity * request.price >= engine.rules.min_notional:
        return False
    if not market.instrument.perpetual:
        return True
    position = owner.position(market.instrument)
    if position * request.side.sign >= 0:
        return True
    if request.quantity == abs(position):
        return False
    return not (request.reduce_only and request.quantity > abs(position))


def trigger_refusal(engine: Engine, order: Order) -> Reason | None:
    """A trigger whose condition already holds is refused, as is one order too many."""
    trigger = order.request.trigger
    if trigger is not None and trigger.met(order.side, engine.markets[order.instrument].mark):
        return Reason.BAD_TRIGGER_PRICE
    return _too_many(engine, order)


def dynamic_refusal(engine: Engine, order: Order) -> Reason | None:
    """Rules that need position, money and book; shrinks a reduce-only order to the position."""
    market = engine.markets[order.instrument]
    owner = engine.accounts[order.account]
    request = order.request
    if request.reduce_only and not owner.house:
        position = owner.position(market.instrument)
        if position * order.side.sign >= 0:
            return Reason.REDUCE_ONLY_WOULD_INCREASE
        order.remaining = min(order.remaining, abs(position))
    if not owner.house:
        refusal = _money_refusal(engine, order, market)
        if refusal is not None:
            return refusal
    crosses = market.book.crosses(order.side, order.price)
    if request.time_in_force is TimeInForce.POST_ONLY and crosses:
        return Reason.POST_ONLY_WOULD_MATCH
    if request.time_in_force is TimeInForce.IMMEDIATE_OR_CANCEL and not crosses:
        market_order = request.trigger is not None and request.trigger.market
        return Reason.NO_LIQUIDITY if market_order else Reason.NO_MATCH
    return _too_many(engine, order)


def _money_refusal(engine: Engine, order: Order, market: Market) -> Reason | None:
    instrument = market.instrument
    owner = engine.accounts[order.account]
    notional = order.remaining * order.price
    if not instrument.perpetual:
        buying = order.side is Side.BUY
        balance = owner.balance(instrument.quote if buying else instrument.base)
        needed = notional if buying else order.remaining
        return Reason.INSUFFICIENT_BALANCE if needed > balance.available else None
    if order.request.reduce_only:
        return None
    ledger = owner.ledger(instrument.pool)
    resting = risk.exposures(engine.resting_orders(order.account, instrument.pool))
    before = risk.required_margin(ledger, resting, engine.markets)
    exposure = resting.get(order.instrument, risk.Exposure())
    resting[order.instrument] = exposure.plus(order.side, notional)
    after = risk.required_margin(ledger, resting, engine.markets)
    fee = _entry_fee(order, market)
    short = after + fee > risk.cross_value(ledger, engine.markets)
    return Reason.INSUFFICIENT_MARGIN if short and after > before else None


def _entry_fee(order: Order, market: Market) -> Decimal:
    """Taker fee the order may cost, so that an opening never leaves an account below its margin."""
    return order.remaining * order.price * (market.instrument.taker_fee + order.request.extra_fee)


def _too_many(engine: Engine, order: Order) -> Reason | None:
    if engine.accounts[order.account].house or order.state is not OrderState.OPEN:
        return None
    if len(engine.live_orders(order.account)) >= engine.rules.max_open_orders:
        return Reason.TOO_MANY_ORDERS
    return None
