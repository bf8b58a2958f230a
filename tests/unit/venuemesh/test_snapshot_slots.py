"""Parts of a snapshot make a whole, or none at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from venuemesh.snapshot_slots import BadSnapshot, SnapshotFormat, cut, join
from venuemesh.v1.portfolio_state_pb2 import SnapshotPart

FORM = SnapshotFormat(version=3, max_parts=4)


@given(payloads=st.lists(st.binary(max_size=20), min_size=1, max_size=4))
def test_parts_give_back_what_was_cut(payloads: list[bytes]) -> None:
    """Over the wire too."""
    parts = [SnapshotPart.FromString(part.SerializeToString()) for part in cut(FORM, "e", 7, payloads)]
    assert join(FORM, parts) == payloads
    assert {(part.epoch, part.sequence, part.count) for part in parts} == {("e", 7, len(payloads))}


def test_parts_of_different_snapshots_are_no_snapshot() -> None:
    """Two writers in one slot, or one that died halfway."""
    first, second = cut(FORM, "e", 1, [b"a", b"b", b"c"]), cut(FORM, "e", 2, [b"a", b"b", b"d"])
    assert join(FORM, second) == [b"a", b"b", b"d"]
    for mixed in ([first[0], *second[1:]], second[:-1], [*second[:-1], second[0]]):
        with pytest.raises(BadSnapshot, match="parts"):
            join(FORM, mixed)


def test_damaged_or_foreign_snapshot_is_refused() -> None:
    """A flipped byte, another version of the fold."""
    parts = cut(FORM, "e", 1, [b"a", b"b"])
    parts[1].payload = b"x"
    with pytest.raises(BadSnapshot, match="checksum"):
        join(FORM, parts)
    with pytest.raises(BadSnapshot, match="format 3 is not 4"):
        join(SnapshotFormat(version=4, max_parts=4), parts)


def test_snapshot_too_large_is_not_written() -> None:
    """The store is bounded; the log is still there."""
    with pytest.raises(BadSnapshot, match="15 bytes are more than 4 parts"):
        cut(FORM, "e", 1, [b"abc"] * 5)
