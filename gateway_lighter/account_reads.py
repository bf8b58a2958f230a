"""What the venue is asked about one account: one order by every id, fills, funding, and the whole state."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from functools import partial
from typing import TypeVar

from gateway_lighter.account_messages import Order
from gateway_lighter.answers import client_index
from gateway_lighter.codec_verdicts import TransactionState, Verdict
from gateway_lighter.ledger import instant_ns
from gateway_lighter.normalizer import NS_PER_MS, NS_PER_S
from gateway_lighter.rest import LighterRest
from gateway_lighter.slices import Slices
from gateway_lighter.verdicts import Verdicts
from gateway_lighter.views import AccountView
from venuemesh.clock import Clock
from venuemesh.errors import InvalidRequest, ProtocolViolation, Reason
from venuemesh.gateway.readable import readable
from venuemesh.gateway.venue import OrderTarget, VenueFill, VenueOrder, VenueOrderState, VenueSnapshot
from venuemesh.gateway.venue_offers import FeeRates
from venuemesh.v1 import account_pb2, order_pb2

log = logging.getLogger(__name__)

T = TypeVar("T")

LIVE_STATUSES = frozenset({"in-progress", "pending", "open"})
SLOW_MONEY_NS = 7 * 86_400 * NS_PER_S
"""How long a deposit or withdrawal may be on its way: it is dated at its beginning."""

FEE_TICK = Decimal("0.000001")
"""Of notional; a fee of 28 ticks is 0.0028 %."""

_ZERO = Decimal(0)


class AccountReads:
    """Questions about one account.

    Args:
        verdicts: remembers the transactions that orders were sent with.
        slices: know whose the fills of a TWAP's slices are.
    """

    def __init__(self, view: AccountView, rest: LighterRest, verdicts: Verdicts, slices: Slices, clock: Clock) -> None:
        self._view = view
        self._rest = rest
        self._verdicts = verdicts
        self._slices = slices
        self._clock = clock

    async def fetch_fee_rates(self) -> FeeRates:
        """What the account pays at its tier, the same in every market; the markets' own rows read 0 for everybody."""
        found = await self._rest.fetch_account_limits(self._view.index)
        return FeeRates(maker=found.current_maker_fee_tick * FEE_TICK, taker=found.current_taker_fee_tick * FEE_TICK)

    async def fetch_orders(self, targets: Sequence[OrderTarget]) -> Sequence[VenueOrder | None]:
        """Ask by client order index, look through the lists, and at last ask about the transaction itself.

        One question by index, and one reading of each list, for all of them.
        """
        found = await self._find(targets)
        return [row or await self._verdict(target) for row, target in zip(found, targets, strict=True)]

    async def _verdict(self, target: OrderTarget) -> VenueOrder | None:
        tx_hash = self._verdicts.sent_hash(client_index(target))
        verdict = None if tx_hash is None else await self._rest.fetch_verdict(tx_hash)
        if verdict is None or verdict.state is not TransactionState.REFUSED:
            return None
        return _rejected(target, verdict)

    async def find_order(self, target: OrderTarget) -> VenueOrder | None:
        """The order itself, by either index."""
        return (await self._find([target]))[0]

    async def _find(self, targets: Sequence[OrderTarget]) -> list[VenueOrder | None]:
        """The orders by either index; live ones are listed before ended ones, so that none slips between."""
        index = self._view.index
        found: dict[int, Order] = {}

        def look(rows: Sequence[Order]) -> list[OrderTarget]:
            """Take what is among the rows; what is missing still."""
            for place, target in enumerate(targets):
                row = None if place in found else self._pick(rows, target, _market_of(target))
                if row is not None:
                    found[place] = row
            return [target for place, target in enumerate(targets) if place not in found]

        missing = look(await self._by_client_index(targets))
        for market_id in dict.fromkeys(_market_of(target) for target in missing):
            missing = look(await self._rest.fetch_active_orders(index, market_id))
        if missing:
            look(await self._rest.fetch_inactive_orders(index))
        rows = [found.get(place) for place in range(len(targets))]
        return [None if row is None else self._view.order(row) for row in rows]

    async def _by_client_index(self, targets: Sequence[OrderTarget]) -> Sequence[Order]:
        ours = [name for target in targets if (name := client_index(target))]
        try:
            return await self._rest.fetch_orders_by_client_index(self._view.index, ours) if ours else ()
        except InvalidRequest as error:
            if error.reason is not Reason.INVALID_ARGUMENT:  # a server that does not have this query yet
                raise
            return ()

    @staticmethod
    def _pick(rows: Sequence[Order], target: OrderTarget, market_id: int) -> Order | None:
        """The target's row; the venue's id decides where known, because a client order index may be used again."""
        mine = [row for row in rows if row.market_index == market_id and _is_target(row, target)]
        return max(mine, key=lambda row: (row.transaction_time, row.status not in LIVE_STATUSES), default=None)

    async def fetch_fills(self, since_ns: int) -> Sequence[VenueFill]:
        """All pages, oldest first, each fill once; a slice's as its TWAP's."""
        trades = await self._rest.fetch_trades_since(self._view.index, since_ms=since_ns // NS_PER_MS)
        fills = {fill.execution_id: fill for trade in trades for fill in self._view.fills(trade)}
        if any(self._slices.is_unknown(fill) for fill in fills.values()):
            self._slices.learn_all(await self._rest.fetch_active_orders(self._view.index))
            self._slices.learn_all(await self._rest.fetch_inactive_orders_since(self._view.index, since_ns // NS_PER_S))
        return sorted(map(self._slices.attribute, fills.values()), key=lambda fill: fill.venue_time_ns)

    async def fetch_ledger(self, since_ns: int) -> Sequence[account_pb2.LedgerEntry]:
        """Funding, deposits, withdrawals and transfers, oldest first.

        A deposit or withdrawal is dated when it was begun and done later: rows from further back are read again.
        """
        rows = await self._rest.fetch_position_fundings_since(self._view.index, since_s=since_ns // NS_PER_S)
        entries = [entry for row in rows if (entry := self._view.funding(row)) is not None]
        entries += await self._fetch_money(since_ns, since_ns - SLOW_MONEY_NS)
        return sorted(entries, key=lambda entry: entry.venue_time.ToNanoseconds())

    async def _fetch_money(self, since_ns: int, early_ns: int) -> list[account_pb2.LedgerEntry]:
        index, ledger, rest = self._view.index, self._view.ledger(), self._rest
        deposits = partial(
            rest.fetch_deposits,
            index,
            self._view.l1_address,
            enough=lambda row: instant_ns(row.timestamp) < early_ns,
        )
        withdrawals = partial(rest.fetch_withdrawals, index, enough=lambda row: instant_ns(row.timestamp) < early_ns)
        transfers = partial(rest.fetch_transfers, index, enough=lambda row: instant_ns(row.timestamp) < since_ns)
        return [
            *await self._entries("deposits", deposits, ledger.deposit),
            *await self._entries("withdrawals", withdrawals, ledger.withdrawal),
            *await self._entries("transfers", transfers, ledger.transfer),
        ]

    async def _entries(
        self,
        what: str,
        fetch: Callable[[], Awaitable[Sequence[T]]],
        read: Callable[[T], list[account_pb2.LedgerEntry]],
    ) -> list[account_pb2.LedgerEntry]:
        """Rows of a history as entries. What cannot be read is said and left out: it is no reason to stop trading."""
        extra = {"account_id": self._view.account_id, "what": what}
        entries: list[account_pb2.LedgerEntry] = []
        try:
            rows = await fetch()
        except InvalidRequest as error:
            log.error("ledger_refused", extra={**extra, "error": error.message})
            return entries
        for row in rows:
            try:
                with readable(what):
                    entries += read(row)
            except ProtocolViolation as violation:
                log.error("ledger_row_unreadable", extra={**extra, "error": violation.message, **violation.metadata})
        return entries

    async def fetch_snapshot(self) -> VenueSnapshot:
        """Open orders, positions, balances and margin."""
        taken_ns = self._clock.now_ns()
        rows = await self._rest.fetch_active_orders(self._view.index)
        account = await self._rest.fetch_account(self._view.index)
        balances, summary = self._view.snapshot_money(account, received_ns=self._clock.now_ns())
        return VenueSnapshot(
            taken_ns=taken_ns,
            open_orders=[order for row in rows if (order := self._view.order(row)) is not None],
            positions=[row for row in self._view.positions(account.positions or ()) if row.quantity],
            balances=balances,
            summary=summary,
        )


def _market_of(target: OrderTarget) -> int:
    return int(target.instrument.venue_symbol)


def _is_target(row: Order, target: OrderTarget) -> bool:
    if target.venue_order_id:
        return str(row.order_index) == target.venue_order_id
    return str(row.client_order_index) == target.venue_client_order_id


def _rejected(target: OrderTarget, verdict: Verdict) -> VenueOrder:
    """An order whose transaction the venue took and then refused: it never came to be."""
    refusal = verdict.refusal
    return VenueOrder(
        venue_order_id="",
        venue_client_order_id=target.venue_client_order_id,
        symbol=target.instrument.symbol,
        side=order_pb2.SIDE_UNSPECIFIED,
        quantity=_ZERO,
        filled_quantity=_ZERO,
        price=None,
        state=VenueOrderState.REJECTED,
        reason=refusal.reason if refusal else Reason.VENUE_REJECTED,
        text=refusal.text if refusal else "the venue failed the transaction and names no reason",
        venue_time_ns=0,
    )
