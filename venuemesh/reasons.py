"""What each reason claims and what its caller does about it: the source of docs/reasons.md. Pure.

The meaning itself stands in the contract (protos/venuemesh/v1/error.proto). Tests compare the codes with every place
that raises an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from venuemesh.errors import Reason


class Retry(StrEnum):
    """Whether the same wish can succeed later, and how."""

    FIX = "after correcting the request"
    CHANGE = "after the state has changed"
    WAIT = "after a wait: RetryInfo when it is known how long"
    SAME_KEY = "only with the same key"
    NEW_KEY = "yes, under a new key"
    REREAD = "after reading again"
    NEVER = "no"


@dataclass(frozen=True, slots=True)
class Facts:
    """One row of the list.

    Args:
        codes: gRPC codes of calls that end with this reason; empty where it is only an order's reject reason.
        sent: what `sent` may say in such an error.
        retry: when to try again.
        do: what to do, in a sentence or two.
        rejects: whether it may be the reject reason of an order; the call then ends well, with outcome REJECTED.
    """

    codes: tuple[str, ...]
    sent: tuple[str, ...]
    retry: Retry
    do: str
    rejects: bool = False


_NO, _YES, _MAYBE = "no", "yes", "maybe"
_INVALID, _MISSING, _STATE = "INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION"
_AWAY, _LIMIT, _TIME = "UNAVAILABLE", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"


def _request(do: str, *codes: str, rejects: bool = True) -> Facts:
    """A fault of the request: refused here before it is sent, or by the venue with the same meaning."""
    return Facts((_INVALID, *codes), (_NO, _YES), Retry.FIX, do, rejects)


def _venue_said(do: str, retry: Retry = Retry.CHANGE, *codes: str) -> Facts:
    """The venue's own refusal: of an order in its reject reason, of any other write as FAILED_PRECONDITION."""
    return Facts((*codes, _STATE), (_YES,), retry, do, rejects=True)


def _state(do: str, *codes: str, rejects: bool = False, retry: Retry = Retry.CHANGE) -> Facts:
    """The state of mesh or venue forbids it for now."""
    return Facts((_STATE, *codes), (_NO,), retry, do, rejects)


