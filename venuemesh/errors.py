"""The error family: every failure of a call is one of these, with its status, reason and class.

An error carries what a caller needs to act: the gRPC code, a stable `Reason`, whether anything was `sent`
to a venue, and how long to wait. The interceptor turns it into `google.rpc.Status` once; nothing else maps
errors. What a venue *decided* about an order is not an error but an answer (`SubmitOutcome`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import ClassVar

import grpc

DOMAIN = "venuemesh"


class Sent(StrEnum):
    """Whether the request may have left this process towards a venue."""

    NO = "no"
    YES = "yes"
    MAYBE = "maybe"


class ErrorClass(StrEnum):
    """What the caller of a venue may do next; every error has exactly one."""

    RETRYABLE = "retryable"
    RATE_LIMITED = "rate_limited"
    INVALID_REQUEST = "invalid_request"
    EXCHANGE_ERROR = "exchange_error"
    FATAL = "fatal"


class Reason(StrEnum):
    """Stable machine-readable reasons; equal to the enum `Reason` of the contract without its prefix."""

    # request faults
    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    REQUIRED_FIELD_MISSING = "REQUIRED_FIELD_MISSING"
    INVALID_DECIMAL = "INVALID_DECIMAL"
    INVALID_CLIENT_ORDER_ID = "INVALID_CLIENT_ORDER_ID"
    QUANTITY_NOT_POSITIVE = "QUANTITY_NOT_POSITIVE"
    PRICE_NOT_POSITIVE = "PRICE_NOT_POSITIVE"
    PRICE_OFF_TICK = "PRICE_OFF_TICK"
    QUANTITY_OFF_LOT = "QUANTITY_OFF_LOT"
    BELOW_MIN_QUANTITY = "BELOW_MIN_QUANTITY"
    ABOVE_MAX_QUANTITY = "ABOVE_MAX_QUANTITY"
    BELOW_MIN_NOTIONAL = "BELOW_MIN_NOTIONAL"
    ABOVE_MAX_NOTIONAL = "ABOVE_MAX_NOTIONAL"
    LEVERAGE_OUT_OF_RANGE = "LEVERAGE_OUT_OF_RANGE"
    UNSUPPORTED_ORDER_TYPE = "UNSUPPORTED_ORDER_TYPE"
    UNSUPPORTED_TIME_IN_FORCE = "UNSUPPORTED_TIME_IN_FORCE"
    UNSUPPORTED_INSTRUCTION = "UNSUPPORTED_INSTRUCTION"
    CONTRADICTORY_FIELDS = "CONTRADICTORY_FIELDS"
    MESSAGE_TOO_LARGE = "MESSAGE_TOO_LARGE"
    # missing things
    VENUE_NOT_FOUND = "VENUE_NOT_FOUND"
    ACCOUNT_NOT_FOUND = "ACCOUNT_NOT_FOUND"
    INSTRUMENT_NOT_FOUND = "INSTRUMENT_NOT_FOUND"
    ORDER_NOT_FOUND = "ORDER_NOT_FOUND"
    STREAM_NOT_FOUND = "STREAM_NOT_FOUND"
    ROUTE_NOT_FOUND = "ROUTE_NOT_FOUND"
    DEAD_LETTER_NOT_FOUND = "DEAD_LETTER_NOT_FOUND"
    # conflicts
    CLIENT_ORDER_ID_REUSED = "CLIENT_ORDER_ID_REUSED"
    STATE_VERSION_CONFLICT = "STATE_VERSION_CONFLICT"
    # states
    TRADING_HALTED = "TRADING_HALTED"
    TRADING_REDUCE_ONLY = "TRADING_REDUCE_ONLY"
    KILL_SWITCH_ACTIVE = "KILL_SWITCH_ACTIVE"
    RISK_LIMIT_REACHED = "RISK_LIMIT_REACHED"
    INSUFFICIENT_MARGIN = "INSUFFICIENT_MARGIN"
    STREAM_RECONCILING = "STREAM_RECONCILING"
    VENUE_DEGRADED = "VENUE_DEGRADED"
    VENUE_POST_ONLY_WINDOW = "VENUE_POST_ONLY_WINDOW"
    ORDER_NOT_WORKING = "ORDER_NOT_WORKING"
    NO_ELIGIBLE_VENUE = "NO_ELIGIBLE_VENUE"
    SESSION_GONE = "SESSION_GONE"
    CONFIGURATION_INVALID = "CONFIGURATION_INVALID"
    INSTRUMENT_NOT_TRADING = "INSTRUMENT_NOT_TRADING"
    # limits
    RATE_LIMIT_LOCAL = "RATE_LIMIT_LOCAL"
    RATE_LIMIT_VENUE = "RATE_LIMIT_VENUE"
    VOLUME_QUOTA_EXHAUSTED = "VOLUME_QUOTA_EXHAUSTED"
    TOO_MANY_OPEN_ORDERS = "TOO_MANY_OPEN_ORDERS"
    TOO_MANY_STREAMS = "TOO_MANY_STREAMS"
    SLOW_CONSUMER = "SLOW_CONSUMER"
    # availability
    VENUE_DISCONNECTED = "VENUE_DISCONNECTED"
    VENUE_UNAVAILABLE = "VENUE_UNAVAILABLE"
    CIRCUIT_OPEN = "CIRCUIT_OPEN"
    GATEWAY_DRAINING = "GATEWAY_DRAINING"
    GATEWAY_UNAVAILABLE = "GATEWAY_UNAVAILABLE"
    JOURNAL_UNAVAILABLE = "JOURNAL_UNAVAILABLE"
    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    DEADLINE_TOO_SHORT = "DEADLINE_TOO_SHORT"
    RESUME_POSITION_EXPIRED = "RESUME_POSITION_EXPIRED"
    # venue's own refusals of an order
    POST_ONLY_WOULD_CROSS = "POST_ONLY_WOULD_CROSS"
    NO_LIQUIDITY = "NO_LIQUIDITY"
    REDUCE_ONLY_WOULD_INCREASE = "REDUCE_ONLY_WOULD_INCREASE"
    INVALID_TRIGGER_PRICE = "INVALID_TRIGGER_PRICE"
    PRICE_OUT_OF_BAND = "PRICE_OUT_OF_BAND"
    OPEN_INTEREST_CAP = "OPEN_INTEREST_CAP"
    POSITION_LIMIT_REACHED = "POSITION_LIMIT_REACHED"
    SELF_TRADE = "SELF_TRADE"
    EXPIRED_BEFORE_PROCESSING = "EXPIRED_BEFORE_PROCESSING"
    NEVER_REACHED_VENUE = "NEVER_REACHED_VENUE"
    VENUE_REJECTED = "VENUE_REJECTED"
    # permissions and faults
    AUTHENTICATION_FAILED = "AUTHENTICATION_FAILED"
    NONCE_REJECTED = "NONCE_REJECTED"
    PERMISSION_SCOPE_MISSING = "PERMISSION_SCOPE_MISSING"
    NOT_SUPPORTED_BY_VENUE = "NOT_SUPPORTED_BY_VENUE"
    NOT_IMPLEMENTED = "NOT_IMPLEMENTED"
    VENUE_PROTOCOL_ERROR = "VENUE_PROTOCOL_ERROR"
    INTERNAL = "INTERNAL"
    SIBLING_FILLED = "SIBLING_FILLED"
    RISK_VIEW_STALE = "RISK_VIEW_STALE"
    RISK_CHECK_FAILED = "RISK_CHECK_FAILED"


class MeshError(Exception):
    """A call that did not become an order attempt, or whose attempt cannot be described otherwise.

    Args:
        message: for people; may change between releases. Names the field, the rule and the value.
        reason: stable; defaults to the class's own.
        sent: whether the request may have left the process. `NO` unless stated.
        retry_after_s: how long to wait before a retry can succeed; None when unknown.
        field: name of the request field at fault, for BadRequest details.
        metadata: variable parts, all strings; must never hold a secret.
    """

    code: ClassVar[grpc.StatusCode] = grpc.StatusCode.INTERNAL
    default_reason: ClassVar[Reason] = Reason.INTERNAL
    error_class: ClassVar[ErrorClass] = ErrorClass.FATAL

    def __init__(
        self,
        message: str,
        *,
        reason: Reason | None = None,
        sent: Sent = Sent.NO,
        retry_after_s: float | None = None,
        field: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or self.default_reason
        self.sent = sent
        self.retry_after_s = retry_after_s
        self.field = field
        self.metadata = dict(metadata or {})


class InvalidRequest(MeshError):
    """A field of the request breaks a rule; nothing was sent."""

    code = grpc.StatusCode.INVALID_ARGUMENT
    default_reason = Reason.INVALID_ARGUMENT
    error_class = ErrorClass.INVALID_REQUEST


class InvalidOrder(InvalidRequest):
    """The order breaks an instrument rule or names something the venue does not offer."""


class NotFound(MeshError):
    """The named thing does not exist."""

    code = grpc.StatusCode.NOT_FOUND
    error_class = ErrorClass.INVALID_REQUEST


class VenueNotFound(NotFound):
    """No such venue in this mesh."""

    default_reason = Reason.VENUE_NOT_FOUND


class AccountNotFound(NotFound):
    """No such account at this gateway."""

    default_reason = Reason.ACCOUNT_NOT_FOUND


class InstrumentNotFound(NotFound):
    """No such symbol at this venue."""

    default_reason = Reason.INSTRUMENT_NOT_FOUND


class OrderNotFound(NotFound):
    """No order has this id for this account."""

    default_reason = Reason.ORDER_NOT_FOUND


class DeadLetterNotFound(NotFound):
    """No dead letter of this service has this number."""

    default_reason = Reason.DEAD_LETTER_NOT_FOUND


class ClientOrderIdReused(MeshError):
    """The idempotency key already belongs to an order with other content."""

    code = grpc.StatusCode.ALREADY_EXISTS
    default_reason = Reason.CLIENT_ORDER_ID_REUSED
    error_class = ErrorClass.INVALID_REQUEST


class PreconditionFailed(MeshError):
    """The system's state forbids the call until it changes."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    error_class = ErrorClass.INVALID_REQUEST


