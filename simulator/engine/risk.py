"""Margin arithmetic: required, free, maintenance, liquidation price. Pure functions over a ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from simulator.engine.accounts import Ledger, Position
from simulator.engine.market import Market
from simulator.engine.values import ZERO, Instrument, Order, Side

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
        total += setting.initial_margin(worst)
    return total


def position_margin(ledger: Ledger, key: str, market: Market) -> Decimal:
    """Margin in use by one open position: notional over leverage, or an isolated position's equity."""
    position = ledger.positions[key]
    if position.isolated:
        return ledger.isolated_value(key, market.mark)
    return ledger.setting(market.instrument).initial_margin(abs(position.quantity) * market.mark)


def maintenance_rate(notional: Decimal, instrument: Instrument) -> Decimal:
    """Share of further notional that maintenance margin grows by: half the initial margin of the tier."""
    if instrument.maintenance_fraction is not None:
        return instrument.maintenance_fraction
    return 1 / Decimal(2 * instrument.leverage_at(notional))


def maintenance(notional: Decimal, instrument: Instrument) -> Decimal:
    """The instrument's own share, else half the initial margin at the tier's leverage, continuous over tiers."""
    if instrument.maintenance_fraction is not None:
        return notional * instrument.maintenance_fraction
    margin = notional / (2 * instrument.leverage_at(notional))
    before: Decimal | None = None
    for tier in instrument.margin_tiers:
        if tier.lower_bound > notional:
            break
        rate = 1 / Decimal(2 * tier.max_leverage)
        if before is not None:
            margin -= tier.lower_bound * (rate - before)
        before = rate
    return margin


def cross_maintenance(ledger: Ledger, markets: Mapping[str, Market], pool: str | None = None) -> Decimal:
    """Maintenance margin of all cross positions, or of those in one pool."""
    return sum(
        (
            maintenance(abs(p.quantity) * markets[key].mark, markets[key].instrument)
            for key, p in ledger.open_positions()
            if not p.isolated and pool in (None, markets[key].instrument.pool)
        ),
        ZERO,
    )


def cross_value(ledger: Ledger, markets: Mapping[str, Market]) -> Decimal:
    """Equity of the cross part."""
    return ledger.cross_value(lambda key: markets[key].mark)


def free_margin(ledger: Ledger, resting: Mapping[str, Exposure], markets: Mapping[str, Market]) -> Decimal:
    """Cross equity beyond the required margin and what spot orders lock of it; may be negative."""
    return cross_value(ledger, markets) - ledger.purse.hold - required_margin(ledger, resting, markets)


def withdrawable(ledger: Ledger, resting: Mapping[str, Exposure], markets: Mapping[str, Market]) -> Decimal:
    """What may leave the pool: equity less the larger of required margin and a tenth of cross notional."""
    notional = sum((abs(p.quantity) * markets[key].mark for key, p in ledger.open_positions() if not p.isolated), ZERO)
    bound = max(required_margin(ledger, resting, markets), notional * TEN_PERCENT)
    return max(ZERO, cross_value(ledger, markets) - ledger.purse.hold - bound)


def liquidation_price(ledger: Ledger, key: str, markets: Mapping[str, Market]) -> Decimal | None:
    """Mark at which the position would be liquidated, all else equal; None when there is none above zero."""
    market = markets[key]
    position = ledger.positions[key]
    if not position.quantity:
        return None
    side = 1 if position.quantity > 0 else -1
    if position.isolated:
        equity = ledger.isolated_value(key, market.mark)
        margin = maintenance(abs(position.quantity) * market.mark, market.instrument)
    else:
        equity = cross_value(ledger, markets)
        margin = cross_maintenance(ledger, markets)
    share = maintenance_rate(abs(position.quantity) * market.mark, market.instrument)
    price = market.mark - side * (equity - margin) / abs(position.quantity) / (1 - share * side)
    return price if price > 0 else None
