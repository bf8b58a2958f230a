"""Pre-trade risk through real routers and gateways: what is refused, what passes, and what concurrent orders share."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import grpc.aio
import pytest

from router import risk_log
from tests.broker import Broker
from tests.integration.router.risk_world import (
    BTC,
    FAST,
    MAIN,
    MAX_OPEN,
    MAX_POSITION,
    MAX_QUANTITY,
    VENUE,
    Front,
    fake_venue,
    fronted,
    new_order,
    open_at,
    refusal,
    served,
    until,
)
from tests.integration.router.support import Gateway as Scripted
from tests.integration.router.support import gateways as gateways_of
from tests.integration.router.support import running, submit_request
from venuemesh.errors import JournalUnavailable, MeshError, OrderNotFound, Reason, Sent
from venuemesh.subjects import RESERVATION_STREAM, RESERVATION_SUBJECT
from venuemesh.v1 import order_pb2, risk_pb2
from venuemesh.v1 import order_service_pb2 as wire
from venuemesh.v1 import risk_service_pb2 as risk
from venuemesh.v1.order_service_pb2_grpc import OrderServiceStub
from venuemesh.v1.risk_service_pb2_grpc import RiskServiceStub

REDUCE_ONLY = order_pb2.EXECUTION_INSTRUCTION_REDUCE_ONLY


async def test_order_over_a_limit_is_refused_with_limit_scope_and_use(broker: Broker) -> None:
    """The details name all of it, nothing was sent, and the key stays free."""
    async with served(broker) as gateways, fronted(broker, gateways) as front:
        await front.limit(MAX_POSITION, "1.5", scope={"venue": VENUE})
        assert (await front.submit("a")).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        error = await front.refused("b")
        assert (error.reason, error.sent) == (Reason.RISK_LIMIT_REACHED, Sent.NO)
        named = ("limit_type", "scope", "used", "after", "limit")
        assert [error.metadata[name] for name in named] == [
            "MAX_POSITION_QUANTITY", f"venue={VENUE}", "1", "2", "1.5",
        ]  # fmt: skip
        assert (await front.submit("b", quantity="0.5")).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        shown = (await front.risk.ListLimits(risk.ListLimitsRequest(), timeout=5)).limits
        assert [(row.limit, row.used, row.set_by) for row in shown] == [("1.5", "1.5", "ann")]


async def test_repeat_of_an_accepted_key_gets_its_first_result_though_the_limit_is_reached(broker: Broker) -> None:
    """Also when the order ended long ago and no view shows it, and at a router that never saw it."""
    async with served(broker) as gateways, fronted(broker, gateways) as front:
        first = await front.submit("a")
        await front.limit(MAX_OPEN, "0")
        assert (await front.submit("a")).replayed
        await front.orders.CancelOrder(
            wire.CancelOrderRequest(reference=wire.OrderReference(account_id=MAIN, venue=VENUE, client_order_id="a")),
            timeout=5,
        )
        async with fronted(broker, gateways) as other:
            again = await other.submit("a")
            assert (again.replayed, again.order.order_id) == (True, first.order.order_id)
            assert (await other.refused("new")).reason is Reason.RISK_LIMIT_REACHED


async def test_concurrent_submits_at_two_routers_cannot_pass_a_limit_together(broker: Broker) -> None:
    """Forty orders race for five places through two routers; five win, everywhere and at the venue."""
    venue = fake_venue()
    async with served(broker, venue) as gateways, fronted(broker, gateways) as one, fronted(broker, gateways) as two:
        await one.limit(MAX_OPEN, "5")
        await until(lambda: two.router.risk.desk.parts.ledger.limits)
        calls = [
            front.submit(f"{name}-{number}") for number in range(20) for name, front in (("one", one), ("two", two))
        ]
        results = await asyncio.gather(*calls, return_exceptions=True)
        taken = [result for result in results if isinstance(result, wire.SubmitOrderResponse)]
        assert len(taken) == len(open_at(venue)) == 5
        assert all(isinstance(result, wire.SubmitOrderResponse | grpc.aio.AioRpcError) for result in results)
        # Each becomes its order's own claim, and nothing stays reserved.
        await until(lambda: not len(one.book) and not len(two.book))
        for front in (one, two):
            assert (await front.state()).limits[0].used == "5"


async def test_order_of_unknown_outcome_keeps_its_room_until_its_gateway_says_it_has_none(broker: Broker) -> None:
    """The answer is lost on the way; the room is free again when the gateway, asked later, has no such order."""
    gateway = Scripted("only")
    asked = asyncio.Event()

    async def hang(request: Any, context: Any) -> Any:
        await asyncio.Event().wait()

    async def find(request: Any, context: Any) -> Any:
        asked.set()
        raise OrderNotFound("no such order")

    gateway.on["SubmitOrder"], gateway.on["GetOrder"] = hang, find
    bounds = {"reserve_s": 3.0}
    async with gateways_of(gateway), running(broker.url, gateway, risk=FAST, gateway=bounds) as (router, channel):
        front = Front(router, OrderServiceStub(channel), RiskServiceStub(channel))
        await front.limit(MAX_OPEN, "1")
        request = submit_request("a", venue="only", order_type=order_pb2.ORDER_TYPE_MARKET)
        answer = await front.orders.SubmitOrder(request, timeout=4)
        assert answer.outcome == wire.SUBMIT_OUTCOME_UNKNOWN
        held = await refusal(front.orders.SubmitOrder(submit_request("b", venue="only"), timeout=10))
        assert held.reason is Reason.RISK_LIMIT_REACHED
        await until(lambda: not len(front.book))
        assert asked.is_set()


async def test_room_of_an_order_that_never_reached_its_gateway_is_given_back(broker: Broker) -> None:
    """A router dies between reservation and send: another one asks the gateway once the sender's time is over."""
    async with served(broker) as gateways, fronted(broker, gateways) as front:
        await front.limit(MAX_OPEN, "1")
        async with fronted(broker, gateways) as dying:
            await until(lambda: dying.router.risk.desk.parts.ledger.limits)
            dying.router.risk.desk._settings = dying.router.risk.desk._settings.model_copy(update={"grace_s": 1e6})
            await dying.router.risk.desk.take([new_order("never-sent", venue=VENUE)])
        await until(lambda: len(front.book) == 1)
        assert (await front.refused("early")).reason is Reason.RISK_LIMIT_REACHED
        for row in front.book.outstanding():
            row.expires_unix_nanos = 0
        await until(lambda: not len(front.book))
        assert (await front.submit("late")).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED


