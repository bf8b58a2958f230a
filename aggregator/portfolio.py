"""The portfolio as a fold: event in, state changed, and what changed as a message. Pure.

    portfolio = Portfolio()
    change = portfolio.apply(event)           # events of each account in its own order, each once
    portfolio.advance(log_sequence, time_ns)
    delta = portfolio.delta(change, event)

The state follows from the events alone; live marks and what is known of the log's own health lie over it and change
through methods of their own. A portfolio of a narrower `Scope` is fed the same events and leaves out the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, localcontext

from google.protobuf.timestamp_pb2 import Timestamp

from aggregator.accounts import Account, Progress
from aggregator.booking import NOTHING, Books, Movement, add_up, book
from aggregator.reading import (
    ZERO,
    BadEvent,
    Holding,
    Scope,
    Trade,
    is_fill,
    is_restatement,
    read_balance,
    read_ledger,
    read_position,
    read_report,
    read_summary,
)
from aggregator.sequencing import AccountKey, Gap
from aggregator.totals import exposures, totals
from aggregator.valuation import Instrument, Mark, Valuation
from venuemesh.money import EXACT
from venuemesh.v1 import event_pb2, order_pb2, portfolio_pb2, portfolio_service_pb2, portfolio_state_pb2, stream_pb2

LOG_PART = "event log"


@dataclass(slots=True)
class Change:
    """What an event or mark touched: the keys of the entries a delta must carry, and what was read of the event."""

    accounts: set[AccountKey] = field(default_factory=set)
    positions: set[tuple[AccountKey, str]] = field(default_factory=set)
    balances: set[tuple[AccountKey, tuple[str, str]]] = field(default_factory=set)
    summaries: set[AccountKey] = field(default_factory=set)
    orders: dict[tuple[AccountKey, str], order_pb2.Order] = field(default_factory=dict)
    symbols: set[str] = field(default_factory=set)
    assets: set[str] = field(default_factory=set)
    stale: bool = False
    trade: Trade | None = None
    holding: Holding | None = None
    movements: Sequence[Movement] = ()

    def __bool__(self) -> bool:
        return bool(self.accounts or self.symbols or self.assets or self.stale)


@dataclass(frozen=True, slots=True)
class _Stale:
    since_ns: int
    cause: str


class Portfolio:
    """State of everything in `scope`. `epoch` names the numbering of the log."""

    def __init__(self, epoch: str = "", scope: Scope | None = None) -> None:
        self.epoch = epoch
        self.scope = scope or Scope()
        self.sequence = 0
        """Log sequence of the last message folded in, whether or not it changed anything."""
        self.time_ns = 0
        """Broker time of that message."""
        self._accounts: dict[AccountKey, Account] = {}
        self._valuation = Valuation()
        self._assets: set[str] = set()
        self._books: Books = {}
        self._links: dict[AccountKey, _Stale] = {}
        self._gaps: dict[AccountKey, _Stale] = {}
        self._losses: dict[AccountKey, _Stale] = {}
        self._log: _Stale | None = None

    # --- what changes it ---

    def advance(self, sequence: int, time_ns: int) -> None:
        """Note that the log is folded up to `sequence`, stored at `time_ns`."""
        self.sequence = sequence
        self.time_ns = time_ns

    def apply(self, event: event_pb2.Event) -> Change:
        """Fold one event of the scope; a payload of an unknown kind only moves the account's position.

        Raises:
            BadEvent: it contradicts itself; nothing changed.
        """
        key = (event.venue, event.account_id)
        change = Change(accounts={key})
        match event.WhichOneof("payload"):
            case "execution_report":
                change.trade = read_report(event)
                self._apply_report(self._account(key, event), key, event.execution_report, change)
                if change.trade is not None:
                    self._book(key, event.symbol, change.trade.movements(), change)
            case "position":
                self._apply_position(key, event, change)
            case "balance":
                self._apply_balance(key, event, change)
            case "ledger_entry":
                movements = read_ledger(event)
                self._account(key, event)
                self._book(key, event.symbol, movements, change)
            case "account_summary":
                margin = read_summary(event)
                self._account(key, event).margin = margin
                change.summaries.add(key)
                change.assets |= {margin.summary.asset} - {""}
            case "stream_status":
                self._account(key, event)
                self._apply_status(key, event.stream_status, change)
            case _:
                self._account(key, event)
        progress = self._progress(key, event.symbol)
        progress.last = event.sequence
        progress.fills += is_fill(event)
        progress.restatements += is_restatement(event)
        if change.assets:
            progress.assets |= change.assets
            self._assets |= change.assets
        return change

    def _account(self, key: AccountKey, event: event_pb2.Event) -> Account:
        account = self._accounts.get(key)
        if account is None:
            account = self._accounts[key] = Account(event.epoch)
        if account.epoch != event.epoch:
            account.epoch = event.epoch
            for progress in account.progress.values():
                progress.last = 0
        return account

    def _progress(self, key: AccountKey, symbol: str) -> Progress:
        progress = self._accounts[key].progress
        found = progress.get(symbol)
        if found is None:
            found = progress[symbol] = Progress()
        return found

    def _book(self, key: AccountKey, symbol: str, movements: list[Movement], change: Change) -> None:
        change.movements = movements
        if movements:
            book(self._progress(key, symbol).books, movements)
            change.assets |= book(self._books, movements)

    @staticmethod
    def _apply_report(account: Account, key: AccountKey, report: order_pb2.ExecutionReport, change: Change) -> None:
        if not report.HasField("order"):
            return
        order = report.order
        if order.terminal:
            account.orders.pop(order.order_id, None)
        else:
            account.orders[order.order_id] = order
        change.orders[key, order.order_id] = order

    def _apply_position(self, key: AccountKey, event: event_pb2.Event, change: Change) -> None:
        holding = change.holding = read_position(event)
        instrument = (key[0], event.symbol)
        former_ns = self._valuation.first_open_ns(instrument)
        self._account(key, event).symbols.add(event.symbol)
        change.assets |= self._valuation.put(key, holding)
        change.positions.add((key, event.symbol))
        change.symbols.add(event.symbol)
        # A missing live mark is a stale part since then.
        change.stale = former_ns != self._valuation.first_open_ns(instrument)

    def _apply_balance(self, key: AccountKey, event: event_pb2.Event, change: Change) -> None:
        money = read_balance(event)
        asset = money.balance.asset
        place = (asset, money.balance.venue_section)
        account = self._account(key, event)
        if account.margin is None and place not in account.balances:
            # The first balances come together, before the first summary; what appears later grew out of nothing.
            self._open(key, account, asset, money.total)
        elif asset not in account.openings:
            account.openings[asset] = ZERO
        account.balances[place] = money
        change.balances.add((key, place))
        change.assets.add(asset)

    def _open(self, key: AccountKey, account: Account, asset: str, total: Decimal) -> None:
        opening = account.openings.get(asset)
        with localcontext(EXACT):
            if opening is None:
                opening = -self._valuation.booked(key, asset)
                for progress in account.progress.values():
                    opening -= progress.books.get(asset, NOTHING).net
            account.openings[asset] = opening + total

    def _apply_status(self, key: AccountKey, status: stream_pb2.StreamStatus, change: Change) -> None:
        change.stale = True
        if status.freshness == stream_pb2.FRESHNESS_FRESH:
            self._links.pop(key, None)
        else:
            self._links[key] = _Stale(status.since.ToNanoseconds(), status.cause)

    @property
    def waits(self) -> bool:
        """Whether any account is said to wait for missing events."""
        return bool(self._gaps)

    def set_gap(self, key: AccountKey, gap: Gap | None) -> Change:
        """Say whether the account waits for missing events."""
        if not self.scope.has_account(*key):
            return Change()
        old = self._gaps.pop(key, None)
        if gap is not None:
            self._gaps[key] = _Stale(gap.since_ns, f"waiting for {gap} of {gap.epoch}")
        return Change(stale=old != self._gaps.get(key))

    def add_loss(self, key: AccountKey, since_ns: int, cause: str) -> Change:
        """Say that an event of the account could not be folded; the first one is kept, for good."""
        if not self.scope.has_account(*key) or key in self._losses:
            return Change()
        self._losses[key] = _Stale(since_ns, cause)
        return Change(stale=True)

    def set_log_away(self, since_ns: int | None, cause: str = "") -> Change:
        """Say whether the log itself cannot be followed now."""
        old, self._log = self._log, None if since_ns is None else _Stale(since_ns, cause)
        return Change(stale=old != self._log)

    def set_marks(self, marks: Mapping[Instrument, Mark | None]) -> Change:
        """Set or forget live marks."""
        change = Change()
        for instrument, mark in marks.items():
            old = self._valuation.marks.get(instrument)
            if old == mark:
                continue
            for key, holding in self._valuation.set_mark(instrument, mark):
                change.accounts.add(key)
                change.positions.add((key, holding.position.symbol))
                change.symbols.add(holding.position.symbol)
                change.assets.add(holding.position.settle_asset)
            was_fresh = old is not None and old.stale_since_ns is None
            is_fresh = mark is not None and mark.stale_since_ns is None
            if instrument in self._valuation.open_instruments and not (was_fresh and is_fresh):
                change.stale = True
        return change

    # --- snapshots ---

    def save(self) -> dict[AccountKey, portfolio_state_pb2.AccountState]:
        """Every account's state; what lies over the log is not part of it."""
        states = {}
        for key, account in self._accounts.items():
            state = states[key] = account.save()
            for symbol in sorted(account.symbols):
                state.positions.add(
                    event=self._valuation.holding(key, symbol).event,
                    open_since_unix_nanos=self._valuation.open_since_ns(key, symbol) or 0,
                )
        for name, parts in self._health():
            for key, stale in parts.items():
                saved = getattr(states.setdefault(key, portfolio_state_pb2.AccountState()), name)
                saved.since_unix_nanos, saved.cause = stale.since_ns, stale.cause
        return states

    def load(self, states: Mapping[AccountKey, portfolio_state_pb2.AccountState]) -> None:
        """Take what was saved; only before anything else.

        Raises:
            BadEvent: what was saved is not what a fold takes.
        """
        for key, state in states.items():
            for name, parts in self._health():
                if state.HasField(name):  # type: ignore[arg-type]  # a name of the message's
                    stale = getattr(state, name)
                    parts[key] = _Stale(stale.since_unix_nanos, stale.cause)
            if not state.symbols:
                continue
            account = self._accounts[key] = Account.load(state)
            for held in state.positions:
                account.symbols.add(held.event.symbol)
                self._valuation.put(key, read_position(held.event), open_since_ns=held.open_since_unix_nanos or None)
            self._assets.update(*(progress.assets for progress in account.progress.values()))
        self._add_up_books()

    def _health(self) -> tuple[tuple[str, dict[AccountKey, _Stale]], ...]:
        return (("link", self._links), ("gap", self._gaps), ("loss", self._losses))

    def _add_up_books(self) -> None:
        self._books = add_up(
            progress.books for account in self._accounts.values() for progress in account.progress.values()
        )

    # --- what it says ---

    @property
    def open_instruments(self) -> frozenset[Instrument]:
        """Instruments whose mark matters."""
        return frozenset(self._valuation.open_instruments)

    def link_state(self) -> stream_pb2.LinkState.ValueType:
        """Worst state of the venue links behind the portfolio."""
        if self._log is not None or self._links:
            return stream_pb2.LINK_STATE_DOWN
        return stream_pb2.LINK_STATE_DEGRADED if self._gaps else stream_pb2.LINK_STATE_LIVE

    def message(self) -> portfolio_pb2.Portfolio:
        """Everything; equal states give equal bytes."""
        whole = portfolio_pb2.Portfolio(
            accounts=[self._account_message(key) for key in sorted(self._accounts)],
            net_positions=[self._valuation.net_position(symbol) for symbol in sorted(self._valuation.symbols)],
            totals=[self.totals(asset) for asset in sorted(self._assets)],
            stale_parts=self.stale_parts(),
            position=stream_pb2.StreamPosition(epoch=self.epoch, sequence=self.sequence),
        )
        if self.time_ns:
            whole.as_of_time.FromNanoseconds(self.time_ns)
        return whole

    def delta(self, change: Change, event: event_pb2.Event | None = None) -> portfolio_service_pb2.PortfolioDelta:
        """The entries named by `change`, as they are now."""
        delta = portfolio_service_pb2.PortfolioDelta(
            event=event,
            accounts=[self._changed_account(key, change) for key in sorted(change.accounts)],
            net_positions=[self._valuation.net_position(symbol) for symbol in sorted(change.symbols)],
            totals=[self.totals(asset) for asset in sorted(change.assets)],
        )
        if change.stale:
            delta.stale_parts_changed = True
            delta.stale_parts.extend(self.stale_parts())
        return delta

    def refresh(self) -> portfolio_service_pb2.PortfolioDelta:
        """Every entry that marks, totals or staleness go into: what ends a catch-up from events alone."""
        return self.delta(
            Change(
                accounts=set(self._accounts),
                positions={(key, symbol) for key, account in self._accounts.items() for symbol in account.symbols},
                symbols=set(self._valuation.symbols),
                assets=set(self._assets),
                stale=True,
            )
        )

    def fill_count(self, key: AccountKey) -> int:
        """Fills folded in of one account."""
        account = self._accounts.get(key)
        return 0 if account is None else account.fills

    def restatement_count(self, key: AccountKey) -> int:
        """Events folded in by which reconciliation restated something of one account."""
        account = self._accounts.get(key)
        return 0 if account is None else account.restatements

    def holdings(self) -> list[tuple[AccountKey, Holding]]:
        """Every position as its gateway last told it."""
        return [(key, holding) for key, holding, _ in self._valuation.holdings()]

    def position_events(self) -> list[event_pb2.Event]:
        """The last position event of every position, by venue, account and symbol."""
        events = [holding.event for _, holding, _ in self._valuation.holdings()]
        return sorted(events, key=lambda event: (event.venue, event.account_id, event.symbol))

    def totals(self, asset: str) -> portfolio_pb2.PortfolioTotals:
        """Totals of one asset."""
        return totals(asset, self._accounts, self._valuation, self._books.get(asset, NOTHING), self.scope)

    def losses(self, scope: Scope) -> list[str]:
        """Accounts of `scope` of which an event could not be folded, with the first cause."""
        return [
            f"{key[0]}/{key[1]}: {self._losses[key].cause}" for key in sorted(self._losses) if scope.has_account(*key)
        ]

    def stale_parts(self) -> list[portfolio_pb2.StalePart]:
        """What is not current, by part."""
        parts: dict[str, _Stale] = {}
        for (venue, account_id), stale in self._links.items():
            parts[f"{venue}/{account_id}"] = stale
        for (venue, account_id), stale in self._gaps.items():
            parts[f"{venue}/{account_id} events"] = stale
        for (venue, account_id), stale in self._losses.items():
            parts[f"{venue}/{account_id} lost events"] = stale
        for mark in self._valuation.stale_marks():
            parts[f"mark {mark.instrument[0]} {mark.instrument[1]}"] = _Stale(mark.since_ns, mark.cause)
        if self._log is not None:
            parts[LOG_PART] = self._log
        return [
            portfolio_pb2.StalePart(part=part, since=_timestamp(stale.since_ns), cause=stale.cause)
            for part, stale in sorted(parts.items())
        ]

    def exposures(self, *, by_venue: bool) -> list[portfolio_pb2.Exposure]:
        """Exposure by base asset or venue, largest first."""
        return exposures(self._valuation, by_venue=by_venue)

    def narrowed(self, scope: Scope) -> Portfolio:
        """A portfolio of `scope` in the same state as if it had been fed from the beginning."""
        twin = Portfolio(self.epoch, scope)
        twin.advance(self.sequence, self.time_ns)
        twin._log = self._log
        for (_, stale), (_, copied) in zip(self._health(), twin._health(), strict=True):
            copied.update({key: value for key, value in stale.items() if scope.has_account(*key)})
        for key, account in self._accounts.items():
            progress = {symbol: value for symbol, value in account.progress.items() if scope.has_symbol(symbol)}
            if progress and scope.has_account(*key):
                twin._accounts[key] = account.narrowed(scope, progress)
                twin._assets.update(*(value.assets for value in progress.values()))
        twin._add_up_books()
        twin._valuation.marks.update(self._valuation.marks)
        for key, holding, _ in self._valuation.holdings():
            if scope.has(holding.event):
                since_ns = self._valuation.open_since_ns(key, holding.position.symbol)
                twin._valuation.put(key, holding, open_since_ns=since_ns)
        return twin

    def _account_message(self, key: AccountKey) -> portfolio_pb2.PortfolioAccount:
        account = self._accounts[key]
        message = account.header(*key)
        message.balances.extend(account.balances[place].balance for place in sorted(account.balances))
        message.positions.extend(self._valuation.position(key, symbol) for symbol in sorted(account.symbols))
        message.orders.extend(account.orders[order_id] for order_id in sorted(account.orders))
        if account.margin is not None:
            message.summary.CopyFrom(account.margin.summary)
        return message

    def _changed_account(self, key: AccountKey, change: Change) -> portfolio_pb2.PortfolioAccount:
        account = self._accounts[key]
        message = account.header(*key)
        message.balances.extend(account.balances[place].balance for of, place in sorted(change.balances) if of == key)
        message.positions.extend(
            self._valuation.position(key, symbol) for of, symbol in sorted(change.positions) if of == key
        )
        message.orders.extend(order for (of, _), order in sorted(change.orders.items(), key=_first) if of == key)
        if key in change.summaries and account.margin is not None:
            message.summary.CopyFrom(account.margin.summary)
        return message


def _first(item: tuple[tuple[AccountKey, str], order_pb2.Order]) -> tuple[AccountKey, str]:
    return item[0]


def _timestamp(nanos: int) -> Timestamp:
    stamp = Timestamp()
    stamp.FromNanoseconds(nanos)
    return stamp


__all__ = ["BadEvent", "Change", "Portfolio"]
