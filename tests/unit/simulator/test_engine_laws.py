"""Laws of the matching engine, checked on random order flow."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.engine.events import Trade
from simulator.engine.values import OrderState, Side, TimeInForce
from tests.unit.simulator.engine_world import ALICE, BOB, HOUSE, ISOLATED, PERP, SPOT, World

TIFS = st.sampled_from(list(TimeInForce))
SIDES = st.sampled_from(list(Side))


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
    reduce_only: bool


STEPS = st.lists(
    st.builds(
        Step,
        kind=st.sampled_from(["order"] * 6 + ["cancel", "amend", "mark", "hour"]),
        account=st.sampled_from([ALICE, BOB, HOUSE]),
        key=st.sampled_from([PERP, PERP, SPOT, ISOLATED]),
        side=SIDES,
        price=st.integers(90, 110),
        quantity=st.integers(1, 400),
        tif=TIFS,
        reduce_only=st.booleans(),
    ),
    max_size=40,
)


def run(world: World, steps: list[Step]) -> list[object]:
    """Apply steps; the events."""
    events: list[object] = []
    for step in steps:
        world.now_ms += 1000
        apply(world, step)
        events.extend(world.engine.drain())
    return events


def apply(world: World, step: Step) -> None:
    """One step."""
    quantity = str(Decimal(step.quantity) / 10)
    if step.kind == "order":
        world.place(
            step.account,
            step.side,
            quantity,
            str(step.price),
            step.tif,
            key=step.key,
            reduce_only=step.reduce_only,
        )
    elif step.kind == "mark" and step.key != SPOT:
        world.mark(str(step.price), step.key)
    elif step.kind == "hour":
        world.now_ms += 3_600_000
        world.upkeep.advance(world.now_ms)
    else:
        orders = world.engine.live_orders(step.account)
        if not orders:
            return
        order = orders[step.quantity % len(orders)]
        if step.kind == "cancel":
            world.engine.cancel(step.account, order.order_id, world.now_ms)
        elif step.kind == "amend":
            request = world.request(step.side, quantity, str(step.price), step.tif, key=order.instrument)
            world.engine.amend(step.account, order.order_id, request, world.now_ms)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_random_flow_when_played_twice_gives_identical_events(steps: list[Step]) -> None:
    """The engine has no hidden input: equal calls give equal events and equal accounts."""
    first, second = World(), World()
    assert run(first, steps) == run(second, steps)
    assert first.engine.accounts == second.engine.accounts


@settings(max_examples=80, deadline=None)
@given(STEPS)
def test_random_flow_when_done_conserves_cash_quantity_and_tokens(steps: list[Step]) -> None:
    """Positions sum to zero; money changes hands or becomes a fee, never appears or vanishes."""
    world = World()
    cash, usd, coin = world.cash_total(), world.token_total("USD"), world.token_total("COIN")
    run(world, steps)
    assert world.quantity_total() == 0
    assert world.quantity_total(ISOLATED) == 0
    fees = world.engine.fees
    left = world.cash_total() + world.token_total("USD") + fees.get("USD", Decimal(0))
    assert left + world.upkeep.funding_residue == cash + usd
    assert world.token_total("COIN") + fees.get("COIN", Decimal(0)) == coin


@settings(max_examples=80, deadline=None)
@given(STEPS)
def test_random_flow_when_done_leaves_consistent_books(steps: list[Step]) -> None:
    """No book is crossed, every resting order is live with a remainder, and holds equal what rests."""
    world = World()
    run(world, steps)
    for market in world.engine.markets.values():
        bid, ask = market.book.best_price(Side.BUY), market.book.best_price(Side.SELL)
        assert bid is None or ask is None or bid < ask
        for side in Side:
            for order in market.book.orders(side):
                assert order.state is OrderState.OPEN
                assert 0 < order.remaining <= order.request.quantity
    for name in (ALICE, BOB):
        resting = [o for o in world.engine.live_orders(name) if o.instrument == SPOT]
        quote = sum((o.remaining * o.price for o in resting if o.side is Side.BUY), Decimal(0))
        base = sum((o.remaining for o in resting if o.side is Side.SELL), Decimal(0))
        assert world.engine.accounts[name].balance("USD").hold == quote
        assert world.engine.accounts[name].balance("COIN").hold == base


@settings(max_examples=80, deadline=None)
@given(STEPS)
def test_random_flow_when_done_keeps_reduce_only_orders_within_the_position(steps: list[Step]) -> None:
    """Resting reduce-only orders could never flip or open a position."""
    world = World()
    run(world, steps)
    for name in (ALICE, BOB):
        for key in (PERP, ISOLATED):
            position = world.position(name, key)
            resting = [o for o in world.engine.live_orders(name) if o.instrument == key and o.request.reduce_only]
            assert all(position * o.side.sign < 0 for o in resting)
            assert sum((o.remaining for o in resting), Decimal(0)) <= abs(position)


@dataclass
class Naive:
    """Slow reference: a list of resting orders, searched anew for every match."""

    resting: list[tuple[int, Side, int, int]]  # arrival, side, price, quantity
    arrivals: int = 0

    def submit(self, side: Side, price: int, quantity: int, tif: TimeInForce) -> list[tuple[int, int]]:
        """Trades (price, quantity) of an order, best price first, then oldest."""
        self.arrivals += 1
        arrival, trades = self.arrivals, []
        against = [row for row in self.resting if row[1] is not side and self._meets(side, price, row[2])]
        if tif is TimeInForce.POST_ONLY and against:
            return []
        for row in sorted(against, key=lambda item: (item[2] * side.sign, item[0])):
            if not quantity:
                break
            traded = min(quantity, row[3])
            quantity -= traded
            trades.append((row[2], traded))
            place = self.resting.index(row)
            self.resting[place] = (row[0], row[1], row[2], row[3] - traded)
        self.resting = [row for row in self.resting if row[3]]
        if quantity and tif is not TimeInForce.IMMEDIATE_OR_CANCEL:
            self.resting.append((arrival, side, price, quantity))
        return trades

    @staticmethod
    def _meets(side: Side, price: int, other: int) -> bool:
        return other <= price if side is Side.BUY else other >= price


FLOW = st.lists(st.tuples(SIDES, st.integers(95, 105), st.integers(1, 9), TIFS), max_size=60)


@settings(max_examples=100, deadline=None)
@given(FLOW)
def test_matching_when_compared_with_a_slow_model_trades_the_same(
    flow: list[tuple[Side, int, int, TimeInForce]],
) -> None:
    """Price-time priority: every trade equals that of a list searched from scratch."""
    world, naive = World(), Naive(resting=[])
    for number, (side, price, quantity, tif) in enumerate(flow):
        account = f"house-{number}"  # a new account each time, so that nothing trades with itself
        world.engine.open_account(account, house=True)
        world.place(account, side, str(quantity), str(price), tif)
        trades = [e for e in world.engine.drain() if isinstance(e, Trade)]
        assert [(int(t.price), int(t.quantity)) for t in trades] == naive.submit(side, price, quantity, tif)
    book = world.engine.markets[PERP].book
    resting = [(o.price, o.remaining) for side in Side for o in book.orders(side)]
    assert sorted(resting) == sorted((Decimal(row[2]), Decimal(row[3])) for row in naive.resting)