class RiskRefused(PreconditionFailed):
    """A pre-trade risk check refused the order."""

    default_reason = Reason.RISK_LIMIT_REACHED


class TradingHalted(PreconditionFailed):
    """Trading is halted in a scope that covers the order."""

    default_reason = Reason.TRADING_HALTED


class Reconciling(PreconditionFailed):
    """The private venue stream is down or catching up; cancels still pass."""

    default_reason = Reason.STREAM_RECONCILING
    error_class = ErrorClass.RETRYABLE


class SessionGone(PreconditionFailed):
    """The order session that the order shall belong to is not open."""

    default_reason = Reason.SESSION_GONE


class ConfigurationInvalid(PreconditionFailed):
    """The configuration that was read again cannot be used; nothing changed."""

    default_reason = Reason.CONFIGURATION_INVALID


class VersionConflict(MeshError):
    """The state changed since the caller read it."""

    code = grpc.StatusCode.ABORTED
    default_reason = Reason.STATE_VERSION_CONFLICT
    error_class = ErrorClass.INVALID_REQUEST


class ResumeExpired(MeshError):
    """The resume position is older than what is retained, or of another epoch."""

    code = grpc.StatusCode.OUT_OF_RANGE
    default_reason = Reason.RESUME_POSITION_EXPIRED
    error_class = ErrorClass.INVALID_REQUEST


