"""Snapshots of what accounts' logs fold to: a gateway starts from the newest that fits and folds only the log behind.

A snapshot is never taken of the live account. It is the last one, or nothing, with the stored events behind it folded
in: what a start would read, by the same code. Nothing is trusted that does not fit the log: its epoch, and the very
event at the snapshot's number. What does not fit is passed over; the other slot and the log itself are there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial

from google.protobuf.message import DecodeError

from venuemesh.bus import Bus
from venuemesh.errors import JournalUnavailable
from venuemesh.gateway.account_fold import FORMAT, AccountFold
from venuemesh.journal import AccountHistory
from venuemesh.snapshot_slots import BadSnapshot, SnapshotFormat, SnapshotSlots
from venuemesh.v1 import event_pb2
from venuemesh.v1.gateway_state_pb2 import GatewayAccountState

log = logging.getLogger(__name__)

FORM = SnapshotFormat(version=FORMAT, max_parts=4_096)
SERVICE = "gateway"


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotSettings:
    """When snapshots are written, and how gently.

    Attributes:
        every_events: of one account since its last snapshot; 0 for no snapshots, neither written nor read.
        look_every_s: between two looks whether one is due.
        step: so many events at once, or one piece, then `rest_s` for everybody else.
    """

    every_events: int = 20_000
    look_every_s: float = 10.0
    step: int = 16
    rest_s: float = 0.002


class AccountSnapshots:
    """Reads and writes the snapshots of one venue's accounts.

    Args:
        history: an account's stored events.
        sequence: number of an account's last event.
        epoch: numbering in force; asked once the log is open.
        retained: terminal orders of an account that are kept.
    """

    def __init__(
        self,
        bus: Bus,
        venue: str,
        accounts: Sequence[str],
        *,
        history: Callable[[str], AccountHistory],
        sequence: Callable[[str], int],
        epoch: Callable[[], str],
        settings: SnapshotSettings,
        retained: int = 10_000,
    ) -> None:
        self._retained = retained
        self._history = history
        self._sequence = sequence
        self._epoch = epoch
        self._settings = settings
        self._slots = {
            account_id: SnapshotSlots(
                bus, SERVICE, venue, account_id, form=FORM, on_unusable=partial(self._complain, account_id)
            )
            for account_id in accounts
        }
        self.saved = dict.fromkeys(accounts, 0)
        """Number of the last event in each account's newest snapshot; 0 without one."""
        self.unusable = 0
        """Snapshots found that did not fit."""

    async def fold(self, account_id: str, *, gently: bool = False) -> AccountFold:
        """What the account's whole log folds to.

        Args:
            gently: for the background; leaves most of the time to others.
        Raises:
            JournalUnavailable: the broker does not answer, or the log cannot be read.
        """
        pace = _Pace(self._settings) if gently else _Pace(None)
        history, slots = self._history(account_id), self._slots[account_id]
        for snapshot in await slots.stored() if self._settings.every_events else ():
            fold = AccountFold(retained=self._retained)
            try:
                async with aclosing(history.replay(after_sequence=max(0, snapshot.sequence - 1))) as events:
                    await self._load(fold, await slots.read(snapshot), pace)
                    self._require_fit(snapshot.epoch, fold, await anext(events, None))
                    slots.use(snapshot.slot)
                    self.saved[account_id] = fold.sequence
                    return await self._take_all(fold, events, pace)
            except BadSnapshot as error:
                self._complain(account_id, snapshot.slot, error)
        async with aclosing(history.replay()) as events:
            return await self._take_all(AccountFold(retained=self._retained), events, pace)

    async def _take_all(self, fold: AccountFold, events: AsyncGenerator[event_pb2.Event], pace: _Pace) -> AccountFold:
        async for event in events:
            fold.take(event)
            await pace.step()
        return fold

    async def _load(self, fold: AccountFold, payloads: Sequence[bytes], pace: _Pace) -> None:
        for payload in payloads:
            try:
                fold.load(GatewayAccountState.FromString(payload))
            except DecodeError as error:
                raise BadSnapshot(f"it cannot be read: {error}") from None
            await pace.rest()

    def _require_fit(self, epoch: str, fold: AccountFold, stored: event_pb2.Event | None) -> None:
        if epoch != self._epoch():
            raise BadSnapshot(f"it is of epoch {epoch}, {self._epoch()} is in force")
        if stored is None or stored.sequence != fold.sequence:
            raise BadSnapshot(f"the log has no event {fold.sequence}")
        if stored.event_id != fold.last_event_id:
            raise BadSnapshot(f"event {fold.sequence} of the log is {stored.event_id}, not {fold.last_event_id}")

    def _complain(self, account_id: str, slot: int, error: BadSnapshot) -> None:
        self.unusable += 1
        extra = {"account_id": account_id, "slot": slot, "cause": str(error)}
        log.warning("account_snapshot_unusable", extra=extra)

    async def run(self) -> None:
        """Write snapshots until cancelled. What fails is tried again at the next look."""
        while self._settings.every_events:
            for account_id, saved in list(self.saved.items()):
                if self._sequence(account_id) - saved >= self._settings.every_events:
                    try:
                        await self.save(account_id)
                    except (BadSnapshot, JournalUnavailable) as error:
                        extra = {"account_id": account_id, "cause": str(error)}
                        log.warning("account_snapshot_not_written", extra=extra)
            await asyncio.sleep(self._settings.look_every_s)

    async def save(self, account_id: str) -> None:
        """Write what the account's log folds to now.

        Raises:
            BadSnapshot: it is too large.
            JournalUnavailable: the broker does not answer.
        """
        fold = await self.fold(account_id, gently=True)
        pace, payloads = _Pace(self._settings), []
        for piece in fold.pieces():
            payloads.append(piece.SerializeToString())
            await pace.rest()
        size = await self._slots[account_id].write(self._epoch(), fold.sequence, payloads)
        self.saved[account_id] = fold.sequence
        extra = {"account_id": account_id, "sequence": fold.sequence, "bytes": size}
        log.info("account_snapshot_written", extra=extra)


class _Pace:
    """Gives way between steps; never, without settings."""

    def __init__(self, settings: SnapshotSettings | None) -> None:
        self._settings = settings
        self._steps = 0

    async def step(self) -> None:
        """One of many small things is done."""
        self._steps += 1
        if self._settings is not None and self._steps % self._settings.step == 0:
            await self.rest()

    async def rest(self) -> None:
        """Something larger is done."""
        if self._settings is not None:
            await asyncio.sleep(self._settings.rest_s)
