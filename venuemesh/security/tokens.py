"""Bearer tokens that whoever holds one can narrow without asking anybody. Pure.

    vm1.<key id>.<subject>.<limits, base64url of JSON>.<seal, base64url>

The seal is a chain: the first link is HMAC-SHA256 of key id and subject under the mint's secret key, and each limit
makes the next link with the one before as the key. Adding a limit needs only the last link, which is the seal; taking
one away would need the link before it, which the token does not hold. The construction is that of macaroons
(Birgisson et al., NDSS 2014), without third parties.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256

from venuemesh.errors import AuthenticationFailed
from venuemesh.secrets import Secret
from venuemesh.security.grants import SCOPES, Grant, LimitError

PREFIX = "vm1"
MAX_TOKEN_BYTES = 4_096
MAX_LIMITS = 32
MIN_KEY_BYTES = 32
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


class TokenError(ValueError):
    """A token or key cannot be made as asked; the text never holds a secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token taken apart, its seal not yet checked."""

    key_id: str
    subject: str
    limits: tuple[str, ...]
    seal: bytes

    def __repr__(self) -> str:
        return f"Token(key_id={self.key_id!r}, subject={self.subject!r}, limits={self.limits!r}, seal=***)"


def mint(key_id: str, key: Secret, subject: str, limits: Sequence[str]) -> Secret:
    """A new token.

    Args:
        key: at least 32 bytes of secret, as text.
        subject: who it is for; letters, digits, `-` and `_`.
        limits: `name=value` each, among them `scopes=…`; without one the token allows nothing.
    Raises:
        TokenError: an argument breaks a rule.
    """
    for name, value in (("key id", key_id), ("subject", subject)):
        if not _ID.fullmatch(value):
            raise TokenError(f"{name} {value[:64]!r}: 1 to 64 letters, digits, - and _")
    if len(key.reveal().encode()) < MIN_KEY_BYTES:
        raise TokenError(f"key {key_id}: shorter than {MIN_KEY_BYTES} bytes")
    seal = _first_link(key, key_id, subject)
    return narrow(_text(Token(key_id=key_id, subject=subject, limits=(), seal=seal)), limits)


def narrow(token: Secret, limits: Sequence[str]) -> Secret:
    """The token with further limits; needs no key.

    Raises:
        TokenError: a limit cannot be read, or there are too many.
    """
    try:
        parts = parse(token.reveal())
    except AuthenticationFailed as error:
        raise TokenError(error.message) from None
    if len(parts.limits) + len(limits) > MAX_LIMITS:
        raise TokenError(f"more than {MAX_LIMITS} limits")
    seal = parts.seal
    for limit in limits:
        _check_limit(limit)
        seal = _next_link(seal, limit)
    return _text(replace(parts, limits=(*parts.limits, *limits), seal=seal))


def parse(text: str) -> Token:
    """Take a token apart.

    Raises:
        AuthenticationFailed: it is none.
    """
    if len(text) > MAX_TOKEN_BYTES:
        raise AuthenticationFailed(f"the token is longer than {MAX_TOKEN_BYTES} bytes")
    try:
        prefix, key_id, subject, limits_text, seal_text = text.split(".")
        limits = json.loads(_decode(limits_text))
        seal = _decode(seal_text)
    except (ValueError, binascii.Error, RecursionError):
        raise AuthenticationFailed("the bearer token is malformed") from None
    named = _ID.fullmatch(key_id) and _ID.fullmatch(subject)
    listed = isinstance(limits, list) and len(limits) <= MAX_LIMITS and all(isinstance(each, str) for each in limits)
    if prefix != PREFIX or not named or not listed or len(seal) != sha256().digest_size:
        raise AuthenticationFailed("the bearer token is malformed")
    return Token(key_id=key_id, subject=subject, limits=tuple(limits), seal=seal)


def verify(text: str, keys: Mapping[str, Secret]) -> Grant:
    """What a token allows. Time is not looked at: see `Grant.require`.

    Raises:
        AuthenticationFailed: malformed, of an unknown key, or its seal is not ours.
    """
    token = parse(text)
    key = keys.get(token.key_id)
    # An unknown key costs as much as a known one.
    seal = _first_link(Secret("") if key is None else key, token.key_id, token.subject)
    for limit in token.limits:
        seal = _next_link(seal, limit)
    if not hmac.compare_digest(seal, token.seal) or key is None:
        raise AuthenticationFailed("the bearer token is not valid here")
    try:
        return grant_of(token)
    except LimitError as error:
        raise AuthenticationFailed(f"the token has a limit that cannot be read: {error}") from None


def grant_of(token: Token) -> Grant:
    """What the token says it allows, believed or not.

    Raises:
        LimitError: a limit is not known.
    """
    stated = any(limit.startswith("scopes=") for limit in token.limits)
    grant = Grant(subject=token.subject, scopes=frozenset(SCOPES.values() if stated else ()))
    for limit in token.limits:
        grant = grant.narrowed_by(limit)
    return grant


def read_keys(text: str) -> dict[str, Secret]:
    """Keys of a key file: `id secret` a line, `#` begins a comment. The first mints, all verify.

    Raises:
        TokenError: a line breaks a rule; the text names the line, never the secret.
    """
    keys: dict[str, Secret] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) != 2 or not _ID.fullmatch(words[0]):
            raise TokenError(f"line {number}: must be `id secret`")
        key_id, secret = words
        if len(secret.encode()) < MIN_KEY_BYTES:
            raise TokenError(f"line {number}: the secret is shorter than {MIN_KEY_BYTES} bytes")
        if key_id in keys:
            raise TokenError(f"line {number}: the id {key_id} is there twice")
        keys[key_id] = Secret(secret)
    if not keys:
        raise TokenError("it holds no key")
    return keys


def _check_limit(limit: str) -> None:
    try:
        Grant(subject="", scopes=frozenset()).narrowed_by(limit)
    except LimitError as error:
        raise TokenError(str(error)) from None


def _first_link(key: Secret, key_id: str, subject: str) -> bytes:
    return hmac.digest(key.reveal().encode(), f"{PREFIX}.{key_id}.{subject}".encode(), "sha256")


def _next_link(seal: bytes, limit: str) -> bytes:
    return hmac.digest(seal, limit.encode(), "sha256")


def _text(token: Token) -> Secret:
    limits = _encode(json.dumps(token.limits, separators=(",", ":")).encode())
    text = f"{PREFIX}.{token.key_id}.{token.subject}.{limits}.{_encode(token.seal)}"
    if len(text) > MAX_TOKEN_BYTES:
        raise TokenError(f"the token would be longer than {MAX_TOKEN_BYTES} bytes")
    return Secret(text)


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
