"""Named places in the code where a test can make the process die as if by SIGKILL.

    crashpoints.reach(CrashPoint.INTENT_WRITTEN)      # does nothing unless armed

Only a gateway of a simulator may arm one; see `venuemesh.gateway.server`.
"""

from __future__ import annotations

import os
import signal
from enum import StrEnum


class CrashPoint(StrEnum):
    """Every place, in the order a submit passes them."""

    NONE = ""
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


_armed: set[CrashPoint] = set()


def arm(point: CrashPoint) -> None:
    """Die at `point`, the first time it is reached."""
    if point is not CrashPoint.NONE:
        _armed.add(point)


def reach(point: CrashPoint) -> None:
    """Die here if armed. SIGKILL: nothing is flushed, no handler runs."""
    if _armed and point in _armed:
        os.kill(os.getpid(), signal.SIGKILL)
