"""Wire shapes of `/exchange` actions: field order is the key order the venue hashes.

The L1 hash covers the msgpack of the action in key order, so an action is a Struct and never a dict put
together by hand; an unset optional key is absent, never null. Build them with `hypercore.actions`.
Source: venue reference sections 3.3 and 3.4.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType


class Tif(StrEnum):
    """Time in force: add-liquidity-only, immediate-or-cancel, good-til-cancel."""

    ALO = "Alo"
    IOC = "Ioc"
    GTC = "Gtc"


class Tpsl(StrEnum):
    """Take profit or stop loss; with the side it decides whether a trigger fires above or below."""

    TP = "tp"
    SL = "sl"


class Grouping(StrEnum):
    """How the orders of one action belong together."""

    NA = "na"
    NORMAL_TPSL = "normalTpsl"
    POSITION_TPSL = "positionTpsl"


# --- wire objects: field order is wire order ---------------------------------------------------------------


class _Part(msgspec.Struct, frozen=True):
    """Object inside an action."""


class LimitSpec(_Part, frozen=True):
    tif: Literal["Alo", "Ioc", "Gtc", "FrontendMarket"]


class TriggerSpec(_Part, frozen=True, rename="camel"):
    is_market: bool
    trigger_px: str
    tpsl: Literal["tp", "sl"]


class OrderType(_Part, frozen=True):
    """Exactly one key is set; build with `limit` or `trigger`."""

    limit: LimitSpec | UnsetType = UNSET
    trigger: TriggerSpec | UnsetType = UNSET


class OrderWire(_Part, frozen=True):
    """a asset, b is buy, p price, s size, r reduce only, t type, c cloid."""

    a: int
    b: bool
    p: str
    s: str
    r: bool
    t: OrderType
    c: str | UnsetType = UNSET


class BuilderFee(_Part, frozen=True):
    """b address (lower case), f tenths of a basis point."""

    b: str
    f: int


class PriorityGrouping(_Part, frozen=True):
    """Priority rate p / 1e8, for all-IOC or all non-reduce-only ALO batches."""

    p: int


class CancelWire(_Part, frozen=True):
    a: int
    o: int


class CloidCancelWire(_Part, frozen=True):
    asset: int
    cloid: str


class ModifyWire(_Part, frozen=True):
    oid: int | str
    order: OrderWire


class TwapWire(_Part, frozen=True):
    """m minutes, t randomise."""

    a: int
    b: bool
    s: str
    r: bool
    m: int
    t: bool


class Action(msgspec.Struct, frozen=True, tag_field="type"):
    """Base of every action; `type` is written first."""

    def length(self) -> int:
        """Entries that count towards weight and address budget."""
        return 1


class OrderAction(Action, frozen=True, tag="order"):
    orders: tuple[OrderWire, ...]
    grouping: str | PriorityGrouping
    builder: BuilderFee | UnsetType = UNSET

    def length(self) -> int:
        return len(self.orders)


class CancelAction(Action, frozen=True, tag="cancel"):
    cancels: tuple[CancelWire, ...]
    f: bool | UnsetType = UNSET

    def length(self) -> int:
        return len(self.cancels)


class CancelByCloidAction(Action, frozen=True, tag="cancelByCloid"):
    cancels: tuple[CloidCancelWire, ...]

    def length(self) -> int:
        return len(self.cancels)


class ModifyAction(Action, frozen=True, tag="modify"):
    oid: int | str
    order: OrderWire


class BatchModifyAction(Action, frozen=True, tag="batchModify"):
    modifies: tuple[ModifyWire, ...]

    def length(self) -> int:
        return len(self.modifies)


class ScheduleCancelAction(Action, frozen=True, tag="scheduleCancel"):
    time: int | UnsetType = UNSET


class UpdateLeverageAction(Action, frozen=True, tag="updateLeverage", rename="camel"):
    asset: int
    is_cross: bool
    leverage: int


class UpdateIsolatedMarginAction(Action, frozen=True, tag="updateIsolatedMargin", rename="camel"):
    asset: int
    is_buy: bool
    ntli: int


class TwapOrderAction(Action, frozen=True, tag="twapOrder"):
    twap: TwapWire


class TwapCancelAction(Action, frozen=True, tag="twapCancel"):
    a: int
    t: int


class NoopAction(Action, frozen=True, tag="noop"):
    """Burns a nonce, so that an older request with it can no longer pass."""


class AgentSendAssetAction(Action, frozen=True, tag="agentSendAsset", rename="camel"):
    """Collateral move signed by an agent; only to the same user. An L1 action."""

    destination: str
    source_dex: str
    destination_dex: str
    token: str
    amount: str
    from_sub_account: str
    nonce: int


class SendAssetAction(Action, frozen=True, tag="sendAsset", rename="camel"):
    destination: str
    source_dex: str
    destination_dex: str
    token: str
    amount: str
    from_sub_account: str
    nonce: int
    signature_chain_id: str
    hyperliquid_chain: str


class UsdClassTransferAction(Action, frozen=True, tag="usdClassTransfer", rename="camel"):
    amount: str
    to_perp: bool
    nonce: int
    signature_chain_id: str
    hyperliquid_chain: str


class ApproveAgentAction(Action, frozen=True, tag="approveAgent", rename="camel"):
    """An unnamed agent has no `agentName` key on the wire, but "" is what is signed."""

    agent_address: str
    nonce: int
    signature_chain_id: str
    hyperliquid_chain: str
    agent_name: str | UnsetType = UNSET


AnyAction: TypeAlias = (
    OrderAction
    | CancelAction
    | CancelByCloidAction
    | ModifyAction
    | BatchModifyAction
    | ScheduleCancelAction
    | UpdateLeverageAction
    | UpdateIsolatedMarginAction
    | TwapOrderAction
    | TwapCancelAction
    | NoopAction
    | AgentSendAssetAction
    | SendAssetAction
    | UsdClassTransferAction
    | ApproveAgentAction
)

CANCEL_ACTIONS: Final[tuple[type[Action], ...]] = (CancelAction, CancelByCloidAction, TwapCancelAction)
"""Actions that only take risk away and so keep capacity in every limiter."""
