"""Which order sessions are open at this gateway. Pure.

A session that is not in the book is gone, also one of a process before, and an order that says that it ends with its
session must be cancelled then. So nothing but the orders themselves has to be durable.
"""

from __future__ import annotations

from dataclasses import dataclass

from venuemesh.errors import SessionGone


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session whose caller holds its lease."""

    account_id: str
    cancel_on_disconnect: bool


class SessionBook:
    """The open sessions by id; as many as streams may be open."""

    def __init__(self) -> None:
        self._open: dict[str, OpenSession] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, session_id: str) -> bool:
        return session_id in self._open

    def open(self, session_id: str, session: OpenSession) -> None:
        """Orders may join it from here on."""
        assert session_id not in self._open, "an id is made for one session"
        self._open[session_id] = session

    def close(self, session_id: str) -> OpenSession | None:
        """It is gone for good; None where it was before."""
        return self._open.pop(session_id, None)

    def cancels(self, session_id: str) -> bool:
        """Whether orders that join it end with it."""
        session = self._open.get(session_id)
        return session is not None and session.cancel_on_disconnect

    def refusal(self, session_id: str, account_id: str) -> SessionGone | None:
        """Why an order of the account cannot join; None when it can, or names no session."""
        if not session_id:
            return None
        session = self._open.get(session_id)
        if session is not None and session.account_id == account_id:
            return None
        return SessionGone(
            f"session_id: no order session {session_id[:64]!r} of account {account_id!r} is open; nothing was sent",
            field="session_id",
            metadata={"session_id": session_id[:64], "account_id": account_id},
        )
