"""Choosing a venue over a snapshot of books."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.assess import Candidate, assess
from router.cost import cost_curve, cost_of, walk_book
from router.selection import Decision, Wish, decide
from router.terms import OrderTerms
from router.views import BookView, FeeRates, Funding, Level, Refusal, Rules, VenueView
from venuemesh.errors import Reason
from venuemesh.v1 import instrument_pb2, order_pb2, routing_pb2, venue_pb2

BEST_PRICE = routing_pb2.ROUTING_STRATEGY_BEST_PRICE
RULES = Rules(max_book_age_s=5)
SYMBOL = "BTC/USDC:USDC"


def terms(**changes: Any) -> OrderTerms:
    values: dict[str, Any] = {
        "account_id": "main",
        "symbol": SYMBOL,
        "is_buy": True,
        "order_type": order_pb2.ORDER_TYPE_MARKET,
        "quantity": Decimal(1),
        "price": None,
        "time_in_force": order_pb2.TIME_IN_FORCE_IOC,
        "instructions": frozenset(),
        "max_slippage_bps": None,
        **changes,
    }
    return OrderTerms(**values)


def limit(price: str, **changes: Any) -> OrderTerms:
    return terms(
        **{
            "order_type": order_pb2.ORDER_TYPE_LIMIT,
            "price": Decimal(price),
            "time_in_force": order_pb2.TIME_IN_FORCE_GTC,
            **changes,
        }
    )


def capabilities() -> venue_pb2.VenueCapabilities:
    support = venue_pb2.OrderTypeSupport
    return venue_pb2.VenueCapabilities(
        order_types=[
            support(order_type=order_pb2.ORDER_TYPE_MARKET),
            support(
                order_type=order_pb2.ORDER_TYPE_LIMIT,
                times_in_force=[order_pb2.TIME_IN_FORCE_GTC, order_pb2.TIME_IN_FORCE_IOC],
                instructions=[order_pb2.EXECUTION_INSTRUCTION_POST_ONLY],
            ),
        ]
    )


def instrument(**changes: Any) -> instrument_pb2.Instrument:
    values: dict[str, Any] = {
        "symbol": SYMBOL,
        "state": instrument_pb2.INSTRUMENT_STATE_TRADING,
        "price_rule": instrument_pb2.PriceRule(tick_size="0.01"),
        "quantity_rule": instrument_pb2.QuantityRule(step_size="0.001", min_notional="0.001"),
        "taker_fee_rate": "0.0004",
        **changes,
    }
    return instrument_pb2.Instrument(**values)


def levels(*pairs: tuple[str, str]) -> tuple[Level, ...]:
    return tuple(Level(Decimal(price), Decimal(quantity)) for price, quantity in pairs)


def book(bids: tuple[Level, ...] = (), asks: tuple[Level, ...] = (), **changes: Any) -> BookView:
    return BookView(bids=bids, asks=asks, **{"age_s": 0.1, **changes})


def venue(name: str, seen: BookView | None = None, **changes: Any) -> VenueView:
    values: dict[str, Any] = {
        "venue": name,
        "account_ids": frozenset({"main"}),
        "capabilities": capabilities(),
        "instrument": instrument(),
        "book": seen,
        **changes,
    }
    return VenueView(**values)


def choose(
    order: OrderTerms, *views: VenueView, rules: Rules = RULES, strategy: int = BEST_PRICE, **wish: Any
) -> Decision:
    wanted = Wish(strategy=strategy, **wish)
    return decide(wanted, order, [assess(order, view, rules) for view in views])


def test_buy_takes_the_venue_that_is_cheaper_for_the_whole_quantity() -> None:
    """The best first level loses when what lies behind it is dear."""
    thin = venue("thin", book(asks=levels(("100", "0.1"), ("110", "5"))))
    deep = venue("deep", book(asks=levels(("101", "5"))))
    decision = choose(terms(), thin, deep)
    assert decision.chosen is not None
    assert decision.chosen.venue == "deep"
    assert [one.cost for one in decision.candidates] == [Decimal(101), Decimal(109)]


def test_sale_takes_the_venue_that_pays_more() -> None:
    """Higher bids win."""
    low = venue("low", book(bids=levels(("99", "5"))))
    high = venue("high", book(bids=levels(("99.5", "5"))))
    decision = choose(terms(is_buy=False), low, high)
    assert decision.chosen is not None
    assert decision.chosen.venue == "high"


def test_comparison_is_exact_where_28_digits_would_tie() -> None:
    """Costs that differ in the last of 38 digits are told apart."""
    quantity = Decimal("10000000000000000000.000000000000000001")
    dear = venue("a", book(asks=(Level(Decimal("1.000000000000000001"), quantity),)))
    cheap = venue("b", book(asks=(Level(Decimal("1"), quantity),)))
    plain = instrument(quantity_rule=instrument_pb2.QuantityRule())
    views = [dataclasses.replace(one, instrument=plain) for one in (dear, cheap)]
    decision = choose(terms(quantity=quantity), *views)
    assert decision.chosen is not None
    assert decision.chosen.venue == "b"


def test_limit_order_counts_what_rests_at_its_own_price() -> None:
    """Half taken at 99 and half resting at 100 beats all at 99.75."""
    half = venue("half", book(asks=levels(("99", "0.5"))))
    full = venue("full", book(asks=levels(("99.75", "1"))))
    decision = choose(limit("100"), full, half)
    assert decision.chosen is not None
    assert decision.chosen.venue == "half"
    assert decision.chosen.cost == Decimal("99.5")


def test_passive_limit_order_prefers_the_nearest_opposite_price() -> None:
    """Nothing fills at once anywhere, so the venue closest to filling wins; then the name."""
    far, near = venue("a", book(asks=levels(("110", "1")))), venue("b", book(asks=levels(("105", "1"))))
    same = venue("c", book(asks=levels(("105", "1"))))
    assert [one.venue for one in choose(limit("100"), same, far, near).candidates] == ["b", "c", "a"]


def test_ioc_limit_order_goes_where_most_of_it_fills() -> None:
    """A cheaper scrap loses to a full fill within the limit."""
    scrap = venue("scrap", book(asks=levels(("90", "0.1"), ("200", "9"))))
    full = venue("full", book(asks=levels(("100", "9"))))
    order = limit("100", time_in_force=order_pb2.TIME_IN_FORCE_IOC)
    decision = choose(order, scrap, full)
    assert decision.chosen is not None
    assert decision.chosen.venue == "full"


def dear_rule() -> instrument_pb2.QuantityRule:
    return instrument_pb2.QuantityRule(step_size="0.001", min_notional="1000")


ASKS = book(asks=levels(("100", "5")), bids=levels(("99", "5")))


@pytest.mark.parametrize(
    ("order", "view", "reason"),
    [
        (terms(), venue("v", ASKS, unreachable="gone"), Reason.GATEWAY_UNAVAILABLE),
        (terms(), venue("v", ASKS, state=venue_pb2.VENUE_STATE_RECONCILING), Reason.STREAM_RECONCILING),
        (terms(), venue("v", ASKS, state=venue_pb2.VENUE_STATE_DOWN), Reason.VENUE_DISCONNECTED),
        (terms(), venue("v", ASKS, state=venue_pb2.VENUE_STATE_DEGRADED), Reason.VENUE_UNAVAILABLE),
        (terms(), venue("v", ASKS, state=venue_pb2.VENUE_STATE_DRAINING), Reason.GATEWAY_DRAINING),
        (terms(), venue("v", ASKS, state=venue_pb2.VENUE_STATE_POST_ONLY), Reason.VENUE_POST_ONLY_WINDOW),
        (terms(), venue("v", ASKS, state=9999), Reason.VENUE_UNAVAILABLE),
        (terms(), venue("v", ASKS, account_ids=frozenset()), Reason.ACCOUNT_NOT_FOUND),
        (terms(), venue("v", ASKS, instrument=None), Reason.INSTRUMENT_NOT_FOUND),
        (
            terms(),
            venue("v", ASKS, instrument=instrument(state=instrument_pb2.INSTRUMENT_STATE_HALTED)),
            Reason.INSTRUMENT_NOT_TRADING,
        ),
        (terms(), venue("v", ASKS, capabilities=venue_pb2.VenueCapabilities()), Reason.UNSUPPORTED_ORDER_TYPE),
        (limit("100", time_in_force=9999), venue("v", ASKS), Reason.UNSUPPORTED_TIME_IN_FORCE),
        (limit("100", instructions=frozenset({9999})), venue("v", ASKS), Reason.UNSUPPORTED_INSTRUCTION),
        (terms(quantity=Decimal("0.0005")), venue("v", ASKS), Reason.QUANTITY_OFF_LOT),
        (limit("100.001"), venue("v", ASKS), Reason.PRICE_OFF_TICK),
        (limit("0.01", quantity=Decimal("0.001")), venue("v", ASKS), Reason.BELOW_MIN_NOTIONAL),
        (
            terms(),
            venue("v", ASKS, instrument=instrument(quantity_rule=dear_rule())),
            Reason.BELOW_MIN_NOTIONAL,
        ),
        (terms(), venue("v", None, book_fault="silent"), Reason.VENUE_UNAVAILABLE),
        (terms(), venue("v", dataclasses.replace(ASKS, stale_cause="link down")), Reason.VENUE_UNAVAILABLE),
        (terms(), venue("v", dataclasses.replace(ASKS, age_s=5.1)), Reason.VENUE_UNAVAILABLE),
        (terms(quantity=Decimal(6)), venue("v", ASKS), Reason.NO_LIQUIDITY),
        (terms(), venue("v", book()), Reason.NO_LIQUIDITY),
        (limit("99", time_in_force=order_pb2.TIME_IN_FORCE_IOC), venue("v", ASKS), Reason.NO_LIQUIDITY),
        (
            limit("100", instructions=frozenset({order_pb2.EXECUTION_INSTRUCTION_POST_ONLY})),
            venue("v", ASKS),
            Reason.POST_ONLY_WOULD_CROSS,
        ),
    ],
)
def test_venue_that_cannot_take_the_order_is_left_out_with_its_reason(
    order: OrderTerms, view: VenueView, reason: Reason
) -> None:
    """Each cause has its reason and some words."""
    decision = choose(order, view)
    (candidate,) = decision.candidates
    assert candidate.refusal is not None
    assert candidate.refusal.reason is reason
    assert candidate.refusal.message
    assert decision.chosen is None


def test_excluded_venue_is_left_out_even_with_the_best_price() -> None:
    """The instruction's exclusion holds."""
    best, other = venue("best", book(asks=levels(("90", "5")))), venue("other", ASKS)
    decision = choose(terms(), best, other, rules=Rules(max_book_age_s=5, excluded=frozenset({"best"})))
    assert [one.venue for one in decision.candidates] == ["other", "best"]


