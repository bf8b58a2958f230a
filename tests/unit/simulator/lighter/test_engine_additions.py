"""What the engine learned for a second venue: changing orders in place, siblings, fees by account, readers."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.engine.chance import SplitMix
from simulator.engine.events import BookChanged, Trade
from simulator.engine.population import Population, PopulationSettings
from simulator.engine.risk import maintenance
from simulator.engine.values import Grouping, OrderState, Reason, SelfTrade, Side, TimeInForce
from tests.unit.simulator.engine_world import ALICE, BOB, BUY, GTC, HOUSE, IOC, PERP, SELL, SPOT, World, perpetual


def test_modify_when_only_smaller_keeps_its_place_in_the_queue() -> None:
    """The first at the price still trades first."""
    world = World()
    first = world.id_of(world.place(ALICE, BUY, "2", "99"))
    second = world.id_of(world.place(BOB, BUY, "1", "99"))
    request = world.request(BUY, "1", "99")
    assert world.engine.modify(ALICE, first, request, Decimal(1), world.now_ms) is not None
    world.place(HOUSE, SELL, "1", "99", IOC)
    assert world.engine.known_order(first).state is OrderState.FILLED
    assert world.engine.known_order(second).state is OrderState.OPEN


@pytest.mark.parametrize(("quantity", "price"), [("3", "99"), ("1", "98")])
def test_modify_when_larger_or_elsewhere_goes_to_the_back(quantity: str, price: str) -> None:
    """A new price or more size costs the place."""
    world = World()
    first = world.id_of(world.place(ALICE, BUY, "2", "99"))
    second = world.id_of(world.place(BOB, BUY, "1", price))
    world.engine.modify(ALICE, first, world.request(BUY, quantity, price), Decimal(quantity), world.now_ms)
    world.place(HOUSE, SELL, "1", price, IOC)
    assert world.engine.known_order(second).state is OrderState.FILLED


def test_modify_when_on_spot_moves_the_hold() -> None:
    """What is locked is what rests."""
    world = World()
    order_id = world.id_of(world.place(ALICE, BUY, "2", "99", key=SPOT))
    for quantity, price, hold in (("1", "99", "99"), ("3", "98", "294")):
        request = world.request(BUY, quantity, price, key=SPOT)
        world.engine.modify(ALICE, order_id, request, Decimal(quantity), world.now_ms)
        assert world.engine.accounts[ALICE].balance("USD").hold == Decimal(hold)


def test_modify_when_refused_by_a_static_rule_leaves_the_order() -> None:
    """And by money ends it."""
    world = World()
    order_id = world.id_of(world.place(ALICE, BUY, "2", "99"))
    off_tick = world.engine.modify(ALICE, order_id, world.request(BUY, "2", "99.0005"), Decimal(2), world.now_ms)
    assert off_tick is not None
    assert off_tick.refusal is Reason.OFF_TICK
    assert world.engine.known_order(order_id).state is OrderState.OPEN
    huge = world.request(BUY, "40000", "99")
    world.engine.modify(ALICE, order_id, huge, Decimal(40_000), world.now_ms)
    assert world.engine.known_order(order_id).state is OrderState.CANCELLED
    assert world.engine.modify(BOB, order_id, huge, Decimal(1), world.now_ms) is None


def test_siblings_when_one_is_refused_go_together() -> None:
    """A pair is a pair or nothing."""
    world = World()
    outcomes = world.group(
        ALICE, Grouping.ONE_CANCELS_OTHER, world.request(BUY, "1", "99"), world.request(BUY, "0", "98")
    )
    assert outcomes[1].refusal is Reason.ZERO_QUANTITY
    assert world.engine.known_order(world.id_of(outcomes[0])).state is OrderState.CANCELLED


@pytest.mark.parametrize(
    ("mode", "resting", "left"),
    [
        (SelfTrade.CANCEL_RESTING, OrderState.CANCELLED, "3"),
        (SelfTrade.CANCEL_INCOMING, OrderState.OPEN, "0"),
        (SelfTrade.CANCEL_BOTH, OrderState.CANCELLED, "0"),
        (SelfTrade.REDUCE_BOTH, OrderState.CANCELLED, "1"),
    ],
)
def test_own_order_when_met_gives_way_as_asked(mode: SelfTrade, resting: OrderState, left: str) -> None:
    """No trade in any mode."""
    from dataclasses import replace

    world = World()
    first = world.id_of(world.place(ALICE, SELL, "2", "100"))
    request = replace(world.request(BUY, "3", "100", GTC), self_trade=mode)
    second = world.id_of(world.engine.submit(ALICE, [request], world.now_ms)[0])
    assert world.engine.known_order(first).state is resting
    assert world.engine.known_order(second).remaining == Decimal(left)
    assert not [event for event in world.engine.drain() if isinstance(event, Trade)]


def test_fees_when_set_for_an_account_replace_the_instruments() -> None:
    """Another account pays what the instrument says."""
    world = World()
    world.engine.accounts[ALICE].taker_fee = Decimal("0.001")
    world.place(HOUSE, SELL, "2", "100")
    for account, fee in ((ALICE, "0.1"), (BOB, "0.045")):
        world.place(account, BUY, "1", "100", IOC)
        assert world.engine.fills(account)[0].fee == Decimal(fee)


def test_maintenance_when_set_for_an_instrument_is_that_share() -> None:
    """Else half of the least initial margin."""
    assert maintenance(Decimal(1000), perpetual(maintenance_fraction=Decimal("0.012"))) == 12
    assert maintenance(Decimal(1000), perpetual()) == 25


def test_reader_when_it_wants_one_instrument_hears_only_that() -> None:
    """The engine's own drain is not affected."""
    world = World()
    reader = world.engine.reader(lambda event: getattr(event, "instrument", "") == SPOT)
    world.place(HOUSE, BUY, "1", "99")
    world.place(HOUSE, BUY, "1", "99", key=SPOT)
    world.place(HOUSE, BUY, "1", "98", key=SPOT)
    assert reader.drain() == [BookChanged(instrument=SPOT)]
    assert reader.drain() == []
    assert {event.instrument for event in world.engine.drain() if isinstance(event, BookChanged)} == {PERP, SPOT}


