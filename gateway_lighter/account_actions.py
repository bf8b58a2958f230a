"""What an account does at the venue besides orders: leverage, isolated margin, the scheduled cancel.

Source: venue reference sections 4.1, 7.3 and 7.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Final

from gateway_lighter.answers import read_done
from gateway_lighter.normalizer import NS_PER_MS, NS_PER_S, Market, leverage_of
from gateway_lighter.rest import LighterRest
from gateway_lighter.scaling import MARGIN_TICKS, scale
from gateway_lighter.sender import Sender
from gateway_lighter.transactions import (
    CancelAllOrders,
    CancelAllWhen,
    MarginMode,
    Transaction,
    UpdateLeverage,
    UpdateMargin,
)
from gateway_lighter.views import AccountView
from venuemesh.clock import Clock
from venuemesh.errors import InvalidRequest, NotSupported, ProtocolViolation
from venuemesh.gateway.readable import readable
from venuemesh.gateway.venue import LeverageSetting, Refused, Reservation
from venuemesh.v1 import account_pb2, instrument_pb2

COLLATERAL_DECIMALS: Final = 6
SOONEST_CANCEL_S: Final = 305
"""The venue takes five minutes at least; some seconds may pass on the way."""
LATEST_CANCEL_S: Final = 15 * 86_400
_OUT, _IN = 0, 1


class AccountActions:
    """The account operations of the port, for all accounts of a gateway."""

    def __init__(
        self, *, views: Mapping[str, AccountView], rests: Mapping[str, LighterRest], send: Sender, clock: Clock
    ) -> None:
        self._views = views
        self._rests = rests
        self._send = send
        self._clock = clock

    async def fetch_leverage(self, account_id: str, market: Market) -> LeverageSetting:
        """The setting in force; the venue lists markets the account has touched, elsewhere its default holds."""
        account = await self._rests[account_id].fetch_account(self._views[account_id].index)
        found = next((row for row in account.positions or () if row.market_id == market.market_id), None)
        percent = Decimal(market.details.default_initial_margin_fraction) * 100 / MARGIN_TICKS
        isolated = market.details.market_config.market_margin_mode == MarginMode.ISOLATED
        if found is not None:
            percent, isolated = found.initial_margin_fraction, found.margin_mode == MarginMode.ISOLATED
        with readable("a margin fraction"):
            leverage = leverage_of(percent)
        if leverage is None:
            raise ProtocolViolation(f"margin fraction {percent} of {market.symbol} gives no leverage")
        mode = instrument_pb2.MARGIN_MODE_ISOLATED if isolated else instrument_pb2.MARGIN_MODE_CROSS
        return LeverageSetting(leverage=leverage, margin_mode=mode)

    async def set_leverage(self, account_id: str, market: Market, leverage: int, cross: bool) -> Refused | None:
        """Set leverage and margin mode; the venue takes no one of them alone."""
        transaction = UpdateLeverage(
            market_index=market.market_id,
            initial_margin_fraction=market.scale.margin_fraction(leverage),
            margin_mode=MarginMode.CROSS if cross else MarginMode.ISOLATED,
        )
        return await self._do(account_id, transaction, None, market)

    async def adjust_isolated_margin(
        self, account_id: str, market: Market, amount: Decimal, reservation: Reservation
    ) -> Refused | None:
        """Move collateral into an isolated position or out of it."""
        transaction = UpdateMargin(
            market_index=market.market_id,
            usdc_amount=scale(abs(amount), COLLATERAL_DECIMALS, field="amount"),
            direction=_IN if amount > 0 else _OUT,
        )
        return await self._do(account_id, transaction, reservation, market)

    async def fetch_section_balances(
        self, account_id: str, asset: str, sections: Sequence[str]
    ) -> Sequence[account_pb2.Balance]:
        """What an account holds of an asset in sections; one without a row there is left out."""
        view = self._views[account_id]
        account = await self._rests[account_id].fetch_account(view.index)
        balances, _ = view.snapshot_money(account, received_ns=self._clock.now_ns())
        return [row for row in balances if row.asset == asset and row.venue_section in sections]

    async def schedule_cancel(self, account_id: str, at_ns: int | None) -> Refused | None:
        """The venue's dead-man's switch: cancels every order of the account at a time unless it is moved.

        Raises:
            InvalidRequest: nearer or further than the venue takes; nothing was sent.
        """
        if at_ns is None:
            transaction = CancelAllOrders(time_in_force=CancelAllWhen.ABORT)
        else:
            ahead_s = (at_ns - self._clock.now_ns()) / NS_PER_S
            if not SOONEST_CANCEL_S <= ahead_s <= LATEST_CANCEL_S:
                bounds = f"{SOONEST_CANCEL_S} s to {LATEST_CANCEL_S} s"
                raise InvalidRequest(f"lease: the venue cancels {bounds} ahead, not {ahead_s:.1f} s", field="lease")
            transaction = CancelAllOrders(time_in_force=CancelAllWhen.SCHEDULED, time=at_ns // NS_PER_MS)
        answer = await self._send(account_id, transaction, None, account_id, read_done)
        return answer if isinstance(answer, Refused) else None

    async def _do(
        self, account_id: str, transaction: Transaction, reservation: Reservation | None, market: Market
    ) -> Refused | None:
        answer = await self._send(account_id, transaction, reservation, market.symbol, read_done)
        return answer if isinstance(answer, Refused) else None


def no_transfer(account_id: str) -> NotSupported:
    """Moving collateral between sections needs what this gateway does not hold."""
    return NotSupported(f"account {account_id}: collateral is not moved between sections here")
