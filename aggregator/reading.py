"""Events into what the fold keeps: numbers parsed and checked before anything changes. Pure.

A payload kind or enum value this release does not know is no fault. A number that is none, a payload of another account
than its event, or an amount beyond what the contract can carry is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from aggregator.booking import Booked, Movement
from venuemesh.errors import InvalidRequest
from venuemesh.money import EXACT, parse_decimal
from venuemesh.v1 import account_pb2, event_pb2, order_pb2, portfolio_service_pb2

ZERO = Decimal(0)
MAX_AMOUNT = Decimal(10) ** 17
"""Largest amount folded; sums of thousands of them still fit the contract's 38 digits."""
_LONG = len(str(MAX_AMOUNT))
"""Texts shorter than this are below it."""


class BadEvent(Exception):
    """The event cannot be folded; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Which part of the portfolio; empty sets mean all."""

    venues: frozenset[str] = frozenset()
    account_ids: frozenset[str] = frozenset()
    symbols: frozenset[str] = frozenset()

    @classmethod
    def of(cls, wanted: portfolio_service_pb2.PortfolioFilter) -> Scope:
        """The scope a request asks for."""
        return cls(
            venues=frozenset(wanted.venues),
            account_ids=frozenset(wanted.account_ids),
            symbols=frozenset(wanted.symbols),
        )

    def has_account(self, venue: str, account_id: str) -> bool:
        """Whether the account belongs to it."""
        return (not self.venues or venue in self.venues) and (not self.account_ids or account_id in self.account_ids)

    def has_symbol(self, symbol: str) -> bool:
        """Whether the symbol does; what is of no symbol belongs to the account."""
        return not self.symbols or not symbol or symbol in self.symbols

    def has(self, event: event_pb2.Event) -> bool:
        """Whether the event does."""
        return self.has_account(event.venue, event.account_id) and self.has_symbol(event.symbol)


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """A position as its gateway last told it, with its numbers parsed."""

    event: event_pb2.Event
    quantity: Decimal
    open_cost: Decimal | None
    own_mark: Decimal | None
    own_unrealized: Decimal | None
    realized: Decimal
    fees: Decimal
    funding: Decimal
    liquidation: Decimal | None

    @property
    def position(self) -> account_pb2.Position:
        """The message as published."""
        return self.event.position

    def notional(self, mark: Decimal | None) -> Decimal | None:
        """Signed value at `mark`; None without one, zero when flat."""
        if not self.quantity:
            return ZERO
        return None if mark is None else EXACT.multiply(self.quantity, mark)

    def unrealized(self, mark: Decimal | None) -> Decimal | None:
        """Profit if closed at `mark`; what the gateway said where it cannot be computed."""
        if not self.quantity:
            return ZERO
        if mark is None or self.open_cost is None:
            return self.own_unrealized
        return EXACT.subtract(EXACT.multiply(self.quantity, mark), self.open_cost)


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """A balance as its gateway last told it."""

    balance: account_pb2.Balance
    total: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Margin:
    """An account summary as its gateway last told it."""

    summary: account_pb2.AccountSummary
    used: Decimal | None
    available: Decimal | None


def check_event(event: event_pb2.Event) -> None:
    """Refuse an event that cannot be put into its account's order.

    Raises:
        BadEvent: it names no account, epoch or number.
    """
    if not event.venue or not event.account_id:
        raise BadEvent("the event names no venue or no account")
    if not event.epoch or not event.sequence:
        raise BadEvent("the event has no epoch or no number")


def read_position(event: event_pb2.Event) -> Holding:
    """Parse a position event.

    Raises:
        BadEvent: names the field and the rule.
    """
    position = event.position
    _same_account(event, position.venue, position.account_id)
    if not position.symbol or position.symbol != event.symbol:
        raise BadEvent(f"position.symbol: {position.symbol!r} in an event of {event.symbol!r}")
    if not position.settle_asset:
        raise BadEvent("position.settle_asset: is empty")
    quantity = _number(position.quantity, "position.quantity")
    entry = _optional(position, "entry_price", "position")
    if position.open_cost:
        cost: Decimal | None = _number(position.open_cost, "position.open_cost")
    else:
        cost = None if entry is None else EXACT.multiply(quantity, entry)
    holding = Holding(
        event=event,
        quantity=quantity,
        open_cost=cost,
        own_mark=_optional(position, "mark_price", "position"),
        own_unrealized=_optional(position, "unrealized_pnl", "position"),
        realized=_number(position.realized_pnl, "position.realized_pnl"),
        fees=_number(position.fees_paid, "position.fees_paid"),
        funding=_number(position.funding_received, "position.funding_received"),
        liquidation=_optional(position, "liquidation_price", "position"),
    )
    _optional(position, "margin_used", "position")
    _bounded(cost, "position.open_cost")
    _bounded(holding.notional(holding.own_mark), "position.quantity times position.mark_price")
    return holding


def read_balance(event: event_pb2.Event) -> Money:
    """Parse a balance event.

    Raises:
        BadEvent: names the field and the rule.
    """
    balance = event.balance
    _same_account(event, balance.venue, balance.account_id)
    if not balance.asset:
        raise BadEvent("balance.asset: is empty")
    return Money(balance=balance, total=_number(balance.total, "balance.total"))


