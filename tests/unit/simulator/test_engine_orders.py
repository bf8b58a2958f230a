"""What single orders do: validity, matching, reduce-only, triggers, groups, amends."""

from __future__ import annotations

from decimal import Decimal

import pytest

from simulator.engine.engine import Rules
from simulator.engine.events import Change, Fill, OrderChanged
from simulator.engine.values import (
    Grouping,
    OrderState,
    PriceRule,
    Reason,
    Side,
    Trigger,
    TriggerKind,
)
from tests.unit.simulator.engine_world import ALICE, ALO, BOB, BUY, HOUSE, IOC, PERP, SELL, SPOT, World

STOP, PROFIT = TriggerKind.STOP, TriggerKind.TAKE_PROFIT


def trigger(price: str, kind: TriggerKind, *, market: bool = True) -> Trigger:
    """A trigger from texts."""
    return Trigger(price=Decimal(price), kind=kind, market=market)


@pytest.mark.parametrize(
    ("decimals", "price", "fine"),
    [
        (5, "1234.5", True),
        (5, "1234.56", False),
        (5, "0.001234", False),
        (5, "0.00123", True),
        (5, "123456", True),
        (5, "123456.5", False),
        (8, "0.0001234", True),
        (6, "0.0001234", False),
        (1, "0", False),
    ],
)
def test_price_rule_when_asked_accepts_five_figures_or_integers(decimals: int, price: str, fine: bool) -> None:
    """Five significant figures, a decimals cap, integers always."""
    assert PriceRule(max_decimals=decimals, max_figures=5).accepts(Decimal(price)) is fine


@pytest.mark.parametrize(
    ("quantity", "price", "reason"),
    [
        ("0", "100", Reason.ZERO_QUANTITY),
        ("-1", "100", Reason.INVALID_QUANTITY),
        ("0.0001", "100", Reason.INVALID_QUANTITY),
        ("1", "0", Reason.INVALID_PRICE),
        ("1", "100.0001", Reason.OFF_TICK),
        ("1", "100.123", Reason.OFF_TICK),
        ("0.099", "100", Reason.BELOW_MINIMUM),
        ("1", "1000", Reason.PRICE_TOO_FAR),
        ("100000", "100", Reason.NOTIONAL_TOO_LARGE),
        ("2100", "100", Reason.INSUFFICIENT_MARGIN),
    ],
)
def test_order_when_it_breaks_a_rule_is_refused_by_name(quantity: str, price: str, reason: Reason) -> None:
    """Every static rule and the margin check have their own reason."""
    assert World().place(ALICE, BUY, quantity, price).refusal is reason


def test_refused_order_when_traced_appears_in_history_and_untraced_does_not() -> None:
    """Matching-stage refusals get an id and a history row; malformed ones leave no trace."""
    world = World()
    world.place(ALICE, BUY, "0", "100")
    assert not world.engine.history(ALICE)
    world.place(ALICE, BUY, "1", "100.123")
    (event,) = world.engine.history(ALICE)
    assert (event.change, event.order.reason) == (Change.REJECTED, Reason.OFF_TICK)


def test_post_only_order_when_it_would_match_is_refused_with_the_best_prices() -> None:
    """The refusal names bid and ask."""
    world = World()
    world.place(HOUSE, SELL, "1", "101")
    world.place(HOUSE, BUY, "1", "99")
    outcome = world.place(ALICE, BUY, "1", "101", ALO)
    assert outcome.refusal is Reason.POST_ONLY_WOULD_MATCH
    assert (outcome.best_bid, outcome.best_ask) == (Decimal(99), Decimal(101))


def test_ioc_order_when_partly_matched_fills_what_there_is_and_drops_the_rest() -> None:
    """The outcome shows the filled part; nothing rests."""
    world = World()
    world.place(HOUSE, SELL, "1", "101")
    outcome = world.place(ALICE, BUY, "3", "102", IOC)
    assert outcome.order is not None
    assert (outcome.order.filled, outcome.order.average_price) == (Decimal(1), Decimal(101))
    assert outcome.order.state is OrderState.CANCELLED
    assert not world.engine.live_orders(ALICE)


