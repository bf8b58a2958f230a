"""Account actions: transfers, agents, builders, sub-accounts, modes. Pure."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

from eth_hash.auto import keccak

from simulator.engine import risk
from simulator.engine.engine import SPOT_WALLET
from simulator.engine.values import ZERO
from simulator.hyperliquid import wire
from simulator.hyperliquid.decimals import parse
from simulator.hyperliquid.replies import BadRequest, Refused, default
from simulator.hyperliquid.venue import Venue

ADDRESS = re.compile(r"0x[0-9a-f]{40}")
MICRO_USD = Decimal(1_000_000)
WITHDRAWAL_FEE = Decimal(1)
NEW_ACCOUNT_FEE = Decimal(1)
UNIFIED_ACTIVE = "Action disabled when unified account is active"
PRICE_OF_REQUEST = Decimal("0.0005")
ABSTRACTIONS = {"i": "disabled", "u": "unifiedAccount", "p": "portfolioMargin"}
KNOWN_REFERRERS = frozenset({"CCXT1"})


def address(value: str) -> str:
    """Lower-case address.

    Raises:
        BadRequest: it is none.
    """
    lowered = value.lower()
    if not ADDRESS.fullmatch(lowered):
        raise BadRequest(f"invalid address {value!r}")
    return lowered


def perform(venue: Venue, action: wire.Action, master: str, account: str, now_ms: int) -> dict[str, Any]:
    """Do an account action; the `response` part of the answer.

    Raises:
        Refused, BadRequest: as the venue would.
    """
    match action:
        case wire.ApproveAgent():
            name = action.agentName or ""
            problem = venue.registry.approve_agent(master, address(action.agentAddress), name, now_ms)
            if problem is not None:
                raise Refused(problem)
        case wire.ApproveBuilderFee():
            _approve_builder(venue, account, action)
        case wire.SetReferrer():
            if action.code not in KNOWN_REFERRERS:
                raise Refused("Referral code not registered")
            venue.registry.profile(account).referrer = action.code
        case wire.CreateSubAccount():
            return _create_sub_account(venue, master, action.name)
        case wire.UserSetAbstraction():
            _set_mode(venue, _own(venue, master, address(action.user)), action.abstraction, now_ms)
        case wire.AgentSetAbstraction():
            _set_mode(venue, account, ABSTRACTIONS[action.abstraction], now_ms)
        case wire.ReserveRequestWeight():
            _spend(venue, account, "", "USDC", action.weight * PRICE_OF_REQUEST)
            venue.engine.withdraw(account, "", "USDC", action.weight * PRICE_OF_REQUEST, now_ms)
            venue.registry.profile(account).reserved += action.weight
        case wire.Noop() | wire.EvmUserModify() | wire.UserDexAbstraction() | wire.AgentEnableDexAbstraction():
            pass
        case _:
            _move_money(venue, action, master, account, now_ms)
    return default()


def _set_mode(venue: Venue, account: str, mode: str, now_ms: int) -> None:
    if not venue.set_abstraction(account, mode, now_ms):
        raise Refused("Cannot disable unified account with open positions or orders")


def _move_money(venue: Venue, action: wire.Action, master: str, account: str, now_ms: int) -> None:
    match action:
        case wire.UsdClassTransfer():
            _class_transfer(venue, action, master, now_ms)
        case wire.UsdSend():
            to = address(action.destination)
            _send(venue, account, "", to, "", "USDC", _amount(action.amount), now_ms, label="internalTransfer")
        case wire.SpotSend():
            token = _token(venue, action.token)
            to = address(action.destination)
            amount = _amount(action.amount)
            _send(venue, account, SPOT_WALLET, to, SPOT_WALLET, token, amount, now_ms, label="spotTransfer")
        case wire.Withdraw():
            amount = _amount(action.amount)
            _spend(venue, account, "", "USDC", amount)
            if amount <= WITHDRAWAL_FEE:
                raise Refused("Insufficient balance for withdrawal")
            venue.engine.withdraw(account, "", "USDC", amount, now_ms)
        case wire.SendAsset() | wire.AgentSendAsset():
            _send_asset(venue, action, master, account, now_ms)
        case wire.SubAccountTransfer():
            sub = _sub(venue, master, address(action.subAccountUser))
            source, to = (master, sub) if action.isDeposit else (sub, master)
            amount = Decimal(action.usd) / MICRO_USD
            _send(venue, source, "", to, "", "USDC", amount, now_ms, label="subAccountTransfer")
        case wire.SubAccountSpotTransfer():
            sub = _sub(venue, master, address(action.subAccountUser))
            source, to = (master, sub) if action.isDeposit else (sub, master)
            token = _token(venue, action.token)
            amount = _amount(action.amount)
            _send(venue, source, SPOT_WALLET, to, SPOT_WALLET, token, amount, now_ms, label="spotTransfer")
        case _:
            raise BadRequest(f"unknown action {type(action).__name__}")


def _amount(value: str) -> Decimal:
    amount = parse(value)
    if amount is None or amount <= 0:
        raise Refused("Invalid amount")
    return amount


def _token(venue: Venue, value: str) -> str:
    token = venue.universe.spot_token(value)
    if token is None:
        raise Refused(f"Invalid token {value}")
    return token.name


def _own(venue: Venue, master: str, target: str) -> str:
    return target if target == master else _sub(venue, master, target)


def _sub(venue: Venue, master: str, target: str) -> str:
    profile = venue.registry.profiles.get(target)
    if profile is None or profile.master != master:
        raise Refused(f"Vault not registered: {target}")
    return target


def available(venue: Venue, account: str, wallet: str, token: str) -> Decimal:
    """What may leave a wallet of an account."""
    owner = venue.engine.account(account)
    if owner is None:
        return Decimal(0)
    if wallet == SPOT_WALLET and owner.unified != token:
        return owner.balance(token).available
    wallet = "" if wallet == SPOT_WALLET else wallet  # a unified account's one balance is every wallet
    resting = risk.exposures(venue.engine.resting_orders(account, wallet))
    return risk.withdrawable(owner.ledger(wallet), resting, venue.engine.markets)


def _spend(venue: Venue, account: str, wallet: str, token: str, amount: Decimal) -> None:
    if available(venue, account, wallet, token) < amount:
        spot = wallet == SPOT_WALLET
        raise Refused("Insufficient balance for " + ("token transfer" if spot else "withdrawal"))


def _send(
    venue: Venue,
    account: str,
    source: str,
    to: str,
    destination: str,
    token: str,
    amount: Decimal,
    now_ms: int,
    *,
    label: str = "",
) -> None:
    """Move money; a recipient the venue has never seen costs the sender a fee, where the token is USDC."""
    new = venue.engine.account(to) is None and token == "USDC"  # noqa: S105 - a token name, no password
    fee = NEW_ACCOUNT_FEE if new else ZERO
    _spend(venue, account, source, token, amount + fee)
    venue.registry.profile(to)
    venue.engine.transfer(account, source, to, destination, token, amount, now_ms, label=label, fee=fee)


def _class_transfer(venue: Venue, action: wire.UsdClassTransfer, master: str, now_ms: int) -> None:
    amount, _, sub = action.amount.partition(" subaccount:")
    account = _sub(venue, master, address(sub)) if sub else master
    if _unified(venue, account):
        raise Refused(UNIFIED_ACTIVE)
    source, destination = (SPOT_WALLET, "") if action.toPerp else ("", SPOT_WALLET)
    _send(venue, account, source, account, destination, "USDC", _amount(amount), now_ms)


def _unified(venue: Venue, account: str) -> bool:
    owner = venue.engine.account(account)
    return owner is not None and bool(owner.unified)


def _send_asset(
    venue: Venue, action: wire.SendAsset | wire.AgentSendAsset, master: str, account: str, now_ms: int
) -> None:
    to = address(action.destination)
    source = account
    if action.fromSubAccount:
        source = _sub(venue, master, address(action.fromSubAccount))
    if isinstance(action, wire.AgentSendAsset):
        subs = {name for name, _ in venue.registry.sub_accounts(master)}
        if to not in {master, *subs}:
            raise Refused("Agent can only send asset to same user or their sub-accounts.")
    token = _token(venue, action.token)
    for wallet in (action.sourceDex, action.destinationDex):
        if wallet != SPOT_WALLET and venue.universe.dex(wallet) is None:
            raise Refused(f"Invalid perp dex {wallet}")
        if wallet != SPOT_WALLET and token != "USDC":  # noqa: S105 - a token name, no password
            raise Refused("Only the collateral token of a perp dex can be sent to or from it")
    if source == to and (_unified(venue, source) or action.sourceDex == action.destinationDex):
        raise Refused(UNIFIED_ACTIVE if _unified(venue, source) else "Cannot send to the same account and dex")
    amount = _amount(action.amount)
    _send(venue, source, action.sourceDex, to, action.destinationDex, token, amount, now_ms, label="send")


def _approve_builder(venue: Venue, account: str, action: wire.ApproveBuilderFee) -> None:
    rate = parse(action.maxFeeRate.removesuffix("%"))
    if rate is None or rate < 0 or rate > 1 or not action.maxFeeRate.endswith("%"):
        raise Refused("Invalid builder fee")
    venue.registry.profile(account).builders[address(action.builder)] = int(rate * 1000)


def _create_sub_account(venue: Venue, master: str, name: str) -> dict[str, Any]:
    digest = bytes(keccak(f"{master}:{name}:{len(venue.registry.profiles)}".encode()))
    created = "0x" + digest[12:].hex()
    profile = venue.registry.profile(created)
    profile.master, profile.sub_name = master, name
    venue.engine.open_account(created)
    return {"type": "createSubAccount", "data": created}
