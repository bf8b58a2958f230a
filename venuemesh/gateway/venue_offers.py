"""What an adapter may offer beyond the port, asked for by `isinstance`; the frame does without where it is missing."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol, runtime_checkable

from venuemesh.gateway.venue import OrderTicket
from venuemesh.v1 import instrument_pb2


@dataclass(frozen=True, slots=True, kw_only=True)
class FeeRates:
    """What an account pays for trading an instrument, as fractions of notional; negative is a rebate."""

    maker: Decimal
    taker: Decimal


@runtime_checkable
class TellsFees(Protocol):
    """An adapter whose venue tells the rates of an account; without it those of the instrument count."""

    async def fetch_fee_rates(self, account_id: str, instrument: instrument_pb2.Instrument) -> FeeRates | None:
        """The rates in force; None when the venue's answer does not give them for this instrument."""


@runtime_checkable
class SignsAhead(Protocol):
    """An adapter that can sign an order while the journal still writes; without it signing comes after."""

    def sign_ahead(self, ticket: OrderTicket) -> None:
        """Sign what `place_order` of this ticket will send, if it is ever called. Sends nothing.

        Raises:
            MeshError: what `place_order` would raise before it sends.
        """
