"""Waits for the rate limiter: a thin asyncio shell around `LimiterQueue`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from venuemesh.clock import Clock
from venuemesh.errors import RateLimited, Reason
from venuemesh.transport.limiter import BudgetView, LimiterQueue, Priority, Ticket

_MIN_LOOK_S = 0.001  # an event loop's timer may fire a moment early: do not spin on it


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """What one request costs: weight per budget, and its priority."""

    costs: Mapping[str, int]
    priority: Priority


class Timer(Protocol):
    """A call that may be cancelled before it happens; `asyncio.TimerHandle` is one."""

    def cancel(self) -> None:
        """Do not call."""


class LimiterGate:
    """Lets requests pass when their budgets bear them; near a limit they queue.

    Belongs to one event loop. No background task: one timer, armed only while somebody waits.

    Args:
        queue: the waiting line with its limiter; the gate is its only user.
        clock: monotonic time.
        call_later: arms the timer; the running loop's own unless a test gives another.
    """

    def __init__(
        self,
        queue: LimiterQueue,
        clock: Clock,
        *,
        call_later: Callable[[float, Callable[[], None]], Timer] | None = None,
    ) -> None:
        self._queue = queue
        self._clock = clock
        self._call_later = call_later
        self._futures: dict[int, asyncio.Future[None]] = {}
        self._timer: Timer | None = None

    @property
    def waiting(self) -> int:
        """How many requests wait now."""
        return len(self._queue)

    def waiting_for(self, category: str) -> int:
        """How many requests wait now that need this budget."""
        return self._queue.waiting_for(category)

    async def acquire(self, category: str, weight: int, priority: Priority, timeout_s: float) -> None:
        """Pass with one budget; see `acquire_all`."""
        await self.acquire_all(Charge(costs={category: weight}, priority=priority), timeout_s)

    async def acquire_all(self, charge: Charge, timeout_s: float) -> None:
        """Take the weights of all budgets at once, waiting up to `timeout_s` seconds.

        Raises:
            RateLimited: the wait would take longer, or the queue is full; nothing was taken and
                `retry_after_s` says when the weights would fit.
            ValueError: an unknown budget, or a weight that never fits.
        """
        now = self._clock.monotonic_s()
        ticket = self._queue.ticket(charge.costs, charge.priority, now + timeout_s)
        wait_s = self._queue.estimate_s(ticket, now)
        if wait_s > 0 and wait_s >= timeout_s:
            raise self._refusal(ticket, wait_s)
        # The usual case, without a future; the estimate has counted those who wait ahead.
        if wait_s == 0 and self._queue.limiter.try_acquire(ticket.costs, ticket.priority, now):
            return
        await self._wait(ticket, wait_s)

    async def _wait(self, ticket: Ticket, wait_s: float) -> None:
        loser = self._queue.add(ticket)
        if loser is ticket:
            raise self._refusal(ticket, wait_s)
        if loser is not None:
            self._fail(loser)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._futures[ticket.number] = future
        self._pump()
        try:
            await future
        except asyncio.CancelledError:
            # Granted in the same instant: the weight counts as used, which errs on the safe side.
            self._futures.pop(ticket.number, None)
            self._queue.discard(ticket)
            self._pump()
            raise

    def charge(self, category: str, weight: int) -> None:
        """Count weight learnt after the fact, such as for rows returned."""
        self._queue.limiter.charge(category, weight, self._clock.monotonic_s())

    def penalise(self, categories: Iterable[str], retry_after_s: float) -> None:
        """Close budgets for `retry_after_s` seconds, as the venue asked; who waits keeps its place."""
        self._queue.limiter.penalise(categories, self._clock.monotonic_s() + retry_after_s)
        self._pump()

    def remaining(self) -> tuple[BudgetView, ...]:
        """What remains of every budget now."""
        return self._queue.limiter.remaining(self._clock.monotonic_s())

    def _pump(self) -> None:
        now = self._clock.monotonic_s()
        pumped = self._queue.pump(now)
        for ticket in pumped.granted:
            self._settle(ticket, None)
        for ticket in pumped.expired:
            self._fail(ticket)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if pumped.next_look_s is not None:
            call_later = self._call_later or asyncio.get_running_loop().call_later
            self._timer = call_later(max(_MIN_LOOK_S, pumped.next_look_s - now), self._pump)

    def _fail(self, ticket: Ticket) -> None:
        self._settle(ticket, self._refusal(ticket, self._queue.estimate_s(ticket, self._clock.monotonic_s())))

    def _settle(self, ticket: Ticket, error: RateLimited | None) -> None:
        future = self._futures.pop(ticket.number, None)
        if future is None or future.done():
            return
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(error)

    def _refusal(self, ticket: Ticket, wait_s: float) -> RateLimited:
        names = ", ".join(f"{name} needs {weight}" for name, weight in ticket.costs.items())
        return RateLimited(
            f"local limit: {names}; about {wait_s:.3f} s to wait",
            reason=Reason.RATE_LIMIT_LOCAL,
            retry_after_s=wait_s,
        )
