"""What the public knows of one instrument: prices, trades, candles, volume, funding. Pure and bounded."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from simulator.engine.book import OrderBook
from simulator.engine.events import Trade
from simulator.engine.values import ZERO, Instrument

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
KEPT_TRADES = 2000
KEPT_MINUTES = 5000
KEPT_FUNDINGS = 1000


@dataclass(slots=True, kw_only=True)
class Candle:
    """Open, high, low, close and base volume from `open_ms` on; `trades` counts matches."""

    open_ms: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal = ZERO
    notional: Decimal = ZERO
    trades: int = 0

    def add(self, other: Candle) -> None:
        """Fold a later candle into this one."""
        self.high = max(self.high, other.high)
        self.low = min(self.low, other.low)
        self.close = other.close
        self.volume += other.volume
        self.notional += other.notional
        self.trades += other.trades


@dataclass(frozen=True, slots=True, kw_only=True)
class FundingRate:
    """One hourly funding rate as published."""

    rate: Decimal
    premium: Decimal
    time_ms: int


@dataclass(slots=True, kw_only=True)
class Market:
    """State of one instrument.

    Args:
        open_interest_cap: notional from which on open interest may not grow; None for no cap.
        open_interest_step: most notional one order may add to open interest; None for no limit.
        mark_bounds: range the mark is kept in, None for free.
    """

    instrument: Instrument
    oracle: Decimal
    mark: Decimal
    last: Decimal
    book: OrderBook = field(default_factory=OrderBook)
    trades: deque[Trade] = field(default_factory=lambda: deque(maxlen=KEPT_TRADES))
    minutes: deque[Candle] = field(default_factory=lambda: deque(maxlen=KEPT_MINUTES))
    fundings: deque[FundingRate] = field(default_factory=lambda: deque(maxlen=KEPT_FUNDINGS))
    triggers: dict[int, None] = field(default_factory=dict)
    open_interest_cap: Decimal | None = None
    open_interest_step: Decimal | None = None
    mark_bounds: tuple[Decimal, Decimal] | None = None

    def bounded(self, mark: Decimal) -> Decimal:
        """`mark`, moved into the bounds in force."""
        if self.mark_bounds is None:
            return mark
        low, high = self.mark_bounds
        return min(high, max(low, mark))

    def record(self, trade: Trade) -> None:
        """Fold a trade into tape and candles."""
        self.last = trade.price
        self.trades.append(trade)
        open_ms = trade.time_ms - trade.time_ms % MINUTE_MS
        candle = Candle(
            open_ms=open_ms,
            open=trade.price,
            high=trade.price,
            low=trade.price,
            close=trade.price,
            volume=trade.quantity,
            notional=trade.quantity * trade.price,
            trades=1,
        )
        if self.minutes and self.minutes[-1].open_ms >= open_ms:
            self.minutes[-1].add(candle)
        else:
            self.minutes.append(candle)

    def candles(self, interval_ms: int, start_ms: int, end_ms: int) -> list[Candle]:
        """Candles of `interval_ms` that open in [start, end], oldest first, built from minutes."""
        found: list[Candle] = []
        for minute in self.minutes:
            open_ms = minute.open_ms - minute.open_ms % interval_ms
            if open_ms < start_ms or open_ms > end_ms:
                continue
            if not found or found[-1].open_ms != open_ms:
                found.append(
                    Candle(
                        open_ms=open_ms,
                        open=minute.open,
                        high=minute.high,
                        low=minute.low,
                        close=minute.close,
                    )
                )
            found[-1].add(minute)
        return found

    def day(self, now_ms: int) -> tuple[Decimal, Decimal, Decimal]:
        """Base volume, notional volume and opening price of the last 24 hours known."""
        volume = notional = ZERO
        first: Decimal | None = None
        for minute in self._since(now_ms - DAY_MS):
            first = minute.open
            volume += minute.volume
            notional += minute.notional
        return volume, notional, self.last if first is None else first

    def _since(self, start_ms: int) -> Iterator[Candle]:
        for minute in reversed(self.minutes):
            if minute.open_ms < start_ms:
                return
            yield minute

    def premium(self) -> Decimal:
        """How far the book's mid is from the oracle, as a share of it; 0 without a two-sided book."""
        mid = self.book.mid()
        if mid is None:
            return ZERO
        return ((mid - self.oracle) / self.oracle).quantize(Decimal("0.0000000001"))

    def funding_rate(self) -> Decimal:
        """Current hourly rate: an eighth of premium plus clamped interest, at most 4 %."""
        premium = self.premium()
        clamped = max(Decimal("-0.0005"), min(Decimal("0.0005"), Decimal("0.0001") - premium))
        hourly = (premium + clamped) / 8 * self.instrument.funding_multiplier
        cap = Decimal("0.04")
        return max(-cap, min(cap, hourly)).quantize(Decimal("0.0000000001")).normalize() + ZERO
