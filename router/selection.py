"""Which venue takes an order: assess every candidate over one snapshot of books, rank, decide. Pure, exact.

`assess` turns a venue's view into a `Candidate`: refused with a reason, or with what the book would give.
A strategy is a sort key over candidates that are not refused; `STRATEGIES` lists those served. Money is compared
as exact totals; only the prices shown are rounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from router.terms import ZERO, OrderTerms
from venuemesh.errors import InvalidOrder, Reason
from venuemesh.gateway.rules import check_instrument
from venuemesh.money import EXACT, divide, total
from venuemesh.v1 import instrument_pb2, order_pb2, routing_pb2, venue_pb2

BPS = Decimal(10_000)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a venue cannot take an order; `metadata` holds what helps, such as the nearest valid price."""

    reason: Reason
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Level:
    """Quantity offered at one price."""

    price: Decimal
    quantity: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class BookView:
    """One venue's book, best levels first.

    Args:
        age_s: time since the venue's gateway read it.
        stale_cause: why its gateway says it is stale; empty when it does not.
    """

    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    age_s: float
    stale_cause: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueView:
    """What the router knows of one venue at the moment of a decision.

    Args:
        unreachable: why its gateway cannot be called; empty when it can.
        book: None when there is none; `book_fault` says why.
    """

    venue: str
    unreachable: str = ""
    state: int = venue_pb2.VENUE_STATE_TRADING
    state_cause: str = ""
    account_ids: frozenset[str] = frozenset()
    capabilities: venue_pb2.VenueCapabilities = field(default_factory=venue_pb2.VenueCapabilities)
    instrument: instrument_pb2.Instrument | None = None
    book: BookView | None = None
    book_fault: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The mesh's rules that leave venues out."""

    max_book_age_s: float
    excluded: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """What taking from one side of a book gives: base units and quote units, exact."""

    taken: Decimal
    notional: Decimal
    available: Decimal
    """All that is offered within the order's worst price."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One venue assessed. Either `refusal` is set or `walk` and `cost` are."""

    venue: str
    refusal: Refusal | None = None
    walk: Walk | None = None
    cost: Decimal | None = None
    """Quote units for the whole quantity; what would rest counts at the limit price."""
    best_price: Decimal | None = None
    spread: Decimal | None = None
    middle: Decimal | None = None
    fee_rate: Decimal | None = None
    book_age_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """`chosen` is None when no venue can take the order; candidates are best first, refused ones last."""

    strategy: int
    chosen: Candidate | None
    candidates: tuple[Candidate, ...]


SortKey = tuple[Decimal, Decimal, Decimal, str]
Strategy = Callable[[OrderTerms, Candidate], SortKey]


def best_price(terms: OrderTerms, candidate: Candidate) -> SortKey:
    """Least cost of the whole quantity (most, for a sale); then the nearest opposite price; then the name.

    An order that cannot rest goes first where most of it fills.
    """
    assert candidate.walk is not None
    assert candidate.cost is not None
    sign = Decimal(1) if terms.is_buy else Decimal(-1)
    unfilled = ZERO if terms.may_rest else EXACT.subtract(terms.quantity, candidate.walk.taken)
    nearest = candidate.best_price if candidate.best_price is not None else ZERO
    return unfilled, EXACT.multiply(sign, candidate.cost), EXACT.multiply(sign, nearest), candidate.venue


STRATEGIES: dict[int, Strategy] = {routing_pb2.ROUTING_STRATEGY_BEST_PRICE: best_price}


def decide(strategy: int, terms: OrderTerms, candidates: Iterable[Candidate]) -> Decision:
    """Rank the candidates; the first one that is not refused is chosen.

    Raises:
        KeyError: no such strategy in `STRATEGIES`.
    """
    key = STRATEGIES[strategy]
    known = list(candidates)
    usable = sorted((one for one in known if one.refusal is None), key=lambda one: key(terms, one))
    refused = sorted((one for one in known if one.refusal is not None), key=lambda one: one.venue)
    return Decision(strategy=strategy, chosen=usable[0] if usable else None, candidates=(*usable, *refused))


