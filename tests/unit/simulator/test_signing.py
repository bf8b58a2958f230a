"""Recovery of signers: published vectors, both networks, vault, expiry, stripped r and s."""

from __future__ import annotations

import json
from typing import Any

import pytest

from simulator.hyperliquid.signing import (
    BadSignature,
    connection_id,
    l1_digest,
    recover,
    user_signed_digest,
)
from tests.recordings import recordings

K1 = "0x14791697260e4c9a71f18484c9f997b308e59325"
K2 = "0xe5ca49fb3bd9a581f0d1ef9cb5d7177da08bf901"
ORDER = {
    "type": "order",
    "orders": [{"a": 1, "b": True, "p": "100", "s": "100", "r": False, "t": {"limit": {"tif": "Gtc"}}}],
    "grouping": "na",
}
STOP = {
    "type": "order",
    "orders": [
        {
            "a": 1,
            "b": True,
            "p": "100",
            "s": "100",
            "r": False,
            "t": {"trigger": {"isMarket": True, "triggerPx": "103", "tpsl": "sl"}},
        }
    ],
    "grouping": "na",
}
FIRST = {
    "type": "order",
    "orders": [{"a": 0, "b": True, "p": "30000", "s": "0.1", "r": False, "t": {"limit": {"tif": "Gtc"}}}],
    "grouping": "na",
}
DUMMY = {"type": "dummy", "num": 100000000000}
VAULT = "0x1719884eb866cb12b2287399b15f7db5e7d775ea"

# action, vault, network, r, s, v; nonce 0, key K1; from the official SDK's tests
VECTORS: list[tuple[dict[str, Any], str | None, str, str, str, int]] = [
    (DUMMY, None, "mainnet", "0x53749d5b30552aeb2fca34b530185976545bb22d0b3ce6f62e31be961a59298",
     "0x755c40ba9bf05223521753995abb2f73ab3229be8ec921f350cb447e384d8ed8", 27),
    (DUMMY, None, "testnet", "0x542af61ef1f429707e3c76c5293c80d01f74ef853e34b76efffcb57e574f9510",
     "0x17b8b32f086e8cdede991f1e2c529f5dd5297cbe8128500e00cbaf766204a613", 28),
    (DUMMY, VAULT, "mainnet", "0x3c548db75e479f8012acf3000ca3a6b05606bc2ec0c29c50c515066a326239",
     "0x4d402be7396ce74fbba3795769cda45aec00dc3125a984f2a9f23177b190da2c", 28),
    (DUMMY, VAULT, "testnet", "0xe281d2fb5c6e25ca01601f878e4d69c965bb598b88fac58e475dd1f5e56c362b",
     "0x7ddad27e9a238d045c035bc606349d075d5c5cd00a6cd1da23ab5c39d4ef0f60", 27),
    (ORDER, None, "mainnet", "0xd65369825a9df5d80099e513cce430311d7d26ddf477f5b3a33d2806b100d78e",
     "0x2b54116ff64054968aa237c20ca9ff68000f977c93289157748a3162b6ea940e", 28),
    (ORDER, None, "testnet", "0x82b2ba28e76b3d761093aaded1b1cdad4960b3af30212b343fb2e6cdfa4e3d54",
     "0x6b53878fc99d26047f4d7e8c90eb98955a109f44209163f52d8dc4278cbbd9f5", 27),
    (STOP, None, "mainnet", "0x98343f2b5ae8e26bb2587daad3863bc70d8792b09af1841b6fdd530a2065a3f9",
     "0x6b5bb6bb0633b710aa22b721dd9dee6d083646a5f8e581a20b545be6c1feb405", 27),
    (STOP, None, "testnet", "0x971c554d917c44e0e1b6cc45d8f9404f32172a9d3b3566262347d0302896a2e4",
     "0x206257b104788f80450f8e786c329daa589aa0b32ba96948201ae556d5637eac", 28),
    ({"type": "createSubAccount", "name": "example"}, None, "mainnet",
     "0x51096fe3239421d16b671e192f574ae24ae14329099b6db28e479b86cdd6caa7",
     "0xb71f7d293af92d3772572afb8b102d167a7cef7473388286bc01f52a5c5b423", 27),
    ({"type": "scheduleCancel"}, None, "mainnet",
     "0x6cdfb286702f5917e76cd9b3b8bf678fcc49aec194c02a73e6d4f16891195df9",
     "0x6557ac307fa05d25b8d61f21fb8a938e703b3d9bf575f6717ba21ec61261b2a0", 27),
    ({"type": "scheduleCancel", "time": 123456789}, None, "testnet",
     "0x4e4f2dbd4107c69783e251b7e1057d9f2b9d11cee213441ccfa2be63516dc5bc",
     "0x706c656b23428c8ba356d68db207e11139ede1670481a9e01ae2dfcdb0e1a678", 27),
]  # fmt: skip


@pytest.mark.parametrize(("action", "vault", "network", "r", "s", "v"), VECTORS)
def test_l1_signature_when_published_recovers_its_key(
    action: dict[str, Any], vault: str | None, network: str, r: str, s: str, v: int
) -> None:
    """Leading zeros of r and s may be missing; vault and network change the hash."""
    assert recover(l1_digest(connection_id(action, 0, vault, None), network), r, s, v) == K1


