"""The process of a HyperCore gateway: settings in, gateway out."""

from __future__ import annotations

from hypercore.adapter.auditing import refuses
from hypercore.adapter.settings import HyperCoreSettings
from hypercore.adapter.venue import HyperCoreVenue
from venuemesh.clock import Clock
from venuemesh.gateway.core import CoreSettings
from venuemesh.gateway.desk import DeskSettings
from venuemesh.gateway.reconciler import ReconcilerSettings
from venuemesh.gateway.server import serve_gateway
from venuemesh.transport.environment import Environment
from venuemesh.transport.observer import Observer
from venuemesh.v1 import venue_pb2

ENVIRONMENTS = {
    Environment.SIMULATOR: venue_pb2.ENVIRONMENT_SIMULATOR,
    Environment.TESTNET: venue_pb2.ENVIRONMENT_TESTNET,
    Environment.MAINNET: venue_pb2.ENVIRONMENT_MAINNET,
}


async def serve(settings: HyperCoreSettings) -> None:
    """Serve until stopped; see `venuemesh.gateway.server.serve_gateway`."""

    async def build(clock: Clock, observer: Observer) -> HyperCoreVenue:
        return HyperCoreVenue(settings, clock, observer=observer)

    desk = DeskSettings(order_lifetime_s=settings.order_expiry_s, max_slippage_bps=settings.max_slippage_bps)
    await serve_gateway(
        settings.venue,
        settings,
        build,
        environment=ENVIRONMENTS[settings.environment],
        core_settings=CoreSettings(
            desk=desk,
            reconciler=ReconcilerSettings(period_s=settings.reconcile_period_s),
            links=settings.links.watch,
        ),
        refuses=refuses,
        crash_point=settings.crash_point,
        crash_passes=settings.crash_passes,
    )
