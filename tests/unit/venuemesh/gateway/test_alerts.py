"""Alerts: what a person should know, each once, bounded; and restatements of what reconciliation found."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

import pytest

from tests.fakes import ManualClock
from tests.unit.venuemesh.gateway.gateway_world import Caller, World, collect, gateway, take, until
from venuemesh.errors import InvalidRequest, Reason
from venuemesh.gateway import alerts as module
from venuemesh.gateway.alerts import CRITICAL, INFO, REPEAT_AFTER_S, Alerts
from venuemesh.gateway.facts import RejectedByVenue
from venuemesh.gateway.measures import watch_core
from venuemesh.gateway.venue import VenueOrderState
from venuemesh.metrics import Metrics
from venuemesh.v1 import operations_pb2, operations_service_pb2, order_pb2

CALLER = Caller()


def listening() -> tuple[Alerts, ManualClock, list[operations_pb2.Alert]]:
    """Alerts and what was told of them."""
    clock = ManualClock()
    found, told = Alerts("v", clock), list[operations_pb2.Alert]()
    found.listeners.append(told.append)
    return found, clock, told


def test_condition_that_begins_twice_is_told_once_and_its_end_once() -> None:
    """An end without a beginning says nothing."""
    alerts, clock, told = listening()
    alerts.begin("link_lost", "rest", "gone")
    alerts.begin("link_lost", "rest", "gone again")
    alerts.begin("link_lost", "market", "gone")
    assert [alert.message for alert in alerts.lasting()] == ["gone", "gone"]
    clock.advance(2.0)
    alerts.end("link_lost", "rest")
    alerts.end("link_lost", "rest")
    alerts.end("link_lost", "other")
    assert len(told) == 3
    assert told[-1].alert_id == told[0].alert_id
    assert told[-1].end_time.ToNanoseconds() - told[-1].begin_time.ToNanoseconds() == 2_000_000_000
    assert not told[0].HasField("end_time")


def test_event_that_repeats_is_told_once_a_minute_with_its_number() -> None:
    """A venue that says no a thousand times makes one alert."""
    alerts, clock, told = listening()
    for _ in range(5):
        alerts.note("unknown_venue_text", "odd")
    alerts.note("unknown_venue_text", "odd", account_id="other")
    clock.advance(REPEAT_AFTER_S)
    alerts.note("unknown_venue_text", "odd")
    assert [alert.message for alert in told] == ["odd", "odd", "odd (and 4 more since)"]
    assert len({alert.alert_id for alert in told}) == 3


def test_alerts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """In number and in length."""
    monkeypatch.setattr(module, "MAX_LASTING", 3)
    monkeypatch.setattr(module, "MAX_RECENT", 3)
    alerts, _, told = listening()
    for number in range(10):
        alerts.begin("k", str(number), "x" * 5_000)
        alerts.note("k", f"event {number}")
    assert len(alerts.lasting()) == 3
    assert len(alerts._recent) == 3
    assert len(told) == 13
    assert all(len(alert.message) <= 2_000 for alert in told)


def request(least: Any = 0) -> operations_service_pb2.StreamAlertsRequest:
    """Alerts of at least a severity."""
    return operations_service_pb2.StreamAlertsRequest(min_severity=least)


async def test_stream_shows_what_lasts_and_then_what_comes() -> None:
    """A reader that comes late sees the link that is down."""
    async with gateway() as world:
        world.venue.go_down("cut")
        async with aclosing(world.operations.StreamAlerts(request(), CALLER)) as stream:
            _, link, account = await collect(stream, 3)
            assert (link.alert.kind, account.alert.kind) == ("link_lost", "account_stale")
            assert (account.alert.account_id, account.alert.severity) == ("main", operations_pb2.ALERT_SEVERITY_WARNING)
            world.venue.go_up()
            ended = [(await take(stream, "alert")).alert for _ in range(2)]
            assert {alert.alert_id for alert in ended} == {link.alert.alert_id, account.alert.alert_id}
            assert all(alert.HasField("end_time") for alert in ended)
        assert world.core.alerts.lasting() == []


async def test_stream_of_a_severity_leaves_out_what_is_less() -> None:
    """In the snapshot and after it."""
    async with gateway() as world:
        world.core.alerts.begin("a", "1", "less", severity=INFO)
        world.core.alerts.begin("a", "2", "more", severity=CRITICAL)
        async with aclosing(
            world.operations.StreamAlerts(request(operations_pb2.ALERT_SEVERITY_CRITICAL), CALLER)
        ) as stream:
            assert (await take(stream, "alert")).alert.message == "more"
            world.core.alerts.note("b", "less", severity=INFO)
            world.core.alerts.note("b", "worse", severity=CRITICAL)
            assert (await take(stream, "alert")).alert.message == "worse"
        with pytest.raises(InvalidRequest):
            await anext(world.operations.StreamAlerts(request(77), CALLER))


async def _last_report(world: World) -> order_pb2.ExecutionReport:
    await world.durable()
    reports = [row.execution_report for row in world.bus.events() if row.HasField("execution_report")]
    return reports[-1]


async def test_order_that_ended_unseen_is_restated_counted_and_alerted() -> None:
    """The venue's truth is taken: a RESTATED report, a discrepancy, a metric and an alert."""
    async with gateway() as world:
        metrics, told = Metrics(), list[operations_pb2.Alert]()
        watch_core(metrics, world.core, world.core.clock)
        world.core.alerts.listeners.append(told.append)
        await world.submit("k1")
        order = world.venue.order_of(world.venue.placed[-1])
        world.venue.end(order, VenueOrderState.CANCELED, push=False)
        world.clock.advance(5.0)
        await world.core.reconciler.reconcile("main")
        report = await _last_report(world)
        assert report.execution_type == order_pb2.EXECUTION_TYPE_RESTATED
        assert report.origin == order_pb2.ORIGIN_RECONCILIATION
        assert report.order.status == order_pb2.ORDER_STATUS_CANCELED
        assert [alert.kind for alert in told] == ["reconcile_discrepancy"]
        assert "'ORDER_STATUS_NEW' here" in told[0].message
        line = 'venuemesh_reconcile_discrepancies_total{account="main",type="order_state",venue="fakevenue"} 1.0'
        assert line in metrics.render()


