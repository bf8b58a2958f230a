"""A venue's circuit breaker: keeps new orders from a venue that fails, hangs or crawls. Pure; time is given.

CLOSED while its calls go well. Over a sliding window it counts the calls that tell something about the venue and opens
at a rate of failures, of time-outs or of slow calls. OPEN lets no new order pass for a while, longer each time it has
to open again. HALF_OPEN then lets a few pass as a test: if all go well it closes, at the first that does not it opens.
A person may force it open or closed; it counts meanwhile and decides nothing.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

SLOTS = 10
"""Steps in which the window moves."""


class State(StrEnum):
    """What it does with new orders."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Verdict(StrEnum):
    """What the end of a call tells about the venue."""

    SUCCESS = "success"
    FAILURE = "failure"
    TIMEOUT = "timeout"
    """Nobody told the result; the call may have taken effect."""
    ABANDONED = "abandoned"
    """The caller went away first: only how long it had waited tells something."""
    NEUTRAL = "neutral"
    """Nothing: it did not get as far as the venue, or the venue is not to blame."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerRules:
    """When it opens and how it closes.

    Args:
        window_s: how far back it looks, to a tenth.
        min_calls: of fewer calls no rate of failures or slow calls is taken.
        failure_ratio: opens at this share of failed calls, time-outs among them.
        min_timeouts: with fewer time-outs their rate is not looked at.
        timeout_ratio: opens at this share of time-outs; lower than that of failures, as each leaves an order in doubt.
        timeouts_in_row: opens at so many time-outs with nothing answered between them: a venue that hangs slows its
            callers down, so that in the window what went well before outweighs it for long.
        slow_ratio: opens at this share of slow calls.
        slow_s: a call that takes this long is slow.
        min_timeout_s: a time-out counts if the call was given so long: a caller in a hurry proves nothing.
        open_s: how long it stays open the first time; doubles each time a test fails.
        open_cap_s: longest that it stays open.
        probes: calls of a test; all must go well, and no more are under way at once.
    """

    window_s: float = 30.0
    min_calls: int = 10
    failure_ratio: float = 0.5
    min_timeouts: int = 3
    timeout_ratio: float = 0.25
    timeouts_in_row: int = 5
    slow_ratio: float = 0.8
    slow_s: float = 1.0
    min_timeout_s: float = 0.5
    open_s: float = 5.0
    open_cap_s: float = 15.0
    probes: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Permit:
    """A call under way. Each is given back once, through `Breaker.end`."""

    begun_s: float
    era: int
    is_probe: bool = False


@dataclass(slots=True)
class Counts:
    """Calls of the window, and of them: failed, timed out (failed too), slow."""

    calls: int = 0
    failures: int = 0
    timeouts: int = 0
    slow: int = 0

    def add(self, other: Counts) -> None:
        """Add the other's numbers to these."""
        self.calls += other.calls
        self.failures += other.failures
        self.timeouts += other.timeouts
        self.slow += other.slow


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerView:
    """What is shown of it.

    Args:
        since_s: when it came into this state.
        retry_at_s: when the first test call may pass; None unless open of its own accord.
    """

    state: State
    since_s: float
    cause: str
    forced: bool
    counts: Counts
    retry_at_s: float | None


