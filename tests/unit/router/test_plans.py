"""Plans, routes and the errors of a decision without a venue."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.assess import Candidate
from router.cost import Charges, Walk
from router.parents import child_order
from router.plans import (
    candidate_message,
    key_reused,
    new_route,
    no_venue_error,
    route_id,
    route_key,
    route_plan,
    same_content,
)
from router.selection import Decision, Part
from router.terms import parse_terms
from router.views import FeeRates, Level, Refusal
from venuemesh.errors import GatewayUnavailable, InvalidOrder, NotFound, PreconditionFailed, Reason
from venuemesh.gateway.order_wire import order_id_of
from venuemesh.v1 import order_pb2, routing_pb2

NOW_NS = 1_790_000_000_000_000_000
BEST_PRICE = routing_pb2.ROUTING_STRATEGY_BEST_PRICE
FEES = FeeRates(maker=Decimal("0.0001"), taker=Decimal("0.0004"))


def order(**changes: object) -> order_pb2.NewOrder:
    values: dict[str, object] = {
        "account_id": "main",
        "client_order_id": "k1",
        "symbol": "BTC/USDC:USDC",
        "side": order_pb2.SIDE_BUY,
        "order_type": order_pb2.ORDER_TYPE_MARKET,
        "quantity": "3",
        "tags": {"b": "2", "a": "1"},
        **changes,
    }
    return order_pb2.NewOrder(**values)  # type: ignore[arg-type]


def good(venue: str = "v") -> Candidate:
    walk = Walk(taken=Decimal(3), notional=Decimal(301), available=Decimal(7))
    return Candidate(
        venue=venue,
        walk=walk,
        cost=Decimal(301),
        best_price=Decimal(100),
        spread=Decimal(1),
        middle=Decimal("99.5"),
        all_in=Decimal("301.1204"),
        fees=FEES,
        fee=Decimal("0.1204"),
        book_age_s=0.25,
        levels=(Level(Decimal(100), Decimal(2)), Level(Decimal(101), Decimal(5))),
        charges=Charges(fees=FEES, funding_rate=Decimal(0)),
    )


def bad(venue: str, reason: Reason) -> Candidate:
    return Candidate(venue=venue, refusal=Refusal(reason, "because"))


def plan() -> routing_pb2.RoutePlan:
    candidates = (good(), bad("w", Reason.NO_LIQUIDITY))
    decision = Decision(strategy=BEST_PRICE, parts=(Part("v", Decimal(3)),), candidates=candidates)
    return route_plan(parse_terms(order()), decision, lambda _: "k1", NOW_NS)


def test_plan_shows_price_fee_and_slippage_in_exact_decimals() -> None:
    """Averages are rounded to 18 digits, nothing else is rounded."""
    shown = plan()
    assert shown.expected_price == "100.333333333333333333"
    assert shown.expected_fee == "0.1204"
    assert Decimal(shown.slippage_bps) == pytest.approx(Decimal("83.75"), abs=Decimal("0.01"))
    assert shown.candidates[0].available_quantity == "7"
    assert shown.candidates[0].book_age.ToNanoseconds() == 250_000_000
    assert [one.eligible for one in shown.candidates] == [True, False]
    assert [(leg.venue, leg.quantity, leg.client_order_id) for leg in shown.legs] == [("v", "3", "k1")]


def test_score_of_a_sale_is_negative_so_that_lower_is_better() -> None:
    """The contract compares scores one way only."""
    terms = parse_terms(order(side=order_pb2.SIDE_SELL))
    assert candidate_message(terms, good()).score == "-100.333333333333333333"


def test_child_is_made_from_the_stored_route_and_keeps_unknown_fields() -> None:
    """Same terms, key and unknown fields; only the venue is new."""
    asked = order()
    asked.MergeFromString(b"\xfa\x3f\x05hello")
    stored = routing_pb2.Route.FromString(
        new_route(asked, routing_pb2.RoutingInstruction(), plan(), NOW_NS).SerializeToString()
    )
    child = child_order(stored, stored.plan.legs[0])
    assert child.venue == "v"
    child.venue = ""
    assert child.SerializeToString(deterministic=True) == asked.SerializeToString(deterministic=True)


@pytest.mark.parametrize(
    ("changes", "same"),
    [({"correlation_id": "x"}, True), ({"tags": {"a": "1", "b": "2"}}, True), ({"quantity": "4"}, False)],
)
def test_repeat_is_the_same_content_whatever_its_correlation_id(changes: dict[str, object], same: bool) -> None:
    """Order of tags and correlation do not matter; a quantity does."""
    instruction = routing_pb2.RoutingInstruction()
    route = new_route(order(correlation_id="first"), instruction, plan(), NOW_NS)
    assert same_content(route, order(**changes), instruction) is same
    other = routing_pb2.RoutingInstruction(strategy=BEST_PRICE)
    assert not same_content(route, order(**changes), other)


def test_reused_key_names_the_route() -> None:
    """The caller can read what the key belongs to."""
    route = new_route(order(), routing_pb2.RoutingInstruction(), plan(), NOW_NS)
    error = key_reused(route)
    assert error.reason is Reason.CLIENT_ORDER_ID_REUSED
    assert error.metadata["route_id"] == route.route_id
    assert error.metadata["order_id"] == order_id_of("v", "main", "k1")


@settings(max_examples=50, deadline=None)
@given(account=st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"])), key=st.text("abc-_"))
def test_route_id_holds_its_key(account: str, key: str) -> None:
    """Reading an id gives back the account and key it was made of."""
    assert route_key(route_id(account, key)) == (account, key)


@pytest.mark.parametrize("name", ["", "rt_", "rt_!!", "rt_YWJj", "YQBi", "rt_YQBi=", "rt_\xe4"])
def test_foreign_route_id_is_not_found(name: str) -> None:
    """No id of ours: ROUTE_NOT_FOUND, never a fault."""
    with pytest.raises(NotFound) as caught:
        route_key(name)
    assert caught.value.reason is Reason.ROUTE_NOT_FOUND


def test_reason_shared_by_all_venues_is_told_as_itself_with_its_field() -> None:
    """An order no venue could take for one reason reads as that reason."""
    off_lot = Candidate(venue="a", refusal=Refusal(Reason.QUANTITY_OFF_LOT, "because", {"nearest_below": "1"}))
    error = no_venue_error([off_lot, bad("b", Reason.INSTRUMENT_NOT_FOUND)])
    assert isinstance(error, InvalidOrder)
    assert error.metadata["nearest_below"] == "1"
    assert (error.reason, error.field) == (Reason.QUANTITY_OFF_LOT, "order.quantity")


def test_different_reasons_are_no_eligible_venue_with_each_named() -> None:
    """The metadata says why, by venue."""
    error = no_venue_error([bad("a", Reason.NO_LIQUIDITY), bad("b", Reason.STREAM_RECONCILING)])
    assert isinstance(error, PreconditionFailed)
    assert error.reason is Reason.NO_ELIGIBLE_VENUE
    assert error.metadata == {"a": "NO_LIQUIDITY: because", "b": "STREAM_RECONCILING: because"}


def test_all_gateways_away_is_unavailable_with_a_time_to_wait() -> None:
    """A later try may do."""
    error = no_venue_error([bad("a", Reason.GATEWAY_UNAVAILABLE), bad("b", Reason.INSTRUMENT_NOT_FOUND)])
    assert isinstance(error, GatewayUnavailable)
    assert error.retry_after_s is not None
