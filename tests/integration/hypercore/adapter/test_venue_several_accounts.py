"""Several accounts behind one gateway: a master with its sub-account or vault, one API wallet and a stream each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

from hypercore.adapter.venue import HyperCoreVenue
from simulator.engine.values import Side
from simulator.testing import running_simulator
from tests.integration.hypercore.adapter.world import (
    ADDRESS,
    AGENT_KEY,
    STRANGER,
    SYMBOL,
    Recorder,
    World,
    fast_streams,
    gateway_settings,
    sim_settings,
)
from venuemesh.clock import SystemClock
from venuemesh.errors import AuthenticationFailed, Reason
from venuemesh.gateway.venue import (
    CancelAnswer,
    CollateralTransfer,
    OrderTicket,
    Placed,
    Refused,
    VenueFill,
    VenueOrderState,
)
from venuemesh.v1 import order_pb2

SUB = "0x" + "cc" * 20
IOC = order_pb2.TIME_IN_FORCE_IOC


@asynccontextmanager
async def two_accounts(
    folder: Path, *, related: bool = True, vault: bool = False, leader: str = ADDRESS
) -> AsyncIterator[World]:
    """`main` and `desk2`, its sub-account or a vault it leads: both are traded with the master's API wallet."""
    vaults = {SUB: leader} if vault else {}
    settings = sim_settings(accounts={ADDRESS: "10000", SUB: "5000"}, vaults=vaults)
    async with running_simulator(settings) as simulator:
        if related and not vault:
            simulator.venue.registry.profile(SUB).master = ADDRESS
        key = folder / "agent.key"
        key.write_text(AGENT_KEY)
        key.chmod(0o600)
        common = {"address": ADDRESS, "agent_key_file": str(key)}
        accounts = [{"account_id": "main", **common}, {"account_id": "desk2", "vault": SUB, **common}]
        venue = HyperCoreVenue(
            gateway_settings(simulator, folder, accounts=accounts), SystemClock(), stream_config=fast_streams()
        )
        found = World(simulator, venue, Recorder())
        found.instruments = {row.symbol: row for row in await venue.fetch_instruments()}
        running = asyncio.create_task(venue.run(found.sink), name="venue")
        try:
            if related:
                await found.sink.until(lambda: set(found.sink.live) == {"main", "desk2"})
            else:
                await running
            yield found
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
            await venue.aclose()


def ticket(found: World, account_id: str, **changes: str) -> OrderTicket:
    """An order of one of the accounts."""
    fields = {"quantity": "0.1", "price": "3900"} | changes
    return replace(found.ticket(**fields), account_id=account_id)  # type: ignore[arg-type]


@pytest.mark.parametrize("vault", [False, True], ids=["sub-account", "vault"])
async def test_orders_of_a_sub_account_or_vault_are_its_own(tmp_path: Path, vault: bool) -> None:
    """Signed for it, found by its address, pushed on its stream; the master sees nothing of them."""
    async with two_accounts(tmp_path, vault=vault) as found:
        order = ticket(found, "desk2", price="3000")
        placed = await found.venue.place_order(order, lambda: None)
        assert isinstance(placed, Placed)
        assert len(found.simulator.orders(SUB)) == 1
        assert found.simulator.orders(ADDRESS) == []
        target = replace(found.target(order, placed.venue_order_id), account_id="desk2")
        view = await found.venue.fetch_order(target)
        assert view is not None
        assert view.state is VenueOrderState.WORKING
        assert await found.venue.fetch_order(replace(target, account_id="main")) is None
        assert len((await found.venue.fetch_snapshot("desk2")).open_orders) == 1
        assert (await found.venue.fetch_snapshot("main")).open_orders == []
        assert await found.venue.cancel_order(target) is CancelAnswer.CANCELED