def test_ioc_order_when_nothing_matches_is_rejected() -> None:
    """An IOC that meets nobody never becomes an open order."""
    assert World().place(ALICE, BUY, "1", "100", IOC).refusal is Reason.NO_MATCH


def test_taker_when_it_meets_its_own_order_cancels_it_and_goes_on() -> None:
    """Self-trade prevention removes the resting order; the taker trades with the next."""
    world = World()
    own = world.place(ALICE, SELL, "1", "100")
    world.place(HOUSE, SELL, "1", "100")
    taker = world.place(ALICE, BUY, "1", "100", IOC)
    cancelled = world.engine.order(world.id_of(own))
    assert cancelled is not None
    assert cancelled.reason is Reason.SELF_TRADE
    assert taker.order is not None
    assert taker.order.state is OrderState.FILLED


def test_fill_when_it_happens_takes_truncated_fees_and_moves_the_position() -> None:
    """Taker fee on notional, cut to six decimals; entry is the fill price."""
    world = World()
    world.place(HOUSE, SELL, "0.123", "100.03")
    world.engine.drain()
    world.place(ALICE, BUY, "0.123", "100.03", IOC)
    (fill,) = [event for event in world.engine.drain() if isinstance(event, Fill)]
    assert fill.fee == Decimal("0.005536")  # 12.30369 * 0.00045 = 0.0055366605
    assert (fill.taker, fill.start_position) == (True, Decimal(0))
    assert world.position(ALICE) == Decimal("0.123")


def test_entry_price_when_position_grows_is_weighted_and_when_it_shrinks_stays() -> None:
    """Weighted average on increase; profit is realised against it on decrease."""
    world = World()
    world.place(HOUSE, SELL, "1", "100")
    world.place(HOUSE, SELL, "3", "104")
    world.place(ALICE, BUY, "4", "104", IOC)
    position = world.engine.accounts[ALICE].ledger("main").positions[PERP]
    assert position.entry_price == Decimal(103)
    world.place(HOUSE, BUY, "2", "105")
    world.engine.drain()
    world.place(ALICE, SELL, "2", "105", IOC)
    (fill,) = [event for event in world.engine.drain() if isinstance(event, Fill)]
    assert fill.closed_pnl == Decimal(4)
    assert position.entry_price == Decimal(103)


def test_reduce_only_order_when_flat_is_refused() -> None:
    """There is nothing to reduce."""
    assert World().place(ALICE, SELL, "1", "100", reduce_only=True).refusal is Reason.REDUCE_ONLY_WOULD_INCREASE


def long_position(world: World, quantity: str = "2") -> None:
    """Give Alice a long position at 100."""
    world.place(HOUSE, SELL, quantity, "100")
    world.place(ALICE, BUY, quantity, "100", IOC)


def test_reduce_only_order_when_larger_than_the_position_is_shrunk_and_never_flips() -> None:
    """It fills at most the position."""
    world = World()
    long_position(world)
    world.place(HOUSE, BUY, "10", "99")
    outcome = world.place(ALICE, SELL, "5", "99", IOC, reduce_only=True)
    assert outcome.order is not None
    assert outcome.order.filled == Decimal(2)
    assert world.position(ALICE) == 0


def test_resting_reduce_only_order_when_the_position_shrinks_shrinks_and_when_flat_dies() -> None:
    """Original size stays, remaining follows the position."""
    world = World()
    long_position(world)
    resting = world.id_of(world.place(ALICE, SELL, "2", "110", reduce_only=True))
    world.place(HOUSE, BUY, "2", "100")
    world.place(ALICE, SELL, "0.5", "100", IOC)
    order = world.engine.order(resting)
    assert order is not None
    assert (order.remaining, order.request.quantity) == (Decimal("1.5"), Decimal(2))
    world.place(ALICE, SELL, "1.5", "100", IOC)
    assert (order.state, order.reason) == (OrderState.CANCELLED, Reason.REDUCE_ONLY)


