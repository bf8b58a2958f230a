"""The end of a process, told to its streams: a signal they watch, and what happens to those that do not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import TypeVar

T = TypeVar("T")


class Drain:
    """Says once that the process is stopping.

    A streaming servicer passes its source through `until_draining` and sends its closing notice after the
    loop; new streams are refused from then on, unary calls still pass until the server stops.
    """

    def __init__(self) -> None:
        self._started = asyncio.Event()
        self._waiting: set[asyncio.Timeout] = set()

    @property
    def draining(self) -> bool:
        """Whether `begin` was called."""
        return self._started.is_set()

    def begin(self) -> None:
        """Tell everybody; a second call changes nothing."""
        if self._started.is_set():
            return
        self._started.set()
        now = asyncio.get_running_loop().time()
        for scope in self._waiting:
            scope.reschedule(now)

    async def wait(self) -> None:
        """Return once draining."""
        await self._started.wait()

    async def until_draining(self, source: AsyncGenerator[T, None]) -> AsyncIterator[T]:
        """The items of `source`, which is closed when draining begins or the reader stops.

        Nothing is taken from `source` after that: a reader gets the rest where it resumes. Costs no task per
        item.
        """
        async with aclosing(source):
            while not self.draining:
                try:
                    async with asyncio.timeout(None) as scope:
                        self._waiting.add(scope)
                        item = await anext(source)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    if scope.expired():
                        return
                    raise
                finally:
                    self._waiting.discard(scope)
                yield item


class OpenStreams:
    """The tasks that serve streams now; those deaf to the drain signal are evicted through it.

    An evicted task gets CancelledError once; whoever called `opened` asks `was_evicted` and answers the
    caller UNAVAILABLE instead of passing the cancellation on.
    """

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[object], bool] = {}
        self._evicted: set[asyncio.Task[object]] = set()
        self._none_left = asyncio.Event()
        self._none_left.set()

    def __len__(self) -> int:
        return len(self._tasks)

    def opened(self, task: asyncio.Task[object], *, watches_drain: bool) -> None:
        """Count `task`, which must call `closed` at its end."""
        self._tasks[task] = watches_drain
        self._none_left.clear()

    def closed(self, task: asyncio.Task[object]) -> None:
        """Forget `task`; allowed for one that is not counted."""
        self._tasks.pop(task, None)
        self._evicted.discard(task)
        if not self._tasks:
            self._none_left.set()

    def was_evicted(self, task: asyncio.Task[object]) -> bool:
        """Whether the cancellation that `task` just received is ours; then it is undone. Asked once."""
        if task not in self._evicted:
            return False
        self._evicted.discard(task)
        return task.uncancel() == 0

    def evict(self, *, deaf_only: bool = False) -> int:
        """Cancel the open streams, or only those that never watch the drain signal; returns how many."""
        chosen = [task for task, watches in self._tasks.items() if not (deaf_only and watches)]
        for task in chosen:
            if task not in self._evicted:
                self._evicted.add(task)
                task.cancel()
        return len(chosen)

    async def wait_closed(self, timeout_s: float) -> bool:
        """Whether all streams ended within `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._none_left.wait()
        except TimeoutError:
            return False
        return True
