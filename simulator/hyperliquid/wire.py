# ruff: noqa: N815 - the attributes are the wire names
"""Typed forms of what `/exchange` accepts. Pure.

A body is first read as plain JSON, because the L1 hash needs the action in its received key order, and then
converted into these; what does not convert is a 422 on the real venue.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

Tif = Literal["Gtc", "Ioc", "Alo", "FrontendMarket"]
Cloid = Annotated[str, msgspec.Meta(pattern="^0x[0-9a-fA-F]{32}$")]
Address = Annotated[str, msgspec.Meta(pattern="^0x[0-9a-fA-F]{40}$")]
Hex = Annotated[str, msgspec.Meta(pattern="^0x[0-9a-fA-F]{1,64}$")]


class _Wire(msgspec.Struct, frozen=True, kw_only=True):
    pass


class Signature(_Wire, frozen=True):
    """r and s as hex, leading zeros optional; v 27 or 28."""

    r: Hex
    s: Hex
    v: int


class LimitWire(_Wire, frozen=True):
    """Limit terms."""

    tif: Tif


class TriggerWire(_Wire, frozen=True):
    """Trigger terms."""

    isMarket: bool
    triggerPx: str
    tpsl: Literal["tp", "sl"]


class OrderTypeWire(_Wire, frozen=True):
    """Exactly one of the two."""

    limit: LimitWire | None = None
    trigger: TriggerWire | None = None

    def __post_init__(self) -> None:
        """Refuse neither or both."""
        if (self.limit is None) == (self.trigger is None):
            raise ValueError("order type must be limit or trigger")


class OrderWire(_Wire, frozen=True):
    """One order: asset, buy, price, size, reduce-only, type, client id."""

    a: int
    b: bool
    p: str
    s: str
    r: bool
    t: OrderTypeWire
    c: Cloid | None = None


class BuilderWire(_Wire, frozen=True):
    """Builder address and fee in tenths of a basis point."""

    b: Address
    f: int


class Priority(_Wire, frozen=True):
    """Priority grouping."""

    p: int


class Order(_Wire, frozen=True, tag="order"):
    """Place orders."""

    orders: list[OrderWire]
    grouping: Literal["na", "normalTpsl", "positionTpsl"] | Priority
    builder: BuilderWire | None = None


class CancelWire(_Wire, frozen=True):
    """Asset and order id."""

    a: int
    o: int


class Cancel(_Wire, frozen=True, tag="cancel"):
    """Cancel by order id."""

    cancels: list[CancelWire]
    f: bool | None = None


class CancelCloidWire(_Wire, frozen=True):
    """Asset and client id."""

    asset: int
    cloid: Cloid


class CancelByCloid(_Wire, frozen=True, tag="cancelByCloid"):
    """Cancel by client id."""

    cancels: list[CancelCloidWire]


class Modify(_Wire, frozen=True, tag="modify"):
    """Replace one order."""

    oid: int | Cloid
    order: OrderWire


class ModifyWire(_Wire, frozen=True):
    """One replacement."""

    oid: int | Cloid
    order: OrderWire


class BatchModify(_Wire, frozen=True, tag="batchModify"):
    """Replace orders; `a` places even if the cancel failed."""

    modifies: list[ModifyWire]
    a: bool | None = None


class ScheduleCancel(_Wire, frozen=True, tag="scheduleCancel"):
    """Cancel everything at `time`, or unset."""

    time: int | None = None


class UpdateLeverage(_Wire, frozen=True, tag="updateLeverage"):
    """Leverage and margin mode of an asset."""

    asset: int
    isCross: bool
    leverage: int


class UpdateIsolatedMargin(_Wire, frozen=True, tag="updateIsolatedMargin"):
    """Margin in or out of an isolated position, micro-USD."""

    asset: int
    isBuy: bool
    ntli: int


class TopUpIsolatedOnlyMargin(_Wire, frozen=True, tag="topUpIsolatedOnlyMargin"):
    """Margin into an isolated position until its leverage is `leverage`, such as "0.5"."""

    asset: int
    leverage: str


class TwapWire(_Wire, frozen=True):
    """TWAP terms."""

    a: int
    b: bool
    s: str
    r: bool
    m: int
    t: bool


class TwapOrder(_Wire, frozen=True, tag="twapOrder"):
    """Start a TWAP."""

    twap: TwapWire


class TwapCancel(_Wire, frozen=True, tag="twapCancel"):
    """Stop a TWAP."""

    a: int
    t: int


class Noop(_Wire, frozen=True, tag="noop"):
    """Burn a nonce."""


class ReserveRequestWeight(_Wire, frozen=True, tag="reserveRequestWeight"):
    """Buy request budget."""

    weight: int


class SetReferrer(_Wire, frozen=True, tag="setReferrer"):
    """Set a referral code."""

    code: str


class CreateSubAccount(_Wire, frozen=True, tag="createSubAccount"):
    """Open a sub-account."""

    name: str


class SubAccountTransfer(_Wire, frozen=True, tag="subAccountTransfer"):
    """Move perp USDC to or from a sub-account, micro-USD."""

    subAccountUser: Address
    isDeposit: bool
    usd: int


class SubAccountSpotTransfer(_Wire, frozen=True, tag="subAccountSpotTransfer"):
    """Move a spot token to or from a sub-account."""

    subAccountUser: Address
    isDeposit: bool
    token: str
    amount: str


class AgentSetAbstraction(_Wire, frozen=True, tag="agentSetAbstraction"):
    """Account mode, set by an agent: disabled, unified or portfolio."""

    abstraction: Literal["i", "u", "p"]


class AgentEnableDexAbstraction(_Wire, frozen=True, tag="agentEnableDexAbstraction"):
    """Legacy account mode switch."""


class AgentSendAsset(_Wire, frozen=True, tag="agentSendAsset"):
    """Move collateral between the same user's wallets."""

    destination: Address
    sourceDex: str
    destinationDex: str
    token: str
    amount: str
    fromSubAccount: str
    nonce: int


