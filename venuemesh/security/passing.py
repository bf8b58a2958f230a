"""The token of the call being served, handed on to the services called for it."""

from __future__ import annotations

from contextvars import ContextVar

_token: ContextVar[str | None] = ContextVar("venuemesh_caller_token", default=None)


def caller_token() -> str | None:
    """The caller's `authorization`, to be shown to the next service; None outside a call or without one."""
    return _token.get()


def set_caller_token(value: str | None) -> None:
    """Hand this on from here; None hands on nothing."""
    _token.set(value)
