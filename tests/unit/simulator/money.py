"""All money of a venue, counted once, wherever it lies."""

from __future__ import annotations

from decimal import Decimal

from simulator.engine.accounts import SpotBalance
from simulator.engine.engine import Engine
from simulator.engine.upkeep import Upkeep
from simulator.hyperliquid.venue import Venue


def all_usd(engine: Engine, upkeep: Upkeep, token: str) -> Decimal:
    """Cash of all pools, margin of isolated positions, spot balances of `token`, fees, rounding of funding."""
    purses: dict[int, SpotBalance] = {}
    total = Decimal(0)
    for account in engine.accounts.values():
        for ledger in account.own_ledgers():
            purses[id(ledger.purse)] = ledger.purse
            total += sum((position.cash for position in ledger.positions.values()), Decimal(0))
        if token in account.spot:
            purses[id(account.spot[token])] = account.spot[token]
    total += sum((purse.total for purse in purses.values()), Decimal(0))
    return total + engine.fees.get(token, Decimal(0)) + upkeep.funding_residue


def all_money(venue: Venue) -> Decimal:
    """USDC of a whole venue."""
    return all_usd(venue.engine, venue.upkeep, "USDC")
