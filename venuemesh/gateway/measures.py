"""Prometheus metrics of a gateway: what its links do and how its orders stand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from venuemesh.gateway.account import Account
from venuemesh.gateway.books import FreshnessChange
from venuemesh.gateway.core import GatewayCore
from venuemesh.gateway.desk import Gate
from venuemesh.metrics import Metrics
from venuemesh.transport.link import LinkState
from venuemesh.transport.observer import RequestOutcome, RequestRecord, StateRecord
from venuemesh.v1 import reconciliation_pb2, stream_pb2, venue_pb2


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


def watch_core(metrics: Metrics, core: GatewayCore) -> None:
    """Gauges that are read when scraped."""
    venue = core.venue.name
    backlog = metrics.gauge("event_log_backlog", "Events not yet durable", ("venue",))
    backlog.labels(venue).set_function(lambda: core.log.backlog)
    in_flight = metrics.gauge("submits_in_flight", "Submits waiting for the venue", ("venue",))
    in_flight.labels(venue).set_function(lambda: core.desk.in_flight)
    doubts = metrics.gauge("orders_in_doubt", "Orders the venue is asked about", ("venue",))
    doubts.labels(venue).set_function(lambda: len(core.resolver.doubts))
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
    for account_id, account in core.accounts.items():
        gate = core.desk.gates[account_id]
        ready.labels(venue, account_id).set_function(partial(_ready, gate))
        illegal.labels(venue, account_id).set_function(partial(_illegal, account))


def _ready(gate: Gate) -> int:
    return 1 if gate.ready else 0


def _illegal(account: Account) -> int:
    return account.illegal_transitions
