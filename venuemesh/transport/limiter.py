"""Rate limits of a venue as a state machine on injected time: budgets, priorities, queue. Pure.

Each budget is an exact sliding window: in any half-open interval of `window_s` at most `limit` weight is
granted. Weight is granted, never borrowed; weight learnt after the fact (rows returned) is charged when it
is known and delays what comes next. Time is a monotonic number of seconds given by the caller.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

_SLOTS = 240  # a window is remembered in at most this many steps, whatever the rate: the bound on memory


class Priority(IntEnum):
    """Who goes first near a limit; the smaller the earlier."""

    CANCEL = 0
    ORDER = 1
    QUERY = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetSpec:
    """One limit of the venue.

    Args:
        name: what callers charge, such as `ip_weight`.
        limit: weight allowed per window; give less than the venue allows where its clock may differ.
        window_s: length of the window in seconds.
        cancel_reserve: weight only cancels may use.
        order_reserve: weight only orders and cancels may use, on top of `cancel_reserve`.
    Raises:
        ValueError: a number is out of its range.
    """

    name: str
    limit: int
    window_s: float = 60.0
    cancel_reserve: int = 0
    order_reserve: int = 0

    def __post_init__(self) -> None:
        if self.limit < 1 or not self.window_s > 0:
            raise ValueError(f"budget {self.name}: limit and window_s must be positive")
        if min(self.cancel_reserve, self.order_reserve) < 0:
            raise ValueError(f"budget {self.name}: a reserve is negative")
        if self.cancel_reserve + self.order_reserve >= self.limit:
            raise ValueError(f"budget {self.name}: the reserves leave nothing for queries")

    def ceiling(self, priority: Priority) -> int:
        """Most weight that may be in use after a grant to this priority."""
        if priority is Priority.CANCEL:
            return self.limit
        if priority is Priority.ORDER:
            return self.limit - self.cancel_reserve
        return self.limit - self.cancel_reserve - self.order_reserve


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetView:
    """What remains of a budget, for GetQuota.

    `remaining` is what a cancel could still use; `remaining_orders` and `remaining_queries` leave the
    reserves out. All are 0 while the budget is closed by the venue. `reset_s` is how long until the budget
    is whole again if nothing more is used; `closed_s` how long the venue told us to wait.
    """

    name: str
    limit: int
    used: int
    remaining: int
    remaining_orders: int
    remaining_queries: int
    reset_s: float
    closed_s: float


class _Budget:
    """Sliding window of one budget. Weights of one slot count as used at the slot's latest instant."""

    def __init__(self, spec: BudgetSpec) -> None:
        self.spec = spec
        self.used = 0
        self.closed_until_s = float("-inf")
        self._slot_s = spec.window_s / _SLOTS
        # [first instant, latest instant, weight]: freed as one, a window after the latest instant
        self._slots: deque[list[float]] = deque()

    def expire(self, now: float) -> None:
        # the same sum as in `wait_s`, so that rounding can never free early
        while self._slots and self._slots[0][1] + self.spec.window_s <= now:
            self.used -= int(self._slots.popleft()[2])

    def charge(self, weight: int, now: float) -> None:
        if weight == 0:
            return
        self.used += weight
        if self._slots and now - self._slots[-1][0] < self._slot_s:
            self._slots[-1][1] = max(self._slots[-1][1], now)
            self._slots[-1][2] += weight
        else:
            self._slots.append([now, now, weight])

    def wait_s(self, weight: int, ceiling: int, now: float) -> float:
        """Seconds until `weight` fits under `ceiling` if nothing else is granted; 0 when it fits now."""
        wait = max(0.0, self.closed_until_s - now)
        excess = self.used + weight - ceiling
        for _, latest, freed in self._slots:
            if excess <= 0:
                break
            excess -= int(freed)
            wait = max(wait, latest + self.spec.window_s - now)
        return wait

    def view(self, now: float) -> BudgetView:
        closed_s = max(0.0, self.closed_until_s - now)
        free = {p: 0 if closed_s else max(0, self.spec.ceiling(p) - self.used) for p in Priority}
        reset = self._slots[-1][1] + self.spec.window_s - now if self._slots else 0.0
        return BudgetView(
            name=self.spec.name,
            limit=self.spec.limit,
            used=self.used,
            remaining=free[Priority.CANCEL],
            remaining_orders=free[Priority.ORDER],
            remaining_queries=free[Priority.QUERY],
            reset_s=max(reset, closed_s, 0.0),
            closed_s=closed_s,
        )