class RateLimited(MeshError):
    """A limit of ours or of the venue is spent; wait `retry_after_s`."""

    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    default_reason = Reason.RATE_LIMIT_LOCAL
    error_class = ErrorClass.RATE_LIMITED


class Unavailable(MeshError):
    """Something this call needs is away; another venue or a later try may do."""

    code = grpc.StatusCode.UNAVAILABLE
    error_class = ErrorClass.RETRYABLE


class VenueUnavailable(Unavailable):
    """The venue cannot be reached or answered with a server fault."""

    default_reason = Reason.VENUE_DISCONNECTED


class VenueDegraded(Unavailable):
    """The connection to the venue is bad, and policy takes no new orders over it; cancels still pass."""

    default_reason = Reason.VENUE_DEGRADED


class GatewayUnavailable(Unavailable):
    """The router cannot reach the venue's gateway."""

    default_reason = Reason.GATEWAY_UNAVAILABLE


class CircuitOpen(Unavailable):
    """The router's breaker for this venue is open."""

    default_reason = Reason.CIRCUIT_OPEN


class Draining(Unavailable):
    """The service is stopping and takes no new orders."""

    default_reason = Reason.GATEWAY_DRAINING


class JournalUnavailable(Unavailable):
    """The order journal does not answer, so nothing is sent."""

    default_reason = Reason.JOURNAL_UNAVAILABLE


