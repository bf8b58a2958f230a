"""The router's metrics."""

from __future__ import annotations

from router.measures import LOST, Measures
from venuemesh.metrics import Metrics
from venuemesh.v1 import order_service_pb2


def test_submits_are_counted_by_venue_and_outcome_with_bounded_labels() -> None:
    """A number of a newer contract becomes "other" instead of a new label."""
    metrics = Metrics()
    measures = Measures(metrics)
    measures.submitted("v", order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED)
    measures.submitted("v", 9999)
    measures.submitted("v", 9998)
    measures.failed("v", LOST)
    measures.serving("v", True)
    text = metrics.render()
    assert 'venuemesh_router_submits_total{outcome="acknowledged",venue="v"} 1.0' in text
    assert 'venuemesh_router_submits_total{outcome="other",venue="v"} 2.0' in text
    assert 'venuemesh_router_submits_total{outcome="lost",venue="v"} 1.0' in text
    assert 'venuemesh_router_venue_serving{venue="v"} 1.0' in text
