"""Orders through the adapter, over real sockets, against the simulator."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from hypercore.stream import StreamConfig, limited_socket_config
from simulator.engine.values import Side
from simulator.faults import Fault, FaultKind
from tests.integration.adapter_world import SentCalls, place
from tests.integration.hypercore.adapter.world import ADDRESS, world
from venuemesh.errors import OutcomeUnknown, RateLimited, Reason, Sent, VenueUnavailable
from venuemesh.gateway.venue import Amended, CancelAnswer, Placed, Refused, VenueOrderState
from venuemesh.transport.observer import NullObserver, RequestRecord
from venuemesh.v1 import order_pb2

IOC = order_pb2.TIME_IN_FORCE_IOC


async def test_place_limit_order_rests_and_is_told_by_the_stream(tmp_path: Path) -> None:
    """A resting order is placed under our client id, reported written once, and pushed as working."""
    async with world(tmp_path) as found:
        ticket, sent = found.ticket(), SentCalls()
        placed = await found.venue.place_order(ticket, sent)
        assert isinstance(placed, Placed)
        assert not placed.ended
        assert sent.calls == 1
        truth = found.simulator.find_order(ADDRESS, ticket.venue_client_order_id)
        assert truth is not None
        assert str(truth.order_id) == placed.venue_order_id
        await found.sink.until(lambda: found.sink.orders)
        pushed = found.sink.orders[0]
        assert pushed.venue_client_order_id == ticket.venue_client_order_id
        assert (pushed.state, pushed.filled_quantity) == (VenueOrderState.WORKING, Decimal(0))


async def test_place_market_order_fills_and_the_fill_comes_by_stream(tmp_path: Path) -> None:
    """A market order ends in its answer; the fill names our client id and the fee."""
    async with world(tmp_path) as found:
        found.simulator.house_order("ETH", Side.SELL, "3900", "5")
        ticket, placed = await place(
            found, price="4000", time_in_force=IOC, order_type=order_pb2.ORDER_TYPE_MARKET, quantity="0.5"
        )
        assert placed == Placed(venue_order_id=placed.venue_order_id, filled_quantity=Decimal("0.5"), ended=True)
        await found.sink.until(lambda: found.sink.fills)
        fill = found.sink.fills[0]
        assert fill.venue_client_order_id == ticket.venue_client_order_id
        assert (fill.price, fill.quantity, fill.fee_asset) == (Decimal(3900), Decimal("0.5"), "USDC")
        assert fill.fee == Decimal("0.8775")
        assert fill.liquidity_role == order_pb2.LIQUIDITY_ROLE_TAKER
        assert not fill.forced


async def test_partly_filled_ioc_has_ended_with_what_it_filled(tmp_path: Path) -> None:
    """The rest of an immediate-or-cancel order is gone without a word."""
    async with world(tmp_path) as found:
        found.simulator.house_order("ETH", Side.SELL, "3900", "0.2")
        ticket, placed = await place(found, price="3950", time_in_force=IOC, quantity="0.5")
        assert isinstance(placed, Placed)
        assert (placed.filled_quantity, placed.ended) == (Decimal("0.2"), True)
        view = await found.venue.fetch_order(found.target(ticket, placed.venue_order_id))
        assert view is not None
        assert view.state in (VenueOrderState.CANCELED, VenueOrderState.EXPIRED)
        assert view.filled_quantity == Decimal("0.2")


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        ({"price": "3950", "post_only": True}, Reason.POST_ONLY_WOULD_CROSS),
        ({"price": "3000", "time_in_force": IOC}, Reason.NO_LIQUIDITY),
        ({"price": "3000", "quantity": "0.001"}, Reason.BELOW_MIN_NOTIONAL),
        ({"price": "3000.123"}, Reason.PRICE_OFF_TICK),
        ({"price": "3000", "reduce_only": True}, Reason.REDUCE_ONLY_WOULD_INCREASE),
        ({"price": "3500", "quantity": "1200"}, Reason.INSUFFICIENT_MARGIN),
    ],
)
async def test_refusal_of_the_venue_is_a_value_with_its_words(
    tmp_path: Path, terms: dict[str, Any], reason: Reason
) -> None:
    """Each refusal has its stable reason and keeps the venue's sentence."""
    async with world(tmp_path) as found:
        found.simulator.house_order("ETH", Side.SELL, "3900", "0.2")
        ticket, answer = await place(found, **terms)
        assert isinstance(answer, Refused)
        assert answer.reason is reason
        assert answer.text
        assert all(row["status"] != "open" for row in found.simulator.orders(ADDRESS)), ticket


