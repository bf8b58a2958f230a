"""What time and prices do: triggers, caps, funding, liquidation, scheduled cancels, time-weighted orders. Pure."""

from __future__ import annotations

from decimal import Decimal

from simulator.engine import caps, risk
from simulator.engine.accounts import Account, Ledger, truncate
from simulator.engine.chance import Chance, SplitMix
from simulator.engine.engine import Engine
from simulator.engine.events import FundingPaid, Liquidated, PriceChanged
from simulator.engine.market import HOUR_MS, FundingRate
from simulator.engine.twaps import TwapDesk
from simulator.engine.values import ZERO, OrderRequest, OrderState, Reason, Side, TimeInForce

BACKSTOP_SHARE = Decimal(2) / 3


class Upkeep:
    """Advances an engine: give it prices with `set_prices` and time with `advance`.

    Args:
        engine: the engine to look after.
        now_ms: start; the first funding is at the next full hour.
        backstop: house account that takes what a liquidation leaves, and bad debt.
        chance: varies the slices of randomised time-weighted orders.
    """

    def __init__(self, engine: Engine, now_ms: int, backstop: str, chance: Chance | None = None) -> None:
        self._engine = engine
        self.twaps = TwapDesk(engine, chance or SplitMix(0), first_id=now_ms // 1000)  # new after a restart
        self._next_funding_ms = now_ms - now_ms % HOUR_MS + HOUR_MS
        self._backstop = backstop
        self._scheduled: dict[str, int] = {}
        self.funding_residue: Decimal = ZERO  # what rounding leaves between payers and receivers
        engine.open_account(backstop, house=True)

    @property
    def next_funding_ms(self) -> int:
        """When funding is next exchanged."""
        return self._next_funding_ms

    def schedule_cancel(self, account: str, at_ms: int | None) -> None:
        """Cancel all orders of the account at `at_ms`; None withdraws the schedule."""
        if at_ms is None:
            self._scheduled.pop(account, None)
        else:
            self._scheduled[account] = at_ms

    def advance(self, now_ms: int) -> list[str]:
        """Let time pass up to `now_ms`; accounts whose scheduled cancel fired.

        What fell due in between happens in order and at its own time: scheduled cancels, slices of
        time-weighted orders, funding. Then triggers whose condition holds fire.
        """
        fired: list[str] = []
        while (due_ms := self._next_due_ms()) <= now_ms:
            for account in [name for name, at_ms in self._scheduled.items() if at_ms <= due_ms]:
                del self._scheduled[account]
                self._engine.cancel_all(account, due_ms, Reason.SCHEDULED)
                fired.append(account)
            self.twaps.run_due(due_ms)
            if due_ms >= self._next_funding_ms:
                self._pay_funding(self._next_funding_ms)
                self._next_funding_ms += HOUR_MS
        for key, market in self._engine.markets.items():
            if market.triggers:
                self._fire_triggers(key, now_ms)
        return fired

    def _next_due_ms(self) -> int:
        slice_ms = self.twaps.due_ms
        slices = [] if slice_ms is None else [slice_ms]
        return min([self._next_funding_ms, *self._scheduled.values(), *slices])

    def set_prices(self, key: str, oracle: Decimal, mark: Decimal, now_ms: int) -> None:
        """Move oracle and mark of an instrument, fire its triggers and liquidate who fell short.

        The mark stays within the bounds in force; at the cap of open interest, orders now too aggressive go.
        """
        engine = self._engine
        market = engine.markets[key]
        mark = market.bounded(mark)
        if market.oracle == oracle and market.mark == mark:
            return
        market.oracle, market.mark = oracle, mark
        engine.emit(PriceChanged(instrument=key, oracle=oracle, mark=mark, time_ms=now_ms))
        self._fire_triggers(key, now_ms)
        self.enforce_cap(key, now_ms)
        if market.instrument.perpetual:
            self._liquidate_pool(market.instrument.pool, now_ms)

    def _fire_triggers(self, key: str, now_ms: int) -> None:
        engine = self._engine
        market = engine.markets[key]
        if engine.only_post_only(market.instrument, now_ms):
            return  # a triggered order would take liquidity
        for order_id in list(market.triggers):
            order = engine.order(order_id)
            if order is None or order.state is not OrderState.WAITING_FOR_TRIGGER:
                continue  # a sibling fired earlier in this loop took it along
            trigger = order.request.trigger
            if trigger is not None and trigger.met(order.side, market.mark):
                engine.execute_triggered(order, now_ms)

    def enforce_cap(self, key: str, now_ms: int) -> None:
        """Cancel the resting orders that the cap on open interest of an instrument forbids now."""
        engine = self._engine
        market = engine.markets[key]
        if not market.instrument.perpetual or not caps.capped(engine, market):
            return
        for side in Side:
            for order in list(market.book.orders(side)):
                if caps.barred(engine, order, market):
                    engine.cancel(order.account, order.order_id, now_ms, Reason.OPEN_INTEREST_CAP)

    # -- funding ---------------------------------------------------------------------------------------------

    def _pay_funding(self, now_ms: int) -> None:
        engine = self._engine
        for key, market in engine.markets.items():
            if not market.instrument.perpetual:
                continue
            rate = market.funding_rate()
            market.fundings.append(FundingRate(rate=rate, premium=market.premium(), time_ms=now_ms))
            for name, account in engine.accounts.items():
                ledger = account.ledgers.get(market.instrument.pool)
                position = ledger.positions.get(key) if ledger else None
                if ledger is None or position is None or not position.quantity:
                    continue
                paid = truncate(position.quantity * market.oracle * rate)
                if position.isolated:
                    position.cash -= paid
                else:
                    ledger.cash -= paid
                self.funding_residue += paid
                position.funding_all_time += paid
                position.funding_since_open += paid
                position.funding_since_change += paid
                if not account.house:
                    event = FundingPaid(
                        account=name,
                        instrument=key,
                        amount=-paid,
                        quantity=position.quantity,
                        rate=rate,
                        time_ms=now_ms,
                    )
                    engine.emit_money(event, name)
                    engine.emit_settled(name, market.instrument, now_ms)

    # -- liquidation -----------------------------------------------------------------------------------------

    def _liquidate_pool(self, pool: str, now_ms: int) -> None:
        engine = self._engine
        for account in list(engine.accounts.values()):
            ledger = account.ledgers.get(pool)
            if account.house or ledger is None:
                continue
            for key, position in list(ledger.open_positions()):
                if position.isolated and self._isolated_short(ledger, key):
                    self._liquidate(account, pool, ledger, [key], isolated=True, now_ms=now_ms)
            cross = [key for key, position in ledger.open_positions() if not position.isolated]
            if cross and risk.cross_value(ledger, engine.markets) < risk.cross_maintenance(ledger, engine.markets):
                self._liquidate(account, pool, ledger, cross, isolated=False, now_ms=now_ms)

    def _isolated_short(self, ledger: Ledger, key: str) -> bool:
        market = self._engine.markets[key]
        notional = abs(ledger.positions[key].quantity) * market.mark
        needed = risk.maintenance(notional, market.instrument)
        return ledger.isolated_value(key, market.mark) < needed

    def _liquidate(
        self, account: Account, pool: str, ledger: Ledger, keys: list[str], *, isolated: bool, now_ms: int
    ) -> None:
        """Cancel the orders, sell into the book, and hand the backstop what is left below two thirds."""
        engine, name = self._engine, account.name
        notional = sum((abs(ledger.positions[k].quantity) * engine.markets[k].mark for k in keys), ZERO)
        value = self._value(ledger, keys, isolated=isolated)
        event = Liquidated(
            account=name,
            pool=pool,
            isolated=isolated,
            instruments=tuple(keys),
            quantities=tuple(ledger.positions[key].quantity for key in keys),
            notional=notional,
            account_value=value,
            liquidation_id=engine.next_sequence(),
            time_ms=now_ms,
        )
        engine.emit_money(event, name)
        self._clear_orders(account, pool, keys if isolated else None, now_ms)
        cash_before = ledger.cash
        engine.liquidating = name
        try:
            for key in keys:
                self._sell_out(name, ledger, key, now_ms)
        finally:
            engine.liquidating = None
        if isolated and ledger.cash < cash_before:  # an isolated position loses its own margin, never more
            engine.accounts[self._backstop].ledger(pool).cash -= cash_before - ledger.cash
            ledger.cash = cash_before
        self._backstop_rest(name, pool, ledger, keys, isolated=isolated, now_ms=now_ms)

    def _clear_orders(self, account: Account, pool: str, keys: list[str] | None, now_ms: int) -> None:
        """Cancel what could grow the positions: orders of `keys`, of the pool, or of all a unified account has."""
        engine = self._engine
        for order in engine.live_orders(account.name):
            instrument = engine.markets[order.instrument].instrument
            if keys is not None:
                affected = order.instrument in keys
            else:
                affected = bool(account.unified) or (instrument.perpetual and instrument.pool == pool)
            if affected:
                engine.cancel(account.name, order.order_id, now_ms, Reason.LIQUIDATION)
        for twap in self.twaps.running(account.name):
            if keys is None or twap.request.instrument in keys:
                self.twaps.cancel(account.name, twap.request.instrument, twap.twap_id, now_ms)

    def _value(self, ledger: Ledger, keys: list[str], *, isolated: bool) -> Decimal:
        markets = self._engine.markets
        if isolated:
            return sum((ledger.isolated_value(key, markets[key].mark) for key in keys), ZERO)
        return risk.cross_value(ledger, markets)

    def _sell_out(self, name: str, ledger: Ledger, key: str, now_ms: int) -> None:
        """Close at market, at most 5 % from the mark, so that a thin book takes no fortune."""
        engine = self._engine
        market = engine.markets[key]
        quantity = ledger.positions[key].quantity
        side = Side.SELL if quantity > 0 else Side.BUY
        bound = market.mark * (1 + Decimal("0.05") * side.sign)
        request = OrderRequest(
            instrument=key,
            side=side,
            quantity=abs(quantity),
            price=market.instrument.price_rule.floor(bound),
            time_in_force=TimeInForce.IMMEDIATE_OR_CANCEL,
            reduce_only=True,
            label="LiquidationMarket",
            extra_fee=market.instrument.liquidation_fee,
        )
        order = engine.new_liquidation_order(name, request, now_ms)
        engine.match(order, now_ms)
        if order.remaining:
            engine.close(order, OrderState.CANCELLED, Reason.LIQUIDATION, now_ms)

    def _backstop_rest(
        self, name: str, pool: str, ledger: Ledger, keys: list[str], *, isolated: bool, now_ms: int
    ) -> None:
        """Hand over what could not be sold when equity is below two thirds of maintenance, and any debt."""
        engine = self._engine
        rescuer = engine.accounts[self._backstop].ledger(pool)
        left = [key for key in keys if ledger.positions[key].quantity]
        needed = sum(
            (
                risk.maintenance(
                    abs(ledger.positions[k].quantity) * engine.markets[k].mark,
                    engine.markets[k].instrument,
                )
                for k in left
            ),
            ZERO,
        )
        if left and self._value(ledger, left, isolated=isolated) < needed * BACKSTOP_SHARE:
            for key in left:
                self._hand_over(ledger, key)
                engine.emit_settled(name, engine.markets[key].instrument, now_ms)
            if not isolated:
                rescuer.cash += ledger.cash
                ledger.cash = ZERO
        flat = not any(not position.isolated for _, position in ledger.open_positions())
        if flat and ledger.cash < 0:
            rescuer.cash += ledger.cash
            ledger.cash = ZERO

    def _hand_over(self, ledger: Ledger, key: str) -> None:
        """Move a position to the backstop at the mark; the cash legs make the difference exact."""
        market = self._engine.markets[key]
        rescuer = self._engine.accounts[self._backstop].ledger(market.instrument.pool)
        position = ledger.positions[key]
        side = Side.BUY if position.quantity > 0 else Side.SELL
        own = ledger.isolated_value(key, market.mark) if position.isolated else ZERO
        quantity, mark = abs(position.quantity), market.mark
        rescuer.apply_fill(market.instrument, side, quantity, mark, ZERO)
        ledger.apply_fill(market.instrument, side.opposite, quantity, mark, ZERO)
        ledger.cash -= own  # what was left of its margin, or its debt, goes along
        rescuer.cash += own
