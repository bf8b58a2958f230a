"""Instruments are read again at once when a refusal hints that a rule has changed."""

from __future__ import annotations

import pytest

from tests.unit.venuemesh.gateway.gateway_world import World, gateway, until
from venuemesh.errors import Reason
from venuemesh.gateway.venue import Refused


def readings(world: World) -> int:
    """How often the instruments were read."""
    return world.venue.calls.count("fetch_instruments")


async def refuse(world: World, key: str, reason: Reason) -> None:
    """The venue refuses an order."""
    world.venue.script("place_order", Refused(reason=reason, text="no"))
    await world.submit(key)


@pytest.mark.parametrize("reason", [Reason.PRICE_OFF_TICK, Reason.OPEN_INTEREST_CAP, Reason.INSTRUMENT_NOT_TRADING])
async def test_refusal_that_hints_at_a_changed_rule_has_the_instruments_read(reason: Reason) -> None:
    """At most every ten seconds, however many orders are refused."""
    async with gateway() as world:
        assert readings(world) == 1
        await refuse(world, "k1", reason)
        assert readings(world) == 1
        world.clock.advance(10.0)
        for number in range(5):
            await refuse(world, f"more-{number}", reason)
        await until(lambda: readings(world) == 2)


async def test_refusal_for_want_of_margin_says_nothing_of_the_rules() -> None:
    """No reading costs weight for it."""
    async with gateway() as world:
        world.clock.advance(60.0)
        await refuse(world, "k1", Reason.INSUFFICIENT_MARGIN)
        await world.durable()
        assert readings(world) == 1
