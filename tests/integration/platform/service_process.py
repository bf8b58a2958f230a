"""A service as a process of its own: `python service_process.py serve|pump-fails|pump-ends|bad-settings`."""

from __future__ import annotations

import asyncio
import sys

from tests.integration.platform.probe import Probe, make_server
from venuemesh.serving import endless, run_service, serve_until_stopped
from venuemesh.settings import ServiceSettings
from venuemesh.telemetry import configure_logging


async def pump_fails() -> None:
    raise ConnectionError("the venue went away")


async def pump_ends() -> None:
    return


async def serve() -> None:
    probe = Probe()
    server, _, _ = make_server(probe)
    probe.drain = server.drain

    async def flush() -> None:
        print("flushed", flush=True)

    await serve_until_stopped(server, flush=[flush])


async def with_pump(mode: str) -> None:
    async with asyncio.TaskGroup() as tasks:
        pump = pump_fails() if mode == "pump-fails" else pump_ends()
        tasks.create_task(endless(pump, name="pump"), name="pump")
        await serve()


async def main() -> None:
    configure_logging(log_format="json", stream=sys.stdout)
    if sys.argv[1] == "bad-settings":
        ServiceSettings.load({"VENUEMESH_GRPC__PORT": "ninety", "VENUEMESH_GRPC__HOST": "0.0.0.0"})
    elif sys.argv[1] == "serve":
        await serve()
    else:
        await with_pump(sys.argv[1])


if __name__ == "__main__":
    sys.exit(run_service(main))
