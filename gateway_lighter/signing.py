"""Signed transactions and auth tokens. Pure.

A transaction's hash is deterministic: it is the `tx_hash` the venue answers, so that an order is known by it before it
is sent. Source: venue reference sections 8 and 9.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Protocol

from gateway_lighter.codec_transactions import build_tx_info
from gateway_lighter.goldilocks import P
from gateway_lighter.poseidon2 import hash_elements
from gateway_lighter.schnorr import PrivateKey, sign
from gateway_lighter.transactions import MAX_ATTRIBUTES, NO_ATTRIBUTES, Attributes, Envelope, Transaction
from venuemesh.clock import Clock
from venuemesh.errors import InvalidRequest
from venuemesh.transport.environment import Environment

CHAIN_IDS: Final[Mapping[Environment, int]] = {
    Environment.MAINNET: 304,
    Environment.TESTNET: 300,
    Environment.SIMULATOR: 304,
}
"""What signatures are bound to; the client libraries take a local address for mainnet's."""

MAX_TOKEN_LIFETIME_S: Final = 8 * 3600
"""The venue refuses a token whose deadline lies further ahead than this at the time of the request."""

_HASH_WORDS: Final = 5


def words_to_bytes(words: tuple[int, ...]) -> bytes:
    """Field elements as little-endian u64."""
    return b"".join(word.to_bytes(8, "little") for word in words)


