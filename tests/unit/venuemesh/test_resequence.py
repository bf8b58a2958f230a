"""Numbered messages out of order, twice and with gaps come out in order, once."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from venuemesh.resequence import Resequencer


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(1, 12), max_size=60), st.integers(0, 3))
def test_release_is_increasing_and_without_repeats(arrivals: list[int], last: int) -> None:
    """Whatever arrives, what is released is contiguous behind the starting point; a drain gives the rest in order."""
    order = Resequencer[int](last)
    released = [message for number in arrivals for message in order.push(number, number)]
    assert released == list(range(last + 1, last + 1 + len(released)))
    assert order.last == last + len(released)
    assert not order.skipped
    rest = order.drain()
    assert released + rest == sorted({number for number in arrivals if number > last})
    assert order.held == 0


@settings(max_examples=100, deadline=None)
@given(st.permutations(range(1, 40)), st.integers(1, 8))
def test_every_number_is_released_or_named_as_skipped(arrivals: list[int], capacity: int) -> None:
    """With a small bound gaps are given up: held messages stay bounded, order holds, and nothing vanishes unnamed."""
    order, released = Resequencer[int](0, capacity=capacity), []
    for number in arrivals:
        released += order.push(number, number)
        assert order.held <= capacity
    released += order.drain()
    assert released == sorted(set(released))
    skipped = {number for first, last in order.skipped for number in range(first, last + 1)}
    assert skipped | set(released) == set(arrivals)
    assert not skipped & set(released)


def test_repeat_keeps_the_first_message() -> None:
    """A repeat under the same number is dropped, held back or released."""
    order = Resequencer[str](0)
    assert order.push(2, "first") == []
    assert order.push(2, "second") == []
    assert order.push(1, "one") == ["one", "first"]
    assert order.push(1, "again") == []
