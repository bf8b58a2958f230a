"""How an order is to be routed: the caller's instruction over the mesh's policy, checked. Pure."""

from __future__ import annotations

from collections.abc import Collection
from decimal import Decimal

from google.protobuf.duration_pb2 import Duration

from router.selection import Wish
from router.views import ASSUMED_FEE_RATE, Rules
from venuemesh.errors import InvalidRequest, Reason, VenueNotFound
from venuemesh.v1 import order_pb2, routing_pb2

EXPLICIT = routing_pb2.ROUTING_STRATEGY_EXPLICIT
PREFERENCE = routing_pb2.ROUTING_STRATEGY_USER_PREFERENCE
MAX_HORIZON_S = 30 * 24 * 3_600
MAX_BOOK_AGE_S = 3_600
_NS_PER_S = 1_000_000_000
_BY_COST = frozenset({routing_pb2.ROUTING_STRATEGY_BEST_PRICE, routing_pb2.ROUTING_STRATEGY_ALL_IN_COST})
_SERVED = frozenset(routing_pb2.RoutingStrategy.values())
_DEFAULTS = _SERVED - {routing_pb2.ROUTING_STRATEGY_UNSPECIFIED, EXPLICIT, PREFERENCE}
_NEVER = routing_pb2.SPLIT_MODE_NEVER


def first_policy(max_book_age_s: float, excluded: Collection[str], horizon_s: int) -> routing_pb2.RoutingPolicy:
    """The policy of the configuration, in force until somebody changes it; its version is 0."""
    return routing_pb2.RoutingPolicy(
        default_strategy=routing_pb2.ROUTING_STRATEGY_ALL_IN_COST,
        default_split_mode=routing_pb2.SPLIT_MODE_WHEN_CHEAPER,
        funding_horizon=Duration(seconds=horizon_s),
        max_book_age=_duration(max_book_age_s),
        excluded_venues=sorted(excluded),
    )


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(seconds * _NS_PER_S))
    return duration


def check_instruction(
    order: order_pb2.NewOrder, instruction: routing_pb2.RoutingInstruction, venues: Collection[str]
) -> bool:
    """Refuse what contradicts itself or is not known; True when the order names its venue.

    Args:
        venues: every venue of the mesh.
    Raises:
        InvalidRequest, VenueNotFound: names the field and the rule.
    """
    strategy = instruction.strategy
    if strategy not in _SERVED:
        raise InvalidRequest(f"instruction.strategy: {strategy} is not known", field="instruction.strategy")
    if order.venue and strategy not in (EXPLICIT, routing_pb2.ROUTING_STRATEGY_UNSPECIFIED):
        raise _contradiction("order.venue", "is set with a strategy other than EXPLICIT")
    if not order.venue and strategy == EXPLICIT:
        raise _missing("order.venue", "is empty with EXPLICIT")
    _check_lists(order, instruction, venues)
    _check_split(order, instruction)
    _check_horizon(instruction.funding_horizon, "instruction.funding_horizon")
    return bool(order.venue)


def _check_lists(
    order: order_pb2.NewOrder, instruction: routing_pb2.RoutingInstruction, venues: Collection[str]
) -> None:
    preferred, excluded = list(instruction.preferred_venues), set(instruction.excluded_venues)
    if instruction.strategy != PREFERENCE and preferred:
        raise _contradiction("instruction.preferred_venues", "goes with USER_PREFERENCE only")
    if instruction.strategy == PREFERENCE and not preferred:
        raise _missing("instruction.preferred_venues", "is empty with USER_PREFERENCE")
    if len(set(preferred)) != len(preferred):
        raise _contradiction("instruction.preferred_venues", "names a venue twice")
    if both := excluded.intersection(preferred):
        raise _contradiction("instruction.excluded_venues", f"excludes {min(both)}, which is preferred")
    if order.venue and order.venue in excluded:
        raise _contradiction("instruction.excluded_venues", f"excludes {order.venue}, which order.venue names")
    _check_known(preferred, venues, "instruction.preferred_venues")
    _check_known(sorted(excluded), venues, "instruction.excluded_venues")


def _check_known(names: Collection[str], venues: Collection[str], field: str) -> None:
    for name in names:
        if name not in venues:
            raise VenueNotFound(f"{field}: no venue {name[:48]!r} in this mesh", field=field)


