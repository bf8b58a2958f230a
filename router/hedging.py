"""A second attempt beside a slow first one; the first answer counts. For reads only."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any

from venuemesh.deadlines import remaining_s
from venuemesh.errors import MeshError


async def hedge(
    attempt: Callable[[], Awaitable[Any]], *, after_s: float, may_start: Callable[[], AbstractContextManager[bool]]
) -> Any:
    """The answer of the attempt, or of a second one begun after `after_s`, whichever comes first.

    Args:
        after_s: how long the first attempt is alone; 0 for always.
        may_start: entered when the second is due: whether it may start; left when all is over.
    Raises:
        MeshError: neither was answered; that of the attempt that failed last.
    """
    left_s = remaining_s()
    if not after_s or (left_s is not None and left_s <= after_s):
        return await attempt()

    async def run() -> Any:
        # As a value, so that the failure of one attempt does not end the other.
        try:
            return await attempt()
        except MeshError as error:
            return error

    async with asyncio.TaskGroup() as tasks:
        first = tasks.create_task(run(), name="hedge/first")
        await asyncio.wait((first,), timeout=after_s)
        if not first.done():
            with may_start() as allowed:
                if allowed:
                    first = await _first_answer({first, tasks.create_task(run(), name="hedge/second")})
                else:
                    await asyncio.wait((first,))
    result = first.result()
    if isinstance(result, MeshError):
        raise result
    return result


async def _first_answer(running: set[asyncio.Task[Any]]) -> asyncio.Task[Any]:
    """The first task that is answered, else the last that fails; the others are cancelled."""
    while True:
        done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        answered = next((task for task in done if not isinstance(task.result(), MeshError)), None)
        if answered is not None or not running:
            for task in running:
                task.cancel()
            return answered or done.pop()