@lru_cache(maxsize=256)
def _hash_attributes(pairs: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
    """Padded to four pairs; remembered, because an operator's attributes seldom change."""
    flat = [word for pair in pairs for word in pair]
    return hash_elements(flat + [0] * (2 * MAX_ATTRIBUTES - len(flat)), _HASH_WORDS)


def hash_transaction(transaction: Transaction, envelope: Envelope) -> bytes:
    """The 40 bytes that are signed and that the venue answers as `tx_hash`."""
    words = hash_elements(
        (
            envelope.chain_id,
            transaction.tx_type,
            envelope.nonce,
            envelope.expired_at_ms,
            envelope.account_index,
            envelope.api_key_index,
            *transaction.elements(),
        ),
        _HASH_WORDS,
    )
    if pairs := envelope.attributes.pairs():
        words = hash_elements([*words, *_hash_attributes(pairs)], _HASH_WORDS)
    return words_to_bytes(words)


def hash_token_text(text: str) -> bytes:
    """The 40 bytes that are signed for an auth token: the ASCII text, zero-padded to whole words."""
    raw = text.encode("ascii")
    padded = raw + bytes(-len(raw) % 8)
    words = [int.from_bytes(padded[i : i + 8], "little") for i in range(0, len(padded), 8)]
    return words_to_bytes(hash_elements([word % P for word in words], _HASH_WORDS))


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedTransaction:
    """A transaction ready to send.

    Attributes:
        tx_info: the JSON the venue takes.
        tx_hash: 80 hex digits; the venue answers the same.
        expired_at_ms: the venue refuses the transaction after this Unix millisecond.
    """

    transaction: Transaction
    tx_info: str
    tx_hash: str
    account_index: int
    api_key_index: int
    nonce: int
    expired_at_ms: int

    @property
    def tx_type(self) -> int:
        """The kind's code."""
        return self.transaction.tx_type


class AuthToken:
    """A token for private reads and streams; prints as `***`."""

    __slots__ = ("_text", "deadline_s")

    def __init__(self, text: str, deadline_s: int) -> None:
        self._text = text
        self.deadline_s = deadline_s
        """Unix second after which the venue refuses it."""

    def reveal(self) -> str:
        """The text itself: only for a header or a subscribe frame."""
        return self._text

    def __repr__(self) -> str:
        return f"AuthToken(***, deadline_s={self.deadline_s})"


class TokenSource:
    """An auth token that is never close to its end: signed anew `renew_before_s` before the deadline.

    Args:
        signer: signs the token.
        clock: wall clock; the venue compares the deadline with its own.
        lifetime_s: how far ahead the deadline lies; at most eight hours.
        renew_before_s: smallest remaining life of a token that is given out.
    Raises:
        ValueError: the times do not fit each other or the venue's bound.
    """

    def __init__(self, signer: Signer, clock: Clock, *, lifetime_s: int = 3_600, renew_before_s: int = 600) -> None:
        if not 0 < renew_before_s < lifetime_s <= MAX_TOKEN_LIFETIME_S:
            raise ValueError("0 < renew_before_s < lifetime_s <= eight hours")
        self._signer = signer
        self._clock = clock
        self._lifetime_s = lifetime_s
        self._renew_before_s = renew_before_s
        self._token: AuthToken | None = None

    def token(self) -> AuthToken:
        """The present token."""
        now_s = self._clock.now_ns() // 10**9
        token = self._token
        # The second bound: a wall clock that was set back must not leave a deadline the venue finds too far.
        if token is None or not now_s + self._renew_before_s < token.deadline_s <= now_s + self._lifetime_s:
            self._token = token = self._signer.sign_token(now_s + self._lifetime_s)
        return token

    def forget(self) -> None:
        """The venue refused the token: sign another at the next call."""
        self._token = None


class Signer(Protocol):
    """Signs for one account with one API key; the pure signer and the native one."""

    account_index: int
    api_key_index: int
    chain_id: int
    public_key: str
    """80 hex digits, as `GET apikeys` shows it."""
    chooses_expiry: bool
    """True where `sign` sets an expiry of its own, up to ten minutes ahead, whatever is asked."""

    def sign(
        self, transaction: Transaction, *, nonce: int, expired_at_ms: int, attributes: Attributes = NO_ATTRIBUTES
    ) -> SignedTransaction:
        """Check, hash and sign; raises InvalidOrder for what the venue's signer would refuse."""

    def sign_token(self, deadline_s: int) -> AuthToken:
        """A token valid until this Unix second, which must lie at most eight hours ahead when it is used."""


class PureSigner:
    """The signer in Python: about 1.3 ms a transaction, nothing to load, its own expiry.

    Args:
        key: the API key.
        chain_id: see `CHAIN_IDS`.
    """

    chooses_expiry = False

    def __init__(self, key: PrivateKey, *, chain_id: int, account_index: int, api_key_index: int) -> None:
        self._key = key
        self.chain_id = chain_id
        self.account_index = account_index
        self.api_key_index = api_key_index
        self.public_key = key.public_key.hex()

    def __repr__(self) -> str:
        return f"PureSigner(account_index={self.account_index}, api_key_index={self.api_key_index}, key=***)"

    def sign(
        self, transaction: Transaction, *, nonce: int, expired_at_ms: int, attributes: Attributes = NO_ATTRIBUTES
    ) -> SignedTransaction:
        """See `Signer.sign`."""
        envelope = Envelope(
            chain_id=self.chain_id,
            account_index=self.account_index,
            api_key_index=self.api_key_index,
            nonce=nonce,
            expired_at_ms=expired_at_ms,
            attributes=attributes,
        )
        transaction.check()
        envelope.check()
        message = hash_transaction(transaction, envelope)
        signature = base64.b64encode(sign(self._key, message)).decode("ascii")
        return SignedTransaction(
            transaction=transaction,
            tx_info=build_tx_info(transaction, envelope, signature).decode(),
            tx_hash=message.hex(),
            account_index=self.account_index,
            api_key_index=self.api_key_index,
            nonce=nonce,
            expired_at_ms=expired_at_ms,
        )

    def sign_token(self, deadline_s: int) -> AuthToken:
        """See `Signer.sign_token`."""
        if deadline_s <= 0:
            raise InvalidRequest(f"deadline_s {deadline_s}: must be a Unix time", field="deadline_s")
        text = f"{deadline_s}:{self.account_index}:{self.api_key_index}"
        return AuthToken(f"{text}:{sign(self._key, hash_token_text(text)).hex()}", deadline_s)
