"""What a REST read is asked with: typed parameters, whose account the token may read, pages. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from simulator.lighter.accounts import LighterAccount
from simulator.lighter.errors import Code, Refused, bad_param
from simulator.lighter.venue import LighterVenue

Body = dict[str, Any]
MAX_ROWS = 100
ANY_MARKET = 255
WRONG_ACCOUNT = "invalid auth: token does not belong to the account"
NO_TOKEN = "auth query param and Authorization header are empty"  # noqa: S105 - a text of the venue


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One read: parameters, the token that came with it, and when."""

    params: Mapping[str, str]
    token: str
    now_ms: int

    def text(self, name: str, default: str | None = None) -> str:
        """A parameter; refused when missing without a default."""
        found = self.params.get(name, default)
        if found is None or (found == "" and default is None):
            raise bad_param(f"{name} is required")
        return found

    def integer(self, name: str, default: int | None = None) -> int:
        """A whole-number parameter."""
        return number(self.text(name, None if default is None else str(default)), name)

    def limit(self, most: int = MAX_ROWS) -> int:
        """The parameter `limit`, 1 to `most`."""
        found = self.integer("limit")
        if not 1 <= found <= most:
            raise bad_param(f"limit must be between 1 and {most}")
        return found

    def flag(self, name: str) -> bool:
        """A parameter that is true or not."""
        return self.params.get(name, "").lower() in ("true", "1")


Read = Callable[[LighterVenue, Request], Body]
"""Answers one read; raises `Refused`."""


def authorised(venue: LighterVenue, request: Request, index: int) -> LighterAccount:
    """The account `index`, if the token may read it: its own, or one of the same owner.

    Raises:
        Refused: 20001 without a token, 20013 for a bad one, 21100.
    """
    if not request.token:
        raise bad_param(NO_TOKEN)
    speaker = venue.accounts.get(venue.check_token(request.token, request.now_ms))
    account = venue.accounts.get(index)
    if speaker.l1_address.lower() != account.l1_address.lower():
        raise Refused(Code.INVALID_AUTH, WRONG_ACCOUNT, status=401)
    return account


def number(text: str, name: str) -> int:
    """A whole number that the parameter `name` holds, perhaps beside others."""
    try:
        return int(text)
    except ValueError as error:
        raise bad_param(f"{name} must be an integer") from error


def page(name: str, rows: list[Body], cursor: str, limit: int) -> Body:
    """Rows from `cursor` on, which counts those already given, under `name`; and the next cursor if there are more."""
    start = 0
    if cursor:
        if not cursor.isdigit():
            raise Refused(Code.INVALID_CURSOR)
        start = int(cursor)
    more = {"next_cursor": str(start + limit)} if start + limit < len(rows) else {}
    return {name: rows[start : start + limit], **more}