async def test_router_that_starts_late_knows_what_others_hold_though_the_log_was_cut(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every third message tells everything outstanding; what is before it may be gone."""
    monkeypatch.setattr(risk_log, "COMPLETE_EVERY", 2)
    async with served(broker) as gateways, fronted(broker, gateways) as front:
        await front.limit(MAX_OPEN, "20")
        desk = front.router.risk.desk
        for number in range(7):
            await desk.take([new_order(f"held-{number}", venue=VENUE)])
            await front.submit(f"sent-{number}")
        await until(lambda: len(front.book) == 7)
        newest = await front.router.bus.last(RESERVATION_STREAM, RESERVATION_SUBJECT)
        assert newest is not None
        async with fronted(broker, gateways) as other:
            assert {row.client_order_id for row in other.book.outstanding()} >= {f"held-{n}" for n in range(7)}
            await other.router.risk.desk.take([new_order("late", venue=VENUE)])
            await until(lambda: len(front.book) == 8)
            await until(lambda: len(other.book) == 8)


async def test_reservation_whose_confirmation_was_lost_is_given_back(broker: Broker) -> None:
    """The broker stores it and its answer does not come: the caller hears that nothing was sent, and nothing stays."""
    async with served(broker) as gateways, fronted(broker, gateways) as front, fronted(broker, gateways) as other:
        await front.limit(MAX_OPEN, "1")
        await until(lambda: other.router.risk.desk.parts.ledger.limits)
        log = front.router.risk.desk.parts.log
        append = log._bus.append_after

        async def lost(subject: str, payload: bytes, last_sequence: int) -> int:
            await append(subject, payload, last_sequence)
            raise JournalUnavailable("the answer was lost")

        log._bus.append_after = lost  # type: ignore[method-assign]
        # Given back once the sender's time is over, so that is short.
        sending = front.orders.SubmitOrder(wire.SubmitOrderRequest(order=new_order("a", venue=VENUE)), timeout=3)
        error = await refusal(sending)
        log._bus.append_after = append  # type: ignore[method-assign]
        assert (error.reason, error.sent) == (Reason.JOURNAL_UNAVAILABLE, Sent.NO)
        await until(lambda: other.book.seen > 0)
        await until(lambda: not len(other.book) and not len(front.book))
        assert (await other.submit("b")).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED


async def test_order_while_the_view_is_stale_is_refused_and_reduce_only_and_cancels_pass(broker: Broker) -> None:
    """The account's gateway says that it lost its venue: no guess about its room."""
    venue = fake_venue()
    async with served(broker, venue) as gateways, fronted(broker, gateways) as front:
        await front.limit(MAX_OPEN, "9")
        await front.submit("resting")
        stale = front.router.risk.desk.parts.ledger.stale
        stale[(VENUE, MAIN)] = "scripted"
        error = await front.refused("a")
        assert (error.reason, error.sent) == (Reason.RISK_VIEW_STALE, Sent.NO)
        passed = await front.submit("b", side=order_pb2.SIDE_SELL, price="200", instructions=[REDUCE_ONLY])
        assert passed.outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        reference = wire.OrderReference(account_id=MAIN, venue=VENUE, client_order_id="resting")
        cancel = await front.orders.CancelOrder(wire.CancelOrderRequest(reference=reference), timeout=5)
        assert cancel.outcome == wire.CANCEL_OUTCOME_CANCELED


async def test_lost_gateway_makes_its_account_stale_and_its_return_makes_it_current(broker: Broker) -> None:
    """The stream goes on behind its last event."""
    venue = fake_venue()
    async with served(broker, venue) as gateways, fronted(broker, gateways) as front:
        ledger = front.router.risk.desk.parts.ledger
        venue.go_down()
        await until(lambda: (VENUE, MAIN) in ledger.stale)
        venue.go_up()
        await until(lambda: (VENUE, MAIN) not in ledger.stale)


async def test_amendment_that_adds_too_much_is_refused_and_one_within_the_limit_passes(broker: Broker) -> None:
    """What it adds counts; what it makes smaller never is refused."""
    async with served(broker) as gateways, fronted(broker, gateways) as front:
        await front.limit(MAX_POSITION, "2", scope={"symbol": BTC})
        await front.submit("a")
        reference = wire.OrderReference(account_id=MAIN, venue=VENUE, client_order_id="a")

        async def amend(key: str, quantity: str) -> wire.ReplaceOrderResponse:
            request = wire.ReplaceOrderRequest(reference=reference, request_id=key, quantity=quantity)
            answer: wire.ReplaceOrderResponse = await front.orders.ReplaceOrder(request, timeout=5)
            return answer

        error = await refusal(amend("r1", "2.5"))
        assert (error.reason, error.metadata["after"]) == (Reason.RISK_LIMIT_REACHED, "2.5")
        assert (await amend("r2", "1.5")).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        await until(lambda: not len(front.book))
        assert (await front.refused("b")).reason is Reason.RISK_LIMIT_REACHED
        assert (await amend("r3", "0.5")).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED


async def test_batch_refuses_what_has_no_room_and_sends_the_rest_each_in_its_place(broker: Broker) -> None:
    """The refused element has the reason; the others are live."""
    venue = fake_venue()
    async with served(broker, venue) as gateways, fronted(broker, gateways) as front:
        await front.limit(MAX_QUANTITY, "1")
        orders = [new_order(f"b{n}", venue=VENUE, quantity=quantity) for n, quantity in enumerate(("1", "2", "0.5"))]
        answer = await front.orders.BatchSubmitOrders(wire.BatchSubmitOrdersRequest(orders=orders), timeout=5)
        assert [row.WhichOneof("result") for row in answer.results] == ["response", "error", "response"]
        assert answer.results[1].error.error.message.startswith("MAX_ORDER_QUANTITY")
        assert len(open_at(venue)) == 2


async def test_price_collar_and_notional_follow_the_live_mark(broker: Broker) -> None:
    """The mark is read for the first order and followed from then on."""
    async with served(broker) as gateways, fronted(broker, gateways) as front:
        await front.limit(risk_pb2.RISK_LIMIT_TYPE_PRICE_COLLAR_BPS, "500")
        await front.limit(risk_pb2.RISK_LIMIT_TYPE_MAX_ORDER_NOTIONAL, "1000")
        error = await front.refused("a", price="94.5")
        assert (error.metadata["limit_type"], error.metadata["after"]) == ("PRICE_COLLAR_BPS", "550")
        assert (await front.refused("b", quantity="11")).metadata["limit_type"] == "MAX_ORDER_NOTIONAL"
        assert (await front.submit("c", price="95")).outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED


async def test_free_margin_that_the_venue_does_not_tell_is_no_free_margin(broker: Broker) -> None:
    """Sufficient capital is proved or refused."""
    async with served(broker) as gateways, fronted(broker, gateways) as front:
        await front.limit(risk_pb2.RISK_LIMIT_TYPE_MIN_FREE_MARGIN, "0")
        assert (await front.refused("a")).reason is Reason.RISK_VIEW_STALE
        front.router.risk.desk.parts.ledger.free_margin[(VENUE, MAIN)] = Decimal("0.01")
        assert (await front.refused("a")).reason is Reason.INSUFFICIENT_MARGIN


async def test_limit_of_another_version_is_not_changed(broker: Broker) -> None:
    """STATE_VERSION_CONFLICT; a repeat of a change whose answer was lost is answered as the first."""
    async with served(broker) as gateways, fronted(broker, gateways) as front:
        assert (await front.limit(MAX_OPEN, "5", expected_version=0)).version == 1
        assert (await front.limit(MAX_OPEN, "5", expected_version=0)).version == 1
        conflict = await refusal(front.limit(MAX_OPEN, "6", expected_version=0))
        assert (conflict.reason, conflict.field) == (Reason.STATE_VERSION_CONFLICT, "expected_version")
        assert (await front.limit(MAX_OPEN, "6", expected_version=1)).version == 2
        await front.limit(MAX_OPEN, None, expected_version=2)
        assert not (await front.state()).limits
        assert (await front.limit(MAX_OPEN, "7", expected_version=0)).version == 4


async def test_bad_limits_are_refused_by_field(broker: Broker) -> None:
    """Each with the field at fault."""
    async with served(broker) as gateways, fronted(broker, gateways) as front:
        faults: list[MeshError] = [
            await refusal(front.limit(0, "1")),
            await refusal(front.limit(99, "1")),
            await refusal(front.limit(MAX_OPEN, "-1")),
            await refusal(front.limit(MAX_OPEN, "1.5")),
            await refusal(front.limit(MAX_OPEN, "1,5")),
            await refusal(front.limit(MAX_OPEN, "1", scope={"venue": "nowhere"})),
            await refusal(front.risk.UpdateLimit(risk.UpdateLimitRequest(limit_type=MAX_OPEN, reason="r"), timeout=5)),
            await refusal(
                front.risk.UpdateLimit(risk.UpdateLimitRequest(limit_type=MAX_OPEN, operator="o"), timeout=5)
            ),
        ]
        assert [fault.field for fault in faults] == [
            "limit_type", "limit_type", "limit", "limit", "limit", "scope.venue", "operator", "reason",
        ]  # fmt: skip
