"""A call's context whose writes are counted, for handlers that write by themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class CountedWrites:
    """The context of a call; `count` is called after each message was taken by the transport."""

    def __init__(self, context: Any, count: Callable[[], None]) -> None:
        self._context = context
        self._count = count

    async def write(self, message: Any) -> None:
        """Send a message; returns once the transport has room for the next."""
        await self._context.write(message)
        self._count()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)
