"""Alerts of a gateway as a stream: what lasts, then what begins, ends and happens."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from venuemesh.gateway.services.parts import Context, GatewayParts
from venuemesh.gateway.services.requests import check_enum
from venuemesh.gateway.services.streams import accepted, snapshot_plan
from venuemesh.stream_options import EVENTS, parse_stream_options
from venuemesh.streaming import Entry, StreamHub, Topic, responder
from venuemesh.v1 import operations_pb2
from venuemesh.v1 import operations_service_pb2 as wire


class AlertStream:
    """The alerts of one gateway, fanned out. A reader that cannot keep up loses its stream and begins anew."""

    def __init__(self, parts: GatewayParts, hub: StreamHub) -> None:
        self._parts = parts
        self._hub = hub
        self._topic: Topic[operations_pb2.Alert] = Topic(parts.clock)
        self._respond = responder(wire.StreamAlertsResponse, lambda alert: {"alert": alert})
        parts.alerts.listeners.append(self._on_alert)

    def _on_alert(self, alert: operations_pb2.Alert) -> None:
        self._topic.publish(alert)

    async def serve(
        self, request: wire.StreamAlertsRequest, context: Context
    ) -> AsyncGenerator[wire.StreamAlertsResponse, None]:
        """Lasting alerts of at least a severity, then each change."""
        check_enum(request.min_severity, operations_pb2.AlertSeverity, "min_severity", optional=True)
        terms, least = parse_stream_options(request.options, EVENTS), request.min_severity
        plan = snapshot_plan(
            terms,
            method="/venuemesh.v1.OperationsService/StreamAlerts",
            peer=context.peer(),
            snapshot=lambda: self._lasting(least),
            results=[accepted(self._parts.venue.name)],
            accepts=lambda alert: alert.severity >= least,
            link_state=self._parts.market.link_state,
        )
        async with aclosing(self._hub.serve(self._topic, plan, self._respond)) as messages:
            async for message in messages:
                yield message

    def _lasting(self, least: operations_pb2.AlertSeverity.ValueType) -> list[Entry[operations_pb2.Alert]]:
        now_ns = self._parts.clock.now_ns()
        return [Entry(alert, published_ns=now_ns) for alert in self._parts.alerts.lasting() if alert.severity >= least]
