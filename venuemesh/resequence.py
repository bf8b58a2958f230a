"""Puts numbered messages back into order. Pure.

A resend after a broker fault can store a message a little behind its successors, or twice. Early ones are held back
until the missing one comes; repeats are dropped.
"""

from __future__ import annotations

from typing import Generic, TypeVar

T = TypeVar("T")


class Resequencer(Generic[T]):
    """Holds at most `capacity` early messages; beyond that the gap is given up and named."""

    def __init__(self, last: int, *, capacity: int = 512) -> None:
        self.last = last
        """Number of the last message released."""
        self.skipped: list[tuple[int, int]] = []
        """Gaps given up, each as first and last missing number."""
        self._capacity = capacity
        self._early: dict[int, T] = {}

    @property
    def held(self) -> int:
        """Messages held back."""
        return len(self._early)

    def push(self, number: int, message: T) -> list[T]:
        """Take a message; returns what can be released now, in order."""
        if number <= self.last or number in self._early:
            return []
        self._early[number] = message
        released = self._release()
        while len(self._early) > self._capacity:
            released += self._give_up_gap()
        return released

    def drain(self) -> list[T]:
        """Release everything, giving up the gaps between: when no more messages can come."""
        released: list[T] = []
        while self._early:
            released += self._give_up_gap()
        return released

    def _release(self) -> list[T]:
        released = []
        while (message := self._early.pop(self.last + 1, None)) is not None:
            released.append(message)
            self.last += 1
        return released

    def _give_up_gap(self) -> list[T]:
        first = min(self._early)
        self.skipped.append((self.last + 1, first - 1))
        self.last = first - 1
        return self._release()