def test_two_reduce_only_orders_when_beyond_the_position_cancel_the_older() -> None:
    """The newer one keeps its size."""
    world = World()
    long_position(world)
    old = world.engine.order(world.id_of(world.place(ALICE, SELL, "2", "110", reduce_only=True)))
    new = world.engine.order(world.id_of(world.place(ALICE, SELL, "1", "111", reduce_only=True)))
    assert old is not None
    assert new is not None
    assert (old.state, old.reason) == (OrderState.CANCELLED, Reason.REDUCE_ONLY)
    assert (new.state, new.remaining) == (OrderState.OPEN, Decimal(1))


def test_small_order_when_it_closes_the_whole_position_is_exempt_from_the_minimum() -> None:
    """A whole close may be below ten dollars, a partial one may not."""
    world = World(rules=Rules(min_notional=Decimal(500)))
    world.place(HOUSE, SELL, "6", "100")
    world.place(ALICE, BUY, "6", "100", IOC)
    world.place(HOUSE, BUY, "9", "100")
    world.place(ALICE, SELL, "5", "100", IOC)
    assert world.place(ALICE, SELL, "0.5", "100", IOC, reduce_only=True).refusal is Reason.BELOW_MINIMUM
    assert world.place(ALICE, SELL, "1", "100", IOC).refusal is None


def test_stop_when_the_mark_reaches_it_sells_at_market() -> None:
    """Triggered, filled, gone."""
    world = World()
    long_position(world)
    stop = world.id_of(world.place(ALICE, SELL, "2", "95", reduce_only=True, trigger=trigger("95", STOP)))
    world.place(HOUSE, BUY, "5", "94")
    world.mark("96")
    assert world.position(ALICE) == 2
    world.engine.drain()
    world.mark("95")
    changes = [e.change for e in world.engine.drain() if isinstance(e, OrderChanged)]
    assert changes == [Change.TRIGGERED, Change.FILLED]
    assert world.position(ALICE) == 0
    order = world.engine.order(stop)
    assert order is not None
    assert order.triggered


def test_take_profit_limit_when_triggered_rests_at_its_price() -> None:
    """A limit trigger becomes a resting order when nobody meets it."""
    world = World()
    long_position(world)
    outcome = world.place(ALICE, SELL, "2", "110", reduce_only=True, trigger=trigger("108", PROFIT, market=False))
    world.mark("108")
    book = world.engine.markets[PERP].book
    assert book.best_price(Side.SELL) == Decimal(110)
    assert world.engine.live_orders(ALICE)[0].order_id == world.id_of(outcome)


def test_trigger_when_its_condition_already_holds_is_refused() -> None:
    """A stop above the mark would fire at once."""
    world = World()
    long_position(world)
    outcome = world.place(ALICE, SELL, "2", "101", reduce_only=True, trigger=trigger("101", STOP))
    assert outcome.refusal is Reason.BAD_TRIGGER_PRICE


def bracket(world: World, entry_price: str) -> list[int]:
    """A buy of 2 with a stop at 90 and a take-profit at 110; the ids."""
    outcomes = world.group(
        ALICE,
        Grouping.BRACKET,
        world.request(BUY, "2", entry_price),
        world.request(SELL, "2", "90", reduce_only=True, trigger=trigger("90", STOP)),
        world.request(SELL, "2", "110", reduce_only=True, trigger=trigger("110", PROFIT)),
    )
    return [world.id_of(outcome) for outcome in outcomes]


def states(world: World, ids: list[int]) -> list[OrderState]:
    """States of orders."""
    return [world.engine.known_order(order_id).state for order_id in ids]


def test_bracket_when_the_parent_fills_arms_its_children_and_one_cancels_the_other() -> None:
    """Waiting for the parent, then for the trigger; the first to trigger takes its sibling along."""
    world = World()
    ids = bracket(world, "99")
    waiting = OrderState.WAITING_FOR_PARENT
    assert states(world, ids) == [OrderState.OPEN, waiting, waiting]
    world.place(HOUSE, SELL, "2", "99")
    armed = OrderState.WAITING_FOR_TRIGGER
    assert states(world, ids) == [OrderState.FILLED, armed, armed]
    world.place(HOUSE, BUY, "2", "109.9")
    world.mark("110")
    assert states(world, ids) == [OrderState.FILLED, OrderState.CANCELLED, OrderState.FILLED]
    assert world.engine.known_order(ids[1]).reason is Reason.SIBLING_FILLED
    assert world.position(ALICE) == 0


