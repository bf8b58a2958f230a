"""Requests over a socket that wait for their replies, told apart by an id."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Key = TypeVar("Key")
Reply = TypeVar("Reply")


class PendingReplies(Generic[Key, Reply]):
    """Those who wait; bounded by whoever hands out the ids. A reply is delivered once or reported as late."""

    def __init__(self) -> None:
        self._waiters: dict[Key, asyncio.Future[Reply]] = {}

    def resolve(self, key: Key, reply: Reply) -> bool:
        """Hand over a reply; False when nobody waits for it any more."""
        waiter = self._waiters.get(key)
        if waiter is None or waiter.done():
            return False
        waiter.set_result(reply)
        return True

    def fail(self, key: Key, error: Exception) -> None:
        """End one wait with an error, if there is one."""
        waiter = self._waiters.get(key)
        if waiter is not None and not waiter.done():
            waiter.set_exception(error)

    async def exchange(
        self,
        key: Key,
        write: Callable[[], Awaitable[None]],
        *,
        left_s: Callable[[], float],
        on_late: Callable[[Reply], None],
    ) -> Reply:
        """Write a request, then wait for its reply.

        Args:
            write: sends the request; the wait stands before it is called, so no reply can come too early.
            left_s: what is left for the reply, asked once the request has left.
            on_late: gets a reply that came in the very moment in which the caller was cancelled.
        Raises:
            TimeoutError: no reply in time.
            What `write` raises, and what `fail` was given.
        """
        waiter: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiters[key] = waiter
        try:
            await write()
            async with asyncio.timeout(max(0.0, left_s())):
                return await waiter
        except TimeoutError:
            if _succeeded(waiter):
                return waiter.result()  # it came in the very moment of the time-out
            raise
        except asyncio.CancelledError:
            if _succeeded(waiter):
                on_late(waiter.result())
            raise
        finally:
            del self._waiters[key]
            _succeeded(waiter)  # an exception nobody waits for any more has been seen
            waiter.cancel()


def _succeeded(waiter: asyncio.Future[Reply]) -> bool:
    return waiter.done() and not waiter.cancelled() and waiter.exception() is None
