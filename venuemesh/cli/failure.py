"""A failed call, for people and for scripts: reason, message, what to do, and the exit code. Pure."""

from __future__ import annotations

from typing import Any

import grpc

from venuemesh.cli.advice import advice
from venuemesh.cli.exits import Exit
from venuemesh.errors import MeshError, Sent

_AWAY = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
}
_FAULTS = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS}


def in_doubt(error: MeshError) -> bool:
    """Whether the call may have taken effect at a venue."""
    return error.sent is not Sent.NO


def exit_of(error: MeshError) -> Exit:
    """The exit code of a command that ended with this error."""
    if in_doubt(error):
        return Exit.UNKNOWN
    if error.code in _AWAY:
        return Exit.UNAVAILABLE
    return Exit.FAULT if error.code in _FAULTS else Exit.REFUSED


_HEADS = {
    Exit.REFUSED: "refused",
    Exit.UNKNOWN: "outcome unknown",
    Exit.UNAVAILABLE: "unavailable",
    Exit.FAULT: "fault",
}


def head(error: MeshError) -> str:
    """The first words."""
    return f"{_HEADS[exit_of(error)]}: {word_of(error)}"


def word_of(error: MeshError) -> str:
    """The reason; a newer server's own word where this release does not know it."""
    return error.metadata.get("reason", error.reason.value)


def facts(error: MeshError) -> list[tuple[str, str]]:
    """Everything the error tells, as rows: message first, what to do last."""
    rows = [("why", str(error))]
    if error.field:
        rows.append(("field", error.field))
    rows += [(key.replace("_", " "), value) for key, value in error.metadata.items() if key != "reason"]
    if error.retry_after_s is not None:
        rows.append(("try again in", f"{error.retry_after_s:g} s"))
    rows.append(("sent", error.sent.value))
    do = advice(word_of(error))
    return [*rows, ("do", do)] if do else rows


def as_json(error: MeshError) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "error": {
            "code": error.code.name,
            "reason": word_of(error),
            "message": str(error),
            "sent": error.sent.value,
            "field": error.field,
            "retryAfterSeconds": error.retry_after_s,
            "metadata": dict(error.metadata),
            "advice": advice(word_of(error)),
            "exit": int(exit_of(error)),
        }
    }
