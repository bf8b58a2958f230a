"""OrderService over a real desk and a fake venue: keys, refusals, batches, reads, previews."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.fakes_venue import BTC, ETH, Held, Lost, levels
from tests.unit.venuemesh.gateway.gateway_world import Caller, World, gateway, new_order, until
from venuemesh import deadlines
from venuemesh.errors import (
    AccountNotFound,
    ClientOrderIdReused,
    DeadlineTooShort,
    InstrumentNotFound,
    InvalidRequest,
    MeshError,
    OrderNotFound,
    Reason,
    ResumeExpired,
)
from venuemesh.gateway.venue import Refused
from venuemesh.v1 import error_pb2, order_pb2
from venuemesh.v1 import order_service_pb2 as wire

CALLER = Caller()
LONG_ID = "x" * 37


def reference(key: str) -> wire.OrderReference:
    return wire.OrderReference(account_id="main", client_order_id=key)


BAD_INPUT: list[tuple[dict[str, Any], type[MeshError], Reason, str]] = [
    ({"symbol": "NOPE/USDC:USDC"}, InstrumentNotFound, Reason.INSTRUMENT_NOT_FOUND, "order.symbol"),
    ({"symbol": None}, InvalidRequest, Reason.REQUIRED_FIELD_MISSING, "order.symbol"),
    ({"quantity": "0"}, InvalidRequest, Reason.QUANTITY_NOT_POSITIVE, "order.quantity"),
    ({"quantity": "-1"}, InvalidRequest, Reason.QUANTITY_NOT_POSITIVE, "order.quantity"),
    ({"quantity": "1.0005"}, InvalidRequest, Reason.QUANTITY_OFF_LOT, "order.quantity"),
    ({"quantity": "1e3"}, InvalidRequest, Reason.INVALID_DECIMAL, "order.quantity"),
    ({"quantity": "1." + "1" * 19}, InvalidRequest, Reason.INVALID_DECIMAL, "order.quantity"),
    ({"price": "100.3"}, InvalidRequest, Reason.PRICE_OFF_TICK, "order.price"),
    ({"price": "-100"}, InvalidRequest, Reason.PRICE_NOT_POSITIVE, "order.price"),
    ({"price": None}, InvalidRequest, Reason.REQUIRED_FIELD_MISSING, "order.price"),
    ({"quantity": "0.01"}, InvalidRequest, Reason.BELOW_MIN_NOTIONAL, "order.quantity"),
    ({"side": 0}, InvalidRequest, Reason.REQUIRED_FIELD_MISSING, "order.side"),
    ({"side": 9999}, InvalidRequest, Reason.INVALID_ARGUMENT, "order.side"),
    ({"order_type": 0}, InvalidRequest, Reason.REQUIRED_FIELD_MISSING, "order.order_type"),
    (
        {"order_type": order_pb2.ORDER_TYPE_TWAP, "price": None},
        InvalidRequest,
        Reason.UNSUPPORTED_ORDER_TYPE,
        "order.order_type",
    ),
    ({"time_in_force": 0}, InvalidRequest, Reason.REQUIRED_FIELD_MISSING, "order.time_in_force"),
    (
        {"time_in_force": order_pb2.TIME_IN_FORCE_FOK},
        InvalidRequest,
        Reason.UNSUPPORTED_TIME_IN_FORCE,
        "order.time_in_force",
    ),
    ({"client_order_id": LONG_ID}, InvalidRequest, Reason.INVALID_CLIENT_ORDER_ID, "order.client_order_id"),
    ({"client_order_id": "a b"}, InvalidRequest, Reason.INVALID_CLIENT_ORDER_ID, "order.client_order_id"),
    ({"client_order_id": None}, InvalidRequest, Reason.REQUIRED_FIELD_MISSING, "order.client_order_id"),
    ({"account_id": "nobody"}, AccountNotFound, Reason.ACCOUNT_NOT_FOUND, "order.account_id"),
    ({"venue": "elsewhere"}, InvalidRequest, Reason.VENUE_NOT_FOUND, "order.venue"),
]


@pytest.mark.parametrize(("changes", "error", "reason", "field"), BAD_INPUT)
async def test_submit_order_when_input_is_bad_names_field_and_reason_and_sends_nothing(
    changes: dict[str, Any], error: type[MeshError], reason: Reason, field: str
) -> None:
    """Each fault is refused before the journal; the same key is free afterwards."""
    async with gateway() as world:
        with pytest.raises(error) as caught:
            await world.submit("key-1", **changes)
        assert (caught.value.reason, caught.value.field, caught.value.sent.value) == (reason, field, "no")
        assert world.venue.placed == []
        assert (await world.submit("key-1")).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED


async def test_submit_order_when_empty_or_ack_level_unknown_names_the_field() -> None:
    """The request's own fields are checked too."""
    async with gateway() as world:
        for request, field in (
            (wire.SubmitOrderRequest(), "order"),
            (wire.SubmitOrderRequest(order=new_order("k"), ack_level=77), "ack_level"),  # type: ignore[arg-type]
        ):
            with pytest.raises(InvalidRequest) as caught:
                await world.orders.SubmitOrder(request, CALLER)
            assert caught.value.field == field


