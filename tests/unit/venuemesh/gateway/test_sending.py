"""Native batches: every order journalled by itself, one request, and an answer for each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fakes_venue import BTC, Down, FakeVenue, Held, Lost, levels
from tests.unit.venuemesh.gateway.gateway_world import Caller, MemoryBus, World, gateway, new_order, until
from venuemesh.errors import InvalidOrder, JournalUnavailable, OutcomeUnknown, Reason
from venuemesh.gateway.venue import Grouping, OrderTicket, Placed, Refused, Unclear, VenueOrder, VenueOrderState
from venuemesh.v1 import error_pb2, order_pb2
from venuemesh.v1 import order_service_pb2 as wire

ACKNOWLEDGED, REJECTED = wire.SUBMIT_OUTCOME_ACKNOWLEDGED, wire.SUBMIT_OUTCOME_REJECTED
UNKNOWN = wire.SUBMIT_OUTCOME_UNKNOWN
NO_MARGIN = Refused(reason=Reason.INSUFFICIENT_MARGIN, text="Insufficient margin to place order. asset=1")


def batching(most: int = 200) -> FakeVenue:
    return FakeVenue(batch=most)


async def submit_batch(world: World, *orders: order_pb2.NewOrder) -> Sequence[wire.BatchSubmitResult]:
    response = await world.orders.BatchSubmitOrders(wire.BatchSubmitOrdersRequest(orders=orders), Caller())
    rows: Sequence[wire.BatchSubmitResult] = response.results
    return rows


def outcomes(rows: Sequence[wire.BatchSubmitResult]) -> list[int]:
    """Outcomes of what was attempted; the negative status code of what was not."""
    return [row.response.outcome if row.HasField("response") else -row.error.code for row in rows]


def keys(count: int) -> list[order_pb2.NewOrder]:
    return [new_order(f"key-{number}") for number in range(count)]


def journal(world: World) -> list[str]:
    return [row.subject for row in world.bus._stored.get("VENUEMESH_JOURNAL", []) if ".intent." in row.subject]


async def test_batch_is_one_request_under_one_reservation_in_its_order() -> None:
    """One nonce, one expiry; elements as they stand."""
    async with gateway(venue=batching()) as world:
        rows = await submit_batch(world, *keys(5))
        assert outcomes(rows) == [ACKNOWLEDGED] * 5
        ((grouping, tickets),) = world.venue.batches
        assert grouping is Grouping.NONE
        assert [ticket.order_id for ticket in tickets] == [row.response.order.order_id for row in rows]
        assert len({ticket.reservation for ticket in tickets}) == 1


async def test_every_intent_is_in_the_journal_before_the_one_request_leaves() -> None:
    """Looked at from inside the venue's call."""

    class Watching(FakeVenue):
        async def place_orders(
            self, tickets: Sequence[OrderTicket], sent: Callable[[], None], *, grouping: Grouping = Grouping.NONE
        ) -> Sequence[Placed | Refused | Unclear]:
            assert len(journal(world)) == 4
            return await super().place_orders(tickets, sent, grouping=grouping)

    async with gateway(venue=Watching(batch=10)) as world:
        assert outcomes(await submit_batch(world, *keys(4))) == [ACKNOWLEDGED] * 4


class SigningAhead(FakeVenue):
    """Notes what it could have signed when, and what was journalled by then."""

    def __init__(self, fault: Exception | None = None) -> None:
        super().__init__(batch=10)
        self.fault = fault
        self.ahead: list[OrderTicket] = []

    def sign_ahead(self, ticket: OrderTicket) -> None:
        self.ahead.append(ticket)
        if self.fault is not None:
            raise self.fault


@pytest.mark.parametrize("fault", [None, InvalidOrder("order_type: is not offered"), KeyError("a fault of ours")])
async def test_one_order_is_signed_ahead_and_sent_all_the_same_when_that_fails(fault: Exception | None) -> None:
    """Only placing it can tell what is wrong with it."""
    venue = SigningAhead(fault)
    async with gateway(venue=venue) as world:
        assert (await world.submit("key-1")).outcome == ACKNOWLEDGED
        assert venue.ahead == venue.placed
        await submit_batch(world, new_order("key-2"), new_order("key-3"))
        assert len(venue.ahead) == 1


