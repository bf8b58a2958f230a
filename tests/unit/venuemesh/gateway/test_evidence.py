"""What the venue's words prove."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

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
from venuemesh.gateway.evidence import amended_terms, facts_of, facts_of_placed, outcome_of, proves_not_done
from venuemesh.gateway.facts import Accepted, Ended, OutcomeLost, RejectedByVenue, Triggered
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


def test_fired_trigger_is_a_fact_of_its_own() -> None:
    """Learnt with the acceptance or later, it is reported once, as what it is."""
    fired = replace(view(VenueOrderState.WORKING), trigger_state=pb.TRIGGER_STATE_TRIGGERED)
    accepted, triggered = facts_of(fired)
    assert isinstance(accepted, Accepted)
    assert isinstance(triggered, Triggered)
    assert accepted.trigger_state == pb.TRIGGER_STATE_UNSPECIFIED


def test_reason_of_an_end_nobody_asked_for_is_kept() -> None:
    """Of a fill there is nothing to explain."""
    for state, kept in ((VenueOrderState.CANCELED, Reason.SELF_TRADE), (VenueOrderState.FILLED, None)):
        _, ended = facts_of(replace(view(state), reason=Reason.SELF_TRADE))
        assert isinstance(ended, Ended)
        assert ended.ending.reason is kept


@pytest.mark.parametrize(
    ("shown", "proved"),
    [
        ({}, False),
        ({"venue_order_id": "2"}, True),
        ({"price": Decimal(101)}, True),
        ({"quantity": Decimal(9)}, True),
        ({"trigger_price": Decimal(90)}, False),
        ({"price": None}, False),
        ({"quantity": Decimal(0)}, False),
    ],
    ids=str,
)
def test_amendment_of_a_limit_order_is_proved_by_a_new_life_or_other_terms(shown: dict[str, Any], proved: bool) -> None:
    """A term the order does not have, or that the row leaves out, proves nothing; a size of 0 follows the position."""
    order = run(new_order(), [Accepted(venue_order_id="1")])
    seen = replace(view(VenueOrderState.WORKING), **shown)
    assert (amended_terms(order, seen) is not None) is proved


@pytest.mark.parametrize(("trigger", "proved"), [("90", False), ("95", True), (None, False)])
def test_amendment_of_a_market_trigger_is_not_proved_by_its_worst_price(trigger: str | None, proved: bool) -> None:
    """Which is none of its terms, and never becomes one."""
    accepted = run(new_order(), [Accepted(venue_order_id="1")])
    order = replace(accepted, price=None, trigger_price=Decimal(90))
    seen = replace(view(VenueOrderState.WORKING), trigger_price=None if trigger is None else Decimal(trigger))
    confirmed = amended_terms(order, seen)
    assert (confirmed is not None) is proved
    assert confirmed is None or (confirmed.price, confirmed.trigger_price) == (None, Decimal(95))
