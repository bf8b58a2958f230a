"""Leverage and margin mode of an instrument, which venues set together."""

from __future__ import annotations

from decimal import Decimal

from venuemesh.errors import InvalidRequest, NotSupported, Reason, Sent, VenueRejected
from venuemesh.gateway.account import Account
from venuemesh.gateway.services.parts import GatewayParts
from venuemesh.gateway.venue import LeverageSetting
from venuemesh.money import format_decimal, parse_decimal
from venuemesh.v1 import instrument_pb2

Mode = instrument_pb2.MarginMode


class MarginSettings:
    """Sets one of the two and keeps the other as the venue has it; what is set already is not set again."""

    def __init__(self, parts: GatewayParts) -> None:
        self._parts = parts

    async def set_leverage(self, account: Account, symbol: str, text: str) -> str:
        """Returns the leverage in force.

        Raises:
            InvalidRequest: no whole number, or out of the instrument's range.
            NotSupported: the instrument has no margin. VenueRejected: the venue refused.
        """
        instrument = self._instrument(symbol)
        leverage = parse_decimal(text, field="leverage")
        most = Decimal(instrument.max_leverage)
        if not 1 <= leverage <= most:
            raise InvalidRequest(
                f"leverage: {text} is not within 1 to {instrument.max_leverage}",
                reason=Reason.LEVERAGE_OUT_OF_RANGE,
                field="leverage",
                metadata={"max_leverage": instrument.max_leverage},
            )
        if leverage != leverage.to_integral_value():
            raise InvalidRequest(f"leverage: {text} is no whole number", field="leverage")
        now = await self._parts.venue.fetch_leverage(account.account_id, instrument)
        mode = now.margin_mode if now.margin_mode in instrument.margin_modes else instrument.margin_modes[0]
        await self._set(account, instrument, now, LeverageSetting(leverage=leverage, margin_mode=mode))
        return format_decimal(leverage)

    async def set_mode(self, account: Account, symbol: str, mode: Mode.ValueType) -> Mode.ValueType:
        """Returns the mode in force.

        Raises:
            NotSupported: the instrument does not have this mode. VenueRejected: the venue refused.
        """
        instrument = self._instrument(symbol)
        if mode not in instrument.margin_modes:
            offered = ", ".join(Mode.Name(value) for value in instrument.margin_modes)
            raise NotSupported(f"margin_mode: {symbol} has {offered or 'none'}", field="margin_mode")
        now = await self._parts.venue.fetch_leverage(account.account_id, instrument)
        leverage = min(now.leverage, Decimal(instrument.max_leverage))
        await self._set(account, instrument, now, LeverageSetting(leverage=leverage, margin_mode=mode))
        return mode

    def _instrument(self, symbol: str) -> instrument_pb2.Instrument:
        instrument = self._parts.instruments.get(symbol, self._parts.venue.name)
        if not instrument.HasField("max_leverage"):
            raise NotSupported(f"symbol: {symbol} is traded without leverage", field="symbol")
        return instrument

    async def _set(
        self,
        account: Account,
        instrument: instrument_pb2.Instrument,
        now: LeverageSetting,
        wanted: LeverageSetting,
    ) -> None:
        if wanted == now:
            # Venues count calls against a budget that orders need.
            return
        cross = wanted.margin_mode == instrument_pb2.MARGIN_MODE_CROSS
        refused = await self._parts.venue.set_leverage(account.account_id, instrument, int(wanted.leverage), cross)
        if refused is not None:
            metadata = {"venue_text": refused.text}
            raise VenueRejected(refused.text, reason=refused.reason, sent=Sent.YES, metadata=metadata)