class OutcomeUnknown(MeshError):
    """A write may have reached the venue and its answer was lost. Never a reason to resend."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    default_reason = Reason.OUTCOME_UNKNOWN
    error_class = ErrorClass.EXCHANGE_ERROR

    def __init__(self, message: str, **details: object) -> None:
        details.setdefault("sent", Sent.MAYBE)
        super().__init__(message, **details)  # type: ignore[arg-type]


class DeadlineTooShort(MeshError):
    """Too little time is left to do the call with a known outcome; nothing was sent."""

    code = grpc.StatusCode.DEADLINE_EXCEEDED
    default_reason = Reason.DEADLINE_TOO_SHORT
    error_class = ErrorClass.RETRYABLE


class AuthenticationFailed(MeshError):
    """The venue does not accept our signer or key: an operator must look."""

    code = grpc.StatusCode.UNAUTHENTICATED
    default_reason = Reason.AUTHENTICATION_FAILED
    error_class = ErrorClass.FATAL


class PermissionDenied(MeshError):
    """The caller's token lacks the scope of this method."""

    code = grpc.StatusCode.PERMISSION_DENIED
    default_reason = Reason.PERMISSION_SCOPE_MISSING
    error_class = ErrorClass.INVALID_REQUEST


class NonceRejected(MeshError):
    """The venue refused the nonce; a new one may be tried once."""

    code = grpc.StatusCode.ABORTED
    default_reason = Reason.NONCE_REJECTED
    error_class = ErrorClass.RETRYABLE


class VenueRejected(MeshError):
    """The venue refused a write that is not an order submit, with a meaning we know or its raw text."""

    code = grpc.StatusCode.FAILED_PRECONDITION
    default_reason = Reason.VENUE_REJECTED
    error_class = ErrorClass.EXCHANGE_ERROR


class NotSupported(MeshError):
    """This venue has no such operation."""

    code = grpc.StatusCode.UNIMPLEMENTED
    default_reason = Reason.NOT_SUPPORTED_BY_VENUE
    error_class = ErrorClass.INVALID_REQUEST


class NotYetImplemented(MeshError):
    """The contract has the method, this release does not serve it."""

    code = grpc.StatusCode.UNIMPLEMENTED
    default_reason = Reason.NOT_IMPLEMENTED
    error_class = ErrorClass.INVALID_REQUEST


class ProtocolViolation(MeshError):
    """The venue sent something its protocol does not allow; the payload is kept for a test."""

    code = grpc.StatusCode.INTERNAL
    default_reason = Reason.VENUE_PROTOCOL_ERROR
    error_class = ErrorClass.FATAL
