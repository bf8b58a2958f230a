"""An account through the adapter: who may sign for it, its fills, ledger, snapshot, and its private stream."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from hypercore.adapter.venue import HyperCoreVenue
from hypercore.signing import SecretKey
from simulator.clock import SteppedClock
from simulator.engine.values import Side
from simulator.faults import Fault, FaultKind
from simulator.server import Simulator
from simulator.testing import running_simulator
from tests.integration.adapter_world import running_adapter
from tests.integration.hypercore.adapter.world import (
    ADDRESS,
    AGENT,
    AGENT_KEY,
    OTHER_KEY,
    STRANGER,
    SYMBOL,
    Recorder,
    World,
    fast_streams,
    gateway_settings,
    sim_settings,
    world,
)
from tests.integration.recording_sink import WAIT_S
from venuemesh.clock import SystemClock
from venuemesh.errors import AccountNotFound, AuthenticationFailed
from venuemesh.gateway.venue import VenueOrderState
from venuemesh.v1 import account_pb2, instrument_pb2, order_pb2, stream_pb2

IOC = order_pb2.TIME_IN_FORCE_IOC


async def buy(found: World, quantity: str, price: str = "3900") -> str:
    """Buy from a house order; the venue order id."""
    found.simulator.house_order("ETH", Side.SELL, price, quantity)
    placed = await found.venue.place_order(
        found.ticket(quantity=quantity, price=price, time_in_force=IOC), lambda: None
    )
    return str(getattr(placed, "venue_order_id", placed))


# --- who may sign ------------------------------------------------------------------------------------------


async def refused_start(folder: Path, simulator: Simulator, **changes: Any) -> str:
    """Start an adapter that must not start; what it says."""
    settings = gateway_settings(simulator, folder, **changes)
    venue = HyperCoreVenue(settings, SystemClock(), stream_config=fast_streams())
    with pytest.raises(AuthenticationFailed) as caught:
        async with asyncio.timeout(WAIT_S):
            await venue.run(Recorder())
    assert AGENT_KEY not in str(caught.value)
    assert AGENT_KEY.removeprefix("0x") not in str(caught.value)
    return caught.value.message


async def test_start_when_account_address_is_an_agent_fails_loudly(tmp_path: Path) -> None:
    """The commonest mistake, an empty account at any other client, is refused with both addresses."""
    async with running_simulator(sim_settings()) as simulator:
        key = tmp_path / "other.key"
        key.write_text(OTHER_KEY)
        accounts = [{"account_id": "main", "address": AGENT, "agent_key_file": str(key)}]
        message = await refused_start(tmp_path, simulator, accounts=accounts)
        assert AGENT in message
        assert ADDRESS in message
        assert SecretKey(OTHER_KEY).address in message


async def test_start_when_agent_belongs_to_another_account_fails(tmp_path: Path) -> None:
    """A key of somebody else's wallet names the account it belongs to."""
    settings = sim_settings(accounts={ADDRESS: "1", STRANGER: "1"}, agents={AGENT: STRANGER})
    async with running_simulator(settings) as simulator:
        message = await refused_start(tmp_path, simulator)
        assert STRANGER in message


async def test_start_when_agent_is_not_approved_fails(tmp_path: Path) -> None:
    """A key the venue has never seen may not trade for anybody."""
    async with running_simulator(sim_settings(agents={})) as simulator:
        assert "no approved API wallet" in await refused_start(tmp_path, simulator)


async def test_start_when_account_is_unknown_fails(tmp_path: Path) -> None:
    """An address without an account is a typing mistake."""
    async with running_simulator(sim_settings(accounts={STRANGER: "1"}, agents={})) as simulator:
        assert "does not know" in await refused_start(tmp_path, simulator)


async def test_start_with_the_accounts_own_key_fails(tmp_path: Path) -> None:
    """A gateway holds keys that cannot withdraw, and no others."""
    own = SecretKey(AGENT_KEY).address
    async with running_simulator(sim_settings(accounts={own: "1"}, agents={})) as simulator:
        accounts = [{"account_id": "main", "address": own, "agent_key_file": str(tmp_path / "agent.key")}]
        assert "the account's own" in await refused_start(tmp_path, simulator, accounts=accounts)


async def test_start_before_the_venue_is_there_waits_for_it(tmp_path: Path) -> None:
    """A venue that cannot be asked is asked again; no restart is needed."""
    async with running_simulator(sim_settings()) as simulator:
        simulator.faults.add(Fault(kind=FaultKind.REFUSE_CONNECTIONS, count=0))
        settings = gateway_settings(simulator, tmp_path)
        waits: list[float] = []

        async def comes_back(seconds: float) -> None:
            waits.append(seconds)
            simulator.faults.clear()
            await asyncio.sleep(0.01)

        venue = HyperCoreVenue(settings, SystemClock(), stream_config=fast_streams(), sleep=comes_back)
        sink = Recorder()
        running = asyncio.create_task(venue.run(sink))
        await sink.until(lambda: sink.live)
        assert waits
        assert sink.lost[0][1].startswith("not verified yet")
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


