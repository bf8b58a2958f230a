"""Messages of a contract newer than ours, and a gateway that speaks it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2

from tests.integration.router.support import ACCOUNT, SYMBOL, capabilities, instrument
from venuemesh.v1 import instrument_service_pb2, order_pb2, venue_pb2, venue_service_pb2

VENUE = "only"
NEW_NUMBER = 9999
"""No enum of the contract has it."""
MARK = b"\xfa\x3f\x05newer"
"""Field 1023, length-delimited, in every message made here and in none of ours."""
# Fields 1000 to 1022 of every wire type: varint, 64 bits, a string with a message inside, 32 bits.
_NEW_FIELDS = (b"\xc0\x3e\x96\x01", b"\xc9\x3e12345678", b"\xd2\x3e\x04\x0a\x02hi", b"\xdd\x3e1234", b"\xe0\x3e\x00")
MAX_DEPTH = 4
# What the router itself reads of a request must make sense; the rest is drawn.
_MEANINGFUL: dict[str, Any] = {
    "account_id": ACCOUNT,
    "venue": VENUE,
    "symbol": SYMBOL,
    "quantity": "1",
    "price": "100",
    "side": order_pb2.SIDE_BUY,
    "order_type": order_pb2.ORDER_TYPE_LIMIT,
    "time_in_force": order_pb2.TIME_IN_FORCE_GTC,
}
_TEXT = "abcdefghijklmnopqrstuvwxyz0123456789"


def newer(kind: type[Message], draw: random.Random) -> Any:
    """A message with new fields and new enum numbers at every level, and drawn values in known fields."""
    message = kind()
    _fill(message, draw, depth=0)
    return message


def _fill(message: Any, draw: random.Random, *, depth: int) -> None:
    descriptor: Descriptor = message.DESCRIPTOR
    if descriptor.full_name in ("google.protobuf.Timestamp", "google.protobuf.Duration"):
        message.seconds, message.nanos = draw.randrange(2**31), draw.randrange(10**9)
        return
    chosen = {oneof.name: draw.choice(oneof.fields).name for oneof in descriptor.oneofs if len(oneof.fields) > 1}
    for field in descriptor.fields:
        owner = field.containing_oneof
        if owner is not None and chosen.get(owner.name, field.name) != field.name:
            continue
        if field.message_type is not None:
            _fill_message(message, field, draw, depth=depth)
        elif field.is_repeated:
            getattr(message, field.name).extend(_value(field, draw) for _ in range(draw.randrange(3)))
        else:
            setattr(message, field.name, _MEANINGFUL.get(field.name) or _value(field, draw))
    new = draw.sample(_NEW_FIELDS, k=draw.randint(1, len(_NEW_FIELDS)))
    message.MergeFromString(b"".join([*new, MARK]))


def _fill_message(message: Any, field: FieldDescriptor, draw: random.Random, *, depth: int) -> None:
    assert field.message_type is not None
    if field.message_type.GetOptions().map_entry:
        getattr(message, field.name)[_text(draw)] = _text(draw)
    elif depth >= MAX_DEPTH or (depth and draw.random() < 0.3):
        return
    elif field.is_repeated:
        for _ in range(draw.randint(1, 2)):
            _fill(getattr(message, field.name).add(), draw, depth=depth + 1)
    else:
        _fill(getattr(message, field.name), draw, depth=depth + 1)


def _value(field: FieldDescriptor, draw: random.Random) -> Any:
    if field.enum_type is not None:
        return draw.choice([NEW_NUMBER, *(value.number for value in field.enum_type.values)])
    if field.type == FieldDescriptor.TYPE_STRING:
        return _text(draw)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return draw.randbytes(5)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return draw.random() < 0.5
    return draw.randrange(2**31)


def _text(draw: random.Random) -> str:
    return "".join(draw.choices(_TEXT, k=8))


class NewerGateway(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Keeps the bytes of every call that carries MARK and answers with bytes it was given; else a plain gateway."""

    def __init__(self) -> None:
        self.venue = VENUE
        self.requests: dict[str, bytes] = {}
        """Of each method, what arrived last."""
        self.answers: dict[str, list[bytes]] = {}
        """Of each method, the messages to answer with."""
        self.address = ""
        self._server = grpc.aio.server()
        self._server.add_generic_rpc_handlers((self,))

    async def start(self) -> None:
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        await self._server.start()

    async def kill(self) -> None:
        await self._server.stop(None)

    def service(self, handler_call_details: Any) -> Any:
        method: str = handler_call_details.method

        async def handle(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
            request = await anext(requests)
            if MARK in request:
                self.requests[method] = request
                for answer in self.answers[method]:
                    yield answer
                return
            answers, stays = _plain_answers(method)
            if not answers:
                await context.abort(grpc.StatusCode.UNIMPLEMENTED, method)
            for one in answers:
                yield one.SerializeToString()
            if stays:
                await asyncio.Event().wait()

        return grpc.stream_stream_rpc_method_handler(handle)


def _plain_answers(method: str) -> tuple[list[Message], bool]:
    """What the router asks a gateway of itself, and whether the stream stays open."""
    serving = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
    status = venue_pb2.VenueStatus(venue=VENUE, state=venue_pb2.VENUE_STATE_TRADING)
    venue = venue_pb2.Venue(venue=VENUE, account_ids=[ACCOUNT], capabilities=capabilities(), status=status)
    known: dict[str, tuple[list[Message], bool]] = {
        "/grpc.health.v1.Health/Check": ([serving], False),
        "/grpc.health.v1.Health/Watch": ([serving], True),
        "/venuemesh.v1.VenueService/GetVenue": ([venue_service_pb2.GetVenueResponse(venue=venue)], False),
        "/venuemesh.v1.VenueService/StreamVenueStatus": (
            [venue_service_pb2.StreamVenueStatusResponse(venue_status=status)],
            True,
        ),
        "/venuemesh.v1.InstrumentService/ListInstruments": (
            [instrument_service_pb2.ListInstrumentsResponse(instruments=[instrument(VENUE)])],
            False,
        ),
    }
    return known.get(method, ([], False))
