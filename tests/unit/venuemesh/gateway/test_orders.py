"""The order state machine: invariants over any order of facts, and where the order of delivery must not matter."""

from __future__ import annotations

import itertools
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.venuemesh.gateway.order_facts import NOW_NS, check_invariants, ended, fill, new_order, run, step
from venuemesh.errors import Reason
from venuemesh.gateway.facts import (
    Accepted,
    Armed,
    CancelFailed,
    CancelRequested,
    Fact,
    Filled,
    FillsComplete,
    OperatorActed,
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
trigger_states = st.sampled_from(pb.TriggerState.values())
facts = st.one_of(
    lives.map(lambda life: Accepted(venue_order_id=life)),
    st.builds(lambda life, state: Accepted(venue_order_id=life, trigger_state=state), lives, trigger_states),
    lives.map(lambda life: RejectedByVenue(reason=Reason.NO_LIQUIDITY, text="no", venue_order_id=life)),
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
            Armed(),
            FillsComplete(),
            Unrecognised(text="marmalade"),
            OperatorActed(text="query by ops-1: why"),
        ]
    ),
    st.builds(
        lambda life, amount: ReplaceConfirmed(venue_order_id=life, quantity=amount, price=Decimal(101)),
        lives,
        st.none() | quantities,
    ),
)


def waiting(state: pb.TriggerState.ValueType = pb.TRIGGER_STATE_WAITING) -> OrderState:
    """A stop that waits for its price, or for its parent."""
    return replace(new_order(), trigger_price=Decimal(90), trigger_state=state)


beginnings = st.sampled_from([new_order(), waiting(), waiting(pb.TRIGGER_STATE_WAITING_FOR_PARENT)])


@settings(max_examples=400, deadline=None)
@given(beginnings, st.lists(facts, max_size=14))
def test_apply_over_any_facts_keeps_every_invariant(begin: OrderState, history: list[Fact]) -> None:
    """Whatever comes in whatever order: quantities add up, versions rise by one, terminal is left only on proof."""
    state = run(begin, history)
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


def test_acceptance_after_the_venues_own_refusal_is_illegal() -> None:
    """The venue contradicts itself: nothing is changed, somebody must look."""
    with pytest.raises(IllegalTransition):
        apply(run(new_order(), [REFUSED]), Accepted(venue_order_id="1"), NOW_NS)


@pytest.mark.parametrize("before", [[], [OutcomeLost(cause="cut")]])
def test_acceptance_after_the_order_was_held_absent_brings_it_back_as_restated(before: list[Fact]) -> None:
    """Our conclusion was wrong and the venue's word is right; everybody is told so."""
    state = run(new_order(), [*before, ABSENT])
    assert state.status == pb.ORDER_STATUS_REJECTED
    change = step(state, Accepted(venue_order_id="7", trigger_state=pb.TRIGGER_STATE_WAITING))
    assert change is not None
    assert (change.state.status, change.state.venue_order_id) == (pb.ORDER_STATUS_NEW, "7")
    assert (change.state.reject, change.state.leaves) == (None, state.quantity)
    assert (change.execution_type, change.origin) == (pb.EXECUTION_TYPE_RESTATED, pb.ORIGIN_VENUE)
    assert "held never to have reached it" in change.text
    ended_state = run(change.state, [Filled(fill=fill("a", 4, venue_order_id="7")), ended(CANCELED, "4", life="7")])
    assert (ended_state.status, ended_state.filled) == (CANCELED, Decimal(4))


def test_operators_act_is_told_and_changes_nothing_else() -> None:
    """It is in the order's history; what came of it is another fact. What has ended has no more history."""
    state = run(new_order(), [OutcomeLost(cause="cut")])
    change = step(state, OperatorActed(text="query by ops-1: why"))
    assert change is not None
    assert (change.origin, change.text) == (pb.ORIGIN_OPERATOR, "query by ops-1: why")
    assert replace(change.state, version=state.version) == state
    assert step(run(state, [ABSENT]), OperatorActed(text="again")) is None


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


# triggers


LIVE = Accepted(venue_order_id="1")
REFUSED_LATER = RejectedByVenue(reason=Reason.NO_LIQUIDITY, text="marketOrderNoLiquidityRejected", venue_order_id="1")


def test_trigger_goes_forward_only() -> None:
    """Waiting for its parent, for its price, fired: a view that knows less takes nothing back."""
    state = waiting(pb.TRIGGER_STATE_WAITING_FOR_PARENT)
    seen = []
    for fact in (
        LIVE,
        Armed(),
        Armed(),
        Triggered(),
        Armed(),
        Accepted(venue_order_id="1", trigger_state=pb.TRIGGER_STATE_WAITING),
    ):
        change = step(state, fact)
        state = change.state if change else state
        seen.append(state.trigger_state)
    assert seen == [1, 2, 2, 3, 3, 3]
    assert (state.status, state.version) == (pb.ORDER_STATUS_NEW, 4)


