"""Orders at the venue: place, cancel, amend. It builds transactions and reads verdicts, and decides nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Final

from gateway_lighter import answers
from gateway_lighter.account_reads import AccountReads
from gateway_lighter.keys import NS_PER_MS, SKIPPING
from gateway_lighter.limits import VolumeQuota
from gateway_lighter.normalizer import Market
from gateway_lighter.order_ids import ClientIndices
from gateway_lighter.sender import Sender
from gateway_lighter.settling import Part
from gateway_lighter.transactions import CancelAllOrders, CancelOrder, Transaction
from gateway_lighter.verdicts import Finding
from gateway_lighter.views import Directory
from venuemesh.clock import Clock
from venuemesh.errors import AccountNotFound, MeshError, Reason, Sent
from venuemesh.gateway.venue import (
    Amended,
    CancelAnswer,
    Grouping,
    OrderTarget,
    OrderTicket,
    Placed,
    Refused,
    Unclear,
    VenueOrder,
)
from venuemesh.v1 import instrument_pb2

_MS_PER_DAY: Final = 86_400_000
_MS_PER_MINUTE: Final = 60_000


class OrderActions:
    """The order methods of the port, for all accounts of a gateway.

    Args:
        indices: told which client order indices may be live.
        resting_days: life of an order without an end of its own.
    """

    def __init__(
        self,
        *,
        directory: Directory,
        indices: ClientIndices,
        reads: Mapping[str, AccountReads],
        quotas: Mapping[str, VolumeQuota],
        send: Sender,
        clock: Clock,
        resting_days: int,
    ) -> None:
        self._directory = directory
        self._indices = indices
        self._reads = reads
        self._quotas = quotas
        self._send = send
        self._clock = clock
        self._resting_ms = resting_days * _MS_PER_DAY

    async def place_order(self, ticket: OrderTicket, sent: Callable[[], None]) -> Placed | Refused:
        """Place one order."""
        market = self._market(ticket)
        (until_ms,) = self._ends([ticket])
        transaction = answers.build_create(ticket, market, until_ms=until_ms)
        part = self._part(ticket, market)
        with self._holding([ticket]):
            answer = await self._send(
                ticket.account_id,
                transaction,
                ticket.reservation,
                ticket.order_id,
                part.read,
                sent,
                client_index=part.client_index,
                look_up=part.look_up,
            )
        self._let_go([ticket], [answer])
        return answer

    async def place_orders(
        self, tickets: Sequence[OrderTicket], sent: Callable[[], None], grouping: Grouping
    ) -> Sequence[Placed | Refused | Unclear]:
        """Place orders of one account in one message: a batch, or one transaction of orders that belong together."""
        first, ends = tickets[0], self._ends(tickets)
        transactions: list[Transaction]
        if grouping is Grouping.NONE:
            transactions = [
                answers.build_create(ticket, self._market(ticket), until_ms=end)
                for ticket, end in zip(tickets, ends, strict=True)
            ]
        elif grouping is Grouping.BRACKET:
            transactions = [answers.build_bracket(tickets, self._market(first), until_ms=ends)]
        else:
            transactions = [answers.build_position_exits(tickets, self._market(first), until_ms=ends)]
        parts = [
            self._part(ticket, self._market(ticket), place if grouping is Grouping.NONE else 0)
            for place, ticket in enumerate(tickets)
        ]
        with self._holding(tickets):
            found = await self._send.together(
                first.account_id, transactions, parts, first.reservation, first.order_id, sent
            )
        self._let_go(tickets, found)
        return found

    @contextmanager
    def _holding(self, tickets: Sequence[OrderTicket]) -> Iterator[None]:
        """The indices may be live from here on, unless it is certain that nothing left."""
        for ticket in tickets:
            self._indices.hold(int(ticket.venue_client_order_id), ticket.order_id)
        try:
            yield
        except MeshError as error:
            if error.sent is Sent.NO:
                for ticket in tickets:
                    self._indices.release(int(ticket.venue_client_order_id))
            raise

    def _let_go(self, tickets: Sequence[OrderTicket], found: Sequence[Placed | Refused | Unclear]) -> None:
        """A refused order will not be: its index is remembered and no longer live."""
        for ticket, answer in zip(tickets, found, strict=True):
            if isinstance(answer, Refused):
                self._indices.release(int(ticket.venue_client_order_id))

    async def cancel_order(self, target: OrderTarget) -> CancelAnswer | Refused:
        """Cancel by the venue's index, else by ours."""
        transaction = self._cancel(target)
        return await self._send(
            target.account_id, transaction, None, target.venue_client_order_id, answers.read_canceled
        )

    async def cancel_orders(self, targets: Sequence[OrderTarget]) -> Sequence[CancelAnswer | Refused | Unclear]:
        """Cancel orders of one account in one message."""
        cancels = [self._cancel(target) for target in targets]
        parts = [Part(read=answers.read_canceled, place=place) for place in range(len(targets))]
        first = targets[0]
        return await self._send.together(first.account_id, cancels, parts, None, first.venue_client_order_id)

    async def cancel_all(self, account_id: str, instrument: instrument_pb2.Instrument | None) -> Refused | None:
        """Cancel every order of an account, or of one market, in one transaction.

        It costs volume quota, which cancels of single orders do not: without quota those are the way.
        """
        if self._quotas[account_id].exhausted:
            return Refused(reason=Reason.VOLUME_QUOTA_EXHAUSTED, text="not sent: the volume quota is used up")
        attributes = SKIPPING
        if instrument is not None:
            market = self._directory.by_venue_symbol(instrument.venue_symbol)
            attributes = replace(SKIPPING, cancel_all_market=market.market_id)
        answer = await self._send(
            account_id, CancelAllOrders(), None, account_id, answers.read_done, attributes=attributes
        )
        return answer if isinstance(answer, Refused) else None

    def _cancel(self, target: OrderTarget) -> CancelOrder:
        market = self._directory.by_venue_symbol(target.instrument.venue_symbol)
        return CancelOrder(market_index=market.market_id, index=answers.wire_index(target))

    async def amend_order(self, target: OrderTarget, ticket: OrderTicket) -> Amended | Refused:
        """Change an order in place."""
        transaction = answers.build_modify(target, ticket, self._market(ticket))
        return await self._send(
            ticket.account_id, transaction, ticket.reservation, ticket.order_id, answers.read_amended
        )

    def _ends(self, tickets: Sequence[OrderTicket]) -> list[int]:
        """When each order ends, Unix milliseconds; those without an end of their own end together."""
        now_ms = self._clock.now_ns() // NS_PER_MS
        return [self._end(ticket, now_ms) for ticket in tickets]

    def _end(self, ticket: OrderTicket, now_ms: int) -> int:
        if ticket.twap is not None:
            return now_ms + ticket.twap.minutes * _MS_PER_MINUTE
        return ticket.expire_ns // NS_PER_MS if ticket.expire_ns else now_ms + self._resting_ms

    def _part(self, ticket: OrderTicket, market: Market, place: int = 0) -> Part[Placed]:
        client_index = int(ticket.venue_client_order_id)

        def read(finding: Finding) -> Placed | Refused | None:
            return answers.read_placed(finding, market, client_index)

        return Part(read=read, place=place, client_index=client_index, look_up=self._look_up(ticket))

    def _look_up(self, ticket: OrderTicket) -> Callable[[], Awaitable[VenueOrder | None]]:
        reads = self._reads.get(ticket.account_id)
        if reads is None:
            raise AccountNotFound(
                f"account_id: {ticket.account_id!r} is no account of this gateway", field="account_id"
            )
        target = OrderTarget(
            account_id=ticket.account_id,
            instrument=ticket.instrument,
            venue_client_order_id=ticket.venue_client_order_id,
            venue_order_id=None,
        )
        return partial(reads.find_order, target)

    def _market(self, ticket: OrderTicket) -> Market:
        return self._directory.by_venue_symbol(ticket.instrument.venue_symbol)
