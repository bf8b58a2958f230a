"""Auth tokens: `<deadline>:<account>:<api key>:<signature>`. Pure."""

from __future__ import annotations

from collections.abc import Callable

from simulator.lighter.errors import Code, Refused
from simulator.lighter.signing import schnorr
from simulator.lighter.signing.poseidon2 import digest

LONGEST_S = 8 * 3600
GRACE_S = 2  # clients stamp the deadline before they send


def token_words(text: str) -> list[int]:
    """What a token's signature covers: its text as little-endian words, zero-padded."""
    data = text.encode()
    data += b"\0" * (-len(data) % 8)
    return digest([int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)], 5)


def check_token(token: str, now_ms: int, public_key: Callable[[int, int], bytes | None]) -> int:
    """Account a token speaks for.

    Args:
        public_key: registered key of (account, api key index), None when there is none.

    Raises:
        Refused: 20013 with HTTP 401; the deadline's text is the venue's, the others are ours.
    """
    parts = token.split(":")
    if len(parts) != 4:
        raise _invalid("invalid token")
    try:
        deadline, account, api_key = (int(part) for part in parts[:3])
        signature = bytes.fromhex(parts[3])
    except ValueError as error:
        raise _invalid("invalid token") from error
    if not now_ms // 1000 < deadline <= now_ms // 1000 + LONGEST_S + GRACE_S:
        raise _invalid("invalid deadline")
    key = public_key(account, api_key)
    if key is None:
        raise _invalid("api key not found")
    if not schnorr.verify(token_words(":".join(parts[:3])), signature, key):
        raise _invalid("invalid signature")
    return account


def _invalid(what: str) -> Refused:
    return Refused(Code.INVALID_AUTH, f"invalid auth: {what}", status=401)
