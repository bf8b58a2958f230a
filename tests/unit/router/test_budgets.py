"""Budgets of extra calls: never more than their share, whatever the order of things."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.budgets import ExtraBudget


@given(st.integers(0, 100), st.integers(0, 5), st.lists(st.booleans(), max_size=300))
def test_extra_calls_never_exceed_the_burst_and_their_share_of_calls(
    percent: int, burst: int, history: list[bool]
) -> None:
    """At every moment: taken <= burst + percent of the calls so far."""
    budget, calls, taken = ExtraBudget(percent=percent, burst=burst), 0, 0
    for is_call in history:
        if is_call:
            budget.call()
            calls += 1
        else:
            taken += budget.take()
        assert taken * 100 <= burst * 100 + percent * calls


@given(st.lists(st.booleans(), max_size=400))
def test_hedges_stay_under_five_percent_from_the_first_call_on(history: list[bool]) -> None:
    """With nothing saved up at the start there is no burst beyond the share."""
    budget, taken = ExtraBudget(percent=4, burst=5, saved=0), 0
    for calls, wants in enumerate(history, start=1):
        budget.call()
        taken += wants and budget.take()
        assert taken * 100 <= 4 * calls


def test_budget_is_spent_and_earned_back() -> None:
    """Five calls at a fifth each make one more repeat."""
    budget = ExtraBudget(percent=20, burst=1)
    assert budget.take() and not budget.take()
    for _ in range(5):
        assert not budget.take()
        budget.call()
    assert budget.take()


@pytest.mark.parametrize("wrong", [{"percent": -1, "burst": 1}, {"percent": 1, "burst": -1}])
def test_budget_out_of_range_is_refused(wrong: dict[str, int]) -> None:
    """Settings are checked before; this is for code."""
    with pytest.raises(ValueError, match="out of range"):
        ExtraBudget(**wrong)
