"""Account operations that move money inside a venue: journalled under their key, sent once, never resent.

A repeat of a key gives the first result. Where the answer to the first was lost, by a fault of the link or because
the process ended, every repeat says so: the account's ledger and balances tell what became of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.message import Message

from venuemesh.clock import Clock
from venuemesh.errors import (
    ClientOrderIdReused,
    Draining,
    MeshError,
    OutcomeUnknown,
    Reason,
    Sent,
    Unavailable,
    VenueRejected,
)
from venuemesh.gateway import rules
from venuemesh.gateway.account import Account
from venuemesh.gateway.desk import Desk
from venuemesh.gateway.evidence import proves_not_done
from venuemesh.gateway.order_wire import timestamp
from venuemesh.gateway.orders import reason_number
from venuemesh.gateway.venue import Refused, Reservation
from venuemesh.journal import EventLog, OrderJournal, SubjectTaken
from venuemesh.v1 import error_pb2, event_pb2

log = logging.getLogger(__name__)

KEY_PREFIX = "operation."
"""No client order id has a point, so that keys of operations and of orders never meet."""
MAX_REMEMBERED = 10_000
MAX_UNSENT = 1_000

Act = Callable[[Reservation], Awaitable[Refused | None]]
"""Sends the operation; a refusal is the venue's own."""


@dataclass(slots=True, kw_only=True)
class _Running:
    """One operation of this process, under way or done."""

    content: event_pb2.AccountOperation
    done: asyncio.Event = field(default_factory=asyncio.Event)
    failure: MeshError | None = None


