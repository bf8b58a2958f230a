"""Decisions as the contract says them: plan, route, and the error when no venue is left. Pure.

A route is journalled once per (account, key) and everything later is made from the stored one, so that a repeat
sends the same children to the same venues whatever the books say by then.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
from collections.abc import Callable, Sequence
from decimal import Decimal

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from router.assess import Candidate
from router.cost import Walk, walk_book
from router.selection import Decision
from router.terms import OrderTerms
from venuemesh.errors import (
    AccountNotFound,
    ClientOrderIdReused,
    GatewayUnavailable,
    InstrumentNotFound,
    InvalidOrder,
    MeshError,
    NotFound,
    PreconditionFailed,
    Reason,
    Reconciling,
)
from venuemesh.gateway.order_wire import fingerprint_of, order_id_of
from venuemesh.money import EXACT, divide, format_decimal, to_wire, total
from venuemesh.v1 import error_pb2, order_pb2, routing_pb2

BPS = Decimal(10_000)
ROUTE_PREFIX = "rt_"
_SEPARATOR = "\x00"
_NOT_HERE = frozenset({Reason.INSTRUMENT_NOT_FOUND, Reason.ACCOUNT_NOT_FOUND})
_SHARED: dict[Reason, tuple[type[MeshError], str | None]] = {
    Reason.INSTRUMENT_NOT_FOUND: (InstrumentNotFound, "order.symbol"),
    Reason.ACCOUNT_NOT_FOUND: (AccountNotFound, "order.account_id"),
    Reason.UNSUPPORTED_ORDER_TYPE: (InvalidOrder, "order.order_type"),
    Reason.UNSUPPORTED_TIME_IN_FORCE: (InvalidOrder, "order.time_in_force"),
    Reason.UNSUPPORTED_INSTRUCTION: (InvalidOrder, "order.instructions"),
    Reason.QUANTITY_OFF_LOT: (InvalidOrder, "order.quantity"),
    Reason.BELOW_MIN_QUANTITY: (InvalidOrder, "order.quantity"),
    Reason.ABOVE_MAX_QUANTITY: (InvalidOrder, "order.quantity"),
    Reason.BELOW_MIN_NOTIONAL: (InvalidOrder, "order.quantity"),
    Reason.ABOVE_MAX_NOTIONAL: (InvalidOrder, "order.quantity"),
    Reason.PRICE_OFF_TICK: (InvalidOrder, "order.price"),
    Reason.GATEWAY_UNAVAILABLE: (GatewayUnavailable, None),
    Reason.STREAM_RECONCILING: (Reconciling, None),
}
RETRY_AFTER_S = 1.0


def reason_number(reason: Reason) -> error_pb2.Reason.ValueType:
    """The contract's enum of a reason."""
    return error_pb2.Reason.Value(f"REASON_{reason.value}")


def instant(now_ns: int) -> Timestamp:
    """A wall-clock instant as the contract carries it."""
    stamp = Timestamp()
    stamp.FromNanoseconds(now_ns)
    return stamp


def route_id(account_id: str, client_order_id: str) -> str:
    """Id of the one route of a key; holds the key, so that a route is found by id without an index."""
    key = f"{account_id}{_SEPARATOR}{client_order_id}".encode()
    return ROUTE_PREFIX + base64.urlsafe_b64encode(key).decode().rstrip("=")


def route_key(identifier: str) -> tuple[str, str]:
    """Account and client order id of a route id.

    Raises:
        NotFound: ROUTE_NOT_FOUND: no id of ours.
    """
    body = identifier.removeprefix(ROUTE_PREFIX)
    try:
        text = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True).decode()
        account_id, client_order_id = text.split(_SEPARATOR)
    except (binascii.Error, ValueError):
        raise route_not_found(identifier) from None
    if route_id(account_id, client_order_id) != identifier:
        raise route_not_found(identifier)
    return account_id, client_order_id


def route_not_found(name: str) -> NotFound:
    """ROUTE_NOT_FOUND for an id or key."""
    shown = name[:80]
    return NotFound(f"no route {shown!r}", reason=Reason.ROUTE_NOT_FOUND, metadata={"route_id": shown})


def new_route(
    order: order_pb2.NewOrder,
    instruction: routing_pb2.RoutingInstruction,
    plan: routing_pb2.RoutePlan,
    now_ns: int,
) -> routing_pb2.Route:
    """The route as journalled: nothing sent yet."""
    return routing_pb2.Route(
        route_id=route_id(order.account_id, order.client_order_id),
        order=order,
        instruction=instruction,
        plan=plan,
        status=order_pb2.ORDER_STATUS_PENDING_NEW,
        filled_quantity="0",
        leaves_quantity=order.quantity,
        created_time=instant(now_ns),
        updated_time=instant(now_ns),
    )


def same_content(
    route: routing_pb2.Route, order: order_pb2.NewOrder, instruction: routing_pb2.RoutingInstruction
) -> bool:
    """Whether a repeat asks for what was stored; the correlation id may differ."""
    return fingerprint_of(route.order) == fingerprint_of(order) and (
        route.instruction.SerializeToString(deterministic=True) == instruction.SerializeToString(deterministic=True)
    )