@pytest.mark.parametrize("vault", [False, True], ids=["sub-account", "vault"])
async def test_fills_positions_and_balances_of_each_account_stay_apart(tmp_path: Path, vault: bool) -> None:
    """Both trade the same coin at once; every push names the right account."""
    async with two_accounts(tmp_path, vault=vault) as found:
        found.simulator.house_order("ETH", Side.SELL, "3900", "0.5")
        pushed: list[tuple[str, Decimal]] = []

        def on_fill(account_id: str, fill: VenueFill) -> None:
            pushed.append((account_id, fill.quantity))
            found.sink.changed.set()

        found.sink.on_fill = on_fill  # type: ignore[method-assign]
        tickets = [
            replace(ticket(found, name, quantity=quantity), time_in_force=IOC)
            for name, quantity in (("main", "0.2"), ("desk2", "0.3"))
        ]
        answers = await asyncio.gather(*(found.venue.place_order(row, lambda: None) for row in tickets))
        assert all(isinstance(answer, Placed) for answer in answers)
        for name, quantity in (("main", "0.2"), ("desk2", "0.3")):
            (fill,) = await found.venue.fetch_fills(name, 0)
            snapshot = await found.venue.fetch_snapshot(name)
            assert fill.quantity == snapshot.positions[0].quantity == Decimal(quantity)
            assert snapshot.positions[0].symbol == SYMBOL
            assert {row.account_id for row in snapshot.balances} == {name}
        await found.sink.until(lambda: {name for name, _ in pushed} == {"main", "desk2"})
        assert set(pushed) == {("main", Decimal("0.2")), ("desk2", Decimal("0.3"))}


async def test_accounts_of_one_wallet_share_its_nonces(tmp_path: Path) -> None:
    """The venue counts nonces per signer: no two requests may have the same."""
    async with two_accounts(tmp_path) as found:
        not_after_ns = SystemClock().now_ns() + 10_000_000_000
        names = ["main", "desk2"] * 50
        nonces = [found.venue.reserve(name, not_after_ns=not_after_ns).nonce for name in names]
        assert len(set(nonces)) == len(nonces)
        assert nonces == sorted(nonces)


async def test_each_account_has_a_stream_of_its_own(tmp_path: Path) -> None:
    """orderUpdates names no user; what one connection brings is one account's."""
    async with two_accounts(tmp_path) as found:
        assert [row.link_id for row in found.venue.links()] == ["rest", "market", "user/main", "user/desk2"]
        assert {row.limiter for row in found.venue.quotas()} >= {"websocket_posts.main", "websocket_posts.desk2"}


async def test_leverage_and_collateral_of_a_sub_account(tmp_path: Path) -> None:
    """Set for it, moved within it; the master's are as they were."""
    async with two_accounts(tmp_path) as found:
        instrument = found.instruments[SYMBOL]
        before = await found.venue.fetch_leverage("main", instrument)
        assert await found.venue.set_leverage("desk2", instrument, 3, True) is None
        assert (await found.venue.fetch_leverage("desk2", instrument)).leverage == 3
        assert await found.venue.fetch_leverage("main", instrument) == before
        transfer = CollateralTransfer(
            account_id="desk2",
            asset="USDC",
            amount=Decimal(100),
            from_section="",
            to_section="xyz",
            reservation=found.venue.reserve("desk2", not_after_ns=SystemClock().now_ns() + 10_000_000_000),
        )
        assert await found.venue.transfer_collateral(transfer) is None
        rows = await found.venue.fetch_section_balances("desk2", "USDC", ["", "xyz"])
        assert [row.total for row in rows] == ["4900", "100"]
        rows = await found.venue.fetch_section_balances("main", "USDC", ["", "xyz"])
        assert [row.total for row in rows] == ["10000", "0"]


async def test_start_when_the_sub_account_is_not_the_masters_fails(tmp_path: Path) -> None:
    """An address that belongs to somebody else is refused, loudly."""
    with pytest.raises(AuthenticationFailed, match="no vault and no sub-account"):
        async with two_accounts(tmp_path, related=False):
            raise AssertionError("it must not start")


async def test_vault_of_another_leader_takes_no_order(tmp_path: Path) -> None:
    """The venue tells whose a sub-account is, and not who leads a vault: the first order meets the refusal."""
    async with two_accounts(tmp_path, vault=True, leader=STRANGER) as found:
        answer = await found.venue.place_order(ticket(found, "desk2", price="3000"), lambda: None)
        assert isinstance(answer, Refused)
        assert answer.text == f"Vault not registered: {SUB}"
        assert answer.reason is Reason.ACCOUNT_NOT_FOUND
        assert found.simulator.orders(SUB) == []
