"""What an account's log folds to: all that a gateway knows of the account when it starts. Pure."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from decimal import Decimal

from venuemesh.gateway.positions import PositionState, makes_position
from venuemesh.gateway.seen import REMEMBERED, Seen
from venuemesh.v1 import account_pb2, event_pb2, order_pb2, reconciliation_pb2
from venuemesh.v1.gateway_state_pb2 import GatewayAccountState, OrderEvidence, ToldBalance

FORMAT = 1
"""Version of the fold. Raise it with every change of what the same events fold to, or of how the state is kept."""
MAX_EVIDENCE = 20
PIECE_BYTES = 32 * 1024

BalanceKey = tuple[str, str]


class AccountFold:
    """Takes stored events in their order, or pieces of a state that was saved and then the events behind it.

    Bounds: the `retained` terminal orders that changed last, with their fills; `remembered` rows of the venue of each
    kind. As an account keeps them.
    """

    def __init__(self, *, retained: int = 10_000, remembered: int = REMEMBERED) -> None:
        self._retained = retained
        # Kept as bytes: a message would keep the whole event alive that it came in.
        self._orders: dict[str, bytes] = {}
        self._fills: dict[str, bytearray] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._evidence: dict[str, deque[reconciliation_pb2.Evidence]] = {}
        self._unfolded: dict[str, list[order_pb2.Fill]] = {}
        self._funding: dict[str, list[account_pb2.LedgerEntry]] = {}
        self.sequence = 0
        """Number of the last event; 0 when none was ever stored."""
        self.last_event_id = ""
        self.history_from_ns = 0
        """When the account became the mesh's: its first event."""
        self.fills = Seen(capacity=remembered, from_ns=0)
        self.ledger = Seen(capacity=remembered, from_ns=0)
        self.positions: dict[str, account_pb2.Position] = {}
        self.balances: dict[BalanceKey, account_pb2.Balance] = {}
        self.told_after_move: dict[BalanceKey, int] = {}
        """How many money moves were known when each balance was told."""
        self.money_moves = 0
        self.summary: account_pb2.AccountSummary | None = None

    # events

    def take(self, event: event_pb2.Event) -> None:
        """Fold the next event in."""
        if not self.sequence:
            self.history_from_ns = event.received_time.ToNanoseconds()
            self.fills.from_ns = self.ledger.from_ns = self.history_from_ns
        self.sequence, self.last_event_id = event.sequence, event.event_id
        match event.WhichOneof("payload"):
            case "execution_report":
                self._take_report(event)
            case "position":
                self._take_position(event)
            case "balance":
                self._take_balance(event.balance, self.money_moves)
            case "account_summary":
                self.summary = event.account_summary
            case "ledger_entry":
                self._take_ledger_entry(event.ledger_entry)
            case "stream_status":
                for seen in (self.fills, self.ledger):
                    seen.follow(event.stream_status.freshness)
            case _:
                pass

    def _take_report(self, event: event_pb2.Event) -> None:
        report = event.execution_report
        if report.HasField("fill"):
            self.fills.add(report.fill.execution_id, report.fill.venue_time.ToNanoseconds())
            self.money_moves += 1
            if makes_position(event.symbol):
                self._unfolded.setdefault(event.symbol, []).append(report.fill)
        if not report.HasField("order"):
            return
        self._take_order(report.order)
        if report.HasField("fill"):
            self._take_order_fill(report.order.order_id, report.fill)
        if not report.order.uncertain:
            self._evidence.pop(report.order.order_id, None)
        elif (evidence := evidence_of(event)) is not None:
            self._take_evidence(report.order.order_id, evidence)

    def _take_order(self, order: order_pb2.Order) -> None:
        self._orders.pop(order.order_id, None)
        self._orders[order.order_id] = GatewayAccountState(orders=[order]).SerializeToString()
        self._ended.pop(order.order_id, None)
        if order.terminal:
            self._ended[order.order_id] = None
        while len(self._ended) > self._retained:
            oldest, _ = self._ended.popitem(last=False)
            del self._orders[oldest]
            self._fills.pop(oldest, None)

    def _take_order_fill(self, order_id: str, fill: order_pb2.Fill) -> None:
        # Messages written one behind the other are read as one with all their elements.
        encoded = GatewayAccountState(order_fills=[fill]).SerializeToString()
        self._fills.setdefault(order_id, bytearray()).extend(encoded)

    def _take_evidence(self, order_id: str, evidence: reconciliation_pb2.Evidence) -> None:
        self._evidence.setdefault(order_id, deque(maxlen=MAX_EVIDENCE)).append(evidence)

    def _take_position(self, event: event_pb2.Event) -> None:
        """Every fill and funding of the symbol before it is in it."""
        self._unfolded.pop(event.symbol, None)
        self._funding.pop(event.symbol, None)
        self.positions[event.symbol] = event.position

    def _take_balance(self, balance: account_pb2.Balance, after_move: int) -> None:
        key = (balance.venue_section, balance.asset)
        self.balances[key] = balance
        self.told_after_move[key] = after_move

    def _take_ledger_entry(self, entry: account_pb2.LedgerEntry) -> None:
        self.ledger.add(entry.ledger_entry_id, entry.venue_time.ToNanoseconds())
        self.money_moves += 1
        if entry.ledger_entry_type == account_pb2.LEDGER_ENTRY_TYPE_FUNDING and entry.symbol:
            self._funding.setdefault(entry.symbol, []).append(entry)

    # reading

    def orders(self) -> list[tuple[order_pb2.Order, list[order_pb2.Fill]]]:
        """The last state of each order with its fills, least recently changed first."""
        found = []
        for order_id, encoded in self._orders.items():
            kept = GatewayAccountState.FromString(encoded + self._fills.get(order_id, b""))
            found.append((kept.orders[0], list(kept.order_fills)))
        return found

    def evidence(self, order_id: str) -> list[reconciliation_pb2.Evidence]:
        """What was known of an order that is uncertain still, oldest first."""
        return list(self._evidence.get(order_id, ()))

    def unfolded_fills(self) -> list[order_pb2.Fill]:
        """Fills stored without the position event that should have followed."""
        return [fill for fills in self._unfolded.values() for fill in fills]

    def unfolded_funding(self) -> list[account_pb2.LedgerEntry]:
        """Funding stored without the position event that should have followed."""
        return [entry for entries in self._funding.values() for entry in entries]

    # saving

    def pieces(self) -> Iterator[GatewayAccountState]:
        """The state in messages of about `PIECE_BYTES`, or of one element that is larger. Do not fold meanwhile."""
        piece = GatewayAccountState(
            sequence=self.sequence,
            last_event_id=self.last_event_id,
            history_from_unix_nanos=self.history_from_ns,
            money_moves=self.money_moves,
            summary=self.summary,
        )
        size = piece.ByteSize()
        for element in self._elements():
            grown = size + element.ByteSize()
            if grown > PIECE_BYTES:
                yield piece
                piece, grown = GatewayAccountState(), element.ByteSize()
            piece.MergeFrom(element)
            size = grown
        yield piece

    def _elements(self) -> Iterator[GatewayAccountState]:
        """The state in as many messages as it has parts."""
        for order_id, encoded in self._orders.items():
            yield GatewayAccountState.FromString(encoded)
            for fill in GatewayAccountState.FromString(bytes(self._fills.get(order_id, b""))).order_fills:
                yield GatewayAccountState(order_fills=[fill])
            for evidence in self.evidence(order_id):
                yield GatewayAccountState(evidence=[OrderEvidence(order_id=order_id, evidence=evidence)])
        for position in self.positions.values():
            yield GatewayAccountState(positions=[position])
        for key, balance in self.balances.items():
            told = ToldBalance(balance=balance, after_money_moves=self.told_after_move[key])
            yield GatewayAccountState(balances=[told])
        for rows in self.fills.save():
            yield GatewayAccountState(fills=rows)
        for rows in self.ledger.save():
            yield GatewayAccountState(ledger=rows)
        for fill in self.unfolded_fills():
            yield GatewayAccountState(unfolded_fills=[fill])
        for entry in self.unfolded_funding():
            yield GatewayAccountState(unfolded_funding=[entry])

    def load(self, piece: GatewayAccountState) -> None:
        """Take the next piece of a saved state. Begin with an empty fold."""
        if piece.sequence:
            self.sequence, self.last_event_id = piece.sequence, piece.last_event_id
            self.history_from_ns, self.money_moves = piece.history_from_unix_nanos, piece.money_moves
            self.summary = piece.summary if piece.HasField("summary") else None
        for order in piece.orders:
            self._take_order(order)
        for fill in piece.order_fills:
            self._take_order_fill(fill.order_id, fill)
        for found in piece.evidence:
            self._take_evidence(found.order_id, found.evidence)
        for position in piece.positions:
            self.positions[position.symbol] = position
        for told in piece.balances:
            self._take_balance(told.balance, told.after_money_moves)
        self.fills.load(piece.fills)
        self.ledger.load(piece.ledger)
        for fill in piece.unfolded_fills:
            self._unfolded.setdefault(fill.symbol, []).append(fill)
        for entry in piece.unfolded_funding:
            self._funding.setdefault(entry.symbol, []).append(entry)


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
