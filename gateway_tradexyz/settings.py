"""Settings of the trade.xyz gateway, from the environment with the prefix `GATEWAY_TRADEXYZ_`."""

from __future__ import annotations

from typing import ClassVar

from hypercore.adapter.settings import HyperCoreSettings


class GatewaySettings(HyperCoreSettings):
    """HyperCore's settings for the dex `xyz`; its index is looked up at every start."""

    env_prefix: ClassVar[str] = "GATEWAY_TRADEXYZ_"

    venue: str = "tradexyz"
    dex: str = "xyz"
