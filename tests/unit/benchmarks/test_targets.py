"""Requirements judged, and results compared with earlier ones."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report import page
from benchmarks.targets import compared, judge

DOCS = Path(__file__).resolve().parents[3] / "docs"


@pytest.fixture
def committed() -> dict[str, Any]:
    """The results in the repository."""
    found: dict[str, Any] = json.loads((DOCS / "performance.json").read_text())
    return found


def test_the_committed_results_judge_every_requirement_as_written(committed: dict[str, Any]) -> None:
    """The file cannot be edited into success: its verdicts follow from its figures."""
    found = [json.loads(json.dumps(target.row())) for target in judge(committed)]
    assert found == committed["targets"]
    assert {target.requirement for target in judge(committed)} == {f"N{number}" for number in range(1, 9)}


def test_the_committed_page_is_made_of_the_committed_results(committed: dict[str, Any]) -> None:
    """Word for word, with a reason for every missed requirement."""
    causes = json.loads((DOCS.parent / "benchmarks" / "causes.json").read_text())
    assert (DOCS / "performance.md").read_text() == page(committed, causes)
    assert {target.requirement for target in judge(committed) if not target.met} <= set(causes)


def test_results_equal_to_the_committed_ones_are_no_worse(committed: dict[str, Any]) -> None:
    """Nothing to tell."""
    assert compared(committed, committed) == []


def test_a_ratio_beyond_the_tolerance_is_named(committed: dict[str, Any]) -> None:
    """With both values; a lower one and a difference in milliseconds say nothing."""
    worse = copy.deepcopy(committed)
    ratios = worse["submits"]["ratios"]["hyperliquid"]
    ratios["gateway / SDK"]["value"] *= 2
    ratios["router / SDK"]["value"] /= 2
    ratios["gateway adds, ms"]["value"] *= 100
    (fault,) = compared(worse, committed)
    assert fault.startswith("hyperliquid, gateway / SDK: ")


def test_a_service_that_takes_a_tenth_more_memory_is_named(committed: dict[str, Any]) -> None:
    """Its own memory: what other processes share is not its doing."""
    worse = copy.deepcopy(committed)
    worse["footprint"]["subscribed"]["router"]["own_mb"] *= 1.2
    worse["footprint"]["subscribed"]["router"]["resident_mb"] *= 5
    (fault,) = compared(worse, committed)
    assert fault.startswith("router, own memory: ")
