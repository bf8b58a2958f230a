"""Orders, limits and account streams as tests of risk say them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from router.risk import RiskOrder
from router.risk_ledger import Ledger, Limit
from venuemesh.risk_scope import Scope
from venuemesh.v1 import account_pb2, account_service_pb2, event_pb2, order_pb2, stream_pb2

VENUE, ACCOUNT, SYMBOL = "one", "main", "BTC/USDC:USDC"
PLACE = (VENUE, ACCOUNT, SYMBOL)
HERE = (VENUE, ACCOUNT)
EPOCH = "e1"


def limit(limit_type: int, bound: str, **scope: str) -> Limit:
    """A limit."""
    return Limit(scope=Scope(**scope), limit_type=limit_type, bound=Decimal(bound))


def order(key: str = "k", quantity: str = "1", **changes: Any) -> RiskOrder:
    """A buy of one at 100."""
    fields: dict[str, Any] = {
        "venue": VENUE,
        "account_id": ACCOUNT,
        "symbol": SYMBOL,
        "client_order_id": key,
        "is_buy": True,
        "quantity": Decimal(quantity),
        "price": Decimal(100),
        "leverage": Decimal(10),
    }
    return RiskOrder(**(fields | changes))


def ledger(*limits: Limit, mark: str | None = "100", free: str | None = "1000") -> Ledger:
    """A ledger whose one account is read and current."""
    made = Ledger()
    made.rebuilt.add(HERE)
    if free is not None:
        made.free_margin[HERE] = Decimal(free)
    if mark is not None:
        made.set_mark(VENUE, SYMBOL, Decimal(mark))
    made.set_limits(limits)
    return made


def order_message(key: str, quantity: str = "1", *, filled: str = "0", terminal: bool = False, **terms: Any) -> Any:
    """An order as a gateway tells it."""
    fields: dict[str, Any] = {
        "account_id": ACCOUNT,
        "client_order_id": key,
        "venue": VENUE,
        "symbol": SYMBOL,
        "side": order_pb2.SIDE_BUY,
        "quantity": quantity,
        "price": "100",
    }
    leaves = "0" if terminal else format(Decimal(quantity) - Decimal(filled), "f")
    return order_pb2.Order(
        order_id=f"o-{key}",
        terms=order_pb2.NewOrder(**(fields | terms)),
        terminal=terminal,
        filled_quantity=filled,
        leaves_quantity=leaves,
        order_version=1,
    )


def fill_message(quantity: str, *, buy: bool = True) -> order_pb2.Fill:
    """A fill at 100."""
    side = order_pb2.SIDE_BUY if buy else order_pb2.SIDE_SELL
    return order_pb2.Fill(symbol=SYMBOL, side=side, quantity=quantity, price="100")


def snapshot(sequence: int, *, orders: Any = (), positions: Any = (), free: str | None = "1000") -> Any:
    """The first state of a stream."""
    summary = account_pb2.AccountSummary(asset="USDC", margin_available=free)
    return account_service_pb2.StreamAccountEventsResponse(
        header=stream_pb2.StreamHeader(epoch=EPOCH, sequence=sequence),
        snapshot=account_service_pb2.AccountSnapshot(
            account=account_pb2.Account(account_id=ACCOUNT, venue=VENUE, summary=summary),
            orders=orders,
            positions=positions,
        ),
    )


def event(sequence: int, *, previous: int | None = None, **payload: Any) -> Any:
    """One event of the stream."""
    previous = sequence - 1 if previous is None else previous
    return account_service_pb2.StreamAccountEventsResponse(
        header=stream_pb2.StreamHeader(epoch=EPOCH, sequence=sequence, previous_sequence=previous),
        event=event_pb2.Event(venue=VENUE, account_id=ACCOUNT, symbol=SYMBOL, sequence=sequence, **payload),
    )


def report(sequence: int, told: order_pb2.Order | None = None, fill: order_pb2.Fill | None = None) -> Any:
    """A change of an order, or a fill."""
    return event(sequence, execution_report=order_pb2.ExecutionReport(order=told, fill=fill))


def position(quantity: str, symbol: str = SYMBOL) -> account_pb2.Position:
    """A position."""
    return account_pb2.Position(account_id=ACCOUNT, venue=VENUE, symbol=symbol, quantity=quantity)
