"""An account's stream into the ledger: what is counted between any two messages."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router import risk_ledger as kinds
from router.risk_ledger import Ledger, OrderKey
from router.risk_reservations import Reservations, reservation_of
from router.risk_view import AccountFold, BadView
from tests.unit.router.risk_facts import (
    EPOCH,
    HERE,
    PLACE,
    event,
    fill_message,
    limit,
    order_message,
    position,
    report,
    snapshot,
)
from venuemesh.v1 import account_pb2, account_service_pb2, stream_pb2


class View:
    """A fold with its ledger, and what it said is over."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.ledger.set_limits([limit(kinds.MAX_POSITION_QUANTITY, "100"), limit(kinds.MAX_OPEN_ORDERS, "100")])
        self.book = Reservations(self.ledger)
        self.released: list[tuple[OrderKey, int]] = []
        self.fold = AccountFold(
            HERE,
            self.ledger,
            self.book,
            lambda symbol: Decimal(10),
            lambda key, at: self.released.append((key, at.sequence)),
        )

    def used(self) -> tuple[Decimal | None, Decimal | None]:
        """Position at its worst, and open orders."""
        position_limit, orders_limit = (
            next(one for one in self.ledger.limits if one.limit_type == kind)
            for kind in (kinds.MAX_POSITION_QUANTITY, kinds.MAX_OPEN_ORDERS)
        )
        return self.ledger.used(position_limit), self.ledger.used(orders_limit)


def test_fill_moves_from_order_to_position_without_a_moment_of_neither() -> None:
    """The event of the position comes after that of the fill; the sum never changes."""
    view = View()
    view.fold.apply(snapshot(1))
    view.fold.apply(report(2, order_message("a", "3")))
    assert view.used() == (3, 1)
    view.fold.apply(report(3, order_message("a", "3", filled="1"), fill_message("1")))
    assert view.used() == (3, 1)
    view.fold.apply(event(4, position=position("1")))
    assert view.used() == (3, 1)
    view.fold.apply(report(5, order_message("a", "3", filled="3", terminal=True), fill_message("2")))
    assert view.used() == (3, 0)
    view.fold.apply(event(6, position=position("3")))
    assert view.used() == (3, 0)
    assert view.ledger.position(PLACE) == 3


def test_reservation_becomes_the_orders_own_claim_when_the_stream_shows_it() -> None:
    """Told once, with the event that shows it; nothing counts twice."""
    view = View()
    view.fold.apply(snapshot(1))
    claim = kinds.Claim(place=PLACE, is_buy=True, quantity=Decimal(2))
    view.book.reserve(reservation_of((*HERE, "a"), claim, 0))
    assert view.used() == (2, 1)
    view.fold.apply(report(2, order_message("a", "2")))
    assert view.used() == (2, 1)
    assert view.released == [((*HERE, "a"), 2)]
    view.fold.apply(report(3, order_message("a", "2", terminal=True)))
    assert view.used() == (0, 0)
    assert len(view.released) == 1


def test_snapshot_replaces_what_was_open_and_keeps_what_is_only_reserved() -> None:
    """An order that ended unseen goes; one that is on its way stays."""
    view = View()
    view.fold.apply(snapshot(1, orders=[order_message("old")], positions=[position("5")]))
    view.book.reserve(reservation_of((*HERE, "new"), kinds.Claim(place=PLACE, is_buy=True, quantity=Decimal(2)), 0))
    assert view.used() == (8, 2)
    view.fold.apply(snapshot(9))
    assert view.used() == (2, 1)


@pytest.mark.parametrize("free", ["250", None])
def test_free_margin_follows_the_summary_and_shrinks_with_fills_in_between(free: str | None) -> None:
    """Absent when the venue does not tell it any more."""
    view = View()
    view.fold.apply(snapshot(1, free="100"))
    view.fold.apply(report(2, fill=fill_message("1")))
    assert view.ledger.free_margin[HERE] == 90
    view.fold.apply(event(3, account_summary=account_pb2.AccountSummary(margin_available=free)))
    assert view.ledger.free_margin.get(HERE) == (None if free is None else Decimal(free))


def test_stale_account_says_so_until_it_is_fresh_and_a_lost_stream_until_it_is_resumed() -> None:
    """By its gateway's word and by the stream itself."""
    view = View()
    view.fold.apply(snapshot(1))
    assert not view.ledger.stale
    stale = stream_pb2.StreamStatus(freshness=stream_pb2.FRESHNESS_STALE, cause="link down")
    view.fold.apply(event(2, stream_status=stale))
    assert "link down" in view.ledger.stale[HERE]
    view.fold.apply(event(3, stream_status=stream_pb2.StreamStatus(freshness=stream_pb2.FRESHNESS_FRESH)))
    assert not view.ledger.stale
    view.fold.lost("away")
    assert view.ledger.stale[HERE] == "away"
    resumed = stream_pb2.StreamAcknowledgement(resume_outcome=stream_pb2.RESUME_OUTCOME_RESUMED)
    view.fold.apply(account_service_pb2.StreamAccountEventsResponse(acknowledgement=resumed))
    assert not view.ledger.stale


def test_missing_or_unreadable_message_ends_the_trust() -> None:
    """The account must be read anew; a repeat is no fault."""
    view = View()
    view.fold.apply(snapshot(1))
    view.fold.apply(event(2, position=position("1")))
    view.fold.apply(event(2, position=position("7")))
    assert view.ledger.position(PLACE) == 1
    with pytest.raises(BadView, match="missing"):
        view.fold.apply(event(5, position=position("2")))
    with pytest.raises(BadView, match=r"position\.quantity"):
        view.fold.apply(event(3, position=position("1,5")))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=8))
def test_view_after_any_stream_equals_the_snapshot_of_its_end(rows: list[tuple[bool, int, int]]) -> None:
    """Properties 40 and 41, for the risk view: events one by one, or a snapshot at the end, give the same."""
    live, anew = View(), View()
    live.fold.apply(snapshot(1))
    sequence, held, still_open = 1, 0, []
    for number, (ends, quantity, filled) in enumerate(rows):
        filled = min(filled, quantity)
        key = f"k{number}"
        live.fold.apply(report(sequence + 1, order_message(key, str(quantity))))
        held += filled
        over = ends or filled == quantity
        told = order_message(key, str(quantity), filled=str(filled), terminal=over)
        live.fold.apply(report(sequence + 2, told, fill_message(str(filled))))
        live.fold.apply(event(sequence + 3, position=position(str(held))))
        sequence += 3
        if not over:
            still_open.append(told)
    anew.fold.apply(snapshot(sequence, orders=still_open, positions=[position(str(held))]))
    assert live.used() == anew.used()
    assert live.ledger.claims == anew.ledger.claims
    assert live.fold.position == anew.fold.position == stream_pb2.StreamPosition(epoch=EPOCH, sequence=sequence)
