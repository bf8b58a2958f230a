"""Every sentence and status word of the venue reference has its meaning."""

from __future__ import annotations

import pytest

from hypercore.refusals import classify_error, classify_order_status, signature_was_wrong
from tests.unit.hypercore.support import needs_recordings, recording, recording_names
from venuemesh.errors import ErrorClass, ProtocolViolation, Reason

A = "0xe7c2adb44064e705a2e955770440c527373967a1"

# text (as the venue writes it), reason, order status code
PER_ORDER: list[tuple[str, Reason, str | None]] = [
    ("Price must be divisible by tick size. asset=5", Reason.PRICE_OFF_TICK, "tickRejected"),
    ("Order must have minimum value of $10. asset=5", Reason.BELOW_MIN_NOTIONAL, "minTradeNtlRejected"),
    (
        "Order must have minimum value of 10 USDC. asset=10107",
        Reason.BELOW_MIN_NOTIONAL,
        "minTradeNtlRejected",
    ),
    ("Insufficient margin to place order. asset=0", Reason.INSUFFICIENT_MARGIN, "perpMarginRejected"),
    (
        "Reduce only order would increase position. asset=4",
        Reason.REDUCE_ONLY_WOULD_INCREASE,
        "reduceOnlyRejected",
    ),
    (
        "Post only order would have immediately matched, bbo was 1866.7@1866.9. asset=4",
        Reason.POST_ONLY_WOULD_CROSS,
        "badAloPxRejected",
    ),
    (
        "Order could not immediately match against any resting orders. asset=5",
        Reason.NO_LIQUIDITY,
        "iocCancelRejected",
    ),
    ("Invalid TP/SL price. asset=110001", Reason.INVALID_TRIGGER_PRICE, "badTriggerPxRejected"),
    (
        "No liquidity available for market order. asset=1",
        Reason.NO_LIQUIDITY,
        "marketOrderNoLiquidityRejected",
    ),
    (
        "Order would increase open interest while open interest is capped",
        Reason.OPEN_INTEREST_CAP,
        None,
    ),
    (
        "Order rejected due to price more aggressive than oracle while at open interest cap",
        Reason.OPEN_INTEREST_CAP,
        "tooAggressiveAtOpenInterestCapRejected",
    ),
    (
        "Order would increase open interest too quickly",
        Reason.OPEN_INTEREST_CAP,
        "openInterestIncreaseRejected",
    ),
    (
        "Order has insufficient spot balance to trade",
        Reason.INSUFFICIENT_MARGIN,
        "insufficientSpotBalanceRejected",
    ),
    (
        "Insufficient spot balance asset=10107",
        Reason.INSUFFICIENT_MARGIN,
        "insufficientSpotBalanceRejected",
    ),
    ("Order price too far from oracle", Reason.PRICE_OUT_OF_BAND, "oracleRejected"),
    ("Price too far from oracle asset=3", Reason.PRICE_OUT_OF_BAND, "oracleRejected"),
    (
        "Order would cause position to exceed margin tier limit at current leverage",
        Reason.POSITION_LIMIT_REACHED,
        "perpMaxPositionRejected",
    ),
    (
        "Order price cannot be more than 80% away from the reference price",
        Reason.PRICE_OUT_OF_BAND,
        None,
    ),
    (
        "Order price cannot be more than 95% away from the reference price",
        Reason.PRICE_OUT_OF_BAND,
        None,
    ),
    ("Order value too large. Max is $5000000.", Reason.ABOVE_MAX_NOTIONAL, None),
    ("Order has invalid price.", Reason.PRICE_OFF_TICK, None),
    ("Order has invalid size.", Reason.QUANTITY_OFF_LOT, None),
    ("Order has zero size.", Reason.QUANTITY_NOT_POSITIVE, None),
    (
        "Only post-only orders allowed immediately after network upgrade",
        Reason.VENUE_POST_ONLY_WINDOW,
        None,
    ),
    ("Order was never placed, already canceled, or filled. asset=4", Reason.ORDER_NOT_WORKING, None),
    (
        "TWAP order value too small. Min is $1200, which is $10 per minute.",
        Reason.BELOW_MIN_NOTIONAL,
        None,
    ),
    ("TWAP was never placed, already canceled, or filled.", Reason.ORDER_NOT_WORKING, None),
    ("Reduce-only TWAP order would increase position.", Reason.REDUCE_ONLY_WOULD_INCREASE, None),
    ("Cannot modify canceled or filled order", Reason.ORDER_NOT_WORKING, None),
    (
        "Cannot set scheduled cancel time until enough volume traded. Required: $1000000. Traded: $12066.75.",
        Reason.VENUE_REJECTED,
        None,
    ),
    ("Builder fee has not been approved.", Reason.VENUE_REJECTED, None),
]