async def test_cancel_by_venue_id_and_by_client_id(tmp_path: Path) -> None:
    """Either id is enough; a second cancel finds nothing."""
    async with world(tmp_path) as found:
        first, placed = await place(found)
        second, _ = await place(found, price="3001")
        by_oid = found.target(first, placed.venue_order_id)
        assert await found.venue.cancel_order(by_oid) is CancelAnswer.CANCELED
        assert await found.venue.cancel_order(found.target(second)) is CancelAnswer.CANCELED
        assert await found.venue.cancel_order(by_oid) is CancelAnswer.GONE
        assert await found.venue.cancel_order(found.target(second)) is CancelAnswer.GONE
        states = {row["status"] for row in found.simulator.orders(ADDRESS)}
        assert states == {"canceled"}


async def test_amend_gives_a_new_venue_id_and_keeps_the_client_id(tmp_path: Path) -> None:
    """The venue cancels and places anew; asking by client id shows the new life."""
    async with world(tmp_path) as found:
        ticket, placed = await place(found)
        changed = found.ticket(price="3100", quantity="0.2", number=1)
        amended = await found.venue.amend_order(found.target(ticket, placed.venue_order_id), changed)
        assert isinstance(amended, Amended)
        assert amended.venue_order_id != placed.venue_order_id
        view = await found.venue.fetch_order(found.target(ticket, placed.venue_order_id))
        assert view is not None
        assert (view.venue_order_id, view.state) == (amended.venue_order_id, VenueOrderState.WORKING)
        assert (view.price, view.quantity) == (Decimal(3100), Decimal("0.2"))


async def test_amend_of_a_gone_order_is_refused(tmp_path: Path) -> None:
    """The venue says that there is nothing to modify."""
    async with world(tmp_path) as found:
        ticket, placed = await place(found)
        target = found.target(ticket, placed.venue_order_id)
        await found.venue.cancel_order(target)
        answer = await found.venue.amend_order(target, found.ticket(price="3100", number=1))
        assert isinstance(answer, Refused)
        assert answer.reason is Reason.ORDER_NOT_WORKING


async def test_fetch_order_nobody_placed_is_none(tmp_path: Path) -> None:
    """Unknown to orderStatus and to the history."""
    async with world(tmp_path) as found:
        assert await found.venue.fetch_order(found.target(found.ticket(), "999")) is None


async def test_fetch_order_of_an_order_the_venue_forgot_comes_from_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """orderStatus keeps a number of orders only; the history is looked through as well."""
    async with world(tmp_path) as found:
        ticket, placed = await place(found)
        await found.venue.cancel_order(found.target(ticket, placed.venue_order_id))

        async def forgotten(*_: object) -> None:
            return None

        monkeypatch.setattr(found.venue._rest, "fetch_order_status", forgotten)
        view = await found.venue.fetch_order(found.target(ticket))
        assert view is not None
        assert (view.venue_order_id, view.state) == (placed.venue_order_id, VenueOrderState.CANCELED)


async def test_fetch_orders_reads_the_history_once_for_all_that_are_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The history costs at least 20 of the weight of a minute: many doubts must not cost it many times."""
    async with world(tmp_path) as found:
        ticket, placed = await place(found)
        forgotten, gone = await place(found)
        await found.venue.cancel_order(found.target(forgotten, gone.venue_order_id))
        rest = found.venue._rest
        status, history, read = rest.fetch_order_status, rest.fetch_historical_orders, list[str]()

        async def some(user: str, order: int | str) -> Any:
            return await status(user, order) if order == ticket.venue_client_order_id else None

        async def counted(user: str) -> Any:
            read.append(user)
            return await history(user)

        monkeypatch.setattr(rest, "fetch_order_status", some)
        monkeypatch.setattr(rest, "fetch_historical_orders", counted)
        asked = [ticket, *(found.ticket() for _ in range(5)), forgotten]
        views = await found.venue.fetch_orders([found.target(one) for one in asked])
        assert [view and view.state for view in views] == [
            VenueOrderState.WORKING,
            *[None] * 5,
            VenueOrderState.CANCELED,
        ]
        assert views[0] is not None
        assert views[0].venue_order_id == placed.venue_order_id
        assert len(read) == 1
        await found.venue.fetch_orders([found.target(ticket)])
        assert len(read) == 1


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind=FaultKind.DROP_REPLY, match="order"),
        Fault(kind=FaultKind.GARBLE_REPLY, match="order"),
        Fault(kind=FaultKind.ERROR_AFTER, match="order", status=502),
    ],
    ids=lambda fault: str(fault.kind),
)
async def test_place_order_when_reply_is_lost_reports_outcome_unknown(tmp_path: Path, fault: Fault) -> None:
    """The order stands at the venue, the answer never came: unknown, not resent, and found by its client id."""
    async with world(tmp_path) as found:
        found.simulator.faults.add(fault)
        ticket, sent = found.ticket(), SentCalls()
        with pytest.raises(OutcomeUnknown) as caught:
            await found.venue.place_order(ticket, sent)
        assert caught.value.sent is not Sent.NO
        assert sent.calls == 1
        assert len(found.simulator.orders(ADDRESS)) == 1
        view = await found.venue.fetch_order(found.target(ticket))
        assert view is not None
        assert view.state is VenueOrderState.WORKING


async def test_place_order_when_reply_is_too_late_reports_outcome_unknown(tmp_path: Path) -> None:
    """No answer within the action's time-out is no answer."""
    async with world(tmp_path, action_timeout_s=0.2) as found:
        found.simulator.faults.add(Fault(kind=FaultKind.DELAY_REPLY, match="order", delay_s=0.5))
        with pytest.raises(OutcomeUnknown):
            await place(found)
        assert len(found.simulator.orders(ADDRESS)) == 1


