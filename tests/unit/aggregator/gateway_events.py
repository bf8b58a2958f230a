"""Makes events as a gateway publishes them, and the client's side of a portfolio stream."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from venuemesh.follower import StoredMessage, nanoseconds_of
from venuemesh.money import format_decimal
from venuemesh.subjects import Kind, subject
from venuemesh.v1 import account_pb2, event_pb2, order_pb2, portfolio_pb2, portfolio_service_pb2, stream_pb2

EPOCH = "20261120T000000.000000Z"
START = datetime(2026, 11, 20, tzinfo=UTC)
BTC = "BTC/USDC:USDC"
ETH = "ETH/USDC:USDC"


def text(value: Decimal | int | str) -> str:
    return format_decimal(Decimal(value))


class Gateway:
    """Numbers the events of one account."""

    def __init__(self, venue: str = "hyperliquid", account_id: str = "main") -> None:
        self.venue = venue
        self.account_id = account_id
        self.number = 0

    def event(self, symbol: str = "", **payload: Any) -> event_pb2.Event:
        self.number += 1
        event = event_pb2.Event(
            event_id=f"{self.venue}/{self.account_id}/{self.number}",
            epoch=EPOCH,
            sequence=self.number,
            venue=self.venue,
            account_id=self.account_id,
            symbol=symbol,
            **payload,
        )
        event.published_time.FromDatetime(START + timedelta(seconds=self.number))
        return event

    def balance(self, total: Decimal | int | str, asset: str = "USDC", **fields: Any) -> event_pb2.Event:
        balance = account_pb2.Balance(
            account_id=self.account_id,
            venue=self.venue,
            asset=asset,
            total=text(total),
            available=text(total),
            **fields,
        )
        return self.event(balance=balance)

    def position(
        self,
        symbol: str,
        quantity: Decimal | int | str,
        *,
        cost: Decimal | int | str = 0,
        mark: Decimal | int | str | None = None,
        realized: Decimal | int | str = 0,
        fees: Decimal | int | str = 0,
        funding: Decimal | int | str = 0,
        asset: str = "USDC",
    ) -> event_pb2.Event:
        position = account_pb2.Position(
            account_id=self.account_id,
            venue=self.venue,
            symbol=symbol,
            quantity=text(quantity),
            open_cost=text(cost),
            realized_pnl=text(realized),
            fees_paid=text(fees),
            funding_received=text(funding),
            settle_asset=asset,
        )
        if mark is not None:
            position.mark_price = text(mark)
        return self.event(symbol, position=position)

    def order(
        self, symbol: str, name: str, *, terminal: bool = False, status: int = order_pb2.ORDER_STATUS_NEW
    ) -> event_pb2.Event:
        order = self._order(symbol, name, terminal, status)
        report = order_pb2.ExecutionReport(execution_type=order_pb2.EXECUTION_TYPE_NEW, order=order)
        return self.event(symbol, execution_report=report)

    def _order(self, symbol: str, name: str, terminal: bool, status: int) -> order_pb2.Order:
        terms = order_pb2.NewOrder(
            account_id=self.account_id, venue=self.venue, client_order_id=name, symbol=symbol, quantity="1"
        )
        return order_pb2.Order(
            order_id=f"o-{name}",
            terms=terms,
            terminal=terminal,
            status=status,  # type: ignore[arg-type]
            filled_quantity="0",
            leaves_quantity="1",
        )

    def fill(self, symbol: str, name: str, *, terminal: bool = False) -> event_pb2.Event:
        fill = order_pb2.Fill(
            execution_id=f"x-{name}-{self.number + 1}",
            account_id=self.account_id,
            venue=self.venue,
            symbol=symbol,
            order_id=f"o-{name}",
            side=order_pb2.SIDE_BUY,
            quantity="1",
            price="100",
            fee="0.1",
            fee_asset="USDC",
        )
        report = order_pb2.ExecutionReport(
            execution_type=order_pb2.EXECUTION_TYPE_TRADE,
            order=self._order(symbol, name, terminal, order_pb2.ORDER_STATUS_PARTIALLY_FILLED),
            fill=fill,
        )
        return self.event(symbol, execution_report=report)

    def summary(self, **fields: str) -> event_pb2.Event:
        return self.event(account_summary=account_pb2.AccountSummary(asset="USDC", **fields))

    def freshness(self, *, fresh: bool, cause: str = "venue link down") -> event_pb2.Event:
        status = stream_pb2.StreamStatus(
            subscription=f"{self.venue}/{self.account_id}",
            freshness=stream_pb2.FRESHNESS_FRESH if fresh else stream_pb2.FRESHNESS_STALE,
            cause="" if fresh else cause,
        )
        status.since.FromDatetime(START)
        return self.event(stream_status=status)


KINDS = {
    "execution_report": Kind.ORDER,
    "position": Kind.POSITION,
    "balance": Kind.BALANCE,
    "account_summary": Kind.SUMMARY,
    "ledger_entry": Kind.LEDGER,
    "stream_status": Kind.FRESHNESS,
}


def subject_of(event: event_pb2.Event) -> str:
    kind = KINDS.get(event.WhichOneof("payload") or "", Kind.DISCREPANCY)
    return subject(kind, event.venue, event.account_id, event.symbol)


def stored(event: event_pb2.Event | bytes, sequence: int, *, seconds: float = 0.0, name: str = "") -> StoredMessage:
    """The message as the log keeps it; `seconds` is the broker's time."""
    payload = event if isinstance(event, bytes) else event.SerializeToString()
    if not name:
        assert isinstance(event, event_pb2.Event)
        name = subject_of(event)
    return StoredMessage(
        subject=name,
        payload=payload,
        sequence=sequence,
        time_ns=nanoseconds_of(START + timedelta(seconds=seconds or sequence * 0.001)),
        pending=0,
    )


