"""Ending an instrument: cancel its orders, settle its positions at the mark, take no more orders. Pure."""

from __future__ import annotations

from dataclasses import replace

from simulator.engine.accounts import Ledger
from simulator.engine.engine import Engine
from simulator.engine.events import Fill
from simulator.engine.market import Market
from simulator.engine.values import ZERO, Reason, Side


def halt(engine: Engine, key: str, now_ms: int) -> None:
    """Close an instrument for good; its positions become cash at the mark, free of fees.

    Positions sum to zero and all settle at one price, so no money appears or vanishes.

    Raises:
        KeyError: no such instrument.
    """
    market = engine.markets[key]
    market.instrument = replace(market.instrument, open=False)
    for name in list(engine.accounts):
        for order in engine.live_orders(name):
            if order.instrument == key:
                engine.cancel(name, order.order_id, now_ms, Reason.DELISTED)
    if not market.instrument.perpetual:
        return
    for name, account in engine.accounts.items():
        if account.position(market.instrument):
            _settle(engine, name, account.ledger(market.instrument.pool), market, now_ms)


def _settle(engine: Engine, name: str, ledger: Ledger, market: Market, now_ms: int) -> None:
    instrument = market.instrument
    quantity = ledger.positions[instrument.key].quantity
    side = Side.SELL if quantity > 0 else Side.BUY
    result = ledger.apply_fill(instrument, side, abs(quantity), market.mark, ZERO)
    if engine.accounts[name].house:
        return
    engine.keep_fill(
        Fill(
            account=name,
            instrument=instrument.key,
            trade_id=engine.next_trade_id(),
            order_id=engine.next_order_id(),
            client_id=None,
            side=side,
            price=market.mark,
            quantity=abs(quantity),
            taker=True,
            fee=ZERO,
            extra_fee=ZERO,
            fee_token=instrument.quote,
            start_position=result.start,
            closed_pnl=result.closed_pnl,
            time_ms=now_ms,
            settlement=True,
        )
    )
    engine.emit_settled(name, instrument, now_ms)
