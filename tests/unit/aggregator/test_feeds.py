"""The feed's own life: it ends when it is told to, whatever it waits for."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from aggregator.feeds import EventFeed, FeedOptions
from tests.fakes import ManualClock
from venuemesh.errors import JournalUnavailable
from venuemesh.metrics import Metrics


class DeafBus:
    """A bus whose calls lose the first cancellation, as `asyncio.wait_for` of Python 3.11 may."""

    connected = True

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.lost = 0

    async def stream_created(self, stream: str) -> datetime:
        self.asked.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.lost += 1
            if self.lost > 1:
                raise
        return datetime(2026, 11, 20, tzinfo=UTC)

    def follow(self, *args: Any, **kwargs: Any) -> Any:
        raise JournalUnavailable("not there")


async def test_feed_ends_though_a_cancellation_is_lost() -> None:
    """A drain must not wait for ever for a task that did not hear it."""
    bus = DeafBus()
    feed = EventFeed(bus, ManualClock(), FeedOptions(), specs=[], metrics=Metrics())  # type: ignore[arg-type]
    task = asyncio.create_task(feed.run(), name="feed")
    async with asyncio.timeout(60):
        await bus.asked.wait()
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()
    assert bus.lost >= 1


async def test_reading_before_the_log_was_read_to_its_end_is_refused() -> None:
    """Half a portfolio is no portfolio."""
    feed = EventFeed(DeafBus(), ManualClock(), FeedOptions(), specs=[], metrics=Metrics())  # type: ignore[arg-type]
    with pytest.raises(JournalUnavailable, match="being rebuilt"):
        feed.current()
    assert not feed.serving