def test_post_only_order_passes_a_post_only_window() -> None:
    """The window takes what cannot take."""
    order = limit("99", instructions=frozenset({order_pb2.EXECUTION_INSTRUCTION_POST_ONLY}))
    assert choose(order, venue("v", ASKS, state=venue_pb2.VENUE_STATE_POST_ONLY)).chosen is not None


def test_slippage_bound_of_a_market_order_ends_the_walk() -> None:
    """100 bps from 100 is 101: the level at 101 counts, the one at 101.01 does not."""
    asks = levels(("100", "1"), ("101", "1"), ("101.01", "1"))
    walk = walk_book(asks, terms(quantity=Decimal(3), max_slippage_bps=100))
    assert (walk.taken, walk.notional, walk.available) == (Decimal(2), Decimal(201), Decimal(2))


PRICES = st.integers(min_value=1, max_value=400).map(lambda n: Decimal(n).scaleb(-1))
QUANTITIES = st.integers(min_value=1, max_value=50).map(lambda n: Decimal(n).scaleb(-2))


@st.composite
def books(draw: st.DrawFn) -> BookView:
    """Both sides, best first, with ages around the bound and now and then marked stale."""

    def side(reverse: bool) -> tuple[Level, ...]:
        prices = draw(st.lists(PRICES, max_size=5, unique=True))
        return tuple(Level(price, draw(QUANTITIES)) for price in sorted(prices, reverse=reverse))

    return BookView(
        bids=side(True),
        asks=side(False),
        age_s=draw(st.sampled_from([0.0, 4.9, 5.1])),
        stale_cause=draw(st.sampled_from(["", "", "", "stale"])),
    )


