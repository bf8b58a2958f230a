"""Whether everything wanted is served: for those who wait, and as records."""

from __future__ import annotations

import asyncio

from tests.fakes import ManualClock
from tests.streams import link
from venuemesh.transport.observer import NullObserver, RequestOutcome, RequestRecord
from venuemesh.transport.session import Disconnected, DisconnectReason
from venuemesh.transport.subscription_watch import SubscriptionWatch


class FakeSocket:
    """Connected, or not."""

    def __init__(self) -> None:
        self.joined = asyncio.Event()
        self.joined.set()

    @property
    def connected(self) -> bool:
        return self.joined.is_set()

    async def wait_connected(self) -> int:
        await self.joined.wait()
        return 1


class Desk(NullObserver):
    """A watch, what its session still waits for, and what was recorded."""

    def __init__(self) -> None:
        self.socket = FakeSocket()
        self.clock = ManualClock()
        self.waiting: list[str] = []
        self.records: list[RequestRecord] = []
        self.watch = SubscriptionWatch(
            self.socket, lambda: self.waiting, link("market", clock=self.clock, observer=self)
        )

    def on_request(self, record: RequestRecord) -> None:
        self.records.append(record)

    def want(self, channel: str) -> None:
        """Ask for a channel."""
        self.waiting.append(channel)
        self.watch.review()
        self.watch.asked(channel, channel.partition(":")[0])


async def test_nothing_wanted_is_everything_served() -> None:
    """Waiting for no subscription ends."""
    desk = Desk()
    await desk.watch.wait_served()


async def test_wait_ends_with_the_last_answer_and_each_is_recorded() -> None:
    """A refusal is an answer too: what is no longer wanted keeps nobody waiting."""
    desk = Desk()
    desk.want("book:1")
    desk.want("trade:1")
    waiting = asyncio.create_task(desk.watch.wait_served(), name="wait")
    desk.clock.advance(0.5)
    desk.waiting.remove("book:1")
    desk.watch.answered("book:1")
    await asyncio.sleep(0)
    assert not waiting.done()
    desk.waiting.remove("trade:1")
    desk.watch.answered("trade:1", "no such market")
    await waiting
    desk.watch.answered("never:asked")
    assert [(r.endpoint, r.outcome, r.latency_s) for r in desk.records] == [
        ("subscribe.book", RequestOutcome.OK, 0.5),
        ("subscribe.trade", RequestOutcome.CLIENT_ERROR, 0.5),
    ]


async def test_lost_connection_serves_nothing_until_the_next_one_does() -> None:
    """Who waits then waits for the next connection; what was asked for is recorded as lost."""
    desk = Desk()
    desk.want("book:1")
    desk.waiting.clear()
    desk.watch.answered("book:1")
    desk.want("trade:1")
    desk.socket.joined.clear()
    desk.waiting = ["book:1", "trade:1"]
    desk.watch.disconnected(Disconnected(1, DisconnectReason.PEER_CLOSED, "", 9))
    lost = desk.records[-1]
    assert (lost.endpoint, lost.outcome, lost.detail) == ("subscribe.trade", RequestOutcome.LOST, "peer_closed")
    waiting = asyncio.create_task(desk.watch.wait_served(), name="wait")
    desk.socket.joined.set()
    await asyncio.sleep(0)
    assert not waiting.done()
    desk.waiting.clear()
    desk.watch.review()
    await waiting
