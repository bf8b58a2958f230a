"""The account's side of the adapter: snapshots, fills, stream recovery, leverage, keys."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from gateway_lighter.account_transactions import Transfer, Withdraw
from gateway_lighter.answers import read_done
from gateway_lighter.venue import LighterVenue
from simulator.engine.values import Side
from simulator.faults import Fault, FaultKind
from simulator.testing import running_simulator
from tests.integration.gateway_lighter.world import (
    ACCOUNT,
    OWNER,
    PUBLIC,
    SYMBOL,
    Recorder,
    World,
    gateway_settings,
    sim_settings,
    world,
)
from venuemesh.clock import SystemClock
from venuemesh.errors import AccountNotFound, AuthenticationFailed
from venuemesh.gateway.attribution import attributed
from venuemesh.gateway.venue import Placed, Refused, VenueOrderState
from venuemesh.gateway.venue_offers import TellsFees
from venuemesh.v1 import account_pb2, instrument_pb2, order_pb2, stream_pb2

IOC = order_pb2.TIME_IN_FORCE_IOC


async def buy(found: World, quantity: str = "0.5") -> Decimal:
    """Take from a house order; the price paid."""
    price = found.mark
    found.front.house_order("BTC", Side.SELL, price, quantity)
    placed = await found.venue.place_order(found.ticket(offset=200, time_in_force=IOC, quantity=quantity), lambda: None)
    assert isinstance(placed, Placed)
    return price


async def test_snapshot_shows_orders_positions_balances_and_margin(tmp_path: Path) -> None:
    """One moment of the account, in the contract's words."""
    async with world(tmp_path) as found:
        price = await buy(found)
        ticket = found.ticket()
        await found.venue.place_order(ticket, lambda: None)
        snapshot = await found.venue.fetch_snapshot("main")
        assert [order.venue_client_order_id for order in snapshot.open_orders] == [ticket.venue_client_order_id]
        (position,) = snapshot.positions
        assert (position.symbol, position.quantity, position.entry_price) == (SYMBOL, Decimal("0.5"), price)
        assert position.margin_mode == instrument_pb2.MARGIN_MODE_CROSS
        (purse,) = [row for row in snapshot.balances if row.venue_section == ""]
        fee = price * Decimal("0.5") * Decimal("0.00028")
        assert purse.asset == "USDC"
        assert abs(Decimal(purse.total) - (100_000 - fee)) < Decimal("0.00001")
        assert Decimal(purse.available) < Decimal(purse.total)
        assert snapshot.summary.asset == "USDC"
        assert Decimal(snapshot.summary.margin_used) > 0


async def test_positions_and_balances_are_pushed_after_a_fill(tmp_path: Path) -> None:
    """The stream tells marks and money; a closed position is told once as flat."""
    async with world(tmp_path) as found:
        await buy(found)
        await found.sink.until(
            lambda: any(row.quantity == Decimal("0.5") for rows in found.sink.positions for row in rows)
        )
        await found.sink.until(lambda: found.sink.balances)
        found.front.house_order("BTC", Side.BUY, found.mark, "0.5")
        await found.venue.place_order(
            found.ticket(side=order_pb2.SIDE_SELL, offset=-200, time_in_force=IOC, quantity="0.5", reduce_only=True),
            lambda: None,
        )
        await found.sink.until(lambda: any(row.quantity == 0 for row in found.sink.positions[-1]))


async def test_fills_of_stream_and_query_have_the_same_ids_and_facts(tmp_path: Path) -> None:
    """Whatever source a fill comes from, it is the same fill."""
    async with world(tmp_path) as found:
        await buy(found)
        await found.sink.until(lambda: found.sink.fills)
        fetched = await found.venue.fetch_fills("main", 0)
        assert list(fetched) == found.sink.fills
        last_ns = fetched[-1].venue_time_ns
        assert await found.venue.fetch_fills("main", last_ns + 1_000_000_000) == []


async def test_self_made_trades_of_maker_and_taker_are_told_apart(tmp_path: Path) -> None:
    """As maker the fee is the maker's and the role says so."""
    async with world(tmp_path) as found:
        ticket = found.ticket(offset=0, post_only=True, quantity="0.1")
        await found.venue.place_order(ticket, lambda: None)
        found.front.house_order("BTC", Side.SELL, found.mark, "0.1")
        await found.sink.until(lambda: found.sink.fills)
        fill = found.sink.fills[0]
        assert fill.liquidity_role == order_pb2.LIQUIDITY_ROLE_MAKER
        assert fill.fee == fill.price * fill.quantity * Decimal("0.00004")
        assert fill.venue_client_order_id == ticket.venue_client_order_id


