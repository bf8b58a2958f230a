"""The drain signal and the eviction of streams that do not heed it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from venuemesh.draining import Drain, OpenStreams


class Source:
    """An endless source that knows when it was closed."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[int | BaseException] = asyncio.Queue()
        self.waiting = asyncio.Event()
        self.closed = False

    async def items(self) -> AsyncGenerator[int, None]:
        try:
            while True:
                self.waiting.set()
                item = await self.queue.get()
                if isinstance(item, StopAsyncIteration):
                    return
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            self.closed = True


async def collect(drain: Drain, source: Source) -> list[int]:
    return [item async for item in drain.until_draining(source.items())]


async def test_stream_when_draining_begins_while_it_waits_ends_and_closes_its_source() -> None:
    """The items so far, then a normal end in which the closing notice can be sent."""
    drain, source = Drain(), Source()
    source.queue.put_nowait(1)
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        task = tasks.create_task(collect(drain, source), name="stream")
        while source.queue.qsize():
            await asyncio.sleep(0)
        drain.begin()
        drain.begin()
        assert await task == [1]
    assert source.closed


async def test_stream_when_draining_began_before_takes_nothing() -> None:
    """A stream that starts too late ends at once."""
    drain, source = Drain(), Source()
    drain.begin()
    assert await collect(drain, source) == []


async def test_stream_when_draining_begins_while_its_item_is_being_sent_finishes_that_item() -> None:
    """The signal never cancels a write half way."""
    drain, source = Drain(), Source()
    source.queue.put_nowait(1)
    source.queue.put_nowait(2)
    sent = []
    async for item in drain.until_draining(source.items()):
        drain.begin()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        sent.append(item)
    assert sent == [1]


async def test_stream_when_source_ends_ends() -> None:
    """Nothing to do with draining."""
    drain, source = Drain(), Source()
    source.queue.put_nowait(1)
    source.queue.put_nowait(StopAsyncIteration())
    assert await collect(drain, source) == [1]


@pytest.mark.parametrize("error", [TimeoutError("the source's own"), ValueError("broken")])
async def test_stream_when_source_fails_raises_its_error(error: Exception) -> None:
    """A time-out of the source is not taken for the signal."""
    drain, source = Drain(), Source()
    source.queue.put_nowait(error)
    with pytest.raises(type(error)) as caught:
        await collect(drain, source)
    assert caught.value is error


async def test_stream_when_cancelled_passes_the_cancellation_on() -> None:
    """A reader that leaves is not a drain."""
    drain, source = Drain(), Source()
    task = asyncio.create_task(collect(drain, source), name="stream")
    await source.waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert source.closed


async def serve(streams: OpenStreams, *, watches: bool, opened: asyncio.Event) -> str:
    task = asyncio.current_task()
    assert task is not None
    streams.opened(task, watches_drain=watches)
    opened.set()
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        if not streams.was_evicted(task):
            raise
        await asyncio.sleep(0)  # an answer can be sent: the cancellation is undone
        return "evicted"
    finally:
        streams.closed(task)
    return "ended"


async def test_eviction_when_deaf_only_spares_those_that_watch() -> None:
    """Health watches go at once, order streams get time to say goodbye."""
    streams, events = OpenStreams(), [asyncio.Event(), asyncio.Event()]
    assert await streams.wait_closed(0)
    deaf = asyncio.create_task(serve(streams, watches=False, opened=events[0]), name="deaf")
    polite = asyncio.create_task(serve(streams, watches=True, opened=events[1]), name="polite")
    async with asyncio.timeout(60):
        for event in events:
            await event.wait()
        assert streams.evict(deaf_only=True) == 1
        assert await deaf == "evicted"
        assert not await streams.wait_closed(0)
        assert streams.evict() == 1
        assert await polite == "evicted"
        assert await streams.wait_closed(1)


async def test_eviction_when_the_caller_cancels_too_is_a_cancellation() -> None:
    """CancelledError from outside is never swallowed."""
    streams, opened = OpenStreams(), asyncio.Event()
    task = asyncio.create_task(serve(streams, watches=True, opened=opened), name="stream")
    await opened.wait()
    streams.evict()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
