"""The bounded queue between a stream and its callback."""

import asyncio

import pytest

from venuemesh.transport.delivery import EventQueue


async def test_full_queue_refuses_an_event_and_takes_a_forced_one_in_order() -> None:
    """What was refused is a gap its owner must show; connection events always fit."""
    seen: list[str] = []

    async def take(event: str) -> None:
        seen.append(event)

    queue = EventQueue(take, max_events=2, max_bytes=100)
    assert queue.offer("a", 10)
    assert queue.offer("b", 10)
    assert not queue.offer("c", 10)
    queue.put("end")
    delivery = asyncio.create_task(queue.deliver())
    async with asyncio.timeout(60):
        await queue.drained.wait()
    delivery.cancel()
    assert seen == ["a", "b", "end"]


async def test_bytes_bound_the_queue_too() -> None:
    """Few large frames fill it as many small ones do."""

    async def take(_: str) -> None: ...

    queue = EventQueue(take, max_events=10, max_bytes=100)
    assert queue.offer("a", 90)
    assert not queue.offer("b", 11)
    assert queue.offer("c", 10)


async def test_what_is_left_when_the_source_ends_is_still_delivered() -> None:
    """The last word of a connection that is stopped reaches its callback."""
    seen: list[str] = []

    async def take(event: str) -> None:
        seen.append(event)

    queue = EventQueue(take, max_events=10, max_bytes=100)

    async def source() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            queue.put("end")

    running = asyncio.create_task(queue.deliver_during(source, name="events", drain_timeout_s=5.0))
    await asyncio.sleep(0)
    queue.put("first")
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert seen == ["first", "end"]


async def test_stuck_callback_does_not_block_the_stop() -> None:
    """It is waited for as long as was said, and then cancelled."""
    stuck: list[str] = []

    async def take(event: str) -> None:
        stuck.append(event)
        await asyncio.Event().wait()

    queue = EventQueue(take, max_events=10, max_bytes=100)

    async def source() -> None:
        queue.put("first")
        await asyncio.sleep(0)

    async with asyncio.timeout(60):
        await queue.deliver_during(source, name="events", drain_timeout_s=0.01)
    assert stuck == ["first"]


async def test_callback_that_raises_ends_the_source() -> None:
    """A fault of ours is never swallowed."""

    async def take(_: str) -> None:
        raise LookupError("a fault")

    queue = EventQueue(take, max_events=10, max_bytes=100)
    queue.put("first")
    with pytest.raises(ExceptionGroup) as raised:
        await queue.deliver_during(asyncio.Event().wait, name="events", drain_timeout_s=5.0)
    assert raised.group_contains(LookupError)
