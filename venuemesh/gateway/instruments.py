"""The instruments of a venue, by symbol. Replaced as a whole on each refresh; readers see one version."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from venuemesh.errors import InstrumentNotFound, VenueUnavailable
from venuemesh.v1 import instrument_pb2


class Instruments:
    """What trades at the venue."""

    def __init__(self) -> None:
        self._by_symbol: Mapping[str, instrument_pb2.Instrument] = {}
        self._retired: Mapping[str, instrument_pb2.Instrument] = {}
        self._read = False
        self.listeners: list[Callable[[instrument_pb2.Instrument], None]] = []
        """Told of each instrument that is new, changed or no longer listed, which is DELISTED then."""

    def replace(self, instruments: Iterable[instrument_pb2.Instrument]) -> list[instrument_pb2.Instrument]:
        """Take a new list; returns the instruments that are new, changed or, as DELISTED, no longer in it."""
        self._read = True
        before = self._by_symbol
        self._retired = {**self._retired, **before}
        self._by_symbol = {instrument.symbol: instrument for instrument in instruments}
        changed = [row for symbol, row in self._by_symbol.items() if not _same(before.get(symbol), row)]
        changed += [_delisted(row) for symbol, row in before.items() if symbol not in self._by_symbol]
        for row in changed:
            for listener in self.listeners:
                listener(row)
        return changed

    def get(self, symbol: str, venue: str, *, field: str = "symbol") -> instrument_pb2.Instrument:
        """One instrument.

        Raises:
            InstrumentNotFound: naming the field.
            VenueUnavailable: the venue's instruments were not read yet, so nobody can tell.
        """
        found = self._by_symbol.get(symbol)
        if not self._read:
            raise VenueUnavailable(f"{venue} gateway has not read the instruments yet", retry_after_s=1.0)
        if found is None:
            raise InstrumentNotFound(
                f"{field}: {venue} has no instrument {symbol!r}", field=field, metadata={"symbol": symbol}
            )
        return found

    def last_known(self, symbol: str, venue: str) -> instrument_pb2.Instrument:
        """One instrument, even if the venue lists it no more: an order in it must still be cancelled.

        Raises:
            InstrumentNotFound, VenueUnavailable: it was never listed, or nothing was read yet.
        """
        return self._by_symbol.get(symbol) or self._retired.get(symbol) or self.get(symbol, venue)

    def all(self) -> list[instrument_pb2.Instrument]:
        """All of them, by symbol."""
        return [self._by_symbol[symbol] for symbol in sorted(self._by_symbol)]

    def settle_asset_of(self, symbol: str) -> str:
        """Asset that profit of the symbol is in; empty when the symbol is unknown."""
        found = self._by_symbol.get(symbol) or self._retired.get(symbol)
        return found.settle_asset if found else ""

    def __len__(self) -> int:
        return len(self._by_symbol)


def _delisted(row: instrument_pb2.Instrument) -> instrument_pb2.Instrument:
    gone = instrument_pb2.Instrument()
    gone.CopyFrom(row)
    gone.state = instrument_pb2.INSTRUMENT_STATE_DELISTED
    return gone


def _same(before: instrument_pb2.Instrument | None, after: instrument_pb2.Instrument) -> bool:
    if before is None:
        return False
    left, right = instrument_pb2.Instrument(), instrument_pb2.Instrument()
    left.CopyFrom(before)
    right.CopyFrom(after)
    left.ClearField("updated_time")
    right.ClearField("updated_time")
    return left == right
