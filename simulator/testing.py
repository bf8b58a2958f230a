"""A simulator inside the test's own event loop, on a free port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from simulator.server import Simulator
from simulator.settings import SimulatorSettings
from venuemesh.clock import Clock


def quiet(**changes: Any) -> SimulatorSettings:
    """Settings for tests: free ports, admin on, no limits, no delays, empty still books; `changes` override."""
    base: dict[str, Any] = {
        "hyperliquid_port": 0,
        "lighter_port": 0,
        "lighter_delays": False,
        "lighter_rate_limits": False,
        "admin": True,
        "ip_weight_per_minute": 0,
        "levels": 0,
        "volatility_bps": 0,
        "trade_percent": 0,
        "history_minutes": 0,
    }
    return SimulatorSettings(**(base | changes))


def lively(**changes: Any) -> SimulatorSettings:
    """As `quiet`, with 25 levels a side, moving prices and trades."""
    base = {"levels": 25, "volatility_bps": 3, "trade_percent": 30, "history_minutes": 240, "tick_ms": 100}
    return quiet(**(base | changes))


@asynccontextmanager
async def running_simulator(
    settings: SimulatorSettings | None = None, *, clock: Clock | None = None
) -> AsyncIterator[Simulator]:
    """Serve a simulator while the block runs.

    Raises:
        Exception: whatever made the simulator end early, such as OSError for a taken port.
    """
    simulator = Simulator(settings or quiet(), clock)
    serving = asyncio.create_task(simulator.run(), name="simulator")
    ready = asyncio.create_task(simulator.ready.wait(), name="simulator-ready")
    await asyncio.wait({serving, ready}, return_when=asyncio.FIRST_COMPLETED)
    ready.cancel()
    try:
        if not serving.done():
            yield simulator
    finally:
        simulator.stop()
        await serving
