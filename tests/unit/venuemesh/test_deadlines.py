"""The time a call has left, along the tasks that serve it."""

from __future__ import annotations

import asyncio
from contextvars import copy_context

import pytest

from tests.fakes import ManualClock
from venuemesh.deadlines import (
    Deadline,
    background_context,
    remaining_s,
    request_id,
    require_remaining,
    set_deadline,
    set_request_id,
)
from venuemesh.errors import DeadlineTooShort, Sent


async def test_remaining_when_time_passes_shrinks_below_zero() -> None:
    """The monotonic clock decides; a step of the wall clock changes nothing."""
    clock = ManualClock()
    assert remaining_s() is None
    set_deadline(Deadline(clock, clock.monotonic_s() + 2.0))
    clock.advance(1.5)
    clock.step_wall(-3_600)
    assert remaining_s() == pytest.approx(0.5)
    clock.advance(1.0)
    assert remaining_s() == pytest.approx(-0.5)


async def test_require_remaining_when_too_little_refuses_before_sending() -> None:
    """Refused with sent=no, and both figures in the text."""
    clock = ManualClock()
    require_remaining(100.0)
    set_deadline(Deadline(clock, clock.monotonic_s() + 0.2))
    require_remaining(0.2)
    with pytest.raises(DeadlineTooShort, match=r"0\.200 s left, 0\.300 s needed") as caught:
        require_remaining(0.3)
    assert caught.value.sent is Sent.NO


async def test_background_context_when_work_outlives_its_call_has_no_deadline() -> None:
    """A task keeps its creator's deadline; background work must not."""
    clock = ManualClock()
    set_deadline(Deadline(clock, 1.0))
    set_request_id("req-1")

    async def look() -> tuple[float | None, str | None]:
        return remaining_s(), request_id()

    assert await asyncio.create_task(look(), name="child") == (1.0, "req-1")
    background = asyncio.create_task(look(), name="background", context=background_context())
    assert await background == (None, "req-1")
    assert copy_context().run(remaining_s) == 1.0
