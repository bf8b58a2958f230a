"""Which rows of the venue are known, and up to when all are."""

from __future__ import annotations

from venuemesh.gateway.seen import RecentIds, Seen


def test_completeness_waits_while_the_stream_may_have_missed_rows() -> None:
    """The first new row behind a gap does not hide what the gap swallowed."""
    seen = Seen(capacity=10, from_ns=0)
    seen.add("a", 100)
    assert seen.complete_ns == 0
    seen.catch_up()
    seen.add("b", 200)
    assert seen.complete_ns == 200
    seen.lose()
    seen.add("d", 400)
    assert seen.complete_ns == 200
    seen.add("c", 300)
    seen.catch_up()
    assert seen.complete_ns == 400


def test_late_row_does_not_move_completeness_back() -> None:
    """Rows may come late by a little while all is well."""
    seen = Seen(capacity=10, from_ns=0)
    seen.catch_up()
    seen.add("b", 200)
    seen.add("a", 100)
    assert seen.complete_ns == 200


def test_forgotten_rows_count_as_old() -> None:
    """Memory is bounded, and a repeat of what was forgotten is not taken for news."""
    seen = Seen(capacity=2, from_ns=50)
    for number in (100, 200, 300):
        seen.add(str(number), number)
    assert len(seen) == 2
    assert "100" not in seen
    assert seen.is_old(100)
    assert not seen.is_old(101)


def test_rows_before_our_time_are_old() -> None:
    """An account's history before the mesh is none of its business."""
    seen = Seen(capacity=2, from_ns=50)
    assert seen.is_old(49)
    assert not seen.is_old(50)


def test_recent_ids_tell_new_from_repeated_within_their_capacity() -> None:
    """What was forgotten counts as new again."""
    recent = RecentIds[int](2)
    assert [recent.add(found) for found in (1, 1, 2, 3, 2, 1)] == [True, False, True, True, False, True]
