"""Queued is not accepted: acknowledgements, refusals at once, and verdicts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway_lighter.account_messages import SendAnswer, SendBatchAnswer, TransactionRow
from gateway_lighter.codec import parse_answer
from gateway_lighter.codec_verdicts import (
    TransactionState,
    read_event_info,
    read_queued,
    read_verdict,
    require_certain,
)
from gateway_lighter.refusals import DUPLICATE_CLIENT_ORDER_INDEX, classify_error, status_word
from tests.unit.gateway_lighter.support import ORDER, SIGNER, encode, needs_recordings, recording
from venuemesh.errors import OutcomeUnknown, ProtocolViolation, RateLimited, Reason, Sent

SIGNED = SIGNER.sign(ORDER, nonce=1, expired_at_ms=1)
SECOND = SIGNER.sign(ORDER, nonce=2, expired_at_ms=1)


def row(status: int = 2, **event: Any) -> TransactionRow:
    """A transaction's row with an event_info of these keys."""
    info = json.dumps({"ae": "", **event})
    return TransactionRow(hash="ab", type=14, status=status, account_index=9, event_info=info)


def test_acknowledgement_of_our_hash_is_queued() -> None:
    """One and a batch; quota from the field or the sentence."""
    queued = read_queued(SendAnswer(tx_hash=SIGNED.tx_hash, volume_quota_remaining=5), [SIGNED])
    assert (queued.tx_hashes, queued.volume_quota_remaining) == ((SIGNED.tx_hash,), 5)
    batch = SendBatchAnswer(tx_hash=(SIGNED.tx_hash, SECOND.tx_hash), message="12345 volume quota remaining.")
    assert read_queued(batch, [SIGNED, SECOND]).volume_quota_remaining == 12345
    plain = SendAnswer(tx_hash="0x" + SIGNED.tx_hash.upper(), message='{"ratelimit": "Ratelimit is off"}')
    assert read_queued(plain, [SIGNED]).volume_quota_remaining is None


@pytest.mark.parametrize("hashes", [("00",), (), (SIGNED.tx_hash, SECOND.tx_hash), (SECOND.tx_hash,)])
def test_acknowledgement_of_another_hash_leaves_the_outcome_unknown(hashes: tuple[str, ...]) -> None:
    """It is about something else."""
    with pytest.raises(OutcomeUnknown):
        read_queued(SendBatchAnswer(tx_hash=hashes), [SIGNED])


def test_refusal_that_proves_something_is_an_answer_and_others_are_errors() -> None:
    """A business code, a limit, a server fault, a code nobody knows."""
    assert require_certain(classify_error(21739), "sendTx").reason is Reason.INSUFFICIENT_MARGIN
    with pytest.raises(RateLimited) as limited:
        require_certain(classify_error(23000, "Too Many Requests!"), "sendTx")
    assert limited.value.sent is Sent.YES and limited.value.retry_after_s
    for code in (29500, 29501, 12345):
        with pytest.raises(OutcomeUnknown):
            require_certain(classify_error(code), "sendTx")


@needs_recordings
def test_recorded_fill_is_executed_with_its_own_order() -> None:
    """The taker's side of a real transaction."""
    verdict = read_verdict(parse_answer("tx", encode(recording("rest_tx.create_order_filled.json"))))
    assert verdict.state is TransactionState.EXECUTED and verdict.refusal is None
    assert verdict.order is not None
    assert (verdict.order.order_index, verdict.order.remaining_size) == (562950059464847, 0)
    assert status_word(verdict.order.status) == "filled"


def test_late_refusal_is_refused_with_its_code() -> None:
    """Executed and yet nothing happened: a duplicate client index."""
    error = json.dumps({"code": DUPLICATE_CLIENT_ORDER_INDEX, "message": "client order index already exists"})
    verdict = read_verdict(row(2, ae=error, to={"a": 9, "i": 5}))
    assert verdict.state is TransactionState.REFUSED and verdict.order is None
    assert verdict.refusal is not None and verdict.refusal.reason is Reason.INVALID_CLIENT_ORDER_ID


@pytest.mark.parametrize(
    ("status", "state"),
    [
        (0, TransactionState.REFUSED),
        (1, TransactionState.QUEUED),
        (2, TransactionState.EXECUTED),
        (3, TransactionState.EXECUTED),
    ],
)
def test_status_tells_the_state(status: int, state: TransactionState) -> None:
    """Without an application error."""
    assert read_verdict(row(status)).state is state


def test_modified_order_is_the_new_one_and_a_strangers_order_is_none() -> None:
    """Of several orders in the event only the account's own counts."""
    assert getattr(read_verdict(row(oo={"a": 9, "i": 1}, no={"a": 9, "i": 2})).order, "order_index", None) == 2
    assert read_verdict(row(mo={"a": 8, "i": 1})).order is None


def test_event_of_a_kind_not_typed_says_nothing_but_its_error() -> None:
    """Its shape may be any; the application error is still read."""
    assert read_event_info('{"m": "text", "to": 5}') is None
    assert read_event_info("") is None
    assert read_verdict(row(to=5)).state is TransactionState.EXECUTED


@pytest.mark.parametrize(
    "bad",
    [
        row(7),
        row(2, ae="not json"),
        row(2, ae='{"message":"no code"}'),
        TransactionRow(hash="ab", type=14, status=2, event_info="{"),
    ],
)
def test_verdict_that_cannot_be_read_is_no_verdict(bad: TransactionRow) -> None:
    """Neither executed nor refused."""
    with pytest.raises(ProtocolViolation):
        read_verdict(bad)
