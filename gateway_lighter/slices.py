"""Slices of TWAPs: the venue works one as immediate orders of its own, each naming its parent. Pure.

To the mesh a TWAP is one order, and what its slices fill is filled by it. A trade names the slice only, and may come
before the slice's row: it is kept until the row says whose it is. Where none comes, the fills asked for later tell.
Source: venue reference sections 5 and 11.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace
from typing import Final, TypeVar

from gateway_lighter import account_messages as wire
from venuemesh.gateway.venue import VenueFill

REMEMBERED: Final = 50_000
"""Slices whose parent is known; a day of one TWAP has 2,880."""
MAX_HELD: Final = 1_000
"""Fills that wait for their order's row; the oldest is let go as it is."""

_TWAP: Final = "twap"
_SLICE: Final = "twap-sub"
_LIVE: Final = frozenset({"in-progress", "pending", "open"})


def is_slice(row: wire.Order) -> bool:
    """Whether an order row is a slice's."""
    return row.type == _SLICE


class Slices:
    """The TWAPs of one account and their slices, as far as rows have told."""

    def __init__(self) -> None:
        self._parents: OrderedDict[str, str] = OrderedDict()
        self._client_ids: OrderedDict[str, str | None] = OrderedDict()
        self._working: set[str] = set()
        self._held: OrderedDict[str, list[VenueFill]] = OrderedDict()

    def learn(self, row: wire.Order) -> list[VenueFill]:
        """Take note of an order's row; the fills that waited for it, told as its TWAP's where it is a slice."""
        index = str(row.order_index)
        if is_slice(row) and row.parent_order_index:
            _keep(self._parents, index, str(row.parent_order_index))
        elif row.type == _TWAP:
            _keep(self._client_ids, index, str(row.client_order_index) if row.client_order_index else None)
            (self._working.add if row.status in _LIVE else self._working.discard)(index)
        return [self.attribute(fill) for fill in self._held.pop(index, ())]

    def attribute(self, fill: VenueFill) -> VenueFill:
        """A slice's fill as its TWAP's; any other as it is."""
        parent = self._parents.get(fill.venue_order_id)
        if parent is None:
            return fill
        return replace(fill, venue_order_id=parent, venue_client_order_id=self._client_ids.get(parent))

    def receive(self, fill: VenueFill) -> list[VenueFill]:
        """Fills to tell now that this one has come: itself, unless it may be a slice's whose row is still to come."""
        if not self._working or not self.is_unknown(fill):
            return [self.attribute(fill)]
        self._held.setdefault(fill.venue_order_id, []).append(fill)
        if sum(len(fills) for fills in self._held.values()) <= MAX_HELD:
            return []
        return self._held.popitem(last=False)[1]

    def is_unknown(self, fill: VenueFill) -> bool:
        """Whether a fill may be of a slice nobody has told of: a slice has no client order index."""
        known = fill.venue_order_id in self._parents or fill.venue_order_id in self._client_ids
        return fill.venue_client_order_id is None and not known

    def forget_held(self) -> None:
        """The connection is gone: fills are asked for when it is back."""
        self._held.clear()

    def learn_all(self, rows: Iterable[wire.Order]) -> None:
        """Take note of rows that were asked for; nothing is told."""
        for row in rows:
            if row.type in (_TWAP, _SLICE):
                self.learn(row)


V = TypeVar("V")


def _keep(table: OrderedDict[str, V], key: str, value: V) -> None:
    table[key] = value
    while len(table) > REMEMBERED:
        table.popitem(last=False)
