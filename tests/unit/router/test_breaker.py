"""The circuit breaker: what opens it, what a test may let pass, and that nothing passes otherwise."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.breaker import SLOTS, Breaker, BreakerRules, Permit, State, Verdict

RULES = BreakerRules()


def run(
    breaker: Breaker, verdict: Verdict, now_s: float, *, took_s: float = 0.0, times: int = 1, **end: object
) -> None:
    """Calls that began `took_s` before `now_s` and end there; refused ones are an error."""
    for _ in range(times):
        permit = breaker.admit(now_s - took_s)
        assert permit is not None
        breaker.end(permit, verdict, now_s, **end)  # type: ignore[arg-type]


def opened(now_s: float = 0.0, rules: BreakerRules = RULES) -> Breaker:
    breaker = Breaker(rules, now_s)
    run(breaker, Verdict.TIMEOUT, now_s, times=rules.min_timeouts)
    assert breaker.view(now_s).state is State.OPEN
    return breaker


# --- opening ---


def test_half_of_ten_calls_failed_opens_and_says_so() -> None:
    """Not before there are enough calls to take a rate of."""
    breaker = Breaker(RULES, 0.0)
    run(breaker, Verdict.FAILURE, 1.0, times=5)
    run(breaker, Verdict.SUCCESS, 1.0, times=4)
    assert breaker.view(1.0).state is State.CLOSED
    run(breaker, Verdict.SUCCESS, 1.0)
    seen = breaker.view(1.0)
    assert (seen.state, seen.cause, seen.since_s) == (State.OPEN, "5 of 10 calls in 30 s failed", 1.0)
    assert seen.retry_at_s == 6.0


def test_three_time_outs_open_without_waiting_for_ten_calls() -> None:
    """Each leaves an order in doubt, and a trader with few orders makes no rate of ten."""
    breaker = Breaker(RULES, 0.0)
    run(breaker, Verdict.TIMEOUT, 1.0, times=2)
    assert not breaker.refuses(1.0)
    run(breaker, Verdict.TIMEOUT, 1.0)
    assert breaker.refuses(1.0) and breaker.view(1.0).cause == "3 of 3 calls in 30 s timed out"


def test_few_time_outs_among_many_calls_leave_it_closed() -> None:
    """The rate counts, not the number alone."""
    breaker = Breaker(RULES, 0.0)
    for _ in range(20):
        run(breaker, Verdict.SUCCESS, 1.0, times=5)
        run(breaker, Verdict.TIMEOUT, 1.0)
    assert breaker.view(1.0).state is State.CLOSED


def test_five_time_outs_in_a_row_open_however_much_went_well_before() -> None:
    """A venue that hangs after a busy minute: its callers wait, so the rate of the window hardly moves."""
    breaker = Breaker(RULES, 0.0)
    run(breaker, Verdict.SUCCESS, 1.0, times=10_000)
    run(breaker, Verdict.TIMEOUT, 1.0, times=4)
    run(breaker, Verdict.NEUTRAL, 1.0)
    assert breaker.view(1.0).state is State.CLOSED
    run(breaker, Verdict.TIMEOUT, 1.0)
    seen = breaker.view(1.0)
    assert (seen.state, seen.cause) == (State.OPEN, "5 calls in a row timed out")


def test_slow_calls_open_though_all_succeed() -> None:
    """Eight of ten took a second."""
    breaker = Breaker(RULES, 0.0)
    run(breaker, Verdict.SUCCESS, 5.0, times=2)
    run(breaker, Verdict.SUCCESS, 5.0, took_s=1.0, times=8)
    assert breaker.view(5.0).cause == "8 of 10 calls in 30 s took 1 s or more"


def test_call_asked_to_wait_for_the_order_to_end_is_never_slow() -> None:
    """How long an order lives tells nothing about its venue."""
    breaker = Breaker(RULES, 0.0)
    run(breaker, Verdict.SUCCESS, 9.0, took_s=5.0, times=20, patient=True)
    assert breaker.view(9.0).counts.slow == 0


def test_time_outs_of_callers_in_a_hurry_count_for_nothing() -> None:
    """A caller must not be able to close a venue to the others by giving it no time."""
    breaker = Breaker(RULES, 0.0)
    run(breaker, Verdict.TIMEOUT, 1.0, times=50, given_s=0.2)
    seen = breaker.view(1.0)
    assert (seen.state, seen.counts.calls) == (State.CLOSED, 0)


def test_caller_gone_early_counts_for_nothing_and_late_as_slow() -> None:
    """Leaving at once proves nothing; having waited does."""
    breaker = Breaker(RULES, 0.0)
    run(breaker, Verdict.ABANDONED, 5.0, took_s=0.5, times=50)
    assert breaker.view(5.0).counts.calls == 0
    run(breaker, Verdict.ABANDONED, 5.0, took_s=2.0, times=9)
    counts = breaker.view(5.0).counts
    assert (counts.calls, counts.slow, counts.failures) == (9, 9, 0)


def test_calls_older_than_the_window_are_forgotten() -> None:
    """Nine failures half a minute ago do not help one now to open it."""
    breaker = Breaker(RULES, 0.0)
    run(breaker, Verdict.FAILURE, 0.0, times=9)
    run(breaker, Verdict.FAILURE, 30.0)
    seen = breaker.view(30.0)
    assert (seen.state, seen.counts.calls) == (State.CLOSED, 1)


def test_call_that_began_before_it_opened_does_not_count_afterwards() -> None:
    """An answer from before says nothing about the test that runs now."""
    breaker = Breaker(RULES, 0.0)
    old = breaker.admit(0.0)
    assert old is not None
    run(breaker, Verdict.TIMEOUT, 0.0, times=3)
    assert breaker.view(5.0).state is State.HALF_OPEN
    breaker.end(old, Verdict.SUCCESS, 5.0)
    assert (breaker.view(5.0).state, breaker.view(5.0).counts.calls) == (State.HALF_OPEN, 3)


# --- the test ---


def test_open_breaker_tests_with_three_orders_and_closes_when_all_go_well() -> None:
    """P3: none while open; three at once at most; then all."""
    breaker = opened()
    assert breaker.admit(4.999) is None
    probes = [breaker.admit(5.0) for _ in range(3)]
    assert all(probe is not None and probe.is_probe for probe in probes)
    assert breaker.admit(5.0) is None and breaker.refuses(5.0)
    for probe in probes:
        assert breaker.view(5.1).state is State.HALF_OPEN and probe is not None
        breaker.end(probe, Verdict.SUCCESS, 5.1)
    seen = breaker.view(5.1)
    assert (seen.state, seen.counts.calls) == (State.CLOSED, 0)


@pytest.mark.parametrize("verdict", [Verdict.FAILURE, Verdict.TIMEOUT])
def test_failed_test_opens_again_for_twice_as_long_up_to_the_cap(verdict: Verdict) -> None:
    """5, 10, 15, 15 s; and 5 again once it was closed."""
    breaker, now_s = opened(), 0.0
    for wait_s in (5.0, 10.0, 15.0, 15.0):
        assert breaker.view(now_s).retry_at_s == now_s + wait_s
        now_s += wait_s
        run(breaker, verdict, now_s)
    now_s += 15.0
    run(breaker, Verdict.SUCCESS, now_s, times=3)
    run(breaker, Verdict.TIMEOUT, now_s, times=3)
    assert breaker.view(now_s).retry_at_s == now_s + 5.0


def test_slow_test_call_opens_again() -> None:
    """A venue that crawls has not recovered."""
    breaker = opened()
    run(breaker, Verdict.SUCCESS, 7.0, took_s=1.5)
    assert breaker.view(7.0).state is State.OPEN


def test_test_call_that_tells_nothing_gives_its_place_to_another() -> None:
    """An order that broke a rule is no test of the venue, and must not use the test up."""
    breaker = opened()
    run(breaker, Verdict.NEUTRAL, 5.0, times=10)
    assert breaker.view(5.0).state is State.HALF_OPEN and not breaker.refuses(5.0)


def test_cancels_during_the_test_decide_nothing() -> None:
    """Only the new orders it let pass do."""
    breaker = opened()
    for verdict in (Verdict.TIMEOUT, Verdict.SUCCESS):
        for _ in range(10):
            breaker.end(breaker.watch(5.0), verdict, 5.0)
    assert breaker.view(5.0).state is State.HALF_OPEN


# --- forced ---


def test_forced_open_stays_open_whatever_time_passes() -> None:
    """Until somebody lets it free; then it begins anew."""
    breaker = Breaker(RULES, 0.0)
    breaker.force(State.OPEN, "maintenance", 1.0)
    seen = breaker.view(1e6)
    assert (seen.state, seen.forced, seen.retry_at_s) == (State.OPEN, True, None)
    assert breaker.admit(1e6) is None
    breaker.release("done", 1e6)
    seen = breaker.view(1e6)
    assert (seen.state, seen.forced, seen.cause) == (State.CLOSED, False, "done")


def test_forced_closed_counts_and_never_opens() -> None:
    """What it would have done is still to be seen."""
    breaker = opened()
    breaker.force(State.CLOSED, "we know better", 1.0)
    run(breaker, Verdict.TIMEOUT, 1.0, times=40)
    seen = breaker.view(1.0)
    assert (seen.state, seen.counts.timeouts) == (State.CLOSED, 43)


# --- other rules ---


def test_other_rules_decide_from_then_on_and_nothing_counted_by_the_former_remains() -> None:
    """What was slow by the old rules may not be by the new ones."""
    breaker = Breaker(RULES, 0.0)
    run(breaker, Verdict.FAILURE, 1.0, times=9)
    permit = breaker.watch(1.0)
    breaker.change(BreakerRules(min_calls=2), 1.0)
    breaker.end(permit, Verdict.FAILURE, 1.0)
    assert breaker.view(1.0).counts.calls == 0
    run(breaker, Verdict.FAILURE, 1.0, times=2)
    seen = breaker.view(1.0)
    assert (seen.state, seen.cause) == (State.OPEN, "2 of 2 calls in 30 s failed")


def test_the_same_rules_change_nothing() -> None:
    """A reload for another setting must not make a venue's failures forgotten."""
    breaker = Breaker(RULES, 0.0)
    run(breaker, Verdict.FAILURE, 1.0, times=4)
    breaker.change(BreakerRules(), 1.0)
    assert breaker.view(1.0).counts.failures == 4