async def test_order_signed_ahead_is_not_sent_when_the_journal_does_not_take_it() -> None:
    """A signature is not an order."""
    venue = SigningAhead()
    async with gateway(venue=venue) as world:
        world.bus.connected = False
        with pytest.raises(JournalUnavailable):
            await world.submit("key-1")
        assert len(venue.ahead) == 1
        assert not venue.placed


@pytest.mark.parametrize(("count", "most", "sizes"), [(7, 3, [3, 3, 1]), (4, 4, [4]), (3, 1, [1, 1, 1]), (1, 200, [1])])
async def test_batch_is_cut_to_what_the_venue_takes(count: int, most: int, sizes: list[int]) -> None:
    """A request of one order is the ordinary one; each request has a reservation of its own."""
    async with gateway(venue=batching(most)) as world:
        assert outcomes(await submit_batch(world, *keys(count))) == [ACKNOWLEDGED] * count
        assert [len(tickets) for _, tickets in world.venue.batches] == [size for size in sizes if size > 1]
        assert world.venue.calls.count("place_order") == sizes.count(1)
        assert len({ticket.reservation for ticket in world.venue.placed}) == len(sizes)


async def test_bad_elements_are_refused_alone_and_the_rest_is_sent_together() -> None:
    """Local refusals never reach the request; each says what it would have said alone."""
    async with gateway(venue=batching()) as world:
        orders = keys(5)
        orders[1] = new_order("key-1", quantity="0")
        orders[3] = new_order("key-3", account_id="nobody")
        rows = await submit_batch(world, *orders)
        assert outcomes(rows) == [ACKNOWLEDGED, -3, ACKNOWLEDGED, -5, ACKNOWLEDGED]
        assert rows[1].error.error.reason == error_pb2.REASON_QUANTITY_NOT_POSITIVE
        assert [len(tickets) for _, tickets in world.venue.batches] == [3]


async def test_each_answer_of_the_venue_settles_its_own_order() -> None:
    """Accepted, refused and unreadable side by side; the doubtful one is asked about and found absent."""
    async with gateway(venue=batching()) as world:
        world.venue.script(
            "place_orders",
            [Placed(venue_order_id="v1"), NO_MARGIN, Unclear(cause="odd form"), Placed(venue_order_id="v4")],
        )
        rows = await submit_batch(world, *keys(4))
        assert outcomes(rows) == [ACKNOWLEDGED, REJECTED, UNKNOWN, ACKNOWLEDGED]
        assert rows[1].response.reject.venue_text == NO_MARGIN.text
        assert rows[0].response.order.venue_order_ids == ["v1"]
        state = world.account.order_by_key("key-2")
        assert state is not None
        assert state.order_id in world.core.resolver.doubts


@pytest.mark.parametrize(
    "failure",
    [Lost(arrived=False), OutcomeUnknown("cut"), ZeroDivisionError("ours"), [Placed(venue_order_id="v1")]],
    ids=["lost", "unknown", "bug", "one answer for three"],
)
async def test_lost_answer_makes_every_element_unknown(failure: Any) -> None:
    """Nobody can tell of any: each is asked about by itself, none is sent again."""
    async with gateway(venue=batching()) as world:
        world.venue.pushing = False
        world.venue.script("place_orders", failure)
        rows = await submit_batch(world, *keys(3))
        assert outcomes(rows) == [UNKNOWN] * 3
        assert all(row.response.order.uncertain for row in rows)
        assert len(world.core.resolver.doubts) == 3
        assert len(world.venue.placed) == 3


async def test_lost_answer_of_a_batch_that_arrived_is_settled_by_asking() -> None:
    """All of them turn out to be live."""
    async with gateway(venue=batching()) as world:
        world.venue.pushing = False
        asked = asyncio.Event()
        world.venue.script("place_orders", Lost())
        world.venue.script("fetch_order", Held(asked))
        assert outcomes(await submit_batch(world, *keys(3))) == [UNKNOWN] * 3
        asked.set()
        await until(lambda: all(order.working for order in world.account.all_orders()))
        again = await submit_batch(world, *keys(3))
        assert outcomes(again) == [ACKNOWLEDGED] * 3
        assert all(row.response.replayed for row in again)
        assert len(world.venue.placed) == 3