def brute_force_cost(order: OrderTerms, seen: BookView) -> tuple[Fraction, Fraction] | None:
    """What is left unfilled and what it costs, one hundredth at a time; None when the venue may not be used."""
    if seen.stale_cause or seen.age_s > RULES.max_book_age_s:
        return None
    step = Fraction(1, 100)
    units: list[Fraction] = []
    for level in seen.asks if order.is_buy else seen.bids:
        price = Fraction(level.price)
        if order.price is not None and (price > order.price if order.is_buy else price < order.price):
            continue
        units += [price] * int(Fraction(level.quantity) / step)
    wanted = int(Fraction(order.quantity) / step)
    units = sorted(units, reverse=not order.is_buy)[:wanted]
    missing = wanted - len(units)
    if order.may_rest:
        assert order.price is not None
        return Fraction(0), (sum(units, Fraction(0)) + missing * Fraction(order.price)) * step
    if not units or (order.all_or_nothing and missing):
        return None
    return missing * step, sum(units, Fraction(0)) * step


@settings(max_examples=150, deadline=None)
@given(
    seen=st.lists(books(), min_size=1, max_size=4),
    is_buy=st.booleans(),
    quantity=QUANTITIES,
    price=st.none() | PRICES,
    rests=st.booleans(),
)
def test_chosen_venue_is_the_brute_force_best(
    seen: list[BookView], is_buy: bool, quantity: Decimal, price: Decimal | None, rests: bool
) -> None:
    """No usable venue fills more of an order that cannot rest, and none of those is cheaper (or pays more)."""
    if price is None:
        order = terms(is_buy=is_buy, quantity=quantity)
    else:
        time_in_force = order_pb2.TIME_IN_FORCE_GTC if rests else order_pb2.TIME_IN_FORCE_IOC
        order = limit(str(price), is_buy=is_buy, quantity=quantity, time_in_force=time_in_force)
    views = [venue(f"v{place}", one) for place, one in enumerate(seen)]
    decision = choose(order, *views)
    sign = 1 if is_buy else -1
    usable = {
        f"v{place}": (result[0], sign * result[1])
        for place, one in enumerate(seen)
        if (result := brute_force_cost(order, one)) is not None
    }
    assert {one.venue for one in decision.candidates if one.refusal is None} == set(usable)
    if decision.chosen is None:
        assert not usable
    else:
        assert usable[decision.chosen.venue] == min(usable.values())
        assert isinstance(decision.chosen, Candidate)
        assert decision.chosen.cost is not None
        assert Fraction(decision.chosen.cost) == sign * usable[decision.chosen.venue][1]