def test_other_rules_leave_an_open_breaker_open_within_the_new_cap() -> None:
    """It is not opened by a change of its rules, and not kept longer than they allow."""
    breaker = opened()
    breaker.change(BreakerRules(open_s=1.0, open_cap_s=2.0), 1.0)
    seen = breaker.view(1.0)
    assert (seen.state, seen.retry_at_s) == (State.OPEN, 2.0)
    assert breaker.view(2.0).state is State.HALF_OPEN


@pytest.mark.parametrize("state", [State.OPEN, State.CLOSED])
def test_other_rules_leave_a_forced_breaker_as_it_is(state: State) -> None:
    """A person's word stands until it is taken back."""
    breaker = Breaker(RULES, 0.0)
    breaker.force(state, "ann: drill", 0.0)
    breaker.change(BreakerRules(open_cap_s=1.0, open_s=1.0), 1.0)
    assert (breaker.view(9.0).state, breaker.view(9.0).forced) == (state, True)


def test_other_rules_during_a_test_begin_it_anew_and_it_still_ends() -> None:
    """Also when fewer calls are a test now than had gone well already: half open must not be for ever."""
    breaker = opened()
    for _ in range(2):
        run(breaker, Verdict.SUCCESS, 5.0)
    late = breaker.admit(5.0)
    assert late is not None
    breaker.change(BreakerRules(probes=1), 5.0)
    breaker.end(late, Verdict.FAILURE, 5.0)
    assert breaker.view(5.0).state is State.HALF_OPEN
    run(breaker, Verdict.SUCCESS, 5.0)
    assert breaker.view(5.0).state is State.CLOSED