async def test_batch_that_certainly_never_left_is_rejected_as_such() -> None:
    """The link went down between the journal and the send."""
    async with gateway(venue=batching()) as world:
        world.venue.script("place_orders", Down())
        real = world.venue.place_orders

        async def unsent(
            tickets: Sequence[OrderTicket], sent: Callable[[], None], *, grouping: Grouping = Grouping.NONE
        ) -> Sequence[Placed | Refused | Unclear]:
            return await real(tickets, lambda: None, grouping=grouping)

        world.venue.place_orders = unsent  # type: ignore[method-assign]
        rows = await submit_batch(world, *keys(2))
        assert outcomes(rows) == [REJECTED] * 2
        assert {row.response.reject.reason for row in rows} == {error_pb2.REASON_VENUE_DISCONNECTED}


async def test_one_key_twice_in_a_batch_is_one_order() -> None:
    """The second is a repeat; with other content it is refused."""
    async with gateway(venue=batching()) as world:
        rows = await submit_batch(
            world, new_order("key-0"), new_order("key-1"), new_order("key-0"), new_order("key-0", quantity="9")
        )
        assert outcomes(rows) == [ACKNOWLEDGED, ACKNOWLEDGED, ACKNOWLEDGED, -6]
        assert [row.response.replayed for row in rows[:3]] == [False, False, True]
        assert rows[3].error.error.reason == error_pb2.REASON_CLIENT_ORDER_ID_REUSED
        assert len(world.venue.placed) == 2


async def test_repeat_of_a_batch_while_it_is_under_way_joins_it() -> None:
    """Also where it overlaps only in part."""
    async with gateway(venue=batching()) as world, asyncio.TaskGroup() as tasks:
        release = asyncio.Event()
        world.venue.script("place_orders", Held(release))
        first = tasks.create_task(submit_batch(world, *keys(3)))
        await until(lambda: world.venue.placed)
        second = tasks.create_task(submit_batch(world, *keys(4)))
        await until(lambda: len(world.venue.placed) == 4)
        release.set()
        assert outcomes(await first) == [ACKNOWLEDGED] * 3
        rows = await second
        assert outcomes(rows) == [ACKNOWLEDGED] * 4
        assert [row.response.replayed for row in rows] == [True, True, True, False]
        assert len(world.venue.placed) == 4
        assert world.core.desk._attempts == {}


async def test_element_that_cannot_be_journalled_is_not_sent_and_does_not_stop_the_others() -> None:
    """Its key stays free, or is answered as never sent."""

    class Picky(MemoryBus):
        async def append_once(self, subject: str, payload: bytes) -> int:
            if subject.endswith("key-1"):
                raise JournalUnavailable("JetStream did not confirm")
            return await super().append_once(subject, payload)

    async with gateway(venue=batching(), bus=Picky()) as world:
        rows = await submit_batch(world, *keys(3))
        assert outcomes(rows) == [ACKNOWLEDGED, -14, ACKNOWLEDGED]
        assert [len(tickets) for _, tickets in world.venue.batches] == [2]
        assert world.account.order_by_key("key-1") is None


async def test_element_whose_key_was_used_by_an_earlier_process_gives_its_first_result() -> None:
    """The journal knows it, memory does not."""
    async with gateway(venue=batching()) as world:
        await world.submit("key-1")
        world.account._orders.clear()
        world.account._by_key.clear()
        rows = await submit_batch(world, *keys(3))
        assert [row.response.replayed for row in rows] == [False, True, False]
        assert len(world.venue.placed) == 3


async def test_batch_without_a_link_is_refused_with_its_keys_free() -> None:
    """No reservation, no journal, nothing sent."""
    async with gateway(venue=batching()) as world:
        world.venue.up = False
        rows = await submit_batch(world, *keys(2))
        assert outcomes(rows) == [-14, -14]
        assert (journal(world), world.core.desk._attempts) == ([], {})
        world.venue.up = True
        assert outcomes(await submit_batch(world, *keys(2))) == [ACKNOWLEDGED] * 2