class PortfolioClient:
    """Folds a StreamPortfolio as its proto comments say, and checks the chain of numbers."""

    def __init__(self) -> None:
        self.portfolio = portfolio_pb2.Portfolio()
        self.epoch = ""
        self.sequence = 0
        self.events: list[str] = []
        self.kinds: list[str] = []

    def take(self, message: portfolio_service_pb2.StreamPortfolioResponse) -> None:
        header = message.header
        assert header.previous_sequence == self.sequence
        assert header.sequence >= self.sequence
        self.epoch, self.sequence = header.epoch, header.sequence
        kind = message.WhichOneof("body") or ""
        self.kinds.append(kind)
        if kind == "snapshot":
            self.portfolio = portfolio_pb2.Portfolio()
            self.portfolio.CopyFrom(message.snapshot)
        elif kind == "delta":
            self._apply(message.delta)

    def _apply(self, delta: portfolio_service_pb2.PortfolioDelta) -> None:
        if delta.HasField("event"):
            self.events.append(delta.event.event_id)
        for account in delta.accounts:
            self._apply_account(account)
        _replace(self.portfolio.net_positions, delta.net_positions, lambda net: net.symbol)
        _replace(self.portfolio.totals, delta.totals, lambda totals: totals.asset)
        if delta.stale_parts_changed:
            del self.portfolio.stale_parts[:]
            self.portfolio.stale_parts.extend(delta.stale_parts)

    def _apply_account(self, new: portfolio_pb2.PortfolioAccount) -> None:
        mine = next(
            (a for a in self.portfolio.accounts if (a.venue, a.account_id) == (new.venue, new.account_id)), None
        )
        if mine is None:
            mine = portfolio_pb2.PortfolioAccount(venue=new.venue, account_id=new.account_id)
            _replace(self.portfolio.accounts, [mine], lambda account: (account.venue, account.account_id))
            mine = next(a for a in self.portfolio.accounts if (a.venue, a.account_id) == (new.venue, new.account_id))
        mine.position.CopyFrom(new.position)
        mine.fill_count, mine.restatement_count = new.fill_count, new.restatement_count
        if new.HasField("summary"):
            mine.summary.CopyFrom(new.summary)
        _replace(mine.balances, new.balances, lambda balance: (balance.asset, balance.venue_section))
        _replace(mine.positions, new.positions, lambda position: position.symbol)
        _replace(mine.orders, new.orders, lambda order: order.order_id)
        working = [order for order in mine.orders if not order.terminal]
        del mine.orders[:]
        mine.orders.extend(working)

    def view(self) -> bytes:
        """The client's copy without what only a reading carries."""
        return comparable(self.portfolio)


def comparable(portfolio: portfolio_pb2.Portfolio) -> bytes:
    """A portfolio's bytes without the place and time of its reading."""
    copied = portfolio_pb2.Portfolio()
    copied.CopyFrom(portfolio)
    copied.ClearField("position")
    copied.ClearField("as_of_time")
    return copied.SerializeToString(deterministic=True)


def _replace(target: Any, entries: Any, key: Any) -> None:
    merged = {key(entry): entry for entry in [*target, *entries]}
    ordered = [type(merged[name]).FromString(merged[name].SerializeToString()) for name in sorted(merged)]
    del target[:]
    target.extend(ordered)
