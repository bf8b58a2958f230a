"""A gateway that trades for days keeps what its bounds say and nothing else."""

from __future__ import annotations

import gc
from collections import Counter

from tests.fakes_venue import FakeVenue
from tests.unit.venuemesh.gateway.gateway_world import Caller, World, gateway
from venuemesh.gateway.core import CoreSettings
from venuemesh.v1 import order_service_pb2 as wire

RETAINED = 20
BLOCK = 100
NOISE = BLOCK // 2
"""Objects of one type more or less, of caches and of the test itself: a leak has one for each order."""
NOT_OURS = {"re.Pattern", "builtins.builtin_method", "traceback.FrameSummary"}
"""The fake broker keeps a pattern of every subject it was asked for; a loop in debug mode remembers call stacks."""


async def trade(world: World, first: int) -> None:
    """Orders that rest and are taken back; the fakes' own memory does not count."""
    for number in range(first, first + BLOCK):
        placed = await world.submit(f"key-{number}")
        reference = wire.OrderReference(account_id="main", order_id=placed.order.order_id)
        await world.orders.CancelOrder(wire.CancelOrderRequest(reference=reference), Caller())
    await world.durable()
    world.bus.forget()
    forget(world.venue)


def forget(venue: FakeVenue) -> None:
    venue.orders.clear()
    venue.order_accounts.clear()
    venue.placed.clear()
    venue.cancels.clear()
    venue.calls.clear()


def living() -> Counter[str]:
    """Objects by type, as far as the collector sees them."""
    gc.collect()
    names = (f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.get_objects())
    return Counter(name for name in names if name not in NOT_OURS)


async def test_orders_beyond_the_bound_leave_nothing_behind() -> None:
    """Once the bound is reached, as many objects of every type after more orders as before them."""
    async with gateway(settings=CoreSettings(retained_orders=RETAINED)) as world:
        await trade(world, 0)
        await trade(world, BLOCK)
        before = living()
        await trade(world, 2 * BLOCK)
        grown = {name: count - before[name] for name, count in living().items() if count - before[name] > NOISE}
        assert grown == {}
        assert len(world.account.all_orders()) == RETAINED
