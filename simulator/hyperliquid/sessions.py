"""Oracle sessions of a builder dex: external prices while the underlying market is open, the book while not. Pure.

In an external session the oracle is the reference the synthetic traders or a test set. In an internal session
it follows the book's impact price slowly (time constant 30 minutes, at most a tenth of the way per step), and
the mark stays within one over the maximum leverage of the last external price.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from simulator.engine.engine import Engine
from simulator.engine.market import Market
from simulator.engine.population import Population
from simulator.engine.upkeep import Upkeep
from simulator.engine.values import ONE

TIME_CONSTANT_MS = 30 * 60_000
LONGEST_STEP = Decimal("0.1")


class Session(StrEnum):
    """Where the oracle price of an asset comes from."""

    EXTERNAL = "external"
    INTERNAL = "internal"


@dataclass(slots=True, kw_only=True)
class _Internal:
    """An internal session: when the oracle was last moved, and whether its reference was held still before."""

    moved_ms: int
    was_frozen: bool


class OracleSessions:
    """Sessions by coin; every coin starts in an external one.

    Args:
        engine, upkeep, population: of the venue.
    """

    def __init__(self, engine: Engine, upkeep: Upkeep, population: Population) -> None:
        self._engine = engine
        self._upkeep = upkeep
        self._population = population
        self._internal: dict[str, _Internal] = {}

    def session(self, coin: str) -> Session:
        """Current session of a coin."""
        return Session.INTERNAL if coin in self._internal else Session.EXTERNAL

    def begin_internal(self, coin: str, now_ms: int) -> None:
        """The underlying market closes: bound the mark around the last external price.

        Raises:
            KeyError: unknown coin.
        """
        market = self._engine.markets[coin]
        if coin in self._internal:
            return
        frozen = self._population.frozen
        self._internal[coin] = _Internal(moved_ms=now_ms, was_frozen=coin in frozen)
        frozen.add(coin)
        share = ONE / market.instrument.max_leverage
        market.mark_bounds = (market.oracle * (1 - share), market.oracle * (1 + share))

    def begin_external(self, coin: str, price: Decimal, now_ms: int) -> None:
        """The underlying market opens at `price`: the bounds are lifted and oracle and mark jump to it.

        Raises:
            KeyError: unknown coin.
        """
        market = self._engine.markets[coin]
        before = self._internal.pop(coin, None)
        market.mark_bounds = None
        if before is not None and not before.was_frozen:
            self._population.release_reference(coin)
        self._upkeep.set_prices(coin, price, price, now_ms)
        self._population.quote([coin], now_ms)

    def step(self, now_ms: int) -> None:
        """Let the oracles of internal sessions follow their books."""
        for coin, state in self._internal.items():
            market = self._engine.markets[coin]
            mid = market.book.mid()
            elapsed = Decimal(now_ms - state.moved_ms) / TIME_CONSTANT_MS
            state.moved_ms = now_ms
            if mid is None or elapsed <= 0:
                continue
            oracle = market.oracle + (mid - market.oracle) * min(elapsed, LONGEST_STEP)
            self._upkeep.set_prices(coin, self._round(market, oracle), mid, now_ms)

    @staticmethod
    def _round(market: Market, price: Decimal) -> Decimal:
        """An oracle price has six figures."""
        return round(price, max(0, 5 - price.adjusted()))
