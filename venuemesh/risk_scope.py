"""What a risk rule or switch covers: a part of venue, account and symbol, empty parts covering everything. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from venuemesh.errors import InvalidRequest
from venuemesh.v1 import risk_pb2

MAX_PART_CHARACTERS = 64


@dataclass(frozen=True, slots=True, order=True)
class Scope:
    """Venue, account and unified symbol; "" covers all of its kind. `Scope()` is the mesh."""

    venue: str = ""
    account_id: str = ""
    symbol: str = ""

    @classmethod
    def of(cls, message: risk_pb2.RiskScope) -> Scope:
        """The scope a message names."""
        return cls(message.venue, message.account_id, message.symbol)

    @property
    def parts(self) -> tuple[str, str, str]:
        """Venue, account, symbol."""
        return self.venue, self.account_id, self.symbol

    def message(self) -> risk_pb2.RiskScope:
        """As the contract carries it."""
        return risk_pb2.RiskScope(venue=self.venue, account_id=self.account_id, symbol=self.symbol)

    def covers(self, venue: str, account_id: str, symbol: str) -> bool:
        """Whether an order of this venue, account and symbol lies in it."""
        return self.venue in ("", venue) and self.account_id in ("", account_id) and self.symbol in ("", symbol)

    def touches(self, other: Scope) -> bool:
        """Whether some order lies in both."""
        pairs = zip(self.parts, other.parts, strict=True)
        return all(not mine or not theirs or mine == theirs for mine, theirs in pairs)

    def includes(self, other: Scope) -> bool:
        """Whether everything in `other` lies in it."""
        return self.covers(*other.parts)

    @property
    def rank(self) -> tuple[int, Scope]:
        """Sorts the widest scope first."""
        return sum(map(bool, self.parts)), self

    def __str__(self) -> str:
        """For people and for error details, such as `venue=lighter symbol=BTC/USDC:USDC`."""
        named = zip(("venue", "account", "symbol"), self.parts, strict=True)
        return " ".join(f"{name}={part}" for name, part in named if part) or "mesh"


def parse_scope(message: risk_pb2.RiskScope, *, field: str = "scope") -> Scope:
    """The scope a request names.

    Raises:
        InvalidRequest: a part is too long; names the field.
    """
    scope = Scope.of(message)
    for name, part in zip(("venue", "account_id", "symbol"), scope.parts, strict=True):
        if len(part) > MAX_PART_CHARACTERS:
            path = f"{field}.{name}"
            raise InvalidRequest(f"{path}: {len(part)} characters, at most {MAX_PART_CHARACTERS}", field=path)
    return scope
