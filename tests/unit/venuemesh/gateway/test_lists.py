"""Orders that belong together: all or none, one id, children with a life of their own."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes_venue import ETH, MAIN, FakeVenue, Held, Lost
from tests.unit.venuemesh.gateway.gateway_world import Caller, MemoryBus, World, gateway, new_order, until
from venuemesh.errors import (
    ClientOrderIdReused,
    InstrumentNotFound,
    InvalidRequest,
    JournalUnavailable,
    MeshError,
    NotSupported,
    Reason,
    Reconciling,
)
from venuemesh.gateway.lists import check_list, of_element
from venuemesh.gateway.order_wire import order_list_id_of
from venuemesh.gateway.orders import OrderState
from venuemesh.gateway.venue import Grouping, Placed, Refused, VenueOrderState
from venuemesh.v1 import error_pb2
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as wire

BRACKET, POSITION, OCO = wire.CONTINGENCY_TYPE_BRACKET, wire.CONTINGENCY_TYPE_POSITION, wire.CONTINGENCY_TYPE_OCO
WAITING, FOR_PARENT = pb.TRIGGER_STATE_WAITING, pb.TRIGGER_STATE_WAITING_FOR_PARENT
ACKNOWLEDGED = wire.SUBMIT_OUTCOME_ACKNOWLEDGED


def grouping_venue(**options: Any) -> FakeVenue:
    return FakeVenue(**({"batch": 200, "groups": True} | options))


def leg(key: str, kind: pb.OrderType.ValueType, trigger: str, **changes: Any) -> pb.NewOrder:
    """An exit of the long that `new_order` opens."""
    terms: dict[str, Any] = {
        "order_type": kind,
        "side": pb.SIDE_SELL,
        "price": None,
        "time_in_force": None,
        "trigger": pb.Trigger(price=trigger),
    }
    return new_order(key, **(terms | changes))


def profit(key: str = "tp", **changes: Any) -> pb.NewOrder:
    return leg(key, pb.ORDER_TYPE_TAKE_PROFIT_MARKET, "120", **changes)


def stop(key: str = "sl", **changes: Any) -> pb.NewOrder:
    return leg(key, pb.ORDER_TYPE_STOP_MARKET, "80", **changes)


def bracket() -> list[pb.NewOrder]:
    return [new_order("entry"), profit(), stop()]


async def submit(
    world: World, *orders: pb.NewOrder, kind: wire.ContingencyType.ValueType = BRACKET
) -> wire.SubmitOrderListResponse:
    request = wire.SubmitOrderListRequest(contingency_type=kind, orders=orders)
    response: wire.SubmitOrderListResponse = await world.orders.SubmitOrderList(request, Caller())
    return response


def order(world: World, key: str) -> OrderState:
    found = world.account.order_by_key(key)
    assert found is not None
    return found


async def test_bracket_is_one_request_with_the_entry_first() -> None:
    """Children are accepted without a venue id, wait for their parent, and are found by ours."""
    async with gateway(venue=grouping_venue()) as world:
        answer = await submit(world, *bracket())
        assert [row.outcome for row in answer.results] == [ACKNOWLEDGED] * 3
        ((grouping, tickets),) = world.venue.batches
        assert (grouping, [ticket.order_type for ticket in tickets]) == (
            Grouping.BRACKET,
            [pb.ORDER_TYPE_LIMIT, pb.ORDER_TYPE_TAKE_PROFIT_MARKET, pb.ORDER_TYPE_STOP_MARKET],
        )
        assert [row.order.trigger_state for row in answer.results] == [0, FOR_PARENT, FOR_PARENT]
        assert {row.order.order_list_id for row in answer.results} == {answer.order_list_id}
        assert len(answer.order_list_id) == 32


async def test_exits_are_reduce_only_whether_they_say_so_or_not() -> None:
    """And say so in their terms from then on; both spellings are one list."""
    async with gateway(venue=grouping_venue()) as world:
        answer = await submit(world, *bracket())
        ((_, tickets),) = world.venue.batches
        assert [ticket.reduce_only for ticket in tickets] == [False, True, True]
        reduce_only = [pb.EXECUTION_INSTRUCTION_REDUCE_ONLY]
        assert [list(row.order.terms.instructions) for row in answer.results] == [[], reduce_only, reduce_only]
        spelt = [new_order("entry"), profit(instructions=reduce_only), stop(instructions=reduce_only)]
        assert all(row.replayed for row in (await submit(world, *spelt)).results)


async def test_exit_of_another_quantity_is_refused_where_exits_take_the_entrys() -> None:
    """Before anything is written: it would be sent as another order. Equal ones pass however they are written."""
    venue = grouping_venue()
    venue.capabilities.bracket_quantity_is_entrys = True
    async with gateway(venue=venue) as world:
        for place, orders in (
            (1, [new_order("e"), profit(quantity="0.5")]),
            (2, [new_order("e"), profit(), stop(quantity="2")]),
        ):
            request = wire.SubmitOrderListRequest(contingency_type=BRACKET, orders=orders)
            with pytest.raises(InvalidRequest) as caught:
                await world.orders.SubmitOrderList(request, None)
            assert (caught.value.reason, caught.value.field) == (
                Reason.CONTRADICTORY_FIELDS,
                f"orders[{place}].quantity",
            )
        assert not venue.batches
        request = wire.SubmitOrderListRequest(contingency_type=BRACKET, orders=[new_order("e"), profit(), stop()])
        response = await world.orders.SubmitOrderList(request, None)
        assert [row.outcome for row in response.results] == [ACKNOWLEDGED] * 3


async def test_children_are_armed_when_the_parent_has_filled() -> None:
    """The venue has no word for it; the report says why."""
    async with gateway(venue=grouping_venue()) as world:
        await submit(world, *bracket())
        parent = world.venue.order_of(world.venue.placed[0])
        world.venue.fill(parent, "0.4", "100")
        assert order(world, "tp").trigger_state == FOR_PARENT
        world.venue.fill(parent, "0.6", "100")
        assert [order(world, key).trigger_state for key in ("tp", "sl")] == [WAITING, WAITING]
        await world.durable()
        reports = [one.execution_report for one in world.bus.events() if one.HasField("execution_report")]
        armed = [one for one in reports if one.text == "its parent has filled"]
        assert sorted(one.order.terms.client_order_id for one in armed) == ["sl", "tp"]


async def test_children_end_with_their_parent_and_siblings_with_each_other() -> None:
    """By the venue's word alone, with its reason."""
    async with gateway(venue=grouping_venue()) as world:
        await submit(world, *bracket())
        entry, first, second = (world.venue.order_of(ticket) for ticket in world.venue.placed)
        world.venue.fill(entry, "1", "100")
        world.venue.trigger(first)
        assert order(world, "tp").trigger_state == pb.TRIGGER_STATE_TRIGGERED
        world.venue.fill(first, "1", "120")
        key = second.venue_client_order_id or ""
        world.venue.orders[key] = replace(world.venue.orders[key], reason=Reason.SIBLING_FILLED)
        world.venue.end(second, VenueOrderState.CANCELED, "siblingFilledCanceled")
        assert [order(world, key).status for key in ("entry", "tp", "sl")] == [
            pb.ORDER_STATUS_FILLED,
            pb.ORDER_STATUS_FILLED,
            pb.ORDER_STATUS_CANCELED,
        ]
        reject = order(world, "sl").reject
        assert reject is not None
        assert (reject.reason, reject.venue_text) == (error_pb2.REASON_SIBLING_FILLED, "siblingFilledCanceled")


