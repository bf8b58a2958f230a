"""What is made of samples."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.figures import combined, in_ms, percentile, segments


@given(st.lists(st.floats(0, 1), min_size=1, max_size=200), st.integers(1, 9))
def test_segments_hold_every_sample_once_in_order(values: list[float], count: int) -> None:
    """None is empty, so that each has a median."""
    cut = segments(values, count)
    assert [value for part in cut for value in part] == values
    assert all(cut)


def test_percentile_when_few_samples_is_one_of_them() -> None:
    """No interpolation, and the last one at most."""
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([3.0, 1.0, 2.0], 0.99) == 3.0
    assert in_ms([0.001, 0.002, 0.003]) == {"median_ms": 2.0, "p99_ms": 3.0, "count": 3}


def test_combined_takes_medians_and_tells_the_spread_of_the_segments() -> None:
    """Lowest and highest of the parts, which the whole lies between here."""
    samples = {"a": [2.0, 2.0, 4.0, 4.0, 6.0], "b": [1.0, 1.0, 1.0, 1.0, 1.0]}
    assert combined(samples, lambda m: m["a"] / m["b"]) == {"value": 4.0, "low": 2.0, "high": 6.0}
