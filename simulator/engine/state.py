"""State of the engine: markets, accounts, money, orders by id, what is kept of the past, and events. Pure.

`Engine` adds what orders do to it. Everything kept is bounded: closed orders, history, fills and transfers per
account; house accounts keep nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from simulator.engine.accounts import Account
from simulator.engine.events import (
    BalanceChanged,
    BookChanged,
    Change,
    Event,
    Fill,
    OrderChanged,
    PositionChanged,
    TransferKind,
    Transferred,
)
from simulator.engine.market import Market
from simulator.engine.values import ZERO, Instrument, Order, OrderSnapshot, OrderState, Rules, Side

SPOT_WALLET = "spot"
KEPT_MONEY_EVENTS = 2000
KEPT_FILLS = 10_000


@dataclass(slots=True)
class Records:
    """What is kept of one account's past; bounded."""

    live: dict[int, Order] = field(default_factory=dict)
    closed: deque[int] = field(default_factory=deque)
    history: deque[OrderChanged] = field(default_factory=deque)
    fills: deque[Fill] = field(default_factory=lambda: deque(maxlen=KEPT_FILLS))
    transfers: deque[Event] = field(default_factory=lambda: deque(maxlen=KEPT_MONEY_EVENTS))


class EventReader:
    """Events for one more reader, beside the engine's own `drain`.

    Args:
        wanted: which events it is given; it must read often, as what it does not read is kept.
    """

    def __init__(self, wanted: Callable[[Event], bool]) -> None:
        self._wanted = wanted
        self._events: list[Event] = []
        self._books: dict[str, None] = {}

    def take(self, event: Event) -> None:
        """Keep an event that is wanted; of book changes one per instrument."""
        if not self._wanted(event):
            return
        if isinstance(event, BookChanged):
            self._books[event.instrument] = None
        else:
            self._events.append(event)

    def drain(self) -> list[Event]:
        """Events since the last drain, then one `BookChanged` per touched book."""
        events = [*self._events, *(BookChanged(instrument=key) for key in self._books)]
        self._events, self._books = [], {}
        return events