async def test_child_can_be_canceled_before_the_venue_has_told_its_id() -> None:
    """By our own id."""
    async with gateway(venue=grouping_venue()) as world:
        world.venue.pushing = False
        await submit(world, *bracket())
        world.venue.pushing = True
        reference = wire.OrderReference(account_id=MAIN, client_order_id="tp")
        answer = await world.orders.CancelOrder(wire.CancelOrderRequest(reference=reference), Caller())
        assert answer.outcome == wire.CANCEL_OUTCOME_CANCELED
        assert world.venue.cancels[0].venue_order_id is None
        assert order(world, "sl").working


async def test_position_group_waits_for_its_price_from_the_start() -> None:
    """There is no parent."""
    async with gateway(venue=grouping_venue()) as world:
        answer = await submit(world, profit(), stop(), kind=POSITION)
        ((grouping, _),) = world.venue.batches
        assert grouping is Grouping.POSITION
        assert [row.order.trigger_state for row in answer.results] == [WAITING, WAITING]


@pytest.mark.parametrize(("kind", "options"), [(OCO, {}), (BRACKET, {"groups": False}), (POSITION, {"groups": False})])
async def test_group_the_venue_does_not_keep_is_refused_by_name(kind: Any, options: dict[str, Any]) -> None:
    """One cancels the other is not imitated: nobody would cancel while the mesh is away."""
    async with gateway(venue=grouping_venue(**options)) as world:
        with pytest.raises(NotSupported) as caught:
            await submit(world, *bracket(), kind=kind)
        assert caught.value.field == "contingency_type"
        assert wire.ContingencyType.Name(kind) in caught.value.message
        assert world.venue.placed == []


