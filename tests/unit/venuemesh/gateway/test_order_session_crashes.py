"""Order sessions under everything that goes wrong, in any order: no order outlives its session, no other is touched."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

from tests.fakes_venue import Down, FakeVenue, Lost
from tests.unit.venuemesh.gateway.gateway_world import MemoryBus, World, gateway, new_order
from tests.unit.venuemesh.gateway.session_chat import Chat, TickingClock
from venuemesh.errors import MeshError, Reason
from venuemesh.gateway.venue import Refused, VenueOrderState
from venuemesh.v1 import order_pb2
from venuemesh.v1 import order_service_pb2 as wire

SEEDS = range(30)
LIVES = 3
STEPS = 12
TURNS = 30
SETTLE_ROUNDS = 120
FAULTS = (None, Lost(), Lost(arrived=False), Down(), Refused(reason=Reason.RATE_LIMIT_VENUE, text="too fast"))


class Run:
    """One run of a seed: the world that outlives gateways, and what should become of each key."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.venue, self.bus, self.clock = FakeVenue(), MemoryBus(), TickingClock()
        self.chats: list[Chat] = []
        self.keys = 0
        self.calls: list[asyncio.Task[Any]] = []
        self.plain: set[str] = set()

    def key(self) -> str:
        """A key nobody used before."""
        self.keys += 1
        return f"k{self.keys}"

    async def turns(self, most: int = TURNS) -> None:
        """Let whatever is under way go on for a while."""
        for _ in range(self.draw.randint(0, most)):
            await asyncio.sleep(0)

    async def live(self, world: World) -> None:
        """Some steps of callers, venue and time."""
        for _ in range(STEPS):
            step = self.draw.choice(
                (self.open, self.submit, self.submit, self.submit, self.fault, self.leave, self.wait)
            )
            step(world)
            await self.turns()

    def open(self, world: World) -> None:
        """A caller logs on; one in three keeps its orders."""
        chat = Chat()
        chat.call = asyncio.create_task(world.orders.OpenOrderSession(chat.requests(), chat))
        chat.send(logon=wire.SessionLogon(account_id="main", cancel_on_disconnect=self.draw.random() < 2 / 3))
        self.chats.append(chat)
        self.calls.append(chat.call)

    def submit(self, world: World) -> None:
        """By a session, or by nobody's; sometimes cancelled at once."""
        key = self.key()
        if not self.chats or self.draw.random() < 1 / 4:
            self.plain.add(key)
            request = wire.SubmitOrderRequest(order=new_order(key))
            self.calls.append(asyncio.create_task(quietly(world, request)))
            return
        chat = self.draw.choice(self.chats)
        chat.submit(key)
        if self.draw.random() < 1 / 6:
            chat.cancel(key)

    def fault(self, _: World) -> None:
        """The venue does something else than asked, once."""
        self.venue.script(
            self.draw.choice(("place_order", "cancel_order", "fetch_order")), self.draw.choice(FAULTS[:4])
        )
        self.venue.script("cancel_order", self.draw.choice(FAULTS))
        self.venue.pushing = self.draw.random() < 0.8

    def leave(self, _: World) -> None:
        """A caller breaks away, stops writing, or stops reading."""
        if not self.chats:
            return
        chat = self.chats.pop(self.draw.randrange(len(self.chats)))
        assert chat.call is not None
        self.draw.choice((chat.call.cancel, chat.hang_up, chat.reading.clear))()

    def wait(self, world: World) -> None:
        """Time passes; some leases run out."""
        self.clock.advance(self.draw.choice((0.3, 1.0, 4.0)))
        wake(world)

    def kill(self) -> None:
        """Everything stops at once: the gateway does not get to act on the calls that break."""
        for call in self.calls:
            call.cancel()

    async def die(self) -> None:
        """What the process had in memory is gone, and perhaps what the broker had not stored."""
        if self.bus.holding:
            self.bus._held.clear()
        self.bus.holding = False
        if self.calls:
            await asyncio.wait(self.calls)
        self.calls.clear()
        self.chats.clear()
        # The next one begins with a venue that answers, or it would not begin.
        self.venue._scripts.clear()
        self.venue.pushing = True


async def quietly(world: World, request: wire.SubmitOrderRequest) -> None:
    """A submit whose answer nobody reads."""
    try:
        await world.orders.SubmitOrder(request, Chat())
    except MeshError:
        return


def wake(world: World) -> None:
    """Have everybody who waits for the time look at the clock."""
    world.core.sessions._wake.set()
    world.core.resolver._wake.set()


def owed(world: World) -> list[str]:
    """Keys of orders that should have ended with their session and have not."""
    return [
        order.terms.client_order_id
        for order in world.account.open_orders()
        if order.cancel_on_disconnect and order.session_id not in world.core.desk.sessions
    ]


async def settle(run: Run, world: World) -> None:
    """Nothing goes wrong any more, and time passes."""
    run.venue._scripts.clear()
    run.venue.pushing = True
    for _ in range(SETTLE_ROUNDS):
        run.clock.advance(1.0)
        wake(world)
        for _ in range(TURNS):
            await asyncio.sleep(0)
        if not owed(world) and not any(order.uncertain for order in world.account.open_orders()):
            return


@pytest.mark.parametrize("seed", SEEDS)
async def test_no_order_outlives_its_session_whatever_happens(seed: int) -> None:
    """Faults of the venue, callers that go in every way, and gateways killed at any point, with unsaved events lost."""
    run = Run(seed)
    for _ in range(LIVES):
        async with gateway(venue=run.venue, bus=run.bus, clock=run.clock, pause=run.clock.pause) as world:
            await run.live(world)
            # What the gateway tells the broker from here on may never be stored.
            run.bus.holding = run.draw.random() < 0.5
            await run.live(world)
            run.kill()
        await run.die()
    async with gateway(venue=run.venue, bus=run.bus, clock=run.clock, pause=run.clock.pause) as world:
        await settle(run, world)
        assert owed(world) == [] and world.core.sessions.left == 0
        assert len(world.core.desk.sessions) == 0 and not world.core.sessions._of_session
        assert Counter(ticket.order_id for ticket in run.venue.placed).most_common(1)[:1] in ([], [(most(run), 1)])
        for order in world.account.all_orders():
            key = order.terms.client_order_id
            there = run.venue.orders.get(order.venue_client_order_id)
            alive = there is not None and there.state is VenueOrderState.WORKING
            if order.cancel_on_disconnect:
                assert order.terminal and not alive, key
            elif key in run.plain and alive:
                assert order.status == order_pb2.ORDER_STATUS_NEW and not order.pending_cancel, key
        taken_back = {target.venue_client_order_id for target in run.venue.cancels}
        assert not taken_back & {world.venue.venue_client_order_id(name) for name in ids_of(run, world)}


def most(run: Run) -> str:
    """An order that was placed most often."""
    return Counter(ticket.order_id for ticket in run.venue.placed).most_common(1)[0][0]


def ids_of(run: Run, world: World) -> list[str]:
    """Our ids of orders of no session."""
    found = [world.account.order_by_key(key) for key in run.plain]
    return [order.order_id for order in found if order is not None]
