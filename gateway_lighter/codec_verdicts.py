"""What the venue says to a transaction: queued or refused at once, and later its verdict. Pure.

HTTP 200 means queued, not accepted. The verdict is in the transaction's row (`GET tx`, `account_tx`): an executed one
may still hold an application error, and then nothing happened but the nonce is spent.
Source: venue reference sections 6.1 and 6.2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

import msgspec

from gateway_lighter.account_messages import EventInfo, EventOrder, SendAnswer, SendBatchAnswer, TransactionRow
from gateway_lighter.codec import decoder_of, violation
from gateway_lighter.refusals import RefusalMeaning, classify_error
from gateway_lighter.signing import SignedTransaction
from venuemesh.errors import ErrorClass, OutcomeUnknown, ProtocolViolation, RateLimited, Sent


@dataclass(frozen=True, slots=True, kw_only=True)
class Queued:
    """All transactions of a message are queued and their nonces spent; nothing is said about the orders yet.

    Attributes:
        volume_quota_remaining: units left, where the venue tells.
    """

    tx_hashes: tuple[str, ...]
    predicted_execution_time_ms: int = 0
    volume_quota_remaining: int | None = None


_QUOTA = re.compile(r"(\d{1,18}) volume quota remaining")


def read_queued(answer: SendAnswer | SendBatchAnswer, signed: Sequence[SignedTransaction]) -> Queued:
    """The acknowledgement of exactly these transactions.

    Raises:
        OutcomeUnknown: the hashes are not theirs, so it is about something else.
    """
    hashes = (answer.tx_hash,) if isinstance(answer, SendAnswer) else answer.tx_hash
    ours = tuple(one.tx_hash for one in signed)
    if tuple(text.lower().removeprefix("0x") for text in hashes) != ours:
        raise OutcomeUnknown(
            "the venue acknowledged another transaction", metadata={"theirs": repr(hashes)[:500], "ours": repr(ours)}
        )
    quota = answer.volume_quota_remaining
    if quota is None and (told := _QUOTA.search(answer.message or "")):
        quota = int(told[1])
    return Queued(
        tx_hashes=ours,
        predicted_execution_time_ms=answer.predicted_execution_time_ms,
        volume_quota_remaining=quota,
    )


def require_certain(meaning: RefusalMeaning, what: str) -> RefusalMeaning:
    """A refusal that proves that nothing happened, as it is; anything else as the error it amounts to.

    Raises:
        RateLimited: the venue did not look at it.
        OutcomeUnknown: nobody can tell.
    """
    message, metadata = f"{what}: {meaning.text}", {"venue_code": str(meaning.code)}
    if meaning.error_class is ErrorClass.RATE_LIMITED:
        raise RateLimited(
            message, reason=meaning.reason, sent=Sent.YES, retry_after_s=meaning.retry_after_s, metadata=metadata
        )
    if not meaning.definitive:
        raise OutcomeUnknown(message, metadata=metadata)
    return meaning


class TransactionState(Enum):
    """Where a transaction stands."""

    QUEUED = "queued"
    EXECUTED = "executed"
    REFUSED = "refused"


_STATES: Final = {
    0: TransactionState.REFUSED,
    1: TransactionState.QUEUED,
    2: TransactionState.EXECUTED,
    3: TransactionState.EXECUTED,
}
"""3 is executed and waits for its block to be final."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the engine made of one transaction.

    Attributes:
        refusal: its words when it refused; None when a failed transaction names no reason.
        order: the own order after it, in wire integers, for kinds that touch one and as far as readable.
    """

    tx_hash: str
    state: TransactionState
    refusal: RefusalMeaning | None = None
    order: EventOrder | None = None


class _JustError(msgspec.Struct, frozen=True):
    ae: str = ""


class _ApplicationError(msgspec.Struct, frozen=True):
    code: int
    message: str = ""


_just_error = decoder_of("event_info", _JustError)
_event_info = decoder_of("event_info", EventInfo)
_application_error = decoder_of("event_info application error", _ApplicationError)


def read_event_info(text: str) -> EventInfo | None:
    """The typed `event_info`; None when empty or of a kind not typed here."""
    try:
        found: EventInfo = _event_info.decode(text.encode()) if text else EventInfo()
    except ProtocolViolation:
        return None
    return found if text else None


def _application_refusal(row: TransactionRow) -> RefusalMeaning | None:
    if not row.event_info:
        return None
    error = _just_error.decode(row.event_info.encode()).ae
    if not error:
        return None
    found: _ApplicationError = _application_error.decode(error.encode())
    return classify_error(found.code, found.message)


def _own_order(row: TransactionRow) -> EventOrder | None:
    info = read_event_info(row.event_info)
    if info is None:
        return None
    orders = (info.new_order, info.taker_order, info.maker_order)
    return next((order for order in orders if order is not None and order.account_index == row.account_index), None)


def read_verdict(row: TransactionRow) -> Verdict:
    """What a row says.

    Raises:
        ProtocolViolation: an unknown status, or an application error that cannot be read: nothing is then known.
    """
    state = _STATES.get(row.status)
    if state is None:
        raise violation("transaction status", row.event_info.encode(), f"status {row.status}")
    refusal = _application_refusal(row)
    if refusal is not None:
        state = TransactionState.REFUSED
    return Verdict(
        tx_hash=row.hash,
        state=state,
        refusal=refusal,
        order=_own_order(row) if state is TransactionState.EXECUTED else None,
    )
