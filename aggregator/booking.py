"""Why balances changed: what is booked per account, symbol and asset beside what positions carry themselves. Pure.

    balance = opening + realized - fees + funding + transfers + traded + unexplained

holds to the last digit at every step, because `unexplained` is defined by it: what the venue's word on a balance has
beyond all that the events explain. Equity itself is the venue's balance plus unrealized profit, never a sum of ours: an
amount that was missed shows up here and does not falsify it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum

from venuemesh.money import EXACT
from venuemesh.v1 import portfolio_state_pb2

ZERO = Decimal(0)


class Booked(StrEnum):
    """What a movement of money is; values are field names of `Sums`."""

    FEES = "fees"
    FUNDING = "funding"
    TRANSFERS = "transfers"
    TRADED = "traded"


@dataclass(frozen=True, slots=True)
class Movement:
    """Money that a position does not carry: of a spot trade, a transfer, a fee in another asset."""

    asset: str
    kind: Booked
    amount: Decimal
    """Change of the balance, but of FEES what was paid."""


@dataclass(frozen=True, slots=True)
class Sums:
    """What was booked in one asset."""

    fees: Decimal = ZERO
    funding: Decimal = ZERO
    transfers: Decimal = ZERO
    traded: Decimal = ZERO

    def plus(self, other: Sums) -> Sums:
        """Both together."""
        return Sums(
            EXACT.add(self.fees, other.fees),
            EXACT.add(self.funding, other.funding),
            EXACT.add(self.transfers, other.transfers),
            EXACT.add(self.traded, other.traded),
        )

    def save(self, asset: str) -> portfolio_state_pb2.BookedSums:
        """As those of an asset."""
        return portfolio_state_pb2.BookedSums(
            asset=asset,
            fees=str(self.fees),
            funding=str(self.funding),
            transfers=str(self.transfers),
            traded=str(self.traded),
        )

    @classmethod
    def load(cls, state: portfolio_state_pb2.BookedSums) -> Sums:
        """What was saved."""
        return cls(Decimal(state.fees), Decimal(state.funding), Decimal(state.transfers), Decimal(state.traded))

    @property
    def net(self) -> Decimal:
        """What it did to the balance."""
        return EXACT.add(EXACT.subtract(EXACT.add(self.transfers, self.traded), self.fees), self.funding)


NOTHING = Sums()

Books = dict[str, Sums]
"""By asset."""


def book(books: Books, movements: Iterable[Movement]) -> set[str]:
    """Add movements; returns the assets concerned."""
    assets = set()
    for movement in movements:
        sums = books.get(movement.asset, NOTHING)
        amount = EXACT.add(getattr(sums, movement.kind), movement.amount)
        books[movement.asset] = replace(sums, **{movement.kind.value: amount})
        assets.add(movement.asset)
    return assets


def add_up(all_books: Iterable[Books]) -> Books:
    """The sum of several."""
    whole: Books = {}
    for books in all_books:
        for asset, sums in books.items():
            whole[asset] = whole.get(asset, NOTHING).plus(sums)
    return whole
