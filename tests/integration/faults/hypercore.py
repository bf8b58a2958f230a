"""HyperCore in the fault tests."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from hypercore.adapter.venue import HyperCoreVenue
from hypercore.codec import parse_info
from hypercore.stream import StreamConfig
from simulator.engine.values import Side
from simulator.faults import Fault, FaultKind, FaultPlan
from simulator.hyperliquid import info
from simulator.hyperliquid.account_info import user_fills
from simulator.server import Simulator
from simulator.settings import SimulatorSettings
from tests.integration.faults.sides import COIN, MAIN, Case, TrueFill, TrueOrder
from tests.integration.hypercore.adapter.world import ADDRESS, AGENT, gateway_settings, sim_settings
from venuemesh.clock import Clock
from venuemesh.errors import Sent, VenueUnavailable
from venuemesh.transport.session import SocketConfig
from venuemesh.v1 import account_pb2

VAULT = "0x" + "cc" * 20
SIGNS = {"B": 1, "A": -1}


class HyperCoreSide:
    """Hyperliquid's own dex, traded for an account of our own or for a vault that it leads."""

    name = "hypercore"
    order = "order"
    cancel = "cancel"
    amend = "batchModify"
    account_channels = ("orderUpdates", "userFills", "userEvents")
    replaying_channels = account_channels
    look_ups = ("info:orderStatus",)
    state_reads = {"fills": "info:userFillsByTime", "orders": "info:frontendOpenOrders"}  # noqa: RUF012
    own_cases = {  # noqa: RUF012
        # The nonce was used by somebody, perhaps by a copy of this very request: only the venue can tell.
        "duplicate-nonce": Case(
            fault=Fault(kind=FaultKind.REFUSE, text="Invalid nonce: duplicate nonce 1790000000000"), effect=False
        ),
        "nonce-too-low": Case(
            fault=Fault(kind=FaultKind.REFUSE, text="Invalid nonce: nonce too low 1790000000000 < 1790000000001"),
            effect=False,
            lost=False,
        ),
    }
    amend_changes_id = True
    expired_reason = "REASON_EXPIRED_BEFORE_PROCESSING"
    simulator: Simulator
    venue: HyperCoreVenue

    def __init__(self, *, vault: bool = False) -> None:
        self._user = VAULT if vault else ADDRESS

    @property
    def faults(self) -> FaultPlan:
        return self.simulator.faults

    def simulator_settings(self) -> SimulatorSettings:
        if self._user == ADDRESS:
            return sim_settings()
        return sim_settings(accounts={ADDRESS: "0", VAULT: "100000"}, vaults={VAULT: ADDRESS})

    def build(self, folder: Path, clock: Clock, *, socket: SocketConfig, **settings: Any) -> HyperCoreVenue:
        streams = StreamConfig(socket=socket, post_timeout_s=settings["action_timeout_s"])
        found = gateway_settings(self.simulator, folder, **settings)
        if self._user == VAULT:
            (account,) = found.accounts
            found = found.model_copy(update={"accounts": (account.model_copy(update={"vault": VAULT}),)})
        self.venue = HyperCoreVenue(found, clock, stream_config=streams)
        return self.venue

    def use_http(self) -> None:
        stream = self.venue._private[MAIN].stream

        async def not_connected(*_: object, **__: object) -> None:
            raise VenueUnavailable("the connection has ended", sent=Sent.NO)

        stream.post_action = not_connected  # type: ignore[method-assign,assignment]

    def offer(self, *, bid: str = "", ask: str = "", size: str = "5") -> None:
        for side, price in ((Side.BUY, bid), (Side.SELL, ask)):
            if price:
                self.simulator.house_order(COIN, side, price, size)

    def cancel_house_orders(self) -> None:
        self.simulator.cancel_house_orders()

    def end_order(self, venue_order_id: str) -> None:
        assert self.simulator.engine.cancel(self._user, int(venue_order_id), self.simulator.now_ms())
        self.simulator.app.publish()

    def orders(self) -> Sequence[TrueOrder]:
        return [_order(row["order"], str(row["status"])) for row in self.simulator.orders(self._user)]

    def fills(self) -> Sequence[TrueFill]:
        return [
            TrueFill(
                trade_id=str(row["tid"]),
                venue_order_id=str(row["oid"]),
                client_id=row["cloid"] or "",
                quantity=SIGNS[row["side"]] * Decimal(row["sz"]),
            )
            for row in user_fills(self.simulator.venue, self._user)
        ]

    def balances(self) -> Sequence[account_pb2.Balance]:
        perps, spot = (self._ask(kind) for kind in ("clearinghouseState", "spotClearinghouseState"))
        rows, _ = self.venue._views[MAIN].money(perps, spot, received_ns=0)
        return rows

    def _ask(self, kind: str) -> Any:
        question = {"type": kind, "user": self._user}
        answer = info.handle(self.simulator.venue, question, self.simulator.now_ms())
        return parse_info(kind, msgspec.json.encode(answer.body))

    def cut_sockets(self) -> int:
        return self.simulator.cut_sockets()

    async def close_sockets(self) -> None:
        await asyncio.gather(*(item.socket.close(code=1000) for item in self.simulator.app.sockets))

    def fall_silent(self, seconds: float) -> None:
        self.simulator.fall_silent(seconds)

    def revoke_key(self) -> None:
        self.simulator.approve_agent(AGENT, ADDRESS, valid_until_ms=self.simulator.now_ms() - 1)

    def restore_key(self) -> None:
        self.simulator.approve_agent(AGENT, ADDRESS)


def _order(row: dict[str, Any], status: str) -> TrueOrder:
    filled = Decimal(row["origSz"]) - Decimal(row["sz"])
    return TrueOrder(
        venue_order_id=str(row["oid"]),
        client_id=row["cloid"] or "",
        price=Decimal(row["limitPx"]),
        quantity=Decimal(row["origSz"]),
        filled=filled,
        exact=status in ("open", "filled"),
        open=status == "open",
        lived=not status.endswith("ejected"),
        status=status,
    )
