"""Client order indices: 48 bits of the venue for our 128-bit order ids. Pure.

The index is a digest of the order id, so that it needs no table to be found again; what was given out stands in the
order's journalled intent, which is what every later question uses. Where the first digest belongs to another order that
is known here (live at the venue when the account was connected, or seen since), the next digest of the same id is
taken: two orders that a reader could mistake for one another never arise. What is not known here the venue itself
refuses while the other order is live (21728).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import Final

from gateway_lighter.transactions import client_order_index
from venuemesh.errors import InvalidRequest, Reason

REMEMBERED: Final = 100_000
"""Indices of ended orders that are not given out again."""
ATTEMPTS: Final = 16

_FOREIGN: Final = ""


def derive_index(order_id: str, attempt: int = 0) -> int:
    """The client order index of an order id, 1..2^48-1; `attempt` 0 is the usual one."""
    if attempt == 0:
        return client_order_index(order_id)
    digest = hashlib.blake2b(f"{order_id}#{attempt}".encode(), digest_size=6, person=b"lighter-coi").digest()
    return int.from_bytes(digest, "big") or 1


class ClientIndices:
    """Which index belongs to which order, as far as known here."""

    def __init__(self) -> None:
        self._live: dict[int, str] = {}
        self._ended: OrderedDict[int, str] = OrderedDict()

    def assign(self, order_id: str) -> int:
        """The index for an order: the first of its own that no other order has.

        Raises:
            InvalidRequest: none is free, which cannot happen by chance.
        """
        for attempt in range(ATTEMPTS):
            index = derive_index(order_id, attempt)
            if self._owner(index) in (None, order_id):
                return index
        raise InvalidRequest(
            f"order_id {order_id}: no client order index is free", reason=Reason.INVALID_CLIENT_ORDER_ID
        )

    def hold(self, index: int, order_id: str = _FOREIGN) -> None:
        """An order with this index is, or may become, live; `order_id` where it is ours."""
        if index:
            known = self._ended.pop(index, None) or self._live.get(index)
            self._live[index] = known or order_id

    def remember(self, index: int) -> None:
        """An order with this index was asked about: nobody else gets it."""
        if index and index not in self._live:
            self.release(index)

    def release(self, index: int) -> None:
        """The order with this index has ended."""
        if index:
            self._ended[index] = self._live.pop(index, self._ended.get(index, _FOREIGN))
            self._ended.move_to_end(index)
            while len(self._ended) > REMEMBERED:
                self._ended.popitem(last=False)

    def _owner(self, index: int) -> str | None:
        return self._live.get(index, self._ended.get(index))
