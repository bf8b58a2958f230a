"""Two venues on one engine: same references, books apart, money and determinism as with one."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.engine.chance import SplitMix
from simulator.engine.engine import Engine
from simulator.engine.events import Event
from simulator.engine.population import Population, PopulationSettings
from simulator.engine.values import OrderRequest, Side, TimeInForce
from simulator.lighter.markets import POOL
from tests.unit.simulator.lighter.world import ACCOUNT, OTHER, World

HYPER = "0x" + "aa" * 20
LIVELY = PopulationSettings(levels=15, spacing_bps=Decimal("1.4"), history_minutes=0)


class Both(World):
    """The Lighter venue beside a lively HyperCore population on the same engine."""

    def __init__(self, *, seed: int = 1) -> None:
        super().__init__(population=LIVELY, seed=seed)
        home = [key for key in self.engine.markets if key not in self.venue.markets.by_key]
        self.leader = Population(
            self.engine, self.upkeep, SplitMix(7), PopulationSettings(history_minutes=0), keys=home
        )
        self.engine.deposit(HYPER, "", "USDC", Decimal(10_000), self.now_ms)
        self.leader.quote(home, self.now_ms)

    def tick(self) -> list[Event]:
        """Half a second of both."""
        self.now_ms += 500
        self.upkeep.advance(self.now_ms)
        self.leader.step(self.now_ms)
        self.venue.step(self.now_ms)
        self.venue.batch(self.now_ms)
        return self.engine.drain()


def best(engine: Engine, key: str) -> tuple[Decimal, Decimal]:
    """Best bid and ask."""
    book = engine.markets[key].book
    bid, ask = book.best_price(Side.BUY), book.best_price(Side.SELL)
    assert bid is not None
    assert ask is not None
    return bid, ask


def test_references_when_moving_are_the_same_on_both_venues() -> None:
    """Up to the price grid of each."""
    both = Both()
    for _ in range(20):
        both.tick()
        for spec in both.venue.markets.all:
            if spec.follows:
                ours, theirs = both.engine.markets[spec.key], both.engine.markets[spec.follows]
                assert abs(ours.oracle - theirs.oracle) <= Decimal(1).scaleb(-spec.price_decimals)


def test_best_prices_when_compared_change_sides() -> None:
    """Neither venue is always better, and neither bids above what the other asks."""
    both = Both()
    cheaper: set[str] = set()
    for _ in range(80):
        both.tick()
        (bid, ask), (other_bid, other_ask) = best(both.engine, "lighter:BTC"), best(both.engine, "BTC")
        assert bid < other_ask
        assert other_bid < ask
        if ask != other_ask:
            cheaper.add("lighter" if ask < other_ask else "hyperliquid")
    assert cheaper == {"lighter", "hyperliquid"}


def test_books_when_one_venue_trades_stay_apart() -> None:
    """An order on one never meets one of the other."""
    world = World()
    request = OrderRequest(instrument="ETH", side=Side.SELL, quantity=Decimal(1), price=Decimal(3700))
    world.engine.open_account("hyper-house", house=True)
    world.engine.submit("hyper-house", [request], world.now_ms)
    world.order(Price=380_000)
    assert world.statuses() == ["open"]


def test_second_venue_when_present_changes_nothing_of_the_first() -> None:
    """The first venue's books, prices and trades are what they are without it."""
    both = Both()
    alone = Engine([market.instrument for key, market in both.engine.markets.items() if not key.startswith(POOL)])
    from simulator.engine.upkeep import Upkeep

    upkeep = Upkeep(alone, 1_790_000_000_000, "backstop")
    leader = Population(alone, upkeep, SplitMix(7), PopulationSettings(history_minutes=0))
    leader.quote(alone.markets, 1_790_000_000_000)
    now_ms = 1_790_000_000_000
    for _ in range(15):
        both.tick()
        now_ms += 500
        upkeep.advance(now_ms)
        leader.step(now_ms)
    for key, market in alone.markets.items():
        other = both.engine.markets[key]
        assert (market.oracle, market.last) == (other.oracle, other.last)
        for side in Side:
            mine = [(level.price, level.quantity) for level in market.book.levels(side)]
            assert mine == [(level.price, level.quantity) for level in other.book.levels(side)]


@dataclass(frozen=True)
class Step:
    """One random order somewhere, or time passing."""

    account: str
    key: str
    side: Side
    price: int
    quantity: int
    tif: TimeInForce
    reduce_only: bool
    wait: bool


PLACES = st.sampled_from(
    [(f"{POOL}:{ACCOUNT}", "lighter:ETH"), (f"{POOL}:{OTHER}", "lighter:ETH"), (HYPER, "ETH"), (HYPER, "BTC")]
)
STEPS = st.lists(
    st.builds(
        lambda place, side, price, quantity, tif, reduce, wait: Step(
            place[0], place[1], side, price, quantity, tif, reduce, wait
        ),
        PLACES,
        st.sampled_from(list(Side)),
        st.integers(-30, 30),
        st.integers(1, 40),
        st.sampled_from(list(TimeInForce)),
        st.booleans(),
        st.integers(0, 3).map(lambda draw: draw == 0),
    ),
    max_size=25,
)


def play(both: Both, steps: list[Step]) -> list[Event]:
    """Apply steps; the events."""
    events: list[Event] = []
    for step in steps:
        market = both.engine.markets[step.key]
        request = OrderRequest(
            instrument=step.key,
            side=step.side,
            quantity=market.instrument.lot * step.quantity * 10,
            price=market.instrument.price_rule.floor(market.mark * (1000 + step.price) / 1000),
            time_in_force=step.tif,
            reduce_only=step.reduce_only,
        )
        both.engine.submit(step.account, [request], both.now_ms)
        events += both.tick() if step.wait else both.engine.drain()
    both.now_ms += 3_600_000
    events += both.tick()
    return events


def money(both: Both) -> Decimal:
    """Perpetual cash of everybody on every venue, fees and rounding included."""
    total = both.upkeep.funding_residue + both.engine.fees.get("USDC", Decimal(0))
    for account in both.engine.accounts.values():
        for ledger in account.ledgers.values():
            total += ledger.cash + sum((p.cash for p in ledger.positions.values()), Decimal(0))
        total += account.balance("USDC").total if account.spot else Decimal(0)
    return total


@settings(max_examples=15, deadline=None)
@given(STEPS)
def test_random_flow_on_both_venues_when_done_conserves_cash_and_quantity(steps: list[Step]) -> None:
    """Positions of every instrument sum to zero; cash only moves or becomes a fee."""
    both = Both()
    before = money(both)
    play(both, steps)
    assert money(both) == before
    for market in both.engine.markets.values():
        if market.instrument.perpetual:
            held = [account.position(market.instrument) for account in both.engine.accounts.values()]
            assert sum(held, Decimal(0)) == 0
        bid, ask = market.book.best_price(Side.BUY), market.book.best_price(Side.SELL)
        assert bid is None or ask is None or bid < ask


@settings(max_examples=8, deadline=None)
@given(STEPS)
def test_random_flow_on_both_venues_when_played_twice_is_identical(steps: list[Step]) -> None:
    """Nothing hidden: equal calls give equal events."""
    first, second = Both(), Both()
    assert play(first, steps) == play(second, steps)
    assert first.engine.accounts == second.engine.accounts
