"""One venue judged for an order: refused with a reason, or with what its book would give and cost. Pure, exact.

A refusal is of two kinds. `refusal`: the venue can take no part of the order. `alone`: it could take a part, but not
the whole by itself; it may still share in a split.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from router.cost import (
    Charges,
    Curve,
    Walk,
    cost_curve,
    expected_fee,
    funding_over,
    walk_book,
    within_limit,
)
from router.terms import ZERO, OrderTerms
from router.views import BookView, FeeRates, Level, Refusal, Rules, VenueView
from venuemesh.errors import InvalidOrder, Reason
from venuemesh.gateway.rules import check_instrument
from venuemesh.money import EXACT, Rounding, divide, round_to_step
from venuemesh.v1 import instrument_pb2, order_pb2, venue_pb2

_OF_THE_WHOLE = frozenset({Reason.QUANTITY_OFF_LOT, Reason.ABOVE_MAX_QUANTITY, Reason.ABOVE_MAX_NOTIONAL})


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """Quantities the venue's rules allow: nothing, or a multiple of `step` from `least` to `most`."""

    step: Decimal
    least: Decimal
    most: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One venue assessed. Either `refusal` is set or `walk` and what follows from it are."""

    venue: str
    refusal: Refusal | None = None
    alone: Refusal | None = None
    """Why it cannot take the whole by itself; None when it can."""
    walk: Walk | None = None
    cost: Decimal | None = None
    """Price alone, in quote units, of what it would take or hold; what would rest counts at the limit price."""
    all_in: Decimal | None = None
    """Signed cost of the same with fees and expected funding; less is better on both sides."""
    best_price: Decimal | None = None
    spread: Decimal | None = None
    middle: Decimal | None = None
    fees: FeeRates | None = None
    """None when neither account nor instrument tells."""
    fee: Decimal | None = None
    """Expected, in quote units."""
    funding: Decimal | None = None
    """Expected over the horizon, in quote units; positive is paid. None when nothing is known."""
    book_age_s: float | None = None
    levels: tuple[Level, ...] = ()
    """The opposite side within the order's worst price."""
    charges: Charges | None = None
    domain: Domain | None = None


def assess(terms: OrderTerms, view: VenueView, rules: Rules) -> Candidate:
    """What one venue would give the order now."""
    refusal = refuse_without_book(terms, view, rules) or _refuse_book(view, rules)
    if refusal is not None or view.book is None:
        age = view.book.age_s if view.book is not None else None
        return Candidate(venue=view.venue, refusal=refusal, book_age_s=age)
    return _assess_book(terms, view, view.book, rules)


