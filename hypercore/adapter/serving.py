"""The process of a HyperCore gateway: settings in, gateway out."""

from __future__ import annotations

from hypercore.adapter.settings import HyperCoreSettings
from hypercore.adapter.venue import HyperCoreVenue
from venuemesh.clock import Clock
from venuemesh.gateway.core import CoreSettings
from venuemesh.gateway.desk import DeskSettings
from venuemesh.gateway.measures import LinkMetrics
from venuemesh.gateway.reconciler import ReconcilerSettings
from venuemesh.gateway.server import serve_gateway
from venuemesh.metrics import Metrics
from venuemesh.transport.environment import Environment
from venuemesh.v1 import venue_pb2

ENVIRONMENTS = {
    Environment.SIMULATOR: venue_pb2.ENVIRONMENT_SIMULATOR,
    Environment.TESTNET: venue_pb2.ENVIRONMENT_TESTNET,
    Environment.MAINNET: venue_pb2.ENVIRONMENT_MAINNET,
}


async def serve(settings: HyperCoreSettings) -> None:
    """Serve until stopped; see `venuemesh.gateway.server.serve_gateway`."""

    async def build(clock: Clock, metrics: Metrics) -> HyperCoreVenue:
        return HyperCoreVenue(settings, clock, observer=LinkMetrics(metrics, settings.venue))

    desk = DeskSettings(order_lifetime_s=settings.order_expiry_s, max_slippage_bps=settings.max_slippage_bps)
    await serve_gateway(
        f"gateway_{settings.venue}",
        settings,
        build,
        environment=ENVIRONMENTS[settings.environment],
        core_settings=CoreSettings(desk=desk, reconciler=ReconcilerSettings(period_s=settings.reconcile_period_s)),
        crash_point=settings.crash_point,
    )
