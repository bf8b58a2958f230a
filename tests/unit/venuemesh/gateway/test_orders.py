"""The order state machine: invariants over any order of facts, and where the order of delivery must not matter."""

from __future__ import annotations

import itertools
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.venuemesh.gateway.order_facts import NOW_NS, check_invariants, ended, fill, new_order, run, step
from venuemesh.errors import Reason
from venuemesh.gateway.facts import (
    Accepted,
    CancelFailed,
    CancelRequested,
    Fact,
    Filled,
    OutcomeLost,
    ProvedAbsent,
    RejectedByVenue,
    ReplaceConfirmed,
    ReplaceFailed,
    ReplaceRequested,
    Triggered,
    Unrecognised,
)
from venuemesh.gateway.orders import IllegalTransition, OrderState, apply, reason_number
from venuemesh.gateway.venue import VenueFill
from venuemesh.v1 import error_pb2
from venuemesh.v1 import order_pb2 as pb

CANCELED, EXPIRED, FILLED = pb.ORDER_STATUS_CANCELED, pb.ORDER_STATUS_EXPIRED, pb.ORDER_STATUS_FILLED
REFUSED = RejectedByVenue(reason=Reason.NO_LIQUIDITY, text="no")
ABSENT = ProvedAbsent(evidence="asked")

quantities = st.integers(1, 12).map(Decimal)
lives = st.sampled_from(["1", "2", "3"])
facts = st.one_of(
    lives.map(lambda life: Accepted(venue_order_id=life)),
    st.builds(
        lambda number, amount, life: Filled(fill=fill(f"x{number}", amount, venue_order_id=life)),
        st.integers(1, 8),
        quantities,
        lives,
    ),
    st.builds(
        lambda status, amount, life: ended(status, None if amount is None else str(amount), life=life),
        st.sampled_from([CANCELED, EXPIRED, FILLED]),
        st.none() | quantities,
        st.none() | lives,
    ),
    st.sampled_from(
        [
            REFUSED,
            ABSENT,
            OutcomeLost(cause="cut"),
            CancelRequested(),
            CancelFailed(text="no"),
            ReplaceRequested(),
            ReplaceFailed(text="no"),
            Triggered(),
            Unrecognised(text="marmalade"),
        ]
    ),
    st.builds(
        lambda life, amount: ReplaceConfirmed(venue_order_id=life, quantity=amount, price=Decimal(101)),
        lives,
        st.none() | quantities,
    ),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(facts, max_size=14))
def test_apply_over_any_facts_keeps_every_invariant(history: list[Fact]) -> None:
    """Whatever comes in whatever order: quantities add up, versions rise by one, terminal is left only by a fill."""
    state = run(new_order(), history)
    check_invariants(state)


@settings(max_examples=200, deadline=None)
@given(st.lists(facts, max_size=8), facts)
def test_apply_when_repeated_at_once_changes_nothing_more(history: list[Fact], fact: Fact) -> None:
    """The same fact twice in a row is the same as once."""
    state = run(new_order(), [*history, fact])
    again = step(state, fact)
    assert again is None or again.state.status == state.status
    if isinstance(fact, Filled | Accepted | OutcomeLost | CancelRequested | ReplaceRequested | ReplaceConfirmed):
        assert again is None


@settings(max_examples=200, deadline=None)
@given(st.lists(facts, max_size=12))
def test_filled_is_the_sum_of_distinct_fills(history: list[Fact]) -> None:
    """Filled quantity, notional and fees come from fills alone, each counted once."""
    state = run(new_order(), history)
    distinct: dict[str, VenueFill] = {}
    for fact in history:
        if isinstance(fact, Filled):
            distinct.setdefault(fact.fill.execution_id, fact.fill)
    assert state.filled == sum((one.quantity for one in distinct.values()), Decimal(0))
    assert state.notional == sum((one.quantity * one.price for one in distinct.values()), Decimal(0))
    assert state.fees.get("USDC", Decimal(0)) == sum((one.fee for one in distinct.values()), Decimal(0))
    assert state.execution_ids == set(distinct)


def shape(state: OrderState) -> tuple[object, ...]:
    """What of an order must not depend on the order of delivery."""
    flags = (state.pending_cancel, state.pending_replace)
    return (state.status, state.quantity, state.filled, state.notional, state.price, state.leaves, flags, state.fees)


