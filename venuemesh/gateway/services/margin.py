"""Leverage and margin mode of an instrument, which venues set together."""

from __future__ import annotations

from decimal import Decimal

from venuemesh.errors import InvalidRequest, NotSupported, PreconditionFailed, Reason, VenueRejected
from venuemesh.gateway.account import Account
from venuemesh.gateway.services.parts import GatewayParts
from venuemesh.money import format_decimal, parse_decimal
from venuemesh.v1 import instrument_pb2

Mode = instrument_pb2.MarginMode
NOT_STATED = instrument_pb2.MARGIN_MODE_UNSPECIFIED


class MarginSettings:
    """Sets one of the two and keeps the other, as it was last set here or as the position shows it."""

    def __init__(self, parts: GatewayParts) -> None:
        self._parts = parts
        self._leverage: dict[tuple[str, str], Decimal] = {}
        self._mode: dict[tuple[str, str], Mode.ValueType] = {}

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
        await self._set(account, instrument, leverage, self._mode_of(account, instrument))
        return format_decimal(leverage)

    async def set_mode(self, account: Account, symbol: str, mode: Mode.ValueType) -> Mode.ValueType:
        """Returns the mode in force.

        Raises:
            NotSupported: the instrument does not have this mode.
            PreconditionFailed: nobody here knows the leverage that must be kept.
            VenueRejected: the venue refused.
        """
        instrument = self._instrument(symbol)
        if mode not in instrument.margin_modes:
            offered = ", ".join(Mode.Name(value) for value in instrument.margin_modes)
            raise NotSupported(f"margin_mode: {symbol} has {offered or 'none'}", field="margin_mode")
        leverage = self._leverage_of(account, symbol)
        if leverage is None:
            raise PreconditionFailed(
                f"the venue sets margin mode and leverage of {symbol} together and the leverage in force is not known: "
                "call SetLeverage first",
                reason=Reason.REQUIRED_FIELD_MISSING,
                metadata={"symbol": symbol},
            )
        await self._set(account, instrument, leverage, mode)
        return mode

    def _instrument(self, symbol: str) -> instrument_pb2.Instrument:
        instrument = self._parts.instruments.get(symbol, self._parts.venue.name)
        if not instrument.HasField("max_leverage"):
            raise NotSupported(f"symbol: {symbol} is traded without leverage", field="symbol")
        return instrument

    def _mode_of(self, account: Account, instrument: instrument_pb2.Instrument) -> Mode.ValueType:
        known = self._mode.get((account.account_id, instrument.symbol), NOT_STATED)
        seen = account.venue_positions.get(instrument.symbol)
        if seen is not None and seen.margin_mode != NOT_STATED:
            known = seen.margin_mode
        if known != NOT_STATED:
            return known
        allowed = instrument.margin_modes
        return instrument_pb2.MARGIN_MODE_CROSS if instrument_pb2.MARGIN_MODE_CROSS in allowed else allowed[0]

    def _leverage_of(self, account: Account, symbol: str) -> Decimal | None:
        seen = account.venue_positions.get(symbol)
        if seen is not None and seen.leverage is not None:
            return seen.leverage
        return self._leverage.get((account.account_id, symbol))

    async def _set(
        self, account: Account, instrument: instrument_pb2.Instrument, leverage: Decimal, mode: Mode.ValueType
    ) -> None:
        cross = mode == instrument_pb2.MARGIN_MODE_CROSS
        refused = await self._parts.venue.set_leverage(account.account_id, instrument, int(leverage), cross)
        if refused is not None:
            raise VenueRejected(refused.text, reason=refused.reason, metadata={"venue_text": refused.text})
        key = (account.account_id, instrument.symbol)
        self._leverage[key], self._mode[key] = leverage, mode
