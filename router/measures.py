"""What the router counts; labels are venues and outcomes, never ids."""

from __future__ import annotations

from router.breaker import State
from venuemesh.errors import MeshError
from venuemesh.metrics import Metrics
from venuemesh.v1 import order_pb2, order_service_pb2

_OUTCOMES: dict[int, str] = {
    number: name.removeprefix("SUBMIT_OUTCOME_").lower() for name, number in order_service_pb2.SubmitOutcome.items()
}
_STATES = {State.CLOSED: 0, State.HALF_OPEN: 1, State.OPEN: 2}
LOST = "lost"
REFUSED = "refused"


class Measures:
    """The router's own metrics; calls served are measured by the interceptor."""

    def __init__(self, metrics: Metrics) -> None:
        self._submits = metrics.counter(
            "router_submits",
            "Submits passed to a venue, by outcome; lost is an answer that did not come.",
            ("venue", "outcome"),
        )
        self._seconds = metrics.histogram(
            "router_submit_seconds", "Time from passing a submit to a venue's gateway to its answer.", ("venue",)
        )
        self._refusals = metrics.counter(
            "router_risk_refusals", "Orders refused before they were sent, by reason.", ("venue", "reason")
        )
        self._routes = metrics.counter("router_routes", "Routes decided, by venue chosen.", ("venue",))
        self._circuits = metrics.gauge(
            "router_circuit_state", "Circuit breaker of the venue: 0 closed, 1 half open, 2 open.", ("venue",)
        )
        self._circuit_changes = metrics.counter(
            "router_circuit_changes", "Changes of a circuit breaker, by the state it came into.", ("venue", "state")
        )
        self._serving = metrics.gauge("router_venue_serving", "1 while the venue's gateway says it serves.", ("venue",))

    def submitted(self, venue: str, outcome: int, seconds: float) -> None:
        """A submit was answered by its gateway; a newer contract's outcome counts as "other"."""
        self._submits.labels(venue, _OUTCOMES.get(outcome, "other")).inc()
        self._seconds.labels(venue).observe(seconds)

    def risk_refused(self, order: order_pb2.NewOrder, error: MeshError) -> None:
        """Risk refused an order; a venue is only named where it is one of ours."""
        self._refusals.labels(order.venue, error.reason.value).inc()

    def failed(self, venue: str, how: str) -> None:
        """A submit was refused or its answer was lost."""
        self._submits.labels(venue, how).inc()

    def routed(self, venue: str) -> None:
        """A new route chose this venue."""
        self._routes.labels(venue).inc()

    def circuit(self, venue: str, state: State) -> None:
        """The venue's breaker as it is at the start."""
        self._circuits.labels(venue).set(_STATES[state])

    def circuit_changed(self, venue: str, state: State) -> None:
        """The venue's breaker came into this state."""
        self.circuit(venue, state)
        self._circuit_changes.labels(venue, state.value).inc()

    def serving(self, venue: str, serving: bool) -> None:
        """The venue's health now."""
        self._serving.labels(venue).set(1 if serving else 0)
