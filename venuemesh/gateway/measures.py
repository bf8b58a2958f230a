"""Prometheus metrics of a gateway: what its links do and how its orders stand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from prometheus_client import Counter

from venuemesh.clock import Clock
from venuemesh.gateway.account import Account
from venuemesh.gateway.attempts import Attempt
from venuemesh.gateway.books import FreshnessChange
from venuemesh.gateway.core import GatewayCore
from venuemesh.gateway.desk import Gate
from venuemesh.gateway.evidence import outcome_of
from venuemesh.gateway.orders import OrderState
from venuemesh.metrics import Metrics
from venuemesh.transport.link import LinkState
from venuemesh.transport.observer import RequestOutcome, RequestRecord, StateRecord
from venuemesh.v1 import event_pb2, order_service_pb2, reconciliation_pb2, stream_pb2, venue_pb2

NOT_SENT = "not_sent"


class LinkMetrics:
    """A `venuemesh.transport.observer.Observer`: requests to the venue and states of its connections."""

    def __init__(self, metrics: Metrics, venue: str) -> None:
        self._venue = venue
        self._seconds = metrics.histogram(
            "venue_request_seconds", "Requests to the venue until answered", ("venue", "endpoint", "outcome")
        )
        self._state = metrics.gauge("link_state", "1 for the state a connection is in", ("venue", "link", "state"))
        self._connections = metrics.counter("link_connections", "Connections made", ("venue", "link"))

    def on_request(self, record: RequestRecord) -> None:
        """Count one attempt with its latency; an answer that came late has none."""
        if record.outcome is RequestOutcome.LATE:
            return
        self._seconds.labels(self._venue, record.endpoint, record.outcome.value).observe(record.latency_s)

    def on_state(self, record: StateRecord) -> None:
        """Move the connection to its new state."""
        for state in LinkState:
            self._state.labels(self._venue, record.link, state.value).set(1 if state is record.state else 0)
        if record.state is LinkState.LIVE:
            self._connections.labels(self._venue, record.link).inc()


class OrderMetrics:
    """What became of submits, and what the account log holds."""

    def __init__(self, metrics: Metrics, core: GatewayCore, clock: Clock) -> None:
        self._venue = core.venue.name
        self._clock = clock
        self._seconds = metrics.histogram(
            "order_submit_seconds",
            "Time from a submit's arrival until its outcome was known or lost",
            ("venue", "outcome"),
        )
        self._events = metrics.counter("events", "Account events made durable, by kind", ("venue", "kind"))
        self._kinds: dict[str, Counter] = {}
        core.desk.on_ended = self.on_ended
        core.log.on_durable(self.on_event)

    def on_ended(self, attempt: Attempt, order: OrderState | None) -> None:
        """A submit has ended; one that was not journalled was certainly not sent."""
        outcome = NOT_SENT
        if order is not None:
            name = order_service_pb2.SubmitOutcome.Name(outcome_of(order, in_flight=False))
            outcome = name.removeprefix("SUBMIT_OUTCOME_").lower()
        self._seconds.labels(self._venue, outcome).observe(self._clock.monotonic_s() - attempt.received_s)

    def on_event(self, event: event_pb2.Event) -> None:
        """An event is durable."""
        kind = event.WhichOneof("payload") or "other"
        counter = self._kinds.get(kind)
        if counter is None:
            counter = self._kinds[kind] = self._events.labels(self._venue, kind)
        counter.inc()


class LinkGauges:
    """Quality of each connection, as of the gateway's last look; a listener of `LinkWatch`."""

    def __init__(self, metrics: Metrics, venue: str) -> None:
        self._venue = venue
        labels = ("venue", "link")
        self._uptime = metrics.gauge("link_uptime_ratio", "Share of time connected since the start", labels)
        self._errors = metrics.gauge("link_error_ratio", "Failed requests of all in the last minute", labels)
        self._degraded = metrics.gauge("link_degraded", "1 while a connection is degraded", labels)
        self._reconnections = metrics.gauge("link_reconnections", "Reconnections since the start", labels)
        self._latency = metrics.gauge("link_latency_seconds", "Round trip in the last minute", (*labels, "quantile"))

    def __call__(self, links: Sequence[venue_pb2.LinkStatus]) -> None:
        """Take over what was seen."""
        for link in links:
            names = (self._venue, link.link_id)
            self._uptime.labels(*names).set(link.uptime_ppm / 1e6)
            self._errors.labels(*names).set(link.error_rate_ppm / 1e6)
            self._degraded.labels(*names).set(link.state == stream_pb2.LINK_STATE_DEGRADED)
            self._reconnections.labels(*names).set(link.reconnections)
            for quantile, seen in (("0.5", link.latency_p50), ("0.99", link.latency_p99)):
                # Without a request in the window there is no latency, which must not read as a good one.
                latency_s = seen.ToNanoseconds() / 1e9 if link.HasField("latency_p50") else math.nan
                self._latency.labels(*names, quantile).set(latency_s)


