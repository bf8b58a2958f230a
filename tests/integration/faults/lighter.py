"""Lighter in the fault tests."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from gateway_lighter import account_messages as wire
from gateway_lighter.codec import decoder_of
from gateway_lighter.stream import StreamConfig
from gateway_lighter.venue import LighterVenue
from simulator.engine.values import Side
from simulator.faults import Fault, FaultKind, FaultPlan
from simulator.lighter import account_rows
from simulator.lighter.accounts import account_name
from simulator.lighter.front import LighterFront
from simulator.server import Simulator
from simulator.settings import SimulatorSettings
from tests.integration.faults.sides import COIN, MAIN, Case, TrueFill, TrueOrder
from tests.integration.gateway_lighter.world import ACCOUNT, PUBLIC, gateway_settings, sim_settings
from venuemesh.clock import Clock
from venuemesh.errors import Sent, VenueUnavailable
from venuemesh.transport.session import SocketConfig
from venuemesh.v1 import account_pb2

API_KEY = 4
POLL_S = 0.1
OTHER_KEY = 5
NEVER_LIVED = frozenset({"canceled-post-only", "canceled-too-much-slippage", "canceled-not-enough-liquidity"})


class LighterSide:
    """Lighter's perpetuals."""

    name = "lighter"
    order = "create_order"
    cancel = "cancel_order"
    amend = "modify_order"
    account_channels = ("account_all_orders", "account_all_trades", "account_tx", "account_all_positions")
    replaying_channels = ()
    look_ups = ("info:accountOrders", "info:accountActiveOrders", "info:accountInactiveOrders")
    state_reads = {"fills": "info:trades", "orders": "info:accountActiveOrders"}  # noqa: RUF012
    own_cases = {  # noqa: RUF012
        # Refused for its nonce it can never be taken: it is signed anew, and nothing is lost.
        "nonce-refused": Case(fault=Fault(kind=FaultKind.REFUSE, code=21104), effect=True, lost=False),
        "nonce-spent-by-another": Case(fault=Fault(kind=FaultKind.SPEND_NONCE), effect=True, lost=False),
        "error-of-the-venue": Case(fault=Fault(kind=FaultKind.REFUSE, code=29500), effect=False),
    }
    amend_changes_id = False
    expired_reason = "REASON_INVALID_ARGUMENT"  # the venue has one code for every malformed transaction
    simulator: Simulator
    venue: LighterVenue

    def __init__(self, **changes: Any) -> None:
        """Args: changes: of the simulator's settings."""
        self._changes = changes

    @property
    def front(self) -> LighterFront:
        """The venue's own side."""
        return self.simulator.lighter

    @property
    def faults(self) -> FaultPlan:
        return self.front.faults

    def simulator_settings(self) -> SimulatorSettings:
        return sim_settings(**self._changes)

    def build(self, folder: Path, clock: Clock, *, socket: SocketConfig, **settings: Any) -> LighterVenue:
        streams = StreamConfig(socket=socket, send_timeout_s=settings["action_timeout_s"])
        values = {"verdict_poll_s": POLL_S, **settings}
        self.venue = LighterVenue(gateway_settings(self.simulator, folder, **values), clock, stream_config=streams)
        return self.venue

    def use_http(self) -> None:
        stream = self.venue._parts.private[MAIN].stream

        async def not_connected(*_: object, **__: object) -> None:
            raise VenueUnavailable("the connection has ended", sent=Sent.NO)

        stream.send_transactions = not_connected  # type: ignore[method-assign,assignment]

    def offer(self, *, bid: str = "", ask: str = "", size: str = "5") -> None:
        for side, price in ((Side.BUY, bid), (Side.SELL, ask)):
            if price:
                self.front.house_order(COIN, side, price, size)

    def cancel_house_orders(self) -> None:
        self.front.cancel_house_orders()

    def end_order(self, venue_order_id: str) -> None:
        engine, orders = self.front.venue.engine, self.front.venue.orders
        live = engine.live_orders(account_name(ACCOUNT))
        (order,) = (order for order in live if str(orders.index(order)) == venue_order_id)
        assert engine.cancel(order.account, order.order_id, self.simulator.now_ms())
        self.front.app.publish()

    def orders(self) -> Sequence[TrueOrder]:
        return [_order(row) for row in self.front.orders(ACCOUNT)]

    def fills(self) -> Sequence[TrueFill]:
        return [_fill(row) for row in self.front.trades(ACCOUNT)]

    def balances(self) -> Sequence[account_pb2.Balance]:
        venue = self.front.venue
        row = account_rows.detailed(venue, venue.accounts.get(ACCOUNT), active_only=False)
        account = decoder_of("account", wire.Account).decode(msgspec.json.encode(row))
        balances, _ = self.venue._parts.reads[MAIN]._view.snapshot_money(account, received_ns=0)
        return balances

    def cut_sockets(self) -> int:
        return self.front.app.cut_sockets()

    async def close_sockets(self) -> None:
        await asyncio.gather(*(item.socket.close(code=1000) for item in self.front.app.sockets))

    def fall_silent(self, seconds: float) -> None:
        self.front.app.fall_silent(seconds)

    def revoke_key(self) -> None:
        self._register(PUBLIC[OTHER_KEY])

    def restore_key(self) -> None:
        self._register(PUBLIC[API_KEY])

    def _register(self, public_key: str) -> None:
        self.front.venue.accounts.get(ACCOUNT).keys[API_KEY].public_key = bytes.fromhex(public_key)


def _order(row: dict[str, Any]) -> TrueOrder:
    return TrueOrder(
        venue_order_id=str(row["order_index"]),
        client_id=str(row["client_order_index"]),
        price=Decimal(row["price"]),
        quantity=Decimal(row["initial_base_amount"]),
        filled=Decimal(row["filled_base_amount"]),
        exact=True,
        open=row["status"] == "open",
        lived=row["status"] not in NEVER_LIVED or bool(Decimal(row["filled_base_amount"])),
        status=row["status"],
    )


def _fill(row: dict[str, Any]) -> TrueFill:
    side, sign = ("ask", -1) if row["ask_account_id"] == ACCOUNT else ("bid", 1)
    return TrueFill(
        trade_id=str(row["trade_id"]),
        venue_order_id=str(row[f"{side}_id"]),
        client_id=str(row[f"{side}_client_id"]),
        quantity=sign * Decimal(row["size"]),
    )
