"""Journal, send, settle: what happens to orders from the moment their keys are used up.

Orders that go in one action are journalled one by one before the one send. Whatever happens then ends in their states:
accepted, refused, or uncertain and handed to whoever finds out. Nothing here waits for a caller.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence

from venuemesh.clock import Clock
from venuemesh.crashpoints import CrashPoint, reach
from venuemesh.errors import Draining, MeshError, ProtocolViolation, Reason, Sent
from venuemesh.gateway.account import Account
from venuemesh.gateway.attempts import Entry, duration
from venuemesh.gateway.evidence import facts_of_placed, proves_not_done
from venuemesh.gateway.facts import OutcomeLost, RejectedByVenue, refusal
from venuemesh.gateway.order_wire import timestamp, to_order
from venuemesh.gateway.venue import Grouping, Placed, Refused, Reservation, Unclear, Venue
from venuemesh.gateway.venue_offers import SignsAhead
from venuemesh.journal import OrderJournal, SubjectTaken
from venuemesh.turns import give_way
from venuemesh.v1 import event_pb2
from venuemesh.v1 import order_pb2 as pb

log = logging.getLogger(__name__)

MAX_UNSENT = 1_000
_TURNS_TO_WRITE = 3  # of the event loop: the task that writes an intent, the client's own writer, the socket

Answer = Placed | Refused | Unclear


class Sending:
    """Carries orders of one venue from journal to answer.

    Attributes:
        reservations: what was reserved for orders that are not terminal, by order id: tells when absence becomes proof.
        unsent: keys whose intent may be stored later than we waited: certain not to have been sent. Bounded.
        on_doubt: called with an order nobody can tell the state of.
    """

    def __init__(self, *, venue: Venue, journal: OrderJournal, clock: Clock, writer_id: str) -> None:
        self.reservations: dict[str, Reservation] = {}
        self.unsent: OrderedDict[tuple[str, str], None] = OrderedDict()
        self.on_doubt: Callable[[Account, str], None] = lambda _account, _order_id: None
        self._venue = venue
        self._journal = journal
        self._clock = clock
        self._writer_id = writer_id
        self._signer = venue if isinstance(venue, SignsAhead) else None

    async def run(
        self,
        account: Account,
        entries: Sequence[Entry],
        done: Callable[[Entry], None],
        grouping: Grouping = Grouping.NONE,
    ) -> None:
        """Journal the orders of one action and send what was journalled.

        Of orders that belong together all are sent or none; of others, those that could be journalled.

        Args:
            done: told of each order whose attempt has ended, however it did.
        """
        try:
            ready = await self._journal_all(account, entries, grouping)
            if ready:
                reach(CrashPoint.INTENT_WRITTEN)
                for entry in ready:
                    account.take(entry.state)
                    self.reservations[entry.state.order_id] = entry.ticket.reservation
                reach(CrashPoint.EVENT_QUEUED)
                for entry in ready:
                    entry.attempt.journalled.set_result(None)
                await self._send(account, ready, grouping)
        finally:
            for entry in entries:
                if not entry.attempt.journalled.done():
                    # Cancelled or broken before the intent was confirmed: whoever waits must not wait for ever.
                    stopped = Draining(f"{self._venue.name} gateway is stopping; nothing was sent", retry_after_s=1.0)
                    entry.attempt.fail(stopped)
                # An attempt that ended without sending is answered too.
                entry.attempt.sent.set()
                entry.attempt.answered.set()
                done(entry)

    # journal

    async def _journal_all(self, account: Account, entries: Sequence[Entry], grouping: Grouping) -> list[Entry]:
        if grouping is not Grouping.NONE:
            return await self._journal_list(account, entries)
        writing = asyncio.gather(*(self._write_intent(account, entry) for entry in entries))
        try:
            await self._sign_ahead(entries)
        except BaseException:
            writing.cancel()
            raise
        failures = await writing
        for entry, failure in zip(entries, failures, strict=True):
            if failure is not None:
                entry.attempt.fail(failure)
        return [entry for entry, failure in zip(entries, failures, strict=True) if failure is None]

    async def _journal_list(self, account: Account, entries: Sequence[Entry]) -> list[Entry]:
        """All or none: where one cannot be journalled, those that were are told never to have been sent."""
        written: list[Entry] = []
        for entry in entries:
            failure = await self._write_intent(account, entry)
            if failure is None:
                written.append(entry)
                continue
            for other in entries:
                if other not in written:
                    other.attempt.fail(failure)
            for other in written:
                account.take(other.state)
                text = "another order of its list could not be journalled, so nothing was sent"
                fact = RejectedByVenue(reason=Reason.NEVER_REACHED_VENUE, text=text, origin=pb.ORIGIN_GATEWAY)
                account.apply(other.state.order_id, fact)
                other.attempt.journalled.set_result(None)
            return []
        return written

    async def _write_intent(self, account: Account, entry: Entry) -> SubjectTaken | MeshError | None:
        reservation, state = entry.ticket.reservation, entry.state
        key = (account.account_id, state.terms.client_order_id)
        intent = event_pb2.OrderIntent(
            order=to_order(state),
            nonce=reservation.nonce,
            expires_unix_nanos=reservation.expires_ns,
            journalled_time=timestamp(self._clock.now_ns()),
            writer_id=self._writer_id,
        )
        try:
            await self._journal.write_intent(*key, intent)
        except SubjectTaken as taken:
            return taken
        except MeshError as error:
            self._remember_unsent(key)
            return error
        self.unsent.pop(key, None)
        entry.attempt.timings.journal.CopyFrom(duration(self._clock.monotonic_s() - entry.attempt.received_s))
        return None

    async def _sign_ahead(self, entries: Sequence[Entry]) -> None:
        """Use the broker's time for the one signature that is needed next, once the intent is on its way to it."""
        if self._signer is None or len(entries) != 1:
            return
        await give_way(_TURNS_TO_WRITE)
        try:
            self._signer.sign_ahead(entries[0].ticket)
        except Exception:
            # Placing the order meets the same and answers for it, if the journal takes the order at all.
            log.info("not_signed_ahead", exc_info=True)

    def _remember_unsent(self, key: tuple[str, str]) -> None:
        self.unsent[key] = None
        while len(self.unsent) > MAX_UNSENT:
            self.unsent.popitem(last=False)

    # venue

    async def _send(self, account: Account, entries: Sequence[Entry], grouping: Grouping) -> None:
        journalled_s = self._clock.monotonic_s()
        written_s = journalled_s

        def sent() -> None:
            nonlocal written_s
            written_s = self._clock.monotonic_s()
            for entry in entries:
                entry.attempt.timings.send.CopyFrom(duration(written_s - journalled_s))
                entry.attempt.sent.set()
            reach(CrashPoint.REQUEST_WRITTEN)

        try:
            answers = await self._place(entries, sent, grouping)
        except MeshError as error:
            for entry in entries:
                self._settle_failure(account, entry, error)
            return
        except Exception as error:
            log.exception("place_order_failed", extra={"order_ids": [entry.state.order_id for entry in entries]})
            for entry in entries:
                self.lose(account, entry.state.order_id, f"fault of ours: {type(error).__name__}")
            return
        reach(CrashPoint.ANSWER_READ)
        for entry, answer in zip(entries, answers, strict=True):
            entry.attempt.timings.acknowledgement.CopyFrom(duration(self._clock.monotonic_s() - written_s))
            self._settle(account, entry.state.order_id, answer)
        reach(CrashPoint.ANSWER_FOLDED)

    async def _place(self, entries: Sequence[Entry], sent: Callable[[], None], grouping: Grouping) -> Sequence[Answer]:
        tickets = [entry.ticket for entry in entries]
        if len(tickets) == 1 and grouping is Grouping.NONE:
            return [await self._venue.place_order(tickets[0], sent)]
        answers = await self._venue.place_orders(tickets, sent, grouping=grouping)
        if len(answers) != len(tickets):
            raise ProtocolViolation(f"{len(answers)} answers to {len(tickets)} orders", sent=Sent.MAYBE)
        return answers

    def _settle(self, account: Account, order_id: str, answer: Answer) -> None:
        match answer:
            case Refused():
                account.apply(order_id, refusal(answer))
            case Unclear():
                self.lose(account, order_id, answer.cause)
            case Placed():
                order = account.order(order_id)
                for fact in facts_of_placed(answer, order) if order else ():
                    account.apply(order_id, fact)

    def _settle_failure(self, account: Account, entry: Entry, error: MeshError) -> None:
        """A failed send: proved not to have taken effect, or unknown."""
        written = entry.attempt.sent.is_set()
        if not proves_not_done(error) or (written and error.sent is Sent.NO):
            self.lose(account, entry.state.order_id, error.message)
            return
        fact = RejectedByVenue(reason=error.reason, text=error.message, origin=pb.ORIGIN_GATEWAY)
        account.apply(entry.state.order_id, fact)

    def lose(self, account: Account, order_id: str, cause: str) -> None:
        """Nobody can tell any more what became of an order: somebody must find out."""
        account.apply(order_id, OutcomeLost(cause=cause))
        self.on_doubt(account, order_id)