async def test_order_that_the_venue_forgot_is_restated() -> None:
    """It is not open there any more."""
    async with gateway() as world:
        await world.submit("k1")
        world.venue.orders.clear()
        world.clock.advance(5.0)
        await world.core.reconciler.reconcile("main")
        assert (await _last_report(world)).execution_type == order_pb2.EXECUTION_TYPE_RESTATED


async def test_cancel_that_the_caller_asked_for_is_no_restatement() -> None:
    """Only what reconciliation found is."""
    async with gateway() as world:
        response = await world.submit("k1")
        order = world.venue.order_of(world.venue.placed[-1])
        world.venue.end(order, VenueOrderState.CANCELED)
        await until(lambda: world.account.order(response.order.order_id).terminal)  # type: ignore[union-attr]
        assert (await _last_report(world)).execution_type == order_pb2.EXECUTION_TYPE_CANCELED


async def test_fact_against_proof_is_alerted() -> None:
    """A refusal of an order that has fills."""
    async with gateway() as world:
        told = list[operations_pb2.Alert]()
        world.core.alerts.listeners.append(told.append)
        response = await world.submit("k1")
        world.venue.fill(world.venue.order_of(world.venue.placed[-1]), "0.25", "100")
        fact = RejectedByVenue(reason=Reason.VENUE_REJECTED, text="no")
        world.account.apply(response.order.order_id, fact)
        assert [alert.kind for alert in told] == ["illegal_transition"]
        assert response.order.order_id in told[0].message


async def test_words_nobody_has_seen_are_counted_and_alerted_in_full() -> None:
    """Whatever their number: the metric counts each, the alert is told once."""
    async with gateway() as world:
        metrics, told = Metrics(), list[operations_pb2.Alert]()
        watch_core(metrics, world.core, world.core.clock)
        world.core.alerts.listeners.append(told.append)
        for _ in range(3):
            world.core.intake.on_unknown_words("main", "Moon is in the wrong house. asset=1")
        assert [(alert.kind, alert.message) for alert in told] == [
            ("unknown_venue_text", "Moon is in the wrong house. asset=1")
        ]
        assert 'venuemesh_venue_unknown_refusals_total{venue="fakevenue"} 3.0' in metrics.render()