async def test_rate_limit_of_the_venue_is_a_typed_error_with_nothing_placed(tmp_path: Path) -> None:
    """A 429 is given unread: the order certainly does not exist."""
    async with world(tmp_path) as found:
        found.simulator.faults.add(Fault(kind=FaultKind.RATE_LIMIT, match="order"))
        with pytest.raises(RateLimited):
            await place(found)
        assert found.simulator.orders(ADDRESS) == []


async def test_orders_go_over_http_while_the_socket_is_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing left over the socket, so the same signed action goes the other way, once."""
    async with world(tmp_path) as found:
        stream = found.venue._private["main"].stream

        async def not_connected(*_: object, **__: object) -> None:
            raise VenueUnavailable("the connection has ended", sent=Sent.NO)

        monkeypatch.setattr(stream, "post_action", not_connected)
        sent = SentCalls()
        placed = await found.venue.place_order(found.ticket(), sent)
        assert isinstance(placed, Placed)
        assert sent.calls == 1
        assert len(found.simulator.orders(ADDRESS)) == 1


async def test_expired_request_is_refused_by_the_venue(tmp_path: Path) -> None:
    """The expiry of the reservation travels with the request and holds it back when it is late."""
    async with world(tmp_path) as found:
        reservation = found.venue.reserve("main", not_after_ns=1_000_000_000)
        assert reservation.expires_ns == 1_000_000_000
        ticket = found.ticket()
        late = type(ticket)(
            **{name: getattr(ticket, name) for name in ticket.__dataclass_fields__ if name != "reservation"},
            reservation=reservation,
        )
        answer = await found.venue.place_order(late, lambda: None)
        assert isinstance(answer, Refused)
        assert answer.reason is Reason.EXPIRED_BEFORE_PROCESSING


async def test_reservations_rise_and_survive_a_restored_mark(tmp_path: Path) -> None:
    """Nonces never repeat, whatever was used before; expiries are whole milliseconds."""
    async with world(tmp_path) as found:
        first, second = (found.venue.reserve("main", not_after_ns=2**62) for _ in range(2))
        assert second.nonce > first.nonce
        assert first.expires_ns % 1_000_000 == 0
        found.venue.restore_nonce("main", second.nonce + 1_000)
        assert found.venue.reserve("main", not_after_ns=2**62).nonce == second.nonce + 1_001


async def test_reserve_when_nothing_reaches_the_venue_is_unavailable(tmp_path: Path) -> None:
    """Neither path is up: nothing is used up and nothing was sent."""
    async with world(tmp_path) as found:
        found.simulator.faults.add(Fault(kind=FaultKind.REFUSE_CONNECTIONS, count=0))
        found.simulator.cut_sockets()
        await found.sink.until(lambda: found.sink.lost)
        found.venue._links.shared.client.stats.disconnected("test")
        with pytest.raises(VenueUnavailable) as caught:
            found.venue.reserve("main", not_after_ns=2**62)
        assert caught.value.sent is Sent.NO


async def test_set_leverage(tmp_path: Path) -> None:
    """Accepted is None; too much is refused with its reason."""
    async with world(tmp_path) as found:
        instrument = found.instruments["ETH/USDC:USDC"]
        assert await found.venue.set_leverage("main", instrument, 5, True) is None
        answer = await found.venue.set_leverage("main", instrument, 500, True)
        assert isinstance(answer, Refused)
        assert answer.reason is Reason.LEVERAGE_OUT_OF_RANGE


class Watcher(NullObserver):
    """Keeps the endpoints asked, and the order id each write was for."""

    def __init__(self) -> None:
        self.writes: list[tuple[str, str]] = []

    def on_request(self, record: RequestRecord) -> None:
        if record.write:
            self.writes.append((record.endpoint, record.correlation_id))


async def test_with_the_venues_own_limits_in_force_every_write_is_observed(tmp_path: Path) -> None:
    """The bounds of a real process let an order pass; audit hears of it under its order id."""
    watcher = Watcher()
    async with world(tmp_path, stream_config=StreamConfig(socket=limited_socket_config()), observer=watcher) as found:
        ticket, placed = await place(found)
        assert isinstance(placed, Placed)
        await found.venue.cancel_order(found.target(ticket, placed.venue_order_id))
        assert [endpoint for endpoint, _ in watcher.writes] == ["post.order", "post.cancel"]
        assert watcher.writes[0][1] == ticket.order_id
