"""Orders through the adapter, over real sockets, against the simulator."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from simulator.engine.values import Side
from simulator.faults import Fault, FaultKind
from tests.integration.adapter_world import SentCalls, place
from tests.integration.gateway_lighter.world import ACCOUNT, Writes, fast_streams, sim_settings, world
from tests.integration.recording_sink import WAIT_S
from venuemesh.errors import OutcomeUnknown, RateLimited, Reason, Sent, VenueUnavailable
from venuemesh.gateway.venue import Amended, CancelAnswer, Placed, Refused, VenueOrderState
from venuemesh.v1 import order_pb2

IOC = order_pb2.TIME_IN_FORCE_IOC
SELL = order_pb2.SIDE_SELL


async def test_place_limit_order_rests_and_is_told_by_the_stream(tmp_path: Path) -> None:
    """A resting order is placed under our client index, reported written once, and pushed as working."""
    writes = Writes()
    async with world(tmp_path, observer=writes) as found:
        ticket, sent = found.ticket(), SentCalls()
        placed = await found.venue.place_order(ticket, sent)
        assert isinstance(placed, Placed)
        assert (placed.ended, placed.filled_quantity) == (False, Decimal(0))
        assert sent.calls == 1
        truth = found.truth(ticket)
        assert truth is not None
        assert str(truth["order_index"]) == placed.venue_order_id
        await found.sink.until(lambda: found.sink.orders)
        pushed = found.sink.orders[0]
        assert pushed.venue_client_order_id == ticket.venue_client_order_id
        assert (pushed.state, pushed.filled_quantity) == (VenueOrderState.WORKING, Decimal(0))
        assert writes.endpoints == ["sendtx"]  # over the WebSocket


async def test_place_order_answers_with_the_verdict_and_not_with_the_acknowledgement(tmp_path: Path) -> None:
    """The venue holds orders back after queueing them; the answer waits until the order is in the book."""
    async with world(tmp_path, simulator_settings=sim_settings(lighter_delays=True)) as found:
        ticket, placed = await place(found, post_only=True)
        assert isinstance(placed, Placed)
        truth = found.truth(ticket)
        assert truth is not None
        assert truth["status"] == "open"


async def test_place_order_without_verdict_in_time_reports_outcome_unknown(tmp_path: Path) -> None:
    """Queued is not accepted: when nothing tells what became of it, nobody knows."""
    settings = sim_settings(lighter_delays=True)
    async with world(tmp_path, simulator_settings=settings, action_timeout_s=0.05, verdict_poll_s=0.02) as found:
        found.front.house_order("BTC", Side.SELL, found.mark, "10")
        # A taker's order is held back for 200 ms. A machine that is away for longer finds the verdict there.
        for _ in range(20):
            ticket = found.ticket(order_type=order_pb2.ORDER_TYPE_MARKET, time_in_force=IOC, offset=100)
            with suppress(VenueUnavailable):
                try:
                    await found.venue.place_order(ticket, lambda: None)
                except OutcomeUnknown as error:
                    assert error.sent is Sent.MAYBE
                    break
        else:
            pytest.fail("every verdict came in time")

        def filled() -> bool:
            return any(fill.venue_client_order_id == ticket.venue_client_order_id for fill in found.sink.fills)

        await found.sink.until(filled)
        view = await found.venue.fetch_order(found.target(ticket))
        assert view is not None
        assert view.state is VenueOrderState.FILLED


async def test_place_market_order_fills_and_the_fill_comes_by_stream(tmp_path: Path) -> None:
    """A market order ends in its answer; the fill names our client index and the fee."""
    async with world(tmp_path) as found:
        price = found.mark
        found.front.house_order("BTC", Side.SELL, price, "5")
        ticket, placed = await place(
            found, offset=200, time_in_force=IOC, order_type=order_pb2.ORDER_TYPE_MARKET, quantity="0.5"
        )
        assert placed == Placed(venue_order_id=placed.venue_order_id, filled_quantity=Decimal("0.5"), ended=True)
        await found.sink.until(lambda: found.sink.fills)
        fill = found.sink.fills[0]
        assert fill.venue_client_order_id == ticket.venue_client_order_id
        assert (fill.price, fill.quantity, fill.fee_asset) == (price, Decimal("0.5"), "USDC")
        assert fill.fee == price * Decimal("0.5") * Decimal("0.00028")
        assert fill.liquidity_role == order_pb2.LIQUIDITY_ROLE_TAKER
        assert not fill.forced


async def test_partly_filled_ioc_has_ended_with_what_it_filled(tmp_path: Path) -> None:
    """The rest of an immediate-or-cancel order expires; answer and query agree on what filled."""
    async with world(tmp_path) as found:
        found.front.house_order("BTC", Side.SELL, found.mark, "0.2")
        ticket, placed = await place(found, offset=100, time_in_force=IOC, quantity="0.5")
        assert isinstance(placed, Placed)
        assert (placed.filled_quantity, placed.ended) == (Decimal("0.2"), True)
        view = await found.venue.fetch_order(found.target(ticket, placed.venue_order_id))
        assert view is not None
        assert (view.state, view.filled_quantity) == (VenueOrderState.EXPIRED, Decimal("0.2"))


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        ({"offset": 100, "post_only": True}, Reason.POST_ONLY_WOULD_CROSS),
        ({"quantity": "0.00001"}, Reason.BELOW_MIN_NOTIONAL),
        ({"reduce_only": True}, Reason.REDUCE_ONLY_WOULD_INCREASE),
        ({"quantity": "1000"}, Reason.INSUFFICIENT_MARGIN),
    ],
)
async def test_refusal_of_the_venue_is_a_value_with_its_words(
    tmp_path: Path, terms: dict[str, Any], reason: Reason
) -> None:
    """Each refusal has its stable reason and keeps the venue's words."""
    async with world(tmp_path) as found:
        found.front.house_order("BTC", Side.SELL, found.mark, "0.2")
        ticket, answer = await place(found, **terms)
        assert isinstance(answer, Refused), answer
        assert answer.reason is reason
        assert answer.text
        assert all(row["status"] != "open" for row in found.front.orders(ACCOUNT)), ticket


