"""tx_info and L1 texts against the official signer's own output."""

from __future__ import annotations

import base64

import msgspec
import pytest

from gateway_lighter.account_transactions import KINDS, ApproveIntegrator, ChangePubKey, Transfer
from gateway_lighter.codec_transactions import build_tx_info, l1_message, read_tx_info
from gateway_lighter.signing import hash_transaction
from gateway_lighter.transactions import CancelOrder, Envelope
from tests.unit.gateway_lighter.support import FIXTURES, ORDER, SIGNER, needs_recordings, recording

SDK = recording("signing_sdk_1_1_8_vectors.json") if FIXTURES.is_dir() else {"transactions": []}
SIGNED = [case for case in SDK["transactions"] if "tx_info" in case]
REFUSED = [case for case in SDK["transactions"] if "error" in case]


@needs_recordings
@pytest.mark.parametrize("case", SIGNED, ids=[case["name"] for case in SIGNED])
def test_tx_info_is_rebuilt_byte_for_byte(case: dict[str, str]) -> None:
    """Read apart and written again, the official signer's JSON stays the same to the byte."""
    transaction, envelope, signature = read_tx_info(int(case["tx_type"]), case["tx_info"].encode(), SDK["chain_id"])
    transaction.check()
    envelope.check()
    assert build_tx_info(transaction, envelope, base64.b64encode(signature).decode()).decode() == case["tx_info"]
    if "message_to_sign" in case:
        assert l1_message(transaction, envelope) == case["message_to_sign"]
    else:
        assert not transaction.l1_signed


@needs_recordings
def test_recordings_cover_most_kinds() -> None:
    """Kinds without a vector are only those the recorded sub-account may not sign."""
    covered = {int(case["tx_type"]) for case in SIGNED}
    assert set(KINDS) - covered == {9, 10, 11}
    assert {case["name"] for case in REFUSED} == {"create_sub_account", "create_public_pool"}


@needs_recordings
def test_recorded_transaction_of_the_venue_hashes_to_its_hash() -> None:
    """A real transaction: chain 466324 gives the hash the venue stored it under."""
    row = recording("rest_tx.create_order_filled.json")
    transaction, envelope, _ = read_tx_info(row["type"], row["info"].encode(), 466324)
    assert hash_transaction(transaction, envelope).hex() == row["hash"]
    other = Envelope(
        chain_id=304,
        account_index=envelope.account_index,
        api_key_index=envelope.api_key_index,
        nonce=envelope.nonce,
        expired_at_ms=envelope.expired_at_ms,
    )
    assert hash_transaction(transaction, other).hex() != row["hash"]


@needs_recordings
def test_recorded_flow_hashes_to_the_hash_the_venue_answered() -> None:
    """Created on testnet: the fields alone give the answered hash."""
    step = recording("flow_create_then_cancel.json")[0]
    fields = dict(step["signed_fields"])
    chain, kind = fields.pop("chain_id"), fields.pop("tx_type")
    transaction, envelope, _ = read_tx_info(kind, msgspec.json.encode(fields), chain)
    assert hash_transaction(transaction, envelope).hex() == step["body"]["tx_hash"]


def test_owner_signature_stands_where_the_signer_puts_it() -> None:
    """Before ExpiredAt in a key registration, after Sig elsewhere; absent where the kind has none."""
    envelope = Envelope(chain_id=304, account_index=9, api_key_index=4, nonce=1, expired_at_ms=2)
    keys = ChangePubKey(pub_key=bytes(40)), Transfer(to_account_index=1, asset_index=3, amount=1)
    written = [build_tx_info(kind, envelope, "c2ln", "0xabc").decode() for kind in keys]
    assert '"L1Sig":"0xabc","ExpiredAt":2' in written[0]
    assert '"Sig":"c2ln","L1Sig":"0xabc","L2TxAttributes":null' in written[1]
    assert "L1Sig" not in build_tx_info(CancelOrder(market_index=0, index=1), envelope, "c2ln").decode()


def test_l1_text_of_a_kind_without_one_is_a_fault_of_ours() -> None:
    """Nobody signs an order with an Ethereum key."""
    envelope = Envelope(chain_id=304, account_index=9, api_key_index=4, nonce=1, expired_at_ms=2)
    with pytest.raises(TypeError):
        l1_message(ORDER, envelope)
    assert ApproveIntegrator.l1_signed


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (99, b"{}"),
        (14, b"{}"),
        (14, b"nonsense"),
        (15, b'{"ApiKeyIndex":4,"MarketIndex":0,"Index":1,"ExpiredAt":1,"Nonce":1,"Sig":""}'),
        (
            15,
            b'{"AccountIndex":1,"ApiKeyIndex":4,"MarketIndex":0,"Index":1,"ExpiredAt":1,"Nonce":1,"Sig":"",'
            b'"L2TxAttributes":{"9":1}}',
        ),
    ],
)
def test_unreadable_tx_info_is_a_value_error(kind: int, text: bytes) -> None:
    """Unknown kinds and attributes, missing fields, no JSON."""
    with pytest.raises(ValueError, match=r"transaction kind|tx_info"):
        read_tx_info(kind, text, 304)


def test_older_spelling_of_no_attributes_reads_the_same() -> None:
    """`{"1":0,"2":0,"3":0}` hashes like null."""
    signed = SIGNER.sign(ORDER, nonce=3, expired_at_ms=5)
    older = signed.tx_info.replace('"L2TxAttributes":null', '"L2TxAttributes":{"1":0,"2":0,"3":0}')
    transaction, envelope, _ = read_tx_info(14, older.encode(), 304)
    assert hash_transaction(transaction, envelope).hex() == signed.tx_hash
