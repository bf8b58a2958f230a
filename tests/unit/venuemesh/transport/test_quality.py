"""The judgement of links: limits, hysteresis, and what it may never do (properties 12, 30 and 31)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import ManualClock
from venuemesh.transport.link import LinkSnapshot, LinkStats, LinkWindow
from venuemesh.transport.quality import GOOD, Quality, QualityPolicy, fault_of, judge

POLICY = QualityPolicy(
    max_error_rate=0.2,
    min_requests=4,
    max_latency_s=1.0,
    max_reconnections=4,
    max_silence_s=20.0,
    recover_ratio=0.5,
    recover_after_s=10.0,
)

steps = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(1, 15)),
        st.tuples(st.sampled_from(["connect", "disconnect", "message", "error"]), st.just(0)),
        st.tuples(st.just("ok"), st.integers(1, 3_000)),
    ),
    min_size=1,
    max_size=60,
)


def happen(stats: LinkStats, clock: ManualClock, what: str, amount: int) -> None:
    """Feed one step of a script."""
    match what:
        case "wait":
            clock.advance(amount)
        case "connect":
            stats.connect_succeeded()
        case "disconnect":
            stats.disconnected("gone")
        case "message":
            stats.message_received()
        case "error":
            stats.request_done(failed=True)
        case "ok":
            stats.request_done(failed=False, latency_s=amount / 1_000)


def limits_passed(seen: LinkSnapshot, ratio: float) -> bool:
    """The rules said once more, the slow way."""
    return (
        (seen.requests >= 4 and (seen.error_rate or 0) > 0.2 * ratio)
        or (seen.latency_p50_s or 0) > 1.0 * ratio
        or seen.recent_reconnections > 4 * ratio
        or seen.heard_age_s > 20 * ratio
    )


@given(steps)
@settings(max_examples=150, deadline=None)
def test_judgement_equals_a_reference_over_the_whole_history(script: list[tuple[str, int]]) -> None:
    """P31: degraded at the first measurement beyond a limit, good again only after an unbroken calm, else unchanged."""
    clock = ManualClock()
    stats, quality = LinkStats(clock, LinkWindow(window_s=30)), GOOD
    degraded, calm_since = False, None
    for what, amount in script:
        happen(stats, clock, what, amount)
        seen, now_s = stats.snapshot(), clock.monotonic_s()
        quality = judge(quality, seen, now_s, POLICY)
        if not seen.connected or limits_passed(seen, 0.5):
            calm_since = None
        elif calm_since is None:
            calm_since = now_s
        if seen.connected and limits_passed(seen, 1.0):
            degraded = True
        elif seen.connected and degraded and calm_since is not None and now_s - calm_since >= 10.0:
            degraded = False
        assert quality.degraded is degraded
        assert bool(quality.cause) is degraded
        if degraded is False:
            calm_since = None


@given(st.lists(st.booleans(), min_size=1, max_size=40))
@settings(deadline=None)
def test_a_link_that_touches_its_limit_never_flaps(errors: list[bool]) -> None:
    """P31: between two changes to good lies at least the time of calm, whatever the samples are."""
    clock = ManualClock()
    stats, quality, changes = LinkStats(clock, LinkWindow(window_s=5)), GOOD, []
    stats.connect_succeeded()
    for failed in errors:
        clock.advance(1)
        stats.message_received()
        stats.request_done(failed=failed, latency_s=0.1)
        before, quality = quality, judge(quality, stats.snapshot(), clock.monotonic_s(), POLICY)
        if before.degraded is not quality.degraded:
            changes.append((clock.monotonic_s(), quality.degraded))
    for (since_s, degraded), (until_s, _) in pairwise(changes):
        assert not degraded or until_s - since_s >= POLICY.recover_after_s


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ([("ok", 10), ("ok", 10), ("ok", 10), ("error", 0)], "error rate 0.25 over 4 requests, limit 0.2"),
        ([("ok", 1_500)], "median latency 1.500 s, limit 1 s"),
        ([("disconnect", 0), ("connect", 0)] * 5, "5 reconnections lately, limit 4"),
        ([("wait", 15), ("wait", 6)], "silent for 21.0 s, limit 20 s"),
    ],
)
def test_each_limit_names_itself_and_what_was_measured(script: list[tuple[str, int]], words: str) -> None:
    """P12, P31: a person reads what is wrong and how far."""
    clock = ManualClock()
    stats = LinkStats(clock)
    stats.connect_succeeded()
    for what, amount in script:
        happen(stats, clock, what, amount)
    assert fault_of(stats.snapshot(), POLICY) == words
    unlimited = QualityPolicy(max_error_rate=None, max_latency_s=None, max_reconnections=None)
    assert fault_of(stats.snapshot(), unlimited) == ""


def test_too_few_requests_are_not_judged_by_their_errors() -> None:
    """P31: one failure of one request is no rate."""
    stats = LinkStats(ManualClock())
    stats.connect_succeeded()
    for _ in range(3):
        stats.request_done(failed=True)
    assert fault_of(stats.snapshot(), POLICY) == ""


def test_a_link_without_connection_keeps_what_was_held_and_its_calm_begins_anew() -> None:
    """P12: down is its own state; reconnecting is no recovery."""
    clock = ManualClock()
    stats = LinkStats(clock)
    before = Quality(degraded=True, cause="slow", better_since_s=3.0)
    assert judge(before, stats.snapshot(), 100.0, POLICY) == Quality(degraded=True, cause="slow")
    assert judge(GOOD, stats.snapshot(), 100.0, POLICY) == GOOD


@pytest.mark.parametrize("wrong", [{"recover_ratio": 0.0}, {"recover_ratio": 1.1}, {"min_requests": 0}])
def test_a_policy_that_makes_no_sense_is_refused(wrong: dict[str, float]) -> None:
    """With a ratio over 1 a link would be good while it is bad."""
    with pytest.raises(ValueError, match="must be"):
        QualityPolicy(**wrong)  # type: ignore[arg-type]
