"""Signatures of `/exchange` actions: L1 actions through a phantom agent, user-signed actions as typed data.

Everything in EIP-712 that does not change is hashed once, at import. The network is always said by the
caller: deriving it from a URL signs for the wrong network behind any proxy.
Source: venue reference section 4; hyperliquid-python-sdk 0.24.0 utils/signing.py; EIP-712.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final, NoReturn

import msgspec
from coincurve import PrivateKey, PublicKey
from eth_hash.auto import keccak

from venuemesh.errors import AuthenticationFailed, InvalidRequest, NonceRejected

SIGNATURE_CHAIN_ID: Final = "0x66eee"
"""Chain id named in user-signed actions; any is accepted, this is the official client's."""


class Network(StrEnum):
    """Which network a signature is for."""

    MAINNET = "mainnet"
    TESTNET = "testnet"

    @property
    def source(self) -> str:
        """The phantom agent's `source`."""
        return "a" if self is Network.MAINNET else "b"

    @property
    def chain_name(self) -> str:
        """`hyperliquidChain` of user-signed actions."""
        return "Mainnet" if self is Network.MAINNET else "Testnet"


# --- what is signed ----------------------------------------------------------------------------------------

_pack = msgspec.msgpack.Encoder().encode
_ZERO_WORD: Final = bytes(32)
_PREFIX: Final = b"\x19\x01"


def action_hash(action: Any, nonce: int, vault_address: str | None = None, expires_after: int | None = None) -> bytes:
    """The `connectionId` of an L1 action: keccak of msgpack, nonce, vault and expiry.

    `action` is a Struct of `hypercore.actions` or a plain mapping in wire key order. `vault_address` is the
    sub-account or vault acted for; `expires_after` is ms.
    """
    data = _pack(action) + nonce.to_bytes(8, "big")
    data += b"\x00" if vault_address is None else b"\x01" + _address_bytes(vault_address)
    if expires_after is not None:
        data += b"\x00" + expires_after.to_bytes(8, "big")
    return keccak(data)