def read_summary(event: event_pb2.Event) -> Margin:
    """Parse a summary event.

    Raises:
        BadEvent: names the field and the rule.
    """
    summary = event.account_summary
    return Margin(
        summary=summary,
        used=_optional(summary, "margin_used", "account_summary"),
        available=_optional(summary, "margin_available", "account_summary"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade:
    """A fill with its numbers parsed; `quantity` is signed, buys above zero."""

    fill: order_pb2.Fill
    quantity: Decimal
    price: Decimal
    fee: Decimal

    @property
    def value(self) -> Decimal:
        """Signed value, quote units."""
        return EXACT.multiply(self.quantity, self.price)

    def movements(self) -> list[Movement]:
        """Money it moved that its position does not carry: a spot trade's both sides, a fee in another asset."""
        base, _, quote = self.fill.symbol.partition("/")
        quote, _, settle = quote.partition(":")
        moved = []
        if not settle:
            moved += [
                Movement(base, Booked.TRADED, self.quantity),
                Movement(quote, Booked.TRADED, self.value.copy_negate()),
            ]
        if self.fee and self.fill.fee_asset and self.fill.fee_asset != settle:
            moved.append(Movement(self.fill.fee_asset, Booked.FEES, self.fee))
        return moved


def read_report(event: event_pb2.Event) -> Trade | None:
    """Parse an execution report; None when it is no fill.

    Raises:
        BadEvent: names the field and the rule.
    """
    report = event.execution_report
    if report.HasField("order"):
        terms = report.order.terms
        _same_account(event, terms.venue, terms.account_id)
        if not report.order.order_id:
            raise BadEvent("execution_report.order.order_id: is empty")
    if not report.HasField("fill"):
        if report.execution_type == order_pb2.EXECUTION_TYPE_TRADE:
            raise BadEvent("execution_report.fill: a TRADE has none")
        return None
    fill = report.fill
    _same_account(event, fill.venue, fill.account_id)
    quantity = _number(fill.quantity, "execution_report.fill.quantity")
    price = _number(fill.price, "execution_report.fill.price")
    fee = _number(fill.fee, "execution_report.fill.fee")
    signed = quantity if fill.side == order_pb2.SIDE_BUY else quantity.copy_negate()
    trade = Trade(fill=fill, quantity=signed, price=price, fee=fee)
    _bounded(trade.value, "execution_report.fill.quantity times price")
    return trade


def read_ledger(event: event_pb2.Event) -> list[Movement]:
    """Parse a change of money. Funding of a position and costs of a fill are in those already.

    Raises:
        BadEvent: names the field and the rule.
    """
    entry = event.ledger_entry
    _same_account(event, entry.venue, entry.account_id)
    if not entry.asset:
        raise BadEvent("ledger_entry.asset: is empty")
    amount = _number(entry.amount, "ledger_entry.amount")
    match entry.ledger_entry_type:
        case account_pb2.LEDGER_ENTRY_TYPE_REALIZED_PNL:
            return []
        case account_pb2.LEDGER_ENTRY_TYPE_FUNDING:
            return [] if entry.symbol else [Movement(entry.asset, Booked.FUNDING, amount)]
        case account_pb2.LEDGER_ENTRY_TYPE_FEE:
            return [] if entry.execution_id else [Movement(entry.asset, Booked.FEES, amount.copy_negate())]
    return [Movement(entry.asset, Booked.TRANSFERS, amount)]


def is_good(event: event_pb2.Event) -> bool:
    """Whether the fold takes the event."""
    check = _CHECKS.get(event.WhichOneof("payload") or "")
    try:
        if check is not None:
            check(event)
    except BadEvent:
        return False
    return True


def is_fill(event: event_pb2.Event) -> bool:
    """Whether the event counts as a fill."""
    return (
        event.WhichOneof("payload") == "execution_report"
        and event.execution_report.execution_type == order_pb2.EXECUTION_TYPE_TRADE
    )


def is_restatement(event: event_pb2.Event) -> bool:
    """Whether reconciliation set something to the venue's truth."""
    match event.WhichOneof("payload"):
        case "discrepancy":
            return event.discrepancy.restated
        case "position":
            return event.position.change == account_pb2.POSITION_CHANGE_RECONCILE
        case "execution_report":
            return event.execution_report.execution_type == order_pb2.EXECUTION_TYPE_RESTATED
    return False


def _same_account(event: event_pb2.Event, venue: str, account_id: str) -> None:
    if (venue and venue != event.venue) or (account_id and account_id != event.account_id):
        raise BadEvent(f"the payload is of {venue}/{account_id}, the event of {event.venue}/{event.account_id}")


def _number(text: str, path: str) -> Decimal:
    try:
        value = parse_decimal(text, field=path)
    except InvalidRequest as error:
        raise BadEvent(error.message) from None
    if len(text) >= _LONG:
        _bounded(value, path)
    return value


def _optional(message: account_pb2.Position | account_pb2.AccountSummary, name: str, path: str) -> Decimal | None:
    return _number(getattr(message, name), f"{path}.{name}") if message.HasField(name) else None  # type: ignore[arg-type]


def _bounded(value: Decimal | None, path: str) -> None:
    if value is not None and abs(value) > MAX_AMOUNT:
        raise BadEvent(f"{path}: {value} is beyond {MAX_AMOUNT}")


_CHECKS: dict[str, Callable[[event_pb2.Event], object]] = {
    "execution_report": read_report,
    "ledger_entry": read_ledger,
    "position": read_position,
    "balance": read_balance,
    "account_summary": read_summary,
}