# --- reading -----------------------------------------------------------------------------------------------


async def test_fetch_fills_from_a_time_are_oldest_first_and_equal_the_stream(tmp_path: Path) -> None:
    """Queried and pushed fills are the same ones, with the same ids."""
    async with world(tmp_path) as found:
        for quantity in ("0.1", "0.2", "0.3"):
            await buy(found, quantity)
        fills = await found.venue.fetch_fills("main", 0)
        assert [fill.quantity for fill in fills] == [Decimal("0.1"), Decimal("0.2"), Decimal("0.3")]
        await found.sink.until(lambda: len({fill.execution_id for fill in found.sink.fills}) == 3)
        assert {fill.execution_id: fill for fill in found.sink.fills} == {fill.execution_id: fill for fill in fills}
        later = await found.venue.fetch_fills("main", fills[-1].venue_time_ns + 1_000_000)
        assert list(later) == []


async def test_fetch_snapshot_shows_orders_position_and_money(tmp_path: Path) -> None:
    """One picture of the account, stamped before the first request left."""
    async with world(tmp_path) as found:
        await buy(found, "1", "3900")
        resting = found.ticket(price="3000")
        await found.venue.place_order(resting, lambda: None)
        before_ns = SystemClock().now_ns()
        snapshot = await found.venue.fetch_snapshot("main")
        assert before_ns <= snapshot.taken_ns <= SystemClock().now_ns()
        (order,) = snapshot.open_orders
        assert (order.venue_client_order_id, order.state) == (resting.venue_client_order_id, VenueOrderState.WORKING)
        (position,) = snapshot.positions
        assert (position.symbol, position.quantity, position.entry_price) == (SYMBOL, Decimal(1), Decimal(3900))
        assert position.margin_mode == instrument_pb2.MARGIN_MODE_CROSS
        (purse,) = snapshot.balances
        assert (purse.asset, purse.total, purse.venue_section) == ("USDC", "99998.245", "")
        assert snapshot.summary.asset == "USDC"
        assert Decimal(snapshot.summary.margin_used) > 0


async def test_spot_balances_stand_beside_the_perp_purse(tmp_path: Path) -> None:
    """Each balance says which section of the venue it lies in."""
    settings = sim_settings(spot_accounts={ADDRESS: {"HYPE": "2.5"}})
    async with world(tmp_path, simulator_settings=settings) as found:
        snapshot = await found.venue.fetch_snapshot("main")
        rows = {(row.venue_section, row.asset): row.total for row in snapshot.balances}
        assert rows == {("", "USDC"): "100000", ("spot", "HYPE"): "2.5"}


async def test_deposits_are_ledger_entries_pushed_and_fetched_alike(tmp_path: Path) -> None:
    """The stream's entry and the query's have one id, so that either may come first."""
    async with world(tmp_path) as found:
        found.simulator.fund(ADDRESS, "250")
        await found.sink.until(lambda: any(entry.amount == "250" for entry in found.sink.ledger))
        entries = await found.venue.fetch_ledger("main", 0)
        assert [entry.amount for entry in entries] == ["100000", "250"]
        assert {entry.ledger_entry_id for entry in entries} == {entry.ledger_entry_id for entry in found.sink.ledger}
        assert entries[1].ledger_entry_type == account_pb2.LEDGER_ENTRY_TYPE_DEPOSIT


async def test_unknown_account_is_not_found(tmp_path: Path) -> None:
    """An account of another gateway is named in the refusal."""
    async with world(tmp_path) as found:
        with pytest.raises(AccountNotFound):
            await found.venue.fetch_snapshot("nobody")


# --- the private stream ------------------------------------------------------------------------------------


async def test_account_comes_back_live_after_the_socket_is_cut(tmp_path: Path) -> None:
    """Lost and live again are both told; what happened in between is there to be fetched, and is told again."""
    async with world(tmp_path) as found:
        first = await buy(found, "0.1")
        await found.sink.until(lambda: found.sink.fills)
        found.simulator.cut_sockets()
        await found.sink.until(lambda: found.sink.lost)
        second = await buy(found, "0.2")
        await found.sink.until(lambda: len(found.sink.live) == 2)
        assert found.sink.lost[-1][0] == "main"
        await found.sink.until(lambda: {first, second} <= {fill.venue_order_id for fill in found.sink.fills})
        states = [state for link, state, _ in found.sink.links if link == "user/main"]
        assert stream_pb2.LINK_STATE_DOWN in states
        assert states[-1] == stream_pb2.LINK_STATE_LIVE
        status = {row.link_id: row for row in found.venue.links()}
        assert set(status) == {"rest", "market", "user/main"}
        assert status["user/main"].reconnections == 1
        assert status["user/main"].state == stream_pb2.LINK_STATE_LIVE


