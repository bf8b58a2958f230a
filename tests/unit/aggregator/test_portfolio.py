"""The fold: exact against a slow model in fractions, equal after replay, honest about what is missing or stale."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.deltas import merge_deltas
from aggregator.portfolio import Portfolio
from aggregator.reading import BadEvent, Scope, is_good
from aggregator.sequencing import Gap
from aggregator.valuation import Mark
from tests.unit.aggregator.gateway_events import BTC, EPOCH, ETH, Gateway, comparable
from venuemesh.v1 import event_pb2, order_pb2, portfolio_pb2, stream_pb2

KEY = ("hyperliquid", "main")


def folded(*events: event_pb2.Event, scope: Scope | None = None) -> Portfolio:
    portfolio = Portfolio(EPOCH, scope)
    for sequence, event in enumerate(events, start=1):
        if portfolio.scope.has(event):
            portfolio.apply(event)
        portfolio.advance(sequence, sequence)
    return portfolio


def parts(portfolio: Portfolio) -> dict[str, str]:
    return {part.part: part.cause for part in portfolio.stale_parts()}


def test_account_shows_balance_position_order_summary_and_position_in_its_events() -> None:
    """One account, one of each."""
    gateway = Gateway()
    whole = folded(
        gateway.balance("1000.5"),
        gateway.order(BTC, "a"),
        gateway.fill(BTC, "a"),
        gateway.position(BTC, "2", cost="100", mark="60", realized="3", fees="0.1", funding="-0.2"),
        gateway.summary(equity="1020", margin_used="12", margin_available="900"),
    ).message()
    (account,) = whole.accounts
    assert (account.venue, account.account_id, account.fill_count) == ("hyperliquid", "main", 1)
    assert (account.position.epoch, account.position.sequence) == (EPOCH, 5)
    assert [order.order_id for order in account.orders] == ["o-a"]
    assert account.positions[0].unrealized_pnl == "20"
    (totals,) = whole.totals
    assert (totals.asset, totals.balance, totals.equity) == ("USDC", "1000.5", "1020.5")
    assert (totals.realized_pnl, totals.fees_paid, totals.funding_received) == ("3", "0.1", "-0.2")
    assert (totals.unrealized_pnl, totals.gross_exposure, totals.net_exposure) == ("20", "120", "120")
    assert (totals.margin_used, totals.margin_available, list(totals.leaves_out)) == ("12", "900", [])
    assert (whole.position.epoch, whole.position.sequence) == (EPOCH, 5)


def test_terminal_order_leaves_and_unknown_status_stays() -> None:
    """A status of a newer schema is neither dropped nor refused."""
    gateway = Gateway()
    portfolio = folded(gateway.order(BTC, "a"), gateway.order(BTC, "b", status=9_999))
    change = portfolio.apply(event := gateway.order(BTC, "a", terminal=True))
    assert [order.order_id for order in portfolio.message().accounts[0].orders] == ["o-b"]
    assert portfolio.message().accounts[0].orders[0].status == 9_999
    assert [order.terminal for order in portfolio.delta(change, event).accounts[0].orders] == [True]


def test_payload_of_an_unknown_kind_only_moves_the_account() -> None:
    """An event of a newer schema passes, and keeps its unknown fields in the delta."""
    gateway = Gateway()
    raw = gateway.event().SerializeToString() + bytes([0xF2, 0x3F, 2, 0x41, 0x42])
    event = event_pb2.Event.FromString(raw)
    portfolio = folded(gateway.balance(5))
    event.sequence = 2
    delta = portfolio.delta(portfolio.apply(event), event)
    assert delta.accounts[0].position.sequence == 2
    assert delta.event.SerializeToString(deterministic=True).endswith(raw[-5:])
    assert portfolio.message().totals[0].balance == "5"


def test_net_position_sums_venues_and_accounts() -> None:
    """Long here and short there: net, gross and both parts."""
    here, there = Gateway(), Gateway("lighter", "desk")
    whole = folded(
        here.position(BTC, "1.5", cost="90", mark="61"), there.position(BTC, "-1", cost="-62", mark="60")
    ).message()
    (net,) = whole.net_positions
    assert (net.quantity, net.gross_quantity, net.notional, net.unrealized_pnl) == ("0.5", "2.5", "31.5", "3.5")
    assert [(position.venue, position.account_id) for position in net.positions] == [KEY, ("lighter", "desk")]
    (totals,) = whole.totals
    assert (totals.gross_exposure, totals.net_exposure) == ("151.5", "31.5")


def test_position_without_a_mark_is_left_out_by_name() -> None:
    """Totals say what they lack; net amounts are absent instead of wrong."""
    portfolio = folded(Gateway().position(BTC, 1, cost=60))
    (net,) = portfolio.message().net_positions
    assert not net.HasField("notional")
    assert not net.HasField("unrealized_pnl")
    assert list(portfolio.totals("USDC").leaves_out) == [
        "balance of hyperliquid/main: not known",
        "exposure and unrealized_pnl of hyperliquid/main BTC/USDC:USDC: no mark",
        "margin_available of hyperliquid/main: not known",
        "margin_used of hyperliquid/main: not known",
    ]
    portfolio.set_marks({("hyperliquid", BTC): Mark(price=Decimal(70))})
    assert portfolio.message().net_positions[0].unrealized_pnl == "10"
    assert len(portfolio.totals("USDC").leaves_out) == 3


def test_flat_position_stays_listed_and_needs_no_mark() -> None:
    """What was realized is not forgotten with the position."""
    gateway = Gateway()
    portfolio = folded(gateway.position(BTC, 1, cost=60, mark=60), gateway.position(BTC, 0, realized="5"))
    (net,) = portfolio.message().net_positions
    assert (net.quantity, net.notional, net.unrealized_pnl) == ("0", "0", "0")
    assert portfolio.message().accounts[0].positions[0].realized_pnl == "5"
    assert parts(portfolio) == {}


def test_live_mark_values_position_and_its_staleness_shows() -> None:
    """No live mark, a fresh one, a stale one: the value and the stale part follow."""
    portfolio = folded(Gateway().position(BTC, 2, cost=100, mark=55))
    part = "mark hyperliquid BTC/USDC:USDC"
    assert parts(portfolio) == {part: "no live mark; valued at the mark of its last event"}
    change = portfolio.set_marks(
        {("hyperliquid", BTC): Mark(price=Decimal(60)), ("lighter", BTC): Mark(price=Decimal(1))}
    )
    assert parts(portfolio) == {}
    delta = portfolio.delta(change)
    assert (delta.stale_parts_changed, delta.accounts[0].positions[0].mark_price) == (True, "60")
    assert delta.accounts[0].positions[0].unrealized_pnl == "20"
    change = portfolio.set_marks({("hyperliquid", BTC): Mark(price=Decimal(60), stale_since_ns=7, cause="quiet")})
    assert change.stale
    assert portfolio.stale_parts()[0].since.ToNanoseconds() == 7
    assert not portfolio.set_marks({("hyperliquid", BTC): Mark(price=Decimal(60), stale_since_ns=7, cause="quiet")})


def test_absurd_mark_is_taken_for_none() -> None:
    """A price that no contract field could carry does not break the fold."""
    portfolio = folded(Gateway().position(BTC, 1000, cost=100, mark=1))
    portfolio.set_marks({("hyperliquid", BTC): Mark(price=Decimal(10) ** 17)})
    assert portfolio.message().accounts[0].positions[0].mark_price == "1"


def test_link_gap_loss_and_log_are_stale_parts_of_their_own() -> None:
    """Each reason not to trust a part is listed, and goes when it is over, a loss excepted."""
    gateway = Gateway()
    portfolio = folded(gateway.freshness(fresh=False))
    gap = Gap(key=KEY, epoch=EPOCH, first=2, last=3, since_ns=9, behind=1)
    assert portfolio.set_gap(KEY, gap).stale
    assert not portfolio.set_gap(KEY, gap).stale
    assert portfolio.add_loss(KEY, 11, "event 7: broken").stale
    assert not portfolio.add_loss(KEY, 12, "event 8: broken").stale
    assert portfolio.set_log_away(5, "NATS is not connected").stale
    assert parts(portfolio) == {
        "event log": "NATS is not connected",
        "hyperliquid/main": "venue link down",
        "hyperliquid/main events": f"waiting for events 2 to 3 of {EPOCH}",
        "hyperliquid/main lost events": "event 7: broken",
    }
    assert portfolio.link_state() == stream_pb2.LINK_STATE_DOWN
    portfolio.apply(gateway.freshness(fresh=True))
    portfolio.set_gap(KEY, None)
    portfolio.set_log_away(None)
    assert list(parts(portfolio)) == ["hyperliquid/main lost events"]


def test_new_epoch_restarts_the_accounts_position_and_keeps_its_fills() -> None:
    """Numbers of another epoch are not compared with those before."""
    gateway = Gateway()
    old = [gateway.fill(BTC, "a"), gateway.balance(1), gateway.fill(ETH, "b")]
    restarted = Gateway()
    new = restarted.fill(BTC, "c")
    new.epoch = "later"
    (account,) = folded(*old, new).message().accounts
    assert (account.position.epoch, account.position.sequence, account.fill_count) == ("later", 1, 3)


def test_exposures_are_grouped_and_largest_first() -> None:
    """By base asset and by venue, with shares of the whole."""
    here, there = Gateway(), Gateway("lighter", "desk")
    portfolio = folded(
        here.position(BTC, 1, mark=30), there.position(BTC, -1, mark=30), here.position(ETH, -4, mark=10)
    )
    by_asset = [(e.key, e.gross, e.net, e.share_bps) for e in portfolio.exposures(by_venue=False)]
    assert by_asset == [("BTC", "60", "0", "6000"), ("ETH", "40", "-40", "4000")]
    by_venue = [(e.key, e.gross, e.net, e.share_bps) for e in portfolio.exposures(by_venue=True)]
    assert by_venue == [("hyperliquid", "70", "-10", "7000"), ("lighter", "30", "-30", "3000")]
    assert folded().exposures(by_venue=True) == []


def broken(event: event_pb2.Event, path: str, value: str) -> event_pb2.Event:
    *names, last = path.split(".")
    target = event
    for name in names:
        target = getattr(target, name)
    setattr(target, last, value)
    return event


@pytest.mark.parametrize(
    ("event", "word"),
    [
        (broken(Gateway().position(BTC, 1), "position.quantity", "1e5"), "position.quantity"),
        (broken(Gateway().position(BTC, 1), "position.realized_pnl", ""), "position.realized_pnl"),
        (broken(Gateway().position(BTC, 1), "position.mark_price", "nan"), "position.mark_price"),
        (broken(Gateway().position(BTC, 1), "position.account_id", "other"), "hyperliquid/other"),
        (broken(Gateway().position(BTC, 1), "position.symbol", ETH), "position.symbol"),
        (broken(Gateway().position(BTC, 1), "position.settle_asset", ""), "settle_asset"),
        (Gateway().position(BTC, 10**10, mark=10**10), "beyond"),
        (broken(Gateway().balance(1), "balance.total", "01"), "balance.total"),
        (broken(Gateway().balance(1), "balance.asset", ""), "balance.asset"),
        (Gateway().summary(margin_used="much"), "account_summary.margin_used"),
        (broken(Gateway().fill(BTC, "a"), "execution_report.fill.price", "-"), "fill.price"),
        (broken(Gateway().order(BTC, "a"), "execution_report.order.order_id", ""), "order_id"),
        (
            Gateway().event(
                BTC, execution_report=order_pb2.ExecutionReport(execution_type=order_pb2.EXECUTION_TYPE_TRADE)
            ),
            "a TRADE has none",
        ),
    ],
)
def test_contradictory_event_is_refused_and_changes_nothing(event: event_pb2.Event, word: str) -> None:
    """All of an event is checked before any of it is taken."""
    portfolio = folded(Gateway("other", "x").balance(5))
    before = portfolio.message().SerializeToString(deterministic=True)
    with pytest.raises(BadEvent, match=word):
        portfolio.apply(event)
    assert not is_good(event)
    assert portfolio.message().SerializeToString(deterministic=True) == before


# --- laws ---------------------------------------------------------------------------------------------------------

AMOUNTS = st.integers(-(10**15), 10**15).map(lambda number: Decimal(number).scaleb(-6))
PRICES = st.integers(1, 10**12).map(lambda number: Decimal(number).scaleb(-6))


@st.composite
def histories(draw: st.DrawFn) -> list[event_pb2.Event]:
    """Events of three accounts on two venues, two symbols, two assets."""
    gateways = [Gateway(), Gateway("hyperliquid", "second"), Gateway("lighter", "main")]
    events = []
    for _ in range(draw(st.integers(1, 16))):
        gateway = draw(st.sampled_from(gateways))
        symbol = draw(st.sampled_from([BTC, ETH]))
        kind = draw(st.sampled_from(["position", "position", "balance", "fill", "order", "summary", "freshness"]))
        match kind:
            case "position":
                quantity = draw(st.sampled_from([Decimal(0), draw(AMOUNTS)]))
                events.append(
                    gateway.position(
                        symbol,
                        quantity,
                        cost=draw(AMOUNTS) if quantity else 0,
                        mark=draw(st.none() | PRICES),
                        realized=draw(AMOUNTS),
                        fees=draw(AMOUNTS),
                        funding=draw(AMOUNTS),
                        asset=draw(st.sampled_from(["USDC", "USDC", "USDT"])),
                    )
                )
            case "balance":
                events.append(gateway.balance(draw(AMOUNTS), asset=draw(st.sampled_from(["USDC", "HYPE"]))))
            case "fill":
                events.append(
                    gateway.fill(symbol, symbol[:3] + draw(st.sampled_from("abc")), terminal=draw(st.booleans()))
                )
            case "order":
                events.append(
                    gateway.order(symbol, symbol[:3] + draw(st.sampled_from("abc")), terminal=draw(st.booleans()))
                )
            case "summary":
                events.append(gateway.summary(margin_used=str(draw(st.integers(0, 99)))))
            case _:
                events.append(gateway.freshness(fresh=draw(st.booleans())))
    return events


class SlowModel:
    """Adds everything up anew, in fractions, from the last word on each position and balance."""

    def __init__(self, events: list[event_pb2.Event], marks: dict[tuple[str, str], Decimal]) -> None:
        self.positions = {(e.venue, e.account_id, e.symbol): e.position for e in events if e.HasField("position")}
        self.balances = {
            (e.venue, e.account_id, e.balance.asset): Fraction(e.balance.total) for e in events if e.HasField("balance")
        }
        self.marks = marks

    def check(self, whole: portfolio_pb2.Portfolio) -> None:
        sums: dict[str, dict[str, Fraction]] = defaultdict(lambda: defaultdict(Fraction))
        net: dict[str, list[Fraction | None]] = defaultdict(lambda: [Fraction(), Fraction(), Fraction(), Fraction()])
        for (venue, _, symbol), position in self.positions.items():
            quantity = Fraction(position.quantity)
            mark: Fraction | None = None
            if (venue, symbol) in self.marks:
                mark = Fraction(self.marks[venue, symbol])
            elif position.HasField("mark_price"):
                mark = Fraction(position.mark_price)
            value = quantity * mark if mark is not None else (None if quantity else Fraction())
            profit = None if value is None else value - Fraction(position.open_cost) if quantity else Fraction()
            row = sums[position.settle_asset]
            row["realized"] += Fraction(position.realized_pnl)
            row["fees"] += Fraction(position.fees_paid)
            row["funding"] += Fraction(position.funding_received)
            row["unrealized"] += profit or 0
            row["gross"] += abs(value or 0)
            row["net"] += value or 0
            mine = net[symbol]
            for index, part in enumerate((quantity, abs(quantity), value, profit)):
                mine[index] = None if part is None or mine[index] is None else mine[index] + part
        for (_, _, asset), total in self.balances.items():
            sums[asset]["balance"] += total
        for totals in whole.totals:
            row = sums[totals.asset]
            for name, text in (
                ("balance", totals.balance),
                ("realized", totals.realized_pnl),
                ("fees", totals.fees_paid),
                ("funding", totals.funding_received),
                ("unrealized", totals.unrealized_pnl),
                ("gross", totals.gross_exposure),
                ("net", totals.net_exposure),
            ):
                assert Fraction(text) == row[name], name
            equity = row["balance"] + row["unrealized"]
            assert Fraction(totals.equity) == equity
            assert totals.HasField("leverage") == (equity > 0)
            if equity > 0:
                assert abs(Fraction(totals.leverage) - row["gross"] / equity) <= Fraction(1, 2 * 10**18)
        assert {totals.asset for totals in whole.totals} >= set(sums)
        assert {row.symbol for row in whole.net_positions} == set(net)
        for found in whole.net_positions:
            quantity, gross, value, profit = net[found.symbol]
            assert (Fraction(found.quantity), Fraction(found.gross_quantity)) == (quantity, gross)
            assert (Fraction(found.notional) if found.HasField("notional") else None) == value
            assert (Fraction(found.unrealized_pnl) if found.HasField("unrealized_pnl") else None) == profit


@given(events=histories(), marks=st.dictionaries(st.sampled_from([("hyperliquid", BTC), ("lighter", ETH)]), PRICES))
@settings(max_examples=60, deadline=None)
def test_sums_equal_the_slow_model_to_the_last_digit(
    events: list[event_pb2.Event], marks: dict[tuple[str, str], Decimal]
) -> None:
    """Properties 25 and 26: positions by symbol, venue and account, profit, exposure and equity against fractions."""
    portfolio = Portfolio(EPOCH)
    portfolio.set_marks({instrument: Mark(price=price) for instrument, price in marks.items()})
    for count, event in enumerate(events, start=1):
        portfolio.apply(event)
        SlowModel(events[:count], marks).check(portfolio.message())


@given(events=histories())
@settings(max_examples=30, deadline=None)
def test_replay_gives_the_same_bytes_as_the_live_state(events: list[event_pb2.Event]) -> None:
    """Property 40: folded live, read in between, or folded anew from serialized events."""
    live = Portfolio(EPOCH)
    for sequence, event in enumerate(events, start=1):
        live.delta(live.apply(event), event)
        live.advance(sequence, sequence)
        live.message()
    again = folded(*(event_pb2.Event.FromString(event.SerializeToString()) for event in events))
    assert live.message().SerializeToString(deterministic=True) == again.message().SerializeToString(deterministic=True)


SCOPES = st.builds(
    Scope,
    venues=st.sets(st.sampled_from(["hyperliquid", "lighter"]), max_size=1).map(frozenset),
    account_ids=st.sets(st.sampled_from(["main", "second"]), max_size=1).map(frozenset),
    symbols=st.sets(st.sampled_from([BTC, ETH]), max_size=1).map(frozenset),
)


@given(
    events=histories(), scope=SCOPES, cut=st.integers(0, 16), marks=st.dictionaries(st.just(("lighter", ETH)), PRICES)
)
@settings(max_examples=60, deadline=None)
def test_narrowed_portfolio_equals_one_fed_from_the_beginning(
    events: list[event_pb2.Event], scope: Scope, cut: int, marks: dict[tuple[str, str], Decimal]
) -> None:
    """A filter made late and one made early agree, now and later on."""
    early, whole = Portfolio(EPOCH, scope), Portfolio(EPOCH)
    live = {instrument: Mark(price=price) for instrument, price in marks.items()}
    early.set_marks(live)
    whole.set_marks(live)

    def feed(portfolio: Portfolio, part: list[event_pb2.Event], first: int) -> None:
        for sequence, event in enumerate(part, start=first):
            if portfolio.scope.has(event):
                portfolio.apply(event)
            portfolio.advance(sequence, sequence)

    feed(early, events, 1)
    feed(whole, events[:cut], 1)
    late = whole.narrowed(scope)
    feed(late, events[cut:], cut + 1)
    assert comparable(late.message()) == comparable(early.message())


def test_merged_deltas_do_what_both_did() -> None:
    """Two mark changes joined for a slow reader lose nothing, and the later one wins."""
    gateway = Gateway()
    portfolio = folded(gateway.position(BTC, 1, mark=10), gateway.position(ETH, 1, mark=10), gateway.balance(100))
    first = portfolio.delta(portfolio.set_marks({("hyperliquid", BTC): Mark(price=Decimal(20))}))
    second = portfolio.delta(portfolio.set_marks({("hyperliquid", ETH): Mark(price=Decimal(30))}))
    third = portfolio.delta(portfolio.set_marks({("hyperliquid", BTC): Mark(price=Decimal(40))}))
    merged = merge_deltas(merge_deltas(first, second), third)
    assert {p.symbol: p.mark_price for p in merged.accounts[0].positions} == {BTC: "40", ETH: "30"}
    assert {net.symbol: net.notional for net in merged.net_positions} == {BTC: "40", ETH: "30"}
    assert [totals.equity for totals in merged.totals] == ["170"]
    assert merged.stale_parts_changed
    assert len(merged.stale_parts) == 0