def refuse_without_book(terms: OrderTerms, view: VenueView, rules: Rules) -> Refusal | None:
    """Everything that rules a venue out before its book is looked at."""
    if view.venue in rules.excluded:
        return Refusal(Reason.INVALID_ARGUMENT, "excluded by the instruction or the mesh's policy")
    if view.unreachable:
        return Refusal(Reason.GATEWAY_UNAVAILABLE, view.unreachable)
    if view.barred is not None:
        return view.barred
    return (
        _refuse_state(terms, view)
        or _refuse_account(terms, view)
        or _refuse_instrument(view, terms.symbol)
        or _refuse_capability(terms, view.capabilities)
        or _refuse_any_part(terms, view.instrument)
        or _refuse_room(view)
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
    if view.instrument.at_open_interest_cap:
        # Only an order that closes would be taken, and what it closes is not known here.
        return Refusal(Reason.OPEN_INTEREST_CAP, f"open interest of {symbol!r} is at its cap")
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


def _refuse_room(view: VenueView) -> Refusal | None:
    if view.room is None or view.room > ZERO:
        return None
    return Refusal(Reason.POSITION_LIMIT_REACHED, "the position limit leaves no room")


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


def _refuse_any_part(terms: OrderTerms, instrument: instrument_pb2.Instrument | None) -> Refusal | None:
    """The rules that a smaller quantity breaks as well."""
    refusal = _refuse_numbers(terms, instrument)
    return refusal if refusal is not None and refusal.reason not in _OF_THE_WHOLE else None


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


def _assess_book(terms: OrderTerms, view: VenueView, book: BookView, rules: Rules) -> Candidate:
    opposite = book.asks if terms.is_buy else book.bids
    walk = walk_book(opposite, terms)
    fees = view.fee_rates
    charges = charges_of(view, rules)
    # What rests counts at the limit price: it cannot cost more.
    resting = EXACT.subtract(terms.quantity, walk.taken) if terms.may_rest else ZERO
    cost = EXACT.add(walk.notional, EXACT.multiply(resting, terms.price or ZERO))
    counted = EXACT.add(walk.taken, resting)
    best = opposite[0].price if opposite else None
    domain = domain_of(terms, view, best)
    refusal, alone = _refuse_depth(terms, view, opposite, walk, domain)
    spread, middle = _spread_and_middle(book)
    return Candidate(
        venue=view.venue,
        refusal=refusal,
        alone=alone,
        walk=walk,
        cost=cost,
        all_in=_whole_cost(cost_curve(opposite, terms, charges)),
        best_price=best,
        spread=spread,
        middle=middle,
        fees=fees,
        fee=expected_fee(opposite, terms, charges.fees, counted),
        funding=_funding(terms, cost, charges) if view.funding is not None else None,
        book_age_s=book.age_s,
        levels=within_limit(opposite, terms),
        charges=charges,
        domain=domain,
    )


def charges_of(view: VenueView, rules: Rules) -> Charges:
    """Fees and expected funding of a venue; what it does not tell is assumed by the rules."""
    assumed = FeeRates(maker=rules.assumed_fee_rate, taker=rules.assumed_fee_rate)
    return Charges(fees=view.fee_rates or assumed, funding_rate=funding_over(view.funding, rules.horizon_s))


def _whole_cost(curve: Curve) -> Decimal:
    cost = ZERO
    for segment in curve:
        cost = EXACT.add(cost, EXACT.multiply(segment.quantity, segment.unit_cost))
    return cost


def _funding(terms: OrderTerms, notional: Decimal, charges: Charges) -> Decimal:
    paid = EXACT.multiply(notional, charges.funding_rate)
    return paid if terms.is_buy else EXACT.minus(paid)


def _spread_and_middle(book: BookView) -> tuple[Decimal | None, Decimal | None]:
    if not book.bids or not book.asks:
        return None, None
    bid, ask = book.bids[0].price, book.asks[0].price
    return EXACT.subtract(ask, bid), divide(EXACT.add(ask, bid), Decimal(2))


def _refuse_depth(
    terms: OrderTerms, view: VenueView, opposite: Sequence[Level], walk: Walk, domain: Domain
) -> tuple[Refusal | None, Refusal | None]:
    """Why no part, and why not the whole."""
    alone = _refuse_numbers(terms, view.instrument)
    if alone is None and view.room is not None and view.room < terms.quantity:
        alone = Refusal(Reason.POSITION_LIMIT_REACHED, f"the position limit leaves room for {view.room}")
    none = alone or Refusal(Reason.BELOW_MIN_QUANTITY, f"the least is {domain.least}")
    if terms.may_rest:
        if terms.post_only and walk.taken > ZERO:
            return Refusal(Reason.POST_ONLY_WOULD_CROSS, f"the best opposite price is {opposite[0].price}"), None
        return (none, None) if domain.least > domain.most else (None, alone)
    thin = Refusal(Reason.NO_LIQUIDITY, f"{walk.available} of {terms.quantity} offered at the order's price")
    if walk.taken == ZERO:
        return thin, None
    if terms.price is None:
        priced = _refuse_numbers(terms, view.instrument, opposite[0].price)
        if priced is not None and priced.reason not in _OF_THE_WHOLE:
            return priced, None
        alone = alone or priced
    if domain.least > domain.most:
        return none, None
    if terms.all_or_nothing and walk.taken < terms.quantity:
        alone = alone or thin
    return None, alone


def domain_of(terms: OrderTerms, view: VenueView, best: Decimal | None) -> Domain:
    """Quantities of a part that the instrument's rules and the position limit allow.

    Notional is judged at the limit price, or at the best opposite price of an order without one.
    """
    rule = view.instrument.quantity_rule if view.instrument is not None else instrument_pb2.QuantityRule()
    # An instrument without a step is left to its gateway: the order's own digits are as fine as it gets.
    step = Decimal(rule.step_size) if rule.step_size else Decimal(1).scaleb(int(terms.quantity.as_tuple().exponent))
    least, most = step, terms.quantity
    price = terms.price if terms.price is not None else best
    if rule.HasField("min_quantity"):
        least = max(least, Decimal(rule.min_quantity))
    if rule.HasField("max_quantity"):
        most = min(most, Decimal(rule.max_quantity))
    if price is not None and rule.HasField("min_notional"):
        least = max(least, _units_worth(Decimal(rule.min_notional), price, step))
    if price is not None and rule.HasField("max_notional"):
        worth = _units_worth(Decimal(rule.max_notional), price, step)
        over = EXACT.multiply(worth, price) > Decimal(rule.max_notional)
        most = min(most, EXACT.subtract(worth, step) if over else worth)
    if view.room is not None:
        most = min(most, view.room)
    return Domain(
        step=step,
        least=round_to_step(least, step=step, rounding=Rounding.CEILING),
        most=round_to_step(most, step=step, rounding=Rounding.FLOOR),
    )


def _units_worth(notional: Decimal, price: Decimal, step: Decimal) -> Decimal:
    """The smallest multiple of `step` that is worth at least `notional`."""
    units = round_to_step(divide(notional, price), step=step, rounding=Rounding.FLOOR)
    while EXACT.multiply(units, price) < notional:
        units = EXACT.add(units, step)
    return units
