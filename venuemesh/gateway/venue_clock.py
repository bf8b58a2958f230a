"""How far our wall clock is from the venue's, by the dates of its answers. No I/O.

An answer's date was the venue's time, cut to the second, at some instant between our asking and its coming. That bounds
the difference of the clocks from both sides, and answers together bound it closer than any one of them: to about the
time of a round trip. What both bounds leave open is nobody's fault; only what they prove is told.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from venuemesh.clock import Clock
from venuemesh.gateway.order_wire import NS_PER_S
from venuemesh.transport.observer import RequestRecord, StateRecord

MAX_ANSWERS = 64
MAX_AGE_S = 600.0


@dataclass(frozen=True, slots=True)
class _Answer:
    """Bounds of how far our clock is ahead, negative when it is behind, and when they were found."""

    least_ns: int
    most_ns: int
    at_s: float


class VenueClock:
    """A `venuemesh.transport.observer.Observer` of the requests to one venue.

    Bound: the latest `MAX_ANSWERS` answers of the last `MAX_AGE_S` seconds.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._answers: deque[_Answer] = deque(maxlen=MAX_ANSWERS)
        self.on_answer: Callable[[], None] = lambda: None
        """Called after each answer that had a date."""

    def on_request(self, record: RequestRecord) -> None:
        """Learn from an answer with a date."""
        if not record.date_s:
            return
        date_ns, came_ns = record.date_s * NS_PER_S, record.started_ns + int(record.latency_s * NS_PER_S)
        answer = _Answer(record.started_ns - date_ns - NS_PER_S, came_ns - date_ns, self._clock.monotonic_s())
        least_ns, most_ns = self.ahead_ns()
        if answer.least_ns > most_ns or answer.most_ns < least_ns:
            # One of the clocks was set meanwhile: what was found before is no longer so.
            self._answers.clear()
        self._answers.append(answer)
        self.on_answer()

    def on_state(self, record: StateRecord) -> None:
        """Says nothing about clocks."""

    def ahead_ns(self) -> tuple[float, float]:
        """How far our clock is ahead of the venue's, at least and at most; infinite while nothing is known."""
        since_s = self._clock.monotonic_s() - MAX_AGE_S
        while self._answers and self._answers[0].at_s < since_s:
            self._answers.popleft()
        least_ns = max((answer.least_ns for answer in self._answers), default=-float("inf"))
        most_ns = min((answer.most_ns for answer in self._answers), default=float("inf"))
        return least_ns, most_ns

    def proven_ns(self) -> int:
        """The difference that is certain: above 0 our clock is ahead, below 0 behind, 0 when they may be the same."""
        least_ns, most_ns = self.ahead_ns()
        if least_ns > 0:
            return int(least_ns)
        return int(most_ns) if most_ns < 0 else 0
