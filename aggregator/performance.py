"""Profit, fees, funding and volume by period, kept by the minute, later by the hour, then by the day. Pure.

Positions tell running sums; what one event adds to them belongs to the time of that event. Sums over all time are
therefore those of the portfolio, to the last digit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from aggregator.booking import ZERO, Booked, Movement
from aggregator.reading import Holding, Scope, Trade
from aggregator.sequencing import AccountKey
from aggregator.valuation import wire
from venuemesh.errors import InvalidRequest
from venuemesh.money import EXACT
from venuemesh.v1 import event_pb2, portfolio_pb2, portfolio_state_pb2

MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
MAX_ROWS = 50_000
BEGAN_LATE = "events that the log had lost before it was read"


class Place(NamedTuple):
    """What a row is about. `start_s` is when its period begins, Unix seconds."""

    start_s: int
    venue: str
    account_id: str
    symbol: str
    asset: str


@dataclass(slots=True)
class Row:
    """What happened in one place."""

    realized: Decimal = ZERO
    fees: Decimal = ZERO
    funding: Decimal = ZERO
    volume: Decimal = ZERO
    fills: int = 0

    def add(self, other: Row) -> None:
        """Take what another one holds."""
        self.realized = EXACT.add(self.realized, other.realized)
        self.fees = EXACT.add(self.fees, other.fees)
        self.funding = EXACT.add(self.funding, other.funding)
        self.volume = EXACT.add(self.volume, other.volume)
        self.fills += other.fills


class Running(NamedTuple):
    """Sums that a position told last."""

    realized: Decimal = ZERO
    fees: Decimal = ZERO
    funding: Decimal = ZERO


class Performance:
    """Everything that was earned and paid, by time.

    Args:
        max_rows: beyond it the older half of the finest rows is kept by the hour, and if need be the older half of
            those by the day. Days are never given up: a year of ten instruments is 3,650 rows.
    """

    def __init__(self, *, max_rows: int = MAX_ROWS) -> None:
        self.rows: dict[Place, Row] = {}
        self.by_hour_before_s = 0
        self.by_day_before_s = 0
        self.running: dict[tuple[AccountKey, str], Running] = {}
        self.begins_late = False
        """Earlier events were lost: the first sums that a position tells are then no period's."""
        self._max_rows = self.limit = max_rows

    def take(
        self,
        event: event_pb2.Event,
        *,
        trade: Trade | None = None,
        holding: Holding | None = None,
        movements: Iterable[Movement] = (),
    ) -> None:
        """Take an event that has been read already."""
        if trade is not None:
            self._trade(event, trade)
        if holding is not None:
            self._position(event, holding)
        for movement in movements:
            row = Row()
            if movement.kind is Booked.FEES:
                row.fees = movement.amount
            elif movement.kind is Booked.FUNDING:
                row.funding = movement.amount
            else:
                continue
            self._add(event, movement.asset, row)

    def _trade(self, event: event_pb2.Event, trade: Trade) -> None:
        quote, _, settle = event.symbol.partition("/")[2].partition(":")
        self._add(event, settle or quote, Row(volume=abs(trade.value), fills=1))

    def _position(self, event: event_pb2.Event, holding: Holding) -> None:
        place = ((event.venue, event.account_id), event.symbol)
        now = Running(holding.realized, holding.fees, holding.funding)
        before = self.running.get(place) or (now if self.begins_late else Running())
        self.running[place] = now
        if now != before:
            step = Row(
                realized=EXACT.subtract(now.realized, before.realized),
                fees=EXACT.subtract(now.fees, before.fees),
                funding=EXACT.subtract(now.funding, before.funding),
            )
            self._add(event, holding.position.settle_asset, step)

    def _add(self, event: event_pb2.Event, asset: str, row: Row) -> None:
        stamp = event.venue_time if event.HasField("venue_time") else event.published_time
        place = Place(self._period(stamp.seconds), event.venue, event.account_id, event.symbol, asset)
        self._put(place, row)
        if len(self.rows) > self.limit:
            self._coarsen()

    def _put(self, place: Place, row: Row) -> None:
        known = self.rows.get(place)
        if known is None:
            self.rows[place] = row
        else:
            known.add(row)

    def _period(self, at_s: int) -> int:
        return _round_down(at_s, self._step_s(at_s))

    def _step_s(self, at_s: int) -> int:
        if at_s < self.by_day_before_s:
            return DAY_S
        return HOUR_S if at_s < self.by_hour_before_s else MINUTE_S

    def _coarsen(self) -> None:
        # At least half of the rows by the minute become rows by the hour, and so on.
        self.by_hour_before_s = _round_down(self._middle(self.by_hour_before_s), HOUR_S) + HOUR_S
        self._rebuild()
        if len(self.rows) > self.limit // 2:
            middle_s = _round_down(self._middle(self.by_day_before_s), DAY_S) + DAY_S
            last_s = _round_down(self.by_hour_before_s, DAY_S)
            self.by_day_before_s = max(self.by_day_before_s, min(middle_s, last_s))
            self._rebuild()
        # What cannot be made fewer is not tried again at every event.
        few = len(self.rows) <= 3 * self._max_rows // 4
        self.limit = self._max_rows if few else 2 * len(self.rows)

    def _middle(self, from_s: int) -> int:
        """The time with as many rows from `from_s` on before it as after it."""
        starts = sorted(place.start_s for place in self.rows if place.start_s >= from_s)
        return starts[len(starts) // 2] if starts else from_s

    def _rebuild(self) -> None:
        rows, self.rows = self.rows, {}
        for place, row in rows.items():
            self._put(place._replace(start_s=self._period(place.start_s)), row)

    # --- snapshots ---

    def save(self) -> portfolio_state_pb2.PerformanceState:
        """Its rows; the running sums are those of the positions."""
        state = portfolio_state_pb2.PerformanceState(
            by_hour_before_unix_s=self.by_hour_before_s, by_day_before_unix_s=self.by_day_before_s, limit=self.limit
        )
        for place in sorted(self.rows):
            row = self.rows[place]
            saved = state.rows.add(
                venue=place.venue,
                account_id=place.account_id,
                symbol=place.symbol,
                asset=place.asset,
                realized=str(row.realized),
                fees=str(row.fees),
                funding=str(row.funding),
                volume=str(row.volume),
                fill_count=row.fills,
            )
            saved.start.seconds = place.start_s
        return state

    def load(
        self,
        state: portfolio_state_pb2.PerformanceState,
        holdings: Iterable[tuple[AccountKey, Holding]],
        *,
        begins_late: bool,
    ) -> None:
        """Take what was saved, and the positions of the same instant."""
        self.begins_late = begins_late
        self.by_hour_before_s, self.by_day_before_s = state.by_hour_before_unix_s, state.by_day_before_unix_s
        self.limit = state.limit
        for saved in state.rows:
            place = Place(saved.start.seconds, saved.venue, saved.account_id, saved.symbol, saved.asset)
            self.rows[place] = Row(
                Decimal(saved.realized),
                Decimal(saved.fees),
                Decimal(saved.funding),
                Decimal(saved.volume),
                saved.fill_count,
            )
        self.running = {
            (key, holding.position.symbol): Running(holding.realized, holding.fees, holding.funding)
            for key, holding in holdings
        }

    # --- what it says ---

    def end_of(self, now_s: int) -> int:
        """End of the period that `now_s` lies in."""
        return self._period(now_s) + self._step_s(now_s)

    def period(
        self, scope: Scope, from_s: int, to_s: int, *, lost: Sequence[str] = ()
    ) -> list[portfolio_pb2.Performance]:
        """What the part in `scope` earned and paid from `from_s` on and before `to_s`, by asset.

        Args:
            lost: what the fold itself had to leave out.
        Raises:
            InvalidRequest: a bound lies inside a period that is kept as one.
        """
        self._require_whole(from_s, "from_time")
        self._require_whole(to_s, "to_time")
        sums: dict[str, Row] = {}
        for place, row in self.rows.items():
            if from_s <= place.start_s < to_s and self._is_in(scope, place):
                sums.setdefault(place.asset, Row()).add(row)
        lacks = [BEGAN_LATE] * self.begins_late + list(lost)
        return [_message(asset, sums[asset], from_s, to_s, lacks) for asset in sorted(sums)]

    @staticmethod
    def _is_in(scope: Scope, place: Place) -> bool:
        return scope.has_account(place.venue, place.account_id) and scope.has_symbol(place.symbol)

    def _require_whole(self, at_s: int, field: str) -> None:
        step_s = self._step_s(at_s)
        if at_s % step_s:
            unit = {MINUTE_S: "minute", HOUR_S: "hour", DAY_S: "day (UTC)"}[step_s]
            raise InvalidRequest(f"{field}: must be a whole {unit}; that time is kept by the {unit}", field=field)


def _round_down(at_s: int, step_s: int) -> int:
    return at_s - at_s % step_s


def _message(asset: str, row: Row, from_s: int, to_s: int, lacks: Sequence[str]) -> portfolio_pb2.Performance:
    message = portfolio_pb2.Performance(
        asset=asset,
        realized_pnl=wire(row.realized),
        fees_paid=wire(row.fees),
        funding_received=wire(row.funding),
        volume=wire(row.volume),
        fill_count=row.fills,
        leaves_out=lacks,
    )
    message.from_time.seconds, message.to_time.seconds = from_s, to_s
    return message
