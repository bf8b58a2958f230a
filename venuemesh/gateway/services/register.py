"""All servicers of a gateway on one server."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf.descriptor import ServiceDescriptor

from venuemesh.configuration import Configuration
from venuemesh.draining import Drain
from venuemesh.gateway.quota_trailers import QuotaTrailers
from venuemesh.gateway.services.account_feed import AccountFeeds
from venuemesh.gateway.services.accounts import AccountServicer
from venuemesh.gateway.services.instruments import InstrumentServicer
from venuemesh.gateway.services.market_data import MarketDataServicer
from venuemesh.gateway.services.operations import OperationsServicer
from venuemesh.gateway.services.orders import OrderServicer
from venuemesh.gateway.services.parts import GatewayParts
from venuemesh.gateway.services.reconciliation import ReconciliationServicer
from venuemesh.gateway.services.risk import RiskServicer
from venuemesh.gateway.services.venue import VenueServicer
from venuemesh.metrics import Metrics
from venuemesh.paging import Pager
from venuemesh.serving import Add, GrpcServer
from venuemesh.streaming import StreamHub
from venuemesh.v1 import (
    account_service_pb2,
    account_service_pb2_grpc,
    instrument_service_pb2,
    instrument_service_pb2_grpc,
    market_data_service_pb2,
    market_data_service_pb2_grpc,
    operations_service_pb2,
    operations_service_pb2_grpc,
    order_service_pb2,
    order_service_pb2_grpc,
    reconciliation_service_pb2,
    reconciliation_service_pb2_grpc,
    risk_service_pb2,
    risk_service_pb2_grpc,
    venue_service_pb2,
    venue_service_pb2_grpc,
)


class Surroundings(Protocol):
    """The part of `venuemesh.running.Running` that servicers use."""

    @property
    def metrics(self) -> Metrics:
        """Where stream metrics go."""

    @property
    def configuration(self) -> Configuration[Any]:
        """The settings in force."""


@dataclass(frozen=True, slots=True)
class Served:
    """A servicer, the service it serves, and the generated function that adds it to a server."""

    descriptor: ServiceDescriptor
    add: Add
    servicer: Any


def build_services(
    parts: GatewayParts,
    drain: Drain,
    metrics: Metrics,
    *,
    configuration: Configuration[Any],
    hub: StreamHub | None = None,
) -> list[Served]:
    """The servicers of a gateway whose accounts are restored.

    Args:
        configuration: the settings in force, and what may change of them.
        hub: what its streams share; made of the other arguments when None.
    """
    hub = StreamHub(parts.clock, drain, metrics=metrics) if hub is None else hub
    # Tokens made before a restart stay good as long as the numbering they point into does.
    pager = Pager(hashlib.sha256(f"{parts.venue.name}/{parts.log.epoch}".encode()).digest())
    feeds = AccountFeeds(parts)

    def served(module: Any, grpc_module: Any, name: str, servicer: Any) -> Served:
        return Served(
            module.DESCRIPTOR.services_by_name[name], getattr(grpc_module, f"add_{name}Servicer_to_server"), servicer
        )

    return [
        served(venue_service_pb2, venue_service_pb2_grpc, "VenueService", VenueServicer(parts, hub)),
        served(
            instrument_service_pb2,
            instrument_service_pb2_grpc,
            "InstrumentService",
            InstrumentServicer(parts, hub, pager),
        ),
        served(
            market_data_service_pb2,
            market_data_service_pb2_grpc,
            "MarketDataService",
            MarketDataServicer(parts, hub, pager),
        ),
        served(order_service_pb2, order_service_pb2_grpc, "OrderService", OrderServicer(parts, feeds, hub, pager)),
        served(
            account_service_pb2,
            account_service_pb2_grpc,
            "AccountService",
            AccountServicer(parts, feeds, hub, pager),
        ),
        served(
            reconciliation_service_pb2,
            reconciliation_service_pb2_grpc,
            "ReconciliationService",
            ReconciliationServicer(parts, feeds, hub, pager),
        ),
        served(
            operations_service_pb2,
            operations_service_pb2_grpc,
            "OperationsService",
            OperationsServicer(parts, hub, pager, configuration),
        ),
        served(risk_service_pb2, risk_service_pb2_grpc, "RiskService", RiskServicer(parts)),
    ]


def add_services(
    server: GrpcServer, parts: GatewayParts, surroundings: Surroundings, *, hub: StreamHub | None = None
) -> tuple[str, ...]:
    """Add every service of a gateway to a server that has not started; returns their full names.

    Call it when the accounts are restored and before the event log runs: streams begin where the log stands then.
    """
    services = build_services(
        parts, server.drain, surroundings.metrics, configuration=surroundings.configuration, hub=hub
    )
    server.trailers = QuotaTrailers(parts.venue.quotas, parts.clock)
    server.own_venue = parts.venue.name
    for served in services:
        server.add(served.descriptor, served.add, served.servicer)
    return tuple(served.descriptor.full_name for served in services)
