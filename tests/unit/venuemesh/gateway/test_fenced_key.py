"""A key that the router took because its order goes elsewhere: never sent here, before and after a restart."""

from __future__ import annotations

from tests.fakes_venue import VENUE
from tests.unit.venuemesh.gateway.gateway_world import MemoryBus, gateway, new_order
from venuemesh.gateway.order_wire import fingerprint_of, order_id_of
from venuemesh.subjects import Kind, subject
from venuemesh.v1 import error_pb2, event_pb2, order_pb2, order_service_pb2


async def fence(bus: MemoryBus, key: str) -> None:
    """What a router appends before it sends the order's part to another venue."""
    terms = new_order(key, venue=VENUE)
    order = order_pb2.Order(
        order_id=order_id_of(VENUE, terms.account_id, key),
        terms=terms,
        status=order_pb2.ORDER_STATUS_REJECTED,
        terminal=True,
        filled_quantity="0",
        leaves_quantity="0",
        reject=order_pb2.Reject(reason=error_pb2.REASON_GATEWAY_UNAVAILABLE, message="away"),
        order_version=1,
        content_fingerprint=fingerprint_of(terms),
    )
    intent = event_pb2.OrderIntent(order=order, writer_id="router")
    await bus.append_once(subject(Kind.INTENT, VENUE, terms.account_id, key), intent.SerializeToString())


async def test_fenced_key_answers_rejected_and_nothing_is_sent() -> None:
    """The late call of a router that does not know yet reads the fence as the first result."""
    async with gateway() as world:
        await fence(world.bus, "key-1")
        answer = await world.submit("key-1", venue=VENUE)
        assert answer.outcome == order_service_pb2.SUBMIT_OUTCOME_REJECTED
        assert (answer.replayed, answer.reject.message) == (True, "away")
        assert world.venue.placed == []


async def test_gateway_that_starts_behind_a_fence_takes_over_nothing() -> None:
    """It is no intent of its own whose outcome it would have to find out."""
    bus = MemoryBus()
    await fence(bus, "key-1")
    async with gateway(bus=bus) as world:
        assert world.account.open_orders() == []
        answer = await world.submit("key-1", venue=VENUE)
        assert answer.outcome == order_service_pb2.SUBMIT_OUTCOME_REJECTED
        assert world.venue.placed == []
