"""The process of a HyperCore gateway: settings in, gateway out."""

from __future__ import annotations

from hypercore.adapter.auditing import refuses
from hypercore.adapter.settings import HyperCoreSettings
from hypercore.adapter.venue import HyperCoreVenue
from venuemesh.clock import Clock
from venuemesh.gateway.server import serve_gateway
from venuemesh.transport.observer import Observer


async def serve(settings: HyperCoreSettings) -> None:
    """Serve until stopped; see `venuemesh.gateway.server.serve_gateway`."""

    async def build(clock: Clock, observer: Observer) -> HyperCoreVenue:
        return HyperCoreVenue(settings, clock, observer=observer)

    await serve_gateway(settings, build, refuses=refuses)
