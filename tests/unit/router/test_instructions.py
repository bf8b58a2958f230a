"""Instructions over the policy: what is refused, and whose word counts."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from router.instructions import check_instruction, check_policy, first_policy, rules_of, wish_of
from venuemesh.errors import InvalidRequest, MeshError, Reason
from venuemesh.v1 import order_pb2, routing_pb2

BEST_PRICE = routing_pb2.ROUTING_STRATEGY_BEST_PRICE
PREFERENCE = routing_pb2.ROUTING_STRATEGY_USER_PREFERENCE
ALWAYS, NEVER = routing_pb2.SPLIT_MODE_ALWAYS, routing_pb2.SPLIT_MODE_NEVER
WHEN_CHEAPER = routing_pb2.SPLIT_MODE_WHEN_CHEAPER
VENUES = frozenset({"v", "w"})
POLICY = first_policy(5.0, ("w",), 3_600)


def order(venue: str = "", **changes: Any) -> order_pb2.NewOrder:
    return order_pb2.NewOrder(venue=venue, **changes)


def instruction(**changes: Any) -> routing_pb2.RoutingInstruction:
    return routing_pb2.RoutingInstruction(**changes)


@pytest.mark.parametrize(
    ("venue", "wishes", "field"),
    [
        ("v", {"strategy": BEST_PRICE}, "order.venue"),
        ("", {"strategy": routing_pb2.ROUTING_STRATEGY_EXPLICIT}, "order.venue"),
        ("", {"strategy": 9999}, "instruction.strategy"),
        ("", {"preferred_venues": ["v"]}, "instruction.preferred_venues"),
        ("", {"strategy": PREFERENCE}, "instruction.preferred_venues"),
        ("", {"strategy": PREFERENCE, "preferred_venues": ["v", "v"]}, "instruction.preferred_venues"),
        ("", {"strategy": PREFERENCE, "preferred_venues": ["nowhere"]}, "instruction.preferred_venues"),
        (
            "",
            {"strategy": PREFERENCE, "preferred_venues": ["v"], "excluded_venues": ["v"]},
            "instruction.excluded_venues",
        ),
        ("", {"excluded_venues": ["nowhere"]}, "instruction.excluded_venues"),
        ("v", {"excluded_venues": ["v"]}, "instruction.excluded_venues"),
        ("v", {"split_mode": ALWAYS}, "instruction.split_mode"),
        ("", {"split_mode": 9999}, "instruction.split_mode"),
        (
            "",
            {"strategy": PREFERENCE, "preferred_venues": ["v"], "split_mode": ALWAYS},
            "instruction.split_mode",
        ),
        (
            "",
            {"strategy": routing_pb2.ROUTING_STRATEGY_LOWEST_FEES, "split_mode": WHEN_CHEAPER},
            "instruction.split_mode",
        ),
        ("", {"funding_horizon": Duration(seconds=-1)}, "instruction.funding_horizon"),
        ("", {"funding_horizon": Duration(seconds=10**9)}, "instruction.funding_horizon"),
    ],
)
def test_contradictory_or_unknown_instruction_is_refused_naming_the_field(
    venue: str, wishes: dict[str, Any], field: str
) -> None:
    """Field and rule are in the error."""
    with pytest.raises(MeshError) as caught:
        check_instruction(order(venue), instruction(**wishes), VENUES)
    assert caught.value.field == field
    assert caught.value.message.startswith(field)


def test_order_that_must_fill_whole_is_not_split_on_demand() -> None:
    """Asked for, it is refused; as the policy's default it gives way."""
    whole = order(time_in_force=order_pb2.TIME_IN_FORCE_FOK)
    with pytest.raises(InvalidRequest) as caught:
        check_instruction(whole, instruction(split_mode=ALWAYS), VENUES)
    assert (caught.value.reason, caught.value.field) == (Reason.CONTRADICTORY_FIELDS, "instruction.split_mode")
    assert wish_of(whole, instruction(), POLICY).split_mode == NEVER


@pytest.mark.parametrize("wishes", [{}, {"strategy": BEST_PRICE, "split_mode": WHEN_CHEAPER}, {"split_mode": ALWAYS}])
def test_sound_instruction_passes(wishes: dict[str, Any]) -> None:
    """And says whether the order names its venue."""
    assert not check_instruction(order(), instruction(**wishes), VENUES)
    assert check_instruction(order("v"), instruction(), VENUES)


def test_policy_speaks_where_the_instruction_does_not() -> None:
    """Strategy, split mode and horizon each fall back by themselves; exclusions add up."""
    plain = wish_of(order(), instruction(), POLICY)
    assert (plain.strategy, plain.split_mode) == (routing_pb2.ROUTING_STRATEGY_ALL_IN_COST, WHEN_CHEAPER)
    named = wish_of(order(), instruction(strategy=routing_pb2.ROUTING_STRATEGY_LOWEST_FEES), POLICY)
    assert named.split_mode == NEVER
    rules = rules_of(instruction(excluded_venues=["v"]), POLICY)
    assert (rules.excluded, rules.horizon_s, rules.max_book_age_s) == (frozenset({"v", "w"}), 3_600, 5.0)
    assert rules_of(instruction(funding_horizon=Duration(seconds=60)), POLICY).horizon_s == 60


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"default_strategy": 0}, "policy.default_strategy"),
        ({"default_strategy": PREFERENCE}, "policy.default_strategy"),
        ({"default_split_mode": 0}, "policy.default_split_mode"),
        ({"funding_horizon": Duration(seconds=-1)}, "policy.funding_horizon"),
        ({"max_book_age": Duration()}, "policy.max_book_age"),
        ({"excluded_venues": ["nowhere"]}, "policy.excluded_venues"),
    ],
)
def test_policy_nobody_could_route_by_is_refused(changes: dict[str, Any], field: str) -> None:
    """Field by field; the configuration's own passes."""
    check_policy(POLICY, VENUES)
    wanted = routing_pb2.RoutingPolicy()
    wanted.CopyFrom(POLICY)
    for name in changes:
        wanted.ClearField(name)  # type: ignore[arg-type]
    wanted.MergeFrom(routing_pb2.RoutingPolicy(**changes))
    with pytest.raises(MeshError) as caught:
        check_policy(wanted, VENUES)
    assert caught.value.field == field
