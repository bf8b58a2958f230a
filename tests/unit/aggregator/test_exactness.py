"""Where the money went: profit identities at every step, against a venue that keeps its books in fractions."""

from __future__ import annotations

import decimal
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.portfolio import Portfolio
from aggregator.valuation import Mark
from tests.unit.aggregator.gateway_events import BTC, EPOCH, ETH, Gateway, text
from venuemesh.gateway.positions import PositionState, PositionStep, apply_fill, apply_funding, reconcile
from venuemesh.money import use_exact_arithmetic
from venuemesh.v1 import account_pb2, event_pb2, order_pb2, portfolio_pb2, reconciliation_pb2

HYPE = "HYPE/USDC"
QUANTITIES = st.integers(1, 10**9).map(lambda number: Decimal(number).scaleb(-5))
PRICES = st.integers(1, 10**9).map(lambda number: Decimal(number).scaleb(-4))
AMOUNTS = st.integers(-(10**9), 10**9).map(lambda number: Decimal(number).scaleb(-6))
SIDES = st.sampled_from([order_pb2.SIDE_BUY, order_pb2.SIDE_SELL])


@dataclass(slots=True)
class Venue:
    """An account at a venue that tells every fact as a gateway publishes it, and knows its worth by cash flows alone.

    The gateway's fold of positions is the real one; `flows` never sees it.
    """

    gateway: Gateway
    cash: Fraction = Fraction()
    hype: Fraction = Fraction()
    flows: Fraction = Fraction()
    held: dict[str, Fraction] = field(default_factory=dict)
    marks: dict[str, Decimal] = field(default_factory=dict)
    positions: dict[str, PositionState] = field(default_factory=dict)
    events: list[event_pb2.Event] = field(default_factory=list)

    @property
    def equity(self) -> Fraction:
        """Opening cash, what came in and went out, and the value of what is held."""
        return self.cash + self.flows + sum(self.held[s] * Fraction(self.marks[s]) for s in self.held)

    def told_balance(self) -> Decimal:
        """What the venue says: equity less the unrealized profit of the positions at its own cost."""
        open_profit = sum(
            (Fraction(p.quantity) * Fraction(self.marks[s]) - Fraction(p.open_cost) for s, p in self.positions.items()),
            Fraction(),
        )
        return exact(self.equity - open_profit)

    def tell(self) -> None:
        self.events.append(self.gateway.balance(self.told_balance()))
        self.events.append(self.gateway.balance(exact(self.hype), asset="HYPE"))

    def trade(self, symbol: str, side: int, quantity: Decimal, price: Decimal, fee: Decimal) -> None:
        event = self.gateway.fill(symbol, "a")
        fill = event.execution_report.fill
        fill.side, fill.quantity, fill.price, fill.fee = side, text(quantity), text(price), text(fee)  # type: ignore[assignment]
        self.events.append(event)
        signed = Fraction(quantity if side == order_pb2.SIDE_BUY else -quantity)
        self.flows -= signed * Fraction(price) + Fraction(fee)
        if symbol == HYPE:
            self.hype += signed
            return
        self.held[symbol] = self.held.get(symbol, Fraction()) + signed
        self._step(apply_fill(self._position(symbol), side=side, quantity=quantity, price=price, fee=fee))  # type: ignore[arg-type]

    def fund(self, symbol: str, amount: Decimal) -> None:
        self.ledger(account_pb2.LEDGER_ENTRY_TYPE_FUNDING, amount, symbol)
        self._step(apply_funding(self._position(symbol), amount))

    def ledger(self, kind: int, amount: Decimal, symbol: str = "") -> None:
        entry = account_pb2.LedgerEntry(
            ledger_entry_type=kind,  # type: ignore[arg-type]
            asset="USDC",
            amount=text(amount),
            symbol=symbol,
        )
        self.events.append(self.gateway.event(symbol, ledger_entry=entry))
        self.flows += Fraction(amount)

    def _position(self, symbol: str) -> PositionState:
        return self.positions.get(symbol) or PositionState(symbol=symbol)

    def _step(self, step: PositionStep) -> None:
        state = self.positions[step.state.symbol] = step.state
        event = self.gateway.position(
            state.symbol,
            state.quantity,
            cost=state.open_cost,
            mark=self.marks[state.symbol],
            realized=state.realized_pnl,
            fees=state.fees_paid,
            funding=state.funding_received,
        )
        event.position.change = step.change
        self.events.append(event)


@pytest.fixture(autouse=True, scope="module")
def exact_arithmetic() -> Iterator[None]:
    """As in every process of the mesh, for this module alone."""
    default_precision = decimal.DefaultContext.prec
    try:
        with decimal.localcontext():
            use_exact_arithmetic()
            yield
    finally:
        decimal.DefaultContext.prec = default_precision


