"""Link statistics against a slow reference model (property 30), with bounded memory."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import ManualClock
from venuemesh.transport.link import LinkState, LinkStats, LinkWindow, percentile

steps = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.integers(0, 40)),
        st.tuples(st.sampled_from(["connect", "connecting", "disconnect", "fail", "message"]), st.just(0)),
        st.tuples(st.just("ok"), st.integers(1, 5000)),
        st.tuples(st.just("error"), st.just(0)),
    ),
    max_size=60,
)


@given(steps)
@settings(max_examples=100, deadline=None)
def test_snapshot_equals_reference_model(script: list[tuple[str, int]]) -> None:
    """P30: whatever happened, in whatever order, the snapshot equals sums over the whole history."""
    clock = ManualClock()
    limits = LinkWindow(window_s=30, max_samples=8, ewma_weight=0.5)
    stats = LinkStats(clock, limits)
    history: list[tuple[int, str, int]] = []
    now = 0
    for what, amount in script:
        if what == "wait":
            clock.advance(amount)
            now += amount
            continue
        history.append((now, what, amount))
        if what == "connect":
            stats.connect_succeeded()
        elif what == "connecting":
            stats.connecting()
        elif what == "disconnect":
            stats.disconnected("gone")
        elif what == "fail":
            stats.connect_failed("refused")
        elif what == "message":
            stats.message_received()
        else:
            stats.request_done(failed=what == "error", latency_s=amount / 1000 if what == "ok" else None)
    _compare(stats, history, now)


def _compare(stats: LinkStats, history: list[tuple[int, str, int]], now: int) -> None:
    state, since, spells, ups, downs = LinkState.CONNECTING, None, 0, 0, 0
    connects: list[int] = []
    for at, what, _ in history:
        if what == "connect" and since is None:
            state, since, ups = LinkState.LIVE, at, ups + 1
            connects.append(at)
        elif what == "disconnect" and since is not None:
            state, spells, since, downs = LinkState.DOWN, spells + at - since, None, downs + 1
        elif what == "connecting" and since is None:
            state = LinkState.CONNECTING
        elif what == "fail" and since is None:
            state = LinkState.DOWN
    requests = [entry for entry in history if entry[1] in ("ok", "error")][-8:]
    window = [entry for entry in requests if now - entry[0] < 30]
    latencies = sorted(amount / 1000 for _, what, amount in window if what == "ok")
    messages = [at for at, what, _ in history if what == "message"]
    uptime = now - since if since is not None else 0
    seen = stats.snapshot()
    assert seen.state is state is stats.state()
    assert (seen.uptime_s, seen.total_uptime_s) == (uptime, spells + uptime)
    assert seen.availability == ((spells + uptime) / now if now else None)
    assert (seen.connections, seen.disconnections) == (ups, downs)
    assert seen.reconnections == max(0, ups - 1)
    assert seen.recent_reconnections == sum(now - at < 30 for at in connects[1:])
    assert seen.connected is (since is not None)
    heard = max([since or 0, *messages])
    assert seen.heard_age_s == (now - heard if since is not None else 0)
    assert seen.failed_attempts == sum(what == "fail" for _, what, _ in history)
    assert seen.requests == len(window)
    errors = sum(what == "error" for _, what, _ in window)
    assert seen.error_rate == (errors / len(window) if window else None)
    for percent, value in ((50, seen.latency_p50_s), (90, seen.latency_p90_s), (99, seen.latency_p99_s)):
        assert value == _slow_percentile(latencies, percent)
    assert seen.messages == len(messages)
    assert seen.last_message_age_s == (now - messages[-1] if messages else None)
    ewma = None
    for _, what, amount in history:
        if what == "ok":
            ewma = amount / 1000 if ewma is None else 0.5 * ewma + 0.5 * amount / 1000
    assert seen.latency_ewma_s == (None if ewma is None else pytest.approx(ewma))


def _slow_percentile(values: list[float], percent: int) -> float | None:
    """The smallest value that at least `percent` of all values do not exceed."""
    for value in values:
        if sum(other <= value for other in values) * 100 >= percent * len(values):
            return value
    return None


def test_percentile_of_hundred_values_is_nearest_rank() -> None:
    """The ranks of 1..100 are the numbers themselves."""
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, p) for p in (1, 50, 90, 99, 100)] == [1, 50, 90, 99, 100]
    assert percentile([], 50) is None
    assert math.isclose(percentile([3.0], 99) or 0, 3.0)


def test_memory_when_requests_never_end_is_bounded() -> None:
    """Only the latest samples are kept."""
    stats = LinkStats(ManualClock(), LinkWindow(max_samples=16))
    for _ in range(1000):
        stats.request_done(failed=False, latency_s=0.001)
    assert stats.snapshot().requests == 16


def test_link_whose_end_is_announced_is_degraded_until_there_is_a_new_connection() -> None:
    """The announcement is of one connection: it goes with it."""
    clock = ManualClock()
    stats = LinkStats(clock)
    stats.connect_succeeded()
    stats.leaving("ends soon")
    assert (stats.snapshot().state, stats.snapshot().detail) == (LinkState.DEGRADED, "ends soon")
    stats.disconnected("ended")
    assert (stats.snapshot().state, stats.snapshot().detail) == (LinkState.DOWN, "ended")
    stats.connect_succeeded()
    assert (stats.snapshot().state, stats.snapshot().detail) == (LinkState.LIVE, "")
