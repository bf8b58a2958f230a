"""The router's metrics."""

from __future__ import annotations

from router.breaker import State
from router.measures import LOST, Measures
from venuemesh.errors import RiskRefused
from venuemesh.metrics import Metrics
from venuemesh.v1 import order_pb2, order_service_pb2


def test_submits_are_counted_by_venue_and_outcome_with_bounded_labels() -> None:
    """A number of a newer contract becomes "other" instead of a new label."""
    metrics = Metrics()
    measures = Measures(metrics)
    measures.submitted("v", order_service_pb2.SUBMIT_OUTCOME_ACKNOWLEDGED, 0.004)
    measures.submitted("v", 9999, 0.1)
    measures.submitted("v", 9998, 0.1)
    measures.failed("v", LOST)
    measures.serving("v", True)
    measures.risk_refused(order_pb2.NewOrder(venue="v"), RiskRefused("too much"))
    text = metrics.render()
    assert 'venuemesh_router_submits_total{outcome="acknowledged",venue="v"} 1.0' in text
    assert 'venuemesh_router_submits_total{outcome="other",venue="v"} 2.0' in text
    assert 'venuemesh_router_submits_total{outcome="lost",venue="v"} 1.0' in text
    assert 'venuemesh_router_venue_serving{venue="v"} 1.0' in text
    assert 'venuemesh_router_submit_seconds_bucket{le="0.005",venue="v"} 1.0' in text
    assert 'venuemesh_router_risk_refusals_total{reason="RISK_LIMIT_REACHED",venue="v"} 1.0' in text


def test_circuit_shows_its_state_as_a_number_and_counts_changes() -> None:
    """0 closed, 1 half open, 2 open; the state at the start is no change."""
    metrics = Metrics()
    measures = Measures(metrics)
    measures.circuit("lighter", State.CLOSED)
    assert 'venuemesh_router_circuit_state{venue="lighter"} 0.0' in metrics.render()
    measures.circuit_changed("lighter", State.OPEN)
    text = metrics.render()
    assert 'venuemesh_router_circuit_state{venue="lighter"} 2.0' in text
    assert 'venuemesh_router_circuit_changes_total{state="open",venue="lighter"} 1.0' in text
