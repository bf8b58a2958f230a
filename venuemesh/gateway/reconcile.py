"""What differs between us and the venue, and what to do about it. Pure plans; the venue is the source of truth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from venuemesh.gateway.orders import OrderState
from venuemesh.gateway.positions import PositionState
from venuemesh.gateway.venue import VenueOrder, VenuePosition, VenueSnapshot

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderPlan:
    """What an open-orders snapshot says about our orders.

    Attributes:
        confirmed: ours, and open at the venue, with the venue's view.
        to_query: ours, open here and not there: the venue must be asked for each.
        unsettled: the same, but changed here so lately that the snapshot may be older than the change.
        unexpected: open there and not ours.
    """

    confirmed: Sequence[tuple[OrderState, VenueOrder]]
    to_query: Sequence[OrderState]
    unsettled: Sequence[OrderState]
    unexpected: Sequence[VenueOrder]


def plan_orders(open_here: Iterable[OrderState], snapshot: VenueSnapshot, *, settle_ns: int) -> OrderPlan:
    """Compare our open orders with the venue's.

    An order that changed here later than `settle_ns` before the snapshot was taken is unsettled: the snapshot may be
    older than the change.
    """
    by_venue_id = {view.venue_order_id: view for view in snapshot.open_orders}
    by_client_id = {view.venue_client_order_id: view for view in snapshot.open_orders if view.venue_client_order_id}
    confirmed, to_query, unsettled, matched = [], [], [], set()
    for order in open_here:
        view = next((by_venue_id[name] for name in reversed(order.venue_order_ids) if name in by_venue_id), None)
        view = view or by_client_id.get(order.venue_client_order_id)
        if view is not None:
            matched.add(view.venue_order_id)
            confirmed.append((order, view))
        elif order.updated_ns + settle_ns <= snapshot.taken_ns:
            to_query.append(order)
        else:
            unsettled.append(order)
    unexpected = [view for view in snapshot.open_orders if view.venue_order_id not in matched]
    return OrderPlan(confirmed=confirmed, to_query=to_query, unsettled=unsettled, unexpected=unexpected)


def position_differences(
    ours: Mapping[str, PositionState], venues: Iterable[VenuePosition]
) -> list[tuple[Decimal, VenuePosition]]:
    """Positions whose quantity differs: ours, and the venue's to take. A symbol the venue leaves out is flat there."""
    seen = {position.symbol: position for position in venues}
    differences = []
    for symbol in sorted(set(ours) | set(seen)):
        here = ours[symbol].quantity if symbol in ours else ZERO
        there = seen.get(symbol) or VenuePosition(symbol=symbol, quantity=ZERO, entry_price=None)
        if here != there.quantity:
            differences.append((here, there))
    return differences
