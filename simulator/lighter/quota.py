"""Volume quota of accounts with fees: what it costs to send orders, and how trading earns it back. Pure.

The price of a unit is 3 USD by the newest page of the venue, 7 or 10 by older ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from simulator.lighter.errors import Code, Refused
from simulator.lighter.transactions import Transaction, TxType

START = 1_000
CAP = 5_000_000
USD_PER_UNIT = Decimal(3)
FREE_EVERY_MS = 15_000
CHARGED = frozenset({TxType.CREATE_ORDER, TxType.CANCEL_ALL_ORDERS, TxType.MODIFY_ORDER, TxType.CREATE_GROUPED_ORDERS})


@dataclass(slots=True, kw_only=True)
class Quota:
    """Units of one account. `traded` is notional not yet turned into units."""

    units: int = START
    traded: Decimal = Decimal(0)
    last_free_ms: int = 0

    def earn(self, notional: Decimal) -> None:
        """Count a trade."""
        self.traded += notional
        earned = int(self.traded / USD_PER_UNIT)
        self.traded -= earned * USD_PER_UNIT
        self.units = min(CAP, self.units + earned)

    def check(self, tx: Transaction, now_ms: int, *, ahead: int) -> None:
        """Refuse a transaction that nothing pays for; `ahead` others of its batch come first.

        Raises:
            Refused: 23000 with HTTP 429.
        """
        if tx.type not in CHARGED or self.units > ahead or now_ms - self.last_free_ms >= FREE_EVERY_MS:
            return
        raise Refused(Code.TOO_MANY_REQUESTS, status=429)

    def spend(self, tx: Transaction, now_ms: int) -> None:
        """Pay for a transaction that was taken."""
        if tx.type not in CHARGED:
            return
        if self.units:
            self.units -= 1
        else:
            self.last_free_ms = now_ms