class Limiter:
    """All budgets of one venue link. Budgets are independent of each other.

    Raises:
        ValueError: two budgets have one name.
    """

    def __init__(self, specs: Iterable[BudgetSpec]) -> None:
        self._budgets: dict[str, _Budget] = {}
        for spec in specs:
            if spec.name in self._budgets:
                raise ValueError(f"budget {spec.name} is given twice")
            self._budgets[spec.name] = _Budget(spec)

    @property
    def names(self) -> tuple[str, ...]:
        """The budgets' names."""
        return tuple(self._budgets)

    def check(self, costs: Mapping[str, int], priority: Priority) -> None:
        """Refuse what could never be granted.

        Raises:
            ValueError: an unknown budget, a negative weight, or more than the priority's ceiling.
        """
        for name, weight in costs.items():
            budget = self._budgets.get(name)
            if budget is None:
                raise ValueError(f"no budget named {name!r}; there are {', '.join(self._budgets)}")
            if not 0 <= weight <= budget.spec.ceiling(priority):
                ceiling = budget.spec.ceiling(priority)
                raise ValueError(f"weight {weight} is outside 0..{ceiling} of {name} for {priority.name}")

    def try_acquire(self, costs: Mapping[str, int], priority: Priority, now: float) -> bool:
        """Take all of `costs` at once, or nothing and False."""
        if self.short(costs, priority, now):
            return False
        for name, weight in costs.items():
            self._budgets[name].charge(weight, now)
        return True

    def short(self, costs: Mapping[str, int], priority: Priority, now: float) -> list[str]:
        """Names of the budgets that cannot bear their part of `costs` now."""
        return [name for name, weight in costs.items() if self._wait(name, weight, priority, now) > 0]

    def wait_s(self, costs: Mapping[str, int], priority: Priority, now: float) -> float:
        """Seconds until `costs` fits if nothing else is granted; 0 when it fits now.

        `costs` may exceed a ceiling here (own weight plus that of others ahead): whole windows are added,
        which makes it a lower bound.
        """
        waits = [self._wait(name, weight, priority, now) for name, weight in costs.items()]
        return max(waits, default=0.0)

    def _wait(self, name: str, weight: int, priority: Priority, now: float) -> float:
        budget = self._budgets[name]
        budget.expire(now)
        ceiling = budget.spec.ceiling(priority)
        if weight <= ceiling:
            return budget.wait_s(weight, ceiling, now)
        windows, rest = divmod(weight, ceiling)
        return windows * budget.spec.window_s + budget.wait_s(rest, ceiling, now)

    def charge(self, name: str, weight: int, now: float) -> None:
        """Count weight the venue has already taken; may pass the limit and the reserves.

        Raises:
            ValueError: unknown budget or negative weight.
        """
        if name not in self._budgets or weight < 0:
            raise ValueError(f"cannot charge {weight} to budget {name!r}")
        budget = self._budgets[name]
        budget.expire(now)
        budget.charge(weight, now)

    def penalise(self, names: Iterable[str], until_s: float) -> None:
        """Close budgets until an instant the venue named; a later instant wins, an earlier is ignored.

        Nothing passes a closed budget, not even a cancel: the venue would refuse it and may lengthen the ban.
        """
        for name in names:
            budget = self._budgets[name]
            budget.closed_until_s = max(budget.closed_until_s, until_s)

    def remaining(self, now: float) -> tuple[BudgetView, ...]:
        """What remains of every budget."""
        for budget in self._budgets.values():
            budget.expire(now)
        return tuple(budget.view(now) for budget in self._budgets.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """A place in the queue."""

    number: int
    costs: Mapping[str, int]
    priority: Priority
    deadline_s: float  # monotonic instant after which the caller no longer wants it


@dataclass(frozen=True, slots=True, kw_only=True)
class Pumped:
    """What a look at the queue changed, and when to look again (monotonic instant, None when empty)."""

    granted: tuple[Ticket, ...]
    expired: tuple[Ticket, ...]
    next_look_s: float | None


class LimiterQueue:
    """Those who wait for a `Limiter`: by priority, then first come first served, per budget.

    Who waits for one budget never holds up who needs only others. The queue holds at most `max_waiting`;
    when it is full, a newcomer takes the place of the latest of the lowest priority below its own, or is
    refused.
    """

    def __init__(self, limiter: Limiter, *, max_waiting: int = 1024) -> None:
        self.limiter = limiter
        self._max_waiting = max_waiting
        self._waiting: list[Ticket] = []  # in order of (priority, number)
        self._number = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def waiting_for(self, name: str) -> int:
        """How many wait that need this budget."""
        return sum(1 for ticket in self._waiting if ticket.costs.get(name))

    def ticket(self, costs: Mapping[str, int], priority: Priority, deadline_s: float) -> Ticket:
        """A ticket not yet in the queue.

        Raises:
            ValueError: the costs can never be granted.
        """
        self.limiter.check(costs, priority)
        self._number += 1
        return Ticket(number=self._number, costs=dict(costs), priority=priority, deadline_s=deadline_s)

    def estimate_s(self, ticket: Ticket, now: float) -> float:
        """Seconds until the ticket's turn at the earliest; 0 when it can pass now.

        Exact while those ahead fit into one window, a lower bound beyond: it never refuses too early.
        """
        ahead = dict(ticket.costs)
        for other in self._waiting:
            if (other.priority, other.number) < (ticket.priority, ticket.number):
                for name in ticket.costs.keys() & other.costs.keys():
                    ahead[name] += other.costs[name]
        return self.limiter.wait_s(ahead, ticket.priority, now)

    def add(self, ticket: Ticket) -> Ticket | None:
        """Put the ticket in its place; returns the one that lost its place, maybe the ticket itself."""
        loser: Ticket | None = None
        if len(self._waiting) >= self._max_waiting:
            last = self._waiting[-1] if self._waiting else ticket
            if last.priority <= ticket.priority:
                return ticket
            loser = self._waiting.pop()
        place = len(self._waiting)
        while place and self._waiting[place - 1].priority > ticket.priority:
            place -= 1
        self._waiting.insert(place, ticket)
        return loser

    def discard(self, ticket: Ticket) -> None:
        """Leave the queue; harmless when not in it."""
        self._waiting = [other for other in self._waiting if other is not ticket]

    def pump(self, now: float) -> Pumped:
        """Grant what fits, drop what is too late."""
        granted: list[Ticket] = []
        expired: list[Ticket] = []
        waiting: list[Ticket] = []
        held: set[str] = set()  # budgets somebody ahead waits for
        next_look_s: float | None = None
        for ticket in self._waiting:
            if now >= ticket.deadline_s:
                expired.append(ticket)
                continue
            blocked = not held.isdisjoint(ticket.costs)
            if not blocked and self.limiter.try_acquire(ticket.costs, ticket.priority, now):
                granted.append(ticket)
                continue
            held.update(self.limiter.short(ticket.costs, ticket.priority, now))
            waiting.append(ticket)
            look = min(ticket.deadline_s, now + self.limiter.wait_s(ticket.costs, ticket.priority, now))
            if blocked and look <= now:
                look = ticket.deadline_s  # its turn comes with that of whoever is ahead
            next_look_s = look if next_look_s is None else min(next_look_s, look)
        self._waiting = waiting
        return Pumped(granted=tuple(granted), expired=tuple(expired), next_look_s=next_look_s)
