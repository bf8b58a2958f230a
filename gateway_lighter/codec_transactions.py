"""Transactions as the venue's JSON, and back; and the texts an owner's Ethereum key signs. Pure.

Source: venue reference sections 7.1, 7.2 and 7.6.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Final

import msgspec

from gateway_lighter.account_transactions import KINDS, ApproveIntegrator, ChangePubKey, Transfer
from gateway_lighter.transactions import Attributes, Envelope, Transaction


def _plain(value: Any) -> Any:
    """Flags as 0 and 1, which is how the venue writes them."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value


def build_tx_info(transaction: Transaction, envelope: Envelope, signature: str, l1_signature: str = "") -> bytes:
    """The JSON to send, in the signer's own order and spelling.

    Args:
        signature: base64 of the 80 bytes.
        l1_signature: of the owner's Ethereum key, where the kind carries one.
    """
    body: dict[str, Any] = {
        transaction.account_key: envelope.account_index,
        "ApiKeyIndex": envelope.api_key_index,
        **_plain(msgspec.to_builtins(transaction)),
    }
    key_registration = isinstance(transaction, ChangePubKey)
    if key_registration:
        body["L1Sig"] = l1_signature
    body |= {"ExpiredAt": envelope.expired_at_ms, "Nonce": envelope.nonce, "Sig": signature}
    if transaction.l1_signed and not key_registration:
        body["L1Sig"] = l1_signature
    pairs = envelope.attributes.pairs()
    body["L2TxAttributes"] = {str(code): value for code, value in pairs} or None
    return msgspec.json.encode(body)


def _l1_lines(transaction: Transaction, envelope: Envelope) -> list[tuple[str, str]]:
    hex16: Callable[[int], str] = "0x{:016x}".format
    nonce = ("nonce", hex16(envelope.nonce))
    account = ("account index", hex16(envelope.account_index))
    key = ("api key index", hex16(envelope.api_key_index))
    if isinstance(transaction, ChangePubKey):
        return [("pubkey", "0x" + transaction.pub_key.hex()), nonce, account, key]
    if isinstance(transaction, Transfer):
        return [
            nonce,
            ("from", f"{hex16(envelope.account_index)} (route {hex16(transaction.from_route_type)})"),
            ("api key", hex16(envelope.api_key_index)),
            ("to", f"{hex16(transaction.to_account_index)} (route {hex16(transaction.to_route_type)})"),
            ("asset", hex16(transaction.asset_index)),
            ("amount", hex16(transaction.amount)),
            ("fee", hex16(transaction.usdc_fee)),
            ("chainId", hex16(envelope.chain_id)),
            ("memo", bytes(transaction.memo).hex()),
        ]
    if isinstance(transaction, ApproveIntegrator):
        return [
            nonce,
            account,
            key,
            ("integrator account index", hex16(transaction.integrator_account_index)),
            ("max perps taker fee", hex16(transaction.max_perps_taker_fee)),
            ("max perps maker fee", hex16(transaction.max_perps_maker_fee)),
            ("max spot taker fee", hex16(transaction.max_spot_taker_fee)),
            ("max spot maker fee", hex16(transaction.max_spot_maker_fee)),
            ("approval expiry", hex16(transaction.approval_expiry)),
            ("chainId", hex16(envelope.chain_id)),
        ]
    raise TypeError(f"{type(transaction).__name__} has no L1 text")


_L1_TITLES: Final[Mapping[int, str]] = {8: "Register Lighter Account", 12: "Transfer", 45: "Approve Integrator"}


def l1_message(transaction: Transaction, envelope: Envelope) -> str:
    """The text the owner's Ethereum key signs (EIP-191) for the kinds that carry `L1Sig`.

    Raises:
        TypeError: the kind has none.
    """
    lines = [f"{name}: {value}" for name, value in _l1_lines(transaction, envelope)]
    title = _L1_TITLES[transaction.tx_type]
    return "\n".join([title, "", *lines, "Only sign this message for a trusted client!"])


_SKIP_NONCE: Final = 4


class _RawEnvelope(msgspec.Struct, frozen=True, rename="pascal"):
    api_key_index: int
    expired_at: int
    nonce: int
    sig: bytes
    account_index: int | None = None
    from_account_index: int | None = None
    l2_tx_attributes: dict[str, int] | None = msgspec.field(name="L2TxAttributes", default=None)


def read_tx_info(tx_type: int, tx_info: bytes, chain_id: int) -> tuple[Transaction, Envelope, bytes]:
    """A signed transaction taken apart: kind, envelope and 80-byte signature.

    Raises:
        ValueError: an unknown kind or attribute, or JSON of another shape.
    """
    kind = KINDS.get(tx_type)
    if kind is None:
        raise ValueError(f"no transaction kind {tx_type}")
    try:
        transaction = msgspec.json.decode(tx_info, type=kind, strict=False)
        raw = msgspec.json.decode(tx_info, type=_RawEnvelope)
    except msgspec.MsgspecError as cause:
        raise ValueError(f"tx_info of kind {tx_type}: {cause}") from None
    account = raw.account_index if raw.account_index is not None else raw.from_account_index
    names = [field.name for field in fields(Attributes)]
    given = {int(code): value for code, value in (raw.l2_tx_attributes or {}).items() if code.isdigit()}
    if account is None or any(not 1 <= code <= len(names) for code in given):
        raise ValueError(f"tx_info of kind {tx_type}: no account, or an unknown attribute")
    named: dict[str, Any] = {names[code - 1]: bool(v) if code == _SKIP_NONCE else v for code, v in given.items()}
    attributes = Attributes(**named)
    envelope = Envelope(
        chain_id=chain_id,
        account_index=account,
        api_key_index=raw.api_key_index,
        nonce=raw.nonce,
        expired_at_ms=raw.expired_at,
        attributes=attributes,
    )
    return transaction, envelope, raw.sig
