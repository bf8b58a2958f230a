"""Rate limiter: never over a limit, cancels keep capacity, categories apart, the venue's word honoured."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from venuemesh.transport.limiter import BudgetSpec, Limiter, LimiterQueue, Priority

WEIGHT = BudgetSpec(name="ip_weight", limit=20, window_s=64, cancel_reserve=5, order_reserve=3)
ORDERS = BudgetSpec(name="orders", limit=6, window_s=32)

# Steps of 1/64 s are exact in binary, so the test's own sums are exact too.
pauses = st.integers(0, 16) | st.integers(0, 1200) | st.integers(4064, 4096)
requests = st.lists(st.tuples(pauses, st.sampled_from(Priority), st.integers(0, 12)), min_size=1, max_size=80)


def grants(script: list[tuple[int, Priority, int]]) -> list[tuple[float, Priority, int]]:
    """Ask for each weight as it fits its priority; returns what was granted and when."""
    limiter, now, granted = Limiter([WEIGHT]), 0.0, []
    for wait, priority, weight in script:
        now += wait / 64
        if limiter.try_acquire({"ip_weight": weight}, priority, now):
            granted.append((now, priority, weight))
    return granted


@given(requests)
@settings(max_examples=300)
@example([(0, Priority.CANCEL, 10), (16, Priority.CANCEL, 10), (4080, Priority.CANCEL, 12)])
def test_no_window_holds_more_than_the_limit(script: list[tuple[int, Priority, int]]) -> None:
    """P8: in every half-open interval of one window the granted weight is within the limit."""
    granted = grants(script)
    for start, _, _ in granted:
        assert sum(w for at, _, w in granted if start <= at < start + WEIGHT.window_s) <= WEIGHT.limit


@given(requests, st.integers(0, 640))
@settings(max_examples=200)
def test_cancels_keep_their_reserve_whatever_others_do(script: list[tuple[int, Priority, int]], wait: int) -> None:
    """P8: after any flood of orders and queries a cancel still finds the reserve; an order finds its own."""
    flood = [(w, p, n) for w, p, n in script if p is not Priority.CANCEL]
    for reserve, priority, others in (
        (WEIGHT.cancel_reserve, Priority.CANCEL, flood),
        (WEIGHT.order_reserve, Priority.ORDER, [step for step in flood if step[1] is Priority.QUERY]),
    ):
        limiter, now = Limiter([WEIGHT]), 0.0
        for pause, other, weight in others:
            now += pause / 64
            limiter.try_acquire({"ip_weight": weight}, other, now)
        assert limiter.try_acquire({"ip_weight": reserve}, priority, now + wait / 64)


@given(requests)
@settings(max_examples=100)
def test_wait_is_exactly_when_the_weight_first_fits(script: list[tuple[int, Priority, int]]) -> None:
    """The stated wait is enough, and a moment less is not."""
    limiter, now = Limiter([WEIGHT]), 0.0
    for pause, priority, weight in script:
        now += pause / 64
        costs = {"ip_weight": weight}
        wait = limiter.wait_s(costs, priority, now)
        if wait > 0:
            assert limiter.short(costs, priority, now + wait - 2**-20) == ["ip_weight"]
            now += wait
        assert limiter.try_acquire(costs, priority, now)


@given(requests, requests)
@settings(max_examples=50)
def test_categories_do_not_touch_each_other(
    first: list[tuple[int, Priority, int]], second: list[tuple[int, Priority, int]]
) -> None:
    """P33: one budget's grants are the same whether or not another budget is used."""
    limiter = Limiter([WEIGHT, BudgetSpec(name="other", limit=9, window_s=7)])
    now, granted = 0.0, []
    for index, (wait, priority, weight) in enumerate(first):
        now += wait / 64
        _, other_priority, other_weight = second[index % len(second)]
        limiter.try_acquire({"other": min(other_weight, 9)}, other_priority, now)
        if limiter.try_acquire({"ip_weight": weight}, priority, now):
            granted.append((now, priority, weight))
    assert granted == grants(first)


def test_several_budgets_are_taken_together_or_not_at_all() -> None:
    """A request that one budget cannot bear takes nothing from the others."""
    limiter = Limiter([WEIGHT, ORDERS])
    assert limiter.try_acquire({"orders": 6}, Priority.ORDER, 0)
    assert not limiter.try_acquire({"ip_weight": 1, "orders": 1}, Priority.ORDER, 0)
    assert limiter.short({"ip_weight": 1, "orders": 1}, Priority.ORDER, 0) == ["orders"]
    assert limiter.remaining(0)[0].used == 0


