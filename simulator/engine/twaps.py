"""Time-weighted orders: one immediate slice every thirty seconds until size or time is used up. Pure.

A slice takes what the schedule asks for by then, so a slice that found nobody is made up for later, but never
more than three ordinary slices at once. `run_due` plays every slice that is due at its own time, so that a
clock that jumps skips none.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from simulator.engine.chance import Chance
from simulator.engine.engine import Engine
from simulator.engine.events import TwapChanged, TwapRequest, TwapSnapshot, TwapState
from simulator.engine.values import ZERO, OrderRequest, Reason, TimeInForce

SLICE_MS = 30_000
MIN_MINUTES, MAX_MINUTES = 5, 1440
NOTIONAL_PER_MINUTE = Decimal(10)
SLIPPAGE = Decimal("0.03")
CATCH_UP = 3
KEPT = 2000
PASSING = frozenset({Reason.NO_MATCH, Reason.NO_LIQUIDITY, Reason.POST_ONLY_PERIOD})
"""Refusals of one slice that do not end the order."""


@dataclass(slots=True, kw_only=True)
class _Twap:
    """A running time-weighted order."""

    twap_id: int
    account: str
    request: TwapRequest
    created_ms: int
    slices_done: int = 0
    executed: Decimal = ZERO
    executed_notional: Decimal = ZERO
    state: TwapState = TwapState.ACTIVATED
    error: Reason | None = None

    @property
    def slices(self) -> int:
        """Slices in all: one at the start, one at the end, one every thirty seconds between."""
        return self.request.minutes * 60_000 // SLICE_MS + 1

    @property
    def due_ms(self) -> int:
        """When the next slice is due."""
        return self.created_ms + self.slices_done * SLICE_MS

    def snapshot(self) -> TwapSnapshot:
        """As it is now, frozen."""
        return TwapSnapshot(
            twap_id=self.twap_id,
            account=self.account,
            request=self.request,
            created_ms=self.created_ms,
            executed=self.executed,
            executed_notional=self.executed_notional,
            state=self.state,
            error=self.error,
        )


class TwapDesk:
    """Runs the time-weighted orders of an engine.

    Args:
        engine: where slices are placed.
        chance: varies the slices of randomised orders.
        first_id: ids count from here.
    """

    def __init__(self, engine: Engine, chance: Chance, *, first_id: int = 1) -> None:
        self._engine = engine
        self._chance = chance
        self._next_id = first_id
        self._running: dict[int, _Twap] = {}
        self._history: dict[str, deque[TwapChanged]] = {}

    def start(self, account: str, request: TwapRequest, now_ms: int) -> TwapSnapshot | Reason:
        """Begin, with the first slice at once; or why not."""
        refusal = self._refusal(account, request)
        if refusal is not None:
            return refusal
        twap = _Twap(twap_id=self._next_id, account=account, request=request, created_ms=now_ms)
        self._next_id += 1
        self._running[twap.twap_id] = twap
        self._tell(twap, now_ms)
        self._slice(twap, now_ms)
        return twap.snapshot()

    def cancel(self, account: str, instrument: str, twap_id: int, now_ms: int) -> bool:
        """End a running order of the account; False when there is none."""
        twap = self._running.get(twap_id)
        if twap is None or twap.account != account or twap.request.instrument != instrument:
            return False
        self._end(twap, TwapState.TERMINATED, now_ms)
        return True

    def terminate(self, now_ms: int, *, account: str | None = None, instrument: str | None = None) -> None:
        """End every running order of an account, of an instrument, or of both together."""
        for twap in list(self._running.values()):
            if account in (None, twap.account) and instrument in (None, twap.request.instrument):
                self._end(twap, TwapState.TERMINATED, now_ms)

    def running(self, account: str) -> list[TwapSnapshot]:
        """Running orders of an account, oldest first."""
        return [twap.snapshot() for twap in self._running.values() if twap.account == account]

    def history(self, account: str) -> Sequence[TwapChanged]:
        """Beginnings and ends of an account's orders, oldest first, bounded."""
        return self._history.get(account, ())

    @property
    def due_ms(self) -> int | None:
        """When the next slice of any order is due."""
        return min((twap.due_ms for twap in self._running.values()), default=None)

    def run_due(self, now_ms: int) -> None:
        """Place every slice due at `now_ms`."""
        for twap in list(self._running.values()):
            if twap.due_ms <= now_ms:
                self._slice(twap, now_ms)

    def _refusal(self, account: str, request: TwapRequest) -> Reason | None:
        market = self._engine.markets.get(request.instrument)
        if market is None:
            return Reason.UNKNOWN_INSTRUMENT
        instrument = market.instrument
        if not instrument.open:
            return Reason.INSTRUMENT_CLOSED
        if request.quantity == 0:
            return Reason.ZERO_QUANTITY
        if request.quantity < 0 or request.quantity % instrument.lot:
            return Reason.INVALID_QUANTITY
        if not MIN_MINUTES <= request.minutes <= MAX_MINUTES:
            return Reason.TWAP_DURATION
        if request.quantity * market.mark < NOTIONAL_PER_MINUTE * request.minutes:
            return Reason.TWAP_TOO_SMALL
        held = self._engine.accounts[account].position(instrument)
        if request.reduce_only and held * request.side.sign >= 0:
            return Reason.REDUCE_ONLY_WOULD_INCREASE
        return None

    def _quantity(self, twap: _Twap) -> Decimal:
        """What the next slice asks for: up to the schedule, at most three ordinary slices, in whole lots."""
        request, instrument = twap.request, self._engine.markets[twap.request.instrument].instrument
        left = request.quantity - twap.executed
        ordinary = request.quantity / twap.slices
        wanted = left
        if twap.slices_done + 1 < twap.slices:
            wanted = instrument.floor_quantity(ordinary * (twap.slices_done + 1)) - twap.executed
            if request.randomise:
                wanted = wanted * self._chance.integer(80, 120) / 100
        most = max(instrument.lot, ordinary * CATCH_UP)
        return instrument.floor_quantity(max(ZERO, min(wanted, left, most)))

    def _slice(self, twap: _Twap, now_ms: int) -> None:
        quantity = self._quantity(twap)
        twap.slices_done += 1
        refusal = self._place(twap, quantity, now_ms) if quantity else None
        if refusal is not None and refusal not in PASSING:
            twap.error = refusal
            self._end(twap, TwapState.ERROR, now_ms)
        elif twap.executed >= twap.request.quantity or twap.slices_done >= twap.slices:
            self._end(twap, TwapState.FINISHED, now_ms)
        else:
            self._engine.emit(TwapChanged(twap=twap.snapshot(), progress=True, time_ms=now_ms))

    def _place(self, twap: _Twap, quantity: Decimal, now_ms: int) -> Reason | None:
        market = self._engine.markets[twap.request.instrument]
        side = twap.request.side
        order = OrderRequest(
            instrument=twap.request.instrument,
            side=side,
            quantity=quantity,
            price=market.instrument.price_rule.nearest(market.mark * (1 + SLIPPAGE * side.sign)),
            time_in_force=TimeInForce.IMMEDIATE_OR_CANCEL,
            reduce_only=twap.request.reduce_only,
            label="Ioc",
            twap_id=twap.twap_id,
        )
        outcome = self._engine.submit(twap.account, [order], now_ms)[0]
        if outcome.order is not None:
            twap.executed += outcome.order.filled
            twap.executed_notional += outcome.order.filled_notional
        return outcome.refusal

    def _end(self, twap: _Twap, state: TwapState, now_ms: int) -> None:
        del self._running[twap.twap_id]
        twap.state = state
        self._tell(twap, now_ms)

    def _tell(self, twap: _Twap, now_ms: int) -> None:
        event = TwapChanged(twap=twap.snapshot(), progress=False, time_ms=now_ms)
        self._engine.emit(event)
        self._history.setdefault(twap.account, deque(maxlen=KEPT)).append(event)
