"""What time and prices do: funding, liquidation, scheduled cancels, isolated margin."""

from __future__ import annotations

from decimal import Decimal

from simulator.engine.events import FundingPaid, Liquidated
from simulator.engine.values import OrderState, Reason
from tests.unit.simulator.engine_world import (
    ALICE,
    BACKSTOP,
    BUY,
    HOUSE,
    IOC,
    ISOLATED,
    PERP,
    SELL,
    START_MS,
    World,
)

HOUR_MS = 3_600_000


def buy(world: World, quantity: str, key: str = PERP) -> None:
    """Alice buys from the house at 100."""
    world.place(HOUSE, SELL, quantity, "100", key=key)
    world.place(ALICE, BUY, quantity, "100", IOC, key=key)


def test_funding_when_the_hour_is_full_moves_money_from_longs_to_shorts() -> None:
    """Signed size times oracle times rate; a positive rate is paid by longs."""
    world = World()
    buy(world, "10")
    world.engine.drain()
    cash = world.cash_total()
    world.upkeep.advance(START_MS - START_MS % HOUR_MS + HOUR_MS)
    (paid,) = [event for event in world.engine.drain() if isinstance(event, FundingPaid)]
    assert paid.rate == Decimal("0.0000125")
    assert paid.amount == Decimal("-0.0125")
    assert world.cash_total() == cash
    assert world.engine.accounts[ALICE].ledger("main").positions[PERP].funding_since_open == Decimal("0.0125")


def test_funding_when_several_hours_pass_at_once_is_paid_for_each() -> None:
    """A jump of the clock skips nothing."""
    world = World()
    buy(world, "10")
    world.engine.drain()
    world.upkeep.advance(START_MS - START_MS % HOUR_MS + 3 * HOUR_MS)
    assert len([event for event in world.engine.drain() if isinstance(event, FundingPaid)]) == 3


def test_cross_account_when_equity_is_below_maintenance_is_liquidated_into_the_book() -> None:
    """Its orders go, its position is sold, what is left stays its own."""
    world = World(cash="1000")
    buy(world, "150")
    resting = world.id_of(world.place(ALICE, SELL, "1", "150"))
    world.place(HOUSE, BUY, "150", "95.5")
    world.engine.drain()
    world.mark("95.6")  # equity 1000 - 6.75 - 660 = 333 < 150 * 95.6 / 40 = 358.5
    events = world.engine.drain()
    assert [e.account for e in events if isinstance(e, Liquidated)] == [ALICE]
    assert world.position(ALICE) == 0
    assert world.engine.known_order(resting).reason is Reason.LIQUIDATION
    assert 0 < world.engine.accounts[ALICE].ledger("main").cash < 400


def test_liquidation_when_the_book_is_empty_hands_the_position_to_the_backstop() -> None:
    """Below two thirds of maintenance the backstop takes position and what is left of the cash."""
    world = World(cash="1000")
    buy(world, "150")
    cash = world.cash_total()
    world.mark("94")
    assert world.position(ALICE) == 0
    assert world.position(BACKSTOP) == 150
    assert world.engine.accounts[ALICE].ledger("main").cash == 0
    assert world.cash_total() == cash


def test_isolated_position_when_liquidated_loses_its_own_margin_only() -> None:
    """The rest of the account is untouched, even through a gap."""
    world = World(cash="1000")
    buy(world, "20", ISOLATED)
    ledger = world.engine.accounts[ALICE].ledger("main")
    before = ledger.cash
    assert before == Decimal("1000") - Decimal(100) - Decimal("0.9")
    world.mark("50", ISOLATED)
    assert world.position(ALICE, ISOLATED) == 0
    assert ledger.cash == before


def test_isolated_position_when_partly_closed_gives_margin_back() -> None:
    """Half the position, half the equity."""
    world = World(cash="1000")
    buy(world, "20", ISOLATED)
    world.place(HOUSE, BUY, "10", "100", key=ISOLATED)
    ledger = world.engine.accounts[ALICE].ledger("main")
    before = ledger.cash
    world.place(ALICE, SELL, "10", "100", IOC, key=ISOLATED)
    assert ledger.cash == before + Decimal(50) - Decimal("0.45")
    assert ledger.isolated_value(ISOLATED, Decimal(100)) == Decimal(50)


def test_scheduled_cancel_when_due_cancels_everything_and_not_before() -> None:
    """The native dead man's switch."""
    world = World()
    order_id = world.id_of(world.place(ALICE, BUY, "1", "99"))
    world.upkeep.schedule_cancel(ALICE, START_MS + 5000)
    assert world.upkeep.advance(START_MS + 4999) == []
    assert world.upkeep.advance(START_MS + 5000) == [ALICE]
    order = world.engine.known_order(order_id)
    assert (order.state, order.reason) == (OrderState.CANCELLED, Reason.SCHEDULED)


def test_scheduled_cancel_when_withdrawn_does_nothing() -> None:
    """Unsetting it is enough."""
    world = World()
    world.place(ALICE, BUY, "1", "99")
    world.upkeep.schedule_cancel(ALICE, START_MS + 5000)
    world.upkeep.schedule_cancel(ALICE, None)
    world.upkeep.advance(START_MS + 6000)
    assert len(world.engine.live_orders(ALICE)) == 1
