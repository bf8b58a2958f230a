"""Pages over several venues: merge what gateways page, and the token that says where each one stands. Pure.

A token holds, per venue, the gateway's own page token, how many rows of that page were already given, and the time
the list was bounded at when its first page was cut in the middle: rows newer than that would shift the rest. It is
signed together with the method and the filter, so that it cannot serve another question.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

import msgspec

from venuemesh.errors import InvalidRequest, ResumeExpired

TOKEN_LIFETIME_S = 24 * 3600.0
_MAC_BYTES = 16
_UNSIGNED = b"venuemesh page token"

Row = TypeVar("Row")


class Cursor(msgspec.Struct, frozen=True, array_like=True):
    """Where the list of one venue goes on."""

    token: str = ""
    """The gateway's page token; empty for its first page."""
    offset: int = 0
    """Rows of that page already given."""
    until_ns: int = 0
    """The list was cut at this time, exclusive; 0 when it was not."""
    state: int = 0
    """0 goes on, 1 ended, 2 could not be reached on an earlier page."""

    @property
    def open(self) -> bool:
        """Whether there is more to ask for."""
        return self.state == 0


ENDED = Cursor(state=1)
UNREACHED = Cursor(state=2)


class _Token(msgspec.Struct, frozen=True, array_like=True):
    question: bytes
    made_ns: int
    cursors: dict[str, Cursor]


class TokenCodec:
    """Writes and reads page tokens.

    Args:
        key: the same on every replica; without one a token is only protected against damage.
    """

    def __init__(self, key: bytes = b"") -> None:
        self._key = key or _UNSIGNED
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(_Token)

    def encode(self, question: bytes, cursors: Mapping[str, Cursor], now_ns: int) -> str:
        """The token of the next page; empty when no venue has more."""
        if not any(cursor.open for cursor in cursors.values()):
            return ""
        body = self._encoder.encode(_Token(_digest(question), now_ns, dict(cursors)))
        return base64.urlsafe_b64encode(self._mac(body) + body).decode().rstrip("=")

    def decode(self, token: str, question: bytes, now_ns: int) -> dict[str, Cursor]:
        """Where each venue stands.

        Raises:
            InvalidRequest: not a token of ours, or made for another method or filter.
            ResumeExpired: older than a day.
        """
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            body = raw[_MAC_BYTES:]
            if not hmac.compare_digest(raw[:_MAC_BYTES], self._mac(body)):
                raise _bad_token("is not one this service made")
            known = self._decoder.decode(body)
        except (binascii.Error, ValueError, msgspec.DecodeError):
            raise _bad_token("is not one this service made") from None
        if known.question != _digest(question):
            raise _bad_token("belongs to another method or filter")
        if now_ns - known.made_ns > TOKEN_LIFETIME_S * 1e9:
            raise ResumeExpired("page_token: older than a day; begin again", field="page_token")
        return known.cursors

    def _mac(self, body: bytes) -> bytes:
        return hmac.new(self._key, body, hashlib.sha256).digest()[:_MAC_BYTES]


def _digest(question: bytes) -> bytes:
    return hashlib.sha256(question).digest()[:_MAC_BYTES]


def _bad_token(rule: str) -> InvalidRequest:
    return InvalidRequest(f"page_token: {rule}", field="page_token")


class VenuePage(msgspec.Struct, Generic[Row], frozen=True, kw_only=True):
    """One page a gateway gave, from the cursor's page token on."""

    cursor: Cursor
    rows: Sequence[Row]
    next_token: str


def merge(
    pages: Mapping[str, VenuePage[Row]],
    *,
    size: int,
    time_ns: Callable[[Row], int],
    newest_first: bool = True,
) -> tuple[list[Row], dict[str, Cursor]]:
    """The next `size` rows over all venues in order of time, and where each venue stands after them.

    Rows of one venue keep the gateway's order. Venues that are level are taken by name.
    """
    sign = -1 if newest_first else 1
    taken = dict.fromkeys(pages, 0)
    rows: list[Row] = []
    # A venue that has more but gave nothing of it now lets nothing be placed.
    blocked = any(page.next_token and page.cursor.offset >= len(page.rows) for page in pages.values())
    while len(rows) < size and not blocked:
        heads = [
            (sign * time_ns(page.rows[place]), venue)
            for venue, page in pages.items()
            if (place := page.cursor.offset + taken[venue]) < len(page.rows)
        ]
        if not heads:
            break
        _, venue = min(heads)
        page = pages[venue]
        rows.append(page.rows[page.cursor.offset + taken[venue]])
        taken[venue] += 1
        if page.cursor.offset + taken[venue] == len(page.rows) and page.next_token:
            # What this venue has next is not known, so nothing after it can be placed.
            break
    bounds = {venue: _bound(page, time_ns) if newest_first else 0 for venue, page in pages.items()}
    return rows, {venue: _after(page, taken[venue], bounds[venue]) for venue, page in pages.items()}


def _after(page: VenuePage[Row], taken: int, bound_ns: int) -> Cursor:
    offset = page.cursor.offset + taken
    if offset < len(page.rows):
        # A page that has a token never shifts; the first one does when newer rows come.
        until = page.cursor.until_ns or (bound_ns if not page.cursor.token else 0)
        return Cursor(page.cursor.token, offset, until)
    return Cursor(page.next_token, 0, page.cursor.until_ns) if page.next_token else ENDED


def _bound(page: VenuePage[Row], time_ns: Callable[[Row], int]) -> int:
    return max(map(time_ns, page.rows), default=-1) + 1
