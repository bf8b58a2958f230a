"""OperationsService of a gateway: its limits, its readers, what changes of it at run time."""
# ruff: noqa: N802 - methods are named by the contract

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from venuemesh.configuration import Configuration
from venuemesh.dead_letter_service import DeadLetterDesk
from venuemesh.gateway.audit_reader import AuditQuery
from venuemesh.gateway.services.alert_stream import AlertStream
from venuemesh.gateway.services.parts import Context, GatewayParts
from venuemesh.gateway.services.requests import check_enum, cursor_fault, not_yet, text, time_range
from venuemesh.paging import Pager
from venuemesh.streaming import StreamHub
from venuemesh.v1 import operations_pb2, operations_service_pb2_grpc
from venuemesh.v1 import operations_service_pb2 as wire

log = logging.getLogger(__name__)


class OperationsServicer(operations_service_pb2_grpc.OperationsServiceServicer):
    """Running one gateway."""

    def __init__(self, parts: GatewayParts, hub: StreamHub, pager: Pager, configuration: Configuration[Any]) -> None:
        self._parts = parts
        self._pager = pager
        self._dead_letters = DeadLetterDesk(parts.dead_letters, pager, parts.clock)
        self._hub = hub
        self._alerts = AlertStream(parts, hub)
        self._configuration = configuration

    async def GetQuota(self, request: wire.GetQuotaRequest, context: Context) -> wire.GetQuotaResponse:
        """What is left of the venue's limits."""
        self._parts.desk.check_venue(request.venue)
        return wire.GetQuotaResponse(quotas=self._parts.venue.quotas())

    async def ListSubscribers(
        self, request: wire.ListSubscribersRequest, context: Context
    ) -> wire.ListSubscribersResponse:
        """Readers of this gateway's streams, the longest connected first."""
        return wire.ListSubscribersResponse(subscribers=self._hub.list_subscribers())

    async def SetLogLevel(self, request: wire.SetLogLevelRequest, context: Context) -> wire.SetLogLevelResponse:
        """Change the level, for good or for a time."""
        return self._configuration.level.set(request)

    async def ListCircuitBreakers(
        self, request: wire.ListCircuitBreakersRequest, context: Context
    ) -> wire.ListCircuitBreakersResponse:
        """Not served yet."""
        raise not_yet("ListCircuitBreakers")

    async def SetCircuitBreaker(
        self, request: wire.SetCircuitBreakerRequest, context: Context
    ) -> wire.SetCircuitBreakerResponse:
        """Not served yet."""
        raise not_yet("SetCircuitBreaker")

    async def DrainVenue(self, request: wire.DrainVenueRequest, context: Context) -> wire.DrainVenueResponse:
        """Refuse new orders until told otherwise, over restarts too; all else goes on, also what is in flight."""
        self._parts.desk.check_venue(request.venue)
        operator, reason = text(request.operator, "operator"), text(request.reason, "reason")
        await self._parts.drain_by_operator(operator, reason, drain=request.drain)
        desk = self._parts.desk
        return wire.DrainVenueResponse(draining=bool(desk.draining or desk.drained_because), in_flight=desk.in_flight)

    async def ReloadConfiguration(
        self, request: wire.ReloadConfigurationRequest, context: Context
    ) -> wire.ReloadConfigurationResponse:
        """Read settings again and take over what may change: log level, limits of callers, rules of links."""
        return self._configuration.answer()

    async def StreamAlerts(
        self, request: wire.StreamAlertsRequest, context: Context
    ) -> AsyncGenerator[wire.StreamAlertsResponse, None]:
        """Alerts that last, then each that begins, ends or happens."""
        async with aclosing(self._alerts.serve(request, context)) as messages:
            async for message in messages:
                yield message

    async def ListAuditEntries(
        self, request: wire.ListAuditEntriesRequest, context: Context
    ) -> wire.ListAuditEntriesResponse:
        """Requests to the venue, newest first: as they ended."""
        self._parts.desk.check_venue(request.venue)
        check_enum(request.outcome, operations_pb2.AuditOutcome, "outcome", optional=True)
        from_ns, to_ns = time_range(request)
        page = self._pager.read(request, now_ns=self._parts.clock.now_ns())
        if page.cursor and not page.cursor.isdecimal():
            raise cursor_fault()
        query = AuditQuery(
            account_id=self._parts.desk.account(request.account_id).account_id if request.account_id else "",
            order_id=request.order_id,
            outcome=request.outcome,
            from_ns=from_ns,
            to_ns=to_ns,
        )
        found = await self._parts.audit_entries().page(query, page.size, before=int(page.cursor or 0))
        token = ""
        if found.before:
            token = self._pager.token(request, str(found.before), now_ns=self._parts.clock.now_ns())
        return wire.ListAuditEntriesResponse(audit_entries=found.entries, next_page_token=token)

    async def ListDeadLetters(
        self, request: wire.ListDeadLettersRequest, context: Context
    ) -> wire.ListDeadLettersResponse:
        """Events this gateway could not handle, oldest first."""
        return await self._dead_letters.list(request)

    async def RequeueDeadLetter(
        self, request: wire.RequeueDeadLetterRequest, context: Context
    ) -> wire.RequeueDeadLetterResponse:
        """Put one of them back under its subject; a repeat changes nothing."""
        return await self._dead_letters.requeue(request)
