"""A stream as a person watches it: resumed when it breaks, until Ctrl-C or enough was seen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from venuemesh.cli.exits import Exit
from venuemesh.cli.failure import exit_of
from venuemesh.cli.link import Link
from venuemesh.cli.session import Session
from venuemesh.errors import MeshError
from venuemesh.v1 import stream_pb2

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0


async def follow(session: Session, link: Link, make: Callable[[], Any], answer: type[Any]) -> AsyncGenerator[Any, None]:
    """Messages of a stream, across reconnects.

    Args:
        make: the request for the next connection, with its resume position.
    Raises:
        MeshError: the first connection failed, or the service refuses for another reason than being away.
    """
    pause_s, began = FIRST_PAUSE_S, False
    while True:
        try:
            async with aclosing(link.stream(make(), answer)) as messages:
                async for message in messages:
                    began, pause_s = True, FIRST_PAUSE_S
                    yield message
                    if message.WhichOneof("body") == "closing":
                        _tell(session, message.closing)
                        pause_s = max(pause_s, message.closing.reconnect_after.ToNanoseconds() / 1e9)
                        break
        except MeshError as error:
            if not began or exit_of(error) is not Exit.UNAVAILABLE:
                raise
            session.out.note(f"{link.name} is away ({error}); trying again")
        await asyncio.sleep(min(pause_s, LONGEST_PAUSE_S))
        pause_s *= 2


def _tell(session: Session, closing: Any) -> None:
    reason = stream_pb2.ClosingReason.Name(closing.reason).removeprefix("CLOSING_REASON_")
    session.out.note(f"the stream was closed ({reason}); connecting again")