def test_instrument_when_its_key_is_taken_cannot_be_listed() -> None:
    """Two fronts never share a market."""
    with pytest.raises(ValueError, match="exists"):
        World().engine.list_instruments([perpetual()])


def test_follower_when_held_by_a_test_stays() -> None:
    """A frozen reference follows nobody until released."""
    world = World()
    world.engine.list_instruments([perpetual("COPY")])
    settings_ = PopulationSettings(levels=0, history_minutes=0)
    copy = Population(
        world.engine, world.upkeep, SplitMix(1), settings_, maker="m", taker="t", keys=["COPY"], follows={"COPY": PERP}
    )
    world.mark("101")
    assert copy.follow(world.now_ms) == ["COPY"]
    copy.set_reference("COPY", Decimal(90), world.now_ms)
    world.mark("102")
    assert copy.follow(world.now_ms) == []
    copy.release_reference("COPY")
    copy.follow(world.now_ms)
    assert world.engine.markets["COPY"].oracle == 102


MOVES = st.lists(st.tuples(st.sampled_from(list(Side)), st.integers(90, 110), st.integers(1, 50)), max_size=25)


@settings(max_examples=60, deadline=None)
@given(MOVES, st.sampled_from(list(SelfTrade)))
def test_random_modifications_when_done_leave_books_and_money_right(
    moves: list[tuple[Side, int, int]], mode: SelfTrade
) -> None:
    """Cash and quantity are conserved, books uncrossed, holds equal what rests."""
    from dataclasses import replace

    world = World()
    cash, usd = world.cash_total(), world.token_total("USD")
    for number, (side, price, quantity) in enumerate(moves):
        key = (PERP, SPOT)[number % 2]
        account = (ALICE, BOB)[number // 2 % 2]
        request = replace(world.request(side, str(quantity), str(price), key=key), self_trade=mode)
        live = [o for o in world.engine.live_orders(account) if o.instrument == key and o.side is side]
        if live and number % 3:
            world.engine.modify(account, live[0].order_id, request, Decimal(quantity), world.now_ms)
        else:
            world.engine.submit(account, [replace(request, time_in_force=TimeInForce.GOOD_TIL_CANCELLED)], world.now_ms)
    fees = world.engine.fees.get("USD", Decimal(0))
    assert world.cash_total() + world.token_total("USD") + fees == cash + usd
    assert world.quantity_total() == 0
    for market in world.engine.markets.values():
        bid, ask = market.book.best_price(BUY), market.book.best_price(SELL)
        assert bid is None or ask is None or bid < ask
    for name in (ALICE, BOB):
        resting = [o for o in world.engine.live_orders(name) if o.instrument == SPOT]
        quote = sum((o.remaining * o.price for o in resting if o.side is BUY), Decimal(0))
        base = sum((o.remaining for o in resting if o.side is SELL), Decimal(0))
        assert world.engine.accounts[name].balance("USD").hold == quote
        assert world.engine.accounts[name].balance("COIN").hold == base
