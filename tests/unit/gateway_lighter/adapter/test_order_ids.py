"""Client order indices: the same for ever, in range, and never another order's."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_lighter.order_ids import ATTEMPTS, ClientIndices, derive_index
from gateway_lighter.transactions import MAX_48
from venuemesh.errors import InvalidRequest, Reason

order_ids = st.integers(min_value=0, max_value=2**128 - 1).map(lambda number: f"{number:032x}")


@given(order_ids, st.integers(min_value=0, max_value=ATTEMPTS))
@settings(max_examples=50)
def test_index_of_an_order_id_is_always_the_same_and_in_range(order_id: str, attempt: int) -> None:
    """It needs no table: a restarted gateway derives it again."""
    index = derive_index(order_id, attempt)
    assert 1 <= index <= MAX_48
    assert index == derive_index(order_id, attempt)


@given(st.lists(order_ids, unique=True, max_size=20))
@settings(max_examples=50)
def test_live_orders_never_share_an_index(ids: list[str]) -> None:
    """Whatever is live keeps its index to itself, and asking again gives the same one."""
    indices = ClientIndices()
    for order_id in ids:
        indices.hold(indices.assign(order_id), order_id)
    found = [indices.assign(order_id) for order_id in ids]
    assert len(set(found)) == len(ids)


def test_collision_with_an_order_live_at_the_venue_takes_the_next_digest() -> None:
    """The venue showed the index live when we connected: whose it is does not matter."""
    indices, order_id = ClientIndices(), "0" * 32
    indices.hold(derive_index(order_id))
    assert indices.assign(order_id) == derive_index(order_id, 1)


def test_index_of_an_ended_order_is_not_given_to_another() -> None:
    """A query by index would else show the older order."""
    indices, mine, other = ClientIndices(), "1" * 32, "2" * 32
    indices.hold(derive_index(other), mine)
    indices.release(derive_index(other))
    assert indices.assign(other) == derive_index(other, 1)
    assert indices.assign(mine) == derive_index(mine)


def test_own_order_keeps_its_index_when_the_venue_shows_it_live() -> None:
    """The stream names an index only; what is ours stays ours."""
    indices, order_id = ClientIndices(), "3" * 32
    index = indices.assign(order_id)
    indices.hold(index, order_id)
    indices.hold(index)
    indices.remember(index)
    assert indices.assign(order_id) == index


def test_ended_indices_are_forgotten_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table is bounded; what is live is never forgotten."""
    monkeypatch.setattr("gateway_lighter.order_ids.REMEMBERED", 2)
    indices, order_id = ClientIndices(), "4" * 32
    indices.hold(7)
    for index in (derive_index(order_id), 1, 2):
        indices.release(index)
    assert indices.assign(order_id) == derive_index(order_id)
    assert indices._owner(7) == ""


def test_no_free_index_is_refused_by_name() -> None:
    """It cannot happen by chance, and must not loop."""
    indices, order_id = ClientIndices(), "5" * 32
    for attempt in range(ATTEMPTS):
        indices.hold(derive_index(order_id, attempt))
    with pytest.raises(InvalidRequest) as caught:
        indices.assign(order_id)
    assert caught.value.reason is Reason.INVALID_CLIENT_ORDER_ID
