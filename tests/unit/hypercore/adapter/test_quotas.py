"""The address budget between two readings of it."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from hypercore.account_messages import RateBudget
from hypercore.adapter.quotas import AddressBudget

VENUE, NAME = "v", "address.main"


def answer(used: int, cap: int) -> RateBudget:
    """What userRateLimit says."""
    return RateBudget(cum_vlm=Decimal(0), n_requests_used=used, n_requests_cap=cap)


def test_budget_before_it_was_read_is_not_shown() -> None:
    """Nothing is invented."""
    assert AddressBudget().quota(VENUE, NAME) is None


def test_budget_keeps_what_only_cancels_may_use() -> None:
    """Twice the limit for cancels, at most 100,000 more."""
    budget = AddressBudget()
    budget.read(answer(4_000, 10_000), sent_before=0)
    row = budget.quota(VENUE, NAME)
    assert row is not None
    assert (row.limit, row.remaining, row.reserved_for_cancels) == (20_000, 16_000, 10_000)
    budget.read(answer(1_000_500, 1_000_000), sent_before=0)
    row = budget.quota(VENUE, NAME)
    assert row is not None
    assert (row.limit, row.remaining, row.reserved_for_cancels) == (1_100_000, 99_500, 99_500)


def test_budget_counts_what_was_sent_while_it_was_read() -> None:
    """Only what was sent before the question is in the answer."""
    budget = AddressBudget(sent_since=5)
    budget.sent_since += 2
    budget.read(answer(5, 10_000), sent_before=5)
    row = budget.quota(VENUE, NAME)
    assert row is not None
    assert row.remaining == 20_000 - 7


def test_budget_when_the_venue_names_the_numbers_in_a_refusal_takes_them() -> None:
    """They are newer than any reading."""
    budget = AddressBudget(used=0, cap=10_000, sent_since=9)
    budget.refused(97_460, 97_456)
    row = budget.quota(VENUE, NAME)
    assert row is not None
    assert row.remaining == row.reserved_for_cancels == 2 * 97_456 - 97_460


@settings(max_examples=60)
@given(st.integers(0, 400_000), st.integers(0, 400_000), st.integers(0, 1_000))
def test_budget_never_shows_more_for_cancels_than_remains(used: int, cap: int, sent: int) -> None:
    """Rows add up, whatever the venue says."""
    budget = AddressBudget()
    budget.read(answer(used, cap), sent_before=0)
    budget.sent_since = sent
    row = budget.quota(VENUE, NAME)
    assert row is not None
    assert 0 <= row.reserved_for_cancels <= row.remaining <= row.limit
