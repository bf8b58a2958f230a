"""The signer library of the official SDK, loaded by itself: no package of the SDK is imported, nothing is fetched.

The library has no stable interface, so it is used only when its version and its digest are the pinned ones and when
everything it signs in a self-test equals what the pure path derives. It chooses a transaction's expiry itself (ten
minutes ahead), brings a Go runtime with threads and signal handlers into the process, and must not be loaded before a
fork. Each answer is compared with what was asked before it is used. Source: venue reference section 16.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import platform
from collections.abc import Callable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from gateway_lighter import account_transactions as account
from gateway_lighter import transactions as tx
from gateway_lighter.codec_transactions import read_tx_info
from gateway_lighter.ecgfp5 import ORDER
from gateway_lighter.goldilocks import BYTES
from gateway_lighter.schnorr import PrivateKey, verify
from gateway_lighter.signing import AuthToken, PureSigner, SignedTransaction, Signer, hash_token_text, hash_transaction
from gateway_lighter.transactions import NO_ATTRIBUTES, Attributes, Transaction
from venuemesh.errors import InvalidOrder, MeshError

log = logging.getLogger(__name__)

DISTRIBUTION: Final = "lighter-sdk"
VERSION: Final = "1.1.8"
EXPIRY_AHEAD_MS: Final = 600_000
"""The library sets now + this - 1 s."""

_PLATFORMS: Final[Mapping[tuple[str, str], str]] = {
    ("Linux", "x86_64"): "lighter-signer-linux-amd64.so",
    ("Linux", "aarch64"): "lighter-signer-linux-arm64.so",
    ("Darwin", "x86_64"): "lighter-signer-darwin-amd64.dylib",
    ("Darwin", "arm64"): "lighter-signer-darwin-arm64.dylib",
}
_DIGESTS: Final[Mapping[str, str]] = {
    "lighter-signer-linux-amd64.so": "7f107a0e2240aa40c9f0ae8aba396380fe62892fe199dd3691e3103fc9a6fd8e",
    "lighter-signer-linux-arm64.so": "9088ced1545e4cf81b6a4e18102c9459f3145215256c9d2f0a7ee4d160d7dfae",
    "lighter-signer-darwin-amd64.dylib": "cc7a6b7c4736d09e9bf236def745e132d962a30c91d72235d579c44d895cfaa1",
    "lighter-signer-darwin-arm64.dylib": "b58e94ae6149be8c4e2ca90a6058fcb86e3c16604d0f09c3be29034b8feb2630",
}
"""SHA-256 of the libraries in the wheel of `VERSION`."""


class NativeUnavailable(Exception):
    """The library is absent, another one, or fails its self-test; the text says which."""


class _SignedResponse(ctypes.Structure):
    _fields_ = (
        ("tx_type", ctypes.c_uint8),
        ("tx_info", ctypes.c_void_p),
        ("tx_hash", ctypes.c_void_p),
        ("message_to_sign", ctypes.c_void_p),
        ("err", ctypes.c_void_p),
    )


class _TextResponse(ctypes.Structure):
    _fields_ = (("text", ctypes.c_void_p), ("err", ctypes.c_void_p))


class _OrderRequest(ctypes.Structure):
    _fields_ = (
        ("market_index", ctypes.c_int64),
        ("client_order_index", ctypes.c_int64),
        ("base_amount", ctypes.c_int64),
        ("price", ctypes.c_uint32),
        ("is_ask", ctypes.c_uint8),
        ("type", ctypes.c_uint8),
        ("time_in_force", ctypes.c_uint8),
        ("reduce_only", ctypes.c_uint8),
        ("trigger_price", ctypes.c_uint32),
        ("order_expiry", ctypes.c_int64),
    )


_I64, _I32, _I16, _U8, _U32, _U64 = (
    ctypes.c_longlong,
    ctypes.c_int,
    ctypes.c_int16,
    ctypes.c_uint8,
    ctypes.c_uint32,
    ctypes.c_ulonglong,
)
_TEXT = ctypes.c_char_p
_TAIL: Final = (_U8, _I64, _I32, _I64)
_INTEGRATOR: Final = (_I64, _I32, _I32, _U8, _U8)

_SIGNATURES: Final[Mapping[str, tuple[Any, ...]]] = {
    "SignCreateOrder": (_I64, _I64, _I64, _I32, _I32, _I32, _I32, _I32, _I32, _I64, *_INTEGRATOR, *_TAIL),
    "SignCreateGroupedOrders": (_U8, ctypes.POINTER(_OrderRequest), _I32, *_INTEGRATOR, *_TAIL),
    "SignCancelOrder": (_I64, _I64, *_TAIL),
    "SignCancelAllOrders": (_I32, _I64, _I64, *_TAIL),
    "SignModifyOrder": (_I64, _I64, _I64, _I64, _I64, *_INTEGRATOR, _U8, _I64, _I64, _I32, _I64),
    "SignUpdateLeverage": (_I64, _I32, _I32, *_TAIL),
    "SignUpdateMargin": (_I64, _I64, _I32, *_TAIL),
    "SignWithdraw": (_I32, _I32, _U64, *_TAIL),
    "SignTransfer": (_I64, _I16, _U8, _U8, _I64, _I64, _TEXT, *_TAIL),
    "SignChangePubKey": (_TEXT, *_TAIL),
    "SignCreateSubAccount": _TAIL,
    "SignCreatePublicPool": (_I64, _I32, _I64, *_TAIL),
    "SignUpdatePublicPool": (_I64, _I32, _I64, _I32, *_TAIL),
    "SignMintShares": (_I64, _I64, *_TAIL),
    "SignBurnShares": (_I64, _I64, *_TAIL),
    "SignStakeAssets": (_I64, _I64, *_TAIL),
    "SignUnstakeAssets": (_I64, _I64, *_TAIL),
    "SignApproveIntegrator": (_I64, _U32, _U32, _U32, _U32, _I64, *_TAIL),
    "SignUpdateAccountConfig": (_U8, *_TAIL),
    "SignUpdateAccountAssetConfig": (_I16, _U8, *_TAIL),
}


def _plain(kind: Transaction) -> tuple[Any, ...]:
    return kind.elements()


def _grouped(kind: tx.CreateGroupedOrders) -> tuple[Any, ...]:
    orders = (_OrderRequest * len(kind.orders))(*(_OrderRequest(*order.elements()) for order in kind.orders))
    return (kind.grouping_type, orders, len(kind.orders))


def _transfer(kind: account.Transfer) -> tuple[Any, ...]:
    head = (kind.to_account_index, kind.asset_index, kind.from_route_type, kind.to_route_type)
    return (*head, kind.amount, kind.usdc_fee, b"0x" + bytes(kind.memo).hex().encode())


_ARGUMENTS: Final[Mapping[type[Transaction], Callable[[Any], tuple[Any, ...]]]] = {
    tx.CreateGroupedOrders: _grouped,
    tx.UpdateMargin: lambda kind: (kind.market_index, kind.usdc_amount, kind.direction),
    account.Withdraw: lambda kind: (kind.asset_index, kind.route_type, kind.amount),
    account.Transfer: _transfer,
    account.ChangePubKey: lambda kind: (b"0x" + kind.pub_key.hex().encode(),),
}
"""Arguments of a kind before attributes and tail, where they are not just its elements."""

_WITH_INTEGRATOR: Final = (tx.CreateOrder, tx.CreateGroupedOrders, tx.ModifyOrder)


class NativeLibrary:
    """The loaded library. Use `load_library`, which has checked it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._lib = ctypes.CDLL(str(path))
            self._bind()
        except (OSError, AttributeError) as cause:
            raise NativeUnavailable(f"{path.name} cannot be loaded: {cause}") from None

    def _bind(self) -> None:
        lib = self._lib
        lib.Free.argtypes, lib.Free.restype = (ctypes.c_void_p,), None
        lib.CreateClient.argtypes, lib.CreateClient.restype = (_TEXT, _TEXT, _I32, _I32, _I64), ctypes.c_void_p
        lib.CreateAuthToken.argtypes, lib.CreateAuthToken.restype = (_I64, _I32, _I64), _TextResponse
        for name, arguments in _SIGNATURES.items():
            function = getattr(lib, name)
            function.argtypes, function.restype = arguments, _SignedResponse

    def _take(self, pointer: int | None) -> str:
        """The C string behind a pointer, which is freed."""
        if not pointer:
            return ""
        try:
            return ctypes.string_at(pointer).decode()
        finally:
            self._lib.Free(pointer)

    def create_client(self, key: PrivateKey, *, chain_id: int, account_index: int, api_key_index: int) -> None:
        """Hand a key to the library, which keeps it in a table of the process.

        Raises:
            NativeUnavailable: it refuses the key.
        """
        secret = key.reveal_hex().encode()
        if error := self._take(self._lib.CreateClient(b"", secret, chain_id, api_key_index, account_index)):
            raise NativeUnavailable(f"the library does not take the key: {error}")

    def sign(
        self, transaction: Transaction, attributes: Attributes, *, nonce: int, account_index: int, api_key_index: int
    ) -> tuple[str, str, str]:
        """tx_info, tx_hash and the text to sign on L1, which is mostly empty.

        Raises:
            InvalidOrder: the library refuses the transaction; its own words.
        """
        kind = type(transaction)
        arguments: Callable[[Any], tuple[Any, ...]] = _ARGUMENTS.get(kind) or _plain
        before = arguments(transaction)
        if isinstance(transaction, _WITH_INTEGRATOR):
            before += (
                attributes.integrator_account_index,
                attributes.integrator_taker_fee,
                attributes.integrator_maker_fee,
                attributes.self_trade_mode,
                attributes.self_trade_scope,
            )
        if kind is tx.CancelAllOrders:
            before += (attributes.cancel_all_market,)
        version = (attributes.order_version,) if kind is tx.ModifyOrder else ()
        tail = (attributes.skip_nonce, nonce, *version, api_key_index, account_index)
        answer = getattr(self._lib, f"Sign{kind.__name__}")(*before, *tail)
        info, hashed, message, error = (
            self._take(pointer) for pointer in (answer.tx_info, answer.tx_hash, answer.message_to_sign, answer.err)
        )
        if error:
            raise InvalidOrder(f"{kind.__name__}: {error}")
        return info, hashed, message

    def sign_token(self, deadline_s: int, *, account_index: int, api_key_index: int) -> str:
        """An auth token; raises NativeUnavailable when the library gives none."""
        answer = self._lib.CreateAuthToken(deadline_s, api_key_index, account_index)
        text, error = self._take(answer.text), self._take(answer.err)
        if error or not text:
            raise NativeUnavailable(f"the library made no token: {error}")
        return text


