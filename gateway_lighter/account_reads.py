"""What the venue is asked about one account: one order by every id, fills, funding, and the whole state."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from gateway_lighter.account_messages import Order
from gateway_lighter.answers import client_index
from gateway_lighter.codec_verdicts import TransactionState, Verdict
from gateway_lighter.normalizer import NS_PER_MS, NS_PER_S
from gateway_lighter.rest import LighterRest
from gateway_lighter.verdicts import Verdicts
from gateway_lighter.views import AccountView
from venuemesh.clock import Clock
from venuemesh.errors import InvalidRequest, Reason
from venuemesh.gateway.venue import OrderTarget, VenueFill, VenueOrder, VenueOrderState, VenueSnapshot
from venuemesh.v1 import account_pb2, order_pb2

LIVE_STATUSES = frozenset({"in-progress", "pending", "open"})
_ZERO = Decimal(0)


class AccountReads:
    """Questions about one account.

    Args:
        verdicts: remembers the transactions that orders were sent with.
    """

    def __init__(self, view: AccountView, rest: LighterRest, verdicts: Verdicts, clock: Clock) -> None:
        self._view = view
        self._rest = rest
        self._verdicts = verdicts
        self._clock = clock

    async def fetch_order(self, target: OrderTarget) -> VenueOrder | None:
        """Ask by client order index, look through the lists, and at last ask about the transaction itself."""
        order = await self.find_order(target)
        if order is not None:
            return order
        tx_hash = self._verdicts.sent_hash(client_index(target))
        verdict = None if tx_hash is None else await self._rest.fetch_verdict(tx_hash)
        if verdict is None or verdict.state is not TransactionState.REFUSED:
            return None
        return _rejected(target, verdict)

    async def find_order(self, target: OrderTarget) -> VenueOrder | None:
        """The order itself, by either index; live ones are listed before ended ones, so that none slips between."""
        index, market_id = self._view.index, int(target.instrument.venue_symbol)
        rows: Sequence[Order] = ()
        try:
            if ours := client_index(target):
                rows = await self._rest.fetch_orders_by_client_index(index, [ours])
        except InvalidRequest as error:
            if error.reason is not Reason.INVALID_ARGUMENT:  # a server that does not have this query yet
                raise
        found = self._pick(rows, target, market_id)
        if found is None:
            found = self._pick(await self._rest.fetch_active_orders(index, market_id), target, market_id)
        if found is None:
            found = self._pick(await self._rest.fetch_inactive_orders(index), target, market_id)
        return None if found is None else self._view.order(found)

    @staticmethod
    def _pick(rows: Sequence[Order], target: OrderTarget, market_id: int) -> Order | None:
        """The target's row; the venue's id decides where known, because a client order index may be used again."""
        mine = [row for row in rows if row.market_index == market_id and _is_target(row, target)]
        return max(mine, key=lambda row: (row.transaction_time, row.status not in LIVE_STATUSES), default=None)

    async def fetch_fills(self, since_ns: int) -> Sequence[VenueFill]:
        """All pages, oldest first, each fill once."""
        trades = await self._rest.fetch_trades_since(self._view.index, since_ms=since_ns // NS_PER_MS)
        fills = {fill.execution_id: fill for trade in trades for fill in self._view.fills(trade)}
        return sorted(fills.values(), key=lambda fill: fill.venue_time_ns)

    async def fetch_ledger(self, since_ns: int) -> Sequence[account_pb2.LedgerEntry]:
        """Funding."""
        rows = await self._rest.fetch_position_fundings_since(self._view.index, since_s=since_ns // NS_PER_S)
        return [entry for row in rows if (entry := self._view.funding(row)) is not None]

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
