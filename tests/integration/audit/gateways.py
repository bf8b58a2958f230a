"""Every gateway over its simulated venue, with its trail, its log at DEBUG, and what really went over the wire."""

from __future__ import annotations

import asyncio
import io
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import pytest

from gateway_lighter import auditing as lighter_auditing
from gateway_lighter.signing import AuthToken, PureSigner
from gateway_lighter.venue import LighterVenue
from gateway_tradexyz.settings import GatewaySettings as TradexyzSettings
from hypercore.adapter import auditing as hypercore_auditing
from hypercore.adapter.venue import HyperCoreVenue
from simulator.faults import Fault
from simulator.server import Simulator
from simulator.settings import SimulatorSettings
from simulator.testing import running_simulator
from tests.broker import Broker
from tests.integration.gateway.served_gateway import Gateway, serving_gateway
from tests.integration.gateway_lighter import world as lighter
from tests.integration.hypercore.adapter import world as hypercore
from venuemesh.clock import SystemClock
from venuemesh.errors import Sent, VenueUnavailable
from venuemesh.follower import StoredMessage
from venuemesh.gateway.audit_entry import Refuses
from venuemesh.subjects import AUDIT_STREAM, ROOT
from venuemesh.telemetry import configure_logging
from venuemesh.transport.observer import NullObserver, Observer, RequestRecord, SafeObserver
from venuemesh.v1 import operations_pb2, order_pb2
from venuemesh.v1 import operations_service_pb2 as operations
from venuemesh.v1 import order_service_pb2 as wire

WAIT_S = 60.0
PART = 16
_SIGNED = re.compile(r'"(?:r|s|Sig|L1Sig)"\s*:\s*"([^"]{20,})"')


