"""Work done once for all readers of a stream: bodies encoded once, pending states merged once.

A thousand readers of one topic are handed the same objects. What differs between their messages is the header, some
thirty bytes; the body is encoded when its first reader is served, and its bytes are put behind each header.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import grpc
from google.protobuf.message import Message

from venuemesh.streaming import Respond, responder
from venuemesh.v1 import stream_pb2

T = TypeVar("T")
R = TypeVar("R", bound=Message)

CAPACITY = 256
_LENGTH_DELIMITED = 2


class Once(Generic[T]):
    """Results of a function of objects that do not change any more, by the objects' identity.

    Args:
        capacity: results kept; the oldest goes first, and is made again if it is asked for.
    """

    def __init__(self, make: Callable[..., T], *, capacity: int = CAPACITY) -> None:
        self.made = 0
        self._make = make
        self._capacity = capacity
        self._known: OrderedDict[tuple[int, ...], tuple[tuple[Any, ...], T]] = OrderedDict()

    def __call__(self, *objects: Any) -> T:
        key = tuple(map(id, objects))
        known = self._known.get(key)
        if known is not None:
            return known[1]
        result = self._make(*objects)
        self.made += 1
        # The objects are kept with it, so that no other can get their identity.
        self._known[key] = (objects, result)
        if len(self._known) > self._capacity:
            self._known.popitem(last=False)
        return result


class EncodedResponse:
    """A response of which only the header is encoded for its reader; serializes as the message it stands for."""

    __slots__ = ("body", "header")

    def __init__(self, header: stream_pb2.StreamHeader, body: bytes) -> None:
        self.header = header
        self.body = body

    def SerializeToString(self) -> bytes:  # noqa: N802 - as a message does
        """The bytes of the response; fields in the order of their numbers, the header's being 1."""
        header = self.header.SerializeToString()
        return b"".join((b"\x0a", _varint(len(header)), header, self.body))


def encoding_responder(response: type[R], fields: Callable[[Any], dict[str, Any]]) -> Respond[Any]:
    """Like `venuemesh.streaming.responder`, with the published values encoded once for all readers.

    `response` has the header as field 1; values must not change once they are published.
    """
    plain: Respond[Any] = responder(response, fields)
    numbers = {field.name: field.number for field in response.DESCRIPTOR.fields}
    control = (
        stream_pb2.StreamAcknowledgement,
        stream_pb2.StreamHeartbeat,
        stream_pb2.StreamClosing,
        stream_pb2.StreamStatus,
    )

    def encode(value: Any) -> bytes:
        ((name, message),) = fields(value).items()
        payload: bytes = message.SerializeToString()
        return _varint(numbers[name] << 3 | _LENGTH_DELIMITED) + _varint(len(payload)) + payload

    once = Once(encode)

    def respond(header: stream_pb2.StreamHeader, body: Any) -> Any:
        return plain(header, body) if isinstance(body, control) else EncodedResponse(header, once(body))

    return respond


def add_encoding(add: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """The generated `add_<Service>Servicer_to_server`, for a servicer that may yield `EncodedResponse`."""

    def add_to(servicer: Any, server: Any) -> None:
        add(servicer, _StreamsEncoded(server))

    return add_to


class _StreamsEncoded:
    """A server as the generated code sees it, which puts its own serializer into server streams."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Left to `add_registered_method_handlers`, which names the methods."""

    def add_registered_method_handlers(self, service: str, handlers: dict[str, Any]) -> None:
        """Hand the methods on."""
        wrapped = {name: _encoding(handler) for name, handler in handlers.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, wrapped),))


def _encoding(handler: Any) -> Any:
    if handler.request_streaming or not handler.response_streaming:
        return handler
    return grpc.unary_stream_rpc_method_handler(
        handler.unary_stream, request_deserializer=handler.request_deserializer, response_serializer=_serialize
    )


def _serialize(response: Any) -> bytes:
    encoded: bytes = response.SerializeToString()
    return encoded


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)