async def test_account_is_not_live_before_every_essential_subscription_is_confirmed(tmp_path: Path) -> None:
    """A lost confirmation keeps the account from being called live."""
    async with running_simulator(sim_settings()) as simulator:
        simulator.faults.add(Fault(kind=FaultKind.DROP_FRAME, match="subscriptionResponse", count=1))
        settings = gateway_settings(simulator, tmp_path)
        venue = HyperCoreVenue(settings, SystemClock(), stream_config=fast_streams())
        sink = Recorder()
        running = asyncio.create_task(venue.run(sink))
        await sink.until(lambda: sink.balances)
        assert sink.live == []
        simulator.cut_sockets()
        await sink.until(lambda: sink.live)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def test_positions_and_balances_are_pushed_and_a_closed_position_is_told_flat(tmp_path: Path) -> None:
    """Marks and margin follow the venue; a coin that left its list is told as zero, once."""
    async with world(tmp_path) as found:
        await buy(found, "1")
        await found.sink.until(lambda: any(row.quantity == 1 for rows in found.sink.positions for row in rows))
        assert found.sink.balances[-1][1].asset == "USDC"
        found.simulator.house_order("ETH", Side.BUY, "3890", "1")
        sell = found.ticket(side=order_pb2.SIDE_SELL, quantity="1", price="3890", time_in_force=IOC, reduce_only=True)
        await found.venue.place_order(sell, lambda: None)
        await found.sink.until(
            lambda: any(row.symbol == SYMBOL and row.quantity == 0 for rows in found.sink.positions for row in rows)
        )


async def test_rejection_in_the_matching_stage_is_pushed_with_its_reason(tmp_path: Path) -> None:
    """orderUpdates names refused orders too."""
    async with world(tmp_path) as found:
        await found.venue.place_order(found.ticket(price="3500", quantity="1200"), lambda: None)
        await found.sink.until(lambda: found.sink.orders)
        assert found.sink.orders[0].state is VenueOrderState.REJECTED


async def test_reordered_and_doubled_frames_lose_nothing(tmp_path: Path) -> None:
    """Every fill arrives, whatever the order of frames; repeats have the same id."""
    async with world(tmp_path) as found:
        found.simulator.faults.add(Fault(kind=FaultKind.DUPLICATE_FRAME, match="userFills"))
        found.simulator.faults.add(Fault(kind=FaultKind.REORDER_FRAME, match="orderUpdates"))
        await buy(found, "0.1")
        await buy(found, "0.2")
        await found.sink.until(lambda: len({fill.execution_id for fill in found.sink.fills}) == 2)


async def test_funding_is_pushed_and_fetched_with_one_id(tmp_path: Path) -> None:
    """A payment on the hour is a ledger entry of its symbol."""
    clock = SteppedClock(1_790_000_000_000_000_000)
    async with running_simulator(sim_settings(clock="manual"), clock=clock) as simulator:
        settings = gateway_settings(simulator, tmp_path)
        venue = HyperCoreVenue(settings, clock, stream_config=fast_streams())
        found = World(simulator, venue, Recorder())
        found.instruments = {row.symbol: row for row in await venue.fetch_instruments()}
        async with running_adapter(venue, found.sink):
            simulator.house_order("ETH", Side.SELL, "3900", "1")
            reservation = venue.reserve("main", not_after_ns=clock.now_ns() + 10_000_000_000)
            ticket = found.ticket(quantity="1", price="3900", time_in_force=IOC)
            fields = {name: getattr(ticket, name) for name in ticket.__dataclass_fields__}
            await venue.place_order(type(ticket)(**(fields | {"reservation": reservation})), lambda: None)
            simulator.advance(3_600_000)
            kind = account_pb2.LEDGER_ENTRY_TYPE_FUNDING
            await found.sink.until(lambda: any(row.ledger_entry_type == kind for row in found.sink.ledger))
            pushed = next(row for row in found.sink.ledger if row.ledger_entry_type == kind)
            fetched = [row for row in await venue.fetch_ledger("main", 0) if row.ledger_entry_type == kind]
            assert pushed in fetched
            assert pushed.symbol == SYMBOL
