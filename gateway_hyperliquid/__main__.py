"""`python -m gateway_hyperliquid`: the gateway process, configured by `GATEWAY_HYPERLIQUID_*`."""

from __future__ import annotations

import sys

from gateway_hyperliquid.settings import GatewaySettings
from gateway_hyperliquid.venue import HyperliquidVenue
from venuemesh.clock import Clock
from venuemesh.gateway.core import CoreSettings
from venuemesh.gateway.desk import DeskSettings
from venuemesh.gateway.measures import LinkMetrics
from venuemesh.gateway.server import serve_gateway
from venuemesh.metrics import Metrics
from venuemesh.serving import run_service
from venuemesh.transport.environment import Environment
from venuemesh.v1 import venue_pb2

ENVIRONMENTS = {
    Environment.SIMULATOR: venue_pb2.ENVIRONMENT_SIMULATOR,
    Environment.TESTNET: venue_pb2.ENVIRONMENT_TESTNET,
    Environment.MAINNET: venue_pb2.ENVIRONMENT_MAINNET,
}


async def main() -> None:
    """Serve until stopped."""
    settings = GatewaySettings.load()

    async def build(clock: Clock, metrics: Metrics) -> HyperliquidVenue:
        return HyperliquidVenue(settings, clock, observer=LinkMetrics(metrics, settings.venue))

    await serve_gateway(
        f"gateway_{settings.venue}",
        settings,
        build,
        environment=ENVIRONMENTS[settings.environment],
        core_settings=CoreSettings(
            desk=DeskSettings(order_lifetime_s=settings.order_expiry_s, max_slippage_bps=settings.max_slippage_bps)
        ),
        crash_point=settings.crash_point,
    )


if __name__ == "__main__":
    sys.exit(run_service(main))