TRUE_STORIES: dict[str, list[Fact]] = {
    "filled in parts": [
        Accepted(venue_order_id="1"),
        Filled(fill=fill("a", 4)),
        Filled(fill=fill("b", 6)),
        ended(FILLED, "10"),
    ],
    "answer lost, filled all the same": [
        OutcomeLost(cause="cut"),
        Accepted(venue_order_id="1"),
        Filled(fill=fill("a", 10)),
        ended(FILLED, "10"),
    ],
    "partly filled, rest expired": [
        Accepted(venue_order_id="1"),
        Filled(fill=fill("a", 2)),
        Filled(fill=fill("b", 1)),
        ended(EXPIRED, "3"),
    ],
    "cancelled by the venue after a fill it does not count": [
        Accepted(venue_order_id="1"),
        Filled(fill=fill("a", 2)),
        ended(CANCELED, None),
    ],
}


@pytest.mark.parametrize("story", TRUE_STORIES, ids=str)
def test_apply_of_true_facts_in_every_order_ends_in_the_same_state(story: str) -> None:
    """Acknowledgement, fills and end of an order may overtake each other."""
    told = TRUE_STORIES[story]
    expected = shape(run(new_order(), told))
    for order in itertools.permutations(told):
        assert shape(run(new_order(), list(order))) == expected


AMENDED: list[Fact] = [
    ReplaceConfirmed(venue_order_id="2", quantity=Decimal(12), price=Decimal(101)),
    Accepted(venue_order_id="2"),
    ended(CANCELED, None, life="1"),
    Filled(fill=fill("old", 3, venue_order_id="1")),
    Filled(fill=fill("new", 4, venue_order_id="2")),
]


def test_amendment_by_cancel_and_new_in_every_order_goes_on_under_the_new_id() -> None:
    """Old life's end, racing fills of both lives and the confirmation commute; leaves is what the new life has open."""
    before = run(new_order(), [Accepted(venue_order_id="1"), ReplaceRequested()])
    for order in itertools.permutations(AMENDED):
        state = run(before, list(order))
        assert state.status == pb.ORDER_STATUS_PARTIALLY_FILLED, order
        assert (state.filled, state.quantity, state.leaves) == (Decimal(7), Decimal(15), Decimal(8)), order
        assert state.venue_order_id == "2"
        assert not state.pending_replace
        assert state.price == Decimal(101)


@pytest.mark.parametrize("new_end", [ended(FILLED, "12", life="2"), ended(CANCELED, "4", life="2")])
def test_amended_order_that_ends_in_every_order_ends_once_its_own_fills_are_in(new_end: Fact) -> None:
    """Fills the venue counts for the new life are not confused with those of the old one."""
    before = run(new_order(), [Accepted(venue_order_id="1"), ReplaceRequested()])
    story: list[Fact] = [
        AMENDED[0],
        Accepted(venue_order_id="2"),
        Filled(fill=fill("old", 3, venue_order_id="1")),
        Filled(fill=fill("new", 4, venue_order_id="2")),
        new_end,
    ]
    full = new_end == ended(FILLED, "12", life="2")
    if full:
        story.append(Filled(fill=fill("rest", 8, venue_order_id="2")))
    results = set()
    for order in itertools.permutations(story):
        if order.index(story[1]) > order.index(new_end):
            # The venue names a life before it ends it; the frame derives both facts from one view, in this order.
            continue
        state = run(before, list(order))
        results.add((state.status, state.filled, state.quantity, state.pending_replace))
    status = FILLED if full else CANCELED
    filled = Decimal(15) if full else Decimal(7)
    assert results == {(status, filled, Decimal(15), False)}


def test_full_fill_while_an_amendment_is_under_way_does_not_end_the_order() -> None:
    """Filled to the old quantity, the order may live on with the amended one: only the answer tells."""
    state = run(new_order(), [Accepted(venue_order_id="1"), ReplaceRequested(), Filled(fill=fill("a", 10))])
    assert state.status == pb.ORDER_STATUS_PARTIALLY_FILLED
    confirmed = ReplaceConfirmed(venue_order_id="1", quantity=Decimal(15))
    assert run(state, [confirmed]).leaves == Decimal(5)
    refused = run(state, [ReplaceFailed(text="filled")])
    assert refused.status == FILLED


def test_amendment_applies_only_on_confirmation() -> None:
    """Property 17a: a request changes no term."""
    state = run(new_order(), [Accepted(venue_order_id="1"), ReplaceRequested()])
    assert (state.quantity, state.price, state.pending_replace) == (Decimal(10), Decimal(100), True)
    failed = run(state, [ReplaceFailed(text="no")])
    assert (failed.quantity, failed.price, failed.pending_replace) == (Decimal(10), Decimal(100), False)