def key_reused(route: routing_pb2.Route) -> ClientOrderIdReused:
    """The key belongs to this route, and the repeat asks for something else."""
    venue = route.plan.legs[0].venue
    key = route.order.client_order_id
    return ClientOrderIdReused(
        f"client_order_id {key!r} was routed to {venue} with other content",
        field="order.client_order_id",
        metadata={
            "client_order_id": key,
            "order_id": order_id_of(venue, route.order.account_id, route.plan.legs[0].client_order_id),
            "route_id": route.route_id,
            "venue": venue,
        },
    )


def route_plan(terms: OrderTerms, decision: Decision, keys: Callable[[str], str], now_ns: int) -> routing_pb2.RoutePlan:
    """The plan of a decision that found at least one part.

    Args:
        keys: key of the leg for a venue; asked only where the order is split.
    """
    by_name = {one.venue: one for one in decision.candidates}
    plan = routing_pb2.RoutePlan(
        strategy=decision.strategy,  # type: ignore[arg-type]
        candidates=[candidate_message(terms, one, decision) for one in decision.candidates],
        explanation=_explanation(terms, decision),
        plan_time=instant(now_ns),
    )
    walks = []
    for part in decision.parts:
        candidate = by_name[part.venue]
        walk = walk_book(candidate.levels, dataclasses.replace(terms, quantity=part.quantity))
        leg = plan.legs.add(venue=part.venue, quantity=format_decimal(part.quantity), client_order_id=keys(part.venue))
        if walk.taken == part.quantity:
            leg.expected_price = format_decimal(divide(walk.notional, part.quantity))
        walks.append((walk, candidate))
    if total(walk.taken for walk, _ in walks) == terms.quantity:
        _show_forecast(plan, terms, decision, walks)
    return plan


def _show_forecast(
    plan: routing_pb2.RoutePlan, terms: OrderTerms, decision: Decision, walks: Sequence[tuple[Walk, Candidate]]
) -> None:
    """What the whole is expected to give, when all of it fills on the books seen."""
    notional = total(walk.notional for walk, _ in walks)
    average = divide(notional, terms.quantity)
    plan.expected_price = format_decimal(average)
    if all(one.fees is not None for _, one in walks):
        fees = (EXACT.multiply(walk.notional, one.fees.taker) for walk, one in walks if one.fees is not None)
        plan.expected_fee = format_decimal(to_wire(total(fees)))
    middles = [one.middle for one in decision.candidates if one.refusal is None and one.middle]
    if middles:
        plan.slippage_bps = format_decimal(slippage_bps(terms, average, min(middles) if terms.is_buy else max(middles)))


def slippage_bps(terms: OrderTerms, average: Decimal, middle: Decimal) -> Decimal:
    """How much worse than the middle, in hundredths of a percent of it."""
    worse = EXACT.subtract(average, middle)
    worse = worse if terms.is_buy else EXACT.minus(worse)
    return divide(EXACT.multiply(worse, BPS), middle)


def explicit_plan(
    order: order_pb2.NewOrder, candidate: routing_pb2.RouteCandidate | None, now_ns: int
) -> routing_pb2.RoutePlan:
    """The plan of an order that names its venue: the router judges nothing, the gateway does."""
    leg = routing_pb2.RouteLeg(venue=order.venue, quantity=order.quantity, client_order_id=order.client_order_id)
    return routing_pb2.RoutePlan(
        strategy=routing_pb2.ROUTING_STRATEGY_EXPLICIT,
        legs=[leg],
        candidates=[candidate or routing_pb2.RouteCandidate(venue=order.venue, eligible=True)],
        explanation=f"{order.venue} was named",
        plan_time=instant(now_ns),
    )


def candidate_message(
    terms: OrderTerms, one: Candidate, decision: Decision | None = None
) -> routing_pb2.RouteCandidate:
    """A candidate as the contract shows it; with the decision, why it lost."""
    shown = routing_pb2.RouteCandidate(venue=one.venue, eligible=one.refusal is None)
    if one.refusal is not None:
        shown.reason = reason_number(one.refusal.reason)
        shown.message = one.refusal.message
    elif decision is not None:
        shown.message = _why_it_lost(terms, one, decision)
    if one.book_age_s is not None:
        shown.book_age.CopyFrom(_duration(one.book_age_s))
    rate = one.fees.taker if one.fees is not None else None
    for name, value in (("best_price", one.best_price), ("spread", one.spread), ("fee_rate", rate)):
        if value is not None:
            setattr(shown, name, format_decimal(to_wire(value)))
    if one.walk is None or one.cost is None:
        return shown
    shown.available_quantity = format_decimal(to_wire(one.walk.available))
    if decision is not None and one.venue in decision.near:
        shown.near_quantity = format_decimal(to_wire(decision.near[one.venue]))
    _show_costs(shown, terms, one, decision.strategy if decision is not None else 0)
    if one.walk.taken == terms.quantity:
        average = divide(one.walk.notional, terms.quantity)
        shown.expected_price = format_decimal(average)
        if one.middle:
            shown.slippage_bps = format_decimal(slippage_bps(terms, average, one.middle))
    return shown


