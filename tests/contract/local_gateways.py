"""One gateway of the local mesh in processes of its own, with the venue it trades at: real nats-server, real gRPC.

Which gateways there are says the table of the local mesh, `deploy.local.mesh.VENUES`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from deploy.local.__main__ import nats_server
from deploy.local.mesh import Ports, VenueRow, make_accounts, mesh_services
from deploy.local.services import Known
from deploy.local.state import StateFolder
from deploy.local.supervisor import Policy, Supervisor

ROOT = Path(__file__).resolve().parents[2]
UP_TIMEOUT_S = 60.0
# The simulated venue's own limits are not what is tested, and a lively market makes short tests.
SIMULATOR = {"SIMULATOR_IP_WEIGHT_PER_MINUTE": "0", "SIMULATOR_TICK_MS": "100"}


@asynccontextmanager
async def running_gateway(row: VenueRow, folder: Path) -> AsyncIterator[str]:
    """The address of the gateway of a venue, which is up while the block runs."""
    state = StateFolder(folder)
    accounts = make_accounts(state)
    table = mesh_services(ports=Ports.auto(), nats_server=nats_server(), jetstream=state.jetstream, accounts=accounts)
    supervisor = Supervisor(
        [service for service in table if service.name in ("nats", "simulator", row.gateway)],
        logs=state.logs,
        folder=ROOT,
        environ={**os.environ, **SIMULATOR},
        say=lambda _message: None,
        policy=Policy(ready_timeout_s=UP_TIMEOUT_S, grace_s=15.0),
    )
    up: asyncio.Future[Known] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()

    async def body(known: Known) -> None:
        up.set_result(known)
        await stop.wait()

    running = asyncio.create_task(supervisor.run(body, stop), name=f"mesh-{row.venue}")
    waited: set[asyncio.Future[Any]] = {running, up}
    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    if not up.done():
        await running
        raise RuntimeError(f"the gateway of {row.venue} ended before it was up")
    try:
        yield up.result()[row.gateway]["grpc_address"]
    finally:
        stop.set()
        await running
