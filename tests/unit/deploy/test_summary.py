"""What the operator reads."""

from __future__ import annotations

from deploy.local.services import Plan, Service, ready_line
from deploy.local.summary import service_table, warning_table


def row(name: str) -> Service:
    return Service(name=name, plan=lambda known: Plan(command=(name,)), ready=ready_line)


def test_service_table_aligns_addresses_and_shows_what_is_missing() -> None:
    """One line per service, in the order of the table."""
    known = {
        "nats": {"url": "nats://127.0.0.1:1"},
        "router": {"grpc_address": "127.0.0.1:50050", "metrics_address": "127.0.0.1:9465"},
    }
    assert service_table([row("nats"), row("router"), row("late")], known).splitlines() == [
        "  service  address             metrics",
        "  nats     nats://127.0.0.1:1  -",
        "  router   127.0.0.1:50050     http://127.0.0.1:9465/metrics",
        "  late     -                   -",
    ]


def test_warning_table_shows_counts_by_service() -> None:
    """Nothing at all when nobody warned."""
    assert warning_table({"router": {"venue_lost": 12, "slow": 1}}).splitlines() == [
        "  router  12 ×  venue_lost",
        "  router  1 ×   slow",
    ]
    assert warning_table({}) == ""