def assess(terms: OrderTerms, view: VenueView, rules: Rules) -> Candidate:
    """What one venue would give the order now."""
    refusal = refuse_without_book(terms, view, rules) or _refuse_book(view, rules)
    if refusal is not None or view.book is None:
        age = view.book.age_s if view.book is not None else None
        return Candidate(venue=view.venue, refusal=refusal, book_age_s=age)
    return _assess_book(terms, view, view.book)


def refuse_without_book(terms: OrderTerms, view: VenueView, rules: Rules) -> Refusal | None:
    """Everything that rules a venue out before its book is looked at."""
    if view.venue in rules.excluded:
        return Refusal(Reason.INVALID_ARGUMENT, "excluded by the instruction or the mesh's policy")
    if view.unreachable:
        return Refusal(Reason.GATEWAY_UNAVAILABLE, view.unreachable)
    return (
        _refuse_state(terms, view)
        or _refuse_account(terms, view)
        or _refuse_instrument(view, terms.symbol)
        or _refuse_capability(terms, view.capabilities)
        or _refuse_numbers(terms, view.instrument)
    )


_STATES: dict[int, Reason] = {
    venue_pb2.VENUE_STATE_RECONCILING: Reason.STREAM_RECONCILING,
    venue_pb2.VENUE_STATE_DEGRADED: Reason.VENUE_UNAVAILABLE,
    venue_pb2.VENUE_STATE_DOWN: Reason.VENUE_DISCONNECTED,
    venue_pb2.VENUE_STATE_DRAINING: Reason.GATEWAY_DRAINING,
}


def _refuse_state(terms: OrderTerms, view: VenueView) -> Refusal | None:
    if view.state == venue_pb2.VENUE_STATE_TRADING:
        return None
    if view.state == venue_pb2.VENUE_STATE_POST_ONLY:
        if terms.post_only:
            return None
        return Refusal(Reason.VENUE_POST_ONLY_WINDOW, "the venue takes only post-only orders for now")
    reason = _STATES.get(view.state, Reason.VENUE_UNAVAILABLE)
    names = venue_pb2.VenueState.keys()
    name = names[view.state] if view.state < len(names) else str(view.state)
    word = name.removeprefix("VENUE_STATE_").lower()
    return Refusal(reason, f"the venue is {word}: {view.state_cause}" if view.state_cause else f"the venue is {word}")


def _refuse_account(terms: OrderTerms, view: VenueView) -> Refusal | None:
    if terms.account_id in view.account_ids:
        return None
    return Refusal(Reason.ACCOUNT_NOT_FOUND, f"account {terms.account_id!r} is not at this venue")


def _refuse_instrument(view: VenueView, symbol: str) -> Refusal | None:
    if view.instrument is None:
        return Refusal(Reason.INSTRUMENT_NOT_FOUND, f"{symbol!r} is not listed")
    if view.instrument.state != instrument_pb2.INSTRUMENT_STATE_TRADING:
        return Refusal(Reason.INSTRUMENT_NOT_TRADING, f"{symbol!r} is not trading")
    return None


def _refuse_capability(terms: OrderTerms, capabilities: venue_pb2.VenueCapabilities) -> Refusal | None:
    support = next((one for one in capabilities.order_types if one.order_type == terms.order_type), None)
    if support is None:
        return Refusal(Reason.UNSUPPORTED_ORDER_TYPE, f"no order type {terms.order_type}")
    implied = terms.order_type == order_pb2.ORDER_TYPE_MARKET and not support.times_in_force
    if not implied and terms.time_in_force not in support.times_in_force:
        return Refusal(Reason.UNSUPPORTED_TIME_IN_FORCE, f"no time in force {terms.time_in_force} with this type")
    for instruction in sorted(terms.instructions):
        if instruction not in support.instructions:
            return Refusal(Reason.UNSUPPORTED_INSTRUCTION, f"no instruction {instruction} with this type")
    return None


