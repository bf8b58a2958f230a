"""The engine: submit, cancel and amend orders; match them by price, then time; settle what matches. Pure.

It reads no clock and draws no chance: every call takes `now_ms`, and equal calls give equal events. Calls
append to one event list which the caller drains; results are returned at once. Single-threaded by design.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from simulator.engine import caps, checks
from simulator.engine.events import Change, Fill, Trade, TradeSide
from simulator.engine.market import Market
from simulator.engine.settlement import settle
from simulator.engine.state import SPOT_WALLET, EngineState
from simulator.engine.values import (
    UNTRACED,
    ZERO,
    Grouping,
    Instrument,
    Order,
    OrderRequest,
    OrderState,
    Outcome,
    Reason,
    Rules,
    SelfTrade,
    Side,
    TimeInForce,
)

__all__ = ["SPOT_WALLET", "Engine", "Rules"]


class Engine(EngineState):
    """All books and all accounts of one venue.

    Args:
        instruments: in a fixed order; keys must differ.
        rules: order limits.
        first_order_id, first_trade_id: counters start here.
    """

    def submit(
        self,
        account: str,
        requests: Sequence[OrderRequest],
        now_ms: int,
        grouping: Grouping = Grouping.NONE,
    ) -> list[Outcome]:
        """Place orders one after the other; one outcome each, in order. A refused one stops no other.

        With `Grouping.BRACKET` the first is the parent: the rest wait until it is wholly filled, die with it,
        and the first of them to fill cancels its siblings. With `Grouping.POSITION` triggers follow the position,
        and there too the first to fill cancels the others.
        """
        if grouping is Grouping.BRACKET and len(requests) > 1:
            return self._submit_bracket(account, requests, now_ms)
        follows = grouping is Grouping.POSITION
        outcomes = [self._place(account, request, now_ms, follows=follows) for request in requests]
        if grouping is Grouping.ONE_CANCELS_OTHER:
            self._tie(outcomes, now_ms)
        elif follows:
            self._bind(outcomes)
        return outcomes

    def _bind(self, outcomes: Sequence[Outcome]) -> None:
        """Make the waiting triggers of a position siblings; a refused one leaves the others alone."""
        known = [self._orders.get(item.order.order_id) for item in outcomes if item.order is not None]
        waiting = [order for order in known if order is not None and order.follows_position and order.state.live]
        for order in waiting:
            order.siblings = tuple(other.order_id for other in waiting if other is not order)

    def _tie(self, outcomes: Sequence[Outcome], now_ms: int) -> None:
        """Make the orders siblings; where one was refused or is done, the others go."""
        ids = [outcome.order.order_id for outcome in outcomes if outcome.order is not None]
        orders = [order for order in map(self._orders.get, ids) if order is not None]
        for order in orders:
            order.siblings = tuple(other for other in ids if other != order.order_id)
        if len(orders) < len(outcomes) or not all(order.state.live for order in orders):
            for order in orders:
                if order.state.live:
                    self.close(order, OrderState.CANCELLED, Reason.SIBLING_FILLED, now_ms)

    def cancel(self, account: str, order_id: int, now_ms: int, reason: Reason = Reason.REQUESTED) -> bool:
        """Cancel a live order of the account; False when there is none."""
        order = self._orders.get(order_id)
        if order is None or order.account != account or not order.state.live:
            return False
        self.close(order, OrderState.CANCELLED, reason, now_ms)
        return True

    def cancel_all(self, account: str, now_ms: int, reason: Reason, pool: str | None = None) -> int:
        """Cancel every live order of an account, or those of one margin pool; how many."""
        doomed = [order for order in self.live_orders(account) if pool is None or self._in_pool(order.instrument, pool)]
        return sum(self.cancel(account, order.order_id, now_ms, reason) for order in doomed)

    def amend(self, account: str, order_id: int, request: OrderRequest, now_ms: int) -> Outcome | None:
        """Replace a live order: cancel it and place `request` under a new id, losing its place in the queue.

        None when there is no such live order. If the new order fails a static rule (tick, lot, value) the old
        one stays and the outcome carries the refusal.
        """
        order = self._orders.get(order_id)
        if order is None or order.account != account or not order.state.live:
            return None
        refusal = checks.static_refusal(self, account, request, now_ms, follows=order.follows_position)
        if refusal is not None:
            return Outcome(refusal=refusal)
        self.close(order, OrderState.CANCELLED, Reason.REQUESTED, now_ms)
        return self._place(account, request, now_ms, follows=order.follows_position)

    def modify(
        self, account: str, order_id: int, request: OrderRequest, remaining: Decimal, now_ms: int
    ) -> Outcome | None:
        """Change a live order in place: same id, `remaining` of it left to trade.

        It keeps its place in the queue only when its price stays and it does not grow. None when there is no
        such live order; a refusal by a static rule leaves it as it was; one by a rule about money, position or
        book ends it.
        """
        order = self._orders.get(order_id)
        if order is None or order.account != account or not order.state.live:
            return None
        refusal = checks.static_refusal(self, account, request, now_ms, follows=order.follows_position)
        if refusal is not None:
            return Outcome(refusal=refusal)
        if order.state is not OrderState.OPEN:
            order.request, order.remaining = request, remaining
            self._touch(order, now_ms)
            self.changed(order, Change.ACCEPTED, now_ms)
            return Outcome(order=order.snapshot())
        if request.price == order.price and remaining <= order.remaining:
            self.release(order, order.remaining - remaining)
            order.request = request
            self._shrink(order, remaining, now_ms)
            return Outcome(order=order.snapshot())
        self._unrest(order)
        order.request, order.remaining = request, remaining
        self._touch(order, now_ms)
        refusal = checks.dynamic_refusal(self, order)
        if refusal is not None:
            self.close(order, OrderState.CANCELLED, refusal, now_ms)
            return Outcome(order=order.snapshot(), refusal=refusal)
        return self._execute(order, now_ms)

    def _unrest(self, order: Order) -> None:
        """Take an open order out of its book, to be put back or ended by the caller."""
        self._record(order.account).live.pop(order.order_id)
        self.markets[order.instrument].book.remove(order)
        self.touch_book(order.instrument)
        self._hold(order, -order.remaining)

    def _in_pool(self, key: str, pool: str) -> bool:
        instrument = self.markets[key].instrument
        return instrument.perpetual and instrument.pool == pool

    def _submit_bracket(self, account: str, requests: Sequence[OrderRequest], now_ms: int) -> list[Outcome]:
        first = self._place(account, requests[0], now_ms)
        if self._newest is None or first.order is None or first.refusal is not None:
            return [first, *(Outcome(refusal=first.refusal) for _ in requests[1:])]
        parent = self._newest  # by id it may be forgotten already
        outcomes = [self._place(account, request, now_ms, parent=parent) for request in requests[1:]]
        for child_id in parent.children:
            child = self._orders.get(child_id)
            if child is not None:
                child.siblings = tuple(other for other in parent.children if other != child_id)
        return [replace(first, order=parent.snapshot()), *outcomes]

    def _place(
        self,
        account: str,
        request: OrderRequest,
        now_ms: int,
        *,
        follows: bool = False,
        parent: Order | None = None,
    ) -> Outcome:
        refusal = checks.static_refusal(self, account, request, now_ms, follows=follows)
        if refusal in UNTRACED:
            return Outcome(refusal=refusal)
        order = self._new_order(account, request, now_ms, follows=follows, parent=parent)
        if refusal is None and not request.trigger:
            refusal = checks.dynamic_refusal(self, order)
        if refusal is None and request.trigger and parent is None:
            refusal = checks.trigger_refusal(self, order)
        if refusal is not None:
            return self._refuse(order, refusal, now_ms)
        if request.trigger or parent is not None:
            return self._park(order, parent, now_ms)
        return self._execute(order, now_ms)

    def _new_order(
        self, account: str, request: OrderRequest, now_ms: int, *, follows: bool, parent: Order | None
    ) -> Order:
        order = Order(
            order_id=self._next_order_id,
            account=account,
            request=request,
            remaining=request.quantity,
            created_ms=now_ms,
            updated_ms=now_ms,
            follows_position=follows and request.trigger is not None,
            parent_id=None if parent is None else parent.order_id,
        )
        self._next_order_id += 1
        self._orders[order.order_id] = self._newest = order
        if request.client_id is not None:
            known = self.find_client_id(account, request.client_id)
            if known is None or not known.state.live:  # a live order keeps its client id
                self._by_client_id[(account, request.client_id)] = order.order_id
        return order

    def _refuse(self, order: Order, reason: Reason, now_ms: int) -> Outcome:
        bid = ask = None
        if reason is Reason.POST_ONLY_WOULD_MATCH:
            book = self.markets[order.instrument].book
            bid, ask = book.best_price(Side.BUY), book.best_price(Side.SELL)
        self.close(order, OrderState.REJECTED, reason, now_ms)
        return Outcome(order=order.snapshot(), refusal=reason, best_bid=bid, best_ask=ask)

    def _park(self, order: Order, parent: Order | None, now_ms: int) -> Outcome:
        """Keep a trigger, or a child of a bracket, until its time comes."""
        order.state = OrderState.WAITING_FOR_TRIGGER
        if parent is not None:
            parent.children.append(order.order_id)
            if parent.state is not OrderState.FILLED:
                order.state = OrderState.WAITING_FOR_PARENT
        self._record(order.account).live[order.order_id] = order
        if order.state is OrderState.WAITING_FOR_TRIGGER:
            self.markets[order.instrument].triggers[order.order_id] = None
        self.changed(order, Change.ACCEPTED, now_ms)
        if parent is not None and not parent.state.live and parent.state is not OrderState.FILLED:
            self.close(order, OrderState.CANCELLED, Reason.PARENT_CANCELLED, now_ms)
        return Outcome(order=order.snapshot())

    def park(self, account: str, request: OrderRequest, now_ms: int) -> Order:
        """Keep an order outside the book that nothing will trigger; see `slices`."""
        order = self._new_order(account, request, now_ms, follows=False, parent=None)
        order.state = OrderState.WAITING_FOR_TRIGGER
        self._record(account).live[order.order_id] = order
        self.changed(order, Change.ACCEPTED, now_ms)
        return order

    def execute_triggered(self, order: Order, now_ms: int) -> None:
        """Turn a waiting trigger into a working order at its own id."""
        market = self.markets[order.instrument]
        market.triggers.pop(order.order_id, None)
        self._record(order.account).live.pop(order.order_id, None)
        order.triggered = True
        self._touch(order, now_ms)
        self.changed(order, Change.TRIGGERED, now_ms)
        position = self.accounts[order.account].position(market.instrument)
        if order.follows_position:
            order.remaining = abs(position)
        trigger = order.request.trigger
        if trigger is not None and trigger.market:
            bound = 1 + order.side.sign * self.rules.trigger_slippage
            rule = market.instrument.price_rule
            limit = rule.floor(market.mark * bound)
            order.request = replace(order.request, price=limit, time_in_force=TimeInForce.IMMEDIATE_OR_CANCEL)
        order.state = OrderState.OPEN
        refusal = checks.dynamic_refusal(self, order)
        if refusal is not None:
            self.close(order, OrderState.REJECTED, refusal, now_ms)
            return
        self._work(order, now_ms)

    def _execute(self, order: Order, now_ms: int) -> Outcome:
        self.changed(order, Change.ACCEPTED, now_ms)
        reason = self._work(order, now_ms)
        return Outcome(order=order.snapshot(), refusal=reason)

    def _work(self, order: Order, now_ms: int) -> Reason | None:
        """Match, then rest or drop the remainder; the reason when an IOC found nobody."""
        self.match(order, now_ms)
        if not order.remaining:
            return None
        if order.request.time_in_force is TimeInForce.IMMEDIATE_OR_CANCEL:
            if order.filled:
                self.close(order, OrderState.CANCELLED, Reason.REMAINDER, now_ms)
                return None
            self.close(order, OrderState.REJECTED, Reason.NO_MATCH, now_ms)
            return Reason.NO_MATCH
        self._rest(order)
        self.trim_reduce_only(order.account, order.instrument, now_ms)
        return None

    def match(self, order: Order, now_ms: int) -> None:
        """Trade `order` against the book: best price, then oldest; an own resting order is cancelled."""
        market = self.markets[order.instrument]
        while order.remaining > 0:
            other = market.book.best_order(order.side.opposite)
            if other is None or not market.book.crosses(order.side, order.price):
                return
            if other.account == order.account:
                self._meet_own(order, other, now_ms)
                continue
            quantity = min(order.remaining, other.remaining)
            unfit = self._unfit(market, other, quantity)
            if unfit is not None:
                self.close(other, OrderState.CANCELLED, unfit, now_ms)
                continue
            self._trade(market, order, other, quantity, now_ms)

    def _unfit(self, market: Market, maker: Order, quantity: Decimal) -> Reason | None:
        """Why a resting order is cancelled instead of matched: out of margin, or too aggressive at the cap."""
        if caps.barred(self, maker, market):
            return Reason.OPEN_INTEREST_CAP
        return Reason.MARGIN if checks.maker_is_short(self, maker, market, quantity) else None

    def _meet_own(self, order: Order, other: Order, now_ms: int) -> None:
        """An order meets one of its own account: no trade, somebody gives way."""
        mode = order.request.self_trade
        if mode is SelfTrade.REDUCE_BOTH:
            common = min(order.remaining, other.remaining)
            order.remaining -= common
            if common < other.remaining:
                self.release(other, common)
                self._shrink(other, other.remaining - common, now_ms)
            else:
                self.close(other, OrderState.CANCELLED, Reason.SELF_TRADE, now_ms)
            if not order.remaining:
                self.close(order, OrderState.CANCELLED, Reason.SELF_TRADE, now_ms)
            return
        if mode is not SelfTrade.CANCEL_INCOMING:
            self.close(other, OrderState.CANCELLED, Reason.SELF_TRADE, now_ms)
        if mode is not SelfTrade.CANCEL_RESTING:
            order.remaining = ZERO
            self.close(order, OrderState.CANCELLED, Reason.SELF_TRADE, now_ms)

    def _side(self, order: Order, instrument: Instrument) -> TradeSide:
        """What an order's owner brings to a trade."""
        owner = self.accounts[order.account]
        position, entry = owner.balance(instrument.base).total if not instrument.perpetual else ZERO, ZERO
        held = owner.ledger(instrument.pool).positions.get(instrument.key) if instrument.perpetual else None
        if held is not None:
            position, entry = held.quantity, held.entry_price
        return TradeSide(
            order_id=order.order_id, client_id=order.request.client_id, position=position, entry_price=entry
        )

    def _trade(self, market: Market, taker: Order, maker: Order, quantity: Decimal, now_ms: int) -> None:
        price = maker.price
        trade_id = self._next_trade_id
        self._next_trade_id += 1
        buyer, seller = (taker, maker) if taker.side is Side.BUY else (maker, taker)
        trade = Trade(
            instrument=market.instrument.key,
            trade_id=trade_id,
            price=price,
            quantity=quantity,
            side=taker.side,
            buyer=buyer.account,
            seller=seller.account,
            time_ms=now_ms,
            buy=self._side(buyer, market.instrument),
            sell=self._side(seller, market.instrument),
            liquidated=self.liquidating,
        )
        market.record(trade)
        self.emit(trade)
        for order in (maker, taker):
            order.remaining -= quantity
            order.filled += quantity
            order.filled_notional += quantity * price
            self._touch(order, now_ms)
        self.touch_book(market.instrument.key)
        for order in (maker, taker):
            fill = settle(self, market, order, trade, taker=order is taker)
            self._filled(market, order, fill, now_ms)
        for order in (maker, taker):
            self.trim_reduce_only(order.account, order.instrument, now_ms)

    def _filled(self, market: Market, order: Order, fill: Fill, now_ms: int) -> None:
        owner = self.accounts[order.account]
        if not owner.house:
            self.keep_fill(fill)
            self.emit_settled(order.account, market.instrument, now_ms)
        if order.remaining:
            self.changed(order, Change.PARTLY_FILLED, now_ms)
        else:
            self.close(order, OrderState.FILLED, None, now_ms)

    def _rest(self, order: Order) -> None:
        market = self.markets[order.instrument]
        order.state = OrderState.OPEN
        market.book.add(order)
        self.touch_book(order.instrument)
        self._record(order.account).live[order.order_id] = order
        self._hold(order, order.remaining)

    def close(self, order: Order, state: OrderState, reason: Reason | None, now_ms: int) -> None:
        """End an order's life and tell it; a parent takes its waiting children along."""
        record = self._record(order.account)
        resting = record.live.pop(order.order_id, None)
        if resting is not None and order.state is OrderState.OPEN:
            self.markets[order.instrument].book.remove(order)
            self.touch_book(order.instrument)
            self._hold(order, -order.remaining)
        self.markets[order.instrument].triggers.pop(order.order_id, None)
        order.state = state
        order.reason = reason
        self._touch(order, now_ms)
        change = {
            OrderState.FILLED: Change.FILLED,
            OrderState.CANCELLED: Change.CANCELLED,
            OrderState.REJECTED: Change.REJECTED,
        }[state]
        self.changed(order, change, now_ms)
        if order.children:
            self._parent_closed(order, now_ms)
        if state is OrderState.FILLED:
            self.cancel_siblings(order, now_ms)
        self._retire(order, record)

    def _parent_closed(self, parent: Order, now_ms: int) -> None:
        for child_id in parent.children:
            child = self._orders.get(child_id)
            if child is None or child.state is not OrderState.WAITING_FOR_PARENT:
                continue
            if parent.state is OrderState.FILLED:
                child.state = OrderState.WAITING_FOR_TRIGGER
                self._touch(child, now_ms)
                self.markets[child.instrument].triggers[child_id] = None
            else:
                self.close(child, OrderState.CANCELLED, Reason.PARENT_CANCELLED, now_ms)

    def cancel_siblings(self, order: Order, now_ms: int) -> None:
        """One of a group has filled: the others go."""
        for sibling_id in order.siblings:
            sibling = self._orders.get(sibling_id)
            if sibling is not None and sibling is not order and sibling.state.live:
                self.close(sibling, OrderState.CANCELLED, Reason.SIBLING_FILLED, now_ms)

    def trim_reduce_only(self, account: str, key: str, now_ms: int) -> None:
        """Keep resting reduce-only orders within the position.

        Newest first: the newest shrinks to what is left of the position, an older one that no longer fits
        beside a newer one is cancelled; when flat all are cancelled, and so are triggers that follow the
        position or whose parent has filled.
        """
        market = self.markets[key]
        owner = self.accounts[account]
        if owner.house or not market.instrument.perpetual:
            return
        live = self._record(account).live
        mine = [order for order in live.values() if order.instrument == key]
        position = owner.position(market.instrument)
        for side in Side:
            budget = abs(position) if position * side.sign < 0 else ZERO
            whole = budget
            for order in reversed(mine):
                if order.side is not side or not order.request.reduce_only:
                    continue
                if order.state is OrderState.WAITING_FOR_TRIGGER:
                    bound = order.follows_position or order.parent_id is not None
                    if bound and not position:
                        self.close(order, OrderState.CANCELLED, Reason.REDUCE_ONLY, now_ms)
                    continue
                if order.state is not OrderState.OPEN or order.remaining <= budget:
                    budget -= order.remaining if order.state is OrderState.OPEN else ZERO
                elif budget == whole and budget > 0:
                    self._shrink(order, budget, now_ms)
                    budget = ZERO
                else:
                    self.close(order, OrderState.CANCELLED, Reason.REDUCE_ONLY, now_ms)

    def _shrink(self, order: Order, quantity: Decimal, now_ms: int) -> None:
        order.remaining = quantity
        self._touch(order, now_ms)
        self.touch_book(order.instrument)
        self.changed(order, Change.SHRUNK, now_ms)

    def _touch(self, order: Order, now_ms: int) -> None:
        order.updated_ms = now_ms

    def new_liquidation_order(self, account: str, request: OrderRequest, now_ms: int) -> Order:
        """An order the venue itself places to close a position; no check applies."""
        return self._new_order(account, request, now_ms, follows=False, parent=None)
