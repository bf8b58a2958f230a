"""The contract message of a position: what fills made it, and what the venue says of its mark and margin. Pure."""

from __future__ import annotations

from venuemesh.gateway.order_wire import timestamp
from venuemesh.gateway.positions import PositionState, liquidation_distance_bps
from venuemesh.gateway.venue import VenuePosition
from venuemesh.money import EXACT, format_decimal, to_wire
from venuemesh.v1 import account_pb2


def to_position(
    state: PositionState, *, seen: VenuePosition | None, settle_asset: str, now_ns: int, venue_time_ns: int = 0
) -> account_pb2.Position:
    """The message, without account, venue and kind of change.

    Args:
        seen: the position as the venue last told it; None when it has not.
        venue_time_ns: the venue's time of the last change; 0 when unknown.
    """
    message = account_pb2.Position(
        symbol=state.symbol,
        quantity=format_decimal(state.quantity),
        open_cost=format_decimal(state.open_cost),
        realized_pnl=format_decimal(state.realized_pnl),
        fees_paid=format_decimal(state.fees_paid),
        funding_received=format_decimal(state.funding_received),
        settle_asset=settle_asset,
        updated_time=timestamp(now_ns),
    )
    if (entry := state.entry_price) is not None:
        message.entry_price = format_decimal(entry)
    if venue_time_ns:
        message.venue_time.CopyFrom(timestamp(venue_time_ns))
    if seen is not None:
        _add_venue_view(message, state, seen)
    return message


def _add_venue_view(message: account_pb2.Position, state: PositionState, seen: VenuePosition) -> None:
    message.margin_mode = seen.margin_mode
    # What the venue last told of a position that was closed since is not true of none.
    of_what_is_open = ("liquidation_price", "margin_used") if state.quantity else ()
    for name in ("mark_price", "leverage", *of_what_is_open):
        value = getattr(seen, name)
        if value is not None:
            setattr(message, name, format_decimal(value))
    if state.quantity and seen.mark_price and seen.liquidation_price is not None:
        distance = liquidation_distance_bps(state.quantity, seen.mark_price, seen.liquidation_price)
        message.liquidation_distance_bps = format_decimal(distance)
    if seen.mark_price is not None:
        unrealized = EXACT.subtract(EXACT.multiply(state.quantity, seen.mark_price), state.open_cost)
        message.unrealized_pnl = format_decimal(to_wire(unrealized))
