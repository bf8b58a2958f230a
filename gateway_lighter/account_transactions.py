"""The transactions that move money, keys and settings rather than orders. Pure.

The gateway trades only; these are here so that every hash the venue knows can be checked, and for an operator's tools.
Source: venue reference sections 7.1, 7.5 and 8.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

import msgspec

from gateway_lighter.goldilocks import limbs_of
from gateway_lighter.transactions import (
    MAX_ACCOUNT,
    MAX_AMOUNT,
    CancelAllOrders,
    CancelOrder,
    CreateGroupedOrders,
    CreateOrder,
    ModifyOrder,
    Transaction,
    UpdateLeverage,
    UpdateMargin,
    require_within,
    split_amount,
)
from venuemesh.errors import Reason

PUBLIC_KEY_BYTES: Final = 40
MEMO_BYTES: Final = 32
MAX_ASSET: Final = 62


class Withdraw(Transaction, frozen=True, kw_only=True, rename="pascal"):
    """Withdraw to the owner's address; `amount` in the asset's smallest unit."""

    tx_type: ClassVar[int] = 13
    account_key: ClassVar[str] = "FromAccountIndex"
    asset_index: int
    route_type: int
    amount: int

    def elements(self) -> tuple[int, ...]:
        """The amount takes two elements."""
        return (self.asset_index, self.route_type, *split_amount(self.amount))

    def check(self) -> None:
        """Ranges."""
        require_within("asset_index", self.asset_index, 1, MAX_ASSET)
        require_within("amount", self.amount, 1, MAX_AMOUNT)
        require_within("route_type", self.route_type, 0, 1)


class Transfer(Transaction, frozen=True, kw_only=True, rename="pascal"):
    """Move an asset to another account; the memo is covered by the L1 text only."""

    tx_type: ClassVar[int] = 12
    account_key: ClassVar[str] = "FromAccountIndex"
    l1_signed: ClassVar[bool] = True
    to_account_index: int
    asset_index: int
    from_route_type: int = 0
    to_route_type: int = 0
    amount: int
    usdc_fee: int = msgspec.field(name="USDCFee", default=0)
    memo: tuple[int, ...] = (0,) * MEMO_BYTES

    def elements(self) -> tuple[int, ...]:
        """Amount and fee take two elements each, the memo none."""
        head = (self.to_account_index, self.asset_index, self.from_route_type, self.to_route_type)
        return (*head, *split_amount(self.amount), *split_amount(self.usdc_fee))

    def check(self) -> None:
        """Ranges."""
        require_within("to_account_index", self.to_account_index, 0, MAX_ACCOUNT, Reason.ACCOUNT_NOT_FOUND)
        require_within("asset_index", self.asset_index, 1, MAX_ASSET)
        require_within("amount", self.amount, 1, MAX_AMOUNT)
        require_within("usdc_fee", self.usdc_fee, 0, MAX_AMOUNT)
        require_within("memo", len(self.memo), MEMO_BYTES, MEMO_BYTES)
        for octet in self.memo:
            require_within("memo", octet, 0, 255)


class ChangePubKey(Transaction, frozen=True, kw_only=True, rename="pascal"):
    """Register an API key; signed with the new key itself and by the owner on L1."""

    tx_type: ClassVar[int] = 8
    l1_signed: ClassVar[bool] = True
    pub_key: bytes

    def elements(self) -> tuple[int, ...]:
        """The five words of the key."""
        return limbs_of(self.pub_key)

    def check(self) -> None:
        """The key's length."""
        require_within("pub_key", len(self.pub_key), PUBLIC_KEY_BYTES, PUBLIC_KEY_BYTES)


class CreateSubAccount(Transaction, frozen=True, kw_only=True, rename="pascal"):
    """A new sub-account; master accounts only."""

    tx_type: ClassVar[int] = 9


class CreatePublicPool(Transaction, frozen=True, kw_only=True, rename="pascal"):
    """A new pool; master accounts only."""

    tx_type: ClassVar[int] = 10
    operator_fee: int
    initial_total_shares: int
    min_operator_share_rate: int


class UpdatePublicPool(Transaction, frozen=True, kw_only=True, rename="pascal"):
    """Terms of an own pool."""

    tx_type: ClassVar[int] = 11
    public_pool_index: int
    status: int
    operator_fee: int
    min_operator_share_rate: int


class MintShares(Transaction, frozen=True, kw_only=True, rename="pascal"):
    """Buy shares of a pool."""

    tx_type: ClassVar[int] = 18
    public_pool_index: int
    share_amount: int


class BurnShares(Transaction, frozen=True, kw_only=True, rename="pascal"):
    """Give shares of a pool back."""

    tx_type: ClassVar[int] = 19
    public_pool_index: int
    share_amount: int


class StakeAssets(Transaction, frozen=True, kw_only=True, rename="pascal"):
    """Stake into a pool."""

    tx_type: ClassVar[int] = 35
    staking_pool_index: int
    share_amount: int


class UnstakeAssets(Transaction, frozen=True, kw_only=True, rename="pascal"):
    """Take a stake back."""

    tx_type: ClassVar[int] = 36
    staking_pool_index: int
    share_amount: int


class UpdateAccountConfig(Transaction, frozen=True, kw_only=True, rename="pascal"):
    """Trading mode of the account: 0 classic, 1 unified."""

    tx_type: ClassVar[int] = 41
    account_trading_mode: int


class UpdateAccountAssetConfig(Transaction, frozen=True, kw_only=True, rename="pascal"):
    """Whether an asset counts as collateral."""

    tx_type: ClassVar[int] = 42
    asset_index: int
    asset_margin_mode: int

    def check(self) -> None:
        """Ranges."""
        require_within("asset_index", self.asset_index, 1, MAX_ASSET)
        require_within("asset_margin_mode", self.asset_margin_mode, 0, 1)


class ApproveIntegrator(Transaction, frozen=True, kw_only=True, rename="pascal"):
    """Let an integrator take fees up to these caps (ticks of 1e-6) until `approval_expiry` (ms). Never sent unasked."""

    tx_type: ClassVar[int] = 45
    l1_signed: ClassVar[bool] = True
    integrator_account_index: int
    max_perps_taker_fee: int
    max_perps_maker_fee: int
    max_spot_taker_fee: int
    max_spot_maker_fee: int
    approval_expiry: int


KINDS: Final[Mapping[int, type[Transaction]]] = {
    kind.tx_type: kind
    for kind in (
        ChangePubKey,
        CreateSubAccount,
        CreatePublicPool,
        UpdatePublicPool,
        Transfer,
        Withdraw,
        CreateOrder,
        CancelOrder,
        CancelAllOrders,
        ModifyOrder,
        MintShares,
        BurnShares,
        UpdateLeverage,
        CreateGroupedOrders,
        UpdateMargin,
        StakeAssets,
        UnstakeAssets,
        UpdateAccountConfig,
        UpdateAccountAssetConfig,
        ApproveIntegrator,
    )
}
"""Every transaction a user may sign, by its code."""
