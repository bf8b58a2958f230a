"""Call rate and stream bounds of callers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from venuemesh.errors import RateLimited, Reason
from venuemesh.limits import CallerLimits, CallLimits, TokenBucket


@given(
    gaps=st.lists(st.floats(0, 5), min_size=1, max_size=60),
    rate=st.floats(0.1, 50),
    burst=st.integers(1, 20),
)
def test_bucket_when_asked_at_any_times_never_gives_more_than_rate_and_burst(
    gaps: list[float], rate: float, burst: int
) -> None:
    """Over any span from the start at most burst + rate * span, and waiting as told is enough."""
    now, given_out = 0.0, 0
    bucket = TokenBucket(rate=rate, burst=burst, now_s=0.0)
    for gap in gaps:
        now += gap
        wait = bucket.take(now)
        if wait == 0.0:
            given_out += 1
            assert given_out <= burst + rate * now + 1e-6
        else:
            now += wait + 1e-9
            assert bucket.take(now) == 0.0
            given_out += 1


@pytest.mark.parametrize(("rate", "burst"), [(0.0, 1), (-1.0, 1), (1.0, 0)])
def test_bucket_when_bounds_make_no_sense_refuses(rate: float, burst: int) -> None:
    """A bucket that never gives would look like a dead service."""
    with pytest.raises(ValueError, match="rate must be above 0"):
        TokenBucket(rate=rate, burst=burst, now_s=0.0)


def test_calls_when_one_peer_floods_refuse_it_and_admit_others() -> None:
    """Limits are per peer; the refusal names the limit and the wait."""
    limits = CallerLimits(CallLimits(calls_per_second=2, call_burst=3))
    for _ in range(3):
        limits.admit_call("a", 0.0)
    with pytest.raises(RateLimited) as caught:
        limits.admit_call("a", 0.0)
    assert caught.value.reason is Reason.RATE_LIMIT_LOCAL
    assert caught.value.retry_after_s == pytest.approx(0.5)
    limits.admit_call("b", 0.0)
    limits.admit_call("a", 0.5)


def test_streams_when_closed_give_their_slot_back() -> None:
    """Bounds per peer and in total; counts return to zero."""
    limits = CallerLimits(CallLimits(streams_per_peer=2, streams_total=3))
    limits.open_stream("a", 0.0)
    limits.open_stream("a", 0.0)
    with pytest.raises(RateLimited, match="streams_per_peer is 2") as caught:
        limits.open_stream("a", 0.0)
    assert caught.value.reason is Reason.TOO_MANY_STREAMS
    limits.open_stream("b", 0.0)
    with pytest.raises(RateLimited, match="streams_total is 3"):
        limits.open_stream("c", 0.0)
    limits.close_stream("a")
    limits.open_stream("c", 0.0)
    for peer in ("a", "b", "c"):
        limits.close_stream(peer)
    assert limits.open_streams == 0


def test_peers_when_too_many_forget_the_idle_one_seen_longest_ago() -> None:
    """The table is bounded and never forgets a peer with an open stream."""
    limits = CallerLimits(CallLimits(call_burst=1, calls_per_second=0.001, max_peers=3))
    limits.open_stream("streaming", 0.0)
    for peer in ("old", "new"):
        limits.admit_call(peer, 0.0)
    limits.admit_call("newest", 0.0)
    assert limits.peers == 3
    limits.close_stream("streaming")
    with pytest.raises(RateLimited):
        limits.admit_call("new", 0.0)
    limits.admit_call("old", 0.0)


def test_reports_when_a_peer_floods_are_one_a_second() -> None:
    """Refusals are counted all and logged once a second."""
    limits = CallerLimits(CallLimits())
    assert [limits.may_report("a", now) for now in (0.0, 0.1, 0.9, 1.0, 1.5)] == [True, False, False, True, False]


def test_safety_calls_when_ordinary_ones_are_spent_still_pass() -> None:
    """A caller who flooded orders can still cancel, and a flood of cancels is bounded too."""
    limits = CallerLimits(CallLimits(calls_per_second=1.0, call_burst=2))
    for _ in range(2):
        limits.admit_call("a", 0.0)
    with pytest.raises(RateLimited):
        limits.admit_call("a", 0.0)
    for _ in range(2):
        limits.admit_call("a", 0.0, safety=True)
    with pytest.raises(RateLimited):
        limits.admit_call("a", 0.0, safety=True)


@given(
    taken=st.integers(0, 10),
    first=st.tuples(st.floats(0.1, 50), st.integers(1, 10)),
    second=st.tuples(st.floats(0.1, 50), st.integers(1, 10)),
    gap=st.floats(0, 5),
    later=st.floats(0, 5),
)
def test_bucket_when_its_bounds_change_keeps_what_was_taken_and_never_gives_more_than_the_new_ones(
    taken: int, first: tuple[float, int], second: tuple[float, int], gap: float, later: float
) -> None:
    """Time before the change counts by the old rate, time after it by the new one; only a full bucket fills up."""
    bucket = TokenBucket(rate=first[0], burst=first[1], now_s=0.0)
    for _ in range(taken):
        bucket.take(0.0)
    before = bucket.left(gap)
    bucket.change(rate=second[0], burst=second[1], now_s=gap)
    start = second[1] if before >= first[1] else min(before, second[1])
    assert bucket.left(gap) == pytest.approx(start)
    assert bucket.left(gap + later) == pytest.approx(min(second[1], start + later * second[0]))


def test_limits_when_they_change_hold_for_peers_known_and_new() -> None:
    """The next call is judged by the new bounds, and the refusal names them."""
    limits = CallerLimits(CallLimits(calls_per_second=100, call_burst=100, failed_identifications=5))
    limits.admit_call("known", 0.0)
    limits.change(CallLimits(calls_per_second=0.5, call_burst=1, failed_identifications=1), 1.0)
    for peer in ("known", "new"):
        limits.admit_call(peer, 1.0)
        with pytest.raises(RateLimited, match=r"0\.5 calls per second, 1 at once"):
            limits.admit_call(peer, 1.0)
        limits.admit_call(peer, 1.0, safety=True)
        limits.admit_identification(peer, 1.0)
        limits.identification_failed(peer, 1.0)
        with pytest.raises(RateLimited, match="more than 1 failed"):
            limits.admit_identification(peer, 1.0)


def test_streams_when_their_bound_shrinks_stay_open_and_no_other_begins() -> None:
    """Nobody is thrown out; a slot is free again when enough have ended."""
    limits = CallerLimits(CallLimits(streams_per_peer=3))
    for _ in range(3):
        limits.open_stream("a", 0.0)
    limits.change(CallLimits(streams_per_peer=2), 0.0)
    assert limits.open_streams == 3
    for _ in range(2):
        with pytest.raises(RateLimited, match="streams_per_peer is 2"):
            limits.open_stream("a", 0.0)
        limits.close_stream("a")
    limits.open_stream("a", 0.0)
    assert limits.open_streams == 2