def watch_core(metrics: Metrics, core: GatewayCore, clock: Clock) -> None:
    """Orders, events, and gauges that are read when scraped."""
    venue = core.venue.name
    OrderMetrics(metrics, core, clock)
    backlog = metrics.gauge("event_log_backlog", "Events not yet durable", ("venue",))
    backlog.labels(venue).set_function(lambda: core.log.backlog)
    in_flight = metrics.gauge("submits_in_flight", "Submits waiting for the venue", ("venue",))
    in_flight.labels(venue).set_function(lambda: core.desk.in_flight)
    doubts = metrics.gauge("orders_in_doubt", "Orders the venue is asked about", ("venue",))
    doubts.labels(venue).set_function(lambda: len(core.resolver.doubts))
    left = metrics.gauge("session_orders_left", "Orders that outlived their order session", ("venue",))
    left.labels(venue).set_function(lambda: core.sessions.left)
    ready = metrics.gauge("account_ready", "1 while new orders of the account are taken", ("venue", "account"))
    illegal = metrics.gauge(
        "illegal_transitions", "Venue facts that contradicted proof since the start", ("venue", "account")
    )
    unknown = metrics.counter("venue_unknown_refusals", "Texts of the venue nobody had seen before", ("venue",))
    unknown.labels(venue)
    core.intake.on_unknown_text.append(lambda _text: unknown.labels(venue).inc())
    differences = metrics.counter(
        "reconcile_discrepancies", "Differences from the venue, by account and type", ("venue", "account", "type")
    )

    def count(found: reconciliation_pb2.Discrepancy) -> None:
        kind = reconciliation_pb2.DiscrepancyType.Name(found.discrepancy_type)
        differences.labels(venue, found.account_id, kind.removeprefix("DISCREPANCY_TYPE_").lower()).inc()

    core.reconciler.on_discrepancy.append(count)
    stale = metrics.counter(
        "feeds_gone_stale", "Times market data of a symbol stopped being current, for whatever cause", ("venue", "feed")
    )

    def count_stale(change: FreshnessChange) -> None:
        if change.stale_cause:
            stale.labels(venue, change.feed.value).inc()

    core.books.listeners.append(count_stale)
    lasting = metrics.gauge("alerts_lasting", "Conditions a person should know of that last", ("venue",))
    lasting.labels(venue).set_function(lambda: len(core.alerts.lasting()))
    core.link_watch.listeners.append(LinkGauges(metrics, venue))
    audit = metrics.gauge("audit_backlog", "Audit entries not yet durable", ("venue",))
    audit.labels(venue).set_function(lambda: core.audit.backlog)
    lost = metrics.gauge("audit_lost", "Audit entries lost since the start, because the queue was full", ("venue",))
    lost.labels(venue).set_function(lambda: core.audit.lost)
    ahead = metrics.gauge(
        "venue_clock_ahead_seconds", "How far our clock certainly is ahead of the venue's; below 0 behind", ("venue",)
    )
    ahead.labels(venue).set_function(lambda: core.venue_clock.proven_ns() / 1e9)
    at = metrics.gauge("account_snapshot_sequence", "Last event in an account's newest snapshot", ("venue", "account"))
    unusable = metrics.gauge("account_snapshots_unusable", "Snapshots of accounts that did not fit", ("venue",))
    unusable.labels(venue).set_function(lambda: core.snapshots.unusable)
    for account_id, account in core.accounts.items():
        at.labels(venue, account_id).set_function(partial(core.snapshots.saved.__getitem__, account_id))
        gate = core.desk.gates[account_id]
        ready.labels(venue, account_id).set_function(partial(_ready, gate))
        illegal.labels(venue, account_id).set_function(partial(_illegal, account))


def _ready(gate: Gate) -> int:
    return 1 if gate.ready else 0


def _illegal(account: Account) -> int:
    return account.illegal_transitions