class NativeSigner:
    """A signer over the library; see `Signer`. The expiry is the library's own: read it in what was signed."""

    chooses_expiry = True

    def __init__(
        self, library: NativeLibrary, key: PrivateKey, *, chain_id: int, account_index: int, api_key_index: int
    ) -> None:
        library.create_client(key, chain_id=chain_id, account_index=account_index, api_key_index=api_key_index)
        self._library = library
        self.chain_id = chain_id
        self.account_index = account_index
        self.api_key_index = api_key_index
        self.public_key = key.public_key.hex()

    def __repr__(self) -> str:
        return f"NativeSigner(account_index={self.account_index}, api_key_index={self.api_key_index}, key=***)"

    def sign(
        self, transaction: Transaction, *, nonce: int, expired_at_ms: int, attributes: Attributes = NO_ATTRIBUTES
    ) -> SignedTransaction:
        """See `Signer.sign`; `expired_at_ms` is not honoured.

        Raises:
            InvalidOrder: the transaction breaks a rule, or the library signed something else than was asked.
        """
        transaction.check()
        info, hashed, _ = self._library.sign(
            transaction,
            attributes,
            nonce=nonce,
            account_index=self.account_index,
            api_key_index=self.api_key_index,
        )
        try:
            written, envelope, _ = read_tx_info(transaction.tx_type, info.encode(), self.chain_id)
        except ValueError as cause:
            raise InvalidOrder(f"the signer library wrote what cannot be read: {cause}") from None
        meant = (transaction, self.account_index, self.api_key_index, nonce, attributes)
        if meant != (written, envelope.account_index, envelope.api_key_index, envelope.nonce, envelope.attributes):
            raise InvalidOrder("the signer library signed something else than was asked")
        return SignedTransaction(
            transaction=transaction,
            tx_info=info,
            tx_hash=hashed,
            account_index=self.account_index,
            api_key_index=self.api_key_index,
            nonce=nonce,
            expired_at_ms=envelope.expired_at_ms,
        )

    def sign_token(self, deadline_s: int) -> AuthToken:
        """See `Signer.sign_token`."""
        text = self._library.sign_token(deadline_s, account_index=self.account_index, api_key_index=self.api_key_index)
        return AuthToken(text, deadline_s)