def test_half_open_cannot_be_forced_and_release_of_a_free_one_changes_nothing() -> None:
    """A test is nothing to stay in."""
    breaker = opened()
    with pytest.raises(ValueError, match="forced open or closed"):
        breaker.force(State.HALF_OPEN, "why", 1.0)
    breaker.release("nothing", 1.0)
    assert breaker.view(1.0).state is State.OPEN


# --- laws ---

steps = st.lists(
    st.tuples(
        st.sampled_from(("admit", "watch", "end")),
        st.sampled_from(tuple(Verdict)),
        st.sampled_from((0.0, 0.1, 0.7, 2.0, 6.0, 31.0)),
        st.integers(0, 40),
    ),
    max_size=120,
)
small = st.builds(
    BreakerRules,
    min_calls=st.integers(1, 4),
    min_timeouts=st.integers(1, 3),
    timeouts_in_row=st.integers(1, 3),
    probes=st.integers(1, 3),
    slow_s=st.sampled_from((1.0, 10.0)),
)


@settings(max_examples=150, deadline=None)
@given(small, steps)
def test_no_history_lets_an_order_pass_while_open_or_too_many_while_half_open(
    rules: BreakerRules, history: list[tuple[str, Verdict, float, int]]
) -> None:
    """P3: an unavailable venue gets no orders: none while open, never more than its test while half open."""
    breaker, now_s = Breaker(rules, 0.0), 0.0
    under_way: list[Permit] = []
    for what, verdict, passed_s, pick in history:
        now_s += passed_s
        before = breaker.view(now_s)
        if what == "admit":
            would_refuse = breaker.refuses(now_s)
            permit = breaker.admit(now_s)
            assert (permit is None) == would_refuse
            assert permit is None or before.state is not State.OPEN
            assert permit is None or permit.is_probe == (before.state is State.HALF_OPEN)
            under_way += [permit] if permit is not None else []
        elif what == "watch":
            under_way.append(breaker.watch(now_s))
        elif under_way:
            breaker.end(under_way.pop(pick % len(under_way)), verdict, now_s)
        now = breaker.view(now_s)
        era = max((permit.era for permit in under_way), default=0)
        probes = [permit for permit in under_way if permit.is_probe and permit.era == era]
        assert now.state is not State.HALF_OPEN or len(probes) <= rules.probes
        if before.state is State.OPEN and now.state is State.OPEN:
            assert before.retry_at_s is not None and now_s < before.retry_at_s
        assert (now.state, before.state) != (State.CLOSED, State.OPEN), "only a test that went well closes it"


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(tuple(Verdict)), st.sampled_from((0.0, 0.5, 3.0, 11.0)), st.sampled_from((0.0, 2.0))),
        max_size=80,
    )
)
def test_window_counts_what_a_list_of_all_calls_counts(calls: list[tuple[Verdict, float, float]]) -> None:
    """Against a model that keeps every call and looks back over the ten newest slots."""
    never = BreakerRules(min_calls=10**6, min_timeouts=10**6, timeouts_in_row=10**6)
    breaker, now_s = Breaker(never, 0.0), 10.0
    kept: list[tuple[int, bool, bool, bool]] = []
    for verdict, passed_s, took_s in calls:
        now_s += passed_s
        run(breaker, verdict, now_s, took_s=took_s)
        slow = took_s >= never.slow_s
        if verdict is not Verdict.NEUTRAL and (slow or verdict is not Verdict.ABANDONED):
            timed_out = verdict is Verdict.TIMEOUT
            kept.append((int(now_s // 3), timed_out or verdict is Verdict.FAILURE, timed_out, slow))
        recent = [one for one in kept if one[0] > int(now_s // 3) - SLOTS]
        counts = breaker.view(now_s).counts
        assert (counts.calls, counts.failures, counts.timeouts, counts.slow) == (
            len(recent),
            *(sum(one[place] for one in recent) for place in (1, 2, 3)),
        )