# text, reason, class
TOP_LEVEL: list[tuple[str, Reason, ErrorClass]] = [
    (f"User or API Wallet {A} does not exist.", Reason.AUTHENTICATION_FAILED, ErrorClass.FATAL),
    (
        f"Must deposit before performing actions. User: {A}",
        Reason.AUTHENTICATION_FAILED,
        ErrorClass.FATAL,
    ),
    (
        "Invalid nonce: nonce too low 1791140676851 < 1791227196699",
        Reason.NONCE_REJECTED,
        ErrorClass.RETRYABLE,
    ),
    (
        "Invalid nonce: nonce too high 1791527196699 > 1791400676851",
        Reason.NONCE_REJECTED,
        ErrorClass.RETRYABLE,
    ),
    ("Nonce mismatch.", Reason.NONCE_REJECTED, ErrorClass.FATAL),
    ("Action already expired", Reason.EXPIRED_BEFORE_PROCESSING, ErrorClass.RETRYABLE),
    (
        "Mainnet and testnet require different signature.",
        Reason.AUTHENTICATION_FAILED,
        ErrorClass.FATAL,
    ),
    (
        "Too many cumulative requests sent (97460 > 97456) for cumulative volume traded $87457.46. "
        "Place taker orders to free up 1 request per USDC traded.",
        Reason.VOLUME_QUOTA_EXHAUSTED,
        ErrorClass.RATE_LIMITED,
    ),
    ("Signed action over weight limit of 200.", Reason.MESSAGE_TOO_LARGE, ErrorClass.INVALID_REQUEST),
    (f"Vault not registered: {A}", Reason.ACCOUNT_NOT_FOUND, ErrorClass.INVALID_REQUEST),
    ("Invalid leverage value", Reason.LEVERAGE_OUT_OF_RANGE, ErrorClass.INVALID_REQUEST),
    (
        "Cannot switch leverage type with open position.",
        Reason.VENUE_REJECTED,
        ErrorClass.INVALID_REQUEST,
    ),
    (
        "Cross margin is not allowed for this asset.",
        Reason.UNSUPPORTED_INSTRUCTION,
        ErrorClass.INVALID_REQUEST,
    ),
    (
        "Isolated position does not have sufficient margin available to decrease leverage. "
        "To decrease leverage, add margin to the position.",
        Reason.INSUFFICIENT_MARGIN,
        ErrorClass.INVALID_REQUEST,
    ),
    (
        "Cross position does not have sufficient margin available to decrease leverage. "
        "To decrease leverage, deposit more collateral.",
        Reason.INSUFFICIENT_MARGIN,
        ErrorClass.INVALID_REQUEST,
    ),
    ("Position does not use isolated margin.", Reason.INVALID_ARGUMENT, ErrorClass.INVALID_REQUEST),
    ("Extra agent already used.", Reason.INVALID_ARGUMENT, ErrorClass.INVALID_REQUEST),
    ("User has pending agent removal", Reason.VENUE_REJECTED, ErrorClass.RETRYABLE),
    (
        "Too many extra agents for cumulative volume traded. Current limit is 3",
        Reason.VENUE_REJECTED,
        ErrorClass.INVALID_REQUEST,
    ),
    ("Agent valid_until already expired.", Reason.INVALID_ARGUMENT, ErrorClass.INVALID_REQUEST),
    (
        "Agent can only send asset to same user or their sub-accounts.",
        Reason.INVALID_ARGUMENT,
        ErrorClass.INVALID_REQUEST,
    ),
    (
        "Insufficient balance for withdrawal",
        Reason.INSUFFICIENT_MARGIN,
        ErrorClass.INVALID_REQUEST,
    ),
    (
        "Insufficient balance for token transfer",
        Reason.INSUFFICIENT_MARGIN,
        ErrorClass.INVALID_REQUEST,
    ),
    (
        "Action disabled when unified account is active",
        Reason.NOT_SUPPORTED_BY_VENUE,
        ErrorClass.INVALID_REQUEST,
    ),
    (
        "Cannot create sub-accounts until enough volume traded. Required: $100000. Traded: $12066.75.",
        Reason.VENUE_REJECTED,
        ErrorClass.INVALID_REQUEST,
    ),
    ("Referral code not registered", Reason.INVALID_ARGUMENT, ErrorClass.INVALID_REQUEST),
    ("Multi-sig required", Reason.AUTHENTICATION_FAILED, ErrorClass.FATAL),
    # WebSocket error channel and post errors
    (
        'Error parsing JSON into valid websocket request: {"method":"x"}',
        Reason.VENUE_PROTOCOL_ERROR,
        ErrorClass.FATAL,
    ),
    ('Already subscribed: {"type":"bbo"}', Reason.INVALID_ARGUMENT, ErrorClass.INVALID_REQUEST),
    ('Already unsubscribed: {"type":"bbo"}', Reason.INVALID_ARGUMENT, ErrorClass.INVALID_REQUEST),
    ('Invalid subscription {"type":"x"}', Reason.INVALID_ARGUMENT, ErrorClass.INVALID_REQUEST),
    ("too many pending post requests id=7", Reason.RATE_LIMIT_VENUE, ErrorClass.RATE_LIMITED),
    ("Cannot track more than 10 total users.", Reason.TOO_MANY_STREAMS, ErrorClass.INVALID_REQUEST),
    ("422: Failed to deserialize", Reason.INVALID_ARGUMENT, ErrorClass.INVALID_REQUEST),
    (
        "Failed to deserialize the JSON body into the target type: missing field",
        Reason.INVALID_ARGUMENT,
        ErrorClass.INVALID_REQUEST,
    ),
    ("429: Too many requests", Reason.RATE_LIMIT_VENUE, ErrorClass.RATE_LIMITED),
]


