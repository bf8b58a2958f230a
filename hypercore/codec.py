"""Bytes of `/info` answers into typed messages; ill-typed input is a `ProtocolViolation`, never a KeyError.

`parse_info("meta", raw)` is the table's front door; the typed wrappers below it are what `rest` uses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, Final, TypeVar

import msgspec

from hypercore import account_messages as account
from hypercore import messages as market
from venuemesh.errors import ProtocolViolation

T = TypeVar("T")

RAW_KEPT = 2_000
"""Characters of an unreadable payload kept in the error; enough for a test, bounded for the log."""

# Decimal("NaN") and Decimal("1_000") are legal Python and no prices.
_SUSPECT = re.compile(rb'"[+-]?(?:s?nan\d*|inf(?:inity)?)"', re.IGNORECASE)
_UNDERSCORED = re.compile(rb'"[+-]?\d[\d.]*_[\d._]*"')

_MAX_DEPTH = 12


def violation(what: str, raw: bytes, cause: object) -> ProtocolViolation:
    """The error for an unreadable payload, with its text kept (truncated to `RAW_KEPT`)."""
    text = raw[:RAW_KEPT].decode("utf-8", errors="replace")
    return ProtocolViolation(
        f"cannot read {what}: {cause}",
        metadata={"payload": text, "payload_bytes": str(len(raw)), "what": what},
    )


class TypedDecoder(msgspec.Struct, frozen=True):
    """A JSON decoder for one type that refuses what a price cannot be (NaN, infinity, underscores)."""

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
        if _is_suspect(raw) and (_UNDERSCORED.search(raw) or (_SUSPECT.search(raw) and _has_nonfinite(value))):
            raise violation(self.what, bytes(raw), "a number is not a finite decimal")
        return value


def decoder_of(what: str, kind: Any) -> TypedDecoder:
    """A `TypedDecoder` for `kind`, named `what` in errors."""
    return TypedDecoder(what, msgspec.json.Decoder(kind))


def _is_suspect(raw: bytes | msgspec.Raw) -> bool:
    """A quick look that lets nearly every payload pass: the two patterns cost more than the decoding."""
    text = bytes(raw).lower()
    return b"_" in text or b"nan" in text or b"inf" in text


def _has_nonfinite(value: object, depth: int = 0) -> bool:
    if isinstance(value, Decimal):
        return not value.is_finite()
    if depth > _MAX_DEPTH:
        return True
    children: Iterable[object]
    if isinstance(value, msgspec.Struct):
        children = (getattr(value, name) for name in value.__struct_fields__)
    elif isinstance(value, dict):
        children = value.values()
    elif isinstance(value, (list, tuple)):
        children = value
    else:
        return False
    return any(_has_nonfinite(child, depth + 1) for child in children)


class _LedgerRow(msgspec.Struct, frozen=True, kw_only=True):
    time: int
    hash: str
    delta: msgspec.Raw


Mids = dict[str, Decimal]
Fills = tuple[account.Fill, ...]

_SHAPES: Final[dict[str, Any]] = {
    # market
    "meta": market.Meta,
    "allPerpMetas": tuple[market.Meta, ...],
    "marginTable": market.MarginTable,
    "metaAndAssetCtxs": market.MetaAndAssetCtxs,
    "allMids": Mids,
    "l2Book": market.L2Book | None,
    "candleSnapshot": tuple[market.Candle, ...],
    "recentTrades": tuple[market.Trade, ...],
    "fundingHistory": tuple[market.FundingRate, ...],
    "predictedFundings": tuple[market.CoinPredictions, ...],
    "perpsAtOpenInterestCap": tuple[str, ...],
    "perpDexs": tuple[market.PerpDex | None, ...],
    "perpDexLimits": market.PerpDexLimits | None,
    "perpDexStatus": market.PerpDexStatus | None,
    "exchangeStatus": market.ExchangeStatus,
    "spotMeta": market.SpotMeta,
    "spotMetaAndAssetCtxs": market.SpotMetaAndAssetCtxs,
    # account
    "clearinghouseState": account.ClearinghouseState,
    "spotClearinghouseState": account.SpotState,
    "openOrders": tuple[account.OpenOrder, ...],
    "frontendOpenOrders": tuple[account.FrontendOrder, ...],
    "orderStatus": account.OrderStatusAnswer,
    "historicalOrders": tuple[account.OrderWithStatus, ...],
    "userFills": Fills,
    "userFillsByTime": Fills,
    "userFunding": tuple[account.UserFundingRow, ...],
    "userFees": account.UserFees,
    "userRateLimit": account.RateBudget,
    "userRole": account.UserRole,
    "extraAgents": tuple[account.ExtraAgent, ...],
    "activeAssetData": account.ActiveAssetData,
    "portfolio": tuple[account.PortfolioPeriod, ...],
    "subAccounts": tuple[account.SubAccount, ...] | None,
    "subAccounts2": tuple[account.SubAccount, ...] | None,
    "maxBuilderFee": int,
    "approvedBuilders": tuple[str, ...],
    "userTwapSliceFills": tuple[account.TwapSliceFill, ...],
    "userTwapSliceFillsByTime": tuple[account.TwapSliceFill, ...],
    "twapHistory": tuple[account.TwapHistoryRow, ...],
    "userAbstraction": str,
    "userDexAbstraction": bool | None,
    "userToMultiSigSigners": account.MultiSigSigners | None,
    # read by people only: any JSON, not typed here
    "perpAnnotation": Any,
    "perpCategories": Any,
    "perpConciseAnnotations": Any,
    "maxMarketOrderNtls": Any,
    "referral": Any,
    "vaultDetails": Any,
    "userVaultEquities": Any,
    "delegations": Any,
    "delegatorSummary": Any,
    "delegatorHistory": Any,
    "delegatorRewards": Any,
    "webData2": Any,
}

_LEDGER_TYPE: Final = "userNonFundingLedgerUpdates"
_ledger_rows = decoder_of(_LEDGER_TYPE, tuple[_LedgerRow, ...])
_ledger_delta = decoder_of(f"{_LEDGER_TYPE} delta", account.LedgerDelta)
_bare_ledger_delta = decoder_of(f"{_LEDGER_TYPE} delta", account.BareLedgerDelta)
_decoders: Final[dict[str, TypedDecoder]] = {name: decoder_of(name, shape) for name, shape in _SHAPES.items()}

INFO_TYPES: Final = frozenset(_SHAPES) | {_LEDGER_TYPE}
"""Every `/info` request type whose answer this module can read."""


def parse_info(info_type: str, raw: bytes) -> Any:
    """The typed answer to an `/info` request of `info_type`; shapes are listed in `_SHAPES`.

    Raises:
        ProtocolViolation: unreadable or ill-typed, or a type this module does not know.
    """
    if info_type == _LEDGER_TYPE:
        return parse_ledger_updates(raw)
    decoder = _decoders.get(info_type)
    if decoder is None:
        raise violation(f"info {info_type}", raw, "no shape is known for this request type")
    return decoder.decode(raw)


def parse_ledger_updates(raw: bytes | msgspec.Raw) -> tuple[account.LedgerUpdate, ...]:
    """Rows of userNonFundingLedgerUpdates; a delta of a new kind keeps its `type` and its raw object."""
    return tuple(
        account.LedgerUpdate(time=row.time, hash=row.hash, delta=_parse_delta(row.delta), raw=bytes(row.delta))
        for row in _ledger_rows.decode(raw)
    )


def _parse_delta(raw: msgspec.Raw) -> account.LedgerDelta:
    """A kind we do not know may reuse a key with another shape: then only its type is typed."""
    try:
        delta: account.LedgerDelta = _ledger_delta.decode(raw)
    except ProtocolViolation:
        bare: account.BareLedgerDelta = _bare_ledger_delta.decode(raw)
        if bare.type in account.TYPED_LEDGER_DELTAS:
            raise
        return account.LedgerDelta(type=bare.type)
    return delta