async def test_fills_during_a_lost_connection_are_found_after_it_stands_again(tmp_path: Path) -> None:
    """Nothing is replayed by the venue: the account is told lost, then live, and the query closes the gap."""
    async with world(tmp_path) as found:
        ticket = found.ticket(offset=0, quantity="0.1")
        await found.venue.place_order(ticket, lambda: None)
        found.front.app.cut_sockets()
        found.front.house_order("BTC", Side.SELL, found.mark, "0.1")
        await found.sink.until(lambda: found.sink.lost and len(found.sink.live) >= 2)
        fills = await found.venue.fetch_fills("main", 0)
        assert [fill.venue_client_order_id for fill in fills] == [ticket.venue_client_order_id]
        view = await found.venue.fetch_order(found.target(ticket))
        assert view is not None
        assert view.state is VenueOrderState.FILLED


async def test_dropped_account_frame_does_not_leave_a_placed_order_unanswered(tmp_path: Path) -> None:
    """Where the stream loses the order's row, the transaction's row tells."""
    async with world(tmp_path) as found:
        found.front.faults.add(Fault(kind=FaultKind.DROP_FRAME, match="account_all_orders"))
        assert isinstance(await found.venue.place_order(found.ticket(), lambda: None), Placed)


async def test_order_is_settled_by_query_when_the_stream_tells_nothing(tmp_path: Path) -> None:
    """Both rows lost: the venue is asked about the transaction."""
    async with world(tmp_path, verdict_poll_s=0.05) as found:
        for channel in ("account_all_orders", "account_tx"):
            found.front.faults.add(Fault(kind=FaultKind.DROP_FRAME, match=channel))
        assert isinstance(await found.venue.place_order(found.ticket(), lambda: None), Placed)


async def test_funding_is_told_by_stream_and_query_with_the_same_id(tmp_path: Path) -> None:
    """A payment is one entry, whatever source it comes from."""
    async with world(tmp_path) as found:
        await buy(found)
        pay_funding(found)
        await found.sink.until(lambda: found.sink.ledger)
        (entry,) = found.sink.ledger
        assert entry.ledger_entry_type == account_pb2.LEDGER_ENTRY_TYPE_FUNDING
        assert entry.symbol == SYMBOL
        (fetched,) = [row for row in await found.venue.fetch_ledger("main", 0) if row.symbol]
        assert (fetched.ledger_entry_id, fetched.amount) == (entry.ledger_entry_id, entry.amount)


async def test_money_that_came_went_and_moved_is_in_the_ledger(tmp_path: Path) -> None:
    """Deposit, withdrawal, transfers out and between sections: signed, and the sum is the change of the balance."""
    other = {"l1_address": OWNER, "keys": {}, "usdc": "0"}
    mine = {"l1_address": OWNER, "keys": PUBLIC, "usdc": "1000", "tier": "premium"}
    settings = sim_settings(lighter_accounts={ACCOUNT: mine, ACCOUNT + 1: other})
    async with world(tmp_path, simulator_settings=settings) as found:
        found.front.fund(ACCOUNT, "250")
        for transaction in (
            Withdraw(asset_index=3, route_type=0, amount=40_000_000),
            Transfer(to_account_index=ACCOUNT + 1, asset_index=3, amount=11_500_000),
            Transfer(to_account_index=ACCOUNT, asset_index=3, to_route_type=1, amount=5_000_000),
        ):
            assert await found.venue._parts.send("main", transaction, None, "money", read_done) is True
        entries = await found.venue.fetch_ledger("main", 0)
        assert [(row.amount, row.venue_section) for row in entries] == [
            ("1000", ""),
            ("250", ""),
            ("-40", ""),
            ("-11.5", ""),
            ("-5", ""),
            ("5", "spot"),
        ]
        snapshot = await found.venue.fetch_snapshot("main")
        held = sum(Decimal(row.total) for row in snapshot.balances)
        assert held == sum(Decimal(row.amount) for row in entries)
        later_ns = entries[-1].venue_time.ToNanoseconds() + 1_000_000
        late = await found.venue.fetch_ledger("main", later_ns)
        assert {row.ledger_entry_id.split("-")[0] for row in late} == {"deposit", "withdrawal"}  # they may end late


