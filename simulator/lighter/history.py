"""Money that came, went and moved: deposit, withdrawal and transfer histories. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from simulator.engine.engine import SPOT_WALLET
from simulator.engine.events import TransferKind, Transferred
from simulator.lighter.accounts import LighterAccount, account_index
from simulator.lighter.errors import Code, Refused
from simulator.lighter.markets import fixed
from simulator.lighter.trades import system_hash
from simulator.lighter.venue import LighterVenue

PAGE = 100


def _moves(venue: LighterVenue, account: LighterAccount, *kinds: TransferKind) -> list[Transferred]:
    """Movements of these kinds, newest first."""
    events = venue.engine.money_events(account.name)
    return [event for event in reversed(events) if isinstance(event, Transferred) and event.kind in kinds]


def _common(venue: LighterVenue, event: Transferred) -> dict[str, Any]:
    asset = next(item for item in venue.markets.assets.values() if item.symbol == event.token)
    return {
        "id": str(event.sequence),
        "asset_id": asset.asset_id,
        "amount": fixed(abs(Decimal(event.amount)), asset.decimals),
        "timestamp": event.time_ms,
    }


def _page(name: str, rows: list[dict[str, Any]], cursor: str) -> dict[str, Any]:
    if cursor and not cursor.isdigit():
        raise Refused(Code.INVALID_CURSOR)
    start = int(cursor or 0)
    more = str(start + PAGE) if start + PAGE < len(rows) else ""
    return {name: rows[start : start + PAGE], "cursor": more}


def deposits(venue: LighterVenue, account: LighterAccount, cursor: str) -> dict[str, Any]:
    """`deposit/history`."""
    rows = [
        _common(venue, event) | {"status": "completed", "l1_tx_hash": "0x" + f"{event.sequence:064x}"}
        for event in _moves(venue, account, TransferKind.DEPOSIT)
    ]
    return _page("deposits", rows, cursor)


def withdrawals(venue: LighterVenue, account: LighterAccount, cursor: str) -> dict[str, Any]:
    """`withdraw/history`; claims are not simulated, so every one is complete."""
    rows = [
        _common(venue, event) | {"status": "completed", "type": "secure", "l1_tx_hash": "0x" + f"{event.sequence:064x}"}
        for event in _moves(venue, account, TransferKind.WITHDRAWAL)
    ]
    return _page("withdraws", rows, cursor)


def transfers(venue: LighterVenue, account: LighterAccount, cursor: str) -> dict[str, Any]:
    """`transfer/history`, between accounts or between the sides of one."""
    rows = [
        _transfer(venue, account, event)
        for event in _moves(venue, account, TransferKind.BETWEEN_ACCOUNTS, TransferKind.BETWEEN_POOLS)
    ]
    return _page("transfers", rows, cursor)


def _transfer(venue: LighterVenue, account: LighterAccount, event: Transferred) -> dict[str, Any]:
    source, target = (venue.accounts.get(account_index(name)) for name in (event.account, event.counterparty))
    kind = "L2SelfTransfer"
    if source is not target:
        kind = "L2TransferOutflow" if source is account else "L2TransferInflow"
    return _common(venue, event) | {
        "fee": "0.000000",
        "type": kind,
        "from_l1_address": source.l1_address,
        "to_l1_address": target.l1_address,
        "from_account_index": source.index,
        "to_account_index": target.index,
        "from_route": _route(event.source),
        "to_route": _route(event.destination),
        "tx_hash": system_hash(event.sequence, event.time_ms),
    }


def _route(wallet: str) -> str:
    return "spot" if wallet == SPOT_WALLET else "perps"
