"""Room taken by every router of the mesh, as the reservation log tells it. Pure.

The log is one sequence that all routers read; a router appends only when it has read all before, so each decides on the
same room. A reservation ends when its order certainly never was live, or when the account's stream shows the order,
which then counts by itself: each reader keeps the reservation until its own view has come that far.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from router.risk_ledger import AccountKey, Claim, Ledger, OrderKey
from venuemesh.errors import InvalidRequest
from venuemesh.money import format_decimal, parse_decimal, to_wire
from venuemesh.v1 import order_pb2, risk_pb2, stream_pb2

COMPLETE_EVERY = 1_000
"""Messages after which a writer appends everything outstanding, so that a reader need not begin at the beginning."""


@dataclass(slots=True)
class _Held:
    """A reservation that counts, and the event of its account after which it no longer does."""

    reservation: risk_pb2.RiskReservation
    own: bool = False
    """Made by this router."""
    sent: bool = False
    """An attempt under its key may have reached the gateway."""
    shown_at: stream_pb2.StreamPosition | None = None


def key_of(row: risk_pb2.RiskReservation | risk_pb2.RiskRelease) -> OrderKey:
    """The key of a reservation or a release."""
    return row.venue, row.account_id, row.client_order_id


def decode(payload: bytes) -> risk_pb2.RiskReservationBatch | None:
    """A message of the log; None when it is none."""
    try:
        return risk_pb2.RiskReservationBatch.FromString(payload)
    except DecodeError:
        return None


class Reservations:
    """What is reserved, and what the accounts' streams have shown; keeps the ledger's claims.

    An order that the stream shows open has its own claim, whatever is reserved; a reservation has the claim otherwise.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.seen = 0
        """Stream sequence of the last message taken."""
        self.since_complete = 0
        self.positions: dict[AccountKey, stream_pb2.StreamPosition] = {}
        """How far each account's view has come."""
        self._ledger = ledger
        self._held: dict[OrderKey, _Held] = {}
        self._shown: set[OrderKey] = set()

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, key: OrderKey) -> bool:
        return key in self._held

    def outstanding(self) -> list[risk_pb2.RiskReservation]:
        """Reservations nobody has released, oldest first."""
        return [held.reservation for held in self._held.values() if held.shown_at is None]

    def expired(self, now_ns: int) -> list[risk_pb2.RiskReservation]:
        """Of those, whose senders no longer wait."""
        return [row for row in self.outstanding() if row.expires_unix_nanos <= now_ns]

    # the log

    def apply(self, batch: risk_pb2.RiskReservationBatch, sequence: int) -> None:
        """Take a message of the log; one at or before `seen` changes nothing."""
        if sequence <= self.seen:
            return
        self.seen = sequence
        self.since_complete = 0 if batch.complete else self.since_complete + 1
        for release in batch.released:
            self._release(release)
        if batch.complete:
            # What was released before and waits for this reader's own view keeps waiting.
            outstanding = {key_of(row) for row in batch.reserved}
            for key in [key for key, held in self._held.items() if held.shown_at is None and key not in outstanding]:
                self._drop(key)
        for row in batch.reserved:
            if key_of(row) not in self._held:
                self._hold(row)

    def reserve(self, row: risk_pb2.RiskReservation) -> None:
        """Take room here before the log has it."""
        self._hold(row)
        self._held[key_of(row)].own = True

    def note_sent(self, key: OrderKey) -> None:
        """From now on only evidence about the order ends its reservation, not the failure of another attempt."""
        held = self._held.get(key)
        if held is not None:
            held.sent = True

    def surely_unsent(self, key: OrderKey) -> bool:
        """Whether no router can have sent the order: this one made the reservation, and no attempt left it."""
        held = self._held.get(key)
        return held is not None and held.own and not held.sent

    def give_back(self, key: OrderKey) -> None:
        """Release room here before the log has it; nothing happens when none is held."""
        if key in self._held:
            self._drop(key)

    def _hold(self, row: risk_pb2.RiskReservation) -> None:
        key = key_of(row)
        self._held[key] = _Held(row)
        if key not in self._shown:
            self._ledger.set_claim(key, _claim(row))

    def _release(self, release: risk_pb2.RiskRelease) -> None:
        key = key_of(release)
        held = self._held.get(key)
        if held is None:
            return
        if not release.HasField("shown_at") or key in self._shown or self._reached(key, release.shown_at):
            self._drop(key)
        else:
            held.shown_at = release.shown_at

    def _reached(self, key: OrderKey, wanted: stream_pb2.StreamPosition) -> bool:
        position = self.positions.get(key[:2])
        # Another epoch is a numbering begun anew, and its snapshot told everything.
        return position is not None and (position.epoch != wanted.epoch or position.sequence >= wanted.sequence)

    def _drop(self, key: OrderKey) -> None:
        del self._held[key]
        if key not in self._shown:
            self._ledger.set_claim(key, None)

    # the accounts' streams

    def show(self, key: OrderKey, claim: Claim | None) -> bool:
        """The stream shows an order open with this claim, or ended with None; whether a reservation of it is over."""
        if claim is None:
            self._shown.discard(key)
        else:
            self._shown.add(key)
        self._ledger.set_claim(key, claim)
        held = self._held.pop(key, None)
        return held is not None and held.shown_at is None

    def shown_open(self, key: OrderKey) -> bool:
        """Whether the stream shows the order as open."""
        return key in self._shown

    def advance(self, account: AccountKey, epoch: str, sequence: int) -> None:
        """An account's view has come to this event."""
        self.positions[account] = stream_pb2.StreamPosition(epoch=epoch, sequence=sequence)
        if not self._held:
            return
        late = [key for key, held in self._held.items() if key[:2] == account and held.shown_at is not None]
        for key in late:
            shown_at = self._held[key].shown_at
            if shown_at is not None and self._reached(key, shown_at):
                self._drop(key)

    def replace_account(self, account: AccountKey, claims: Iterable[tuple[OrderKey, Claim]]) -> list[OrderKey]:
        """A snapshot: these orders are open, no others; returns those whose reservation is over."""
        fresh = dict(claims)
        for key in [key for key in self._shown if key[:2] == account and key not in fresh]:
            self._shown.discard(key)
            self._ledger.set_claim(key, None)
        return [key for key, claim in fresh.items() if self.show(key, claim)]


def _claim(row: risk_pb2.RiskReservation) -> Claim:
    """The claim a reservation stands for."""
    try:
        quantity = parse_decimal(row.quantity, field="quantity")
        margin = parse_decimal(row.margin or "0", field="margin")
    except InvalidRequest as error:
        raise ValueError(f"a reservation in the log cannot be read: {error.message}") from None
    return Claim(
        place=(row.venue, row.account_id, row.symbol),
        is_buy=row.side == order_pb2.SIDE_BUY,
        quantity=quantity,
        margin=margin,
        reduce_only=row.reduce_only,
        orders=0 if "/" in row.client_order_id else 1,
    )


def reservation_of(key: OrderKey, claim: Claim, expires_ns: int) -> risk_pb2.RiskReservation:
    """The message that keeps a claim's room."""
    venue, account_id, client_order_id = key
    return risk_pb2.RiskReservation(
        venue=venue,
        account_id=account_id,
        symbol=claim.place[2],
        client_order_id=client_order_id,
        side=order_pb2.SIDE_BUY if claim.is_buy else order_pb2.SIDE_SELL,
        quantity=format_decimal(claim.quantity),
        reduce_only=claim.reduce_only,
        expires_unix_nanos=expires_ns,
        margin=format_decimal(to_wire(claim.margin)),
    )