# --- strategies and splits ---

FEES, LIQUIDITY = routing_pb2.ROUTING_STRATEGY_LOWEST_FEES, routing_pb2.ROUTING_STRATEGY_HIGHEST_LIQUIDITY
PREFERENCE, ALL_IN = routing_pb2.ROUTING_STRATEGY_USER_PREFERENCE, routing_pb2.ROUTING_STRATEGY_ALL_IN_COST
WHEN_CHEAPER, ALWAYS = routing_pb2.SPLIT_MODE_WHEN_CHEAPER, routing_pb2.SPLIT_MODE_ALWAYS


def rates(maker: str, taker: str) -> FeeRates:
    return FeeRates(maker=Decimal(maker), taker=Decimal(taker))


def first(decision: Decision) -> str:
    assert decision.chosen is not None
    return decision.chosen.venue


def test_each_strategy_applies_the_criterion_it_names() -> None:
    """P21: one snapshot, a different winner for every criterion."""
    deep = levels(("100.05", "50"))
    views = [
        venue("priced", book(asks=levels(("100", "2"), ("109", "9"))), fees=rates("0", "0.01")),
        venue("free", book(asks=levels(("103", "9"))), fees=rates("0", "0")),
        venue("deep", book(asks=deep), fees=rates("0", "0.02")),
        venue("sound", book(asks=levels(("100.5", "9"))), fees=rates("0", "0.0005")),
    ]
    winners = {
        strategy: first(choose(terms(), *views, strategy=strategy))
        for strategy in (BEST_PRICE, FEES, LIQUIDITY, ALL_IN)
    }
    assert winners == {BEST_PRICE: "priced", FEES: "free", LIQUIDITY: "deep", ALL_IN: "sound"}
    preferred = choose(terms(), *views, strategy=PREFERENCE, preferred=("deep", "free"))
    assert first(preferred) == "deep"
    assert [one.venue for one in preferred.candidates if one.refusal] == ["priced", "sound"]


