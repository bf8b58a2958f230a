"""What waits for one reader of a stream: a bounded queue that keeps every message or only the latest states. Pure.

A message either counts for itself (`slot` None) or is a state that a newer one of the same slot replaces. Under
EVERY_EVENT slots mean nothing. Time is passed in, in monotonic seconds.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Hashable
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")

DEFAULT_CAPACITY = 2_000


class Entry(NamedTuple, Generic[T]):
    """One message of a topic, shared by all its readers.

    Args:
        value: what is sent.
        sequence: number of the state it leads to in the source's own numbering; 0 where each stream numbers itself.
        published_ns: wall clock when it was published.
        key: what subscribers select by, such as the symbol; None reaches all.
        slot: a newer entry of the same slot may replace this one; None when it must be delivered.
        partial: more entries of the same sequence follow at once; only the last of them moves a reader's position, so
            that one who leaves in between gets all of them again.
    """

    value: T
    sequence: int = 0
    published_ns: int = 0
    key: Hashable = None
    slot: Hashable = None
    partial: bool = False


class StreamQueue(Generic[T]):
    """Messages in order, at most `capacity` of them; more end the stream, none is dropped in silence.

    An entry without a slot never overtakes nor is overtaken: the states pending before it are made final and go
    out ahead of it.

    Args:
        capacity: entries waiting at once, of both kinds together.
        interval_s: None keeps every entry; 0 keeps the latest of each slot; above 0 gives the latest of each slot at
            most once in so many seconds.
        merge: combines the pending state and the newer one; the newer one wins when None.
    """

    def __init__(
        self,
        *,
        capacity: int = DEFAULT_CAPACITY,
        interval_s: float | None = None,
        merge: Callable[[T, T], T] | None = None,
    ) -> None:
        self.overflowed = False
        """More arrived than fits; the queue is empty from then on and takes nothing until `restart`."""
        self.conflated = 0
        """States replaced by newer ones before the reader took them."""
        self._capacity = capacity
        self._interval_s = interval_s
        self._merge = merge
        self._ready: deque[Entry[T]] = deque()
        self._pending: dict[Hashable, Entry[T]] = {}
        self._due: list[tuple[float, int, Hashable]] = []
        self._last: dict[Hashable, float] = {}
        self._count = 0

    def __len__(self) -> int:
        return len(self._ready) + len(self._pending)

    def put(self, entry: Entry[T], now_s: float) -> bool:
        """Queue `entry`; never blocks, never raises. Returns whether a reader that waits must look again: not when
        the entry took the place of a pending one, which is due when that was."""
        if self.overflowed:
            return False
        if self._interval_s is None or entry.slot is None:
            self._settle()
            self._ready.append(entry)
        elif self._replace(entry):
            return False
        else:
            self._pend(entry, self._interval_s, now_s)
        if len(self) > self._capacity:
            self._clear()
            self.overflowed = True
        return True

    def pop(self, now_s: float) -> Entry[T] | None:
        """The next entry that may go out now; None when there is none."""
        if self._ready:
            return self._ready.popleft()
        if not self._due or self._due[0][0] > now_s:
            return None
        _, _, slot = heapq.heappop(self._due)
        self._remember(slot, now_s)
        return self._pending.pop(slot)

    def due_in(self, now_s: float) -> float | None:
        """Seconds until `pop` has something; None when nothing waits."""
        if self._ready:
            return 0.0
        return max(0.0, self._due[0][0] - now_s) if self._due else None

    def restart(self) -> None:
        """Empty, and open again after an overflow: for a reader that catches up from a history."""
        self._clear()
        self.overflowed = False

    def _replace(self, entry: Entry[T]) -> bool:
        old = self._pending.get(entry.slot)
        if old is None:
            return False
        if self._merge is not None:
            value = self._merge(old.value, entry.value)
            entry = entry._replace(value=value)
        self._pending[entry.slot] = entry
        self.conflated += 1
        return True

    def _pend(self, entry: Entry[T], interval_s: float, now_s: float) -> None:
        due_s = max(now_s, self._last.get(entry.slot, now_s - interval_s) + interval_s)
        self._count += 1
        heapq.heappush(self._due, (due_s, self._count, entry.slot))
        self._pending[entry.slot] = entry

    def _settle(self) -> None:
        """Move pending states behind what is ready; they can no longer be replaced."""
        while self._due:
            _, _, slot = heapq.heappop(self._due)
            self._ready.append(self._pending.pop(slot))

    def _remember(self, slot: Hashable, now_s: float) -> None:
        if not self._interval_s:
            return
        self._last[slot] = now_s
        if len(self._last) > self._capacity:
            oldest_s = now_s - self._interval_s
            self._last = {slot: at_s for slot, at_s in self._last.items() if at_s > oldest_s}

    def _clear(self) -> None:
        self._ready.clear()
        self._pending.clear()
        self._due.clear()
        self._last.clear()
