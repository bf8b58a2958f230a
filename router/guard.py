"""One venue's breaker around the calls to its gateway: admits, times and judges them.

A new order needs a permit. Whatever concerns orders that are there already passes in every state: cancels, amendments,
reads and repeats of keys that the gateway has.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from router.breaker import Breaker, BreakerView, Permit, State, Verdict
from router.call_rules import CallRule
from router.settings import BreakerSettings
from router.verdicts import verdict_of_answer, verdict_of_error
from router.views import Refusal
from venuemesh.clock import Clock
from venuemesh.deadlines import remaining_s
from venuemesh.errors import CircuitOpen, MeshError, Reason
from venuemesh.v1 import order_service_pb2 as pb

RETRY_AFTER_S = 1.0


class Watched:
    """A call under way; `answer` is set by who makes it."""

    def __init__(self) -> None:
        self.answer: Any = None


class CallGuard:
    """The breaker of one venue and the clock it runs on."""

    def __init__(self, venue: str, settings: BreakerSettings, clock: Clock) -> None:
        self._venue = venue
        self._settings = settings
        self._clock = clock
        self.on_change: list[Callable[[], None]] = []
        """Called after each change, with the breaker as it is then."""
        self._breaker = Breaker(settings.rules, clock.monotonic_s())
        self._shown = State.CLOSED, False, ""
        self._anchor_ns = self._anchor()

    # --- calls ---

    @contextmanager
    def call(self, rule: CallRule, request: Any, *, given_s: float | None, known: bool = False) -> Iterator[Watched]:
        """Make a call in the block.

        Args:
            given_s: bound of the call beside the deadline of what it serves; None for that alone.
            known: its gateway has the order's key, so that the call makes no order.
        Raises:
            CircuitOpen: the breaker lets no new order pass; nothing was sent.
        """
        if not rule.judged:
            if rule.is_read:
                self._check_read()
            yield Watched()
            return
        permit = self._permit(rule, known=known)
        bounds = [bound for bound in (given_s, remaining_s()) if bound is not None]
        watched, verdict = Watched(), Verdict.NEUTRAL
        try:
            yield watched
            verdict = verdict_of_answer(watched.answer)
        except MeshError as error:
            verdict = verdict_of_error(error)
            raise
        except asyncio.CancelledError:
            verdict = Verdict.ABANDONED
            raise
        finally:
            self._breaker.end(
                permit,
                verdict,
                self._clock.monotonic_s(),
                given_s=min(bounds, default=None),
                patient=_waits_for_more(request),
            )
            self.look()

    def _permit(self, rule: CallRule, *, known: bool) -> Permit:
        now_s = self._clock.monotonic_s()
        if not rule.makes_orders or known:
            return self._breaker.watch(now_s)
        permit = self._breaker.admit(now_s)
        self.look()
        if permit is None:
            raise self.refused()
        return permit

    def _check_read(self) -> None:
        if not self._settings.reads_pass and self.view().state is State.OPEN:
            raise self.refused()

    # --- what it says ---

    def view(self) -> BreakerView:
        """The breaker now."""
        return self._breaker.view(self._clock.monotonic_s())

    def refusal(self) -> Refusal | None:
        """Why a new order would be refused now; None when it would not."""
        if not self._breaker.refuses(self._clock.monotonic_s()):
            return None
        error = self.refused()
        return Refusal(Reason.CIRCUIT_OPEN, error.message, error.metadata)

    def refused(self) -> CircuitOpen:
        """The error of a call that was not made."""
        seen = self.view()
        how = "forced open" if seen.forced else seen.state.replace("_", " ")
        wait_s = RETRY_AFTER_S
        if seen.retry_at_s is not None:
            wait_s = max(seen.retry_at_s - self._clock.monotonic_s(), 0.0)
        return CircuitOpen(
            f"the circuit breaker of {self._venue} is {how}: {seen.cause}",
            retry_after_s=wait_s,
            metadata={"venue": self._venue, "circuit_state": seen.state.value, "cause": seen.cause},
        )

    def wall_ns(self, at_s: float) -> int:
        """Wall time of a moment on the breaker's clock."""
        return self._anchor_ns + round(at_s * 1e9)

    def _anchor(self) -> int:
        """Wall time at which the monotonic clock was 0. Taken per change, so that what is shown stays as it was."""
        return self._clock.now_ns() - round(self._clock.monotonic_s() * 1e9)

    # --- operating it ---

    def force(self, state: State, cause: str) -> None:
        """Keep it open or closed until `release`."""
        self._breaker.force(state, cause, self._clock.monotonic_s())
        self.look()

    def release(self, cause: str) -> None:
        """Let it decide again."""
        self._breaker.release(cause, self._clock.monotonic_s())
        self.look()

    def change(self, settings: BreakerSettings) -> None:
        """Judge by other rules from now on; see `Breaker.change`."""
        self._settings = settings
        self._breaker.change(settings.rules, self._clock.monotonic_s())
        self.look()

    def look(self) -> None:
        """Tell of a change that time or a call has brought."""
        seen = self.view()
        if (seen.state, seen.forced, seen.cause) != self._shown:
            self._shown = seen.state, seen.forced, seen.cause
            self._anchor_ns = self._anchor()
            for tell in self.on_change:
                tell()


def _waits_for_more(request: Any) -> bool:
    """Whether the caller asked to wait for the end of the order, however long that takes."""
    return getattr(request, "ack_level", pb.ACK_LEVEL_UNSPECIFIED) == pb.ACK_LEVEL_TERMINAL
