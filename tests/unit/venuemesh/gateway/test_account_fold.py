"""A saved state with the events behind it is the fold of the whole log."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.venuemesh.gateway import test_account as histories
from tests.unit.venuemesh.gateway.order_facts import ended, new_order
from venuemesh.gateway import account_fold
from venuemesh.gateway.account_fold import AccountFold
from venuemesh.v1 import event_pb2
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1.gateway_state_pb2 import GatewayAccountState


def folded(events: Iterable[event_pb2.Event], fold: AccountFold | None = None, **bounds: int) -> AccountFold:
    fold = fold or AccountFold(**bounds)
    for event in events:
        fold.take(event)
    return fold


def reloaded(fold: AccountFold, **bounds: int) -> AccountFold:
    """Over the wire and back."""
    again = AccountFold(**bounds)
    for piece in fold.pieces():
        again.load(GatewayAccountState.FromString(piece.SerializeToString()))
    return again


def state_of(fold: AccountFold) -> list[bytes]:
    return [piece.SerializeToString(deterministic=True) for piece in fold.pieces()]


@given(steps=st.lists(histories.steps, max_size=40), share=st.floats(0, 1), bound=st.sampled_from([2, 100]))
@settings(max_examples=200, deadline=None)
def test_state_and_tail_equal_the_whole_log(steps: list[tuple[object, ...]], share: float, bound: int) -> None:
    """Property 40: cut anywhere, the same state in the end, also where bounds bite."""
    account, log = histories.make()
    for step in steps:
        histories.play(account, step)
    at = round(len(log.events) * share)
    bounds = {"retained": bound, "remembered": bound}
    whole = folded(log.events, **bounds)
    begun = folded(log.events[:at], **bounds)
    assert state_of(reloaded(begun, **bounds)) == state_of(begun)
    assert state_of(folded(log.events[at:], reloaded(begun, **bounds))) == state_of(whole)


@given(steps=st.lists(histories.steps, max_size=30))
@settings(max_examples=50, deadline=None)
def test_state_in_many_pieces_is_the_same(steps: list[tuple[object, ...]]) -> None:
    """However small a message may be."""
    account, log = histories.make()
    for step in steps:
        histories.play(account, step)
    fold = folded(log.events)
    size, account_fold.PIECE_BYTES = account_fold.PIECE_BYTES, 1
    try:
        pieces = len(list(fold.pieces()))
        again = reloaded(fold)
    finally:
        account_fold.PIECE_BYTES = size
    assert state_of(again) == state_of(fold)
    assert pieces > 1


def test_account_out_of_a_state_is_the_account_out_of_the_log() -> None:
    """What the gateway then shows and knows: orders, evidence, positions, rows."""
    account, log = histories.make()
    order = new_order("a")
    account.take(order)
    account.on_fill(histories.fill("x1", 1, client_id=order.venue_client_order_id), histories.NOW_NS)
    account.apply(order.order_id, ended(pb.ORDER_STATUS_CANCELED, life="1"))
    account.take(new_order("b"))
    accounts = []
    for fold in (folded(log.events), reloaded(folded(log.events))):
        made, _ = histories.make()
        made.adopt(fold)
        accounts.append(made)
    first, second = accounts
    assert first.all_orders() == second.all_orders() != []
    assert [one.status for one in second.open_orders()] == [pb.ORDER_STATUS_PENDING_NEW]
    assert second.knows_execution("x1")
    assert first.positions == second.positions != {}
    assert (second.newborn, second.history_from_ns) == (False, first.history_from_ns)


def test_terminal_orders_that_changed_last_are_kept() -> None:
    """What is kept stays within the bound, open orders aside."""
    account, log = histories.make()
    account.take(new_order("open"))
    for number in range(6):
        order = new_order(f"k{number}")
        account.take(order)
        account.apply(order.order_id, ended(pb.ORDER_STATUS_CANCELED, life="1"))
    fold = folded(log.events, retained=3)
    assert [order.terms.client_order_id for order, _ in fold.orders()] == ["open", "k3", "k4", "k5"]


def test_fields_of_a_newer_schema_survive() -> None:
    """An order told by a newer gateway keeps what this release does not know."""
    account, log = histories.make()
    account.take(new_order("a"))
    log.events[0].execution_report.order.MergeFromString(b"\xf2\x3f\x02AB")
    ((kept, _),) = reloaded(folded(log.events)).orders()
    assert b"AB" in kept.SerializeToString()