class Wire(NullObserver):
    """Everything that was said, secrets and all."""

    def __init__(self) -> None:
        self.records: list[RequestRecord] = []

    def on_request(self, record: RequestRecord) -> None:
        self.records.append(record)

    def signatures(self) -> set[str]:
        """Every signature that was sent."""
        bodies = [unquote_plus(record.request_body.decode()).replace("\\", "") for record in self.records]
        return {found for body in bodies for found in _SIGNED.findall(body)}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One gateway of the mesh and its venue.

    Attributes:
        keys: the private keys it is given, as their files hold them.
        stream_of: the account's stream of an adapter, and the method of it that sends.
        written_by: how endpoints of writes begin, over the socket and over HTTP.
        price: far below the market, so that an order rests.
    """

    name: str
    symbol: str
    price: str
    quantity: str
    keys: tuple[str, ...]
    simulator: Callable[[], SimulatorSettings]
    build: Callable[[Simulator, Path, Observer], Any]
    faults: Callable[[Simulator], Any]
    refuses: Refuses
    order_action: str
    stream_of: Callable[[Any], tuple[Any, str]]
    written_by: tuple[str, str]


def _hyperliquid(simulator: Simulator, folder: Path, observer: Observer) -> Any:
    settings = hypercore.gateway_settings(simulator, folder, settle_delay_s=0.2)
    streams = hypercore.fast_streams(post_timeout_s=1.0)
    return HyperCoreVenue(settings, SystemClock(), observer=observer, stream_config=streams)


def _tradexyz(simulator: Simulator, folder: Path, observer: Observer) -> Any:
    like = hypercore.gateway_settings(simulator, folder)
    settings = TradexyzSettings.model_validate(
        {
            "api_url": simulator.url,
            "accounts": [account.model_dump() for account in like.accounts],
            "settle_delay_s": 0.2,
        }
    )
    streams = hypercore.fast_streams(post_timeout_s=1.0)
    return HyperCoreVenue(settings, SystemClock(), observer=observer, stream_config=streams)


def _lighter(simulator: Simulator, folder: Path, observer: Observer) -> Any:
    settings = lighter.gateway_settings(simulator, folder, keys=(4, 5), settle_delay_s=0.2)
    streams = lighter.fast_streams(send_timeout_s=1.0)
    return LighterVenue(settings, SystemClock(), observer=observer, stream_config=streams)


KINDS = (
    Kind(
        name="hyperliquid",
        symbol=hypercore.SYMBOL,
        price="3000",
        quantity="0.1",
        keys=(hypercore.AGENT_KEY,),
        simulator=hypercore.sim_settings,
        build=_hyperliquid,
        faults=lambda simulator: simulator.faults,
        refuses=hypercore_auditing.refuses,
        order_action="order",
        stream_of=lambda venue: (venue._private["main"].stream, "post_action"),
        written_by=("post.", "exchange."),
    ),
    Kind(
        name="tradexyz",
        symbol="TSLA/USDC:USDC",
        price="300",
        quantity="1",
        keys=(hypercore.AGENT_KEY,),
        simulator=lambda: hypercore.sim_settings(dex_accounts={hypercore.ADDRESS: "50000"}),
        build=_tradexyz,
        faults=lambda simulator: simulator.faults,
        refuses=hypercore_auditing.refuses,
        order_action="order",
        stream_of=lambda venue: (venue._private["main"].stream, "post_action"),
        written_by=("post.", "exchange."),
    ),
    Kind(
        name="lighter",
        symbol=lighter.SYMBOL,
        price="60000",
        quantity="0.01",
        keys=tuple(lighter.SECRETS.values()),
        simulator=lighter.sim_settings,
        build=_lighter,
        faults=lambda simulator: simulator.lighter.faults,
        refuses=lighter_auditing.refuses,
        order_action="create_order",
        stream_of=lambda venue: (venue._parts.private["main"].stream, "send_transactions"),
        written_by=("sendtx", "sendTx"),
    ),
)


@dataclass(kw_only=True)
class Audited:
    """A running gateway, its venue, its trail, its log, and the truth."""

    kind: Kind
    gateway: Gateway
    simulator: Simulator
    wire: Wire
    log: io.StringIO
    tokens: set[str] = field(default_factory=set)

    def order(self, key: str, **changes: Any) -> order_pb2.NewOrder:
        """An order that rests; None clears a field."""
        fields: dict[str, Any] = {
            "account_id": "main",
            "client_order_id": key,
            "symbol": self.kind.symbol,
            "side": order_pb2.SIDE_BUY,
            "order_type": order_pb2.ORDER_TYPE_LIMIT,
            "quantity": self.kind.quantity,
            "price": self.kind.price,
            "time_in_force": order_pb2.TIME_IN_FORCE_GTC,
            "correlation_id": f"flow-{key}",
            **changes,
        }
        return order_pb2.NewOrder(**{name: value for name, value in fields.items() if value is not None})

    async def submit(self, key: str, **changes: Any) -> wire.SubmitOrderResponse:
        """Submit it."""
        request = wire.SubmitOrderRequest(order=self.order(key, **changes))
        response: wire.SubmitOrderResponse = await self.gateway.orders.SubmitOrder(request, timeout=5)
        return response

    async def cancel(self, key: str) -> wire.CancelOrderResponse:
        """Cancel by the caller's id."""
        reference = wire.OrderReference(account_id="main", client_order_id=key)
        request = wire.CancelOrderRequest(reference=reference)
        response: wire.CancelOrderResponse = await self.gateway.orders.CancelOrder(request, timeout=5)
        return response

    def fail(self, kind: Any, match: str, **options: Any) -> None:
        """The next such request fails."""
        self.kind.faults(self.simulator).add(Fault(kind=kind, match=match, **options))

    def use_http(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """From here on writes go over HTTP: the socket says that it cannot send."""

        async def not_connected(*_: object, **__: object) -> None:
            raise VenueUnavailable("the connection has ended", sent=Sent.NO)

        monkeypatch.setattr(*self.kind.stream_of(self.gateway.core.venue), not_connected)

    async def reconnect(self) -> None:
        """Cut every socket and wait until orders are taken again."""
        gate = self.gateway.core.desk.gates["main"]
        self.simulator.cut_sockets()
        if self.kind.name == "lighter":
            self.simulator.lighter.app.cut_sockets()
        await self.until(lambda: not gate.ready)
        await self.until(lambda: gate.ready)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until it holds; looked at whenever the loop has done something."""
        async with asyncio.timeout(WAIT_S):
            while not condition():
                await asyncio.sleep(0)

    async def entries(self, **query: Any) -> list[operations_pb2.AuditEntry]:
        """The trail over gRPC, newest first, all pages."""
        await self.gateway.core.audit.flush()
        found: list[operations_pb2.AuditEntry] = []
        request = operations.ListAuditEntriesRequest(page_size=query.pop("page_size", 50), **query)
        while True:
            answer = await self.gateway.operations.ListAuditEntries(request, timeout=5)
            found += answer.audit_entries
            if not answer.next_page_token:
                return found
            request.page_token = answer.next_page_token

    async def stored(self) -> list[StoredMessage]:
        """What the broker keeps, byte for byte."""
        await self.gateway.core.audit.flush()
        bus = self.gateway.core._bus
        return [message async for message in bus.replay(AUDIT_STREAM, [f"{ROOT}.audit.>"])]

    def secrets(self) -> set[str]:
        """Beginnings and ends of all that must be nowhere: keys, signatures, tokens. A log may show them shortened."""
        whole = {key.removeprefix("0x") for key in self.kind.keys}
        whole |= {token.rpartition(":")[2] for token in self.tokens}
        whole |= {signature.removeprefix("0x") for signature in self.wire.signatures()}
        return {part for secret in whole for part in (secret[:PART], secret[-PART:])}


@contextmanager
def logged() -> Iterator[io.StringIO]:
    """The log of the process at DEBUG, libraries included, as the service would write it."""
    root = logging.getLogger()
    level, text = root.level, io.StringIO()
    handler = configure_logging(level="DEBUG", log_format="json", stream=text)
    try:
        yield text
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


@asynccontextmanager
async def audited(kind: Kind, broker: Broker, folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Audited]:
    """Run everything while the block runs; the account takes orders when it begins."""
    tokens: set[str] = set()
    sign_token = PureSigner.sign_token

    def spy(signer: PureSigner, deadline_s: int) -> AuthToken:
        token = sign_token(signer, deadline_s)
        tokens.add(token.reveal())
        return token

    monkeypatch.setattr(PureSigner, "sign_token", spy)
    said = Wire()
    with logged() as log:
        async with running_simulator(kind.simulator()) as simulator:

            def build(observer: Observer) -> Any:
                return kind.build(simulator, folder, SafeObserver(observer, said))

            async with serving_gateway(broker, build=build, venue_name=kind.name, refuses=kind.refuses) as gateway:
                yield Audited(kind=kind, gateway=gateway, simulator=simulator, wire=said, log=log, tokens=tokens)
