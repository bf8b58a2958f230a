"""What a decision looks at: each venue's book, rules, fees and funding at one moment. Values only; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from venuemesh.errors import Reason
from venuemesh.v1 import instrument_pb2, venue_pb2

ASSUMED_FEE_RATE = Decimal("0.001")
DEFAULT_HORIZON_S = 8 * 3_600


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a venue cannot take an order; `metadata` holds what helps, such as the nearest valid price."""

    reason: Reason
    message: str
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Level:
    """Quantity offered at one price."""

    price: Decimal
    quantity: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class BookView:
    """One venue's book, best levels first.

    Args:
        age_s: time since the venue's gateway read it.
        stale_cause: why its gateway says it is stale; empty when it does not.
    """

    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    age_s: float
    stale_cause: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeeRates:
    """Fractions of notional; a negative one is a rebate."""

    maker: Decimal
    taker: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Funding:
    """Funding of the running interval as a fraction of notional; longs pay when it is positive."""

    rate: Decimal
    interval_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueView:
    """What the router knows of one venue at the moment of a decision.

    Args:
        unreachable: why its gateway cannot be called; empty when it can.
        barred: why something outside the decision keeps new orders from it, such as an open breaker.
        book: None when there is none; `book_fault` says why.
        fees: the account's own rates; None falls back to the instrument's, which are of the base tier.
        funding: None when there is none or it is not known; counts as nothing.
        room: base units by which the position may still move in the order's direction; None when not bounded.
    """

    venue: str
    unreachable: str = ""
    barred: Refusal | None = None
    state: int = venue_pb2.VENUE_STATE_TRADING
    state_cause: str = ""
    account_ids: frozenset[str] = frozenset()
    capabilities: venue_pb2.VenueCapabilities = field(default_factory=venue_pb2.VenueCapabilities)
    instrument: instrument_pb2.Instrument | None = None
    book: BookView | None = None
    book_fault: str = ""
    fees: FeeRates | None = None
    funding: Funding | None = None
    room: Decimal | None = None

    @property
    def fee_rates(self) -> FeeRates | None:
        """The account's rates, else the instrument's; None when neither is known."""
        if self.fees is not None:
            return self.fees
        if self.instrument is None or not self.instrument.HasField("taker_fee_rate"):
            return None
        taker = Decimal(self.instrument.taker_fee_rate)
        known = self.instrument.HasField("maker_fee_rate")
        return FeeRates(maker=Decimal(self.instrument.maker_fee_rate) if known else taker, taker=taker)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The mesh's rules for a decision.

    Args:
        max_book_age_s: an older book leaves its venue out.
        excluded: venues never chosen.
        horizon_s: time over which expected funding counts.
        assumed_fee_rate: what a venue that does not tell its fees is taken to charge.
    """

    max_book_age_s: float
    excluded: frozenset[str] = frozenset()
    horizon_s: int = DEFAULT_HORIZON_S
    assumed_fee_rate: Decimal = ASSUMED_FEE_RATE
