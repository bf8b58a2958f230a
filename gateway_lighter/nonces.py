"""Nonces per API key, and the choice among several keys. Pure.

The venue keeps one counter per API key. SKIPPING sets the skip-nonce attribute: any nonce above the last accepted one
will do, so that a lost transaction blocks nothing and a cancel never waits for a query. It costs half a millisecond of
hashing and is the default. SEQUENTIAL takes exactly the next number: a refused or lost transaction leaves a gap that
only the venue's `nextNonce` closes.

No nonce is given twice, except in SEQUENTIAL where the venue itself says that it is still free: then at most one of
the two transactions can ever be accepted. What the venue accepts with a higher nonce proves that everything lower on
that key either has arrived or never will.
Source: venue reference section 10.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Final

from gateway_lighter.refusals import RefusalMeaning
from venuemesh.errors import (
    AuthenticationFailed,
    InvalidRequest,
    MeshError,
    RateLimited,
    Reason,
    Sent,
    Unavailable,
)

MAX_NONCE: Final = 2**47 - 2
_KEY_BITS: Final = 8


class NonceMode(StrEnum):
    """How the next nonce is chosen."""

    SKIPPING = "skipping"
    SEQUENTIAL = "sequential"


class NonceFate(Enum):
    """What became of a nonce."""

    SPENT = "spent"
    """The venue took the transaction (HTTP 200), whatever it decides about the order later."""
    UNSPENT = "unspent"
    """Refused at once for another reason, or certainly never sent."""
    MISMATCH = "mismatch"
    """Refused for the nonce itself (21104)."""
    UNKNOWN = "unknown"
    """Sent, and no answer."""


def fate_of_refusal(meaning: RefusalMeaning) -> NonceFate:
    """What a refusal given at once says about the nonce; one in a verdict comes after it was spent."""
    if meaning.reason is Reason.NONCE_REJECTED:
        return NonceFate.MISMATCH
    return NonceFate.UNSPENT if meaning.definitive else NonceFate.UNKNOWN


def fate_of_error(error: MeshError) -> NonceFate:
    """What a failed send says about the nonce."""
    unread = error.sent is Sent.NO or isinstance(error, RateLimited | InvalidRequest | AuthenticationFailed)
    return NonceFate.UNSPENT if unread else NonceFate.UNKNOWN


@dataclass(frozen=True, slots=True, kw_only=True)
class NonceLease:
    """A nonce for one transaction with one key; `generation` tells whether it is still the right one."""

    api_key_index: int
    nonce: int
    generation: int

    @property
    def number(self) -> int:
        """Key and nonce in one positive 64-bit integer, for the journal; grows with the nonce."""
        return self.nonce << _KEY_BITS | self.api_key_index


def split_number(number: int) -> tuple[int, int]:
    """(api_key_index, nonce) of `NonceLease.number`."""
    return number & ((1 << _KEY_BITS) - 1), number >> _KEY_BITS


class NonceSource:
    """The nonces of one API key. One writer per key: two processes that share a key only fight.

    Args:
        api_key_index: the key's index at the venue.
        mode: see `NonceMode`.
    """

    def __init__(self, api_key_index: int, mode: NonceMode = NonceMode.SKIPPING) -> None:
        self.api_key_index = api_key_index
        self.mode = mode
        self._last = -1  # highest nonce ever leased, restored or said by the venue
        self._highest_spent = -1
        self._in_step = mode is NonceMode.SKIPPING
        self._generation = 0
        self._open: set[int] = set()

    @property
    def in_step(self) -> bool:
        """False while the venue must be asked (`nextNonce`) before the next transaction."""
        return self._in_step

    @property
    def outstanding(self) -> int:
        """Leases not settled yet."""
        return len(self._open)

    def restore(self, nonce: int) -> None:
        """A nonce an earlier process took, from the journal. SEQUENTIAL also needs `synchronize`."""
        if self.mode is NonceMode.SKIPPING:
            self._last = max(self._last, nonce)

    def lease(self, now_ms: int) -> NonceLease:
        """Take the next nonce.

        Args:
            now_ms: wall clock in Unix milliseconds, on which SKIPPING counts.
        Raises:
            Unavailable: the venue must be asked first; nothing was taken.
        """
        if not self._in_step:
            raise Unavailable(
                f"API key {self.api_key_index}: the next nonce must be fetched", reason=Reason.STREAM_RECONCILING
            )
        nonce = self._last + 1
        if self.mode is NonceMode.SKIPPING:
            nonce = max(nonce, now_ms)
        return self._take(nonce)

    def _take(self, nonce: int) -> NonceLease:
        if nonce > MAX_NONCE:
            raise Unavailable(f"API key {self.api_key_index} has no nonces left", reason=Reason.NONCE_REJECTED)
        self._last = nonce
        self._open.add(nonce)
        return NonceLease(api_key_index=self.api_key_index, nonce=nonce, generation=self._generation)

    def lease_run(self, first: NonceLease, count: int, now_ms: int) -> list[NonceLease]:
        """`count` nonces one after another for one batch, beginning with `first` where what follows it is still free.

        Args:
            first: a lease of this key that was not sent; where others were taken behind it, it is given back.
        Raises:
            Unavailable: the venue must be asked first, or too few are left; all were given back.
        """
        run: list[NonceLease] = []
        try:
            if first.nonce != self._last and count > 1:
                self.settle(first, NonceFate.UNSPENT)
                first = self.lease(now_ms)
            run.append(first)
            while len(run) < count:
                run.append(self._take(self._last + 1))
        except Unavailable:
            for lease in run:
                self.settle(lease, NonceFate.UNSPENT)
            raise
        return run

    def is_current(self, lease: NonceLease) -> bool:
        """Whether a lease not sent yet is still worth sending; if not, settle it as UNSPENT and take another."""
        if lease.nonce not in self._open:
            return False
        if self.mode is NonceMode.SKIPPING:
            return lease.nonce > self._highest_spent
        return self._in_step and lease.generation == self._generation

    def settle(self, lease: NonceLease, fate: NonceFate) -> None:
        """Tell what became of a lease; a second telling changes nothing."""
        if lease.nonce not in self._open:
            return
        self._open.discard(lease.nonce)
        if fate is NonceFate.SPENT:
            self._highest_spent = max(self._highest_spent, lease.nonce)
        elif self.mode is NonceMode.SKIPPING:
            # Overtaken by a later one of our own, or the venue's counter is ahead of us.
            if fate is NonceFate.MISMATCH and lease.nonce > self._highest_spent:
                self._in_step = False
        elif lease.generation == self._generation:
            if fate is NonceFate.UNSPENT and lease.nonce == self._last:
                self._last -= 1  # nothing was built on it: it is free again
            else:
                self._in_step = False
                self._generation += 1

    def lost_sight(self) -> None:
        """The key may have been used behind our back: ask the venue before the next transaction."""
        self._in_step = False
        self._generation += 1

    def synchronize(self, next_nonce: int) -> bool:
        """Take the venue's own count: the `nonce` of `GET nextNonce`.

        Returns:
            False when it proves nothing, because leases were open while it was asked: settle them, ask again.
        """
        if self.mode is NonceMode.SKIPPING:
            self._last = max(self._last, next_nonce - 1)
            self._in_step = True
            return True
        if self._open:
            return False
        self._last = next_nonce - 1
        self._in_step = True
        return True


class NoncePool:
    """Several API keys of one account, used side by side.

    A key whose earlier transaction is still unsent or unanswered is left to rest while another is free, so that two
    transactions of one key seldom travel at once and cannot overtake each other.

    Args:
        api_key_indices: at least one, each once.
    Raises:
        ValueError: none, or one twice.
    """

    def __init__(self, api_key_indices: Sequence[int], mode: NonceMode = NonceMode.SKIPPING) -> None:
        if not api_key_indices or len(set(api_key_indices)) != len(api_key_indices):
            raise ValueError("give at least one API key index, each once")
        self._sources = {index: NonceSource(index, mode) for index in api_key_indices}
        self._turn = 0

    @property
    def mode(self) -> NonceMode:
        """The mode of all keys."""
        return next(iter(self._sources.values())).mode

    def source(self, api_key_index: int) -> NonceSource:
        """The nonces of one key.

        Raises:
            KeyError: not a key of this pool.
        """
        return self._sources[api_key_index]

    def out_of_step(self) -> tuple[int, ...]:
        """Keys whose next nonce must be fetched."""
        return tuple(index for index, source in self._sources.items() if not source.in_step)

    def lease(self, now_ms: int) -> NonceLease:
        """A nonce of the least busy key; keys equally busy take turns.

        Raises:
            Unavailable: every key must ask the venue first; nothing was taken.
        """
        order = list(self._sources.values())
        start = self._turn % len(order)
        candidates = [source for source in order[start:] + order[:start] if source.in_step]
        if not candidates:
            return order[start].lease(now_ms)  # raises, naming the key
        chosen = min(candidates, key=lambda source: source.outstanding)
        self._turn = order.index(chosen) + 1
        return chosen.lease(now_ms)

    def lease_run(self, first: NonceLease, count: int, now_ms: int) -> list[NonceLease]:
        """See `NonceSource.lease_run`."""
        return self._sources[first.api_key_index].lease_run(first, count, now_ms)

    def restore(self, number: int) -> None:
        """A `NonceLease.number` from the journal; one of a key no longer in use is ignored."""
        index, nonce = split_number(number)
        if source := self._sources.get(index):
            source.restore(nonce)

    def settle(self, lease: NonceLease, fate: NonceFate) -> None:
        """See `NonceSource.settle`."""
        self._sources[lease.api_key_index].settle(lease, fate)

    def is_current(self, lease: NonceLease) -> bool:
        """See `NonceSource.is_current`."""
        return self._sources[lease.api_key_index].is_current(lease)
