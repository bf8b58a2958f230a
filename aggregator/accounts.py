"""What the portfolio keeps of one account. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal

from aggregator.booking import Books, Sums
from aggregator.reading import Margin, Money, Scope, read_balance, read_summary
from venuemesh.v1 import event_pb2, order_pb2, portfolio_pb2, portfolio_state_pb2, stream_pb2


@dataclass(slots=True)
class Progress:
    """How far an account's events of one symbol were folded, and the assets they were about."""

    last: int = 0
    fills: int = 0
    restatements: int = 0
    assets: frozenset[str] = frozenset()
    books: Books = field(default_factory=dict)

    def save(self, symbol: str) -> portfolio_state_pb2.SymbolState:
        """Its state as that of a symbol."""
        return portfolio_state_pb2.SymbolState(
            symbol=symbol,
            last=self.last,
            fill_count=self.fills,
            restatement_count=self.restatements,
            assets=sorted(self.assets),
            booked=(self.books[asset].save(asset) for asset in sorted(self.books)),
        )

    @classmethod
    def load(cls, state: portfolio_state_pb2.SymbolState) -> Progress:
        """What was saved."""
        return cls(
            state.last,
            state.fill_count,
            state.restatement_count,
            frozenset(state.assets),
            {booked.asset: Sums.load(booked) for booked in state.booked},
        )


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

    def save(self) -> portfolio_state_pb2.AccountState:
        """What is its own; positions and what is known of its health are the portfolio's."""
        state = portfolio_state_pb2.AccountState(
            epoch=self.epoch,
            symbols=(self.progress[symbol].save(symbol) for symbol in sorted(self.progress)),
            balances=(self.balances[place].balance for place in sorted(self.balances)),
            openings=(
                portfolio_state_pb2.AssetAmount(asset=asset, amount=str(self.openings[asset]))
                for asset in sorted(self.openings)
            ),
            orders=(self.orders[order_id] for order_id in sorted(self.orders)),
        )
        if self.margin is not None:
            state.summary.CopyFrom(self.margin.summary)
        return state

    @classmethod
    def load(cls, state: portfolio_state_pb2.AccountState) -> Account:
        """The account that was saved, without its positions.

        Raises:
            BadEvent: what was saved is not what a fold takes.
        """
        balances = [
            read_balance(event_pb2.Event(venue=state.venue, account_id=state.account_id, balance=balance))
            for balance in state.balances
        ]
        account = cls(
            state.epoch,
            {symbol.symbol: Progress.load(symbol) for symbol in state.symbols},
            {(money.balance.asset, money.balance.venue_section): money for money in balances},
            orders={order.order_id: order for order in state.orders},
            openings={opening.asset: Decimal(opening.amount) for opening in state.openings},
        )
        if state.HasField("summary"):
            account.margin = read_summary(
                event_pb2.Event(venue=state.venue, account_id=state.account_id, account_summary=state.summary)
            )
        return account

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
