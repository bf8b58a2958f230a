"""Requests on a socket that have no answer yet: how many there may be, and which are lost with a connection. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from venuemesh.errors import RateLimited, Reason

Key = TypeVar("Key")

CANCEL_RESERVE: Final = 10
"""Places that only cancels may use."""

ABANDONED_TTL_S: Final = 120.0
"""How long a request nobody waits for still holds its place: the venue may count it as long as it has not answered."""


@dataclass(slots=True)
class _Request:
    tag: object
    epoch: int | None = None  # the connection that carried it; None while it is being written
    abandoned_s: float | None = None


class InFlight(Generic[Key]):
    """Open requests by the id that their answers carry.

    Args:
        what: the requests' plural name, for people.
        most: how many the venue takes without an answer.
        cancel_reserve: of these, how many only cancels may use.
    Raises:
        ValueError: the reserve leaves nothing.
    """

    def __init__(self, what: str, *, most: int, cancel_reserve: int = CANCEL_RESERVE) -> None:
        if not 0 <= cancel_reserve < most:
            raise ValueError(f"of {most} {what} in flight, {cancel_reserve} cannot be reserved for cancels")
        self.most = most
        self.cancel_reserve = cancel_reserve
        self._what = what
        self._requests: dict[Key, _Request] = {}
        self._ended_epoch = 0

    def __len__(self) -> int:
        return len(self._requests)

    def open(self, key: Key, *, now_s: float, is_cancel: bool = False, tag: object = None) -> None:
        """A new request takes a place; nothing is sent by this.

        Args:
            now_s: monotonic seconds, to forget what was abandoned long ago.
            tag: comes back with the answer.
        Raises:
            RateLimited: too many in flight; cancels have places of their own.
        """
        self._forget_old(now_s)
        ceiling = self.most if is_cancel else self.most - self.cancel_reserve
        if len(self._requests) >= ceiling:
            raise RateLimited(
                f"{len(self._requests)} {self._what} are in flight, at most {ceiling} may be",
                reason=Reason.RATE_LIMIT_LOCAL,
                retry_after_s=0.1,
            )
        self._requests[key] = _Request(tag)

    def not_sent(self, key: Key) -> None:
        """It certainly did not leave: free its place."""
        self._requests.pop(key, None)

    def written(self, key: Key, epoch: int) -> bool:
        """It left on this connection. False when that connection is over and no answer came: lost."""
        request = self._requests.get(key)
        if request is None:
            return True  # answered before the write returned
        if epoch <= self._ended_epoch:
            del self._requests[key]
            return False
        request.epoch = epoch
        return True

    def abandon(self, key: Key, now_s: float) -> None:
        """Nobody waits any more; the answer, should it come, is late."""
        if request := self._requests.get(key):
            request.abandoned_s = now_s

    def answered(self, key: Key) -> tuple[bool, object]:
        """An answer came: whether it is late, and the tag of its request; a late copy has none."""
        request = self._requests.pop(key, None)
        if request is None:
            return True, None
        return request.abandoned_s is not None, request.tag

    def disconnected(self, epoch: int) -> list[Key]:
        """A connection ended: frees what it carried, and tells of it what somebody still waits for.

        A request still being written is not among them: its writer learns from the transport whether it left.
        """
        self._ended_epoch = max(self._ended_epoch, epoch)
        lost = []
        for key, request in list(self._requests.items()):
            if request.epoch is not None and request.epoch <= epoch:
                del self._requests[key]
                if request.abandoned_s is None:
                    lost.append(key)
        return lost

    def _forget_old(self, now_s: float) -> None:
        if len(self._requests) < self.most - self.cancel_reserve:
            return
        for key, request in list(self._requests.items()):
            if request.abandoned_s is not None and now_s - request.abandoned_s >= ABANDONED_TTL_S:
                del self._requests[key]