async def test_history_the_venue_refuses_or_garbles_is_said_and_keeps_nothing_else_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The other entries come; trading goes on."""
    async with world(tmp_path) as found:
        found.front.fund(ACCOUNT, "250")
        fault = Fault(kind=FaultKind.REFUSE, match="info:transfer/history", code=29404, count=0)
        found.front.faults.add(fault)
        assert [row.amount for row in await found.venue.fetch_ledger("main", 0)] == ["100000", "250"]
        (record,) = [row for row in caplog.records if row.message == "ledger_refused"]
        assert record.__dict__["what"] == "transfers"


def pay_funding(found: World) -> None:
    """Have the venue pay funding now."""
    found.front.venue.upkeep._pay_funding(found.front.app.now_ms())
    found.front.app.publish()


async def test_leverage_is_set_and_read_back(tmp_path: Path) -> None:
    """What is set is what the venue then names, with and without a position."""
    async with world(tmp_path) as found:
        instrument = found.instruments[SYMBOL]
        assert await found.venue.set_leverage("main", instrument, 12, cross=False) is None
        setting = await found.venue.fetch_leverage("main", instrument)
        assert setting.leverage == 12
        assert setting.margin_mode == instrument_pb2.MARGIN_MODE_ISOLATED


async def test_isolated_margin_without_a_position_is_refused_with_the_venues_words(tmp_path: Path) -> None:
    """There is nothing to add margin to."""
    async with world(tmp_path) as found:
        reservation = found.venue.reserve("main", not_after_ns=2**62)
        answer = await found.venue.adjust_isolated_margin("main", found.instruments[SYMBOL], Decimal(5), reservation)
        assert isinstance(answer, Refused)
        assert answer.text


async def test_links_and_quotas_show_every_connection_and_limit(tmp_path: Path) -> None:
    """Health and budgets are read without asking the venue."""
    async with world(tmp_path) as found:
        states = {row.link_id: row.state for row in found.venue.links()}
        assert states["user/main"] == stream_pb2.LINK_STATE_LIVE
        assert set(states) == {"rest", "market", "user/main"}
        limiters = {row.limiter: row for row in found.venue.quotas()}
        assert limiters["transactions"].limit == 4_000
        assert limiters["transactions_in_flight.main"].remaining == 50


async def test_unknown_account_is_named(tmp_path: Path) -> None:
    """Every call that names an account refuses one that is not here."""
    async with world(tmp_path) as found:
        with pytest.raises(AccountNotFound, match="nobody"):
            await found.venue.fetch_snapshot("nobody")


@pytest.mark.parametrize(
    ("account", "text"),
    [
        ({"keys": {4: PUBLIC[5]}}, "another key"),
        ({"keys": {9: PUBLIC[5]}}, "not registered"),
        ({"l1_address": "0x" + "cc" * 20}, "another owner"),
    ],
)
async def test_account_that_does_not_fit_its_keys_stops_the_gateway(
    tmp_path: Path, account: dict[str, Any], text: str
) -> None:
    """A mixed-up key or owner is refused before anything is traded."""
    terms = {"l1_address": OWNER, "keys": PUBLIC, "usdc": "1"} | account
    async with running_simulator(sim_settings(lighter_accounts={ACCOUNT: terms})) as simulator:
        venue = LighterVenue(gateway_settings(simulator, tmp_path), SystemClock())
        with pytest.raises(AuthenticationFailed, match=text):
            await venue.run(Recorder())


async def test_another_tier_than_configured_is_said_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The limits would be met by surprise; trading goes on."""
    async with world(tmp_path, tier="plus"):
        (record,) = [row for row in caplog.records if row.message == "tier_differs"]
        assert record.__dict__["venue"] == "premium"


async def test_order_without_a_client_index_is_found_by_the_venues(tmp_path: Path) -> None:
    """An order of another client of the account has none."""
    async with world(tmp_path) as found:
        ticket = found.ticket()
        placed = await found.venue.place_order(ticket, lambda: None)
        assert isinstance(placed, Placed)
        target = replace(found.target(ticket, placed.venue_order_id), venue_client_order_id="")
        view = await found.venue.fetch_order(target)
        assert view is not None
        assert view.venue_order_id == placed.venue_order_id
        assert await found.venue.fetch_order(replace(target, venue_order_id=None)) is None


async def test_fee_rates_are_those_of_the_accounts_tier(tmp_path: Path) -> None:
    """In ticks of a millionth; the markets' own rows say 0 for everybody."""
    async with world(tmp_path) as found:
        tier = found.front.venue.accounts.get(ACCOUNT).tier
        rates = await found.venue.fetch_fee_rates("main", found.instruments[SYMBOL])
        assert rates is not None
        assert (rates.maker, rates.taker) == (
            Decimal(tier.maker_ticks).scaleb(-6),
            Decimal(tier.taker_ticks).scaleb(-6),
        )
        assert isinstance(attributed(found.venue), TellsFees)
