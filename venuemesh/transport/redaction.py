"""Takes secrets out of what was said to a venue and what it answered. Pure, and structural.

A body is read as what it is - JSON, a form or query, JSON within either - and every value under a name that holds a
secret is replaced, whatever the value looks like; so is every value that has a signature's shape, whatever its name.
A body that cannot be read as either is kept as text only without its long runs of letters and digits. It errs on the
side of taking out too much.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

import msgspec

MASK = "***"
MAX_DEPTH = 64
"""A body nested deeper is not kept: nobody's protocol is."""

_SECRET_NAMES = frozenset(
    (
        *("sig", "sigs", "l1sig", "hmac", "auth", "authorization", "bearer", "cookie", "setcookie", "jwt"),
        *("seed", "mnemonic", "passphrase", "password", "apikey", "privkey", "privatekey", "signingkey", "credentials"),
    )
)
_SECRET_ENDINGS = ("signature", "signatures", "secret", "token", "privatekey", "secretkey", "seedphrase", "password")
_SIGNATURE_PARTS = frozenset("rsv")
_SEPARATORS = re.compile(r"[-_ ]")
# A signature of 64 bytes or more in hex or base64; hashes and addresses are at most 80 hex digits.
_SIGNATURE_SHAPE = re.compile(r"[0-9a-fA-F]{100,}|[A-Za-z0-9+/_-]{85,}={0,2}")
# In a text of no known structure anything that could be a key goes.
_KEY_SHAPE = re.compile(r"[A-Za-z0-9+/_=-]{48,}")
_FORM = re.compile(r"[A-Za-z0-9_.\[\]-]+=[^&\s]*(&[A-Za-z0-9_.\[\]-]+=[^&\s]*)*")

_encode = msgspec.json.Encoder().encode


def is_secret_name(name: str) -> bool:
    """Whether a field of this name holds a secret, in whatever case and with whatever separators it is written."""
    plain = _SEPARATORS.sub("", name).lower()
    return plain in _SECRET_NAMES or plain.endswith(_SECRET_ENDINGS)


def redact_body(body: bytes) -> str:
    """A request's or answer's body without its secrets, as text."""
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return f"[{len(body)} bytes that are no text]"
    return redact_text(text)


def redact_text(text: str) -> str:
    """The same for text."""
    structured = _structured(text, 0)
    return redact_prose(text) if structured is None else structured


def redact_prose(text: str) -> str:
    """A sentence without what could be a key or a signature."""
    return _KEY_SHAPE.sub(MASK, text)


def redact_target(target: str) -> str:
    """A path with its query, such as `/api/v1/account?by=index`, without secrets."""
    path, mark, query = target.partition("?")
    return redact_prose(path) + (mark + _form(query, 0) if mark else "")


def _structured(text: str, depth: int) -> str | None:
    """A text that is JSON or a form, without secrets; None when it is neither."""
    if text.lstrip()[:1] in ("{", "["):
        try:
            return _encode(_value(msgspec.json.decode(text), depth)).decode()
        except (msgspec.DecodeError, RecursionError, OverflowError):
            return None
    return _form(text, depth) if _FORM.fullmatch(text) else None


def _form(text: str, depth: int) -> str:
    """Names and values with their escapes undone, for people; it is not meant to be sent again."""
    pairs = parse_qsl(text, keep_blank_values=True)
    return "&".join(f"{name}={MASK if is_secret_name(name) else _text(value, depth + 1)}" for name, value in pairs)


def _value(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        return MASK
    if isinstance(value, dict):
        return _object(value, depth)
    if isinstance(value, list):
        return [_value(element, depth + 1) for element in value]
    return _text(value, depth) if isinstance(value, str) else value


def _object(fields: dict[str, Any], depth: int) -> dict[str, Any]:
    # A signature in parts has no name of its own to be known by.
    in_parts = fields.keys() >= _SIGNATURE_PARTS
    return {
        name: MASK if is_secret_name(name) or (in_parts and name in _SIGNATURE_PARTS) else _value(value, depth + 1)
        for name, value in fields.items()
    }


def _text(text: str, depth: int) -> str:
    """A value of no secret name: JSON in it is read too, and a signature's shape is taken out."""
    if depth > MAX_DEPTH:
        return MASK
    inner = _structured(text, depth + 1) if text[:1] in ("{", "[") else None
    return _SIGNATURE_SHAPE.sub(MASK, text) if inner is None else inner
