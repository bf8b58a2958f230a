"""`python -m gateway_lighter`: the gateway process, configured by `GATEWAY_LIGHTER_*`."""

from __future__ import annotations

import sys

from gateway_lighter.auditing import refuses
from gateway_lighter.settings import GatewaySettings
from gateway_lighter.venue import LighterVenue
from venuemesh.clock import Clock
from venuemesh.gateway.server import serve_gateway
from venuemesh.serving import run_service
from venuemesh.transport.observer import Observer


async def main() -> None:
    """Serve until stopped; see `venuemesh.gateway.server.serve_gateway`."""
    settings = GatewaySettings.load()

    async def build(clock: Clock, observer: Observer) -> LighterVenue:
        return LighterVenue(settings, clock, observer=observer)

    await serve_gateway(settings, build, refuses=refuses)


if __name__ == "__main__":
    sys.exit(run_service(main))
