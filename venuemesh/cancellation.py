"""Keeping a cancellation that a library lost."""

from __future__ import annotations

import asyncio


def end_if_cancelled() -> None:
    """End the current task if it was told to end and the telling got lost below us.

    nats-py turns a cancellation into an error of its own, and the `wait_for` of Python 3.11 within it drops one that
    comes together with a result. A pump that misses its one cancellation never ends, and its process with it.

    Raises:
        CancelledError: the task was cancelled.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
