"""Whose signature is it: recovery of the signer of an action. Pure.

Written from the protocol description alone and shared with no client code, so that a client's signature being
recovered here is a proof, not a tautology. L1 actions hash the action in the key order it came in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgpack
from coincurve import PublicKey
from eth_hash.auto import keccak

SOURCES = {"mainnet": "a", "testnet": "b"}
ADDRESS_DIGITS = 40

# primaryType and the message fields in type order, per user-signed action.
USER_SIGNED: Mapping[str, tuple[str, tuple[tuple[str, str], ...]]] = {
    "usdSend": ("UsdSend", (("destination", "string"), ("amount", "string"), ("time", "uint64"))),
    "spotSend": (
        "SpotSend",
        (("destination", "string"), ("token", "string"), ("amount", "string"), ("time", "uint64")),
    ),
    "withdraw3": ("Withdraw", (("destination", "string"), ("amount", "string"), ("time", "uint64"))),
    "usdClassTransfer": (
        "UsdClassTransfer",
        (("amount", "string"), ("toPerp", "bool"), ("nonce", "uint64")),
    ),
    "sendAsset": (
        "SendAsset",
        (
            ("destination", "string"),
            ("sourceDex", "string"),
            ("destinationDex", "string"),
            ("token", "string"),
            ("amount", "string"),
            ("fromSubAccount", "string"),
            ("nonce", "uint64"),
        ),
    ),
    "approveAgent": (
        "ApproveAgent",
        (("agentAddress", "address"), ("agentName", "string"), ("nonce", "uint64")),
    ),
    "approveBuilderFee": (
        "ApproveBuilderFee",
        (("maxFeeRate", "string"), ("builder", "address"), ("nonce", "uint64")),
    ),
    "userDexAbstraction": (
        "UserDexAbstraction",
        (("user", "address"), ("enabled", "bool"), ("nonce", "uint64")),
    ),
    "userSetAbstraction": (
        "UserSetAbstraction",
        (("user", "address"), ("abstraction", "string"), ("nonce", "uint64")),
    ),
    "tokenDelegate": (
        "TokenDelegate",
        (("validator", "address"), ("wei", "uint64"), ("isUndelegate", "bool"), ("nonce", "uint64")),
    ),
    "convertToMultiSigUser": ("ConvertToMultiSigUser", (("signers", "string"), ("nonce", "uint64"))),
}


class BadSignature(Exception):
    """The signature or a signed field is malformed; no signer can be named."""


def _digest(value: bytes) -> bytes:
    return bytes(keccak(value))


def _word(value: int) -> bytes:
    return value.to_bytes(32, "big")


def _address_bytes(value: str) -> bytes:
    digits = value.removeprefix("0x")
    if len(digits) != ADDRESS_DIGITS:
        raise BadSignature(f"not an address: {value!r}")
    try:
        return bytes.fromhex(digits)
    except ValueError as error:
        raise BadSignature(f"not an address: {value!r}") from error


_DOMAIN_TYPE = _digest(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")


def _domain(name: str, chain_id: int) -> bytes:
    return _digest(_DOMAIN_TYPE + _digest(name.encode()) + _digest(b"1") + _word(chain_id) + _word(0))


_L1_DOMAIN = _domain("Exchange", 1337)
_AGENT_TYPE = _digest(b"Agent(string source,bytes32 connectionId)")


def connection_id(action: Mapping[str, Any], nonce: int, vault: str | None, expires_after: int | None) -> bytes:
    """Hash of an L1 action: msgpack in given key order, nonce, vault flag and address, expiry.

    Raises:
        BadSignature: the action holds something the wire form has no place for.
    """
    try:
        data = msgpack.packb(action) + nonce.to_bytes(8, "big")
        data += b"\x00" if vault is None else b"\x01" + _address_bytes(vault)
        if expires_after is not None:
            data += b"\x00" + expires_after.to_bytes(8, "big")
    except (OverflowError, ValueError, TypeError) as error:
        raise BadSignature(str(error)) from error
    return _digest(data)


def l1_digest(connection: bytes, network: str) -> bytes:
    """EIP-712 digest of the phantom agent for "mainnet" or "testnet"."""
    source = _digest(SOURCES[network].encode())
    return _digest(b"\x19\x01" + _L1_DOMAIN + _digest(_AGENT_TYPE + source + connection))


def user_signed_digest(action: Mapping[str, Any]) -> bytes:
    """EIP-712 digest of a user-signed action, with the chain id the action names.

    Raises:
        BadSignature: a field is missing or has the wrong type.
    """
    name, own_fields = USER_SIGNED[action["type"]]
    fields: Sequence[tuple[str, str]] = (("hyperliquidChain", "string"), *own_fields)
    signature = ",".join(f"{kind} {field}" for field, kind in fields)
    parts = [_digest(f"HyperliquidTransaction:{name}({signature})".encode())]
    for field, kind in fields:
        parts.append(_encode(kind, action.get(field, "" if field == "agentName" else None), field))
    try:
        chain_id = int(action["signatureChainId"], 16)
    except (KeyError, TypeError, ValueError) as error:
        raise BadSignature("signatureChainId is not a hex number") from error
    domain = _domain("HyperliquidSignTransaction", chain_id)
    return _digest(b"\x19\x01" + domain + _digest(b"".join(parts)))


def _encode(kind: str, value: object, field: str) -> bytes:
    if kind == "string" and isinstance(value, str):
        return _digest(value.encode())
    if kind == "address" and isinstance(value, str):
        return _address_bytes(value).rjust(32, b"\x00")
    if kind == "bool" and isinstance(value, bool):
        return _word(int(value))
    if kind == "uint64" and isinstance(value, int) and 0 <= value < 1 << 64:
        return _word(value)
    raise BadSignature(f"{field} is not a {kind}")


def recover(digest: bytes, r: str, s: str, v: int) -> str:
    """Lower-case address that signed `digest`; r and s are hex with or without leading zeros.

    Raises:
        BadSignature: no key could have made this signature.
    """
    try:
        packed = _word(int(r, 16)) + _word(int(s, 16)) + bytes([v - 27 if v >= 27 else v])
        key = PublicKey.from_signature_and_message(packed, digest, hasher=None)
    except (ValueError, OverflowError, TypeError) as error:
        raise BadSignature(str(error)) from error
    except Exception as error:  # coincurve raises bare Exception for unrecoverable signatures
        raise BadSignature(str(error)) from error
    return "0x" + _digest(key.format(compressed=False)[1:])[12:].hex()
