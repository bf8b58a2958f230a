"""Money that came, went and moved, as ledger entries. Pure.

What direction a transfer has is told by the accounts it names, not by its type, of which the venue has more than it
lists. Source: venue reference section 4.2.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Final

from gateway_lighter import account_messages as wire
from gateway_lighter.normalizer import NS_PER_MS, NS_PER_S, SPOT_SECTION
from venuemesh.errors import ProtocolViolation
from venuemesh.gateway.order_wire import timestamp
from venuemesh.money import format_decimal
from venuemesh.v1 import account_pb2

DEPOSIT: Final = account_pb2.LEDGER_ENTRY_TYPE_DEPOSIT
WITHDRAWAL: Final = account_pb2.LEDGER_ENTRY_TYPE_WITHDRAWAL
TRANSFER: Final = account_pb2.LEDGER_ENTRY_TYPE_TRANSFER
FEE: Final = account_pb2.LEDGER_ENTRY_TYPE_FEE

_ARRIVED: Final = "completed"
_LEFT: Final = frozenset({"pending", "claimable", "completed"})
_CAME_BACK: Final = "refunded"
_STATUSES: Final = _LEFT | {_CAME_BACK, "failed"}
_ROUTES: Final = {"perps": "", "perp": "", "spot": SPOT_SECTION}
_FIRST_MILLISECOND: Final = 10**11
"""Instants below count seconds, as the venue's documentation writes them; its servers send milliseconds."""


def instant_ns(timestamp: int) -> int:
    """When a row of a history happened, nanoseconds."""
    return timestamp * (NS_PER_S if timestamp < _FIRST_MILLISECOND else NS_PER_MS)


class Ledger:
    """Entries of one account.

    Args:
        asset_name: name of an asset by the venue's number; None where it lists no such asset. 0 is the collateral, for
            rows of servers that moved nothing else.
        collateral: name of the asset that margins perpetuals; it lies in the main section, all else in "spot".
    """

    def __init__(
        self,
        *,
        venue: str,
        account_id: str,
        account_index: int,
        collateral: str,
        asset_name: Callable[[int], str | None],
    ) -> None:
        self._venue = venue
        self._account_id = account_id
        self._index = account_index
        self._collateral = collateral
        self._asset_name = asset_name

    def deposit(self, row: wire.Deposit) -> list[account_pb2.LedgerEntry]:
        """One that has arrived; none while it has not."""
        _require_known(row.status, "deposit")
        if row.status != _ARRIVED:
            return []
        return [self._entry(f"deposit-{row.id}", DEPOSIT, row.asset_id, row.amount, None, row.timestamp)]

    def withdrawal(self, row: wire.Withdrawal) -> list[account_pb2.LedgerEntry]:
        """What has left, and again where it came back; none that failed."""
        _require_known(row.status, "withdrawal")
        entries = []
        if row.status in _LEFT or row.status == _CAME_BACK:
            entries.append(
                self._entry(f"withdrawal-{row.id}", WITHDRAWAL, row.asset_id, -row.amount, None, row.timestamp)
            )
        if row.status == _CAME_BACK:
            entries.append(
                self._entry(f"withdrawal-{row.id}-refund", WITHDRAWAL, row.asset_id, row.amount, None, row.timestamp)
            )
        return entries

    def transfer(self, row: wire.TransferRow) -> list[account_pb2.LedgerEntry]:
        """What went out, with its fee, and what came in; both where it moved between sections of the account."""
        entries = []
        if row.from_account_index == self._index:
            entries.append(
                self._entry(
                    f"transfer-{row.id}-out", TRANSFER, row.asset_id, -row.amount, row.from_route, row.timestamp
                )
            )
            if row.fee:
                entries.append(self._entry(f"transfer-{row.id}-fee", FEE, 0, -row.fee, "", row.timestamp))
        if row.to_account_index == self._index:
            entries.append(
                self._entry(f"transfer-{row.id}-in", TRANSFER, row.asset_id, row.amount, row.to_route, row.timestamp)
            )
        if not entries:
            raise ProtocolViolation("a transfer of other accounts", metadata={"what": "transfer", "id": row.id[:64]})
        return entries

    def _entry(
        self,
        entry_id: str,
        kind: account_pb2.LedgerEntryType.ValueType,
        asset_id: int,
        amount: Decimal,
        route: str | None,
        recorded: int,
    ) -> account_pb2.LedgerEntry:
        asset = self._collateral if asset_id == 0 else self._asset_name(asset_id)
        if asset is None:
            raise ProtocolViolation(f"asset {asset_id} is not listed", metadata={"what": entry_id[:64]})
        section = _ROUTES.get(route or "")
        if section is None:
            section = "" if asset == self._collateral else SPOT_SECTION
        return account_pb2.LedgerEntry(
            ledger_entry_id=entry_id,
            account_id=self._account_id,
            venue=self._venue,
            ledger_entry_type=kind,
            asset=asset,
            amount=format_decimal(amount),
            venue_section=section,
            venue_time=timestamp(instant_ns(recorded)),
        )


def _require_known(status: str, what: str) -> None:
    if status not in _STATUSES:
        raise ProtocolViolation(f"unknown status {status[:32]!r} of a {what}", metadata={"what": what})
