"""What every service of the mesh does around its own work: logs, traces, metrics, broker, ready line."""

from __future__ import annotations

import json
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from venuemesh.bus import Bus, BusOptions
from venuemesh.clock import Clock, SystemClock
from venuemesh.configuration import Configuration
from venuemesh.metrics import Metrics
from venuemesh.security.certificates import CertificateError
from venuemesh.serving import GrpcServer, ServingError
from venuemesh.settings import MetricsSettings, NatsSettings, ServiceSettings
from venuemesh.subjects import StreamSpec, stream_specs
from venuemesh.telemetry import Tracing, configure_logging, otlp_processor

S = TypeVar("S", bound=ServiceSettings)

CALL_LIMITS = (
    "GRPC__CALLS_PER_SECOND",
    "GRPC__CALL_BURST",
    "GRPC__FAILED_AUTHENTICATIONS",
    "GRPC__STREAMS_PER_PEER",
    "GRPC__STREAMS_TOTAL",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Running(Generic[S]):
    """The surroundings of one service process.

    Attributes:
        configuration: the settings, of which the log's level and the limits of callers can change while it runs.
    """

    name: str
    clock: Clock
    metrics: Metrics
    tracing: Tracing
    bus: Bus
    server: GrpcServer
    metrics_address: str | None
    configuration: Configuration[S]

    def announce(self) -> None:
        """Print the ready line: one JSON object on standard output that says where the service listens."""
        line = {"event": "service_ready", "service": self.name, "grpc_address": self.server.address}
        if self.metrics_address is not None:
            line["metrics_address"] = self.metrics_address
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


def bus_options(name: str, nats: NatsSettings) -> BusOptions:
    """How a service of this name reaches JetStream."""
    return BusOptions(
        servers=nats.urls,
        name=name,
        replicas=nats.replicas,
        storage=nats.storage,
        credentials_file=nats.credentials_file,
        event_max_age_s=nats.event_retention_s,
        connect_timeout_s=nats.connect_timeout_s,
        tls=_broker_tls(nats),
    )


def _broker_tls(nats: NatsSettings) -> ssl.SSLContext | None:
    """TLS of a `tls://` broker; None for plain text.

    Raises:
        ServingError: a file cannot be used.
    """
    if not any(url.startswith("tls://") for url in nats.urls):
        return None
    try:
        context = ssl.create_default_context(cafile=nats.ca_file)
        if nats.cert_file is not None and nats.key_file is not None:
            context.load_cert_chain(nats.cert_file, nats.key_file)
    except (OSError, ssl.SSLError) as error:
        raise ServingError(f"a TLS file of the broker cannot be used: {error}") from None
    return context


def mesh_streams(nats: NatsSettings) -> list[StreamSpec]:
    """The streams of the mesh as the settings want them."""
    return stream_specs(
        nats.event_retention_s, audit_max_age_s=nats.audit_retention_s, audit_max_bytes=nats.audit_max_bytes
    )


async def _serve_metrics(stack: AsyncExitStack, metrics: Metrics, settings: MetricsSettings) -> str:
    serve = metrics.serve(host=settings.host, port=settings.port, tls=settings.tls_files)
    try:
        return f"{settings.host}:{await stack.enter_async_context(serve)}"
    except CertificateError as error:
        raise ServingError(str(error)) from None
    except OSError as error:
        raise ServingError(f"metrics: cannot bind to {settings.host}:{settings.port}: {error.strerror}") from None


@asynccontextmanager
async def surroundings(name: str, settings: S) -> AsyncIterator[Running[S]]:
    """Set up logs, traces, metrics and the broker, and take them down in reverse order.

    Args:
        settings: as `load` gave them, from this process's environment: that is where they are read again.
    Raises:
        JournalUnavailable: the broker does not answer. ServingError: a file of the server cannot be read.
    """
    configure_logging(level=settings.telemetry.log_level, log_format=settings.telemetry.log_format)
    clock, metrics = SystemClock(), Metrics()
    metrics.watch_process()
    endpoint = settings.telemetry.otlp_endpoint
    tracing = Tracing(name, otlp_processor(endpoint) if endpoint else None)
    options = bus_options(name, settings.nats)
    async with AsyncExitStack() as stack:
        stack.callback(tracing.shutdown)
        metrics_address = None
        if settings.metrics.enabled:
            metrics_address = await _serve_metrics(stack, metrics, settings.metrics)
        bus = await stack.enter_async_context(Bus.connect(options, tracing=tracing))
        await bus.ensure_streams(mesh_streams(settings.nats))
        server = GrpcServer(settings.grpc, metrics=metrics, tracing=tracing, clock=clock)
        configuration = Configuration(settings, type(settings).load)
        configuration.allow(CALL_LIMITS, lambda taken: partial(server.limit_callers, taken.grpc.call_limits))
        yield Running(
            name=name,
            clock=clock,
            metrics=metrics,
            tracing=tracing,
            bus=bus,
            server=server,
            metrics_address=metrics_address,
            configuration=configuration,
        )
