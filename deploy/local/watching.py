"""Reading a server stream until something is seen."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

REMEMBERED = 5


class StepFailed(Exception):
    """A step of the walk did not answer as it must; the text says what was seen instead."""


class Watch:
    """One call that streams; ends it when the block ends.

    Args:
        call: a started call with a `timeout`, which bounds all waiting.
    """

    def __init__(self, call: Any) -> None:
        self._call = call
        self._seen: deque[str] = deque(maxlen=REMEMBERED)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call.cancel()

    async def until(self, wanted: Callable[[Any], bool], what: str) -> Any:
        """The first message that is `wanted`; those before it are dropped.

        Args:
            what: is being waited for, for the failure.
        Raises:
            StepFailed: the stream ended first, by an error, its time-out or a closing message.
        """
        try:
            while (message := await self._call.read()) is not grpc.aio.EOF:
                if wanted(message):
                    return message
                kind = message.WhichOneof("body") or "empty"
                self._seen.append(kind)
                if kind == "closing":
                    raise StepFailed(f"waited for {what}, but the stream closed: {message.closing}")
        except grpc.aio.AioRpcError as failure:
            raise StepFailed(
                f"waited for {what}: {failure.code().name} {failure.details()}; {self._last()}"
            ) from failure
        raise StepFailed(f"waited for {what}, but the stream ended; {self._last()}")

    def _last(self) -> str:
        return f"last messages: {', '.join(self._seen) or 'none'}"
