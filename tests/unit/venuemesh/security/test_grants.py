"""What a grant allows, and that limits only ever narrow it."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from venuemesh.errors import AuthenticationFailed, PermissionDenied
from venuemesh.security import grants
from venuemesh.security.grants import SCOPES, Grant, LimitError, require_notional

ALL = Grant(subject="root", scopes=frozenset(SCOPES.values()))
SUBMIT = "/venuemesh.v1.OrderService/SubmitOrder"
CANCEL = "/venuemesh.v1.OrderService/CancelOrder"
METHODS = ("OrderService/SubmitOrder", "OrderService/CancelOrder", "OrderService/*", "AccountService/*")

names = st.lists(st.sampled_from(["main", "hedge", "third"]), max_size=3, unique=True).map(",".join)
limits = st.one_of(
    st.lists(st.sampled_from(sorted(SCOPES)), max_size=4, unique=True).map(lambda it: "scopes=" + ",".join(it)),
    names.map("accounts={}".format),
    names.map("venues={}".format),
    st.lists(st.sampled_from(METHODS), max_size=3, unique=True).map(lambda it: "methods=" + ",".join(it)),
    st.integers(0, 9).map("before=203{}-01-01T00:00:00Z".format),
    st.integers(0, 10**6).map("max_notional={}".format),
)


def allows(grant: Grant, method: str, scope: int, now_ns: int) -> bool:
    try:
        grant.require(method, scope, now_ns)
    except (AuthenticationFailed, PermissionDenied):
        return False
    return True


@given(
    had=st.lists(limits, max_size=4),
    more=limits,
    method=st.sampled_from([SUBMIT, CANCEL, "/venuemesh.v1.AccountService/GetAccount"]),
    scope=st.sampled_from(sorted(SCOPES.values())),
    year=st.integers(2029, 2041),
)
def test_a_further_limit_never_allows_more(had: list[str], more: str, method: str, scope: int, year: int) -> None:
    """Whatever was refused before stays refused, for methods, accounts, venues, time and worth."""
    before = ALL
    for limit in had:
        before = before.narrowed_by(limit)
    after = before.narrowed_by(more)
    now_ns = (year - 1970) * 365 * 86_400 * 10**9
    assert allows(before, method, scope, now_ns) or not allows(after, method, scope, now_ns)
    for old, new in ((before.accounts, after.accounts), (before.venues, after.venues)):
        assert old is None or (new is not None and new <= old)
    assert before.max_notional is None or (after.max_notional or Decimal(0)) <= before.max_notional


@given(one=st.lists(limits, max_size=4), other=st.lists(limits, max_size=4))
def test_what_two_grants_both_allow_does_not_depend_on_order(one: list[str], other: list[str]) -> None:
    """Meeting two grants is the same as applying the limits of both."""
    first, second, both = ALL, ALL, ALL
    for limit in one:
        first, both = first.narrowed_by(limit), both.narrowed_by(limit)
    for limit in other:
        second, both = second.narrowed_by(limit), both.narrowed_by(limit)
    assert first.meet(second) == both
    assert second.meet(first) == both


@pytest.mark.parametrize(
    "limit",
    ["", "scopes", "colour=red", "scopes=admin", "accounts=a b", "before=tomorrow", "max_notional=-1",
     "max_notional=1e9", "methods=SubmitOrder", "accounts=" + ",".join(f"a{n}" for n in range(65))],
)  # fmt: skip
def test_a_limit_that_cannot_be_read_is_refused(limit: str) -> None:
    """A limit of a later version must not be taken for no limit."""
    with pytest.raises(LimitError):
        ALL.narrowed_by(limit)


def test_call_without_the_scope_names_what_is_needed_and_what_is_granted() -> None:
    """The caller can ask for the right token."""
    with pytest.raises(PermissionDenied, match="needs the scope trade; the token grants read") as caught:
        ALL.narrowed_by("scopes=read").require(SUBMIT, grants.TRADE, 0)
    assert caught.value.metadata == {"needed_scope": "trade", "granted_scopes": "read"}


def test_method_that_declares_no_scope_is_refused_to_everybody() -> None:
    """Forgetting the option must close a method, not open it."""
    with pytest.raises(PermissionDenied, match="declares no scope"):
        ALL.require("/venuemesh.v1.OrderService/New", 0, 0)


def test_expired_grant_is_no_identity_any_more() -> None:
    """At its last second it is over; one nanosecond before it is not."""
    grant = ALL.narrowed_by("before=2030-01-01T00:00:00Z")
    assert grant.expires_ns is not None
    grant.require(SUBMIT, grants.TRADE, grant.expires_ns - 1)
    with pytest.raises(AuthenticationFailed, match="expired"):
        grant.require(SUBMIT, grants.TRADE, grant.expires_ns)


def test_method_limit_with_a_star_covers_its_service_only() -> None:
    """`OrderService/*` lets cancel, not look at accounts."""
    grant = ALL.narrowed_by("methods=OrderService/*")
    assert allows(grant, CANCEL, grants.TRADE, 0)
    assert not allows(grant, "/venuemesh.v1.AccountService/GetAccount", grants.READ, 0)


@pytest.mark.parametrize(("worth", "fits"), [(Decimal(100), True), (Decimal("100.01"), False), (None, False)])
def test_order_worth_more_than_the_limit_or_without_bound_is_refused(worth: Decimal | None, fits: bool) -> None:
    """The limit itself is allowed."""
    grants.set_current(ALL.narrowed_by("max_notional=100"))
    try:
        if fits:
            require_notional(lambda: worth, field="order.quantity")
        else:
            with pytest.raises(PermissionDenied, match=r"order\.quantity.*the token allows 100"):
                require_notional(lambda: worth, field="order.quantity")
    finally:
        grants.set_current(None)


def test_describe_shows_only_the_limits_there_are() -> None:
    """What the command prints."""
    assert ALL.describe() == {"subject": "root", "scopes": "read,trade,risk,operate"}
    narrow = ALL.narrowed_by("scopes=read").narrowed_by("accounts=main").narrowed_by("before=2030-01-01T00:00:00Z")
    assert narrow.describe() == {
        "subject": "root",
        "scopes": "read",
        "accounts": "main",
        "before": "2030-01-01T00:00:00Z",
    }
