"""What the clients asked for and were told, and whether that agrees with the truth. Pure.

Every answer is a claim. A claim of *unknown* is never wrong; every other one is compared with the venue afterwards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum

ZERO = Decimal(0)


class Claim(StrEnum):
    """What an answer to a submit says."""

    LIVE = "acknowledged"
    """The venue has, or had, the order."""
    DEAD = "rejected"
    """Proved that the venue does not have it."""
    NOT_SENT = "not sent"
    """This call sent nothing; another of the same key may."""
    DOUBT = "unknown"
    """Nobody knows yet."""


class Cancel(StrEnum):
    """How far a cancel got."""

    NEVER = "never"
    TRIED = "tried"
    DONE = "done"
    """Answered: the order is not at work any more."""


@dataclass(slots=True, kw_only=True)
class Intent:
    """One order a client wants, with everything said about it.

    Args:
        rests: far from the market and good till cancelled: open until it is cancelled.
        prices: what its price may be at the end: one, unless an amendment's answer was lost.
    """

    venue: str
    account_id: str
    key: str
    symbol: str
    buy: bool
    quantity: Decimal
    price: Decimal | None
    rests: bool
    prices: set[Decimal] = field(default_factory=set)
    claims: list[Claim] = field(default_factory=list)
    cancel: Cancel = Cancel.NEVER
    amendments: int = 0

    @property
    def known_live(self) -> bool:
        """Whether somebody was told that the venue has it."""
        return Claim.LIVE in self.claims


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueOrder:
    """An order as the venue's own books have it.

    Args:
        refused: it was never at work.
        ended_at_once: of a refused one, that it was taken first: to call it acknowledged and ended is true as well.
    """

    venue_order_id: str
    client_id: str
    symbol: str
    open: bool
    refused: bool
    price: Decimal
    ended_at_once: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueFill:
    """A fill as the venue's own books have it."""

    trade_id: str
    venue_order_id: str
    symbol: str
    signed_quantity: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueTruth:
    """One account at the venue."""

    orders: Sequence[VenueOrder]
    fills: Sequence[VenueFill]
    positions: Mapping[str, Decimal]


@dataclass(frozen=True, slots=True, kw_only=True)
class OurOrder:
    """An order as the gateway has it."""

    key: str
    venue_client_id: str
    venue_order_ids: tuple[str, ...]
    working: bool
    status: str
    in_doubt: bool
    price: Decimal | None
    quantity: Decimal
    filled: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class OurTruth:
    """One account in the mesh: what the gateway answers and what the journal holds.

    Args:
        intents: keys with an intent, each once.
        outcomes: status word of the last word on each key that has one.
        stored: status word of the last stored report on each key.
        fills: trade ids of the stored fills.
    """

    orders: Sequence[OurOrder]
    intents: Sequence[str]
    outcomes: Mapping[str, str]
    stored: Mapping[str, str]
    fills: Sequence[str]
    positions: Mapping[str, Decimal]
    sequences: Sequence[int]


def differences(intents: Iterable[Intent], venue: VenueTruth, ours: OurTruth) -> list[str]:
    """Everything that contradicts something else; empty when all agree."""
    wanted = {intent.key: intent for intent in intents}
    held = {order.key: order for order in ours.orders}
    return [
        *_numbering(ours),
        *_journal(wanted, held, ours),
        *_venue_orders(venue, ours),
        *_fills(venue, ours),
        *_positions(venue, ours),
        *(text for intent in wanted.values() for text in _claims(intent, held.get(intent.key), venue)),
    ]


def _numbering(ours: OurTruth) -> Iterator[str]:
    if list(ours.sequences) != list(range(1, len(ours.sequences) + 1)):
        yield f"the event log is not numbered 1 to {len(ours.sequences)}"


def _journal(wanted: Mapping[str, Intent], held: Mapping[str, OurOrder], ours: OurTruth) -> Iterator[str]:
    yield from (f"LOST {key}: has an intent, the gateway does not know it" for key in set(ours.intents) - set(held))
    yield from (f"{key}: the gateway has it without an intent" for key in set(held) - set(ours.intents))
    yield from (f"{key}: nobody asked for it" for key in set(held) - set(wanted))
    yield from (f"{key}: two intents" for key, count in Counter(ours.intents).items() if count > 1)
    for key, order in held.items():
        if order.in_doubt:
            yield f"{key}: still in doubt, {order.status}"
        if ours.stored.get(key) != order.status:
            yield f"{key}: {order.status}, its last stored event says {ours.stored.get(key)}"
        terminal = not order.working and not order.in_doubt
        if terminal and ours.outcomes.get(key) != order.status:
            yield f"{key}: {order.status}, its stored outcome says {ours.outcomes.get(key)}"


def _venue_orders(venue: VenueTruth, ours: OurTruth) -> Iterator[str]:
    there = {order.venue_order_id: order for order in venue.orders}
    lives: dict[str, list[VenueOrder]] = {}
    for order in venue.orders:
        if not order.refused:
            lives.setdefault(order.client_id, []).append(order)
    owners = Counter(name for order in ours.orders for name in order.venue_order_ids)
    yield from (
        f"DUPLICATE venue order {name} belongs to {count} of ours" for name, count in owners.items() if count > 1
    )
    known = {order.venue_client_id for order in ours.orders}
    for client_id, found in lives.items():
        if client_id not in known:
            yield f"LOST venue order {found[0].venue_order_id}, client id {client_id}: the gateway has none of it"
    for order in ours.orders:
        yield from _one_order(order, there, lives.get(order.venue_client_id, []))


