"""`python -m simulator`: serve until SIGTERM or SIGINT."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys

from pydantic import ValidationError

from simulator.server import Simulator, ready_line
from simulator.settings import SimulatorSettings


async def serve(settings: SimulatorSettings) -> None:
    """Run one simulator, say when it is ready, stop on a signal."""
    simulator = Simulator(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, simulator.stop)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(simulator.run(), name="simulator")
        announce = tasks.create_task(_announce(simulator), name="announce")
        await asyncio.wait({running})
        announce.cancel()


async def _announce(simulator: Simulator) -> None:
    await simulator.ready.wait()
    print(json.dumps(ready_line(simulator)), flush=True)


def main() -> int:
    """Exit status: 0 after a signal, 2 for bad settings, 1 when serving failed."""
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    try:
        settings = SimulatorSettings()
    except ValidationError as error:
        print(f"bad settings: {error}", file=sys.stderr)
        return 2
    status = 0
    try:
        asyncio.run(serve(settings))
    except* OSError as group:
        print(f"cannot serve: {group.exceptions[0]}", file=sys.stderr)
        status = 1
    return status


if __name__ == "__main__":
    raise SystemExit(main())
