"""What may be done with each method follows from what the contract declares."""

from __future__ import annotations

from typing import Any

import grpc.aio
import pytest

from router.call_rules import RULES, rule_of
from router.calls import cancel, read
from venuemesh.channels import open_channel
from venuemesh.v1 import options_pb2, order_service_pb2, order_service_pb2_grpc


def test_only_reads_and_idempotent_writes_may_be_repeated() -> None:
    """Whoever adds a method decides with its `repeat`; nothing here lists names."""
    orders = order_service_pb2.DESCRIPTOR.services_by_name["OrderService"]
    for method in orders.methods:
        rule = RULES[f"/{orders.full_name}/{method.name}"]
        repeat = method.GetOptions().Extensions[options_pb2.policy].repeat
        assert rule.repeatable == (repeat in (options_pb2.REPEAT_READ, options_pb2.REPEAT_IDEMPOTENT))
        assert rule.is_read == (repeat == options_pb2.REPEAT_READ)


def test_what_makes_orders_is_judged_and_never_repeated_or_hedged() -> None:
    """So a change of the contract cannot make a submit go out twice."""
    makers = [rule for rule in RULES.values() if rule.makes_orders]
    assert {rule.name for rule in makers} == {
        "OrderService/SubmitOrder",
        "OrderService/SubmitOrderList",
        "OrderService/BatchSubmitOrders",
    }
    assert all(rule.judged and not rule.repeatable and not rule.hedged for rule in makers)
    assert all(rule.is_read for rule in RULES.values() if rule.hedged)


async def test_submit_asked_for_as_a_read_or_cancel_is_refused_before_it_is_called() -> None:
    """A mistake in code ends here, not at a venue."""
    channel = open_channel("127.0.0.1:1")
    try:
        stub: Any = order_service_pb2_grpc.OrderServiceStub(channel)
        link: Any = object()
        for call in (read, cancel):
            with pytest.raises(TypeError, match="SubmitOrder may not be repeated"):
                await call(link, stub.SubmitOrder, order_service_pb2.SubmitOrderRequest())
        assert rule_of(stub.CancelOrder).repeatable and isinstance(channel, grpc.aio.Channel)
    finally:
        await channel.close()
