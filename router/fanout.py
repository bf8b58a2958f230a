"""One question to every venue at once: what each answered, and what is said about those that did not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from router.venues import VenueLink
from venuemesh.errors import GatewayUnavailable, MeshError, Reason, Sent

T = TypeVar("T")

UNREACHED = "x-venuemesh-unreached"
"""Trailing metadata of an answer that lacks a venue: one entry per venue, "venue: reason"."""
NOT_HERE = frozenset({Reason.ACCOUNT_NOT_FOUND, Reason.INSTRUMENT_NOT_FOUND, Reason.ORDER_NOT_FOUND})
"""Refusals that answer the question: this venue has none of it."""
_MAX_SHOWN = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers(Generic[T]):
    """What came back, by venue name in order of names."""

    given: Mapping[str, T]
    failed: Mapping[str, MeshError] = field(default_factory=dict)

    @property
    def unreached(self) -> list[str]:
        """Venues whose part is missing, each as "venue: reason"."""
        return [
            f"{venue}: {error.reason}: {error.message}"
            for venue, error in self.failed.items()
            if error.reason not in NOT_HERE
        ]

    def require_any(self) -> None:
        """Return when at least one venue answered.

        Raises:
            MeshError: the reason all venues share, or else GatewayUnavailable with every venue's own.
        """
        if self.given or not self.failed:
            return
        missing = [error for error in self.failed.values() if error.reason not in NOT_HERE]
        if not missing:
            raise next(iter(self.failed.values()))
        if len({error.reason for error in missing}) == 1 and len(missing) == len(self.failed):
            raise missing[0]
        sent = Sent.NO if all(error.sent is Sent.NO for error in missing) else Sent.MAYBE
        raise GatewayUnavailable("; ".join(self.unreached), sent=sent, metadata=self.reasons())

    def reasons(self) -> dict[str, str]:
        """The reason of every failure, by venue."""
        return {venue: error.reason.value for venue, error in self.failed.items()}


async def ask_all(
    links: Iterable[VenueLink],
    ask: Callable[[VenueLink], Awaitable[T]],
    *,
    skip_down: bool = True,
    first: bool = False,
) -> Answers[T]:
    """Ask every venue at once and wait for all; each is bounded by the deadline of the call.

    Args:
        skip_down: do not wait for a venue whose last attempt to connect just failed.
        first: one answer is enough: the rest is no longer waited for, and is missing from both parts.
    """

    async def one(link: VenueLink) -> T | MeshError:
        if skip_down and link.known_down:
            return link.unreachable("not connected")
        try:
            return await ask(link)
        except MeshError as error:
            return error

    async with asyncio.TaskGroup() as tasks:
        asked = {link.name: tasks.create_task(one(link), name=f"ask/{link.name}") for link in links}
        if first:
            await _first_given(list(asked.values()))
    given: dict[str, T] = {}
    failed: dict[str, MeshError] = {}
    for venue in sorted(asked):
        if asked[venue].cancelled():
            continue
        result = asked[venue].result()
        if isinstance(result, MeshError):
            failed[venue] = result
        else:
            given[venue] = result
    return Answers(given=given, failed=failed)


async def _first_given(tasks: list[asyncio.Task[Any]]) -> None:
    """Wait for an answer that is none of failure, then cancel the rest."""
    waiting: set[asyncio.Task[Any]] = set(tasks)
    while waiting:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if any(task.exception() is not None or not isinstance(task.result(), MeshError) for task in done):
            for task in waiting:
                task.cancel()
            return


def tell_unreached(context: Any, unreached: Iterable[str]) -> None:
    """Name the venues that an answer lacks in its trailing metadata."""
    entries = tuple((UNREACHED, _header_text(entry)) for entry in unreached)
    if entries:
        context.set_trailing_metadata(entries)


def _header_text(text: str) -> str:
    return "".join(char if " " <= char <= "~" else "?" for char in text[:_MAX_SHOWN])