async def test_late_refusal_is_a_refusal_and_not_an_accepted_order(tmp_path: Path) -> None:
    """The venue queued the transaction and its sequencer refused it: the answer is the verdict's."""
    async with world(tmp_path) as found:
        found.front.faults.add(Fault(kind=FaultKind.LATE_REFUSAL, match="create_order", code=21739))
        _, answer = await place(found)
        assert isinstance(answer, Refused)
        assert answer.reason is Reason.INSUFFICIENT_MARGIN
        assert not found.front.orders(ACCOUNT)


async def test_cancel_by_venue_id_and_by_client_index(tmp_path: Path) -> None:
    """Either id is enough; a second cancel finds nothing."""
    async with world(tmp_path) as found:
        first, placed = await place(found)
        second, _ = await place(found, offset=-1001)
        by_index = found.target(first, placed.venue_order_id)
        assert await found.venue.cancel_order(by_index) is CancelAnswer.CANCELED
        assert await found.venue.cancel_order(found.target(second)) is CancelAnswer.CANCELED
        assert await found.venue.cancel_order(by_index) is CancelAnswer.GONE
        assert await found.venue.cancel_order(found.target(second)) is CancelAnswer.GONE
        assert {row["status"] for row in found.front.orders(ACCOUNT)} == {"canceled"}


async def test_amend_changes_price_and_quantity_and_keeps_the_order(tmp_path: Path) -> None:
    """The venue changes the order in place: same id, new terms."""
    async with world(tmp_path) as found:
        ticket, placed = await place(found)
        changed = found.ticket(offset=-900, quantity="0.02", number=1)
        amended = await found.venue.amend_order(found.target(ticket, placed.venue_order_id), changed)
        assert amended == Amended(venue_order_id=placed.venue_order_id)
        view = await found.venue.fetch_order(found.target(ticket, placed.venue_order_id))
        assert view is not None
        assert (view.venue_order_id, view.state) == (placed.venue_order_id, VenueOrderState.WORKING)
        assert (view.price, view.quantity) == (changed.price, Decimal("0.02"))


