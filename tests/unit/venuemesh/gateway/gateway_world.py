"""A whole gateway in one process without a broker: real desk, accounts, log and servicers over a fake venue."""

from __future__ import annotations

import asyncio
import fnmatch
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.fakes import ManualClock
from tests.fakes_venue import BTC, MAIN, FakeVenue
from venuemesh.bus import SubjectTaken
from venuemesh.configuration import Configuration
from venuemesh.draining import Drain
from venuemesh.errors import JournalUnavailable
from venuemesh.follower import StoredMessage, nanoseconds_of
from venuemesh.gateway.account import Account
from venuemesh.gateway.core import CoreSettings, GatewayCore
from venuemesh.gateway.services.register import build_services
from venuemesh.metrics import Metrics
from venuemesh.settings import ServiceSettings
from venuemesh.streaming import Pause, StreamHub, wait_at_most
from venuemesh.telemetry import NO_HEADERS
from venuemesh.v1 import event_pb2, order_pb2, order_service_pb2, venue_pb2

LIMIT = 60.0
CREATED = datetime(2026, 11, 20, tzinfo=UTC)


class _Following:
    """What is stored now, then silence: nothing in these tests writes beside the gateway."""

    def __init__(self, rows: list[StoredMessage]) -> None:
        self.backlog = len(rows)
        self._rows = rows

    async def __aenter__(self) -> _Following:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def __aiter__(self) -> AsyncIterator[StoredMessage]:
        for row in self._rows:
            yield row
        await asyncio.Event().wait()


class MemoryBus:
    """The part of `venuemesh.bus.Bus` that journal and log use. `holding` keeps messages from becoming durable."""

    def __init__(self) -> None:
        self.connected = True
        self.holding = False
        self._stored: dict[str, list[StoredMessage]] = {}
        self._ids: set[str] = set()
        self._held: list[Callable[[], None]] = []

    def release(self) -> None:
        """Store what was held back, in order."""
        self.holding = False
        held, self._held = self._held, []
        for store in held:
            store()

    def _stream(self, subject: str) -> str:
        if subject.startswith("$KV."):
            return f"KV_{subject.split('.')[1]}"
        kind = subject.split(".")[2]
        if kind in ("intent", "outcome", "route_intent"):
            return "VENUEMESH_JOURNAL"
        if kind == "audit":
            return "VENUEMESH_AUDIT"
        if kind in ("dead_letter", "requeued"):
            return "VENUEMESH_DEAD_LETTERS"
        return "VENUEMESH_MESH" if kind in ("venue", "route", "risk") else "VENUEMESH_EVENTS"

    def _store(
        self, subject: str, payload: bytes, message_id: str = "", headers: Mapping[str, str] = NO_HEADERS
    ) -> int:
        rows = self._stored.setdefault(self._stream(subject), [])
        if message_id and message_id in self._ids:
            return len(rows)
        self._ids.add(message_id)
        row = StoredMessage(
            subject=subject,
            payload=payload,
            sequence=len(rows) + 1,
            time_ns=nanoseconds_of(CREATED),
            pending=0,
            headers=headers,
        )
        rows.append(row)
        return len(rows)

    async def append_once(self, subject: str, payload: bytes) -> int:
        await asyncio.sleep(0)
        if not self.connected:
            raise JournalUnavailable("NATS is not connected")
        if await self.last(self._stream(subject), subject) is not None:
            raise SubjectTaken(subject)
        return self._store(subject, payload)

    async def append_after(self, subject: str, payload: bytes, last_sequence: int) -> int:
        await asyncio.sleep(0)
        if not self.connected:
            raise JournalUnavailable("NATS is not connected")
        newest = await self.last(self._stream(subject), subject)
        if (newest.sequence if newest else 0) != last_sequence:
            raise SubjectTaken(subject)
        return self._store(subject, payload)

    def follow(self, stream: str, filters: Sequence[str], *, after: int = 0) -> _Following:
        return _Following(self._matching(stream, filters))

    async def publish(self, subject: str, payload: bytes, *, message_id: str | None = None) -> int:
        await asyncio.sleep(0)
        if not self.connected:
            raise JournalUnavailable("NATS is not connected")
        return self._store(subject, payload, message_id or "")

    async def publish_soon(
        self, subject: str, payload: bytes, *, message_id: str, headers: Mapping[str, str] = NO_HEADERS
    ) -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def store() -> None:
            self._store(subject, payload, message_id, headers)
            if not future.done():
                future.set_result(None)

        if self.holding:
            self._held.append(store)
        else:
            store()
        return future

    def _matching(self, stream: str, filters: Sequence[str]) -> list[StoredMessage]:
        patterns = [name.replace("[", "[[]").replace(">", "*") for name in filters]
        rows = self._stored.get(stream, [])
        return [row for row in rows if any(fnmatch.fnmatchcase(row.subject, pattern) for pattern in patterns)]

    async def last(self, stream: str, subject_filter: str) -> StoredMessage | None:
        rows = self._matching(stream, [subject_filter])
        return rows[-1] if rows else None

    async def next_at(self, stream: str, subject_filter: str, sequence: int) -> StoredMessage | None:
        rows = self._matching(stream, [subject_filter])
        return next((row for row in rows if row.sequence >= sequence), None)

    async def stream_created(self, stream: str) -> datetime:
        return CREATED

    async def replay(
        self, stream: str, filters: Sequence[str], *, after: int = 0, since: datetime | None = None
    ) -> AsyncIterator[StoredMessage]:
        for row in self._matching(stream, filters):
            if row.sequence > after:
                await asyncio.sleep(0)
                yield row

    def events(self) -> list[event_pb2.Event]:
        """Every account event stored, in order."""
        return [event_pb2.Event.FromString(row.payload) for row in self._stored.get("VENUEMESH_EVENTS", [])]

    def forget(self) -> None:
        """Keep nothing at all: what is left in a process after that is its own."""
        self._stored.clear()
        self._ids.clear()

    def expire(self, count: int) -> None:
        """Forget the oldest events, as retention does."""
        del self._stored["VENUEMESH_EVENTS"][:count]