BAD: list[tuple[wire.ContingencyType.ValueType, list[pb.NewOrder], type[MeshError], Reason, str]] = [
    (BRACKET, [new_order("e")], InvalidRequest, Reason.REQUIRED_FIELD_MISSING, "orders[1]"),
    (BRACKET, [], InvalidRequest, Reason.REQUIRED_FIELD_MISSING, "orders"),
    (BRACKET, [*bracket(), new_order("x")], InvalidRequest, Reason.INVALID_ARGUMENT, "orders"),
    (POSITION, bracket(), InvalidRequest, Reason.INVALID_ARGUMENT, "orders[2]"),
    (wire.CONTINGENCY_TYPE_UNSPECIFIED, bracket(), InvalidRequest, Reason.REQUIRED_FIELD_MISSING, "contingency_type"),
    (BRACKET, [profit(), stop()], InvalidRequest, Reason.UNSUPPORTED_ORDER_TYPE, "orders[0].order_type"),
    (BRACKET, [new_order("e"), new_order("x")], InvalidRequest, Reason.UNSUPPORTED_ORDER_TYPE, "orders[1].order_type"),
    (
        BRACKET,
        [new_order("e"), stop("a"), stop("b")],
        InvalidRequest,
        Reason.CONTRADICTORY_FIELDS,
        "orders[2].order_type",
    ),
    (BRACKET, [new_order("e"), stop(side=pb.SIDE_BUY)], InvalidRequest, Reason.CONTRADICTORY_FIELDS, "orders[1].side"),
    (
        POSITION,
        [profit(), stop(side=pb.SIDE_BUY)],
        InvalidRequest,
        Reason.CONTRADICTORY_FIELDS,
        "orders[1].side",
    ),
    (BRACKET, [new_order("e"), stop(symbol=ETH)], InvalidRequest, Reason.CONTRADICTORY_FIELDS, "orders[1].symbol"),
    (BRACKET, [new_order("e"), stop("e")], InvalidRequest, Reason.CLIENT_ORDER_ID_REUSED, "orders[1].client_order_id"),
    (
        BRACKET,
        [new_order("e"), stop("a b")],
        InvalidRequest,
        Reason.INVALID_CLIENT_ORDER_ID,
        "orders[1].client_order_id",
    ),
    (
        BRACKET,
        [new_order("e"), profit(), leg("sl", pb.ORDER_TYPE_STOP_MARKET, "80.3")],
        InvalidRequest,
        Reason.PRICE_OFF_TICK,
        "orders[2].trigger.price",
    ),
    (BRACKET, [new_order("e", price="100.3"), stop()], InvalidRequest, Reason.PRICE_OFF_TICK, "orders[0].price"),
    (BRACKET, [new_order("e"), stop(quantity="0")], InvalidRequest, Reason.QUANTITY_NOT_POSITIVE, "orders[1].quantity"),
    (
        BRACKET,
        [new_order("e", symbol="NOPE"), stop(symbol="NOPE")],
        InstrumentNotFound,
        Reason.INSTRUMENT_NOT_FOUND,
        "orders[0].symbol",
    ),
]


