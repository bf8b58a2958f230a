"""Pre-trade checks: what refuses an order, by which limit, and what passes whatever the limits are."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from router import risk_ledger as kinds
from router.risk import RiskOrder, check_order, run_checks
from router.risk_ledger import Claim, Ledger
from router.risk_plugins import CheckNotFound, load_checks
from tests.unit.router.risk_facts import ACCOUNT, HERE, PLACE, SYMBOL, VENUE, ledger, limit, order
from venuemesh.errors import MeshError, Reason
from venuemesh.v1 import order_pb2


def refused(held: Ledger, wanted: RiskOrder, accounts: Any = (HERE,)) -> MeshError:
    """The refusal of an order."""
    with pytest.raises(MeshError) as caught:
        check_order(held, wanted, accounts)
    return caught.value


@pytest.mark.parametrize(
    ("kind", "bound", "wanted", "after"),
    [
        (kinds.MAX_ORDER_QUANTITY, "1", {"quantity": "1.5"}, "1.5"),
        (kinds.MAX_ORDER_NOTIONAL, "150", {"quantity": "1.51"}, "151"),
        (kinds.MAX_POSITION_QUANTITY, "2", {"quantity": "2.1"}, "2.1"),
        (kinds.MAX_POSITION_NOTIONAL, "200", {"quantity": "2.1"}, "210"),
        (kinds.MAX_OPEN_ORDERS, "0", {}, "1"),
        (kinds.PRICE_COLLAR_BPS, "100", {"price": Decimal("98.9")}, "110"),
        (kinds.MAX_GROSS_EXPOSURE, "99", {}, "100"),
        (kinds.MAX_NET_EXPOSURE, "99", {"is_buy": False}, "100"),
    ],
)
def test_order_over_each_limit_is_refused_with_its_name_and_numbers(
    kind: int, bound: str, wanted: dict[str, Any], after: str
) -> None:
    """RISK_LIMIT_REACHED names limit, scope, use and bound."""
    error = refused(ledger(limit(kind, bound, venue=VENUE)), order(**wanted))
    assert error.reason is Reason.RISK_LIMIT_REACHED
    assert (error.metadata["limit"], error.metadata["after"]) == (bound, after)
    assert error.metadata["scope"] == f"venue={VENUE}"
    one_order = {kinds.MAX_ORDER_QUANTITY: "order.quantity", kinds.MAX_ORDER_NOTIONAL: "order.quantity"}
    assert error.field == {**one_order, kinds.PRICE_COLLAR_BPS: "order.price"}.get(kind)


@pytest.mark.parametrize(
    ("kind", "bound"),
    [
        (kinds.MAX_ORDER_QUANTITY, "1"),
        (kinds.MAX_ORDER_NOTIONAL, "100"),
        (kinds.MAX_POSITION_QUANTITY, "1"),
        (kinds.MAX_POSITION_NOTIONAL, "100"),
        (kinds.MAX_OPEN_ORDERS, "1"),
        (kinds.PRICE_COLLAR_BPS, "0"),
        (kinds.MAX_GROSS_EXPOSURE, "100"),
        (kinds.MAX_NET_EXPOSURE, "100"),
        (kinds.MIN_FREE_MARGIN, "990"),
    ],
)
def test_order_that_reaches_a_limit_exactly_passes(kind: int, bound: str) -> None:
    """A bound is what may be reached."""
    assert check_order(ledger(limit(kind, bound)), order(), [HERE]).quantity == 1


def test_free_margin_counts_what_other_orders_need() -> None:
    """INSUFFICIENT_MARGIN with what is free and what would be."""
    held = ledger(limit(kinds.MIN_FREE_MARGIN, "0"), free="15")
    assert check_order(held, order(), [HERE]).margin == 10
    held.set_claim((*HERE, "k"), check_order(held, order(), [HERE]))
    error = refused(held, order("l"))
    assert error.reason is Reason.INSUFFICIENT_MARGIN
    assert (error.metadata["used"], error.metadata["after"]) == ("5", "-5")


@pytest.mark.parametrize("scope", [{}, {"venue": VENUE}, {"account_id": ACCOUNT}, {"symbol": SYMBOL}])
def test_limit_holds_for_what_its_scope_covers_and_nothing_else(scope: dict[str, str]) -> None:
    """Mesh, venue, account and symbol."""
    held = ledger(limit(kinds.MAX_ORDER_QUANTITY, "0.5", **scope))
    assert refused(held, order()).reason is Reason.RISK_LIMIT_REACHED
    elsewhere = order(venue="two", account_id="other", symbol="ETH/USDC:USDC")
    if scope:
        assert check_order(held, elsewhere, [HERE])


def test_order_that_makes_nothing_worse_passes_a_limit_that_is_passed_already() -> None:
    """A position over its new limit can be made smaller."""
    held = ledger(limit(kinds.MAX_POSITION_QUANTITY, "1"), limit(kinds.MAX_GROSS_EXPOSURE, "100"))
    held.set_position(PLACE, Decimal(5))
    assert check_order(held, order(is_buy=False, quantity=Decimal(2)), [HERE])
    assert refused(held, order()).metadata["used"] == "5"


def test_sell_that_would_flip_a_position_counts_only_where_it_ends() -> None:
    """Three short is less than five long, six short is more."""
    held = ledger(limit(kinds.MAX_POSITION_QUANTITY, "5"))
    held.set_position(PLACE, Decimal(5))
    assert check_order(held, order(is_buy=False, quantity=Decimal(8)), [HERE])
    assert refused(held, order(is_buy=False, quantity=Decimal(11))).metadata["after"] == "6"


@pytest.mark.parametrize("kind", sorted(kinds.CUMULATIVE))
def test_stale_or_unread_account_refuses_by_name_and_reduce_only_passes(kind: int) -> None:
    """No guess about what cannot be seen."""
    held = ledger(limit(kind, "1000000" if kind != kinds.MIN_FREE_MARGIN else "0"))
    held.stale[HERE] = "the link is down"
    assert refused(held, order()).reason is Reason.RISK_VIEW_STALE
    assert check_order(held, order(reduce_only=True), [HERE])
    del held.stale[HERE]
    held.rebuilt.clear()
    assert "not been read" in refused(held, order()).message


def test_wide_limit_needs_every_account_read_once_and_no_more() -> None:
    """Another account may be stale, as its orders count as filled; it must have been seen."""
    held = ledger(limit(kinds.MAX_OPEN_ORDERS, "9"))
    other = ("two", ACCOUNT)
    assert "at two" in refused(held, order(), [HERE, other]).message
    assert "not every venue" in refused(held, order(), None).message
    held.rebuilt.add(other)
    held.stale[other] = "away"
    assert check_order(held, order(), [HERE, other])


@pytest.mark.parametrize(
    "kind", [kinds.MAX_ORDER_NOTIONAL, kinds.MAX_POSITION_NOTIONAL, kinds.MAX_GROSS_EXPOSURE, kinds.MAX_NET_EXPOSURE]
)
def test_price_limit_without_a_mark_refuses(kind: int) -> None:
    """A market order has no price of its own."""
    held = ledger(limit(kind, "1000000"), mark=None)
    assert refused(held, order(price=None)).reason is Reason.RISK_VIEW_STALE


def test_reduce_only_order_is_still_bounded_in_size_and_price() -> None:
    """A slip of the finger is one also when it closes."""
    held = ledger(limit(kinds.MAX_ORDER_QUANTITY, "1"), limit(kinds.PRICE_COLLAR_BPS, "100"))
    assert refused(held, order(quantity=Decimal(2), reduce_only=True)).metadata["limit_type"] == "MAX_ORDER_QUANTITY"
    assert refused(held, order(price=Decimal(90), reduce_only=True)).metadata["limit_type"] == "PRICE_COLLAR_BPS"


def test_numbers_are_exact_beyond_the_default_context() -> None:
    """Thirty digits do not round into the limit."""
    huge = "100000000000.000000000000000001"
    held = ledger(limit(kinds.MAX_POSITION_QUANTITY, "100000000000"))
    assert refused(held, order(quantity=Decimal(huge))).metadata["after"] == huge


class NoShorts:
    """A check of an operator's."""

    name = "no_shorts"

    def check(self, order: order_pb2.NewOrder, view: Any) -> str | None:
        """Refuse what could go short."""
        place = (order.venue, order.account_id, order.symbol)
        short = view.position(place) - Decimal(order.quantity) < 0
        return "would be short" if order.side == order_pb2.SIDE_SELL and short else None


