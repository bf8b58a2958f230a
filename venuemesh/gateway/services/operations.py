"""OperationsService of a gateway: its limits, its readers, its log level."""
# ruff: noqa: N802 - methods are named by the contract

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from venuemesh.dead_letter_service import DeadLetterDesk
from venuemesh.errors import InvalidRequest
from venuemesh.gateway.audit_reader import AuditQuery
from venuemesh.gateway.services.alert_stream import AlertStream
from venuemesh.gateway.services.parts import Context, GatewayParts
from venuemesh.gateway.services.requests import check_enum, cursor_fault, not_yet, required, text, time_range
from venuemesh.paging import Pager
from venuemesh.streaming import StreamHub
from venuemesh.telemetry import set_log_level
from venuemesh.v1 import operations_pb2, operations_service_pb2_grpc
from venuemesh.v1 import operations_service_pb2 as wire

log = logging.getLogger(__name__)

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
MAX_LEVEL_S = 7 * 24 * 3_600.0


class OperationsServicer(operations_service_pb2_grpc.OperationsServiceServicer):
    """Running one gateway."""

    def __init__(self, parts: GatewayParts, hub: StreamHub, pager: Pager) -> None:
        self._parts = parts
        self._pager = pager
        self._dead_letters = DeadLetterDesk(parts.dead_letters, pager, parts.clock)
        self._hub = hub
        self._alerts = AlertStream(parts, hub)
        self._restore: asyncio.TimerHandle | None = None
        self._configured = ""

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
        """Change the level; with a duration, go back to the configured one after it."""
        level = required(request.level, "level")
        if level not in LEVELS:
            raise InvalidRequest(f"level: {level[:16]!r} is none of {', '.join(LEVELS)}", field="level")
        after_s = request.duration.ToNanoseconds() / 1e9
        if request.HasField("duration") and not 0 < after_s <= MAX_LEVEL_S:
            raise InvalidRequest(f"duration: must be more than 0 and at most {MAX_LEVEL_S:g}s", field="duration")
        previous = logging.getLevelName(logging.getLogger().level)
        if self._restore is not None:
            self._restore.cancel()
            self._restore = None
        else:
            self._configured = previous
        set_log_level(level)
        if request.HasField("duration"):
            self._restore = asyncio.get_running_loop().call_later(after_s, self._go_back)
        log.warning("log_level_changed", extra={"level": level, "previous": previous, "for_s": after_s})
        return wire.SetLogLevelResponse(previous_level=previous)

    def _go_back(self) -> None:
        self._restore = None
        set_log_level(self._configured)

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
        """Not served yet."""
        raise not_yet("ReloadConfiguration")

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
