"""Puts each account's events into their own order, from a log that may repeat or slightly reorder them. Pure.

What it decides follows from the log alone, broker times included, so two readers of the same log decide the same.
A gap stays open while events may still come late: until `hold_limit` of the account's events wait behind it, or the log
is `patience_s` past its beginning. Then it is overdue, and the owner looks once more before it gives the gap up.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field

from venuemesh.v1 import event_pb2, portfolio_state_pb2

AccountKey = tuple[str, str]
"""Venue and account."""

HOLD_LIMIT = 256
PATIENCE_S = 30.0
_REMEMBERED_IDS = 256
_REMEMBERED_LOSSES = 256
_REMEMBERED_EPOCHS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """Numbers that are missing, both ends included, and the broker time at which that was seen."""

    key: AccountKey
    epoch: str
    first: int
    last: int
    since_ns: int
    behind: int
    """Log sequence up to which nothing is missing."""

    def __str__(self) -> str:
        return f"event {self.first}" if self.first == self.last else f"events {self.first} to {self.last}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequenced:
    """What one message led to: events whose turn has come, or why it was refused. Neither for a repeat."""

    ready: tuple[event_pb2.Event, ...] = ()
    refused: str = ""


@dataclass(slots=True)
class _Order:
    epoch: str
    last: int
    log_position: int = 0
    held: dict[int, event_pb2.Event] = field(default_factory=dict)
    ids: dict[int, str] = field(default_factory=dict)
    lost: list[tuple[int, int]] = field(default_factory=list)
    former: list[str] = field(default_factory=list)
    gap_since_ns: int = 0

    def copy(self) -> _Order:
        return _Order(
            self.epoch,
            self.last,
            self.log_position,
            dict(self.held),
            dict(self.ids),
            list(self.lost),
            list(self.former),
            self.gap_since_ns,
        )

    def save(self) -> portfolio_state_pb2.OrderingState:
        return portfolio_state_pb2.OrderingState(
            epoch=self.epoch,
            last=self.last,
            log_position=self.log_position,
            held=(self.held[number] for number in sorted(self.held)),
            ids=(portfolio_state_pb2.NumberedId(number=number, event_id=name) for number, name in self.ids.items()),
            lost=(portfolio_state_pb2.NumberRange(first=first, last=last) for first, last in self.lost),
            former_epochs=self.former,
            gap_since_unix_nanos=self.gap_since_ns,
        )

    @classmethod
    def load(cls, state: portfolio_state_pb2.OrderingState) -> _Order:
        return cls(
            state.epoch,
            state.last,
            state.log_position,
            {event.sequence: event for event in state.held},
            {entry.number: entry.event_id for entry in state.ids},
            [(gap.first, gap.last) for gap in state.lost],
            list(state.former_epochs),
            state.gap_since_unix_nanos,
        )

    def release(self, log_sequence: int, time_ns: int) -> tuple[event_pb2.Event, ...]:
        ready = []
        while (event := self.held.pop(self.last + 1, None)) is not None:
            ready.append(event)
            self.last += 1
        if not self.held:
            self.gap_since_ns = 0
            self.log_position = log_sequence
        elif ready or not self.gap_since_ns:
            self.gap_since_ns = time_ns
        return tuple(ready)


class Sequencer:
    """The order of every account. See the module.

    Args:
        begin_anywhere: whether an account may begin with any number, because the log's own beginning is gone.
    """

    def __init__(
        self, *, begin_anywhere: bool = False, hold_limit: int = HOLD_LIMIT, patience_s: float = PATIENCE_S
    ) -> None:
        self.begin_anywhere = begin_anywhere
        self._hold_limit = hold_limit
        self._patience_ns = round(patience_s * 1e9)
        self._orders: dict[AccountKey, _Order] = {}
        self._gapped: set[AccountKey] = set()

    def offer(self, event: event_pb2.Event, *, log_sequence: int, time_ns: int) -> Sequenced:
        """Take the next message of the log; `event` names an account, an epoch and a number above 0."""
        key = (event.venue, event.account_id)
        order = self._orders.get(key)
        if order is None:
            last = event.sequence - 1 if self.begin_anywhere else 0
            order = self._orders[key] = _Order(event.epoch, last, log_sequence - 1)
        elif event.epoch != order.epoch:
            if event.epoch in order.former:
                return Sequenced(refused=f"epoch {event.epoch} ended before, {order.epoch} is in force")
            order = self._orders[key] = _next_epoch(order, event.epoch, log_sequence)
        refused = _refusal(order, event)
        if refused is not None:
            return Sequenced(refused=refused)
        order.ids[event.sequence] = event.event_id
        if len(order.ids) > _REMEMBERED_IDS:
            del order.ids[next(iter(order.ids))]
        order.held[event.sequence] = event
        return Sequenced(ready=self._release(key, order, log_sequence, time_ns))

    def gap(self, key: AccountKey) -> Gap | None:
        """The account's oldest open gap."""
        order = self._orders.get(key)
        if order is None or not order.held:
            return None
        return Gap(
            key=key,
            epoch=order.epoch,
            first=order.last + 1,
            last=min(order.held) - 1,
            since_ns=order.gap_since_ns,
            behind=order.log_position,
        )

    def overdue(self, time_ns: int) -> list[Gap]:
        """Gaps to be repaired or given up now that the log has reached broker time `time_ns`."""
        if not self._gapped:
            return []
        gaps = [gap for key in sorted(self._gapped) if (gap := self.gap(key)) is not None]
        return [
            gap
            for gap in gaps
            if len(self._orders[gap.key].held) > self._hold_limit or time_ns - gap.since_ns > self._patience_ns
        ]

    def give_up(self, gap: Gap, *, log_sequence: int, time_ns: int) -> Sequenced:
        """Go on behind `gap`. What comes of it later is refused."""
        order = self._orders[gap.key]
        if order.epoch != gap.epoch or order.last + 1 != gap.first or not order.held:
            return Sequenced()
        order.lost = [*order.lost, (gap.first, gap.last)][-_REMEMBERED_LOSSES:]
        order.last = gap.last
        return Sequenced(ready=self._release(gap.key, order, log_sequence, time_ns))

    def copy(self) -> Sequencer:
        """An independent one in the same state; events are shared, they never change."""
        twin = copy.copy(self)
        twin._gapped = set(self._gapped)
        twin._orders = {key: order.copy() for key, order in self._orders.items()}
        return twin

    @property
    def waits(self) -> bool:
        """Whether any account has events that came before their turn."""
        return bool(self._gapped)

    def checkpoint(self) -> Sequencer:
        """A copy that releases the same events from here on but knows no ids of those before. Only while none waits."""
        assert not self.waits, "what is held would be lost"
        twin = copy.copy(self)
        twin._gapped = set()
        twin._orders = {key: order.copy() for key, order in self._orders.items()}
        for order in twin._orders.values():
            order.ids.clear()
        return twin

    def save(self) -> dict[AccountKey, portfolio_state_pb2.OrderingState]:
        """Its state, for `load`."""
        return {key: order.save() for key, order in self._orders.items()}

    @classmethod
    def load(
        cls, states: Iterable[tuple[AccountKey, portfolio_state_pb2.OrderingState]], *, begin_anywhere: bool
    ) -> Sequencer:
        """The sequencer that was saved."""
        loaded = cls(begin_anywhere=begin_anywhere)
        loaded._orders = {key: _Order.load(state) for key, state in states}
        loaded._gapped = {key for key, order in loaded._orders.items() if order.held}
        return loaded

    def _release(self, key: AccountKey, order: _Order, log_sequence: int, time_ns: int) -> tuple[event_pb2.Event, ...]:
        ready = order.release(log_sequence, time_ns)
        if order.held:
            self._gapped.add(key)
        else:
            self._gapped.discard(key)
        return ready


def _next_epoch(order: _Order, epoch: str, log_sequence: int) -> _Order:
    former = [*order.former, order.epoch][-_REMEMBERED_EPOCHS:]
    return _Order(epoch, 0, log_sequence - 1, former=former)


def _refusal(order: _Order, event: event_pb2.Event) -> str | None:
    """None for a message to take, "" for a repeat, else what is wrong with it."""
    known = order.ids.get(event.sequence)
    if known is not None:
        return "" if known == event.event_id else f"number {event.sequence} is already event {known!r}"
    if event.sequence > order.last:
        return None
    if any(first <= event.sequence <= last for first, last in order.lost):
        return f"number {event.sequence} came after its gap had been given up"
    return ""
