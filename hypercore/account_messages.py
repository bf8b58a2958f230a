"""Typed shapes of what the venue says about one account.

`user` in a request is always the account (master, sub-account or vault), never an agent: an agent's address
gets empty structures, not an error. Source: venue reference section 2.2.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

import msgspec

from hypercore.messages import Addressed, PairWire, Wire

# --- margin state ------------------------------------------------------------------------------------------


class MarginSummary(Wire, frozen=True, kw_only=True):
    """Quote units; `total_raw_usd` is the cash leg net of cost and may be negative."""

    account_value: Decimal
    total_ntl_pos: Decimal
    total_raw_usd: Decimal
    total_margin_used: Decimal


class Leverage(Wire, frozen=True, kw_only=True):
    """`type` is cross or isolated; `raw_usd` only when isolated."""

    type: str
    value: int
    raw_usd: Decimal | None = None


class CumFunding(Wire, frozen=True, kw_only=True):
    """Funding so far in quote units; positive means paid."""

    all_time: Decimal
    since_open: Decimal
    since_change: Decimal


class Position(Wire, frozen=True, kw_only=True):
    """An open position; `szi` is signed."""

    coin: str
    szi: Decimal
    leverage: Leverage
    entry_px: Decimal | None
    position_value: Decimal
    unrealized_pnl: Decimal
    return_on_equity: Decimal
    liquidation_px: Decimal | None
    margin_used: Decimal
    max_leverage: int | None = None
    cum_funding: CumFunding | None = None


class AssetPosition(Wire, frozen=True, kw_only=True):
    """`type` is always oneWay today."""

    type: str
    position: Position


class ClearinghouseState(Wire, frozen=True, kw_only=True):
    """Margin account of one user on one dex; `time` ms, absent in recordings of 2023."""

    margin_summary: MarginSummary
    cross_margin_summary: MarginSummary
    withdrawable: Decimal
    asset_positions: tuple[AssetPosition, ...]
    cross_maintenance_margin_used: Decimal | None = None
    time: int | None = None


class SpotBalance(Wire, frozen=True, kw_only=True):
    """Balance of one token; `hold` is locked in orders. Outcome tokens carry no `token`."""

    coin: str
    total: Decimal
    hold: Decimal
    token: int | None = None
    entry_ntl: Decimal | None = None
    spot_hold: Decimal | None = None
    ltv: Decimal | None = None
    borrowed: Decimal | None = None
    supplied: Decimal | None = None


class TokenAmount(PairWire, frozen=True):
    """`[token index, "amount"]`."""

    token: int
    amount: Decimal


class EvmEscrow(Wire, frozen=True, kw_only=True):
    """Amount waiting between HyperCore and the EVM side."""

    coin: str
    token: int
    total: Decimal


class SpotState(Wire, frozen=True, kw_only=True):
    """Spot balances; on unified accounts these are the balances of everything."""

    balances: tuple[SpotBalance, ...]
    evm_escrows: tuple[EvmEscrow, ...] = ()
    portfolio_margin_enabled: bool | None = None
    portfolio_margin_ratio: Decimal | None = None
    token_to_available_after_maintenance: tuple[TokenAmount, ...] = ()


class ActiveAssetData(Wire, frozen=True, kw_only=True):
    """Leverage setting and room of one account on one coin; pairs are buy, sell."""

    user: Addressed
    coin: str
    leverage: Leverage
    max_trade_szs: tuple[Decimal, Decimal]
    available_to_trade: tuple[Decimal, Decimal]
    mark_px: Decimal | None = None


# --- orders ------------------------------------------------------------------------------------------------


class OpenOrder(Wire, frozen=True, kw_only=True):
    """Row of `openOrders` and the `order` of an orderUpdates row; `sz` is what remains, times ms."""

    coin: str
    side: str
    limit_px: Decimal
    sz: Decimal
    oid: int
    timestamp: int | None = None
    orig_sz: Decimal | None = None
    cloid: str | None = None
    reduce_only: bool | None = None


class FrontendOrder(Wire, frozen=True, kw_only=True):
    """The full order row: frontendOpenOrders, orderStatus, historicalOrders."""

    coin: str
    side: str
    limit_px: Decimal
    sz: Decimal
    oid: int
    timestamp: int
    orig_sz: Decimal
    trigger_condition: str
    is_trigger: bool
    trigger_px: Decimal
    children: tuple[FrontendOrder, ...]
    is_position_tpsl: bool
    reduce_only: bool
    order_type: str
    tif: str | None = None
    cloid: str | None = None


class OrderWithStatus(Wire, frozen=True, kw_only=True):
    """Row of historicalOrders and the found answer of orderStatus."""

    order: FrontendOrder
    status: str
    status_timestamp: int


class OrderUpdate(Wire, frozen=True, kw_only=True):
    """Row of an orderUpdates frame; the frame names no user."""

    order: OpenOrder
    status: str
    status_timestamp: int


class OrderStatusAnswer(Wire, frozen=True, kw_only=True):
    """`order` is None when the venue knows no such id (`unknownOid`)."""

    status: str
    order: OrderWithStatus | None = None


# --- fills and ledger --------------------------------------------------------------------------------------


class FillLiquidation(Wire, frozen=True, kw_only=True):
    """Present on fills that are part of a liquidation, also on the counterparty's."""

    mark_px: Decimal
    method: str
    liquidated_user: Addressed | None = None


