"""The adapter against a simulator in the same event loop, and a sink that remembers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from gateway_hyperliquid.settings import GatewaySettings
from hypercore.adapter.venue import HyperCoreVenue
from hypercore.signing import SecretKey
from hypercore.stream import StreamConfig
from simulator.server import Simulator
from simulator.settings import SimulatorSettings
from simulator.testing import quiet, running_simulator
from tests.integration.adapter_world import running_adapter, target_of, ticket_of
from tests.integration.recording_sink import Recorder
from venuemesh.clock import Clock, SystemClock
from venuemesh.gateway.venue import (
    OrderTarget,
    OrderTicket,
)
from venuemesh.transport.backoff import BackoffPolicy
from venuemesh.transport.observer import Observer
from venuemesh.transport.session import SocketConfig
from venuemesh.v1 import instrument_pb2

AGENT_KEY = "0x" + "11" * 32
OTHER_KEY = "0x" + "22" * 32
AGENT = SecretKey(AGENT_KEY).address
ADDRESS = "0x" + "aa" * 20
STRANGER = "0x" + "bb" * 20
SYMBOL = "ETH/USDC:USDC"


@dataclass
class World:
    """One simulator, one adapter."""

    simulator: Simulator
    venue: HyperCoreVenue
    sink: Recorder
    instruments: dict[str, instrument_pb2.Instrument] = field(default_factory=dict)
    number: int = 0

    def ticket(
        self, *, quantity: str = "0.1", price: str = "3000", number: int | None = None, **terms: Any
    ) -> OrderTicket:
        """An order ready to send; see `ticket_of`."""
        if number is None:
            self.number += 1
        return ticket_of(
            self.venue,
            self.instruments[SYMBOL],
            number=self.number if number is None else number,
            quantity=quantity,
            price=Decimal(price),
            now_ns=SystemClock().now_ns(),
            **terms,
        )

    def target(self, ticket: OrderTicket, venue_order_id: str | None = None) -> OrderTarget:
        """The order of a ticket, to cancel or ask about."""
        return target_of(ticket, venue_order_id)


def gateway_settings(simulator: Simulator, folder: Path, *, key: str = AGENT_KEY, **changes: Any) -> GatewaySettings:
    """Settings of a gateway with one account `main`; its key is written into `folder`."""
    file = folder / "agent.key"
    file.write_text(key)
    file.chmod(0o600)
    values: dict[str, Any] = {
        "api_url": simulator.url,
        "accounts": [{"account_id": "main", "address": ADDRESS, "agent_key_file": str(file)}],
        "account_interval_s": 0.05,
    }
    return GatewaySettings.model_validate(values | changes)


def sim_settings(**changes: Any) -> SimulatorSettings:
    """A still venue on which the account is funded and its agent approved."""
    return quiet(**({"accounts": {ADDRESS: "100000"}, "agents": {AGENT: ADDRESS}} | changes))


def fast_streams(post_timeout_s: float = 5.0) -> StreamConfig:
    """Sockets that reconnect at once."""
    backoff = BackoffPolicy(initial_s=0.01, cap_s=0.05)
    return StreamConfig(socket=SocketConfig(backoff=backoff), post_timeout_s=post_timeout_s)


@asynccontextmanager
async def world(
    folder: Path,
    *,
    simulator_settings: SimulatorSettings | None = None,
    live: bool = True,
    stream_config: StreamConfig | None = None,
    observer: Observer | None = None,
    simulator_clock: Clock | None = None,
    **changes: Any,
) -> AsyncIterator[World]:
    """Run both while the block runs; by default the account is live when the block begins."""
    async with running_simulator(simulator_settings or sim_settings(), clock=simulator_clock) as simulator:
        settings = gateway_settings(simulator, folder, **changes)
        venue = HyperCoreVenue(
            settings, SystemClock(), observer=observer, stream_config=stream_config or fast_streams()
        )
        found = World(simulator, venue, Recorder())
        found.instruments = {row.symbol: row for row in await venue.fetch_instruments()}
        async with running_adapter(venue, found.sink, live=live):
            yield found