def test_answer_that_arms_a_child_after_the_stream_told_it_is_news() -> None:
    """Its parent filled at once: the answer says what the stream's row leaves out."""
    state = run(waiting(pb.TRIGGER_STATE_WAITING_FOR_PARENT), [LIVE])
    armed = step(state, Accepted(venue_order_id="", trigger_state=pb.TRIGGER_STATE_WAITING))
    assert armed is not None
    assert armed.state.trigger_state == pb.TRIGGER_STATE_WAITING


def test_fill_proves_that_the_trigger_has_fired() -> None:
    """Also where the venue never said so."""
    assert run(waiting(), [Filled(fill=fill("a", 1))]).trigger_state == pb.TRIGGER_STATE_TRIGGERED
    assert run(new_order(), [Filled(fill=fill("a", 1))]).trigger_state == pb.TRIGGER_STATE_UNSPECIFIED


@pytest.mark.parametrize("filled", [0, 4])
def test_triggered_order_that_the_venue_refuses_ends_canceled_with_the_reason(filled: int) -> None:
    """It was live, so REJECTED would be untrue; what it filled before stays."""
    fills: list[Fact] = [Filled(fill=fill("a", filled))] if filled else []
    state = run(waiting(), [LIVE, Triggered(), *fills])
    change = step(state, REFUSED_LATER)
    assert change is not None
    assert (change.state.status, change.execution_type) == (CANCELED, pb.EXECUTION_TYPE_CANCELED)
    assert change.state.filled == filled
    assert change.state.reject is not None
    assert change.state.reject.reason == error_pb2.REASON_NO_LIQUIDITY
    assert change.text == change.state.reject.venue_text == REFUSED_LATER.text
    assert step(change.state, REFUSED_LATER) is None


def test_order_refused_after_its_answer_was_lost_is_rejected() -> None:
    """Nothing shows that it ever lived."""
    assert run(waiting(), [OutcomeLost(cause="cut"), REFUSED_LATER]).status == pb.ORDER_STATUS_REJECTED


def test_refused_new_life_of_an_amendment_ends_nothing() -> None:
    """What became of the order is told by the end of its old life and by the answer."""
    before = run(new_order(), [LIVE, ReplaceRequested()])
    new_life = RejectedByVenue(reason=Reason.POST_ONLY_WOULD_CROSS, text="badAloPxRejected", venue_order_id="2")
    assert step(before, new_life) is None
    after = run(before, [ended(CANCELED, "0", life="1"), new_life, ReplaceFailed(text="no")])
    assert after.status == CANCELED


@pytest.mark.parametrize(
    "end", [RejectedByVenue(reason=Reason.NO_LIQUIDITY, text="no", venue_order_id="9"), REFUSED_LATER]
)
def test_refusal_that_contradicts_a_known_life_is_illegal(end: RejectedByVenue) -> None:
    """Another id than the one it lives under, or an order that has filled: reconciliation must look."""
    state = run(new_order(), [LIVE, Filled(fill=fill("a", 10 if end is REFUSED_LATER else 1))])
    with pytest.raises(IllegalTransition):
        apply(state, end, NOW_NS)


def test_cancel_by_the_venue_keeps_why_until_a_fill_completes_the_order() -> None:
    """A late fill is counted without forgetting the reason; a full one leaves nothing to explain."""
    told = ended(CANCELED, None)
    why = replace(told, ending=replace(told.ending, reason=Reason.INSUFFICIENT_MARGIN))
    state = run(new_order(), [LIVE, why])
    assert state.reject is not None
    assert state.reject.reason == error_pb2.REASON_INSUFFICIENT_MARGIN
    partly = run(state, [Filled(fill=fill("a", 4))])
    assert (partly.status, partly.reject) == (CANCELED, state.reject)
    full = run(partly, [Filled(fill=fill("b", 6))])
    assert (full.status, full.reject) == (FILLED, None)


def test_order_that_shrank_with_the_position_is_filled_once_all_its_fills_are_known() -> None:
    """The venue calls it filled and does not say how much: neither guessed at once nor waited for for ever."""
    told: list[Fact] = [LIVE, Filled(fill=fill("a", 3)), ended(FILLED, None)]
    state = run(new_order(), told)
    assert state.working
    done = run(state, [FillsComplete()])
    assert (done.status, done.filled, done.quantity, done.leaves) == (FILLED, Decimal(3), Decimal(3), Decimal(0))
    late = run(done, [Filled(fill=fill("b", 1))])
    assert (late.status, late.filled, late.quantity) == (FILLED, Decimal(4), Decimal(4))


@pytest.mark.parametrize("told", [[], [ended(FILLED, None)], [Filled(fill=fill("a", 3)), ended(FILLED, "10")]])
def test_complete_fills_do_not_make_an_order_filled_that_the_venue_does_not_call_so(told: list[Fact]) -> None:
    """Without its word, without any fill, or with a count that its fills do not reach."""
    state = run(new_order(), [LIVE, *told])
    assert step(state, FillsComplete()) is None