@pytest.mark.parametrize(("kind", "orders", "error", "reason", "field"), BAD)
async def test_list_with_one_bad_order_is_refused_whole_naming_it(
    kind: Any, orders: list[pb.NewOrder], error: type[MeshError], reason: Reason, field: str
) -> None:
    """Nothing is journalled, nothing sent, and every key is free."""
    async with gateway(venue=grouping_venue()) as world:
        with pytest.raises(error) as caught:
            await submit(world, *orders, kind=kind)
        assert (caught.value.reason, caught.value.field) == (reason, field)
        assert caught.value.message.startswith(field)
        assert (world.venue.placed, world.core.desk._attempts) == ([], {})
        assert world.bus._stored.get("VENUEMESH_JOURNAL", []) == []


async def test_list_is_refused_while_the_account_reconciles() -> None:
    """The refusal names the first order."""
    async with gateway(venue=grouping_venue()) as world:
        world.venue.go_down()
        world.venue.up = True
        with pytest.raises(Reconciling) as caught:
            await submit(world, *bracket())
        assert caught.value.message.startswith("orders[0]: ")


# repeats


async def test_repeat_of_a_list_gives_the_first_results() -> None:
    """Under way, done, and after memory has forgotten it."""
    async with gateway(venue=grouping_venue()) as world, asyncio.TaskGroup() as tasks:
        release = asyncio.Event()
        world.venue.script("place_orders", Held(release))
        calls = [tasks.create_task(submit(world, *bracket())) for _ in range(3)]
        await until(lambda: world.venue.placed)
        release.set()
        answers = [await call for call in calls] + [await submit(world, *bracket())]
        assert len({answer.order_list_id for answer in answers}) == 1
        assert len({tuple(row.order.order_id for row in answer.results) for answer in answers}) == 1
        assert [answer.results[0].replayed for answer in answers].count(False) == 1
        assert len(world.venue.placed) == 3
        for reference in ("entry", "tp", "sl"):
            await world.core.working.cancel(wire.OrderReference(account_id=MAIN, client_order_id=reference))
        await world.durable()
        world.account._orders.clear()
        world.account._by_key.clear()
        again = await submit(world, *bracket())
        assert [row.replayed for row in again.results] == [True] * 3
        assert len(world.venue.placed) == 3


OTHER_CONTENT = [
    [new_order("entry", quantity="2"), profit(), stop()],
    [new_order("entry"), profit(), stop("sl-2")],
    [new_order("entry"), profit()],
    [new_order("entry"), stop(), profit()],
    [new_order("entry-2"), profit("tp-2"), stop()],
]


@pytest.mark.parametrize("orders", OTHER_CONTENT)
async def test_list_whose_keys_are_partly_known_with_other_content_is_refused(orders: list[pb.NewOrder]) -> None:
    """Other terms, another member, fewer of them, or another order: never half a list."""
    async with gateway(venue=grouping_venue()) as world:
        await submit(world, *bracket())
        with pytest.raises(ClientOrderIdReused) as caught:
            await submit(world, *orders)
        assert caught.value.field is not None
        assert caught.value.field.startswith("orders[")
        assert len(world.venue.placed) == 3


async def test_key_of_an_order_submitted_alone_is_not_taken_into_a_list() -> None:
    """Its content is the same, its fate would not be."""
    async with gateway(venue=grouping_venue()) as world:
        await world.submit("entry")
        with pytest.raises(ClientOrderIdReused):
            await submit(world, *bracket())
        assert len(world.venue.placed) == 1


async def test_key_the_journal_alone_remembers_is_found_before_anything_is_written() -> None:
    """Half a list in the journal would be worse than a refusal."""
    async with gateway(venue=grouping_venue()) as world:
        await world.core.desk.submit(stop())
        world.account._orders.clear()
        world.account._by_key.clear()
        with pytest.raises(ClientOrderIdReused):
            await submit(world, *bracket())
        assert len(world.venue.placed) == 1


# faults