_DOMAIN_TYPE: Final = keccak(b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")


def _domain_separator(name: bytes, chain_id: int) -> bytes:
    return keccak(_DOMAIN_TYPE + keccak(name) + keccak(b"1") + chain_id.to_bytes(32, "big") + _ZERO_WORD)


_AGENT_TYPE: Final = keccak(b"Agent(string source,bytes32 connectionId)")
_L1_HEAD: Final = _PREFIX + _domain_separator(b"Exchange", 1337)
_AGENT_HEADS: Final = {network: _AGENT_TYPE + keccak(network.source.encode()) for network in Network}


def l1_digest(connection_id: bytes, network: Network) -> bytes:
    """The 32 bytes an L1 signature signs."""
    return keccak(_L1_HEAD + keccak(_AGENT_HEADS[network] + connection_id))


@dataclass(frozen=True, slots=True)
class UserSignedType:
    """Typed-data type of one user-signed action: fields in hashing order and the hash of the type text."""

    fields: tuple[tuple[str, str], ...]
    type_hash: bytes


def _user_type(primary: str, fields: str) -> UserSignedType:
    pairs = tuple((kind, name) for kind, name in (item.split(" ") for item in fields.split(",")))
    text = f"HyperliquidTransaction:{primary}({fields})"
    return UserSignedType(pairs, keccak(text.encode()))


_CHAIN = "string hyperliquidChain"

USER_SIGNED_TYPES: Final[Mapping[str, UserSignedType]] = {
    "usdSend": _user_type("UsdSend", f"{_CHAIN},string destination,string amount,uint64 time"),
    "spotSend": _user_type("SpotSend", f"{_CHAIN},string destination,string token,string amount,uint64 time"),
    "withdraw3": _user_type("Withdraw", f"{_CHAIN},string destination,string amount,uint64 time"),
    "usdClassTransfer": _user_type("UsdClassTransfer", f"{_CHAIN},string amount,bool toPerp,uint64 nonce"),
    "sendAsset": _user_type(
        "SendAsset",
        f"{_CHAIN},string destination,string sourceDex,string destinationDex,string token,string amount,"
        "string fromSubAccount,uint64 nonce",
    ),
    "approveAgent": _user_type("ApproveAgent", f"{_CHAIN},address agentAddress,string agentName,uint64 nonce"),
    "approveBuilderFee": _user_type("ApproveBuilderFee", f"{_CHAIN},string maxFeeRate,address builder,uint64 nonce"),
    "userDexAbstraction": _user_type("UserDexAbstraction", f"{_CHAIN},address user,bool enabled,uint64 nonce"),
    "userSetAbstraction": _user_type("UserSetAbstraction", f"{_CHAIN},address user,string abstraction,uint64 nonce"),
    "tokenDelegate": _user_type(
        "TokenDelegate", f"{_CHAIN},address validator,uint64 wei,bool isUndelegate,uint64 nonce"
    ),
    "convertToMultiSigUser": _user_type("ConvertToMultiSigUser", f"{_CHAIN},string signers,uint64 nonce"),
}
"""By action type; every action not here is an L1 action."""

# An unnamed agent is signed with this name although the posted action has no such key.
_FIELD_DEFAULTS: Final = {"agentName": ""}


def user_signed_digest(action: Mapping[str, Any]) -> bytes:
    """The 32 bytes a user-signed action's signature signs; the action names its chain and network itself.

    Raises:
        InvalidRequest: not a user-signed type, or a field is missing or of another type.
    """
    kind = USER_SIGNED_TYPES.get(str(action.get("type")))
    if kind is None:
        raise InvalidRequest(f"{action.get('type')!r} is not a user-signed action", field="type")
    words = [kind.type_hash]
    for field_type, name in kind.fields:
        value = action.get(name, _FIELD_DEFAULTS.get(name))
        words.append(_encode_word(field_type, name, value))
    return keccak(_user_head(_chain_id(action.get("signatureChainId"))) + keccak(b"".join(words)))


@lru_cache(maxsize=16)
def _user_head(chain_id: int) -> bytes:
    return _PREFIX + _domain_separator(b"HyperliquidSignTransaction", chain_id)


def _chain_id(text: object) -> int:
    try:
        number = int(str(text), 16)
        number.to_bytes(32, "big")
    except (ValueError, OverflowError):
        raise InvalidRequest("signatureChainId must be a hex number", field="signatureChainId") from None
    return number


def _encode_word(field_type: str, name: str, value: object) -> bytes:
    if field_type == "string" and isinstance(value, str):
        return keccak(value.encode())
    if field_type == "bool" and isinstance(value, bool):
        return int(value).to_bytes(32, "big")
    if field_type == "address" and isinstance(value, str):
        return _address_bytes(value).rjust(32, b"\x00")
    if field_type == "uint64" and isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**64:
        return value.to_bytes(32, "big")
    raise InvalidRequest(f"{name} must be a {field_type}", field=name)


def _address_bytes(address: str) -> bytes:
    """20 bytes of an address, with or without 0x. Raises InvalidRequest."""
    try:
        raw = bytes.fromhex(address.removeprefix("0x"))
    except ValueError:
        raw = b""
    if len(raw) != 20:
        raise InvalidRequest(f"{address[:64]!r} is not an address", field="address")
    return raw


# --- keys and signatures -----------------------------------------------------------------------------------


class Signature(msgspec.Struct, frozen=True):
    """`r` and `s` as 0x and 64 hex digits, `v` 27 or 28."""

    r: str
    s: str
    v: int


class SignedAction(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The `/exchange` envelope; `action` keeps the key order that was hashed. Holds no secret."""

    action: Any
    nonce: int
    signature: Signature
    vault_address: str | None = None
    expires_after: int | None = None

    def length(self) -> int:
        """Entries that count towards weight and address budget."""
        count = getattr(self.action, "length", None)
        return int(count()) if callable(count) else 1

    def kind(self) -> str:
        """The action's type, such as `order`."""
        return str(_action_type(self.action))


_to_json = msgspec.json.Encoder().encode


def encode_signed(signed: SignedAction) -> bytes:
    """JSON body for `/exchange`, and the payload of a posted action."""
    return _to_json(signed)


class _NeverCopied:
    """Refuses pickle and copy: a key stays where it was loaded."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError(f"{type(self).__name__} is never copied or serialised")


class SecretKey(_NeverCopied):
    """A private key that does not show itself: printing gives `***`, pickling and copying are refused."""

    __slots__ = ("_key",)

    def __init__(self, hex_key: str) -> None:
        """Take 32 bytes of hex, with or without 0x. Raises AuthenticationFailed, without the key in it."""
        try:
            raw = bytes.fromhex(hex_key.strip().removeprefix("0x"))
            key = PrivateKey(raw) if len(raw) == 32 else None
        except ValueError:
            key = None
        if key is None:
            raise AuthenticationFailed("the signing key is not a secp256k1 private key of 32 hex bytes")
        self._key = key

    @property
    def address(self) -> str:
        """The key's address, lower case."""
        return _address_of(self._key.public_key)

    def sign(self, digest: bytes) -> Signature:
        """Deterministic (RFC 6979), low-s signature of 32 bytes."""
        return _signature(self._key.sign_recoverable(digest, hasher=None))

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format("***", spec)


class Signer(_NeverCopied):
    """Signs for one network with one key (an agent's, or an account's own). Has no clock and no nonce."""

    __slots__ = ("_key", "address", "network")

    def __init__(self, key: SecretKey, network: Network) -> None:
        self._key = key
        self.network = network
        self.address = key.address

    def __repr__(self) -> str:
        return f"Signer(address={self.address}, network={self.network.value}, key=***)"

    def sign(
        self,
        action: Any,
        nonce: int,
        *,
        vault_address: str | None = None,
        expires_after: int | None = None,
    ) -> SignedAction:
        """Sign a Struct of `hypercore.actions` (or a mapping in wire key order) for this network.

        Args:
            nonce: ms, from this signer's one `NonceSource`; equals the inner nonce of user-signed actions.
            vault_address: sub-account or vault acted for; L1 actions only.
            expires_after: ms after which the venue drops the request unprocessed; L1 actions only.
        Raises:
            InvalidRequest: a user-signed action with a vault, an expiry, another nonce or another network.
        """
        vault = None if vault_address is None else "0x" + _address_bytes(vault_address).hex()
        if _action_type(action) in USER_SIGNED_TYPES:
            digest = self._user_digest(action, nonce, vault, expires_after)
        else:
            digest = l1_digest(action_hash(action, nonce, vault, expires_after), self.network)
        return SignedAction(
            action=action,
            nonce=nonce,
            signature=self._key.sign(digest),
            vault_address=vault,
            expires_after=expires_after,
        )

    def _user_digest(self, action: Any, nonce: int, vault: str | None, expires_after: int | None) -> bytes:
        message = _as_mapping(action)
        if vault is not None or expires_after is not None:
            raise InvalidRequest("a user-signed action takes no vault address and no expiry")
        if message.get("nonce", message.get("time")) != nonce:
            raise InvalidRequest("inner and outer nonce differ", field="nonce")
        if message.get("hyperliquidChain") != self.network.chain_name:
            raise InvalidRequest(
                f"the action names another network than {self.network.value}", field="hyperliquidChain"
            )
        return user_signed_digest(message)


def recover_signer(signed: SignedAction, network: Network) -> str:
    """The address (lower case) whose key made this signature: our self-check, and the venue's view of us.

    Raises:
        AuthenticationFailed: the signature is malformed.
    """
    message = _as_mapping(signed.action)
    if message.get("type") in USER_SIGNED_TYPES:
        digest = user_signed_digest(message)
    else:
        connection_id = action_hash(signed.action, signed.nonce, signed.vault_address, signed.expires_after)
        digest = l1_digest(connection_id, network)
    return recover_address(digest, signed.signature)


def recover_address(digest: bytes, signature: Signature) -> str:
    """The address behind a signature of 32 bytes; `r` and `s` may lack leading zeros.

    Raises:
        AuthenticationFailed: not a signature.
    """
    try:
        compact = int(signature.r, 16).to_bytes(32, "big") + int(signature.s, 16).to_bytes(32, "big")
        recovery = bytes([signature.v - 27])
        key = PublicKey.from_signature_and_message(compact + recovery, digest, hasher=None)
    except (ValueError, OverflowError) as cause:
        raise AuthenticationFailed(f"malformed signature: {cause}") from None
    return _address_of(key)


def _address_of(key: PublicKey) -> str:
    return "0x" + keccak(key.format(compressed=False)[1:])[-20:].hex()


def _signature(compact: bytes) -> Signature:
    text = compact.hex()
    return Signature("0x" + text[:64], "0x" + text[64:128], 27 + compact[64])


def _action_type(action: Any) -> object:
    if isinstance(action, msgspec.Struct):
        return action.__struct_config__.tag
    return action.get("type")


def _as_mapping(action: Any) -> Mapping[str, Any]:
    plain = msgspec.to_builtins(action) if isinstance(action, msgspec.Struct) else action
    if not isinstance(plain, Mapping):
        raise InvalidRequest("an action is an object")
    return plain


# --- nonces ------------------------------------------------------------------------------------------------

MAX_NONCE_LEAD_MS: Final = 24 * 3600 * 1000
"""A nonce further ahead of block time than this is refused by the venue (reference, section 4.4)."""


class NonceSource:
    """The one source of nonces of a signer, shared by every task and transport that signs with it.

    Strictly increasing whatever the clock does, also across a restart when restored from the journal.
    """

    __slots__ = ("_high_water",)

    def __init__(self, high_water: int = 0) -> None:
        self._high_water = high_water

    @property
    def high_water(self) -> int:
        """The last nonce given out; journal it before the request is sent."""
        return self._high_water

    def restore(self, high_water: int) -> None:
        """Never give out `high_water` or less again; a lower mark changes nothing."""
        self._high_water = max(self._high_water, high_water)

    def reserve(self, now_ms: int) -> int:
        """The next nonce: `max(now_ms, last + 1)`.

        Raises:
            NonceRejected: the mark is a day or more ahead of the clock, so the venue would refuse it; the
                clock or the journal is wrong.
        """
        nonce = max(now_ms, self._high_water + 1)
        if nonce - now_ms >= MAX_NONCE_LEAD_MS:
            raise NonceRejected(
                f"next nonce {nonce} is {(nonce - now_ms) // 1000} s ahead of the clock; "
                "check the clock and the journal's mark",
                metadata={"nonce": str(nonce), "now_ms": str(now_ms)},
            )
        self._high_water = nonce
        return nonce
