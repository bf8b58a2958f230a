"""What the venue's refusals and order statuses mean, in the mesh's words.

The venue has no error codes, only sentences; every sentence of the venue reference (sections 3.5 and 6) is in
`_RULES`. An unknown sentence is VENUE_REJECTED with its raw text and is **not** definitive: nobody has proved
what it says about the order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from venuemesh.errors import ErrorClass, ProtocolViolation, Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalMeaning:
    """One refusal, understood.

    Args:
        reason: stable reason of the contract.
        error_class: what may be done next.
        definitive: the text proves that the refused request changed nothing at the venue.
        text: the venue's own words, whole.
        venue_code: the order status the venue files such a refusal under, when it has one.
        details: variable parts of the text (asset, bbo, used, cap, address, ...), all strings.
        retry_after_s: known waiting time, for limits.
    """

    reason: Reason
    error_class: ErrorClass
    definitive: bool
    text: str
    venue_code: str | None = None
    details: Mapping[str, str] = field(default_factory=dict)
    retry_after_s: float | None = None

    @property
    def recognized(self) -> bool:
        """False for a sentence nobody has seen: log it in full and count it."""
        return self.reason is not Reason.VENUE_REJECTED or self.definitive


@dataclass(frozen=True, slots=True)
class _Rule:
    pattern: re.Pattern[str]
    reason: Reason
    error_class: ErrorClass
    definitive: bool = True
    venue_code: str | None = None
    retry_after_s: float | None = None


_INVALID = ErrorClass.INVALID_REQUEST
_EXCHANGE = ErrorClass.EXCHANGE_ERROR
_LIMITED = ErrorClass.RATE_LIMITED
_RETRYABLE = ErrorClass.RETRYABLE
_FATAL = ErrorClass.FATAL

_ADDRESS = r"(?P<address>0x[0-9a-fA-F]+)"
_NUMBER = r"\$?[\d.,]+"

# An exhausted address gets one action about every 10 s (reference, section 5.2).
_ADDRESS_LIMIT_WAIT_S = 10.0


def _rule(
    pattern: str,
    reason: Reason,
    error_class: ErrorClass,
    code: str | None = None,
    *,
    definitive: bool = True,
    retry_after_s: float | None = None,
) -> _Rule:
    return _Rule(re.compile(pattern, re.IGNORECASE), reason, error_class, definitive, code, retry_after_s)


_ORDER_RULES: Final = (
    _rule(r"Price must be divisible by tick size", Reason.PRICE_OFF_TICK, _INVALID, "tickRejected"),
    _rule(
        r"Order must have minimum value of (?P<minimum>\$?\d+(?:\.\d+)?(?: \w+)?)",
        Reason.BELOW_MIN_NOTIONAL,
        _INVALID,
        "minTradeNtlRejected",
    ),
    _rule(r"Insufficient margin to place order", Reason.INSUFFICIENT_MARGIN, _INVALID, "perpMarginRejected"),
    _rule(
        r"Reduce only order would increase position",
        Reason.REDUCE_ONLY_WOULD_INCREASE,
        _INVALID,
        "reduceOnlyRejected",
    ),
    _rule(
        r"Post only order would have immediately matched"
        r"(?:, bbo was (?P<bid>[\d.]*)@(?P<ask>\d*(?:\.\d+)?))?",
        Reason.POST_ONLY_WOULD_CROSS,
        _INVALID,
        "badAloPxRejected",
    ),
    _rule(r"Order could not immediately match", Reason.NO_LIQUIDITY, _INVALID, "iocCancelRejected"),
    _rule(r"Invalid TP/SL price", Reason.INVALID_TRIGGER_PRICE, _INVALID, "badTriggerPxRejected"),
    _rule(
        r"No liquidity available for market order",
        Reason.NO_LIQUIDITY,
        _INVALID,
        "marketOrderNoLiquidityRejected",
    ),
    # Two codes share the next sentence (increase and flip), so neither is claimed.
    _rule(
        r"Order would increase open interest while open interest is capped",
        Reason.OPEN_INTEREST_CAP,
        _EXCHANGE,
    ),
    _rule(
        r"Order rejected due to price more aggressive than oracle while at open interest cap",
        Reason.OPEN_INTEREST_CAP,
        _EXCHANGE,
        "tooAggressiveAtOpenInterestCapRejected",
    ),
    _rule(
        r"Order would increase open interest too quickly",
        Reason.OPEN_INTEREST_CAP,
        _EXCHANGE,
        "openInterestIncreaseRejected",
    ),
    _rule(
        r"(?:Order has )?insufficient spot balance",
        Reason.INSUFFICIENT_MARGIN,
        _INVALID,
        "insufficientSpotBalanceRejected",
    ),
    _rule(r"(?:Order )?price too far from oracle", Reason.PRICE_OUT_OF_BAND, _INVALID, "oracleRejected"),
    _rule(
        r"Order would cause position to exceed margin tier limit",
        Reason.POSITION_LIMIT_REACHED,
        _INVALID,
        "perpMaxPositionRejected",
    ),
    _rule(
        r"Order price cannot be more than (?P<band>[\d.]+%) away from the reference price",
        Reason.PRICE_OUT_OF_BAND,
        _INVALID,
    ),
    _rule(r"Order value too large(?:\. Max is \$?(?P<maximum>\d+))?", Reason.ABOVE_MAX_NOTIONAL, _INVALID),
    _rule(r"Order has invalid price", Reason.PRICE_OFF_TICK, _INVALID),
    _rule(r"Order has invalid size", Reason.QUANTITY_OFF_LOT, _INVALID),
    _rule(r"Order has zero size", Reason.QUANTITY_NOT_POSITIVE, _INVALID),
    _rule(r"Only post-only orders allowed", Reason.VENUE_POST_ONLY_WINDOW, _EXCHANGE),
    _rule(r"Order was never placed, already canceled, or filled", Reason.ORDER_NOT_WORKING, _INVALID),
    _rule(r"Cannot modify canceled or filled order", Reason.ORDER_NOT_WORKING, _INVALID),
    # A modify is cancel then place: the sentence does not say whether the old order survived.
    _rule(
        r"Attempted to modify to invalid new order",
        Reason.INVALID_ARGUMENT,
        _INVALID,
        definitive=False,
    ),
    _rule(
        r"TWAP order value too small(?:\. Min is \$?(?P<minimum>[\d.]+\d))?",
        Reason.BELOW_MIN_NOTIONAL,
        _INVALID,
    ),
    _rule(r"TWAP was never placed, already canceled, or filled", Reason.ORDER_NOT_WORKING, _INVALID),
    _rule(r"Reduce-only TWAP order would increase position", Reason.REDUCE_ONLY_WOULD_INCREASE, _INVALID),
    _rule(
        r"Cannot set scheduled cancel time until enough volume traded"
        r"(?:\. Required: \$?(?P<required>[\d.]*\d)\. Traded: \$?(?P<traded>[\d.]*\d))?",
        Reason.VENUE_REJECTED,
        _INVALID,
    ),
)

_ACTION_RULES: Final = (
    _rule(rf"User or API Wallet {_ADDRESS} does not exist", Reason.AUTHENTICATION_FAILED, _FATAL),
    _rule(
        rf"Must deposit before performing actions(?:\. User: {_ADDRESS})?",
        Reason.AUTHENTICATION_FAILED,
        _FATAL,
    ),
    # The nonce has been used: by another process, or by a copy of this very request. Only a query can tell.
    _rule(r"Invalid nonce: duplicate nonce (?P<nonce>\d+)", Reason.NONCE_REJECTED, _RETRYABLE, definitive=False),
    _rule(r"Invalid nonce(?:: nonce too (?:low|high) (?P<nonce>\d+))?", Reason.NONCE_REJECTED, _RETRYABLE),
    _rule(r"Nonce mismatch", Reason.NONCE_REJECTED, _FATAL),
    _rule(r"Action already expired", Reason.EXPIRED_BEFORE_PROCESSING, _RETRYABLE),
    _rule(r"Mainnet and testnet require different signature", Reason.AUTHENTICATION_FAILED, _FATAL),
    _rule(
        r"Too many cumulative requests sent(?: \((?P<used>\d+) > (?P<cap>\d+)\))?"
        r"(?: for cumulative volume traded \$?(?P<volume>[\d.]*\d))?",
        Reason.VOLUME_QUOTA_EXHAUSTED,
        _LIMITED,
        retry_after_s=_ADDRESS_LIMIT_WAIT_S,
    ),
    _rule(r"Signed action over weight limit of (?P<limit>\d+)", Reason.MESSAGE_TOO_LARGE, _INVALID),
    _rule(rf"Vault not registered: {_ADDRESS}", Reason.ACCOUNT_NOT_FOUND, _INVALID),
    _rule(r"Invalid leverage value", Reason.LEVERAGE_OUT_OF_RANGE, _INVALID),
    _rule(r"Cannot switch leverage type with open position", Reason.VENUE_REJECTED, _INVALID),
    _rule(r"Cross margin is not allowed for this asset", Reason.UNSUPPORTED_INSTRUCTION, _INVALID),
    _rule(
        r"(?:Isolated|Cross) position does not have sufficient margin available to decrease leverage",
        Reason.INSUFFICIENT_MARGIN,
        _INVALID,
    ),
    _rule(r"Position does not use isolated margin", Reason.INVALID_ARGUMENT, _INVALID),
    _rule(r"Builder fee has not been approved", Reason.VENUE_REJECTED, _FATAL),
    _rule(r"Extra agent already used", Reason.INVALID_ARGUMENT, _INVALID),
    _rule(r"User has pending agent removal", Reason.VENUE_REJECTED, _RETRYABLE),
    _rule(
        r"Too many extra agents for cumulative volume traded(?:\. Current limit is (?P<limit>\d+))?",
        Reason.VENUE_REJECTED,
        _INVALID,
    ),
    _rule(r"Agent valid_until already expired", Reason.INVALID_ARGUMENT, _INVALID),
    _rule(r"Agent can only send asset to same user or their sub-accounts", Reason.INVALID_ARGUMENT, _INVALID),
    _rule(r"Insufficient balance for (?:withdrawal|token transfer)", Reason.INSUFFICIENT_MARGIN, _INVALID),
    _rule(r"Action disabled when unified account is active", Reason.NOT_SUPPORTED_BY_VENUE, _INVALID),
    _rule(
        r"Cannot create sub-accounts until enough volume traded"
        r"(?:\. Required: \$?(?P<required>[\d.]*\d)\. Traded: \$?(?P<traded>[\d.]*\d))?",
        Reason.VENUE_REJECTED,
        _INVALID,
    ),
    _rule(r"Referral code not registered", Reason.INVALID_ARGUMENT, _INVALID),
    _rule(r"Multi-sig required", Reason.AUTHENTICATION_FAILED, _FATAL),
)

_CHANNEL_RULES: Final = (
    _rule(r"Error parsing JSON into valid websocket request", Reason.VENUE_PROTOCOL_ERROR, _FATAL),
    _rule(r"Already (?:un)?subscribed", Reason.INVALID_ARGUMENT, _INVALID),
    _rule(r"Invalid subscription", Reason.INVALID_ARGUMENT, _INVALID),
    _rule(
        r"too many pending post requests(?: id=(?P<id>\d+))?",
        Reason.RATE_LIMIT_VENUE,
        _LIMITED,
        retry_after_s=1.0,
    ),
    _rule(r"Cannot track more than (?P<limit>\d+) total users", Reason.TOO_MANY_STREAMS, _INVALID),
    _rule(r"Failed to deserialize the JSON body into the target type", Reason.INVALID_ARGUMENT, _INVALID),
    # A post answer of type "error" opens with the HTTP status the same request would have got.
    _rule(r"(?P<http_status>4(?:00|22))\b", Reason.INVALID_ARGUMENT, _INVALID),
    _rule(r"(?P<http_status>429)\b", Reason.RATE_LIMIT_VENUE, _LIMITED, retry_after_s=10.0),
    _rule(r"(?P<http_status>5\d\d)\b", Reason.VENUE_UNAVAILABLE, _RETRYABLE, definitive=False),
)

_RULES: Final = (*_ORDER_RULES, *_ACTION_RULES, *_CHANNEL_RULES)

_PREFIX = re.compile(r"^\s*(?:L1 error|Error):\s*", re.IGNORECASE)
_ASSET = re.compile(r"\s*\basset=(?P<asset>\d+)\.?\s*$")


def classify_error(text: str) -> RefusalMeaning:
    """The meaning of a refusal sentence, with or without `L1 error: ` before and ` asset=N` behind it.

    Never raises: an unknown sentence is VENUE_REJECTED, not definitive, with the whole text kept.
    """
    details: dict[str, str] = {}
    core = _PREFIX.sub("", text)
    if asset := _ASSET.search(core):
        details["asset"] = asset["asset"]
        core = core[: asset.start()]
    for rule in _RULES:
        if match := rule.pattern.match(core):
            details |= {name: value for name, value in match.groupdict().items() if value}
            return RefusalMeaning(
                reason=rule.reason,
                error_class=rule.error_class,
                definitive=rule.definitive,
                text=text,
                venue_code=rule.venue_code,
                details=details,
                retry_after_s=rule.retry_after_s,
            )
    return RefusalMeaning(
        reason=Reason.VENUE_REJECTED,
        error_class=ErrorClass.EXCHANGE_ERROR,
        definitive=False,
        text=text,
        details=details,
    )


def signature_was_wrong(meaning: RefusalMeaning, signer: str) -> bool | None:
    """Why the venue does not know our signer: True when it recovered another address than ours.

    Then the hash differs (network, key order or a decimal's spelling) and no registration will help. False
    means the hash is right and this signer is not registered. None: the text names no address.
    """
    address = meaning.details.get("address")
    return None if address is None else address.lower() != signer.lower()


# --- order statuses ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderStatusMeaning:
    """Contract status name (without prefix) and, for an end the caller did not ask for, the reason.

    `recognized` is False when only the ending of the venue's word was known.
    """

    status: str
    reason: Reason | None = None
    recognized: bool = True


_CANCELED: Final[Mapping[str, Reason | None]] = {
    "canceled": None,
    "scheduledCancel": None,
    "siblingFilledCanceled": Reason.SIBLING_FILLED,
    "marginCanceled": Reason.INSUFFICIENT_MARGIN,
    "vaultWithdrawalCanceled": Reason.INSUFFICIENT_MARGIN,
    "liquidatedCanceled": Reason.INSUFFICIENT_MARGIN,
    "openInterestCapCanceled": Reason.OPEN_INTEREST_CAP,
    "selfTradeCanceled": Reason.SELF_TRADE,
    "reduceOnlyCanceled": Reason.REDUCE_ONLY_WOULD_INCREASE,
    "delistedCanceled": Reason.INSTRUMENT_NOT_TRADING,
    "outcomeSettledCanceled": Reason.INSTRUMENT_NOT_TRADING,
    "internalCancel": Reason.VENUE_REJECTED,
}

_REJECTED: Final[Mapping[str, Reason]] = {
    "rejected": Reason.VENUE_REJECTED,
    "tickRejected": Reason.PRICE_OFF_TICK,
    "minTradeNtlRejected": Reason.BELOW_MIN_NOTIONAL,
    "minTradeSpotNtlRejected": Reason.BELOW_MIN_NOTIONAL,
    "perpMarginRejected": Reason.INSUFFICIENT_MARGIN,
    "reduceOnlyRejected": Reason.REDUCE_ONLY_WOULD_INCREASE,
    "badAloPxRejected": Reason.POST_ONLY_WOULD_CROSS,
    "iocCancelRejected": Reason.NO_LIQUIDITY,
    "badTriggerPxRejected": Reason.INVALID_TRIGGER_PRICE,
    "marketOrderNoLiquidityRejected": Reason.NO_LIQUIDITY,
    "positionIncreaseAtOpenInterestCapRejected": Reason.OPEN_INTEREST_CAP,
    "positionFlipAtOpenInterestCapRejected": Reason.OPEN_INTEREST_CAP,
    "tooAggressiveAtOpenInterestCapRejected": Reason.OPEN_INTEREST_CAP,
    "openInterestIncreaseRejected": Reason.OPEN_INTEREST_CAP,
    "insufficientSpotBalanceRejected": Reason.INSUFFICIENT_MARGIN,
    "oracleRejected": Reason.PRICE_OUT_OF_BAND,
    "perpMaxPositionRejected": Reason.POSITION_LIMIT_REACHED,
    "tooManyOpenOrdersRejected": Reason.TOO_MANY_OPEN_ORDERS,
}


def classify_order_status(status: str, *, partly_filled: bool = False) -> OrderStatusMeaning:
    """Contract status for a status word of orderStatus, historicalOrders or orderUpdates.

    The venue has no word for a partial fill: pass `partly_filled` (remaining below original) and an open
    order becomes PARTIALLY_FILLED. `triggered` is a trigger order that has become a live one. A new word
    ending in Canceled or Rejected is read by its ending, with VENUE_REJECTED and `recognized` False.

    Raises:
        ProtocolViolation: any other unknown word; order state is never guessed.
    """
    if status in ("open", "triggered"):
        return OrderStatusMeaning(status="PARTIALLY_FILLED" if partly_filled else "NEW")
    if status == "filled":
        return OrderStatusMeaning(status="FILLED")
    if status in _CANCELED:
        return OrderStatusMeaning(status="CANCELED", reason=_CANCELED[status])
    if status in _REJECTED:
        return OrderStatusMeaning(status="REJECTED", reason=_REJECTED[status])
    if status.endswith(("Canceled", "Cancel")):
        return OrderStatusMeaning(status="CANCELED", reason=Reason.VENUE_REJECTED, recognized=False)
    if status.endswith("Rejected"):
        return OrderStatusMeaning(status="REJECTED", reason=Reason.VENUE_REJECTED, recognized=False)
    raise ProtocolViolation(f"unknown order status {status!r}", metadata={"payload": status[:200]})
