"""Laws of the engine under time-weighted orders, caps, tiers, groups, unified accounts and halted markets."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.engine import halting, unification
from simulator.engine.events import TwapRequest
from simulator.engine.values import Grouping, OrderState, Side, TimeInForce, Trigger, TriggerKind
from tests.unit.simulator.engine_world import ALICE, BOB, HOUSE, ISOLATED, PERP, SPOT, World
from tests.unit.simulator.money import all_usd

KEYS = [PERP, PERP, ISOLATED, SPOT]
KINDS = (
    ["order"] * 8 + ["bracket"] * 2 + ["position", "mark", "mark", "minutes", "hour", "twap", "cap", "unify", "halt"]
)


@dataclass(frozen=True)
class Step:
    """One random thing that happens."""

    kind: str
    account: str
    key: str
    side: Side
    price: int
    quantity: int
    tif: TimeInForce
    flag: bool


STEPS = st.lists(
    st.builds(
        Step,
        kind=st.sampled_from(KINDS),
        account=st.sampled_from([ALICE, ALICE, BOB, HOUSE, HOUSE]),
        key=st.sampled_from(KEYS),
        side=st.sampled_from(list(Side)),
        price=st.integers(95, 105),
        quantity=st.integers(1, 1500),
        tif=st.sampled_from(list(TimeInForce)),
        flag=st.booleans(),
    ),
    min_size=20,
    max_size=60,
)


def lively() -> World:
    """Small accounts, so that a move hurts, and house orders to trade against."""
    world = World(cash="1000")
    for key in (PERP, ISOLATED, SPOT):
        for step in range(1, 4):
            world.place(HOUSE, Side.SELL, "100", str(100 + step), key=key)
            world.place(HOUSE, Side.BUY, "100", str(100 - step), key=key)
    world.engine.drain()
    return world


def _group(world: World, step: Step) -> None:
    """A parent or none, with a stop and a take-profit."""
    quantity = str(Decimal(step.quantity) / 10)
    close = step.side.opposite
    away = 5 * step.side.sign
    children = [
        world.request(
            close,
            quantity,
            str(price),
            key=PERP,
            reduce_only=True,
            trigger=Trigger(price=Decimal(price), kind=kind, market=step.flag),
        )
        for price, kind in (
            (step.price - away, TriggerKind.STOP),
            (step.price + away, TriggerKind.TAKE_PROFIT),
        )
    ]
    if step.kind == "position":
        world.group(step.account, Grouping.POSITION, *children)
        return
    parent = world.request(step.side, quantity, str(step.price), step.tif, key=PERP)
    world.group(step.account, Grouping.BRACKET, parent, *children)


def _twap(world: World, step: Step) -> None:
    quantity = Decimal(step.quantity)
    request = TwapRequest(
        instrument=step.key,
        side=step.side,
        quantity=quantity,
        minutes=5,
        reduce_only=step.flag and step.key != SPOT,
        randomise=step.tif is TimeInForce.POST_ONLY,
    )
    if step.account != HOUSE:
        world.upkeep.twaps.start(step.account, request, world.now_ms)


def apply(world: World, step: Step) -> None:
    """One step."""
    engine = world.engine
    match step.kind:
        case "order":
            quantity = str(Decimal(step.quantity) / 10)
            world.place(
                step.account, step.side, quantity, str(step.price), step.tif, key=step.key, reduce_only=step.flag
            )
        case "bracket" | "position":
            _group(world, step)
        case "mark":  # a move of up to a quarter, so that somebody falls short now and then
            price = 100 + 5 * (step.price - 100)
            world.mark(str(price), PERP if step.key == SPOT else step.key)
        case "minutes":
            world.now_ms += 60_000
            world.upkeep.advance(world.now_ms)
        case "hour":
            world.now_ms += 3_600_000
            world.upkeep.advance(world.now_ms)
        case "twap":
            _twap(world, step)
        case "cap":
            engine.markets[PERP].open_interest_cap = Decimal(step.quantity * 10) if step.flag else None
            world.upkeep.enforce_cap(PERP, world.now_ms)
        case "unify" if step.account != HOUSE:
            if step.flag:
                unification.unify(engine, step.account, "USD", ["main"], world.now_ms)
            else:
                unification.separate(engine, step.account, world.now_ms)
        case "halt" if step.flag:
            world.upkeep.twaps.terminate(world.now_ms, instrument=step.key)
            halting.halt(engine, step.key, world.now_ms)


def run(world: World, steps: list[Step]) -> list[object]:
    """Apply steps; the events."""
    events: list[object] = []
    for step in steps:
        world.now_ms += 1000
        apply(world, step)
        events.extend(world.engine.drain())
    return events


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_flow_when_played_twice_is_identical(steps: list[Step]) -> None:
    """Nothing hidden: the seed and the calls decide everything."""
    first, second = lively(), lively()
    assert run(first, steps) == run(second, steps)
    assert first.engine.accounts == second.engine.accounts


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_flow_when_done_conserves_money_tokens_and_positions(steps: list[Step]) -> None:
    """Settlements, liquidations over pools and slices move money and never make any."""
    world = lively()
    usd, coin = all_usd(world.engine, world.upkeep, "USD"), world.token_total("COIN")
    run(world, steps)
    assert all_usd(world.engine, world.upkeep, "USD") == usd
    assert world.token_total("COIN") + world.engine.fees.get("COIN", Decimal(0)) == coin
    assert world.quantity_total() == world.quantity_total(ISOLATED) == 0


@settings(max_examples=100, deadline=None)
@given(STEPS)
def test_flow_when_done_leaves_sound_books_and_no_orphans(steps: list[Step]) -> None:
    """Books are not crossed, holds match, waiting children have a live parent, halted markets are empty."""
    world = lively()
    run(world, steps)
    for market in world.engine.markets.values():
        bid, ask = market.book.best_price(Side.BUY), market.book.best_price(Side.SELL)
        assert bid is None or ask is None or bid < ask
        if not market.instrument.open:
            assert bid is ask is None
            assert not market.triggers
    for name in (ALICE, BOB):
        live = world.engine.live_orders(name)
        resting = [order for order in live if order.instrument == SPOT]
        quote = sum((order.remaining * order.price for order in resting if order.side is Side.BUY), Decimal(0))
        assert world.engine.accounts[name].balance("USD").hold == quote
        for order in live:
            assert order.remaining > 0 or order.follows_position
            if order.state is OrderState.WAITING_FOR_PARENT:
                assert order.parent_id is not None
                parent = world.engine.known_order(order.parent_id)
                assert parent.state is OrderState.OPEN