class AccountOperations:
    """Performs each operation at most once. Memory is bounded: what was forgotten is read from the journal."""

    def __init__(
        self,
        desk: Desk,
        *,
        journal: OrderJournal,
        log: EventLog,
        clock: Clock,
        spawn: Callable[[Coroutine[Any, Any, None], str], object],
        writer_id: str,
    ) -> None:
        self._desk = desk
        self._venue = desk.venue
        self._journal = journal
        self._log = log
        self._clock = clock
        self._spawn = spawn
        self._writer_id = writer_id
        self._known: dict[tuple[str, str], _Running] = {}
        self._unsent: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def perform(self, account: Account, request_id: str, request: Message, act: Act) -> None:
        """Do it, or give the result of the first time under this key.

        Args:
            request: the whole request; a repeat must equal it.
        Raises:
            InvalidRequest, Draining, VenueUnavailable, JournalUnavailable: nothing was sent and the key is free.
            ClientOrderIdReused: the key belongs to another operation.
            VenueRejected: the venue refused, or it is proved that it never got there.
            OutcomeUnknown: it may have taken effect; it is not sent again, whatever is called.
        """
        rules.check_client_id(request_id, field="request_id")
        content = event_pb2.AccountOperation(
            method=request.DESCRIPTOR.full_name,
            request_id=request_id,
            request=request.SerializeToString(deterministic=True),
        )
        key = (account.account_id, request_id)
        known = self._known.get(key)
        if known is None:
            if self._desk.draining:
                raise Draining(f"{self._venue.name} gateway is stopping", retry_after_s=1.0)
            lifetime_ns = int(self._desk.settings.order_lifetime_s * 1e9)
            reservation = self._venue.reserve(account.account_id, not_after_ns=self._clock.now_ns() + lifetime_ns)
            known = _Running(content=content)
            self._remember(key, known)
            self._spawn(self._attempt(account, key, known, reservation, act), f"operation-{request_id}")
        elif known.content != content:
            raise _reused(request_id)
        await self._wait(known)

    async def _wait(self, running: _Running) -> None:
        try:
            async with asyncio.timeout(max(self._desk.wait_s(), 0)):
                await running.done.wait()
        except TimeoutError:
            raise _unknown(running.content.request_id, "the venue has not answered yet") from None
        if running.failure is not None:
            raise running.failure

    def _remember(self, key: tuple[str, str], running: _Running) -> None:
        self._known[key] = running
        if len(self._known) > MAX_REMEMBERED:
            oldest = next((name for name, row in self._known.items() if row.done.is_set()), None)
            if oldest is not None:
                del self._known[oldest]

    async def _attempt(
        self, account: Account, key: tuple[str, str], running: _Running, reservation: Reservation, act: Act
    ) -> None:
        """Journal, send, record. Runs to its end whatever becomes of the call that began it."""
        running.failure = _unknown(key[1], "the gateway is stopping")
        try:
            await self._write_intent(account, running, reservation)
        except SubjectTaken:
            running.failure = await self._first_result(account, running)
            if isinstance(running.failure, (ClientOrderIdReused, Unavailable)):
                # Said of this call, not of the key.
                self._known.pop(key, None)
        except MeshError as error:
            # The broker may store the intent after all; nothing was sent, and a repeat must be told so.
            self._remember_unsent(key)
            self._known.pop(key, None)
            running.failure = error
        else:
            self._unsent.pop(key, None)
            running.failure = await self._send(account, running, reservation, act)
        finally:
            running.done.set()

    def _remember_unsent(self, key: tuple[str, str]) -> None:
        self._unsent[key] = None
        while len(self._unsent) > MAX_UNSENT:
            self._unsent.popitem(last=False)

    async def _write_intent(self, account: Account, running: _Running, reservation: Reservation) -> None:
        intent = event_pb2.OrderIntent(
            account_operation=running.content,
            nonce=reservation.nonce,
            expires_unix_nanos=reservation.expires_ns,
            journalled_time=timestamp(self._clock.now_ns()),
            writer_id=self._writer_id,
        )
        await self._journal.write_intent(account.account_id, KEY_PREFIX + running.content.request_id, intent)

    async def _first_result(self, account: Account, running: _Running) -> MeshError | None:
        """What an earlier process, or an earlier time of this one, made of the key."""
        request_id = running.content.request_id
        name = KEY_PREFIX + request_id
        try:
            intent = await self._journal.read_intent(account.account_id, name)
            outcome = await self._journal.read_outcome(account.account_id, name)
        except MeshError as error:
            return error
        if intent is not None and intent.account_operation != running.content:
            return _reused(request_id)
        if outcome is None and (account.account_id, request_id) in self._unsent:
            text = "the journal did not confirm it in time, so nothing was sent: use another request_id"
            return self._record(account, request_id, Refused(reason=Reason.NEVER_REACHED_VENUE, text=text))
        if outcome is None:
            return _unknown(request_id, "its first attempt was left without a result")
        result = outcome.account_operation
        if result.done:
            return None
        reason = Reason(error_pb2.Reason.Name(result.reason).removeprefix("REASON_"))
        return _rejected(Refused(reason=reason, text=result.text))

    async def _send(self, account: Account, running: _Running, reservation: Reservation, act: Act) -> MeshError | None:
        request_id = running.content.request_id
        try:
            refused = await act(reservation)
        except MeshError as error:
            if not proves_not_done(error):
                return _unknown(request_id, error.message)
            refused = Refused(reason=error.reason, text=error.message)
        except Exception as error:
            log.exception("account_operation_failed", extra={"request_id": request_id})
            return _unknown(request_id, f"fault of ours: {type(error).__name__}")
        log.info("account_operation", extra={"operation": running.content.method, "done": refused is None})
        return self._record(account, request_id, refused)

    def _record(self, account: Account, request_id: str, refused: Refused | None) -> MeshError | None:
        """Store the last word on a key; returns what it is to whoever asks."""
        result = event_pb2.AccountOperationResult(done=refused is None)
        if refused is not None:
            result.reason, result.text = reason_number(refused.reason), refused.text
        outcome = event_pb2.OrderOutcome(account_operation=result)
        self._log.append_outcome(account.account_id, KEY_PREFIX + request_id, outcome)
        return None if refused is None else _rejected(refused)


def _rejected(refused: Refused) -> VenueRejected:
    return VenueRejected(
        refused.text, reason=refused.reason, sent=Sent.YES, metadata={"venue_text": refused.text[:2_000]}
    )


def _unknown(request_id: str, why: str) -> OutcomeUnknown:
    return OutcomeUnknown(
        f"request_id {request_id!r} may or may not have taken effect ({why}); it is not sent again: "
        "read the balances and the ledger",
        metadata={"request_id": request_id},
    )


def _reused(request_id: str) -> ClientOrderIdReused:
    return ClientOrderIdReused(
        f"request_id: {request_id!r} belongs to another operation",
        field="request_id",
        metadata={"request_id": request_id},
    )
