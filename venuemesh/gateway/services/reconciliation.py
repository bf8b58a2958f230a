"""ReconciliationService of a gateway: comparisons with its venue, and orders nobody can tell the state of."""
# ruff: noqa: N802 - methods are named by the contract

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from venuemesh.errors import InvalidRequest, Reconciling
from venuemesh.gateway.operator_actions import check_person
from venuemesh.gateway.services.account_feed import AccountFeeds
from venuemesh.gateway.services.history import number_of
from venuemesh.gateway.services.parts import Context, GatewayParts
from venuemesh.gateway.services.requests import cursor_fault, required, time_range
from venuemesh.paging import Pager
from venuemesh.stream_options import EVENTS, parse_stream_options
from venuemesh.streaming import StreamHub, responder
from venuemesh.v1 import event_pb2, reconciliation_pb2, reconciliation_service_pb2_grpc
from venuemesh.v1 import reconciliation_service_pb2 as wire


class ReconciliationServicer(reconciliation_service_pb2_grpc.ReconciliationServiceServicer):
    """What differed from the venue, and what is in doubt."""

    def __init__(self, parts: GatewayParts, feeds: AccountFeeds, hub: StreamHub, pager: Pager) -> None:
        self._parts = parts
        self._feeds = feeds
        self._hub = hub
        self._pager = pager
        self._respond = responder(wire.StreamDiscrepanciesResponse, _body)

    async def GetReconciliationReport(
        self, request: wire.GetReconciliationReportRequest, context: Context
    ) -> wire.GetReconciliationReportResponse:
        """The last comparison that ended."""
        account_id = self._account_id(request)
        report = self._parts.reconciler.last_report(account_id)
        if report is None:
            raise Reconciling(
                f"no comparison of {account_id} with the venue has ended yet",
                retry_after_s=1.0,
                metadata={"account_id": account_id},
            )
        return wire.GetReconciliationReportResponse(report=report)

    async def TriggerReconciliation(
        self, request: wire.TriggerReconciliationRequest, context: Context
    ) -> wire.TriggerReconciliationResponse:
        """Compare now; a venue that cannot be reached makes a report with an error."""
        account_id = self._account_id(request)
        check_person(request.operator, request.reason, required=False)
        report = await self._parts.reconciler.reconcile(account_id, operator=request.operator, reason=request.reason)
        return wire.TriggerReconciliationResponse(report=report)

    async def ListUncertainOrders(
        self, request: wire.ListUncertainOrdersRequest, context: Context
    ) -> wire.ListUncertainOrdersResponse:
        """Orders uncertain for at least a time, longest first, with the evidence so far."""
        self._parts.desk.check_venue(request.venue)
        if request.account_id:
            self._parts.desk.account(request.account_id)
        least_ns = request.uncertain_for.ToNanoseconds()
        if least_ns < 0:
            raise InvalidRequest("uncertain_for: must not be negative", field="uncertain_for")
        now_ns = self._parts.clock.now_ns()
        page = self._pager.read(request, now_ns=now_ns)
        after = _cursor(page.cursor) if page.cursor else (0, "")
        rows = [
            row
            for row in self._parts.resolver.uncertain_orders(request.account_id)
            if _key(row) > after and now_ns - _key(row)[0] >= least_ns
        ]
        response = wire.ListUncertainOrdersResponse(uncertain_orders=rows[: page.size])
        if len(rows) > page.size:
            since_ns, order_id = _key(rows[page.size - 1])
            response.next_page_token = self._pager.token(request, f"{since_ns}.{order_id}", now_ns=now_ns)
        return response

    async def ResolveUncertainOrder(
        self, request: wire.ResolveUncertainOrderRequest, context: Context
    ) -> wire.ResolveUncertainOrderResponse:
        """What an operator does about an order; a repeat of the key does nothing more."""
        return await self._parts.operators.resolve(request)

    async def ListDiscrepancies(
        self, request: wire.ListDiscrepanciesRequest, context: Context
    ) -> wire.ListDiscrepanciesResponse:
        """Differences that were found, newest first, of one account or of all."""
        self._parts.desk.check_venue(request.venue)
        if request.account_id:
            self._parts.desk.account(request.account_id)
        from_ns, to_ns = time_range(request)

        def wanted(found: reconciliation_pb2.Discrepancy) -> bool:
            found_ns = found.found_time.ToNanoseconds()
            return found_ns >= from_ns and (to_ns is None or found_ns < to_ns)

        now_ns = self._parts.clock.now_ns()
        page = self._pager.read(request, now_ns=now_ns)
        below = number_of(page.cursor) if page.cursor else 0
        rows = await self._parts.discrepancies.newest(request.account_id, page.size + 1, below=below, wanted=wanted)
        response = wire.ListDiscrepanciesResponse(discrepancies=[found for _, found in rows[: page.size]])
        if len(rows) > page.size:
            place, _ = rows[page.size - 1]
            response.next_page_token = self._pager.token(request, str(place), now_ns=now_ns)
        return response

    async def StreamDiscrepancies(
        self, request: wire.StreamDiscrepanciesRequest, context: Context
    ) -> AsyncGenerator[wire.StreamDiscrepanciesResponse, None]:
        """Each difference as it is found, or those behind a position; it begins without a snapshot."""
        feed = self._feeds.get(self._account_id(request))
        plan = await feed.plan(
            parse_stream_options(request.options, EVENTS),
            lambda _view: (),
            method="/venuemesh.v1.ReconciliationService/StreamDiscrepancies",
            context=context,
            accepts=_is_discrepancy,
            link_state=self._parts.market.link_state,
        )
        if plan.snapshot is not None:
            # What differs lies behind; there is no state to begin with.
            plan = replace(plan, snapshot=lambda: [])
        async with aclosing(self._hub.serve(feed.topic, plan, self._respond)) as messages:
            async for message in messages:
                yield message

    def _account_id(self, request: Any) -> str:
        self._parts.desk.check_venue(request.venue)
        return self._parts.desk.account(required(request.account_id, "account_id")).account_id


def _body(event: Any) -> dict[str, Any]:
    return {"discrepancy": event.discrepancy}


def _is_discrepancy(value: Any) -> bool:
    return isinstance(value, event_pb2.Event) and value.HasField("discrepancy")


def _key(row: reconciliation_pb2.UncertainOrder) -> tuple[int, str]:
    return row.order.uncertain_since.ToNanoseconds(), row.order.order_id


def _cursor(cursor: str) -> tuple[int, str]:
    since, _, order_id = cursor.partition(".")
    if not since.isdigit():
        raise cursor_fault()
    return int(since), order_id
