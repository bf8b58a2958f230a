"""What can become known of an order: by its caller, by the venue, by evidence. Pure values.

`venuemesh.gateway.orders.apply` says what each of them changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from venuemesh.errors import Reason
from venuemesh.gateway.venue import Refused, VenueFill
from venuemesh.v1 import order_pb2 as pb


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The venue called the order done.

    Attributes:
        filled_quantity: what the venue says was filled, of that life alone; None when it does not.
        venue_order_id: which of the order's lives it ended; None when it is said of the order.
        reason: why the venue ended it, where nobody asked for that.
    """

    status: pb.OrderStatus.ValueType
    filled_quantity: Decimal | None
    text: str
    venue_order_id: str | None = None
    reason: Reason | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """The venue took the order: its answer, its stream, or a query."""

    venue_order_id: str
    venue_time_ns: int = 0
    trigger_state: pb.TriggerState.ValueType = pb.TRIGGER_STATE_UNSPECIFIED
    origin: pb.Origin.ValueType = pb.ORIGIN_VENUE


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """One fill; known execution ids change nothing."""

    fill: VenueFill


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The venue says it is done."""

    ending: Ending
    venue_time_ns: int = 0
    origin: pb.Origin.ValueType = pb.ORIGIN_VENUE


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectedByVenue:
    """The venue refused it, or it is proved that it was never sent.

    `venue_order_id` is the id under which the venue shows the refused order; empty in an answer, which has none.
    """

    reason: Reason
    text: str
    venue_order_id: str = ""
    venue_text: str = ""
    venue_time_ns: int = 0
    origin: pb.Origin.ValueType = pb.ORIGIN_VENUE


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeLost:
    """It was sent and the answer was lost."""

    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvedAbsent:
    """Evidence shows that it is not at the venue and can no longer get there."""

    evidence: str
    origin: pb.Origin.ValueType = pb.ORIGIN_RECONCILIATION


@dataclass(frozen=True, slots=True)
class CancelRequested:
    """A cancel is on its way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelFailed:
    """The cancel was refused or lost; the order stands."""

    text: str


@dataclass(frozen=True, slots=True)
class ReplaceRequested:
    """An amendment is on its way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceConfirmed:
    """The venue applied the amendment; None leaves a term as it was.

    `quantity` is as the venue shows it for this id: without what was filled under other ids.
    """

    venue_order_id: str
    quantity: Decimal | None = None
    price: Decimal | None = None
    trigger_price: Decimal | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaceFailed:
    """The amendment was refused; the order stands as before."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Triggered:
    """Its trigger was reached."""

    venue_time_ns: int = 0


@dataclass(frozen=True, slots=True)
class Armed:
    """The parent it waited for has filled: from here on it waits for its price."""


@dataclass(frozen=True, slots=True)
class FillsComplete:
    """Every fill the venue has of the order was fetched, long enough after it was called done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unrecognised:
    """The venue knows the order, in a state whose word we do not know: proof of nothing."""

    text: str
    venue_time_ns: int = 0
    origin: pb.Origin.ValueType = pb.ORIGIN_VENUE


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorActed:
    """A person did something about the order; what came of it is told by other facts."""

    text: str


Fact = (
    Accepted
    | Filled
    | Ended
    | RejectedByVenue
    | OutcomeLost
    | ProvedAbsent
    | CancelRequested
    | CancelFailed
    | ReplaceRequested
    | ReplaceConfirmed
    | ReplaceFailed
    | Triggered
    | Armed
    | FillsComplete
    | Unrecognised
    | OperatorActed
)


def refusal(refused: Refused) -> RejectedByVenue:
    """The fact that a venue's refusal states."""
    return RejectedByVenue(reason=refused.reason, text=refused.text, venue_text=refused.text)
