"""The bounds of the supervisor."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from deploy.local.process import describe_exit
from deploy.local.supervisor import Policy


@given(st.integers(min_value=1, max_value=10_000))
def test_pause_doubles_up_to_its_bound(restart: int) -> None:
    """Never shorter than the one before, never longer than the longest."""
    policy = Policy(first_pause_s=0.25, longest_pause_s=5.0)
    pause_s = policy.pause_s(restart)
    assert 0.25 <= pause_s <= 5.0
    assert policy.pause_s(restart + 1) == min(2 * pause_s, 5.0)


def test_describe_exit_names_signals() -> None:
    """An operator knows SIGKILL better than -9."""
    assert describe_exit(2) == "exit code 2"
    assert describe_exit(-9) == "signal SIGKILL"
    assert describe_exit(-250) == "signal 250"