def test_preferred_venue_that_cannot_take_the_order_gives_way_to_the_next() -> None:
    """P3: the first usable one, with the other's reason."""
    away, here = venue("away", ASKS, unreachable="gone"), venue("here", ASKS)
    decision = choose(terms(), away, here, strategy=PREFERENCE, preferred=("away", "here"))
    assert first(decision) == "here"
    assert decision.candidates[1].refusal is not None


def test_depth_beyond_reach_and_a_wide_spread_lose_for_liquidity() -> None:
    """P22: quantity counts near the best price of all only; at equal depth the narrower spread wins."""
    far = venue("far", book(asks=levels(("105", "900"))))
    wide = venue("wide", book(asks=levels(("100", "5")), bids=levels(("90", "5"))))
    narrow = venue("narrow", book(asks=levels(("100", "5")), bids=levels(("99", "5"))))
    decision = choose(terms(), far, wide, narrow, strategy=LIQUIDITY)
    assert [one.venue for one in decision.candidates] == ["narrow", "wide", "far"]
    assert decision.near == {"far": 0, "wide": 5, "narrow": 5}


def test_funding_is_paid_by_a_buyer_and_received_by_a_seller() -> None:
    """The same rate attracts one side and repels the other, more so over a longer horizon."""
    quoted = book(bids=levels(("99.9", "5")), asks=levels(("100", "5")))
    fee = rates("0", "0")
    paying = venue("paying", quoted, fees=fee, funding=Funding(rate=Decimal("0.0001"), interval_s=3_600))
    plain = venue("plain", quoted, fees=fee)
    for is_buy, winner in ((True, "plain"), (False, "paying")):
        assert first(choose(terms(is_buy=is_buy), plain, paying, strategy=ALL_IN)) == winner
    decision = choose(terms(), paying, rules=dataclasses.replace(RULES, horizon_s=7_200), strategy=ALL_IN)
    assert decision.candidates[0].funding == Decimal("0.02")
    assert decision.candidates[0].all_in == Decimal("100.02")


def test_resting_order_pays_the_makers_fee_and_an_unknown_fee_is_assumed() -> None:
    """Passive orders compare maker rates; a venue that tells nothing is taken to charge the rule's rate."""
    quoted = book(asks=levels(("110", "5")))
    cheap = venue("cheap", quoted, fees=rates("0.0001", "0.009"))
    silent = venue("silent", quoted, instrument=instrument(taker_fee_rate=None))
    decision = choose(limit("100"), silent, cheap, strategy=FEES)
    assert first(decision) == "cheap"
    assert [one.fee for one in decision.candidates] == [Decimal("0.01"), Decimal("0.1")]
    assert decision.candidates[1].fees is None


