"""Transactions the venue has taken, by hash and by account; bounded. Pure."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from simulator.lighter.orders import height
from simulator.lighter.transactions import Transaction

KEPT = 50_000
KEPT_PER_ACCOUNT = 1000


@dataclass(slots=True, kw_only=True)
class Record:
    """One transaction: queued, then executed. `event` is empty until then."""

    tx: Transaction
    hash: str
    sequence: int
    queued_ms: int
    due_ms: int
    l1_address: str
    executed_ms: int = 0
    executed_us: int = 0
    event: dict[str, Any] = field(default_factory=dict)
    forced: int = 0  # code of a refusal a test asked for

    @property
    def pending(self) -> bool:
        """Whether the sequencer has not come to it."""
        return not self.executed_ms

    def row(self) -> dict[str, Any]:
        """`Tx` as the venue shows it."""
        return {
            "hash": self.hash,
            "type": int(self.tx.type),
            "info": self.tx.info,
            "event_info": msgspec.json.encode(self.event).decode() if self.event else "",
            "status": 1 if self.pending else 2,
            "transaction_index": self.sequence % 1000,
            "l1_address": self.l1_address,
            "account_index": self.tx.account,
            "nonce": self.tx.nonce,
            "expire_at": self.tx.expired_at,
            "block_height": 0 if self.pending else height(self.executed_ms),
            "queued_at": self.queued_ms,
            "executed_at": self.executed_ms,
            "sequence_index": self.sequence,
            "parent_hash": "",
            "api_key_index": self.tx.api_key,
            "transaction_time": self.executed_us,
        }

    def enriched(self) -> dict[str, Any]:
        """Answer of `GET tx`."""
        return {"code": 200, **self.row(), "committed_at": 0, "verified_at": 0}


class TransactionLog:
    """The last transactions."""

    def __init__(self, first_sequence: int) -> None:
        self._by_hash: OrderedDict[str, Record] = OrderedDict()
        self._by_account: dict[int, deque[Record]] = {}
        self._next = first_sequence

    def add(self, tx: Transaction, tx_hash: str, now_ms: int, due_ms: int, l1_address: str) -> Record:
        """Keep a transaction that was taken."""
        self._next += 1
        record = Record(
            tx=tx, hash=tx_hash, sequence=self._next, queued_ms=now_ms, due_ms=due_ms, l1_address=l1_address
        )
        self._by_hash[tx_hash] = record
        if len(self._by_hash) > KEPT:
            self._by_hash.popitem(last=False)
        self._by_account.setdefault(tx.account, deque(maxlen=KEPT_PER_ACCOUNT)).append(record)
        return record

    def by_hash(self, tx_hash: str) -> Record | None:
        """A transaction by its hash."""
        return self._by_hash.get(tx_hash)

    def by_sequence(self, sequence: int) -> Record | None:
        """A transaction by its sequence index."""
        return next((item for item in reversed(self._by_hash.values()) if item.sequence == sequence), None)

    def of_account(self, account: int) -> Sequence[Record]:
        """Transactions of an account, oldest first."""
        return self._by_account.get(account, ())

    def latest(self, limit: int) -> list[Record]:
        """The newest, newest first."""
        return [item for item, _ in zip(reversed(self._by_hash.values()), range(limit), strict=False)]
