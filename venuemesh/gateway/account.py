"""One account as the gateway knows it: orders, fills, positions, balances. No waiting, no I/O.

Every change goes through here, becomes an event in the account's one global order, and is told to `on_change`. Venue
facts may come in any order and any number of times: fills before acknowledgements, answers after streams, repeats.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Protocol

from venuemesh.clock import Clock
from venuemesh.crashpoints import CrashPoint, reach
from venuemesh.gateway import orders
from venuemesh.gateway.account_fold import AccountFold, evidence_of, position_state
from venuemesh.gateway.facts import Fact, Filled
from venuemesh.gateway.order_wire import from_order, timestamp, to_fill, to_order
from venuemesh.gateway.orders import Change, IllegalTransition, OrderState
from venuemesh.gateway.position_wire import to_position
from venuemesh.gateway.positions import (
    PositionState,
    PositionStep,
    apply_fill,
    apply_funding,
    makes_position,
    reconcile,
)
from venuemesh.gateway.reconcile import balance_differs
from venuemesh.gateway.seen import REMEMBERED, Seen
from venuemesh.gateway.venue import VenueFill, VenuePosition
from venuemesh.subjects import Kind
from venuemesh.v1 import account_pb2, event_pb2, order_pb2, reconciliation_pb2, stream_pb2

log = logging.getLogger(__name__)

ZERO = Decimal(0)
RESTATED = frozenset(
    (
        order_pb2.EXECUTION_TYPE_CANCELED,
        order_pb2.EXECUTION_TYPE_EXPIRED,
        order_pb2.EXECUTION_TYPE_REJECTED,
        order_pb2.EXECUTION_TYPE_ORDER_STATUS,
    )
)


class Log(Protocol):
    """The part of `venuemesh.journal.EventLog` an account writes to."""

    def append(self, kind: Kind, event: event_pb2.Event, *key: str) -> event_pb2.Event:
        """Number an event and queue it."""

    def append_outcome(self, account_id: str, client_order_id: str, outcome: event_pb2.OrderOutcome) -> None:
        """Queue the last word on a key."""


class Account:
    """State of one account. `settle_asset_of` gives the asset profit of a symbol is in.

    Bounds: `retained` terminal orders (older ones are in the journal), `remembered` execution ids for recognising
    repeats, `MAX_HELD_FILLS` fills that wait for the order they belong to.
    """

    MAX_HELD_FILLS = 1_000

    def __init__(
        self,
        *,
        venue: str,
        account_id: str,
        log: Log,
        clock: Clock,
        settle_asset_of: Callable[[str], str],
        retained: int = 10_000,
        remembered: int = REMEMBERED,
    ) -> None:
        self.venue = venue
        self.account_id = account_id
        self._log = log
        self._clock = clock
        self._settle_asset_of = settle_asset_of
        self._retained = retained
        self._orders: dict[str, OrderState] = {}
        self._open: dict[str, OrderState] = {}
        self._terminal: OrderedDict[str, None] = OrderedDict()
        self._by_key: dict[str, str] = {}
        self._by_venue_id: dict[str, str] = {}
        self._by_venue_client_id: dict[str, str] = {}
        self.fills = Seen(capacity=remembered, from_ns=clock.now_ns())
        self.ledger = Seen(capacity=remembered, from_ns=clock.now_ns())
        self._held_fills: list[tuple[VenueFill, int]] = []
        self.positions: dict[str, PositionState] = {}
        self.venue_positions: dict[str, VenuePosition] = {}
        self.balances: dict[tuple[str, str], account_pb2.Balance] = {}
        self._money_moves = 0
        self._told_after_move: dict[tuple[str, str], int] = {}
        self.summary: account_pb2.AccountSummary | None = None
        self.illegal_transitions = 0
        self.newborn = True
        """No event of the account was ever stored: what the venue holds at first is taken without a discrepancy."""
        self.history_from_ns = clock.now_ns()
        """Fills and money changes before this instant are none of the mesh's business."""
        self.on_change: Callable[[OrderState], None] = lambda _: None
        self.on_illegal: Callable[[OrderState, IllegalTransition], None] = lambda _state, _error: None
        self.on_revived: Callable[[OrderState, Change], None] = lambda _before, _change: None
        """Called with an order held ended that the venue proved to be alive, and how."""
        self.on_evidence: Callable[[str, reconciliation_pb2.Evidence], None] = lambda _order_id, _evidence: None
        """Called with what was found out about an order, by its id: also with what was found before a restart."""

    # reading

    def order(self, order_id: str) -> OrderState | None:
        """An order by our id; None when unknown or no longer retained."""
        return self._orders.get(order_id)

    def order_by_key(self, client_order_id: str) -> OrderState | None:
        """An order by the caller's id."""
        return self._orders.get(self._by_key.get(client_order_id, ""))

    def order_by_venue_id(self, venue_order_id: str) -> OrderState | None:
        """An order by any id the venue ever gave it."""
        return self._orders.get(self._by_venue_id.get(venue_order_id, ""))

    def order_by_venue_client_id(self, venue_client_order_id: str) -> OrderState | None:
        """An order by the id we gave the venue."""
        return self._orders.get(self._by_venue_client_id.get(venue_client_order_id, ""))

    def all_orders(self) -> list[OrderState]:
        """Every order retained, oldest first."""
        return sorted(self._orders.values(), key=lambda order: (order.created_ns, order.order_id))

    def open_orders(self) -> list[OrderState]:
        """Orders that are not terminal, oldest first."""
        return sorted(self._open.values(), key=lambda order: (order.created_ns, order.order_id))

    def knows_execution(self, execution_id: str) -> bool:
        """Whether this fill was folded in."""
        return execution_id in self.fills

    # orders

    def take(self, state: OrderState) -> None:
        """A new order, journalled and about to be sent."""
        self._index(state)
        self._report(
            Change(state=state, execution_type=order_pb2.EXECUTION_TYPE_PENDING_NEW, origin=order_pb2.ORIGIN_CLIENT),
            fill=None,
            received_ns=state.created_ns,
        )

    def apply(self, order_id: str, fact: Fact, *, received_ns: int | None = None) -> OrderState:
        """Fold a fact into an order; returns the order after it.

        A fact that contradicts proof changes nothing and is counted and told; the venue is asked about the order.
        """
        state = self._orders[order_id]
        now_ns = self._clock.now_ns()
        try:
            change = orders.apply(state, fact, now_ns)
        except IllegalTransition as error:
            self.illegal_transitions += 1
            log.warning("illegal_transition", extra={"order_id": order_id, "fact": str(fact), "error": str(error)})
            self.on_illegal(state, error)
            return state
        if change is None:
            return state
        fill = None
        if isinstance(fact, Filled):
            fill = to_fill(
                fact.fill,
                venue=self.venue,
                account_id=self.account_id,
                order=change.state,
                received_ns=received_ns or now_ns,
            )
        self._index(change.state)
        event = self._report(change, fill, received_ns or now_ns)
        if state.status == order_pb2.ORDER_STATUS_REJECTED != change.state.status:
            self.on_revived(state, change)
        if isinstance(fact, Filled):
            reach(CrashPoint.FILL_QUEUED)
            self._fold_fill(fact.fill, received_ns or now_ns, event)
        self._match_held_fills()
        return self._orders.get(order_id, change.state)

    def _index(self, state: OrderState) -> None:
        self._orders[state.order_id] = state
        self._by_key[state.terms.client_order_id] = state.order_id
        self._by_venue_client_id[state.venue_client_order_id] = state.order_id
        for venue_order_id in state.venue_order_ids:
            self._by_venue_id[venue_order_id] = state.order_id
        if state.terminal:
            self._open.pop(state.order_id, None)
            self._terminal[state.order_id] = None
            self._forget_oldest()
        else:
            self._open[state.order_id] = state
            self._terminal.pop(state.order_id, None)

    def _forget_oldest(self) -> None:
        while len(self._terminal) > self._retained:
            order_id, _ = self._terminal.popitem(last=False)
            state = self._orders.pop(order_id)
            self._by_key.pop(state.terms.client_order_id, None)
            self._by_venue_client_id.pop(state.venue_client_order_id, None)
            for venue_order_id in state.venue_order_ids:
                self._by_venue_id.pop(venue_order_id, None)

    def _report(self, change: Change, fill: order_pb2.Fill | None, received_ns: int) -> event_pb2.Event:
        state = change.state
        order = to_order(state)
        event = self._event(state.terms.symbol, received_ns, state.venue_time_ns, state.terms.correlation_id)
        report = event.execution_report
        report.execution_type = execution_type_of(change)
        report.origin = change.origin
        report.text = change.text
        report.order.CopyFrom(order)
        if fill is not None:
            report.fill.CopyFrom(fill)
        self._log.append(Kind.ORDER if fill is None else Kind.FILL, event, state.terms.client_order_id)
        if state.terminal:
            outcome = event_pb2.OrderOutcome(order=order, sequence=event.sequence)
            self._log.append_outcome(self.account_id, state.terms.client_order_id, outcome)
        if (evidence := evidence_of(event)) is not None:
            self.on_evidence(state.order_id, evidence)
        self.on_change(state)
        return event

    # fills

    def on_fill(self, fill: VenueFill, received_ns: int) -> None:
        """A fill from the venue, of one of our orders or not. Repeats change nothing."""
        if fill.execution_id in self.fills:
            return
        order = self._order_of(fill)
        if order is not None:
            self.apply(order.order_id, Filled(fill=fill), received_ns=received_ns)
            return
        if self.fills.is_old(fill.venue_time_ns):
            # Streams begin with what happened long ago; only our own orders say that it is news.
            return
        if any(state.status in orders.UNANSWERED for state in self._open.values()):
            # It may belong to an order whose venue id is still on its way.
            if all(held.execution_id != fill.execution_id for held, _ in self._held_fills):
                self._held_fills.append((fill, received_ns))
            if len(self._held_fills) > self.MAX_HELD_FILLS:
                self._external_fill(*self._held_fills.pop(0))
            return
        self._external_fill(fill, received_ns)

    def _order_of(self, fill: VenueFill) -> OrderState | None:
        if fill.venue_client_order_id:
            found = self.order_by_venue_client_id(fill.venue_client_order_id)
            if found is not None:
                return found
        return self.order_by_venue_id(fill.venue_order_id)

    def _match_held_fills(self) -> None:
        if not self._held_fills:
            return
        held, self._held_fills = self._held_fills, []
        for fill, received_ns in held:
            self.on_fill(fill, received_ns)

    def _external_fill(self, fill: VenueFill, received_ns: int) -> None:
        event = self._event(fill.symbol, received_ns, fill.venue_time_ns, "")
        event.execution_report.CopyFrom(
            order_pb2.ExecutionReport(
                execution_type=order_pb2.EXECUTION_TYPE_TRADE,
                origin=order_pb2.ORIGIN_VENUE,
                fill=to_fill(fill, venue=self.venue, account_id=self.account_id, order=None, received_ns=received_ns),
                text="of an order the mesh did not place",
            )
        )
        self._log.append(Kind.FILL, event)
        self._fold_fill(fill, received_ns, event)

    def _fold_fill(self, fill: VenueFill, received_ns: int, cause: event_pb2.Event) -> None:
        self.fills.add(fill.execution_id, fill.venue_time_ns)
        self._money_moves += 1
        if not makes_position(fill.symbol):
            return
        fee = fill.fee if fill.fee_asset == self._settle_asset_of(fill.symbol) else ZERO
        step = apply_fill(
            self._position(fill.symbol), side=fill.side, quantity=fill.quantity, price=fill.price, fee=fee
        )
        self._step_position(step, received_ns, fill.venue_time_ns, cause)

    # positions and money

    def _position(self, symbol: str) -> PositionState:
        return self.positions.get(symbol) or PositionState(symbol=symbol)

    def _step_position(
        self, step: PositionStep, received_ns: int, venue_time_ns: int, cause: event_pb2.Event | None = None
    ) -> None:
        self.positions[step.state.symbol] = step.state
        event = self._event(step.state.symbol, received_ns, venue_time_ns, cause.correlation_id if cause else "")
        event.causation_id = cause.event_id if cause else ""
        event.position.CopyFrom(self.to_position(step.state, step.change, venue_time_ns))
        self._log.append(Kind.POSITION, event)

    def to_position(
        self,
        state: PositionState,
        change: account_pb2.PositionChange.ValueType = account_pb2.POSITION_CHANGE_UNSPECIFIED,
        venue_time_ns: int = 0,
    ) -> account_pb2.Position:
        """The contract message of a position, with mark and margin as the venue last told them."""
        message = to_position(
            state,
            seen=self.venue_positions.get(state.symbol),
            settle_asset=self._settle_asset_of(state.symbol),
            now_ns=self._clock.now_ns(),
            venue_time_ns=venue_time_ns,
        )
        message.account_id, message.venue, message.change = self.account_id, self.venue, change
        return message

    def on_positions(self, positions: Iterable[VenuePosition]) -> None:
        """The venue's view of marks and margin; quantities stay what fills made them."""
        for position in positions:
            self.venue_positions[position.symbol] = position

    def reconcile_position(self, position: VenuePosition, received_ns: int) -> None:
        """Take the venue's quantity and entry as the truth."""
        self.venue_positions[position.symbol] = position
        step = reconcile(
            self._position(position.symbol),
            quantity=position.quantity,
            entry_price=position.entry_price,
            mark_price=position.mark_price,
        )
        self._step_position(step, received_ns, 0)

    def on_ledger(self, entry: account_pb2.LedgerEntry, received_ns: int) -> None:
        """Funding and transfers; repeats change nothing."""
        venue_time_ns = entry.venue_time.ToNanoseconds()
        if entry.ledger_entry_id in self.ledger or self.ledger.is_old(venue_time_ns):
            return
        self.ledger.add(entry.ledger_entry_id, venue_time_ns)
        self._money_moves += 1
        event = self._event(entry.symbol, received_ns, venue_time_ns, "")
        event.ledger_entry.CopyFrom(entry)
        self._log.append(Kind.LEDGER, event)
        if entry.ledger_entry_type == account_pb2.LEDGER_ENTRY_TYPE_FUNDING and entry.symbol:
            step = apply_funding(self._position(entry.symbol), Decimal(entry.amount))
            self._step_position(step, received_ns, venue_time_ns, event)

    def on_balances(
        self, balances: Sequence[account_pb2.Balance], summary: account_pb2.AccountSummary, received_ns: int
    ) -> None:
        """All balances and the margin as the venue sees them; only what changed becomes an event."""
        for balance in balances:
            key = (balance.venue_section, balance.asset)
            known = self.balances.get(key)
            self.balances[key] = balance
            self._told_after_move[key] = self._money_moves
            if known is None or (known.total, known.available) != (balance.total, balance.available):
                event = self._event("", received_ns, 0, "")
                event.balance.CopyFrom(balance)
                self._log.append(Kind.BALANCE, event)
        if self.summary is None or _amounts(self.summary) != _amounts(summary):
            event = self._event("", received_ns, 0, "")
            event.account_summary.CopyFrom(summary)
            self._log.append(Kind.SUMMARY, event)
        self.summary = summary

    def unexplained_balances(self, told: Iterable[account_pb2.Balance]) -> list[tuple[str, account_pb2.Balance]]:
        """Balances whose total differs from ours although nothing we know of has moved money: ours, the venue's."""
        found = []
        open_positions = sum(1 for one in self.positions.values() if one.quantity)
        for balance in told:
            key = (balance.venue_section, balance.asset)
            known = self.balances.get(key)
            unmoved = known is not None and self._told_after_move.get(key) == self._money_moves
            if known and unmoved and balance_differs(known, balance, open_positions=open_positions):
                found.append((known.total, balance))
        return found

    def report_discrepancy(self, discrepancy: reconciliation_pb2.Discrepancy) -> None:
        """A difference that reconciliation found."""
        event = self._event(discrepancy.symbol, self._clock.now_ns(), 0, "")
        event.discrepancy.CopyFrom(discrepancy)
        self._log.append(Kind.DISCREPANCY, event)

    def report_freshness(self, freshness: stream_pb2.Freshness.ValueType, cause: str) -> None:
        """The account's private stream went away or is caught up again."""
        for seen in (self.fills, self.ledger):
            seen.follow(freshness)
        now_ns = self._clock.now_ns()
        event = self._event("", now_ns, 0, "")
        event.stream_status.CopyFrom(
            stream_pb2.StreamStatus(
                subscription=f"{self.venue}/{self.account_id}",
                freshness=freshness,
                since=timestamp(now_ns),
                cause=cause,
            )
        )
        self._log.append(Kind.FRESHNESS, event)

    def _event(self, symbol: str, received_ns: int, venue_time_ns: int, correlation_id: str) -> event_pb2.Event:
        event = event_pb2.Event(
            account_id=self.account_id,
            symbol=symbol,
            received_time=timestamp(received_ns),
            correlation_id=correlation_id,
        )
        if venue_time_ns:
            event.venue_time.CopyFrom(timestamp(venue_time_ns))
        return event

    # restart

    def adopt(self, fold: AccountFold) -> None:
        """Go on where the log ends. What was seen before the process ended is not fresh any more, and is said so."""
        if not fold.sequence:
            return
        self.newborn = False
        self.history_from_ns = fold.history_from_ns
        self.fills, self.ledger = fold.fills, fold.ledger
        self.positions = {symbol: position_state(position) for symbol, position in fold.positions.items()}
        self.balances, self.summary = fold.balances, fold.summary
        self._money_moves, self._told_after_move = fold.money_moves, fold.told_after_move
        for order, fills in fold.orders():
            self._index(from_order(order, fills))
            for evidence in fold.evidence(order.order_id):
                self.on_evidence(order.order_id, evidence)
        if self.fills.caught_up:
            self.report_freshness(stream_pb2.FRESHNESS_STALE, "the gateway restarted")

    def catch_up_positions(self, fold: AccountFold) -> None:
        """Fold what was stored without its position event. Needs the instruments: they tell which fees count."""
        now_ns = self._clock.now_ns()
        for fill in fold.unfolded_fills():
            fee = Decimal(fill.fee) if fill.fee_asset == self._settle_asset_of(fill.symbol) else ZERO
            step = apply_fill(
                self._position(fill.symbol),
                side=fill.side,
                quantity=Decimal(fill.quantity),
                price=Decimal(fill.price),
                fee=fee,
            )
            self._step_position(step, now_ns, fill.venue_time.ToNanoseconds())
        for entry in fold.unfolded_funding():
            step = apply_funding(self._position(entry.symbol), Decimal(entry.amount))
            self._step_position(step, now_ns, entry.venue_time.ToNanoseconds())


def execution_type_of(change: Change) -> order_pb2.ExecutionType.ValueType:
    """How a change is reported: what only a comparison with the venue brought to light is a restatement.

    Fills stay trades, and an answer to an uncertain order stays its resolution, whoever found them.
    """
    found_out = change.origin == order_pb2.ORIGIN_RECONCILIATION and change.execution_type in RESTATED
    return order_pb2.EXECUTION_TYPE_RESTATED if found_out else change.execution_type


def _amounts(summary: account_pb2.AccountSummary) -> bytes:
    amounts = account_pb2.AccountSummary()
    amounts.CopyFrom(summary)
    amounts.ClearField("updated_time")
    return amounts.SerializeToString(deterministic=True)
