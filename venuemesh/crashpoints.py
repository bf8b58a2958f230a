"""Named places in the code where a test can make the process die as if by SIGKILL.

    crashpoints.reach(CrashPoint.INTENT_WRITTEN)      # does nothing unless armed

Only a gateway of a simulator may arm one; see `venuemesh.gateway.server`.
"""

from __future__ import annotations

import os
import signal
from enum import StrEnum


class CrashPoint(StrEnum):
    """Every place: the start, then a submit in the order it passes them, then what happens to a working order."""

    NONE = ""
    JOURNAL_REPLAYED = "journal_replayed"
    """An account's events are read back; nothing is done about its open orders yet."""
    INTENT_WRITTEN = "intent_written"
    """The journal has the intent; nothing else knows of the order."""
    EVENT_QUEUED = "event_queued"
    """The first event of the order is queued, perhaps not durable."""
    REQUEST_WRITTEN = "request_written"
    """The request is in the socket; no answer yet."""
    ANSWER_READ = "answer_read"
    """The venue's answer is known and not yet folded in."""
    ANSWER_FOLDED = "answer_folded"
    """The answer is in the order's state; the caller has not heard of it."""
    FILL_QUEUED = "fill_queued"
    """The event of a fill is queued, that of the position it changes is not."""
    CANCEL_QUEUED = "cancel_queued"
    """The order is marked as being cancelled; nothing was sent."""
    CANCEL_ANSWERED = "cancel_answered"
    """The venue's answer to a cancel is known and not yet folded in."""
    AMENDMENT_WRITTEN = "amendment_written"
    """The journal has the intent of an amendment; nothing was sent."""
    AMENDMENT_ANSWERED = "amendment_answered"
    """The venue's answer to an amendment is known and not yet folded in."""


_armed: dict[CrashPoint, int] = {}


def arm(point: CrashPoint, *, passes: int = 0) -> None:
    """Die at `point`, after it was passed unharmed so many times."""
    if point is not CrashPoint.NONE:
        _armed[point] = passes


def reach(point: CrashPoint) -> None:
    """Die here if armed. SIGKILL: nothing is flushed, no handler runs."""
    if not _armed or (left := _armed.get(point)) is None:
        return
    if left:
        _armed[point] = left - 1
        return
    os.kill(os.getpid(), signal.SIGKILL)