@pytest.mark.parametrize(("text", "reason", "code"), PER_ORDER)
@pytest.mark.parametrize("prefix", ["", "L1 error: "])
def test_classify_error_of_a_per_order_refusal_gives_reason_and_status_code(
    prefix: str, text: str, reason: Reason, code: str | None
) -> None:
    """With and without the older prefix; the raw text is kept whole and the refusal proves itself."""
    meaning = classify_error(prefix + text)
    assert (meaning.reason, meaning.venue_code) == (reason, code)
    assert meaning.text == prefix + text
    assert meaning.definitive
    assert meaning.recognized


@pytest.mark.parametrize(("text", "reason", "code"), PER_ORDER)
def test_classify_error_reads_the_asset_suffix_wherever_it_is_added(
    text: str, reason: Reason, code: str | None
) -> None:
    """The official documents do not show the suffix, so no rule may depend on it."""
    bare = text.partition(" asset=")[0]
    suffixed = classify_error(f"{bare} asset=110007")
    assert suffixed.details["asset"] == "110007"
    assert {classify_error(bare).reason, suffixed.reason} == {reason}


@pytest.mark.parametrize(("text", "reason", "error_class"), TOP_LEVEL)
def test_classify_error_of_a_refused_action_gives_reason_and_class(
    text: str, reason: Reason, error_class: ErrorClass
) -> None:
    """Every top-level sentence, with its one class."""
    for spelled in (text, f"L1 error: {text}"):
        meaning = classify_error(spelled)
        assert (meaning.reason, meaning.error_class) == (reason, error_class)
        assert meaning.definitive
        assert meaning.recognized


@pytest.mark.parametrize(
    "text",
    [
        "The moon is in the wrong house. asset=4",
        "",
        "asset=",
        "An Order has invalid price.",
        "Internal error 500",
        "x" * 10_000,
    ],
)
def test_classify_error_of_an_unknown_sentence_keeps_the_text_and_proves_nothing(text: str) -> None:
    """Unknown is VENUE_REJECTED with the raw text; nobody may conclude that the order is not live."""
    meaning = classify_error(text)
    assert meaning.reason is Reason.VENUE_REJECTED
    assert meaning.error_class is ErrorClass.EXCHANGE_ERROR
    assert meaning.text == text
    assert not meaning.definitive
    assert not meaning.recognized


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Invalid nonce: duplicate nonce 1791399877207", Reason.NONCE_REJECTED),
        ("Attempted to modify to invalid new order", Reason.INVALID_ARGUMENT),
        ("502: Bad Gateway", Reason.VENUE_UNAVAILABLE),
    ],
)
def test_classify_error_of_refusals_that_leave_doubt_is_not_definitive(text: str, reason: Reason) -> None:
    """A used nonce, a half-done modify and a server fault do not prove that nothing happened."""
    meaning = classify_error(text)
    assert meaning.reason is reason
    assert not meaning.definitive
    assert meaning.recognized


def test_classify_error_carries_the_variable_parts() -> None:
    """Figures an operator or caller needs are in the details, not only in prose."""
    crossed = classify_error("Post only order would have immediately matched, bbo was 1866.7@1866.9. asset=4")
    assert crossed.details == {"asset": "4", "bid": "1866.7", "ask": "1866.9"}
    spent = classify_error(
        "Too many cumulative requests sent (97460 > 97456) for cumulative volume traded $87457.46. Place taker"
    )
    assert spent.details == {"used": "97460", "cap": "97456", "volume": "87457.46"}
    assert spent.retry_after_s == 10.0
    assert classify_error("Order value too large. Max is $5000000.").details == {"maximum": "5000000"}
    assert classify_error("Order must have minimum value of 10 USDC. asset=1").details["minimum"] == "10 USDC"
    assert classify_error("Order must have minimum value of $10. asset=1").details["minimum"] == "$10"