# --- finding, checking, choosing ---------------------------------------------------------------------------


def find_library() -> Path:
    """Where the installed distribution keeps the library for this machine.

    Raises:
        NativeUnavailable: not installed, another version, no library for this machine, or another digest.
    """
    name = _PLATFORMS.get((platform.system(), platform.machine()))
    if name is None:
        raise NativeUnavailable(f"no library for {platform.system()} {platform.machine()}")
    try:
        distribution = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        raise NativeUnavailable(f"{DISTRIBUTION} is not installed") from None
    if distribution.version != VERSION:
        raise NativeUnavailable(f"{DISTRIBUTION} is {distribution.version}, the pinned version is {VERSION}")
    found = [Path(str(file.locate())) for file in distribution.files or () if file.name == name]
    if len(found) != 1 or not found[0].is_file():
        raise NativeUnavailable(f"{DISTRIBUTION} {VERSION} does not hold {name}")
    if hashlib.sha256(found[0].read_bytes()).hexdigest() != _DIGESTS[name]:
        raise NativeUnavailable(f"{name} is not the pinned library")
    return found[0]


_TEST_ACCOUNT: Final = tx.MAX_ACCOUNT
_TEST_API_KEY: Final = tx.MAX_API_KEY
_TEST_CHAIN: Final = 300
_TEST_DEADLINE_S: Final = 1_900_000_000

