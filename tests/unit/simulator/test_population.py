"""Synthetic markets: lively, deep and the same for the same seed."""

from __future__ import annotations

from decimal import Decimal

from simulator.engine.chance import SplitMix
from simulator.engine.events import Event
from simulator.engine.population import QUIET, Population, PopulationSettings
from simulator.engine.values import Side
from tests.unit.simulator.engine_world import ALICE, BUY, PERP, START_MS, World


def lively(seed: int) -> tuple[World, Population]:
    """A world with synthetic traders."""
    world = World()
    population = Population(world.engine, world.upkeep, SplitMix(seed), PopulationSettings())
    population.warm_up(START_MS)
    return world, population


def events(seed: int) -> list[Event]:
    """Events of thirty rounds."""
    world, population = lively(seed)
    for step in range(30):
        population.step(START_MS + step * 500)
    return world.engine.drain()


def test_markets_when_the_seed_is_equal_repeat_and_when_not_differ() -> None:
    """All chance is in the seed."""
    assert events(3) == events(3)
    assert events(3) != events(4)


def test_books_when_warmed_up_have_twenty_levels_a_side_and_history() -> None:
    """Depth, candles and funding are there from the start."""
    world, _ = lively(1)
    market = world.engine.markets[PERP]
    assert all(len(list(market.book.levels(side))) >= 20 for side in Side)
    assert len(market.minutes) == 240
    assert market.fundings[-1].rate == Decimal("0.0000125")


def test_books_when_prices_walk_stay_deep_uncrossed_and_near_the_reference() -> None:
    """Re-quoting follows the reference price."""
    world, population = lively(9)
    for step in range(60):
        population.step(START_MS + step * 500)
    market = world.engine.markets[PERP]
    bid, ask = market.book.best_price(Side.BUY), market.book.best_price(Side.SELL)
    assert bid is not None
    assert ask is not None
    assert bid < ask
    assert abs(bid / market.oracle - 1) < Decimal("0.002")
    assert all(len(list(market.book.levels(side))) >= 20 for side in Side)
    assert market.trades


def test_quiet_markets_when_stepped_do_nothing() -> None:
    """Tests that need a still book get one."""
    world = World()
    population = Population(world.engine, world.upkeep, SplitMix(1), QUIET)
    population.warm_up(START_MS)
    population.step(START_MS + 500)
    assert world.engine.drain() == []


def test_reference_when_set_through_a_resting_order_fills_it() -> None:
    """Makers quote around the reference, so a resting bid above the market trades."""
    world, population = lively(1)
    world.place(ALICE, BUY, "1", "98")
    population.set_reference(PERP, Decimal(97), START_MS)
    assert world.position(ALICE) == 1


def test_generator_when_seeded_gives_its_known_sequence() -> None:
    """SplitMix64 reference outputs for seed 1234567, reduced to a die."""
    chance = SplitMix(1234567)
    outputs = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [chance.integer(0, (1 << 64) - 2) for _ in outputs] == outputs