def exact(value: Fraction) -> Decimal:
    """A fraction that is a decimal, as one."""
    number = Decimal(value.numerator) / Decimal(value.denominator)
    assert Fraction(number) == value
    return number


@st.composite
def worlds(draw: st.DrawFn) -> list[tuple[Venue, list[int]]]:
    """Accounts with their stories; the numbers are event counts at which the venue had just told its balances."""
    made = []
    for name in ("main", "second")[: draw(st.integers(1, 2))]:
        venue = Venue(Gateway("hyperliquid", name), cash=Fraction(draw(AMOUNTS)))
        venue.marks = {BTC: Decimal(100), ETH: Decimal("12.5")}
        told = []
        for _ in range(draw(st.integers(0, 2))):
            venue.trade(draw(st.sampled_from([BTC, HYPE])), draw(SIDES), draw(QUANTITIES), draw(PRICES), Decimal("0.1"))
        venue.tell()
        venue.events.append(venue.gateway.summary(equity="1"))
        told.append(len(venue.events))
        for _ in range(draw(st.integers(1, 10))):
            match draw(st.sampled_from(["fill", "fill", "fill", "spot", "funding", "transfer", "fee", "tell"])):
                case "fill":
                    symbol = draw(st.sampled_from([BTC, ETH]))
                    venue.trade(symbol, draw(SIDES), draw(QUANTITIES), draw(PRICES), draw(AMOUNTS))
                case "spot":
                    venue.trade(HYPE, draw(SIDES), draw(QUANTITIES), draw(PRICES), draw(AMOUNTS))
                case "funding":
                    venue.fund(draw(st.sampled_from([BTC, ETH])), draw(AMOUNTS))
                case "transfer":
                    venue.ledger(account_pb2.LEDGER_ENTRY_TYPE_TRANSFER, draw(AMOUNTS))
                case "fee":
                    venue.ledger(account_pb2.LEDGER_ENTRY_TYPE_FEE, draw(AMOUNTS))
                case _:
                    venue.tell()
                    told.append(len(venue.events))
        venue.tell()
        told.append(len(venue.events))
        made.append((venue, told))
    return made


def identity_holds(totals: portfolio_pb2.PortfolioTotals) -> bool:
    """Equity is its opening plus everything that is named."""
    parts = (
        *(totals.opening_balance, totals.realized_pnl, totals.unrealized_pnl, totals.funding_received),
        *(totals.transfers, totals.traded, totals.unexplained),
    )
    return Fraction(totals.equity) == sum(map(Fraction, parts), Fraction()) - Fraction(totals.fees_paid)


@given(world=worlds())
@settings(max_examples=60, deadline=None)
def test_equity_is_explained_to_the_last_digit_at_every_step(world: list[tuple[Venue, list[int]]]) -> None:
    """Property 26: the identity holds after every event, and nothing is unexplained once balances were told."""
    portfolio = Portfolio(EPOCH)
    portfolio.set_marks({("hyperliquid", s): Mark(price=p) for s, p in world[0][0].marks.items()})
    for venue, told in world:
        for count, event in enumerate(venue.events, start=1):
            portfolio.apply(event)
            for asset in ("USDC", "HYPE"):
                totals = portfolio.totals(asset)
                assert identity_holds(totals)
                if count in told:
                    assert totals.unexplained == "0"
    worth = sum((venue.equity for venue, _ in world), Fraction())
    assert Fraction(portfolio.totals("USDC").equity) == worth
    assert Fraction(portfolio.totals("HYPE").equity) == sum((venue.hype for venue, _ in world), Fraction())


@given(world=worlds(), marks=st.fixed_dictionaries({BTC: PRICES, ETH: PRICES}))
@settings(max_examples=40, deadline=None)
def test_realized_and_unrealized_profit_are_the_cash_flows_at_any_mark(
    world: list[tuple[Venue, list[int]]], marks: dict[str, Decimal]
) -> None:
    """Property 26: whatever the fills' order, profit equals money received plus the value of what is held."""
    portfolio = Portfolio(EPOCH)
    portfolio.set_marks({("hyperliquid", symbol): Mark(price=price) for symbol, price in marks.items()})
    expected = Fraction()
    for venue, _ in world:
        for event in venue.events:
            portfolio.apply(event)
            if event.symbol != HYPE and event.execution_report.HasField("fill"):
                fill = event.execution_report.fill
                sign = 1 if fill.side == order_pb2.SIDE_BUY else -1
                expected -= sign * Fraction(fill.quantity) * Fraction(fill.price)
        expected += sum(held * Fraction(marks[symbol]) for symbol, held in venue.held.items())
    totals = portfolio.totals("USDC")
    assert Fraction(totals.realized_pnl) + Fraction(totals.unrealized_pnl) == expected


