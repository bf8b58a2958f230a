"""Signed transactions: from `tx_info` JSON to typed fields, and to the hash that was signed. Pure.

The order of the hashed elements is that of reference section 8.1; parsing goes by name, as clients re-serialise.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import msgspec

from simulator.lighter.errors import Code, Refused
from simulator.lighter.signing.poseidon2 import digest

MAX_ATTRIBUTES = 4
NIL_ATTRIBUTES = {5: 255}
KNOWN_ATTRIBUTES = range(1, 9)
MAX_INTEGER = (1 << 63) - 1


class TxType(IntEnum):
    """Kinds a client may send."""

    CHANGE_PUB_KEY = 8
    CREATE_SUB_ACCOUNT = 9
    CREATE_PUBLIC_POOL = 10
    UPDATE_PUBLIC_POOL = 11
    TRANSFER = 12
    WITHDRAW = 13
    CREATE_ORDER = 14
    CANCEL_ORDER = 15
    CANCEL_ALL_ORDERS = 16
    MODIFY_ORDER = 17
    MINT_SHARES = 18
    BURN_SHARES = 19
    UPDATE_LEVERAGE = 20
    CREATE_GROUPED_ORDERS = 28
    UPDATE_MARGIN = 29
    STAKE_ASSETS = 35
    UNSTAKE_ASSETS = 36
    UPDATE_ACCOUNT_CONFIG = 41
    UPDATE_ACCOUNT_ASSET_CONFIG = 42
    APPROVE_INTEGRATOR = 45


class Attribute(IntEnum):
    """Keys of `L2TxAttributes`."""

    INTEGRATOR = 1
    INTEGRATOR_TAKER_FEE = 2
    INTEGRATOR_MAKER_FEE = 3
    SKIP_NONCE = 4
    CANCEL_MARKET = 5
    SELF_TRADE = 6
    SELF_TRADE_EQUALITY = 7
    ORDER_VERSION = 8


ORDER_FIELDS = (
    "MarketIndex",
    "ClientOrderIndex",
    "BaseAmount",
    "Price",
    "IsAsk",
    "Type",
    "TimeInForce",
    "ReduceOnly",
    "TriggerPrice",
    "OrderExpiry",
)

# A trailing "*" splits a 64-bit amount into its low and high half.
_FIELDS: Mapping[TxType, Sequence[str]] = {
    TxType.CHANGE_PUB_KEY: (),
    TxType.CREATE_SUB_ACCOUNT: (),
    TxType.CREATE_PUBLIC_POOL: ("OperatorFee", "InitialTotalShares", "MinOperatorShareRate"),
    TxType.UPDATE_PUBLIC_POOL: ("PublicPoolIndex", "Status", "OperatorFee", "MinOperatorShareRate"),
    TxType.TRANSFER: ("ToAccountIndex", "AssetIndex", "FromRouteType", "ToRouteType", "Amount*", "USDCFee*"),
    TxType.WITHDRAW: ("AssetIndex", "RouteType", "Amount*"),
    TxType.CREATE_ORDER: ORDER_FIELDS,
    TxType.CANCEL_ORDER: ("MarketIndex", "Index"),
    TxType.CANCEL_ALL_ORDERS: ("TimeInForce", "Time"),
    TxType.MODIFY_ORDER: ("MarketIndex", "Index", "BaseAmount", "Price", "TriggerPrice"),
    TxType.MINT_SHARES: ("PublicPoolIndex", "ShareAmount"),
    TxType.BURN_SHARES: ("PublicPoolIndex", "ShareAmount"),
    TxType.UPDATE_LEVERAGE: ("MarketIndex", "InitialMarginFraction", "MarginMode"),
    TxType.CREATE_GROUPED_ORDERS: ("GroupingType",),
    TxType.UPDATE_MARGIN: ("MarketIndex", "USDCAmount*", "Direction"),
    TxType.STAKE_ASSETS: ("StakingPoolIndex", "ShareAmount"),
    TxType.UNSTAKE_ASSETS: ("StakingPoolIndex", "ShareAmount"),
    TxType.UPDATE_ACCOUNT_CONFIG: ("AccountTradingMode",),
    TxType.UPDATE_ACCOUNT_ASSET_CONFIG: ("AssetIndex", "AssetMarginMode"),
    TxType.APPROVE_INTEGRATOR: (
        "IntegratorAccountIndex",
        "MaxPerpsTakerFee",
        "MaxPerpsMakerFee",
        "MaxSpotTakerFee",
        "MaxSpotMakerFee",
        "ApprovalExpiry",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """One transaction as received; `info` is its text, verbatim."""

    type: TxType
    info: str
    account: int
    api_key: int
    nonce: int
    expired_at: int
    signature: bytes
    fields: Mapping[str, int]
    orders: tuple[Mapping[str, int], ...] = ()
    public_key: bytes = b""
    l1_signature: str = ""
    memo: bytes = b""
    attributes: Mapping[int, int]

    def attribute(self, key: Attribute) -> int:
        """Value of an attribute, its nil when absent."""
        return self.attributes.get(key, NIL_ATTRIBUTES.get(key, 0))

    @property
    def skip_nonce(self) -> bool:
        """Whether any larger nonce will do."""
        return bool(self.attribute(Attribute.SKIP_NONCE))

    def words(self, chain_id: int) -> list[int]:
        """The five words that were signed; as bytes, the transaction hash."""
        elements = [chain_id, self.type, self.nonce, self.expired_at, self.account, self.api_key]
        for name in _FIELDS[self.type]:
            value = self.fields[name.rstrip("*")]
            elements += [value & 0xFFFF_FFFF, value >> 32] if name.endswith("*") else [value]
        if self.type is TxType.CHANGE_PUB_KEY:
            elements += [int.from_bytes(self.public_key[at : at + 8], "little") for at in range(0, 40, 8)]
        if self.orders:
            elements += _aggregate(self.orders)
        words = digest(elements, 5)
        pairs = sorted(self.attributes.items())
        if not pairs:
            return words
        flat = [part for pair in pairs for part in pair] + [0] * (2 * (MAX_ATTRIBUTES - len(pairs)))
        return digest([*words, *digest(flat, 5)], 5)


def _aggregate(orders: Sequence[Mapping[str, int]]) -> list[int]:
    """Four words for a group: each order's hash folded into the last."""
    found: list[int] = []
    for order in orders:
        own = digest([order[name] for name in ORDER_FIELDS], 4)
        found = digest([*found, *own], 4) if found else own
    return found