_STOP: Final = tx.OrderFields(
    market_index=1,
    base_amount=2_500,
    price=900_000,
    is_ask=True,
    type=tx.OrderKind.STOP_LOSS_LIMIT,
    reduce_only=True,
    trigger_price=910_000,
    order_expiry=1_893_456_000_000,
)
_TAKE: Final = tx.OrderFields(
    market_index=1,
    base_amount=2_500,
    price=1_100_000,
    is_ask=True,
    type=tx.OrderKind.TAKE_PROFIT_LIMIT,
    reduce_only=True,
    trigger_price=1_090_000,
    order_expiry=1_893_456_000_000,
)
_SELF_TEST: Final[tuple[tuple[Transaction, Attributes], ...]] = (
    (
        tx.CreateOrder(
            market_index=2_048,
            client_order_index=2**48 - 1,
            base_amount=2**48 - 2,
            price=3_000_000_000,
            is_ask=True,
            time_in_force=tx.TimeInForce.POST_ONLY,
            order_expiry=1_893_456_000_001,
        ),
        Attributes(skip_nonce=True, self_trade_mode=2, self_trade_scope=1),
    ),
    (tx.CancelOrder(market_index=300, index=844424914280484), NO_ATTRIBUTES),
    (tx.CancelAllOrders(), Attributes(cancel_all_market=7)),
    (
        tx.ModifyOrder(market_index=0, index=101, base_amount=2_000, price=2**32 - 1, trigger_price=5),
        Attributes(order_version=3),
    ),
    (
        tx.UpdateLeverage(market_index=1, initial_margin_fraction=200, margin_mode=tx.MarginMode.ISOLATED),
        NO_ATTRIBUTES,
    ),
    (
        tx.CreateGroupedOrders(grouping_type=tx.Grouping.ONE_CANCELS_OTHER, orders=(_TAKE, _STOP)),
        NO_ATTRIBUTES,
    ),
)


def check_library(library: NativeLibrary) -> None:
    """Compare what the library signs with the pure path: fields, hash and signature of each kind, and a token.

    Raises:
        NativeUnavailable: any difference, or a refusal.
    """
    scalar = int.from_bytes(hashlib.shake_256(b"venuemesh/lighter/self-test").digest(2 * BYTES), "little") % ORDER
    key = PrivateKey(scalar.to_bytes(BYTES, "little").hex())
    signer = NativeSigner(library, key, chain_id=_TEST_CHAIN, account_index=_TEST_ACCOUNT, api_key_index=_TEST_API_KEY)
    for nonce, (transaction, attributes) in enumerate(_SELF_TEST, start=41):
        name = type(transaction).__name__
        try:
            signed = signer.sign(transaction, nonce=nonce, expired_at_ms=1, attributes=attributes)
        except MeshError as cause:
            raise NativeUnavailable(f"self-test, {name}: {cause.message}") from None
        written, envelope, signature = read_tx_info(signed.tx_type, signed.tx_info.encode(), _TEST_CHAIN)
        message = hash_transaction(written, envelope)
        if message.hex() != signed.tx_hash or not verify(key.public_key, message, signature):
            raise NativeUnavailable(f"self-test, {name}: the library's hash or signature differs from the pure path")
    text, _, signature_hex = signer.sign_token(_TEST_DEADLINE_S).reveal().rpartition(":")
    if not verify(key.public_key, hash_token_text(text), bytes.fromhex(signature_hex)):
        raise NativeUnavailable("self-test: the library's auth token does not verify")


def load_library() -> NativeLibrary:
    """Find, load and check the library; raises NativeUnavailable with the reason."""
    library = NativeLibrary(find_library())
    check_library(library)
    return library


def open_signer(
    key: PrivateKey, *, chain_id: int, account_index: int, api_key_index: int, native: bool = False
) -> Signer:
    """A signer for one key: the pure one, or the library's where it is asked for and passes its checks.

    One log line says which, and why not the other.
    """
    names = {"account_index": account_index, "api_key_index": api_key_index}
    why = "not asked for"
    if native:
        try:
            signer = NativeSigner(
                load_library(), key, chain_id=chain_id, account_index=account_index, api_key_index=api_key_index
            )
        except NativeUnavailable as cause:
            why = str(cause)
        else:
            log.info("lighter_signer", extra={**names, "signer": "native", "version": VERSION})
            return signer
    log.log(
        logging.WARNING if native else logging.INFO,
        "lighter_signer",
        extra={**names, "signer": "pure", "why_not_native": why},
    )
    return PureSigner(key, chain_id=chain_id, account_index=account_index, api_key_index=api_key_index)
