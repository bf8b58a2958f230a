"""The bounded queue between a stream and its callback."""

import asyncio

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
