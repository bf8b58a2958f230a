"""Profit by period: the periods add up to the portfolio's own sums, at whatever grain they are kept."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.performance import DAY_S, HOUR_S, MINUTE_S, Performance
from aggregator.portfolio import Portfolio
from aggregator.reading import Scope
from tests.unit.aggregator.gateway_events import BTC, EPOCH, ETH, START, Gateway
from venuemesh.errors import InvalidRequest
from venuemesh.v1 import event_pb2, order_pb2, portfolio_pb2

BEGIN_S = int(START.timestamp())
ALL = Scope()


def at(event: event_pb2.Event, seconds: int) -> event_pb2.Event:
    """The event with the venue's time so many seconds behind the start."""
    event.venue_time.seconds = BEGIN_S + seconds
    return event


def fed(performance: Performance, *events: event_pb2.Event) -> Portfolio:
    portfolio = Portfolio(EPOCH)
    for event in events:
        change = portfolio.apply(event)
        performance.take(event, trade=change.trade, holding=change.holding, movements=change.movements)
    return portfolio


def numbers(performances: list[portfolio_pb2.Performance]) -> list[tuple[str, str, str, str, int, str]]:
    return [(p.asset, p.realized_pnl, p.fees_paid, p.funding_received, p.fill_count, p.volume) for p in performances]


def test_each_event_counts_in_the_minute_of_its_venue_time() -> None:
    """What a position adds to its sums belongs to the event that added it; bounds are half open."""
    gateway, performance = Gateway(), Performance()
    fed(
        performance,
        at(gateway.fill(BTC, "a"), 10),
        at(gateway.position(BTC, 1, cost=100, fees="0.1"), 10),
        at(gateway.position(BTC, 0, realized="7", fees="0.2"), 60),
        at(gateway.position(BTC, 0, realized="7", fees="0.2", funding="-1"), 125),
    )
    assert numbers(performance.period(ALL, BEGIN_S, BEGIN_S + 60)) == [("USDC", "0", "0.1", "0", 1, "100")]
    assert numbers(performance.period(ALL, BEGIN_S + 60, BEGIN_S + 120)) == [("USDC", "7", "0.1", "0", 0, "0")]
    assert numbers(performance.period(ALL, BEGIN_S, BEGIN_S + 180)) == [("USDC", "7", "0.2", "-1", 1, "100")]
    assert performance.period(ALL, BEGIN_S + 180, BEGIN_S + 240) == []


def test_event_without_a_venue_time_counts_when_its_gateway_published_it() -> None:
    """Reconciliation has no time of the venue's."""
    gateway, performance = Gateway(), Performance()
    fed(performance, gateway.position(BTC, 0, realized="7"))
    assert len(performance.period(ALL, BEGIN_S, BEGIN_S + 60)) == 1


def test_spot_trade_counts_its_value_and_its_fee_in_their_assets() -> None:
    """A fee in the bought asset is that asset's."""
    gateway, performance = Gateway(), Performance()
    trade = gateway.fill("HYPE/USDC", "a")
    trade.execution_report.fill.fee_asset = "HYPE"
    trade.execution_report.fill.side = order_pb2.SIDE_SELL
    fed(performance, at(trade, 0))
    assert numbers(performance.period(ALL, BEGIN_S, BEGIN_S + 60)) == [
        ("HYPE", "0", "0.1", "0", 0, "0"),
        ("USDC", "0", "0", "0", 1, "100"),
    ]


def test_filter_leaves_out_other_venues_accounts_and_symbols() -> None:
    """A period of one part."""
    here, there, performance = Gateway(), Gateway("lighter", "desk"), Performance()
    fed(
        performance,
        at(here.position(BTC, 0, realized=1), 0),
        at(here.position(ETH, 0, realized=2), 0),
        at(there.position(BTC, 0, realized=4), 0),
    )

    def realized(**scope: frozenset[str]) -> str:
        return performance.period(Scope(**scope), BEGIN_S, BEGIN_S + 60)[0].realized_pnl

    assert realized(venues=frozenset({"lighter"})) == "4"
    assert realized(account_ids=frozenset({"main"})) == "3"
    assert realized(symbols=frozenset({BTC})) == "5"


def test_sums_from_before_the_log_begins_are_no_periods_and_it_says_so() -> None:
    """A log that lost its beginning cannot tell when that was earned."""
    gateway, performance = Gateway(), Performance()
    performance.begins_late = True
    fed(
        performance,
        at(gateway.position(BTC, 1, cost=1, realized=1_000), 0),
        at(gateway.position(BTC, 1, cost=1, realized=1_005), 0),
    )
    (period,) = performance.period(ALL, BEGIN_S, BEGIN_S + 60, lost=["hyperliquid/main: event 7"])
    assert period.realized_pnl == "5"
    assert list(period.leaves_out) == [
        "events that the log had lost before it was read",
        "hyperliquid/main: event 7",
    ]


def test_old_periods_are_kept_by_the_hour_and_the_day_and_must_be_asked_for_so() -> None:
    """Rows stay few; a bound inside what is kept as one is refused by name, none is guessed."""
    gateway, performance = Gateway(), Performance(max_rows=80)
    for minute in range(0, 60 * 24 * 30, 97):
        fed(performance, at(gateway.fill(BTC, "a"), minute * MINUTE_S))
    assert len(performance.rows) <= 80
    assert 0 < performance.by_day_before_s <= performance.by_hour_before_s
    assert (performance.by_day_before_s % DAY_S, performance.by_hour_before_s % HOUR_S) == (0, 0)
    end_s = BEGIN_S + 31 * DAY_S
    with pytest.raises(InvalidRequest, match="from_time: must be a whole day"):
        performance.period(ALL, BEGIN_S + HOUR_S, end_s)
    (whole,) = performance.period(ALL, BEGIN_S, end_s)
    assert whole.fill_count == len(range(0, 60 * 24 * 30, 97))


@given(
    steps=st.lists(
        st.tuples(st.sampled_from([BTC, ETH]), st.integers(0, 3 * DAY_S), st.integers(-50, 50), st.integers(-5, 5)),
        min_size=1,
        max_size=40,
    ),
    max_rows=st.integers(1, 40),
    cuts=st.lists(st.integers(0, 4), max_size=3),
)
@settings(max_examples=60, deadline=None)
def test_periods_add_up_to_the_portfolio(
    steps: list[tuple[str, int, int, int]], max_rows: int, cuts: list[int]
) -> None:
    """Property 26: days that do not overlap sum to what the totals say, to the last digit, however coarse the rows."""
    gateway, performance = Gateway(), Performance(max_rows=max_rows)
    sums = {BTC: [0, 0], ETH: [0, 0]}
    events = []
    for symbol, seconds, realized, fees in steps:
        sums[symbol][0] += realized
        sums[symbol][1] += fees
        event = gateway.position(symbol, 0, realized=f"{sums[symbol][0]}", fees=sums[symbol][1])
        events.append(at(event, seconds))
    totals = fed(performance, *events).totals("USDC")
    bounds = [BEGIN_S, *(BEGIN_S + day * DAY_S for day in sorted({*cuts, 4}) if day)]
    parts = [part for a, b in pairwise(bounds) for part in performance.period(ALL, a, b)]
    assert sum((Fraction(part.realized_pnl) for part in parts), Fraction()) == Fraction(totals.realized_pnl)
    assert sum((Fraction(part.fees_paid) for part in parts), Fraction()) == Fraction(totals.fees_paid)