def test_bracket_when_the_parent_is_cancelled_cancels_its_children() -> None:
    """Children never outlive an unfilled parent."""
    world = World()
    ids = bracket(world, "99")
    world.engine.cancel(ALICE, ids[0], world.now_ms)
    assert states(world, ids) == [OrderState.CANCELLED] * 3


def test_position_trigger_when_fired_closes_whatever_the_position_is_then() -> None:
    """Its size follows the position."""
    world = World()
    long_position(world)
    request = world.request(SELL, "0", "95", reduce_only=True, trigger=trigger("95", STOP))
    (outcome,) = world.group(ALICE, Grouping.POSITION, request)
    assert outcome.refusal is None
    world.place(HOUSE, SELL, "1", "100")
    world.place(ALICE, BUY, "1", "100", IOC)
    world.place(HOUSE, BUY, "9", "95")
    world.mark("95")
    assert world.position(ALICE) == 0


def test_amend_when_the_order_rests_issues_a_new_id_at_the_back_of_the_queue() -> None:
    """Cancel and new: the old id is cancelled, the client id follows."""
    world = World()
    old = world.id_of(world.place(ALICE, BUY, "1", "99", client_id="a"))
    outcome = world.engine.amend(ALICE, old, world.request(BUY, "2", "98", client_id="b"), world.now_ms)
    assert outcome is not None
    assert world.id_of(outcome) != old
    assert world.engine.known_order(old).state is OrderState.CANCELLED
    found = world.engine.find_client_id(ALICE, "b")
    assert found is not None
    assert found.remaining == 2


def test_amend_when_the_new_order_breaks_a_rule_keeps_the_old_one() -> None:
    """A malformed replacement costs nothing."""
    world = World()
    old = world.id_of(world.place(ALICE, BUY, "1", "99"))
    outcome = world.engine.amend(ALICE, old, world.request(BUY, "1", "99.1234"), world.now_ms)
    assert outcome is not None
    assert outcome.refusal is Reason.OFF_TICK
    assert world.engine.known_order(old).state is OrderState.OPEN


def test_cancel_when_the_order_belongs_to_another_account_does_nothing() -> None:
    """Order ids of others are as good as unknown."""
    world = World()
    order_id = world.id_of(world.place(ALICE, BUY, "1", "99"))
    assert not world.engine.cancel(BOB, order_id, world.now_ms)
    assert world.engine.cancel(ALICE, order_id, world.now_ms)
    assert not world.engine.cancel(ALICE, order_id, world.now_ms)


def test_spot_order_when_placed_holds_the_quote_and_when_filled_charges_the_base() -> None:
    """A resting buy locks quote; its fee is taken from the coins received."""
    world = World()
    world.place(ALICE, BUY, "10", "99", key=SPOT)
    account = world.engine.accounts[ALICE]
    assert account.balance("USD").hold == Decimal(990)
    assert world.place(ALICE, BUY, "95", "99", key=SPOT).refusal is Reason.INSUFFICIENT_BALANCE
    world.place(BOB, SELL, "10", "99", IOC, key=SPOT)
    assert account.balance("USD").hold == 0
    assert account.balance("COIN").total == Decimal("59.9985")  # 10 less 0.015 % maker fee
    assert world.engine.accounts[BOB].balance("USD").total == Decimal("10989.5545")


def test_open_orders_when_at_the_limit_refuse_one_more() -> None:
    """The number of open orders is bounded."""
    world = World(rules=Rules(max_open_orders=2))
    world.place(ALICE, BUY, "1", "99")
    world.place(ALICE, BUY, "1", "98")
    assert world.place(ALICE, BUY, "1", "97").refusal is Reason.TOO_MANY_ORDERS
