"""A whole gateway over adapter and simulator: account operations, spot, switch and alerts as a caller sees them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from hypercore.adapter.venue import HyperCoreVenue
from simulator.engine.values import Side
from simulator.server import Simulator
from simulator.testing import running_simulator
from tests.integration.hypercore.adapter.world import (
    ADDRESS,
    AGENT,
    AGENT_KEY,
    SYMBOL,
    fast_streams,
    gateway_settings,
    sim_settings,
)
from tests.unit.venuemesh.gateway.gateway_world import SHORT_NAMES, Caller, MemoryBus
from venuemesh.clock import SystemClock
from venuemesh.configuration import Configuration
from venuemesh.draining import Drain
from venuemesh.errors import VenueRejected
from venuemesh.gateway.core import CoreSettings, GatewayCore
from venuemesh.gateway.services.register import build_services
from venuemesh.metrics import Metrics
from venuemesh.settings import ServiceSettings
from venuemesh.v1 import account_service_pb2 as accounts
from venuemesh.v1 import instrument_pb2, operations_service_pb2, order_pb2, order_service_pb2, venue_pb2
from venuemesh.v1 import risk_service_pb2 as risk

CALLER = Caller()
SUB = "0x" + "cc" * 20
HYPE = "HYPE/USDC"
LIMIT_S = 60.0


class Whole:
    """The running gateway, its simulator and its servicers by short name."""

    def __init__(self, simulator: Simulator, core: GatewayCore) -> None:
        self.simulator = simulator
        self.core = core
        services = build_services(core, Drain(), Metrics(), configuration=Configuration(ServiceSettings()))
        self.services: dict[str, Any] = {SHORT_NAMES[row.descriptor.full_name]: row.servicer for row in services}

    def __getattr__(self, name: str) -> Any:
        return self.__dict__["services"][name]

    async def buy(self, symbol: str, coin: str, quantity: str, price: str, *, account_id: str = "main") -> Any:
        """Buy at once from an order of the house."""
        self.simulator.house_order(coin, Side.SELL, price, quantity)
        order = order_pb2.NewOrder(
            account_id=account_id,
            client_order_id=f"{account_id}-{coin.strip(chr(64))}",
            symbol=symbol,
            side=order_pb2.SIDE_BUY,
            order_type=order_pb2.ORDER_TYPE_LIMIT,
            quantity=quantity,
            price=price,
            time_in_force=order_pb2.TIME_IN_FORCE_IOC,
        )
        request = order_service_pb2.SubmitOrderRequest(order=order, ack_level=order_service_pb2.ACK_LEVEL_TERMINAL)
        return (await self.orders.SubmitOrder(request, CALLER)).order

    async def positions(self, account_id: str = "main") -> dict[str, str]:
        """Quantities by symbol."""
        request = accounts.ListPositionsRequest(account_id=account_id)
        rows = (await self.accounts.ListPositions(request, CALLER)).positions
        return {row.symbol: row.quantity for row in rows}


@asynccontextmanager
async def whole(folder: Path, **settings: Any) -> AsyncIterator[Whole]:
    """A gateway with `main` and its sub-account `desk2`, ready for orders."""
    base = {
        "accounts": {ADDRESS: "10000", SUB: "5000"},
        "dex_accounts": {ADDRESS: "100"},
        "spot_accounts": {ADDRESS: {"USDC": "1000"}},
        "agents": {AGENT: ADDRESS},
    }
    async with asyncio.timeout(LIMIT_S), running_simulator(sim_settings(**(base | settings))) as simulator:
        simulator.venue.registry.profile(SUB).master = ADDRESS
        key = folder / "agent.key"
        key.write_text(AGENT_KEY)
        key.chmod(0o600)
        common = {"address": ADDRESS, "agent_key_file": str(key)}
        rows = [{"account_id": "main", **common}, {"account_id": "desk2", "vault": SUB, **common}]
        clock = SystemClock()
        # The simulated venue counts no weight here; our own count must not decide how much one test may ask.
        chosen = gateway_settings(simulator, folder, accounts=rows).model_copy(update={"ip_weight": 100_000})
        venue = HyperCoreVenue(chosen, clock, stream_config=fast_streams())
        core = GatewayCore(
            venue=venue,
            environment=venue_pb2.ENVIRONMENT_SIMULATOR,
            bus=MemoryBus(),  # type: ignore[arg-type]
            clock=clock,
            writer_id="test",
            settings=CoreSettings(),
        )
        await core.recover()
        found = Whole(simulator, core)
        running = asyncio.create_task(core.run(), name="core")
        try:
            while not core.serving:
                assert not running.done(), running.exception()
                await asyncio.sleep(0.005)
            yield found
        finally:
            running.cancel()
            await asyncio.wait({running})
            await venue.aclose()


async def test_leverage_and_mode_are_the_venues_and_set_once(tmp_path: Path) -> None:
    """Read, changed, kept; a refusal of the venue is told in its words."""
    async with whole(tmp_path) as found:
        leverage = accounts.SetLeverageRequest(account_id="main", symbol=SYMBOL, leverage="7")
        assert (await found.accounts.SetLeverage(leverage, CALLER)).leverage == "7"
        mode = accounts.SetMarginModeRequest(
            account_id="main", symbol=SYMBOL, margin_mode=instrument_pb2.MARGIN_MODE_ISOLATED
        )
        await found.accounts.SetMarginMode(mode, CALLER)
        before = found.core.venue.quotas()
        await found.accounts.SetMarginMode(mode, CALLER)
        await found.accounts.SetLeverage(leverage, CALLER)
        after = found.core.venue.quotas()
        spent = [row.remaining for row in before if row.limiter == "address.main"]
        assert spent == [row.remaining for row in after if row.limiter == "address.main"]
        await found.buy(SYMBOL, "ETH", "0.1", "3900")
        mode.margin_mode = instrument_pb2.MARGIN_MODE_CROSS
        with pytest.raises(VenueRejected, match="Cannot switch leverage type with open position"):
            await found.accounts.SetMarginMode(mode, CALLER)
        adjust = accounts.AdjustIsolatedMarginRequest(account_id="main", symbol=SYMBOL, amount="25", request_id="m1")
        position = (await found.accounts.AdjustIsolatedMargin(adjust, CALLER)).position
        assert (position.quantity, position.margin_mode) == ("0.1", instrument_pb2.MARGIN_MODE_ISOLATED)
        assert position.HasField("liquidation_distance_bps")


async def test_transfer_moves_money_once_and_is_in_the_ledger(tmp_path: Path) -> None:
    """Repeats of the key change nothing."""
    async with whole(tmp_path) as found:
        request = accounts.TransferCollateralRequest(
            account_id="main", asset="USDC", amount="40", to_section="xyz", request_id="t1"
        )
        for _ in range(3):
            response = await found.accounts.TransferCollateral(request, CALLER)
            assert {row.venue_section: row.total for row in response.balances} == {"": "9960", "xyz": "140"}


async def test_spot_and_perps_of_two_accounts_stay_apart(tmp_path: Path) -> None:
    """Spot moves balances and makes no position; the sub-account trades its own."""
    async with whole(tmp_path) as found:
        spot = await found.buy(HYPE, "@107", "2", "45")
        assert spot.status == order_pb2.ORDER_STATUS_FILLED
        await found.buy(SYMBOL, "ETH", "0.1", "3900", account_id="desk2")
        assert await found.positions() == {}
        assert await found.positions("desk2") == {SYMBOL: "0.1"}
        for account_id in ("main", "desk2"):
            report = await found.core.reconciler.reconcile(account_id)
            assert (report.error, list(report.discrepancies)) == ("", [])
        balances = await found.accounts.ListBalances(accounts.ListBalancesRequest(account_id="main"), CALLER)
        held = {(row.venue_section, row.asset): row.total for row in balances.balances}
        assert held[("spot", "USDC")] == "910"
        assert ("spot", "HYPE") in held


async def test_switch_is_native_and_falls_back_where_the_venue_refuses(tmp_path: Path) -> None:
    """The answer says which, and whether stops would go too."""
    for volume, provision in (("0", venue_pb2.PROVISION_NATIVE), ("1000000", venue_pb2.PROVISION_EMULATED)):
        async with whole(tmp_path, schedule_cancel_volume=volume) as found:
            request = risk.ArmDeadMansSwitchRequest(account_id="main", lease=Duration(seconds=60))
            (row,) = (await found.risk.ArmDeadMansSwitch(request, CALLER)).dead_mans_switch.venues
            native = provision == venue_pb2.PROVISION_NATIVE
            assert (row.provision, row.cancels_stops) == (provision, native)
            assert native or "until enough volume traded" in row.message


async def test_sockets_that_are_cut_raise_alerts_that_end(tmp_path: Path) -> None:
    """A person sees that the account was not current, and that it is again."""
    async with whole(tmp_path) as found:
        stream = found.operations.StreamAlerts(operations_service_pb2.StreamAlertsRequest(), CALLER)
        async with aclosing(stream) as messages:
            await anext(messages)
            found.simulator.cut_sockets()
            stale = set()
            async for message in messages:
                if message.HasField("alert") and message.alert.kind == "account_stale":
                    ended = message.alert.HasField("end_time")
                    stale.add((message.alert.account_id, ended))
                if stale == {(name, ended) for name in ("main", "desk2") for ended in (True, False)}:
                    break
