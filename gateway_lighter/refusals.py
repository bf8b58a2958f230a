"""What the venue's codes and order statuses mean, in the mesh's words. Pure.

A refusal is a number and a sentence; the number decides. A number not in the reference is VENUE_REJECTED and **not**
definitive: nobody has proved what it says about the transaction. Source: venue reference sections 5, 6.2 and 12.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from venuemesh.errors import ErrorClass, ProtocolViolation, Reason

INVALID_NONCE: Final = 21104
DUPLICATE_CLIENT_ORDER_INDEX: Final = 21728
TRANSACTION_NOT_FOUND: Final = 21500
ALREADY_SUBSCRIBED: Final = 30003
NOT_SUBSCRIBED: Final = 30002
INVALID_AUTH: Final = 20013
NO_CANDLES: Final = 22400

FIREWALL_WAIT_S: Final = 60.0
"""How long the firewall keeps a blocked address out (HTTP 405)."""

_LIMIT_WAIT_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalMeaning:
    """One refusal, understood.

    Args:
        code: the venue's number.
        reason: stable reason of the contract.
        error_class: what may be done next.
        definitive: it proves that the refused request changed nothing; its nonce is then not spent, unless the
            refusal came after the transaction was queued.
        text: the venue's own words.
        retry_after_s: known waiting time, for limits.
    """

    code: int
    reason: Reason
    error_class: ErrorClass
    definitive: bool
    text: str
    retry_after_s: float | None = None

    @property
    def recognized(self) -> bool:
        """False for a code nobody has seen: log it in full and count it."""
        return self.reason is not Reason.VENUE_REJECTED or self.definitive


@dataclass(frozen=True, slots=True)
class _Rule:
    reason: Reason
    error_class: ErrorClass
    definitive: bool = True
    retry_after_s: float | None = None


_INVALID = ErrorClass.INVALID_REQUEST
_EXCHANGE = ErrorClass.EXCHANGE_ERROR
_LIMITED = ErrorClass.RATE_LIMITED
_RETRYABLE = ErrorClass.RETRYABLE
_FATAL = ErrorClass.FATAL

_GROUPS: Final[tuple[tuple[_Rule, str], ...]] = (
    (_Rule(Reason.INVALID_ARGUMENT, _INVALID), "20001 20009 21114 21116-21119 21124 21132 21134 21142"),
    (_Rule(Reason.AUTHENTICATION_FAILED, _FATAL), "20013 21108-21110 21120 21121 21136 21504"),
    (_Rule(Reason.ACCOUNT_NOT_FOUND, _INVALID), "21100-21103 21106 21107 21123 21128 21131"),
    (_Rule(Reason.NONCE_REJECTED, _RETRYABLE), "21104 21105"),
    (_Rule(Reason.INSUFFICIENT_MARGIN, _INVALID), "21111 21112 21301 21304 21305 21507 21508 21723 21739"),
    (_Rule(Reason.LEVERAGE_OUT_OF_RANGE, _INVALID), "21113"),
    # Everything an order gateway does not do, refused as a whole.
    (_Rule(Reason.VENUE_REJECTED, _INVALID), "21122 21125-21127 21129 21130 21133 21135 21137-21141 21146 21149 21158"),
    (_Rule(Reason.VENUE_REJECTED, _INVALID), "21200-21237 21300 21302 21303 21511 21512 21515 21516"),
    (_Rule(Reason.VENUE_REJECTED, _INVALID), "21606-21608 21611 21612 21617 21620 21622-21626 21712 21716"),
    (_Rule(Reason.VENUE_REJECTED, _INVALID), "21724-21726 21731 21736 21737 21745 21801-21809 21901-21906 23201 23202"),
    (_Rule(Reason.VENUE_REJECTED, _INVALID), "41001-41012 61001-61009 62001-62006"),
    (_Rule(Reason.INVALID_ARGUMENT, _INVALID), "21400 21401 21500 21501 21502 21503 21505 21513 21514"),
    (_Rule(Reason.INVALID_ARGUMENT, _INVALID), "22400-22403 29404"),
    (_Rule(Reason.RATE_LIMIT_VENUE, _LIMITED, True, 1.0), "21506"),
    (_Rule(Reason.ORDER_NOT_WORKING, _INVALID), "21600 21708 21709 21715 21730"),
    (_Rule(Reason.TOO_MANY_OPEN_ORDERS, _EXCHANGE), "21601 21717-21722"),
    (_Rule(Reason.INSTRUMENT_NOT_FOUND, _INVALID), "21602 21616 21621"),
    (_Rule(Reason.BELOW_MIN_NOTIONAL, _INVALID), "21603 21706"),
    (_Rule(Reason.INSTRUMENT_NOT_TRADING, _EXCHANGE), "21605"),
    (_Rule(Reason.UNSUPPORTED_INSTRUCTION, _INVALID), "21613 21615 21618 21619 21740-21744"),
    (_Rule(Reason.ORDER_NOT_WORKING, _INVALID), "21614"),
    (_Rule(Reason.ORDER_NOT_FOUND, _INVALID), "21700 21707"),
    (_Rule(Reason.BELOW_MIN_QUANTITY, _INVALID), "21701"),
    (_Rule(Reason.PRICE_OFF_TICK, _INVALID), "21702"),
    (_Rule(Reason.INVALID_ARGUMENT, _INVALID), "21703 21711 21713 21714"),
    (_Rule(Reason.UNSUPPORTED_ORDER_TYPE, _INVALID), "21704 21710"),
    (_Rule(Reason.UNSUPPORTED_TIME_IN_FORCE, _INVALID), "21705"),
    (_Rule(Reason.INVALID_CLIENT_ORDER_ID, _INVALID), "21727 21728"),
    (_Rule(Reason.INVALID_TRIGGER_PRICE, _INVALID), "21729"),
    (_Rule(Reason.REDUCE_ONLY_WOULD_INCREASE, _INVALID), "21732 21738"),
    (_Rule(Reason.PRICE_OUT_OF_BAND, _INVALID), "21733-21735"),
    (_Rule(Reason.RATE_LIMIT_VENUE, _LIMITED, True, _LIMIT_WAIT_S), "23000 23004 30009 30010"),
    (_Rule(Reason.TOO_MANY_STREAMS, _LIMITED, True, _LIMIT_WAIT_S), "23001-23003"),
    # Behind these nobody knows how far the request came.
    (_Rule(Reason.VENUE_UNAVAILABLE, _RETRYABLE, False), "29500 29501 30004 30011"),
    (_Rule(Reason.VENUE_PROTOCOL_ERROR, _FATAL), "30000 30001 30006 30007"),
    (_Rule(Reason.INVALID_ARGUMENT, _INVALID), "30002 30003 30005 30008"),
    (_Rule(Reason.VENUE_UNAVAILABLE, _RETRYABLE), "30012"),
)


def _codes(text: str) -> Iterator[int]:
    for part in text.split():
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


def _build_rules() -> dict[int, _Rule]:
    rules: dict[int, _Rule] = {}
    for rule, text in _GROUPS:
        for code in _codes(text):
            if code in rules:
                raise ValueError(f"code {code} has two meanings")
            rules[code] = rule
    return rules


_RULES: Final[Mapping[int, _Rule]] = _build_rules()


def classify_error(code: int, message: str = "") -> RefusalMeaning:
    """The meaning of a refusal. Never raises: an unknown code is VENUE_REJECTED and not definitive."""
    rule = _RULES.get(code) or _Rule(Reason.VENUE_REJECTED, _EXCHANGE, False)
    return RefusalMeaning(
        code=code,
        reason=rule.reason,
        error_class=rule.error_class,
        definitive=rule.definitive,
        text=f"{code} {message}".rstrip(),
        retry_after_s=rule.retry_after_s,
    )


# --- order statuses ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderStatusMeaning:
    """Contract status name (without prefix) and, for an end the caller did not ask for, the reason.

    `recognized` is False when only the beginning of the venue's word was known.
    """

    status: str
    reason: Reason | None = None
    recognized: bool = True


_CANCELED: Final[Mapping[str, Reason | None]] = {
    "canceled": None,
    "canceled-post-only": Reason.POST_ONLY_WOULD_CROSS,
    "canceled-reduce-only": Reason.REDUCE_ONLY_WOULD_INCREASE,
    "canceled-position-not-allowed": Reason.POSITION_LIMIT_REACHED,
    "canceled-margin-not-allowed": Reason.INSUFFICIENT_MARGIN,
    "canceled-too-much-slippage": Reason.NO_LIQUIDITY,
    "canceled-not-enough-liquidity": Reason.NO_LIQUIDITY,
    "canceled-self-trade": Reason.SELF_TRADE,
    "canceled-expired": None,
    "canceled-oco": None,
    "canceled-child": None,
    "canceled-liquidation": Reason.INSUFFICIENT_MARGIN,
    "canceled-invalid-balance": Reason.INSUFFICIENT_MARGIN,
}
_NEVER_RESTED: Final = frozenset({"canceled-post-only", "canceled-too-much-slippage", "canceled-not-enough-liquidity"})
"""A plain order that ends so has never been in the book: it was rejected."""

STATUS_WORDS: Final = ("in-progress", "pending", "open", "filled", *_CANCELED)
"""Status words by their number in `event_info`."""

TRIGGER_STATUSES: Final = frozenset({"na", "ready", "mark-price", "twap", "parent-order"})


def classify_order_status(status: str, *, filled: bool = False, waited_for_trigger: bool = False) -> OrderStatusMeaning:
    """Contract status for a status word.

    The venue has no word for a partial fill: pass `filled` (anything filled) and an open order becomes
    PARTIALLY_FILLED. `waited_for_trigger` is for stops, take-profits and children, which were working before they
    met the book. A new word that begins with `canceled-` is a cancel with VENUE_REJECTED, not recognized.

    Raises:
        ProtocolViolation: any other unknown word; order state is never guessed.
    """
    if status in ("open", "in-progress", "pending"):
        return OrderStatusMeaning(status="PARTIALLY_FILLED" if filled else "NEW")
    if status == "filled":
        return OrderStatusMeaning(status="FILLED")
    if status == "canceled-expired":
        return OrderStatusMeaning(status="EXPIRED")
    if status in _CANCELED:
        rejected = status in _NEVER_RESTED and not filled and not waited_for_trigger
        return OrderStatusMeaning(status="REJECTED" if rejected else "CANCELED", reason=_CANCELED[status])
    if status.startswith("canceled-"):
        return OrderStatusMeaning(status="CANCELED", reason=Reason.VENUE_REJECTED, recognized=False)
    raise ProtocolViolation(f"unknown order status {status!r}", metadata={"payload": status[:200]})


def status_word(number: int) -> str:
    """The status word for a number of `event_info`.

    Raises:
        ProtocolViolation: no such number.
    """
    if not 0 <= number < len(STATUS_WORDS):
        raise ProtocolViolation(f"unknown order status number {number}", metadata={"payload": str(number)})
    return STATUS_WORDS[number]
