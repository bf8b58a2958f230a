"""Checks an order must pass, in the order a venue makes them. Pure reads of the engine's state."""

from __future__ import annotations

from decimal import Decimal

from simulator.engine import caps, risk
from simulator.engine.accounts import Account, Ledger
from simulator.engine.market import Market
from simulator.engine.state import EngineState
from simulator.engine.values import (
    ZERO,
    Order,
    OrderRequest,
    OrderState,
    Reason,
    Side,
    TimeInForce,
)

VOLUME_PER_ORDER = Decimal(5_000_000)
"""Volume that earns one more open order."""
MOST_TIMES = 5
"""Open orders never exceed this many times the limit of a new account."""


def static_refusal(
    state: EngineState, account: str, request: OrderRequest, now_ms: int, *, follows: bool
) -> Reason | None:
    """Rules that need no book: known instrument, price and quantity grid, value, reference band."""
    market = state.markets.get(request.instrument)
    if market is None:
        return Reason.UNKNOWN_INSTRUMENT
    instrument = market.instrument
    if state.only_post_only(instrument, now_ms) and _may_take(state, account, request):
        return Reason.POST_ONLY_PERIOD
    if request.price <= 0:
        return Reason.INVALID_PRICE
    sized = not (follows and request.trigger)
    if sized and request.quantity == 0:
        return Reason.ZERO_QUANTITY
    if request.quantity < 0 or request.quantity % instrument.lot != 0:
        return Reason.INVALID_QUANTITY
    if request.quantity * request.price > state.rules.max_notional:
        return Reason.NOTIONAL_TOO_LARGE
    if abs(request.price / market.mark - 1) > state.rules.price_band:
        return Reason.PRICE_TOO_FAR
    if not instrument.open:
        return Reason.INSTRUMENT_CLOSED
    if not instrument.price_rule.accepts(request.price):
        return Reason.OFF_TICK
    if request.trigger and not instrument.price_rule.accepts(request.trigger.price):
        return Reason.BAD_TRIGGER_PRICE
    if sized and _below_minimum(state, account, market, request):
        return Reason.BELOW_MINIMUM
    return None


def _may_take(state: EngineState, account: str, request: OrderRequest) -> bool:
    """Whether an order of a customer could take liquidity."""
    owner = state.accounts.get(account)
    return request.time_in_force is not TimeInForce.POST_ONLY and not (owner is not None and owner.house)


def _below_minimum(state: EngineState, account: str, market: Market, request: OrderRequest) -> bool:
    """Below the least value, unless it closes the whole position (a larger reduce-only one shrinks)."""
    owner = state.accounts.get(account)
    if owner is None or owner.house or request.twap_id is not None:
        return False
    if request.quantity * request.price >= _least(state, market):
        return False
    if not market.instrument.perpetual:
        return True
    position = owner.position(market.instrument)
    if position * request.side.sign >= 0:
        return True
    if request.quantity == abs(position):
        return False
    return not (request.reduce_only and request.quantity > abs(position))


def _least(state: EngineState, market: Market) -> Decimal:
    own = market.instrument.min_notional
    return state.rules.min_notional if own is None else own


def trigger_refusal(state: EngineState, order: Order) -> Reason | None:
    """A trigger whose condition already holds is refused, as is one order too many."""
    trigger = order.request.trigger
    if trigger is not None and trigger.met(order.side, state.markets[order.instrument].mark):
        return Reason.BAD_TRIGGER_PRICE
    return _too_many(state, order)


def dynamic_refusal(state: EngineState, order: Order) -> Reason | None:
    """Rules that need position, money and book; shrinks a reduce-only order to the position."""
    market = state.markets[order.instrument]
    owner = state.accounts[order.account]
    request = order.request
    if request.reduce_only and not owner.house:
        position = owner.position(market.instrument)
        if position * order.side.sign >= 0:
            return Reason.REDUCE_ONLY_WOULD_INCREASE
        order.remaining = min(order.remaining, abs(position))
    if not owner.house:
        refusal = money_refusal(state, order, market) or caps.refusal(state, order, market)
        if refusal is not None:
            return refusal
    crosses = market.book.crosses(order.side, order.price)
    if request.time_in_force is TimeInForce.POST_ONLY and crosses:
        return Reason.POST_ONLY_WOULD_MATCH
    if request.time_in_force is TimeInForce.IMMEDIATE_OR_CANCEL and not crosses:
        market_order = request.trigger is not None and request.trigger.market
        return Reason.NO_LIQUIDITY if market_order else Reason.NO_MATCH
    return _too_many(state, order)


