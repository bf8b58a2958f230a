"""Rates that are read seldom: when they are waited for, served old, read again, forgotten."""

from __future__ import annotations

import asyncio

from router.facts import _Kept
from tests.fakes import ManualClock
from venuemesh.errors import VenueUnavailable


class Source:
    """Answers `value`, or fails when there is none; waits for `gate`."""

    def __init__(self) -> None:
        self.value: int | None = 1
        self.reads = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def read(self) -> int | None:
        self.reads += 1
        await self.gate.wait()
        if self.value is None:
            raise VenueUnavailable("away")
        return self.value


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_value_is_waited_for_once_then_served_while_it_is_read_again() -> None:
    """The second decision never waits, and the third sees what the second made be read."""
    source, clock = Source(), ManualClock()
    async with asyncio.TaskGroup() as tasks:
        kept: _Kept[int] = _Kept(10.0, 30.0, 4, 5.0, clock, tasks)
        assert await kept.get(("a",), source.read) == 1
        assert await kept.get(("a",), source.read) == 1
        assert source.reads == 1
        clock.advance(11)
        source.value = 2
        source.gate.clear()
        assert await kept.get(("a",), source.read) == 1
        source.gate.set()
        await settle()
        assert await kept.get(("a",), source.read) == 2
        kept.close()


async def test_value_that_cannot_be_read_again_is_forgotten_when_too_old() -> None:
    """An old rate counts for a while, a very old one as not known."""
    source, clock = Source(), ManualClock()
    async with asyncio.TaskGroup() as tasks:
        kept: _Kept[int] = _Kept(10.0, 30.0, 4, 5.0, clock, tasks)
        await kept.get(("a",), source.read)
        source.value = None
        clock.advance(20)
        assert await kept.get(("a",), source.read) == 1
        await settle()
        clock.advance(20)
        assert await kept.get(("a",), source.read) is None
        kept.close()


async def test_first_reading_that_hangs_is_not_waited_for_longer_than_its_bound() -> None:
    """The decision goes on without the rate."""
    source, clock = Source(), ManualClock()
    source.gate.clear()
    async with asyncio.TaskGroup() as tasks:
        kept: _Kept[int] = _Kept(10.0, 30.0, 4, 0.0, clock, tasks)
        assert await kept.get(("a",), source.read) is None
        kept.close()


async def test_entry_used_least_recently_makes_room() -> None:
    """Two are kept; the third pushes out the one not asked for since."""
    source, clock = Source(), ManualClock()
    async with asyncio.TaskGroup() as tasks:
        kept: _Kept[int] = _Kept(10.0, 30.0, 2, 5.0, clock, tasks)
        for key in ("a", "b", "a", "c"):
            await kept.get((key,), source.read)
        assert source.reads == 3
        await kept.get(("a",), source.read)
        assert source.reads == 3
        await kept.get(("b",), source.read)
        assert source.reads == 4
        kept.close()