async def test_submit_order_when_one_key_comes_twice_at_once_is_one_order() -> None:
    """The second call waits for the first one's answer and is told that it is a replay."""
    async with gateway() as world:
        release = asyncio.Event()
        world.venue.script("place_order", Held(release))
        async with asyncio.TaskGroup() as tasks:
            first, second = (tasks.create_task(world.submit("key-1")) for _ in range(2))
            await until(lambda: world.venue.placed)
            release.set()
        assert len(world.venue.placed) == 1
        assert sorted(call.result().replayed for call in (first, second)) == [False, True]
        assert first.result().order.order_id == second.result().order.order_id
        later = await world.submit("key-1")
        assert (later.replayed, later.outcome) == (True, wire.SUBMIT_OUTCOME_ACKNOWLEDGED)


async def test_submit_order_when_a_key_is_reused_with_other_content_refuses() -> None:
    """Also while the first is under way."""
    async with gateway() as world:
        await world.submit("key-1")
        with pytest.raises(ClientOrderIdReused) as caught:
            await world.submit("key-1", quantity="2")
        assert caught.value.metadata["client_order_id"] == "key-1"
        assert len(world.venue.placed) == 1


async def test_submit_order_when_the_reply_is_lost_is_unknown_then_true() -> None:
    """An unknown outcome is data; the resolver finds the order and no second one is sent."""
    async with gateway() as world:
        world.venue.pushing = False
        world.venue.script("place_order", Lost())
        asked = asyncio.Event()
        world.venue.script("fetch_order", Held(asked))
        response = await world.submit("key-1")
        assert response.outcome == wire.SUBMIT_OUTCOME_UNKNOWN
        asked.set()
        await until(lambda: world.account.order_by_key("key-1").working)  # type: ignore[union-attr]
        again = await world.submit("key-1")
        assert (again.outcome, again.replayed) == (wire.SUBMIT_OUTCOME_ACKNOWLEDGED, True)
        assert len(world.venue.placed) == 1


async def test_batch_submit_when_one_is_bad_places_the_rest_in_order() -> None:
    """Each element has its own result, with the code and reason it would have had alone."""
    async with gateway() as world:
        orders = [new_order(f"key-{n}") for n in range(5)]
        orders[1] = new_order("key-1", quantity="0")
        orders[3] = new_order("key-3", symbol="NOPE/X:X")
        world.venue.script("place_order", None, Refused(reason=Reason.INSUFFICIENT_MARGIN, text="no margin"), Lost())
        request = wire.BatchSubmitOrdersRequest(orders=orders)
        response = await world.orders.BatchSubmitOrders(request, CALLER)
        outcomes = [row.response.outcome if row.HasField("response") else row.error.code for row in response.results]
        assert outcomes == [
            wire.SUBMIT_OUTCOME_ACKNOWLEDGED,
            3,
            wire.SUBMIT_OUTCOME_REJECTED,
            5,
            wire.SUBMIT_OUTCOME_ACKNOWLEDGED if response.results[4].response.order.working else 4,
        ]
        assert response.results[1].error.error.reason == error_pb2.REASON_QUANTITY_NOT_POSITIVE
        assert response.results[3].error.error.reason == error_pb2.REASON_INSTRUMENT_NOT_FOUND
        keys = [ticket.order_id for ticket in world.venue.placed]
        assert keys == [row.response.order.order_id for row in response.results if row.HasField("response")]