def _refuse_numbers(
    terms: OrderTerms, instrument: instrument_pb2.Instrument | None, reference_price: Decimal | None = None
) -> Refusal | None:
    """The instrument's price and quantity rules; one whose record is incomplete is left to its gateway."""
    if instrument is None or not instrument.quantity_rule.step_size or not instrument.price_rule.ListFields():
        return None
    try:
        check_instrument(terms.numbers, instrument, reduce_only=False, reference_price=reference_price)
    except InvalidOrder as error:
        return Refusal(error.reason, error.message, error.metadata)
    return None


def _refuse_book(view: VenueView, rules: Rules) -> Refusal | None:
    book = view.book
    if book is None:
        return Refusal(Reason.VENUE_UNAVAILABLE, f"no book: {view.book_fault or 'none seen yet'}")
    if book.stale_cause:
        return Refusal(Reason.VENUE_UNAVAILABLE, f"the book is stale: {book.stale_cause}")
    if book.age_s > rules.max_book_age_s:
        return Refusal(
            Reason.VENUE_UNAVAILABLE, f"the book is {book.age_s:.3f} s old, {rules.max_book_age_s:g} s are allowed"
        )
    return None


def _assess_book(terms: OrderTerms, view: VenueView, book: BookView) -> Candidate:
    opposite = book.asks if terms.is_buy else book.bids
    walk = walk_book(opposite, terms)
    # What rests counts at the limit price: it cannot cost more.
    resting = EXACT.subtract(terms.quantity, walk.taken) if terms.may_rest else ZERO
    cost = EXACT.add(walk.notional, EXACT.multiply(resting, terms.price or ZERO))
    bid = book.bids[0].price if book.bids else None
    ask = book.asks[0].price if book.asks else None
    fee = view.instrument.taker_fee_rate if view.instrument and view.instrument.HasField("taker_fee_rate") else None
    refusal = _refuse_depth(terms, view, opposite, walk)
    return Candidate(
        venue=view.venue,
        refusal=refusal,
        walk=walk,
        cost=cost,
        best_price=opposite[0].price if opposite else None,
        spread=EXACT.subtract(ask, bid) if bid is not None and ask is not None else None,
        middle=divide(EXACT.add(ask, bid), Decimal(2)) if bid is not None and ask is not None else None,
        fee_rate=Decimal(fee) if fee else None,
        book_age_s=book.age_s,
    )


def _refuse_depth(terms: OrderTerms, view: VenueView, opposite: Sequence[Level], walk: Walk) -> Refusal | None:
    if terms.may_rest:
        if terms.post_only and walk.taken > ZERO:
            return Refusal(Reason.POST_ONLY_WOULD_CROSS, f"the best opposite price is {opposite[0].price}")
        return None
    if walk.taken == ZERO or (terms.all_or_nothing and walk.taken < terms.quantity):
        return Refusal(Reason.NO_LIQUIDITY, f"{walk.available} of {terms.quantity} offered at the order's price")
    return _refuse_numbers(terms, view.instrument, opposite[0].price) if terms.price is None else None


def walk_book(levels: Sequence[Level], terms: OrderTerms) -> Walk:
    """Take the order's quantity from `levels`, best first, no further than its worst price."""
    worst = worst_price(levels, terms)
    left, taken, notional, available = terms.quantity, ZERO, ZERO, []
    for level in levels:
        if worst is not None and (level.price > worst if terms.is_buy else level.price < worst):
            break
        available.append(level.quantity)
        part = min(left, level.quantity)
        left = EXACT.subtract(left, part)
        taken = EXACT.add(taken, part)
        notional = EXACT.add(notional, EXACT.multiply(part, level.price))
    return Walk(taken=taken, notional=notional, available=total(available))


def worst_price(levels: Sequence[Level], terms: OrderTerms) -> Decimal | None:
    """The limit price, or the slippage bound of a market order; None when nothing bounds it."""
    if terms.price is not None:
        return terms.price
    if terms.max_slippage_bps is None or not levels:
        return None
    room = Decimal(terms.max_slippage_bps if terms.is_buy else -terms.max_slippage_bps)
    factor = EXACT.add(Decimal(1), EXACT.multiply(room, Decimal("0.0001")))
    return EXACT.multiply(levels[0].price, factor)
