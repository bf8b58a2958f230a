"""`python -m gateway_hyperliquid`: the gateway process, configured by `GATEWAY_HYPERLIQUID_*`."""

from __future__ import annotations

import sys

from gateway_hyperliquid.settings import GatewaySettings
from hypercore.adapter.serving import serve
from venuemesh.serving import run_service


async def main() -> None:
    """Serve until stopped."""
    await serve(GatewaySettings.load())


if __name__ == "__main__":
    sys.exit(run_service(main))
