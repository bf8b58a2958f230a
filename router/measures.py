"""What the router counts; labels are venues and outcomes, never ids."""

from __future__ import annotations

from venuemesh.metrics import Metrics
from venuemesh.v1 import order_service_pb2

_OUTCOMES: dict[int, str] = {
    number: name.removeprefix("SUBMIT_OUTCOME_").lower() for name, number in order_service_pb2.SubmitOutcome.items()
}
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
        self._routes = metrics.counter("router_routes", "Routes decided, by venue chosen.", ("venue",))
        self._serving = metrics.gauge("router_venue_serving", "1 while the venue's gateway says it serves.", ("venue",))

    def submitted(self, venue: str, outcome: int) -> None:
        """A submit was answered by its gateway; a newer contract's outcome counts as "other"."""
        self._submits.labels(venue, _OUTCOMES.get(outcome, "other")).inc()

    def failed(self, venue: str, how: str) -> None:
        """A submit was refused or its answer was lost."""
        self._submits.labels(venue, how).inc()

    def routed(self, venue: str) -> None:
        """A new route chose this venue."""
        self._routes.labels(venue).inc()

    def serving(self, venue: str, serving: bool) -> None:
        """The venue's health now."""
        self._serving.labels(venue).set(1 if serving else 0)
