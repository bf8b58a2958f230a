"""Decisions as the contract says them: plan, route, child order, and the error when no venue is left. Pure.

A route is journalled once per (account, key) and everything later is made from the stored one, so that a repeat
sends the same child to the same venue whatever the books say by then.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from decimal import Decimal

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from router.selection import BPS, Candidate, Decision
from router.terms import OrderTerms
from venuemesh.errors import (
    AccountNotFound,
    ClientOrderIdReused,
    GatewayUnavailable,
    InstrumentNotFound,
    InvalidOrder,
    InvalidRequest,
    MeshError,
    NotFound,
    PreconditionFailed,
    Reason,
    Reconciling,
)
from venuemesh.gateway.order_wire import fingerprint_of, order_id_of
from venuemesh.money import EXACT, divide, format_decimal, to_wire
from venuemesh.v1 import error_pb2, order_pb2, routing_pb2

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


def child_order(route: routing_pb2.Route) -> order_pb2.NewOrder:
    """The order the only leg sends: the stored terms with the leg's venue, quantity and key."""
    leg = route.plan.legs[0]
    child = order_pb2.NewOrder()
    child.CopyFrom(route.order)
    child.venue = leg.venue
    child.quantity = leg.quantity
    child.client_order_id = leg.client_order_id
    return child


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


def route_plan(terms: OrderTerms, decision: Decision, client_order_id: str, now_ns: int) -> routing_pb2.RoutePlan:
    """The plan of a decision that chose a venue: one leg with the whole quantity."""
    chosen = decision.chosen
    assert chosen is not None
    plan = routing_pb2.RoutePlan(
        strategy=decision.strategy,  # type: ignore[arg-type]
        candidates=[candidate_message(terms, one) for one in decision.candidates],
        explanation=_explanation(terms, decision),
        plan_time=instant(now_ns),
    )
    shown = plan.candidates[0]
    leg = plan.legs.add(venue=chosen.venue, quantity=format_decimal(terms.quantity), client_order_id=client_order_id)
    for name in ("expected_price", "expected_fee", "slippage_bps"):
        if shown.HasField(name):
            setattr(plan, name, getattr(shown, name))
    if shown.HasField("expected_price"):
        leg.expected_price = shown.expected_price
    return plan


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


def candidate_message(terms: OrderTerms, one: Candidate) -> routing_pb2.RouteCandidate:
    """A candidate as the contract shows it."""
    shown = routing_pb2.RouteCandidate(venue=one.venue, eligible=one.refusal is None)
    if one.refusal is not None:
        shown.reason = reason_number(one.refusal.reason)
        shown.message = one.refusal.message
    if one.book_age_s is not None:
        shown.book_age.CopyFrom(_duration(one.book_age_s))
    for name, value in (("best_price", one.best_price), ("spread", one.spread), ("fee_rate", one.fee_rate)):
        if value is not None:
            setattr(shown, name, format_decimal(to_wire(value)))
    if one.walk is None or one.cost is None:
        return shown
    shown.available_quantity = format_decimal(to_wire(one.walk.available))
    counted = terms.quantity if terms.may_rest else one.walk.taken
    if counted:
        score = divide(one.cost, counted)
        shown.score = format_decimal(score if terms.is_buy else EXACT.minus(score))
    if one.walk.taken == terms.quantity:
        _show_expected(shown, terms, one, one.walk.notional)
    return shown


def _show_expected(shown: routing_pb2.RouteCandidate, terms: OrderTerms, one: Candidate, notional: Decimal) -> None:
    average = divide(notional, terms.quantity)
    shown.expected_price = format_decimal(average)
    if one.fee_rate is not None:
        shown.expected_fee = format_decimal(to_wire(EXACT.multiply(one.fee_rate, notional)))
    if one.middle:
        worse = EXACT.subtract(average, one.middle)
        worse = worse if terms.is_buy else EXACT.minus(worse)
        shown.slippage_bps = format_decimal(divide(EXACT.multiply(worse, BPS), one.middle))


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration


def _explanation(terms: OrderTerms, decision: Decision) -> str:
    chosen = decision.chosen
    assert chosen is not None
    assert chosen.walk is not None
    usable = sum(1 for one in decision.candidates if one.refusal is None)
    taken = format_decimal(to_wire(chosen.walk.taken))
    return (
        f"{chosen.venue} has the best price of {usable} usable of {len(decision.candidates)} venues: "
        f"{taken} of {format_decimal(terms.quantity)} fill at once on the book seen"
    )


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


_SERVED_STRATEGIES = frozenset(
    {
        routing_pb2.ROUTING_STRATEGY_UNSPECIFIED,
        routing_pb2.ROUTING_STRATEGY_EXPLICIT,
        routing_pb2.ROUTING_STRATEGY_BEST_PRICE,
    }
)


def check_instruction(order: order_pb2.NewOrder, instruction: routing_pb2.RoutingInstruction) -> bool:
    """Refuse what contradicts itself or is not served; True when the order names its venue.

    Raises:
        InvalidRequest: names the field and the rule.
    """
    explicit = routing_pb2.ROUTING_STRATEGY_EXPLICIT
    strategy = instruction.strategy
    if strategy not in _SERVED_STRATEGIES:
        known = strategy in routing_pb2.RoutingStrategy.values()
        word = routing_pb2.RoutingStrategy.Name(strategy) if known else str(strategy)
        raise InvalidRequest(f"instruction.strategy: {word} is not served", field="instruction.strategy")
    if order.venue and strategy not in (explicit, routing_pb2.ROUTING_STRATEGY_UNSPECIFIED):
        raise _contradiction("order.venue", "is set with a strategy other than EXPLICIT")
    if not order.venue and strategy == explicit:
        raise InvalidRequest(
            "order.venue is empty with EXPLICIT", reason=Reason.REQUIRED_FIELD_MISSING, field="order.venue"
        )
    if instruction.preferred_venues:
        raise _contradiction("instruction.preferred_venues", "goes with USER_PREFERENCE only")
    if order.venue and order.venue in instruction.excluded_venues:
        raise _contradiction("instruction.excluded_venues", f"excludes {order.venue}, which order.venue names")
    if instruction.split_mode not in (routing_pb2.SPLIT_MODE_UNSPECIFIED, routing_pb2.SPLIT_MODE_NEVER):
        raise InvalidRequest(
            f"instruction.split_mode: {instruction.split_mode} is not served, orders are not split",
            field="instruction.split_mode",
        )
    return bool(order.venue)


def _contradiction(field: str, rule: str) -> InvalidRequest:
    return InvalidRequest(f"{field} {rule}", reason=Reason.CONTRADICTORY_FIELDS, field=field)
