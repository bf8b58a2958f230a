"""Whose fills the fills of a TWAP's slices are."""

from __future__ import annotations

from typing import Any

import pytest

from gateway_lighter import slices
from gateway_lighter.normalizer import normalize_fills
from gateway_lighter.slices import Slices
from tests.unit.gateway_lighter.adapter.shapes import ACCOUNT, MARKET, order, trade
from venuemesh.gateway.venue import VenueFill

PARENT, SLICE = 900, 901


def fill(order_index: int, client_index: int = 0, trade_id: int = 9) -> VenueFill:
    """We sold with this order."""
    row = trade(ask_id=order_index, ask_client_id=client_index, trade_id=trade_id)
    (found,) = normalize_fills(row, MARKET, account_index=ACCOUNT)
    return found


def parent(**changes: Any) -> Any:
    """A TWAP's row."""
    return order(**({"order_index": PARENT, "type": "twap", "status": "pending", "client_order_index": 77} | changes))


def slice_row(index: int = SLICE, **changes: Any) -> Any:
    """A slice's row."""
    values = {"order_index": index, "client_order_index": 0, "type": "twap-sub", "parent_order_index": PARENT}
    return order(**(values | {"status": "filled"} | changes))


def test_fill_of_a_known_slice_is_its_twaps_and_keeps_its_own_id() -> None:
    """Stream and query name the same execution."""
    known = Slices()
    assert known.learn(parent()) == []
    assert known.learn(slice_row()) == []
    (told,) = known.receive(fill(SLICE))
    assert (told.venue_order_id, told.venue_client_order_id) == (str(PARENT), "77")
    assert told.execution_id == fill(SLICE).execution_id


def test_fill_waits_for_the_row_of_its_order_only_while_a_twap_works() -> None:
    """Of an order with a client index, and of an account without TWAPs, nothing waits."""
    known = Slices()
    assert known.receive(fill(SLICE)) == [fill(SLICE)]
    known.learn(parent())
    assert known.receive(fill(500, client_index=5)) == [fill(500, client_index=5)]
    assert known.receive(fill(SLICE)) == []
    assert known.receive(fill(600, trade_id=10)) == []
    (told,) = known.learn(slice_row())
    assert told.venue_order_id == str(PARENT)
    assert known.learn(order(order_index=600, client_order_index=0)) == [fill(600, trade_id=10)]  # somebody's own order
    known.learn(parent(status="filled"))
    assert known.receive(fill(SLICE + 1)) == [fill(SLICE + 1)]


def test_what_waits_and_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest goes on as it is; a lost connection lets all of it go, to be asked for."""
    monkeypatch.setattr(slices, "MAX_HELD", 2)
    monkeypatch.setattr(slices, "REMEMBERED", 2)
    known = Slices()
    known.learn(parent())
    waiting = [fill(SLICE + at, trade_id=at) for at in range(3)]
    assert [known.receive(one) for one in waiting] == [[], [], [waiting[0]]]
    known.forget_held()
    assert known.learn(slice_row(SLICE + 1)) == []
    for at in (5, 6):
        known.learn(slice_row(SLICE + at))
    assert known.is_unknown(fill(SLICE + 1))
    assert not known.is_unknown(fill(SLICE + 6))


def test_rows_asked_for_teach_and_tell_nothing() -> None:
    """Also a TWAP that another client sent without an index."""
    known = Slices()
    known.learn_all([slice_row(), parent(client_order_index=0), order(order_index=5)])
    found = known.attribute(fill(SLICE))
    assert (found.venue_order_id, found.venue_client_order_id) == (str(PARENT), None)
    assert known.is_unknown(fill(5))
