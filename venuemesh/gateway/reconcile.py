"""What differs between us and the venue, and what to do about it. Pure plans; the venue is the source of truth."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from venuemesh.gateway.order_wire import timestamp
from venuemesh.gateway.orders import OrderState
from venuemesh.gateway.positions import PositionState
from venuemesh.gateway.venue import VenueFill, VenueOrder, VenuePosition, VenueSnapshot
from venuemesh.money import EXACT, format_decimal
from venuemesh.v1 import account_pb2, order_pb2, reconciliation_pb2

ZERO = Decimal(0)
BALANCE_ROUNDING = Decimal("0.00001")
"""What a venue may round away of a balance for each open position, when it takes the profit of it out."""


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


def balance_differs(ours: account_pb2.Balance, venues: account_pb2.Balance, *, open_positions: int) -> bool:
    """Whether two totals differ by more than a venue's rounding of what is open."""
    difference = EXACT.subtract(Decimal(ours.total), Decimal(venues.total)).copy_abs()
    return difference > BALANCE_ROUNDING * open_positions


def emptied(
    ours: Mapping[tuple[str, str], account_pb2.Balance], venues: Iterable[account_pb2.Balance], now_ns: int
) -> list[account_pb2.Balance]:
    """What the venue leaves out of a list of all balances and we hold: it is 0 there."""
    listed = {(balance.venue_section, balance.asset) for balance in venues}
    return [
        account_pb2.Balance(
            account_id=balance.account_id,
            venue=balance.venue,
            asset=balance.asset,
            total="0",
            available="0",
            venue_section=balance.venue_section,
            updated_time=timestamp(now_ns),
        )
        for key, balance in ours.items()
        if key not in listed and balance.total != "0"
    ]


def is_missed(fill: VenueFill, *, asked_ns: int, live_since_ns: int, settle_ns: int) -> bool:
    """Whether the stream should have told a fill that only a query brought: it is settled, or fell into a gap.

    Args:
        asked_ns: our clock before the venue was asked.
        live_since_ns: when the account's stream last came up.
    """
    return fill.venue_time_ns + settle_ns <= asked_ns or fill.venue_time_ns < live_since_ns


def describe_fill(fill: VenueFill) -> str:
    """A fill in a few words."""
    side = order_pb2.Side.Name(fill.side).removeprefix("SIDE_").lower()
    return f"{fill.execution_id}: {side} {format_decimal(fill.quantity)} at {format_decimal(fill.price)}"


def make_discrepancy(
    kind: reconciliation_pb2.DiscrepancyType.ValueType,
    *,
    venue: str,
    account_id: str,
    symbol: str,
    order_id: str,
    ours: str,
    venues: str,
    restated: bool,
    now_ns: int,
) -> reconciliation_pb2.Discrepancy:
    """The message of a difference; its id is made of all that is said of it."""
    name = f"{account_id}/{kind}/{symbol}/{order_id}/{ours}/{venues}/{now_ns}"
    return reconciliation_pb2.Discrepancy(
        discrepancy_id=hashlib.blake2b(name.encode(), digest_size=12).hexdigest(),
        venue=venue,
        account_id=account_id,
        discrepancy_type=kind,
        symbol=symbol,
        order_id=order_id,
        ours=ours,
        venues=venues,
        found_time=timestamp(now_ns),
        restated=restated,
    )
