"""Bytes of REST answers into typed messages; ill-typed input is a `ProtocolViolation`, never a KeyError. Pure.

Every answer with a `code` other than 200 is a refusal, whatever its HTTP status: `parse_refusal` looks first. Numbers
written as strings are taken for numbers, because documents and servers disagree about which field is which.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final

import msgspec

from gateway_lighter import account_messages as account
from gateway_lighter import messages as market
from gateway_lighter.refusals import RefusalMeaning, classify_error
from venuemesh.errors import ProtocolViolation

RAW_KEPT: Final = 2_000
"""Characters of an unreadable payload kept in the error; enough for a test, bounded for the log."""

SUCCESS: Final = 200

# Python's Decimal reads these as numbers; no venue means them.
_SUSPICIOUS = re.compile(rb'"\s*[+-]?(?:s?nan|inf|\d[\d.]*_)', re.IGNORECASE)
_UNDERSCORED = re.compile(rb'"\s*[+-]?\d[\d.]*_[\d._]*\s*"')


def violation(what: str, raw: bytes, cause: object) -> ProtocolViolation:
    """The error for an unreadable payload, with its text kept (truncated to `RAW_KEPT`)."""
    text = raw[:RAW_KEPT].decode("utf-8", errors="replace")
    return ProtocolViolation(
        f"cannot read {what}: {cause}",
        metadata={"payload": text, "payload_bytes": str(len(raw)), "what": what},
    )


class TypedDecoder(msgspec.Struct, frozen=True):
    """A JSON decoder for one type that refuses what an amount cannot be (NaN, infinity, underscores)."""

    what: str
    decoder: msgspec.json.Decoder[Any]

    def decode(self, raw: bytes | msgspec.Raw) -> Any:
        """The typed value of `raw`.

        Raises:
            ProtocolViolation: not JSON, or not of this type.
        """
        try:
            value = self.decoder.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, ArithmeticError, RecursionError) as cause:
            raise violation(self.what, bytes(raw), cause) from None
        text = bytes(raw)
        if _SUSPICIOUS.search(text) and (_UNDERSCORED.search(text) or not _all_finite(value)):
            raise violation(self.what, text, "a number is not a finite decimal")
        return value


def decoder_of(what: str, kind: Any) -> TypedDecoder:
    """A `TypedDecoder` for `kind`, named `what` in errors."""
    return TypedDecoder(what, msgspec.json.Decoder(kind, strict=False))


def _all_finite(value: object) -> bool:
    if isinstance(value, Decimal):
        return value.is_finite()
    children: Iterable[object] = ()
    if isinstance(value, msgspec.Struct):
        children = (getattr(value, name) for name in value.__struct_fields__)
    elif isinstance(value, dict):
        children = value.values()
    elif isinstance(value, list | tuple):
        children = value
    return all(_all_finite(child) for child in children)


class _Refusal(msgspec.Struct, frozen=True):
    code: int | None = None
    message: str | None = None


_refusal = decoder_of("answer", _Refusal)

_SHAPES: Final[dict[str, Any]] = {
    "": market.Status,
    "systemConfig": market.SystemConfig,
    "announcement": market.Announcements,
    "assetDetails": market.AssetDetails,
    "currentHeight": market.CurrentHeight,
    "orderBooks": market.OrderBooks,
    "orderBookDetails": market.OrderBookDetails,
    "orderBookOrders": market.OrderBookOrders,
    "recentTrades": market.Trades,
    "trades": market.Trades,
    "candles": market.Candles,
    "fundings": market.Fundings,
    "funding-rates": market.FundingRates,
    "account": account.Accounts,
    "accountsByL1Address": account.SubAccounts,
    "apikeys": account.ApiKeys,
    "accountLimits": account.AccountLimits,
    "positionFunding": account.PositionFundings,
    "deposit/history": account.Deposits,
    "withdraw/history": account.Withdrawals,
    "transfer/history": account.Transfers,
    "accountActiveOrders": account.Orders,
    "accountInactiveOrders": account.Orders,
    "accountOrders": account.Orders,
    "nextNonce": account.NextNonce,
    "tx": account.TransactionRow,
    "accountTxs": account.TransactionRows,
    "sendTx": account.SendAnswer,
    "sendTxBatch": account.SendBatchAnswer,
    # an acknowledgement and nothing else
    "changeAccountTier": _Refusal,
}

_decoders: Final[dict[str, TypedDecoder]] = {name: decoder_of(name or "status", kind) for name, kind in _SHAPES.items()}

ENDPOINTS: Final = frozenset(_SHAPES)
"""Every path below `/api/v1/` (and the root) whose answer this module can read."""


def parse_refusal(raw: bytes) -> RefusalMeaning | None:
    """The refusal an answer holds, or None for a success and for the few answers without a `code`.

    Raises:
        ProtocolViolation: no JSON object.
    """
    head: _Refusal = _refusal.decode(raw)
    if head.code is None or head.code == SUCCESS:
        return None
    return classify_error(head.code, head.message or "")


def parse_answer(endpoint: str, raw: bytes) -> Any:
    """The typed answer of an endpoint; shapes are listed in `_SHAPES`. Look for a refusal first.

    Raises:
        ProtocolViolation: unreadable or ill-typed, or an endpoint this module does not know.
    """
    decoder = _decoders.get(endpoint)
    if decoder is None:
        raise violation(endpoint, raw, "no shape is known for this endpoint")
    return decoder.decode(raw)
