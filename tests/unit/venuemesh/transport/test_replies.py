"""Requests that wait for replies."""

import asyncio

import pytest

from venuemesh.transport.replies import PendingReplies


class Wire:
    """A request's way out, as far as the test lets it go."""

    def __init__(self) -> None:
        self.written = asyncio.Event()
        self.late: list[str] = []

    async def write(self) -> None:
        self.written.set()


def wait_for(replies: PendingReplies[int, str], wire: Wire, left_s: float = 5.0) -> asyncio.Task[str]:
    return asyncio.create_task(replies.exchange(1, wire.write, left_s=lambda: left_s, on_late=wire.late.append))


async def test_reply_goes_to_the_one_who_waits_for_it_and_only_once() -> None:
    """A second reply of the same id finds nobody."""
    replies, wire = PendingReplies[int, str](), Wire()
    waiting = wait_for(replies, wire)
    await wire.written.wait()
    assert not replies.resolve(2, "of another")
    assert replies.resolve(1, "first")
    assert not replies.resolve(1, "second")
    assert await waiting == "first"
    assert not replies.resolve(1, "third")


async def test_no_reply_in_time_raises_timeout_and_forgets_the_request() -> None:
    """A reply after that is late, and its taker must hear that nobody waits."""
    replies, wire = PendingReplies[int, str](), Wire()
    with pytest.raises(TimeoutError):
        await wait_for(replies, wire, left_s=0.0)
    assert not replies.resolve(1, "late")


async def test_reply_in_the_moment_of_cancellation_is_told_as_late() -> None:
    """What the venue said is never lost, even when its caller has gone."""
    replies, wire = PendingReplies[int, str](), Wire()
    waiting = wait_for(replies, wire)
    await wire.written.wait()
    replies.resolve(1, "too late")
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert wire.late == ["too late"]


async def test_failed_connection_ends_the_wait_with_its_error() -> None:
    """Failing one that nobody waits for does nothing."""
    replies, wire = PendingReplies[int, str](), Wire()
    waiting = wait_for(replies, wire)
    await wire.written.wait()
    replies.fail(2, ConnectionError("another"))
    replies.fail(1, ConnectionError("cut"))
    with pytest.raises(ConnectionError, match="cut"):
        await waiting


async def test_request_that_cannot_be_written_is_not_waited_for() -> None:
    """Its error is the writer's."""
    replies = PendingReplies[int, str]()

    async def write() -> None:
        raise ConnectionError("refused")

    with pytest.raises(ConnectionError, match="refused"):
        await replies.exchange(1, write, left_s=lambda: 5.0, on_late=lambda _: None)
    assert not replies.resolve(1, "late")