def test_money_that_nobody_explained_is_named() -> None:
    """A balance that changed without a reason stays in equity, and says so until the reason comes."""
    gateway = Gateway()
    portfolio = Portfolio(EPOCH)
    for event in (gateway.balance(100), gateway.summary(equity="100"), gateway.balance(130)):
        portfolio.apply(event)
    totals = portfolio.totals("USDC")
    assert (totals.opening_balance, totals.equity, totals.unexplained) == ("100", "130", "30")
    entry = account_pb2.LedgerEntry(
        ledger_entry_type=account_pb2.LEDGER_ENTRY_TYPE_DEPOSIT, asset="USDC", amount="30", ledger_entry_id="d1"
    )
    portfolio.apply(gateway.event(ledger_entry=entry))
    totals = portfolio.totals("USDC")
    assert (totals.transfers, totals.equity, totals.unexplained) == ("30", "130", "0")


def test_asset_that_appears_later_grew_out_of_nothing() -> None:
    """What was bought is not an opening balance."""
    gateway = Gateway()
    portfolio = Portfolio(EPOCH)
    bought = gateway.fill(HYPE, "a")
    bought.execution_report.fill.fee_asset = "HYPE"
    for event in (gateway.balance(1_000), gateway.summary(equity="1000"), bought):
        portfolio.apply(event)
    assert portfolio.totals("HYPE").unexplained == "-0.9"
    portfolio.apply(gateway.balance("0.9", asset="HYPE"))
    portfolio.apply(gateway.balance(900))
    hype, usdc = portfolio.totals("HYPE"), portfolio.totals("USDC")
    assert (hype.opening_balance, hype.traded, hype.fees_paid, hype.unexplained) == ("0", "1", "0.1", "0")
    assert (usdc.traded, usdc.fees_paid, usdc.unexplained) == ("-100", "0", "0")


def test_restatement_takes_the_venues_truth_and_is_counted() -> None:
    """Property 27: position, order and balance set by reconciliation are visible as such; plain changes are not."""
    gateway = Gateway()
    portfolio = Portfolio(EPOCH)
    state = PositionState(symbol=BTC, quantity=Decimal(1), open_cost=Decimal(90))
    step = reconcile(state, quantity=Decimal(3), entry_price=Decimal(95))
    position = gateway.position(BTC, step.state.quantity, cost=step.state.open_cost, mark=100)
    position.position.change = step.change
    report = gateway.order(BTC, "a")
    report.execution_report.execution_type = order_pb2.EXECUTION_TYPE_RESTATED
    found = reconciliation_pb2.Discrepancy(discrepancy_id="d", restated=True)
    only_told = reconciliation_pb2.Discrepancy(discrepancy_id="e")
    events = [gateway.position(BTC, 1, cost=90, mark=100), gateway.event(BTC, discrepancy=found), position, report]
    for event in [*events, gateway.event(BTC, discrepancy=only_told)]:
        change = portfolio.apply(event)
        assert portfolio.delta(change, event).event == event
    (account,) = portfolio.message().accounts
    assert account.restatement_count == 3
    assert (account.positions[0].quantity, account.positions[0].unrealized_pnl) == ("3", "15")
    assert account.positions[0].change == account_pb2.POSITION_CHANGE_RECONCILE


@pytest.mark.parametrize(
    ("mark", "distance"), [(Decimal(100), "2000"), (Decimal(90), "1111.11"), (Decimal(75), "-666.67"), (None, "500")]
)
def test_distance_to_liquidation_follows_the_live_mark(mark: Decimal | None, distance: str) -> None:
    """A distance at an old mark would look safer than it is; without a live mark the gateway's own stands."""
    event = Gateway().position(BTC, 2, cost=200)
    event.position.liquidation_price, event.position.liquidation_distance_bps = "80", "500"
    portfolio = Portfolio(EPOCH)
    portfolio.apply(event)
    if mark is not None:
        portfolio.set_marks({("hyperliquid", BTC): Mark(price=mark)})
    assert portfolio.message().net_positions[0].positions[0].liquidation_distance_bps == distance


def test_distance_beyond_what_the_contract_carries_is_left_out() -> None:
    """A mark next to nothing does not break the fold."""
    event = Gateway().position(BTC, 2, cost=200)
    event.position.liquidation_price = str(10**17)
    portfolio = Portfolio(EPOCH)
    portfolio.apply(event)
    portfolio.set_marks({("hyperliquid", BTC): Mark(price=Decimal("0.000000000000000001"))})
    assert not portfolio.message().accounts[0].positions[0].HasField("liquidation_distance_bps")
