"""Plans of what to do about differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from tests.unit.venuemesh.gateway.order_facts import NOW_NS, SYMBOL, new_order, run
from venuemesh.gateway.facts import Accepted
from venuemesh.gateway.orders import OrderState
from venuemesh.gateway.positions import PositionState
from venuemesh.gateway.reconcile import plan_orders, position_differences
from venuemesh.gateway.venue import VenueOrder, VenueOrderState, VenuePosition, VenueSnapshot
from venuemesh.v1 import account_pb2
from venuemesh.v1 import order_pb2 as pb

SETTLE_NS = 1_000_000_000


def shown(venue_order_id: str, client_id: str | None = None) -> VenueOrder:
    return VenueOrder(
        venue_order_id=venue_order_id,
        venue_client_order_id=client_id,
        symbol=SYMBOL,
        side=pb.SIDE_BUY,
        quantity=Decimal(10),
        filled_quantity=Decimal(0),
        price=Decimal(100),
        state=VenueOrderState.WORKING,
        reason=None,
        text="open",
        venue_time_ns=0,
    )


def snapshot(open_orders: Sequence[VenueOrder], taken_ns: int = NOW_NS + SETTLE_NS) -> VenueSnapshot:
    return VenueSnapshot(
        taken_ns=taken_ns,
        open_orders=open_orders,
        positions=[],
        balances=[],
        summary=account_pb2.AccountSummary(),
    )


def known(key: str, *venue_order_ids: str) -> OrderState:
    return run(new_order(key), [Accepted(venue_order_id=name) for name in venue_order_ids])


def test_orders_are_matched_by_any_venue_id_and_else_by_our_own() -> None:
    """An order without a venue id yet is found by the id we gave; another's order is unexpected."""
    amended, unanswered = known("a", "1", "2"), new_order("b")
    plan = plan_orders(
        [amended, unanswered],
        snapshot([shown("1"), shown("9", unanswered.venue_client_order_id), shown("7")]),
        settle_ns=SETTLE_NS,
    )
    assert [(order.order_id, view.venue_order_id) for order, view in plan.confirmed] == [
        (amended.order_id, "1"),
        (unanswered.order_id, "9"),
    ]
    assert not plan.to_query
    assert [view.venue_order_id for view in plan.unexpected] == ["7"]


def test_missing_order_is_asked_about_unless_the_snapshot_may_be_older() -> None:
    """A change within the settle delay before the snapshot proves nothing."""
    order = known("a", "1")
    assert plan_orders([order], snapshot([]), settle_ns=SETTLE_NS).to_query == [order]
    fresh = replace(order, updated_ns=NOW_NS + 1)
    later = plan_orders([fresh], snapshot([]), settle_ns=SETTLE_NS)
    assert (later.to_query, later.unsettled) == ([], [fresh])


def test_position_differences_cover_both_sides() -> None:
    """What only one of the two has differs too; a flat position nobody shows does not."""
    ours = {
        "SAME": PositionState(symbol="SAME", quantity=Decimal("1.0")),
        "OURS": PositionState(symbol="OURS", quantity=Decimal(2)),
        "FLAT": PositionState(symbol="FLAT"),
    }
    theirs = [
        VenuePosition(symbol="SAME", quantity=Decimal(1), entry_price=None),
        VenuePosition(symbol="NEW", quantity=Decimal(-3), entry_price=Decimal(5)),
    ]
    found = [(here, there.symbol, there.quantity) for here, there in position_differences(ours, theirs)]
    assert found == [(Decimal(0), "NEW", Decimal(-3)), (Decimal(2), "OURS", Decimal(0))]
