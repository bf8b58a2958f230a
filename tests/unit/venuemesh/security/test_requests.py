"""Requests of callers that are limited to accounts and venues."""

from __future__ import annotations

import pytest
from google.protobuf.message import Message

from venuemesh.errors import PermissionDenied
from venuemesh.security.grants import SCOPES, Grant
from venuemesh.security.requests import RequestRules, rules_of
from venuemesh.v1 import (
    account_service_pb2,
    market_data_service_pb2,
    order_pb2,
    order_service_pb2,
    portfolio_service_pb2,
    risk_service_pb2,
    venue_service_pb2,
)

LIMITED = Grant(
    subject="x", scopes=frozenset(SCOPES.values()), accounts=frozenset({"main"}), venues=frozenset({"lighter"})
)
SUBMIT = "/venuemesh.v1.OrderService/SubmitOrder"


def rules(method: str, request: Message) -> RequestRules:
    return rules_of(method, request.DESCRIPTOR)


def submit(account: str, venue: str) -> order_service_pb2.SubmitOrderRequest:
    return order_service_pb2.SubmitOrderRequest(order=order_pb2.NewOrder(account_id=account, venue=venue))


def test_request_within_the_limits_is_admitted() -> None:
    """Account and venue are found inside the order."""
    request = submit("main", "lighter")
    rules(SUBMIT, request).require(LIMITED, request, "")


@pytest.mark.parametrize(
    ("account", "venue", "text"),
    [
        ("hedge", "lighter", "the account hedge; the token is limited to main"),
        ("", "lighter", "no account"),
        ("main", "hyperliquid", "the venue hyperliquid"),
        ("main", "", r"no venue \(which means all\)"),
    ],
)
def test_request_outside_the_limits_is_refused_naming_what_and_the_limit(account: str, venue: str, text: str) -> None:
    """An empty field means all, and all is more."""
    request = submit(account, venue)
    with pytest.raises(PermissionDenied, match=text):
        rules(SUBMIT, request).require(LIMITED, request, "")


def test_empty_venue_at_a_gateway_means_the_gateway() -> None:
    """There it cannot mean all."""
    request = submit("main", "")
    rules(SUBMIT, request).require(LIMITED, request, "lighter")
    with pytest.raises(PermissionDenied, match="the venue hyperliquid"):
        rules(SUBMIT, request).require(LIMITED, request, "hyperliquid")


def test_one_wrong_element_of_a_batch_refuses_the_batch() -> None:
    """Each element is looked at."""
    orders = [order_pb2.NewOrder(account_id=name, venue="lighter") for name in ("main", "hedge")]
    request = order_service_pb2.BatchSubmitOrdersRequest(orders=orders)
    with pytest.raises(PermissionDenied, match="hedge"):
        rules("/venuemesh.v1.OrderService/BatchSubmitOrders", request).require(LIMITED, request, "")


def test_filter_lists_must_name_what_they_mean() -> None:
    """An empty filter of the portfolio is everything."""
    method = "/venuemesh.v1.PortfolioService/GetPortfolio"
    named = portfolio_service_pb2.PortfolioFilter(account_ids=["main"], venues=["lighter"])
    request = portfolio_service_pb2.GetPortfolioRequest(filter=named)
    rules(method, request).require(LIMITED, request, "")
    for empty in (portfolio_service_pb2.GetPortfolioRequest(), portfolio_service_pb2.GetPortfolioRequest(
        filter=portfolio_service_pb2.PortfolioFilter(venues=["lighter"])
    )):  # fmt: skip
        with pytest.raises(PermissionDenied, match="names no account"):
            rules(method, empty).require(LIMITED, empty, "")


def test_market_data_needs_no_account_and_still_its_venue() -> None:
    """Prices are the same for everybody."""
    method = "/venuemesh.v1.MarketDataService/GetOrderBook"
    request = market_data_service_pb2.GetOrderBookRequest(venue="lighter")
    rules(method, request).require(LIMITED, request, "")
    other = market_data_service_pb2.GetOrderBookRequest(venue="hyperliquid")
    with pytest.raises(PermissionDenied):
        rules(method, other).require(LIMITED, other, "")


def test_listing_venues_is_open_and_a_method_that_cannot_be_limited_is_not() -> None:
    """The risk state of everybody is more than one account's."""
    venues = venue_service_pb2.ListVenuesRequest()
    rules("/venuemesh.v1.VenueService/ListVenues", venues).require(LIMITED, venues, "")
    state = risk_service_pb2.GetRiskStateRequest()
    with pytest.raises(PermissionDenied, match="names no account"):
        rules("/venuemesh.v1.RiskService/GetRiskState", state).require(LIMITED, state, "")


def test_caller_without_limits_is_not_looked_at() -> None:
    """Only what is limited is held to it."""
    request = account_service_pb2.ListBalancesRequest()
    free = Grant(subject="x", scopes=frozenset(SCOPES.values()))
    assert not free.limited
    rules("/venuemesh.v1.AccountService/ListBalances", request).require(free, request, "")