def test_signature_was_wrong_tells_a_bad_hash_from_an_unregistered_signer() -> None:
    """The text names the recovered address: another than ours means that the hash differs."""
    meaning = classify_error(f"User or API Wallet {A} does not exist.")
    assert signature_was_wrong(meaning, A.upper().replace("0X", "0x")) is False
    assert signature_was_wrong(meaning, "0x" + "11" * 20) is True
    assert signature_was_wrong(classify_error("Invalid leverage value"), A) is None


CANCELED = {
    "canceled": None,
    "marginCanceled": Reason.INSUFFICIENT_MARGIN,
    "vaultWithdrawalCanceled": Reason.INSUFFICIENT_MARGIN,
    "openInterestCapCanceled": Reason.OPEN_INTEREST_CAP,
    "selfTradeCanceled": Reason.SELF_TRADE,
    "reduceOnlyCanceled": Reason.REDUCE_ONLY_WOULD_INCREASE,
    "siblingFilledCanceled": Reason.SIBLING_FILLED,
    "delistedCanceled": Reason.INSTRUMENT_NOT_TRADING,
    "liquidatedCanceled": Reason.INSUFFICIENT_MARGIN,
    "outcomeSettledCanceled": Reason.INSTRUMENT_NOT_TRADING,
    "scheduledCancel": None,
    "internalCancel": Reason.VENUE_REJECTED,
}
REJECTED = [
    "rejected",
    "tickRejected",
    "minTradeNtlRejected",
    "perpMarginRejected",
    "reduceOnlyRejected",
    "badAloPxRejected",
    "iocCancelRejected",
    "badTriggerPxRejected",
    "marketOrderNoLiquidityRejected",
    "positionIncreaseAtOpenInterestCapRejected",
    "positionFlipAtOpenInterestCapRejected",
    "tooAggressiveAtOpenInterestCapRejected",
    "openInterestIncreaseRejected",
    "insufficientSpotBalanceRejected",
    "oracleRejected",
    "perpMaxPositionRejected",
    "tooManyOpenOrdersRejected",
    "minTradeSpotNtlRejected",
]


@pytest.mark.parametrize(("word", "reason"), CANCELED.items())
def test_classify_order_status_of_a_cancel_gives_why(word: str, reason: Reason | None) -> None:
    """All cancel words; the caller's own cancel has no reason."""
    meaning = classify_order_status(word)
    assert (meaning.status, meaning.reason, meaning.recognized) == ("CANCELED", reason, True)


@pytest.mark.parametrize("word", REJECTED)
def test_classify_order_status_of_a_rejection_agrees_with_its_sentence(word: str) -> None:
    """All rejection words; where a sentence names the same code, both give the same reason."""
    meaning = classify_order_status(word)
    assert meaning.status == "REJECTED"
    assert meaning.recognized
    sentences = {reason for _, reason, code in PER_ORDER if code == word}
    assert sentences <= {meaning.reason}


def test_classify_order_status_of_live_and_filled_orders() -> None:
    """Open is new or partly filled by the sizes; a fired trigger is a live order."""
    assert classify_order_status("open").status == "NEW"
    assert classify_order_status("open", partly_filled=True).status == "PARTIALLY_FILLED"
    assert classify_order_status("triggered").status == "NEW"
    assert classify_order_status("filled", partly_filled=False).status == "FILLED"


def test_classify_order_status_of_a_new_word_goes_by_its_ending_or_fails_loudly() -> None:
    """An ending is evidence, and said to be only that; anything else is refused."""
    unseen = classify_order_status("lunarEclipseCanceled")
    assert (unseen.status, unseen.recognized) == ("CANCELED", False)
    assert classify_order_status("lunarEclipseRejected").status == "REJECTED"
    with pytest.raises(ProtocolViolation):
        classify_order_status("paused")


@needs_recordings
def test_classify_error_knows_every_refusal_in_the_recordings() -> None:
    """Each recorded refusal text has a rule."""
    texts = set()
    for name in recording_names():
        envelope = recording(name)
        for key in ("response", "frame", "pairs"):
            texts |= set(_refusals_in(envelope.get(key)))
    assert len(texts) >= 5
    for text in texts:
        assert classify_error(text).recognized, text


def _refusals_in(value: object) -> list[str]:
    if isinstance(value, dict):
        own = [value["response"]] if value.get("status") == "err" else []
        own += [value["error"]] if isinstance(value.get("error"), str) else []
        return own + [text for child in value.values() for text in _refusals_in(child)]
    if isinstance(value, list):
        return [text for child in value for text in _refusals_in(child)]
    return []