REASONS: dict[Reason, Facts] = {
    # request faults
    Reason.INVALID_ARGUMENT: _request("Read the message: it names the field, the rule and the value.", _STATE),
    Reason.REQUIRED_FIELD_MISSING: _request("Set the field that the message names.", rejects=False),
    Reason.INVALID_DECIMAL: _request("Write plain digits: no exponent, no plus, no padding zeros.", rejects=False),
    Reason.INVALID_CLIENT_ORDER_ID: _request("Use 1 to 36 of letters, digits, `-` and `_`.", _STATE),
    Reason.QUANTITY_NOT_POSITIVE: _request("The sign is the side's: give a quantity above 0.", _STATE),
    Reason.PRICE_NOT_POSITIVE: _request("Give a price above 0, or leave it out of a market order."),
    Reason.PRICE_OFF_TICK: _request("Take one of the prices in the metadata; rules are in GetInstrument.", _STATE),
    Reason.QUANTITY_OFF_LOT: _request("Round to the step in GetInstrument.", _STATE),
    Reason.BELOW_MIN_QUANTITY: _request("Ask for at least the minimum in GetInstrument.", _STATE),
    Reason.ABOVE_MAX_QUANTITY: _request("Divide the order."),
    Reason.BELOW_MIN_NOTIONAL: _request("Price times quantity must reach the minimum in GetInstrument.", _STATE),
    Reason.ABOVE_MAX_NOTIONAL: _request("Divide the order.", _STATE),
    Reason.LEVERAGE_OUT_OF_RANGE: _request("Stay between 1 and the instrument's highest.", _STATE),
    Reason.UNSUPPORTED_ORDER_TYPE: _request("GetCapabilities lists the order types of the venue.", _STATE),
    Reason.UNSUPPORTED_TIME_IN_FORCE: _request("GetCapabilities lists the times in force.", _STATE),
    Reason.UNSUPPORTED_INSTRUCTION: _request("GetCapabilities lists the instructions.", _STATE),
    Reason.CONTRADICTORY_FIELDS: _request("Leave out one of the fields that the message names.", rejects=False),
    Reason.MESSAGE_TOO_LARGE: _request("Ask for less in one call; `GRPC__MAX_MESSAGE_BYTES` is the bound.", _STATE),
    # missing things
    Reason.VENUE_NOT_FOUND: Facts(
        (_INVALID, _MISSING), (_NO,), Retry.FIX, "ListVenues has the venues; a gateway serves its own alone."
    ),
    Reason.ACCOUNT_NOT_FOUND: Facts(
        (_MISSING, _STATE), (_NO, _YES), Retry.FIX, "ListAccounts has the accounts; names are the mesh's own.", True
    ),
    Reason.INSTRUMENT_NOT_FOUND: Facts(
        (_MISSING, _STATE), (_NO, _YES), Retry.FIX, "ListInstruments has the symbols, such as `BTC/USDC:USDC`.", True
    ),
    Reason.ORDER_NOT_FOUND: Facts(
        (_MISSING, _INVALID, _STATE), (_NO, _YES), Retry.FIX, "Check id, account and venue; ListOrders has them.", True
    ),
    Reason.STREAM_NOT_FOUND: Facts((_MISSING,), (_NO,), Retry.FIX, "Open the stream anew; it has ended."),
    Reason.ROUTE_NOT_FOUND: Facts((_MISSING,), (_NO,), Retry.FIX, "ListRoutes has the routes."),
    Reason.DEAD_LETTER_NOT_FOUND: Facts(
        (_MISSING,), (_NO,), Retry.FIX, "ListDeadLetters of the router has those of all services."
    ),
    # conflicts
    Reason.CLIENT_ORDER_ID_REUSED: Facts(
        ("ALREADY_EXISTS", _STATE), (_NO,), Retry.NEW_KEY, "A fault of the caller: a key is never free again."
    ),
    Reason.STATE_VERSION_CONFLICT: Facts(
        ("ABORTED", _STATE), (_NO,), Retry.REREAD, "Read the thing again and decide anew."
    ),
    # states
    Reason.TRADING_HALTED: _state("GetRiskState says who halted it and why; cancels pass."),
    Reason.TRADING_REDUCE_ONLY: _state("Orders that make positions smaller pass; GetRiskState says who set it."),
    Reason.KILL_SWITCH_ACTIVE: _state("ReleaseKillSwitch with exactly the scope it was engaged with; cancels pass."),
    Reason.RISK_LIMIT_REACHED: _state("The details have type, scope, use and limit: cancel something or change it."),
    Reason.INSUFFICIENT_MARGIN: Facts(
        (_STATE,), (_NO, _YES), Retry.CHANGE, "Add collateral, make something smaller, or ask for less.", True
    ),
    Reason.STREAM_RECONCILING: _state(
        "Wait. If it lasts, look at the health of `venue/<venue>` and the alert `account_stale`.",
        _AWAY,
        retry=Retry.WAIT,
    ),
    Reason.VENUE_DEGRADED: Facts(
        (_AWAY,), (_NO,), Retry.WAIT, "See the alert `link_degraded`; `LINKS__PAUSE_ORDERS` is what refuses."
    ),
    Reason.VENUE_POST_ONLY_WINDOW: _venue_said("Send post-only, or wait until the venue's window is over."),
    Reason.ORDER_NOT_WORKING: Facts(
        (_STATE,), (_NO, _YES), Retry.REREAD, "The order has ended or waits: read it; there is nothing to change.", True
    ),
    Reason.NO_ELIGIBLE_VENUE: _state("The candidates in the details say why each venue is left out; PlanRoute too."),
    Reason.CONFIGURATION_INVALID: _state(
        "Mend what the message and the log line `configuration_refused` name, then reload again; nothing has changed."
    ),
    Reason.SESSION_GONE: _state("Open a session anew and submit the order there under the same key: it is still free."),
    Reason.INSTRUMENT_NOT_TRADING: Facts(
        (_STATE,), (_NO, _YES), Retry.CHANGE, "The venue has halted or delisted it; reduce elsewhere.", True
    ),
    # limits
    Reason.RATE_LIMIT_LOCAL: Facts(
        (_LIMIT,), (_NO,), Retry.WAIT, "Slow down. Raise our limits only below the venue's.", True
    ),
    Reason.RATE_LIMIT_VENUE: Facts(
        (_LIMIT, _STATE), (_YES,), Retry.WAIT, "Wait as told; GetQuota shows what is left.", True
    ),
    Reason.VOLUME_QUOTA_EXHAUSTED: _venue_said("Fewer orders per traded volume; cancels have a reserve.", Retry.WAIT),
    Reason.TOO_MANY_OPEN_ORDERS: _venue_said("Cancel some orders first."),
    Reason.TOO_MANY_STREAMS: Facts(
        (_LIMIT, _STATE), (_NO, _YES), Retry.CHANGE, "Close streams; ListSubscribers says who has them.", True
    ),
    Reason.SLOW_CONSUMER: Facts(
        (), (), Retry.WAIT, "A stream's last message, with the position to resume from: read faster or filter."
    ),
    # availability
    Reason.VENUE_DISCONNECTED: Facts(
        (_AWAY,),
        (_NO, _MAYBE),
        Retry.WAIT,
        "The venue's status page, then the network. Links reconnect by themselves; there is nothing to restart.",
        True,
    ),
    Reason.VENUE_UNAVAILABLE: Facts(
        (_AWAY, _STATE), (_YES,), Retry.WAIT, "The venue answers with faults of its own: see its status page.", True
    ),
    Reason.CIRCUIT_OPEN: Facts(
        (_AWAY,), (_NO,), Retry.WAIT, "The router tries again by itself; ListCircuitBreakers says what opened it."
    ),
    Reason.GATEWAY_DRAINING: Facts(
        (_AWAY,), (_NO,), Retry.WAIT, "It stops, or an operator drains it: GetVenue names who and why.", True
    ),
    Reason.GATEWAY_UNAVAILABLE: Facts(
        (_AWAY,), (_NO, _YES, _MAYBE), Retry.WAIT, "Is the gateway up? Its log says why not."
    ),
    Reason.JOURNAL_UNAVAILABLE: Facts(
        (_AWAY,), (_NO,), Retry.WAIT, "Look at NATS: not running, disk full. Orders pass again by themselves."
    ),
    Reason.OUTCOME_UNKNOWN: Facts(
        (_TIME,),
        (_MAYBE,),
        Retry.SAME_KEY,
        "**Never send anew under another key.** Repeat the same key or read the order: it settles by evidence.",
    ),
    Reason.DEADLINE_TOO_SHORT: Facts(
        (_TIME,), (_NO,), Retry.FIX, "Give the call its default deadline: option `policy` in the protos.", True
    ),
    Reason.RESUME_POSITION_EXPIRED: Facts(
        ("OUT_OF_RANGE",), (_NO,), Retry.FIX, "Begin with a snapshot, or with the first page."
    ),
    # refusals of an order
    Reason.POST_ONLY_WOULD_CROSS: _venue_said("Move the price away from the market.", Retry.NEW_KEY),
    Reason.NO_LIQUIDITY: Facts(
        (_STATE,), (_NO, _YES), Retry.NEW_KEY, "Nothing to trade with at that price: see the book.", True
    ),
    Reason.REDUCE_ONLY_WOULD_INCREASE: _venue_said("The position is smaller or on the other side: read it.", Retry.FIX),
    Reason.INVALID_TRIGGER_PRICE: _venue_said("Put the trigger on the other side of the price.", Retry.FIX, _INVALID),
    Reason.PRICE_OUT_OF_BAND: _venue_said("Move the price towards the mark.", Retry.FIX, _INVALID),
    Reason.OPEN_INTEREST_CAP: _venue_said("The venue takes no new positions in it for now; reducing passes."),
    Reason.POSITION_LIMIT_REACHED: _venue_said("Lower the leverage or make the position smaller."),
    Reason.SELF_TRADE: _venue_said("Cancel your own order on the other side first."),
    Reason.EXPIRED_BEFORE_PROCESSING: _venue_said(
        "It came too late and is not live. Repeated: look at our clock and at the link's latency.", Retry.NEW_KEY
    ),
    Reason.NEVER_REACHED_VENUE: Facts(
        (_STATE,), (_NO, _YES), Retry.NEW_KEY, "Proved not to be live; nothing to clean up.", True
    ),
    Reason.VENUE_REJECTED: _venue_said("`venue_text` has the venue's words; report them where they repeat."),
    # permissions and faults
    Reason.AUTHENTICATION_FAILED: Facts(
        ("UNAUTHENTICATED", _STATE),
        (_NO, _YES),
        Retry.CHANGE,
        "From us: is the token there and not expired? From a venue: is the key approved for the account and network?",
        True,
    ),
    Reason.NONCE_REJECTED: Facts(
        ("ABORTED", _AWAY, _STATE), (_NO, _YES), Retry.WAIT, "One key, one gateway: find what else signs with it.", True
    ),
    Reason.PERMISSION_SCOPE_MISSING: Facts(
        ("PERMISSION_DENIED",), (_NO,), Retry.FIX, "Use a token with the scope, account and venue that are named."
    ),
    Reason.NOT_SUPPORTED_BY_VENUE: Facts(
        ("UNIMPLEMENTED", _STATE), (_NO, _YES), Retry.NEVER, "GetCapabilities says what the venue has.", True
    ),
    Reason.NOT_IMPLEMENTED: Facts(
        ("UNIMPLEMENTED",), (_NO,), Retry.NEVER, "In the contract, not served by this release or this service."
    ),
    Reason.VENUE_PROTOCOL_ERROR: Facts(
        ("INTERNAL", _STATE),
        (_NO, _YES, _MAYBE),
        Retry.NEVER,
        "A fault of ours: the log has the payload; report it.",
        True,
    ),
    Reason.INTERNAL: Facts(
        ("INTERNAL",),
        (_NO, _YES, _MAYBE),
        Retry.NEVER,
        "A fault of ours: the message has the request id to find in the log; report it.",
        True,
    ),
    Reason.SIBLING_FILLED: Facts((), (), Retry.NEVER, "Nothing: another order of its group has filled.", True),
    Reason.RISK_VIEW_STALE: _state(
        "Look at `venue/<venue>` health and at NATS; reduce-only orders and cancels pass.", retry=Retry.WAIT
    ),
    Reason.RISK_CHECK_FAILED: _state("A check in `ROUTER_RISK__CHECKS` refused or broke: the message has its words."),
}
