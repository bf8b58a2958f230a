"""What translating needs to know: the markets, and for each account who it is. No I/O."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from gateway_lighter import account_messages as wire
from gateway_lighter import messages as market_wire
from gateway_lighter import normalizer
from gateway_lighter.ledger import Ledger
from gateway_lighter.normalizer import Market
from gateway_lighter.settings import AccountSettings
from gateway_lighter.slices import is_slice
from venuemesh.errors import InstrumentNotFound, ProtocolViolation, VenueUnavailable
from venuemesh.gateway.readable import readable
from venuemesh.gateway.venue import VenueFill, VenueOrder, VenuePosition
from venuemesh.v1 import account_pb2

log = logging.getLogger(__name__)

COLLATERAL_ASSET = 3
"""Asset index of the perpetuals' collateral. Source: venue reference section 1.2."""


class Directory:
    """The perpetual markets of the venue, replaced as a whole on each refresh."""

    def __init__(self, *, venue: str) -> None:
        self.venue = venue
        self._collateral: str | None = None
        self._assets: dict[int, str] = {}
        self._by_id: dict[int, Market] = {}
        self._by_symbol: dict[str, Market] = {}

    @property
    def loaded(self) -> bool:
        """Whether the venue has listed its assets and markets yet."""
        return self._collateral is not None and bool(self._by_id)

    @property
    def collateral(self) -> str:
        """Asset of margin, profit and fees. Raises VenueUnavailable before `name_assets`."""
        if self._collateral is None:
            raise VenueUnavailable(f"{self.venue}: the instruments are not known yet", retry_after_s=1.0)
        return self._collateral

    @property
    def markets(self) -> Sequence[Market]:
        """All of them."""
        return tuple(self._by_id.values())

    def name_assets(self, assets: Iterable[market_wire.Asset]) -> None:
        """Learn what the assets are called.

        Raises:
            ProtocolViolation: the collateral is not among them.
        """
        names = {asset.asset_id: asset.symbol.strip().upper() for asset in assets}
        if COLLATERAL_ASSET not in names:
            raise ProtocolViolation(f"asset {COLLATERAL_ASSET}, the collateral, is not listed")
        self._assets, self._collateral = names, names[COLLATERAL_ASSET]

    def asset_name(self, asset_id: int) -> str | None:
        """Name of an asset; None for one the venue did not list."""
        return self._assets.get(asset_id)

    def replace(self, perps: Iterable[market_wire.PerpDetails]) -> None:
        """Take a new list of markets."""
        found = [self.read(row) for row in perps if row.market_type == "perp"]
        self._by_id = {market.market_id: market for market in found}
        self._by_symbol = {market.symbol: market for market in found}

    def read(self, row: market_wire.PerpDetails) -> Market:
        """One row as a market; the directory itself stays as it is."""
        return normalizer.read_market(row, collateral=self.collateral)

    def find(self, market_id: int) -> Market | None:
        """The market with this id; None when this gateway does not carry it."""
        return self._by_id.get(market_id)

    def by_symbol(self, symbol: str) -> Market:
        """The market of a unified symbol. Raises InstrumentNotFound."""
        found = self._by_symbol.get(symbol)
        if found is None:
            raise InstrumentNotFound(f"symbol: {self.venue} does not list {symbol!r}", field="symbol")
        return found

    def by_venue_symbol(self, venue_symbol: str) -> Market:
        """The market of an instrument. Raises InstrumentNotFound."""
        found = self._by_id.get(int(venue_symbol)) if venue_symbol.isdigit() else None
        if found is None:
            raise InstrumentNotFound(f"{self.venue} has no market {venue_symbol!r}", field="symbol")
        return found


class AccountView:
    """Translates what the venue says about one account."""

    def __init__(self, account: AccountSettings, directory: Directory) -> None:
        self.account_id = account.account_id
        self.index = account.account_index
        self.l1_address = account.l1_address
        self._directory = directory
        self._foreign: set[tuple[str, int]] = set()  # what is left out is said once; the venue's markets bound it

    def order(self, row: wire.Order) -> VenueOrder | None:
        """An order row; None for a slice of a TWAP, and for a market this gateway does not carry."""
        market = self._market("order", row.market_index)
        if market is None or is_slice(row):
            return None
        if row.owner_account_index != self.index:
            raise ProtocolViolation("an order of another account", metadata={"what": "order"})
        with readable("an order"):
            return normalizer.normalize_order(row, market)

    def fills(self, trade: market_wire.Trade) -> list[VenueFill]:
        """The account's sides of a trade: one, or two where it traded with itself."""
        market = self._market("fill", trade.market_id)
        if market is None:
            return []
        with readable("a fill"):
            return normalizer.normalize_fills(trade, market, account_index=self.index)

    def funding(self, row: wire.PositionFunding) -> account_pb2.LedgerEntry | None:
        """A funding payment."""
        market = self._market("funding", row.market_id)
        if market is None:
            return None
        with readable("a funding payment"):
            return normalizer.normalize_funding(row, market, venue=self._directory.venue, account_id=self.account_id)

    def ledger(self) -> Ledger:
        """Reads the account's histories of money. Raises VenueUnavailable before the assets are known."""
        return Ledger(
            venue=self._directory.venue,
            account_id=self.account_id,
            account_index=self.index,
            collateral=self._directory.collateral,
            asset_name=self._directory.asset_name,
        )

    def positions(self, rows: Iterable[wire.Position]) -> list[VenuePosition]:
        """Positions, the flat ones too where the venue still lists them."""
        with readable("positions"):
            return [
                normalizer.normalize_position(row, market)
                for row in rows
                if (market := self._market("position", row.market_id)) is not None
            ]

    def snapshot_money(
        self, account: wire.Account, *, received_ns: int
    ) -> tuple[list[account_pb2.Balance], account_pb2.AccountSummary]:
        """Balances and margin of `GET account`."""
        with readable("balances"):
            sheet = self._sheet(received_ns)
            balances = [sheet.purse(total=account.collateral, available=account.available_balance)]
            balances += sheet.spot(account.assets or ())
            return balances, sheet.summary(account)

    def streamed_money(
        self, stats: wire.UserStats, assets: Iterable[wire.AccountAsset], *, received_ns: int
    ) -> tuple[list[account_pb2.Balance], account_pb2.AccountSummary]:
        """Balances and margin of `user_stats` and `account_all_assets`."""
        with readable("balances"):
            sheet = self._sheet(received_ns)
            balances = [sheet.purse(total=stats.collateral, available=stats.available_balance)]
            balances += sheet.spot(assets)
            return balances, sheet.streamed_summary(stats)

    def _sheet(self, received_ns: int) -> normalizer.BalanceSheet:
        return normalizer.BalanceSheet(
            venue=self._directory.venue,
            account_id=self.account_id,
            collateral=self._directory.collateral,
            received_ns=received_ns,
        )

    def _market(self, what: str, market_id: int) -> Market | None:
        market = self._directory.find(market_id)
        if market is None and (what, market_id) not in self._foreign:
            self._foreign.add((what, market_id))
            log.warning("not_carried", extra={"account_id": self.account_id, "what": what, "market_id": market_id})
        return market