class EvmUserModify(_Wire, frozen=True, tag="evmUserModify"):
    """EVM block preference."""

    usingBigBlocks: bool


class _UserSigned(_Wire, frozen=True):
    signatureChainId: str
    hyperliquidChain: str


class UsdSend(_UserSigned, frozen=True, tag="usdSend"):
    """Send perp USDC to another account."""

    destination: Address
    amount: str
    time: int


class SpotSend(_UserSigned, frozen=True, tag="spotSend"):
    """Send a spot token to another account."""

    destination: Address
    token: str
    amount: str
    time: int


class Withdraw(_UserSigned, frozen=True, tag="withdraw3"):
    """Take USDC out of the venue."""

    destination: Address
    amount: str
    time: int


class UsdClassTransfer(_UserSigned, frozen=True, tag="usdClassTransfer"):
    """Move USDC between perp and spot."""

    amount: str
    toPerp: bool
    nonce: int


class SendAsset(_UserSigned, frozen=True, tag="sendAsset"):
    """Move a token between dexes, spot and accounts."""

    destination: Address
    sourceDex: str
    destinationDex: str
    token: str
    amount: str
    fromSubAccount: str
    nonce: int


class ApproveAgent(_UserSigned, frozen=True, tag="approveAgent"):
    """Let another key sign."""

    agentAddress: Address
    nonce: int
    agentName: str | None = None


class ApproveBuilderFee(_UserSigned, frozen=True, tag="approveBuilderFee"):
    """Let a builder charge up to `maxFeeRate`, such as "0.01%"."""

    maxFeeRate: str
    builder: Address
    nonce: int


class UserSetAbstraction(_UserSigned, frozen=True, tag="userSetAbstraction"):
    """Account mode."""

    user: Address
    abstraction: Literal["disabled", "unifiedAccount", "portfolioMargin"]
    nonce: int


class UserDexAbstraction(_UserSigned, frozen=True, tag="userDexAbstraction"):
    """Legacy account mode."""

    user: Address
    enabled: bool
    nonce: int


Action = (
    Order
    | Cancel
    | CancelByCloid
    | Modify
    | BatchModify
    | ScheduleCancel
    | UpdateLeverage
    | UpdateIsolatedMargin
    | TopUpIsolatedOnlyMargin
    | TwapOrder
    | TwapCancel
    | Noop
    | ReserveRequestWeight
    | SetReferrer
    | CreateSubAccount
    | SubAccountTransfer
    | SubAccountSpotTransfer
    | AgentSetAbstraction
    | AgentEnableDexAbstraction
    | AgentSendAsset
    | EvmUserModify
    | UsdSend
    | SpotSend
    | Withdraw
    | UsdClassTransfer
    | SendAsset
    | ApproveAgent
    | ApproveBuilderFee
    | UserSetAbstraction
    | UserDexAbstraction
)


class Envelope(_Wire, frozen=True):
    """The whole body; the action stays as received."""

    action: dict[str, object]
    nonce: int
    signature: Signature
    vaultAddress: str | None = None
    expiresAfter: int | None = None


def parse_envelope(payload: object) -> tuple[Envelope, Action]:
    """Typed envelope and action of a decoded body.

    Raises:
        msgspec.ValidationError: it is not a known request.
    """
    envelope = msgspec.convert(payload, Envelope)
    return envelope, msgspec.convert(envelope.action, Action)
