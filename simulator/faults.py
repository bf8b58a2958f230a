"""Faults on demand: a small table the fronts consult. Pure.

A rule names what goes wrong, for which action and how often; a front asks `take` at each point where
something could. Rules are used up in the order they were added.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class FaultKind(StrEnum):
    """What can go wrong."""

    DROP_REPLY = "drop_reply"  # the action takes effect, the connection dies unanswered
    DELAY_REPLY = "delay_reply"  # the action takes effect, the answer comes `delay_s` later
    DELAY_BEFORE = "delay_before"  # the action takes effect `delay_s` later
    RESET_BEFORE = "reset_before"  # the connection dies before any effect
    RATE_LIMIT = "rate_limit"  # 429, with Retry-After when `retry_after_s` is set; no effect
    REFUSE = "refuse"  # answered with status "err" and `text`; no effect
    ERROR_BEFORE = "error_before"  # `status` (a 5xx) and no effect
    ERROR_AFTER = "error_after"  # the action takes effect, the answer is `status`
    GARBLE_REPLY = "garble_reply"  # the action takes effect, the answer is not JSON
    DROP_FRAME = "drop_frame"  # a WebSocket frame is lost
    DUPLICATE_FRAME = "duplicate_frame"  # a WebSocket frame is sent twice
    REORDER_FRAME = "reorder_frame"  # a WebSocket frame is sent after the next one
    REFUSE_CONNECTIONS = "refuse_connections"  # new connections and requests are reset until cleared
    DELAY_FRAME = "delay_frame"  # a WebSocket frame, and those behind it, come `delay_s` later
    # Of the Lighter front alone:
    BOOK_GAP = "book_gap"  # the next change of a book begins at a nonce where no frame ended
    SPEND_NONCE = "spend_nonce"  # somebody else's transaction takes the nonce just before this one
    STALE_NONCE = "stale_nonce"  # `nextNonce` answers one too low
    LATE_REFUSAL = "late_refusal"  # taken and answered 200, then refused by the sequencer with `code`


FRAME_KINDS = frozenset({FaultKind.DROP_FRAME, FaultKind.DUPLICATE_FRAME, FaultKind.REORDER_FRAME})
BOOK_KINDS = frozenset({FaultKind.BOOK_GAP})
RESETTING = frozenset({FaultKind.DROP_REPLY, FaultKind.RESET_BEFORE})  # the answer is a connection that dies
NONCE_KINDS = frozenset({FaultKind.SPEND_NONCE, FaultKind.STALE_NONCE, FaultKind.LATE_REFUSAL})
DELAYED_FRAME_KINDS = frozenset({FaultKind.DELAY_FRAME})
REQUEST_KINDS = frozenset(
    set(FaultKind) - FRAME_KINDS - BOOK_KINDS - NONCE_KINDS - DELAYED_FRAME_KINDS - {FaultKind.REFUSE_CONNECTIONS}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One rule.

    Args:
        kind: what goes wrong.
        match: action type ("order"), info type ("info:l2Book"), channel ("orderUpdates") or "*" for any. On the
            Lighter front: transaction type ("create_order", "batch"), read ("info:account"), channel
            ("order_book"), and for book gaps the market ("BTC").
        count: how often before it is used up; 0 for until cleared.
        skip: how many matches pass unharmed first.
        delay_s: seconds, for delays.
        status: HTTP status, for errors.
        retry_after_s: seconds, for rate limits; None sends no header.
        text: what a refusal says.
        code: the error code of a refusal, where the venue has codes.
    """

    kind: FaultKind
    match: str = "*"
    count: int = 1
    skip: int = 0
    delay_s: float = 0.0
    status: int = 500
    retry_after_s: int | None = None
    text: str = ""
    code: int = 0


class FaultPlan:
    """The rules in force. At most `LIMIT` at a time."""

    LIMIT = 1000

    def __init__(self) -> None:
        self._rules: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Put a rule in force.

        Raises:
            ValueError: there are too many.
        """
        if len(self._rules) >= self.LIMIT:
            raise ValueError(f"more than {self.LIMIT} faults")
        self._rules.append(fault)

    def clear(self) -> None:
        """Lift every rule."""
        self._rules.clear()

    @property
    def rules(self) -> tuple[Fault, ...]:
        """Rules not used up."""
        return tuple(self._rules)

    def take(self, kinds: frozenset[FaultKind], name: str) -> Fault | None:
        """The first rule of these kinds that matches `name`, counted as used; None when all is well."""
        for place, rule in enumerate(self._rules):
            if rule.kind not in kinds or rule.match not in ("*", name):
                continue
            if rule.skip:
                self._rules[place] = replace(rule, skip=rule.skip - 1)
                continue
            if rule.count == 1:
                del self._rules[place]
            elif rule.count > 1:
                self._rules[place] = replace(rule, count=rule.count - 1)
            return rule
        return None

    def request_fault(self, name: str) -> Fault | None:
        """What befalls the request `name` now."""
        return self.take(REQUEST_KINDS, name)

    def nonce_fault(self, name: str, kind: FaultKind) -> Fault | None:
        """Whether a nonce fault of `kind` befalls the request `name` now."""
        return self.take(frozenset({kind}), name)

    def book_gap(self, market: str) -> bool:
        """Whether the chain of a market's book breaks now."""
        return self.take(BOOK_KINDS, market) is not None

    def frame_delay_s(self, channel: str) -> float:
        """How long a frame of `channel` is held back now."""
        found = self.take(DELAYED_FRAME_KINDS, channel)
        return 0.0 if found is None else found.delay_s

    def frame_fault(self, channel: str) -> Fault | None:
        """What befalls a frame of `channel` now."""
        return self.take(FRAME_KINDS, channel)

    def refuses_connections(self) -> bool:
        """Whether new connections are refused now; each refusal counts."""
        return self.take(frozenset({FaultKind.REFUSE_CONNECTIONS}), "*") is not None