async def test_batch_submit_when_our_code_fails_in_one_element_tells_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A bug in one element must not hide that the others were sent."""
    async with gateway() as world:
        real = world.core.desk.examine

        async def examine(order: order_pb2.NewOrder) -> Any:
            if order.client_order_id == "key-0":
                raise ZeroDivisionError
            return await real(order)

        monkeypatch.setattr(world.core.desk, "examine", examine)
        request = wire.BatchSubmitOrdersRequest(orders=[new_order("key-0"), new_order("key-1")])
        response = await world.orders.BatchSubmitOrders(request, CALLER)
        assert response.results[0].error.error.reason == error_pb2.REASON_OUTCOME_UNKNOWN
        assert response.results[1].response.outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED


@pytest.mark.parametrize("count", [0, 201])
async def test_batches_when_empty_or_too_long_are_refused(count: int) -> None:
    """1 to 200 elements."""
    async with gateway() as world:
        with pytest.raises(InvalidRequest) as caught:
            await world.orders.BatchSubmitOrders(
                wire.BatchSubmitOrdersRequest(orders=[new_order(f"key-{n}") for n in range(count)]), CALLER
            )
        assert caught.value.field == "orders"
        with pytest.raises(InvalidRequest) as caught:
            await world.orders.BatchCancelOrders(
                wire.BatchCancelOrdersRequest(references=[reference("k")] * count), CALLER
            )
        assert caught.value.field == "references"


async def test_batch_cancel_when_one_is_unknown_cancels_the_rest() -> None:
    """An order that is gone answers for itself."""
    async with gateway() as world:
        await world.submit("key-1")
        await world.submit("key-2")
        names = ["key-1", "nobody", "key-2", "key-1"]
        request = wire.BatchCancelOrdersRequest(references=[reference(name) for name in names])
        response = await world.orders.BatchCancelOrders(request, CALLER)
        assert response.results[1].error.error.reason == error_pb2.REASON_ORDER_NOT_FOUND
        assert response.results[0].response.order.status == order_pb2.ORDER_STATUS_CANCELED
        assert response.results[2].response.outcome == wire.CANCEL_OUTCOME_CANCELED


async def test_cancel_all_when_one_side_is_asked_leaves_the_other() -> None:
    """Symbol and side narrow it; an unknown side is refused."""
    async with gateway() as world:
        await world.submit("buy")
        await world.submit("sell", side=order_pb2.SIDE_SELL)
        request = wire.CancelAllOrdersRequest(account_id="main", side=order_pb2.SIDE_SELL)
        response = await world.orders.CancelAllOrders(request, CALLER)
        assert [row.order.terms.client_order_id for row in response.results] == ["sell"]
        request = wire.CancelAllOrdersRequest(account_id="main", side=77)  # type: ignore[arg-type]
        with pytest.raises(InvalidRequest):
            await world.orders.CancelAllOrders(request, CALLER)


async def test_replace_order_is_applied_when_the_venue_confirms_and_replayed_by_its_key() -> None:
    """The amendment's own key makes it safe to repeat."""
    async with gateway() as world:
        await world.submit("key-1")
        request = wire.ReplaceOrderRequest(reference=reference("key-1"), request_id="r1", price="99.5")
        response = await world.orders.ReplaceOrder(request, CALLER)
        assert (response.order.terms.price, response.replayed) == ("99.5", False)
        assert (await world.orders.ReplaceOrder(request, CALLER)).replayed
        assert len(world.venue.amendments) == 1


