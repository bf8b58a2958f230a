"""What positions are worth: net by symbol, profit and exposure by asset, at live marks where there are any. Pure.

Sums are kept up to date by taking out the old contribution of a position and adding the new one. All of it is exact, so
the result is that of adding everything up again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from typing import NamedTuple

from aggregator.reading import MAX_AMOUNT, ZERO, Holding
from aggregator.sequencing import AccountKey
from venuemesh.gateway.positions import BPS, liquidation_distance_bps
from venuemesh.money import EXACT, format_decimal, to_wire
from venuemesh.v1 import account_pb2, portfolio_pb2

Instrument = tuple[str, str]
"""Venue and unified symbol."""

NO_LIVE_MARK = "no live mark; valued at the mark of its last event"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A live mark. `stale_since_ns` None means fresh."""

    price: Decimal
    stale_since_ns: int | None = None
    cause: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StaleMark:
    """An instrument with open positions whose mark is not current."""

    instrument: Instrument
    since_ns: int
    cause: str


@dataclass(slots=True)
class SymbolSums:
    """One symbol over venues and accounts; quantities in base, the rest in quote units."""

    quantity: Decimal = ZERO
    gross: Decimal = ZERO
    notional: Decimal = ZERO
    unrealized: Decimal = ZERO
    without_notional: int = 0
    without_unrealized: int = 0


@dataclass(slots=True)
class AssetSums:
    """Positions settled in one asset. `missing` names those that some sum lacks."""

    realized: Decimal = ZERO
    fees: Decimal = ZERO
    funding: Decimal = ZERO
    unrealized: Decimal = ZERO
    gross: Decimal = ZERO
    net: Decimal = ZERO
    missing: dict[tuple[AccountKey, str], str] = field(default_factory=dict)


class _Valued(NamedTuple):
    """A position with the values it contributes now."""

    holding: Holding
    mark: Decimal | None
    notional: Decimal | None
    unrealized: Decimal | None


