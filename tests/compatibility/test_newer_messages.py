"""A newer caller and a newer gateway meet over this router: what it does not know, it passes on unchanged."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import grpc.aio
import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from clients.service_config import contract_services
from tests.broker import Broker
from tests.compatibility.newer import MARK, NEW_NUMBER, NewerGateway, newer
from tests.compatibility.test_old_client import baseline
from tests.integration.router.support import running

ROUNDS = 6
CALL_LIMIT_S = 60.0
MERGED = {"BatchSubmitOrders": "results", "BatchCancelOrders": "results", "ListSubscribers": "subscribers"}
"""Methods whose answer the router puts together of its gateways' answers, and the field whose elements it passes on."""
SESSION = "OpenOrderSession"
"""Asked and answered by turns: no call of one request."""
JOINS_A_SESSION = "SubmitOrder"
"""Names a session of the router's own, if it names one: nothing to pass on."""
OF_THE_ROUTER = "SetCircuitBreaker"
"""The router's own: what it does would keep the calls behind it from the gateway."""
OF_GATEWAYS = ("AccountService", "InstrumentService", "MarketDataService", "OrderService", "ReconciliationService")
"""Services of which every method goes to a gateway."""
OF_BOTH = ("OperationsService", "VenueService")
"""Services of which some do."""


def methods() -> Iterator[MethodDescriptor]:
    """What is called."""
    for service in contract_services():
        if service.name in (*OF_GATEWAYS, *OF_BOTH):
            yield from (method for method in service.methods if method.name not in (SESSION, OF_THE_ROUTER))


def passed_since_the_baseline() -> set[str]:
    """Methods that must reach the gateway, by the contract as it was."""

    def services() -> Iterator[descriptor_pb2.ServiceDescriptorProto]:
        for file in baseline().file:
            yield from (service for service in file.service if service.name in OF_GATEWAYS)

    return {method.name for service in services() for method in service.method} - {SESSION}


async def call(channel: grpc.aio.Channel, path: str, request: bytes) -> bytes:
    """The first message of the answer, as bytes."""
    running_call = channel.stream_stream(path)(iter([request]), timeout=CALL_LIMIT_S)
    try:
        answer = await running_call.read()
    finally:
        running_call.cancel()
    assert isinstance(answer, bytes), f"{path} ended without an answer"
    return answer


def again(kind: type[Message], raw: bytes) -> bytes:
    """The same message in the one order that makes bytes comparable."""
    return kind.FromString(raw).SerializeToString(deterministic=True)


def messages(method: MethodDescriptor, draw: random.Random) -> tuple[Any, Any]:
    """A request and an answer of the newer contract; a batch has a result per element."""
    request: Any = newer(GetMessageClass(method.input_type), draw)
    if method.name == JOINS_A_SESSION:
        request.session_id = ""
    answer = newer(GetMessageClass(method.output_type), draw)
    asked = next((field for field in ("orders", "references") if hasattr(request, field)), None)
    if method.name in MERGED and asked is not None:
        results = getattr(answer, MERGED[method.name])
        kind = type(results[0])
        del results[:]
        results.extend(newer(kind, draw) for _ in getattr(request, asked))
    return request, answer


def test_made_messages_hold_what_no_message_of_ours_does() -> None:
    """The round would prove nothing with messages that are all known."""
    (method,) = (one for one in methods() if one.name == "SubmitOrder")
    requests = [messages(method, random.Random(seed))[0] for seed in range(ROUNDS)]
    assert all(MARK in one.SerializeToString() and MARK in one.order.SerializeToString() for one in requests)
    assert any(one.ack_level == NEW_NUMBER for one in requests)
    assert any(NEW_NUMBER in one.order.instructions for one in requests)


@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_unknown_fields_and_enum_numbers_pass_the_router_unchanged(broker: Broker, seed: int) -> None:
    """Every method that reaches a gateway: the request arrives and the answer returns as they were sent."""
    gateway = NewerGateway()
    await gateway.start()
    behind: Any = gateway
    refused: dict[str, str] = {}
    reached: set[str] = set()
    try:
        async with running(broker.url, behind) as (_, channel):
            for method in methods():
                try:
                    if await passes(method, gateway, channel, seed):
                        reached.add(method.name)
                except grpc.aio.AioRpcError as error:
                    refused[method.name] = f"{error.code().name}: {error.details()}"
    finally:
        await gateway.kill()
    missing = passed_since_the_baseline() - reached
    assert not missing, {name: refused.get(name, "answered by the router itself") for name in sorted(missing)}


async def passes(method: MethodDescriptor, gateway: NewerGateway, channel: grpc.aio.Channel, seed: int) -> bool:
    """Call a method and compare both ways; False when the router answered itself."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    request, answer = messages(method, random.Random(f"{seed} {path}"))
    gateway.answers[path] = [answer.SerializeToString(deterministic=True)]
    returned = await call(channel, path, request.SerializeToString(deterministic=True))
    if path not in gateway.requests:
        return False
    arrived = again(type(request), gateway.requests[path])
    assert arrived == request.SerializeToString(deterministic=True), f"the request of {path}"
    if method.name in MERGED:
        field = MERGED[method.name]
        elements = list(getattr(type(answer).FromString(returned), field))
        assert elements == list(getattr(answer, field)), f"the answer of {path}"
    else:
        assert again(type(answer), returned) == answer.SerializeToString(deterministic=True), f"the answer of {path}"
    return True
