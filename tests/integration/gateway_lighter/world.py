"""The adapter against a simulator in the same event loop, and a sink that remembers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from gateway_lighter.schnorr import PrivateKey
from gateway_lighter.settings import GatewaySettings
from gateway_lighter.stream import StreamConfig
from gateway_lighter.venue import LighterVenue
from simulator.lighter.front import LighterFront
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
from venuemesh.transport.observer import NullObserver, Observer, RequestRecord
from venuemesh.transport.session import SocketConfig
from venuemesh.v1 import instrument_pb2, order_pb2

SECRETS = {4: "5a" * 39 + "01", 5: "6b" * 39 + "01"}
PUBLIC = {index: PrivateKey(secret).public_key.hex() for index, secret in SECRETS.items()}
ACCOUNT = 4242
OWNER = "0x" + "aa" * 20
SYMBOL = "BTC/USDC:USDC"


@dataclass
class World:
    """One simulator, one adapter."""

    simulator: Simulator
    venue: LighterVenue
    sink: Recorder
    clock: Clock
    instruments: dict[str, instrument_pb2.Instrument] = field(default_factory=dict)
    number: int = 0

    @property
    def front(self) -> LighterFront:
        """The venue's own side."""
        return self.simulator.lighter

    @property
    def mark(self) -> Decimal:
        """BTC's price at the venue, in whole units."""
        spec = self.front.venue.markets.by_name("BTC")
        assert spec is not None
        return Decimal(round(self.front.venue.market(spec).mark))

    def move_mark(self, price: Decimal) -> None:
        """Let the venue's mark of BTC be `price`, and what waits for it fire."""
        spec = self.front.venue.markets.by_name("BTC")
        assert spec is not None
        self.front.venue.upkeep.set_prices(spec.key, price, price, self.front.app.now_ms())
        self.front.app.publish()

    def exit(
        self, order_type: order_pb2.OrderType.ValueType, offset: int, quantity: str = "0.01", **changes: Any
    ) -> OrderTicket:
        """An order that closes a long once the mark is `offset` away, at up to 500 less."""
        plain = self.ticket(side=order_pb2.SIDE_SELL, reduce_only=True, offset=offset - 500, quantity=quantity)
        return replace(plain, order_type=order_type, trigger_price=self.mark + offset, **changes)

    def ticket(
        self, *, quantity: str = "0.01", offset: int = -1000, number: int | None = None, **terms: Any
    ) -> OrderTicket:
        """An order `offset` from the mark, ready to send; see `ticket_of`."""
        if number is None:
            self.number += 1
        return ticket_of(
            self.venue,
            self.instruments[SYMBOL],
            number=self.number if number is None else number,
            quantity=quantity,
            price=self.mark + offset,
            now_ns=self.clock.now_ns(),
            **terms,
        )

    def target(self, ticket: OrderTicket, venue_order_id: str | None = None) -> OrderTarget:
        """The order of a ticket, to cancel or ask about."""
        return target_of(ticket, venue_order_id)

    def truth(self, ticket: OrderTicket) -> dict[str, Any] | None:
        """The order as the venue has it."""
        return self.front.find_order(ACCOUNT, int(ticket.venue_client_order_id))


def gateway_settings(
    simulator: Simulator, folder: Path, *, keys: Sequence[int] = (4,), **changes: Any
) -> GatewaySettings:
    """Settings of a gateway with one account `main`; its keys are written into `folder`."""
    sections = []
    for index in keys:
        file = folder / f"api-{index}.key"
        file.write_text(SECRETS[index])
        file.chmod(0o600)
        sections.append({"index": index, "file": str(file)})
    account = {"account_id": "main", "account_index": ACCOUNT, "l1_address": OWNER, "keys": sections}
    values: dict[str, Any] = {
        "api_url": simulator.lighter.url,
        "accounts": [account],
        "account_interval_s": 0.05,
        "tier": "premium",
    }
    return GatewaySettings.model_validate(values | changes)


def sim_settings(**changes: Any) -> SimulatorSettings:
    """A still venue on which the account is funded and both keys are registered."""
    account = {"l1_address": OWNER, "keys": PUBLIC, "usdc": "100000", "tier": "premium"}
    return quiet(**({"lighter_accounts": {ACCOUNT: account}} | changes))


def fast_streams(send_timeout_s: float = 5.0, *, reconnect_s: float = 0.01) -> StreamConfig:
    """Sockets that reconnect at once, unless told not to."""
    backoff = BackoffPolicy(initial_s=reconnect_s, cap_s=max(0.05, reconnect_s))
    return StreamConfig(socket=SocketConfig(backoff=backoff), send_timeout_s=send_timeout_s)


class Writes(NullObserver):
    """Remembers which endpoints transactions went to."""

    def __init__(self) -> None:
        self.endpoints: list[str] = []

    def on_request(self, record: RequestRecord) -> None:
        if record.write:
            self.endpoints.append(record.endpoint)


class ShiftedClock:
    """The machine's clock with a wall clock that can be set on: hours pass, and no time-out runs out."""

    def __init__(self) -> None:
        self._system = SystemClock()
        self._shift_ns = 0

    def now_ns(self) -> int:
        return self._system.now_ns() + self._shift_ns

    def monotonic_s(self) -> float:
        return self._system.monotonic_s()

    def pass_time(self, seconds: float) -> None:
        """Set the wall clock on."""
        self._shift_ns += int(seconds * 1e9)


@asynccontextmanager
async def world(
    folder: Path,
    *,
    clock: Clock | None = None,
    simulator_settings: SimulatorSettings | None = None,
    live: bool = True,
    stream_config: StreamConfig | None = None,
    observer: Observer | None = None,
    **changes: Any,
) -> AsyncIterator[World]:
    """Run both while the block runs; by default the account is live when the block begins."""
    clock = clock or SystemClock()
    async with running_simulator(simulator_settings or sim_settings(), clock=clock) as simulator:
        settings = gateway_settings(simulator, folder, **changes)
        venue = LighterVenue(settings, clock, observer=observer, stream_config=stream_config or fast_streams())
        found = World(simulator, venue, Recorder(), clock)
        found.instruments = {row.symbol: row for row in await venue.fetch_instruments()}
        async with running_adapter(venue, found.sink, live=live):
            yield found