class Fill(Wire, frozen=True, kw_only=True):
    """One fill; `fee` includes `builder_fee` and is negative for a rebate, `closed_pnl` is before fees.

    `tid` and `fee_token` are missing in recordings of 2023; `tid` is 0 on dust conversions.
    """

    coin: str
    px: Decimal
    sz: Decimal
    side: str
    time: int
    start_position: Decimal
    dir: str
    closed_pnl: Decimal
    hash: str
    oid: int
    crossed: bool
    fee: Decimal
    tid: int | None = None
    fee_token: str | None = None
    cloid: str | None = None
    liquidation: FillLiquidation | None = None
    builder_fee: Decimal | None = None
    fee_trial_escrow: Decimal | None = None
    twap_id: int | None = None


class TwapSliceFill(Wire, frozen=True, kw_only=True):
    """A fill of one TWAP slice."""

    fill: Fill
    twap_id: int


class TwapState(Wire, frozen=True, kw_only=True):
    """Progress of a TWAP; `timestamp` ms, `minutes` its length."""

    coin: str
    user: Addressed
    side: str
    sz: Decimal
    executed_sz: Decimal
    executed_ntl: Decimal
    minutes: int
    reduce_only: bool
    randomize: bool
    timestamp: int
    trigger: Any = None
    stop_px: Decimal | None = None


class TwapStatus(Wire, frozen=True, kw_only=True):
    """`status` is activated, finished, terminated, waitingForTrigger, stopped or error."""

    status: str
    description: str | None = None


class TwapHistoryRow(Wire, frozen=True, kw_only=True):
    """`time` is in **seconds** here, unlike everywhere else."""

    time: int
    state: TwapState
    status: TwapStatus
    twap_id: int | None = None


class NumberedTwapState(PairWire, frozen=True):
    """`[twapId, state]` of the twapStates stream."""

    twap_id: int
    state: TwapState


class FundingPayment(Wire, frozen=True, kw_only=True):
    """A funding payment: negative `usdc` was paid; `time` only in stream rows."""

    coin: str
    usdc: Decimal
    szi: Decimal
    funding_rate: Decimal
    n_samples: int | None = None
    time: int | None = None


class UserFundingRow(Wire, frozen=True, kw_only=True):
    """Row of the userFunding answer."""

    time: int
    hash: str
    delta: FundingPayment


class LedgerDelta(Wire, frozen=True, kw_only=True):
    """What moved. `type` decides which fields are set; the raw object is kept beside it in `LedgerUpdate`."""

    type: str
    usdc: Decimal | None = None
    amount: Decimal | None = None
    token: str | None = None
    coin: str | None = None
    usdc_value: Decimal | None = None
    fee: Decimal | None = None
    fee_token: str | None = None
    native_token_fee: Decimal | None = None
    nonce: int | None = None
    user: Addressed | None = None
    destination: Addressed | None = None
    source_dex: str | None = None
    destination_dex: str | None = None
    dex: str | None = None
    to_perp: bool | None = None
    vault: Addressed | None = None


class BareLedgerDelta(msgspec.Struct, frozen=True, kw_only=True):
    """Only the kind of a ledger change."""

    type: str


TYPED_LEDGER_DELTAS = frozenset(
    {
        "deposit",
        "withdraw",
        "internalTransfer",
        "accountClassTransfer",
        "spotTransfer",
        "send",
        "subAccountTransfer",
        "activateDexAbstraction",
    }
)
"""Kinds whose fields are known; one of these with an ill-typed field is a protocol violation."""


class LedgerUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """Deposit, withdrawal, transfer or another non-funding change; `raw` is the venue's own delta object."""

    time: int
    hash: str
    delta: LedgerDelta
    raw: bytes


class Liquidation(msgspec.Struct, frozen=True, kw_only=True):
    """Account liquidation event; the venue writes these keys in snake case."""

    lid: int
    liquidator: Addressed
    liquidated_user: Addressed
    liquidated_ntl_pos: Decimal
    liquidated_account_value: Decimal


class NonUserCancel(Wire, frozen=True, kw_only=True):
    """The venue cancelled an order by itself."""

    coin: str
    oid: int


# --- account facts -----------------------------------------------------------------------------------------


class RateBudget(Wire, frozen=True, kw_only=True):
    """Address budget: actions used and allowed over the account's life."""

    cum_vlm: Decimal
    n_requests_used: int
    n_requests_cap: int
    n_requests_surplus: int | None = None


class RoleData(Wire, frozen=True, kw_only=True):
    """Whose agent (`user`) or sub-account (`master`) an address is."""

    user: Addressed | None = None
    master: Addressed | None = None


class UserRole(Wire, frozen=True, kw_only=True):
    """`role` is user, vault, missing, agent or subAccount."""

    role: str
    data: RoleData | None = None


class ExtraAgent(Wire, frozen=True, kw_only=True):
    """A named API wallet; unnamed ones are not listed. `valid_until` ms."""

    name: str
    address: Addressed
    valid_until: int | None = None


class VipTier(Wire, frozen=True, kw_only=True):
    """Fee tier by 14-day volume."""

    ntl_cutoff: Decimal
    cross: Decimal
    add: Decimal
    spot_cross: Decimal | None = None
    spot_add: Decimal | None = None


class MarketMakerTier(Wire, frozen=True, kw_only=True):
    """Maker rate by share of maker volume."""

    maker_fraction_cutoff: Decimal
    add: Decimal


class FeeTiers(Wire, frozen=True, kw_only=True):
    """Both ladders."""

    vip: tuple[VipTier, ...]
    mm: tuple[MarketMakerTier, ...]


class StakingDiscount(Wire, frozen=True, kw_only=True):
    """Discount by staked share of supply."""

    bps_of_max_supply: Decimal
    discount: Decimal


class FeeSchedule(Wire, frozen=True, kw_only=True):
    """Base rates: `cross` is taker, `add` is maker; fractions, not percent."""

    cross: Decimal
    add: Decimal
    tiers: FeeTiers
    referral_discount: Decimal
    spot_cross: Decimal | None = None
    spot_add: Decimal | None = None
    staking_discount_tiers: tuple[StakingDiscount, ...] = ()


class DailyVolume(Wire, frozen=True, kw_only=True):
    """One day of volume, quote units."""

    date: str
    user_cross: Decimal
    user_add: Decimal
    exchange: Decimal


class UserFees(Wire, frozen=True, kw_only=True):
    """What one account pays."""

    daily_user_vlm: tuple[DailyVolume, ...]
    fee_schedule: FeeSchedule
    user_cross_rate: Decimal
    user_add_rate: Decimal
    active_referral_discount: Decimal
    user_spot_cross_rate: Decimal | None = None
    user_spot_add_rate: Decimal | None = None
    active_staking_discount: StakingDiscount | None = None
    fee_trial_escrow: Decimal | None = None


class TimedAmount(PairWire, frozen=True):
    """`[ms, "value"]`."""

    time: int
    value: Decimal


class PortfolioHistory(Wire, frozen=True, kw_only=True):
    """Value and PnL over one period."""

    account_value_history: tuple[TimedAmount, ...]
    pnl_history: tuple[TimedAmount, ...]
    vlm: Decimal


class PortfolioPeriod(PairWire, frozen=True):
    """`["day", {...}]`."""

    period: str
    history: PortfolioHistory


class SubAccount(Wire, frozen=True, kw_only=True):
    """A sub-account with its states; `dex_to_clearinghouse_state` only in subAccounts2."""

    name: str
    sub_account_user: Addressed
    master: Addressed
    clearinghouse_state: ClearinghouseState | None = None
    spot_state: SpotState | None = None
    dex_to_clearinghouse_state: tuple[tuple[str, ClearinghouseState], ...] = ()


class MultiSigSigners(Wire, frozen=True, kw_only=True):
    """Who may sign for a multi-sig account."""

    authorized_users: tuple[Addressed, ...]
    threshold: Annotated[int, msgspec.Meta(ge=1)]
