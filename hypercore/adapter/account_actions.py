"""What an account does at the venue besides orders: leverage, isolated margin, collateral, the scheduled cancel.

Source: venue reference sections 2.2 (activeAssetData), 3.3 and 3.4.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Protocol

from hypercore.action_types import AnyAction
from hypercore.actions import (
    build_agent_send_asset,
    build_schedule_cancel,
    build_update_isolated_margin,
    build_update_leverage,
)
from hypercore.adapter import answers
from hypercore.adapter.keys import Wallet
from hypercore.adapter.normalizer import NS_PER_MS, SPOT_SECTION, BalanceSheet, asset_code
from hypercore.adapter.views import AccountView, Directory
from hypercore.assets import Asset, Token
from hypercore.exchange_codec import ExchangeAnswer
from hypercore.rest import HyperCoreRest
from venuemesh.clock import Clock
from venuemesh.errors import InvalidRequest
from venuemesh.gateway.readable import readable
from venuemesh.gateway.venue import CollateralTransfer, LeverageSetting, Refused, Reservation
from venuemesh.v1 import account_pb2, instrument_pb2


class Send(Protocol):
    """Signs and sends one action, once."""

    async def __call__(
        self,
        account_id: str,
        action: AnyAction,
        reservation: Reservation | None,
        correlation_id: str,
        *,
        as_master: bool = False,
    ) -> ExchangeAnswer:
        """The venue's answer; `as_master` leaves the vault or sub-account out of the envelope."""


class AccountActions:
    """The account operations of the port, for all accounts of a gateway."""

    def __init__(
        self,
        *,
        rest: HyperCoreRest,
        directory: Directory,
        views: Mapping[str, AccountView],
        wallets: Mapping[str, Wallet],
        send: Send,
        clock: Clock,
    ) -> None:
        self._rest = rest
        self._directory = directory
        self._views = views
        self._wallets = wallets
        self._send = send
        self._clock = clock

    # --- leverage and margin -------------------------------------------------------------------------------

    async def fetch_leverage(self, account_id: str, instrument: instrument_pb2.Instrument) -> LeverageSetting:
        """The setting in force: the venue keeps one per asset, with or without a position."""
        data = await self._rest.fetch_active_asset_data(self._views[account_id].user, instrument.venue_symbol)
        isolated = data.leverage.type == "isolated"
        mode = instrument_pb2.MARGIN_MODE_ISOLATED if isolated else instrument_pb2.MARGIN_MODE_CROSS
        return LeverageSetting(leverage=Decimal(data.leverage.value), margin_mode=mode)

    async def set_leverage(
        self, account_id: str, instrument: instrument_pb2.Instrument, leverage: int, cross: bool
    ) -> Refused | None:
        """Set leverage and margin mode of one asset; the venue takes no one of them alone."""
        action = build_update_leverage(self._asset(instrument).asset_id, is_cross=cross, leverage=leverage)
        return answers.read_done(await self._send(account_id, action, None, instrument.symbol))

    async def adjust_isolated_margin(
        self, account_id: str, instrument: instrument_pb2.Instrument, amount: Decimal, reservation: Reservation
    ) -> Refused | None:
        """Add margin to the isolated position, or take it out; whole micro-USD."""
        action = build_update_isolated_margin(self._asset(instrument).asset_id, amount)
        return answers.read_done(await self._send(account_id, action, reservation, instrument.symbol))

    # --- collateral ----------------------------------------------------------------------------------------

    async def transfer_collateral(self, transfer: CollateralTransfer) -> Refused | None:
        """Move a token between main perps, spot and a builder dex, as an API wallet may: within one account.

        A sub-account's money is named by `fromSubAccount` and the action is the master's, as in `sendAsset`.
        """
        wallet = self._wallets[transfer.account_id]
        action = build_agent_send_asset(
            nonce=transfer.reservation.nonce,
            destination=wallet.account.user,
            source_dex=transfer.from_section,
            destination_dex=transfer.to_section,
            token=self._token(transfer.asset).wire_name,
            amount=transfer.amount,
            from_sub_account=wallet.account.vault or "",
        )
        answer = await self._send(
            transfer.account_id, action, transfer.reservation, transfer.account_id, as_master=True
        )
        return answers.read_done(answer)

    async def schedule_cancel(self, account_id: str, at_ns: int | None) -> Refused | None:
        """The venue's dead-man's switch: one per account, over all dexes and spot; at least 5 s ahead.

        It needs a traded volume; the venue's refusal names it.
        """
        action = build_schedule_cancel(None if at_ns is None else at_ns // NS_PER_MS)
        return answers.read_done(await self._send(account_id, action, None, account_id))

    async def fetch_section_balances(
        self, account_id: str, asset: str, sections: Sequence[str]
    ) -> Sequence[account_pb2.Balance]:
        """One row per section: a dex's purse, or the token's spot balance; 0 where there is none."""
        view, rows = self._views[account_id], []
        code = asset_code(asset)
        for section in sections:
            sheet = BalanceSheet(venue=self._directory.venue, account_id=account_id, dex=section, collateral=code)
            received_ns = self._clock.now_ns()
            if section == SPOT_SECTION:
                spot = await self._rest.fetch_spot_state(view.user)
                with readable("balances"):
                    rows.append(sheet.spot_balance(spot, code, received_ns=received_ns))
            else:
                perps = await self._rest.fetch_clearinghouse_state(view.user, section)
                with readable("balances"):
                    rows.append(sheet.purse(perps, received_ns=received_ns))
        return rows

    def _token(self, asset: str) -> Token:
        found = next((row for row in self._directory.universe.tokens.values() if asset_code(row.name) == asset), None)
        if found is None:
            raise InvalidRequest(f"asset: {asset[:32]!r} is no token of {self._directory.venue}", field="asset")
        return found

    def _asset(self, instrument: instrument_pb2.Instrument) -> Asset:
        return self._directory.universe.by_coin(instrument.venue_symbol)
