"""Batches over several venues: one call per venue, every element answered in its place."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from venuemesh.errors import InvalidRequest, MeshError, OutcomeUnknown

T = TypeVar("T")

MAX_BATCH = 200


def by_venue(venues: Sequence[str]) -> dict[str, list[int]]:
    """Places of the elements of each venue, in order; elements without a venue under ""."""
    groups: dict[str, list[int]] = {}
    for place, venue in enumerate(venues):
        groups.setdefault(venue, []).append(place)
    return groups


def check_size(count: int, field: str) -> None:
    """Refuse a batch of more than 200.

    Raises:
        InvalidRequest: names the field.
    """
    if count > MAX_BATCH:
        raise InvalidRequest(f"{field}: {count} elements, at most {MAX_BATCH} are taken", field=field)


async def gather_places(
    jobs: Mapping[tuple[int, ...], Callable[[], Awaitable[Sequence[T]]]],
    *,
    failed: Callable[[int, MeshError], T],
    lost: Callable[[int], T],
) -> list[T]:
    """Run the jobs at once; each answers the places it names.

    Args:
        jobs: by the places of the request a job answers, which it must in that order.
        failed: result of a place whose job was refused as a whole.
        lost: result of a place whose job's answer was lost or is missing.
    """
    results: dict[int, T] = {}

    async def run(places: tuple[int, ...], job: Callable[[], Awaitable[Sequence[T]]]) -> None:
        try:
            answered = await job()
        except OutcomeUnknown:
            results.update((place, lost(place)) for place in places)
        except MeshError as error:
            results.update((place, failed(place, error)) for place in places)
        else:
            for index, place in enumerate(places):
                results[place] = answered[index] if index < len(answered) else lost(place)

    async with asyncio.TaskGroup() as tasks:
        for places, job in jobs.items():
            tasks.create_task(run(places, job), name=f"batch/{places[0]}")
    return [results[place] for place in sorted(results)]


def with_elements(request: Any, field: str, places: Sequence[int]) -> Any:
    """A copy of a batch with only the elements at `places`; everything else of it stays."""
    part = type(request)()
    part.CopyFrom(request)
    chosen = [getattr(request, field)[place] for place in places]
    part.ClearField(field)
    getattr(part, field).extend(chosen)
    return part
