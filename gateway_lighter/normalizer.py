"""What Lighter says about an account, in the words of the port and the contract. Pure.

What cannot be read is a `ProtocolViolation`, never a guess. Source: venue reference sections 1.5, 3.3, 4.1 and 5.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from gateway_lighter import account_messages as wire
from gateway_lighter import messages as market_wire
from gateway_lighter.refusals import classify_order_status
from gateway_lighter.scaling import MARGIN_TICKS, MarketScale
from venuemesh.errors import ProtocolViolation
from venuemesh.gateway.order_wire import timestamp
from venuemesh.gateway.venue import VenueFill, VenueOrder, VenueOrderState, VenuePosition
from venuemesh.money import EXACT, divide, format_decimal, total
from venuemesh.v1 import account_pb2, instrument_pb2, order_pb2

NS_PER_US: Final = 1_000
NS_PER_MS: Final = 1_000_000
NS_PER_S: Final = 1_000_000_000
SPOT_SECTION: Final = "spot"
FEE_TICK: Final = Decimal("0.000001")
"""Fees are counted in millionths of the notional."""

_ZERO = Decimal(0)
_PERCENT = Decimal(100)
_STATES = {
    "NEW": VenueOrderState.WORKING,
    "PARTIALLY_FILLED": VenueOrderState.WORKING,
    "FILLED": VenueOrderState.FILLED,
    "CANCELED": VenueOrderState.CANCELED,
    "EXPIRED": VenueOrderState.EXPIRED,
    "REJECTED": VenueOrderState.REJECTED,
}
_TRIGGER_STATES = {
    "mark-price": order_pb2.TRIGGER_STATE_WAITING,
    "parent-order": order_pb2.TRIGGER_STATE_WAITING_FOR_PARENT,
    "ready": order_pb2.TRIGGER_STATE_TRIGGERED,
}
_PLAIN_TYPES: Final = frozenset({"limit", "market"})
_IMMEDIATE: Final = "immediate-or-cancel"
_FORCED_BOTH: Final = frozenset({"deleverage", "market-settlement"})
_LIQUIDATION: Final = "liquidation"


# --- markets -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """One perpetual market: its names, its scale and what the venue says of it."""

    market_id: int
    symbol: str
    base: str
    collateral: str
    scale: MarketScale
    details: market_wire.PerpDetails


def read_market(row: market_wire.PerpDetails, *, collateral: str) -> Market:
    """A row of `orderBookDetails`; the symbol is that of the same product at every venue."""
    base = row.symbol.strip().upper()
    scale = MarketScale(
        market_index=row.market_id,
        size_decimals=row.size_decimals,
        price_decimals=row.price_decimals,
        min_base_amount=row.min_base_amount,
        min_quote_amount=row.min_quote_amount,
        order_quote_limit=row.order_quote_limit,
        min_initial_margin_fraction=row.min_initial_margin_fraction,
    )
    return Market(
        market_id=row.market_id,
        symbol=f"{base}/{collateral}:{collateral}",
        base=base,
        collateral=collateral,
        scale=scale,
        details=row,
    )


# --- orders ------------------------------------------------------------------------------------------------


def normalize_order(row: wire.Order, market: Market) -> VenueOrder:
    """An order row as the venue's lists and streams have it.

    A plain cancel of an immediate order is its unfilled rest. An immediate order that ends for a reason of the venue's
    without a fill never rested: it was rejected. The remaining size says nothing once the order has ended.
    """
    filled = row.filled_base_amount
    plain = row.type in _PLAIN_TYPES
    rested = not plain or row.order_version > 0  # who was amended had been in the book
    immediate = plain and row.time_in_force == _IMMEDIATE
    try:
        meaning = classify_order_status(row.status, filled=filled > 0, waited_for_trigger=rested)
        state, reason = _STATES[meaning.status], meaning.reason
    except ProtocolViolation:
        state, reason = VenueOrderState.UNRECOGNISED, None
    if immediate and state is VenueOrderState.CANCELED:
        state = VenueOrderState.EXPIRED if reason is None or filled > 0 else VenueOrderState.REJECTED
    return VenueOrder(
        venue_order_id=str(row.order_index),
        venue_client_order_id=str(row.client_order_index) if row.client_order_index else None,
        symbol=market.symbol,
        side=order_pb2.SIDE_SELL if row.is_ask else order_pb2.SIDE_BUY,
        quantity=row.initial_base_amount,
        filled_quantity=filled,
        price=row.price if row.price > 0 else None,
        state=state,
        reason=reason,
        text=row.status,
        venue_time_ns=row.transaction_time * NS_PER_US or max(row.updated_at, row.timestamp) * NS_PER_S,
        trigger_state=_TRIGGER_STATES.get(row.trigger_status, order_pb2.TRIGGER_STATE_UNSPECIFIED),
        trigger_price=row.trigger_price if row.trigger_price > 0 else None,
        reduce_only=row.reduce_only,
    )


# --- fills -------------------------------------------------------------------------------------------------


def normalize_fills(trade: market_wire.Trade, market: Market, *, account_index: int) -> list[VenueFill]:
    """The account's sides of a trade; empty when it has none.

    Raises:
        ValueError: a size or price that is not positive.
    """
    if trade.size <= 0 or trade.price <= 0:
        raise ValueError(f"size {trade.size} at {trade.price}")
    sides = [(trade.ask_account_id, True), (trade.bid_account_id, False)]
    return [_fill(trade, market, is_ask=is_ask) for owner, is_ask in sides if owner == account_index]


def _fill(trade: market_wire.Trade, market: Market, *, is_ask: bool) -> VenueFill:
    """One side; the id joins trade and order, because an account can be both sides of a trade."""
    order_index = trade.ask_id if is_ask else trade.bid_id
    client_index = trade.ask_client_id if is_ask else trade.bid_client_id
    is_maker = trade.is_maker_ask == is_ask
    ticks = trade.maker_fee + trade.integrator_maker_fee if is_maker else trade.taker_fee + trade.integrator_taker_fee
    return VenueFill(
        execution_id=f"{trade.trade_id}-{order_index}",
        trade_id=str(trade.trade_id),
        venue_order_id=str(order_index),
        venue_client_order_id=str(client_index) if client_index else None,
        symbol=market.symbol,
        side=order_pb2.SIDE_SELL if is_ask else order_pb2.SIDE_BUY,
        quantity=trade.size,
        price=trade.price,
        fee=EXACT.multiply(trade.usd_amount, EXACT.multiply(Decimal(ticks), FEE_TICK)),
        fee_asset=market.collateral,
        liquidity_role=order_pb2.LIQUIDITY_ROLE_MAKER if is_maker else order_pb2.LIQUIDITY_ROLE_TAKER,
        venue_realized_pnl=trade.ask_account_pnl if is_ask else trade.bid_account_pnl,
        venue_time_ns=trade.transaction_time * NS_PER_US or trade.timestamp * NS_PER_MS,
        forced=trade.type in _FORCED_BOTH or (trade.type == _LIQUIDATION and not is_maker),
    )


# --- positions ---------------------------------------------------------------------------------------------


def normalize_position(row: wire.Position, market: Market) -> VenuePosition:
    """A position; flat ones have quantity 0 and nothing else."""
    quantity = row.signed_quantity
    if not quantity:
        return VenuePosition(symbol=market.symbol, quantity=_ZERO, entry_price=None)
    isolated = row.margin_mode == 1
    value = abs(row.position_value)
    return VenuePosition(
        symbol=market.symbol,
        quantity=quantity,
        entry_price=row.avg_entry_price if row.avg_entry_price > 0 else None,
        mark_price=_mark_price(value, abs(quantity), market),
        liquidation_price=row.liquidation_price if row.liquidation_price > 0 else None,
        leverage=leverage_of(row.initial_margin_fraction),
        margin_mode=instrument_pb2.MARGIN_MODE_ISOLATED if isolated else instrument_pb2.MARGIN_MODE_CROSS,
        margin_used=row.allocated_margin
        if isolated
        else divide(EXACT.multiply(value, row.initial_margin_fraction), _PERCENT),
    )


def _mark_price(value: Decimal, quantity: Decimal, market: Market) -> Decimal | None:
    """The mark that gives the row's value, to the price decimals of the market: the row does not name it."""
    mark = divide(value, quantity)
    return round(mark, market.scale.price_decimals) if mark > 0 else None


def leverage_of(percent: Decimal) -> Decimal | None:
    """Leverage of an initial margin in percent; the venue cuts the percentage, so a whole leverage is recognised."""
    if percent <= 0:
        return None
    exact = divide(_PERCENT, percent)
    whole = exact.to_integral_value()
    ticks = int(percent * MARGIN_TICKS / 100)
    return whole if whole and MARGIN_TICKS // int(whole) == ticks else round(exact, 2)


# --- money -------------------------------------------------------------------------------------------------


class BalanceSheet:
    """Balances and margin of one account as messages.

    The main section holds the perpetuals' collateral, the section "spot" what lies on the spot side.
    """

    def __init__(self, *, venue: str, account_id: str, collateral: str, received_ns: int) -> None:
        self._venue = venue
        self._account_id = account_id
        self._collateral = collateral
        self._received_ns = received_ns

    def purse(self, *, total: Decimal, available: Decimal) -> account_pb2.Balance:
        """The collateral, without the profit of what is open."""
        return self._balance(self._collateral, held=total, available=available, section="")

    def spot(self, assets: Iterable[wire.AccountAsset]) -> list[account_pb2.Balance]:
        """What lies on the spot side."""
        return [
            self._balance(
                asset.symbol.strip().upper(),
                held=asset.balance,
                available=EXACT.subtract(asset.balance, asset.locked_balance),
                section=SPOT_SECTION,
            )
            for asset in assets
            if asset.balance
        ]

    def _balance(self, asset: str, *, held: Decimal, available: Decimal, section: str) -> account_pb2.Balance:
        return account_pb2.Balance(
            account_id=self._account_id,
            venue=self._venue,
            asset=asset,
            total=format_decimal(held),
            available=format_decimal(available),
            venue_section=section,
            updated_time=timestamp(self._received_ns),
        )

    def summary(self, account: wire.Account) -> account_pb2.AccountSummary:
        """Margin as a whole."""
        isolated = total(row.allocated_margin for row in account.positions or () if row.margin_mode == 1)
        summary = self._summary(equity=account.total_asset_value, available=account.available_balance)
        summary.margin_used = format_decimal(EXACT.add(account.cross_initial_margin_requirement, isolated))
        summary.maintenance_margin = format_decimal(account.cross_maintenance_margin_requirement)
        return summary

    def streamed_summary(self, stats: wire.UserStats) -> account_pb2.AccountSummary:
        """What the stream says of margin: less than the query does."""
        return self._summary(equity=stats.portfolio_value, available=stats.available_balance)

    def _summary(self, *, equity: Decimal, available: Decimal) -> account_pb2.AccountSummary:
        return account_pb2.AccountSummary(
            asset=self._collateral,
            equity=format_decimal(equity),
            margin_available=format_decimal(available),
            updated_time=timestamp(self._received_ns),
        )


def normalize_funding(
    row: wire.PositionFunding, market: Market, *, venue: str, account_id: str
) -> account_pb2.LedgerEntry:
    """A funding payment; negative was paid. The venue numbers them per market."""
    return account_pb2.LedgerEntry(
        ledger_entry_id=f"funding-{row.market_id}-{row.funding_id}",
        account_id=account_id,
        venue=venue,
        ledger_entry_type=account_pb2.LEDGER_ENTRY_TYPE_FUNDING,
        asset=market.collateral,
        amount=format_decimal(row.change),
        symbol=market.symbol,
        venue_time=timestamp(row.timestamp * NS_PER_S),
    )