def _check_split(order: order_pb2.NewOrder, instruction: routing_pb2.RoutingInstruction) -> None:
    mode, field = instruction.split_mode, "instruction.split_mode"
    if mode not in routing_pb2.SplitMode.values():
        raise InvalidRequest(f"{field}: {mode} is not known", field=field)
    if mode in (routing_pb2.SPLIT_MODE_UNSPECIFIED, _NEVER):
        return
    if order.venue or instruction.strategy == PREFERENCE:
        raise _contradiction(field, "splits over venues, and the order goes to one that is named")
    if mode == routing_pb2.SPLIT_MODE_WHEN_CHEAPER and instruction.strategy not in (
        *_BY_COST,
        routing_pb2.ROUTING_STRATEGY_UNSPECIFIED,
    ):
        raise _contradiction(field, "WHEN_CHEAPER compares costs, and the strategy compares something else")
    if order.time_in_force == order_pb2.TIME_IN_FORCE_FOK:
        raise _contradiction(field, "splits an order that must fill whole: no two venues can promise that together")


def _check_horizon(horizon: Duration, field: str) -> None:
    if not 0 <= horizon.ToNanoseconds() <= MAX_HORIZON_S * _NS_PER_S:
        raise InvalidRequest(f"{field}: {horizon.ToJsonString()} is not within 0 s to {MAX_HORIZON_S} s", field=field)


def wish_of(
    order: order_pb2.NewOrder, instruction: routing_pb2.RoutingInstruction, policy: routing_pb2.RoutingPolicy
) -> Wish:
    """The instruction with the policy's words where it has none of its own; it has been checked."""
    strategy = instruction.strategy or policy.default_strategy
    mode = instruction.split_mode
    if not mode:
        # A default cannot contradict anybody: it gives way to a strategy or an order that excludes it.
        divisible = strategy in _BY_COST and order.time_in_force != order_pb2.TIME_IN_FORCE_FOK
        mode = policy.default_split_mode if divisible else _NEVER
    return Wish(strategy=strategy, split_mode=mode, preferred=tuple(instruction.preferred_venues))


def rules_of(
    instruction: routing_pb2.RoutingInstruction,
    policy: routing_pb2.RoutingPolicy,
    assumed_fee_rate: Decimal = ASSUMED_FEE_RATE,
) -> Rules:
    """What leaves venues out and what counts as cost, for one decision."""
    horizon = instruction.funding_horizon if instruction.HasField("funding_horizon") else policy.funding_horizon
    return Rules(
        max_book_age_s=policy.max_book_age.ToNanoseconds() / _NS_PER_S,
        excluded=frozenset((*policy.excluded_venues, *instruction.excluded_venues)),
        horizon_s=horizon.seconds,
        assumed_fee_rate=assumed_fee_rate,
    )


def check_policy(policy: routing_pb2.RoutingPolicy, venues: Collection[str]) -> None:
    """Refuse rules nobody could route by.

    Raises:
        InvalidRequest, VenueNotFound: names the field and the rule.
    """
    if policy.default_strategy not in _DEFAULTS:
        field = "policy.default_strategy"
        raise InvalidRequest(f"{field}: {policy.default_strategy} is not one that needs no further word", field=field)
    if policy.default_split_mode not in routing_pb2.SplitMode.values() or not policy.default_split_mode:
        field = "policy.default_split_mode"
        raise InvalidRequest(f"{field}: {policy.default_split_mode} is not a mode", field=field)
    _check_horizon(policy.funding_horizon, "policy.funding_horizon")
    if not 0 < policy.max_book_age.ToNanoseconds() <= MAX_BOOK_AGE_S * _NS_PER_S:
        field = "policy.max_book_age"
        raise InvalidRequest(
            f"{field}: {policy.max_book_age.ToJsonString()} is not above 0 s and up to {MAX_BOOK_AGE_S} s", field=field
        )
    _check_known(sorted(policy.excluded_venues), venues, "policy.excluded_venues")


def _contradiction(field: str, rule: str) -> InvalidRequest:
    return InvalidRequest(f"{field} {rule}", reason=Reason.CONTRADICTORY_FIELDS, field=field)


def _missing(field: str, rule: str) -> InvalidRequest:
    return InvalidRequest(f"{field} {rule}", reason=Reason.REQUIRED_FIELD_MISSING, field=field)
