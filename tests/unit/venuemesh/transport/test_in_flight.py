"""Requests without an answer: their places, and which are lost."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from venuemesh.errors import RateLimited, Reason, Sent
from venuemesh.transport.in_flight import ABANDONED_TTL_S, InFlight


def table(most: int = 100, cancel_reserve: int = 10) -> InFlight[int]:
    """An empty table."""
    return InFlight("posts", most=most, cancel_reserve=cancel_reserve)


def opened(*keys: int) -> InFlight[int]:
    """A table in which these are being written."""
    found = table()
    for key in keys:
        found.open(key, now_s=0.0, tag=f"order-{key}")
    return found


def test_answer_frees_the_place_and_brings_the_tag_and_a_copy_is_late() -> None:
    """The first answer counts; nobody is left for a second."""
    posts = opened(1)
    assert posts.written(1, 1)
    assert posts.answered(1) == (False, "order-1")
    assert len(posts) == 0
    assert posts.answered(1) == (True, None)


def test_answer_after_its_caller_gave_up_is_late_and_keeps_the_tag() -> None:
    """The outcome was unknown and now is known: whoever settles orders must hear of it."""
    posts = opened(1)
    posts.written(1, 1)
    posts.abandon(1, 5.0)
    assert posts.answered(1) == (True, "order-1")


def test_disconnect_loses_what_it_carried_and_nothing_else() -> None:
    """Written on the ended connection: lost. Still being written, or abandoned: not told."""
    carried, writing, abandoned = 1, 2, 3
    posts = opened(carried, writing, abandoned)
    posts.written(carried, 1)
    posts.written(abandoned, 1)
    posts.abandon(abandoned, 0.0)
    assert posts.disconnected(1) == [carried]
    assert len(posts) == 1
    assert posts.written(writing, 2)
    assert posts.disconnected(2) == [writing]
    assert posts.disconnected(2) == []


def test_request_whose_connection_ended_during_the_write_is_lost() -> None:
    """The write returns after the end of its connection was seen: no answer can come."""
    posts = opened(1)
    posts.disconnected(3)
    assert posts.written(1, 3) is False
    assert len(posts) == 0


def test_request_answered_before_its_write_returned_is_not_lost() -> None:
    """On loopback the answer can be faster than the writer."""
    posts = opened(1)
    posts.answered(1)
    posts.disconnected(1)
    assert posts.written(1, 1) is True


def test_places_are_bounded_and_cancels_have_their_own() -> None:
    """What is refused was not sent; one that was not sent frees its place."""
    posts = table(most=3, cancel_reserve=1)
    posts.open(1, now_s=0.0)
    posts.open(2, now_s=0.0)
    with pytest.raises(RateLimited, match="2 posts are in flight, at most 2 may be") as refused:
        posts.open(3, now_s=0.0)
    assert (refused.value.sent, refused.value.reason) == (Sent.NO, Reason.RATE_LIMIT_LOCAL)
    posts.open(4, now_s=0.0, is_cancel=True)
    with pytest.raises(RateLimited):
        posts.open(5, now_s=0.0, is_cancel=True)
    posts.not_sent(1)
    posts.open(6, now_s=0.0, is_cancel=True)


def test_abandoned_places_are_free_again_after_a_while() -> None:
    """Answers that never come would otherwise stop trading."""
    posts = table(most=3, cancel_reserve=1)
    for key in (1, 2):
        posts.open(key, now_s=0.0)
        posts.abandon(key, 0.0)
    with pytest.raises(RateLimited):
        posts.open(3, now_s=ABANDONED_TTL_S - 1)
    posts.open(3, now_s=ABANDONED_TTL_S)
    assert len(posts) == 1


@pytest.mark.parametrize("reserve", [-1, 1, 2])
def test_reserve_that_leaves_nothing_is_refused(reserve: int) -> None:
    """A table that only cancels pass is a mistake."""
    with pytest.raises(ValueError, match="reserved for cancels"):
        table(most=1, cancel_reserve=reserve)


steps = st.lists(
    st.tuples(st.sampled_from(["open", "written", "answer", "abandon", "disconnect", "refuse"]), st.integers(1, 12)),
    max_size=60,
)


@given(steps=steps)
@settings(max_examples=100)
def test_every_request_is_settled_once_over_any_history(steps: list[tuple[str, int]]) -> None:
    """Answered to a waiting caller, lost, or given up by it: never two of these, and no place leaks."""
    posts = table()
    epoch = 1
    settled: dict[int, str] = {}
    known: set[int] = set()
    for step, number in steps:
        waiting = number in known and number not in settled
        if step == "open":
            known.add(len(known) + 1)
            posts.open(len(known), now_s=0.0)
        elif step == "written" and waiting:
            assert posts.written(number, epoch)
        elif step == "answer":
            late, _ = posts.answered(number)
            assert late is not waiting
            if waiting:
                settled[number] = "answered"
        elif step == "abandon" and waiting:
            posts.abandon(number, 0.0)
            settled[number] = "given up"
        elif step == "refuse" and waiting:
            posts.not_sent(number)
            settled[number] = "not sent"
        elif step == "disconnect":
            for lost in posts.disconnected(epoch):
                assert lost not in settled
                settled[lost] = "lost"
            epoch += 1
    live = known - settled.keys()
    given_up = [number for number, how in settled.items() if how == "given up"]
    assert len(live) <= len(posts) <= len(live) + len(given_up)
