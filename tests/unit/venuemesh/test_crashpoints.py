"""Crash points: where they strike, and that they do nothing unless armed."""

from __future__ import annotations

import os
import signal

import pytest

from venuemesh import crashpoints
from venuemesh.crashpoints import CrashPoint


@pytest.fixture
def deaths(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Signals sent instead of dying; nothing is armed before or after."""
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(crashpoints, "_armed", {})
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    return sent


def test_point_when_armed_kills_this_process_there_and_nowhere_else(deaths: list[tuple[int, int]]) -> None:
    """SIGKILL, so that no handler can soften it."""
    crashpoints.arm(CrashPoint.ANSWER_READ)
    crashpoints.reach(CrashPoint.INTENT_WRITTEN)
    assert deaths == []
    crashpoints.reach(CrashPoint.ANSWER_READ)
    assert deaths == [(os.getpid(), signal.SIGKILL)]


def test_point_armed_with_passes_lets_that_many_through(deaths: list[tuple[int, int]]) -> None:
    """So that a process dies in the middle of its work, not always at its first order."""
    crashpoints.arm(CrashPoint.FILL_QUEUED, passes=2)
    for _ in range(2):
        crashpoints.reach(CrashPoint.FILL_QUEUED)
    assert deaths == []
    crashpoints.reach(CrashPoint.FILL_QUEUED)
    assert len(deaths) == 1


def test_no_point_arms_nothing(deaths: list[tuple[int, int]]) -> None:
    """The default of the setting."""
    crashpoints.arm(CrashPoint.NONE)
    for point in CrashPoint:
        crashpoints.reach(point)
    assert deaths == []
