"""Names of the contract that a generated client of another language could not compile."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import import_module
from pkgutil import iter_modules

from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor

import venuemesh.v1


def contract_files() -> Iterator[FileDescriptor]:
    for module in iter_modules(venuemesh.v1.__path__):
        if module.name.endswith("_pb2"):
            yield import_module(f"venuemesh.v1.{module.name}").DESCRIPTOR


def with_nested(messages: Iterable[Descriptor]) -> Iterator[Descriptor]:
    for message in messages:
        yield message
        yield from with_nested(message.nested_types)


def java_extras(field: FieldDescriptor) -> set[str]:
    """Field names whose Java accessors protoc already makes for `field`."""
    kinds = {"bytes"} if field.type == FieldDescriptor.TYPE_STRING else set()
    if field.type == FieldDescriptor.TYPE_ENUM:
        kinds.add("value")
    if field.is_repeated:
        kinds |= {"count", "list"}
    if field.type == FieldDescriptor.TYPE_MESSAGE:
        kinds |= {"builder", "or_builder"}
    return {f"{field.name}_{kind}" for kind in kinds}


def test_no_two_fields_of_a_message_have_the_same_accessor_in_java() -> None:
    """A string `request` beside a field `request_bytes` gives two methods getRequestBytes()."""
    clashes = [
        f"{message.full_name}.{field.name}"
        for file in contract_files()
        for message in with_nested(file.message_types_by_name.values())
        for field in message.fields
        if java_extras(field) & {other.name for other in message.fields}
    ]
    assert clashes == []