async def test_amend_of_a_gone_order_is_refused(tmp_path: Path) -> None:
    """The venue says that there is nothing to modify."""
    async with world(tmp_path) as found:
        ticket, placed = await place(found)
        target = found.target(ticket, placed.venue_order_id)
        await found.venue.cancel_order(target)
        answer = await found.venue.amend_order(target, found.ticket(number=1))
        assert isinstance(answer, Refused)
        assert answer.reason is Reason.ORDER_NOT_WORKING


async def test_amendment_that_would_cross_ends_a_post_only_order_and_says_so(tmp_path: Path) -> None:
    """The venue executes the amendment by cancelling the order: a refusal, and a cancelled order."""
    async with world(tmp_path) as found:
        ticket, placed = await place(found, post_only=True)
        found.front.house_order("BTC", Side.SELL, found.mark, "0.2")
        target = found.target(ticket, placed.venue_order_id)
        answer = await found.venue.amend_order(target, found.ticket(offset=100, post_only=True, number=1))
        assert isinstance(answer, Refused)
        assert answer.reason is Reason.POST_ONLY_WOULD_CROSS
        view = await found.venue.fetch_order(target)
        assert view is not None
        assert (view.state, view.filled_quantity) == (VenueOrderState.CANCELED, Decimal(0))


async def test_fetch_order_the_venue_never_saw_is_none(tmp_path: Path) -> None:
    """Nothing is guessed about an order that was never sent."""
    async with world(tmp_path) as found:
        assert await found.venue.fetch_order(found.target(found.ticket())) is None


async def test_fetch_orders_reads_each_list_once_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that works, one that ended, and several that never were, in the order asked."""
    async with world(tmp_path) as found:
        live, ended = found.ticket(), found.ticket()
        await found.venue.place_order(live, lambda: None)
        answer = await found.venue.place_order(ended, lambda: None)
        assert isinstance(answer, Placed)
        await found.venue.cancel_order(found.target(ended, answer.venue_order_id))
        rest, read = found.venue._parts.rest, list[str]()

        def counted(name: str, real: Any, *arguments: Any) -> Any:
            read.append(name)
            return real(*arguments)

        for name in ("fetch_orders_by_client_index", "fetch_active_orders", "fetch_inactive_orders"):
            monkeypatch.setattr(rest, name, partial(counted, name, getattr(rest, name)))
        asked = [found.ticket(), live, found.ticket(), ended, found.ticket()]
        views = await found.venue.fetch_orders([found.target(ticket) for ticket in asked])
        assert [view and view.state for view in views] == [
            None,
            VenueOrderState.WORKING,
            None,
            VenueOrderState.CANCELED,
            None,
        ]
        assert len(read) == len(set(read))


@pytest.mark.parametrize("kind", [FaultKind.DROP_REPLY, FaultKind.GARBLE_REPLY])
async def test_place_order_when_reply_is_lost_reports_outcome_unknown_and_is_found(
    tmp_path: Path, kind: FaultKind
) -> None:
    """The order is in the book although no answer came: unknown, then found under our client index."""
    options: dict[str, Any] = {} if kind is FaultKind.DROP_REPLY else {"action_timeout_s": 0.3}
    async with world(tmp_path, **options) as found:
        found.front.faults.add(Fault(kind=kind, match="create_order"))
        ticket = found.ticket()
        with pytest.raises(OutcomeUnknown) as caught:
            await found.venue.place_order(ticket, lambda: None)
        assert caught.value.sent is Sent.MAYBE
        view = await found.venue.fetch_order(found.target(ticket))
        assert view is not None
        assert view.state is VenueOrderState.WORKING
        assert view.venue_client_order_id == ticket.venue_client_order_id


async def test_lost_reply_of_a_refused_transaction_is_settled_by_its_hash(tmp_path: Path) -> None:
    """No order ever came to be; the transaction itself tells so, long before its expiry."""
    async with world(tmp_path) as found:
        found.front.faults.add(Fault(kind=FaultKind.LATE_REFUSAL, match="create_order", code=21739))
        found.front.faults.add(Fault(kind=FaultKind.DROP_REPLY, match="create_order"))
        ticket = found.ticket()
        with pytest.raises(OutcomeUnknown):
            await found.venue.place_order(ticket, lambda: None)
        view = await found.venue.fetch_order(found.target(ticket))
        assert view is not None
        assert (view.state, view.reason) == (VenueOrderState.REJECTED, Reason.INSUFFICIENT_MARGIN)


async def test_order_spends_one_nonce_and_a_nonce_taken_by_another_loses_no_order(tmp_path: Path) -> None:
    """Somebody else used the key just before us: the order is signed anew and placed exactly once."""
    async with world(tmp_path) as found:
        ticket, sent = found.ticket(), SentCalls()
        stranger = found.front.next_nonce(ACCOUNT, 4)
        found.front.venue.accounts.get(ACCOUNT).keys[4].next_nonce = 2**41
        placed = await found.venue.place_order(ticket, sent)
        assert isinstance(placed, Placed)
        assert sent.calls == 1
        assert len(found.front.orders(ACCOUNT)) == 1
        assert found.front.next_nonce(ACCOUNT, 4) > 2**41 > stranger


async def test_several_keys_are_used_side_by_side(tmp_path: Path) -> None:
    """Two keys share the work; each counts for itself and all orders rest."""
    async with world(tmp_path, keys=(4, 5)) as found:
        tickets = [found.ticket(offset=-1000 - n) for n in range(6)]
        async with asyncio.timeout(WAIT_S):
            answers = await asyncio.gather(*(found.venue.place_order(ticket, lambda: None) for ticket in tickets))
        assert all(isinstance(answer, Placed) for answer in answers)
        assert {found.front.next_nonce(ACCOUNT, key) > 1 for key in (4, 5)} == {True}
        assert len(found.front.orders(ACCOUNT)) == 6


async def test_restart_with_the_same_key_gives_no_nonce_twice(tmp_path: Path) -> None:
    """The journal's last nonce is behind every later one."""
    async with world(tmp_path) as found:
        last = found.venue.reserve("main", not_after_ns=2**62).nonce
        found.venue.restore_nonce("main", last + (1000 << 8))
        assert found.venue.reserve("main", not_after_ns=2**62).nonce > last + (1000 << 8)