async def test_get_order_waits_for_a_version_and_says_when_it_does_not_come() -> None:
    """A reader that knows of a newer version is never shown an older one."""
    async with gateway() as world:
        order = (await world.submit("key-1")).order
        wanted = wire.GetOrderRequest(reference=reference("key-1"), min_version=order.order_version + 1)
        reading = asyncio.create_task(world.orders.GetOrder(wanted, CALLER))
        await asyncio.sleep(0)
        world.venue.fill(world.venue.order_of(world.venue.placed[0]), "0.5", "100")
        assert (await reading).order.filled_quantity == "0.5"
        deadlines.set_deadline(deadlines.Deadline(world.clock, world.clock.monotonic_s() + 0.11))
        wanted.min_version += 50
        with pytest.raises(DeadlineTooShort) as caught:
            await world.orders.GetOrder(wanted, CALLER)
        assert int(caught.value.metadata["order_version"]) < wanted.min_version
        with pytest.raises(OrderNotFound):
            await world.orders.GetOrder(wire.GetOrderRequest(reference=reference("nobody")), CALLER)
        with pytest.raises(InvalidRequest):
            await world.orders.GetOrder(wire.GetOrderRequest(), CALLER)


async def _submit_many(world: World, count: int) -> None:
    for number in range(count):
        world.clock.advance(0.001)
        symbol = BTC if number % 2 else ETH
        await world.submit(f"key-{number:03}", symbol=symbol)


async def _all_pages(world: World, **filters: Any) -> list[str]:
    keys, token = [], ""
    for _ in range(100):
        request = wire.ListOrdersRequest(account_id="main", page_token=token, **filters)
        response = await world.orders.ListOrders(request, CALLER)
        assert len(response.orders) <= (request.page_size or 100)
        keys += [order.terms.client_order_id for order in response.orders]
        token = response.next_page_token
        if not token:
            return keys
    raise AssertionError("pages never end")


async def test_list_orders_pages_give_each_order_once_newest_first() -> None:
    """Orders that come in between do not shift later pages."""
    async with gateway() as world:
        await _submit_many(world, 25)
        expected = [f"key-{n:03}" for n in reversed(range(25))]
        assert await _all_pages(world) == expected
        assert await _all_pages(world, page_size=7) == expected
        assert await _all_pages(world, page_size=25) == expected
        assert await _all_pages(world, symbol=BTC, page_size=5) == [key for key in expected if int(key[-1]) % 2]
        first = await world.orders.ListOrders(wire.ListOrdersRequest(account_id="main", page_size=10), CALLER)
        await world.submit("newer")
        request = wire.ListOrdersRequest(account_id="main", page_size=10, page_token=first.next_page_token)
        second = await world.orders.ListOrders(request, CALLER)
        assert [row.terms.client_order_id for row in second.orders] == expected[10:20]


async def test_list_orders_filters_by_status_and_time() -> None:
    """Half-open time range on creation."""
    async with gateway() as world:
        await _submit_many(world, 4)
        await world.orders.CancelOrder(wire.CancelOrderRequest(reference=reference("key-001")), CALLER)
        assert await _all_pages(world, statuses=[order_pb2.ORDER_STATUS_CANCELED]) == ["key-001"]
        created = [order.created_ns for order in world.account.all_orders()]
        request = wire.ListOrdersRequest(account_id="main")
        request.from_time.FromNanoseconds(created[1])
        request.to_time.FromNanoseconds(created[3])
        rows = (await world.orders.ListOrders(request, CALLER)).orders
        assert [row.terms.client_order_id for row in rows] == ["key-002", "key-001"]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"account_id": ""}, "account_id"),
        ({"page_size": 1_001}, "page_size"),
        ({"page_token": "garbage"}, "page_token"),
        ({"page_token": "AAAA" * 20}, "page_token"),
        ({"page_token": "\N{SNOWMAN}"}, "page_token"),
        ({"statuses": [0]}, "statuses"),
        ({"statuses": [999]}, "statuses"),
        ({"venue": "elsewhere"}, "venue"),
    ],
)
async def test_list_orders_when_a_field_is_bad_names_it(changes: dict[str, Any], field: str) -> None:
    """Bounds, tokens and enums."""
    async with gateway() as world:
        with pytest.raises(InvalidRequest) as caught:
            await world.orders.ListOrders(wire.ListOrdersRequest(**{"account_id": "main", **changes}), CALLER)
        assert caught.value.field == field


