"""Operations that move money: once per key, a known result told again, an unknown one never resent."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest

from tests.fakes_venue import BTC, ETH, Down, FakeVenue, Held, Lost
from tests.unit.venuemesh.gateway.gateway_world import Caller, MemoryBus, World, gateway, until
from venuemesh.deadlines import Deadline, set_deadline
from venuemesh.errors import (
    ClientOrderIdReused,
    InvalidRequest,
    JournalUnavailable,
    NotSupported,
    OutcomeUnknown,
    Reason,
    Sent,
    VenueRejected,
    VenueUnavailable,
)
from venuemesh.gateway.venue import Refused, VenuePosition
from venuemesh.v1 import account_pb2, event_pb2, instrument_pb2
from venuemesh.v1 import account_service_pb2 as accounts

CALLER = Caller()


def transfer(**changes: Any) -> accounts.TransferCollateralRequest:
    """Ten dollars from the main section to spot."""
    fields: dict[str, Any] = {
        "account_id": "main",
        "asset": "USDC",
        "amount": "10",
        "to_section": "spot",
        "request_id": "t1",
    }
    return accounts.TransferCollateralRequest(**(fields | changes))


def adjust(**changes: Any) -> accounts.AdjustIsolatedMarginRequest:
    """Five dollars more margin."""
    fields: dict[str, Any] = {"account_id": "main", "symbol": BTC, "amount": "5", "request_id": "m1"}
    return accounts.AdjustIsolatedMarginRequest(**(fields | changes))


def amounts(venue: FakeVenue) -> list[str]:
    """What was transferred."""
    return [str(row.amount) for row in venue.transfers]


async def test_transfer_when_done_gives_both_balances_and_a_repeat_sends_nothing() -> None:
    """The key makes it happen once, in this process and after a restart."""
    bus = MemoryBus()
    async with gateway(bus=bus) as world:
        world.venue.balances.append(
            account_pb2.Balance(account_id="main", venue=world.venue.name, asset="USDC", total="9", available="9")
        )
        response = await world.accounts.TransferCollateral(transfer(), CALLER)
        assert [row.total for row in response.balances] == ["9"]
        await world.accounts.TransferCollateral(transfer(), CALLER)
        (sent,) = world.venue.transfers
        assert (sent.from_section, sent.to_section, sent.amount) == ("", "spot", Decimal(10))
        assert sent.reservation.nonce > 0
        await world.durable()
    async with gateway(bus=bus) as world:
        await world.accounts.TransferCollateral(transfer(), CALLER)
        assert world.venue.transfers == []


async def test_transfer_when_the_journal_holds_it_reserves_no_nonce_twice() -> None:
    """A nonce that an operation used is known after a restart."""
    bus = MemoryBus()
    async with gateway(bus=bus) as world:
        await world.accounts.TransferCollateral(transfer(), CALLER)
        used = world.venue.transfers[0].reservation.nonce
        await world.durable()
    async with gateway(bus=bus) as world:
        assert world.venue.reserve("main", not_after_ns=0).nonce > used


async def test_transfer_when_the_key_has_other_content_is_refused() -> None:
    """In memory and out of the journal."""
    bus = MemoryBus()
    for _ in range(2):
        async with gateway(bus=bus) as world:
            await world.accounts.TransferCollateral(transfer(), CALLER)
            with pytest.raises(ClientOrderIdReused) as caught:
                await world.accounts.TransferCollateral(transfer(amount="11"), CALLER)
            assert caught.value.field == "request_id"
            with pytest.raises(ClientOrderIdReused):
                await world.accounts.AdjustIsolatedMargin(adjust(request_id="t1"), CALLER)
            await world.durable()


async def test_transfer_when_the_key_of_the_journal_has_other_content_is_refused_first() -> None:
    """The first call of a process under a key of another."""
    bus = MemoryBus()
    async with gateway(bus=bus) as world:
        await world.accounts.TransferCollateral(transfer(), CALLER)
        await world.durable()
    async with gateway(bus=bus) as world:
        with pytest.raises(ClientOrderIdReused):
            await world.accounts.TransferCollateral(transfer(amount="11"), CALLER)
        await world.accounts.TransferCollateral(transfer(), CALLER)
        assert world.venue.transfers == []


@pytest.mark.parametrize("arrived", [True, False])
async def test_transfer_when_the_reply_is_lost_is_unknown_for_ever_and_never_resent(arrived: bool) -> None:
    """Money is not moved twice to find out whether it was moved once."""
    bus = MemoryBus()
    async with gateway(bus=bus) as world:
        world.venue.script("transfer_collateral", Lost(arrived=arrived))
        for _ in range(2):
            with pytest.raises(OutcomeUnknown) as caught:
                await world.accounts.TransferCollateral(transfer(), CALLER)
            assert caught.value.sent is Sent.MAYBE
        assert amounts(world.venue) == ["10"] * arrived
        await world.durable()
    async with gateway(bus=bus) as world:
        with pytest.raises(OutcomeUnknown):
            await world.accounts.TransferCollateral(transfer(), CALLER)
        assert world.venue.transfers == []


async def test_transfer_when_refused_tells_the_venues_words_again() -> None:
    """A known no is a no for every repeat, also after a restart."""
    bus = MemoryBus()
    async with gateway(bus=bus) as world:
        world.venue.script("transfer_collateral", Refused(reason=Reason.INSUFFICIENT_MARGIN, text="too little"))
        with pytest.raises(VenueRejected, match="too little"):
            await world.accounts.TransferCollateral(transfer(), CALLER)
        await world.durable()
    async with gateway(bus=bus) as world:
        with pytest.raises(VenueRejected, match="too little") as caught:
            await world.accounts.TransferCollateral(transfer(), CALLER)
        assert (caught.value.reason, caught.value.metadata["venue_text"]) == (Reason.INSUFFICIENT_MARGIN, "too little")
        assert world.venue.transfers == []


async def test_transfer_when_the_link_is_down_is_refused_and_the_key_stays_free() -> None:
    """Nothing was journalled, so the same key works when the link is back."""
    async with gateway() as world:
        world.venue.go_down()
        with pytest.raises(VenueUnavailable):
            await world.accounts.TransferCollateral(transfer(), CALLER)
        world.venue.go_up()
        await world.accounts.TransferCollateral(transfer(), CALLER)
        assert amounts(world.venue) == ["10"]


async def test_transfer_when_nothing_left_the_process_says_so_under_that_key() -> None:
    """The key is used up, but it is certain that no money moved."""
    async with gateway() as world:
        world.venue.script("transfer_collateral", Down())
        for _ in range(2):
            with pytest.raises(VenueRejected, match="link down"):
                await world.accounts.TransferCollateral(transfer(), CALLER)
        assert world.venue.transfers == []


async def test_transfer_when_the_journal_is_away_sends_nothing() -> None:
    """Not journalled, not sent."""
    async with gateway() as world:
        world.bus.connected = False
        with pytest.raises(JournalUnavailable):
            await world.accounts.TransferCollateral(transfer(), CALLER)
        assert world.venue.transfers == []
        world.bus.connected = True
        await world.accounts.TransferCollateral(transfer(), CALLER)
        assert amounts(world.venue) == ["10"]


async def test_transfer_when_the_journal_stored_it_after_all_says_that_nothing_was_sent() -> None:
    """A confirmation that was lost: the intent is there, and this process knows that it sent nothing."""
    async with gateway() as world:
        journal, write = world.core.journal, world.core.journal.write_intent

        async def stores_and_fails(*args: Any) -> None:
            await write(*args)
            raise JournalUnavailable("no ack")

        journal.write_intent = stores_and_fails  # type: ignore[method-assign]
        with pytest.raises(JournalUnavailable):
            await world.accounts.TransferCollateral(transfer(), CALLER)
        journal.write_intent = write  # type: ignore[method-assign]
        for _ in range(2):
            with pytest.raises(VenueRejected) as caught:
                await world.accounts.TransferCollateral(transfer(), CALLER)
            assert caught.value.reason is Reason.NEVER_REACHED_VENUE
        assert world.venue.transfers == []


async def test_transfer_when_the_caller_gives_up_goes_on_and_a_repeat_joins_it() -> None:
    """The call that began it does not own it."""
    async with gateway() as world:
        go_on = asyncio.Event()
        world.venue.script("transfer_collateral", Held(go_on))
        first = asyncio.create_task(world.accounts.TransferCollateral(transfer(), CALLER))
        await until(lambda: "transfer_collateral" in world.venue.calls)
        first.cancel()
        repeat = asyncio.create_task(world.accounts.TransferCollateral(transfer(), CALLER))
        go_on.set()
        await repeat
        assert amounts(world.venue) == ["10"]


async def test_transfer_when_the_deadline_passes_is_unknown_for_now() -> None:
    """Later the same key tells the result."""
    async with gateway() as world:
        go_on = asyncio.Event()
        world.venue.script("transfer_collateral", Held(go_on))

        async def hurried() -> None:
            set_deadline(Deadline(world.clock, world.clock.monotonic_s() + 0.101))
            with pytest.raises(OutcomeUnknown, match="not answered yet"):
                await world.accounts.TransferCollateral(transfer(), CALLER)

        await asyncio.create_task(hurried())
        go_on.set()
        await world.accounts.TransferCollateral(transfer(), CALLER)
        assert amounts(world.venue) == ["10"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"amount": "0"}, "amount"),
        ({"amount": "-1"}, "amount"),
        ({"amount": ""}, "amount"),
        ({"asset": ""}, "asset"),
        ({"to_section": "elsewhere"}, "to_section"),
        ({"from_section": "spot"}, "to_section"),
        ({"request_id": ""}, "request_id"),
        ({"request_id": "a.b"}, "request_id"),
    ],
)
async def test_transfer_when_a_field_is_wrong_names_it(changes: dict[str, str], field: str) -> None:
    """Nothing is journalled or sent."""
    async with gateway() as world:
        with pytest.raises(InvalidRequest) as caught:
            await world.accounts.TransferCollateral(transfer(**changes), CALLER)
        assert caught.value.field == field
        assert world.venue.transfers == []


async def test_transfer_where_the_venue_has_no_sections_is_not_supported() -> None:
    """Capabilities decide."""
    async with gateway() as world:
        del world.venue.capabilities.collateral_sections[:]
        with pytest.raises(NotSupported):
            await world.accounts.TransferCollateral(transfer(), CALLER)


async def test_adjust_isolated_margin_gives_the_position_as_the_venue_shows_it() -> None:
    """Margin used is read back after the change."""
    async with gateway() as world:
        await _open(world)
        position = (await world.accounts.AdjustIsolatedMargin(adjust(amount="-5"), CALLER)).position
        assert world.venue.margin_changes == [("main", BTC, Decimal(-5))]
        assert (position.quantity, position.symbol) == ("0.25", BTC)
        await world.accounts.AdjustIsolatedMargin(adjust(amount="-5"), CALLER)
        assert len(world.venue.margin_changes) == 1


async def test_adjust_isolated_margin_when_it_cannot_be_read_back_is_done_all_the_same() -> None:
    """The change stands; what is known of the position is told."""
    async with gateway() as world:
        await _open(world)
        world.venue.script("fetch_snapshot", Down())
        position = (await world.accounts.AdjustIsolatedMargin(adjust(), CALLER)).position
        assert position.quantity == "0.25"


async def test_adjust_isolated_margin_where_it_cannot_be_is_not_supported() -> None:
    """Cross-only instruments, and margin that may not be taken out."""
    async with gateway() as world:
        (instrument,) = [row for row in world.core.instruments.all() if row.symbol == ETH]
        instrument.isolated_margin_removable = False
        with pytest.raises(NotSupported, match="taken out"):
            await world.accounts.AdjustIsolatedMargin(adjust(symbol=ETH, amount="-1"), CALLER)
        instrument.margin_modes[:] = [instrument_pb2.MARGIN_MODE_CROSS]
        with pytest.raises(NotSupported, match="no isolated margin"):
            await world.accounts.AdjustIsolatedMargin(adjust(symbol=ETH), CALLER)
        with pytest.raises(InvalidRequest):
            await world.accounts.AdjustIsolatedMargin(adjust(amount="0"), CALLER)
        assert world.venue.margin_changes == []


async def _open(world: World) -> None:
    (instrument,) = [row for row in world.core.instruments.all() if row.symbol == BTC]
    instrument.isolated_margin_removable = True
    await world.submit("k1")
    world.venue.fill(world.venue.order_of(world.venue.placed[-1]), "0.25", "100")


async def test_operation_when_the_process_ends_before_the_answer_is_unknown_afterwards() -> None:
    """Only the intent is in the journal."""
    bus = MemoryBus()
    async with gateway(bus=bus) as world:
        content = event_pb2.AccountOperation(
            method=transfer().DESCRIPTOR.full_name,
            request_id="t1",
            request=transfer().SerializeToString(deterministic=True),
        )
        intent = event_pb2.OrderIntent(account_operation=content, nonce=77)
        await world.core.journal.write_intent("main", "operation.t1", intent)
    async with gateway(bus=bus) as world:
        with pytest.raises(OutcomeUnknown):
            await world.accounts.TransferCollateral(transfer(), CALLER)
        assert world.venue.transfers == []
        assert world.venue.reserve("main", not_after_ns=0).nonce > 77


async def test_positions_show_their_distance_to_liquidation() -> None:
    """In hundredths of a percent of the mark."""
    async with gateway() as world:
        await _open(world)
        seen = VenuePosition(
            symbol=BTC,
            quantity=Decimal("0.25"),
            entry_price=Decimal(100),
            mark_price=Decimal(120),
            liquidation_price=Decimal(90),
        )
        world.account.on_positions([seen])
        (position,) = (
            await world.accounts.ListPositions(accounts.ListPositionsRequest(account_id="main"), CALLER)
        ).positions
        assert position.liquidation_distance_bps == "2500"