async def test_transaction_goes_over_http_while_the_socket_is_down(tmp_path: Path) -> None:
    """With no private socket an order passes by HTTP, once, and its verdict is asked for."""
    writes = Writes()
    gone = fast_streams(reconnect_s=3_600.0)
    async with world(tmp_path, observer=writes, verdict_poll_s=0.02, stream_config=gone) as found:
        found.front.app.cut_sockets()
        await found.sink.until(lambda: found.sink.lost)
        ticket, sent = found.ticket(), SentCalls()
        placed = await found.venue.place_order(ticket, sent)
        assert isinstance(placed, Placed)
        assert sent.calls == 1
        assert writes.endpoints == ["sendTx"]


async def test_rate_limited_transaction_was_not_looked_at(tmp_path: Path) -> None:
    """The venue's limit refuses unread: nothing was taken, and the nonce is free."""
    async with world(tmp_path) as found:
        found.front.faults.add(Fault(kind=FaultKind.RATE_LIMIT, match="create_order"))
        with pytest.raises(RateLimited) as caught:
            await place(found)
        assert caught.value.reason is Reason.RATE_LIMIT_VENUE
        assert not found.front.orders(ACCOUNT)


async def test_reserve_without_any_link_is_unavailable(tmp_path: Path) -> None:
    """Nothing is used up while the venue cannot be reached."""
    async with world(tmp_path) as found:
        found.front.faults.add(Fault(kind=FaultKind.REFUSE_CONNECTIONS, count=0))
        found.front.app.cut_sockets()
        await found.sink.until(lambda: found.sink.lost)
        found.venue._parts.links.shared.client.stats.disconnected("test")
        with pytest.raises(VenueUnavailable) as caught:
            found.venue.reserve("main", not_after_ns=2**62)
        assert caught.value.sent is Sent.NO