class EngineState:
    """What an engine knows, and how money comes, goes and is held without trading.

    Args:
        instruments: in a fixed order; keys must differ.
        rules: limits of orders and of what is kept; may be replaced while running.
        first_order_id, first_trade_id: counters start here.
    """

    def __init__(
        self,
        instruments: Iterable[Instrument],
        *,
        rules: Rules | None = None,
        first_order_id: int = 1,
        first_trade_id: int = 1,
    ) -> None:
        self.rules = rules or Rules()
        self.markets: dict[str, Market] = {
            item.key: Market(instrument=item, oracle=item.start_price, mark=item.start_price, last=item.start_price)
            for item in instruments
        }
        self.accounts: dict[str, Account] = {}
        self.fees: dict[str, Decimal] = {}  # token -> collected; perpetual fees under the pool's quote
        self._records: dict[str, Records] = {}
        self._orders: dict[int, Order] = {}
        self._newest: Order | None = None
        self._by_client_id: dict[tuple[str, str], int] = {}
        self._next_order_id = first_order_id
        self._next_trade_id = first_trade_id
        self._sequence = 0
        self._events: list[Event] = []
        self._touched_books: dict[str, None] = {}
        self._readers: list[EventReader] = []
        self.liquidating: str | None = None
        self.post_only_until: dict[str, int] = {}  # pool -> time before which only post-only orders are taken

    # -- reading ---------------------------------------------------------------------------------------------

    def drain(self) -> list[Event]:
        """Events since the last drain, then one `BookChanged` per touched book."""
        events = [*self._events, *(BookChanged(instrument=key) for key in self._touched_books)]
        self._events = []
        self._touched_books = {}
        return events

    def reader(self, wanted: Callable[[Event], bool]) -> EventReader:
        """A further reader of events, from now on; `drain` is not affected."""
        found = EventReader(wanted)
        self._readers.append(found)
        return found

    def list_instruments(self, instruments: Iterable[Instrument]) -> None:
        """Open markets beside those of the start: another front's products on the same engine.

        Raises:
            ValueError: a key is taken.
        """
        for item in instruments:
            if item.key in self.markets:
                raise ValueError(f"instrument {item.key} exists")
            self.markets[item.key] = Market(
                instrument=item, oracle=item.start_price, mark=item.start_price, last=item.start_price
            )

    def account(self, name: str) -> Account | None:
        """An account that has ever held money, else None."""
        return self.accounts.get(name)

    def order(self, order_id: int) -> Order | None:
        """A live or recently closed order."""
        return self._orders.get(order_id)

    def known_order(self, order_id: int) -> Order:
        """A live or recently closed order.

        Raises:
            KeyError: the engine does not know it, or no longer.
        """
        return self._orders[order_id]

    def find_client_id(self, account: str, client_id: str) -> Order | None:
        """The account's latest order with this client id, while it is retained."""
        order_id = self._by_client_id.get((account, client_id))
        return None if order_id is None else self._orders.get(order_id)

    def live_orders(self, account: str) -> list[Order]:
        """Resting orders and waiting triggers of an account, oldest first."""
        return list(self._record(account).live.values())

    def all_orders(self, account: str) -> list[OrderSnapshot]:
        """Live and retained closed orders of an account, oldest first."""
        record = self._record(account)
        ids = sorted([*record.live, *record.closed])
        return [self._orders[order_id].snapshot() for order_id in ids if order_id in self._orders]

    def resting_orders(self, account: str, pool: str) -> Iterator[Order]:
        """Orders of an account that rest in the books of one margin pool, or of all pools when unified."""
        owner = self.accounts.get(account)
        unified = owner is not None and bool(owner.unified)
        for order in self._record(account).live.values():
            instrument = self.markets[order.instrument].instrument
            if order.state is OrderState.OPEN and instrument.perpetual and (unified or instrument.pool == pool):
                yield order

    def history(self, account: str) -> Sequence[OrderChanged]:
        """Past order changes of an account, oldest first, bounded."""
        return self._record(account).history

    def fills(self, account: str) -> Sequence[Fill]:
        """Past fills of an account, oldest first, bounded."""
        return self._record(account).fills

    def money_events(self, account: str) -> Sequence[Event]:
        """Past transfers, fundings and liquidations of an account, oldest first, bounded."""
        return self._record(account).transfers

    def _record(self, account: str) -> Records:
        found = self._records.get(account)
        if found is None:
            found = Records()
            if account in self.accounts:
                self._records[account] = found
        return found

    def only_post_only(self, instrument: Instrument, now_ms: int) -> bool:
        """Whether an instrument takes post-only orders alone for now."""
        return now_ms < self.post_only_until.get(instrument.pool, 0)

    # -- accounts and money ----------------------------------------------------------------------------------

    def open_account(self, name: str, *, house: bool = False) -> Account:
        """Create the account, or give the one that exists."""
        found = self.accounts.get(name)
        if found is None:
            found = self.accounts[name] = Account(name=name, house=house)
        return found

    def adjust(self, account: str, wallet: str, token: str, amount: Decimal, now_ms: int) -> None:
        """Add `amount` (may be negative) to a pool's cash or, for `SPOT_WALLET`, to a token balance."""
        owner = self.open_account(account)
        if wallet == SPOT_WALLET:
            owner.balance(token).total += amount
            self.emit(BalanceChanged(account=account, pool=None, token=token, time_ms=now_ms))
        else:
            owner.ledger(wallet).cash += amount
            self.emit(BalanceChanged(account=account, pool=wallet, token=token, time_ms=now_ms))

    def deposit(self, account: str, wallet: str, token: str, amount: Decimal, now_ms: int) -> None:
        """Bring money in from outside."""
        self.adjust(account, wallet, token, amount, now_ms)
        self._transferred(TransferKind.DEPOSIT, account, account, "", wallet, token, amount, now_ms)

    def withdraw(self, account: str, wallet: str, token: str, amount: Decimal, now_ms: int) -> None:
        """Take money out; the caller has checked that it is free."""
        self.adjust(account, wallet, token, -amount, now_ms)
        self._transferred(TransferKind.WITHDRAWAL, account, account, wallet, "", token, amount, now_ms)

    def transfer(
        self,
        account: str,
        source: str,
        to_account: str,
        destination: str,
        token: str,
        amount: Decimal,
        now_ms: int,
        *,
        label: str = "",
        fee: Decimal = ZERO,
    ) -> None:
        """Move money between wallets or accounts; the caller has checked that amount and fee are free."""
        self.adjust(account, source, token, -amount - fee, now_ms)
        if fee:
            self.fees[token] = self.fees.get(token, ZERO) + fee
        self.adjust(to_account, destination, token, amount, now_ms)
        kind = TransferKind.BETWEEN_POOLS if account == to_account else TransferKind.BETWEEN_ACCOUNTS
        self._transferred(kind, account, to_account, source, destination, token, amount, now_ms, label=label, fee=fee)

    def _hold(self, order: Order, quantity: Decimal) -> None:
        """Lock (or, negative, free) what a resting spot order needs."""
        instrument = self.markets[order.instrument].instrument
        if instrument.perpetual:
            return
        owner = self.accounts[order.account]
        if order.side is Side.BUY:
            owner.balance(instrument.quote).hold += quantity * order.price
        else:
            owner.balance(instrument.base).hold += quantity

    def release(self, order: Order, quantity: Decimal) -> None:
        """Free the hold of a resting spot order for `quantity` of it."""
        if order.order_id in self._record(order.account).live and order.state is OrderState.OPEN:
            self._hold(order, -quantity)

    def _transferred(
        self,
        kind: TransferKind,
        account: str,
        counterparty: str,
        source: str,
        destination: str,
        token: str,
        amount: Decimal,
        now_ms: int,
        *,
        label: str = "",
        fee: Decimal = ZERO,
    ) -> None:
        self._sequence += 1
        event = Transferred(
            kind=kind,
            account=account,
            counterparty=counterparty,
            source=source,
            destination=destination,
            token=token,
            amount=amount,
            time_ms=now_ms,
            sequence=self._sequence,
            label=label,
            fee=fee,
        )
        self.emit_money(event, account, counterparty)

    def emit_money(self, event: Event, *accounts: str) -> None:
        """Emit `event` and keep it in the accounts' money history."""
        self.emit(event)
        for account in dict.fromkeys(accounts):
            self._record(account).transfers.append(event)

    def emit(self, event: Event) -> None:
        """Append an event."""
        self._events.append(event)
        for reader in self._readers:
            reader.take(event)

    def touch_book(self, key: str) -> None:
        """Remember that a visible book changed."""
        self._touched_books[key] = None
        for reader in self._readers:
            reader.take(BookChanged(instrument=key))

    def next_trade_id(self) -> int:
        """A trade id never given before."""
        self._next_trade_id += 1
        return self._next_trade_id - 1

    def next_order_id(self) -> int:
        """An order id never given before, for what the venue does without an order."""
        self._next_order_id += 1
        return self._next_order_id - 1

    def next_sequence(self) -> int:
        """A number that only grows, for ids of events."""
        self._sequence += 1
        return self._sequence

    # -- keeping ---------------------------------------------------------------------------------------------

    def keep_fill(self, fill: Fill) -> None:
        """Emit a fill and keep it in its account's history."""
        self.emit(fill)
        self._record(fill.account).fills.append(fill)

    def emit_settled(self, account: str, instrument: Instrument, now_ms: int) -> None:
        """Tell the balance and position of an account after something settled in `instrument`."""
        owner = self.accounts[account]
        if not instrument.perpetual:
            for token in (instrument.base, instrument.quote):
                self.emit(BalanceChanged(account=account, pool=None, token=token, time_ms=now_ms))
            return
        position = owner.ledger(instrument.pool).positions[instrument.key]
        self.emit(
            PositionChanged(
                account=account,
                instrument=instrument.key,
                quantity=position.quantity,
                entry_price=position.entry_price,
                time_ms=now_ms,
            )
        )
        self.emit(BalanceChanged(account=account, pool=instrument.pool, token=instrument.quote, time_ms=now_ms))

    def changed(self, order: Order, change: Change, now_ms: int) -> None:
        """Emit and record an order change; house accounts stay silent."""
        if self.accounts[order.account].house:
            return
        event = OrderChanged(change=change, order=order.snapshot(), time_ms=now_ms)
        self.emit(event)
        if change not in (Change.PARTLY_FILLED, Change.SHRUNK):
            history = self._record(order.account).history
            history.append(event)
            while len(history) > self.rules.kept_changes:
                history.popleft()

    def _retire(self, order: Order, record: Records) -> None:
        """Keep the most recent closed orders of an account, forget older ones."""
        if self.accounts[order.account].house:
            self._forget(order.order_id)
            return
        record.closed.append(order.order_id)
        while len(record.closed) > self.rules.kept_closed_orders:
            self._forget(record.closed.popleft())

    def _forget(self, order_id: int) -> None:
        order = self._orders.pop(order_id, None)
        if order is not None and order.request.client_id is not None:
            key = (order.account, order.request.client_id)
            if self._by_client_id.get(key) == order_id:
                del self._by_client_id[key]

    def snapshot(self, order_id: int) -> OrderSnapshot | None:
        """A retained order, frozen."""
        order = self._orders.get(order_id)
        return None if order is None else order.snapshot()

    @property
    def instruments(self) -> Mapping[str, Instrument]:
        """Instruments by key."""
        return {key: market.instrument for key, market in self.markets.items()}
