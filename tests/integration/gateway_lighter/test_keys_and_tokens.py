"""Nonces that do not fit, keys side by side, and tokens that end while the socket lives."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway_lighter.sender import NONCE_TRIES
from simulator.faults import Fault, FaultKind
from tests.integration.gateway_lighter.world import ACCOUNT, ShiftedClock, world
from tests.integration.recording_sink import WAIT_S
from venuemesh.errors import Reason
from venuemesh.gateway.venue import CancelAnswer, Placed, Refused, VenueOrderState
from venuemesh.transport.observer import NullObserver, RequestRecord

INVALID_NONCE = 21104
HOUR_S = 3_600


class Writes(NullObserver):
    """Counts transactions sent."""

    def __init__(self) -> None:
        self.count = 0

    def on_request(self, record: RequestRecord) -> None:
        self.count += record.write


@pytest.mark.parametrize("refusals", range(1, NONCE_TRIES))
async def test_order_refused_for_its_nonce_is_signed_anew_up_to_three_times(tmp_path: Path, refusals: int) -> None:
    """Each send has a nonce of its own; one order comes of it."""
    writes = Writes()
    async with world(tmp_path, observer=writes) as found:
        found.front.faults.add(Fault(kind=FaultKind.REFUSE, match="create_order", code=INVALID_NONCE, count=refusals))
        assert isinstance(await found.venue.place_order(found.ticket(), lambda: None), Placed)
        assert writes.count == refusals + 1
        assert len(found.front.orders(ACCOUNT)) == 1


async def test_order_refused_for_its_nonce_three_times_is_refused_and_the_next_one_is_free(tmp_path: Path) -> None:
    """No endless loop; certain that nothing was taken; nothing is left behind."""
    writes = Writes()
    async with world(tmp_path, observer=writes) as found:
        found.front.faults.add(
            Fault(kind=FaultKind.REFUSE, match="create_order", code=INVALID_NONCE, count=NONCE_TRIES)
        )
        answer = await found.venue.place_order(found.ticket(), lambda: None)
        assert isinstance(answer, Refused)
        assert answer.reason is Reason.NONCE_REJECTED
        assert writes.count == NONCE_TRIES == 3
        assert not found.front.orders(ACCOUNT)
        pool = found.venue._parts.wallets["main"].pool
        async with asyncio.timeout(WAIT_S):
            while pool.out_of_step():  # nothing is reserved meanwhile: the venue is asked first
                await asyncio.sleep(0)
        assert isinstance(await found.venue.place_order(found.ticket(), lambda: None), Placed)
        assert pool.source(4).outstanding == 0


async def test_cancel_passes_although_the_keys_count_is_behind(tmp_path: Path) -> None:
    """The venue's counter was moved on by somebody: a cancel asks and goes on (P34)."""
    async with world(tmp_path) as found:
        ticket = found.ticket()
        await found.venue.place_order(ticket, lambda: None)
        found.front.venue.accounts.get(ACCOUNT).keys[4].next_nonce = 2**41
        assert await found.venue.cancel_order(found.target(ticket)) is CancelAnswer.CANCELED


async def test_key_that_lost_count_does_not_hold_up_the_other(tmp_path: Path) -> None:
    """Orders go on under both; the one behind asks for its next nonce and is used again above it."""
    async with world(tmp_path, keys=(4, 5)) as found:
        keys = found.front.venue.accounts.get(ACCOUNT).keys
        keys[4].next_nonce = 2**41
        tickets = [found.ticket(offset=-1000 - at) for at in range(8)]
        async with asyncio.timeout(WAIT_S):
            answers = await asyncio.gather(*(found.venue.place_order(ticket, lambda: None) for ticket in tickets))
        assert all(isinstance(answer, Placed) for answer in answers)
        again = [await found.venue.place_order(found.ticket(offset=-1020 - at), lambda: None) for at in range(4)]
        assert all(isinstance(answer, Placed) for answer in again)
        assert keys[4].next_nonce > 2**41
        assert len(found.front.orders(ACCOUNT)) == 12


async def test_nonces_of_two_keys_are_restored_each_for_itself(tmp_path: Path) -> None:
    """A nonce in the journal names its key; the other key's count is its own."""
    async with world(tmp_path, keys=(4, 5)) as found:
        far = 2**42
        found.venue.restore_nonce("main", far << 8 | 5)
        given = [found.venue.reserve("main", not_after_ns=2**62).nonce for _ in range(4)]
        by_key = {key: [number >> 8 for number in given if number & 255 == key] for key in (4, 5)}
        assert all(nonce > far for nonce in by_key[5])
        assert all(nonce < far for nonce in by_key[4])
        assert len(by_key[4]) == len(by_key[5]) == 2


async def test_socket_that_outlives_its_token_goes_on_and_everything_after_it_has_a_new_one(tmp_path: Path) -> None:
    """Nine hours on one connection: it still tells, reads pass, and a reconnect subscribes with a fresh token (P5)."""
    clock = ShiftedClock()
    async with world(tmp_path, clock=clock) as found:
        for hours in (1, 8):
            clock.pass_time(hours * HOUR_S)
            ticket = found.ticket(offset=-1000 - hours)
            assert isinstance(await found.venue.place_order(ticket, lambda: None), Placed)
            await found.sink.until(
                lambda ticket=ticket: any(  # type: ignore[misc]
                    row.venue_client_order_id == ticket.venue_client_order_id for row in found.sink.orders
                )
            )
            snapshot = await found.venue.fetch_snapshot("main")
            assert ticket.venue_client_order_id in {row.venue_client_order_id for row in snapshot.open_orders}
        assert len(found.sink.live) == 1
        found.front.app.cut_sockets()
        await found.sink.until(lambda: len(found.sink.live) == 2)
        assert not [row for row in found.sink.unknown_words if "auth" in row[1]]
        view = await found.venue.fetch_order(found.target(ticket))
        assert view is not None
        assert view.state is VenueOrderState.WORKING
