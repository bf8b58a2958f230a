"""`python -m gateway_lighter`: the gateway process, configured by `GATEWAY_LIGHTER_*`."""

from __future__ import annotations

import sys

from gateway_lighter.auditing import refuses
from gateway_lighter.settings import GatewaySettings
from gateway_lighter.venue import LighterVenue
from venuemesh.clock import Clock
from venuemesh.gateway.core import CoreSettings
from venuemesh.gateway.desk import DeskSettings
from venuemesh.gateway.reconciler import ReconcilerSettings
from venuemesh.gateway.server import serve_gateway
from venuemesh.serving import run_service
from venuemesh.transport.environment import Environment
from venuemesh.transport.observer import Observer
from venuemesh.v1 import venue_pb2

ENVIRONMENTS = {
    Environment.SIMULATOR: venue_pb2.ENVIRONMENT_SIMULATOR,
    Environment.TESTNET: venue_pb2.ENVIRONMENT_TESTNET,
    Environment.MAINNET: venue_pb2.ENVIRONMENT_MAINNET,
}


async def main() -> None:
    """Serve until stopped; see `venuemesh.gateway.server.serve_gateway`."""
    settings = GatewaySettings.load()

    async def build(clock: Clock, observer: Observer) -> LighterVenue:
        return LighterVenue(settings, clock, observer=observer)

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


if __name__ == "__main__":
    sys.exit(run_service(main))
