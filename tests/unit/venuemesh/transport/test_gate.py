"""The limiter's gate: waits, order, refusals; time and timers by hand, so nothing really waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.fakes import ManualClock
from venuemesh.errors import RateLimited, Reason, Sent
from venuemesh.transport.gate import Charge, LimiterGate
from venuemesh.transport.limiter import BudgetSpec, Limiter, LimiterQueue, Priority


class ManualTimer:
    def __init__(self, at_s: float, callback: Callable[[], None]) -> None:
        self.at_s, self.callback, self.cancelled = at_s, callback, False

    def cancel(self) -> None:
        self.cancelled = True


class Bench:
    """A gate with one budget of 2 per 10 s, on a clock moved by hand."""

    def __init__(self, *, max_waiting: int = 8) -> None:
        self.clock = ManualClock()
        self.timers: list[ManualTimer] = []
        budgets = [BudgetSpec(name="orders", limit=2, window_s=10), BudgetSpec(name="queries", limit=1)]
        queue = LimiterQueue(Limiter(budgets), max_waiting=max_waiting)
        self.gate = LimiterGate(queue, self.clock, call_later=self._call_later)

    def _call_later(self, delay_s: float, callback: Callable[[], None]) -> ManualTimer:
        self.timers.append(ManualTimer(self.clock.monotonic_s() + delay_s, callback))
        return self.timers[-1]

    async def spend(self) -> None:
        for _ in range(2):
            await self.gate.acquire("orders", 1, Priority.ORDER, 0)

    async def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        due = [t for t in self.timers if not t.cancelled and t.at_s <= self.clock.monotonic_s()]
        self.timers = [t for t in self.timers if not t.cancelled and t not in due]
        for timer in due:
            timer.callback()
        await settle()


async def settle() -> None:
    """Let every task run until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_acquire_near_the_limit_queues_and_passes_by_priority() -> None:
    """A cancel that came last passes first when capacity returns."""
    bench, passed = Bench(), []

    async def ask(name: str, priority: Priority) -> None:
        await bench.gate.acquire("orders", 1, priority, 60)
        passed.append(name)

    await bench.spend()
    async with asyncio.TaskGroup() as tasks:
        for name, priority in (
            ("query", Priority.QUERY),
            ("order", Priority.ORDER),
            ("cancel", Priority.CANCEL),
        ):
            tasks.create_task(ask(name, priority))
        await settle()
        assert (passed, bench.gate.waiting) == ([], 3)
        await bench.advance(9.9)
        assert passed == []
        await bench.advance(0.1)
        assert passed == ["cancel", "order"]
        await bench.advance(10)
    assert passed == ["cancel", "order", "query"]
    assert all(timer.cancelled for timer in bench.timers)


async def test_acquire_when_the_wait_passes_the_time_out_refuses_at_once() -> None:
    """The refusal says how long to wait, that it is our own limit, and that nothing was sent."""
    bench = Bench()
    await bench.spend()
    bench.clock.advance(4)
    with pytest.raises(RateLimited) as caught:
        await bench.gate.acquire("orders", 1, Priority.ORDER, 5)
    assert caught.value.retry_after_s == 6
    assert (caught.value.reason, caught.value.sent) == (Reason.RATE_LIMIT_LOCAL, Sent.NO)
    assert bench.gate.waiting == 0


async def test_acquire_when_overtaken_past_its_time_out_is_refused_then() -> None:
    """A waiter whose turn others took leaves at its deadline with a refusal, not later."""
    bench = Bench()
    await bench.spend()
    query = asyncio.create_task(bench.gate.acquire("orders", 1, Priority.QUERY, 15))
    await settle()
    cancels = [asyncio.create_task(bench.gate.acquire("orders", 1, Priority.CANCEL, 60)) for _ in range(2)]
    await settle()
    await bench.advance(10)
    await asyncio.gather(*cancels)
    assert not query.done()
    await bench.advance(5)
    assert query.done()
    with pytest.raises(RateLimited) as caught:
        await query
    assert caught.value.retry_after_s == 5


async def test_acquire_when_cancelled_leaves_the_queue_to_others() -> None:
    """A caller who gives up takes nothing and holds up nobody."""
    bench = Bench()
    await bench.spend()
    first = asyncio.create_task(bench.gate.acquire("orders", 2, Priority.ORDER, 60))
    second = asyncio.create_task(bench.gate.acquire("orders", 1, Priority.ORDER, 60))
    await settle()
    first.cancel()
    await settle()
    assert first.cancelled()
    assert bench.gate.waiting == 1
    await bench.advance(10)
    await second
    assert bench.gate.remaining()[0].used == 1


async def test_acquire_when_the_queue_is_full_refuses_the_least() -> None:
    """The bound holds; a cancel takes the place of a query, who is told so."""
    bench = Bench(max_waiting=1)
    await bench.spend()
    query = asyncio.create_task(bench.gate.acquire("orders", 1, Priority.QUERY, 60))
    await settle()
    with pytest.raises(RateLimited):
        await bench.gate.acquire("orders", 1, Priority.QUERY, 60)
    cancel = asyncio.create_task(bench.gate.acquire("orders", 1, Priority.CANCEL, 60))
    await settle()
    with pytest.raises(RateLimited):
        await query
    await bench.advance(10)
    await cancel


async def test_penalise_makes_everyone_wait_for_the_named_time() -> None:
    """P34: after a retry-after nothing passes that budget, also who waits already; others go on."""
    bench = Bench()
    bench.gate.penalise(["orders"], 30)
    waiter = asyncio.create_task(bench.gate.acquire("orders", 1, Priority.CANCEL, 60))
    await bench.gate.acquire("queries", 1, Priority.QUERY, 0)
    await bench.advance(29.9)
    assert not waiter.done()
    await bench.advance(0.1)
    await waiter


async def test_charge_counts_and_remaining_shows_it() -> None:
    """P35: weight learnt later is visible in what remains."""
    bench = Bench()
    await bench.gate.acquire_all(Charge(costs={"orders": 1, "queries": 1}, priority=Priority.ORDER), 0)
    bench.gate.charge("orders", 1)
    orders, queries = bench.gate.remaining()
    assert (orders.used, orders.remaining, orders.reset_s) == (2, 0, 10)
    assert (queries.used, queries.remaining) == (1, 0)


async def test_acquire_of_an_unknown_budget_is_a_fault_of_the_caller() -> None:
    """A misspelt category must not pass unnoticed."""
    with pytest.raises(ValueError, match="no budget named"):
        await Bench().gate.acquire("order", 1, Priority.ORDER, 1)


async def test_gate_on_the_loop_timer_really_wakes_its_waiter() -> None:
    """With the loop's own timer a waiter passes without anybody's help."""
    clock = ManualClock()
    gate = LimiterGate(LimiterQueue(Limiter([BudgetSpec(name="w", limit=1, window_s=0.01)])), clock)
    await gate.acquire("w", 1, Priority.ORDER, 0)
    waiter = asyncio.create_task(gate.acquire("w", 1, Priority.ORDER, 5))
    await settle()
    clock.advance(0.01)
    async with asyncio.timeout(60):
        await waiter