def test_cancel_request_does_not_change_the_status() -> None:
    """Property 18: the status waits for the venue."""
    state = run(new_order(), [Accepted(venue_order_id="1"), CancelRequested()])
    assert state.status == pb.ORDER_STATUS_NEW
    assert state.pending_cancel
    done = run(state, [ended(CANCELED)])
    assert (done.status, done.pending_cancel) == (CANCELED, False)


def test_end_told_before_the_last_fill_waits_for_it() -> None:
    """The venue counts 3 filled, we have 1: it stays working until the rest is here."""
    state = run(new_order(), [Accepted(venue_order_id="1"), Filled(fill=fill("a", 1)), ended(CANCELED, "3")])
    assert state.working
    assert run(state, [Filled(fill=fill("b", 2))]).status == CANCELED


def test_filled_without_a_count_waits_for_the_whole_quantity() -> None:
    """FILLED is never believed with less than the quantity filled."""
    state = run(new_order(), [Accepted(venue_order_id="1"), ended(FILLED, None)])
    assert state.working
    assert run(state, [Filled(fill=fill("a", 10))]).status == FILLED


def test_late_fill_on_a_rejected_order_brings_it_back() -> None:
    """A fill is proof: an order held to be lost was not."""
    state = run(new_order(), [OutcomeLost(cause="cut"), ABSENT])
    assert state.status == pb.ORDER_STATUS_REJECTED
    alive = run(state, [Filled(fill=fill("a", 4))])
    assert alive.status == pb.ORDER_STATUS_PARTIALLY_FILLED
    assert alive.reject is None


EVIDENCE_OF_LIFE: list[Fact] = [Accepted(venue_order_id="1"), Filled(fill=fill("a", 1)), ended(CANCELED)]


@pytest.mark.parametrize("alive", EVIDENCE_OF_LIFE, ids=lambda fact: type(fact).__name__)
@pytest.mark.parametrize("refusal", [REFUSED, ABSENT], ids=["refused", "absent"])
def test_refusal_after_evidence_of_life_is_illegal(alive: Fact, refusal: Fact) -> None:
    """REJECTED means proved never to have been live."""
    state = run(new_order(), [OutcomeLost(cause="cut"), alive])
    with pytest.raises(IllegalTransition):
        apply(state, refusal, NOW_NS)


def test_acceptance_after_rejection_is_illegal() -> None:
    """Only a fill brings a rejected order back."""
    with pytest.raises(IllegalTransition):
        apply(run(new_order(), [REFUSED]), Accepted(venue_order_id="1"), NOW_NS)


def test_confirmed_amendment_of_an_ended_order_is_illegal() -> None:
    """An ended order has nothing to amend; reconciliation must look."""
    state = run(new_order(), [Accepted(venue_order_id="1"), ended(CANCELED)])
    with pytest.raises(IllegalTransition):
        apply(state, ReplaceConfirmed(venue_order_id="2"), NOW_NS)


def test_lost_outcome_after_acceptance_is_no_news() -> None:
    """The stream was quicker than the answer that got lost."""
    assert step(run(new_order(), [Accepted(venue_order_id="1")]), OutcomeLost(cause="cut")) is None


def test_overfill_takes_the_venues_word() -> None:
    """More filled than ordered: the quantity follows, and the report says so."""
    change = step(run(new_order(), [Accepted(venue_order_id="1")]), Filled(fill=fill("a", 11)))
    assert change is not None
    assert (change.state.status, change.state.quantity) == (FILLED, Decimal(11))
    assert "11 of 10" in change.text


def test_unknown_word_of_the_venue_proves_nothing() -> None:
    """An uncertain order stays uncertain, with the word kept until the venue says one we know."""
    state = run(new_order(), [OutcomeLost(cause="cut"), Unrecognised(text="marmalade")])
    assert (state.status, state.venue_status_text) == (pb.ORDER_STATUS_UNCERTAIN, "marmalade")
    assert run(state, [Accepted(venue_order_id="1")]).venue_status_text == ""


def test_reason_numbers_exist_for_every_reason() -> None:
    """The contract knows each reason under the same name."""
    for reason in Reason:
        assert error_pb2.Reason.Name(reason_number(reason)) == f"REASON_{reason}"