class Caller:
    """The part of a gRPC context that servicers use."""

    def peer(self) -> str:
        return "ipv4:127.0.0.1:50000"


@dataclass(kw_only=True)
class World:
    """A running gateway and how tests reach into it."""

    venue: FakeVenue
    clock: ManualClock
    bus: MemoryBus
    core: GatewayCore
    drain: Drain
    hub: StreamHub
    services: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        """`world.orders`, `world.accounts` and so on: the servicers."""
        try:
            return self.__dict__["services"][name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def account(self) -> Account:
        """The account `main`."""
        return self.core.accounts[MAIN]

    async def durable(self) -> None:
        """Wait until everything appended is stored and told."""
        await self.core.log.flush()

    async def submit(self, key: str, **changes: Any) -> order_service_pb2.SubmitOrderResponse:
        """Submit `new_order(key)`."""
        request = order_service_pb2.SubmitOrderRequest(order=new_order(key, **changes))
        response: order_service_pb2.SubmitOrderResponse = await self.orders.SubmitOrder(request, Caller())
        return response


SHORT_NAMES = {
    "venuemesh.v1.VenueService": "venues",
    "venuemesh.v1.InstrumentService": "instruments",
    "venuemesh.v1.MarketDataService": "market_data",
    "venuemesh.v1.OrderService": "orders",
    "venuemesh.v1.AccountService": "accounts",
    "venuemesh.v1.ReconciliationService": "reconciliation",
    "venuemesh.v1.OperationsService": "operations",
    "venuemesh.v1.RiskService": "risk",
}


def new_order(key: str, **changes: Any) -> order_pb2.NewOrder:
    """A limit order to buy that rests; `None` clears a field."""
    fields: dict[str, Any] = {
        "account_id": MAIN,
        "client_order_id": key,
        "symbol": BTC,
        "side": order_pb2.SIDE_BUY,
        "order_type": order_pb2.ORDER_TYPE_LIMIT,
        "quantity": "1",
        "price": "100",
        "time_in_force": order_pb2.TIME_IN_FORCE_GTC,
        **changes,
    }
    return order_pb2.NewOrder(**{name: value for name, value in fields.items() if value is not None})


@asynccontextmanager
async def gateway(
    *,
    venue: FakeVenue | None = None,
    clock: ManualClock | None = None,
    bus: MemoryBus | None = None,
    capacity: int = 2_000,
    wait_ready: bool = True,
    settings: CoreSettings | None = None,
    pause: Pause = wait_at_most,
) -> AsyncIterator[World]:
    """A recovered gateway with all its pumps; ready for orders unless told otherwise."""
    clock = clock or ManualClock()
    venue = venue or FakeVenue(clock)
    venue.clock = clock
    bus = bus or MemoryBus()
    core = GatewayCore(
        venue=venue,
        environment=venue_pb2.ENVIRONMENT_SIMULATOR,
        bus=bus,  # type: ignore[arg-type]
        clock=clock,
        writer_id=f"w{id(bus)}-{len(bus._ids)}",
        settings=settings or CoreSettings(),
    )
    await core.recover()
    drain = Drain()
    hub = StreamHub(clock, drain, capacity=capacity, pause=pause)
    services = {
        SHORT_NAMES[served.descriptor.full_name]: served.servicer
        for served in build_services(core, drain, Metrics(), configuration=Configuration(ServiceSettings()), hub=hub)
    }
    world = World(venue=venue, clock=clock, bus=bus, core=core, drain=drain, hub=hub, services=services)
    async with asyncio.timeout(LIMIT), asyncio.TaskGroup() as tasks:
        pumps = [
            tasks.create_task(core.run(), name="core"),
        ]
        if wait_ready:
            await until(lambda: core.desk.gates[MAIN].ready)
        yield world
        for pump in pumps:
            pump.cancel()


async def until(condition: Callable[[], Any], turns: int = 5_000) -> None:
    """Let other tasks run until `condition` holds."""
    for _ in range(turns):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came true")


async def take(stream: AsyncGenerator[Any, None], body: str, limit_s: float = 60.0) -> Any:
    """The next message of a stream with this body; others are passed over."""
    async with asyncio.timeout(limit_s):
        async for message in stream:
            if message.WhichOneof("body") == body:
                return message
    raise AssertionError(f"the stream ended without {body}")


async def collect(stream: AsyncGenerator[Any, None], count: int, limit_s: float = 60.0) -> list[Any]:
    """The next `count` messages."""
    messages = []
    async with asyncio.timeout(limit_s):
        while len(messages) < count:
            messages.append(await anext(stream))
    return messages


Call = Callable[..., Awaitable[Any]]
