"""The whole mesh in processes of its own, for tests: real nats-server, simulator, gateway, router, aggregator."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import httpx

from deploy.local.__main__ import nats_server
from deploy.local.mesh import ACCOUNT_ID, VENUE, Ports, make_accounts, mesh_services, secured_services
from deploy.local.security import LocalSecurity
from deploy.local.services import Known, Plan, Service
from deploy.local.state import StateFolder
from deploy.local.supervisor import Policy, Supervisor
from venuemesh.channels import open_channel
from venuemesh.clock import SystemClock
from venuemesh.security.certificates import ChannelFiles
from venuemesh.v1 import order_pb2, order_service_pb2, order_service_pb2_grpc, portfolio_service_pb2_grpc

ROOT = Path(__file__).resolve().parents[2]
SYMBOL = "BTC/USDC:USDC"
UP_TIMEOUT_S = 60.0


@dataclass(slots=True)
class Mesh:
    """A running mesh: its addresses, its processes and the venue's own view of the truth."""

    known: Known
    supervisor: Supervisor
    address: str
    messages: list[str]
    logs: Path
    channels: dict[str, grpc.aio.Channel] = field(default_factory=dict)
    security: LocalSecurity | None = None

    def channel(self, service: str) -> grpc.aio.Channel:
        """A channel to a service, found where it is now."""
        target = self.known[service]["grpc_address"]
        if target not in self.channels:
            if self.security is None:
                self.channels[target] = grpc.aio.insecure_channel(target)
            else:
                self.channels[target] = open_channel(target, tls=self.security.channel, token=self.security.token)
        return self.channels[target]

    def orders(self, service: str = "router") -> Any:
        """OrderService of the router or of a gateway."""
        return order_service_pb2_grpc.OrderServiceStub(self.channel(service))

    def portfolio(self) -> Any:
        """PortfolioService of the aggregator."""
        return portfolio_service_pb2_grpc.PortfolioServiceStub(self.channel("aggregator"))

    def kill(self, service: str, how: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to a service's process group; the supervisor starts it again."""
        os.killpg(self.supervisor.process_groups[service], how)

    async def venue(self, method: str, path: str, body: Any = None) -> Any:
        """A call to the simulator's admin interface: faults, prices, ground truth."""
        url = self.known["simulator"]["hyperliquid_url"]
        # Plain HTTP; loading certificates would only take time.
        async with httpx.AsyncClient(base_url=url, timeout=10, verify=False) as client:
            answer = await client.request(method, path, content=json.dumps(body) if body is not None else None)
            answer.raise_for_status()
            return answer.json()

    async def venue_orders(self) -> list[dict[str, Any]]:
        """Every order of the account that the venue knows, dead or alive."""
        found: list[dict[str, Any]] = await self.venue("GET", f"/sim/orders?user={self.address}")
        return found

    async def wait_for_message(self, text: str) -> None:
        """Wait until the supervisor has said something that contains `text`."""
        async with asyncio.timeout(UP_TIMEOUT_S):
            while not any(text in message for message in self.messages):
                await asyncio.sleep(0.02)


def limit_order(key: str, *, price: str, quantity: str = "0.01", **more: Any) -> order_service_pb2.SubmitOrderRequest:
    """A limit buy of BTC under this key."""
    return order_service_pb2.SubmitOrderRequest(
        order=order_pb2.NewOrder(
            account_id=ACCOUNT_ID,
            client_order_id=key,
            venue=VENUE,
            symbol=SYMBOL,
            side=order_pb2.SIDE_BUY,
            order_type=order_pb2.ORDER_TYPE_LIMIT,
            quantity=quantity,
            price=price,
            time_in_force=order_pb2.TIME_IN_FORCE_GTC,
            **more,
        )
    )


def market_order(key: str, *, quantity: str = "0.01", venue: str = VENUE) -> order_service_pb2.SubmitOrderRequest:
    """A market buy of BTC under this key."""
    return order_service_pb2.SubmitOrderRequest(
        order=order_pb2.NewOrder(
            account_id=ACCOUNT_ID,
            client_order_id=key,
            venue=venue,
            symbol=SYMBOL,
            side=order_pb2.SIDE_BUY,
            order_type=order_pb2.ORDER_TYPE_MARKET,
            quantity=quantity,
        )
    )


def by_key(key: str) -> order_service_pb2.OrderReference:
    """Names an order of the test account by its key."""
    return order_service_pb2.OrderReference(account_id=ACCOUNT_ID, venue=VENUE, client_order_id=key)


@asynccontextmanager
async def running_mesh(
    folder: Path,
    *,
    settings: Mapping[str, str] | None = None,
    simulator: Mapping[str, str] | None = None,
    secured: bool = False,
) -> AsyncIterator[Mesh]:
    """Bring a mesh up on free ports and take it down, nothing left behind.

    Args:
        settings: more environment of every service, by full key; only its own reaches each.
        simulator: more settings of the simulator.
        secured: TLS between all services and tokens for callers.
    """
    state = StateFolder(folder)
    accounts = make_accounts(state)
    account = accounts[VENUE]
    security = LocalSecurity.make(state.root, secured_services(), SystemClock()) if secured else None
    rows = mesh_services(
        ports=Ports.auto(),
        nats_server=nats_server(),
        jetstream=state.jetstream,
        accounts=accounts,
        security=security,
    )
    extra = {"SIMULATOR_ADMIN": "true", "SIMULATOR_IP_WEIGHT_PER_MINUTE": "0", **(simulator or {}), **(settings or {})}
    policy = Policy(ready_timeout_s=UP_TIMEOUT_S, grace_s=15.0, max_restarts=20, longest_pause_s=0.25)
    messages: list[str] = []
    services = [with_settings(row, lambda: extra) for row in rows]
    tls = None if security is None else security.channel
    async with supervised(services, logs=state.logs, policy=policy, say=messages.append, tls=tls) as (up, known):
        mesh = Mesh(
            known=known,
            supervisor=up,
            address=account.address,
            messages=messages,
            logs=state.logs,
            security=security,
        )
        try:
            yield mesh
        finally:
            for channel in mesh.channels.values():
                await channel.close()


@asynccontextmanager
async def supervised(
    rows: Sequence[Service],
    *,
    logs: Path,
    policy: Policy,
    say: Callable[[str], None],
    tls: ChannelFiles | None = None,
) -> AsyncIterator[tuple[Supervisor, Known]]:
    """Services that are up and are started again when they die, while the block runs.

    Args:
        tls: certificates for asking services for their health; plain text without.
    """
    supervisor = Supervisor(rows, logs=logs, folder=ROOT, environ=os.environ, say=say, policy=policy, tls=tls)
    up: asyncio.Future[Known] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()

    async def body(known: Known) -> None:
        up.set_result(known)
        await stop.wait()

    running = asyncio.create_task(supervisor.run(body, stop), name="mesh")
    await asyncio.wait({running, up}, return_when=asyncio.FIRST_COMPLETED)
    if not up.done():
        await running
        raise RuntimeError("the mesh ended before it was up")
    try:
        yield supervisor, up.result()
    finally:
        stop.set()
        await running


def with_settings(row: Service, more: Callable[[], Mapping[str, str]]) -> Service:
    """The row with further settings, asked for at each start; of those only its own reach it."""
    prefix = row.prefix
    if prefix is None:
        return row

    def plan(known: Known) -> Plan:
        planned = row.plan(known)
        own = {key: value for key, value in more().items() if key.startswith(prefix)}
        return replace(planned, settings={**planned.settings, **own})

    return replace(row, plan=plan)


__all__ = [
    "ACCOUNT_ID",
    "SYMBOL",
    "VENUE",
    "Mesh",
    "by_key",
    "limit_order",
    "market_order",
    "running_mesh",
    "supervised",
    "with_settings",
]
