"""Waiting for what became of a transaction: the acknowledgement says only that it is queued. No I/O.

The account stream tells it twice, as the transaction's row and as the order's; whichever comes first and is conclusive
settles it. Whoever waits registers before sending, because the stream may be faster than the answer.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final, TypeAlias

from gateway_lighter.codec_verdicts import TransactionState, Verdict
from venuemesh.gateway.venue import VenueOrder

REMEMBERED: Final = 10_000
"""Transactions whose hash is kept to ask about later."""

Finding: TypeAlias = Verdict | VenueOrder


class Expectation:
    """One transaction on its way."""

    def __init__(self, owner: Verdicts, tx_hash: str, client_index: int) -> None:
        self._owner = owner
        self.tx_hash = tx_hash
        self.client_index = client_index
        self.verdict: Verdict | None = None
        self.order: VenueOrder | None = None
        self.changed = asyncio.Event()

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What is known so far; the order's row says more than the transaction's."""
        return tuple(finding for finding in (self.order, self.verdict) if finding is not None)

    def tell(self, finding: Finding) -> None:
        """Take what the venue said; a transaction still queued says nothing."""
        if isinstance(finding, VenueOrder):
            self.order = finding
        elif finding.state is not TransactionState.QUEUED:
            self.verdict = finding
        else:
            return
        self.changed.set()

    def close(self) -> None:
        """Nobody waits any more."""
        self._owner.forget(self)


class Verdicts:
    """The transactions of one account that somebody waits for."""

    def __init__(self) -> None:
        self._by_hash: dict[str, list[Expectation]] = {}
        self._by_client_index: dict[int, Expectation] = {}
        self._sent: OrderedDict[int, str] = OrderedDict()

    def expect(self, tx_hash: str, client_index: int = 0) -> Expectation:
        """Wait for a transaction from now on; `client_index` is that of the order it makes, 0 when it makes none.

        A transaction that makes several orders is waited for once for each.
        """
        expectation = Expectation(self, tx_hash, client_index)
        self._by_hash.setdefault(tx_hash, []).append(expectation)
        if client_index:
            self._by_client_index[client_index] = expectation
            self._sent[client_index] = tx_hash
            self._sent.move_to_end(client_index)
            while len(self._sent) > REMEMBERED:
                self._sent.popitem(last=False)
        return expectation

    def sent_hash(self, client_index: int) -> str | None:
        """The hash of the latest transaction that was to make this order, where it is still remembered."""
        return self._sent.get(client_index)

    def on_verdict(self, verdict: Verdict) -> None:
        """A transaction's row came."""
        for expectation in self._by_hash.get(verdict.tx_hash.lower().removeprefix("0x"), ()):
            expectation.tell(verdict)

    def on_order(self, client_index: int, order: VenueOrder) -> None:
        """An order's state came."""
        if expectation := self._by_client_index.get(client_index):
            expectation.tell(order)

    def is_first_sight(self, client_index: int) -> bool:
        """Whether somebody waits for this order and nothing of it has been seen yet."""
        expectation = self._by_client_index.get(client_index)
        return expectation is not None and expectation.order is None

    def forget(self, expectation: Expectation) -> None:
        """See `Expectation.close`."""
        waiting = self._by_hash.get(expectation.tx_hash, [])
        if expectation in waiting:
            waiting.remove(expectation)
        if not waiting:
            self._by_hash.pop(expectation.tx_hash, None)
        if self._by_client_index.get(expectation.client_index) is expectation:
            del self._by_client_index[expectation.client_index]
