"""Metric families on a registry of their own."""

from __future__ import annotations

import pytest

from venuemesh.metrics import Metrics


def test_metrics_when_two_exist_share_nothing() -> None:
    """No globals: the same names twice in one process."""
    first, second = Metrics(), Metrics()
    first.counter("orders", "Orders.", ("venue",)).labels("lighter").inc()
    second.counter("orders", "Orders.", ("venue",))
    assert 'venuemesh_orders_total{venue="lighter"} 1.0' in first.render()
    assert "lighter" not in second.render()


def test_metrics_when_made_carry_prefix_text_and_buckets() -> None:
    """Names are prefixed here, so no module can forget it."""
    metrics = Metrics()
    metrics.gauge("queue_lag", "Messages waiting.").set(2)
    metrics.histogram("venue_request_seconds", "Time of a request.").observe(0.003)
    text = metrics.render()
    assert "# HELP venuemesh_queue_lag Messages waiting." in text
    assert 'venuemesh_venue_request_seconds_bucket{le="0.005"} 1.0' in text


def test_metrics_when_prefix_is_given_refuses() -> None:
    """`venuemesh_venuemesh_` helps nobody."""
    with pytest.raises(ValueError, match="prefix"):
        Metrics().counter("venuemesh_orders", "Orders.")


def test_metrics_when_name_is_taken_refuses() -> None:
    """Two families of one name in a process are a mistake."""
    metrics = Metrics()
    metrics.counter("orders", "Orders.")
    with pytest.raises(ValueError, match="Duplicated"):
        metrics.counter("orders", "Orders.")
