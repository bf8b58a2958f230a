"""The simulator as a running thing: the world on its ports, the pump and the admin interface, wired."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from aiohttp import web

from simulator import admin
from simulator.hyperliquid import admin as hyperliquid_admin
from simulator.hyperliquid.app import HyperliquidApp
from simulator.lighter.app import LighterApp
from simulator.settings import SimulatorSettings
from simulator.world import World
from venuemesh.clock import Clock


class Simulator(World):
    """A world that is served.

    Construct it inside a running event loop; `run` serves until `stop` is called.

    Args:
        settings, clock: see `World`.
    """

    def __init__(self, settings: SimulatorSettings, clock: Clock | None = None) -> None:
        super().__init__(settings, clock)
        if settings.admin:
            self.app.application.add_routes(admin.routes(self))
            self.app.application.add_routes(hyperliquid_admin.routes(self.app))
        self.ready = asyncio.Event()
        self._stop = asyncio.Event()
        self._port = 0

    @property
    def url(self) -> str:
        """Base address of the HTTP interface, without a trailing slash; valid once ready."""
        return f"http://{self.settings.host}:{self._port}"

    @property
    def ws_url(self) -> str:
        """Address of the WebSocket."""
        return f"ws://{self.settings.host}:{self._port}/ws"

    async def run(self) -> None:
        """Serve until `stop`.

        Raises:
            OSError: the port cannot be bound.
        """
        async with AsyncExitStack() as stack:
            self._port = await self._serve(stack, self.app, self.settings.hyperliquid_port)
            self.lighter.host = self.settings.host
            self.lighter.port = await self._serve(stack, self.lighter.app, self.settings.lighter_bind_port)
            self.ready.set()
            async with asyncio.TaskGroup() as tasks:
                pump = tasks.create_task(self._pump(), name="pump")
                await self._stop.wait()
                pump.cancel()

    async def _serve(self, stack: AsyncExitStack, app: HyperliquidApp | LighterApp, port: int) -> int:
        """Serve one front until the stack unwinds; the port it got."""
        runner = web.AppRunner(app.application, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        stack.push_async_callback(app.close)
        await web.TCPSite(runner, self.settings.host, port).start()
        found: int = runner.addresses[0][1]
        return found

    def stop(self) -> None:
        """End `run`."""
        self._stop.set()

    async def _pump(self) -> None:
        """Tick at the configured interval; a manual clock is ticked by whoever steps it."""
        while True:
            await asyncio.sleep(self.settings.tick_ms / 1000)
            if self.settings.clock == "system":
                self.tick()
            await self.app.close_idle()
            await self.lighter.app.close_idle()


def ready_line(simulator: Simulator) -> Mapping[str, Any]:
    """What the process prints once it serves."""
    return {
        "event": "simulator_ready",
        "hyperliquid_url": simulator.url,
        "hyperliquid_ws_url": simulator.ws_url,
        "lighter_url": simulator.lighter.url,
        "lighter_ws_url": simulator.lighter.ws_url,
        "admin": simulator.settings.admin,
    }
