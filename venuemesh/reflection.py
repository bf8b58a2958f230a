"""gRPC server reflection v1 and v1alpha from one implementation.

grpcurl asks for v1 first; `grpcio-reflection` serves v1alpha only. The two protocols differ in nothing but
the package name, so the same servicer answers under both, and the v1 descriptor is the v1alpha one with the
name changed: `describe grpc.reflection.v1.ServerReflection` works too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import aio as reflection_aio

V1ALPHA = "grpc.reflection.v1alpha.ServerReflection"
V1 = "grpc.reflection.v1.ServerReflection"
_V1_FILE = "grpc/reflection/v1/reflection.proto"


def add_reflection(server: grpc.aio.Server, services: Iterable[str], *, pool: DescriptorPool | None = None) -> None:
    """Serve reflection of `services`, and of reflection itself, on `server`.

    Args:
        services: full names; their descriptors must be in `pool`.
        pool: protobuf's default one when None.
    """
    pool = pool or descriptor_pool.Default()
    _add_v1_descriptor(pool)
    servicer = reflection_aio.ReflectionServicer({*services, V1, V1ALPHA}, pool=_Symbols(pool))
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        tuple(grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": handler}) for name in (V1, V1ALPHA))
    )


class _Symbols:
    """A pool that also finds a method by its name, which protobuf's does not: `describe some.Service.Method`."""

    def __init__(self, pool: DescriptorPool) -> None:
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802 - protobuf's name
        """The file that a symbol stands in. Raises KeyError: there is none."""
        try:
            return self._pool.FindFileContainingSymbol(symbol)
        except KeyError:
            service, _, method = symbol.rpartition(".")
            descriptor = self._pool.FindServiceByName(service)
            if method not in descriptor.methods_by_name:
                raise
            return descriptor.file


def _add_v1_descriptor(pool: DescriptorPool) -> None:
    try:
        pool.FindFileByName(_V1_FILE)
    except KeyError:
        pass
    else:
        return
    proto = FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(proto)
    old, proto.package = f".{proto.package}.", "grpc.reflection.v1"
    proto.name = _V1_FILE
    new = f".{proto.package}."
    for message in proto.message_type:
        # Setting the type name of a plain field, even to "", would make it a broken reference.
        for message_field in (each for each in message.field if each.type_name):
            message_field.type_name = message_field.type_name.replace(old, new)
    for method in proto.service[0].method:
        method.input_type = method.input_type.replace(old, new)
        method.output_type = method.output_type.replace(old, new)
    pool.AddSerializedFile(proto.SerializeToString())
