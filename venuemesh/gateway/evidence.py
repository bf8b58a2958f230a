"""What a venue's view of an order proves about ours. Pure."""

from __future__ import annotations

from venuemesh.errors import (
    AuthenticationFailed,
    InvalidRequest,
    MeshError,
    NonceRejected,
    NotSupported,
    OutcomeUnknown,
    PermissionDenied,
    PreconditionFailed,
    RateLimited,
    Reason,
    Sent,
    VenueRejected,
)
from venuemesh.gateway.facts import (
    Accepted,
    Ended,
    Ending,
    Fact,
    RejectedByVenue,
    ReplaceConfirmed,
    Triggered,
    Unrecognised,
)
from venuemesh.gateway.orders import OrderState
from venuemesh.gateway.venue import Placed, VenueOrder, VenueOrderState
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as service

ENDINGS = {
    VenueOrderState.CANCELED: pb.ORDER_STATUS_CANCELED,
    VenueOrderState.EXPIRED: pb.ORDER_STATUS_EXPIRED,
    VenueOrderState.FILLED: pb.ORDER_STATUS_FILLED,
}

REFUSALS = (
    AuthenticationFailed,
    InvalidRequest,
    NonceRejected,
    NotSupported,
    PermissionDenied,
    PreconditionFailed,
    RateLimited,
    VenueRejected,
)
"""Errors by which a venue says that it did not do what it was sent."""


def proves_not_done(error: MeshError) -> bool:
    """Whether a failed write certainly had no effect: it never left, or the venue read it and said no.

    An answer that came and cannot be read proves nothing.
    """
    if isinstance(error, OutcomeUnknown) or error.sent is Sent.MAYBE:
        return False
    return error.sent is Sent.NO or isinstance(error, REFUSALS)


def facts_of(view: VenueOrder, origin: pb.Origin.ValueType = pb.ORIGIN_VENUE) -> list[Fact]:
    """The facts that a venue's view states, in the order to apply them."""
    if view.state == VenueOrderState.REJECTED:
        return [
            RejectedByVenue(
                reason=view.reason or Reason.VENUE_REJECTED,
                text=view.text,
                venue_order_id=view.venue_order_id,
                venue_text=view.text,
                venue_time_ns=view.venue_time_ns,
                origin=origin,
            )
        ]
    if view.state == VenueOrderState.UNRECOGNISED:
        return [Unrecognised(text=view.text, venue_time_ns=view.venue_time_ns, origin=origin)]
    fired = view.trigger_state == pb.TRIGGER_STATE_TRIGGERED
    accepted = Accepted(
        venue_order_id=view.venue_order_id,
        venue_time_ns=view.venue_time_ns,
        trigger_state=pb.TRIGGER_STATE_UNSPECIFIED if fired else view.trigger_state,
        origin=origin,
    )
    facts: list[Fact] = [accepted]
    if fired:
        # An event of its own, even where it is learnt together with the acceptance.
        facts.append(Triggered(venue_time_ns=view.venue_time_ns))
    status = ENDINGS.get(view.state)
    if status is not None:
        ending = Ending(
            status=status,
            # Of an order that shrank with the position the venue does not say what filled: its fills must tell.
            filled_quantity=view.filled_quantity,
            text=view.text,
            venue_order_id=view.venue_order_id,
            reason=None if view.state is VenueOrderState.FILLED else view.reason,
        )
        facts.append(Ended(ending=ending, venue_time_ns=view.venue_time_ns, origin=origin))
    return facts


def proves_absence(order: OrderState, *, asked_ns: int, last_arrival_ns: int, settle_ns: int) -> bool:
    """Whether a venue that does not know an order by any id proves that it never had it, and never will.

    Args:
        asked_ns: our clock before the venue was asked; when it answered does not matter.
        last_arrival_ns: the last moment at which the venue could have accepted the request.
        settle_ns: how long after an acceptance the venue may not show it yet.
    """
    known = order.filled or order.venue_order_ids
    return order.uncertain and not known and asked_ns >= last_arrival_ns + settle_ns


def amended_terms(order: OrderState, view: VenueOrder) -> ReplaceConfirmed | None:
    """The amendment that a view proves to have taken effect: a new life, or other terms; None when it proves none.

    A market type is shown with a worst price, which is none of its terms; a size of 0 follows the position.
    """
    price = view.price if order.price is not None else None
    trigger_price = view.trigger_price if order.trigger_price is not None else None
    quantity = view.quantity or None
    same = (
        view.venue_order_id in order.venue_order_ids
        and quantity in (None, order.quantity_in(view.venue_order_id))
        and price in (None, order.price)
        and trigger_price in (None, order.trigger_price)
    )
    if same:
        return None
    return ReplaceConfirmed(
        venue_order_id=view.venue_order_id, quantity=quantity, price=price, trigger_price=trigger_price
    )


def facts_of_placed(placed: Placed, order: OrderState) -> list[Fact]:
    """The facts that the answer to a submit states."""
    accepted = Accepted(venue_order_id=placed.venue_order_id, trigger_state=placed.trigger_state)
    if not placed.ended:
        return [accepted]
    full = placed.filled_quantity is not None and placed.filled_quantity >= order.quantity
    ending = Ending(
        status=pb.ORDER_STATUS_FILLED if full else pb.ORDER_STATUS_EXPIRED,
        filled_quantity=placed.filled_quantity,
        text="filled" if full else "rest expired",
        venue_order_id=placed.venue_order_id,
    )
    return [accepted, Ended(ending=ending)]


def outcome_of(order: OrderState, *, in_flight: bool) -> service.SubmitOutcome.ValueType:
    """What is known of a submit, from the order's state alone: the answer to a first call and to every repeat."""
    match order.status:
        case pb.ORDER_STATUS_REJECTED:
            return service.SUBMIT_OUTCOME_REJECTED
        case pb.ORDER_STATUS_UNCERTAIN:
            return service.SUBMIT_OUTCOME_UNKNOWN
        case pb.ORDER_STATUS_PENDING_NEW:
            return service.SUBMIT_OUTCOME_PENDING if in_flight else service.SUBMIT_OUTCOME_UNKNOWN
        case _:
            return service.SUBMIT_OUTCOME_ACKNOWLEDGED
