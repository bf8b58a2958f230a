"""What a person should know of a gateway: conditions that last, and events that were. No I/O.

Bounded in every way: at most `MAX_LASTING` conditions and `MAX_RECENT` different events are remembered, and an event
that repeats is told once per `REPEAT_AFTER_S`, with how often it was passed over. Who listens and is slow loses its
stream, never the others theirs.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from venuemesh.clock import Clock
from venuemesh.gateway.order_wire import timestamp
from venuemesh.v1 import operations_pb2

log = logging.getLogger(__name__)

MAX_LASTING = 1_000
MAX_RECENT = 1_000
MAX_TEXT = 2_000
REPEAT_AFTER_S = 60.0

Severity = operations_pb2.AlertSeverity
INFO = operations_pb2.ALERT_SEVERITY_INFO
WARNING = operations_pb2.ALERT_SEVERITY_WARNING
CRITICAL = operations_pb2.ALERT_SEVERITY_CRITICAL

LINK_LOST = "link_lost"
LINK_DEGRADED = "link_degraded"
ORDERS_PAUSED = "orders_paused"
AUDIT_LOST = "audit_lost"
CLOCK_SKEW = "clock_skew"
ACCOUNT_STALE = "account_stale"
DISCREPANCY = "reconcile_discrepancy"
UNKNOWN_TEXT = "unknown_venue_text"
ILLEGAL_TRANSITION = "illegal_transition"
ORDER_REVIVED = "order_revived"
ORDER_STUCK = "order_stuck"
SWITCH_FIRED = "dead_mans_switch_fired"
SWITCH_LEFT_ORDERS = "dead_mans_switch_left_orders"
SESSION_LEFT_ORDERS = "order_session_left_orders"


@dataclass(slots=True)
class _Told:
    """When an event was last told, and how often it happened since."""

    at_s: float
    passed_over: int = 0


class Alerts:
    """Alerts of one venue. `listeners` are called with each alert that begins, ends or happens."""

    def __init__(self, venue: str, clock: Clock) -> None:
        self._venue = venue
        self._clock = clock
        self._lasting: dict[tuple[str, str], operations_pb2.Alert] = {}
        self._recent: OrderedDict[tuple[str, str, str], _Told] = OrderedDict()
        self._number = 0
        self.listeners: list[Callable[[operations_pb2.Alert], None]] = []

    def lasting(self) -> list[operations_pb2.Alert]:
        """Conditions that last, oldest first."""
        return list(self._lasting.values())

    def begin(
        self, kind: str, key: str, message: str, *, severity: Severity.ValueType = WARNING, account_id: str = ""
    ) -> None:
        """A condition holds from now on; while it does, a further `begin` of it says nothing new."""
        if (kind, key) in self._lasting or len(self._lasting) >= MAX_LASTING:
            return
        alert = self._make(kind, message, severity, account_id)
        self._lasting[(kind, key)] = alert
        self._tell(alert)

    def end(self, kind: str, key: str) -> None:
        """A condition is over; nothing when it did not hold."""
        alert = self._lasting.pop((kind, key), None)
        if alert is None:
            return
        ended = operations_pb2.Alert()
        ended.CopyFrom(alert)
        ended.end_time.CopyFrom(timestamp(self._clock.now_ns()))
        self._tell(ended)

    def note(self, kind: str, message: str, *, severity: Severity.ValueType = WARNING, account_id: str = "") -> None:
        """Something happened."""
        key, now_s = (kind, account_id, message), self._clock.monotonic_s()
        told = self._recent.get(key)
        if told is not None and now_s - told.at_s < REPEAT_AFTER_S:
            told.passed_over += 1
            return
        if told is not None and told.passed_over:
            message = f"{message} (and {told.passed_over} more since)"
        self._recent[key] = _Told(now_s)
        self._recent.move_to_end(key)
        while len(self._recent) > MAX_RECENT:
            self._recent.popitem(last=False)
        alert = self._make(kind, message, severity, account_id)
        alert.end_time.CopyFrom(alert.begin_time)
        self._tell(alert)

    def _make(self, kind: str, message: str, severity: Severity.ValueType, account_id: str) -> operations_pb2.Alert:
        now_ns = self._clock.now_ns()
        self._number += 1
        name = f"{self._venue}/{account_id}/{kind}/{now_ns}/{self._number}"
        return operations_pb2.Alert(
            alert_id=hashlib.blake2b(name.encode(), digest_size=12).hexdigest(),
            kind=kind,
            severity=severity,
            venue=self._venue,
            account_id=account_id,
            message=message[:MAX_TEXT],
            begin_time=timestamp(now_ns),
        )

    def _tell(self, alert: operations_pb2.Alert) -> None:
        state = "ended" if alert.HasField("end_time") and alert.end_time != alert.begin_time else "raised"
        log.warning("alert", extra={"kind": alert.kind, "alert_state": state, "detail": alert.message})
        for listener in self.listeners:
            listener(alert)