def test_split_gathers_what_no_venue_has_alone_and_keeps_position_limits() -> None:
    """Six from books of five; where a limit leaves room for two, the other gives four."""
    views = [venue("a", ASKS, room=Decimal(2)), venue("b", ASKS)]
    order = terms(quantity=Decimal(6))
    assert choose(order, *views).chosen is None
    decision = choose(order, *views, strategy=ALL_IN, split_mode=WHEN_CHEAPER)
    assert {part.venue: part.quantity for part in decision.parts} == {"a": 2, "b": 4}
    none = choose(order, venue("a", ASKS, room=Decimal(0)), venue("b", ASKS), strategy=ALL_IN, split_mode=WHEN_CHEAPER)
    assert none.parts == ()
    assert {one.refusal.reason for one in none.candidates if one.refusal} == {
        Reason.POSITION_LIMIT_REACHED,
        Reason.NO_LIQUIDITY,
    }


def test_venue_barred_from_outside_is_left_out_with_that_reason() -> None:
    """P3: what a breaker says is the candidate's reason."""
    barred = venue("a", ASKS, barred=Refusal(Reason.CIRCUIT_OPEN, "breaker is open"))
    decision = choose(terms(), barred, venue("b", ASKS), split_mode=ALWAYS)
    assert first(decision) == "b"
    assert decision.candidates[1].refusal == Refusal(Reason.CIRCUIT_OPEN, "breaker is open")


def test_quantity_off_every_lot_is_refused_as_that() -> None:
    """P24: neither alone nor in parts."""
    decision = choose(terms(quantity=Decimal("1.0005")), venue("a", ASKS), venue("b", ASKS), split_mode=ALWAYS)
    assert decision.parts == ()
    assert {one.refusal.reason for one in decision.candidates if one.refusal} == {Reason.QUANTITY_OFF_LOT}


def test_order_to_fill_or_kill_is_never_split() -> None:
    """No two venues can promise that together."""
    seen = venue_pb2.VenueCapabilities()
    seen.CopyFrom(capabilities())
    seen.order_types[1].times_in_force.append(order_pb2.TIME_IN_FORCE_FOK)
    order = limit("100", quantity=Decimal(6), time_in_force=order_pb2.TIME_IN_FORCE_FOK)
    views = [venue(name, ASKS, capabilities=seen) for name in ("a", "b")]
    assert choose(order, *views, strategy=ALL_IN, split_mode=ALWAYS).parts == ()


@settings(max_examples=150, deadline=None)
@given(
    seen=st.lists(books(), min_size=2, max_size=4),
    is_buy=st.booleans(),
    quantity=QUANTITIES,
    price=st.none() | PRICES,
    rests=st.booleans(),
    mode=st.sampled_from([WHEN_CHEAPER, ALWAYS]),
)
def test_parts_sum_to_the_order_obey_the_rules_and_use_no_venue_at_fault(
    seen: list[BookView], is_buy: bool, quantity: Decimal, price: Decimal | None, rests: bool, mode: int
) -> None:
    """P3, P23, P24: over any books; and splitting when cheaper never costs more than the best venue alone."""
    if price is None:
        order = terms(is_buy=is_buy, quantity=quantity)
    else:
        time_in_force = order_pb2.TIME_IN_FORCE_GTC if rests else order_pb2.TIME_IN_FORCE_IOC
        order = limit(str(price), is_buy=is_buy, quantity=quantity, time_in_force=time_in_force)
    views = [venue(f"v{place}", one) for place, one in enumerate(seen)]
    alone = choose(order, *views, strategy=ALL_IN)
    decision = choose(order, *views, strategy=ALL_IN, split_mode=mode)
    if alone.parts:
        assert decision.parts
    if not decision.parts:
        return
    assert sum(part.quantity for part in decision.parts) == quantity
    by_name = {one.venue: one for one in decision.candidates}
    for part in decision.parts:
        candidate, view = by_name[part.venue], seen[int(part.venue[1:])]
        assert not view.stale_cause
        assert view.age_s <= RULES.max_book_age_s
        assert candidate.domain is not None
        assert candidate.domain.least <= part.quantity <= candidate.domain.most
        assert part.quantity % candidate.domain.step == 0
    if mode == WHEN_CHEAPER and alone.chosen is not None and order.all_or_nothing:
        costs = [
            cost_of(cost_curve(by_name[part.venue].levels, order, by_name[part.venue].charges), part.quantity)
            for part in decision.parts
        ]
        assert sum(costs) <= alone.chosen.all_in
