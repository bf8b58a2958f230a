"""What the journal knows of amendments: that one was asked for under a key, and what became of it.

An amendment whose answer was lost has no outcome of its own: what became of it is in the order's events.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace

from venuemesh.clock import Clock
from venuemesh.errors import ClientOrderIdReused, JournalUnavailable, Reason
from venuemesh.gateway.order_wire import timestamp, to_order
from venuemesh.gateway.orders import OrderState, reason_number
from venuemesh.gateway.venue import OrderTicket
from venuemesh.journal import AccountHistory, EventLog, OrderJournal
from venuemesh.v1 import event_pb2
from venuemesh.v1 import order_pb2 as pb
from venuemesh.v1 import order_service_pb2 as service

KEY_PREFIX = "amend."
"""No client order id has a point, so that keys of amendments and of orders never meet."""
MAX_UNSENT = 1_000

Result = tuple[service.SubmitOutcome.ValueType, pb.Reject | None]
APPLIED: Result = (service.SUBMIT_OUTCOME_ACKNOWLEDGED, None)


class AmendmentJournal:
    """Intents and outcomes of amendments at one venue."""

    def __init__(
        self,
        journal: OrderJournal,
        log: EventLog,
        history: Callable[[str], AccountHistory],
        *,
        clock: Clock,
        writer_id: str,
    ) -> None:
        self._journal = journal
        self._log = log
        self._history = history
        self._clock = clock
        self._writer_id = writer_id
        self._unsent: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def write_intent(
        self, account_id: str, order: OrderState, ticket: OrderTicket, request: service.ReplaceOrderRequest
    ) -> None:
        """Store what is about to be asked of the venue.

        Raises:
            SubjectTaken: the key has an intent. JournalUnavailable: not confirmed, so nothing may be sent.
        """
        price = None if order.price is None else ticket.price
        wanted = replace(order, quantity=ticket.quantity, price=price, trigger_price=ticket.trigger_price)
        intent = event_pb2.OrderIntent(
            order=to_order(wanted),
            nonce=ticket.reservation.nonce,
            expires_unix_nanos=ticket.reservation.expires_ns,
            journalled_time=timestamp(self._clock.now_ns()),
            writer_id=self._writer_id,
            amendment=request.SerializeToString(deterministic=True),
        )
        key = (account_id, request.request_id)
        try:
            await self._journal.write_intent(account_id, KEY_PREFIX + request.request_id, intent)
        except JournalUnavailable:
            # The broker may store it after all; nothing is sent, and a repeat must be told so.
            self._unsent[key] = None
            if len(self._unsent) > MAX_UNSENT:
                self._unsent.popitem(last=False)
            raise
        self._unsent.pop(key, None)

    def record(self, account_id: str, request_id: str, result: Result) -> Result:
        """Store what became of an amendment, behind the events that tell it; returns it."""
        outcome, reject = result
        applied = outcome == service.SUBMIT_OUTCOME_ACKNOWLEDGED
        stored = event_pb2.OrderOutcome(amendment=event_pb2.AmendmentResult(applied=applied, reject=reject))
        self._log.append_outcome(account_id, KEY_PREFIX + request_id, stored)
        return result

    async def result(self, account_id: str, order: OrderState, request: service.ReplaceOrderRequest) -> Result | None:
        """What became of the amendment that was asked for under this key; None when there is none.

        Raises:
            ClientOrderIdReused: the key belongs to another amendment. JournalUnavailable: the broker does not answer.
        """
        intent = await self._journal.read_intent(account_id, KEY_PREFIX + request.request_id)
        if intent is None:
            return None
        content = request.SerializeToString(deterministic=True)
        if intent.order.order_id != order.order_id or intent.amendment not in (b"", content):
            raise reused(request.request_id, intent.order.order_id)
        # What this process knows of it may be on its way to the broker.
        await self._log.flush()
        outcome = await self._journal.read_outcome(account_id, KEY_PREFIX + request.request_id)
        if outcome is not None and outcome.HasField("amendment"):
            told = outcome.amendment
            reject = told.reject if told.HasField("reject") else None
            return APPLIED if told.applied else (service.SUBMIT_OUTCOME_REJECTED, reject)
        if (account_id, request.request_id) in self._unsent:
            text = "the journal did not confirm it in time, so nothing was sent: use another request_id"
            reject = pb.Reject(reason=reason_number(Reason.NEVER_REACHED_VENUE), message=text)
            return self.record(account_id, request.request_id, (service.SUBMIT_OUTCOME_REJECTED, reject))
        if order.pending_replace:
            return service.SUBMIT_OUTCOME_UNKNOWN, None
        return await self.settled(account_id, intent) or (service.SUBMIT_OUTCOME_UNKNOWN, None)

    async def settled(self, account_id: str, intent: event_pb2.OrderIntent) -> Result | None:
        """What the stored events of the order say became of an amendment; None while they say nothing."""
        terms, version, pending = intent.order.terms, intent.order.order_version, False
        history = self._history(account_id).of_order(terms.symbol, terms.client_order_id)
        async with aclosing(history) as events:
            async for event in events:
                report = event.execution_report
                if report.order.order_version <= version:
                    continue
                if report.execution_type == pb.EXECUTION_TYPE_REPLACED:
                    return APPLIED
                if pending and not report.order.pending_replace:
                    reject = pb.Reject(reason=reason_number(Reason.VENUE_REJECTED), message=report.text)
                    return service.SUBMIT_OUTCOME_REJECTED, reject
                pending = pending or report.order.pending_replace
        return None


def reused(request_id: str, order_id: str) -> ClientOrderIdReused:
    """The refusal of a key that belongs to another amendment."""
    return ClientOrderIdReused(
        f"request_id: {request_id!r} belongs to another amendment, of order {order_id}",
        field="request_id",
        metadata={"request_id": request_id, "order_id": order_id},
    )
