"""Native TWAPs: the venue's own algorithm, with ids and states apart from orders. Pure.

A TWAP has no client id. Its venue order id here is "twap:<id>", so that it can never be taken for an order's; the fills
of its slices name it and belong to it. Source: venue reference sections 2.2 (twapHistory) and 3.3.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from hypercore import account_messages as wire
from hypercore.action_types import TwapCancelAction, TwapOrderAction
from hypercore.actions import build_twap_cancel, build_twap_order
from hypercore.assets import Universe
from hypercore.refusals import classify_error
from venuemesh.errors import InvalidOrder, OutcomeUnknown, ProtocolViolation, Reason
from venuemesh.gateway.venue import OrderTarget, OrderTicket, TwapTarget, VenueOrder, VenueOrderState
from venuemesh.v1 import order_pb2

PREFIX: Final = "twap:"
MIN_MINUTES: Final = 5
MAX_MINUTES: Final = 1_440

CLOCK_SKEW_NS: Final = 5_000_000_000
"""By how much the venue's clock may differ from ours when a TWAP is known by its time."""

_NS_PER_MS: Final = 1_000_000
_NS_PER_S: Final = 1_000_000_000
_SIDES: Final = {"B": order_pb2.SIDE_BUY, "A": order_pb2.SIDE_SELL}
_STATES: Final = {
    "activated": VenueOrderState.WORKING,
    "waitingForTrigger": VenueOrderState.WORKING,
    "finished": VenueOrderState.FILLED,
    "terminated": VenueOrderState.CANCELED,
    "stopped": VenueOrderState.CANCELED,
    "error": VenueOrderState.CANCELED,
}


def order_id(twap_id: int) -> str:
    """The venue order id of a TWAP."""
    return f"{PREFIX}{twap_id}"


def twap_id(venue_order_id: str) -> int:
    """The venue's number of a TWAP. Raises InvalidOrder."""
    number = venue_order_id.removeprefix(PREFIX)
    if number == venue_order_id or not number.isdecimal():
        raise InvalidOrder(f"{venue_order_id[:64]!r} names no TWAP", reason=Reason.ORDER_NOT_FOUND)
    return int(number)


def build_start(ticket: OrderTicket, asset_id: int) -> TwapOrderAction:
    """The action that starts a TWAP. Raises InvalidOrder."""
    if ticket.twap is None:
        raise InvalidOrder("twap: is required", reason=Reason.REQUIRED_FIELD_MISSING, field="twap")
    return build_twap_order(
        asset_id=asset_id,
        is_buy=ticket.side == order_pb2.SIDE_BUY,
        size=ticket.quantity,
        minutes=ticket.twap.minutes,
        reduce_only=ticket.reduce_only,
        randomize=ticket.twap.randomize,
    )


def build_stop(venue_order_id: str, asset_id: int) -> TwapCancelAction:
    """The action that ends a TWAP. Raises InvalidOrder."""
    return build_twap_cancel(asset_id, twap_id(venue_order_id))


def normalize_twap(row: wire.TwapHistoryRow, universe: Universe) -> VenueOrder | None:
    """One row of twapHistory as an order; None for a coin this gateway does not carry, or a row without an id."""
    asset = universe.get_coin(row.state.coin)
    if asset is None or row.twap_id is None:
        return None
    side = _SIDES.get(row.state.side)
    if side is None:
        raise ProtocolViolation(f"unknown side {row.state.side[:8]!r}", metadata={"payload": row.state.side[:200]})
    word = row.status.status
    state = _STATES.get(word, VenueOrderState.UNRECOGNISED)
    if state is VenueOrderState.FILLED and row.state.executed_sz < row.state.sz:
        state = VenueOrderState.EXPIRED  # its time was up before its size
    reason, text = None, word
    if word == "error":
        text = row.status.description or word
        reason = classify_error(text).reason
    return VenueOrder(
        venue_order_id=order_id(row.twap_id),
        venue_client_order_id=None,
        symbol=asset.symbol,
        side=side,
        quantity=row.state.sz,
        filled_quantity=row.state.executed_sz,
        price=None,
        state=state,
        reason=reason,
        text=text,
        venue_time_ns=row.time * _NS_PER_S,  # seconds in this answer, unlike everywhere else
        reduce_only=row.state.reduce_only,
    )


def find_twap(rows: Iterable[wire.TwapHistoryRow], target: OrderTarget, universe: Universe) -> VenueOrder | None:
    """The TWAP of a target, by its id, else by its terms and its time; None when the venue has none like it.

    Raises:
        OutcomeUnknown: several fit, or one that another order of ours may be: nothing is proved.
    """
    wanted = target.twap
    if target.venue_order_id:
        found = [row for row in rows if row.twap_id is not None and order_id(row.twap_id) == target.venue_order_id]
    elif wanted is not None:
        coin = target.instrument.venue_symbol
        found = [row for row in rows if row.state.coin == coin and _fits(row, wanted)]
    else:
        return None
    ids = {row.twap_id for row in found}
    if len(ids) > 1 or (ids and not target.venue_order_id and wanted is not None and wanted.rivals):
        raise OutcomeUnknown(f"TWAPs {sorted(map(str, ids))} have these terms and this time; which is ours is not said")
    views = [view for row in found if (view := normalize_twap(row, universe)) is not None]
    return max(views, key=_lateness, default=None)


def _lateness(view: VenueOrder) -> tuple[bool, int]:
    return view.state is not VenueOrderState.WORKING, view.venue_time_ns


def _fits(row: wire.TwapHistoryRow, wanted: TwapTarget) -> bool:
    state, started_ns = row.state, row.state.timestamp * _NS_PER_MS
    return (
        row.twap_id is not None
        and order_id(row.twap_id) not in wanted.others
        and _SIDES.get(state.side) == wanted.side
        and state.sz == wanted.quantity
        and state.minutes == wanted.terms.minutes
        and state.randomize == wanted.terms.randomize
        and state.reduce_only == wanted.reduce_only
        and wanted.not_before_ns - CLOCK_SKEW_NS <= started_ns <= wanted.not_after_ns + CLOCK_SKEW_NS
    )