@dataclass(slots=True)
class _Window:
    """Counts per slot of time; the oldest slot leaves as a whole."""

    slot_s: float
    slots: deque[tuple[int, Counts]] = field(default_factory=deque)

    def add(self, one: Counts, now_s: float) -> None:
        place = self._trim(now_s)
        if not self.slots or self.slots[-1][0] != place:
            self.slots.append((place, Counts()))
        self.slots[-1][1].add(one)

    def total(self, now_s: float) -> Counts:
        self._trim(now_s)
        whole = Counts()
        for _, counts in self.slots:
            whole.add(counts)
        return whole

    def _trim(self, now_s: float) -> int:
        place = int(now_s // self.slot_s)
        while self.slots and self.slots[0][0] <= place - SLOTS:
            self.slots.popleft()
        return place


class Breaker:
    """One venue's breaker. Times are seconds on one monotonic clock and never go back."""

    def __init__(self, rules: BreakerRules, now_s: float) -> None:
        self._rules = rules
        self._window = _Window(rules.window_s / SLOTS)
        self._state = State.CLOSED
        self._since_s = now_s
        self._cause = ""
        self._forced = False
        self._era = 0
        self._open_for_s = rules.open_s
        self._in_row = 0
        self._probing = 0
        self._passed = 0

    # --- calls ---

    def admit(self, now_s: float) -> Permit | None:
        """A permit for a new order; None when it must not be sent."""
        self._advance(now_s)
        if self._state is State.OPEN:
            return None
        if self._state is State.HALF_OPEN:
            if self._probing + self._passed >= self._rules.probes:
                return None
            self._probing += 1
            return Permit(begun_s=now_s, era=self._era, is_probe=True)
        return Permit(begun_s=now_s, era=self._era)

    def watch(self, now_s: float) -> Permit:
        """A permit for a call that passes in every state; it decides something only while closed."""
        self._advance(now_s)
        return Permit(begun_s=now_s, era=self._era)

    def end(
        self, permit: Permit, verdict: Verdict, now_s: float, *, given_s: float | None = None, patient: bool = False
    ) -> None:
        """The call of `permit` has ended.

        Args:
            given_s: how long it had at most when it began; None when nothing bounded it.
            patient: the caller asked to wait for more than the venue's answer, so it cannot be slow.
        """
        self._advance(now_s)
        if permit.era != self._era:
            # It began before the state that is judged now.
            return
        took_s = now_s - permit.begun_s
        one = self._counted(verdict, given_s, is_slow=took_s >= self._rules.slow_s and not patient)
        if permit.is_probe:
            self._end_probe(one, now_s)
        elif one is not None:
            self._window.add(one, now_s)
            self._in_row = self._in_row + 1 if one.timeouts else 0
            if self._state is State.CLOSED and not self._forced:
                cause = self._reason_to_open(now_s)
                if cause:
                    self._open(cause, now_s)

    def _counted(self, verdict: Verdict, given_s: float | None, *, is_slow: bool) -> Counts | None:
        """What a call adds to the window; None when it tells nothing."""
        if verdict is Verdict.NEUTRAL or (verdict is Verdict.ABANDONED and not is_slow):
            return None
        timed_out = verdict is Verdict.TIMEOUT
        if timed_out and given_s is not None and given_s < self._rules.min_timeout_s:
            return None
        failed = timed_out or verdict is Verdict.FAILURE
        return Counts(calls=1, failures=int(failed), timeouts=int(timed_out), slow=int(is_slow))

    def _end_probe(self, one: Counts | None, now_s: float) -> None:
        self._probing -= 1
        if one is None:
            # Its place is free for another.
            return
        if one.failures or one.slow:
            self._open_for_s = min(self._open_for_s * 2, self._rules.open_cap_s)
            self._open("a test call timed out" if one.timeouts else _words(one), now_s)
            return
        self._passed += 1
        if self._passed >= self._rules.probes:
            self._close(f"{self._passed} test calls went well", now_s)

    def _reason_to_open(self, now_s: float) -> str:
        rules, seen = self._rules, self._window.total(now_s)
        of = f"of {seen.calls} calls in {rules.window_s:g} s"
        if seen.timeouts >= rules.min_timeouts and seen.timeouts >= rules.timeout_ratio * seen.calls:
            return f"{seen.timeouts} {of} timed out"
        if self._in_row >= rules.timeouts_in_row:
            return f"{self._in_row} calls in a row timed out"
        if seen.calls < rules.min_calls:
            return ""
        if seen.failures >= rules.failure_ratio * seen.calls:
            return f"{seen.failures} {of} failed"
        if seen.slow >= rules.slow_ratio * seen.calls:
            return f"{seen.slow} {of} took {rules.slow_s:g} s or more"
        return ""

    # --- states ---

    def _enter(self, state: State, cause: str, now_s: float) -> None:
        self._state, self._cause, self._since_s = state, cause, now_s
        self._era += 1
        self._in_row = self._probing = self._passed = 0

    def _open(self, cause: str, now_s: float) -> None:
        self._enter(State.OPEN, cause, now_s)

    def _close(self, cause: str, now_s: float) -> None:
        self._enter(State.CLOSED, cause, now_s)
        self._window.slots.clear()
        self._open_for_s = self._rules.open_s

    def _advance(self, now_s: float) -> None:
        if self._state is State.OPEN and not self._forced and now_s >= self._since_s + self._open_for_s:
            self._enter(State.HALF_OPEN, f"tested after: {self._cause}", self._since_s + self._open_for_s)

    def force(self, state: State, cause: str, now_s: float) -> None:
        """Keep it open or closed until `release`.

        Raises:
            ValueError: half open is nothing to stay in.
        """
        if state is State.HALF_OPEN:
            raise ValueError("a breaker is forced open or closed")
        self._enter(state, cause, now_s)
        self._forced = True

    def release(self, cause: str, now_s: float) -> None:
        """Let it decide again: closed, as if nothing had been counted. One that decides already is left alone."""
        if self._forced:
            self._forced = False
            self._close(cause, now_s)

    def change(self, rules: BreakerRules, now_s: float) -> None:
        """Decide by other rules from now on. What was counted was counted by the former ones and is gone, a test under
        way begins anew; state and force stay."""
        if rules == self._rules:
            return
        self._advance(now_s)
        self._rules = rules
        self._window = _Window(rules.window_s / SLOTS)
        if self._state is State.CLOSED:
            self._open_for_s = rules.open_s
        self._open_for_s = min(self._open_for_s, rules.open_cap_s)
        self._era += 1
        self._in_row = self._probing = self._passed = 0

    # --- looking at it ---

    def view(self, now_s: float) -> BreakerView:
        """All of it now."""
        self._advance(now_s)
        waits = self._state is State.OPEN and not self._forced
        return BreakerView(
            state=self._state,
            since_s=self._since_s,
            cause=self._cause,
            forced=self._forced,
            counts=self._window.total(now_s),
            retry_at_s=self._since_s + self._open_for_s if waits else None,
        )

    def refuses(self, now_s: float) -> bool:
        """Whether a new order would get no permit now."""
        self._advance(now_s)
        full = self._probing + self._passed >= self._rules.probes
        return self._state is State.OPEN or (self._state is State.HALF_OPEN and full)


def _words(one: Counts) -> str:
    return "a test call failed" if one.failures else "a test call was slow"
