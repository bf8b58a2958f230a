"""How much time a call has left, and who asked: carried along the tasks that serve it.

Python's gRPC does not pass deadlines on by itself: the server interceptor stores what the caller gave,
`remaining_s` tells it anywhere below, and `venuemesh.channels` hands it on, less a reserve.
"""

from __future__ import annotations

from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass

from venuemesh.clock import Clock
from venuemesh.errors import DeadlineTooShort
from venuemesh.security import grants
from venuemesh.security.passing import set_caller_token

REQUEST_ID = "x-request-id"
"""Metadata key of the id that all calls made for one request carry."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """A point on a clock's monotonic scale."""

    clock: Clock
    at_s: float

    def remaining_s(self) -> float:
        """Seconds left; below zero once passed."""
        return self.at_s - self.clock.monotonic_s()


_deadline: ContextVar[Deadline | None] = ContextVar("venuemesh_deadline", default=None)
_request_id: ContextVar[str | None] = ContextVar("venuemesh_request_id", default=None)


def remaining_s() -> float | None:
    """Seconds the current call has left, below zero once passed; None when nothing bounds it."""
    deadline = _deadline.get()
    return None if deadline is None else deadline.remaining_s()


def require_remaining(needed_s: float) -> None:
    """Refuse before anything is sent when the call has less than `needed_s` left.

    Raises:
        DeadlineTooShort: `sent` = no.
    """
    left_s = remaining_s()
    if left_s is not None and left_s < needed_s:
        raise DeadlineTooShort(
            f"{max(left_s, 0.0):.3f} s left, {needed_s:.3f} s needed",
            metadata={"remaining_s": f"{max(left_s, 0.0):.3f}", "needed_s": f"{needed_s:.3f}"},
        )


def set_deadline(deadline: Deadline | None) -> None:
    """Bound what the current task does from here on; None lifts the bound."""
    _deadline.set(deadline)


def request_id() -> str | None:
    """The id of the call being served; None outside one."""
    return _request_id.get()


def set_request_id(value: str) -> None:
    """Name the call that the current task serves."""
    _request_id.set(value)


def background_context() -> Context:
    """For `create_task(..., context=background_context())`: work that outlives the call it began in.

    A task copies the context of its creator, so without this it would keep the deadline of a call that is
    long over, and everything it tried would be refused for lack of time; and it would act under the caller's token
    for everybody. Trace and request id stay.
    """
    context = copy_context()
    context.run(_deadline.set, None)
    context.run(set_caller_token, None)
    context.run(grants.set_current, None)
    return context
