"""What the benchmarks do with their samples. Pure."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

SEGMENTS = 5
"""Parts of a run whose medians tell how steady it was."""


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def in_ms(values_s: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile and count of seconds, in milliseconds."""
    return {
        "median_ms": round(1_000 * statistics.median(values_s), 4),
        "p99_ms": round(1_000 * percentile(values_s, 0.99), 4),
        "count": len(values_s),
    }


def segments(values: Sequence[float], count: int = SEGMENTS) -> list[Sequence[float]]:
    """The samples in order, cut into `count` parts of about equal length; fewer when there are fewer samples."""
    count = max(1, min(count, len(values)))
    edges = [len(values) * part // count for part in range(count + 1)]
    return [values[low:high] for low, high in itertools.pairwise(edges)]


def combined(samples: Mapping[str, Sequence[float]], formula: Any) -> dict[str, float]:
    """A figure made of several contenders' medians, over all rounds, and its lowest and highest of the segments.

    Args:
        samples: seconds by contender, one of each round.
        formula: takes the medians by contender, in seconds.
    """
    parts = {name: segments(values) for name, values in samples.items()}
    shortest = min(len(cut) for cut in parts.values())
    spread = [
        formula({name: statistics.median(cut[place]) for name, cut in parts.items()}) for place in range(shortest)
    ]
    whole = formula({name: statistics.median(values) for name, values in samples.items()})
    return {"value": round(whole, 6), "low": round(min(spread), 6), "high": round(max(spread), 6)}