class Valuation:
    """Positions of many accounts, valued."""

    def __init__(self) -> None:
        self.assets: dict[str, AssetSums] = {}
        self.marks: dict[Instrument, Mark] = {}
        self._symbols: dict[str, SymbolSums] = {}
        self._valued: dict[str, dict[AccountKey, _Valued]] = {}
        self._open: dict[Instrument, dict[AccountKey, int]] = {}

    @property
    def symbols(self) -> Iterable[str]:
        """Symbols of which there is or was a position."""
        return self._symbols.keys()

    @property
    def open_instruments(self) -> Iterable[Instrument]:
        """Instruments with a position that is not flat."""
        return self._open.keys()

    def holdings(self) -> Iterable[tuple[AccountKey, Holding, Decimal | None]]:
        """Every position with its value at the mark."""
        for valued in self._valued.values():
            for key, value in valued.items():
                yield key, value.holding, value.notional

    def holding(self, key: AccountKey, symbol: str) -> Holding:
        """The position as its gateway last told it."""
        return self._valued[symbol][key].holding

    def settles_in(self, key: AccountKey, symbol: str, asset: str) -> bool:
        """Whether that position is settled in `asset`."""
        return self._valued[symbol][key].holding.position.settle_asset == asset

    def booked(self, key: AccountKey, asset: str) -> Decimal:
        """What the account's positions did to its balance of `asset` so far."""
        held = [valued[key].holding for valued in self._valued.values() if key in valued]
        with localcontext(EXACT):
            return sum(
                (one.realized - one.fees + one.funding for one in held if one.position.settle_asset == asset), ZERO
            )

    def open_since_ns(self, key: AccountKey, symbol: str) -> int | None:
        """When the position was last opened, by its gateway's clock; None when it is flat."""
        return self._open.get((key[0], symbol), {}).get(key)

    def first_open_ns(self, instrument: Instrument) -> int | None:
        """When the oldest of its open positions was opened; None when all are flat."""
        return min(self._open[instrument].values()) if instrument in self._open else None

    def put(self, key: AccountKey, holding: Holding, *, open_since_ns: int | None = None) -> set[str]:
        """Set a position, open since then or since this event; returns the assets whose sums it touches."""
        symbol = holding.position.symbol
        touched = {holding.position.settle_asset}
        old = self._valued.setdefault(symbol, {}).get(key)
        if old is not None:
            self._count(key, old, -1)
            touched.add(old.holding.position.settle_asset)
        self._count(key, self._value(key, holding), 1)
        self._note_open(key, holding, open_since_ns)
        return touched

    def set_mark(self, instrument: Instrument, mark: Mark | None) -> list[tuple[AccountKey, Holding]]:
        """Set or forget a live mark; returns the open positions that are valued at it."""
        venue, symbol = instrument
        held = [
            (key, value.holding)
            for key, value in self._valued.get(symbol, {}).items()
            if key[0] == venue and value.holding.quantity
        ]
        if mark is None:
            self.marks.pop(instrument, None)
        else:
            self.marks[instrument] = mark
        for key, holding in held:
            self.put(key, holding)
        return held

    def stale_marks(self) -> list[StaleMark]:
        """Instruments with open positions and no fresh live mark."""
        stale = []
        for instrument, since in self._open.items():
            mark = self.marks.get(instrument)
            if mark is None:
                stale.append(StaleMark(instrument=instrument, since_ns=min(since.values()), cause=NO_LIVE_MARK))
            elif mark.stale_since_ns is not None:
                stale.append(StaleMark(instrument=instrument, since_ns=mark.stale_since_ns, cause=mark.cause))
        return stale

    def position(self, key: AccountKey, symbol: str) -> account_pb2.Position:
        """The position as its gateway told it, with mark and unrealized profit as of now."""
        value = self._valued[symbol][key]
        position = account_pb2.Position()
        position.CopyFrom(value.holding.position)
        if value.mark is not None:
            position.mark_price = format_decimal(value.mark)
        if value.unrealized is not None:
            position.unrealized_pnl = wire(value.unrealized)
        _add_distance(position, value)
        return position

    def net_position(self, symbol: str) -> portfolio_pb2.NetPosition:
        """All positions of one symbol, with their sum."""
        sums = self._symbols[symbol]
        net = portfolio_pb2.NetPosition(
            symbol=symbol,
            quantity=wire(sums.quantity),
            gross_quantity=wire(sums.gross),
            positions=[self.position(key, symbol) for key in sorted(self._valued[symbol])],
        )
        if not sums.without_notional:
            net.notional = wire(sums.notional)
        if not sums.without_unrealized:
            net.unrealized_pnl = wire(sums.unrealized)
        return net

    def _value(self, key: AccountKey, holding: Holding) -> _Valued:
        live = self.marks.get((key[0], holding.position.symbol))
        mark = holding.own_mark
        # A flat position needs none; a price that makes the value larger than the contract can carry is taken for none.
        if live is not None and holding.quantity and abs(EXACT.multiply(holding.quantity, live.price)) <= MAX_AMOUNT:
            mark = live.price
        return _Valued(holding, mark, holding.notional(mark), holding.unrealized(mark))

    def _count(self, key: AccountKey, value: _Valued, sign: int) -> None:
        holding, symbol = value.holding, value.holding.position.symbol
        notional, unrealized = value.notional or ZERO, value.unrealized or ZERO
        moved = EXACT.add if sign > 0 else EXACT.subtract
        sums = self._symbols.get(symbol)
        if sums is None:
            sums = self._symbols[symbol] = SymbolSums()
        sums.quantity = moved(sums.quantity, holding.quantity)
        sums.gross = moved(sums.gross, holding.quantity.copy_abs())
        sums.notional = moved(sums.notional, notional)
        sums.unrealized = moved(sums.unrealized, unrealized)
        sums.without_notional += sign * (value.notional is None)
        sums.without_unrealized += sign * (value.unrealized is None)
        asset = self.assets.get(holding.position.settle_asset)
        if asset is None:
            asset = self.assets[holding.position.settle_asset] = AssetSums()
        asset.realized = moved(asset.realized, holding.realized)
        asset.fees = moved(asset.fees, holding.fees)
        asset.funding = moved(asset.funding, holding.funding)
        asset.unrealized = moved(asset.unrealized, unrealized)
        asset.gross = moved(asset.gross, notional.copy_abs())
        asset.net = moved(asset.net, notional)
        if sign < 0:
            del self._valued[symbol][key]
            asset.missing.pop((key, symbol), None)
            return
        self._valued[symbol][key] = value
        lacks = [
            name for name, part in (("exposure", value.notional), ("unrealized_pnl", value.unrealized)) if part is None
        ]
        if lacks:
            asset.missing[key, symbol] = f"{' and '.join(lacks)} of {key[0]}/{key[1]} {symbol}: no mark"

    def _note_open(self, key: AccountKey, holding: Holding, since_ns: int | None) -> None:
        instrument = (key[0], holding.position.symbol)
        if holding.quantity:
            if since_ns is None:
                since_ns = holding.event.published_time.ToNanoseconds()
            self._open.setdefault(instrument, {}).setdefault(key, since_ns)
        elif instrument in self._open:
            self._open[instrument].pop(key, None)
            if not self._open[instrument]:
                del self._open[instrument]


def _add_distance(position: account_pb2.Position, value: _Valued) -> None:
    """How far from liquidation at the mark in force; left out where the contract could not carry it."""
    holding, mark = value.holding, value.mark
    if not holding.quantity or not mark or holding.liquidation is None:
        return
    room = EXACT.subtract(mark, holding.liquidation).copy_abs()
    position.ClearField("liquidation_distance_bps")
    if EXACT.multiply(room, BPS) <= EXACT.multiply(MAX_AMOUNT, mark):
        distance = liquidation_distance_bps(holding.quantity, mark, holding.liquidation)
        position.liquidation_distance_bps = format_decimal(distance)


def wire(value: Decimal) -> str:
    """An exact sum or product as the contract carries it: rounded half-even to 18 places, once, here."""
    try:
        return format_decimal(value)
    except ValueError:
        return format_decimal(to_wire(value))
