"""What operators ask of the whole mesh: audit entries of all venues by time, dead letters of all services."""

from __future__ import annotations

from typing import Any

import grpc.aio

from tests.broker import Broker
from tests.fakes import ManualClock
from tests.integration.router.support import Gateway, gateways, refused, running
from venuemesh.bus import Bus, BusOptions
from venuemesh.dead_letters import DeadLetters, Unhandled
from venuemesh.errors import Reason
from venuemesh.serving import GrpcServer
from venuemesh.subjects import EVENT_STREAM, ROOT
from venuemesh.v1 import operations_pb2, operations_service_pb2, operations_service_pb2_grpc

SERVICE = operations_service_pb2.DESCRIPTOR.services_by_name["OperationsService"]


class AuditedGateway(Gateway):
    """A gateway with entries of its own, newest first, in pages."""

    def __init__(self, venue: str, seconds: list[int]) -> None:
        super().__init__(venue)
        self.entries = [operations_pb2.AuditEntry(venue=venue, audit_entry_id=f"{venue}-{at}") for at in seconds]
        for entry, at in zip(self.entries, seconds, strict=True):
            entry.request_time.seconds = at

    def add_services(self, server: GrpcServer) -> None:
        super().add_services(server)
        add = operations_service_pb2_grpc.add_OperationsServiceServicer_to_server
        server.add(SERVICE, add, _Operations(self))


class _Operations(operations_service_pb2_grpc.OperationsServiceServicer):
    def __init__(self, gateway: AuditedGateway) -> None:
        self._gateway = gateway

    async def ListAuditEntries(self, request: Any, context: Any) -> Any:
        begin, size = int(request.page_token or 0), request.page_size or 100
        rows = self._gateway.entries[begin : begin + size]
        more = begin + size < len(self._gateway.entries)
        return operations_service_pb2.ListAuditEntriesResponse(
            audit_entries=rows, next_page_token=str(begin + size) if more else ""
        )


def operations(channel: grpc.aio.Channel) -> Any:
    return operations_service_pb2_grpc.OperationsServiceStub(channel)


async def test_audit_entries_of_all_venues_come_in_order_of_time_page_by_page(broker: Broker) -> None:
    """P9: each once, newest first over all venues; of the venue named, as its gateway gives them."""
    one, two = AuditedGateway("one", [90, 70, 50, 30]), AuditedGateway("two", [80, 60, 40, 20, 10])
    async with gateways(one, two), running(broker.url, one, two) as (_, channel):
        request, seen = operations_service_pb2.ListAuditEntriesRequest(page_size=2), []
        while True:
            page = await operations(channel).ListAuditEntries(request, timeout=5)
            seen += [entry.request_time.seconds for entry in page.audit_entries]
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        named = operations_service_pb2.ListAuditEntriesRequest(venue="two")
        answer = await operations(channel).ListAuditEntries(named, timeout=5)
    assert seen == [90, 80, 70, 60, 50, 40, 30, 20, 10]
    assert [entry.request_time.seconds for entry in answer.audit_entries] == [80, 60, 40, 20, 10]


async def test_router_shows_dead_letters_of_all_services_and_puts_one_back(broker: Broker) -> None:
    """Over gRPC, by number, once; an unknown number is NOT_FOUND."""
    gateway = Gateway("only")
    name = f"{ROOT}.fill.only.main.BTC"
    async with (
        gateways(gateway),
        running(broker.url, gateway) as (_, channel),
        Bus.connect(BusOptions(servers=[broker.url], name="test")) as bus,
    ):
        for handler in ("aggregator", "gateway_only"):
            payload = handler.encode()
            sequence = await bus.publish(name, payload)
            await DeadLetters(bus, ManualClock(), handler=handler).bury(
                Unhandled(
                    name=(handler,),
                    subject=name,
                    payload=payload,
                    error="unreadable",
                    source_stream=EVENT_STREAM,
                    source_sequence=sequence,
                )
            )
        listed = await operations(channel).ListDeadLetters(operations_service_pb2.ListDeadLettersRequest(), timeout=5)
        assert [letter.handler for letter in listed.dead_letters] == ["aggregator", "gateway_only"]
        request = operations_service_pb2.RequeueDeadLetterRequest(
            stream_sequence=listed.dead_letters[1].stream_sequence, operator="ana"
        )
        answers = [await operations(channel).RequeueDeadLetter(request, timeout=5) for _ in range(2)]
        assert [(answer.subject, answer.already_requeued) for answer in answers] == [(name, False), (name, True)]
        stored = [message.payload async for message in bus.replay(EVENT_STREAM, [name])]
        assert stored == [b"aggregator", b"gateway_only", b"gateway_only"]
        unknown = operations_service_pb2.RequeueDeadLetterRequest(stream_sequence=99)
        error = await refused(operations(channel).RequeueDeadLetter(unknown, timeout=5))
        assert (error.reason, error.field) == (Reason.DEAD_LETTER_NOT_FOUND, "stream_sequence")
