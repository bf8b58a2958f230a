"""Accounts: margin ledgers with cash and positions, spot balances. Pure.

A ledger keeps the *cash leg*: deposits less the signed cost of every fill, fees and funding. Equity is the
cash leg plus signed quantity times mark, so no division ever touches money and cash is conserved to the last
digit: the sum over all accounts changes only by deposits, withdrawals and fees. An isolated position carries
its own cash leg. Entry price is a weighted average kept for display and realised profit alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, ROUND_UP, Decimal

from simulator.engine.values import ZERO, Instrument, Side

MICRO = Decimal("0.000001")


def truncate(amount: Decimal) -> Decimal:
    """`amount` cut to six decimals towards zero, as venues cut fees."""
    return amount.quantize(MICRO, ROUND_DOWN)


@dataclass(slots=True, kw_only=True)
class LeverageSetting:
    """Margin mode and leverage an account uses for one instrument.

    Args:
        value: leverage, in whole numbers.
        fraction: initial margin as an exact share of notional, where a venue sets that; else one over `value`.
    """

    cross: bool
    value: int
    fraction: Decimal | None = None

    def initial_margin(self, notional: Decimal) -> Decimal:
        """Margin needed to hold `notional`."""
        return notional / self.value if self.fraction is None else notional * self.fraction


@dataclass(slots=True, kw_only=True)
class Position:
    """Net position in one perpetual. `cash` is its own cash leg when isolated, else unused."""

    quantity: Decimal = ZERO
    entry_price: Decimal = ZERO
    isolated: bool = False
    leverage: int = 1
    fraction: Decimal | None = None
    cash: Decimal = ZERO
    funding_all_time: Decimal = ZERO
    funding_since_open: Decimal = ZERO
    funding_since_change: Decimal = ZERO

    def initial_margin(self, notional: Decimal) -> Decimal:
        """Margin that `notional` of it takes when isolated."""
        return notional / self.leverage if self.fraction is None else notional * self.fraction

    def unrealised(self, mark: Decimal) -> Decimal:
        """Profit if closed at `mark`, before fees."""
        return self.quantity * (mark - self.entry_price)


@dataclass(slots=True, kw_only=True)
class SpotBalance:
    """Balance of one token; `hold` is locked by open orders, `cost` what the balance was bought for."""

    total: Decimal = ZERO
    hold: Decimal = ZERO
    cost: Decimal = ZERO

    @property
    def available(self) -> Decimal:
        """What new orders and transfers may use."""
        return self.total - self.hold


@dataclass(frozen=True, slots=True, kw_only=True)
class FillResult:
    """What one perpetual fill did to a position."""

    start: Decimal
    closed_pnl: Decimal
    start_entry: Decimal


@dataclass(slots=True, kw_only=True)
class Ledger:
    """One margin pool of one account.

    The cash leg is the total of `purse`: a purse of its own, or, in a unified account, the spot balance of the
    collateral token, which all pools of that token then share together with one ledger.
    """

    purse: SpotBalance = field(default_factory=SpotBalance)
    positions: dict[str, Position] = field(default_factory=dict)
    leverage: dict[str, LeverageSetting] = field(default_factory=dict)

    @property
    def cash(self) -> Decimal:
        """Cash leg."""
        return self.purse.total

    @cash.setter
    def cash(self, value: Decimal) -> None:
        self.purse.total = value

    def setting(self, instrument: Instrument) -> LeverageSetting:
        """Leverage setting; the default is 20x or the maximum, cross where allowed."""
        found = self.leverage.get(instrument.key)
        if found is None:
            cross = instrument.margin_mode.value == "any"
            found = LeverageSetting(cross=cross, value=min(20, instrument.max_leverage))
            self.leverage[instrument.key] = found
        return found

    def open_positions(self) -> Iterator[tuple[str, Position]]:
        """Positions that are not flat."""
        return ((key, position) for key, position in self.positions.items() if position.quantity)

    def cross_value(self, mark: Callable[[str], Decimal]) -> Decimal:
        """Cash leg plus marked cross positions."""
        return self.cash + sum(
            (p.quantity * mark(key) for key, p in self.open_positions() if not p.isolated),
            ZERO,
        )

    def isolated_value(self, key: str, mark: Decimal) -> Decimal:
        """Equity of one isolated position."""
        position = self.positions[key]
        return position.cash + position.quantity * mark

    def apply_fill(
        self, instrument: Instrument, side: Side, quantity: Decimal, price: Decimal, fee: Decimal
    ) -> FillResult:
        """Book one fill: cost, fee, entry price, isolated margin in or out."""
        setting = self.setting(instrument)
        position = self.positions.setdefault(instrument.key, Position())
        start, start_entry = position.quantity, position.entry_price
        if not start:
            position.isolated = not setting.cross
            position.leverage, position.fraction = setting.value, setting.fraction
            position.funding_since_open = ZERO
        signed = quantity * side.sign
        closing = min(abs(start), quantity) if start * signed < 0 else ZERO
        opening = quantity - closing
        closed_pnl = closing * (price - position.entry_price) * (1 if start > 0 else -1)
        if closing:
            self._close(position, closing, side, price)
        if opening:
            self._open(position, opening, side, price, setting)
        position.funding_since_change = ZERO
        self.cash -= fee
        return FillResult(start=start, closed_pnl=closed_pnl, start_entry=start_entry)

    def _close(self, position: Position, quantity: Decimal, side: Side, price: Decimal) -> None:
        held = abs(position.quantity)
        signed = quantity * side.sign
        if position.isolated:
            equity = position.cash + position.quantity * price
            position.cash -= signed * price
            position.quantity += signed
            released = position.cash if not position.quantity else truncate(equity * quantity / held)
            position.cash -= released
            self.cash += released
        else:
            self.cash -= signed * price
            position.quantity += signed
        if not position.quantity:
            position.entry_price = ZERO

    def _open(
        self, position: Position, quantity: Decimal, side: Side, price: Decimal, setting: LeverageSetting
    ) -> None:
        held = abs(position.quantity)
        if not held:  # also after the closing half of a flip
            position.isolated = not setting.cross
            position.leverage, position.fraction = setting.value, setting.fraction
        signed = quantity * side.sign
        position.entry_price = (held * position.entry_price + quantity * price) / (held + quantity)
        position.quantity += signed
        if position.isolated:
            margin = position.initial_margin(quantity * price).quantize(MICRO, ROUND_UP)
            self.cash -= margin
            position.cash += margin - signed * price
        else:
            self.cash -= signed * price


@dataclass(slots=True, kw_only=True)
class Account:
    """Everything one account owns. `house` accounts have no margin limits and keep no order history.

    `maker_fee` and `taker_fee`, where set, replace the instrument's: venues with fees by account. `unified`
    names the token whose spot balance is the cash of every pool, empty for separate pools.
    """

    name: str
    house: bool = False
    ledgers: dict[str, Ledger] = field(default_factory=dict)
    spot: dict[str, SpotBalance] = field(default_factory=dict)
    volume: Decimal = ZERO
    maker_fee: Decimal | None = None
    taker_fee: Decimal | None = None
    unified: str = ""

    def own_ledgers(self) -> list[Ledger]:
        """Every ledger once; pools of a unified account share one."""
        return list({id(ledger): ledger for ledger in self.ledgers.values()}.values())

    def fee_rate(self, instrument: Instrument, *, taker: bool) -> Decimal:
        """Share of notional this account pays."""
        own = self.taker_fee if taker else self.maker_fee
        if self.house:
            return ZERO
        return own if own is not None else instrument.taker_fee if taker else instrument.maker_fee

    def ledger(self, pool: str) -> Ledger:
        """Ledger of a margin pool, empty when first asked for."""
        return self.ledgers.setdefault(pool, Ledger())

    def balance(self, token: str) -> SpotBalance:
        """Spot balance of a token, empty when first asked for."""
        return self.spot.setdefault(token, SpotBalance())

    def position(self, instrument: Instrument) -> Decimal:
        """Signed position in a perpetual."""
        ledger = self.ledgers.get(instrument.pool)
        position = ledger.positions.get(instrument.key) if ledger else None
        return position.quantity if position else ZERO
