"""Ethereum personal-message signatures over the venue's texts: who owns an account. Pure."""

from __future__ import annotations

from coincurve import PublicKey
from eth_hash.auto import keccak

from simulator.lighter.transactions import Transaction, TxType

LAST_LINE = "Only sign this message for a trusted client!"


def _hex(value: int) -> str:
    return f"0x{value:016x}"


def message(tx: Transaction, chain_id: int) -> str:
    """Text an owner signs for a transaction of type 8, 12 or 45."""
    f = tx.fields
    match tx.type:
        case TxType.CHANGE_PUB_KEY:
            lines = [
                "Register Lighter Account",
                "",
                f"pubkey: 0x{tx.public_key.hex()}",
                f"nonce: {_hex(tx.nonce)}",
                f"account index: {_hex(tx.account)}",
                f"api key index: {_hex(tx.api_key)}",
            ]
        case TxType.TRANSFER:
            lines = [
                "Transfer",
                "",
                f"nonce: {_hex(tx.nonce)}",
                f"from: {_hex(tx.account)} (route {_hex(f['FromRouteType'])})",
                f"api key: {_hex(tx.api_key)}",
                f"to: {_hex(f['ToAccountIndex'])} (route {_hex(f['ToRouteType'])})",
                f"asset: {_hex(f['AssetIndex'])}",
                f"amount: {_hex(f['Amount'])}",
                f"fee: {_hex(f['USDCFee'])}",
                f"chainId: {_hex(chain_id)}",
                f"memo: {tx.memo.hex()}",
            ]
        case TxType.APPROVE_INTEGRATOR:
            lines = [
                "Approve Integrator",
                "",
                f"nonce: {_hex(tx.nonce)}",
                f"account index: {_hex(tx.account)}",
                f"api key index: {_hex(tx.api_key)}",
                f"integrator account index: {_hex(f['IntegratorAccountIndex'])}",
                f"max perps taker fee: {_hex(f['MaxPerpsTakerFee'])}",
                f"max perps maker fee: {_hex(f['MaxPerpsMakerFee'])}",
                f"max spot taker fee: {_hex(f['MaxSpotTakerFee'])}",
                f"max spot maker fee: {_hex(f['MaxSpotMakerFee'])}",
                f"approval expiry: {_hex(f['ApprovalExpiry'])}",
                f"chainId: {_hex(chain_id)}",
            ]
        case _:
            raise ValueError(f"no text for {tx.type.name}")
    return "\n".join([*lines, LAST_LINE])


def signer(text: str, signature: str) -> str | None:
    """Lower-case address that signed `text` (EIP-191), None when the signature is malformed."""
    try:
        raw = bytes.fromhex(signature.removeprefix("0x"))
    except ValueError:
        return None
    if len(raw) != 65 or raw[64] not in (0, 1, 27, 28):
        return None
    data = text.encode()
    digest = keccak(b"\x19Ethereum Signed Message:\n" + str(len(data)).encode() + data)
    packed = raw[:64] + bytes([raw[64] - 27 if raw[64] >= 27 else raw[64]])
    try:
        key = PublicKey.from_signature_and_message(packed, digest, hasher=None)
    except Exception:  # coincurve raises bare Exception for unrecoverable signatures
        return None
    return "0x" + bytes(keccak(key.format(compressed=False)[1:]))[12:].hex()


def signed_by_owner(tx: Transaction, chain_id: int, address: str) -> bool:
    """Whether the transaction carries its owner's signature."""
    return signer(message(tx, chain_id), tx.l1_signature) == address.lower()
