"""Signatures against public vectors, recordings of real signed requests, and the key's silence."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hypercore.actions import build_approve_agent, build_noop, build_send_asset, build_usd_class_transfer
from hypercore.signing import (
    MAX_NONCE_LEAD_MS,
    Network,
    NonceSource,
    SecretKey,
    Signature,
    SignedAction,
    Signer,
    action_hash,
    encode_signed,
    recover_address,
    recover_signer,
    user_signed_digest,
)
from tests.unit.hypercore import vectors
from tests.unit.hypercore.support import needs_recordings, recording
from venuemesh.errors import AuthenticationFailed, InvalidRequest, NonceRejected

KEY = SecretKey(vectors.K1)


def numbers(signature: Signature) -> tuple[int, int, int]:
    return int(signature.r, 16), int(signature.s, 16), signature.v


@pytest.mark.parametrize(("name", "network", "r", "s", "v"), vectors.SIGNATURES)
def test_sign_on_official_vectors_gives_the_official_signature(
    name: str, network: Network, r: int, s: int, v: int
) -> None:
    """Every vector of the reference, and the signer recovered from it."""
    signer = Signer(KEY, network)
    signed = signer.sign(vectors.ACTIONS[name], vectors.NONCES.get(name, 0), vault_address=vectors.VAULTS.get(name))
    assert numbers(signed.signature) == (r, s, v)
    assert recover_signer(signed, network) == vectors.K1_ADDRESS


@pytest.mark.parametrize(("action", "network", "r", "s", "v"), vectors.K2_SIGNATURES)
def test_sign_with_the_second_vector_key_gives_the_published_signature(
    action: dict[str, Any], network: Network, r: int, s: int, v: int
) -> None:
    """A second key, so that nothing is tied to the first."""
    signer = Signer(SecretKey(vectors.K2), network)
    assert signer.address == vectors.K2_ADDRESS
    assert numbers(signer.sign(action, 1234567890).signature) == (r, s, v)


@pytest.mark.parametrize(("action", "nonce", "vault", "expires_after", "expected"), vectors.CONNECTION_IDS)
def test_action_hash_on_published_inputs_gives_the_published_connection_id(
    action: dict[str, Any], nonce: int, vault: str | None, expires_after: int | None, expected: str
) -> None:
    """Vault and expiry are part of the hash; strings are hashed as given."""
    assert action_hash(action, nonce, vault, expires_after).hex() == expected


@needs_recordings
def test_sign_on_computed_vectors_gives_the_recorded_hash_and_signatures() -> None:
    """Builder orders, TP/SL groups, HIP-3, cancels, modifies and margin actions, both networks."""
    recorded = recording("signing_vectors_computed.json")
    key = SecretKey(recorded["privateKey"])
    assert len(recorded["l1"]) >= 9
    for vector in recorded["l1"]:
        extras = {"vault_address": vector["vaultAddress"], "expires_after": vector["expiresAfter"]}
        connection_id = action_hash(vector["action"], vector["nonce"], **extras)
        assert "0x" + connection_id.hex() == vector["connectionId"], vector["name"]
        for network in Network:
            signed = Signer(key, network).sign(vector["action"], vector["nonce"], **extras)
            expected = msgspec.convert(vector[network.value], Signature)
            assert numbers(signed.signature) == numbers(expected), vector["name"]


@needs_recordings
def test_sign_on_computed_user_signed_vectors_gives_the_recorded_signatures() -> None:
    """usdSend, usdClassTransfer, sendAsset and approveAgent, both networks."""
    recorded = recording("signing_vectors_computed.json")
    key = SecretKey(recorded["privateKey"])
    assert len(recorded["userSigned"]) >= 4
    for name, vector in recorded["userSigned"].items():
        for network in Network:
            action = vector[f"action_{network.value}"]
            signed = Signer(key, network).sign(action, action.get("nonce", action.get("time")))
            expected = msgspec.convert(vector[network.value], Signature)
            assert numbers(signed.signature) == numbers(expected), name


@needs_recordings
def test_recover_signer_on_real_testnet_requests_names_the_recorded_signer() -> None:
    """Requests the venue really received, by an agent and by its master, of both signing kinds."""
    pairs = recording("exchange_signed_pairs_testnet.json")["pairs"]
    assert pairs
    for pair in pairs:
        signed = msgspec.convert(pair["request"], SignedAction)
        assert recover_signer(signed, Network.TESTNET) == pair["signer"], pair["name"]


def test_recover_signer_for_the_other_network_gives_a_stranger() -> None:
    """The network byte is part of the signature: the wrong one recovers some other address, not an error."""
    signed = Signer(KEY, Network.TESTNET).sign(build_noop(), 7)
    assert recover_signer(signed, Network.TESTNET) == KEY.address
    assert recover_signer(signed, Network.MAINNET) != KEY.address


def test_sign_with_a_checksum_case_vault_sends_the_lower_case_it_hashed() -> None:
    """The venue lower-cases addresses before it hashes; so do we, in hash and envelope."""
    signer = Signer(KEY, Network.TESTNET)
    lower = signer.sign(build_noop(), 7, vault_address="0x1719884eb866cb12b2287399b15f7db5e7d775ea")
    mixed = signer.sign(build_noop(), 7, vault_address="0x1719884EB866CB12B2287399B15F7DB5E7D775EA")
    assert mixed == lower


def test_encode_signed_gives_the_exchange_envelope() -> None:
    """Keys and their order as the official client sends them."""
    signed = Signer(KEY, Network.TESTNET).sign(build_noop(), 7, expires_after=99)
    sent = json.loads(encode_signed(signed))
    assert list(sent) == ["action", "nonce", "signature", "vaultAddress", "expiresAfter"]
    assert sent["action"] == {"type": "noop"}
    assert (sent["vaultAddress"], sent["expiresAfter"]) == (None, 99)


def test_sign_of_a_user_signed_struct_equals_its_mapping() -> None:
    """Typed actions and plain mappings hash the same; an unnamed agent is signed as the empty name."""
    signer = Signer(KEY, Network.TESTNET)
    unnamed = build_approve_agent(network=Network.TESTNET, nonce=5, agent_address="0x" + "ab" * 20)
    plain = msgspec.to_builtins(unnamed)
    assert "agentName" not in plain
    named_empty = {**plain, "agentName": ""}
    assert user_signed_digest(plain) == user_signed_digest(named_empty)
    assert signer.sign(unnamed, 5).signature == signer.sign(named_empty, 5).signature


@pytest.mark.parametrize(
    "extras", [{"vault_address": "0x" + "11" * 20}, {"expires_after": 10}, {"nonce": 6}, {"network": "other"}]
)
def test_sign_of_a_user_signed_action_with_what_it_cannot_carry_is_refused(extras: dict[str, Any]) -> None:
    """No vault, no expiry, inner nonce equal to outer, and the action's network the signer's own."""
    action = build_usd_class_transfer(
        network=Network.MAINNET if extras.pop("network", None) else Network.TESTNET,
        nonce=5,
        amount=Decimal(1),
        to_perp=True,
    )
    nonce = extras.pop("nonce", 5)
    with pytest.raises(InvalidRequest):
        Signer(KEY, Network.TESTNET).sign(action, nonce, **extras)


@pytest.mark.parametrize(
    "change",
    [
        {"amount": 1.5},
        {"nonce": -1},
        {"nonce": True},
        {"nonce": 2**64},
        {"destination": None},
        {"signatureChainId": "zz"},
        {"type": "order"},
    ],
)
def test_user_signed_digest_of_an_ill_typed_action_is_refused(change: dict[str, Any]) -> None:
    """A field that is missing or of another type is named, never hashed as something else."""
    good = build_send_asset(
        network=Network.TESTNET,
        nonce=5,
        destination="0x" + "ab" * 20,
        source_dex="",
        destination_dex="xyz",
        token="USDC:0x00",
        amount=Decimal("1.5"),
    )
    with pytest.raises(InvalidRequest):
        user_signed_digest({**msgspec.to_builtins(good), **change})


@given(digest=st.binary(min_size=32, max_size=32))
def test_recover_address_of_any_signed_digest_is_the_keys_own(digest: bytes) -> None:
    """Self-check holds for every digest; s is in the lower half of the curve order."""
    signature = KEY.sign(digest)
    assert recover_address(digest, signature) == KEY.address
    assert signature.v in (27, 28)
    assert int(signature.s, 16) <= 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0


def test_recover_address_of_stripped_digits_pads_them() -> None:
    """Some clients strip leading zeros of r and s."""
    nonce = next(n for n in range(1000) if KEY.sign(n.to_bytes(32, "big")).r.startswith("0x0"))
    signature = KEY.sign(nonce.to_bytes(32, "big"))
    stripped = Signature(r=hex(int(signature.r, 16)), s=hex(int(signature.s, 16)), v=signature.v)
    assert len(stripped.r) < 66
    assert recover_address(nonce.to_bytes(32, "big"), stripped) == KEY.address


@pytest.mark.parametrize(
    ("r", "s", "v"), [("zz", "0x1", 27), ("0x0", "0x0", 27), ("0x1", "0x1", 3), ("0x1", "0x1", 99)]
)
def test_recover_address_of_no_signature_is_refused(r: str, s: str, v: int) -> None:
    """Malformed input is a typed error."""
    with pytest.raises(AuthenticationFailed):
        recover_address(bytes(32), Signature(r=r, s=s, v=v))


def test_secret_key_never_shows_itself() -> None:
    """Printing, formatting, copying and pickling a key or its signer show no digit of it."""
    signer = Signer(KEY, Network.TESTNET)
    bare = vectors.K1.removeprefix("0x")
    for text in (repr(KEY), str(KEY), f"{KEY}", f"{KEY!r:>9}", repr(signer), str(signer), f"{signer}"):
        assert "***" in text
        assert bare[:16] not in text
    for refuse in (pickle.dumps, copy.copy, copy.deepcopy):
        for secret in (KEY, signer):
            with pytest.raises(TypeError):
                refuse(secret)
    assert not hasattr(KEY, "__dict__")


@pytest.mark.parametrize("text", ["", "0x12", "nothex", "0x" + "00" * 32, "0x" + "ff" * 32])
def test_secret_key_of_a_bad_key_is_refused_without_showing_it(text: str) -> None:
    """Zero, too large, too short or not hex: refused, and the message holds no part of the input."""
    with pytest.raises(AuthenticationFailed) as caught:
        SecretKey(text)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or text not in str(caught.value)
    assert not text or text not in caught.value.message


@given(clock=st.lists(st.integers(1_000_000, 1_000_300), min_size=1, max_size=200))
def test_nonce_source_is_strictly_increasing_whatever_the_clock_does(clock: list[int]) -> None:
    """Repeated and backward clock readings never repeat a nonce, and none is behind the clock."""
    source = NonceSource()
    nonces = [source.reserve(now) for now in clock]
    assert all(later > earlier for earlier, later in itertools.pairwise(nonces))
    assert all(nonce >= now for nonce, now in zip(nonces, clock, strict=True))
    assert source.high_water == nonces[-1]


def test_nonce_source_after_restore_continues_above_the_mark() -> None:
    """A restart with a clock that stepped back gives no used nonce; a lower mark is ignored."""
    source = NonceSource()
    source.restore(5_000)
    source.restore(4_000)
    assert source.reserve(1_000) == 5_001
    assert source.reserve(9_000) == 9_000


def test_nonce_source_with_a_mark_a_day_ahead_refuses_instead_of_sending_in_vain() -> None:
    """The venue takes no nonce a day ahead of its time: the clock or the mark is wrong."""
    source = NonceSource(high_water=MAX_NONCE_LEAD_MS + 1_000)
    with pytest.raises(NonceRejected):
        source.reserve(1_000)
    assert source.high_water == MAX_NONCE_LEAD_MS + 1_000
