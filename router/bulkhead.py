"""Keeps a venue that does not answer from filling the router: a bound for each kind of call to each venue."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from venuemesh.errors import RateLimited


class Bulkhead:
    """How many calls of one kind one venue may hold at once; a further one is refused at once, not queued.

    Args:
        limit: what is counted, in the plural.
    """

    def __init__(self, venue: str, limit: str, size: int) -> None:
        self._venue = venue
        self._limit = limit
        self.size = size
        """May change: calls that are held beyond it stay."""
        self.held = 0

    @property
    def full(self) -> bool:
        """Whether the next call would be refused."""
        return self.held >= self.size

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold a place for the block.

        Raises:
            RateLimited: all places are taken; nothing was sent.
        """
        if self.full:
            raise RateLimited(
                f"{self.size} {self._limit} are in flight to {self._venue}",
                retry_after_s=0.1,
                metadata={"limit": self._limit, "venue": self._venue, "value": str(self.size)},
            )
        self.held += 1
        try:
            yield
        finally:
            self.held -= 1
