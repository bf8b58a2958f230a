"""The state of an order session: logon, lease, numbers, what is under way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from venuemesh.errors import InvalidRequest, Reason
from venuemesh.order_session import (
    DEFAULT_LEASE_S,
    MAX_LEASE_S,
    MAX_UNDER_WAY,
    MIN_LEASE_S,
    Asked,
    Gone,
    Kind,
    OrderSession,
    SessionTerms,
    parse_logon,
)
from venuemesh.v1 import order_pb2
from venuemesh.v1 import order_service_pb2 as wire

Request = wire.OpenOrderSessionRequest
HEARTBEAT = Request(heartbeat=wire.SessionHeartbeat(sent_unix_nanos=1))


def logon(**fields: Any) -> Request:
    return Request(logon=wire.SessionLogon(**{"account_id": "main", **fields}))


def submit(key: str = "k1", account: str = "main", venue: str = "") -> Request:
    order = order_pb2.NewOrder(account_id=account, client_order_id=key, venue=venue)
    return Request(submit=wire.SubmitOrderRequest(order=order))


def cancel(key: str = "k1", account: str = "", venue: str = "") -> Request:
    reference = wire.OrderReference(account_id=account, venue=venue, client_order_id=key)
    return Request(cancel=wire.CancelOrderRequest(reference=reference))


def replaced(key: str = "k1", account: str = "") -> Request:
    reference = wire.OrderReference(account_id=account, client_order_id=key)
    return Request(replace=wire.ReplaceOrderRequest(reference=reference, request_id="r1", price="1"))


def session(**fields: Any) -> OrderSession:
    return OrderSession(SessionTerms(account_id="main", **fields), 0.0)


def test_logon_gives_its_terms_and_a_default_lease() -> None:
    """Absent fields have the meaning that the contract states."""
    terms = parse_logon(logon())
    assert (terms.account_id, terms.venue, terms.cancel_on_disconnect, terms.lease_s) == (
        "main",
        "",
        False,
        DEFAULT_LEASE_S,
    )
    full = parse_logon(logon(venue="lighter", cancel_on_disconnect=True, lease=Duration(seconds=1, nanos=500_000_000)))
    assert (full.venue, full.cancel_on_disconnect, full.lease_s) == ("lighter", True, 1.5)


@pytest.mark.parametrize("first", [HEARTBEAT, submit(), cancel(), replaced(), Request()])
def test_first_message_that_is_no_logon_is_refused(first: Request) -> None:
    """And the refusal names what came instead."""
    with pytest.raises(InvalidRequest, match="logon: is required as the first message") as caught:
        parse_logon(first)
    assert (caught.value.field, caught.value.reason) == ("logon", Reason.REQUIRED_FIELD_MISSING)


def test_logon_without_an_account_is_refused() -> None:
    """There is no account that an empty name means."""
    with pytest.raises(InvalidRequest) as caught:
        parse_logon(logon(account_id=""))
    assert (caught.value.field, caught.value.reason) == ("logon.account_id", Reason.REQUIRED_FIELD_MISSING)


@given(seconds=st.integers(-(2**63), 2**63 - 1), nanos=st.integers(-(2**31), 2**31 - 1))
def test_lease_is_taken_within_its_bounds_and_refused_outside(seconds: int, nanos: int) -> None:
    """Whatever a Duration can hold."""
    request = logon(lease=Duration(seconds=seconds, nanos=nanos))
    if 0 <= nanos < 10**9 and MIN_LEASE_S <= seconds + nanos / 1e9 <= MAX_LEASE_S:
        assert parse_logon(request).lease_s == pytest.approx(seconds + nanos / 1e9)
        return
    with pytest.raises(InvalidRequest, match="is not within 1s to 60s") as caught:
        parse_logon(request)
    assert caught.value.field == "logon.lease" and str(seconds) in caught.value.message


@pytest.mark.parametrize("lease", [Duration(seconds=1), Duration(seconds=60)])
def test_lease_at_its_bounds_is_taken(lease: Duration) -> None:
    """Both ends belong to it."""
    assert parse_logon(logon(lease=lease)).lease_s == lease.seconds


@pytest.mark.parametrize(
    ("request_of", "field"),
    [
        (lambda: submit(account="other"), "submit.order.account_id"),
        (lambda: submit(account=""), "submit.order.account_id"),
        (lambda: cancel(account="other"), "cancel.reference.account_id"),
        (lambda: replaced(account="other"), "replace.reference.account_id"),
        (lambda: submit(venue="lighter"), "submit.order.venue"),
        (lambda: cancel(venue="lighter"), "cancel.reference.venue"),
        (lambda: Request(submit=wire.SubmitOrderRequest()), "submit.order"),
        (lambda: Request(), "body"),
        (logon, "logon"),
    ],
)
def test_message_that_is_not_the_sessions_is_refused_by_name_and_renews_the_lease(
    request_of: Callable[[], Request], field: str
) -> None:
    """Another account or venue, nothing at all, a second logon."""
    one = session(venue="hyperliquid", lease_s=5.0)
    with pytest.raises(InvalidRequest, match=f"^{field}: ") as caught:
        one.receive(request_of(), 4.0)
    assert caught.value.field == field
    assert (one.number, one.lease_left_s(4.0), one.gone) == (2, 5.0, None)


def test_requests_carry_the_sessions_account_and_venue() -> None:
    """A reference that names no account means the session's; an order without a venue goes to the session's."""
    one = session(venue="lighter")
    asked = [one.receive(request, 0.0) for request in (submit(), cancel(), replaced(), HEARTBEAT)]
    assert asked[3] is None
    first, second, third = [row for row in asked if row is not None]
    assert [first.number, second.number, third.number] == [2, 3, 4]
    assert isinstance(first.message, wire.SubmitOrderRequest) and first.message.order.venue == "lighter"
    assert isinstance(second.message, wire.CancelOrderRequest) and second.message.reference.account_id == "main"
    assert isinstance(third.message, wire.ReplaceOrderRequest) and third.message.reference.account_id == "main"


def test_first_cause_of_the_end_counts() -> None:
    """What comes later is only its echo."""
    one = session()
    assert one.end(Gone.LEASE_EXPIRED) and not one.end(Gone.CALL_BROKEN)
    assert one.gone is Gone.LEASE_EXPIRED


def test_lease_does_not_run_while_nobody_listens() -> None:
    """With too much under way the next message is not read: that silence is ours."""
    one = session(lease_s=2.0)
    one.stop_listening()
    assert one.lease_left_s(100.0) == 2.0
    one.listen(100.0)
    assert one.lease_left_s(101.0) == 1.0


class Session(RuleBasedStateMachine):
    """Any order of messages, answers and silence, against the plainest model."""

    def __init__(self) -> None:
        super().__init__()
        self.session = session(lease_s=3.0)
        self.now_s = 0.0
        self.heard_s = 0.0
        self.sent = 1
        self.waiting: Asked | None = None
        self.pending: dict[int, Kind] = {}

    @precondition(lambda self: self.waiting is None)
    @rule(make=st.sampled_from([submit, cancel, replaced, lambda: HEARTBEAT, lambda: submit(account="x"), logon]))
    def send(self, make: Callable[[], Request]) -> None:
        """The caller sends something; what is not refused begins where there is room."""
        self.sent += 1
        self.heard_s = self.now_s
        try:
            asked = self.session.receive(make(), self.now_s)
        except InvalidRequest:
            return
        if asked is None:
            return
        if self.session.has_room(asked.kind):
            self._begin(asked)
        else:
            self.session.stop_listening()
            self.waiting = asked

    @precondition(lambda self: self.waiting is None)
    @rule(kind=st.sampled_from([submit, cancel, replaced]))
    def flood(self, kind: Callable[[], Request]) -> None:
        """The caller sends without waiting for answers."""
        for _ in range(MAX_UNDER_WAY):
            if self.waiting is None:
                self.send(kind)

    def _begin(self, asked: Asked) -> None:
        self.session.begin(asked)
        self.pending[asked.number] = asked.kind

    @precondition(lambda self: self.pending)
    @rule(data=st.data())
    def answer(self, data: st.DataObject) -> None:
        """One of those under way is answered; who waited for room may have it now."""
        number = data.draw(st.sampled_from(sorted(self.pending)))
        del self.pending[number]
        self.session.finish(number)
        if self.waiting is not None and self.session.has_room(self.waiting.kind):
            self._begin(self.waiting)
            self.waiting = None
            self.session.listen(self.now_s)
            self.heard_s = self.now_s

    @rule(seconds=st.floats(0, 5))
    def wait(self, seconds: float) -> None:
        """Nothing comes."""
        self.now_s += seconds

    @invariant()
    def is_bounded(self) -> None:
        """Never more of a kind than stated, and cancels have room of their own."""
        cancels = sum(kind is Kind.CANCEL for kind in self.pending.values())
        assert cancels <= MAX_UNDER_WAY and len(self.pending) - cancels <= MAX_UNDER_WAY
        assert self.session.under_way == len(self.pending)
        assert self.session.has_room(Kind.CANCEL) == (cancels < MAX_UNDER_WAY)

    @invariant()
    def lease_is_that_of_the_last_sign_of_life(self) -> None:
        """Every message renews it, also a refused one; a session that is not listened to loses none of it."""
        assert self.session.number == self.sent
        left_s = self.session.lease_left_s(self.now_s)
        wanted = 3.0 if self.waiting is not None else self.heard_s + 3.0 - self.now_s
        assert left_s == pytest.approx(wanted)

    @invariant()
    def submits_before_a_number_are_those_under_way(self) -> None:
        """What a cancel that finds no order waits for."""
        submits = {number for number, kind in self.pending.items() if kind is Kind.SUBMIT}
        assert set(self.session.submits_before(self.sent + 1)) == submits


TestSession = Session.TestCase
