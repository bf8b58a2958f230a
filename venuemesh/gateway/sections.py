"""What is known of each section of a venue: what trades there, and how its reference prices are. Pure.

Everything is seen: how long prices were silent, which have not moved, how far marks are from oracles. No session is
computed from a calendar, and none is concluded from prices.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from google.protobuf.duration_pb2 import Duration

from venuemesh.clock import Clock
from venuemesh.gateway.order_wire import timestamp
from venuemesh.gateway.venue import ReferencePrice
from venuemesh.money import EXACT, divide, format_decimal
from venuemesh.v1 import instrument_pb2, stream_pb2, venue_pb2

TRADING = instrument_pb2.INSTRUMENT_STATE_TRADING
_BPS: Final = Decimal(10_000)
_DIGITS: Final = 2
_NOT_TOLD_ALONE: Final = ("oracle_time", "max_mark_distance_bps", "max_mark_distance_symbol")


@dataclass(slots=True)
class _Reference:
    """Reference prices of one section by symbol, and since when (monotonic seconds) each oracle price stands."""

    prices: dict[str, ReferencePrice] = field(default_factory=dict)
    since_s: dict[str, float] = field(default_factory=dict)
    heard_s: float = 0.0
    received_ns: int = 0
    lost: str = ""


class Sections:
    """Sections of one venue.

    Args:
        stale_after_s: silence after which reference prices are stale.
        still_after_s: an oracle price that stood for so long counts as still.
    """

    def __init__(self, clock: Clock, *, stale_after_s: float = 15.0, still_after_s: float = 60.0) -> None:
        self._clock = clock
        self._stale_after_s = stale_after_s
        self._still_after_s = still_after_s
        self._references: dict[str, _Reference] = {}

    def on_reference_prices(self, section: str, prices: Sequence[ReferencePrice], received_ns: int) -> None:
        """All reference prices of a section, as the venue sent them."""
        known, now_s = self._references.setdefault(section, _Reference()), self._clock.monotonic_s()
        fresh = {row.symbol: row for row in prices}
        known.since_s = {
            symbol: known.since_s[symbol]
            if symbol in known.prices and known.prices[symbol].oracle_price == row.oracle_price
            else now_s
            for symbol, row in fresh.items()
        }
        known.prices, known.heard_s, known.received_ns, known.lost = fresh, now_s, received_ns, ""

    def on_lost(self, section: str, cause: str) -> None:
        """The reference prices of a section are not current any more."""
        self._references.setdefault(section, _Reference()).lost = cause

    def statuses(self, instruments: Iterable[instrument_pb2.Instrument]) -> list[venue_pb2.SectionStatus]:
        """Every section that lists something, by name."""
        listed: dict[str, list[instrument_pb2.Instrument]] = {}
        for row in instruments:
            listed.setdefault(row.venue_section, []).append(row)
        return [self._status(section, rows) for section, rows in sorted(listed.items())]

    def _status(self, section: str, rows: Sequence[instrument_pb2.Instrument]) -> venue_pb2.SectionStatus:
        trading = [row for row in rows if row.state == TRADING]
        sessions = {row.oracle_session for row in trading}
        status = venue_pb2.SectionStatus(
            venue_section=section,
            instruments_trading=len(trading),
            instruments_halted=sum(row.state == instrument_pb2.INSTRUMENT_STATE_HALTED for row in rows),
            instruments_delisted=sum(row.state == instrument_pb2.INSTRUMENT_STATE_DELISTED for row in rows),
            instruments_at_open_interest_cap=sum(row.at_open_interest_cap for row in trading),
        )
        if len(sessions) == 1:
            status.oracle_session = sessions.pop()
        if (known := self._references.get(section)) is not None:
            self._add_reference(status, known, {row.symbol for row in trading})
        return status

    def _add_reference(self, status: venue_pb2.SectionStatus, known: _Reference, trading: set[str]) -> None:
        now_s = self._clock.monotonic_s()
        status.oracle_cause = self._stale_cause(known, now_s)
        status.oracle_freshness = stream_pb2.FRESHNESS_STALE if status.oracle_cause else stream_pb2.FRESHNESS_FRESH
        status.oracle_still_after.CopyFrom(_duration(self._still_after_s))
        if not known.received_ns:
            return
        status.oracle_time.CopyFrom(timestamp(known.received_ns))
        prices = [row for symbol, row in sorted(known.prices.items()) if symbol in trading]
        still = [row for row in prices if now_s - known.since_s[row.symbol] >= self._still_after_s]
        status.instruments_oracle_still = len(still)
        status.instruments_without_mid = sum(row.mid_price is None for row in prices)
        distances = [(mark_distance_bps(row), row.symbol) for row in prices if row.oracle_price]
        if distances:
            largest, symbol = max(distances)
            status.max_mark_distance_bps = format_decimal(largest)
            status.max_mark_distance_symbol = symbol

    def _stale_cause(self, known: _Reference, now_s: float) -> str:
        if known.lost:
            return known.lost
        silent = now_s - known.heard_s > self._stale_after_s
        return f"no reference prices for {self._stale_after_s:g}s" if silent else ""


def mark_distance_bps(price: ReferencePrice) -> Decimal:
    """How far the mark is from the oracle, to two digits, without sign."""
    distance = abs(EXACT.subtract(price.mark_price, price.oracle_price))
    return round(divide(EXACT.multiply(distance, _BPS), price.oracle_price), _DIGITS)


def told_facts(statuses: Iterable[venue_pb2.SectionStatus]) -> list[bytes]:
    """What a change of is told: everything but what moves all the time."""
    facts = []
    for status in statuses:
        kept = venue_pb2.SectionStatus()
        kept.CopyFrom(status)
        for name in _NOT_TOLD_ALONE:
            kept.ClearField(name)
        facts.append(kept.SerializeToString(deterministic=True))
    return facts


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration
