"""What Hyperliquid says about an account, in the words of the port and the contract. Pure.

A function returns None for a coin this gateway does not carry (spot and other dexes share an account's lists); what
cannot be read is a `ProtocolViolation`, never a guess. Source: venue reference sections 2.2 and 6.1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from hypercore import account_messages as wire
from hypercore.adapter import twaps
from hypercore.assets import MAIN_DEX, Asset, Universe
from hypercore.precision import max_price_decimals
from hypercore.refusals import classify_order_status
from venuemesh.errors import ProtocolViolation
from venuemesh.gateway.order_wire import timestamp
from venuemesh.gateway.venue import VenueFill, VenueOrder, VenueOrderState, VenuePosition
from venuemesh.money import EXACT, divide, format_decimal, total
from venuemesh.v1 import account_pb2, instrument_pb2, order_pb2

NS_PER_MS: Final = 1_000_000
SPOT_SECTION: Final = "spot"
UNIFIED_SECTION: Final = "unified"
"""Section of balances that back spot and perps together: the account has no separate perp purse."""

UNIFIED_MODES: Final = frozenset({"unifiedAccount", "portfolioMargin"})

_ZERO = Decimal(0)
_SIDES = {"B": order_pb2.SIDE_BUY, "A": order_pb2.SIDE_SELL}
_STATES = {
    "NEW": VenueOrderState.WORKING,
    "PARTIALLY_FILLED": VenueOrderState.WORKING,
    "FILLED": VenueOrderState.FILLED,
    "CANCELED": VenueOrderState.CANCELED,
    "REJECTED": VenueOrderState.REJECTED,
}
_FORCED_DIRECTIONS = ("Liquidated", "Auto-Deleveraging", "Settlement")


def side_of(letter: str) -> order_pb2.Side.ValueType:
    """B is buy, A is sell. Raises ProtocolViolation."""
    side = _SIDES.get(letter)
    if side is None:
        raise ProtocolViolation(f"unknown side {letter[:8]!r}", metadata={"payload": letter[:200]})
    return side


def asset_code(token: str) -> str:
    """Currency code of a venue token, as in symbols."""
    return token.strip().upper()


def timestamp_of_ms(milliseconds: int) -> Timestamp:
    """A proto timestamp of venue time."""
    return timestamp(milliseconds * NS_PER_MS)


# --- orders ------------------------------------------------------------------------------------------------


def normalize_order(
    row: wire.OpenOrder | wire.FrontendOrder, universe: Universe, *, status: str = "open", status_ms: int | None = None
) -> VenueOrder | None:
    """An order row with its status word; rows of open-order lists have none, they are open.

    The remaining size of a resting reduce-only order shrinks with the position while the original stays, so that
    what is missing from it need not have been filled: then the filled quantity is None.
    """
    asset = universe.get_coin(row.coin)
    if asset is None:
        return None
    quantity = row.sz if row.orig_sz is None else row.orig_sz
    reduce_only = bool(row.reduce_only)
    follows_position = isinstance(row, wire.FrontendOrder) and row.is_position_tpsl
    try:
        meaning = classify_order_status(status, partly_filled=row.sz < quantity)
        state, reason = _STATES[meaning.status], meaning.reason
    except ProtocolViolation:
        state, reason = VenueOrderState.UNRECOGNISED, None
    filled = _filled_quantity(state, quantity, row.sz, unreliable=reduce_only or follows_position)
    if state is VenueOrderState.FILLED and row.sz > 0:
        state = VenueOrderState.EXPIRED  # done with a rest: that of an immediate-or-cancel order is dropped silently
    return VenueOrder(
        venue_order_id=str(row.oid),
        venue_client_order_id=row.cloid,
        symbol=asset.symbol,
        side=side_of(row.side),
        quantity=quantity,
        filled_quantity=filled,
        price=row.limit_px if row.limit_px > 0 else None,
        state=state,
        reason=reason,
        text=status,
        venue_time_ns=(status_ms or row.timestamp or 0) * NS_PER_MS,
        # An open row does not say whether a trigger waits for its price or for its parent, or has long fired.
        trigger_state=order_pb2.TRIGGER_STATE_TRIGGERED
        if status == "triggered"
        else order_pb2.TRIGGER_STATE_UNSPECIFIED,
        trigger_price=row.trigger_px if isinstance(row, wire.FrontendOrder) and row.trigger_px > 0 else None,
        reduce_only=reduce_only,
    )


def normalize_reported_order(row: wire.OrderWithStatus | wire.OrderUpdate, universe: Universe) -> VenueOrder | None:
    """An order with the status the venue names: orderStatus, historicalOrders, orderUpdates."""
    return normalize_order(row.order, universe, status=row.status, status_ms=row.status_timestamp)


def _filled_quantity(
    state: VenueOrderState, quantity: Decimal, remaining: Decimal, *, unreliable: bool
) -> Decimal | None:
    if state is VenueOrderState.REJECTED:
        return _ZERO
    if remaining > quantity or (unreliable and remaining != quantity):
        return None
    return EXACT.subtract(quantity, remaining)


def latest_order(views: Iterable[VenueOrder]) -> VenueOrder | None:
    """Of several views of one order, the one to believe: one that lived, then the latest, then the final one.

    An amended order has several lives under one client id; of one life the lists keep the open and the final row,
    often with the same time. A new life that was refused says nothing of the one before it.
    """
    best: VenueOrder | None = None
    for view in views:
        if best is None or _rank(view) > _rank(best):
            best = view
    return best


def _rank(view: VenueOrder) -> tuple[bool, int, int, bool]:
    lived = view.state is not VenueOrderState.REJECTED
    return lived, int(view.venue_order_id), view.venue_time_ns, view.state is not VenueOrderState.WORKING


# --- fills -------------------------------------------------------------------------------------------------


def normalize_fill(fill: wire.Fill, universe: Universe, *, user: str) -> VenueFill | None:
    """One fill of the account `user` (lower case); the fee already includes a builder's."""
    asset = universe.get_coin(fill.coin)
    if asset is None:
        return None
    return VenueFill(
        execution_id=execution_id(fill),
        trade_id=str(fill.tid or ""),
        # A slice has an order id of its own; what it fills is the TWAP's.
        venue_order_id=str(fill.oid) if fill.twap_id is None else twaps.order_id(fill.twap_id),
        venue_client_order_id=fill.cloid,
        symbol=asset.symbol,
        side=side_of(fill.side),
        quantity=fill.sz,
        price=fill.px,
        fee=fill.fee,
        fee_asset=asset_code(fill.fee_token) if fill.fee_token else _usual_fee_asset(asset, fill.side),
        liquidity_role=order_pb2.LIQUIDITY_ROLE_TAKER if fill.crossed else order_pb2.LIQUIDITY_ROLE_MAKER,
        venue_realized_pnl=fill.closed_pnl,
        venue_time_ns=fill.time * NS_PER_MS,
        forced=_is_forced(fill, user),
    )


def _usual_fee_asset(asset: Asset, side: str) -> str:
    """What a fill's fee is in where the row, as in old recordings, does not say: spot takes it of what is received."""
    return asset.base if asset.is_spot and side == "B" else asset.quote


def execution_id(fill: wire.Fill) -> str:
    """Id of a fill, unique per account and the same from every source.

    Both sides of a trade share its `tid`, so the order id is added: an account can be both sides. Rows without a
    trade id (system rows, recordings of 2023) are named by their facts; `startPosition` tells equal ones apart.
    """
    if fill.tid:
        return f"{fill.tid}-{fill.oid}"
    facts = (fill.hash, fill.oid, fill.time, fill.coin, fill.side, fill.dir)
    amounts = (fill.px, fill.sz, fill.start_position)
    name = "|".join([*map(str, facts), *map(format_decimal, amounts)])
    return "x" + hashlib.blake2b(name.encode(), digest_size=12).hexdigest()


def _is_forced(fill: wire.Fill, user: str) -> bool:
    """The venue closed it for us. A liquidation also marks the fill of whoever took the other side."""
    if fill.dir.startswith(_FORCED_DIRECTIONS):
        return True
    victim = fill.liquidation.liquidated_user if fill.liquidation else None
    return victim is not None and victim.lower() == user


# --- positions and balances --------------------------------------------------------------------------------


def normalize_positions(state: wire.ClearinghouseState, universe: Universe) -> list[VenuePosition]:
    """Open positions of one dex; a flat coin has no row."""
    found = []
    for row in state.asset_positions:
        asset = universe.get_coin(row.position.coin)
        if asset is not None and row.position.szi:
            found.append(_position(row.position, asset))
    return found


def _position(row: wire.Position, asset: Asset) -> VenuePosition:
    return VenuePosition(
        symbol=asset.symbol,
        quantity=row.szi,
        entry_price=row.entry_px,
        mark_price=_mark_price(row, asset),
        liquidation_price=row.liquidation_px,
        leverage=Decimal(row.leverage.value),
        margin_mode=instrument_pb2.MARGIN_MODE_ISOLATED
        if row.leverage.type == "isolated"
        else instrument_pb2.MARGIN_MODE_CROSS,
        margin_used=row.margin_used,
    )


def _mark_price(row: wire.Position, asset: Asset) -> Decimal | None:
    """The mark that gives the row's value, to the price decimals of the asset: the row does not name it."""
    mark = divide(row.position_value, abs(row.szi))
    decimals = max_price_decimals(asset.sz_decimals, is_spot=asset.is_spot)
    return round(mark, decimals) if mark > 0 else None


class BalanceSheet:
    """Balances and margin of one account as messages.

    An ordinary account has a perp purse per dex and spot balances beside it. On a unified account the perp state
    shows no money: its balances are the spot ones, under the section "unified". A builder-dex gateway leaves spot
    and unified balances to the main gateway, so that no coin is counted twice.
    """

    def __init__(self, *, venue: str, account_id: str, dex: str, collateral: str) -> None:
        self._venue = venue
        self._account_id = account_id
        self._dex = dex
        self._collateral = collateral

    def balances(
        self, perps: wire.ClearinghouseState, spot: wire.SpotState, *, mode: str, received_ns: int
    ) -> list[account_pb2.Balance]:
        """All balances; `mode` is the answer of userAbstraction."""
        unified = mode in UNIFIED_MODES
        rows = [] if unified else [self.purse(perps, received_ns=received_ns)]
        if self._dex != MAIN_DEX:
            return rows
        section = UNIFIED_SECTION if unified else SPOT_SECTION
        rows += [
            self._balance(
                asset_code(balance.coin),
                held=balance.total,
                available=EXACT.subtract(balance.total, balance.hold),
                section=section,
                received_ns=received_ns,
            )
            for balance in spot.balances
        ]
        return rows

    def spot_balance(self, spot: wire.SpotState, asset: str, *, received_ns: int) -> account_pb2.Balance:
        """What spot holds of one token; 0 where it has no row."""
        found = next((row for row in spot.balances if asset_code(row.coin) == asset), None)
        held = found.total if found else _ZERO
        free = EXACT.subtract(found.total, found.hold) if found else _ZERO
        return self._balance(asset, held=held, available=free, section=SPOT_SECTION, received_ns=received_ns)

    def purse(self, perps: wire.ClearinghouseState, *, received_ns: int) -> account_pb2.Balance:
        """The collateral of a standard account in the dex, without the profit of what is open."""
        unrealized = total(row.position.unrealized_pnl for row in perps.asset_positions)
        row = self._balance(
            self._collateral,
            held=EXACT.subtract(perps.margin_summary.account_value, unrealized),
            available=perps.withdrawable,
            section=self._dex,
            received_ns=received_ns,
        )
        if perps.time is not None:
            row.venue_time.CopyFrom(timestamp_of_ms(perps.time))
        return row

    def _balance(
        self, asset: str, *, held: Decimal, available: Decimal, section: str, received_ns: int
    ) -> account_pb2.Balance:
        return account_pb2.Balance(
            account_id=self._account_id,
            venue=self._venue,
            asset=asset,
            total=format_decimal(held),
            available=format_decimal(available),
            venue_section=section,
            updated_time=timestamp(received_ns),
        )

    def summary(
        self, perps: wire.ClearinghouseState, spot: wire.SpotState, *, mode: str, received_ns: int
    ) -> account_pb2.AccountSummary:
        """Margin as a whole; on a unified account only what the venue says of it there."""
        summary = account_pb2.AccountSummary(asset=self._collateral, updated_time=timestamp(received_ns))
        if mode in UNIFIED_MODES:
            summary.margin_used = format_decimal(total(row.position.margin_used for row in perps.asset_positions))
            free = {row.token: row.amount for row in spot.token_to_available_after_maintenance}
            for balance in spot.balances:
                if asset_code(balance.coin) == self._collateral and balance.token in free:
                    summary.margin_available = format_decimal(free[balance.token])
            return summary
        whole = perps.margin_summary
        summary.equity = format_decimal(whole.account_value)
        summary.margin_used = format_decimal(whole.total_margin_used)
        summary.margin_available = format_decimal(
            max(_ZERO, EXACT.subtract(whole.account_value, whole.total_margin_used))
        )
        summary.withdrawable = format_decimal(perps.withdrawable)
        if perps.cross_maintenance_margin_used is not None:
            summary.maintenance_margin = format_decimal(perps.cross_maintenance_margin_used)
        return summary


# --- ledger ------------------------------------------------------------------------------------------------


class Ledger:
    """Money changes of one account as entries, each with an id made of the venue's facts."""

    def __init__(self, *, venue: str, account_id: str, user: str, dex: str, collateral: str) -> None:
        self._venue = venue
        self._account_id = account_id
        self._user = user
        self._dex = dex
        self._collateral = collateral
        self._readers: dict[str, Callable[[wire.LedgerDelta], Sequence[_Movement]]] = {
            "deposit": lambda delta: [(_DEPOSIT, collateral, _amount(delta.usdc, delta), MAIN_DEX)],
            "withdraw": lambda delta: [(_WITHDRAWAL, collateral, -_amount(delta.usdc, delta), MAIN_DEX)],
            "accountClassTransfer": self._between_classes,
            "internalTransfer": self._between_accounts,
            "subAccountTransfer": self._between_accounts,
            "spotTransfer": self._send,
            "send": self._send,
        }

    def funding(
        self, payment: wire.FundingPayment, universe: Universe, *, time_ms: int | None = None
    ) -> account_pb2.LedgerEntry | None:
        """A funding payment; negative was paid. An asset is funded once per instant, which makes the id."""
        asset = universe.get_coin(payment.coin)
        at_ms = payment.time if time_ms is None else time_ms
        if asset is None or at_ms is None:
            return None
        entry = self._entry(
            f"funding-{payment.coin}-{at_ms}",
            (account_pb2.LEDGER_ENTRY_TYPE_FUNDING, asset.settle or asset.quote, payment.usdc, asset.dex),
            at_ms,
        )
        entry.symbol = asset.symbol
        return entry

    def updates(self, row: wire.LedgerUpdate) -> list[account_pb2.LedgerEntry]:
        """A deposit, withdrawal or transfer, one entry per purse it touches; empty for kinds without a reader.

        Raises:
            ProtocolViolation: a kind that must name an amount does not.
        """
        reader = self._readers.get(row.delta.type)
        if reader is None:
            return []
        mine = {MAIN_DEX, SPOT_SECTION} if self._dex == MAIN_DEX else {self._dex}
        name = hashlib.blake2b(row.hash.encode() + row.raw, digest_size=10).hexdigest()
        return [
            self._entry(f"{row.delta.type}-{row.time}-{name}-{place}", movement, row.time)
            for place, movement in enumerate(reader(row.delta))
            if movement[3] in mine and movement[2]
        ]

    def knows(self, kind: str) -> bool:
        """Whether updates of this kind become entries."""
        return kind in self._readers

    def _between_classes(self, delta: wire.LedgerDelta) -> list[_Movement]:
        amount = _amount(delta.usdc, delta)
        into_perps = amount if delta.to_perp else -amount
        return [
            (_TRANSFER, self._collateral, into_perps, MAIN_DEX),
            (_TRANSFER, self._collateral, -into_perps, SPOT_SECTION),
        ]

    def _between_accounts(self, delta: wire.LedgerDelta) -> list[_Movement]:
        amount, fee = _amount(delta.usdc, delta), delta.fee or _ZERO
        if self._is_me(delta.user) and not self._is_me(delta.destination):
            moves: list[_Movement] = [(_TRANSFER, self._collateral, -amount, MAIN_DEX)]
            return [*moves, (_FEE, self._collateral, -fee, MAIN_DEX)]
        return [(_TRANSFER, self._collateral, amount, MAIN_DEX)]

    def _send(self, delta: wire.LedgerDelta) -> list[_Movement]:
        """A transfer of a token between purses, of this account or with another one."""
        amount = _amount(delta.amount, delta)
        asset = asset_code(delta.token or "")
        source = SPOT_SECTION if delta.source_dex is None else delta.source_dex
        destination = SPOT_SECTION if delta.destination_dex is None else delta.destination_dex
        moves: list[_Movement] = []
        if self._is_me(delta.user):
            moves.append((_TRANSFER, asset, -amount, source))
            fee_asset = asset_code(delta.fee_token) if delta.fee_token else asset
            moves.append((_FEE, fee_asset, -(delta.fee or _ZERO), source))
        if self._is_me(delta.destination):
            moves.append((_TRANSFER, asset, amount, destination))
        return moves

    def _is_me(self, address: str | None) -> bool:
        return address is not None and address.lower() == self._user

    def _entry(self, entry_id: str, movement: _Movement, time_ms: int) -> account_pb2.LedgerEntry:
        kind, asset, amount, section = movement
        return account_pb2.LedgerEntry(
            ledger_entry_id=entry_id,
            account_id=self._account_id,
            venue=self._venue,
            ledger_entry_type=kind,
            asset=asset,
            amount=format_decimal(amount),
            venue_section=section,
            venue_time=timestamp_of_ms(time_ms),
        )


_Movement = tuple[account_pb2.LedgerEntryType.ValueType, str, Decimal, str]
_DEPOSIT = account_pb2.LEDGER_ENTRY_TYPE_DEPOSIT
_WITHDRAWAL = account_pb2.LEDGER_ENTRY_TYPE_WITHDRAWAL
_TRANSFER = account_pb2.LEDGER_ENTRY_TYPE_TRANSFER
_FEE = account_pb2.LEDGER_ENTRY_TYPE_FEE


def _amount(value: Decimal | None, delta: wire.LedgerDelta) -> Decimal:
    if value is None:
        raise ProtocolViolation(f"a {delta.type} update names no amount", metadata={"payload": repr(delta)[:2_000]})
    return value
