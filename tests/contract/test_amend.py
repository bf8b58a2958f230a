"""Amendments, as the venue's capability record has them."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import grpc
import pytest

from tests.contract.client import CALL_S, GTC, LIMIT, POST_ONLY, Client
from tests.contract.numbers import off_tick, plain
from tests.contract.refusals import KNOWN_VENUE_REASONS, reason_of, refused
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as wire
from venuemesh.v1 import venue_pb2


async def replace(client: Client, order: pb.Order, **changes: Any) -> wire.ReplaceOrderResponse:
    """Amend an order, under a new request id unless one is given."""
    changes.setdefault("request_id", client.key())
    request = wire.ReplaceOrderRequest(reference=client.by_id(order_id=order.order_id), **changes)
    answer: wire.ReplaceOrderResponse = await client.orders.ReplaceOrder(request, timeout=CALL_S)
    return answer


def amends(client: Client) -> bool:
    """Whether the venue changes working orders at all."""
    return client.capabilities.amend_mode != venue_pb2.AMEND_MODE_NONE


def needs_amend(client: Client) -> None:
    """Skip where the record says that there is nothing to test."""
    if not amends(client):
        pytest.skip("the venue cannot amend")


async def test_amendment_is_refused_by_name_where_the_venue_has_none(client: Client) -> None:
    """And works where it has."""
    order = await client.rest()
    price = client.price(Decimal(order.terms.price) * Decimal("0.99"))
    if amends(client):
        answer = await replace(client, order, price=price)
        assert answer.outcome == wire.SUBMIT_OUTCOME_ACKNOWLEDGED
        return
    refusal = await refused(replace(client, order, price=price))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.UNIMPLEMENTED, "NOT_SUPPORTED_BY_VENUE")
    assert refusal.sent == "no"


async def test_amended_order_keeps_its_ids_and_has_its_new_terms(client: Client) -> None:
    """The caller's id and ours stay; the venue's may change, and the former ones still name the order."""
    needs_amend(client)
    quote = await client.quote()
    order = await client.rest()
    price = client.price(Decimal(order.terms.price) * Decimal("0.99"))
    quantity = client.quantity(quote, times=2)
    answer = await replace(client, order, price=price, quantity=quantity)
    assert (answer.outcome, answer.replayed) == (wire.SUBMIT_OUTCOME_ACKNOWLEDGED, False)
    now = answer.order
    assert (now.order_id, now.terms.client_order_id) == (order.order_id, order.terms.client_order_id)
    assert (now.terms.price, now.terms.quantity, now.leaves_quantity) == (price, quantity, quantity)
    assert (now.working, now.pending_replace, now.status) == (True, False, pb.ORDER_STATUS_NEW)
    assert now.order_version > order.order_version
    assert now.venue_order_ids[: len(order.venue_order_ids)] == order.venue_order_ids
    anew = client.capabilities.amend_mode == venue_pb2.AMEND_MODE_CANCEL_REPLACE
    assert (len(now.venue_order_ids) > len(order.venue_order_ids)) == anew
    for name in now.venue_order_ids:
        request = wire.GetOrderRequest(reference=client.by_id(venue_order_id=name))
        assert (await client.orders.GetOrder(request, timeout=CALL_S)).order.order_id == order.order_id
    canceled = await client.cancel(client.by_id(venue_order_id=now.venue_order_ids[0]))
    assert canceled.outcome == wire.CANCEL_OUTCOME_CANCELED


async def test_amendment_under_the_same_request_id_is_made_once(client: Client) -> None:
    """Again and at once: one amendment; with other content it is refused."""
    needs_amend(client)
    order = await client.rest()
    price = client.price(Decimal(order.terms.price) * Decimal("0.99"))
    key = client.key()
    answers = await asyncio.gather(*(replace(client, order, request_id=key, price=price) for _ in range(3)))
    assert sorted(answer.replayed for answer in answers) == [False, True, True]
    assert {answer.outcome for answer in answers} == {wire.SUBMIT_OUTCOME_ACKNOWLEDGED}
    late = await replace(client, order, request_id=key, price=price)
    assert late.replayed
    assert late.order.order_version == max(answer.order.order_version for answer in answers)
    refusal = await refused(replace(client, order, request_id=key, price=order.terms.price))
    assert (refusal.reason, refusal.fields, refusal.sent) == ("CLIENT_ORDER_ID_REUSED", ["request_id"], "no")


async def test_amendment_of_another_version_is_refused(client: Client) -> None:
    """What was decided on an older state changes nothing."""
    needs_amend(client)
    order = await client.rest()
    price = client.price(Decimal(order.terms.price) * Decimal("0.99"))
    refusal = await refused(replace(client, order, price=price, expected_version=order.order_version + 7))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.ABORTED, "STATE_VERSION_CONFLICT")
    assert refusal.sent == "no"
    assert (await client.order(order.terms.client_order_id)).terms.price == order.terms.price


async def test_amendment_that_breaks_a_rule_is_refused_before_it_is_sent(client: Client) -> None:
    """The same rules as for a submit, and the order stands as before."""
    needs_amend(client)
    order = await client.rest()
    bad = off_tick(Decimal(order.terms.price), client.instrument.price_rule)
    cases: list[tuple[dict[str, Any], str, str]] = [
        ({}, "REQUIRED_FIELD_MISSING", "quantity"),
        ({"quantity": "0"}, "QUANTITY_NOT_POSITIVE", "quantity"),
        ({"quantity": "1.0"}, "INVALID_DECIMAL", "quantity"),
        ({"price": "-1"}, "PRICE_NOT_POSITIVE", "price"),
        ({"price": plain(bad)}, "PRICE_OFF_TICK", "order.price"),
        ({"trigger_price": "1"}, "CONTRADICTORY_FIELDS", "trigger_price"),
        ({"request_id": "", "price": order.terms.price}, "REQUIRED_FIELD_MISSING", "request_id"),
        ({"request_id": "x" * 37, "price": order.terms.price}, "INVALID_CLIENT_ORDER_ID", "request_id"),
    ]
    for changes, reason, field in cases:
        refusal = await refused(replace(client, order, **changes))
        assert (refusal.reason, refusal.sent) == (reason, "no"), changes
        assert refusal.fields in ([field], [field.removeprefix("order.")]), (changes, refusal)
    now = await client.order(order.terms.client_order_id)
    assert (now.working, now.order_version) == (True, order.order_version)


async def test_amendment_the_venue_refuses_leaves_the_terms(client: Client) -> None:
    """A resting post-only order moved through the market: a rejection with a known reason."""
    needs_amend(client)
    if not client.offers(LIMIT, GTC, POST_ONLY):
        pytest.skip("the venue lists no post-only")
    order = await client.rest(instructions=[POST_ONLY])
    answer = await replace(client, order, price=client.through(await client.quote()))
    assert answer.outcome == wire.SUBMIT_OUTCOME_REJECTED, answer
    assert reason_of(answer.reject) in KNOWN_VENUE_REASONS
    now = await client.order(order.terms.client_order_id)
    assert now.terms.price == order.terms.price
    assert not now.pending_replace
    assert now.filled_quantity == "0"


async def test_amendment_of_an_order_that_is_gone_is_refused(client: Client) -> None:
    """It cannot be changed in its state; an unknown one is not found."""
    needs_amend(client)
    order = await client.rest()
    await client.cancel(client.by_id(order_id=order.order_id))
    refusal = await refused(replace(client, order, price=order.terms.price))
    assert (refusal.code, refusal.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "ORDER_NOT_WORKING")
    assert refusal.sent == "no"
    unknown = pb.Order(order_id="0" * 32)
    assert (await refused(replace(client, unknown, price="1"))).reason == "ORDER_NOT_FOUND"