def _show_costs(shown: routing_pb2.RouteCandidate, terms: OrderTerms, one: Candidate, strategy: int) -> None:
    assert one.walk is not None
    assert one.cost is not None
    counted = terms.quantity if terms.may_rest else one.walk.taken
    if one.fee is not None and one.fees is not None:
        shown.expected_fee = format_decimal(to_wire(one.fee))
    if one.funding is not None:
        shown.expected_funding = format_decimal(to_wire(one.funding))
    if not counted or one.all_in is None:
        return
    shown.all_in_cost = format_decimal(divide(one.all_in, counted))
    score = score_of(terms, one, strategy)
    if score is not None:
        shown.score = format_decimal(divide(score, counted))


def score_of(terms: OrderTerms, one: Candidate, strategy: int) -> Decimal | None:
    """What the strategy compares, of all that is counted; None where it is no cost."""
    assert one.cost is not None
    match strategy:
        case routing_pb2.ROUTING_STRATEGY_BEST_PRICE | routing_pb2.ROUTING_STRATEGY_UNSPECIFIED:
            return one.cost if terms.is_buy else EXACT.minus(one.cost)
        case routing_pb2.ROUTING_STRATEGY_ALL_IN_COST:
            return one.all_in
        case routing_pb2.ROUTING_STRATEGY_LOWEST_FEES:
            return one.fee
        case _:
            return None


_CRITERIA: dict[int, str] = {
    routing_pb2.ROUTING_STRATEGY_BEST_PRICE: "the best price",
    routing_pb2.ROUTING_STRATEGY_LOWEST_FEES: "the lowest fee",
    routing_pb2.ROUTING_STRATEGY_HIGHEST_LIQUIDITY: "the most quantity near the best price",
    routing_pb2.ROUTING_STRATEGY_USER_PREFERENCE: "the first place in the order of preference",
    routing_pb2.ROUTING_STRATEGY_ALL_IN_COST: "the least cost with fee and expected funding",
}


def _why_it_lost(terms: OrderTerms, one: Candidate, decision: Decision) -> str:
    """Empty for a venue that has a part."""
    chosen = decision.chosen
    assert chosen is not None
    if one.venue in {part.venue for part in decision.parts}:
        return ""
    if len(decision.parts) > 1:
        return "the division without it costs less"
    mine, best = score_of(terms, one, decision.strategy), score_of(terms, chosen, decision.strategy)
    if mine is None or best is None or mine == best:
        return f"{chosen.venue} has {_CRITERIA.get(decision.strategy, 'a better score')}"
    more = format_decimal(to_wire(EXACT.subtract(mine, best)))
    return f"{more} quote units against {chosen.venue}, which has {_CRITERIA.get(decision.strategy, 'a better score')}"


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration


def _explanation(terms: OrderTerms, decision: Decision) -> str:
    chosen = decision.chosen
    assert chosen is not None
    assert chosen.walk is not None
    usable = sum(1 for one in decision.candidates if one.refusal is None)
    among = f"of {usable} usable of {len(decision.candidates)} venues"
    whole = format_decimal(terms.quantity)
    if len(decision.parts) > 1:
        parts = ", ".join(f"{format_decimal(part.quantity)} at {part.venue}" for part in decision.parts)
        return f"{whole} in {len(decision.parts)} parts {among}: {parts}"
    taken = format_decimal(to_wire(chosen.walk.taken))
    has = _CRITERIA.get(decision.strategy, "the best score")
    return f"{chosen.venue} has {has} {among}: {taken} of {whole} fill at once on the book seen"


def no_venue_error(candidates: Sequence[Candidate]) -> MeshError:
    """Why nothing was routed. A reason that all venues share is told as itself, with its field.

    Venues that do not list the symbol or serve the account do not count while another has a reason of its own.
    """
    metadata = {one.venue: f"{one.refusal.reason}: {one.refusal.message}" for one in candidates if one.refusal}
    reasons = {one.refusal.reason for one in candidates if one.refusal}
    telling = reasons - _NOT_HERE or reasons
    text = "; ".join(f"{venue}: {why}" for venue, why in metadata.items())
    if len(telling) == 1 and (shared := _SHARED.get(next(iter(telling)))) is not None:
        kind, field = shared
        retry = RETRY_AFTER_S if issubclass(kind, GatewayUnavailable | Reconciling) else None
        hints = next((one.refusal.metadata for one in candidates if one.refusal and one.refusal.metadata), {})
        return kind(text, reason=next(iter(telling)), field=field, retry_after_s=retry, metadata={**hints, **metadata})
    return PreconditionFailed(
        f"no venue can take the order: {text}", reason=Reason.NO_ELIGIBLE_VENUE, metadata=metadata
    )
