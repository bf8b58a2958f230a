"""What translating needs to know: the instruments, and for each account who it is. No I/O."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from hypercore import account_messages as wire
from hypercore.adapter import normalizer, twaps
from hypercore.adapter.settings import AccountSettings
from hypercore.assets import Asset, Universe
from venuemesh.errors import ProtocolViolation, VenueUnavailable
from venuemesh.gateway.readable import readable
from venuemesh.gateway.venue import VenueFill, VenueOrder, VenuePosition
from venuemesh.v1 import account_pb2

log = logging.getLogger(__name__)


class Directory:
    """The instruments of the gateway's dex, replaced as a whole on each refresh."""

    def __init__(self, *, venue: str, dex: str) -> None:
        self.venue = venue
        self.dex = dex
        self._universe: Universe | None = None

    @property
    def loaded(self) -> bool:
        """Whether the venue has listed its instruments yet."""
        return self._universe is not None

    @property
    def universe(self) -> Universe:
        """The assets. Raises VenueUnavailable before the first `replace`."""
        if self._universe is None:
            raise VenueUnavailable(f"{self.venue}: the instruments are not known yet", retry_after_s=1.0)
        return self._universe

    def replace(self, universe: Universe) -> None:
        """Take a new list."""
        self._universe = universe

    def find(self, coin: str) -> Asset | None:
        """The asset of a coin; None when this gateway does not carry it."""
        return self.universe.get_coin(coin)

    @property
    def collateral(self) -> str:
        """Asset of the dex's margin."""
        settle = next((asset.settle for asset in self.universe.assets if asset.settle), None)
        if settle is None:
            raise ProtocolViolation(f"dex {self.dex!r} lists no perpetual, so its collateral is unknown")
        return settle


class AccountView:
    """Translates what the venue says about one account. `mode` is its userAbstraction, None until read."""

    def __init__(self, account: AccountSettings, directory: Directory) -> None:
        self.account_id = account.account_id
        self.user = account.user
        self.mode: str | None = None
        self._directory = directory
        self._foreign: set[str] = set()  # coins and ledger kinds left out, each said once; the venue's lists bound it

    def order(self, row: wire.OpenOrder | wire.FrontendOrder) -> VenueOrder | None:
        """A row of an open-orders list."""
        with readable("an order"):
            return normalizer.normalize_order(row, self._directory.universe)

    def reported_order(self, row: wire.OrderWithStatus | wire.OrderUpdate) -> VenueOrder | None:
        """An order with its status."""
        with readable("an order"):
            return normalizer.normalize_reported_order(row, self._directory.universe)

    def twap(self, row: wire.TwapHistoryRow) -> VenueOrder | None:
        """A TWAP with its status."""
        with readable("a TWAP"):
            return twaps.normalize_twap(row, self._directory.universe)

    def fill(self, fill: wire.Fill) -> VenueFill | None:
        """A fill."""
        with readable("a fill"):
            found = normalizer.normalize_fill(fill, self._directory.universe, user=self.user)
        if found is None:
            self._note_left_out("fill", fill.coin)
        return found

    def funding(self, payment: wire.FundingPayment, *, time_ms: int | None = None) -> account_pb2.LedgerEntry | None:
        """A funding payment."""
        with readable("a funding payment"):
            return self._ledger().funding(payment, self._directory.universe, time_ms=time_ms)

    def ledger_updates(self, row: wire.LedgerUpdate) -> list[account_pb2.LedgerEntry]:
        """A deposit, withdrawal or transfer."""
        ledger = self._ledger()
        if not ledger.knows(row.delta.type):
            self._note_left_out("ledger update", row.delta.type)
        with readable("a ledger update"):
            return ledger.updates(row)

    def positions(self, perps: wire.ClearinghouseState) -> list[VenuePosition]:
        """Open positions."""
        with readable("positions"):
            return normalizer.normalize_positions(perps, self._directory.universe)

    def money(
        self, perps: wire.ClearinghouseState, spot: wire.SpotState, *, received_ns: int
    ) -> tuple[Sequence[account_pb2.Balance], account_pb2.AccountSummary]:
        """Balances and margin; `mode` must have been read."""
        if self.mode is None:
            raise VenueUnavailable(f"account {self.account_id}: its mode is not known yet")
        directory = self._directory
        sheet = normalizer.BalanceSheet(
            venue=directory.venue, account_id=self.account_id, dex=directory.dex, collateral=directory.collateral
        )
        with readable("balances"):
            balances = sheet.balances(perps, spot, mode=self.mode, received_ns=received_ns)
            return balances, sheet.summary(perps, spot, mode=self.mode, received_ns=received_ns)

    def _note_left_out(self, what: str, name: str) -> None:
        if name not in self._foreign:
            self._foreign.add(name)
            log.warning("not_carried", extra={"account_id": self.account_id, "what": what, "is": name})

    def _ledger(self) -> normalizer.Ledger:
        directory = self._directory
        return normalizer.Ledger(
            venue=directory.venue,
            account_id=self.account_id,
            user=self.user,
            dex=directory.dex,
            collateral=directory.collateral,
        )
