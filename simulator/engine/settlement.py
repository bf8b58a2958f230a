"""Settling one side of one trade: cash, tokens, fees, volume. Pure."""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal

from simulator.engine.accounts import Account, truncate
from simulator.engine.events import Fill, Trade
from simulator.engine.market import Market
from simulator.engine.state import EngineState
from simulator.engine.values import ZERO, Instrument, Order, Side

TOKEN_STEP = Decimal("0.00000001")


def settle(state: EngineState, market: Market, order: Order, trade: Trade, *, taker: bool) -> Fill:
    """Book `trade` for the owner of `order` and say what happened, fee included."""
    instrument = market.instrument
    owner = state.accounts[order.account]
    notional = trade.quantity * trade.price
    rate = owner.fee_rate(instrument, taker=taker)
    request = order.request
    extra_rate = request.extra_fee if taker or request.maker_extra_fee is None else request.maker_extra_fee
    owner.volume += notional
    if instrument.perpetual:
        extra = truncate(notional * extra_rate)
        fee = truncate(notional * rate) + extra
        fee_token = instrument.quote
        result = owner.ledger(instrument.pool).apply_fill(instrument, order.side, trade.quantity, trade.price, fee)
        start, closed_pnl = result.start, result.closed_pnl
    else:
        state.release(order, trade.quantity)
        start, closed_pnl = owner.balance(instrument.base).total, ZERO
        fee, extra, fee_token = _settle_spot(owner, instrument, order, trade, rate)
    state.fees[fee_token] = state.fees.get(fee_token, ZERO) + fee
    return Fill(
        account=order.account,
        instrument=instrument.key,
        trade_id=trade.trade_id,
        order_id=order.order_id,
        client_id=order.request.client_id,
        side=order.side,
        price=trade.price,
        quantity=trade.quantity,
        taker=taker,
        fee=fee,
        extra_fee=extra,
        fee_token=fee_token,
        start_position=start,
        closed_pnl=closed_pnl,
        time_ms=trade.time_ms,
        liquidated=state.liquidating,
        mark_price=market.mark if state.liquidating else None,
        twap_id=order.request.twap_id,
    )


def _settle_spot(
    owner: Account, instrument: Instrument, order: Order, trade: Trade, rate: Decimal
) -> tuple[Decimal, Decimal, str]:
    """Exchange tokens; the fee is taken from what is received."""
    base, quote = owner.balance(instrument.base), owner.balance(instrument.quote)
    notional = trade.quantity * trade.price
    if order.side is Side.BUY:
        fee = (trade.quantity * rate).quantize(TOKEN_STEP, ROUND_DOWN)
        quote.total -= notional
        base.total += trade.quantity - fee
        base.cost += notional
        return fee, ZERO, instrument.base
    extra = truncate(notional * order.request.extra_fee)
    fee = truncate(notional * rate) + extra
    if base.total > 0:
        base.cost -= truncate(base.cost * min(trade.quantity, base.total) / base.total)
    base.total -= trade.quantity
    quote.total += notional - fee
    return fee, extra, instrument.quote
