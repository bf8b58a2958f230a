"""Back-off: capped, growing, jittered within its bounds, reset by health."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from venuemesh.transport.backoff import Backoff, BackoffPolicy

policies = st.builds(
    lambda initial, multiplier, factor, jitter: BackoffPolicy(
        initial_s=initial, multiplier=multiplier, cap_s=initial * factor, jitter=jitter
    ),
    st.floats(0.001, 10),
    st.floats(1, 10),
    st.floats(1, 1000),
    st.floats(0, 1),
)
chances = st.floats(0, 1, exclude_max=True)


@given(policies, st.integers(0, 5000), chances)
@settings(max_examples=100)
def test_delay_stays_under_cap_and_within_jitter_bounds(policy: BackoffPolicy, attempt: int, chance: float) -> None:
    """P6: no wait passes the cap, and chance takes away at most the stated share."""
    base = policy.base_s(attempt)
    delay = policy.delay_s(attempt, chance)
    assert delay <= base <= policy.cap_s
    assert delay >= base * (1 - policy.jitter) - 1e-12


@given(policies, st.integers(0, 2000))
@settings(max_examples=100)
def test_base_never_shrinks_and_follows_the_formula(policy: BackoffPolicy, attempt: int) -> None:
    """P6: before jitter the waits are `initial × multiplier^attempt`, never shrinking."""
    assert policy.base_s(attempt) <= policy.base_s(attempt + 1)
    if attempt < 20:
        assert policy.base_s(attempt) == min(policy.cap_s, policy.initial_s * policy.multiplier**attempt)


def test_sequence_with_injected_chance_is_exact() -> None:
    """Chance comes from the injected source only."""
    chance = iter([0.0, 0.5, 0.0, 0.5])
    backoff = Backoff(BackoffPolicy(initial_s=1, multiplier=2, cap_s=5, jitter=0.5), lambda: next(chance))
    assert [backoff.next_delay_s() for _ in range(4)] == [1, 1.5, 4, 3.75]


def test_connection_ended_when_spell_was_healthy_starts_over() -> None:
    """Only a connection that lived long enough forgets the failures before it."""
    backoff = Backoff(BackoffPolicy(initial_s=1, multiplier=2, cap_s=60, jitter=0, healthy_s=30), lambda: 0.0)
    assert [backoff.next_delay_s(), backoff.next_delay_s()] == [1, 2]
    backoff.connection_ended(29.9)
    assert backoff.next_delay_s() == 4
    backoff.connection_ended(30.0)
    assert backoff.attempt == 0
    assert backoff.next_delay_s() == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"initial_s": 0},
        {"multiplier": 0.9},
        {"cap_s": 0.1},
        {"jitter": 1.1},
        {"jitter": -0.1},
        {"healthy_s": -1},
    ],
)
def test_policy_when_a_number_is_out_of_range_is_refused(wrong: dict[str, float]) -> None:
    """A policy that makes no sense fails when it is made."""
    with pytest.raises(ValueError):
        BackoffPolicy(**wrong)
