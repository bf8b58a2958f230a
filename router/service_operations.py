"""Running the mesh through the router: quotas and readers of all gateways, what changes of the router itself."""

from __future__ import annotations

import logging
from typing import Any

from router.breakers import Breakers
from router.calls import Context, read, submit
from router.facade import Facade, Listing, at_venue, fill_in, joined, paged, stream_at_venue
from router.locate import Locator, at
from router.venues import VenueLink
from venuemesh.configuration import Configuration
from venuemesh.dead_letter_service import DeadLetterDesk
from venuemesh.v1 import operations_pb2, operations_service_pb2, reconciliation_service_pb2

log = logging.getLogger(__name__)


def _request_time(entry: operations_pb2.AuditEntry) -> int:
    return entry.request_time.ToNanoseconds()


@fill_in(operations_service_pb2.DESCRIPTOR.services_by_name["OperationsService"])
class OperationsServicer:
    """What operators ask of the router."""

    def __init__(
        self, facade: Facade, dead_letters: DeadLetterDesk, breakers: Breakers, configuration: Configuration[Any]
    ) -> None:
        self.facade = facade
        self._breakers = breakers
        self._dead_letters = dead_letters
        self._configuration = configuration

    DrainVenue = at_venue("operations", "DrainVenue", write=True)
    GetQuota = joined("operations", "GetQuota", "quotas", operations_service_pb2.GetQuotaResponse)

    ListAuditEntries = paged(
        Listing(
            stub="operations",
            method="ListAuditEntries",
            response=operations_service_pb2.ListAuditEntriesResponse,
            rows="audit_entries",
            time_ns=_request_time,
        )
    )

    async def ListSubscribers(  # noqa: N802 - named by the contract
        self, request: operations_service_pb2.ListSubscribersRequest, context: Context
    ) -> operations_service_pb2.ListSubscribersResponse:
        """Readers at every gateway; a stream through the router is read by the router there."""

        async def ask(link: VenueLink) -> operations_service_pb2.ListSubscribersResponse:
            answer: operations_service_pb2.ListSubscribersResponse = await read(
                link, link.operations.ListSubscribers, request
            )
            return answer

        answers = await self.facade.everywhere(ask, context)
        whole = operations_service_pb2.ListSubscribersResponse()
        for answer in answers.given.values():
            whole.subscribers.extend(answer.subscribers)
        return whole

    async def ListCircuitBreakers(  # noqa: N802 - named by the contract
        self, request: operations_service_pb2.ListCircuitBreakersRequest, context: Context
    ) -> operations_service_pb2.ListCircuitBreakersResponse:
        """The breakers of this router, by venue."""
        return operations_service_pb2.ListCircuitBreakersResponse(circuit_breakers=self._breakers.all())

    async def SetCircuitBreaker(  # noqa: N802 - named by the contract
        self, request: operations_service_pb2.SetCircuitBreakerRequest, context: Context
    ) -> operations_service_pb2.SetCircuitBreakerResponse:
        """Force a breaker, or let it free, at every router; a repeat changes nothing."""
        breaker = await self._breakers.set(request)
        return operations_service_pb2.SetCircuitBreakerResponse(circuit_breaker=breaker)

    async def ListDeadLetters(  # noqa: N802 - named by the contract
        self, request: operations_service_pb2.ListDeadLettersRequest, context: Context
    ) -> operations_service_pb2.ListDeadLettersResponse:
        """Events that any service of the mesh could not handle, oldest first."""
        return await self._dead_letters.list(request)

    async def RequeueDeadLetter(  # noqa: N802 - named by the contract
        self, request: operations_service_pb2.RequeueDeadLetterRequest, context: Context
    ) -> operations_service_pb2.RequeueDeadLetterResponse:
        """Put one of them back under its subject; a repeat changes nothing."""
        return await self._dead_letters.requeue(request)

    async def SetLogLevel(  # noqa: N802 - named by the contract
        self, request: operations_service_pb2.SetLogLevelRequest, context: Context
    ) -> operations_service_pb2.SetLogLevelResponse:
        """The router's own level; a duration brings the former one back."""
        return self._configuration.level.set(request)

    async def ReloadConfiguration(  # noqa: N802 - named by the contract
        self, request: operations_service_pb2.ReloadConfigurationRequest, context: Context
    ) -> operations_service_pb2.ReloadConfigurationResponse:
        """Read the router's own settings again and take over what may change."""
        return self._configuration.answer()


@fill_in(reconciliation_service_pb2.DESCRIPTOR.services_by_name["ReconciliationService"])
class ReconciliationServicer:
    """Comparisons of the gateways with their venues, and orders in doubt, of one venue or of all."""

    def __init__(self, facade: Facade, locator: Locator) -> None:
        self.facade = facade
        self._locator = locator

    GetReconciliationReport = at_venue("reconciliation", "GetReconciliationReport")
    TriggerReconciliation = at_venue("reconciliation", "TriggerReconciliation", write=True)
    ListUncertainOrders = paged(
        Listing(
            stub="reconciliation",
            method="ListUncertainOrders",
            response=reconciliation_service_pb2.ListUncertainOrdersResponse,
            rows="uncertain_orders",
            time_ns=lambda row: row.order.uncertain_since.ToNanoseconds(),
            newest_first=False,
        )
    )
    ListDiscrepancies = paged(
        Listing(
            stub="reconciliation",
            method="ListDiscrepancies",
            response=reconciliation_service_pb2.ListDiscrepanciesResponse,
            rows="discrepancies",
            time_ns=lambda row: row.found_time.ToNanoseconds(),
        )
    )
    StreamDiscrepancies = stream_at_venue(
        "reconciliation",
        "StreamDiscrepancies",
        reconciliation_service_pb2.StreamDiscrepanciesResponse,
        resumable=True,
    )

    async def ResolveUncertainOrder(  # noqa: N802 - named by the contract
        self, request: reconciliation_service_pb2.ResolveUncertainOrderRequest, context: Context
    ) -> reconciliation_service_pb2.ResolveUncertainOrderResponse:
        """Pass an operator's action on to the gateway that has the order."""
        link = await self._locator.locate(request.reference)
        named = reconciliation_service_pb2.ResolveUncertainOrderRequest()
        named.CopyFrom(request)
        named.reference.CopyFrom(at(request.reference, link.name))
        answer: reconciliation_service_pb2.ResolveUncertainOrderResponse = await submit(
            link, link.reconciliation.ResolveUncertainOrder, named, context
        )
        return answer
