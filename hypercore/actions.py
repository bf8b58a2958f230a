"""Builders of `/exchange` actions (`hypercore.action_types`), typed and checked.

Decimals enter as `Decimal` and leave in the one spelling that signs (`precision.wire_decimal`).
Source: venue reference sections 3.3 and 3.4.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Final

from msgspec import UNSET

from hypercore.action_types import (
    AgentSendAssetAction,
    ApproveAgentAction,
    BatchModifyAction,
    BuilderFee,
    CancelAction,
    CancelByCloidAction,
    CancelWire,
    CloidCancelWire,
    Grouping,
    LimitSpec,
    ModifyAction,
    ModifyWire,
    NoopAction,
    OrderAction,
    OrderType,
    OrderWire,
    PriorityGrouping,
    ScheduleCancelAction,
    SendAssetAction,
    Tif,
    Tpsl,
    TriggerSpec,
    TwapCancelAction,
    TwapOrderAction,
    TwapWire,
    UpdateIsolatedMarginAction,
    UpdateLeverageAction,
    UsdClassTransferAction,
)
from hypercore.precision import scaled_integer, wire_decimal
from hypercore.signing import SIGNATURE_CHAIN_ID, Network
from venuemesh.errors import InvalidOrder, InvalidRequest, Reason

MAX_BATCH: Final = 200
"""Entries one action may carry; the 201st is `Signed action over weight limit of 200.`"""

MICRO_USD: Final = 6
"""Decimal places of the USD integers in margin actions."""

MIN_TWAP_MINUTES: Final = 5
MAX_LEVERAGE: Final = 1_000
MAX_AGENT_NAME: Final = 16

_CLOID = re.compile(r"0x[0-9a-f]{32}\Z")
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}\Z")
_MAX_UINT64: Final = 2**64 - 1


# --- ids ---------------------------------------------------------------------------------------------------


def cloid_of(*parts: str) -> str:
    """The venue client id of one of our ids: 0x and 32 hex digits, the same for the same parts for ever.

    The mapping is one-way; give it what makes the id unique, for instance account and client order id.
    """
    hasher = hashlib.blake2b(digest_size=16, person=b"venuemesh-cloid")
    for part in parts:
        encoded = part.encode()
        hasher.update(len(encoded).to_bytes(4, "big") + encoded)
    return "0x" + hasher.hexdigest()


def check_cloid(cloid: str) -> str:
    """`cloid` itself when it is 0x and 32 lower-case hex digits. Raises InvalidOrder."""
    if not _CLOID.match(cloid):
        raise InvalidOrder(
            f"cloid {cloid[:64]!r} must be 0x and 32 lower-case hex digits",
            reason=Reason.INVALID_CLIENT_ORDER_ID,
            field="cloid",
        )
    return cloid


def check_address(address: str, field: str = "address") -> str:
    """The address in lower case, as the venue hashes it. Raises InvalidRequest."""
    if not _ADDRESS.match(address):
        raise InvalidRequest(f"{field} {address[:64]!r} must be 0x and 40 hex digits", field=field)
    return address.lower()


# --- orders ------------------------------------------------------------------------------------------------

_LIMITS: Final = {tif: OrderType(limit=LimitSpec(tif=tif.value)) for tif in Tif}


def limit(tif: Tif) -> OrderType:
    """Limit order type; a market order is IOC at an aggressive price, the venue has no other."""
    return _LIMITS[tif]


def trigger(*, is_market: bool, trigger_price: Decimal, tpsl: Tpsl) -> OrderType:
    """Stop or take-profit type: fires on mark; market fills within 10 %, a limit rests at its price."""
    spec = TriggerSpec(
        is_market=is_market,
        trigger_px=_positive(trigger_price, "trigger_price", Reason.PRICE_NOT_POSITIVE),
        tpsl=tpsl.value,
    )
    return OrderType(trigger=spec)


def build_order(
    *,
    asset_id: int,
    is_buy: bool,
    price: Decimal,
    size: Decimal,
    order_type: OrderType,
    reduce_only: bool = False,
    cloid: str | None = None,
) -> OrderWire:
    """One order of an action; `price` quote per base, `size` base units.

    Raises:
        InvalidOrder: not positive, more than eight decimals, or a bad cloid. Tick and lot are the caller's
            check (`precision.check_price`), which needs the asset.
    """
    return OrderWire(
        _asset(asset_id),
        is_buy,
        _positive(price, "price", Reason.PRICE_NOT_POSITIVE),
        _positive(size, "size", Reason.QUANTITY_NOT_POSITIVE),
        reduce_only,
        order_type,
        UNSET if cloid is None else check_cloid(cloid),
    )


def build_order_action(
    orders: Iterable[OrderWire],
    *,
    grouping: Grouping = Grouping.NA,
    priority: int | None = None,
    builder: BuilderFee | None = None,
) -> OrderAction:
    """Place orders; a batch is not atomic. `priority` (rate / 1e8) replaces the grouping.

    Raises:
        InvalidRequest: no order, or more than `MAX_BATCH`.
    """
    return OrderAction(
        _batch(orders, "orders"),
        grouping.value if priority is None else PriorityGrouping(p=_uint(priority, "priority")),
        UNSET if builder is None else builder,
    )


def build_builder_fee(address: str, tenths_of_bp: int) -> BuilderFee:
    """Builder code of an order action; the account must have approved it."""
    return BuilderFee(b=check_address(address, "builder"), f=_uint(tenths_of_bp, "builder fee"))


def build_cancel(cancels: Iterable[tuple[int, int]], *, fast: bool = False) -> CancelAction:
    """Cancel by (asset id, venue order id)."""
    wires = (CancelWire(a=_asset(asset), o=_uint(oid, "oid")) for asset, oid in cancels)
    return CancelAction(_batch(wires, "cancels"), True if fast else UNSET)


def build_cancel_by_cloid(cancels: Iterable[tuple[int, str]]) -> CancelByCloidAction:
    """Cancel by (asset id, cloid)."""
    wires = (CloidCancelWire(asset=_asset(asset), cloid=check_cloid(cloid)) for asset, cloid in cancels)
    return CancelByCloidAction(_batch(wires, "cancels"))


def build_modify(target: int | str, order: OrderWire) -> ModifyAction:
    """Replace one order, named by oid or cloid. The venue cancels it and places a new one: a new oid."""
    return ModifyAction(oid=_target(target), order=order)


def build_batch_modify(modifies: Iterable[tuple[int | str, OrderWire]]) -> BatchModifyAction:
    """As `build_modify` for several; the answer has one status per element."""
    wires = (ModifyWire(oid=_target(target), order=order) for target, order in modifies)
    return BatchModifyAction(_batch(wires, "modifies"))


def build_schedule_cancel(time_ms: int | None) -> ScheduleCancelAction:
    """Cancel everything at `time_ms` (at least 5 s ahead); None takes the schedule back."""
    return ScheduleCancelAction(time=UNSET if time_ms is None else _uint(time_ms, "time_ms"))


def build_twap_order(
    *,
    asset_id: int,
    is_buy: bool,
    size: Decimal,
    minutes: int,
    reduce_only: bool = False,
    randomize: bool = False,
) -> TwapOrderAction:
    """Start a native TWAP over `minutes` (at least 5)."""
    if minutes < MIN_TWAP_MINUTES:
        raise InvalidOrder(f"minutes must be at least {MIN_TWAP_MINUTES}, got {minutes}", field="minutes")
    text = _positive(size, "size", Reason.QUANTITY_NOT_POSITIVE)
    return TwapOrderAction(twap=TwapWire(_asset(asset_id), is_buy, text, reduce_only, minutes, randomize))


def build_twap_cancel(asset_id: int, twap_id: int) -> TwapCancelAction:
    """Stop a TWAP."""
    return TwapCancelAction(a=_asset(asset_id), t=_uint(twap_id, "twap_id"))


def build_noop() -> NoopAction:
    """Do nothing but use the nonce."""
    return NoopAction()


# --- margin and transfers ----------------------------------------------------------------------------------


def build_update_leverage(asset_id: int, *, is_cross: bool, leverage: int) -> UpdateLeverageAction:
    """Set leverage and margin mode of one asset; setting what is set already answers ok."""
    if not 1 <= leverage <= MAX_LEVERAGE:
        raise InvalidRequest(
            f"leverage must be a whole number from 1, got {leverage}",
            reason=Reason.LEVERAGE_OUT_OF_RANGE,
            field="leverage",
        )
    return UpdateLeverageAction(asset=_asset(asset_id), is_cross=is_cross, leverage=leverage)


def build_update_isolated_margin(asset_id: int, amount: Decimal) -> UpdateIsolatedMarginAction:
    """Add (or, negative, remove) isolated margin, in quote units; micro-USD on the wire."""
    micro = scaled_integer(amount, MICRO_USD, "amount")
    return UpdateIsolatedMarginAction(asset=_asset(asset_id), is_buy=True, ntli=micro)


def build_send_asset(
    *,
    network: Network,
    nonce: int,
    destination: str,
    source_dex: str,
    destination_dex: str,
    token: str,
    amount: Decimal,
    from_sub_account: str = "",
) -> SendAssetAction:
    """Move collateral between dexes ("" main perps, "spot", or a builder dex); signed by the master.

    `token` is `Token.wire_name`. Only a dex's own collateral token may enter or leave it.
    """
    return SendAssetAction(
        destination=check_address(destination, "destination"),
        source_dex=source_dex,
        destination_dex=destination_dex,
        token=token,
        amount=_positive(amount, "amount", Reason.QUANTITY_NOT_POSITIVE),
        from_sub_account=from_sub_account and check_address(from_sub_account, "from_sub_account"),
        nonce=_uint(nonce, "nonce"),
        signature_chain_id=SIGNATURE_CHAIN_ID,
        hyperliquid_chain=network.chain_name,
    )


def build_agent_send_asset(
    *,
    nonce: int,
    destination: str,
    source_dex: str,
    destination_dex: str,
    token: str,
    amount: Decimal,
    from_sub_account: str = "",
) -> AgentSendAssetAction:
    """As `build_send_asset`, signed by an agent; the venue takes it only for the same user."""
    return AgentSendAssetAction(
        destination=check_address(destination, "destination"),
        source_dex=source_dex,
        destination_dex=destination_dex,
        token=token,
        amount=_positive(amount, "amount", Reason.QUANTITY_NOT_POSITIVE),
        from_sub_account=from_sub_account and check_address(from_sub_account, "from_sub_account"),
        nonce=_uint(nonce, "nonce"),
    )


def build_usd_class_transfer(
    *, network: Network, nonce: int, amount: Decimal, to_perp: bool, sub_account: str | None = None
) -> UsdClassTransferAction:
    """Move USDC between spot and perps of one account; refused for unified accounts."""
    text = _positive(amount, "amount", Reason.QUANTITY_NOT_POSITIVE)
    if sub_account is not None:
        text += f" subaccount:{check_address(sub_account, 'sub_account')}"
    return UsdClassTransferAction(
        amount=text,
        to_perp=to_perp,
        nonce=_uint(nonce, "nonce"),
        signature_chain_id=SIGNATURE_CHAIN_ID,
        hyperliquid_chain=network.chain_name,
    )


def build_approve_agent(
    *, network: Network, nonce: int, agent_address: str, agent_name: str | None = None
) -> ApproveAgentAction:
    """Let an agent sign for this account; address zero revokes the named one. `None` is the unnamed agent."""
    bare = (agent_name or "").partition(" valid_until ")[0]
    if len(bare) > MAX_AGENT_NAME:
        raise InvalidRequest(f"agent_name may have {MAX_AGENT_NAME} characters", field="agent_name")
    return ApproveAgentAction(
        agent_address=check_address(agent_address, "agent_address"),
        nonce=_uint(nonce, "nonce"),
        signature_chain_id=SIGNATURE_CHAIN_ID,
        hyperliquid_chain=network.chain_name,
        agent_name=agent_name or UNSET,
    )


# --- helpers -----------------------------------------------------------------------------------------------


def _positive(value: Decimal, field: str, reason: Reason) -> str:
    text = wire_decimal(value, field)
    if value <= 0:
        raise InvalidOrder(f"{field} must be above zero, got {text}", reason=reason, field=field)
    return text


def _uint(value: int, field: str) -> int:
    if not 0 <= value <= _MAX_UINT64:
        raise InvalidRequest(f"{field} {value} is not an unsigned 64-bit number", field=field)
    return value


def _asset(asset_id: int) -> int:
    return _uint(asset_id, "asset_id")


def _target(target: int | str) -> int | str:
    return check_cloid(target) if isinstance(target, str) else _uint(target, "oid")


def _batch(elements: Iterable[Any], field: str) -> tuple[Any, ...]:
    batch: Sequence[Any] = tuple(elements)
    if not 1 <= len(batch) <= MAX_BATCH:
        raise InvalidRequest(f"{field} must hold 1 to {MAX_BATCH} entries, got {len(batch)}", field=field)
    return tuple(batch)