async def test_market_and_limit_orders_go_together_each_with_its_own_worst_price() -> None:
    """The book is read for those that need it."""
    async with gateway(venue=batching()) as world:
        world.venue.set_book(BTC, levels(("99", "5")), levels(("100", "5")))
        market = new_order("market", order_type=order_pb2.ORDER_TYPE_MARKET, price=None, time_in_force=None)
        rows = await submit_batch(world, market, new_order("limit", price="90"))
        assert outcomes(rows) == [ACKNOWLEDGED] * 2
        ((_, tickets),) = world.venue.batches
        assert [str(ticket.price) for ticket in tickets] == ["101.0", "90"]


ELEMENTS = ["good", "refused", "unclear", "bad", "repeat"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(kinds=st.lists(st.sampled_from(ELEMENTS), min_size=1, max_size=8), most=st.integers(1, 4))
async def test_any_batch_answers_each_element_as_if_it_had_come_alone(kinds: list[str], most: int) -> None:
    """Law: neighbours and the cut into requests change nothing, and no key is sent twice."""

    class Scripted(FakeVenue):
        async def place_orders(
            self, tickets: Sequence[OrderTicket], sent: Callable[[], None], *, grouping: Grouping = Grouping.NONE
        ) -> Sequence[Placed | Refused | Unclear]:
            self.placed.extend(tickets)
            sent()
            return [self._say(ticket) for ticket in tickets]

        async def place_order(self, ticket: OrderTicket, sent: Callable[[], None]) -> Placed | Refused:
            self.placed.append(ticket)
            sent()
            said = self._say(ticket)
            if isinstance(said, Unclear):
                raise OutcomeUnknown(said.cause)
            return said

        def _say(self, ticket: OrderTicket) -> Placed | Refused | Unclear:
            kind = "good" if ticket.quantity == 1000 else kinds[int(ticket.quantity) - 1]
            if kind == "refused":
                return NO_MARGIN
            return Unclear(cause="odd") if kind == "unclear" else Placed(venue_order_id=f"v{ticket.order_id}")

    expected = {"good": ACKNOWLEDGED, "refused": REJECTED, "unclear": UNKNOWN, "bad": -3, "repeat": ACKNOWLEDGED}
    async with gateway(venue=Scripted(batch=most)) as world:
        await world.submit("before", quantity="1000")
        orders = []
        for place, kind in enumerate(kinds):
            price = "100.3" if kind == "bad" else "100"
            plain = new_order(f"key-{place}", quantity=str(place + 1), price=price)
            orders.append(new_order("before", quantity="1000") if kind == "repeat" else plain)
        rows = await submit_batch(world, *orders)
        assert outcomes(rows) == [expected[kind] for kind in kinds]
        sent = [ticket.order_id for ticket in world.venue.placed]
        assert len(sent) == len(set(sent)) == 1 + sum(kind not in ("bad", "repeat") for kind in kinds)


@pytest.mark.parametrize("lost", [False, True])
async def test_refusal_told_by_the_stream_waits_for_the_answers_words(lost: bool) -> None:
    """The status word alone would be all the caller ever sees; where the answer is lost, the venue is asked."""
    async with gateway() as world, asyncio.TaskGroup() as tasks:
        release = asyncio.Event()
        reply: Any = Lost(arrived=False) if lost else NO_MARGIN
        world.venue.script("place_order", Held(release, reply))
        call = tasks.create_task(world.submit("key-1"))
        await until(lambda: world.venue.placed)
        state = world.account.order_by_key("key-1")
        assert state is not None
        shown = VenueOrder(
            venue_order_id="v9",
            venue_client_order_id=state.venue_client_order_id,
            symbol=BTC,
            side=order_pb2.SIDE_BUY,
            quantity=state.quantity,
            filled_quantity=state.filled,
            price=state.price,
            state=VenueOrderState.REJECTED,
            reason=Reason.INSUFFICIENT_MARGIN,
            text="perpMarginRejected",
            venue_time_ns=0,
        )
        world.venue.orders[state.venue_client_order_id] = shown
        world.core.intake.on_order("main", shown)
        assert world.account.order_by_key("key-1") == state
        release.set()
        await call
        await until(lambda: world.account.order(state.order_id).terminal)  # type: ignore[union-attr]
        reject = world.account.order(state.order_id).reject  # type: ignore[union-attr]
        assert reject is not None
        assert reject.reason == error_pb2.REASON_INSUFFICIENT_MARGIN
        assert reject.venue_text == ("perpMarginRejected" if lost else NO_MARGIN.text)