def test_l1_signature_when_read_for_the_other_network_recovers_another_key() -> None:
    """The source byte is part of what is signed."""
    action, _, _, r, s, v = VECTORS[0]
    assert recover(l1_digest(connection_id(action, 0, None, None), "testnet"), r, s, v) != K1


HASHES = [
    (None, None, "25367e0dba84351148288c2233cd6130ed6cec5967ded0c0b7334f36f957cc90"),
    ("0x1234567890123456789012345678901234567890", None,
     "214e2ea3270981b6fd18174216691e69f56872663139d396b10ded319cb4bb1e"),
    (None, 1234567890, "c30b002ba3775e4c31c43c1dfd3291dfc85c6ae06c6b9f393991de86cad5fac7"),
    ("0x1234567890123456789012345678901234567890", 1234567890,
     "2d62412aa0fc57441b5189841d81554a6a9680bf07204e1454983a9ca44f0744"),
]  # fmt: skip


@pytest.mark.parametrize(("vault", "expires", "expected"), HASHES)
def test_connection_id_when_vault_or_expiry_are_set_covers_them(
    vault: str | None, expires: int | None, expected: str
) -> None:
    """Hash-only vectors: nonce, vault flag and address, expiry."""
    assert connection_id(FIRST, 1234567890, vault, expires).hex() == expected


def test_connection_id_when_key_order_differs_differs() -> None:
    """The action is hashed in the order it came in."""
    shuffled = dict(reversed(list(FIRST.items())))
    assert connection_id(shuffled, 1, None, None) != connection_id(FIRST, 1, None, None)


USD_SEND = {
    "type": "usdSend",
    "signatureChainId": "0x66eee",
    "hyperliquidChain": "Testnet",
    "destination": "0x5e9ee1089755c3435139848e47e6635505d5a13a",
    "amount": "1",
    "time": 1687816341423,
}


@pytest.mark.parametrize(
    ("action", "r", "s", "v", "signer"),
    [
        (USD_SEND, "0x637b37dd731507cdd24f46532ca8ba6eec616952c56218baeff04144e4a77073",
         "0x11a6a24900e6e314136d2592e2f8d502cd89b7c15b198e1bee043c9589f9fad7", 27, K1),
        (USD_SEND | {"type": "withdraw3"},
         "0x8363524c799e90ce9bc41022f7c39b4e9bdba786e5f9c72b20e43e1462c37cf9",
         "0x58b1411a775938b83e29182e8ef74975f9054c8e97ebf5ec2dc8d51bfc893881", 28, K1),
        (USD_SEND | {"hyperliquidChain": "Mainnet", "time": 1234567890, "amount": "1000",
                     "destination": "0x1234567890123456789012345678901234567890"},
         "0xf777c38efe7c24cc71209526ae608f4e384d0586edf578f0e97b4b9f7c7adcc6",
         "0x104a4a97c48ae77bf5bd777bdd45fe72d8f5ff29116b5ff64fd8cfe4ea610786", 28, K2),
    ],
)  # fmt: skip
def test_user_signed_action_when_published_recovers_its_key(
    action: dict[str, Any], r: str, s: str, v: int, signer: str
) -> None:
    """Typed data with the chain id the action names."""
    assert recover(user_signed_digest(action), r, s, v) == signer


def test_recovery_when_the_signature_is_impossible_names_it() -> None:
    """Zero is no signature."""
    with pytest.raises(BadSignature):
        recover(b"\x01" * 32, "0x0", "0x0", 27)


def fixture(name: str) -> Any:
    """A recorded payload; skips the test when the recordings are not there."""
    path = recordings("hyperliquid") / name
    if not path.exists():
        pytest.skip(f"no recorded payload {name}")
    return json.loads(path.read_text())


def test_l1_vectors_when_recorded_recover_on_both_networks() -> None:
    """Builder, HIP-3, batches, modifies, leverage: every vector of the file."""
    vectors = fixture("signing_vectors_computed.json")
    for item in vectors["l1"]:
        connection = connection_id(item["action"], item["nonce"], item["vaultAddress"], item["expiresAfter"])
        assert "0x" + connection.hex() == item["connectionId"]
        for network in ("mainnet", "testnet"):
            signature = item[network]
            digest = l1_digest(connection, network)
            assert recover(digest, signature["r"], signature["s"], signature["v"]) == vectors["address"].lower()


def test_real_requests_when_recorded_recover_their_signers() -> None:
    """Requests the venue accepted on testnet."""
    for pair in fixture("exchange_signed_pairs_testnet.json")["pairs"]:
        request = pair["request"]
        action, signature = request["action"], request["signature"]
        if "signatureChainId" in action:
            digest = user_signed_digest(action)
        else:
            digest = l1_digest(connection_id(action, request["nonce"], None, None), "testnet")
        assert recover(digest, signature["r"], signature["s"], signature["v"]) == pair["signer"]
