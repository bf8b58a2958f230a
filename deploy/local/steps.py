"""What every step of a walk does: call, demand, tell."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import grpc.aio

from deploy.local.watching import StepFailed
from venuemesh.status import error_from_rpc
from venuemesh.v1 import error_pb2, order_service_pb2

CALL_TIMEOUT_S: Final = 5.0


class Say(Protocol):
    """Takes one line of the story."""

    def __call__(self, line: str, /) -> None: ...


def tell(say: Say, step: str, text: str) -> None:
    """One line: the step's name, then what was seen."""
    say(f"  {step:<15} {text}")


async def call(method: Callable[..., Awaitable[Any]], request: Any) -> Any:
    """The answer.

    Raises:
        StepFailed: it was an error, told in words.
    """
    try:
        return await method(request, timeout=CALL_TIMEOUT_S)
    except grpc.aio.AioRpcError as failure:
        error = error_from_rpc(failure, is_write=False)
        name = type(request).__name__.removesuffix("Request")
        raise StepFailed(f"{name} failed with {failure.code().name}, {error.reason}: {error.message}") from failure


def require(holds: bool, otherwise: str) -> None:
    """Raise StepFailed with `otherwise` unless it holds."""
    if not holds:
        raise StepFailed(otherwise)


def why(reply: Any) -> str:
    """Outcome of a submit, with the reason where it was refused."""
    outcome = word(order_service_pb2.SubmitOutcome, reply.outcome)
    if not reply.HasField("reject"):
        return outcome
    reason = word(error_pb2.Reason, reply.reject.reason)
    return f"{outcome}, {reason}: {reply.reject.message or reply.reject.venue_text}"


def word(enum: Any, number: int) -> str:
    """`FILLED` for ORDER_STATUS_FILLED; the number where this client is older than the server."""
    if number not in enum.values():
        return str(number)
    name = str(enum.Name(number))
    zero = str(enum.Name(0))
    return name.removeprefix(zero.removesuffix("UNSPECIFIED"))