def _one_order(order: OurOrder, there: Mapping[str, VenueOrder], lives: Sequence[VenueOrder]) -> Iterator[str]:
    at_work = [one for one in lives if one.open]
    if len(at_work) > 1:
        yield f"DUPLICATE {order.key}: {len(at_work)} orders at work under one client id"
    # A life that an amendment ended may have passed unseen, between two crashes: its fills would tell of it.
    unknown = {one.venue_order_id for one in lives if one.open or not order.venue_order_ids}
    unknown -= set(order.venue_order_ids)
    if unknown:
        yield f"{'DUPLICATE' if order.venue_order_ids else 'LOST'} {order.key}: {order.status}, the venue has {unknown}"
    if order.working != bool(at_work):
        lost = "LOST " if order.working else ""
        yield f"{lost}{order.key}: {order.status} here, {'open' if at_work else 'not open'} there"
    elif at_work and order.price is not None and at_work[0].price != order.price:
        yield f"{order.key}: price {order.price} here, {at_work[0].price} there"
    if order.filled > order.quantity:
        yield f"{order.key}: {order.filled} filled of {order.quantity}"
    if order.working and order.venue_order_ids and order.venue_order_ids[-1] not in there:
        yield f"LOST {order.key}: the venue does not know {order.venue_order_ids[-1]}"


def _fills(venue: VenueTruth, ours: OurTruth) -> Iterator[str]:
    there, here = Counter(fill.trade_id for fill in venue.fills), Counter(ours.fills)
    yield from (f"LOST fill {name}" for name in there - here)
    yield from (f"DUPLICATE fill {name}" for name in here - there)
    of_order: dict[str, Decimal] = {}
    for fill in venue.fills:
        of_order[fill.venue_order_id] = of_order.get(fill.venue_order_id, ZERO) + abs(fill.signed_quantity)
    for order in ours.orders:
        filled = sum((of_order.get(name, ZERO) for name in order.venue_order_ids), ZERO)
        if filled != order.filled:
            yield f"{order.key}: filled {order.filled} here, {filled} there"


def _positions(venue: VenueTruth, ours: OurTruth) -> Iterator[str]:
    sums: dict[str, Decimal] = {}
    for fill in venue.fills:
        sums[fill.symbol] = sums.get(fill.symbol, ZERO) + fill.signed_quantity
    for symbol in sums.keys() | venue.positions.keys() | ours.positions.keys():
        told, summed, held = (part.get(symbol, ZERO) for part in (venue.positions, sums, ours.positions))
        if not told == summed == held:
            yield f"position {symbol}: {held} here, {told} there, {summed} by its fills"


def _claims(intent: Intent, order: OurOrder | None, venue: VenueTruth) -> Iterator[str]:
    """Whether what the clients were told about one order holds."""
    key, claims = intent.key, set(intent.claims)
    if Claim.LIVE in claims and Claim.DEAD in claims:
        yield f"WRONG CLAIM {key}: told acknowledged and rejected"
    if order is None:
        if claims & {Claim.LIVE, Claim.DEAD}:
            yield f"LOST {key}: told {', '.join(sorted(claims))}, the gateway does not know it"
        return
    rows = [one for one in venue.orders if one.client_id == order.venue_client_id]
    lives = [one for one in rows if not one.refused]
    if Claim.LIVE in claims and not lives and not any(one.ended_at_once for one in rows):
        yield f"WRONG CLAIM {key}: told acknowledged, the venue never had it"
    if lives and Claim.DEAD in claims:
        yield f"WRONG CLAIM {key}: told rejected, the venue has {lives[0].venue_order_id}"
    if lives and claims == {Claim.NOT_SENT}:
        yield f"WRONG CLAIM {key}: told that nothing was sent, the venue has {lives[0].venue_order_id}"
    if not intent.amendments and len(lives) > 1:
        yield f"DUPLICATE {key}: {len(lives)} venue orders and no amendment"
    yield from _working(intent, [one for one in lives if one.open])


def _working(intent: Intent, at_work: Sequence[VenueOrder]) -> Iterator[str]:
    if intent.cancel is Cancel.DONE and at_work:
        yield f"WRONG CLAIM {intent.key}: told cancelled or ended, it is open"
    meant_to_live = intent.rests and intent.known_live and intent.cancel is Cancel.NEVER
    if meant_to_live and not at_work:
        yield f"LOST {intent.key}: meant to live, not open at the venue"
    if at_work and intent.rests and at_work[0].price not in intent.prices:
        prices = ", ".join(str(price) for price in sorted(intent.prices))
        yield f"WRONG CLAIM {intent.key}: price {at_work[0].price}, told {prices}"


__all__ = [
    "Cancel",
    "Claim",
    "Intent",
    "OurOrder",
    "OurTruth",
    "VenueFill",
    "VenueOrder",
    "VenueTruth",
    "differences",
]
