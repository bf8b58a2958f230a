"""Money moved inside a venue: margin of isolated positions, and collateral between sections."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from decimal import Decimal

from venuemesh.errors import InvalidRequest, MeshError, NotSupported, Reason
from venuemesh.gateway.account import Account
from venuemesh.gateway.positions import PositionState
from venuemesh.gateway.services.parts import GatewayParts
from venuemesh.gateway.services.requests import required
from venuemesh.gateway.venue import CollateralTransfer, Refused, Reservation
from venuemesh.money import parse_decimal
from venuemesh.v1 import account_pb2, instrument_pb2
from venuemesh.v1 import account_service_pb2 as wire

log = logging.getLogger(__name__)


class Collateral:
    """Checks requests that move money, has them performed once, and shows what became of the money."""

    def __init__(self, parts: GatewayParts) -> None:
        self._parts = parts

    async def adjust(
        self, account: Account, symbol: str, request: wire.AdjustIsolatedMarginRequest
    ) -> account_pb2.Position:
        """The position after the change; see `AccountOperations.perform` for what is raised besides.

        Raises:
            NotSupported: the venue or the instrument has no isolated margin, or none that may be taken out.
        """
        venue = self._parts.venue
        instrument = self._parts.instruments.get(symbol, venue.name)
        isolated = instrument_pb2.MARGIN_MODE_ISOLATED in instrument.margin_modes
        if not (venue.capabilities.isolated_margin and isolated):
            raise NotSupported(f"symbol: {symbol} has no isolated margin", field="symbol")
        amount = parse_decimal(required(request.amount, "amount"), field="amount")
        if not amount:
            raise InvalidRequest("amount: must not be 0", field="amount")
        if amount < 0 and not instrument.isolated_margin_removable:
            raise NotSupported(f"amount: {venue.name} lets no margin of {symbol} be taken out", field="amount")

        async def act(reservation: Reservation) -> Refused | None:
            return await venue.adjust_isolated_margin(account.account_id, instrument, amount, reservation)

        await self._parts.operations.perform(account, request.request_id, request, act)
        await self._read_back(account)
        return account.to_position(account.positions.get(symbol) or PositionState(symbol=symbol))

    async def _read_back(self, account: Account) -> None:
        """Learn margin and liquidation prices anew; the change stands even where they cannot be read."""
        try:
            snapshot = await self._parts.venue.fetch_snapshot(account.account_id)
        except MeshError as error:
            log.warning("position_not_read_back", extra={"account_id": account.account_id, "error": error.message})
            return
        account.on_positions(snapshot.positions)
        account.on_balances(snapshot.balances, snapshot.summary, self._parts.clock.now_ns())

    async def transfer(
        self, account: Account, request: wire.TransferCollateralRequest
    ) -> Sequence[account_pb2.Balance]:
        """The balances of both sections after the transfer; none where they cannot be read.

        Raises:
            NotSupported: the venue has no such sections. InvalidRequest: a field breaks a rule.
        """
        venue = self._parts.venue
        sections = list(venue.capabilities.collateral_sections)
        if not sections:
            raise NotSupported(f"{venue.name} has no sections to move collateral between")
        for field, section in (("from_section", request.from_section), ("to_section", request.to_section)):
            if section not in sections:
                known = ", ".join(repr(name) for name in sections)
                raise InvalidRequest(f"{field}: {section[:32]!r} is none of {known}", field=field)
        if request.from_section == request.to_section:
            raise InvalidRequest(
                "to_section: equals from_section", reason=Reason.CONTRADICTORY_FIELDS, field="to_section"
            )
        asset = required(request.asset, "asset")
        amount = _positive(required(request.amount, "amount"))

        async def act(reservation: Reservation) -> Refused | None:
            transfer = CollateralTransfer(
                account_id=account.account_id,
                asset=asset,
                amount=amount,
                from_section=request.from_section,
                to_section=request.to_section,
                reservation=reservation,
            )
            return await venue.transfer_collateral(transfer)

        await self._parts.operations.perform(account, request.request_id, request, act)
        try:
            return await venue.fetch_section_balances(
                account.account_id, asset, [request.from_section, request.to_section]
            )
        except MeshError as error:
            log.warning("balances_not_read_back", extra={"account_id": account.account_id, "error": error.message})
            return []


def _positive(text: str) -> Decimal:
    amount = parse_decimal(text, field="amount")
    if amount <= 0:
        raise InvalidRequest(f"amount: must be more than 0, got {text}", field="amount")
    return amount