def money_refusal(state: EngineState, order: Order, market: Market) -> Reason | None:
    """Whether margin or balance is short for `order`, which need not be known to the engine."""
    instrument = market.instrument
    if not instrument.perpetual:
        return _spot_refusal(state, order, market)
    if order.request.reduce_only:
        return None
    owner = state.accounts[order.account]
    ledger = owner.ledger(instrument.pool)
    notional = order.remaining * order.price
    resting = risk.exposures(state.resting_orders(order.account, instrument.pool))
    before = risk.required_margin(ledger, resting, state.markets)
    exposure = resting.get(order.instrument, risk.Exposure()).plus(order.side, notional)
    resting[order.instrument] = exposure
    after = risk.required_margin(ledger, resting, state.markets)
    fee = _entry_fee(owner, order, market)
    short = after + fee > risk.cross_value(ledger, state.markets) - ledger.purse.hold
    if short and after > before:
        return Reason.INSUFFICIENT_MARGIN
    return Reason.POSITION_TIER_LIMIT if _beyond_tier(ledger, market, exposure, order.side) else None


def _beyond_tier(ledger: Ledger, market: Market, exposure: risk.Exposure, side: Side) -> bool:
    """Whether position and orders of one side would be larger than the leverage in use allows."""
    instrument = market.instrument
    position = ledger.positions.get(instrument.key)
    signed = ZERO if position is None else position.quantity * market.mark
    size = signed + exposure.buys if side is Side.BUY else exposure.sells - signed
    return size > abs(signed) and ledger.setting(instrument).value > instrument.leverage_at(size)


def _spot_refusal(state: EngineState, order: Order, market: Market) -> Reason | None:
    instrument, owner = market.instrument, state.accounts[order.account]
    buying = order.side is Side.BUY
    token = instrument.quote if buying else instrument.base
    available = owner.balance(token).available
    if owner.unified == token:  # what backs positions cannot buy coins
        ledger = owner.own_ledgers()[0]
        resting = risk.exposures(state.resting_orders(order.account, instrument.pool))
        available = risk.free_margin(ledger, resting, state.markets)
    needed = order.remaining * order.price if buying else order.remaining
    return Reason.INSUFFICIENT_BALANCE if needed > available else None


def maker_is_short(state: EngineState, maker: Order, market: Market, quantity: Decimal) -> bool:
    """Whether the owner of a resting order could not carry the position its fill would open.

    Margin was there when the order was placed; a move of the mark may have taken it away since.
    """
    owner = state.accounts[maker.account]
    if owner.house or not market.instrument.perpetual or maker.request.reduce_only:
        return False
    ledger = owner.ledger(market.instrument.pool)
    before = risk.required_margin(ledger, {}, state.markets)
    filled = {maker.instrument: risk.Exposure().plus(maker.side, quantity * maker.price)}
    after = risk.required_margin(ledger, filled, state.markets)
    return after > before and after > risk.cross_value(ledger, state.markets) - ledger.purse.hold


def _entry_fee(owner: Account, order: Order, market: Market) -> Decimal:
    """Taker fee the order may cost, so that an opening never leaves an account below its margin."""
    rate = owner.fee_rate(market.instrument, taker=True)
    return order.remaining * order.price * (rate + order.request.extra_fee)


def _too_many(state: EngineState, order: Order) -> Reason | None:
    if state.accounts[order.account].house or order.state is not OrderState.OPEN:
        return None
    owner, most = state.accounts[order.account], state.rules.max_open_orders
    if not order.request.reduce_only and order.request.trigger is None:  # these alone may go beyond
        most = min(most * MOST_TIMES, most + int(owner.volume // VOLUME_PER_ORDER))
    return Reason.TOO_MANY_ORDERS if len(state.live_orders(order.account)) >= most else None
