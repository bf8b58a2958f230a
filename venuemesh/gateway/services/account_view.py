"""An account as its durable events tell it. Pure.

A snapshot on a stream must be the state at a position, and only durable events may be shown. The desk's own state runs
ahead of what is durable, so this second one is folded from the events as they become durable: a snapshot of it at
number N and the events behind N are the truth, with nothing to wait for.
"""

from __future__ import annotations

from venuemesh.gateway.account import Account
from venuemesh.gateway.order_wire import to_order
from venuemesh.v1 import account_pb2, event_pb2, order_pb2, stream_pb2

FLAT = "0"


class AccountView:
    """Open orders, positions, balances, margin and freshness after the event numbered `sequence`.

    Marks and margin of positions are those of their last event.
    """

    def __init__(self, *, sequence: int = 0) -> None:
        self.sequence = sequence
        self.orders: dict[str, order_pb2.Order] = {}
        self.positions: dict[str, account_pb2.Position] = {}
        self.balances: dict[tuple[str, str], account_pb2.Balance] = {}
        self.summary: account_pb2.AccountSummary | None = None
        self.status: stream_pb2.StreamStatus | None = None

    @classmethod
    def of(cls, account: Account, *, sequence: int, status: stream_pb2.StreamStatus | None) -> AccountView:
        """The account as it is now, which is after its event numbered `sequence`."""
        view = cls(sequence=sequence)
        view.orders = {order.order_id: to_order(order) for order in account.open_orders()}
        for state in account.positions.values():
            view._take_position(account.to_position(state))
        view.balances = dict(account.balances)
        view.summary = account.summary
        view.status = status
        return view

    def fold(self, event: event_pb2.Event) -> None:
        """The next event; one that is in already changes nothing."""
        if event.sequence <= self.sequence:
            return
        self.sequence = event.sequence
        match event.WhichOneof("payload"):
            case "execution_report":
                if event.execution_report.HasField("order"):
                    self._take_order(event.execution_report.order)
            case "position":
                self._take_position(event.position)
            case "balance":
                self.balances[(event.balance.venue_section, event.balance.asset)] = event.balance
            case "account_summary":
                self.summary = event.account_summary
            case "stream_status":
                self.status = event.stream_status
            case _:
                # Ledger entries and discrepancies are history, not state.
                pass

    @property
    def stale(self) -> stream_pb2.StreamStatus | None:
        """The status to show a new reader: only when it is not FRESH."""
        if self.status is None or self.status.freshness != stream_pb2.FRESHNESS_STALE:
            return None
        return self.status

    def open_orders(self) -> list[order_pb2.Order]:
        """Working and uncertain orders, oldest first."""
        return sorted(self.orders.values(), key=lambda order: (order.created_time.ToNanoseconds(), order.order_id))

    def open_positions(self) -> list[account_pb2.Position]:
        """Positions that are not flat, by symbol."""
        return [self.positions[symbol] for symbol in sorted(self.positions)]

    def all_balances(self) -> list[account_pb2.Balance]:
        """Balances by section and asset."""
        return [self.balances[key] for key in sorted(self.balances)]

    def _take_order(self, order: order_pb2.Order) -> None:
        if order.terminal:
            self.orders.pop(order.order_id, None)
        else:
            self.orders[order.order_id] = order

    def _take_position(self, position: account_pb2.Position) -> None:
        if position.quantity == FLAT:
            self.positions.pop(position.symbol, None)
        else:
            self.positions[position.symbol] = position
