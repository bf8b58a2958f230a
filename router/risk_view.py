"""One account's stream into the ledger: snapshot, then events, each once. Pure."""

from __future__ import annotations

import logging
from collections.abc import Callable
from decimal import Decimal

from router.risk import margin_of
from router.risk_ledger import ZERO, AccountKey, Claim, Ledger, OrderKey, Place
from router.risk_reservations import Reservations
from venuemesh.errors import InvalidRequest
from venuemesh.money import EXACT, parse_decimal
from venuemesh.v1 import account_pb2, account_service_pb2, event_pb2, order_pb2, stream_pb2

log = logging.getLogger(__name__)

Released = Callable[[OrderKey, stream_pb2.StreamPosition], None]


class BadView(Exception):
    """The stream said something that cannot be folded, or a message is missing: read the account anew."""


class AccountFold:
    """Keeps one account in the ledger.

    Args:
        leverage_of: highest leverage of a symbol; None on spot.
        released: called with a reservation of this process or another that the stream has made needless.
    """

    def __init__(
        self,
        account: AccountKey,
        ledger: Ledger,
        book: Reservations,
        leverage_of: Callable[[str], Decimal | None],
        released: Released,
    ) -> None:
        self.account = account
        self.position: stream_pb2.StreamPosition | None = None
        """Where the view stands; None before the first snapshot."""
        self.leverages: dict[str, Decimal] = {}
        self.versions: dict[OrderKey, int] = {}
        """Version of each open order."""
        self.on_order: list[Callable[[OrderKey, order_pb2.Order], None]] = []
        self._ledger = ledger
        self._book = book
        self._leverage_of = leverage_of
        self._released = released
        self._gateway_stale = ""

    def apply(self, message: account_service_pb2.StreamAccountEventsResponse) -> None:
        """Take the next message of the stream.

        Raises:
            BadView: it cannot be trusted any more.
        """
        body = message.WhichOneof("body")
        header = message.header
        known = self.position
        try:
            match body:
                case "snapshot":
                    self._take_snapshot(message.snapshot, header)
                case "event":
                    if known is None or header.epoch != known.epoch:
                        raise BadView("an event before a snapshot")
                    if header.sequence <= known.sequence:
                        return
                    if header.previous_sequence and header.previous_sequence > known.sequence:
                        raise BadView(f"events {known.sequence + 1} to {header.previous_sequence} are missing")
                    position = stream_pb2.StreamPosition(epoch=header.epoch, sequence=header.sequence)
                    self._take_event(message.event, position)
                    self.position = position
                    self._book.advance(self.account, position.epoch, position.sequence)
                case "status":
                    self._take_status(message.status)
                case "acknowledgement":
                    if message.acknowledgement.resume_outcome == stream_pb2.RESUME_OUTCOME_RESUMED:
                        self._settle_freshness()
        except InvalidRequest as error:
            raise BadView(error.message) from error

    def lost(self, cause: str) -> None:
        """The stream is gone; what was seen stays, and is no longer current."""
        self._ledger.stale[self.account] = cause

    def _take_status(self, status: stream_pb2.StreamStatus) -> None:
        fresh = status.freshness == stream_pb2.FRESHNESS_FRESH
        self._gateway_stale = "" if fresh else f"its gateway says: {status.cause}"
        self._settle_freshness()

    def _settle_freshness(self) -> None:
        if self.position is None:
            return
        if self._gateway_stale:
            self._ledger.stale[self.account] = self._gateway_stale
        else:
            self._ledger.stale.pop(self.account, None)

    def _take_snapshot(self, snapshot: account_service_pb2.AccountSnapshot, header: stream_pb2.StreamHeader) -> None:
        position = stream_pb2.StreamPosition(epoch=header.epoch, sequence=header.sequence)
        places = {self._place(row.symbol): _number(row.quantity, "position.quantity") for row in snapshot.positions}
        for row in snapshot.positions:
            self._note_leverage(row)
        claims = [(self._key(order), self._claim(order)) for order in snapshot.orders]
        for place in self._ledger.positions_of(self.account):
            if place not in places:
                self._ledger.set_position(place, ZERO)
        for place, quantity in places.items():
            self._ledger.set_position(place, quantity)
        self._take_summary(snapshot.account.summary)
        for key in self._book.replace_account(self.account, claims):
            self._released(key, position)
        self.versions = {self._key(order): order.order_version for order in snapshot.orders}
        self.position = position
        self._book.advance(self.account, position.epoch, position.sequence)
        self._ledger.rebuilt.add(self.account)
        # A stale account says so right behind its snapshot.
        self._gateway_stale = ""
        self._settle_freshness()

    def _take_event(self, event: event_pb2.Event, position: stream_pb2.StreamPosition) -> None:
        match event.WhichOneof("payload"):
            case "execution_report":
                self._take_report(event.execution_report, position)
            case "position":
                self._note_leverage(event.position)
                place = self._place(event.position.symbol)
                self._ledger.set_position(place, _number(event.position.quantity, "position.quantity"))
            case "account_summary":
                self._take_summary(event.account_summary)
            case "stream_status":
                self._take_status(event.stream_status)

    def _take_report(self, report: order_pb2.ExecutionReport, position: stream_pb2.StreamPosition) -> None:
        # Before the claim shrinks: between the two nobody looks, and the event of the position comes only later.
        if report.HasField("fill"):
            self._take_fill(report.fill)
        if not report.HasField("order"):
            return
        order = report.order
        key = self._key(order)
        if order.terminal:
            self.versions.pop(key, None)
        else:
            self.versions[key] = order.order_version
        if self._book.show(key, None if order.terminal else self._claim(order)):
            self._released(key, position)
        for listener in self.on_order:
            listener(key, order)

    def _take_fill(self, fill: order_pb2.Fill) -> None:
        quantity, price = _number(fill.quantity, "fill.quantity"), _number(fill.price, "fill.price")
        is_buy = fill.side == order_pb2.SIDE_BUY
        if ":" in fill.symbol:
            place = self._place(fill.symbol)
            combine = EXACT.add if is_buy else EXACT.subtract
            self._ledger.set_position(place, combine(self._ledger.position(place), quantity))
        free = self._ledger.free_margin.get(self.account)
        if free is not None:
            # Until the venue's next word on the margin: a fill that opened something has taken at least this.
            taken = margin_of(is_buy, quantity, price, self._leverage(fill.symbol), None)
            self._ledger.free_margin[self.account] = EXACT.subtract(free, taken)

    def _take_summary(self, summary: account_pb2.AccountSummary) -> None:
        if summary.HasField("margin_available"):
            self._ledger.free_margin[self.account] = _number(summary.margin_available, "margin_available")
        else:
            self._ledger.free_margin.pop(self.account, None)

    def _note_leverage(self, row: account_pb2.Position) -> None:
        if row.HasField("leverage"):
            leverage = _number(row.leverage, "position.leverage")
            if leverage > ZERO:
                self.leverages[row.symbol] = leverage

    def _leverage(self, symbol: str) -> Decimal | None:
        return self.leverages.get(symbol) or self._leverage_of(symbol)

    def leverage(self, symbol: str) -> Decimal | None:
        """What margin of an order in the symbol can be divided by: as the position tells, else the highest."""
        return self._leverage(symbol)

    def _place(self, symbol: str) -> Place:
        return (*self.account, symbol)

    def _key(self, order: order_pb2.Order) -> OrderKey:
        return (*self.account, order.terms.client_order_id)

    def _claim(self, order: order_pb2.Order) -> Claim:
        terms = order.terms
        quantity = _number(order.leaves_quantity, "order.leaves_quantity")
        is_buy = terms.side == order_pb2.SIDE_BUY
        reduce_only = order_pb2.EXECUTION_INSTRUCTION_REDUCE_ONLY in terms.instructions
        price = _number(terms.price, "order.price") if terms.HasField("price") else None
        mark = self._ledger.marks.get((self.account[0], terms.symbol))
        margin = ZERO if reduce_only else margin_of(is_buy, quantity, price, self._leverage(terms.symbol), mark)
        return Claim(
            place=self._place(terms.symbol), is_buy=is_buy, quantity=quantity, margin=margin, reduce_only=reduce_only
        )


def _number(text: str, field: str) -> Decimal:
    return parse_decimal(text, field=field)