def parse(tx_type: int, info: str | Mapping[str, Any]) -> Transaction:
    """A transaction from its type and `tx_info` (text, or an object over the WebSocket).

    Raises:
        Refused: 21505 for an unknown type, 21501 for anything missing or malformed.
    """
    try:
        kind = TxType(tx_type)
    except ValueError as error:
        raise Refused(Code.UNSUPPORTED_TX) from error
    text = info if isinstance(info, str) else msgspec.json.encode(info).decode()
    try:
        wire = msgspec.json.decode(text)
        if not isinstance(wire, dict):
            raise TypeError("not an object")
        return _build(kind, text, wire)
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, binascii.Error) as error:
        raise Refused(Code.INVALID_TX_INFO) from error


def _build(kind: TxType, text: str, wire: Mapping[str, Any]) -> Transaction:
    owner = "FromAccountIndex" if kind in (TxType.TRANSFER, TxType.WITHDRAW) else "AccountIndex"
    names = [name.rstrip("*") for name in _FIELDS[kind]]
    orders: tuple[Mapping[str, int], ...] = ()
    if kind is TxType.CREATE_GROUPED_ORDERS:
        orders = tuple({name: _integer(row[name]) for name in ORDER_FIELDS} for row in wire["Orders"])
    public_key = _bytes(wire["PubKey"], 40) if kind is TxType.CHANGE_PUB_KEY else b""
    return Transaction(
        type=kind,
        info=text,
        account=_integer(wire[owner]),
        api_key=_integer(wire["ApiKeyIndex"]),
        nonce=_integer(wire["Nonce"]),
        expired_at=_integer(wire["ExpiredAt"]),
        signature=_bytes(wire["Sig"], 80),
        fields={name: _integer(wire[name]) for name in names},
        orders=orders,
        public_key=public_key,
        l1_signature=str(wire.get("L1Sig") or ""),
        memo=bytes(wire["Memo"]) if kind is TxType.TRANSFER else b"",
        attributes=_attributes(wire.get("L2TxAttributes")),
    )


def _integer(value: object) -> int:
    if isinstance(value, bool):
        return int(value)
    if not isinstance(value, int) or not 0 <= value <= MAX_INTEGER:
        raise ValueError(f"not an unsigned integer: {value!r}")
    return value


def _bytes(text: object, size: int) -> bytes:
    if not isinstance(text, str):
        raise TypeError("not base64 text")
    found = base64.b64decode(text, validate=True)
    if len(found) != size:
        raise ValueError("wrong length")
    return found


def _attributes(wire: Any) -> dict[int, int]:
    """Attributes that are not nil: nil ones are not part of the hash."""
    if wire is None:
        return {}
    found = {int(key): _integer(value) for key, value in dict(wire).items()}
    if any(key not in KNOWN_ATTRIBUTES for key in found):
        raise ValueError("unknown attribute")
    kept = {key: value for key, value in found.items() if value != NIL_ATTRIBUTES.get(key, 0)}
    if len(kept) > MAX_ATTRIBUTES:
        raise ValueError("too many attributes")
    return kept
