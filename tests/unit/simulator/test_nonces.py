"""Nonce rules per signer."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.hyperliquid.nonces import AHEAD_MS, BEHIND_MS, KEPT, Nonces

NOW = 1_790_000_000_000


def test_nonce_when_new_and_inside_the_window_is_taken_in_any_order() -> None:
    """Gaps and disorder are fine."""
    nonces = Nonces()
    assert [nonces.use("a", nonce, NOW) for nonce in (NOW, NOW + 50, NOW - 7)] == [None] * 3


def test_nonce_when_used_before_is_a_duplicate_for_that_signer_only() -> None:
    """Signers do not share nonces."""
    nonces = Nonces()
    nonces.use("a", NOW, NOW)
    assert nonces.use("a", NOW, NOW) == f"Invalid nonce: duplicate nonce {NOW}"
    assert nonces.use("b", NOW, NOW) is None


def test_nonce_when_outside_the_window_is_refused_with_the_bound() -> None:
    """Two days behind, one day ahead of venue time."""
    nonces = Nonces()
    low, high = NOW - BEHIND_MS, NOW + AHEAD_MS
    assert nonces.use("a", low, NOW) == f"Invalid nonce: nonce too low {low} < {low}"
    assert nonces.use("a", high, NOW) == f"Invalid nonce: nonce too high {high} > {high}"
    assert nonces.use("a", low + 1, NOW) is None
    assert nonces.use("a", high - 1, NOW) is None


def test_nonce_when_below_the_hundred_kept_is_too_low() -> None:
    """Only the highest hundred are remembered, so anything below them is refused."""
    nonces = Nonces()
    for offset in range(KEPT + 1):
        assert nonces.use("a", NOW + offset, NOW) is None
    assert nonces.use("a", NOW, NOW) == f"Invalid nonce: nonce too low {NOW} < {NOW + 1}"


@settings(max_examples=50)
@given(st.lists(st.integers(NOW - 300, NOW + 300), max_size=400))
def test_nonces_when_used_at_random_never_pass_twice(sequence: list[int]) -> None:
    """Whatever the order, one nonce works at most once."""
    nonces = Nonces()
    passed = [nonce for nonce in sequence if nonces.use("a", nonce, NOW) is None]
    assert len(passed) == len(set(passed))
