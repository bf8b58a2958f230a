"""Several orders or cancels in one message: an answer for each, nothing twice, nonces without a gap."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from simulator.faults import Fault, FaultKind
from simulator.lighter.errors import Code
from simulator.lighter.errors import Refused as VenueRefusal
from tests.integration.gateway_lighter.world import ACCOUNT, SYMBOL, World, Writes, fast_streams, world
from tests.integration.recording_sink import WAIT_S
from venuemesh.errors import OutcomeUnknown, Reason
from venuemesh.gateway.venue import CancelAnswer, OrderTicket, Placed, Refused, Unclear, VenueOrderState


async def place(found: World, tickets: Sequence[OrderTicket]) -> list[Any]:
    """Send a batch; the answers."""
    return list(await found.venue.place_orders(tickets, lambda: None))


def tickets_of(found: World, count: int) -> list[OrderTicket]:
    """Orders that rest, a price apart."""
    return [found.ticket(offset=-1000 - at) for at in range(count)]


async def test_batch_is_one_message_and_each_order_has_its_answer(tmp_path: Path) -> None:
    """As many as the venue takes; under one key, with nonces that ascend by one."""
    writes = Writes()
    async with world(tmp_path, observer=writes, keys=(4, 5)) as found:
        tickets = tickets_of(found, 15)
        answers = await place(found, tickets)
        assert all(isinstance(answer, Placed) for answer in answers)
        assert len({answer.venue_order_id for answer in answers}) == 15
        assert writes.endpoints == ["sendtxbatch"]
        sent = [record.tx for record in found.front.venue.log.of_account(ACCOUNT)]
        assert len({tx.api_key for tx in sent}) == 1
        assert [tx.nonce - sent[0].nonce for tx in sent] == list(range(15))
        assert [str(tx.fields["ClientOrderIndex"]) for tx in sent] == [one.venue_client_order_id for one in tickets]


async def test_batch_goes_over_http_while_the_socket_is_down(tmp_path: Path) -> None:
    """Once, and every verdict is asked for."""
    writes = Writes()
    gone = fast_streams(reconnect_s=3_600.0)
    async with world(tmp_path, observer=writes, verdict_poll_s=0.02, stream_config=gone) as found:
        found.front.app.cut_sockets()
        await found.sink.until(lambda: found.sink.lost)
        answers = await place(found, tickets_of(found, 3))
        assert all(isinstance(answer, Placed) for answer in answers)
        assert writes.endpoints == ["sendTxBatch"]


async def test_bad_order_of_a_batch_is_refused_and_the_others_live(tmp_path: Path) -> None:
    """The venue refuses the batch as a whole; each then has the answer that is its own."""
    writes = Writes()
    async with world(tmp_path, observer=writes) as found:
        good, bad, late = found.ticket(), found.ticket(quantity="0.00001"), found.ticket(offset=-1001)
        answers = await place(found, [good, bad, late])
        assert [type(answer) for answer in answers] == [Placed, Refused, Placed]
        assert answers[1].reason is Reason.BELOW_MIN_NOTIONAL
        assert writes.endpoints == ["sendtxbatch", "sendtx", "sendtx", "sendtx"]
        assert sorted(row["client_order_index"] for row in found.front.orders(ACCOUNT)) == sorted(
            int(one.venue_client_order_id) for one in (good, late)
        )
        assert found.venue._parts.wallets["main"].pool.source(4).outstanding == 2  # reservations of the other tickets


async def test_batch_of_which_part_was_taken_although_it_was_refused_places_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should a server do so: the same signed transaction passes once, its order is in doubt and then found (P36)."""
    async with world(tmp_path) as found:
        venue = found.front.venue

        def takes_the_first_and_refuses(types: list[int], infos: list[str], now_ms: int) -> list[Any]:
            venue.send(types[0], infos[0], now_ms)
            raise VenueRefusal(Code.NOT_ENOUGH_MARGIN)

        monkeypatch.setattr(venue, "send_batch", takes_the_first_and_refuses)
        first, second = tickets_of(found, 2)
        answers = await place(found, [first, second])
        assert [type(answer) for answer in answers] == [Unclear, Placed]
        view = await found.venue.fetch_order(found.target(first))
        assert view is not None
        assert view.state is VenueOrderState.WORKING
        assert len(found.front.orders(ACCOUNT)) == 2


async def test_batch_refused_by_the_sequencer_is_refused_each_by_its_own_verdict(tmp_path: Path) -> None:
    """All were queued; none came to be."""
    async with world(tmp_path) as found:
        found.front.faults.add(Fault(kind=FaultKind.LATE_REFUSAL, match="batch", code=21739))
        answers = await place(found, tickets_of(found, 3))
        assert [answer.reason for answer in answers] == [Reason.INSUFFICIENT_MARGIN] * 3
        assert not found.front.orders(ACCOUNT)


