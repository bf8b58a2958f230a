"""Margin arithmetic: required, free, maintenance, liquidation price. Pure functions over a ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from simulator.engine.accounts import Ledger, Position
from simulator.engine.market import Market
from simulator.engine.values import ZERO, Order, Side

TEN_PERCENT = Decimal("0.1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exposure:
    """Resting non-reduce-only notional of one instrument, per side."""

    buys: Decimal = ZERO
    sells: Decimal = ZERO

    def plus(self, side: Side, notional: Decimal) -> Exposure:
        """The same with another order on it."""
        if side is Side.BUY:
            return Exposure(buys=self.buys + notional, sells=self.sells)
        return Exposure(buys=self.buys, sells=self.sells + notional)


def exposures(orders: Iterable[Order]) -> dict[str, Exposure]:
    """Resting exposure per instrument; reduce-only orders need no margin."""
    found: dict[str, Exposure] = {}
    for order in orders:
        if order.request.reduce_only:
            continue
        before = found.get(order.instrument, Exposure())
        found[order.instrument] = before.plus(order.side, order.remaining * order.price)
    return found


def required_margin(ledger: Ledger, resting: Mapping[str, Exposure], markets: Mapping[str, Market]) -> Decimal:
    """Initial margin the cross cash must cover: the worse side of position and orders, over leverage.

    What an isolated position already holds is its own; only its orders need free cash.
    """
    total = ZERO
    keys = dict.fromkeys([*(key for key, _ in ledger.open_positions()), *resting])
    for key in keys:
        market = markets[key]
        setting = ledger.setting(market.instrument)
        position = ledger.positions.get(key, Position())
        signed = position.quantity * market.mark
        exposure = resting.get(key, Exposure())
        worst = max(abs(signed), signed + exposure.buys, exposure.sells - signed)
        if position.isolated if position.quantity else not setting.cross:
            worst -= abs(signed)
        total += worst / setting.value
    return total


def position_margin(ledger: Ledger, key: str, market: Market) -> Decimal:
    """Margin in use by one open position: notional over leverage, or an isolated position's equity."""
    position = ledger.positions[key]
    if position.isolated:
        return ledger.isolated_value(key, market.mark)
    return abs(position.quantity) * market.mark / ledger.setting(market.instrument).value


def maintenance(notional: Decimal, max_leverage: int) -> Decimal:
    """Half the initial margin at the largest leverage."""
    return notional / (2 * max_leverage)


def cross_maintenance(ledger: Ledger, markets: Mapping[str, Market]) -> Decimal:
    """Maintenance margin of all cross positions."""
    return sum(
        (
            maintenance(abs(p.quantity) * markets[key].mark, markets[key].instrument.max_leverage)
            for key, p in ledger.open_positions()
            if not p.isolated
        ),
        ZERO,
    )


def cross_value(ledger: Ledger, markets: Mapping[str, Market]) -> Decimal:
    """Equity of the cross part."""
    return ledger.cross_value(lambda key: markets[key].mark)


def free_margin(ledger: Ledger, resting: Mapping[str, Exposure], markets: Mapping[str, Market]) -> Decimal:
    """Cross equity beyond the required margin; may be negative."""
    return cross_value(ledger, markets) - required_margin(ledger, resting, markets)


def withdrawable(ledger: Ledger, resting: Mapping[str, Exposure], markets: Mapping[str, Market]) -> Decimal:
    """What may leave the pool: equity less the larger of required margin and a tenth of cross notional."""
    notional = sum((abs(p.quantity) * markets[key].mark for key, p in ledger.open_positions() if not p.isolated), ZERO)
    bound = max(required_margin(ledger, resting, markets), notional * TEN_PERCENT)
    return max(ZERO, cross_value(ledger, markets) - bound)


def liquidation_price(ledger: Ledger, key: str, markets: Mapping[str, Market]) -> Decimal | None:
    """Mark at which the position would be liquidated, all else equal; None when there is none above zero."""
    market = markets[key]
    position = ledger.positions[key]
    if not position.quantity:
        return None
    side = 1 if position.quantity > 0 else -1
    if position.isolated:
        equity = ledger.isolated_value(key, market.mark)
        margin = maintenance(abs(position.quantity) * market.mark, market.instrument.max_leverage)
    else:
        equity = cross_value(ledger, markets)
        margin = cross_maintenance(ledger, markets)
    share = 1 / Decimal(2 * market.instrument.max_leverage)
    price = market.mark - side * (equity - margin) / abs(position.quantity) / (1 - share * side)
    return price if price > 0 else None
