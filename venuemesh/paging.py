"""Pages of lists: bounds of a page, and the token that says where the next one begins. Pure.

A token names the method and filter it was made for, so that it cannot continue another list, and when it was made.
It hides nothing and grants nothing: the signature tells a token of ours from a damaged or invented one.

    page = pager.read(request, now_ns=clock.now_ns())
    rows = newest_after(page.cursor, page.size + 1)
    next_page_token = pager.token(request, cursor_of(rows[page.size - 1]), now_ns=clock.now_ns())
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass

from google.protobuf.message import Message

from venuemesh.errors import InvalidRequest, ResumeExpired

DEFAULT_PAGE = 100
MAX_PAGE = 1_000
LIFETIME_S = 24 * 3_600
FIELD = "page_token"
MAX_TOKEN_CHARACTERS = 8_192
"""A token over many venues holds one of each."""

_MAC_BYTES = 16
_FILTER_BYTES = 8
_TIME_BYTES = 8
_HEAD = _MAC_BYTES + _FILTER_BYTES + _TIME_BYTES


@dataclass(frozen=True, slots=True)
class Page:
    """What a request asks for: `size` rows behind `cursor`, which is empty on the first page."""

    size: int
    cursor: str


class Pager:
    """Makes and reads the page tokens of one service.

    Args:
        key: the same in every process that serves the same lists, so that a token outlives a restart.
    """

    def __init__(self, key: bytes, *, lifetime_s: float = LIFETIME_S) -> None:
        self._key = key or b"venuemesh"
        self._lifetime_ns = int(lifetime_s * 1e9)

    def read(self, request: Message, *, now_ns: int) -> Page:
        """The page that a List request asks for.

        Raises:
            InvalidRequest: `page_size` over 1,000, or `page_token` damaged or of another list.
            ResumeExpired: the token is older than its lifetime.
        """
        size, token = page_size(request.page_size), request.page_token  # type: ignore[attr-defined]
        return Page(size, self._cursor(token, request, now_ns) if token else "")

    def token(self, request: Message, cursor: str, *, now_ns: int) -> str:
        """The token of the page behind `cursor` in the list that `request` asks for."""
        body = _filter_of(request) + now_ns.to_bytes(_TIME_BYTES, "big") + cursor.encode()
        return base64.urlsafe_b64encode(self._mac(body) + body).decode().rstrip("=")

    def _cursor(self, token: str, request: Message, now_ns: int) -> str:
        raw = _decode(token)
        body = raw[_MAC_BYTES:]
        if len(raw) < _HEAD or not hmac.compare_digest(raw[:_MAC_BYTES], self._mac(body)):
            raise _refused("is not one this service made")
        if body[:_FILTER_BYTES] != _filter_of(request):
            raise _refused("belongs to another method or filter")
        made_ns = int.from_bytes(body[_FILTER_BYTES : _FILTER_BYTES + _TIME_BYTES], "big")
        if now_ns - made_ns > self._lifetime_ns:
            raise ResumeExpired(f"{FIELD}: has expired; begin at the first page", field=FIELD)
        return body[_FILTER_BYTES + _TIME_BYTES :].decode()

    def _mac(self, body: bytes) -> bytes:
        return hmac.new(self._key, body, hashlib.sha256).digest()[:_MAC_BYTES]


def page_size(asked: int) -> int:
    """Rows per page: 0 means 100.

    Raises:
        InvalidRequest: over 1,000.
    """
    if asked > MAX_PAGE:
        raise InvalidRequest(f"page_size: {asked} is over {MAX_PAGE}", field="page_size")
    return asked or DEFAULT_PAGE


def _decode(token: str) -> bytes:
    if len(token) > MAX_TOKEN_CHARACTERS:
        raise _refused("is not one this service made")
    try:
        return base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _refused("is not one this service made") from None


def _filter_of(request: Message) -> bytes:
    """Fingerprint of a list: the request without its page."""
    question = type(request)()
    question.CopyFrom(request)
    for name in ("page_size", FIELD):
        question.ClearField(name)
    method = request.DESCRIPTOR.full_name.encode()
    return hashlib.blake2b(method + b"\0" + question.SerializeToString(deterministic=True), digest_size=8).digest()


def _refused(rule: str) -> InvalidRequest:
    return InvalidRequest(f"{FIELD}: {rule}", field=FIELD)
