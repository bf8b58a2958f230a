"""What the venue's words prove."""

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.unit.venuemesh.gateway.order_facts import SYMBOL, new_order, run
from venuemesh.errors import (
    AuthenticationFailed,
    InvalidRequest,
    MeshError,
    OutcomeUnknown,
    ProtocolViolation,
    RateLimited,
    Reason,
    Sent,
    VenueUnavailable,
)
from venuemesh.gateway.evidence import facts_of, facts_of_placed, outcome_of, proves_not_done
from venuemesh.gateway.facts import OutcomeLost, RejectedByVenue
from venuemesh.gateway.venue import Placed, VenueOrder, VenueOrderState
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as service


def view(state: VenueOrderState, filled: str | None = None, text: str = "word") -> VenueOrder:
    return VenueOrder(
        venue_order_id="1",
        venue_client_order_id=None,
        symbol=SYMBOL,
        side=pb.SIDE_BUY,
        quantity=Decimal(10),
        filled_quantity=None if filled is None else Decimal(filled),
        price=Decimal(100),
        state=state,
        reason=None,
        text=text,
        venue_time_ns=0,
    )


STATUS = {
    VenueOrderState.WORKING: pb.ORDER_STATUS_NEW,
    VenueOrderState.CANCELED: pb.ORDER_STATUS_CANCELED,
    VenueOrderState.EXPIRED: pb.ORDER_STATUS_EXPIRED,
    VenueOrderState.REJECTED: pb.ORDER_STATUS_REJECTED,
    VenueOrderState.UNRECOGNISED: pb.ORDER_STATUS_UNCERTAIN,
    # Its fills are due: until they are here it is not called filled.
    VenueOrderState.FILLED: pb.ORDER_STATUS_NEW,
}


@pytest.mark.parametrize("state", VenueOrderState)
def test_view_of_an_uncertain_order_settles_it_only_by_words_we_know(state: VenueOrderState) -> None:
    """Every state of the port is judged; a word we do not know leaves the order uncertain."""
    order = run(new_order(), [OutcomeLost(cause="cut"), *facts_of(view(state))])
    assert order.status == STATUS[state]


def test_refusal_without_a_reason_is_the_venues() -> None:
    """The raw text is kept."""
    (fact,) = facts_of(view(VenueOrderState.REJECTED, text="because"))
    assert isinstance(fact, RejectedByVenue)
    assert (fact.reason, fact.venue_text) == (Reason.VENUE_REJECTED, "because")


@pytest.mark.parametrize(
    ("placed", "status"),
    [
        (Placed(venue_order_id="1"), pb.ORDER_STATUS_NEW),
        (Placed(venue_order_id="1", filled_quantity=Decimal(10), ended=True), pb.ORDER_STATUS_NEW),
        (Placed(venue_order_id="1", filled_quantity=Decimal(0), ended=True), pb.ORDER_STATUS_EXPIRED),
    ],
)
def test_answer_to_a_submit(placed: Placed, status: pb.OrderStatus.ValueType) -> None:
    """An order filled at once waits for its fills; one that ended empty has expired."""
    order = new_order()
    assert run(order, facts_of_placed(placed, order)).status == status


@pytest.mark.parametrize(
    ("error", "proved"),
    [
        (VenueUnavailable("down"), True),
        (RateLimited("ours"), True),
        (RateLimited("429", sent=Sent.YES), True),
        (InvalidRequest("the venue would not read it", sent=Sent.YES), True),
        (AuthenticationFailed("no such wallet", sent=Sent.YES), True),
        (RateLimited("cut", sent=Sent.MAYBE), False),
        (VenueUnavailable("502", sent=Sent.YES), False),
        (ProtocolViolation("unreadable answer", sent=Sent.YES), False),
        (VenueUnavailable("cut", sent=Sent.MAYBE), False),
        (OutcomeUnknown("cut"), False),
        (OutcomeUnknown("cut", sent=Sent.NO), False),
    ],
    ids=lambda value: str(value),
)
def test_failed_write_proves_nothing_unless_unsent_or_refused(error: MeshError, proved: bool) -> None:
    """An answer that came and cannot be read, or a server fault, may hide an order that is live."""
    assert proves_not_done(error) is proved


def test_outcome_follows_the_state_alone() -> None:
    """First answer and every repeat say the same of the same state."""
    pending, lost = new_order(), run(new_order(), [OutcomeLost(cause="cut")])
    refused = run(new_order(), [RejectedByVenue(reason=Reason.NO_LIQUIDITY, text="no")])
    live = run(new_order(), facts_of(view(VenueOrderState.WORKING)))
    assert outcome_of(pending, in_flight=True) == service.SUBMIT_OUTCOME_PENDING
    assert outcome_of(pending, in_flight=False) == service.SUBMIT_OUTCOME_UNKNOWN
    assert outcome_of(lost, in_flight=False) == service.SUBMIT_OUTCOME_UNKNOWN
    assert outcome_of(refused, in_flight=False) == service.SUBMIT_OUTCOME_REJECTED
    assert outcome_of(live, in_flight=True) == service.SUBMIT_OUTCOME_ACKNOWLEDGED
