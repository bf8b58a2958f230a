"""What the portfolio keeps of one account. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal

from aggregator.booking import Books
from aggregator.reading import Margin, Money, Scope
from venuemesh.v1 import order_pb2, portfolio_pb2, stream_pb2


@dataclass(slots=True)
class Progress:
    """How far an account's events of one symbol were folded, and the assets they were about."""

    last: int = 0
    fills: int = 0
    restatements: int = 0
    assets: frozenset[str] = frozenset()
    books: Books = field(default_factory=dict)


@dataclass(slots=True)
class Account:
    epoch: str
    progress: dict[str, Progress] = field(default_factory=dict)
    balances: dict[tuple[str, str], Money] = field(default_factory=dict)
    symbols: set[str] = field(default_factory=set)
    orders: dict[str, order_pb2.Order] = field(default_factory=dict)
    margin: Margin | None = None
    openings: dict[str, Decimal] = field(default_factory=dict)
    """First balances by asset, less what had been booked until then."""

    @property
    def fills(self) -> int:
        """Fills folded in."""
        return sum(progress.fills for progress in self.progress.values())

    @property
    def restatements(self) -> int:
        """Events folded in by which reconciliation restated something."""
        return sum(progress.restatements for progress in self.progress.values())

    def header(self, venue: str, account_id: str) -> portfolio_pb2.PortfolioAccount:
        """Its message without entries."""
        last = max(progress.last for progress in self.progress.values())
        return portfolio_pb2.PortfolioAccount(
            venue=venue,
            account_id=account_id,
            position=stream_pb2.StreamPosition(epoch=self.epoch, sequence=last),
            fill_count=self.fills,
            restatement_count=self.restatements,
        )

    def narrowed(self, scope: Scope, progress: Mapping[str, Progress]) -> Account:
        """The part of it in `scope`, whose progress is given."""
        return Account(
            self.epoch,
            {symbol: replace(value, books=dict(value.books)) for symbol, value in progress.items()},
            dict(self.balances),
            {symbol for symbol in self.symbols if scope.has_symbol(symbol)},
            {name: order for name, order in self.orders.items() if scope.has_symbol(order.terms.symbol)},
            self.margin,
            dict(self.openings),
        )
