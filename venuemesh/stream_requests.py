"""What a caller sends on a stream of requests, message by message: read, counted and held to its grant.

A message that is refused raises and does not end the stream: whoever serves it may answer that one and read on. Where
the messages are requests of other methods, each in a field of the oneof `body`, each is admitted as that method's call:
its rate, its scope, its accounts and venues.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from google.protobuf.descriptor import Descriptor

from venuemesh.clock import Clock
from venuemesh.security.door import Door, permit
from venuemesh.security.grants import Grant

BODY = "body"


@dataclass(frozen=True, slots=True)
class Element:
    """One kind of message on a stream of requests.

    Args:
        door: what its contents are held to; None where they name nothing, or everybody is admitted.
        counted: whether it is one more call of its caller. `safety`: of those that make things safer.
        method: the method whose request it is; empty where it is none's.
    """

    method: str
    door: Door | None
    counted: bool
    safety: bool


def elements_of(
    stream: str,
    request: Descriptor | None,
    methods: Mapping[str, Descriptor],
    *,
    safety: frozenset[str],
    door_of: Callable[[str, Descriptor], Door | None],
) -> Mapping[str, Element]:
    """The kinds of message of a stream by field of its `body`; empty where it has no such oneof.

    Args:
        stream: full name of the streaming method, `request` the type of its messages.
        methods: request types by full name of method.
        safety: full names of methods that make things safer.
        door_of: the door of a method for requests of a type.
    """
    if request is None or BODY not in request.oneofs_by_name:
        return {}
    by_type = {kind.full_name: name for name, kind in methods.items() if name != stream}
    found: dict[str, Element] = {}
    for field in request.oneofs_by_name[BODY].fields:
        if field.message_type is None:
            continue
        method = by_type.get(field.message_type.full_name, "")
        door = door_of(method or stream, field.message_type)
        if door is not None and door.rules is not None and not (door.rules.accounts or door.rules.venues):
            # A sign of life names nothing and can reach nothing.
            door = None
        found[field.name] = Element(method, door, counted=bool(method), safety=method in safety)
    return found


class StreamRequests:
    """The messages of one call, as an iterator that goes on behind a refusal.

    Args:
        source: raw messages. `parse`: reads one, or raises MeshError.
        door, grant: of the call; for messages that are no element.
        count: takes one call of the caller's rate, or raises RateLimited; told whether it is one for safety.
    """

    def __init__(
        self,
        source: AsyncIterable[Any],
        *,
        parse: Callable[[Any], Any],
        door: Door | None,
        grant: Grant | None,
        elements: Mapping[str, Element],
        count: Callable[[bool], None],
        clock: Clock,
    ) -> None:
        self._source = aiter(source)
        self._parse = parse
        self._door = door
        self._grant = grant
        self._elements = elements
        self._count = count
        self._clock = clock

    def __aiter__(self) -> Self:
        return self

    async def aclose(self) -> None:
        """Let go of the source; nobody may be waiting for a message."""
        if isinstance(self._source, AsyncGenerator):
            await self._source.aclose()

    async def __anext__(self) -> Any:
        """The next message.

        Raises:
            MeshError: this one is refused; the next may be asked for.
        """
        request = self._parse(await anext(self._source))
        if not self._elements:
            return permit(self._door, self._grant, request)
        field = request.WhichOneof(BODY)
        element = self._elements.get(field) if field else None
        if element is None:
            return request
        if element.counted:
            self._count(element.safety)
        if element.door is not None:
            if self._grant is not None and element.method:
                self._grant.require(element.method, element.door.scope, self._clock.now_ns())
            permit(element.door, self._grant, getattr(request, field))
        return request
