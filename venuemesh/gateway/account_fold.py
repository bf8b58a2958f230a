"""What a replay of an account's log collects before the account can be rebuilt. Pure."""

from __future__ import annotations

from collections import OrderedDict, deque
from decimal import Decimal

from venuemesh.gateway.positions import PositionState, makes_position
from venuemesh.v1 import account_pb2, event_pb2, order_pb2, reconciliation_pb2

MAX_EVIDENCE = 20


class Recovery:
    """Orders with their fills, and what was stored without the position event that should have followed.

    Fills of terminal orders older than `retained` orders are dropped on the way, so memory stays bounded.
    """

    def __init__(self, retained: int = 10_000) -> None:
        self._retained = retained
        self._orders: OrderedDict[str, order_pb2.Order] = OrderedDict()
        self._fills: dict[str, list[order_pb2.Fill]] = {}
        self._evidence: dict[str, deque[reconciliation_pb2.Evidence]] = {}
        self._unfolded: dict[str, list[order_pb2.Fill]] = {}
        self._funding: dict[str, list[account_pb2.LedgerEntry]] = {}

    def execution(self, event: event_pb2.Event) -> None:
        """An order report, perhaps with a fill."""
        report = event.execution_report
        if report.HasField("order"):
            order = report.order
            self._orders.pop(order.order_id, None)
            self._orders[order.order_id] = order
            if report.HasField("fill"):
                self._fills.setdefault(order.order_id, []).append(report.fill)
            self._note_evidence(event)
            self._shrink()
        if report.HasField("fill") and makes_position(event.symbol):
            self._unfolded.setdefault(event.symbol, []).append(report.fill)

    def _note_evidence(self, event: event_pb2.Event) -> None:
        order = event.execution_report.order
        if not order.uncertain:
            self._evidence.pop(order.order_id, None)
        elif (evidence := evidence_of(event)) is not None:
            self._evidence.setdefault(order.order_id, deque(maxlen=MAX_EVIDENCE)).append(evidence)

    def evidence(self, order_id: str) -> list[reconciliation_pb2.Evidence]:
        """What was known of an order that is uncertain still, oldest first."""
        return list(self._evidence.get(order_id, ()))

    def _shrink(self) -> None:
        if len(self._orders) <= 2 * self._retained:
            return
        done = [order_id for order_id, order in self._orders.items() if order.terminal]
        for order_id in done[: len(self._orders) - self._retained]:
            del self._orders[order_id]
            self._fills.pop(order_id, None)

    def position(self, event: event_pb2.Event) -> None:
        """A position event: every fill and funding of the symbol before it is in it."""
        self._unfolded.pop(event.symbol, None)
        self._funding.pop(event.symbol, None)

    def ledger(self, event: event_pb2.Event) -> None:
        """A money change; funding moves a position."""
        entry = event.ledger_entry
        if entry.ledger_entry_type == account_pb2.LEDGER_ENTRY_TYPE_FUNDING and entry.symbol:
            self._funding.setdefault(entry.symbol, []).append(entry)

    def orders(self) -> list[tuple[order_pb2.Order, list[order_pb2.Fill]]]:
        """The last state of each order with its fills, least recently changed first."""
        return [(order, self._fills.get(order_id, [])) for order_id, order in self._orders.items()]

    def unfolded_fills(self) -> list[order_pb2.Fill]:
        """Fills stored without the position event that should have followed."""
        return [fill for fills in self._unfolded.values() for fill in fills]

    def unfolded_funding(self) -> list[account_pb2.LedgerEntry]:
        """Funding stored without the position event that should have followed."""
        return [entry for entries in self._funding.values() for entry in entries]


def evidence_of(event: event_pb2.Event) -> reconciliation_pb2.Evidence | None:
    """What an order report says about why the order is in doubt, or who did what about it; None when nothing."""
    report = event.execution_report
    by_operator = report.origin == order_pb2.ORIGIN_OPERATOR
    if not by_operator and report.execution_type != order_pb2.EXECUTION_TYPE_UNCERTAIN:
        return None
    source = "operator" if by_operator else "gateway"
    return reconciliation_pb2.Evidence(time=event.received_time, source=source, finding=report.text)


def position_state(position: account_pb2.Position) -> PositionState:
    """The position that a stored message holds."""
    return PositionState(
        symbol=position.symbol,
        quantity=Decimal(position.quantity),
        open_cost=Decimal(position.open_cost),
        realized_pnl=Decimal(position.realized_pnl),
        fees_paid=Decimal(position.fees_paid),
        funding_received=Decimal(position.funding_received),
    )
