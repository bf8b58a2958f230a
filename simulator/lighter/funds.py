"""What an account may use or move: free margin, balances. Pure reads."""

from __future__ import annotations

from decimal import Decimal

from simulator.engine import risk
from simulator.engine.accounts import Ledger
from simulator.engine.values import ZERO
from simulator.lighter.markets import POOL
from simulator.lighter.venue import LighterVenue


def ledger_of(venue: LighterVenue, name: str) -> Ledger:
    """Perpetual ledger of an account, empty when it never had one."""
    return venue.engine.open_account(name).ledger(POOL)


def free_margin(venue: LighterVenue, name: str) -> Decimal:
    """Equity beyond what positions and resting orders need; may be negative."""
    resting = risk.exposures(venue.engine.resting_orders(name, POOL))
    return risk.free_margin(ledger_of(venue, name), resting, venue.engine.markets)


def available(venue: LighterVenue, name: str) -> Decimal:
    """What may leave the perpetual side."""
    return max(ZERO, free_margin(venue, name))


def collateral(venue: LighterVenue, name: str) -> Decimal:
    """Perpetual USDC without unrealised profit: cash plus what cross positions cost."""
    ledger = ledger_of(venue, name)
    cost = sum((p.quantity * p.entry_price for _, p in ledger.open_positions() if not p.isolated), ZERO)
    return ledger.cash + cost


def allocated(venue: LighterVenue, name: str) -> Decimal:
    """Margin that isolated positions hold, without unrealised profit."""
    ledger = ledger_of(venue, name)
    return sum((p.cash + p.quantity * p.entry_price for _, p in ledger.open_positions() if p.isolated), ZERO)


def isolated_value(venue: LighterVenue, name: str) -> Decimal:
    """Equity of isolated positions."""
    ledger = ledger_of(venue, name)
    markets = venue.engine.markets
    return sum(
        (ledger.isolated_value(key, markets[key].mark) for key, p in ledger.open_positions() if p.isolated), ZERO
    )


def cross_value(venue: LighterVenue, name: str) -> Decimal:
    """Equity of the cross side."""
    return risk.cross_value(ledger_of(venue, name), venue.engine.markets)
