"""A second attempt beside a slow one: the first answer counts, both failing fails, the loser ends."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from router.hedging import hedge
from venuemesh.errors import GatewayUnavailable, MeshError

SOON_S = 0.001


class Attempts:
    """Attempts scripted by number; counts what became of them."""

    def __init__(self, *scripts: Callable[[], Awaitable[Any]]) -> None:
        self._scripts = scripts
        self.begun = 0
        self.cancelled = 0

    async def __call__(self) -> Any:
        script = self._scripts[self.begun]
        self.begun += 1
        try:
            return await script()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


async def hang() -> Any:
    await asyncio.Event().wait()


def answer(value: str) -> Callable[[], Awaitable[str]]:
    async def script() -> str:
        return value

    return script


async def fail() -> Any:
    raise GatewayUnavailable("away")


class Leave:
    """Whether a second attempt may start, and whether its place was given back."""

    def __init__(self, *, allowed: bool = True) -> None:
        self.allowed = allowed
        self.held: list[bool] = []

    @contextmanager
    def __call__(self) -> Iterator[bool]:
        self.held.append(True)
        try:
            yield self.allowed
        finally:
            self.held[-1] = False


async def test_second_attempt_answers_for_one_that_hangs() -> None:
    """The one that hangs is cancelled, and the place of the second given back."""
    attempts, leave = Attempts(hang, answer("second")), Leave()
    assert await hedge(attempts, after_s=SOON_S, may_start=leave) == "second"
    assert (attempts.begun, attempts.cancelled, leave.held) == (2, 1, [False])


async def test_quick_answer_starts_no_second_attempt() -> None:
    """Nothing is asked for, so nothing is spent."""
    attempts, leave = Attempts(answer("first")), Leave()
    assert await hedge(attempts, after_s=60.0, may_start=leave) == "first"
    assert (attempts.begun, leave.held) == (1, [])


async def test_failure_before_the_second_is_due_is_told_at_once() -> None:
    """Repeating is somebody else's."""
    with pytest.raises(GatewayUnavailable):
        await hedge(Attempts(fail), after_s=60.0, may_start=Leave())


async def test_without_leave_the_first_attempt_is_waited_for() -> None:
    """A spent budget costs nothing but the second chance."""
    release = asyncio.Event()

    async def late() -> str:
        await release.wait()
        return "late"

    class Refusing(Leave):
        @contextmanager
        def __call__(self) -> Iterator[bool]:
            release.set()
            yield False

    attempts = Attempts(late)
    assert await hedge(attempts, after_s=SOON_S, may_start=Refusing()) == "late"
    assert attempts.begun == 1


async def test_second_failing_leaves_the_first_its_time() -> None:
    """One failure is not the answer while the other may still come."""
    failed = asyncio.Event()

    async def fails() -> Any:
        failed.set()
        raise GatewayUnavailable("away")

    async def late() -> str:
        await failed.wait()
        return "first"

    assert await hedge(Attempts(late, fails), after_s=SOON_S, may_start=Leave()) == "first"


async def test_both_failing_raises() -> None:
    """The reader learns why."""
    begun = asyncio.Event()

    async def fails_late() -> Any:
        await begun.wait()
        raise GatewayUnavailable("first")

    async def fails() -> Any:
        begun.set()
        raise GatewayUnavailable("second")

    with pytest.raises(MeshError):
        await hedge(Attempts(fails_late, fails), after_s=SOON_S, may_start=Leave())


async def test_cancelled_reader_ends_both_attempts() -> None:
    """Nothing goes on behind a caller who left."""
    second = asyncio.Event()

    async def hang_second() -> Any:
        second.set()
        await hang()

    attempts = Attempts(hang, hang_second)
    reader = asyncio.ensure_future(hedge(attempts, after_s=SOON_S, may_start=Leave()))
    async with asyncio.timeout(60):
        await second.wait()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert attempts.cancelled == 2