async def test_batch_whose_nonces_were_overtaken_is_signed_anew(tmp_path: Path) -> None:
    """No order is lost to a nonce, and none is sent twice."""
    async with world(tmp_path) as found:
        tickets = tickets_of(found, 3)
        found.front.venue.accounts.get(ACCOUNT).keys[4].next_nonce = 2**41
        answers = await place(found, tickets)
        assert all(isinstance(answer, Placed) for answer in answers)
        assert len(found.front.orders(ACCOUNT)) == 3


async def test_batch_whose_reply_is_lost_is_unknown_and_each_order_is_found(tmp_path: Path) -> None:
    """A fault of the whole makes every element unknown."""
    async with world(tmp_path) as found:
        found.front.faults.add(Fault(kind=FaultKind.DROP_REPLY, match="batch"))
        tickets = tickets_of(found, 2)
        with pytest.raises(OutcomeUnknown):
            await place(found, tickets)
        for ticket in tickets:
            view = await found.venue.fetch_order(found.target(ticket))
            assert view is not None
            assert view.state is VenueOrderState.WORKING


async def test_cancels_go_in_one_message_with_an_answer_for_each(tmp_path: Path) -> None:
    """By either id; what is gone says so; cancels cost no quota and pass first."""
    writes = Writes()
    async with world(tmp_path, observer=writes) as found:
        tickets = tickets_of(found, 3)
        placed = await place(found, tickets)
        await found.venue.cancel_order(found.target(tickets[1]))
        targets = [
            found.target(tickets[0], placed[0].venue_order_id),
            found.target(tickets[1], placed[1].venue_order_id),
            found.target(tickets[2]),
        ]
        assert list(await found.venue.cancel_orders(targets)) == [
            CancelAnswer.CANCELED,
            CancelAnswer.GONE,
            CancelAnswer.CANCELED,
        ]
        assert writes.endpoints == ["sendtxbatch", "sendtx", "sendtxbatch"]
        assert {row["status"] for row in found.front.orders(ACCOUNT)} == {"canceled"}


async def test_cancel_all_is_one_transaction_for_the_account_or_for_one_market(tmp_path: Path) -> None:
    """The other market's orders stay; the stream tells each order's end."""
    writes = Writes()
    async with world(tmp_path, observer=writes) as found:
        here = tickets_of(found, 3)
        eth = found.instruments["ETH/USDC:USDC"]
        spec = found.front.venue.markets.by_name("ETH")
        assert spec is not None
        price = Decimal(round(found.front.venue.market(spec).mark)) - 100
        there = replace(found.ticket(quantity="0.1"), instrument=eth, price=price)
        await place(found, [*here, there])
        assert await found.venue.cancel_all("main", found.instruments[SYMBOL]) is None
        await found.sink.until(
            lambda: sum(row.state is VenueOrderState.CANCELED for row in found.sink.orders) == len(here)
        )
        assert [row["status"] for row in found.front.orders(ACCOUNT)] == ["canceled"] * 3 + ["open"]
        assert await found.venue.cancel_all("main", None) is None
        assert {row["status"] for row in found.front.orders(ACCOUNT)} == {"canceled"}
        assert writes.endpoints == ["sendtxbatch", "sendtx", "sendtx"]


async def test_cancel_all_without_volume_quota_is_not_sent_and_single_cancels_pass(tmp_path: Path) -> None:
    """Only the former costs quota: cancels always get through (P8)."""
    writes = Writes()
    async with world(tmp_path, observer=writes) as found:
        ticket = found.ticket()
        await found.venue.place_order(ticket, lambda: None)
        found.front.venue.accounts.get(ACCOUNT).quota.units = 0
        found.venue._parts.wallets["main"].quota.told(0)
        answer = await found.venue.cancel_all("main", None)
        assert isinstance(answer, Refused)
        assert answer.reason is Reason.VOLUME_QUOTA_EXHAUSTED
        assert await found.venue.cancel_order(found.target(ticket)) is CancelAnswer.CANCELED
        assert writes.endpoints == ["sendtx", "sendtx"]


async def test_batches_and_single_orders_of_several_keys_at_once_all_arrive(tmp_path: Path) -> None:
    """Throughput comes from keys side by side; no nonce is used twice (P36)."""
    async with world(tmp_path, keys=(4, 5)) as found:
        batches = [tickets_of(found, 5) for _ in range(4)]
        singles = tickets_of(found, 4)
        async with asyncio.timeout(WAIT_S):
            answers = await asyncio.gather(
                *(place(found, batch) for batch in batches),
                *(found.venue.place_order(ticket, lambda: None) for ticket in singles),
            )
        flat = [row for answer in answers for row in (answer if isinstance(answer, list) else [answer])]
        assert len(flat) == 24
        assert all(isinstance(row, Placed) for row in flat)
        sent = [(record.tx.api_key, record.tx.nonce) for record in found.front.venue.log.of_account(ACCOUNT)]
        assert len(set(sent)) == 24
        assert {key for key, _ in sent} == {4, 5}
