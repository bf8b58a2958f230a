"""Order states as messages and back."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.venuemesh.gateway.order_facts import NOW_NS, fill, new_order, run, terms
from tests.unit.venuemesh.gateway.test_orders import facts
from venuemesh.gateway.facts import Accepted, Fact, Filled
from venuemesh.gateway.order_wire import (
    fingerprint_of,
    from_order,
    nanoseconds,
    new_order_state,
    order_id_of,
    timestamp,
    to_fill,
    to_order,
)
from venuemesh.gateway.orders import OrderState
from venuemesh.v1 import order_pb2 as pb


def stored_fills(state: OrderState, history: list[Fact]) -> list[pb.Fill]:
    """The fill messages that the events of this history hold."""
    rows, seen = [], set()
    for fact in history:
        if isinstance(fact, Filled) and fact.fill.execution_id not in seen:
            seen.add(fact.fill.execution_id)
            rows.append(to_fill(fact.fill, venue="fake", account_id="main", order=state, received_ns=NOW_NS))
    return rows


@settings(max_examples=200, deadline=None)
@given(st.lists(facts, max_size=12))
def test_order_survives_the_round_trip(history: list[Fact]) -> None:
    """What a restart reads back equals what was, but for an end whose fills were due: reconciliation asks for that."""
    state = run(new_order(), history)
    back = from_order(to_order(state), stored_fills(state, history))
    # The stored terms are the ones in force; the fingerprint keeps what was first submitted.
    assert replace(back, terms=state.terms, ending=state.ending) == state
    assert to_order(back) == to_order(state)
    again = pb.Order.FromString(to_order(state).SerializeToString())
    assert from_order(again, stored_fills(state, history)) == back


@settings(max_examples=100, deadline=None)
@given(st.lists(facts, max_size=12))
def test_order_read_without_its_fills_shows_the_same_message(history: list[Fact]) -> None:
    """Of an old order only the last word is kept: its average price must not come out as 0."""
    shown = to_order(run(new_order(), history))
    assert to_order(from_order(shown, [])) == shown


def test_message_of_a_working_order_adds_up() -> None:
    """filled + leaves = quantity on the wire, and the flags are the state's."""
    state = run(new_order(), [Accepted(venue_order_id="7"), Filled(fill=fill("a", "2.5"))])
    order = to_order(state)
    assert (order.filled_quantity, order.leaves_quantity, order.terms.quantity) == ("2.5", "7.5", "10")
    assert (order.working, order.terminal, order.uncertain) == (True, False, False)
    assert order.average_price == "100"
    assert [(fee.asset, fee.amount) for fee in order.fees] == [("USDC", "0.01")]


# No part can hold the separator: keys have their own alphabet, names come from the environment, which has no NUL.
names = st.text(st.sampled_from("ab/-_ .é"), max_size=4)


@settings(max_examples=300, deadline=None)
@given(st.tuples(names, names, names), st.tuples(names, names, names))
def test_order_ids_differ_where_keys_differ(left: tuple[str, str, str], right: tuple[str, str, str]) -> None:
    """Property 17, by construction: no two keys share an id, wherever one part ends and the next begins."""
    assert (order_id_of(*left) == order_id_of(*right)) == (left == right)


def test_order_id_is_32_hex_digits_and_stays_the_same_for_ever() -> None:
    """Orders of running systems are found by it: a change of the rule loses them."""
    assert order_id_of("hyperliquid", "main", "key-1") == ORDER_ID


ORDER_ID = "7cd167e260265c83ee71743c8e8ad38b"


CHANGES: list[dict[str, object]] = [
    {"quantity": "11"},
    {"price": "101"},
    {"side": pb.SIDE_SELL},
    {"symbol": "ETH/USDC:USDC"},
    {"time_in_force": pb.TIME_IN_FORCE_IOC},
    {"order_type": pb.ORDER_TYPE_STOP_LIMIT},
    {"trigger": pb.Trigger(price="9")},
    {"instructions": [pb.EXECUTION_INSTRUCTION_POST_ONLY]},
    {"expire_time": timestamp(NOW_NS)},
    {"max_slippage_bps": 0},
    {"twap": pb.TwapSchedule(duration=Duration(seconds=60))},
    {"self_trade_prevention": pb.SELF_TRADE_PREVENTION_CANCEL_RESTING},
    {"parent_order_id": "p"},
    {"tags": {"a": "b"}},
    {"venue": "other"},
    {"account_id": "other"},
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_fingerprint_changes_with_every_field_but_the_correlation_id(change: dict[str, object]) -> None:
    """A key reused with other content is told from a repeat."""
    assert fingerprint_of(terms(**change)) != fingerprint_of(terms())  # type: ignore[arg-type]


def test_fingerprint_ignores_the_correlation_id_and_the_order_of_tags() -> None:
    """A retry may carry another correlation id."""
    assert fingerprint_of(terms(correlation_id="x")) == fingerprint_of(terms(correlation_id="y"))
    left, right = terms(tags={"a": "1", "b": "2"}), terms(tags={"b": "2", "a": "1"})
    assert fingerprint_of(left) == fingerprint_of(right)


def test_every_field_of_new_order_is_judged_by_a_test_above() -> None:
    """A field added to the contract must be considered here."""
    judged = {next(iter(change)) for change in CHANGES} | {"correlation_id", "client_order_id"}
    assert judged == {field.name for field in pb.NewOrder.DESCRIPTOR.fields}


def test_new_order_state_keeps_its_own_terms() -> None:
    """The caller's message may be changed or reused afterwards."""
    mine = terms()
    state = new_order_state(mine, order_id="o", venue_symbol="BTC", venue_client_order_id="0xo", now_ns=NOW_NS)
    mine.quantity = "99"
    assert state.terms.quantity == "10"
    assert state.quantity == Decimal(10)


@given(st.integers(0, 2**62))
def test_timestamps_keep_nanoseconds(ns: int) -> None:
    """Integers in and out, no floats between."""
    assert nanoseconds(timestamp(ns)) == ns
