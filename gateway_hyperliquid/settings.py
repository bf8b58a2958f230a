"""Settings of the Hyperliquid gateway, from the environment with the prefix `GATEWAY_HYPERLIQUID_`."""

from __future__ import annotations

from typing import ClassVar

from hypercore.adapter.settings import HyperCoreSettings


class GatewaySettings(HyperCoreSettings):
    """HyperCore's settings for Hyperliquid's own dex."""

    env_prefix: ClassVar[str] = "GATEWAY_HYPERLIQUID_"

    venue: str = "hyperliquid"
    dex: str = ""
    spot: bool = True