async def test_list_of_which_one_cannot_be_journalled_is_not_sent() -> None:
    """The others are told that nothing was sent; the caller that the journal failed."""

    class Picky(MemoryBus):
        async def append_once(self, subject: str, payload: bytes) -> int:
            if subject.endswith(".tp"):
                raise JournalUnavailable("JetStream did not confirm")
            return await super().append_once(subject, payload)

    async with gateway(venue=grouping_venue(), bus=Picky()) as world:
        with pytest.raises(JournalUnavailable):
            await submit(world, *bracket())
        assert world.venue.placed == []
        await until(lambda: not world.core.desk.in_flight)
        entry = order(world, "entry")
        assert entry.status == pb.ORDER_STATUS_REJECTED
        assert entry.reject is not None
        assert entry.reject.reason == error_pb2.REASON_NEVER_REACHED_VENUE
        assert world.account.order_by_key("sl") is None


async def test_lost_answer_makes_every_order_of_the_list_unknown() -> None:
    """Each is then found by its own id."""
    async with gateway(venue=grouping_venue()) as world:
        world.venue.pushing = False
        asked = asyncio.Event()
        world.venue.script("place_orders", Lost())
        world.venue.script("fetch_order", Held(asked))
        answer = await submit(world, *bracket())
        assert [row.outcome for row in answer.results] == [wire.SUBMIT_OUTCOME_UNKNOWN] * 3
        asked.set()
        await until(lambda: all(one.working for one in world.account.all_orders()))
        assert [order(world, key).trigger_state for key in ("entry", "tp", "sl")] == [0, FOR_PARENT, FOR_PARENT]


async def test_child_refused_by_the_venue_is_rejected_and_the_parent_lives() -> None:
    """Each leg has its own result: a bracket without its stop must be seen."""
    async with gateway(venue=grouping_venue()) as world:
        refused = Refused(reason=Reason.INVALID_TRIGGER_PRICE, text="Invalid TP/SL price. asset=1")
        child = Placed(venue_order_id="", trigger_state=FOR_PARENT)
        world.venue.script("place_orders", [Placed(venue_order_id="v1"), child, refused])
        answer = await submit(world, *bracket())
        assert [row.outcome for row in answer.results] == [ACKNOWLEDGED, ACKNOWLEDGED, wire.SUBMIT_OUTCOME_REJECTED]
        assert answer.results[2].reject.reason == error_pb2.REASON_INVALID_TRIGGER_PRICE


# pure


def test_list_id_depends_on_kind_account_and_keys_in_their_order() -> None:
    """And on nothing else."""
    names = [
        order_list_id_of("v", "a", kind, keys)
        for kind, keys in itertools.product((1, 2), (["x", "y"], ["y", "x"], ["xy"], ["x", "y", ""]))
    ]
    assert len(set(names)) == len(names)
    assert order_list_id_of("v", "a", 1, ["x", "y"]) == names[0]


@settings(max_examples=200)
@given(
    st.permutations([new_order("e"), profit(), stop(), stop("sl-2"), profit("tp-2"), new_order("e-2")]),
    st.integers(1, 4),
    st.sampled_from([Grouping.BRACKET, Grouping.POSITION]),
)
def test_accepted_lists_are_exactly_the_groups_there_are(
    shuffled: list[pb.NewOrder], count: int, grouping: Grouping
) -> None:
    """An entry and one or two different exits; or one or two different exits."""
    orders = shuffled[:count]
    shape = "".join(one.client_order_id[0] for one in orders)
    groups = {"et", "es", "ets", "est"} if grouping is Grouping.BRACKET else {"t", "s", "ts", "st"}
    try:
        check_list(orders, grouping)
    except InvalidRequest as refused:
        assert shape not in groups
        assert (refused.field or "").startswith("orders[")
    else:
        assert shape in groups


@pytest.mark.parametrize(
    ("error", "field", "message"),
    [
        (InvalidRequest("order.price: bad", field="order.price"), "orders[3].price", "orders[3].price: bad"),
        (Reconciling("x/main is reconciling: cause"), None, "orders[3]: x/main is reconciling: cause"),
    ],
)
def test_refusal_of_an_element_keeps_everything_but_the_place(
    error: MeshError, field: str | None, message: str
) -> None:
    """Type, reason, code and metadata stay."""
    named = of_element(error, 3)
    assert (type(named), named.reason, named.metadata) == (type(error), error.reason, error.metadata)
    assert (named.field, named.message, str(named)) == (field, message, message)
    assert not error.message.startswith("orders[")
