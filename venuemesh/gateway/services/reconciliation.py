"""ReconciliationService of a gateway: comparisons with its venue, and orders nobody can tell the state of."""
# ruff: noqa: N802 - methods are named by the contract

from __future__ import annotations

from typing import Any

from venuemesh.errors import InvalidRequest, Reconciling
from venuemesh.gateway.services.parts import Context, GatewayParts
from venuemesh.gateway.services.requests import cursor_fault, not_yet, required
from venuemesh.paging import Pager
from venuemesh.v1 import reconciliation_pb2, reconciliation_service_pb2_grpc
from venuemesh.v1 import reconciliation_service_pb2 as wire


class ReconciliationServicer(reconciliation_service_pb2_grpc.ReconciliationServiceServicer):
    """What differed from the venue, and what is in doubt."""

    def __init__(self, parts: GatewayParts, pager: Pager) -> None:
        self._parts = parts
        self._pager = pager

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
        trigger = reconciliation_pb2.RECONCILIATION_TRIGGER_OPERATOR
        report = await self._parts.reconciler.reconcile(self._account_id(request), trigger)
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
        """Not served yet."""
        raise not_yet("ResolveUncertainOrder")

    async def ListDiscrepancies(
        self, request: wire.ListDiscrepanciesRequest, context: Context
    ) -> wire.ListDiscrepanciesResponse:
        """Not served yet."""
        raise not_yet("ListDiscrepancies")

    async def StreamDiscrepancies(self, request: wire.StreamDiscrepanciesRequest, context: Context) -> None:  # type: ignore[override]
        """Not served yet."""
        raise not_yet("StreamDiscrepancies")

    def _account_id(self, request: Any) -> str:
        self._parts.desk.check_venue(request.venue)
        return self._parts.desk.account(required(request.account_id, "account_id")).account_id


def _key(row: reconciliation_pb2.UncertainOrder) -> tuple[int, str]:
    return row.order.uncertain_since.ToNanoseconds(), row.order.order_id


def _cursor(cursor: str) -> tuple[int, str]:
    since, _, order_id = cursor.partition(".")
    if not since.isdigit():
        raise cursor_fault()
    return int(since), order_id