def test_charge_after_the_fact_delays_what_follows() -> None:
    """Rows returned cost extra once known, even past the limit, and the debt ends with its window."""
    limiter = Limiter([WEIGHT])
    assert limiter.try_acquire({"ip_weight": 10}, Priority.QUERY, 0)
    limiter.charge("ip_weight", 15, 1)
    assert not limiter.try_acquire({"ip_weight": 1}, Priority.CANCEL, 63)
    view = limiter.remaining(1)[0]
    assert (view.used, view.remaining, view.reset_s) == (25, 0, 64)
    assert limiter.try_acquire({"ip_weight": 5}, Priority.CANCEL, 64)


@given(st.integers(0, 100), st.integers(1, 6400), st.integers(1, 6400))
@settings(max_examples=50)
def test_penalised_budget_lets_nothing_pass_before_the_named_instant(at: int, first: int, second: int) -> None:
    """P34: not even a cancel passes before the later of the instants named, and it passes right then."""
    limiter = Limiter([WEIGHT, ORDERS])
    until = at + max(first, second) / 64
    limiter.penalise(["ip_weight"], at + first / 64)
    limiter.penalise(["ip_weight"], at + second / 64)
    assert not limiter.try_acquire({"ip_weight": 1}, Priority.CANCEL, until - 1 / 64)
    assert limiter.wait_s({"ip_weight": 1}, Priority.CANCEL, at) == until - at
    assert limiter.try_acquire({"orders": 1}, Priority.QUERY, at)
    closed = limiter.remaining(at)[0]
    assert (closed.remaining, closed.closed_s, closed.reset_s) == (0, until - at, until - at)
    assert limiter.try_acquire({"ip_weight": 1}, Priority.CANCEL, until)


def test_remaining_shows_each_priority_and_the_reset() -> None:
    """P35: what remains is visible per budget and class."""
    limiter = Limiter([WEIGHT])
    fresh = limiter.remaining(0)[0]
    assert (fresh.remaining, fresh.remaining_orders, fresh.remaining_queries, fresh.reset_s) == (
        20,
        15,
        12,
        0,
    )
    limiter.try_acquire({"ip_weight": 12}, Priority.QUERY, 10)
    view = limiter.remaining(20)[0]
    assert (view.limit, view.used) == (20, 12)
    assert (view.remaining, view.remaining_orders, view.remaining_queries, view.reset_s) == (8, 3, 0, 54)
    assert limiter.remaining(74)[0] == fresh


def test_memory_at_any_rate_is_bounded() -> None:
    """A budget of a million per window is remembered in few steps, and still exact to the limit."""
    limiter = Limiter([BudgetSpec(name="w", limit=1_000_000, window_s=60)])
    taken = sum(limiter.try_acquire({"w": 1}, Priority.CANCEL, n / 512) for n in range(60 * 512))
    assert taken == 60 * 512
    assert len(limiter._budgets["w"]._slots) <= 242


@pytest.mark.parametrize(
    "wrong",
    [{"limit": 0}, {"window_s": 0}, {"cancel_reserve": -1}, {"cancel_reserve": 6, "order_reserve": 4}],
)
def test_spec_when_a_number_is_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    """A budget that makes no sense fails when it is made."""
    with pytest.raises(ValueError):
        BudgetSpec(**{"name": "b", "limit": 10, **wrong})


def test_what_can_never_be_granted_is_refused() -> None:
    """Unknown budgets, negative weights and weights over a ceiling are faults of the caller."""
    limiter = Limiter([WEIGHT])
    for costs, priority in (
        ({"nope": 1}, Priority.CANCEL),
        ({"ip_weight": -1}, Priority.CANCEL),
        ({"ip_weight": 13}, Priority.QUERY),
        ({"ip_weight": 21}, Priority.CANCEL),
    ):
        with pytest.raises(ValueError):
            limiter.check(costs, priority)
    limiter.check({"ip_weight": 20}, Priority.CANCEL)
    with pytest.raises(ValueError):
        limiter.charge("nope", 1, 0)
    with pytest.raises(ValueError):
        Limiter([WEIGHT, WEIGHT])


def test_queue_grants_by_priority_then_in_order_of_arrival() -> None:
    """Near the limit a cancel overtakes orders, orders overtake queries, equals keep their order."""
    queue = LimiterQueue(Limiter([ORDERS]))
    assert queue.limiter.try_acquire({"orders": 6}, Priority.ORDER, 0)
    arrivals = [
        Priority.QUERY,
        Priority.ORDER,
        Priority.CANCEL,
        Priority.QUERY,
        Priority.ORDER,
        Priority.CANCEL,
    ]
    tickets = [queue.ticket({"orders": 1}, priority, 1000) for priority in arrivals]
    for ticket in tickets:
        assert queue.add(ticket) is None
    assert queue.pump(31).granted == ()
    granted = queue.pump(32).granted
    assert [ticket.number for ticket in granted] == [3, 6, 2, 5, 1, 4]