async def test_list_orders_when_the_token_is_of_another_filter_or_expired_refuses() -> None:
    """A token continues its own list, for a day."""
    async with gateway() as world:
        await _submit_many(world, 3)
        first = await world.orders.ListOrders(wire.ListOrdersRequest(account_id="main", page_size=1), CALLER)
        token = first.next_page_token
        other = wire.ListOrdersRequest(account_id="main", page_size=1, symbol=BTC, page_token=token)
        with pytest.raises(InvalidRequest, match="another method or filter"):
            await world.orders.ListOrders(other, CALLER)
        world.clock.advance(24 * 3_600 + 1)
        with pytest.raises(ResumeExpired) as caught:
            await world.orders.ListOrders(wire.ListOrdersRequest(account_id="main", page_token=token), CALLER)
        assert caught.value.field == "page_token"


async def test_preview_when_everything_is_wrong_tells_it_all_at_once() -> None:
    """One answer instead of one refusal after the other."""
    async with gateway() as world:
        world.venue.go_down("socket closed")
        order = new_order(
            "a b", quantity="0", price="100.3", side=0, time_in_force=0, instructions=[0], max_slippage_bps=1
        )
        response = await world.orders.PreviewOrder(wire.PreviewOrderRequest(order=order), CALLER)
        reasons = {error_pb2.Reason.Name(reject.reason).removeprefix("REASON_") for reject in response.rejects}
        assert reasons >= {
            "INVALID_CLIENT_ORDER_ID",
            "QUANTITY_NOT_POSITIVE",
            "PRICE_OFF_TICK",
            "REQUIRED_FIELD_MISSING",
            "CONTRADICTORY_FIELDS",
            "STREAM_RECONCILING",
        }
        fields = {reject.message.split(":")[0] for reject in response.rejects}
        assert fields >= {"order.side", "order.time_in_force", "order.instructions", "order.max_slippage_bps"}
        assert world.venue.placed == []


@pytest.mark.parametrize(("changes", "error", "reason", "field"), BAD_INPUT)
async def test_preview_refuses_what_a_submit_refuses(
    changes: dict[str, Any], error: type[MeshError], reason: Reason, field: str
) -> None:
    """Every single fault shows up with the reason the submit has; a missing key is no fault of a preview."""
    async with gateway() as world:
        order = new_order("key-1", **changes)
        response = await world.orders.PreviewOrder(wire.PreviewOrderRequest(order=order), CALLER)
        reasons = [error_pb2.Reason.Name(reject.reason) for reject in response.rejects]
        if field == "order.client_order_id" and not order.client_order_id:
            assert reasons == []
        else:
            assert f"REASON_{reason}" in reasons


async def test_preview_of_a_good_order_estimates_its_cost() -> None:
    """At the limit price, or at the best price now for a market order."""
    async with gateway() as world:
        request = wire.PreviewOrderRequest(order=new_order(""))
        response = await world.orders.PreviewOrder(request, CALLER)
        assert list(response.rejects) == []
        assert (response.estimated_notional, response.estimated_fee) == ("100", "0.05")
        world.venue.set_book(BTC, levels(("99", "1")), levels(("101", "1")))
        market = new_order("", order_type=order_pb2.ORDER_TYPE_MARKET, price=None, time_in_force=None)
        response = await world.orders.PreviewOrder(wire.PreviewOrderRequest(order=market), CALLER)
        assert list(response.rejects) == []
        assert response.estimated_notional == "101"


async def test_preview_while_reconciling_says_so() -> None:
    """The gate counts as a refusal like any rule."""
    async with gateway() as world:
        world.venue.go_down("socket closed")
        response = await world.orders.PreviewOrder(wire.PreviewOrderRequest(order=new_order("k")), CALLER)
        assert [reject.reason for reject in response.rejects] == [error_pb2.REASON_STREAM_RECONCILING]


async def test_market_order_is_priced_from_the_fresh_book() -> None:
    """The worst price is the slippage bound away from the best opposite price, on tick."""
    async with gateway() as world:
        world.venue.set_book(BTC, levels(("99", "1")), levels(("101", "1")))
        await world.submit("k", order_type=order_pb2.ORDER_TYPE_MARKET, price=None, time_in_force=None)
        assert str(world.venue.placed[0].price) == "102.0"
