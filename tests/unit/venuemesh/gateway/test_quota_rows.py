"""Rows of GetQuota that every venue has."""

from __future__ import annotations

from tests.fakes import ManualClock
from venuemesh.gateway.quota_rows import in_flight_row, shared_rows
from venuemesh.transport.gate import LimiterGate
from venuemesh.transport.in_flight import InFlight
from venuemesh.transport.limiter import BudgetSpec, Limiter, LimiterQueue


def test_shared_budgets_show_what_is_left_and_when_all_of_it_is_back() -> None:
    """Under the contract's names; what orders may not use is for cancels."""
    clock = ManualClock()
    specs = [
        BudgetSpec(name="weight", limit=20, window_s=60, cancel_reserve=5),
        BudgetSpec(name="idle", limit=3, window_s=1),
    ]
    gate = LimiterGate(LimiterQueue(Limiter(specs)), clock)
    gate.charge("weight", 8)
    used, idle = shared_rows("v", gate, {"weight": "ip_weight", "idle": "connections"})
    assert (used.venue, used.limiter, used.limit, used.remaining) == ("v", "ip_weight", 20, 12)
    assert (used.reserved_for_cancels, used.waiting) == (5, 0)
    assert used.reset_after.ToNanoseconds() == 60_000_000_000
    assert (idle.limiter, idle.remaining) == ("connections", 3) and not idle.HasField("reset_after")


def test_requests_in_flight_show_their_places_and_those_of_cancels() -> None:
    """Cancels never have more places than remain."""
    posts: InFlight[int] = InFlight("posts", most=10, cancel_reserve=3)
    row = in_flight_row("v", "posts.main", posts)
    assert (row.limiter, row.limit, row.remaining, row.reserved_for_cancels) == ("posts.main", 10, 10, 3)
    for number in range(8):
        posts.open(number, now_s=0.0, is_cancel=True)
    row = in_flight_row("v", "posts.main", posts)
    assert (row.remaining, row.reserved_for_cancels) == (2, 2)