class Breaks:
    """A check with a fault."""

    name = "breaks"

    def check(self, order: order_pb2.NewOrder, view: Any) -> str | None:
        """Fail."""
        raise KeyError("oops")


def test_own_checks_are_found_by_path_and_refuse_by_name() -> None:
    """They read the same positions; one that breaks refuses too."""
    held = ledger()
    sell = order_pb2.NewOrder(venue=VENUE, account_id=ACCOUNT, symbol=SYMBOL, side=order_pb2.SIDE_SELL, quantity="1")
    checks = load_checks([f"{__name__}:NoShorts"])
    error = run_checks(checks, sell, held)
    assert error is not None and error.reason is Reason.RISK_CHECK_FAILED and error.metadata["check"] == "no_shorts"
    held.set_position(PLACE, Decimal(1))
    assert run_checks(checks, sell, held) is None
    broken = run_checks([Breaks()], sell, held)
    assert broken is not None and "KeyError" in broken.message


@pytest.mark.parametrize("path", ["nowhere", "nowhere:at_all", f"{__name__}:missing", f"{__name__}:Claim"])
def test_check_that_cannot_be_made_is_named(path: str) -> None:
    """The router must not start without it."""
    assert Claim
    with pytest.raises(CheckNotFound, match=r"risk\.checks"):
        load_checks([path])