def test_queue_when_one_budget_is_spent_lets_others_pass() -> None:
    """P33: who waits for orders does not hold up who asks for weight only."""
    queue = LimiterQueue(Limiter([WEIGHT, ORDERS]))
    assert queue.limiter.try_acquire({"orders": 6}, Priority.ORDER, 0)
    stuck = queue.ticket({"orders": 1, "ip_weight": 1}, Priority.CANCEL, 1000)
    free = queue.ticket({"ip_weight": 1}, Priority.QUERY, 1000)
    for ticket in (stuck, free):
        queue.add(ticket)
    pumped = queue.pump(0)
    assert pumped.granted == (free,)
    assert pumped.next_look_s == 32
    assert queue.pump(32).granted == (stuck,)


def test_queue_when_a_big_request_waits_small_ones_do_not_overtake_it() -> None:
    """Equals are served in order, so a heavy request cannot starve."""
    queue = LimiterQueue(Limiter([ORDERS]))
    queue.limiter.try_acquire({"orders": 4}, Priority.ORDER, 0)
    big = queue.ticket({"orders": 5}, Priority.ORDER, 1000)
    small = queue.ticket({"orders": 1}, Priority.ORDER, 1000)
    assert queue.estimate_s(big, 0) == 32
    queue.add(big)
    queue.add(small)
    assert queue.estimate_s(queue.ticket({"orders": 1}, Priority.QUERY, 1000), 0) == 32
    assert queue.pump(1).granted == ()
    assert queue.pump(32).granted == (big, small)


def test_queue_when_full_gives_the_place_of_the_least_to_a_higher_priority() -> None:
    """The bound never keeps a cancel out while something lesser waits."""
    queue = LimiterQueue(Limiter([ORDERS]), max_waiting=2)
    queue.limiter.try_acquire({"orders": 6}, Priority.ORDER, 0)
    query, order = (queue.ticket({"orders": 1}, p, 1000) for p in (Priority.QUERY, Priority.ORDER))
    late, cancel = (queue.ticket({"orders": 1}, p, 1000) for p in (Priority.QUERY, Priority.CANCEL))
    assert (queue.add(query), queue.add(order)) == (None, None)
    assert queue.add(late) is late
    assert queue.add(cancel) is query
    assert [ticket.number for ticket in queue.pump(32).granted] == [cancel.number, order.number]


def test_queue_when_the_deadline_passes_gives_the_ticket_back() -> None:
    """A ticket is looked at again no later than its deadline, and leaves then."""
    queue = LimiterQueue(Limiter([ORDERS]))
    queue.limiter.try_acquire({"orders": 6}, Priority.ORDER, 0)
    ticket = queue.ticket({"orders": 1}, Priority.ORDER, 5)
    queue.add(ticket)
    assert queue.pump(0).next_look_s == 5
    pumped = queue.pump(5)
    assert (pumped.expired, pumped.next_look_s, len(queue)) == ((ticket,), None, 0)


queue_steps = st.lists(
    st.tuples(st.integers(0, 900), st.sampled_from(Priority), st.integers(0, 6), st.integers(0, 6)),
    min_size=1,
    max_size=40,
)


@given(queue_steps)
@settings(max_examples=100)
def test_queue_answers_every_ticket_once_and_never_breaks_a_limit(
    script: list[tuple[int, Priority, int, int]],
) -> None:
    """P8: with waiting, priorities and two budgets at once the windows still hold; nobody is forgotten."""
    queue, now = LimiterQueue(Limiter([WEIGHT, ORDERS])), 0.0
    granted: list[tuple[float, dict[str, int]]] = []
    answered: list[int] = []
    look: float | None = None

    def pump(at: float) -> float | None:
        pumped = queue.pump(at)
        granted.extend((at, dict(ticket.costs)) for ticket in pumped.granted)
        answered.extend(ticket.number for ticket in (*pumped.granted, *pumped.expired))
        return pumped.next_look_s

    for pause, priority, weight, orders in script:
        until = now + pause / 64
        while look is not None and look <= until:
            now, look = look, pump(look)
            assert look is None or look > now  # it never spins
        now = until
        queue.add(queue.ticket({"ip_weight": weight, "orders": orders}, priority, now + 100))
        look = pump(now)
    while look is not None:
        now, look = look, pump(look)
        assert look is None or look > now
    assert sorted(answered) == list(range(1, len(script) + 1))
    for spec in (WEIGHT, ORDERS):
        for start, _ in granted:
            window = [c[spec.name] for at, c in granted if start <= at < start + spec.window_s]
            assert sum(window) <= spec.limit
